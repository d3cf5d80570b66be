//! Task types, for those who submit.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{self, Json};

/// The task types.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskTypeList {
    /// Those that the token covers, in the order of the configuration.
    pub types: Vec<TaskType>,
    /// How many endpoints a person is asked about before a task is submitted to them (`api.confirm_above`).
    pub confirm_above: u32,
}

/// What a submission of a type must be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskType {
    /// The type.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub name: domain::TaskType,
    /// Who performs a task.
    pub delivery: TypeDelivery,
    /// What the body of a submission is, unless its header says `envelope`.
    pub body: TypeBody,
    /// The JSON Schema of its payloads; null where it takes any.
    #[schema(value_type = Option<serde_json::Value>, required = true)]
    pub schema: Option<Json>,
    /// A payload that it takes; null where its schema suggests none.
    #[schema(value_type = Option<serde_json::Value>, required = true)]
    pub example: Option<Json>,
}

/// Who performs a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TypeDelivery {
    /// Every endpoint that must answer.
    Fanout,
    /// One worker.
    Queue,
}

/// What the body of a submission is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TypeBody {
    /// An object with identifier, payload and the like.
    Envelope,
    /// The payload itself.
    Payload,
}
