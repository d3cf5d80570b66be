//! A task queue that is broken within RabbitMQ: whoever asks for it loses the connection, and the other types
//! are served all the same.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};

use crate::support::platform::{PATIENCE, Platform};

/// What `GET /endpoints` says of a type of the one endpoint.
fn told(platform: &Platform, task_type: &str) -> anyhow::Result<Value> {
    let (_, page) = platform.get("/endpoints")?;
    let types = page["endpoints"][0]["types"].as_array().cloned().unwrap_or_default();
    Ok(types.into_iter().find(|one| one["type"] == task_type).unwrap_or_default())
}

#[test]
fn a_queue_that_ends_the_connection_stops_no_other_type() -> anyhow::Result<()> {
    const QUEUE: &str = "it.backup.console1";
    let mut platform = Platform::idle_private()?;
    platform.start_api()?;
    platform.start_endpoint("console1", &["backup", "worker"])?;
    platform.subscribed("console1", &["backup", "worker"])?;
    platform.take("console1-backup").stop(PATIENCE)?;
    platform.servers().0.break_queue("tasker", QUEUE, true)?;

    platform.start_endpoint("console1", &["backup", "worker"])?;
    platform.subscribed("console1", &["worker"])?;
    platform.until("the endpoint says what is wrong", |platform| {
        let backup = told(platform, "backup")?;
        ensure!(backup["subscribed"] == false, "{backup}");
        ensure!(backup["trouble"].as_str().is_some_and(|text| text.contains("INTERNAL")), "{backup}");
        Ok(())
    })?;
    // It is asked for again now and then, which costs the connection for a moment and no task.
    let log = || std::fs::read_to_string(platform.home().join("console1-backup.log")).unwrap_or_default();
    let tries = || log().matches("has ended the connection").count();
    let begun = std::time::Instant::now();
    while tries() < 3 {
        let identifier = platform.submit("worker", json!({ "seconds": 0 }), &["console1"])?;
        let task = platform.task("worker", &identifier, "DONE")?;
        ensure!(task["task"]["failed"] == 0, "{task}");
        ensure!(begun.elapsed() < PATIENCE, "it was not tried again: {}", log());
        std::thread::sleep(Duration::from_millis(50));
    }
    platform.servers().0.break_queue("tasker", QUEUE, false)?;
    platform.subscribed("console1", &["backup", "worker"])?;
    let identifier = platform.submit("backup", json!({}), &["console1"])?;
    platform.until("the task arrives", |platform| {
        let (_, body) = platform.get(&format!("/backup/{identifier}"))?;
        ensure!(body["task"]["received"] == 1, "{body}");
        Ok(())
    })?;
    ensure!(told(&platform, "backup")?["trouble"].is_null());
    Ok(())
}
