//! A task of a farm, and what it may become.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{ObjectId, Timing, optional_id};
use crate::domain::Timestamp;

/// The type of jobs that the Server knows nothing of.
pub const MANAGER_LOCAL: &str = "manager-local";
/// The type of tasks that came without one.
pub const UNKNOWN_TYPE: &str = "unknown";

/// What a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskStatus {
    /// Waits for a worker.
    Queued,
    /// Waits for a worker, and the Server knows that this manager has it.
    ClaimedByManager,
    /// Failed on some workers, and waits for another one.
    SoftFailed,
    /// A worker runs it.
    Active,
    /// A worker runs it, and is to stop.
    CancelRequested,
    /// Done.
    Completed,
    /// Given up.
    Failed,
    /// Stopped, or never begun.
    Canceled,
    /// The Server holds it back.
    Paused,
    /// The Server has not finished it.
    UnderConstruction,
}

use TaskStatus as S;

/// The text is not a status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown task status {0:?}")]
pub struct UnknownTaskStatus(String);

impl TaskStatus {
    /// All of them, in the order of their codes: those that can be handed out come first.
    pub const ALL: [Self; 10] = [
        S::Queued,
        S::ClaimedByManager,
        S::SoftFailed,
        S::Active,
        S::CancelRequested,
        S::Completed,
        S::Failed,
        S::Canceled,
        S::Paused,
        S::UnderConstruction,
    ];

    /// Its number in the database.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The status of a number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            S::Queued => "queued",
            S::ClaimedByManager => "claimed-by-manager",
            S::SoftFailed => "soft-failed",
            S::Active => "active",
            S::CancelRequested => "cancel-requested",
            S::Completed => "completed",
            S::Failed => "failed",
            S::Canceled => "canceled",
            S::Paused => "paused",
            S::UnderConstruction => "under-construction",
        }
    }

    /// Whether a task of this status may be handed out.
    pub const fn is_schedulable(self) -> bool {
        matches!(self, S::Queued | S::ClaimedByManager | S::SoftFailed)
    }

    /// What the task is once this is reported: a task that is to be canceled may only end.
    #[must_use]
    pub const fn next(self, reported: Self) -> Self {
        match (self, reported) {
            (S::CancelRequested, S::Canceled | S::Failed | S::Completed) => reported,
            (S::CancelRequested, _) => self,
            _ => reported,
        }
    }

    /// What the task is once the Server wants it canceled: a worker that runs it is stopped first.
    #[must_use]
    pub const fn canceled_by_server(self) -> Self {
        match self {
            S::Active => S::CancelRequested,
            _ => S::Canceled,
        }
    }
}

impl FromStr for TaskStatus {
    type Err = UnknownTaskStatus;

    fn from_str(text: &str) -> Result<Self, UnknownTaskStatus> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownTaskStatus(text.to_owned()))
    }
}

/// A step of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// What to do.
    #[serde(default)]
    pub name: String,
    /// With what.
    #[serde(default)]
    pub settings: Map<String, Value>,
}

/// A worker on which a task failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedBy {
    /// Which.
    #[serde(default, with = "optional_id")]
    pub id: Option<ObjectId>,
    /// Its address and nickname.
    #[serde(default)]
    pub identifier: String,
}

/// A task.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its id.
    pub id: ObjectId,
    /// The version that the Server gave it.
    pub etag: String,
    /// What it is.
    pub status: TaskStatus,
    /// The job that it is part of.
    pub job: Option<ObjectId>,
    /// The Server's name for this manager.
    pub manager: Option<ObjectId>,
    /// Of which project.
    pub project: Option<ObjectId>,
    /// Whose.
    pub user: Option<ObjectId>,
    /// What people call it.
    pub name: String,
    /// Higher first, within a job's priority.
    pub priority: i32,
    /// Higher first.
    pub job_priority: i32,
    /// What kind of job.
    pub job_type: String,
    /// What kind of task: only workers that support it get it.
    pub task_type: String,
    /// What to do.
    pub commands: Vec<Command>,
    /// The last that was logged.
    pub log: String,
    /// The last that was said.
    pub activity: String,
    /// The nickname of the worker that it is or was with.
    pub worker: String,
    /// Tasks that must be completed before.
    pub parents: Vec<ObjectId>,
    /// Workers on which it failed: none of them gets it again.
    pub failed_by: Vec<FailedBy>,
    /// How long its phases took.
    pub timing: Option<Timing>,
    /// The worker that it is or was with.
    pub worker_id: Option<ObjectId>,
    /// When that worker last showed that it has it.
    pub last_worker_ping: Option<Timestamp>,
    /// When it last changed.
    pub last_updated: Option<Timestamp>,
}

impl Task {
    /// A queued task without commands, of the priority that the Server gives by default.
    pub fn new(id: ObjectId, job_type: &str, task_type: &str) -> Self {
        const PRIORITY: i32 = 50;
        Self {
            id,
            etag: String::new(),
            status: TaskStatus::Queued,
            job: None,
            manager: None,
            project: None,
            user: None,
            name: String::new(),
            priority: PRIORITY,
            job_priority: PRIORITY,
            job_type: job_type.to_owned(),
            task_type: task_type.to_owned(),
            commands: Vec::new(),
            log: String::new(),
            activity: String::new(),
            worker: String::new(),
            parents: Vec::new(),
            failed_by: Vec::new(),
            timing: None,
            worker_id: None,
            last_worker_ping: None,
            last_updated: None,
        }
    }

    /// Whether the Server knows nothing of it.
    pub fn is_local(&self) -> bool {
        self.job_type == MANAGER_LOCAL
    }
}

/// What a list has of a task: how it fares, not what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSummary {
    /// Its id.
    pub id: ObjectId,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub status: TaskStatus,
    /// The job that it is part of.
    pub job: Option<ObjectId>,
    /// What kind of job.
    pub job_type: String,
    /// Higher first.
    pub job_priority: i32,
    /// Higher first, within a job's priority.
    pub priority: i32,
    /// What kind of task.
    pub task_type: String,
    /// The nickname of the worker that it is or was with.
    pub worker: String,
    /// That worker.
    pub worker_id: Option<ObjectId>,
    /// The last that was said.
    pub activity: String,
    /// Workers on which it failed.
    pub failed_by: Vec<FailedBy>,
    /// When its worker last showed that it has it.
    pub last_worker_ping: Option<Timestamp>,
    /// When it last changed.
    pub last_updated: Option<Timestamp>,
}

impl From<Task> for TaskSummary {
    fn from(task: Task) -> Self {
        Self {
            id: task.id,
            name: task.name,
            status: task.status,
            job: task.job,
            job_type: task.job_type,
            job_priority: task.job_priority,
            priority: task.priority,
            task_type: task.task_type,
            worker: task.worker,
            worker_id: task.worker_id,
            activity: task.activity,
            failed_by: task.failed_by,
            last_worker_ping: task.last_worker_ping,
            last_updated: task.last_updated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_lead_back() {
        for (place, status) in TaskStatus::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(status.code()), place);
            assert_eq!(TaskStatus::from_code(status.code()), Some(status));
            assert_eq!(status.as_str().parse(), Ok(status));
            assert_eq!(serde_json::to_value(status).expect("a word"), status.as_str());
        }
        assert!("running".parse::<TaskStatus>().is_err() && TaskStatus::from_code(10).is_none());
    }

    #[test]
    fn a_task_to_be_canceled_may_only_end() {
        for from in TaskStatus::ALL {
            for reported in TaskStatus::ALL {
                let ends = matches!(reported, S::Canceled | S::Failed | S::Completed);
                let expected = if from == S::CancelRequested && !ends { from } else { reported };
                assert_eq!(from.next(reported), expected, "{from:?} {reported:?}");
            }
            let canceled = if from == S::Active { S::CancelRequested } else { S::Canceled };
            assert_eq!(from.canceled_by_server(), canceled);
            assert_eq!(
                from.is_schedulable(),
                from.code() < S::Active.code(),
                "the database asks for small codes"
            );
        }
    }
}
