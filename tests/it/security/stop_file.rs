//! The kill switch of a server: a file that keeps tasks from beginning, whatever the API says.

use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tasker_services::Process;

use crate::support::platform::{Platform, response_of};

/// Starts an endpoint whose stop file is `stop` in the home of the platform.
fn start(platform: &Platform, arguments: &[&str]) -> anyhow::Result<Process> {
    let stop = platform.home().join("stop").display().to_string();
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    platform.launch("ep1", &arguments, &[("TASKER_ENDPOINT__STOP_FILE".to_owned(), stop)])
}

/// Waits until the API shows whether the endpoint is stopped, in its list and in its metric.
fn shows(platform: &Platform, stopped: bool) -> anyhow::Result<()> {
    platform.until(&format!("the API shows stopped: {stopped}"), |platform| {
        let (_, page) = platform.get("/endpoints")?;
        let told = page.to_string().contains("stop_file: the file ");
        let (_, metrics) = platform.get("/metrics")?;
        let metric = format!("tasker_endpoint_stop_files {}", u8::from(stopped));
        let counted = metrics.as_str().context("text")?.lines().any(|line| line == metric);
        ensure!(told == stopped && counted, "{page}");
        Ok(())
    })
}

/// The codes of the reasons why a task does not run at the endpoint.
fn codes(platform: &Platform, identifier: &str) -> anyhow::Result<Vec<Value>> {
    let (_, explained) = platform.get(&format!("/steered/{identifier}/explain?endpoint=ep1"))?;
    let reasons = explained["reasons"].as_array().with_context(|| explained.to_string())?;
    Ok(reasons.iter().map(|reason| reason["code"].clone()).collect())
}

#[test]
fn no_task_begins_while_the_stop_file_exists() -> anyhow::Result<()> {
    let mut platform = Platform::idle()?;
    platform.start_api()?;
    let arguments = ["endpoint", "-e", "ep1", "-t", "steered"];
    let mut endpoint = start(&platform, &arguments)?;
    platform.subscribed("ep1", &["steered"])?;
    let marks = platform.home().join("marks");
    let leaves_a_mark = json!({"do": "ok", "mark": marks.display().to_string()});
    let hanging = platform.submit("steered", json!({"do": "hang"}), &["ep1"])?;
    platform.response("steered", &hanging, "ep1", "CREATED")?;

    let stop = platform.home().join("stop");
    fs::write(&stop, "")?;
    shows(&platform, true)?;
    let [waits, given_up] = [(); 2].map(|()| platform.submit("steered", leaves_a_mark.clone(), &["ep1"]));
    let (waits, given_up) = (waits?, given_up?);
    platform.response("steered", &waits, "ep1", "CREATED")?;
    platform.response("steered", &given_up, "ep1", "CREATED")?;
    ensure!(codes(&platform, &waits)? == ["stop_file", "received"], "{:?}", codes(&platform, &waits)?);
    let told = platform.tasker(&["explain", "steered", &waits])?;
    let told = String::from_utf8(told.stdout)?;
    ensure!(told.contains("stop_file"), "{told}");
    // What waits can be canceled, and what runs goes on until then.
    for identifier in [&given_up, &hanging] {
        platform.response("steered", identifier, "ep1", "CREATED")?;
        platform.delete(&format!("/steered/{identifier}"))?;
        platform.response("steered", identifier, "ep1", "CANCELED")?;
    }

    // A start of the process changes nothing.
    endpoint.stop(Duration::from_secs(30))?;
    let endpoint = start(&platform, &arguments)?;
    platform.until("it is back and stopped", |_| {
        let log = endpoint.log();
        ensure!(log.contains("resuming the tasks in the journal") && log.contains("subscribed"), "{log}");
        Ok(())
    })?;
    shows(&platform, true)?;
    ensure!(!marks.exists(), "a task has begun:\n{}", endpoint.log());

    fs::remove_file(&stop)?;
    let body = platform.task("steered", &waits, "DONE")?;
    let response = response_of(&body, "ep1").with_context(|| body.to_string())?;
    ensure!(response["errnr"] == 0, "{response}");
    shows(&platform, false)?;
    let marked = fs::read_to_string(&marks)?;
    ensure!(marked.lines().count() == 1, "{marked}");
    let log = endpoint.log();
    ensure!(log.contains("tasks begin again"), "{log}");
    Ok(())
}
