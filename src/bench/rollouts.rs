//! `tasker bench rollout`: a fleet changed in waves, beside one task for all of it; what a failure stops, and
//! how soon; and what many endpoints cost, those of a new rollout and those of old ones.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use uuid::Uuid;

use super::broadcast::{answered, broadcast, on_a_fleet};
use super::figures::{Metrics, Spans};
use super::stack::Stack;
use crate::client::RolloutAction;
use crate::clock::Clock;
use crate::contract::{AbortRollout, Rollout, Task};
use crate::domain::rollout::RolloutStatus;
use crate::domain::{EndpointName, Presence, PresenceState, RolloutName, TaskId, Timestamp, json as raw};
use crate::simulated::{Fleet, HeardTask, named, names, presence};

/// Tasks for the whole fleet that a rollout is compared with.
const BROADCASTS: usize = 3;
/// Rollouts that a failure stops.
const HALTS: usize = 5;
/// How long a rollout may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Presence that is recorded in one transaction.
const CHUNK: usize = 500;
/// Rollouts with a tenth of the endpoints, created before those with all of them.
const FIRST: usize = 5;
/// What a rollout may take longer than a task for the same fleet, as a part of that and for each wave.
const ALLOWED: (f64, Duration) = (1.3, Duration::from_millis(250));

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Rolling {
    /// Simulated endpoints.
    pub endpoints: usize,
    /// Waves, all of the same size.
    pub waves: usize,
    /// Endpoints of the largest rollout that is created.
    pub create: usize,
    /// Endpoints of ended rollouts that the rollout is run beside.
    pub old: usize,
}

/// One run of the rollout.
struct Run {
    /// From its start to its end.
    took: Duration,
    /// From the last answer of a wave that was sent until an endpoint has a task of the next.
    advances: Spans,
    /// From the beginning of a pass until an endpoint has a task that it started.
    starts: Spans,
    /// Of all passes.
    pass: (Duration, u64),
    metrics: Metrics,
    repeats: usize,
}

/// Runs it, and returns what was measured as text.
///
/// # Errors
/// When something cannot start, a rollout does not end as it should, or an endpoint was started twice.
pub async fn run(stack: &Stack, rolling: Rolling) -> anyhow::Result<String> {
    let measure = async |fleet: &Fleet, joined| measure(stack, rolling, fleet, joined).await;
    on_a_fleet(stack, &names(rolling.endpoints), measure).await
}

async fn measure(stack: &Stack, rolling: Rolling, fleet: &Fleet, joined: Duration) -> anyhow::Result<String> {
    let Rolling { endpoints, waves, create, old } = rolling;
    let mut report = String::new();
    writeln!(
        report,
        "fleet        {endpoints} simulated endpoints, joined and welcomed in {:.1} s",
        joined.as_secs_f64()
    )?;
    let one = broadcast(stack, endpoints, BROADCASTS).await?.percentile(50.0);
    writeln!(
        report,
        "broadcast    one task for all of them, from accepted to DONE {:.2} s, the median of {BROADCASTS}",
        one.as_secs_f64()
    )?;

    let first = roll(stack, fleet, rolling, "first").await?;
    let allowed = one.mul_f64(ALLOWED.0) + ALLOWED.1 * u32::try_from(waves)?;
    writeln!(
        report,
        "rollout      {waves} waves, DONE in {:.2} s; {:.1} x one broadcast + {waves} x {} ms is {:.2} s",
        first.took.as_secs_f64(),
        ALLOWED.0,
        ALLOWED.1.as_millis(),
        allowed.as_secs_f64()
    )?;
    writeln!(
        report,
        "verified     each endpoint started exactly once, in its wave; {} copies asked for again",
        first.repeats
    )?;
    writeln!(
        report,
        "next wave    from the last answer sent to the next wave's first task at an endpoint {}",
        first.advances
    )?;
    let within = |percent| first.metrics.within("tasker_rollout_advance_seconds", percent);
    writeln!(
        report,
        "             from the last answer in the ledger to its publish: p50 {}, p99 {}",
        within(50.0),
        within(99.0)
    )?;
    writeln!(
        report,
        "admission    from the beginning of its pass to the first task at an endpoint {}",
        first.starts
    )?;
    writeln!(report, "passes       {}", passes(first.pass))?;

    let halts = halt(stack, fleet, endpoints).await?;
    writeln!(
        report,
        "halt         from the answer that exceeds the budget to HALTED, as a client that waits sees it {halts}"
    )?;

    let ledger = stack.ledger()?;
    let clock = Clock::system();
    for names in named("far", create).chunks(CHUNK) {
        for state in [PresenceState::Joined, PresenceState::Leaving] {
            let (one, types) = (Uuid::from_u128(1), [stack.task_type.clone()]);
            let seen: Vec<_> = names
                .iter()
                .map(|name| Presence { task_types: types.to_vec(), ..presence(name, one, one, state) })
                .collect();
            ledger.see(&seen, clock.now()).await?;
        }
    }
    ledger.close().await;
    let few = create.div_ceil(10);
    let (spans, few_edits) = creations(stack, few, FIRST, "tenth").await?;
    writeln!(report, "create       {few} endpoints, from POST to 201 {spans}")?;
    let wholes = old.saturating_sub(few * FIRST).div_ceil(create).max(1);
    let (spans, edits) = creations(stack, create, wholes, "whole").await?;
    writeln!(report, "             {create} endpoints {spans}")?;
    writeln!(report, "edit         {few} endpoints put into other waves, from PATCH to 200 {few_edits}")?;
    writeln!(report, "             {create} endpoints {edits}")?;
    if old > 0 {
        let second = roll(stack, fleet, rolling, "second").await?;
        let there = few * FIRST + create * wholes;
        writeln!(
            report,
            "beside       {there} endpoints of ended rollouts: DONE in {:.2} s",
            second.took.as_secs_f64()
        )?;
        writeln!(report, "passes       {}", passes(second.pass))?;
    }
    if let Some((what, mib)) = stack.resident() {
        writeln!(report, "memory       {mib:.1} MiB resident in {what}")?;
    }
    Ok(report)
}

fn passes((sum, count): (Duration, u64)) -> String {
    format!("{count}, {:.1} ms each on average", sum.as_secs_f64() * 1000.0 / count.max(1) as f64)
}

/// The rollout from its submission to its end, with all that is verified of it.
async fn roll(stack: &Stack, fleet: &Fleet, rolling: Rolling, name: &str) -> anyhow::Result<Run> {
    let Rolling { endpoints, waves, .. } = rolling;
    let size = endpoints.div_ceil(waves);
    // Rounding may leave the last waves with nothing.
    let mut sizes: Vec<Value> = vec![json!(size); endpoints.div_ceil(size) - 1];
    sizes.push(json!("rest"));
    let document = json!({
        "identifier": name, "type": stack.task_type, "targets": {"match": ["name=sim-*"]}, "waves": sizes, "window": size.min(10_000),
    });
    let before = stack.customer.metrics().await?.sum("tasker_rollout_pass_seconds");
    submit(stack, &document).await?;
    let rollout = until(stack, name, RolloutStatus::Done).await?;
    let metrics = stack.customer.metrics().await?;
    let after = metrics.sum("tasker_rollout_pass_seconds");
    let heard = fleet.heard();
    let batches = batches(stack, &rollout, &heard).await?;
    let (answers, repeats) = answered(batches.iter().map(|(_, _, heard)| *heard));
    ensure!(answers == endpoints, "{endpoints} endpoints were to be started once, {answers} were");
    let (mut advances, mut starts) = (Spans::default(), Spans::default());
    let mut ends: BTreeMap<u32, (Timestamp, Timestamp)> = BTreeMap::new();
    for (wave, began, heard) in &batches {
        let (first, last) = ends.entry(*wave).or_insert((heard.first, heard.answered));
        (*first, *last) = ((*first).min(heard.first), (*last).max(heard.answered));
        starts.push(heard.first.since(*began));
    }
    for ((wave, (_, last)), (next, (first, _))) in ends.iter().zip(ends.iter().skip(1)) {
        ensure!(first >= last, "wave {next} began before the last answer of wave {wave}");
        advances.push(first.since(*last));
    }
    let took = rollout
        .started_at
        .zip(rollout.ended_at)
        .map(|(start, end)| end.since(start))
        .context("a rollout that has ended")?;
    Ok(Run {
        took,
        advances,
        starts,
        pass: (after.0.saturating_sub(before.0), after.1 - before.1),
        metrics,
        repeats,
    })
}

/// The tasks of a rollout: the number of the wave, when its pass began, and what the fleet has heard of it.
async fn batches<'a>(
    stack: &Stack,
    rollout: &Rollout,
    heard: &'a HashMap<TaskId, HeardTask>,
) -> anyhow::Result<Vec<(u32, Timestamp, &'a HeardTask)>> {
    let prefix = format!("rollout-{}-w", rollout.identifier);
    let tasks: Vec<Task> = stack.customer.list(stack.task_type.as_str()).await?;
    let of_it = tasks.iter().filter_map(|task| Some((task, task.identifier.as_str().strip_prefix(&prefix)?)));
    let read = of_it.map(|(task, rest)| {
        let wave = rest
            .split_once("-b")
            .and_then(|(wave, _)| wave.parse().ok())
            .context("a batch without a wave")?;
        Ok((wave, task.start_time, heard.get(&task.id).context("no endpoint has heard of a batch")?))
    });
    read.collect()
}

/// Rollouts that a failure stops: from its answer to the end of the wait of a client. Nothing is started
/// afterwards.
async fn halt(stack: &Stack, fleet: &Fleet, endpoints: usize) -> anyhow::Result<Spans> {
    let (clock, mut spans) = (Clock::system(), Spans::default());
    // In the order of names, so that the failure comes in the midst of it.
    let fails: EndpointName = format!("sim-{:05}", endpoints / 2).parse()?;
    for number in 0..HALTS {
        let name = format!("halt-{number}");
        fleet.fail([fails.clone()]);
        let document = json!({
            "identifier": name, "type": stack.task_type, "targets": {"match": ["name=sim-*"], "order": "name"}, "waves": ["rest"],
            "window": endpoints.div_ceil(10).min(500),
        });
        submit(stack, &document).await?;
        let rollout = until(stack, &name, RolloutStatus::Halted).await?;
        let seen = clock.now();
        let heard = fleet.heard();
        let batches = batches(stack, &rollout, &heard).await?;
        let failed = batches
            .iter()
            .find(|(_, _, heard)| heard.copies.contains_key(&fails))
            .context("nobody has failed")?
            .2
            .answered;
        spans.push(seen.since(failed));
        ensure!(rollout.counts.pending > 0, "nothing was left to be stopped");
        fleet.fail([]);
        abort(stack, &name).await?;
    }
    Ok(spans)
}

/// Creates rollouts of so many endpoints that are away, puts these into other waves, and ends each: how long
/// creating and changing took.
async fn creations(stack: &Stack, size: usize, count: usize, name: &str) -> anyhow::Result<(Spans, Spans)> {
    let (mut spans, mut edits) = (Spans::default(), Spans::default());
    for number in 0..count {
        let name = format!("{name}-{number}");
        let endpoints = named("far", size);
        let document = json!({
            "identifier": name, "type": stack.task_type, "start_at": "manual",
            "targets": {"endpoints": endpoints, "max_absent": "100%"},
        });
        let started = Instant::now();
        let rollout = submit(stack, &document).await?;
        spans.push(started.elapsed());
        ensure!(
            rollout.size as usize == size,
            "{size} endpoints were named, the rollout has {}",
            rollout.size
        );
        let changes = BTreeMap::from([
            ("revision".to_owned(), raw(&rollout.revision)),
            ("waves".to_owned(), raw(&json!(["10%", 1, "30%", "rest"]))),
        ]);
        let started = Instant::now();
        let edited = stack.customer.client().edit_rollout(&rollout.identifier, &changes).await?;
        edits.push(started.elapsed());
        ensure!(edited.size == rollout.size && edited.waves.len() == 4, "{:?}", edited.counts);
        abort(stack, &name).await?;
    }
    Ok((spans, edits))
}

async fn submit(stack: &Stack, document: &Value) -> anyhow::Result<Rollout> {
    Ok(stack.customer.client().submit_rollout(&raw(document)).await.context("a rollout was refused")?.0)
}

async fn abort(stack: &Stack, name: &str) -> anyhow::Result<()> {
    let name: RolloutName = name.parse()?;
    stack.customer.client().ask_rollout(&name, &RolloutAction::Abort(AbortRollout::default())).await?;
    until(stack, name.as_str(), RolloutStatus::Aborted).await.map(drop)
}

/// Waits until a rollout has this status.
async fn until(stack: &Stack, name: &str, status: RolloutStatus) -> anyhow::Result<Rollout> {
    let (name, deadline): (RolloutName, _) = (name.parse()?, Instant::now() + PATIENCE);
    loop {
        let rollout =
            stack.customer.client().rollout(&name, Some(Duration::from_secs(30)), !status.is_final()).await?;
        if rollout.status == status {
            return Ok(rollout);
        }
        ensure!(
            !rollout.status.is_final() && rollout.status != RolloutStatus::Halted,
            "rollout {name} is {:?}",
            rollout.status
        );
        ensure!(
            Instant::now() < deadline,
            "rollout {name} is {:?} after {PATIENCE:?}: {:?}",
            rollout.status,
            rollout.counts
        );
    }
}
