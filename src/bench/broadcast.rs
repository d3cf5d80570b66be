//! `tasker bench fleet`: tasks for everybody, to a simulated fleet.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::figures::Spans;
use super::fleet::{Fleet, SELECTOR, names};
use super::load::is_done_by;
use super::stack::Stack;
use crate::domain::EndpointName;

/// Endpoints on one link to the broker: each of its queues has a consumer, and a connection has at most 2,047
/// channels.
const NAMES_A_LINK: usize = 1000;
/// How long a fleet may take to join, and a task to reach all of it.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often a selector is asked whom it chooses.
const LOOKS: usize = 20;

/// Runs it; answers the endpoints it used, and what was measured as text. It fails when something cannot
/// start, or an answer was lost.
pub async fn run(
    stack: &Stack,
    endpoints: usize,
    tasks: usize,
) -> (Vec<EndpointName>, anyhow::Result<String>) {
    let names = names(endpoints);
    let result = measure(stack, &names, tasks).await;
    (names, result)
}

async fn measure(stack: &Stack, names: &[EndpointName], tasks: usize) -> anyhow::Result<String> {
    let endpoints = names.len();
    let links: Vec<_> = (0..endpoints.div_ceil(NAMES_A_LINK)).map(|_| stack.link()).collect();
    let started = Instant::now();
    let mut fleet = Fleet::join(&links, &stack.task_type, names).await?;
    tokio::time::timeout(PATIENCE, fleet.welcomed()).await.context("the fleet was not welcomed in time")?;
    let joined = started.elapsed();

    let task_type = stack.task_type.as_str();
    let (mut spans, started) = (Spans::default(), Instant::now());
    for number in 0..tasks {
        let identifier = format!("fleet-{number}");
        stack.customer.post(task_type, &identifier, "").await?;
        let task = stack.customer.wait(task_type, &identifier, PATIENCE).await?;
        if !is_done_by(&task, endpoints) {
            bail!("not every endpoint answered: {task:?}");
        }
        spans.push(task.finished_at.map(|end| end.since(task.start_time)).unwrap_or_default());
    }
    let elapsed = started.elapsed();
    let resident = stack.resident();
    let (mut chosen, mut looks) = (0, Spans::default());
    for _ in 0..LOOKS {
        let (number, span) = stack.customer.preview(task_type, SELECTOR).await?;
        chosen = number;
        looks.push(span);
    }

    let copies = fleet.copies();
    let (answers, repeats) = copies
        .values()
        .flat_map(|by| by.values())
        .fold((0usize, 0usize), |(answers, repeats), copies| (answers + 1, repeats + (*copies as usize - 1)));
    fleet.stop().await;
    for link in links {
        link.close().await;
    }
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
