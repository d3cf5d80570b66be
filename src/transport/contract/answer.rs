//! The answers of the endpoints of a task, in groups of equal ones.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{AnswerDigest, Difference, EndpointName, Json, ResponseStatus};

/// The answers to a task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Answers {
    /// The groups, in order of size; endpoints that have not answered are in groups by their status.
    pub groups: Vec<AnswerGroup>,
    /// Groups of answers that are smaller than those and not listed.
    pub more: MoreAnswers,
}

/// Groups that are not listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MoreAnswers {
    /// How many.
    pub groups: u64,
    /// How many endpoints they have together.
    pub endpoints: u64,
}

/// Endpoints that gave the same answer, or none.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AnswerGroup {
    /// The name of the answer, 32 hexadecimal digits; null where there is none, and for answers that were
    /// given to a version that made no groups.
    #[schema(value_type = Option<String>, required = true)]
    pub answer: Option<AnswerDigest>,
    /// Where the responses stand: `FINISHED` for answers.
    pub status: ResponseStatus,
    /// 0 for success; null where there is no answer.
    #[schema(required = true)]
    pub errnr: Option<i32>,
    /// How many endpoints.
    pub count: u64,
    /// The answer as one of them gave it.
    #[schema(required = true)]
    pub exemplar: Option<Exemplar>,
    /// What sets the answer apart from the largest group of answers; null for that group itself.
    #[schema(required = true)]
    pub difference: Option<Difference>,
}

/// An answer as one endpoint gave it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Exemplar {
    /// The first endpoint of the group by name.
    #[schema(value_type = String)]
    pub endpoint: EndpointName,
    /// What went wrong, empty on success.
    pub errmsg: String,
    /// What the handler answered.
    #[schema(value_type = Option<serde_json::Value>, required = true)]
    pub payload: Option<Json>,
    /// Whether the payload is left out because it is long: the response of the endpoint has it.
    #[serde(default)]
    #[schema(required = true)]
    pub payload_omitted: bool,
}
