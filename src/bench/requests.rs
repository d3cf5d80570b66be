//! `tasker bench requests`: many requests of three steps - one job, three, one - of a work queue, performed
//! by workers.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::figures::{Metrics, Spans};
use super::load::{LOOK, Load, each_is_done};
use super::stack::{STEPS, Stack};
use super::workers::Workers;
use crate::contract::{Request, RequestStep, RequestSubmission, Task};
use crate::domain::{EndpointName, RequestStatus, When};

/// How long the last request may take after the last post.
const PATIENCE: Duration = Duration::from_secs(120);

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Requesting {
    /// The requests.
    pub load: Load,
    /// Workers.
    pub workers: u32,
    /// Jobs that each of them performs at the same time.
    pub slots: u32,
}

/// Runs it, and returns what was measured as text.
///
/// # Errors
/// When something cannot start, a request did not complete, or a job was lost or run twice.
pub async fn run(stack: &Stack, requesting: Requesting) -> anyhow::Result<String> {
    let names: Vec<EndpointName> =
        (0..requesting.workers).filter_map(|number| format!("bench-{number}").parse().ok()).collect();
    stack.expect(&names);
    let Requesting { load, workers, slots } = requesting;
    let at_work = Workers::start(stack, &names, slots, PATIENCE).await?;
    let started = Instant::now();
    let posts = stack
        .customer
        .post_each("/requests", load, move |number| submission(number, load.payload_bytes))
        .await?;
    let posted = started.elapsed();
    let metrics = until_completed(stack, load.count).await?;
    let done = started.elapsed();
    let resident = stack.resident();

    let requests = stack.customer.requests().await?;
    let tasks = stack.customer.list(stack.task_type.as_str()).await?;
    let executions = stack.customer.executions(stack.task_type.as_str()).await?;
    at_work.stop().await?;
    verify(&requests, &tasks, executions, load.count)?;

    let jobs = tasks.len();
    let rate = |span: Duration| load.count as f64 / span.as_secs_f64();
    let mut spans = Spans::default();
    for request in &requests {
        spans.push(request.completed.map(|end| end.since(request.created)).unwrap_or_default());
    }
    let mut report = String::new();
    writeln!(
        report,
        "requests     {} posted by {} at a time, params {} bytes, {jobs} jobs",
        load.count, load.concurrency, load.payload_bytes
    )?;
    writeln!(report, "performed    by {workers} workers with {slots} slots each")?;
    writeln!(report, "verified     each Completed, each job DONE in the ledger, each run exactly once")?;
    writeln!(report, "POST         {:.0}/s; {posts}", rate(posted))?;
    writeln!(
        report,
        "end to end   {:.0}/s, {:.0} jobs/s; from accepted to Completed {spans}",
        rate(done),
        jobs as f64 / done.as_secs_f64()
    )?;
    let within = |percent| metrics.within("tasker_request_step_seconds", percent);
    writeln!(
        report,
        "advance      from the end of a step to the tasks of the next: p50 {}, p99 {}",
        within(50.0),
        within(99.0)
    )?;
    if let Some((what, mib)) = resident {
        writeln!(report, "memory       {mib:.1} MiB resident in {what}")?;
    }
    Ok(report)
}

fn submission(number: usize, params: usize) -> anyhow::Result<String> {
    let steps = STEPS.iter().enumerate().map(|(place, jobs)| RequestStep {
        name: format!("step{}", place + 1),
        jobs: jobs.iter().map(|job| (*job).to_owned()).collect(),
        when: When::AllOk,
    });
    let submission = RequestSubmission {
        action: "bench".to_owned(),
        params: Some(crate::domain::json(&"x".repeat(params))),
        steps: steps.collect(),
        request_token: Some(format!("bench-{number}")),
    };
    Ok(serde_json::to_string(&submission)?)
}

/// Waits until so many requests have completed, or the patience is over; answers the metrics as they are
/// then.
async fn until_completed(stack: &Stack, count: usize) -> anyhow::Result<Metrics> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let metrics = stack.customer.metrics().await?;
        if metrics.count("tasker_requests_total{status=\"Completed\"}") >= count as u64
            || Instant::now() > deadline
        {
            return Ok(metrics);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn verify(requests: &[Request], tasks: &[Task], executions: u64, count: usize) -> anyhow::Result<()> {
    ensure!(requests.len() == count, "{count} requests were accepted, the ledger has {}", requests.len());
    if let Some(request) = requests.iter().find(|request| request.status != RequestStatus::Completed) {
        anyhow::bail!("not every request completed: {request:?}");
    }
    let steps = STEPS
        .iter()
        .enumerate()
        .flat_map(|(place, jobs)| jobs.iter().map(move |job| format!("{place}.{job}.1")));
    let steps: Vec<String> = steps.collect();
    let wanted: BTreeSet<String> = requests
        .iter()
        .flat_map(|request| steps.iter().map(move |job| format!("{}.{job}", request.token)))
        .collect();
    let found: BTreeSet<String> = tasks.iter().map(|task| task.identifier.to_string()).collect();
    ensure!(found == wanted, "the ledger has other tasks than the jobs of the requests");
    each_is_done(tasks, wanted.len())?;
    ensure!(executions == wanted.len() as u64, "{} jobs were run {executions} times", wanted.len());
    Ok(())
}
