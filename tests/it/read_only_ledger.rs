//! A ledger in a file that cannot be written when the process starts, and can be later: a disk that was
//! mounted read-only, rights that were set wrong.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tasker_services::{Home, Port, Process, until};

use crate::support::send;

const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody whom rights hold for: they do not for root.
const NOBODY: u32 = 65534;

struct Site {
    home: Home,
    port: Port,
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
}

impl Site {
    fn new() -> anyhow::Result<Self> {
        let (home, port) = (Home::new("read-only")?, Port::free()?);
        home.write(
            "config.yaml",
            &json!({"task_types": [{"name": "worker", "delivery": "queue"}]}).to_string(),
        )?;
        fs::create_dir(home.join("data"))?;
        // Copied to where NOBODY may run it, whoever owns the target directory.
        fs::copy(env!("CARGO_BIN_EXE_tasker"), home.join("tasker"))?;
        if rustix::process::geteuid().is_root() {
            fs::set_permissions(home.join(""), fs::Permissions::from_mode(0o755))?;
            chown(home.join("data"), Some(NOBODY), Some(NOBODY))?;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { home, port, runtime, http: tasker::https::client().timeout(PATIENCE).build()? })
    }

    fn start(&self, name: &str) -> anyhow::Result<Process> {
        let mut command = Command::new(self.home.join("tasker"));
        command.args([
            "up",
            "--workers",
            "0",
            "--endpoints",
            "",
            "--listen",
            &format!("127.0.0.1:{}", self.port.number()),
        ]);
        command
            .arg("--config")
            .arg(self.home.join("config.yaml"))
            .arg("--data-dir")
            .arg(self.home.join("data"));
        command.env_remove("TASKER_API_URL");
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        self.home.start(name, &mut command)
    }

    /// Sets the rights of the ledger's files and of their directory.
    fn may_be_written(&self, may: bool) -> anyhow::Result<()> {
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        for entry in fs::read_dir(self.home.join("data"))? {
            set(&entry?.path(), if may { 0o600 } else { 0o400 })?;
        }
        Ok(set(&self.home.join("data"), if may { 0o700 } else { 0o500 })?)
    }

    fn is_ready(&self) -> anyhow::Result<()> {
        let (status, body) = send(&self.runtime, self.http.get(self.url("/ready")))?;
        ensure!(status == 200, "{status}: {body}");
        Ok(())
    }

    fn post(&self, identifier: &str) -> anyhow::Result<(u16, Value)> {
        let body = json!({"identifier": identifier, "payload": 1});
        let (status, body) = send(&self.runtime, self.http.post(self.url("/worker")).json(&body))?;
        Ok((status, serde_json::from_str(&body)?))
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port.number())
    }
}

#[test]
fn a_file_that_is_read_only_is_told_and_waited_for() -> anyhow::Result<()> {
    let site = Site::new()?;
    let mut up = site.start("before")?;
    up.ready(PATIENCE, || site.is_ready())?;
    ensure!(site.post("before")?.0 == 201);
    // Killed, it leaves the files beside the ledger behind, without which that cannot even be read.
    up.kill()?;

    site.may_be_written(false)?;
    let mut up = site.start("meanwhile")?;
    up.ready(PATIENCE, || {
        let (status, body) = send(&site.runtime, site.http.get(site.url("/ready")))?;
        ensure!(status == 503 && body.contains(r#""database":"read-only""#), "{status}: {body}");
        Ok(())
    })?;
    let (status, problem) = site.post("meanwhile")?;
    ensure!(status == 503 && problem["code"] == "database_unavailable", "{status}: {problem}");

    site.may_be_written(true)?;
    until("the process goes on by itself", PATIENCE, || site.is_ready())?;
    ensure!(site.post("meanwhile")?.0 == 201);
    ensure!(site.post("before")?.0 == 200, "what was there before is there");
    up.stop(PATIENCE)?;

    // A ledger that was closed in order and cannot be opened is no state to wait in.
    site.may_be_written(false)?;
    let mut refused = site.start("refused")?;
    let status = until("it ends", PATIENCE, || refused.ended()?.context("it runs"))?;
    let log = refused.log();
    ensure!(
        !status.success() && log.contains("cannot use the directory") && log.contains("readonly"),
        "{status}: {log}"
    );
    site.may_be_written(true)?;
    Ok(())
}
