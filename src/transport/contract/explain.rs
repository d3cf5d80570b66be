//! Why a task does not run.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{EndpointName, Group, Identifier, Reason, ReasonCode, TaskId, TaskStatus, TaskType};

/// Why a task does not run, or how far it is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The task.
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
    /// The endpoint that was asked about; absent where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub endpoint: Option<EndpointName>,
    /// What holds for the task, or for the task at the endpoint; what has to be mended first comes first.
    pub reasons: Vec<Reason>,
    /// The endpoints that have to answer, by reason, the largest group first. Only where no endpoint was
    /// asked about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub endpoints: Vec<ReasonGroup>,
    /// Endpoints that are in no group, since there are more than 50,000.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub uncounted: u32,
}

/// Endpoints of a task that have the same reason.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReasonGroup {
    /// The reason.
    pub code: ReasonCode,
    /// How many endpoints have it.
    pub count: u32,
    /// The first ten of them, by name.
    #[schema(value_type = Vec<String>)]
    pub endpoints: Vec<EndpointName>,
    /// The reason of the first of them.
    pub example: Reason,
}

impl From<Group> for ReasonGroup {
    fn from(group: Group) -> Self {
        let Group { count, endpoints, example } = group;
        Self { code: example.code, count, endpoints, example }
    }
}

const fn is_zero(count: &u32) -> bool {
    *count == 0
}
