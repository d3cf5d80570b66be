//! Groups of endpoints: selectors under a name.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::OneOrMany;
use crate::domain::{GroupName, Timestamp};

/// A group of endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// Its name.
    #[schema(value_type = String)]
    pub name: GroupName,
    /// The selector that holds for its endpoints, in its one spelling.
    #[serde(rename = "match")]
    pub selector: String,
    /// The token that has written it last; null where none was needed.
    #[schema(required = true)]
    pub changed_by: Option<String>,
    /// When that was.
    #[schema(value_type = String, format = DateTime)]
    pub changed_at: Timestamp,
}

/// All groups.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct GroupList {
    /// The groups, by name.
    pub groups: Vec<Group>,
}

/// What a group is to be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupChange {
    /// Selectors such as `site=berlin and role=web`, a text or several: each holds for its endpoints. A group
    /// names no other group.
    #[serde(rename = "match")]
    pub selectors: OneOrMany,
}
