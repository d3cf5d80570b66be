//! Whom a task is for when it names no endpoints.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain;

/// What the endpoints of a task must be. Of a submission and a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Target {
    /// Selectors such as `site=berlin and not role=db`, each of which holds for them; docs/targets.md has the grammar.
    #[serde(rename = "match", default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 100)]
    pub selectors: Vec<String>,
    /// Selectors of which none holds for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 100)]
    pub exclude: Vec<String>,
    /// So many of a hundred of them, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u8, required = false, minimum = 1, maximum = 100, example = 10)]
    pub percent: Option<u8>,
    /// So many at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u32, required = false, minimum = 1, example = 5)]
    pub limit: Option<u32>,
    /// What decides who is in a part of them. The same seed chooses the same endpoints, and of a larger part all of a smaller one; the identifier of the
    /// task unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, max_length = 191)]
    pub seed: Option<String>,
}

impl From<domain::Target> for Target {
    fn from(target: domain::Target) -> Self {
        let domain::Target { selectors, exclude, percent, limit, seed } = target;
        let texts = |selectors: Vec<domain::Selector>| selectors.into_iter().map(String::from).collect();
        Self { selectors: texts(selectors), exclude: texts(exclude), percent, limit, seed }
    }
}
