//! `tasker bench http`: many HTTP calls at once through the public interface of [`crate::http_tasks`], to
//! servers in processes of their own; made by this process, or by worker processes over RabbitMQ.

use std::fmt::Write;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;
use uuid::Uuid;

use super::figures::{Spans, peak_mib, processor_time};
use super::stack::broker_of;
use crate::broker::amqp::{AmqpBroker, AmqpOptions, Role};
use crate::config::MessageQueue;
use crate::http_remote::{POOL, Remote, RemoteConfig};
use crate::http_tasks::{Limit, Method, RetryPolicy, Task, TaskList, TaskRunner, TransportPolicy};

/// Server processes. One alone may have no more files open than the client.
const SERVERS: usize = 2;
/// Who the runner says it is.
const SERVICE: &str = "tasker-bench";
/// For worker processes to start and to be heard of.
const START: Duration = Duration::from_secs(20);
/// How long a task may take: longer than any round.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Calls {
    /// Calls in each round.
    pub count: usize,
    /// How long the servers take for each.
    pub delay: Duration,
    /// Rounds; the first one finds no connection.
    pub rounds: usize,
    /// Addresses of the servers.
    pub hosts: usize,
    /// Retries of each call.
    pub retries: u32,
}

/// Who makes the calls.
#[derive(Debug)]
pub enum By {
    /// This process.
    Here,
    /// So many processes, over this broker.
    Workers(usize, Box<MessageQueue>),
}

/// Worker processes, until they are dropped.
struct Workers {
    queue: MessageQueue,
    _files: TempDir,
    processes: Vec<Child>,
}

/// Runs it; answers what was measured as text.
///
/// # Errors
/// When something cannot start. A call that fails is counted, and told once.
pub async fn run(calls: Calls, by: By) -> anyhow::Result<String> {
    let mut servers = Vec::new();
    let mut targets = Vec::new();
    for server in 0..SERVERS.min(calls.hosts) {
        let hosts = (0..calls.hosts)
            .filter(|host| host % SERVERS == server)
            .map(|host| format!("127.0.0.{}", host + 1))
            .collect();
        let (child, addresses) = start(hosts, calls.delay).await?;
        servers.push(child);
        targets.extend(addresses);
    }
    let workers = match by {
        By::Here => None,
        By::Workers(count, queue) => Some(Workers::start(count, calls.count, *queue)?),
    };
    let measured = measure(calls, &targets, workers.as_ref()).await;
    if let Some(workers) = workers {
        // Whatever came of it, nothing is left behind.
        workers.stop().await?;
    }
    measured
}

/// A runner as the calls are to be made.
async fn runner(calls: Calls, workers: Option<&Workers>) -> anyhow::Result<TaskRunner> {
    let retry = RetryPolicy { retries: Some(calls.retries), ..RetryPolicy::default() };
    let Some(workers) = workers else {
        let transport = TransportPolicy {
            max_idle: calls.count,
            max_idle_per_host: calls.count,
            ..TransportPolicy::default()
        };
        return Ok(TaskRunner::local(SERVICE)
            .transport(transport)
            .retry(retry)
            .default_timeout(TIMEOUT)
            .build()?);
    };
    let config = RemoteConfig { allow_plaintext_broker: true, ..RemoteConfig::new(workers.queue.clone()) };
    let runner = TaskRunner::remote(SERVICE, config)?
        .max_in_flight(Limit::Of(calls.count))
        .retry(retry)
        .default_timeout(TIMEOUT)
        .build()?;
    let all = async {
        while runner.alive().carrier.is_none_or(|health| health.workers < workers.processes.len()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(START, all).await.context("the workers did not start in time")?;
    Ok(runner)
}

async fn measure(calls: Calls, targets: &[String], workers: Option<&Workers>) -> anyhow::Result<String> {
    let runner = runner(calls, workers).await?;
    let (before, source) = (processor_time(), Task::template(Method::GET));
    let mut rounds = Vec::new();
    let (mut failures, mut example) = (0, None);
    for _ in 0..calls.rounds {
        let mut list: TaskList = runner.task_list(&source, calls.count);
        for (place, task) in list.iter_mut().enumerate() {
            task.set_url(&format!("http://{}/", targets[place % targets.len()]))?;
        }
        let (began, dialled) = (Instant::now(), runner.stats().dialled);
        let mut spans = Spans::default();
        let mut batch = runner.launch(list)?;
        while let Some(done) = batch.next().await {
            spans.push(began.elapsed());
            if let Err(error) = done.result {
                failures += 1;
                example.get_or_insert_with(|| error.explain());
            }
        }
        rounds.push((began.elapsed(), spans, runner.stats().dialled - dialled));
    }
    let processor = processor_time().zip(before).map(|(after, before)| after.saturating_sub(before));
    let stats = runner.stats();
    runner.shutdown(Duration::ZERO).await;

    let mut report = String::new();
    let Calls { count, hosts, retries, .. } = calls;
    match workers {
        None => writeln!(report, "bench        HTTP calls from this process to {hosts} addresses")?,
        Some(workers) => writeln!(
            report,
            "bench        HTTP calls from {} workers to {hosts} addresses",
            workers.processes.len()
        )?,
    }
    writeln!(report, "calls        {count} a round, answered after {:?}, {retries} retries", calls.delay)?;
    for (number, (took, spans, dialled)) in rounds.iter().enumerate() {
        let name = if number == 0 { "cold" } else { "warm" };
        write!(report, "{name}         {:.2} s; from the launch {spans}", took.as_secs_f64())?;
        match workers {
            None => writeln!(report, "; {dialled} connections made")?,
            Some(_) => writeln!(report, "; {:.0}/s", count as f64 / took.as_secs_f64())?,
        }
    }
    writeln!(
        report,
        "failures     {failures} of {}{}",
        count * calls.rounds,
        example.map(|text| format!(", such as: {text}")).unwrap_or_default()
    )?;
    if workers.is_none() {
        writeln!(report, "sockets      {} at most, of a budget of {}", stats.sockets_most, stats.sockets)?;
    }
    if let Some(mib) = peak_mib() {
        writeln!(report, "memory       {mib:.1} MiB resident at most in this process")?;
    }
    if let Some(spent) = processor {
        writeln!(report, "processor    {:.1} s of this process", spent.as_secs_f64())?;
    }
    Ok(report)
}

impl Workers {
    /// Starts them, with queues of their own.
    fn start(count: usize, in_flight: usize, queue: MessageQueue) -> anyhow::Result<Self> {
        let queue = MessageQueue { exchange: format!("bench-{}", Uuid::new_v4().simple()), ..queue };
        let files = tempfile::tempdir()?;
        let config = json!({
            "task_types": ["http"],
            "manager": {"message_queue": broker_of(&queue)},
            "http_worker": {
                "max_in_flight": in_flight.min(usize::from(u16::MAX)),
                "stop_timeout": "1s",
                "allow_plaintext_broker": true,
                "http": {"allow": ["127.0.0.0/8"], "max_sockets": 1_000_000},
            },
            // Who measures it has been warned of it.
            "insecure_transport": true,
            "log": {"filter": "warn"},
        });
        // JSON is YAML.
        let path = files.path().join("bench.config.yaml");
        std::fs::write(&path, config.to_string())?;
        let program = std::env::current_exe().context("where this program is")?;
        let start = |number| {
            let mut command = Command::new(&program);
            command.args(["http-worker", "--name", &format!("bench{number}"), "--config"]).arg(&path);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .context("cannot start a worker process")
        };
        let processes = (0..count).map(start).collect::<anyhow::Result<_>>()?;
        Ok(Self { queue, _files: files, processes })
    }

    /// Ends them and removes their queues.
    async fn stop(self) -> anyhow::Result<()> {
        for mut process in self.processes {
            process.kill().await?;
        }
        let options = AmqpOptions::new(self.queue, Role::HttpWorker { pool: POOL.to_owned() });
        Ok(AmqpBroker::remove_topology(&options, &[]).await?)
    }
}

/// A server process and the addresses it listens on.
async fn start(hosts: Vec<String>, delay: Duration) -> anyhow::Result<(Child, Vec<String>)> {
    let program = std::env::current_exe().context("where this program is")?;
    let mut child = Command::new(program)
        .args([
            "bench",
            "http-server",
            "--delay",
            &delay.as_millis().to_string(),
            "--hosts",
            &hosts.join(","),
        ])
        // It ends when this end of the pipe is closed, however this process ends.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start a server process")?;
    let mut lines = BufReader::new(child.stdout.take().context("the server has no output")?).lines();
    let mut addresses = Vec::new();
    while addresses.len() < hosts.len() {
        match lines.next_line().await? {
            Some(line) => addresses.push(line),
            None => bail!("a server process ended before it listened"),
        }
    }
    Ok((child, addresses))
}
