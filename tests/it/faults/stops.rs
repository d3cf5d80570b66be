//! Processes are told to stop while handlers run that take longer than they may.

use std::time::Duration;

use rustix::process::Signal;

use super::{all_is_accounted_for, load_for};
use crate::support::fleet::Fleet;
use crate::support::loader::Loader;
use crate::support::platform::Platform;

/// A terminal that is closed, a logrotate that means another program: nothing runs on unwatched, and nothing
/// twice.
#[test]
fn a_hang_up_costs_nothing() -> anyhow::Result<()> {
    let mut fleet = Fleet::with_workers(Platform::idle()?)?;
    let loader = Loader::start(&fleet, 20);
    for name in ["console1", "worker1", "api1"] {
        load_for(&mut fleet, &loader, 30)?;
        fleet.ask(name, Signal::HUP)?;
        // Not longer than this process takes to stop, if that is what it does.
        fleet.until_left_or(name, Duration::from_secs(10))?;
    }
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken)
}

/// Tells these to stop, one after the other, and starts each again.
fn stop_one_after_the_other(names: &[&str]) -> anyhow::Result<()> {
    let mut fleet = Fleet::with_queue(Platform::idle()?)?.with_short_stop()?.with_processes()?;
    let loader = Loader::start(&fleet, 20);
    loader.long(true);
    for name in names {
        load_for(&mut fleet, &loader, 40)?;
        fleet.ask(name, Signal::TERM)?;
        fleet.until_left(name)?;
    }
    loader.long(false);
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken)
}

#[test]
fn a_handler_that_outlives_the_stop_of_its_endpoint_begins_once_an_attempt() -> anyhow::Result<()> {
    stop_one_after_the_other(&["console1", "console1"])
}

#[test]
fn a_handler_that_outlives_the_stop_of_its_worker_begins_once_an_attempt() -> anyhow::Result<()> {
    stop_one_after_the_other(&["worker1", "worker2"])
}
