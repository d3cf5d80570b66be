//! From a submission to the broker's confirm: accept, freeze, mark as published.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::batch::sorted;
use super::each;
use super::{QueueRule, Result, Store};
use crate::domain::{EndpointName, NewTask, TaskId, Timestamp};

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// Recorded now.
    New,
    /// Recorded now, and given to this worker.
    Given(EndpointName),
    /// The type has a task of this identifier already.
    Existing {
        /// That task.
        id: TaskId,
        /// Whether its digest is the same, so that this was a repeat.
        same: bool,
    },
}

/// The set of endpoints that must answer a task.
#[derive(Debug, Clone)]
pub struct Freeze {
    /// Which task.
    pub id: TaskId,
    /// Who must answer.
    pub expected: Vec<EndpointName>,
}

impl Store {
    /// Records submissions, all in one statement; one answer each, in order. New tasks are due at `due_at`: if whoever
    /// accepted them dies before publishing, another process takes over then. Two equal submissions in one call: the
    /// second is `Existing`. Tasks with a place go into the queue of their type, and take the place of a waiting one with the same
    /// unique key, which is canceled; one that was queued after another yields to such a one instead.
    pub async fn accept(&self, tasks: &[NewTask], due_at: Timestamp, retention: Duration) -> Result<Vec<Accepted>> {
        self.accept_and_give(tasks, &[], due_at, retention).await
    }

    /// The same; those that go into one of these queues, which nothing holds back and nobody waits before, are given to workers that have
    /// room: as by [`Self::give`], to be asked for again at `due_at`.
    pub async fn accept_and_give(
        &self,
        tasks: &[NewTask],
        rules: &[QueueRule],
        due_at: Timestamp,
        retention: Duration,
    ) -> Result<Vec<Accepted>> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        self.fits(tasks.iter().map(|task| weight(&task)))?;
        let (tasks, rules): (Arc<[NewTask]>, Arc<[QueueRule]>) = (tasks.into(), rules.into());
        self.transact(each!(submit::accept(tasks.clone(), rules.clone(), due_at, retention))).await
    }

    /// Freezes the expected sets of tasks whose set is not frozen yet: writes the rows, `EXPECTED`, and the count. Answers
    /// the ids frozen by *this* call; a task that is final, gone or frozen already is left out. Large calls take several
    /// transactions; after an error some may be frozen, and are found as due when their lease runs out.
    pub async fn freeze(&self, sets: &[Freeze], now: Timestamp) -> Result<Vec<TaskId>> {
        let mut rest = sets.to_vec();
        rest.sort_by_key(|set| set.id);
        let mut frozen = Vec::new();
        while !rest.is_empty() {
            let batch: Arc<[Freeze]> = rest.as_slice().into();
            let (some, done) = self.transact(each!(submit::freeze(batch.clone(), now))).await?;
            frozen.extend(some);
            rest.drain(..done);
        }
        Ok(frozen)
    }

    /// Notes that the broker has confirmed these tasks: `CREATED` becomes `SENT`, due at its receive deadline; tasks that
    /// have moved on keep their status and learn when they were published. Returns how many became `SENT`.
    pub async fn mark_published(&self, ids: &[TaskId], now: Timestamp) -> Result<u64> {
        let ids = sorted(ids);
        self.transact(each!(submit::mark_published(ids.clone(), now))).await
    }
}

/// About how many bytes a task takes in a statement.
pub(super) fn weight(task: &&NewTask) -> usize {
    let endpoints: usize = task.endpoints.iter().map(|endpoint| endpoint.as_str().len() + 3).sum();
    256 + task.identifier.as_str().len() + task.payload.get().len() + endpoints
}
