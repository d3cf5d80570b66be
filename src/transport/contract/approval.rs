//! Tasks that persons have to sign.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{Identifier, TaskId, TaskType};

/// How many persons have signed a task that needs their signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskApproval {
    /// Who has signed it, by the names of the trust file of the API.
    pub signed: Vec<String>,
    /// Who else may sign it.
    pub others: Vec<String>,
    /// How many must have signed. The task waits until then.
    pub needed: u32,
}

impl TaskApproval {
    /// Whether enough have signed.
    pub fn is_complete(&self) -> bool {
        self.signed.len() >= usize::try_from(self.needed).unwrap_or(usize::MAX)
    }
}

/// The signature of an order by one person.
#[derive(Debug, ToSchema)]
pub struct SignatureOfKey {
    /// The id of the key: 16 hexadecimal digits, as `tasker key list` shows it.
    pub by: String,
    /// The Ed25519 signature of the order, base64.
    pub sig: String,
}

/// What came of a signature.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Approved {
    /// Our name for the task.
    #[schema(value_type = uuid::Uuid)]
    pub id: TaskId,
    /// The customer's name for it.
    #[schema(value_type = String)]
    pub identifier: Identifier,
    /// Its type.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub task_type: TaskType,
    /// How far it is approved now.
    pub approval: TaskApproval,
}
