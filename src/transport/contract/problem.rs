//! Why the API says no (RFC 9457).

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::TaskId;

/// A problem as it is sent (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:tasker:problem:` and the code.
    #[serde(rename = "type", default)]
    #[schema(required = true)]
    pub kind: String,
    /// The code in words; the same for every problem of this code.
    #[serde(default)]
    #[schema(required = true)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    #[schema(required = true)]
    pub status: u16,
    /// What to branch on.
    // A text, since a newer server may have codes that this reader does not know.
    #[serde(default)]
    #[schema(value_type = ProblemCode, required = true)]
    pub code: String,
    /// What happened this time.
    pub detail: String,
    /// Every single thing that was wrong with the body or the query.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<ProblemItem>,
    /// How many tasks the filter means now, with `count_moved`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u32, required = false)]
    pub count: Option<u32>,
    /// The task that has the identifier, with `identifier_conflict`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = uuid::Uuid, required = false)]
    pub existing_id: Option<TaskId>,
    /// The name or path that nothing has, with `unknown_...` and `not_found`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub value: Option<String>,
    /// What was likely meant by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub suggestion: Option<String>,
    /// Names this request in the log; absent where the problem is that of one of many submissions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    pub request_id: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // That it is one problem need not be said before it.
        if let ([error], None) = (&self.errors[..], self.existing_id) {
            let place = if error.pointer.is_empty() { String::new() } else { format!("{}: ", error.pointer) };
            return write!(f, "{place}{}", error.message);
        }
        f.write_str(&self.detail)?;
        if let Some(id) = self.existing_id {
            write!(f, " (task {id})")?;
        }
        self.errors.iter().try_for_each(|error| write!(f, "\n  {}: {}", error.pointer, error.message))
    }
}

/// One thing wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemItem {
    /// Where: a JSON pointer into the body (RFC 6901), or `?name` for a query parameter.
    pub pointer: String,
    /// What.
    pub message: String,
}

impl ProblemItem {
    /// A thing wrong at a place.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

/// What went wrong, as a word that programs may branch on. `docs/api.md` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// This needs a token, and none was shown.
    TokenNeeded,
    /// The token that was shown is none, or its time is over.
    InvalidToken,
    /// The token is for other things or other task types.
    InsufficientScope,
    /// The request is for another host than this one.
    Misdirected,
    /// A web page of another site has sent it.
    CrossSite,
    /// A session would be shown to others on the way.
    InsecureConnection,
    /// The path is not percent-encoded UTF-8, or holds control characters.
    BadPath,
    /// The body is not JSON that every reader agrees on.
    InvalidJson,
    /// The connection ended, or broke the framing, before the body was complete.
    IncompleteBody,
    /// No such task type is configured.
    UnknownTaskType,
    /// The type has no such task.
    UnknownTask,
    /// Several tasks have the identifier, and the path does not say of which type.
    AmbiguousTask,
    /// No endpoint of this name is known.
    UnknownEndpoint,
    /// No group of this name is stored.
    UnknownGroup,
    /// No schedule of this name is configured.
    UnknownSchedule,
    /// No request has the token.
    UnknownRequest,
    /// No rollout has the identifier.
    UnknownRollout,
    /// The invitation that was shown was used, or its time is over, or there never was one.
    InvitationOver,
    /// The invitation that was shown is for another endpoint.
    OtherEndpoint,
    /// The endpoint is there, so it is not forgotten.
    EndpointPresent,
    /// There is nothing at this path.
    NotFound,
    /// The path does not take this method; `Allow` says which it takes.
    MethodNotAllowed,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The worker's name is that of an endpoint that gets its tasks through the broker.
    NameTaken,
    /// The identifier belongs to a task of other content.
    IdentifierConflict,
    /// The client's name for the request belongs to a request of other content.
    RequestConflict,
    /// The identifier belongs to a rollout of another document.
    RolloutConflict,
    /// The rollout is in a state that does not allow it.
    WrongState,
    /// The rollout has changed since it was read.
    StaleRevision,
    /// The task or the request has ended otherwise and cannot be canceled.
    AlreadyEnded,
    /// The task waits for no approval.
    NotWaiting,
    /// The filter means another number of tasks than were expected.
    CountMoved,
    /// The request has no failed job that could be run again.
    NothingFailed,
    /// The body is longer than allowed.
    BodyTooLarge,
    /// The body is not plain `application/json`.
    UnsupportedMediaType,
    /// The body is JSON but not a submission.
    InvalidSubmission,
    /// The body is JSON but no signature of a person who may sign the task.
    InvalidApproval,
    /// The body is JSON but no group.
    InvalidGroup,
    /// The body is JSON but no message of a worker.
    InvalidMessage,
    /// A query parameter cannot be used.
    InvalidQuery,
    /// Too many submissions wait to be recorded.
    TooManySubmissions,
    /// Too many requests with this token, or of this worker, wait.
    TooManyWaits,
    /// The token has used what it may; `Retry-After` says when it may go on.
    QuotaExceeded,
    /// The address has shown too many wrong tokens, or invitations.
    TooManyWrongTokens,
    /// A defect; the log has more under the request id.
    Internal,
    /// The database does not answer.
    DatabaseUnavailable,
    /// The broker does not take messages.
    BrokerUnavailable,
    /// This process holds as many request bodies as it may.
    Overloaded,
}

impl ProblemCode {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokenNeeded => "token_needed",
            Self::InvalidToken => "invalid_token",
            Self::InsufficientScope => "insufficient_scope",
            Self::Misdirected => "misdirected",
            Self::CrossSite => "cross_site",
            Self::InsecureConnection => "insecure_connection",
            Self::BadPath => "bad_path",
            Self::InvalidJson => "invalid_json",
            Self::IncompleteBody => "incomplete_body",
            Self::UnknownTaskType => "unknown_task_type",
            Self::UnknownTask => "unknown_task",
            Self::AmbiguousTask => "ambiguous_task",
            Self::UnknownEndpoint => "unknown_endpoint",
            Self::UnknownGroup => "unknown_group",
            Self::UnknownSchedule => "unknown_schedule",
            Self::UnknownRequest => "unknown_request",
            Self::UnknownRollout => "unknown_rollout",
            Self::InvitationOver => "invitation_over",
            Self::OtherEndpoint => "other_endpoint",
            Self::EndpointPresent => "endpoint_present",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTimeout => "body_timeout",
            Self::NameTaken => "name_taken",
            Self::IdentifierConflict => "identifier_conflict",
            Self::RequestConflict => "request_conflict",
            Self::RolloutConflict => "rollout_conflict",
            Self::WrongState => "wrong_state",
            Self::StaleRevision => "stale_revision",
            Self::AlreadyEnded => "already_ended",
            Self::NotWaiting => "not_waiting",
            Self::CountMoved => "count_moved",
            Self::NothingFailed => "nothing_failed",
            Self::BodyTooLarge => "body_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::InvalidSubmission => "invalid_submission",
            Self::InvalidApproval => "invalid_approval",
            Self::InvalidGroup => "invalid_group",
            Self::InvalidMessage => "invalid_message",
            Self::InvalidQuery => "invalid_query",
            Self::TooManySubmissions => "too_many_submissions",
            Self::TooManyWaits => "too_many_waits",
            Self::QuotaExceeded => "quota_exceeded",
            Self::TooManyWrongTokens => "too_many_wrong_tokens",
            Self::Internal => "internal",
            Self::DatabaseUnavailable => "database_unavailable",
            Self::BrokerUnavailable => "broker_unavailable",
            Self::Overloaded => "overloaded",
        }
    }
}
