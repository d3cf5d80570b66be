//! Work queues: entering, turns, leaving.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::batch::sorted;
use super::each;
use super::{Result, Store};
use crate::domain::{EndpointName, Task, TaskId, TaskStatus, TaskType, Timestamp};

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
}

/// How the queue of a type stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRecord {
    /// The type.
    pub task_type: TaskType,
    /// Since when no task of it is given to workers.
    pub paused_at: Option<Timestamp>,
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
        Self { task_type: task_type.clone(), paused_at: None, waiting: 0, held: 0, delayed: 0, running: 0, oldest: None }
    }

    /// Adds tasks of a state of the queue, see the migration.
    pub(super) fn count(&mut self, state: u8, count: u64, oldest: Timestamp) {
        match state {
            0 => (self.waiting, self.oldest) = (count, Some(oldest)),
            1 => self.held = count,
            2 => self.delayed = count,
            3 => self.running = count,
            // They have ended; only their successor is still to be queued.
            _ => {}
        }
    }
}

impl Store {
    /// Gives the tasks whose turn it is to workers that have room: a response row for each, and the task is `SENT`, due at
    /// `ask_at`. The best of all types goes first. Bounded; never waits for another process that does the same.
    pub async fn give(&self, rules: &[QueueRule], now: Timestamp, ask_at: Timestamp) -> Result<Turns> {
        let rules: Arc<[QueueRule]> = rules.into();
        let queues = rules.clone();
        if !self.run(each!(queue::anybody_waits(queues.clone()))).await? {
            return Ok(Turns::default());
        }
        self.transact(each!(queue::give(rules.clone(), now, ask_at))).await
    }

    /// Takes tasks back from workers that are gone, or are there without the memory of what they had received: they wait
    /// again in their old place, unless that was the last attempt. Bounded.
    pub async fn take_back(&self, rules: &[QueueRule], now: Timestamp, retention: Duration) -> Result<TakenBack> {
        let rules: Arc<[QueueRule]> = rules.into();
        self.transact(each!(queue::take_back(rules.clone(), now, retention))).await
    }

    /// Puts delayed tasks whose time has come into line.
    pub async fn make_ready(&self, ids: &[TaskId]) -> Result<()> {
        let ids = sorted(ids);
        self.transact(each!(queue::make_ready(ids.clone()))).await
    }

    /// Looks anew at tasks that wait until fewer of their key run: the limits may be others than when they were held.
    pub async fn release_held(&self, task_types: &[TaskType]) -> Result<()> {
        let task_types: Arc<[TaskType]> = task_types.into();
        self.transact(each!(queue::release_held(task_types.clone()))).await
    }

    /// Tasks of these types that have succeeded and whose successor is to be queued, bounded.
    pub async fn to_succeed(&self, task_types: &[TaskType]) -> Result<Vec<Task>> {
        let task_types: Arc<[TaskType]> = task_types.into();
        self.run(each!(queue::to_succeed(task_types.clone()))).await
    }

    /// Notes that the successors of these tasks have been seen to. Those of `failed`, which are among them, could not be queued for the
    /// reason that stands beside each.
    pub async fn succeeded(&self, ids: &[TaskId], failed: &[(TaskId, String)]) -> Result<()> {
        let (ids, failed): (_, Arc<[(TaskId, String)]>) = (sorted(ids), failed.into());
        self.transact(each!(queue::succeeded(ids.clone(), failed.clone()))).await
    }

    /// How the queues of these types stand, in their order. Counts every task that has not ended.
    pub async fn queues(&self, task_types: &[TaskType]) -> Result<Vec<QueueRecord>> {
        let task_types: Arc<[TaskType]> = task_types.into();
        self.run(each!(queue::queues(task_types.clone()))).await
    }

    /// Stops giving tasks of a type to workers, or goes on. Running ones go on. Answers whether that changed anything.
    pub async fn pause(&self, task_type: &TaskType, paused: bool, now: Timestamp) -> Result<bool> {
        let task_type = task_type.clone();
        self.transact(each!(queue::pause(task_type.clone(), paused, now))).await
    }
}
