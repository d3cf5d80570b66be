//! Processes are killed: between every two steps, and at random.

use std::time::Duration;

use anyhow::Context;

use super::{all_is_accounted_for, load_for};
use crate::support::fleet::Fleet;
use crate::support::loader::Loader;
use crate::support::platform::Platform;

#[test]
fn an_api_process_dies_between_every_two_steps() -> anyhow::Result<()> {
    let mut fleet = Fleet::new(Platform::idle()?)?;
    let lives = [
        "acceptor.recorded:kill:5",
        "publisher.frozen:kill:5",
        "publisher.confirmed:kill:5",
        "collector.written:kill:5",
        "acceptor.recorded:kill:1",
        "publisher.frozen:kill:1",
        "publisher.confirmed:kill:1",
        "collector.written:kill:1",
    ];
    fleet.start_api("api1", &[], &lives)?;
    fleet.start_api("api2", &[], &[])?;
    for name in ["console1", "console2"] {
        fleet.start_endpoint(name, &[], &[])?;
    }
    fleet.ready()?;
    let loader = Loader::start(&fleet, 40);
    fleet.until_lives_are_spent()?;
    load_for(&mut fleet, &loader, 60)?;
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken)
}

#[test]
fn an_endpoint_dies_between_every_two_steps() -> anyhow::Result<()> {
    let mut fleet = Fleet::new(Platform::idle()?)?;
    fleet.start_api("api1", &[], &[])?;
    // Far enough from each other that hardly a task is hit three times, which would use up its attempts.
    let lives = [
        "intake.taken:kill:5",
        "intake.journalled:kill:5",
        "performer.started:kill:20",
        "performer.journalled:kill:20",
        "reporter.confirmed:kill:5",
        "intake.taken:kill:1",
        "intake.journalled:kill:1",
        "performer.started:kill:30",
        "performer.journalled:kill:1",
        "reporter.confirmed:kill:1",
    ];
    fleet.start_endpoint("console1", &[], &lives)?;
    fleet.start_endpoint("console2", &[], &[])?;
    fleet.ready()?;
    let loader = Loader::start(&fleet, 30);
    fleet.until_lives_are_spent()?;
    load_for(&mut fleet, &loader, 60)?;
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken)
}

/// Kills one of these again and again, after a random time each.
fn killed_at_random(names: &[&str], seed: u64) -> anyhow::Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut fleet = Fleet::usual(Platform::idle()?)?;
    let loader = Loader::start(&fleet, 30);
    for _ in 0..6 {
        fleet.pass(Duration::from_millis(random.u64(300..2000)))?;
        fleet.kill(names[random.usize(..names.len())])?;
    }
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken).with_context(|| format!("seed {seed}"))
}

#[test]
fn api_processes_die_at_any_time() -> anyhow::Result<()> {
    killed_at_random(&["api1", "api2"], 3)
}

#[test]
fn endpoints_die_at_any_time() -> anyhow::Result<()> {
    killed_at_random(&["console1", "console2"], 4)
}
