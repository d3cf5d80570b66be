//! Tasks.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Target, TaskApproval, TaskResponse};
use crate::domain::{
    self, AttemptError, Counts, EndpointName, Identifier, Json, NewTask, TaskId, TaskStatus, TaskType,
    Timestamp,
};

/// A task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// Our name for it.
    #[schema(value_type = uuid::Uuid)]
    pub id: TaskId,
    /// The customer's name for it.
    #[schema(value_type = String)]
    pub identifier: Identifier,
    /// Its type.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub task_type: TaskType,
    /// Where it stands.
    pub status: TaskStatus,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub start_time: Timestamp,
    /// The endpoints asked for, or chosen as `target` says; empty means all that were subscribed.
    #[schema(value_type = Vec<String>)]
    pub endpoints: Vec<EndpointName>,
    /// What the endpoints had to be when it was submitted; absent when they were named, or when it was for
    /// all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub target: Option<Target>,
    /// The task that it repeats for some of its endpoints; absent for one that repeats none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<uuid::Uuid>, required = false)]
    pub rerun_of: Option<TaskId>,
    /// The customer's data.
    #[schema(value_type = serde_json::Value)]
    pub payload: Json,
    /// How its expected endpoints stand.
    #[serde(flatten)]
    pub counts: Counts,
    /// When the broker first confirmed it.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub published_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub finished_at: Option<Timestamp>,
    /// When every expected endpoint should have received it.
    #[schema(value_type = String, format = DateTime)]
    pub receive_by: Timestamp,
    /// When it is given up.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Of a work queue; absent for a task that endpoints perform.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub queue: Option<Queued>,
    /// The endpoints that must answer it and have not received it. Only where a single task is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<String>, required = false)]
    pub missing: Option<Vec<EndpointName>>,
    /// How many endpoints that are known for the type are stopped, and therefore not expected. Only in the
    /// answer to a submission without endpoints; absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64, required = false)]
    pub stopped: Option<u64>,
    /// How far it is approved; absent unless it waits for more persons to sign it. Only where a single task is
    /// submitted or read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub approval: Option<TaskApproval>,
    /// What is allowed but rarely meant, such as an endpoint that was never heard of. Only in the answer to a
    /// submission.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub warnings: Vec<String>,
}

impl From<domain::Task> for Task {
    fn from(task: domain::Task) -> Self {
        Self {
            id: task.id,
            identifier: task.identifier,
            task_type: task.task_type,
            status: task.status,
            start_time: task.start_time,
            endpoints: task.endpoints,
            target: task.target.map(Target::from),
            rerun_of: task.rerun_of,
            payload: task.payload,
            counts: task.counts,
            published_at: task.published_at,
            finished_at: task.finished_at,
            receive_by: task.receive_by,
            expires_at: task.expires_at,
            queue: task.queued.map(Queued::from),
            missing: None,
            stopped: None,
            approval: None,
            warnings: Vec::new(),
        }
    }
}

/// A task that has just been recorded.
impl From<NewTask> for Task {
    fn from(task: NewTask) -> Self {
        Self {
            id: task.id,
            identifier: task.identifier,
            task_type: task.task_type,
            status: TaskStatus::Created,
            start_time: task.start_time,
            endpoints: task.endpoints,
            target: task.target.map(Target::from),
            rerun_of: task.rerun_of,
            payload: task.payload,
            counts: Counts::default(),
            published_at: None,
            finished_at: None,
            receive_by: task.receive_by,
            expires_at: task.expires_at,
            queue: task.place.map(|place| Queued {
                priority: place.priority,
                run_at: place.run_at,
                attempts: Vec::new(),
                parent: place.parent,
                replaced_by: None,
                successor_error: None,
            }),
            missing: None,
            stopped: None,
            approval: None,
            warnings: Vec::new(),
        }
    }
}

impl From<domain::Queued> for Queued {
    fn from(queued: domain::Queued) -> Self {
        let domain::Queued { priority, run_at, attempts, parent, replaced_by, successor_error } = queued;
        Self { priority, run_at, attempts, parent, replaced_by, successor_error }
    }
}

/// What a task of a work queue has besides.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Queued {
    /// The lower, the sooner.
    pub priority: i32,
    /// It is not to begin before this time.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub run_at: Option<Timestamp>,
    /// Attempts that were lost with their worker.
    #[serde(default)]
    #[schema(required = true)]
    pub attempts: Vec<AttemptError>,
    /// The task after whose success it was queued.
    #[schema(value_type = Option<uuid::Uuid>, required = true)]
    pub parent: Option<TaskId>,
    /// The task that took its place while it waited.
    #[schema(value_type = Option<uuid::Uuid>, required = true)]
    pub replaced_by: Option<TaskId>,
    /// Why nothing was queued after its success, although its type says so.
    #[schema(required = true)]
    pub successor_error: Option<String>,
}

/// A task with what became of it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskWithResponses {
    /// The task, with the endpoints that are missing.
    pub task: Task,
    /// What its endpoints did, by endpoint.
    #[serde(rename = "taskResponseList")]
    pub responses: Vec<TaskResponse>,
}

/// A page of tasks.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskPage {
    /// The tasks, newest first.
    pub tasks: Vec<Task>,
    /// Where to go on; null at the end.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// How many tasks there are.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskCounts {
    /// Tasks that have not ended, by type and status. A type and a status without tasks are left out.
    pub open: Vec<OpenTasks>,
}

/// Tasks of a type that have not ended.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OpenTasks {
    /// Their type.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub task_type: TaskType,
    /// Where they stand.
    pub status: TaskStatus,
    /// How many.
    pub count: u64,
    /// When the oldest of them was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub oldest: Timestamp,
}

/// Which responses a reader of a task asks for: the query parameter `responses`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Responses {
    /// Every one.
    #[default]
    All,
    /// Those finished with an error.
    Failed,
    /// Those of endpoints that have not received it.
    Missing,
    /// None at all.
    None,
    /// What a person reads at a glance: all of a task for at most [`Self::ENDPOINTS`] endpoints; none once more
    /// than [`Self::ANSWERS`] have finished, which groups of equal answers show better; else those finished
    /// with an error.
    Few,
}

impl Responses {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::All, Self::Failed, Self::Missing, Self::None, Self::Few];
    /// Endpoints at most whose answers a person reads with the verdict.
    pub const ENDPOINTS: u32 = 5;
    /// Answers at most of which a person reads a row each.
    pub const ANSWERS: u32 = 20;

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Failed => "failed",
            Self::Missing => "missing",
            Self::None => "none",
            Self::Few => "few",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples;
    use super::*;

    #[test]
    fn a_task_has_the_members_of_the_contract() {
        let time = Timestamp::from_micros(1_700_000_000_123_456);
        let task = Task {
            id: TaskId(uuid::Uuid::from_u128(7)),
            status: TaskStatus::Incomplete,
            start_time: time,
            payload: serde_json::from_str(r#"{"b": 1.0, "a": 12345678901234567890}"#).expect("JSON"),
            counts: Counts { expected: 2, received: 1, finished: 1, failed: 1, ..Counts::default() },
            published_at: Some(time),
            receive_by: time,
            expires_at: time,
            missing: Some(vec!["console2".parse().expect("a name")]),
            ..examples::task()
        };
        let text = concat!(
            r#"{"id":"00000000-0000-0000-0000-000000000007","identifier":"e7bd91d0-16ad-11e2-892e-0800200c9a66","type":"backup","#,
            r#""status":"INCOMPLETE","start_time":"2023-11-14T22:13:20.123456Z","endpoints":["console1","console2"],"#,
            r#""payload":{"b": 1.0, "a": 12345678901234567890},"#,
            r#""expected":2,"received":1,"finished":1,"failed":1,"canceled":0,"expired":0,"#,
            r#""published_at":"2023-11-14T22:13:20.123456Z","finished_at":null,"#,
            r#""receive_by":"2023-11-14T22:13:20.123456Z","expires_at":"2023-11-14T22:13:20.123456Z","missing":["console2"]}"#
        );
        assert_eq!(serde_json::to_string(&task).expect("serialises"), text);
        let read: Task = serde_json::from_str(text).expect("reads what it writes");
        assert_eq!(serde_json::to_string(&read).expect("serialises"), text);
        assert!(
            !serde_json::to_string(&Task { missing: None, ..task }).expect("serialises").contains("missing")
        );
    }

    #[test]
    fn tasks_of_older_and_newer_servers_are_read() {
        let mut older = serde_json::to_value(examples::task()).expect("JSON");
        let members = older.as_object_mut().expect("an object");
        assert!(members.remove("published_at").is_some() && members.remove("finished_at").is_some());
        members.insert("queue".to_owned(), serde_json::json!({"priority": 3, "heat": "high"}));
        members.insert("colour".to_owned(), serde_json::json!({"red": [1]}));
        let task: Task = serde_json::from_str(&older.to_string()).expect("is read");
        assert_eq!((task.published_at, task.queue.map(|queued| queued.priority)), (None, Some(3)));
    }
}
