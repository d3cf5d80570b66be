//! A ledger in a file whose disk takes nothing more, and then does again.
//!
//! The limit of the size of a file stands for the disk, as in `full_disk`. SQLite undoes a transaction by
//! itself when a write fails.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use tasker_services::{Home, Port, Process, until};

use crate::support::send;

const PATIENCE: Duration = Duration::from_secs(60);

struct Site {
    home: Home,
    port: Port,
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
}

impl Site {
    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port.number())
    }

    fn start(&self, name: &str, arguments: &[&str]) -> anyhow::Result<Process> {
        // Ignored, the signal that would end the process leaves the write with its error. The log must not be
        // a file with a limit.
        let mut command = Command::new("sh");
        command
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\" 2>/dev/null"])
            .arg(env!("CARGO_BIN_EXE_tasker"));
        command
            .args(arguments)
            .arg("--config")
            .arg(self.home.join("config.yaml"))
            .env_remove("TASKER_API_URL");
        command.arg("--data-dir").arg(self.home.join(name));
        self.home.start(name, &mut command)
    }

    fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        send(&self.runtime, self.http.get(self.url(path)))
    }

    fn post(&self, identifier: &str, seconds: u32) -> anyhow::Result<(u16, String)> {
        let body = json!({"identifier": identifier, "payload": {"do": "ok", "seconds": seconds}});
        send(&self.runtime, self.http.post(self.url("/worker")).json(&body))
    }

    fn status(&self, identifier: &str) -> anyhow::Result<String> {
        let body: Value = serde_json::from_str(&self.get(&format!("/worker/{identifier}"))?.1)?;
        Ok(body["task"]["status"].as_str().context("a status")?.to_owned())
    }

    /// Requests with reports of workers that were taken.
    fn reports(&self) -> anyhow::Result<u64> {
        let line = r#"tasker_http_request_seconds_count{method="POST",route="/workers/{name}/reports",status="204"} "#;
        let metrics = self.get("/metrics")?.1;
        Ok(metrics.lines().find_map(|found| found.strip_prefix(line)).map_or(Ok(0), str::parse)?)
    }
}

#[test]
fn a_report_outlives_a_disk_that_is_full() -> anyhow::Result<()> {
    let (home, port) = (Home::new("full")?, Port::free()?);
    let config = json!({"task_types": [{"name": "worker", "delivery": "queue"}], "endpoint": {"presence_interval": "1s"}});
    home.write("config.yaml", &config.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let site = Site { home, port, runtime, http: tasker::https::client().timeout(PATIENCE).build()? };
    let mut up = site.start(
        "up",
        &[
            "up",
            "--workers",
            "0",
            "--endpoints",
            "",
            "--listen",
            &format!("127.0.0.1:{}", site.port.number()),
        ],
    )?;
    up.ready(PATIENCE, || {
        let (status, body) = site.get("/ready")?;
        ensure!(status == 200, "{body}");
        Ok(())
    })?;
    let _worker = site.start("w1", &["worker", "--api", &site.url(""), "-e", "w1"])?;
    let (status, body) = site.post("runs", 3)?;
    ensure!(status == 201, "{body}");
    until("it is given to the worker", PATIENCE, || {
        ensure!(site.status("runs")? == "SENT" && site.reports()? > 0);
        Ok(())
    })?;
    let before = site.reports()?;

    let pid = Pid::from_raw(i32::try_from(up.id())?).context("a process")?;
    let limit =
        |bytes: Option<u64>| prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes, maximum: None });
    limit(Some(0))?;
    // Each is refused alike, however many came before.
    let mut refused = 0;
    let refuse = |refused: &mut u32| {
        *refused += 1;
        let (status, body) = site.post(&format!("refused {refused}"), 0)?;
        ensure!(status == 503 && body.contains("database_unavailable"), "{refused}: {status} {body}");
        anyhow::Ok(())
    };
    until("the worker reports the end", PATIENCE, || {
        refuse(&mut refused)?;
        ensure!(site.reports()? > before, "not yet");
        Ok(())
    })
    .context("while the disk is full")?;
    // Those after the report are written after it.
    (0..3).try_for_each(|_| refuse(&mut refused))?;
    until("the API says so", PATIENCE, || {
        let (status, body) = site.get("/ready")?;
        ensure!(status == 503 && body.contains("\"storage error\""), "{status} {body}");
        Ok(())
    })?;

    limit(None)?;
    until("what was reported is known", PATIENCE, || {
        ensure!(site.status("runs")? == "DONE", "{}", site.get("/worker/runs")?.1);
        Ok(())
    })?;
    let metrics = site.get("/metrics")?.1;
    let given_up =
        metrics.lines().filter(|line| line.starts_with("tasker_undecodable_total{") && !line.ends_with(" 0"));
    ensure!(given_up.count() == 0, "something was given up: {metrics}");
    let (status, body) = site.post("after", 0)?;
    ensure!(status == 201, "{body}");
    until("it is performed", PATIENCE, || {
        ensure!(site.status("after")? == "DONE");
        Ok(())
    })
}
