//! Every message is delivered several times more and in any order, while tasks run and again after they ended.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, ensure};

use super::{all_is_accounted_for, load_for};
use crate::support::fleet::{Fleet, TYPE};
use crate::support::loader::{Loader, marks};
use crate::support::oracle;
use crate::support::platform::Platform;
use crate::support::queues::Queues;

const SEED: u64 = 5;

/// Copies of all that went through the broker: by queue, every body that came to it.
struct Tap {
    queues: Queues,
    seen: BTreeMap<String, Vec<Vec<u8>>>,
    random: fastrand::Rng,
}

impl Tap {
    async fn of(fleet: &Fleet) -> anyhow::Result<Self> {
        let queues = Queues::of(&fleet.platform).await?;
        let (all, named) = (format!("it.{TYPE}"), format!("it.{TYPE}.to"));
        let mut seen = BTreeMap::new();
        for name in fleet.endpoints() {
            let queue = format!("it.{TYPE}.{name}");
            queues.tap(&tap(&queue), &[(&all, ""), (&named, &name)]).await?;
            seen.insert(queue, Vec::new());
        }
        queues.tap(&tap("it.responses"), &[("it.responses", "")]).await?;
        seen.insert("it.responses".to_owned(), Vec::new());
        Ok(Self { queues, seen, random: fastrand::Rng::with_seed(SEED) })
    }

    /// Puts everything so far into its queue again, so many times, in any order.
    async fn repeat(&mut self, times: usize) -> anyhow::Result<()> {
        let mut sends = Vec::new();
        for (queue, bodies) in &mut self.seen {
            bodies.extend(self.queues.drain(&tap(queue)).await?);
            sends.extend(bodies.iter().flat_map(|body| std::iter::repeat_n((queue.as_str(), body.as_slice()), times)));
        }
        self.random.shuffle(&mut sends);
        for (queue, body) in sends {
            self.queues.put(queue, body).await?;
        }
        Ok(())
    }
}

fn tap(queue: &str) -> String {
    format!("{queue}.tap")
}

#[test]
fn messages_come_many_times_and_in_any_order() -> anyhow::Result<()> {
    let mut fleet = Fleet::usual(Platform::idle()?)?;
    let mut tap = fleet.platform.block_on(Tap::of(&fleet))?;
    let loader = Loader::start(&fleet, 30);
    for _ in 0..4 {
        load_for(&mut fleet, &loader, 30)?;
        fleet.platform.block_on(tap.repeat(2))?;
    }
    let mut taken = loader.finish(&mut fleet)?;
    oracle::judge(&mut fleet, &taken).with_context(|| format!("seed {SEED}"))?;

    let (before, marked) = (oracle::ledger(&fleet)?, fs::read(marks(&fleet))?);
    fleet.platform.block_on(tap.repeat(3))?;
    // Goes through the same queues: when it is done, all that was put there before has been taken.
    let loader = Loader::start(&fleet, 30);
    load_for(&mut fleet, &loader, 12)?;
    let last = loader.finish(&mut fleet)?;
    for id in last.values().map(|task| &task.id) {
        fleet.until("the last tasks have ended", |fleet| {
            let (_, body) = fleet.get(&format!("/{TYPE}/{id}?wait=1s"))?;
            ensure!(body["task"]["status"] == "DONE", "{body}");
            Ok(())
        })?;
    }
    let after = oracle::ledger(&fleet)?;
    ensure!(after.ends_with(&before), "repeats changed the ledger");
    ensure!(fs::read(marks(&fleet))?.starts_with(&marked), "marks were lost");
    taken.extend(last);
    all_is_accounted_for(fleet, &taken).with_context(|| format!("seed {SEED}"))
}
