//! What is said of queues, and what became of the tasks in them.

use super::state::QueueState;
use crate::domain::{EndpointName, Task, TaskId, TaskStatus, TaskType, Throughput, Timestamp, TokenName};

/// What holds for the queue of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRule {
    /// The type.
    pub task_type: TaskType,
    /// Attempts a task has, those included that are lost with their worker.
    pub attempts: u32,
    /// Tasks that may run at the same time.
    pub max_running: Option<u32>,
    /// Tasks with the same limit key that may run at the same time; none when the type has no such key.
    pub max_per_key: Option<u32>,
}

/// A task that a worker was given.
#[derive(Debug, Clone)]
pub struct Given {
    /// The task.
    pub task: Task,
    /// Who is to perform it.
    pub worker: EndpointName,
}

/// What a look at the queues did.
#[derive(Debug, Default)]
pub struct Turns {
    /// Tasks whose turn it was.
    pub given: Vec<Given>,
    /// Tasks whose time was over before their turn came: to be settled as expired.
    pub expired: Vec<TaskId>,
    /// Whether there may be more to do at once.
    pub more: bool,
}

/// What became of tasks whose worker is gone.
#[derive(Debug, Default)]
pub struct TakenBack {
    /// Tasks that wait again.
    pub returned: u64,
    /// Tasks whose status changed.
    pub moved: Vec<(TaskId, TaskStatus)>,
    /// What became of those of them that ended, by type.
    pub ended: Vec<(TaskType, Throughput)>,
}

/// How the queue of a type stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRecord {
    /// The type.
    pub task_type: TaskType,
    /// Since when no task of it is given to workers.
    pub paused_at: Option<Timestamp>,
    /// The token with which somebody said so; none without one.
    pub paused_by: Option<TokenName>,
    /// Tasks that wait for a worker.
    pub waiting: u64,
    /// Tasks that wait until fewer of their key run.
    pub held: u64,
    /// Tasks that are not to begin yet.
    pub delayed: u64,
    /// Tasks that workers have.
    pub running: u64,
    /// Since when the longest waiting one waits.
    pub oldest: Option<Timestamp>,
}

impl QueueRecord {
    pub(super) fn empty(task_type: &TaskType) -> Self {
        Self {
            task_type: task_type.clone(),
            paused_at: None,
            paused_by: None,
            waiting: 0,
            held: 0,
            delayed: 0,
            running: 0,
            oldest: None,
        }
    }

    /// Adds tasks of a state of the queue.
    pub(super) fn count(&mut self, state: QueueState, count: u64, oldest: Timestamp) {
        match state {
            QueueState::Ready => (self.waiting, self.oldest) = (count, Some(oldest)),
            QueueState::Held => self.held = count,
            QueueState::Delayed => self.delayed = count,
            QueueState::Given => self.running = count,
            // They have ended; only their successor is still to be queued.
            QueueState::Succeeded => {}
        }
    }
}
