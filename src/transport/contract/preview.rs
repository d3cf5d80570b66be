//! Whom a submission would be for.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Task;
use crate::domain::{EndpointName, LeftOut, TaskType};

/// Whom a submission would be for, had it been made: the answer to `dry_run=true`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Preview {
    /// The type.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub task_type: TaskType,
    /// The endpoints that would have to perform it, by name.
    #[schema(value_type = Vec<String>)]
    pub endpoints: Vec<EndpointName>,
    /// Those that are meant and would not have to, each with the reason.
    pub left_out: Vec<LeftOutEndpoint>,
    /// How many endpoints of the type are not meant.
    pub unmatched: usize,
    /// How many endpoints a person is asked about before a task is submitted to them (`api.confirm_above`).
    pub confirm_above: u32,
    /// What is allowed but rarely meant, such as an endpoint that was never heard of, or one that takes no
    /// tasks now.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What is answered to a submission: the task, or with `dry_run=true` whom it would be for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum SubmitAnswer {
    /// The task.
    Task(Box<Task>),
    /// Whom it would be for.
    Preview(Preview),
}

/// An endpoint that is meant and would not have to perform a task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LeftOutEndpoint {
    /// Its name.
    #[schema(value_type = String)]
    pub name: EndpointName,
    /// Why.
    pub reason: LeftOut,
}
