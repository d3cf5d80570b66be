//! The tasks of one type that wait for their turn.
//!
//! The journal knows them all; here are their ids in order, and in full only the next few, so that a long
//! queue costs little memory and a short one no reading back.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::journal::Deadline;
use crate::config::TypePolicy;
use crate::domain::{AttemptError, TaskId, TaskMessage, Timestamp};

/// Tasks kept in full at most, and up to which size of payload.
const KEPT: usize = 64;
const KEPT_BYTES: usize = 64 << 10;

/// A task ready to be run.
#[derive(Debug, Clone)]
pub(super) struct Assignment {
    pub(super) task: TaskMessage,
    pub(super) expires_at: Timestamp,
    pub(super) attempts: Vec<AttemptError>,
    /// As `expires_at`, by a clock that nothing moves.
    pub(super) deadline: Option<Deadline>,
}

/// A task whose turn has come: in full, or to be read back.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) id: TaskId,
    pub(super) assignment: Option<Assignment>,
}

#[derive(Debug, Default)]
struct Queue {
    ready: VecDeque<Turn>,
    later: BinaryHeap<Reverse<(Instant, TaskId)>>,
}

/// One type's queue and its slots.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) policy: TypePolicy,
    /// Taken before a task is started and given back when its handler has ended.
    pub(super) slots: Arc<Semaphore>,
    queue: Mutex<Queue>,
    wake: Notify,
}

impl Lane {
    /// With slots of its own, as many as its policy says, or with those that it shares with other lanes.
    pub(super) fn new(policy: TypePolicy, shared: Option<Arc<Semaphore>>) -> Self {
        let own = || Arc::new(Semaphore::new(usize::try_from(policy.concurrency.max(1)).unwrap_or(1)));
        let slots = shared.unwrap_or_else(own);
        Self { policy, slots, queue: Mutex::default(), wake: Notify::new() }
    }

    /// Adds a task at the end.
    pub(super) fn push(&self, assignment: Assignment) {
        let mut queue = self.lock();
        let keep = queue.ready.len() < KEPT && assignment.task.work.payload.get().len() <= KEPT_BYTES;
        queue.ready.push_back(Turn { id: assignment.task.work.id, assignment: keep.then_some(assignment) });
        drop(queue);
        self.wake.notify_one();
    }

    /// Adds a task that has to wait.
    pub(super) fn push_at(&self, when: Instant, id: TaskId) {
        self.lock().later.push(Reverse((when, id)));
        self.wake.notify_one();
    }

    /// Takes the next task, if it is anybody's turn. For one caller at a time.
    pub(super) fn next(&self) -> Option<Turn> {
        let mut queue = self.lock();
        // Those that have waited go first: they were here before.
        match queue.later.peek().copied() {
            Some(Reverse((when, id))) if when <= Instant::now() => {
                queue.later.pop();
                Some(Turn { id, assignment: None })
            }
            _ => queue.ready.pop_front(),
        }
    }

    /// Waits until it is somebody's turn.
    pub(super) async fn ready(&self) {
        loop {
            let due = {
                let queue = self.lock();
                match queue.later.peek().copied() {
                    _ if !queue.ready.is_empty() => return,
                    Some(Reverse((when, _))) if when <= Instant::now() => return,
                    later => later.map(|Reverse((when, _))| when),
                }
            };
            match due {
                Some(when) => tokio::select! {
                    () = self.wake.notified() => {}
                    () = sleep_until(when) => {}
                },
                None => self.wake.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
