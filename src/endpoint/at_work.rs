//! The tasks that an agent performs at the moment, and those that its stop has ended: for cancels, and for whoever waits for a stop.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::domain::{EndpointName, TaskId, TaskType};

/// A task that runs, or did when the agent was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningTask {
    /// The task.
    pub id: TaskId,
    /// Its type.
    pub task_type: TaskType,
    /// Who performs it.
    pub endpoint: EndpointName,
    /// Whether a stop waits for it however long it takes.
    pub waited_for: bool,
}

/// What runs. Outlives the agent, so that it can be asked what came of a stop.
#[derive(Debug, Default)]
pub(super) struct AtWork {
    tasks: Mutex<HashMap<TaskId, (RunningTask, CancellationToken)>>,
    stopped: Mutex<Vec<RunningTask>>,
}

impl AtWork {
    /// A task begins; answers what cancels it.
    pub(super) fn begin(&self, task: RunningTask) -> CancellationToken {
        let canceled = CancellationToken::new();
        self.lock().insert(task.id, (task, canceled.clone()));
        canceled
    }

    /// A task has ended; `by_stop` when it was the stop that ended it.
    pub(super) fn end(&self, id: TaskId, by_stop: bool) {
        if let Some((task, _)) = self.lock().remove(&id)
            && by_stop
        {
            self.stopped.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        }
    }

    /// What cancels a task, if it runs.
    pub(super) fn canceler(&self, id: TaskId) -> Option<CancellationToken> {
        self.lock().get(&id).map(|(_, canceled)| canceled.clone())
    }

    /// The ids of the tasks that run now.
    pub(super) fn ids(&self) -> Vec<TaskId> {
        self.lock().keys().copied().collect()
    }

    /// The tasks that run now.
    pub(super) fn running(&self) -> Vec<RunningTask> {
        self.lock().values().map(|(task, _)| task.clone()).collect()
    }

    /// The tasks that the stop has ended.
    pub(super) fn stopped(&self) -> Vec<RunningTask> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, (RunningTask, CancellationToken)>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
