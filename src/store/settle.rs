//! What happens to tasks apart from reports: claiming, settling, cancelling, forgetting.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::batch::sorted;
use super::each;
use super::{Result, Store};
use crate::domain::{EndpointName, Task, TaskEvent, TaskId, TaskStatus, Timestamp};

/// A task that somebody has to look at, claimed until the lease runs out.
#[derive(Debug, Clone)]
pub struct DueTask {
    /// The task as it stands.
    pub task: Task,
    /// Whether its expected set has been frozen.
    pub frozen: bool,
    /// How often it was asked for again.
    pub asks: u32,
}

/// What to do with a due task, decided by the reconciler.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// Which task.
    pub id: TaskId,
    /// What happened to it, if anything did. [`TaskEvent::Expire`] also gives up its open rows.
    pub event: Option<TaskEvent>,
    /// How often it has been asked for again by now.
    pub asks: u32,
    /// When to look again. Ignored if the task is final afterwards: then it is when it may be forgotten.
    pub due_at: Timestamp,
}

/// What a cancel did.
#[derive(Debug, Clone)]
pub struct CancelOutcome {
    /// The task afterwards.
    pub task: Task,
    /// Whether this call ended it; false for a repeat.
    pub changed: bool,
    /// Whether it had ended otherwise (done, expired), so that there was nothing to cancel.
    pub refused: bool,
    /// Endpoints that have not finished, or to which it may be on its way: they must be told to stop it or never to start it.
    pub to_stop: Vec<EndpointName>,
}

impl Store {
    /// Claims tasks that are due, oldest first, by moving their due time to `lease_until`; rows locked by others are
    /// skipped, so processes never wait for each other. Bounded and served by an index.
    pub async fn claim_due(&self, now: Timestamp, lease_until: Timestamp, limit: u32) -> Result<Vec<DueTask>> {
        self.transact(each!(settle::claim_due(now, lease_until, limit))).await
    }

    /// Writes what the reconciler decided, guarded by the states found under the lock. Returns the tasks whose status
    /// changed. `retention` says how long a final task is kept. Of the rows given up at the end of a task, those whose
    /// endpoint has received it and is not there with the same memory fail as lost ([`errnr::LOST`](crate::domain::errnr::LOST)), the others expire.
    pub async fn settle(&self, settlements: &[Settlement], now: Timestamp, retention: Duration) -> Result<Vec<(TaskId, TaskStatus)>> {
        let mut rest = settlements.to_vec();
        rest.sort_by_key(|settlement| settlement.id);
        let mut moved = Vec::new();
        while !rest.is_empty() {
            let batch: Arc<[Settlement]> = rest.as_slice().into();
            let (some, done) = self.transact(each!(settle::settle(batch.clone(), now, retention))).await?;
            moved.extend(some);
            rest.drain(..done);
        }
        Ok(moved)
    }

    /// Removes final tasks with their responses.
    pub async fn forget(&self, ids: &[TaskId]) -> Result<u64> {
        let mut forgotten = 0;
        let mut rest = sorted(ids).to_vec();
        while !rest.is_empty() {
            let batch: Arc<[TaskId]> = rest.as_slice().into();
            let (some, done) = self.transact(each!(settle::forget(batch.clone()))).await?;
            forgotten += some;
            rest.drain(..done);
        }
        Ok(forgotten)
    }

    /// Cancels a task: the row first, whoever runs it is told by the caller. Responses nobody has received are withdrawn at
    /// once; those that were received stay open until their endpoints report. `None` when there is no such task.
    pub async fn cancel(&self, id: TaskId, now: Timestamp, retention: Duration) -> Result<Option<CancelOutcome>> {
        self.transact(each!(settle::cancel(id, now, retention))).await
    }
}
