//! What workers that reach nothing but the HTTP API ask for and get.
//!
//! The messages in it are those that travel through a broker too: `broker::wire` turns them into what the
//! program works with.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::{AttemptError, EndpointName, Identifier, Json, Revocations, TaskId, TaskType};

/// What a worker asks for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TasksWanted {
    /// The session of its last presence.
    pub session: Uuid,
    /// The types it performs.
    #[schema(min_items = 1, max_items = 1000)]
    pub types: Vec<TaskType>,
    /// Whether it asks for everything that it owes, received or not, and for its `welcome`.
    pub all: bool,
    /// Tasks that it has and has not reported the end of.
    #[schema(value_type = Vec<Uuid>, max_items = 20_000)]
    pub known: Vec<TaskId>,
    /// Tasks that it was told to stop.
    #[schema(value_type = Vec<Uuid>, max_items = 20_000)]
    pub stopped: Vec<TaskId>,
    /// How long the answer may wait for a task, in milliseconds; at most 60 s count.
    pub wait_ms: u64,
}

/// What a worker gets.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TasksGiven {
    /// In the order in which they are to be followed; none when the wait timed out.
    #[schema(value_type = Vec<WorkerCommand>)]
    pub commands: Vec<Box<RawValue>>,
}

/// What a worker reports.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkerReports {
    /// In the order in which it happened.
    #[schema(value_type = Vec<WorkerReport>)]
    pub reports: Vec<Box<RawValue>>,
}

/// A worker is there, or leaves. Other members are ignored.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkerPresence {
    /// The version of the message.
    #[schema(minimum = 1, maximum = 1)]
    pub v: u32,
    /// What has happened.
    pub kind: PresenceKind,
    /// The worker, as in the path.
    pub endpoint: EndpointName,
    /// Names this process; another one of the same worker has another.
    pub instance: Uuid,
    /// Names the journal of the worker.
    pub home: Uuid,
    /// Names this subscription; `POST /workers/{name}/tasks` repeats it.
    pub session: Uuid,
    /// The types it performs, with those in `refused` 1 to 1000.
    #[schema(max_items = 1000)]
    pub types: Vec<TaskType>,
    /// Types that it cannot perform now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedType>,
    /// How long until it says again that it is there, in milliseconds; 100 ms to 1 h.
    pub interval_ms: u64,
    /// When it sent this, by its own clock: milliseconds since 1970. Absent from a version that does not
    /// tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_at_ms: Option<i64>,
    /// Its version of the program.
    #[serde(default)]
    pub version: String,
    /// Why it takes no tasks although it is there; null when all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// How many tasks it performs at the same time, at most 10,000: 0 when it takes no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// The newest version of messages that it reads. Here everything but welcomes is of version 1; who reads
    /// version 4 gets welcomes of that version.
    #[serde(default = "first")]
    #[schema(minimum = 1)]
    pub reads: u32,
    /// What it says of itself, so that tasks can be aimed at it: at most 32 labels, and the facts `os` and
    /// `arch`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    pub labels: BTreeMap<String, String>,
    /// For endpoints on the broker: whether the broker user may not declare anything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(ignore)]
    pub restricted: bool,
    /// Messages that it has refused for their signatures since it told so last, by the fault.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(ignore)]
    pub refusals: BTreeMap<String, u32>,
    /// Messages without a signature that it has taken since it told so last.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schema(ignore)]
    pub unsigned: u32,
    /// The number of the newest list of keys that count no more which it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub revocations: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What is read by those who do not say it.
const fn first() -> u32 {
    1
}

/// What a message of presence says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PresenceKind {
    /// It is new.
    Joined,
    /// It is still there.
    Alive,
    /// It takes no more tasks.
    Leaving,
}

/// A type that a worker cannot perform now.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RefusedType {
    /// The type.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Whether another process of the same name has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// What every report begins with.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkerReportHead {
    /// The version of the message.
    #[schema(minimum = 1, maximum = 1)]
    pub v: u32,
    /// The task.
    #[schema(value_type = Uuid)]
    pub task_id: TaskId,
    /// Its type.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// The worker, as in the path.
    pub endpoint: EndpointName,
    /// Names the journal of the worker.
    pub home: Uuid,
}

/// What became of a task. Other members are ignored. A `finished` of which the members beyond `home` cannot
/// be read is taken: the task fails with 65.
// A tagged enum cannot be read with a payload that stays as it was sent: `broker::wire` reads it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum WorkerReport {
    /// The worker has the task.
    Received {
        /// As of every report.
        #[serde(flatten)]
        head: WorkerReportHead,
        /// Whether it has begun; left out where it waits. A task that begins later is told of by `progress`.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        #[schema(required = false)]
        begun: bool,
    },
    /// The worker has stopped the task, or has not begun it.
    Canceled(WorkerReportHead),
    /// The handler has said how far it is, or has logged lines. Lines come with `first_line` and `log`; a
    /// worker leaves them out while answers wait.
    Progress {
        /// As of every report.
        #[serde(flatten)]
        head: WorkerReportHead,
        /// Percent done; what is outside of 0 to 100 is taken for the nearer end.
        #[schema(value_type = f64)]
        percent: u8,
        /// The attempt that has logged the lines, from 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(required = false)]
        attempt: Option<u32>,
        /// How many lines this attempt has logged before these.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(required = false)]
        first_line: Option<u64>,
        /// The lines, each with a line feed.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(required = false)]
        log: Option<String>,
    },
    /// The task has ended.
    Finished {
        /// As of every report.
        #[serde(flatten)]
        head: WorkerReportHead,
        /// 0 for success.
        errnr: i32,
        /// What went wrong.
        #[schema(required = false)]
        errmsg: String,
        /// What the handler answered.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = serde_json::Value, required = false)]
        payload: Option<Json>,
        /// The attempt that decided, from 1.
        attempt: u32,
        /// What earlier attempts died of.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        #[schema(required = false)]
        attempts: Vec<AttemptError>,
        /// The last lines the handler logged.
        #[serde(skip_serializing_if = "Option::is_none")]
        log: Option<String>,
        /// Names the execution.
        #[serde(skip_serializing_if = "Option::is_none")]
        run: Option<Uuid>,
    },
}

/// A message to a worker.
// Read by `broker::wire`, as a report.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum WorkerCommand {
    /// A task to perform.
    Task {
        /// The version of the message.
        #[schema(minimum = 1, maximum = 1)]
        v: u32,
        /// The task.
        #[schema(value_type = Uuid)]
        id: TaskId,
        /// Its type.
        #[serde(rename = "type")]
        task_type: TaskType,
        /// The customer's name for it.
        #[schema(value_type = String)]
        identifier: Identifier,
        /// The customer's data.
        #[schema(value_type = serde_json::Value)]
        payload: Json,
        /// How long it is worth starting, in milliseconds.
        expires_in_ms: u64,
        /// Whether the worker has said that it received it.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        #[schema(required = false)]
        received: bool,
        /// What attempts with other workers died of.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        #[schema(required = false)]
        attempts: Vec<AttemptError>,
    },
    /// A task to stop, or not to begin.
    Cancel {
        /// The version of the message.
        #[schema(minimum = 1, maximum = 1)]
        v: u32,
        /// The task.
        #[schema(value_type = Uuid)]
        task_id: TaskId,
    },
    /// All that the worker owes follows.
    Welcome {
        /// The version of the message: 4 of one that names its type, otherwise 1.
        #[schema(minimum = 1, maximum = 4)]
        v: u32,
        /// The session that is welcomed.
        session: Uuid,
        /// How often the worker is to say that it is there, in milliseconds.
        presence_interval_ms: u64,
        /// The newest version of messages that the API reads from the broker. Here everything that it reads
        /// is of version 1.
        #[schema(minimum = 1, required = false)]
        reads: u32,
        /// The type that is welcomed; without it, all types of the request are.
        #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
        #[schema(required = false)]
        task_type: Option<TaskType>,
        /// The list of revoked keys that the API has, for workers that verify signatures.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<Object>, required = false)]
        revocations: Option<Arc<Revocations>>,
    },
}
