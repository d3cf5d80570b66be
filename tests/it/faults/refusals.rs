//! The database refuses to write for a while, and ends its connections, while reports are under way.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;

use super::{all_is_accounted_for, load_for};
use crate::support::fleet::Fleet;
use crate::support::loader::Loader;
use crate::support::platform::Platform;

/// Refuses from one statement to the other, twice: once the sessions of that time are ended afterwards, once
/// they are left to themselves.
fn refuses_between(begin: &str, end: &str) -> anyhow::Result<()> {
    let mut fleet = Fleet::usual(Platform::idle_private()?)?;
    let loader = Loader::start(&fleet, 30);
    for ends in [true, false] {
        load_for(&mut fleet, &loader, 60)?;
        fleet.platform.sql(&[begin])?;
        fleet.platform.end_connections()?;
        // Longer than any handler of this load: reports come meanwhile.
        fleet.pass(Duration::from_secs(3))?;
        fleet.platform.sql(&[end])?;
        if ends {
            fleet.platform.end_connections()?;
        }
    }
    load_for(&mut fleet, &loader, 60)?;
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken)
}

#[test]
fn a_server_that_is_read_only_is_waited_for() -> anyhow::Result<()> {
    refuses_between("SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0")
}

#[test]
fn sessions_that_are_read_only_are_waited_for() -> anyhow::Result<()> {
    refuses_between("SET GLOBAL TRANSACTION READ ONLY", "SET GLOBAL TRANSACTION READ WRITE")
}

#[test]
fn answers_outlive_a_database_that_is_read_only() -> anyhow::Result<()> {
    let platform = Platform::private()?;
    let identifier = platform.submit("worker", json!({"seconds": 2}), &["console1"])?;
    platform.response("worker", &identifier, "console1", "CREATED")?;
    platform.sql(&["SET GLOBAL TRANSACTION READ ONLY"])?;
    platform.end_connections()?;
    platform.until("the API says so", |platform| {
        let (status, body) = platform.get("/ready")?;
        ensure!(status == 503 && body["database"] == "read-only", "{status}: {body}");
        Ok(())
    })?;
    let (status, problem) = platform.post("/worker", &json!({"identifier": "refused", "payload": {}}))?;
    ensure!(status == 503 && problem["code"] == "database_unavailable", "{status}: {problem}");
    let log = || Ok::<_, anyhow::Error>(std::fs::read_to_string(platform.home().join("api.log"))?);
    platform.until("the end of the task cannot be written", |_| {
        let log = log()?;
        ensure!(!log.contains("dead exchange"), "{log}");
        ensure!(
            log.lines()
                .any(|line| line.contains("the broker keeps the messages") && line.contains("responses")),
            "{log}"
        );
        Ok(())
    })?;
    platform.sql(&["SET GLOBAL TRANSACTION READ WRITE"])?;
    let begun = std::time::Instant::now();
    platform.task("worker", &identifier, "DONE")?;
    ensure!(
        begun.elapsed() < Duration::from_secs(60),
        "only after it was asked for anew: {:?}",
        begun.elapsed()
    );
    let log = log()?;
    ensure!(!log.contains("dead exchange"), "{log}");
    Ok(())
}
