//! An API process is frozen while it holds reports and presence, and journals are short of room meanwhile.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::{all_is_accounted_for, load_for};
use crate::support::fleet::Fleet;
use crate::support::loader::Loader;
use crate::support::platform::Platform;
use crate::support::tap::Tap;

/// Two API processes, and endpoints whose journals soon are short of room.
fn with_small_journals() -> anyhow::Result<Fleet> {
    let mut fleet = Fleet::new(Platform::idle()?)?;
    for name in ["api1", "api2"] {
        fleet.start_api(name, &[])?;
    }
    let small = [
        ("TASKER_ENDPOINT__JOURNAL_LIMIT", "1MiB".to_owned()),
        ("TASKER_ENDPOINT__OUTPUT_LIMIT", "1MiB".to_owned()),
    ];
    for name in ["console1", "console2"] {
        fleet.start_endpoint(name, &small)?;
    }
    fleet.ready()?;
    Ok(fleet)
}

/// What the frozen process holds looks lost, so that the other one asks for it: of endpoints that have ended
/// it long ago.
#[test]
fn what_a_frozen_process_holds_is_asked_for_and_does_not_run_again() -> anyhow::Result<()> {
    let mut fleet = with_small_journals()?;
    let loader = Loader::start(&fleet, 30);
    loader.large(true);
    load_for(&mut fleet, &loader, 30)?;
    let before = fleet.asks();
    fleet.freeze("api1")?;
    fleet.until("the other asks", |fleet| {
        let asked = fleet.asks().saturating_sub(before);
        ensure!(asked >= 100, "{asked} asked for");
        Ok(())
    })?;
    fleet.thaw("api1")?;
    loader.large(false);
    load_for(&mut fleet, &loader, 30)?;
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken)
}

/// The presence that the frozen process holds is missing in the ledger, so that living workers look gone:
/// their tasks must not be given to others. Each is frozen for twice the time after which a silent worker is
/// gone.
#[test]
fn workers_keep_their_tasks_while_a_process_that_reads_presence_is_frozen() -> anyhow::Result<()> {
    let mut fleet = Fleet::with_workers(Platform::idle()?)?;
    let loader = Loader::start(&fleet, 30);
    for name in ["api1", "api2"] {
        load_for(&mut fleet, &loader, 30)?;
        fleet.freeze(name)?;
        fleet.pass(Duration::from_secs(6))?;
        fleet.thaw(name)?;
    }
    load_for(&mut fleet, &loader, 30)?;
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken)
}

#[test]
fn repeats_of_what_was_forgotten_for_want_of_room_do_not_run_again() -> anyhow::Result<()> {
    let mut fleet = with_small_journals()?;
    let mut tap = fleet.platform.block_on(Tap::of(&fleet, 6))?;
    let loader = Loader::start(&fleet, 30);
    loader.large(true);
    load_for(&mut fleet, &loader, 200)?;
    loader.large(false);
    let mut taken = loader.finish(&mut fleet)?;
    crate::support::oracle::judge(&mut fleet, &taken).context("before the repeats")?;
    fleet.platform.block_on(tap.repeat(1))?;
    // Goes through the same queues: when it is done, all that was put there before has been taken.
    let loader = Loader::start(&fleet, 30);
    load_for(&mut fleet, &loader, 12)?;
    taken.extend(loader.finish(&mut fleet)?);
    all_is_accounted_for(fleet, &taken)
}
