//! The one door through which errors leave: RFC 9457 problem documents.
//!
//! Handlers answer `Result<_, Problem>`; `request` renders the problem, since it alone knows the request id.
//! What a customer can act on is in `detail` and `errors`; what only the operator can act on is in `cause`,
//! which goes to the log.

use std::fmt;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};

use crate::acceptor::AcceptError;
use crate::contract::{self, ProblemCode, ProblemItem};
use crate::domain::likeness::{Unknown, quoted};
use crate::domain::{TaskId, TaskType};
use crate::store::StoreError;

/// What HTTP has for a code.
trait InHttp {
    fn status(self) -> StatusCode;

    /// How to come in (RFC 6750), where it was refused.
    fn challenge(self) -> Option<&'static str>;

    fn title(self) -> &'static str;
}

impl InHttp for ProblemCode {
    fn status(self) -> StatusCode {
        match self {
            Self::TokenNeeded | Self::InvalidToken => StatusCode::UNAUTHORIZED,
            Self::InsufficientScope | Self::CrossSite | Self::InsecureConnection | Self::OtherEndpoint => {
                StatusCode::FORBIDDEN
            }
            Self::InvitationOver => StatusCode::GONE,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::BadPath | Self::InvalidJson | Self::IncompleteBody => StatusCode::BAD_REQUEST,
            Self::UnknownTaskType
            | Self::UnknownTask
            | Self::UnknownEndpoint
            | Self::UnknownGroup
            | Self::UnknownSchedule
            | Self::UnknownRequest
            | Self::UnknownRollout
            | Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::NameTaken
            | Self::AmbiguousTask
            | Self::IdentifierConflict
            | Self::RequestConflict
            | Self::RolloutConflict
            | Self::WrongState
            | Self::StaleRevision
            | Self::AlreadyEnded
            | Self::NotWaiting
            | Self::CountMoved
            | Self::NothingFailed
            | Self::EndpointPresent => StatusCode::CONFLICT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::InvalidSubmission
            | Self::InvalidApproval
            | Self::InvalidGroup
            | Self::InvalidMessage
            | Self::InvalidQuery => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManySubmissions
            | Self::TooManyWaits
            | Self::QuotaExceeded
            | Self::TooManyWrongTokens => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::DatabaseUnavailable | Self::BrokerUnavailable | Self::Overloaded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    fn challenge(self) -> Option<&'static str> {
        match self {
            Self::TokenNeeded => Some(r#"Bearer realm="tasker""#),
            Self::InvalidToken => Some(r#"Bearer realm="tasker", error="invalid_token""#),
            Self::InsufficientScope => Some(r#"Bearer realm="tasker", error="insufficient_scope""#),
            _ => None,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::TokenNeeded => "A token is needed",
            Self::InvalidToken => "The token is not valid",
            Self::InsufficientScope => "The token is not good for this",
            Self::Misdirected => "The request is for another host",
            Self::CrossSite => "A page of another site sent the request",
            Self::InsecureConnection => "The connection is not secure",
            Self::BadPath => "The path is malformed",
            Self::InvalidJson => "The body is not acceptable JSON",
            Self::IncompleteBody => "The body is incomplete",
            Self::UnknownTaskType => "Unknown task type",
            Self::UnknownTask => "Unknown task",
            Self::AmbiguousTask => "Several tasks have this name",
            Self::UnknownEndpoint => "Unknown endpoint",
            Self::UnknownGroup => "Unknown group",
            Self::UnknownSchedule => "Unknown schedule",
            Self::UnknownRequest => "Unknown request",
            Self::UnknownRollout => "Unknown rollout",
            Self::InvitationOver => "The invitation is over",
            Self::OtherEndpoint => "The invitation is for another endpoint",
            Self::EndpointPresent => "The endpoint is there",
            Self::NotFound => "Nothing here",
            Self::MethodNotAllowed => "Method not allowed",
            Self::BodyTimeout => "The body took too long",
            Self::NameTaken => "The name is taken",
            Self::IdentifierConflict => "The identifier is taken",
            Self::RequestConflict => "The name of the request is taken",
            Self::RolloutConflict => "The identifier of the rollout is taken",
            Self::WrongState => "The rollout does not allow this now",
            Self::StaleRevision => "The rollout has changed",
            Self::AlreadyEnded => "It has already ended",
            Self::NotWaiting => "It does not wait for approval",
            Self::CountMoved => "Another number of tasks matches",
            Self::NothingFailed => "Nothing has failed",
            Self::BodyTooLarge => "The body is too large",
            Self::UnsupportedMediaType => "The body must be application/json",
            Self::InvalidSubmission => "The submission has problems",
            Self::InvalidApproval => "The approval has problems",
            Self::InvalidGroup => "The group has problems",
            Self::InvalidMessage => "The message has problems",
            Self::InvalidQuery => "The query has problems",
            Self::TooManySubmissions => "Too many submissions",
            Self::TooManyWaits => "Too many waiting requests",
            Self::QuotaExceeded => "The token is used too much",
            Self::TooManyWrongTokens => "Too many wrong tokens",
            Self::Internal => "Internal error",
            Self::DatabaseUnavailable => "The database is not available",
            Self::BrokerUnavailable => "The broker is not available",
            Self::Overloaded => "Overloaded",
        }
    }
}

/// An answer that is not what was asked for.
#[derive(Debug)]
pub struct Problem {
    code: ProblemCode,
    detail: String,
    errors: Vec<ProblemItem>,
    subject: Option<Box<Subject>>,
    allow: Option<String>,
    retry_after_secs: Option<u32>,
    cause: Option<String>,
}

/// What a problem is about, where it names that.
#[derive(Debug, Default)]
struct Subject {
    /// How many tasks a filter means.
    count: Option<u32>,
    /// The task that has the identifier.
    existing_id: Option<TaskId>,
    /// The value that nothing is known by.
    value: Option<String>,
    /// What was likely meant by it.
    suggestion: Option<String>,
}

/// Characters of a value that are sent back.
const MAX_VALUE: usize = 200;

/// Problems named in one answer at most; a list of 50,000 bad names is told from its beginning.
const MAX_ITEMS: usize = 1000;

impl Problem {
    /// A problem of this code.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            subject: None,
            allow: None,
            retry_after_secs: None,
            cause: None,
        }
    }

    /// No token was shown.
    pub fn token_needed() -> Self {
        Self::new(
            ProblemCode::TokenNeeded,
            "this needs a token: send the header `Authorization: Bearer TOKEN`",
        )
    }

    /// What was shown is no token, or not any more. Says not which, lest it be known that there was one.
    pub fn invalid_token() -> Self {
        Self::new(ProblemCode::InvalidToken, "no valid token has this secret")
    }

    /// The token is not good for this.
    pub fn insufficient_scope(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::InsufficientScope, detail)
    }

    /// The request is for another host.
    pub fn misdirected(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::Misdirected, detail)
    }

    /// No such task.
    pub fn unknown_task(task_type: &TaskType, name: &str) -> Self {
        Self::new(ProblemCode::UnknownTask, format!("task {} of type {task_type} not found", quoted(name)))
            .about(name, None)
    }

    /// A name that nothing has.
    pub fn unknown(code: ProblemCode, name: &str, unknown: Unknown<'_>) -> Self {
        Self::new(code, unknown.text).about(name, unknown.likely.map(str::to_owned))
    }

    /// A method the path does not take.
    pub fn method_not_allowed(method: &str, path: &str, allow: String) -> Self {
        let detail = format!("{path} does not take {method}, but {allow}");
        Self { allow: Some(allow), ..Self::new(ProblemCode::MethodNotAllowed, detail) }
    }

    /// Names the value that nothing is known by, and what was likely meant.
    pub fn about(self, value: &str, suggestion: Option<String>) -> Self {
        let value = value.chars().take(MAX_VALUE).collect();
        Self {
            subject: Some(Box::new(Subject { value: Some(value), suggestion, ..Subject::default() })),
            ..self
        }
    }

    /// Everything that is wrong with a body or a query.
    pub fn invalid(code: ProblemCode, mut errors: Vec<ProblemItem>) -> Self {
        let count = errors.len();
        errors.truncate(MAX_ITEMS);
        let detail = match count {
            1 => "1 problem".to_owned(),
            2..=MAX_ITEMS => format!("{count} problems"),
            _ => format!("{count} problems, of which the first {MAX_ITEMS} are listed"),
        };
        Self { errors, ..Self::new(code, detail) }
    }

    /// The identifier belongs to this other task.
    pub fn identifier_conflict(existing_id: TaskId) -> Self {
        let detail = "a task of this type has the same identifier and other content";
        Self::new(ProblemCode::IdentifierConflict, detail).with_existing(existing_id)
    }

    /// The identifier belongs to a task that the token may not read.
    pub fn identifier_of_another() -> Self {
        let detail = "the identifier is that of a task of this type that was not submitted with this token; choose another";
        Self::new(ProblemCode::IdentifierConflict, detail)
    }

    /// The task with the identifier was submitted with other options.
    pub fn other_options(existing_id: TaskId, options: &str) -> Self {
        let detail = format!(
            "a task of this type has the same identifier and content, and other options ({options}); leave them out to repeat it"
        );
        Self::new(ProblemCode::IdentifierConflict, detail).with_existing(existing_id)
    }

    /// The filter means so many tasks, and another number was expected.
    pub fn count_moved(count: u32, detail: String) -> Self {
        let subject = Subject { count: Some(count), ..Subject::default() };
        Self { subject: Some(Box::new(subject)), ..Self::new(ProblemCode::CountMoved, detail) }
    }

    /// Something only the operator can mend.
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(
            ProblemCode::Internal,
            "an unexpected error; the operator finds it in the log by the request id",
        )
        .because(cause)
    }

    /// What came cannot be handed on.
    pub fn broker_unavailable(cause: impl fmt::Display) -> Self {
        let problem = Self::new(
            ProblemCode::BrokerUnavailable,
            "the broker takes no messages now; send the same request again later",
        );
        problem.retry_after(5).because(cause)
    }

    /// The database does not answer: nothing is known to have been recorded, and the same request may be sent
    /// again.
    pub fn database_unavailable(cause: impl fmt::Display) -> Self {
        let problem = Self::new(
            ProblemCode::DatabaseUnavailable,
            "the ledger cannot be reached now; send the same request again later",
        );
        problem.retry_after(5).because(cause)
    }

    fn with_existing(self, id: TaskId) -> Self {
        Self { subject: Some(Box::new(Subject { existing_id: Some(id), ..Subject::default() })), ..self }
    }

    /// Says when to try again.
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_secs: Some(seconds), ..self }
    }

    /// The same in other words.
    pub fn saying(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// Keeps what the log should know.
    pub fn because(self, cause: impl fmt::Display) -> Self {
        Self { cause: Some(cause.to_string()), ..self }
    }

    /// What to branch on.
    pub const fn code(&self) -> ProblemCode {
        self.code
    }

    /// What happened this time.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What the log should know.
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// The answer for the request of this id.
    pub fn render(&self, request_id: &str) -> HttpResponse {
        let mut answer = HttpResponse::build(self.code.status());
        if let Some(challenge) = self.code.challenge() {
            answer.insert_header((header::WWW_AUTHENTICATE, challenge));
        }
        if let Some(allow) = &self.allow {
            answer.insert_header((header::ALLOW, allow.as_str()));
        }
        if let Some(seconds) = self.retry_after_secs {
            answer.insert_header((header::RETRY_AFTER, seconds));
        }
        if matches!(
            self.code,
            ProblemCode::BodyTimeout
                | ProblemCode::BodyTooLarge
                | ProblemCode::IncompleteBody
                | ProblemCode::Overloaded
        ) {
            // The rest of the body is not worth waiting for, nor what else such a client has asked for.
            answer.force_close();
        }
        answer
            .content_type("application/problem+json")
            .body(serde_json::to_vec(&self.body(request_id)).unwrap_or_default())
    }

    /// What is told of it.
    pub fn body(&self, request_id: &str) -> contract::Problem {
        let subject = self.subject.as_deref();
        contract::Problem {
            kind: format!("urn:tasker:problem:{}", self.code.as_str()),
            title: self.code.title().to_owned(),
            status: self.code.status().as_u16(),
            code: self.code.as_str().to_owned(),
            detail: self.detail.clone(),
            errors: self.errors.clone(),
            count: subject.and_then(|subject| subject.count),
            existing_id: subject.and_then(|subject| subject.existing_id),
            value: subject.and_then(|subject| subject.value.clone()),
            suggestion: subject.and_then(|subject| subject.suggestion.clone()),
            request_id: request_id.to_owned(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.code.status()
    }

    /// A bare answer: [`Problem::render`] makes the whole one.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

impl From<&StoreError> for Problem {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. }
            | StoreError::Busy { .. }
            | StoreError::Schema { .. }
            | StoreError::Missing { .. }
            | StoreError::NoTables { .. }
            | StoreError::NoDatabase { .. } => Self::database_unavailable(error),
            StoreError::TooLarge { .. } => Self::new(ProblemCode::BodyTooLarge, error.to_string()),
            StoreError::Rows { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Statement { .. }
            | StoreError::Address { .. } => Self::internal(error),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        (&error).into()
    }
}

impl From<AcceptError> for Problem {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Busy => Self::new(
                ProblemCode::TooManySubmissions,
                "too many submissions wait to be recorded; send this one again",
            )
            .retry_after(1),
            AcceptError::Stopping => Self::database_unavailable("this process is stopping"),
            AcceptError::Store(error) => error.as_ref().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::store::Refusal;

    use actix_web::body::{MessageBody, to_bytes};

    fn header<'a>(answer: &'a HttpResponse, name: &str) -> &'a str {
        answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    async fn body(answer: HttpResponse) -> serde_json::Value {
        let bytes = to_bytes(answer.into_body().boxed()).await.expect("a body");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    #[tokio::test]
    async fn a_problem_says_it_all() {
        let items = vec![
            ProblemItem::new("/identifier", "is missing"),
            ProblemItem::new("/x~1y", "is not a member of a submission"),
        ];
        let answer = Problem::invalid(ProblemCode::InvalidSubmission, items).render("r-1");
        assert_eq!(answer.status(), 422);
        assert_eq!(header(&answer, "content-type"), "application/problem+json");
        assert_eq!(
            body(answer).await,
            serde_json::json!({
                "type": "urn:tasker:problem:invalid_submission", "title": "The submission has problems", "status": 422,
                "code": "invalid_submission", "detail": "2 problems", "request_id": "r-1",
                "errors": [
                    {"pointer": "/identifier", "message": "is missing"},
                    {"pointer": "/x~1y", "message": "is not a member of a submission"},
                ],
            })
        );
    }

    #[tokio::test]
    async fn the_cause_stays_inside() {
        let error = StoreError::Statement { reason: "secret table".to_owned() };
        let problem = Problem::from(error);
        assert!(problem.cause().is_some_and(|cause| cause.contains("secret table")));
        let answer = problem.render("r-2");
        assert_eq!(answer.status(), 500);
        assert!(!body(answer).await.to_string().contains("secret"));
    }

    #[tokio::test]
    async fn an_outage_says_when_to_come_back() {
        let error = StoreError::Unavailable {
            safe_url: "mysql://db".to_owned(),
            reason: "refused".to_owned(),
            cause: Refusal::Unreachable,
        };
        let answer = Problem::from(AcceptError::Store(Arc::new(error))).render("r-3");
        assert_eq!((answer.status().as_u16(), header(&answer, "retry-after")), (503, "5"));
        let answer = Problem::from(AcceptError::Busy).render("r-4");
        assert_eq!((answer.status().as_u16(), header(&answer, "retry-after")), (429, "1"));
    }

    #[tokio::test]
    async fn a_conflict_names_the_other_task() {
        let id = TaskId::new();
        let answer = body(Problem::identifier_conflict(id).render("r-5")).await;
        assert_eq!(answer["existing_id"], id.to_string());
    }

    #[tokio::test]
    async fn a_long_list_is_told_from_its_beginning() {
        let items =
            (0..50_000).map(|index| ProblemItem::new(format!("/endpoints/{index}"), "is no name")).collect();
        let answer = body(Problem::invalid(ProblemCode::InvalidSubmission, items).render("r-6")).await;
        assert_eq!(answer["errors"].as_array().map(Vec::len), Some(MAX_ITEMS));
        assert_eq!(answer["detail"], "50000 problems, of which the first 1000 are listed");
    }

    #[test]
    fn codes_are_spelt_the_same_everywhere() {
        for code in [
            ProblemCode::TokenNeeded,
            ProblemCode::InvalidToken,
            ProblemCode::InsufficientScope,
            ProblemCode::BadPath,
            ProblemCode::IdentifierConflict,
            ProblemCode::TooManySubmissions,
            ProblemCode::DatabaseUnavailable,
            ProblemCode::InvalidJson,
        ] {
            assert_eq!(serde_json::to_value(code).expect("serialises"), code.as_str());
        }
    }
}
