//! What an API process says of itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::TaskType;

/// What there is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Index {
    /// Always `tasker`.
    #[serde(default)]
    #[schema(required = true)]
    pub name: String,
    /// The version of the program.
    #[serde(default)]
    #[schema(required = true)]
    pub version: String,
    /// The configured task types: each is a path.
    #[schema(value_type = Vec<String>)]
    pub task_types: Vec<TaskType>,
    /// The configured actions of requests.
    #[serde(default)]
    #[schema(required = true)]
    pub actions: Vec<String>,
    /// Every path. What stands in braces is to be replaced: `{type}` by a configured task type.
    #[serde(default)]
    #[schema(required = true)]
    pub links: Vec<String>,
}

/// The process answers.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Heartbeat {
    /// Always `alive`.
    pub status: String,
}

/// Whether the process can do its work.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// Whether all of the following is well.
    pub ready: bool,
    /// `ok`, or what is wrong.
    pub database: String,
    /// `ok`, or what is wrong.
    pub broker: String,
}
