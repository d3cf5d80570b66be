//! `tasker bench tasks`: many tasks through one endpoint - the real agent, with its journal - and a handler
//! that counts.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::bail;
use async_trait::async_trait;

use super::load::{Load, each_is_done, rates};
use super::stack::{IDLE, Stack};
use crate::app::EndpointProcess;
use crate::contract::Task;
use crate::domain::{EndpointName, Outcome, TaskId};
use crate::endpoint::{Context, Handler, Registry, Work};

/// How long the last task may take after the last post.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often each task was performed.
type Runs = Arc<Mutex<HashMap<TaskId, u32>>>;

/// Answers the payload and counts who was served.
struct Counting(Runs);

#[async_trait]
impl Handler for Counting {
    async fn run(&self, work: &Work, _context: &Context) -> Outcome {
        if let Ok(mut runs) = self.0.lock() {
            *runs.entry(work.id).or_default() += 1;
        }
        Outcome::Done(work.payload.clone())
    }
}

/// Runs it, and returns what was measured as text.
///
/// # Errors
/// When something cannot start, or a task was lost or run twice.
pub async fn run(stack: &Stack, load: Load) -> anyhow::Result<String> {
    let (name, idle): (EndpointName, EndpointName) = ("bench".parse()?, IDLE.parse()?);
    stack.expect(&[name.clone(), idle]);
    let runs = Runs::default();
    let registry = Registry::default().with(stack.task_type.clone(), Counting(runs.clone()));
    let mut settings = (*stack.config).clone();
    settings.endpoint.data_dir = stack.directory().to_owned();
    let types = [stack.task_type.clone()];
    let endpoint = EndpointProcess::start(Arc::new(settings), name, &types, None, stack.link(), registry)?;
    stack.customer.subscribed("bench", PATIENCE).await?;

    let task_type = stack.task_type.as_str();
    let started = Instant::now();
    let posts = stack.customer.post_many(task_type, "bench", load).await?;
    let posted = started.elapsed();
    let done = stack.customer.until_done(load.count, started, PATIENCE).await?;

    let tasks = stack.customer.list(task_type).await?;
    let resident = stack.resident();
    endpoint.stop().await;
    verify(&tasks, load.count, &runs.lock().map(|runs| runs.clone()).unwrap_or_default())?;
    let mut report = String::new();
    writeln!(
        report,
        "tasks        {} posted by {} at a time, payload {} bytes",
        load.count, load.concurrency, load.payload_bytes
    )?;
    writeln!(report, "verified     each DONE in the ledger, each run exactly once")?;
    report.push_str(&rates(&tasks, posted, &posts, done));
    if let Some((what, mib)) = resident {
        writeln!(report, "memory       {mib:.1} MiB resident in {what}")?;
    }
    if let Some(mib) = stack.idle_endpoint().await? {
        writeln!(report, "             {mib:.1} MiB resident in an idle endpoint process")?;
    }
    Ok(report)
}

fn verify(tasks: &[Task], count: usize, runs: &HashMap<TaskId, u32>) -> anyhow::Result<()> {
    each_is_done(tasks, count)?;
    let (served, total) = (runs.len(), runs.values().sum::<u32>() as usize);
    if (served, total) != (count, count) {
        bail!("{count} tasks were accepted, the handler ran {total} times for {served} of them");
    }
    Ok(())
}
