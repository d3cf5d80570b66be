//! The program: its arguments, its file, its commands, and that it outlives being killed.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tasker::farm::TaskStatus;
use tasker::flamenco::Settings;
use tasker::store::farm::Farm;

use super::manager::{Manager, tasker, write_settings};
use super::rig::{register, store_at, until};
use super::scheduling::known_task;
use super::server::Server;

async fn farm(directory: &Path) -> Result<Farm> {
    Ok(Farm::new(
        store_at(&format!("sqlite://{}", directory.join("flamenco-manager.sqlite").display())).await?,
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c39_cleanslate_and_purgequeue() -> Result<()> {
    let directory = tempfile::tempdir()?;
    write_settings(directory.path(), "flamenco: http://127.0.0.1:1/\nlisten: 127.0.0.1:0")?;
    let farm = farm(directory.path()).await?;
    farm.download(&[known_task(1)]).await?;
    farm.set_note("depsgraph-last-modified", "then").await?;
    let worker = tasker::farm::Worker::new(
        "5e90d0000000000000000d01".parse()?,
        "a".into(),
        "linux".into(),
        vec!["sleep".into()],
    );
    farm.register(&worker, b"hash").await?;
    farm.cancel(&["5e90d0000000000000000d09".parse()?], tasker::clock::Clock::system().now()).await?;
    let confirmed = |arguments: &[&str]| -> Result<String> {
        let mut process =
            tasker(directory.path(), arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        process.stdin.take().context("its input")?.write_all(b"\n")?;
        let output = process.wait_with_output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    };
    for flag in ["-cleanslate", "-purgequeue"] {
        // As from cron: nobody is there who could press a key.
        let mut alone = tasker(directory.path(), &["flamenco-manager", flag]);
        let output = alone.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(1) && said.contains("nobody pressed ENTER"), "{flag}: {said}");
    }
    ensure!(farm.count_tasks().await? == 1 && farm.count_updates().await? == 2);
    let said = confirmed(&["flamenco-manager", "-cleanslate"])?;
    ensure!(said.contains("1 tasks will be deleted") && said.contains("1 tasks were deleted"), "{said}");
    ensure!(farm.count_tasks().await? == 0 && farm.note("depsgraph-last-modified").await?.is_none());
    ensure!(farm.workers().await?.len() == 1 && farm.count_updates().await? == 2);
    ensure!(confirmed(&["flamenco-manager", "--cleanslate"])?.contains("There are no tasks"));
    ensure!(confirmed(&["flamenco-manager", "-purgequeue"])?.contains("2 updates"));
    ensure!(farm.count_updates().await? == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_is_killed_goes_on_with_what_it_had() -> Result<()> {
    let server = Server::start().await?;
    let mut manager = Manager::start(&format!("flamenco: {}", server.url))?;
    let farm = farm(manager.home.path()).await?;
    farm.download(&[known_task(1)]).await?;
    let worker = register(&manager.url, "a", &["sleep"]).await?;
    worker.gets(1).await?;
    // Before the next look of the pusher, or after it: both are well.
    manager.restart()?;
    ensure!(worker.may_run(1).await? == json!({"may_keep_running": true}));
    worker.reports(1, "completed").await?;
    server.until_update("the end", |update| update["task_status"] == "completed").await?;
    let active = server.updates().iter().filter(|update| update["task_status"] == "active").count();
    ensure!(active >= 1, "the Server was told of the begin");
    until("the acknowledgement", async || Ok((farm.count_updates().await? == 0).then_some(()))).await?;
    ensure!(farm.task(known_task(1).id).await?.context("the task")?.status == TaskStatus::Completed);
    // The commands look at the same database.
    let said = String::from_utf8(tasker(manager.home.path(), &["flamenco", "workers"]).output()?.stdout)?;
    ensure!(said.contains("awake") && said.contains(" a "), "{said}");
    let said =
        String::from_utf8(tasker(manager.home.path(), &["flamenco", "tasks", "--json"]).output()?.stdout)?;
    ensure!(serde_json::from_str::<Value>(&said)?["tasks"][0]["status"] == "completed", "{said}");
    let output =
        tasker(manager.home.path(), &["flamenco", "set-status", "a", "asleep", "--lazy"]).output()?;
    ensure!(output.status.success() && worker.ask().await?.0 == 423);
    let output = tasker(manager.home.path(), &["flamenco", "set-status", "nobody", "asleep"]).output()?;
    ensure!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("nobody"));
    Ok(())
}

#[test]
fn says_what_its_file_lacks() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let output = tasker(directory.path(), &["flamenco-manager"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !output.status.success() && said.contains("flamenco-manager.yaml") && said.contains("--config"),
        "{said}"
    );
    Ok(())
}

#[test]
fn the_example_can_be_read() -> Result<()> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config/examples/flamenco/flamenco-manager.yaml");
    let settings = Settings::read(&path)?;
    ensure!(settings.warnings.is_empty(), "{:?}", settings.warnings);
    Ok(())
}
