//! Many tasks in one request.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Problem;
use crate::domain::{Fared, Identifier, TaskId, TaskStatus, TaskType, Timestamp};

/// Which tasks are meant: all conditions hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TaskFilter {
    /// Only these task types; all that the token covers unless said.
    #[serde(rename = "type", skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, required = false, max_items = 1000)]
    pub types: Vec<TaskType>,
    /// Only these states, which must be open ones; all open ones unless said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub status: Vec<TaskStatus>,
    /// Only identifiers that begin so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub identifier: Option<String>,
    /// Only tasks accepted at or after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub since: Option<Timestamp>,
    /// Only tasks accepted before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub until: Option<Timestamp>,
}

/// Cancels the tasks that a filter means, or says how many these are.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BulkCancel {
    /// Which tasks.
    pub filter: TaskFilter,
    /// How many tasks the preview has told. With `as_of`, at most so many are canceled; without `as_of`, the filter
    /// must mean exactly so many. Without `expect`, nothing is canceled, and the answer is the preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, required = false)]
    pub expect: Option<u32>,
    /// `as_of` of the preview: tasks that came later are not touched. If more are meant all the same, the
    /// oldest are, as many as are expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub as_of: Option<Timestamp>,
    /// Cancel nothing, even with `expect`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub dry_run: bool,
}

/// Which tasks of a work queue are meant that have ended without success: all conditions hold. Those that
/// were requeued before are not meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadFilter {
    /// How they ended: `failed`, `expired`, `canceled`; `failed` unless said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub only: Vec<Fared>,
    /// Only identifiers that begin so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub identifier: Option<String>,
    /// Only tasks accepted at or after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub since: Option<Timestamp>,
    /// Only tasks accepted before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub until: Option<Timestamp>,
}

/// Queues again the tasks that a filter means, or says how many these are.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Requeue {
    /// Which tasks.
    #[serde(default)]
    #[schema(required = false)]
    pub filter: DeadFilter,
    /// How many tasks the preview has told. With `as_of`, at most so many are queued; without `as_of`, the filter
    /// must mean exactly so many. Without `expect`, nothing is queued, and the answer is the preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, required = false)]
    pub expect: Option<u32>,
    /// `as_of` of the preview: tasks that came later are not touched. If more are meant all the same, the
    /// oldest are, as many as are expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub as_of: Option<Timestamp>,
    /// Queue nothing, even with `expect`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub dry_run: bool,
}

/// What a filter means, and what was done about it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BulkAnswer {
    /// How many tasks the filter means; with `more` so many at least.
    pub matched: u32,
    /// Whether there are more than are counted: 100,000. Then nothing is done without `as_of`.
    pub more: bool,
    /// The time of the count, or `as_of` of the request: what came later is not meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub as_of: Option<Timestamp>,
    /// How many were canceled or queued again: in a preview none, and at most 1,000 in a request.
    pub done: u32,
    /// How many could not be: they have ended meanwhile, or their type does not admit their payload any more.
    pub refused: u32,
    /// How many of the expected tasks the filter means after this request; tasks that were refused and that
    /// it still means are among them. Send the request again with so many and with `as_of`, until one has
    /// done nothing.
    pub left: u32,
    /// The oldest of them.
    pub examples: Vec<TaskBrief>,
}

/// A task in a few words.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskBrief {
    /// Our name for it.
    #[schema(value_type = uuid::Uuid)]
    pub id: TaskId,
    /// Its type.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub task_type: TaskType,
    /// The customer's name for it.
    #[schema(value_type = String)]
    pub identifier: Identifier,
    /// Its status when the request was answered.
    pub status: TaskStatus,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub start_time: Timestamp,
}

/// What came of many submissions.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BatchAnswer {
    /// One for each submission, in their order.
    pub results: Vec<BatchVerdict>,
    /// What is allowed but rarely meant, such as an endpoint that was never heard of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub warnings: Vec<String>,
}

/// What came of one of them.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BatchVerdict {
    /// The status that the submission would have been answered with alone: 201 recorded, 200 made before, or
    /// that of the problem.
    pub status: u16,
    /// The task; absent where there is a problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub task: Option<TaskBrief>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub problem: Option<Problem>,
}

/// Many submissions: a list, or an object with one.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Batch {
    /// A list of at most 1,000 submissions.
    List(Vec<BatchSubmission>),
    /// An object with such a list.
    Object(BatchList),
}

/// An object with many submissions.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchList {
    /// The submissions.
    #[schema(max_items = 1000)]
    pub tasks: Vec<BatchSubmission>,
}

/// One of many submissions: the members of a `Submission`, and its type.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchSubmission {
    /// A configured task type.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub task_type: TaskType,
    /// Your name for the task, as of a `Submission`.
    #[schema(value_type = String)]
    pub identifier: Identifier,
}
