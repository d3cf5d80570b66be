//! The program: its arguments, its file, its commands, and that it outlives being killed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tasker::farm::TaskStatus;
use tasker::flamenco::Settings;
use tasker::store::farm::Farm;
use tempfile::TempDir;

use super::rig::{MANAGER, Worker, reqwest_client, send, store, until};
use super::scheduling::known_task;
use super::server::Server;

fn file(server: &str) -> Result<TempDir> {
    let directory = tempfile::tempdir()?;
    let text = format!("manager_id: {MANAGER}\nmanager_secret: mgr-secret\nflamenco: {server}\nlisten: 127.0.0.1:0\n");
    std::fs::write(directory.path().join("flamenco-manager.yaml"), text)?;
    Ok(directory)
}

fn tasker(directory: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker"));
    command.args(arguments).current_dir(directory.path());
    command
}

async fn farm(directory: &TempDir) -> Result<Farm> {
    let path = directory.path().join("flamenco-manager.yaml");
    let text = std::fs::read_to_string(&path)?
        + &format!("database_url: sqlite://{}\n", directory.path().join("flamenco-manager.sqlite").display());
    Ok(Farm::new(store(&Settings::parse(&path, &text)?).await?))
}

/// A running manager, killed at the end.
struct Running {
    process: Child,
    url: String,
}

impl Running {
    fn start(directory: &TempDir) -> Result<Self> {
        let mut process = tasker(directory, &["flamenco-manager", "-verbose"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("its output")?).read_line(&mut line)?;
        let url = line.split(' ').find(|word| word.starts_with("http://127")).context(line.clone())?.trim_end_matches('/').to_owned();
        Ok(Self { process, url })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c39_cleanslate_and_purgequeue() -> Result<()> {
    let directory = file("http://127.0.0.1:1/")?;
    let farm = farm(&directory).await?;
    farm.download(&[known_task()]).await?;
    farm.set_note("depsgraph-last-modified", "then").await?;
    let worker = tasker::farm::Worker::new("5e90d0000000000000000d01".parse()?, "a".into(), "linux".into(), vec!["sleep".into()]);
    farm.register(&worker, b"hash").await?;
    farm.cancel(&["5e90d0000000000000000d09".parse()?], tasker::clock::Clock::system().now()).await?;
    let confirmed = |arguments: &[&str]| -> Result<String> {
        let mut process = tasker(&directory, arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        process.stdin.take().context("its input")?.write_all(b"\n")?;
        let output = process.wait_with_output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    };
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
    let directory = file(&server.url)?;
    let farm = farm(&directory).await?;
    farm.download(&[known_task()]).await?;
    let first = Running::start(&directory)?;
    let body = json!({"secret": "s", "platform": "linux", "supported_task_types": ["sleep"], "nickname": "a"});
    let (status, answer) = send(reqwest_client().post(format!("{}/register-worker", first.url)).json(&body)).await?;
    ensure!(status == 200, "{status} {answer}");
    let answer: Value = serde_json::from_str(&answer)?;
    let worker = Worker { url: first.url.clone(), id: answer["_id"].as_str().context("an id")?.into(), secret: "s".into() };
    worker.gets(1).await?;
    // Before the next look of the pusher, or after it: both are well.
    drop(first);
    let second = Running::start(&directory)?;
    let worker = Worker { url: second.url.clone(), ..worker };
    ensure!(worker.may_run(1).await? == json!({"may_keep_running": true}));
    worker.reports(1, "completed").await?;
    server.until_update("the end", |update| update["task_status"] == "completed").await?;
    let active = server.updates().iter().filter(|update| update["task_status"] == "active").count();
    ensure!(active >= 1, "the Server was told of the begin");
    until("the acknowledgement", async || Ok((farm.count_updates().await? == 0).then_some(()))).await?;
    ensure!(farm.task(known_task().id).await?.context("the task")?.status == TaskStatus::Completed);
    // The commands look at the same database.
    let said = String::from_utf8(tasker(&directory, &["flamenco", "workers"]).output()?.stdout)?;
    ensure!(said.contains("awake") && said.contains(" a "), "{said}");
    let said = String::from_utf8(tasker(&directory, &["flamenco", "tasks", "--json"]).output()?.stdout)?;
    ensure!(serde_json::from_str::<Value>(&said)?["tasks"][0]["status"] == "completed", "{said}");
    let output = tasker(&directory, &["flamenco", "set-status", "a", "asleep", "--lazy"]).output()?;
    ensure!(output.status.success() && worker.ask().await?.0 == 423);
    let output = tasker(&directory, &["flamenco", "set-status", "nobody", "asleep"]).output()?;
    ensure!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("nobody"));
    Ok(())
}

#[test]
fn says_what_its_file_lacks() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let output = tasker(&directory, &["flamenco-manager"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("flamenco-manager.yaml") && said.contains("--config"), "{said}");
    Ok(())
}

#[test]
fn the_example_can_be_read() -> Result<()> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/flamenco/flamenco-manager.yaml");
    let settings = Settings::read(&path)?;
    ensure!(settings.warnings.is_empty(), "{:?}", settings.warnings);
    Ok(())
}
