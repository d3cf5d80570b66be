//! Whom a task is for when it names no endpoints.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{self, Expect, GroupName};

/// What the endpoints of a task must be. Of a submission and a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Target {
    /// Selectors such as `site=berlin and not role=db`, each of which holds for them; docs/targets.md has the
    /// grammar.
    #[serde(rename = "match", default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 100)]
    pub selectors: Vec<String>,
    /// Groups of endpoints (`/groups`). With `match` too, an endpoint is meant by the one or the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 100)]
    pub groups: Vec<GroupName>,
    /// Selectors of which none holds for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 100)]
    pub exclude: Vec<String>,
    /// The percentage of these endpoints that the task is for, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u8, required = false, minimum = 1, maximum = 100, example = 10)]
    pub percent: Option<u8>,
    /// The largest number of these endpoints that the task is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u32, required = false, minimum = 1, example = 5)]
    pub limit: Option<u32>,
    /// The text that decides which endpoints `percent` and `limit` leave. The same seed chooses the same
    /// endpoints, and a larger part holds all endpoints of a smaller one. The default is the identifier of
    /// the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, max_length = 191)]
    pub seed: Option<String>,
    /// Whether endpoints that are stopped are meant too. Without it the task type decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Expect, required = false)]
    pub expect: Option<Expect>,
}

impl From<domain::Target> for Target {
    fn from(target: domain::Target) -> Self {
        let domain::Target { selectors, groups, exclude, percent, limit, seed, expect } = target;
        let texts = |selectors: Vec<domain::Selector>| selectors.into_iter().map(String::from).collect();
        Self { selectors: texts(selectors), groups, exclude: texts(exclude), percent, limit, seed, expect }
    }
}
