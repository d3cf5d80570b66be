//! `tasker bench fleet`: tasks for everybody, to a simulated fleet.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::figures::Spans;
use super::load::is_done_by;
use super::stack::Stack;
use crate::domain::EndpointName;
use crate::simulated::{Fleet, HeardTask, SELECTOR, names};

/// Endpoints on one link to the broker: each of its queues has a consumer, and a connection has at most 2,047
/// channels.
const NAMES_A_LINK: usize = 1000;
/// How long a fleet may take to join, and a task to reach all of it.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often a selector is asked whom it chooses.
const LOOKS: usize = 20;

/// Runs it, and returns what was measured as text.
///
/// # Errors
/// When something cannot start, or an answer was lost.
pub async fn run(stack: &Stack, endpoints: usize, tasks: usize) -> anyhow::Result<String> {
    let measure = async |fleet: &Fleet, joined| measure(stack, endpoints, tasks, fleet, joined).await;
    on_a_fleet(stack, &names(endpoints), measure).await
}

async fn measure(
    stack: &Stack,
    endpoints: usize,
    tasks: usize,
    fleet: &Fleet,
    joined: Duration,
) -> anyhow::Result<String> {
    let task_type = stack.task_type.as_str();
    let started = Instant::now();
    let spans = broadcast(stack, endpoints, tasks).await?;
    let elapsed = started.elapsed();
    let resident = stack.resident();
    let (mut chosen, mut looks) = (0, Spans::default());
    for _ in 0..LOOKS {
        let (number, span) = stack.customer.preview(task_type, SELECTOR).await?;
        chosen = number;
        looks.push(span);
    }

    let (answers, repeats) = answered(fleet.heard().values());
    if answers != endpoints * tasks {
        bail!("{} answers are in the ledger, the fleet gave {answers}", endpoints * tasks);
    }
    let mut report = String::new();
    writeln!(
        report,
        "fleet        {endpoints} simulated endpoints, joined and welcomed in {:.1} s",
        joined.as_secs_f64()
    )?;
    writeln!(
        report,
        "verified     {tasks} tasks DONE, {answers} answers in the ledger, {repeats} copies asked for again"
    )?;
    writeln!(report, "task         from accepted to DONE {spans}")?;
    writeln!(report, "answers      {:.0}/s", answers as f64 / elapsed.as_secs_f64())?;
    writeln!(
        report,
        "selector     chooses {chosen} of {endpoints} endpoints with ten labels each; dry run {looks}"
    )?;
    if let Some((what, mib)) = resident {
        writeln!(report, "memory       {mib:.1} MiB resident in {what}")?;
    }
    Ok(report)
}

/// Measures on a fleet that has joined; `measure` also gets how long that took.
pub(super) async fn on_a_fleet(
    stack: &Stack,
    names: &[EndpointName],
    measure: impl AsyncFnOnce(&Fleet, Duration) -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    stack.expect(names);
    let links: Vec<_> = (0..names.len().div_ceil(NAMES_A_LINK)).map(|_| stack.link()).collect();
    let started = Instant::now();
    let mut fleet = Fleet::join(&links, &stack.task_type, names).await?;
    tokio::time::timeout(PATIENCE, fleet.welcomed()).await.context("the fleet was not welcomed in time")?;
    let measured = measure(&fleet, started.elapsed()).await;
    fleet.stop().await;
    measured
}

/// So many tasks for a whole fleet, one after the other.
pub(super) async fn broadcast(stack: &Stack, endpoints: usize, tasks: usize) -> anyhow::Result<Spans> {
    let task_type = stack.task_type.as_str();
    let mut spans = Spans::default();
    for number in 0..tasks {
        let identifier = format!("fleet-{number}");
        stack.customer.post(task_type, &identifier, "").await?;
        let task = stack.customer.wait(task_type, &identifier, PATIENCE).await?;
        if !is_done_by(&task, endpoints) {
            bail!("not every endpoint answered: {task:?}");
        }
        spans.push(task.finished_at.map(|end| end.since(task.start_time)).unwrap_or_default());
    }
    Ok(spans)
}

/// How many answers a fleet gave to these tasks, and how many copies it got that it had answered before.
pub(super) fn answered<'a>(tasks: impl Iterator<Item = &'a HeardTask>) -> (usize, usize) {
    let copies = tasks.flat_map(|task| task.copies.values());
    copies.fold((0, 0), |(answers, repeats), copies| (answers + 1, repeats + (*copies as usize - 1)))
}
