//! The bench measures and verifies, embedded and on real servers. Not how fast: that is for whoever runs it.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde_json::json;
use tasker_services::{Home, until};

use crate::support::management;
use crate::support::platform::Platform;

/// How long a test waits for what must come. Long, because machines are busy; only failures take it.
const PATIENCE: Duration = Duration::from_secs(60);

fn bench(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_tasker")).arg("bench").args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "bench {arguments:?} ends with {}: {said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// A configuration for the servers that all tests share. The bench makes everything of its own on them.
fn configuration(home: &Home) -> anyhow::Result<String> {
    let shared = |name: &str| {
        std::env::var(name).with_context(|| format!("{name} is not set: run `cargo xtask test`"))
    };
    let amqp: reqwest::Url = shared("TASKER_TEST_AMQP")?.parse()?;
    let config = json!({
        "task_types": ["worker"],
        "manager": {
            "db": {"uri": format!("{}/it", shared("TASKER_TEST_MYSQL")?)},
            "message_queue": {
                "host": "127.0.0.1", "port": amqp.port(), "username": "guest", "password": "guest", "virtual_host": "/", "exchange": "it",
            },
        },
    });
    Ok(home.write("bench.yaml", &config.to_string())?.display().to_string())
}

fn shows(report: &str, lines: &[&str]) -> anyhow::Result<()> {
    for line in lines {
        ensure!(report.contains(line), "no `{line}` in\n{report}");
    }
    Ok(())
}

#[test]
fn tasks_embedded() -> anyhow::Result<()> {
    let report = bench(&["tasks", "--count", "300", "--concurrency", "8"])?;
    shows(
        &report,
        &["300 posted by 8", "each DONE in the ledger, each run exactly once", "p99", "MiB resident"],
    )
}

#[test]
fn tasks_on_real_servers() -> anyhow::Result<()> {
    let home = Home::new("bench")?;
    let report = bench(&["tasks", "--count", "300", "--rate", "300", "--config", &configuration(&home)?])?;
    shows(&report, &["each run exactly once", "in an idle endpoint process"])
}

#[test]
fn fleet_embedded() -> anyhow::Result<()> {
    let report = bench(&["fleet", "--endpoints", "50", "--tasks", "3"])?;
    shows(
        &report,
        &[
            "50 simulated endpoints",
            "3 tasks DONE, 150 answers in the ledger",
            "answers",
            "chooses 3 of 50 endpoints",
        ],
    )
}

#[test]
fn fleet_on_real_servers() -> anyhow::Result<()> {
    let home = Home::new("bench")?;
    let report = bench(&["fleet", "--endpoints", "30", "--tasks", "2", "--config", &configuration(&home)?])?;
    shows(&report, &["2 tasks DONE, 60 answers in the ledger"])
}

#[test]
fn an_interrupted_bench_removes_what_it_made() -> anyhow::Result<()> {
    let platform = Platform::idle()?;
    let amqp: reqwest::Url = platform.amqp().parse()?;
    let virtual_host = amqp.path().trim_start_matches('/');
    let made = |kind: &str| {
        let mut names = platform.block_on(management::names(&[kind, virtual_host]))?;
        names.retain(|name| name.starts_with("bench-"));
        anyhow::Ok(names)
    };
    let endless = ["bench", "fleet", "--endpoints", "30", "--tasks", "1000000"].map(str::to_owned);
    let mut bench = platform.launch("bench", &endless, &[])?;
    until("the fleet has queues", PATIENCE, || {
        ensure!(made("queues")?.len() > 30, "{}", bench.log());
        Ok(())
    })?;
    bench.signal(Signal::INT)?;
    let status = until("it ends", PATIENCE, || bench.ended()?.context("it goes on"))?;
    ensure!(status.code() == Some(130), "{status}: {}", bench.log());
    let left = [made("queues")?, made("exchanges")?].concat();
    ensure!(left.is_empty(), "left behind: {left:?}\n{}", bench.log());
    Ok(())
}

#[test]
fn http_calls() -> anyhow::Result<()> {
    let report = bench(&["http", "--count", "300", "--delay", "20", "--rounds", "2", "--hosts", "3"])?;
    shows(&report, &["300 a round", "failures     0 of 600", "connections made", "MiB resident at most"])
}

#[test]
fn http_calls_by_workers() -> anyhow::Result<()> {
    let home = Home::new("bench")?;
    let config = configuration(&home)?;
    let report = bench(&[
        "http", "--count", "300", "--delay", "20", "--rounds", "2", "--workers", "2", "--config", &config,
    ])?;
    shows(
        &report,
        &[
            "HTTP calls from 2 workers to 8 addresses",
            "300 a round",
            "failures     0 of 600",
            "MiB resident at most",
        ],
    )
}

#[test]
fn a_queue_embedded() -> anyhow::Result<()> {
    let report = bench(&["queue", "--count", "300", "--concurrency", "8", "--slots", "4"])?;
    shows(&report, &["300 posted by 8", "2 workers with 4 slots each", "none run twice", "p99"])
}

#[test]
fn a_queue_on_real_servers_with_workers_killed() -> anyhow::Result<()> {
    let home = Home::new("bench")?;
    let report = bench(&[
        "queue",
        "--count",
        "2000",
        "--slots",
        "16",
        "--kills",
        "3",
        "--config",
        &configuration(&home)?,
    ])?;
    shows(&report, &["3 killed meanwhile", "none run twice"])
}

#[test]
fn rollouts_embedded() -> anyhow::Result<()> {
    let report =
        bench(&["rollout", "--endpoints", "100", "--waves", "5", "--create", "500", "--old", "1000"])?;
    shows(
        &report,
        &[
            "5 waves, DONE in",
            "each endpoint started exactly once, in its wave",
            "to its publish: p50 within",
            "HALTED",
            "create       50 endpoints",
            "edit         50 endpoints put into other waves",
            "beside       1250 endpoints",
        ],
    )
}

#[test]
fn rollouts_on_real_servers() -> anyhow::Result<()> {
    let home = Home::new("bench")?;
    let config = configuration(&home)?;
    let report = bench(&[
        "rollout", "--endpoints", "30", "--waves", "3", "--create", "100", "--old", "0", "--config", &config,
    ])?;
    shows(&report, &["3 waves, DONE in", "each endpoint started exactly once, in its wave", "HALTED"])
}

#[test]
fn requests_embedded() -> anyhow::Result<()> {
    let report = bench(&["requests", "--count", "60", "--concurrency", "8", "--slots", "16"])?;
    shows(
        &report,
        &[
            "60 posted by 8",
            "300 jobs",
            "each run exactly once",
            "end to end",
            "to the tasks of the next: p50 within",
            "MiB resident",
        ],
    )
}

#[test]
fn requests_on_real_servers() -> anyhow::Result<()> {
    let home = Home::new("bench")?;
    let report = bench(&["requests", "--count", "60", "--rate", "200", "--config", &configuration(&home)?])?;
    shows(&report, &["300 jobs", "2 workers with 512 slots each", "each run exactly once"])
}

#[test]
fn flamenco() -> anyhow::Result<()> {
    let report = bench(&["flamenco", "--workers", "10", "--tasks", "400", "--seconds", "6"])?;
    shows(&report, &["hand-out", "POST /task", "updates", "per second", "MiB at most"])
}
