//! Who in this process waits for what: for a task to end, or, as a worker that fetches its tasks, to be given
//! one.
//!
//! Owns one entry for each thing that somebody waits for now; it goes when that happens or the last waiter
//! leaves, so memory is bounded by the number of waiting requests. A hint and no more: it may have happened
//! by way of another process, so whoever waits also looks from time to time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::domain::{TaskId, TaskStatus};

/// A shared list of who waits; clones are the same list.
#[derive(Debug, Clone)]
pub struct Watch<K = TaskId> {
    /// A sender is never used to send: that it is dropped says that it has happened.
    waiting: Arc<Mutex<HashMap<K, watch::Sender<()>>>>,
}

impl<K> Default for Watch<K> {
    fn default() -> Self {
        Self { waiting: Arc::default() }
    }
}

impl<K: Eq + Hash + Clone> Watch<K> {
    /// Starts to wait: from now on [`Self::wake`] is not missed. Look at what is waited for after this, not
    /// before.
    pub fn subscribe(&self, key: K) -> Waiter<K> {
        let ended = match self.lock().entry(key.clone()) {
            Entry::Occupied(entry) => entry.get().subscribe(),
            Entry::Vacant(entry) => entry.insert(watch::channel(()).0).subscribe(),
        };
        Waiter { key, ended: Some(ended), watch: self.clone() }
    }

    /// Wakes all who wait for one of these.
    pub fn wake<'a>(&self, keys: impl IntoIterator<Item = &'a K>)
    where
        K: 'a,
    {
        let mut waiting = self.lock();
        for key in keys {
            waiting.remove(key);
        }
    }

    /// How many things are waited for.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nothing panics while the lock is held; were it to happen, the map is whole all the same.
    fn lock(&self) -> MutexGuard<'_, HashMap<K, watch::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch<TaskId> {
    /// Wakes all who wait for one of these tasks that is final now.
    pub fn moved(&self, moved: &[(TaskId, TaskStatus)]) {
        self.wake(moved.iter().filter(|(_, status)| status.is_final()).map(|(id, _)| id));
    }
}

/// Waits for one thing to happen.
#[derive(Debug)]
pub struct Waiter<K: Eq + Hash + Clone = TaskId> {
    key: K,
    ended: Option<watch::Receiver<()>>,
    watch: Watch<K>,
}

impl<K: Eq + Hash + Clone> Waiter<K> {
    /// Completes once it has happened, at once if it has since [`Watch::subscribe`]. May be dropped and
    /// called again.
    pub async fn ended(&mut self) {
        if let Some(ended) = &mut self.ended {
            while ended.changed().await.is_ok() {}
        }
    }
}

impl<K: Eq + Hash + Clone> Drop for Waiter<K> {
    fn drop(&mut self) {
        let mut waiting = self.watch.lock();
        // First, and under the lock: the count below is what decides.
        self.ended = None;
        if let Entry::Occupied(entry) = waiting.entry(self.key.clone())
            && entry.get().receiver_count() == 0
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::EndpointName;
    use futures::FutureExt;

    #[tokio::test]
    async fn wakes_all_who_wait_and_nobody_else() {
        let watch = Watch::default();
        let (id, other) = (TaskId::new(), TaskId::new());
        let (mut one, mut two, mut third) =
            (watch.subscribe(id), watch.subscribe(id), watch.subscribe(other));
        assert!(one.ended().now_or_never().is_none());
        watch.moved(&[(id, TaskStatus::Done)]);
        one.ended().await;
        two.ended().await;
        assert!(third.ended().now_or_never().is_none());
    }

    #[tokio::test]
    async fn an_end_before_the_wait_is_not_missed() {
        let watch = Watch::default();
        let id = TaskId::new();
        let mut waiter = watch.subscribe(id);
        watch.moved(&[(id, TaskStatus::Sent)]);
        assert!(waiter.ended().now_or_never().is_none(), "SENT is not the end");
        watch.moved(&[(id, TaskStatus::Done)]);
        waiter.ended().await;
    }

    #[test]
    fn forgets_a_task_when_the_last_waiter_leaves() {
        let watch = Watch::default();
        let id = TaskId::new();
        let (one, two) = (watch.subscribe(id), watch.subscribe(id));
        drop(one);
        assert_eq!(watch.len(), 1);
        drop(two);
        assert!(watch.is_empty());
    }

    #[test]
    fn a_waiter_of_an_ended_task_leaves_a_new_one_alone() {
        let watch = Watch::default();
        let id = TaskId::new();
        let old = watch.subscribe(id);
        watch.moved(&[(id, TaskStatus::Done)]);
        let mut new = watch.subscribe(id);
        drop(old);
        assert_eq!(watch.len(), 1);
        watch.moved(&[(id, TaskStatus::Done)]);
        assert!(new.ended().now_or_never().is_some());
    }

    #[tokio::test]
    async fn wakes_the_worker_that_is_called_and_forgets_who_leaves() {
        let desk: Watch<EndpointName> = Watch::default();
        let [one, other] = ["a", "b"].map(|name| name.parse::<EndpointName>().expect("a name"));
        let (mut first, mut second) = (desk.subscribe(one.clone()), desk.subscribe(other));
        desk.wake([&one]);
        first.ended().await;
        assert!(second.ended().now_or_never().is_none());
        drop(first);
        assert_eq!(desk.len(), 1);
    }
}
