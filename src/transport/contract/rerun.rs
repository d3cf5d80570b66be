//! A task once more.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{AnswerDigest, Fared, Identifier};

/// What is asked of a rerun.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rerun {
    /// Your name for the new task, as of a submission; the same rerun may be sent again under it.
    #[schema(value_type = String, min_length = 1, max_length = 191, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub identifier: Identifier,
    /// How endpoints must have fared to perform it again; all four unless said, or unless an `answer` is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 4)]
    pub only: Vec<Fared>,
    /// Only endpoints that gave this answer, as `GET /{type}/{id}/answers` names it; without `only` all that
    /// did, also those that succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[0-9A-Fa-f]{32}$", required = false)]
    pub answer: Option<AnswerDigest>,
}
