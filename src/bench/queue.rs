//! `tasker bench queue`: many small tasks through a work queue, performed by workers that are killed
//! meanwhile if told to.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::load::{LOOK, Load, each_is_done, rates};
use super::stack::Stack;
use super::workers::Workers;
use crate::domain::EndpointName;

/// How long the last task may take after the last post.
const PATIENCE: Duration = Duration::from_secs(120);

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Queueing {
    /// The tasks.
    pub load: Load,
    /// Workers.
    pub workers: u32,
    /// Tasks that each of them performs at the same time.
    pub slots: u32,
    /// How often a worker process is killed, evenly spread; every other one is never started again.
    pub kills: u32,
}

/// Runs it, and returns what was measured as text.
///
/// # Errors
/// When something cannot start, or a task was lost or run twice.
pub async fn run(stack: &Stack, queueing: Queueing) -> anyhow::Result<String> {
    let Queueing { load, workers, slots, kills } = queueing;
    let names: Vec<EndpointName> =
        (0..workers + kills).filter_map(|number| format!("bench-{number}").parse().ok()).collect();
    stack.expect(&names);
    let (first, spare) = names.split_at(workers as usize);
    if kills > 0 && !stack.has_processes() {
        bail!("only worker processes can be killed: name a configuration with -m or --config");
    }
    let mut at_work = Workers::start(stack, first, slots, PATIENCE).await?;

    let task_type = stack.task_type.as_str();
    let started = Instant::now();
    let posting = stack.customer.post_many(task_type, "bench", load);
    let killing = kill(stack, &mut at_work, queueing, first, spare);
    let (posts, killed) = tokio::join!(async { (posting.await, started.elapsed()) }, killing);
    let (posts, posted) = posts;
    let (posts, killed) = (posts?, killed?);
    let done = stack.customer.until_done(load.count, started, PATIENCE).await?;
    let tasks = stack.customer.list(task_type).await?;
    let resident = stack.resident();
    // Also that none was run twice. A worker that was killed runs its tasks again.
    stack.customer.executions(task_type).await?;
    at_work.stop().await?;
    each_is_done(&tasks, load.count)?;
    let mut report = String::new();
    writeln!(
        report,
        "tasks        {} posted by {} at a time, payload {} bytes",
        load.count, load.concurrency, load.payload_bytes
    )?;
    writeln!(report, "performed    by {workers} workers with {slots} slots each, {killed} killed meanwhile")?;
    writeln!(report, "verified     each DONE in the ledger without an error, none run twice")?;
    report.push_str(&rates(&tasks, posted, &posts, done));
    if let Some((what, mib)) = resident {
        writeln!(report, "memory       {mib:.1} MiB resident in {what}")?;
    }
    Ok(report)
}

/// Kills workers, evenly spread over the tasks. The place of the one is taken by itself, started again, that
/// of the next by another.
async fn kill(
    stack: &Stack,
    at_work: &mut Workers,
    queueing: Queueing,
    first: &[EndpointName],
    spare: &[EndpointName],
) -> anyhow::Result<u32> {
    let Workers::Processes(children) = at_work else { return Ok(0) };
    let mut names = first.to_vec();
    for (round, other) in spare.iter().enumerate() {
        let share = queueing.load.count as u64 * (round as u64 + 1) / (u64::from(queueing.kills) + 1);
        while stack.customer.moved_to("DONE").await? < share {
            tokio::time::sleep(LOOK).await;
        }
        let at = round % children.len();
        if let Some(child) = children[at].take() {
            child.kill().await?;
        }
        if round % 2 == 1 {
            names[at] = other.clone();
        }
        children[at] = Some(stack.worker(&names[at], queueing.slots)?);
    }
    Ok(queueing.kills)
}
