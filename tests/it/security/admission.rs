//! The API makes the queues of endpoints that may not, and endpoints that may go on doing it themselves.

use anyhow::{Context, ensure};
use serde_json::json;

use super::rig::{Server, TYPES, message_queue};
use crate::support::management;
use crate::support::platform::{PATIENCE, Platform, response_of};
use crate::support::queues::Queues;

#[test]
fn a_restricted_endpoint_works_beside_one_that_is_not() -> anyhow::Result<()> {
    let mut platform = Platform::idle()?;
    platform.start_api()?;
    platform.start_endpoint("console2", &TYPES)?;
    let platform = &platform;
    let server = Server::enrolled(platform, "console1")?;
    let mut restricted = server.start()?;
    for name in ["console1", "console2"] {
        platform.subscribed(name, &TYPES).with_context(|| restricted.log())?;
    }

    let all = platform.submit("steered", json!({"do": "ok"}), &[])?;
    let body = platform.task("steered", &all, "DONE")?;
    for name in ["console1", "console2"] {
        let response = response_of(&body, name).context("both are expected")?;
        ensure!(response["errnr"] == 0, "{response}");
    }

    // Through the control queue that the API has made.
    let hanging = platform.submit("steered", json!({"do": "hang"}), &[])?;
    for name in ["console1", "console2"] {
        platform.response("steered", &hanging, name, "CREATED")?;
    }
    platform.delete(&format!("/steered/{hanging}"))?;
    for name in ["console1", "console2"] {
        platform.response("steered", &hanging, name, "CANCELED")?;
    }

    // Deleted behind its back, it is made again.
    let virtual_host = message_queue(platform)?.virtual_host;
    for queue in ["it.worker.console1", "it.control.worker.console1"] {
        platform.block_on(management::delete(&["queues", &virtual_host, queue]));
    }
    let again = platform.submit("worker", json!({"seconds": 0.1}), &["console1"])?;
    platform.task("worker", &again, "DONE").with_context(|| restricted.log())?;

    // It leaves the fanout with its goodbye, and is in it again when it is back.
    restricted.stop(PATIENCE)?;
    let binding = ["bindings", &virtual_host, "e", "it.worker", "q", "it.worker.console1", "~"];
    platform.until("console1 has left the fanout", |platform| {
        ensure!(!platform.block_on(management::exists(&binding)), "it is bound");
        Ok(())
    })?;
    let alone = platform.submit("worker", json!({"seconds": 0.1}), &[])?;
    let body = platform.task("worker", &alone, "DONE")?;
    ensure!(response_of(&body, "console1").is_none(), "{body}");
    let waiting =
        platform.block_on(async { Queues::of(platform).await?.ready("it.worker.console1").await })?;
    ensure!(waiting == 0, "{waiting} copies wait for an endpoint that has left");
    let _restricted = server.start()?;
    let both = platform.submit("worker", json!({"seconds": 0.1}), &[])?;
    let body = platform.task("worker", &both, "DONE")?;
    ensure!(response_of(&body, "console1").is_some(), "{body}");
    Ok(())
}
