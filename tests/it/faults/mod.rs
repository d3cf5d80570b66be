//! Everything is broken, one thing at a time, while tasks keep coming; afterwards the whole ledger is judged.
//!
//! The promise: every task that was answered with 201 is in the ledger with every expected endpoint accounted
//! for, and no attempt runs twice. `support/loader.rs` submits and remembers, `support/fleet.rs` starts again
//! what was killed, `support/oracle.rs` judges. `cargo xtask soak` does the same at random for as long as one
//! likes.

mod clocks;
mod cluster;
mod frozen;
mod judge;
mod links;
mod migration;
mod processes;
mod refusals;
mod repeats;
mod servers;
mod stops;

use std::collections::BTreeMap;

use anyhow::ensure;

use crate::support::fleet::Fleet;
use crate::support::loader::{Loader, Taken};
use crate::support::oracle;

/// The variable that leads a process to another port of the broker.
const BROKER: &str = "TASKER_MANAGER__MESSAGE_QUEUE__PORT";

/// The end of each of these tests.
fn all_is_accounted_for(mut fleet: Fleet, taken: &BTreeMap<String, Taken>) -> anyhow::Result<()> {
    let verdict = oracle::judge(&mut fleet, taken)?;
    eprintln!("{verdict}; at least {} asked for again; killed: {:?}", fleet.asks(), fleet.kills());
    oracle::nothing_is_left(&mut fleet)
}

/// Waits until so many more tasks have been taken.
fn load_for(fleet: &mut Fleet, loader: &Loader, tasks: u64) -> anyhow::Result<()> {
    let goal = loader.taken() + tasks;
    fleet.until("tasks are taken", |_| {
        ensure!(loader.taken() >= goal, "{} of {goal}", loader.taken());
        Ok(())
    })
}
