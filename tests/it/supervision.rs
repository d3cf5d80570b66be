//! The real supervisord with the configuration of this repository: it starts everything, and what is killed
//! comes back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tasker_services::{Home, MariaDb, Port, Process, RabbitMq, start_pair, until};

/// How long a test waits for what must come. Long, because machines are busy; only failures take it.
const PATIENCE: Duration = Duration::from_secs(120);

const PROGRAMS: [&str; 5] =
    ["api", "console1-backup", "console1-worker", "console2-backup", "console2-worker"];

#[test]
fn a_killed_process_comes_back() -> anyhow::Result<()> {
    let site = Site::new()?;
    site.tasker(&["initialize", "-d", "-r"])?;
    let mut supervisord = site.supervisord()?;

    let before = supervisord.ready(PATIENCE, || site.all_running()).with_context(|| site.logs())?;
    until("all endpoints subscribe", PATIENCE, || site.all_subscribed()).with_context(|| site.logs())?;
    site.work_is_done()?;

    for program in ["console1-worker", "api"] {
        site.kill(before[program])?;
    }
    let after = until("the killed come back", PATIENCE, || {
        let after = site.all_running()?;
        for program in PROGRAMS {
            let killed = program == "console1-worker" || program == "api";
            ensure!(
                (after[program] != before[program]) == killed,
                "{program} was {} and is {}",
                before[program],
                after[program]
            );
        }
        Ok(after)
    })
    .with_context(|| site.logs())?;
    // The API may still be starting; the endpoint may still be waiting for its welcome, and catches up.
    until("all endpoints subscribe again", PATIENCE, || site.all_subscribed())
        .with_context(|| site.logs())?;
    site.work_is_done()?;

    supervisord.stop(PATIENCE).with_context(|| site.logs())?;
    for (program, id) in &after {
        ensure!(!Path::new(&format!("/proc/{id}/exe")).exists(), "{program} outlived supervisord");
    }
    Ok(())
}

/// An installation: broker, database, and the directory that supervisord writes to.
struct Site {
    home: Home,
    port: Port,
    rabbitmq: RabbitMq,
    mariadb: MariaDb,
}

impl Site {
    fn new() -> anyhow::Result<Self> {
        let (rabbitmq, mariadb) = start_pair()?;
        Ok(Self { home: Home::new("supervision")?, port: Port::free()?, rabbitmq, mariadb })
    }

    /// Lets a command see this installation: the configuration for development, with the addresses of this
    /// test laid over it.
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env("TASKER_RUN", self.home.path())
            .env("TASKER_BIN", env!("CARGO_BIN_EXE_tasker"))
            .env("TASKER_API_URL", format!("http://127.0.0.1:{}", self.port.number()))
            .env("TASKER_API__PORT", self.port.number().to_string())
            .env("TASKER_ENDPOINT__DATA_DIR", self.home.join("journals"))
            .env("TASKER_MANAGER__DB__URI", format!("{}/tasker", self.mariadb.url()))
            .env("TASKER_MANAGER__MESSAGE_QUEUE__PORT", self.rabbitmq.port().to_string())
            .env("TASKER_RABBITMQ__APIURL", self.rabbitmq.management_url())
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        command
    }

    fn tasker(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let output = self.command(env!("CARGO_BIN_EXE_tasker")).args(arguments).output()?;
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.success(),
            "tasker {} ends with {}: {}",
            arguments.join(" "),
            output.status,
            said()
        );
        Ok(output)
    }

    fn supervisord(&self) -> anyhow::Result<Process> {
        self.home.start("supervisor", self.command(checkout("supervisor/supervisord")).arg("-n"))
    }

    /// The numbers of the processes, once all of them run.
    fn all_running(&self) -> anyhow::Result<BTreeMap<String, i32>> {
        let output = self.command(checkout("supervisor/supervisorctl")).arg("status").output()?;
        let status = String::from_utf8_lossy(&output.stdout).into_owned();
        // api                              RUNNING   pid 4711, uptime 0:00:05
        let running = status.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let (program, state) = (words.next()?, words.next()?);
            let id = words.nth(1)?.trim_end_matches(',').parse().ok()?;
            (state == "RUNNING").then(|| (program.to_owned(), id))
        });
        let running: BTreeMap<String, i32> = running.collect();
        // supervisord gives each process a group; they end with this test even if supervisord does not end
        // them.
        running.values().try_for_each(|id| self.home.adopt(id.unsigned_abs()))?;
        ensure!(running.keys().eq(&PROGRAMS), "not all run: {status}");
        Ok(running)
    }

    fn all_subscribed(&self) -> anyhow::Result<()> {
        let page: Value = serde_json::from_slice(&self.tasker(&["endpoints", "--json"])?.stdout)?;
        let subscribed = |name: &str, task_type: &str| {
            let endpoints = page["endpoints"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|endpoint| endpoint["name"] == name);
            endpoints
                .flat_map(|endpoint| endpoint["types"].as_array())
                .flatten()
                .any(|of| of["type"] == task_type && of["subscribed"] == true)
        };
        for (name, task_type) in
            [("console1", "worker"), ("console1", "backup"), ("console2", "worker"), ("console2", "backup")]
        {
            ensure!(subscribed(name, task_type), "{name} is not subscribed to {task_type}: {page}");
        }
        Ok(())
    }

    /// A task for both consoles ends well; the command fails if it does not.
    fn work_is_done(&self) -> anyhow::Result<()> {
        let submit = [
            "submit", "worker", "--payload", r#"{"seconds": 0.1}"#, "--endpoints", "console1,console2",
            "--wait", "2m",
        ];
        self.tasker(&submit).map(|_output| ()).with_context(|| self.logs())
    }

    fn kill(&self, id: i32) -> anyhow::Result<()> {
        kill_process(Pid::from_raw(id).context("no process")?, Signal::KILL)
            .with_context(|| format!("killing {id}"))
    }

    /// What all of them have said.
    fn logs(&self) -> String {
        let log = |name: &str| {
            std::fs::read_to_string(self.home.join(name)).unwrap_or_else(|error| error.to_string())
        };
        let named = ["supervisord"].into_iter().chain(PROGRAMS).map(|name| format!("{name}.log"));
        named.map(|name| format!("--- {name}\n{}\n", log(&name))).collect()
    }
}

fn checkout(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
