//! Sessions: who one is, for a page in a browser.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{Scope, TaskType, Timestamp};

/// What begins a session.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionStart {
    /// The secret of a token.
    #[schema(min_length = 1, max_length = 1024, format = Password)]
    pub token: String,
}

/// Who one is, and what for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// The name of the token; null where no token is needed.
    #[schema(required = true)]
    pub name: Option<String>,
    /// Whether it is a session, which `DELETE /session` ends.
    pub session: bool,
    /// What it is good for: with `admin` everything.
    pub scopes: Vec<Scope>,
    /// The task types it is good for; empty means all.
    #[schema(value_type = Vec<String>)]
    pub task_types: Vec<TaskType>,
    /// When it ends.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub expires_at: Option<Timestamp>,
    /// The time of the ledger.
    #[schema(value_type = String, format = DateTime)]
    pub now: Timestamp,
    /// The version of the program.
    pub version: String,
}
