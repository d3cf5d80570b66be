//! `tasker bench flamenco`: a Flamenco Manager in this process, with simulated workers over HTTP and a Server
//! that takes everything.
//!
//! First the workers poll as real ones do, each every five seconds; then some of them send updates as fast as
//! they can.

use std::fmt::Write;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::figures::{Spans, peak_mib};
use crate::app::FlamencoProcess;
use crate::clock::Clock;
use crate::config::{Database, Secret};
use crate::farm::{ObjectId, Seen, Task, TaskStatus};
use crate::flamenco::Settings;
use crate::https;
use crate::store::farm::{Asked, Farm};
use crate::store::{self, SharedStore};

/// How often a worker asks for a task.
const POLL: Duration = Duration::from_secs(5);
/// Workers that send updates at the same time.
const SENDERS: usize = 64;
/// Hand-outs that are timed without HTTP.
const HAND_OUTS: usize = 200;
const MANAGER: &str = "5e90aa11bb22cc33dd44ee00";

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Farming {
    /// Workers that poll.
    pub workers: usize,
    /// Tasks in the queue.
    pub tasks: usize,
    /// How long the workers poll, and then how long updates are sent.
    pub phase: Duration,
}

/// Runs it; answers what was measured as text.
///
/// # Errors
/// When something cannot start, or a request is not answered as it should be.
pub async fn run(farming: Farming) -> anyhow::Result<String> {
    let directory = tempfile::tempdir()?;
    let (server, _serving) = server().await?;
    let text = format!(
        "manager_id: {MANAGER}\nmanager_secret: bench\nflamenco: {server}\ntask_logs_path: {0}/logs\ndatabase_url: sqlite://{0}/farm.sqlite\n",
        directory.path().display()
    );
    let settings = Settings::parse(Path::new("bench"), &text)?;
    let farm = Farm::new(open(&settings).await?);
    let mut report = String::new();
    let few = 100.min(farming.tasks);
    farm.download(&tasks(0..few)).await?;
    writeln!(
        report,
        "hand-out      {} with {few} tasks, in the database alone",
        hand_outs(&farm, "first", few.min(HAND_OUTS)).await?
    )?;
    for begin in (few..farming.tasks).step_by(10_000) {
        farm.download(&tasks(begin..farming.tasks.min(begin + 10_000))).await?;
    }
    let many = farming.tasks.saturating_sub(few);
    writeln!(
        report,
        "hand-out      {} with {many} tasks",
        hand_outs(&farm, "second", many.min(HAND_OUTS)).await?
    )?;

    let store = open(&settings).await?;
    let process = FlamencoProcess::start(settings, store, TcpListener::bind("127.0.0.1:0")?)?;
    let measured = over_http(&farm, farming, &format!("http://{}", process.address), &mut report).await;
    process.stop().await;
    measured?;
    Ok(report)
}

async fn open(settings: &Settings) -> anyhow::Result<SharedStore> {
    let store = store::open(&Database {
        verbose: false,
        uri: Secret::new(settings.database.reveal()),
        max_connections: 8,
    })?;
    store.migrate().await?;
    Ok(store)
}

async fn over_http(farm: &Farm, farming: Farming, url: &str, report: &mut String) -> anyhow::Result<()> {
    let client = https::build(|| https::client().pool_max_idle_per_host(farming.workers))?;
    let mut workers = Vec::new();
    for number in 0..farming.workers {
        let body = json!({"secret": "bench", "platform": "linux", "supported_task_types": ["sleep"], "nickname": format!("w{number}")});
        let answer = client
            .post(format!("{url}/register-worker"))
            .body(body.to_string())
            .send()
            .await?
            .error_for_status()?;
        let answer: Value = serde_json::from_slice(&answer.bytes().await?)?;
        let worker = Worker {
            client: client.clone(),
            url: url.to_owned(),
            id: answer["_id"].as_str().context("an id")?.to_owned(),
        };
        worker.post("sign-on", "{}").await?;
        workers.push(worker);
    }
    let end = Instant::now() + farming.phase;
    let polling: Vec<_> = workers
        .iter()
        .map(|worker| AbortOnDropHandle::new(tokio::spawn(poll(worker.clone(), end))))
        .collect();
    let (mut asked, mut given, mut last) = (Spans::default(), 0, Vec::new());
    for worker in polling {
        let (spans, tasks, current) = worker.await??;
        asked.extend(spans);
        given += tasks;
        last.push(current);
    }
    writeln!(
        report,
        "POST /task    {asked}; {given} tasks to {} workers in {:?}",
        farming.workers, farming.phase
    )?;

    let begin = Instant::now();
    let with_task = workers.into_iter().zip(last).filter_map(|(worker, task)| Some((worker, task?)));
    let sending: Vec<_> = with_task
        .take(SENDERS)
        .map(|(worker, task)| AbortOnDropHandle::new(tokio::spawn(send(worker, task, begin + farming.phase))))
        .collect();
    let mut sent = 0;
    for sender in sending {
        sent += sender.await??;
    }
    let rate = sent as f64 / begin.elapsed().as_secs_f64();
    writeln!(
        report,
        "updates       {sent} by {SENDERS} workers, {rate:.0} per second; {} still to be pushed",
        farm.count_updates().await?
    )?;
    if let Some(mib) = peak_mib() {
        writeln!(report, "memory        {mib:.0} MiB at most, with the simulated workers and their Server")?;
    }
    Ok(())
}

/// A simulated worker.
#[derive(Clone)]
struct Worker {
    client: reqwest::Client,
    url: String,
    id: String,
}

impl Worker {
    async fn post(&self, path: &str, body: &'static str) -> anyhow::Result<(u16, Vec<u8>)> {
        let request = self.client.post(format!("{}/{path}", self.url)).basic_auth(&self.id, Some("bench"));
        let answer = request.body(body).send().await?;
        Ok((answer.status().as_u16(), answer.bytes().await?.to_vec()))
    }
}

/// Asks for tasks until the end, and performs them at once. Answers how long each request took, how many
/// tasks there were, and the last one, which is not performed.
async fn poll(worker: Worker, end: Instant) -> anyhow::Result<(Spans, usize, Option<String>)> {
    let (mut spans, mut tasks, mut current) = (Spans::default(), 0, None);
    let mut next = Instant::now() + POLL.mul_f64(fastrand::f64());
    while next < end {
        tokio::time::sleep_until(next).await;
        next += POLL;
        if let Some(task) = current.take() {
            let (status, _) = worker
                .post(&format!("tasks/{task}/update"), r#"{"task_status": "completed", "log": "done"}"#)
                .await?;
            ensure!(status == 204, "an update was answered with {status}");
        }
        let asked = Instant::now();
        let (status, body) = worker.post("task", "").await?;
        spans.push(asked.elapsed());
        match status {
            200 => {
                let task: Value = serde_json::from_slice(&body)?;
                current = task["_id"].as_str().map(str::to_owned);
                tasks += 1;
            }
            other => ensure!(other == 204, "a worker that asked for a task was answered with {other}"),
        }
    }
    Ok((spans, tasks, current))
}

/// Sends updates of a task one after the other.
async fn send(worker: Worker, task: String, end: Instant) -> anyhow::Result<usize> {
    let (path, mut sent) = (format!("tasks/{task}/update"), 0);
    while Instant::now() < end {
        let (status, _) =
            worker.post(&path, r#"{"activity": "rendering", "task_progress_percentage": 50}"#).await?;
        ensure!(status == 204, "an update was answered with {status}");
        sent += 1;
    }
    Ok(sent)
}

/// Hands out tasks without HTTP; answers how long each took.
async fn hand_outs(farm: &Farm, name: &str, count: usize) -> anyhow::Result<Spans> {
    let (clock, mut spans) = (Clock::system(), Spans::default());
    for _ in 0..count {
        let id = ObjectId::new(clock.now());
        let worker =
            crate::farm::Worker::new(id, name.to_owned(), "linux".to_owned(), vec!["sleep".to_owned()]);
        farm.register(&worker, b"nobody").await?;
        let begin = Instant::now();
        let seen = Seen { at: clock.now(), address: "127.0.0.1".to_owned(), software: String::new() };
        let Asked::Offered(offered) = farm.ask(id, &seen).await? else {
            anyhow::bail!("there was no task for a worker")
        };
        farm.assign(id, offered.1.id, clock.now()).await?.context("a task could not be assigned")?;
        spans.push(begin.elapsed());
    }
    Ok(spans)
}

fn tasks(numbers: std::ops::Range<usize>) -> Vec<Task> {
    let now = Clock::system().now();
    let task = |number: usize| Task {
        etag: "bench".to_owned(),
        status: TaskStatus::ClaimedByManager,
        job: MANAGER.parse().ok(),
        name: format!("frame {number}"),
        commands: vec![crate::farm::Command { name: "sleep".to_owned(), settings: serde_json::Map::new() }],
        last_updated: Some(now),
        ..Task::new(format!("5e90d0000000{number:012x}").parse().expect("24 digits"), "bench", "sleep")
    };
    numbers.map(task).collect()
}

/// A Server that has no tasks, and takes every update.
async fn server() -> anyhow::Result<(String, AbortOnDropHandle<()>)> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A connection that ends is of no interest.
            tokio::spawn(async move { _ = serve(stream).await });
        }
    });
    Ok((url, AbortOnDropHandle::new(serving)))
}

async fn serve(mut stream: TcpStream) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let head = loop {
            match bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => ensure!(stream.read_buf(&mut bytes).await? > 0, "closed"),
            }
        };
        let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
        let length =
            text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        while bytes.len() < head + length {
            ensure!(stream.read_buf(&mut bytes).await? > 0, "closed");
        }
        let answer = match text.contains("/task-update-batch") {
            true => {
                #[derive(serde::Deserialize)]
                struct Update {
                    _id: String,
                }
                let updates: Vec<Update> = serde_json::from_slice(&bytes[head..head + length])?;
                let ids: Vec<String> = updates.into_iter().map(|update| update._id).collect();
                let body = json!({"modified_count": ids.len(), "handled_update_ids": ids}).to_string();
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            }
            false if text.starts_with("get /api/flamenco/tasks/") => {
                "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned()
            }
            false => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        };
        bytes.drain(..head + length);
        stream.write_all(answer.as_bytes()).await?;
    }
}
