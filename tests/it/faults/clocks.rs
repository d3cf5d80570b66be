//! The time of day jumps under running processes, and between two lives of an API process.

use anyhow::{Context, ensure};

use super::{all_is_accounted_for, load_for};
use crate::support::clock::Shift;
use crate::support::fleet::Fleet;
use crate::support::loader::Loader;
use crate::support::platform::Platform;

const DAY: i64 = 24 * 3600;

/// The year in the last line of a process's log.
fn year(fleet: &mut Fleet, name: &str) -> anyhow::Result<i32> {
    let log = fleet.process(name)?.log();
    let line = log.lines().last().context("an empty log")?;
    line.get(..4).and_then(|year| year.parse().ok()).with_context(|| line.to_owned())
}

#[test]
fn clocks_jump() -> anyhow::Result<()> {
    let platform = Platform::idle()?;
    let (api, endpoint) = (Shift::new(&platform, "api.clock")?, Shift::new(&platform, "endpoint.clock")?);
    let mut fleet = Fleet::new(platform)?;
    fleet.start_api("api1", &api.environment)?;
    fleet.start_api("api2", &[])?;
    fleet.start_endpoint("console1", &endpoint.environment)?;
    fleet.start_endpoint("console2", &[])?;
    fleet.ready()?;
    let today = year(&mut fleet, "api1")?;
    let loader = Loader::start(&fleet, 30);
    // Under running processes, and under an API process that starts: it goes by the database's clock.
    for jump in [800 * DAY, -800 * DAY, 0] {
        api.set(jump)?;
        endpoint.set(jump)?;
        load_for(&mut fleet, &loader, 20)?;
        fleet.kill("api1")?;
        load_for(&mut fleet, &loader, 20)?;
        let there = year(&mut fleet, "api1")? - today;
        ensure!(jump.signum() == i64::from(there.signum()), "api1 is {there} years from here after a jump of {jump} s");
    }
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken)
}
