//! Who in this process waits for which task to end.
//!
//! Owns one entry for each task that somebody waits for now; it goes when the task ends or the last waiter leaves, so
//! memory is bounded by the number of waiting requests. A hint and no more: a task may have been collected by another
//! process, so whoever waits also looks from time to time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::domain::{TaskId, TaskStatus};

/// A shared list of who waits; clones are the same list.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// A sender is never used to send: that it is dropped says that the task has ended.
    waiting: Arc<Mutex<HashMap<TaskId, watch::Sender<()>>>>,
}

impl Watch {
    /// Starts to wait: from now on [`Self::moved`] is not missed. Look at the task after this, not before.
    pub fn subscribe(&self, id: TaskId) -> Waiter {
        let ended = match self.lock().entry(id) {
            Entry::Occupied(entry) => entry.get().subscribe(),
            Entry::Vacant(entry) => entry.insert(watch::channel(()).0).subscribe(),
        };
        Waiter { id, ended: Some(ended), watch: self.clone() }
    }

    /// Wakes all who wait for one of these tasks that is final now.
    pub fn moved(&self, moved: &[(TaskId, TaskStatus)]) {
        let mut waiting = self.lock();
        for (id, _) in moved.iter().filter(|(_, status)| status.is_final()) {
            waiting.remove(id);
        }
    }

    /// How many tasks are waited for.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nothing panics while the lock is held; were it to happen, the map is whole all the same.
    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, watch::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for one task to end.
#[derive(Debug)]
pub struct Waiter {
    id: TaskId,
    ended: Option<watch::Receiver<()>>,
    watch: Watch,
}

impl Waiter {
    /// Completes once the task has ended, at once if it has ended since [`Watch::subscribe`]. May be dropped and called again.
    pub async fn ended(&mut self) {
        if let Some(ended) = &mut self.ended {
            while ended.changed().await.is_ok() {}
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.watch.lock();
        // First, and under the lock: the count below is what decides.
        self.ended = None;
        if let Entry::Occupied(entry) = waiting.entry(self.id)
            && entry.get().receiver_count() == 0
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn wakes_all_who_wait_and_nobody_else() {
        let watch = Watch::default();
        let (id, other) = (TaskId::new(), TaskId::new());
        let (mut one, mut two, mut third) = (watch.subscribe(id), watch.subscribe(id), watch.subscribe(other));
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
}
