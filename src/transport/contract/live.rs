//! What `GET /events` tells: the data of its events.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Queue;
use crate::domain::{Counts, EndpointName, TaskId, TaskStatus, TaskType, Timestamp};

/// The names behind a vector of states.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NameList {
    /// Of this list: another list has another one.
    pub generation: String,
    /// In the order of the states.
    #[schema(value_type = Vec<String>)]
    pub names: Vec<EndpointName>,
}

/// The data of an event `task`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LiveTask {
    /// What the query has asked for: `task:` and the id.
    pub watch: String,
    /// Which task.
    #[schema(value_type = uuid::Uuid)]
    pub id: TaskId,
    /// Its type.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub task_type: TaskType,
    /// Where it stands.
    pub status: TaskStatus,
    /// When the ledger was read.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// How its expected endpoints stand.
    #[serde(flatten)]
    pub counts: Counts,
    /// When the broker first confirmed it.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub published_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub finished_at: Option<Timestamp>,
    /// When it is given up.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// How its endpoints stand, one by one.
    #[serde(flatten)]
    pub vector: LiveVector,
}

/// The data of an event `endpoints`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LiveEndpoints {
    /// `endpoints`
    pub watch: String,
    /// When the ledger was read.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// How they stand, one by one.
    #[serde(flatten)]
    pub vector: LiveVector,
}

/// A vector of states, or what has changed of it since the event before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LiveVector {
    /// Of the list of names. Where it is another one than before, the names have to be read again.
    pub generation: String,
    /// How many states there are.
    pub count: usize,
    /// The whole vector in base64; absent where there are changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub states: Option<String>,
    /// The changes in base64; absent where there is the whole vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub changes: Option<String>,
}

/// The data of an event `queues`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LiveQueues {
    /// `queues`
    pub watch: String,
    /// When the ledger was read.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// In the order of the configuration.
    pub queues: Vec<Queue>,
}

/// The data of an event `gone`: what was watched is not there any more.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LiveGone {
    /// What the query has asked for.
    pub watch: String,
}
