//! Work queues.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{TaskType, Timestamp, TokenName};

/// The work queues.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct QueueList {
    /// In the order of the configuration.
    pub queues: Vec<Queue>,
}

/// How the queue of a task type stands.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Queue {
    /// The type.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub task_type: TaskType,
    /// Since when no tasks are given to workers.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub paused_at: Option<Timestamp>,
    /// The token with which somebody paused it; null where that is not known.
    #[serde(default)]
    #[schema(value_type = Option<String>, required = true)]
    pub paused_by: Option<TokenName>,
    /// Tasks that wait for a worker.
    pub waiting: u64,
    /// Tasks that wait until fewer with their limit key run.
    pub held: u64,
    /// Tasks that are not to begin yet.
    pub delayed: u64,
    /// Tasks that workers have.
    pub running: u64,
    /// Since when the longest waiting one waits.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub oldest: Option<Timestamp>,
}
