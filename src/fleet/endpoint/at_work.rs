//! The tasks that an agent performs at the moment, and those that its stop has ended: for cancels, and for
//! whoever waits for a stop.

use std::collections::{HashMap, HashSet};
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
    tasks: Mutex<Tasks>,
    stopped: Mutex<Vec<RunningTask>>,
}

/// Under one lock: a task is held back or begins, never both.
#[derive(Debug, Default)]
struct Tasks {
    running: HashMap<TaskId, (RunningTask, CancellationToken)>,
    held: HashSet<TaskId>,
}

impl AtWork {
    /// A task begins; answers what cancels it. None when it is held back: then it does not begin.
    pub(super) fn begin(&self, task: RunningTask) -> Option<CancellationToken> {
        let mut tasks = self.lock();
        if tasks.held.contains(&task.id) {
            return None;
        }
        let canceled = CancellationToken::new();
        tasks.running.insert(task.id, (task, canceled.clone()));
        Some(canceled)
    }

    /// Holds a task back until it is let go. Answers whether it is: one that runs is not.
    pub(super) fn hold_back(&self, id: TaskId) -> bool {
        let mut tasks = self.lock();
        let waits = !tasks.running.contains_key(&id);
        if waits {
            tasks.held.insert(id);
        }
        waits
    }

    /// Holds a task back no more.
    pub(super) fn let_go(&self, id: TaskId) {
        self.lock().held.remove(&id);
    }

    /// A task has ended; `by_stop` when it was the stop that ended it.
    pub(super) fn end(&self, id: TaskId, by_stop: bool) {
        if let Some((task, _)) = self.lock().running.remove(&id)
            && by_stop
        {
            self.stopped.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        }
    }

    /// Cancels a task, if it runs. Answers whether it does: then it finds out before it has ended here.
    pub(super) fn cancel(&self, id: TaskId) -> bool {
        // Under the lock. One that ended in between would not find out, and the caller would think that it
        // has: nobody would report the cancel.
        let tasks = self.lock();
        let running = tasks.running.get(&id);
        running.inspect(|(_, canceled)| canceled.cancel()).is_some()
    }

    /// Whether a task runs now.
    pub(super) fn runs(&self, id: TaskId) -> bool {
        self.lock().running.contains_key(&id)
    }

    /// The ids of the tasks that run now.
    pub(super) fn ids(&self) -> Vec<TaskId> {
        self.lock().running.keys().copied().collect()
    }

    /// The tasks that run now.
    pub(super) fn running(&self) -> Vec<RunningTask> {
        self.lock().running.values().map(|(task, _)| task.clone()).collect()
    }

    /// The tasks that the stop has ended.
    pub(super) fn stopped(&self) -> Vec<RunningTask> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
