//! What watchers work with: the ledger they read, and the hub in which they tell.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::hub::Hub;
use super::watched::Watched;
use crate::clock::Clock;
use crate::domain::TaskType;
use crate::store::{SharedStore, StoreError};
use crate::telemetry::SharedMetrics;
use crate::touched::Touched;

/// What watchers work with.
pub(super) struct Board {
    pub store: SharedStore,
    pub touched: Touched,
    pub clock: Clock,
    pub metrics: SharedMetrics,
    /// The types with a work queue.
    pub queues: Vec<TaskType>,
    pub hub: Mutex<Hub>,
}

impl Board {
    /// Nothing panics while the lock is held; were it to happen, the hub is whole all the same.
    pub fn lock(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody has listened to a thing for a while, so that its watcher may end.
    pub fn is_idle(&self, watched: &Watched) -> bool {
        self.lock().forget_idle(watched, Instant::now())
    }

    /// Counts a look at the ledger, and logs one that has failed.
    pub fn note<T>(&self, watched: &Watched, look: Result<T, StoreError>) -> Option<T> {
        let of = match watched {
            Watched::Task(_) => "task",
            Watched::Endpoints => "endpoints",
            Watched::Queues => "queues",
        };
        self.metrics.live_reads.with_label_values(&[of]).inc();
        look.inspect_err(|error| tracing::debug!(%watched, %error, "cannot look at what is watched")).ok()
    }
}

/// An event as it is sent, but for its id and its end.
///
/// # Panics
/// Never: events have string keys and finite numbers.
pub(super) fn event(name: &str, data: &impl serde::Serialize) -> String {
    let data = serde_json::to_string(data).expect("events have string keys and finite numbers");
    format!("event: {name}\ndata: {data}\n")
}
