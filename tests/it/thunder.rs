//! The Thunder example: its configuration and executables, over HTTPS with a token, with a worker that
//! reaches nothing but the API.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tasker_services::{Home, Port, Process, until};

use crate::support::send;

/// How long a test waits for what must come. Long, because machines are busy; only failures take it.
const PATIENCE: Duration = Duration::from_secs(60);
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/examples/thunder.config.yaml");
const HANDLERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/examples/thunder");
const SECRET: &str = "0123456789abcdef0123456789abcdef-thunder";

/// Says what it is told, and what else of it runs; `bad` fails.
const BUILD: &str = r#"#!/bin/sh
log=$THUNDER_HOME/log
mkdir "$THUNDER_HOME/busy" || echo "two at a time" >> "$log"
echo "$(basename "$(dirname "$0")") $* $ELASTIC_APM_URL" >> "$log"
while [ -e "$THUNDER_HOME/hold" ]; do touch "$THUNDER_HOME/held"; sleep 0.05; done
rmdir "$THUNDER_HOME/busy"
echo "end" >> "$log"
case $2 in bad*) exit 3 ;; esac
"#;

/// A Thunder server.
struct Site {
    home: Home,
    port: Port,
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
    up: Process,
}

impl Site {
    fn new() -> anyhow::Result<Self> {
        let (home, port) = (Home::new("thunder")?, Port::free()?);
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?
            .self_signed(&key)?;
        home.write("server.cert", &certificate.pem())?;
        home.write("server.key", &key.serialize_pem())?;
        home.write("token", SECRET)?;
        for kind in ["warmer", "runner"] {
            fs::create_dir_all(home.join("thunder").join(kind))?;
            let build = home.write(&format!("thunder/{kind}/build.sh"), BUILD)?;
            fs::set_permissions(build, fs::Permissions::from_mode(0o755))?;
        }
        let (data, secret) = (home.join("data"), home.join("token"));
        let create =
            ["token", "create", "--name", "thunder", "--scope", "submit,read,work,admin", "--secret-file"];
        let created = tasker().args(create).arg(&secret).arg("--data-dir").arg(&data).output()?;
        ensure!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        let manual = home.write("manual", "123456")?;
        let create = ["token", "create", "--name", "manual", "--scope", "submit", "--weak", "--secret-file"];
        let created = tasker().args(create).arg(&manual).arg("--data-dir").arg(&data).output()?;
        ensure!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        let mut command = tasker();
        command.args(["up", "--config", CONFIG, "--endpoints", "", "--workers", "0", "--listen"]);
        command.arg(format!("127.0.0.1:{}", port.number())).arg("--data-dir").arg(&data);
        command
            .arg("--tls-certificate")
            .arg(home.join("server.cert"))
            .arg("--tls-key")
            .arg(home.join("server.key"));
        let up = home.start("up", &mut command)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let believed = reqwest::Certificate::from_pem(certificate.pem().as_bytes())?;
        let http = tasker::https::client().tls_certs_merge([believed]).timeout(PATIENCE).build()?;
        let mut site = Self { home, port, runtime, http, up };
        let probe = |site: &Self| {
            site.runtime.block_on(async { site.http.get(site.url("/heartbeat")).send().await }).map(drop)
        };
        until("the API answers", PATIENCE, || probe(&site).map_err(Into::into))
            .with_context(|| site.up.log())?;
        ensure!(site.up.ended()?.is_none(), "{}", site.up.log());
        Ok(site)
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port.number())
    }

    fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<(u16, Value)> {
        let (status, text) = send(&self.runtime, request)?;
        Ok((status, serde_json::from_str(&text).with_context(|| text.clone())?))
    }

    fn post(&self, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        self.send(self.http.post(self.url(path)).bearer_auth(SECRET).json(body))
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.send(self.http.get(self.url(path)).bearer_auth(SECRET))?.1)
    }

    fn warm_up(&self, branch: &str, image: &str) -> anyhow::Result<()> {
        let (status, body) = self
            .post("/warmers", &json!({"branchTag": branch, "imageTag": image, "composeType": "default"}))?;
        ensure!(status == 200 && body["success"] == true, "{status}: {body}");
        Ok(())
    }

    /// As its unit starts it.
    fn worker(&self) -> anyhow::Result<Process> {
        let mut command = tasker();
        command.args([
            "worker", "-e", "thunder", "-t", "warmers", "-t", "runners", "--concurrency", "1", "--config",
        ]);
        command
            .args([CONFIG, "--handlers-dir", HANDLERS, "--api", &self.url("")])
            .arg("--ca-file")
            .arg(self.home.join("server.cert"));
        command.arg("--data-dir").arg(self.home.join("worker"));
        command
            .env("TASKER_TOKEN_FILE", self.home.join("token"))
            .env("THUNDER_HOME", self.home.join("thunder"));
        command.env("ELASTIC_APM_URL", "http://localhost:8200");
        self.home.start("worker", &mut command)
    }

    fn log(&self) -> Vec<String> {
        fs::read_to_string(self.home.join("thunder/log"))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// The builds so far, without their ends: `warmer b1`.
    fn builds(&self) -> Vec<String> {
        let short = |line: &String| {
            let words: Vec<&str> = line.split(' ').collect();
            (words.len() > 2).then(|| format!("{} {}", words[0], words[2]))
        };
        self.log().iter().filter_map(short).collect()
    }

    /// Waits for so many builds.
    fn until_built(&self, count: usize, worker: &Process) -> anyhow::Result<Vec<String>> {
        let built = || {
            let builds = self.builds();
            ensure!(builds.len() >= count, "{builds:?}");
            Ok(builds)
        };
        until("the builds run", PATIENCE, built)
            .with_context(|| format!("{}\n{}", worker.log(), self.up.log()))
    }
}

fn tasker() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker"));
    command.env_remove("TASKER_TOKEN").env_remove("TASKER_API_URL");
    command
}

#[test]
fn a_branch_is_warmed_up_and_then_run_for_ever() -> anyhow::Result<()> {
    let site = Site::new()?;
    let body = json!({"branchTag": "b1", "imageTag": "i1", "composeType": "default"});
    let (status, _) = site.send(site.http.post(site.url("/warmers")).json(&body))?;
    ensure!(status == 401, "without a token: {status}");
    let (status, problem) =
        site.post("/warmers", &json!({"branchTag": " ", "composeType": "other", "more": 1}))?;
    let faults = problem["errors"].as_array().map_or(0, Vec::len);
    ensure!(status == 422 && faults >= 4, "all faults are told: {status} {problem}");
    let missing = problem["errors"]
        .as_array()
        .is_some_and(|errors| errors.iter().any(|error| error["pointer"] == "/imageTag"));
    ensure!(missing, "what is missing has its place: {problem}");

    // White space around values is no part of them.
    site.warm_up(" b1\t", "i1 ")?;
    site.warm_up("b2", "i2")?;
    let mut worker = site.worker()?;
    let builds = site.until_built(6, &worker)?;
    ensure!(
        builds[..6] == ["warmer b1", "warmer b2", "runner b1", "runner b2", "runner b1", "runner b2"],
        "{builds:?}"
    );
    let home = site.home.join("thunder").display().to_string();
    let first = format!(
        "warmer --tag b1 --image burda/thunder-performance:i1 --file {home}/docker-compose.default.yml http://localhost:8200"
    );
    let third = format!("runner --tag b1 --file {home}/docker-compose.default.yml http://localhost:8200");
    let log = site.log();
    ensure!(log[0] == first && log.contains(&third), "{log:?}");

    // A new branch goes before the runs, and one that fails is not followed.
    site.warm_up("bad", "i3")?;
    let seen = site.builds().len();
    let builds = site.until_built(seen + 6, &worker)?;
    ensure!(
        builds.contains(&"warmer bad".to_owned()) && !builds.contains(&"runner bad".to_owned()),
        "{builds:?}"
    );
    let tasks = site.get("/warmers?status=DONE")?;
    ensure!(
        tasks["tasks"].as_array().is_some_and(|tasks| tasks.iter().any(|task| task["failed"] == 1)),
        "{tasks}"
    );

    // SIGTERM lets the build finish.
    fs::write(site.home.join("thunder/hold"), "")?;
    let held = || {
        ensure!(site.home.join("thunder/held").exists(), "no build is held");
        Ok(())
    };
    until("a build is held", PATIENCE, held)?;
    kill_process(
        i32::try_from(worker.id()).ok().and_then(Pid::from_raw).context("a process")?,
        Signal::TERM,
    )?;
    std::thread::sleep(Duration::from_millis(300));
    ensure!(worker.ended()?.is_none(), "it waits for its build");
    fs::remove_file(site.home.join("thunder/hold"))?;
    let ended = until("the worker ends", PATIENCE, || worker.ended()?.context("it still runs"))?;
    ensure!(
        ended.success() && site.log().last().is_some_and(|line| line == "end"),
        "{ended} {:?}",
        worker.log()
    );
    ensure!(
        !site.log().iter().any(|line| line == "two at a time"),
        "strictly one after the other: {:?}",
        site.log()
    );

    // The last run was reported, so the next ones wait.
    let waiting = || {
        let queues = site.get("/queues")?;
        let of = |name: &str| {
            queues["queues"].as_array().into_iter().flatten().find(|queue| queue["type"] == name).cloned()
        };
        let runners = of("runners").context("a queue")?;
        ensure!(runners["waiting"] == 2 && runners["running"] == 0, "{queues}");
        Ok(())
    };
    until("both branches wait for their next run", PATIENCE, waiting)
}

#[test]
fn the_line_of_the_manual_queues_a_warm_up() -> anyhow::Result<()> {
    let site = Site::new()?;
    let request = site
        .http
        .post(site.url("/warmers"))
        .header("Authorization", "Bearer 123456")
        .header("Content-Type", "application/json");
    let body = r#"{"branchTag": "local-test", "imageTag": "local-test", "composeType": "default"}"#;
    let (status, answer) = site.send(request.body(body))?;
    ensure!(status == 200 && answer["success"] == true, "{status}: {answer}");
    let queues = site.get("/queues")?;
    ensure!(queues["queues"][0]["type"] == "warmers" && queues["queues"][0]["waiting"] == 1, "{queues}");
    Ok(())
}

#[test]
fn the_newest_of_a_branch_is_built() -> anyhow::Result<()> {
    let site = Site::new()?;
    site.warm_up("b1", "old")?;
    site.warm_up("b2", "i2")?;
    let (status, body) = site.post("/runners", &json!({"branchTag": "b2", "composeType": "default"}))?;
    ensure!(status == 200 && body["success"] == true, "{status}: {body}");
    site.warm_up("b1", "new")?;
    let worker = site.worker()?;
    let builds = site.until_built(3, &worker)?;
    ensure!(
        builds[..3] == ["warmer b1", "runner b2", "runner b1"],
        "a branch waits once, whatever for: {builds:?}"
    );
    ensure!(site.log()[0].contains(":new "), "{:?}", site.log());
    Ok(())
}
