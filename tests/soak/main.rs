//! Breaks a platform at random for as long as one likes: `cargo xtask soak`.
//!
//! Two API processes, four endpoints and two workers on private servers, load and rollouts all the time. In
//! each round one fault, a few times; then a quiet moment, and the oracle judges the round. At the end it
//! judges the whole ledger and looks for what is left anywhere.

mod nemesis;
#[path = "../it/support/mod.rs"]
#[expect(dead_code, reason = "what the integration tests need besides")]
mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use nemesis::{Fault, Nemesis};
use support::fleet::Fleet;
use support::loader::Loader;
use support::oracle;
use support::platform::Platform;
use support::roller::{Pace, Roller};

/// Submissions a second.
const LOAD: u32 = 20;
/// Rollouts.
const ROLLOUTS: Pace = Pace { every: Duration::from_secs(1), most: usize::MAX, lanes: 3 };
/// After the last fault of a round.
const QUIET: Duration = Duration::from_secs(3);

struct Options {
    minutes: u64,
    seed: u64,
    /// Those that were asked for; all when empty.
    faults: Vec<Fault>,
}

impl Options {
    fn read() -> anyhow::Result<Self> {
        let mut options = Self { minutes: 10, seed: fastrand::u64(..1_000_000), faults: Vec::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next();
            let number = value.as_ref().and_then(|value| value.parse().ok());
            match (name.as_str(), number, value) {
                ("--minutes", Some(number), _) => options.minutes = number,
                ("--seed", Some(number), _) => options.seed = number,
                ("--faults", _, Some(names)) => {
                    options.faults = names.split(',').map(fault).collect::<anyhow::Result<_>>()?
                }
                _ => bail!("cargo xtask soak [--minutes N] [--seed S] [--faults NAME,NAME...]"),
            }
        }
        Ok(options)
    }
}

/// The fault of this name.
fn fault(name: &str) -> anyhow::Result<Fault> {
    let known = || Fault::NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let found = Fault::NAMES.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, fault)| *fault)
        .with_context(|| format!("there is no fault `{name}`; there are {}", known()))
}

fn main() -> anyhow::Result<()> {
    let options = Options::read()?;
    println!("seed {}, {} minutes", options.seed, options.minutes);
    run(&options).with_context(|| format!("seed {}", options.seed))
}

fn kind(name: &str) -> &'static str {
    match name {
        _ if name.starts_with("api") => "API processes",
        _ if name.starts_with("worker") => "workers",
        _ => "endpoints",
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(options.minutes * 60);
    let mut fleet = Fleet::with_queue(Platform::idle_on_own_disk()?)?.with_short_stop()?;
    let mut faults = options.faults.clone();
    if faults.is_empty() {
        faults = Fault::NAMES.iter().map(|(_, fault)| *fault).collect();
    }
    if faults.contains(&Fault::FullDatabase) && !fleet.platform.servers().1.has_own_disk() {
        println!("without full-database: only root may mount a disk to be filled");
        faults.retain(|fault| *fault != Fault::FullDatabase);
    }
    ensure!(!faults.is_empty(), "there is no fault left");
    let mut nemesis = Nemesis::of(&mut fleet, options.seed, faults)?;
    let (mut taken, mut asks, mut round) = (BTreeMap::new(), 0, 0);
    while Instant::now() < end {
        round += 1;
        let loader = Loader::start(&fleet, LOAD);
        let roller = Roller::start(&fleet, ROLLOUTS);
        fleet.pass(Duration::from_secs(1))?;
        let before = fleet.asks();
        let what = nemesis.strike(&mut fleet, &loader)?;
        fleet.pass(QUIET)?;
        let new = loader.finish(&mut fleet).with_context(|| what.clone())?;
        let rolled = roller.finish(&mut fleet).with_context(|| what.clone())?;
        let verdict = oracle::judge_one(&mut fleet, &new).with_context(|| what.clone())?;
        // A process that was killed began to count anew: this is the least it can have been.
        asks += fleet.asks().saturating_sub(before);
        println!(
            "round {round}: {what}: {} tasks, {} responses, {} executions began for {} attempts, {} interrupted; {} rollouts: {:?}",
            verdict.tasks,
            verdict.responses,
            verdict.begun,
            verdict.recorded,
            verdict.interrupted,
            rolled.rollouts,
            rolled.targets
        );
        taken.extend(new);
    }
    let verdict = oracle::judge(&mut fleet, &taken)?;
    let mut kills: BTreeMap<&str, u32> = nemesis.kills().clone();
    for (name, count) in fleet.kills() {
        *kills.entry(kind(name)).or_default() += count;
    }
    println!("{verdict}; at least {asks} asked for again; killed: {kills:?}");
    oracle::nothing_is_left(&mut fleet)
}
