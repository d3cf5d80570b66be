//! What a customer asks for.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{EndpointName, Expect, GroupName, Identifier, Json, Timestamp};

/// The header of a request that says what its body is.
pub const BODY_HEADER: &str = "tasker-body";

/// Its value for a [`Submission`] where the type takes nothing but payloads (`body: payload`).
pub const ENVELOPE: &str = "envelope";

/// What is to be done, and by whom.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// Your name for the task: unique within the type, 1 to 191 characters of any script, no control
    /// characters. The same submission may be sent again under it.
    #[schema(
        value_type = String,
        min_length = 1,
        max_length = 191,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$",
        example = "e7bd91d0-16ad-11e2-892e-0800200c9a66"
    )]
    pub identifier: Identifier,
    /// Any JSON value, handed to the handler byte for byte; `""` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value, required = false)]
    pub payload: Option<Json>,
    /// The names of the endpoints that must perform it, and no others; none twice. Absent or empty: all that
    /// are subscribed to the type. Not for types with a work queue.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 50_000, value_type = HashSet<EndpointName>)]
    pub endpoints: Vec<EndpointName>,
    /// Selectors such as `site=berlin and not role=db`, a text or several: the task is for the endpoints
    /// subscribed to the type for which each holds, see docs/targets.md. This and the next six are not for
    /// types with a work queue, and do not go with `endpoints`.
    #[serde(rename = "match", default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 100, value_type = OneOrMany)]
    pub selectors: Vec<String>,
    /// Groups of endpoints (`/groups`): the task is for the endpoints in one of them, and for those of
    /// `match`, if that is there too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 100)]
    pub groups: Vec<GroupName>,
    /// Selectors, a text or several: not for endpoints for which one of them holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 100, value_type = OneOrMany)]
    pub exclude: Vec<String>,
    /// Only for this percentage of these endpoints, rounded up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u8, required = false, minimum = 1, maximum = 100, example = 10)]
    pub percent: Option<u8>,
    /// Only for this many of these endpoints at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u32, required = false, minimum = 1, example = 5)]
    pub limit: Option<u32>,
    /// With `percent` or `limit`: the text that decides which endpoints these leave. The same seed chooses
    /// the same endpoints, and a larger part holds all endpoints of a smaller one. The default is the
    /// identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, max_length = 191)]
    pub seed: Option<String>,
    /// `known`: the task is also for endpoints that are stopped or silent, which get it when they are back
    /// within its time. `subscribed`: it is not. The default is that of the type.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Expect, required = false)]
    pub expect: Option<Expect>,
    /// For types with a work queue: the lower, the sooner. The type's own unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = i32, required = false, minimum = -1_000_000, maximum = 1_000_000, example = 10)]
    pub priority: Option<i32>,
    /// For types with a work queue: how long the task is worth starting, such as `3d`; at most the longer of
    /// the type's `ttl` and `expires_after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        value_type = String,
        required = false,
        pattern = "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?([0-9]+us)?$",
        min_length = 2,
        example = "3d"
    )]
    pub ttl: Option<String>,
    /// For types with a work queue: the task is not to begin before this time; its life begins then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, format = DateTime)]
    pub run_at: Option<Timestamp>,
}

/// One text, or several.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Submission {
    /// A submission that asks for nothing but the task.
    pub fn new(identifier: Identifier, payload: Option<Json>) -> Self {
        Self {
            identifier,
            payload,
            endpoints: Vec::new(),
            selectors: Vec::new(),
            groups: Vec::new(),
            exclude: Vec::new(),
            percent: None,
            limit: None,
            seed: None,
            expect: None,
            priority: None,
            ttl: None,
            run_at: None,
        }
    }
}
