//! Endpoints.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::{EndpointName, Identifier, TaskId, TaskType, Timestamp};

/// A page of endpoints.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EndpointPage {
    /// The endpoints, by name.
    pub endpoints: Vec<Endpoint>,
    /// Where to go on; null at the end.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// An endpoint as its presence has shown it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Endpoint {
    /// Its name.
    #[schema(value_type = String)]
    pub name: EndpointName,
    /// When it was last heard of.
    #[schema(value_type = String, format = DateTime)]
    pub last_seen: Timestamp,
    /// Its version of the program.
    pub version: String,
    /// Milliseconds that its clock is ahead of the database's, negative when it is behind; null while that is
    /// not known. Beyond 60,000 either way its types show it as trouble.
    #[schema(required = true)]
    pub clock_offset_ms: Option<i64>,
    /// What it says of itself, with the facts `os` and `arch`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    pub labels: BTreeMap<String, String>,
    /// Whether it was stopped properly: it has said goodbye for all its types. One that is neither there nor
    /// stopped is silent.
    #[serde(default)]
    #[schema(required = true)]
    pub stopped: bool,
    /// The task types it is known for.
    pub types: Vec<Subscription>,
}

/// Whether an endpoint takes tasks of a type.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Subscription {
    /// The type.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub task_type: TaskType,
    /// Whether it does now.
    pub subscribed: bool,
    /// What is wrong: why it takes none although it is there, such as a full disk, or that its clock is more
    /// than 60 s off; null when all is well.
    #[schema(required = true)]
    pub trouble: Option<String>,
    /// How many tasks a worker performs at the same time, of all its types together: 0 when it takes no more;
    /// null for an endpoint.
    #[schema(required = true)]
    pub slots: Option<u32>,
    /// A second process of this name that takes over when the first is gone; null when there is none.
    #[schema(required = true)]
    pub standby: Option<Standby>,
}

/// A second process of an endpoint's name.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Standby {
    /// Which process.
    pub instance: Uuid,
    /// Since when it stands by.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Until when it stands by if nothing more is heard of it.
    #[schema(value_type = String, format = DateTime)]
    pub seen_until: Timestamp,
}

/// Endpoints that are forgotten, or with `dry_run=true` would be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ForgottenEndpoints {
    /// Their names.
    #[schema(value_type = Vec<String>)]
    pub endpoints: Vec<EndpointName>,
    /// Responses that they still owe: they stay expected until their tasks end. 0 for a dry run.
    pub open: u64,
    /// Whether there are more: ask again.
    pub more: bool,
}

/// An endpoint that is forgotten.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ForgottenEndpoint {
    /// Its name.
    #[schema(value_type = String)]
    pub name: EndpointName,
    /// Responses that it still owes: they stay expected until their tasks end.
    pub open: u64,
}

/// What an endpoint owes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OwedTasks {
    /// Tasks that it must perform and has not finished, oldest first.
    pub tasks: Vec<OwedTask>,
    /// Whether there are newer ones.
    pub more: bool,
}

/// A task that an endpoint must perform and has not finished.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OwedTask {
    /// The task.
    #[schema(value_type = Uuid)]
    pub id: TaskId,
    /// The customer's name for it.
    #[schema(value_type = String)]
    pub identifier: Identifier,
    /// Its type.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub task_type: TaskType,
    /// Whether the endpoint has received it.
    pub received: bool,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub start_time: Timestamp,
    /// When it is given up.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}
