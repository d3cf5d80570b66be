//! `tasker bench http`: many HTTP calls at once through the public interface of [`crate::http_tasks`], to servers in processes of
//! their own.

use std::fmt::Write;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::figures::{Spans, peak_mib, processor_time};
use crate::http_tasks::{Method, RetryPolicy, Task, TaskList, TaskRunner, TransportPolicy};

/// Server processes. One alone may have no more files open than the client.
const SERVERS: usize = 2;
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

/// Runs it; answers what was measured as text.
///
/// # Errors
/// When something cannot start. A call that fails is counted, and told once.
pub async fn run(calls: Calls) -> anyhow::Result<String> {
    let mut servers = Vec::new();
    let mut targets = Vec::new();
    for server in 0..SERVERS.min(calls.hosts) {
        let hosts = (0..calls.hosts).filter(|host| host % SERVERS == server).map(|host| format!("127.0.0.{}", host + 1)).collect();
        let (child, addresses) = start(hosts, calls.delay).await?;
        servers.push(child);
        targets.extend(addresses);
    }
    let transport = TransportPolicy { max_idle: calls.count, max_idle_per_host: calls.count, ..TransportPolicy::default() };
    let retry = RetryPolicy { retries: Some(calls.retries), ..RetryPolicy::default() };
    let runner = TaskRunner::local("tasker-bench").transport(transport).retry(retry).default_timeout(TIMEOUT).build()?;

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
    writeln!(report, "bench        HTTP calls from this process to {hosts} addresses of {} processes", servers.len())?;
    writeln!(report, "calls        {count} a round, answered after {:?}, {retries} retries", calls.delay)?;
    for (number, (took, spans, dialled)) in rounds.iter().enumerate() {
        let name = if number == 0 { "cold" } else { "warm" };
        writeln!(report, "{name}         {:.2} s; from the launch {spans}; {dialled} connections made", took.as_secs_f64())?;
    }
    writeln!(
        report,
        "failures     {failures} of {}{}",
        count * calls.rounds,
        example.map(|text| format!(", such as: {text}")).unwrap_or_default()
    )?;
    writeln!(report, "sockets      {} at most, of a budget of {}", stats.sockets_most, stats.sockets)?;
    if let Some(mib) = peak_mib() {
        writeln!(report, "memory       {mib:.1} MiB resident at most in this process")?;
    }
    if let Some(spent) = processor {
        writeln!(report, "processor    {:.1} s of this process", spent.as_secs_f64())?;
    }
    Ok(report)
}

/// A server process and the addresses it listens on.
async fn start(hosts: Vec<String>, delay: Duration) -> anyhow::Result<(Child, Vec<String>)> {
    let program = std::env::current_exe().context("where this program is")?;
    let mut child = Command::new(program)
        .args(["bench", "http-server", "--delay", &delay.as_millis().to_string(), "--hosts", &hosts.join(",")])
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
