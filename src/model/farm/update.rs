//! What workers say about their tasks, and what the Server is to be told.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{FailedBy, ObjectId, TaskStatus, Timing, log_tail};
use crate::domain::Timestamp;

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Of the task, in percent.
    pub task: i64,
    /// Which command runs.
    pub command: i64,
    /// Of that command, in percent.
    pub in_command: i64,
}

/// What a worker says about a task.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WorkerReport {
    /// What the task is now, if the worker says so.
    pub status: Option<TaskStatus>,
    /// What the worker called it.
    pub raw_status: String,
    /// What it does.
    pub activity: String,
    /// How far it is.
    pub progress: Progress,
    /// New lines of its log, with a line feed at the end; or nothing.
    pub log: Arc<str>,
    /// How long its phases took.
    pub timing: Option<Timing>,
}

/// What the Server is to be told about a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// By this the Server says that it knows.
    pub id: ObjectId,
    /// About which task.
    pub task: ObjectId,
    /// When it was queued.
    pub queued_at: Timestamp,
    /// What the task is now, if that is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<TaskStatus>,
    /// What happens.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub activity: String,
    /// How far it is.
    #[serde(default)]
    pub progress: Progress,
    /// The end of its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
    /// The worker that said so: nobody for what the manager says, `-` when the task was taken from its
    /// worker.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub worker: String,
    /// All workers on which it has failed, when one came to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_by: Option<Vec<FailedBy>>,
    /// How long its phases took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<Timing>,
}

impl Update {
    /// An update that says nothing yet.
    pub fn new(task: ObjectId, now: Timestamp) -> Self {
        Self {
            id: ObjectId::new(now),
            task,
            queued_at: now,
            status: None,
            activity: String::new(),
            progress: Progress::default(),
            log_tail: None,
            worker: String::new(),
            failed_by: None,
            timing: None,
        }
    }

    /// What the manager itself has to say, with the line that goes into the log.
    pub fn of_manager(
        task: ObjectId,
        now: Timestamp,
        status: Option<TaskStatus>,
        activity: &str,
    ) -> (Self, Arc<str>) {
        let line: Arc<str> = format!("{now}: {activity}\n").into();
        (
            Self { status, activity: activity.to_owned(), log_tail: log_tail(&line), ..Self::new(task, now) },
            line,
        )
    }
}
