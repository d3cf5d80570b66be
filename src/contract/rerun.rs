//! A task once more.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{Fared, Identifier};

/// What is asked of a rerun.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rerun {
    /// Your name for the new task, as of a submission; the same rerun may be sent again under it.
    #[schema(value_type = String, min_length = 1, max_length = 191, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub identifier: Identifier,
    /// How endpoints must have fared to perform it again; all four unless said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 4)]
    pub only: Vec<Fared>,
}
