//! What handlers log while they run.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{EndpointName, Timestamp};

/// Lines of the handlers of a task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LogPage {
    /// Those that have changed, in the order in which they did.
    pub logs: Vec<LogText>,
    /// What to give as `after` to go on.
    pub next: String,
    /// Whether nothing will follow: the responses have ended, and their lines are here or were before.
    pub ended: bool,
}

/// Lines of the handler of one endpoint.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LogText {
    /// Whose handler.
    #[schema(value_type = String)]
    pub endpoint: EndpointName,
    /// Bytes of its log before the text: those that were told before, and those that are not kept.
    pub begin: u64,
    /// The lines, each with a line feed. Lines that never came are told in a line of their own.
    pub text: String,
    /// When the last of them came.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
}
