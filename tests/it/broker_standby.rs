//! A name that changes hands between real processes: whoever goes, and however, no task finds nobody in
//! between.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tasker_services::Process;

use crate::support::platform::{PATIENCE, Platform};

/// console1 with two processes on two servers, of which the second stands by.
fn with_standby() -> anyhow::Result<(Platform, Process)> {
    let mut platform = Platform::idle()?;
    platform.start_api()?;
    platform.start_endpoint("console1", &["worker"])?;
    platform.subscribed("console1", &["worker"])?;
    let first = platform.take("console1-worker");
    platform.start_endpoint_in("second", "console1", &["worker"])?;
    platform.until("the second stands by", |platform| {
        let (_, page) = platform.get("/endpoints")?;
        ensure!(page["endpoints"][0]["types"][0]["standby"]["since"].is_string(), "{page}");
        Ok(())
    })?;
    Ok((platform, first))
}

/// Posts tasks while the first process goes, and asserts that each was expected of the name and done.
fn nothing_is_lost(
    platform: &Platform,
    go: impl FnOnce() -> anyhow::Result<()> + Send,
) -> anyhow::Result<()> {
    let mut identifiers = Vec::new();
    let mut submit = |count: usize| -> anyhow::Result<()> {
        for _ in 0..count {
            identifiers.push(platform.submit("worker", json!({ "seconds": 0 }), &[])?);
            std::thread::sleep(Duration::from_millis(10));
        }
        anyhow::Ok(())
    };
    submit(20)?;
    std::thread::scope(|scope| {
        let gone = scope.spawn(go);
        while !gone.is_finished() {
            submit(1)?;
        }
        gone.join().expect("no panic")
    })?;
    // Longer than three of the presence intervals of these tests.
    let gone = Instant::now();
    while gone.elapsed() < Duration::from_secs(5) {
        submit(1)?;
    }
    for identifier in &identifiers {
        let task = platform.task("worker", identifier, "DONE")?;
        ensure!(task["task"]["expected"] == 1 && task["task"]["failed"] == 0, "{task}");
    }
    platform.subscribed("console1", &["worker"])
}

fn metric(platform: &Platform, name: &str) -> anyhow::Result<f64> {
    let (_, text) = platform.get("/metrics")?;
    let Value::String(text) = text else { anyhow::bail!("{text}") };
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .with_context(|| format!("no {name}: {text}"))?;
    Ok(line.parse()?)
}

#[test]
fn who_says_goodbye_leaves_no_gap() -> anyhow::Result<()> {
    let (platform, mut first) = with_standby()?;
    platform.until("the metric", |platform| {
        let standbys = metric(platform, "tasker_endpoint_standbys")?;
        ensure!(standbys == 1.0, "{standbys}");
        Ok(())
    })?;
    nothing_is_lost(&platform, || first.stop(PATIENCE))
}

#[test]
fn who_is_killed_leaves_no_gap() -> anyhow::Result<()> {
    let (platform, mut first) = with_standby()?;
    // What the first has taken and not reported is lost with its memory, so it is given time to report.
    let identifier = platform.submit("worker", json!({ "seconds": 0 }), &[])?;
    platform.task("worker", &identifier, "DONE")?;
    first.kill()?;
    nothing_is_lost(&platform, || Ok(()))
}
