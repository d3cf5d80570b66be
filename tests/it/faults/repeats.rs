//! Every message is delivered several times more and in any order, while tasks run and again after they
//! ended.

use std::fs;

use anyhow::{Context, ensure};

use super::{all_is_accounted_for, load_for};
use crate::support::fleet::Fleet;
use crate::support::loader::{Loader, marks};
use crate::support::oracle;
use crate::support::platform::Platform;
use crate::support::tap::Tap;

const SEED: u64 = 5;

#[test]
fn messages_come_many_times_and_in_any_order() -> anyhow::Result<()> {
    let mut fleet = Fleet::usual(Platform::idle()?)?;
    let mut tap = fleet.platform.block_on(Tap::of(&fleet, SEED))?;
    let loader = Loader::start(&fleet, 30);
    for _ in 0..4 {
        load_for(&mut fleet, &loader, 30)?;
        fleet.platform.block_on(tap.repeat(2))?;
    }
    let mut taken = loader.finish(&mut fleet)?;
    oracle::judge(&mut fleet, &taken).with_context(|| format!("seed {SEED}"))?;

    let (before, marked) = (oracle::ledger(&fleet, "")?, fs::read(marks(&fleet))?);
    fleet.platform.block_on(tap.repeat(3))?;
    // Goes through the same queues: when it is done, all that was put there before has been taken.
    let loader = Loader::start(&fleet, 30);
    load_for(&mut fleet, &loader, 12)?;
    let last = loader.finish(&mut fleet)?;
    oracle::judge_one(&mut fleet, &last)?;
    let after = oracle::ledger(&fleet, "")?;
    ensure!(after.ends_with(&before), "repeats changed the ledger");
    ensure!(fs::read(marks(&fleet))?.starts_with(&marked), "marks were lost");
    taken.extend(last);
    all_is_accounted_for(fleet, &taken).with_context(|| format!("seed {SEED}"))
}
