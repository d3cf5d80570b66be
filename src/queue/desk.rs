//! Workers that wait at this process for tasks over HTTP, and are woken when there is one for them. A hint and no more: another
//! process may have given them a task, so whoever waits also looks from time to time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::domain::EndpointName;

/// Who waits; clones are the same list. Bounded by the number of waiting requests.
#[derive(Debug, Clone, Default)]
pub struct Desk {
    waiting: Arc<Mutex<HashMap<EndpointName, watch::Sender<()>>>>,
}

impl Desk {
    /// Begins to wait: from now on no call is missed. Look for tasks after this, not before.
    pub fn wait(&self, worker: &EndpointName) -> Waiting {
        let called = self.lock().entry(worker.clone()).or_insert_with(|| watch::channel(()).0).subscribe();
        Waiting { worker: worker.clone(), called, desk: self.clone() }
    }

    /// Wakes a worker that waits.
    pub fn call(&self, worker: &EndpointName) {
        if let Some(waiting) = self.lock().get(worker) {
            waiting.send_replace(());
        }
    }

    /// Nothing panics while the lock is held; were it to happen, the map is whole all the same.
    fn lock(&self) -> MutexGuard<'_, HashMap<EndpointName, watch::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker that waits.
#[derive(Debug)]
pub struct Waiting {
    worker: EndpointName,
    called: watch::Receiver<()>,
    desk: Desk,
}

impl Waiting {
    /// Waits for the next call.
    pub async fn called(&mut self) {
        // The sender lives as long as this does.
        let _ = self.called.changed().await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiting = self.desk.lock();
        if waiting.get(&self.worker).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiting.remove(&self.worker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn wakes_the_one_that_is_called_and_forgets_who_leaves() {
        let desk = Desk::default();
        let [one, other] = ["a", "b"].map(|name| name.parse().expect("a name"));
        let (mut first, mut second) = (desk.wait(&one), desk.wait(&other));
        desk.call(&one);
        first.called().await;
        assert!(second.called().now_or_never().is_none());
        drop(first);
        assert_eq!(desk.lock().len(), 1);
    }
}
