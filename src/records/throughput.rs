//! What becomes of tasks, by minute, for charts: counted where tasks move, kept in the ledger.
//!
//! Every process counts what it moves itself and adds that to the ledger every few seconds, so the
//! transactions that move tasks never meet in one row. What a process has counted since is lost when it is
//! killed: these numbers are for people who look at days, not for accounts; `tasker verify` has those.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::{Grain, TaskType, Throughput, Timestamp};
use crate::service::Running;
use crate::store::{OfMinute, SharedStore};

/// How often the counts are added to the ledger.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// How often old spans are removed.
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// Minutes of types that wait for a database that is away, at most: beyond, the oldest are lost.
const WAITING: usize = 20_000;

/// Counts what becomes of tasks. Clones are the same meter.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Mutex<BTreeMap<(Timestamp, TaskType), Throughput>>>);

impl Meter {
    /// Counts what became of tasks of these types now.
    pub fn count(&self, now: Timestamp, of: impl IntoIterator<Item = (TaskType, Throughput)>) {
        let minute = Grain::Minute.beginning(now);
        let mut counted = self.lock();
        for (task_type, more) in of {
            *counted.entry((minute, task_type)).or_default() += more;
        }
    }

    fn take(&self) -> Vec<OfMinute> {
        std::mem::take(&mut *self.lock())
            .into_iter()
            .map(|((minute, task_type), of)| (minute, task_type, of))
            .collect()
    }

    fn put_back(&self, minutes: Vec<OfMinute>) {
        let mut counted = self.lock();
        for (minute, task_type, of) in minutes {
            *counted.entry((minute, task_type)).or_default() += of;
        }
        while counted.len() > WAITING {
            counted.pop_first();
        }
    }

    /// Nothing panics while the lock is held; were it to happen, the map is whole all the same.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Timestamp, TaskType), Throughput>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The loop that adds the counts to the ledger.
#[derive(Debug)]
pub struct Recorder {
    meter: Meter,
    store: SharedStore,
    clock: Clock,
}

impl Recorder {
    /// A recorder of this meter.
    pub const fn new(meter: Meter, store: SharedStore, clock: Clock) -> Self {
        Self { meter, store, clock }
    }

    /// Adds the counts until told to stop; then once more.
    pub fn run(self, stop: CancellationToken) -> Running {
        Box::pin(async move {
            let mut forget_at = self.clock.now();
            loop {
                let stopped = stop.run_until_cancelled(tokio::time::sleep(WRITE_EVERY)).await.is_none();
                self.write().await;
                if stopped {
                    return;
                }
                let now = self.clock.now();
                if now >= forget_at {
                    match self.store.forget_throughput(now).await {
                        Ok(true) => {}
                        Ok(false) => forget_at = now.after(FORGET_EVERY),
                        Err(error) => tracing::debug!(%error, "could not remove old throughput"),
                    }
                }
            }
        })
    }

    async fn write(&self) {
        let minutes = self.meter.take();
        if let Err(error) = self.store.add_throughput(&minutes).await {
            tracing::debug!(%error, "could not write throughput");
            self.meter.put_back(minutes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_added_up_and_bounded() {
        let (meter, at) = (Meter::default(), |minute: i64| Timestamp::from_micros(minute * 60_000_000 + 1));
        let worker: TaskType = "worker".parse().expect("a type");
        for minute in [1, 1, 2] {
            meter.count(at(minute), [(worker.clone(), Throughput::ACCEPTED)]);
        }
        let taken = meter.take();
        assert_eq!(taken.iter().map(|(_, _, of)| of.accepted).collect::<Vec<_>>(), [2, 1]);
        assert!(meter.take().is_empty());
        meter.count(at(2), [(worker.clone(), Throughput::ACCEPTED)]);
        meter.put_back(taken);
        assert_eq!(meter.take().iter().map(|(_, _, of)| of.accepted).collect::<Vec<_>>(), [2, 2]);
        let many = (0..WAITING as i64 + 5)
            .map(|minute| (at(minute), worker.clone(), Throughput::ACCEPTED))
            .collect();
        meter.put_back(many);
        let kept = meter.take();
        assert_eq!((kept.len(), kept[0].0), (WAITING, at(5)));
    }
}
