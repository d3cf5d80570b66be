//! Processes are killed: between every two steps, and at random.

use std::time::Duration;

use anyhow::Context;

use super::{all_is_accounted_for, load_for};
use crate::support::fleet::{API_FAILPOINTS, ENDPOINT_FAILPOINTS, Fleet};
use crate::support::loader::Loader;
use crate::support::platform::Platform;

/// Gives a process a life for each of the failpoints, at the tenth time and again at the second.
fn dies_at_each_of(name: &str, failpoints: &[&str]) -> anyhow::Result<()> {
    let mut fleet = Fleet::usual(Platform::idle()?)?;
    let loader = Loader::start(&fleet, 40);
    let lives = [10, 2].into_iter().flat_map(|time| failpoints.iter().map(move |point| format!("{point}:kill:{time}")));
    fleet.arm(name, lives)?;
    fleet.until_lives_are_spent()?;
    load_for(&mut fleet, &loader, 60)?;
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken)
}

#[test]
fn an_api_process_dies_between_every_two_steps() -> anyhow::Result<()> {
    dies_at_each_of("api1", &API_FAILPOINTS)
}

#[test]
fn an_endpoint_dies_between_every_two_steps() -> anyhow::Result<()> {
    dies_at_each_of("console1", &ENDPOINT_FAILPOINTS)
}

/// Kills one of these again and again, after a random time each.
fn killed_at_random(names: &[&str], seed: u64) -> anyhow::Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut fleet = Fleet::with_workers(Platform::idle()?)?;
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
fn workers_die_at_any_time() -> anyhow::Result<()> {
    killed_at_random(&["worker1", "worker2"], 5)
}

#[test]
fn endpoints_die_at_any_time() -> anyhow::Result<()> {
    killed_at_random(&["console1", "console2"], 4)
}
