//! The API as a customer sees it, typed.
//!
//! One method a route. Nothing is retried here: submitting is safe to repeat since the identifier names the task, so
//! whoever calls decides with [`ClientError::is_transient`].

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::broker::fetch::ApiAccess;
use crate::config::{Secret, is_loopback};
use crate::domain::{AttemptError, EndpointName, Identifier, Json, LateAnswer, ResponseStatus, TaskId, TaskStatus, TaskType, Timestamp};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// How long an answer may take, beyond a wait that was asked for.
const ANSWER: Duration = Duration::from_secs(30);

/// The longest wait the API takes.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Why there is no answer, or not the one that was wanted.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("`{address}` is not the address of an API: expected `http://host:port` or `https://host`")]
    Address {
        /// What was given.
        address: String,
    },
    /// Nobody answers there.
    #[error("no API answers at {url} ({reason}): start one with `tasker up` or `tasker api`, or name another with --api")]
    Unreachable {
        /// Where.
        url: String,
        /// What was seen.
        reason: String,
    },
    /// The connection was lost, or no answer came in time.
    #[error("the API at {url} did not answer: {reason}")]
    Lost {
        /// Where.
        url: String,
        /// What was seen.
        reason: String,
    },
    /// The API says no.
    #[error("{problem}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its words.
        problem: Box<Problem>,
    },
    /// The API's certificate is not one that we trust.
    #[error("the certificate of {url} is not trusted ({reason}): pass the certificate of its CA with --ca-file")]
    Untrusted {
        /// Where.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The API does not let us in, or not for this.
    #[error("{problem}; {hint}")]
    Locked {
        /// Its words.
        problem: Box<Problem>,
        /// What to do about it.
        hint: &'static str,
    },
    /// The CA certificates cannot be used.
    #[error("the certificates of --ca-file cannot be used: {0}")]
    Trust(String),
    /// One side speaks TLS and the other does not.
    #[error("{url} does not speak {spoken}: use {other}://")]
    Scheme {
        /// Where.
        url: String,
        /// What we spoke.
        spoken: &'static str,
        /// What to try.
        other: &'static str,
    },
    /// What answers does not speak as our API does.
    #[error("what answers at {url} is not this version's API: {reason}")]
    Foreign {
        /// Where.
        url: String,
        /// What was seen.
        reason: String,
    },
    /// `.` and `..` mean something else in an address.
    #[error("a task with the identifier `{0}` can only be named by its task id")]
    Unnameable(String),
}

impl ClientError {
    /// Whether trying again later, unchanged, can help.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } => true,
            Self::Refused { status, .. } => matches!(*status, 429 | 502 | 503 | 504),
            Self::Address { .. }
            | Self::Untrusted { .. }
            | Self::Locked { .. }
            | Self::Trust(_)
            | Self::Scheme { .. }
            | Self::Foreign { .. }
            | Self::Unnameable(_) => false,
        }
    }

    /// One word for programs.
    pub fn code(&self) -> &str {
        match self {
            Self::Address { .. } => "address",
            Self::Unreachable { .. } => "unreachable",
            Self::Lost { .. } => "lost",
            Self::Refused { problem, .. } | Self::Locked { problem, .. } => &problem.code,
            Self::Untrusted { .. } => "untrusted",
            Self::Trust(_) => "trust",
            Self::Scheme { .. } => "scheme",
            Self::Foreign { .. } => "foreign",
            Self::Unnameable(_) => "unnameable",
        }
    }
}

/// Why the API says no (`application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// One word for programs.
    #[serde(default)]
    pub code: String,
    /// A sentence for people.
    pub detail: String,
    /// What is wrong with which member of the body.
    #[serde(default)]
    pub errors: Vec<MemberError>,
    /// The task that has the identifier already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing_id: Option<TaskId>,
    /// To find the request in the API's log.
    #[serde(default)]
    pub request_id: Option<String>,
}

/// What is wrong with a member of the body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberError {
    /// Which member, as a JSON pointer.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
}

impl Problem {
    /// The same with the names of flags in place of JSON pointers and query parameters, for a person who has typed those.
    #[must_use]
    pub fn with_flags(mut self, submission: Option<&Submission>) -> Self {
        let flag = |pointer: &str| flag_of(pointer, submission);
        for error in &mut self.errors {
            let words = error.message.split(' ').map(|word| if word.starts_with('/') { flag(word) } else { word.to_owned() });
            error.message = words.collect::<Vec<_>>().join(" ");
            error.pointer = flag(&error.pointer);
        }
        self
    }
}

/// The flag that has made a member of a body or a parameter of a query; other texts stay as they are.
fn flag_of(pointer: &str, submission: Option<&Submission>) -> String {
    if let Some(parameter) = pointer.strip_prefix('?') {
        return format!("--{parameter}");
    }
    let Some(member) = pointer.strip_prefix('/') else { return pointer.to_owned() };
    let (member, rest) = member.split_once('/').map_or((member, None), |(member, rest)| (member, Some(rest)));
    match (member, rest) {
        ("identifier" | "priority" | "ttl" | "payload", None) => format!("--{member}"),
        ("run_at", None) => "--run-at".to_owned(),
        ("payload", Some(rest)) => format!("--payload /{rest}"),
        ("endpoints", None) => "--endpoints".to_owned(),
        ("endpoints", Some(place)) => {
            let name = submission.zip(place.parse::<usize>().ok()).and_then(|(submission, place)| submission.endpoints.get(place));
            name.map_or_else(|| "--endpoints".to_owned(), |name| format!("--endpoints {name}"))
        }
        _ => pointer.to_owned(),
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

/// A task to submit.
#[derive(Debug, Clone, Serialize)]
pub struct Submission {
    /// The customer's name for it.
    pub identifier: Identifier,
    /// The customer's data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Json>,
    /// Who is to perform it; empty means whoever is subscribed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<EndpointName>,
    /// Of a work queue: the lower, the sooner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Of a work queue: how long it is worth starting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Of a work queue: not to begin before then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
}

/// A task as the API shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// The API's name for it.
    pub id: TaskId,
    /// The customer's name for it.
    pub identifier: Identifier,
    /// Its type.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Where it stands.
    pub status: TaskStatus,
    /// When it was accepted.
    pub start_time: Timestamp,
    /// The endpoints asked for.
    pub endpoints: Vec<EndpointName>,
    /// The customer's data.
    pub payload: Json,
    /// Endpoints that must answer.
    pub expected: u32,
    /// Of these, how many have received it.
    pub received: u32,
    /// Of these, how many have finished.
    pub finished: u32,
    /// Of the finished, how many with an error.
    pub failed: u32,
    /// Withdrawn by a cancel.
    pub canceled: u32,
    /// Given up when the task's time was over.
    pub expired: u32,
    /// When the broker confirmed it.
    #[serde(default)]
    pub published_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
    /// When every expected endpoint should have received it.
    pub receive_by: Timestamp,
    /// When it is given up.
    pub expires_at: Timestamp,
    /// What a task of a work queue has besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<serde_json::Value>,
    /// Expected endpoints that have not received it; only where one task is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Vec<EndpointName>>,
    /// What is allowed but rarely meant; only in the answer to a submission.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What one endpoint did with a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Response {
    /// A name of this row.
    pub id: Json,
    /// The task.
    pub task_id: TaskId,
    /// Who answers.
    pub endpoint: EndpointName,
    /// Where it stands.
    pub status: ResponseStatus,
    /// 0 for success; absent before the end.
    #[serde(default)]
    pub errnr: Option<i32>,
    /// What went wrong.
    #[serde(default)]
    pub errmsg: Option<String>,
    /// What the handler answered.
    #[serde(default)]
    pub payload: Option<Json>,
    /// The attempt that decided.
    #[serde(default)]
    pub attempt: u32,
    /// What earlier attempts died of.
    #[serde(default)]
    pub attempts: Vec<AttemptError>,
    /// Percent done.
    #[serde(default)]
    pub progress: Option<u8>,
    /// The last lines the handler logged.
    #[serde(default)]
    pub log: Option<String>,
    /// When the API learnt that the endpoint has it.
    #[serde(default)]
    pub start_time: Option<Timestamp>,
    /// When it last changed.
    pub last_modified_time: Timestamp,
    /// Whether the endpoint has it and is not there any more.
    #[serde(default)]
    pub vanished: bool,
    /// Another answer, which came after the end and changed nothing.
    #[serde(default)]
    pub late: Option<LateAnswer>,
}

/// A task with what endpoints did with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The task.
    pub task: Task,
    /// The responses that were asked for.
    #[serde(rename = "taskResponseList")]
    pub responses: Vec<Response>,
}

/// What a task is called by who asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskName {
    /// Its type; unknown to those who have but an id, or an identifier that no task of another type has.
    pub task_type: Option<TaskType>,
    /// Identifier or id.
    pub id: String,
}

impl TaskName {
    /// A task that the API has told of.
    pub fn of(task: &Task) -> Self {
        Self { task_type: Some(task.task_type.clone()), id: task.id.to_string() }
    }

    fn path(&self) -> [&str; 2] {
        [self.task_type.as_ref().map_or("tasks", TaskType::as_str), &self.id]
    }
}

/// What came of a submission.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// The task.
    pub task: Task,
    /// Whether it was there already.
    pub repeated: bool,
}

/// Which responses to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Responses {
    /// Every one.
    #[default]
    All,
    /// Those finished with an error.
    Failed,
    /// Those of endpoints that have not received it.
    Missing,
    /// None at all.
    None,
}

impl Responses {
    const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Failed => "failed",
            Self::Missing => "missing",
            Self::None => "none",
        }
    }
}

/// Which tasks to list.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only these states; empty means all.
    pub status: Vec<TaskStatus>,
    /// Only identifiers that begin so.
    pub identifier: Option<String>,
    /// Only tasks accepted at or after this.
    pub since: Option<Timestamp>,
    /// Only tasks accepted before this.
    pub until: Option<Timestamp>,
    /// At most this many.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// A page of tasks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskPage {
    /// Newest first.
    pub tasks: Vec<Task>,
    /// Where the next page begins, if there is one.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// The work queues.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QueueList {
    /// In the order of the configuration.
    pub queues: Vec<Queue>,
}

/// How a work queue stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Queue {
    /// Its task type.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Since when it gives out no tasks.
    pub paused_at: Option<Timestamp>,
    /// Tasks that wait for a worker.
    pub waiting: u64,
    /// Tasks that wait until fewer of their key run.
    pub held: u64,
    /// Tasks that are not to begin yet.
    pub delayed: u64,
    /// Tasks that workers have.
    pub running: u64,
    /// Since when the longest waiting one waits.
    pub oldest: Option<Timestamp>,
}

/// What is submitted at times.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScheduleList {
    /// In the order of the configuration.
    pub schedules: Vec<Schedule>,
}

/// A task that is submitted at times.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// The type of its tasks.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// The pattern of its times.
    pub cron: String,
    /// By the clocks of where.
    pub time_zone: String,
    /// What becomes of times that were missed.
    pub missed: String,
    /// Who is to perform its tasks; empty means whoever is subscribed.
    pub endpoints: Vec<EndpointName>,
    /// Times up to this have been seen to.
    pub done_until: Option<Timestamp>,
    /// When the next task is submitted.
    pub next: Option<Timestamp>,
    /// The same by the clocks of the time zone.
    #[serde(default)]
    pub next_local: Option<String>,
    /// Since when no tasks are submitted.
    #[serde(default)]
    pub paused_at: Option<Timestamp>,
    /// Why the last task that could not be submitted was not.
    #[serde(default)]
    pub last_error: Option<String>,
    /// When that was.
    #[serde(default)]
    pub last_error_at: Option<Timestamp>,
}

/// A page of endpoints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EndpointPage {
    /// By name.
    pub endpoints: Vec<Endpoint>,
    /// Where the next page begins, if there is one.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// An endpoint the API knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its name.
    pub name: EndpointName,
    /// When it was last heard of.
    pub last_seen: Timestamp,
    /// Its version of the program.
    pub version: String,
    /// Milliseconds that its clock is ahead of the database's.
    #[serde(default)]
    pub clock_offset_ms: Option<i64>,
    /// What it subscribes to.
    pub types: Vec<Subscription>,
}

/// An endpoint that is forgotten.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForgottenEndpoint {
    /// Its name.
    pub name: EndpointName,
    /// Responses that it still owes.
    pub open: u64,
}

/// A type an endpoint consumes, or did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Subscription {
    /// The type.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Whether it does now.
    pub subscribed: bool,
    /// What is wrong, such as why it takes none although it is there.
    #[serde(default)]
    pub trouble: Option<String>,
    /// How many tasks a worker performs at the same time, of all its types together.
    #[serde(default)]
    pub slots: Option<u32>,
    /// The process of the same name that takes over when this one is gone.
    #[serde(default)]
    pub standby: Option<Standby>,
}

/// A second process of an endpoint's name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Standby {
    /// Which process.
    pub instance: Uuid,
    /// Since when it stands by.
    pub since: Timestamp,
    /// Until when it stands by if nothing more is heard of it.
    pub seen_until: Timestamp,
}

/// Whether tasks add up.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Census {
    /// Tasks that were accepted.
    pub accepted: u64,
    /// Of these, those that have ended or are in time, and whose responses add up.
    pub accounted: u64,
    /// The others.
    pub missing: u64,
    /// Responses of all of them.
    pub expected: u64,
    /// Responses that are not final yet.
    pub open: u64,
    /// Responses that were run twice.
    pub double: u64,
    /// Runs of handlers that began; 0 from an API that does not count them.
    #[serde(default)]
    pub executions: u64,
    /// Of these, those that a stop or the end of a process interrupted.
    #[serde(default)]
    pub interrupted: u64,
    /// Responses with more attempts than the type's policy allows.
    #[serde(default)]
    pub excess: u64,
    /// What is wrong, some of it.
    pub flaws: Vec<Flaw>,
    /// Where to go on; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// What is wrong with a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Flaw {
    /// The task.
    pub id: TaskId,
    /// The customer's name for it.
    pub identifier: Identifier,
    /// For people.
    pub reason: String,
}

/// Whose certificates are trusted.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// Those the system vouches for.
    #[default]
    System,
    /// Those, and what these certificates in PEM vouch for.
    Bundle(Vec<u8>),
    /// Any: whoever answers gets the token.
    Anybody,
}

/// A client of one API. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    base: Url,
    http: reqwest::Client,
    token: Option<Secret>,
}

impl Client {
    /// A client of the API at an address such as `http://127.0.0.1:8888`. Connects when first used.
    ///
    /// # Errors
    /// [`ClientError::Address`].
    pub fn new(address: &str) -> Result<Self, ClientError> {
        let invalid = || ClientError::Address { address: shown(address) };
        let base = Url::parse(address).map_err(|_| invalid())?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() || base.query().is_some() || base.fragment().is_some() {
            return Err(invalid());
        }
        Ok(Self { base, http: crate::https::build(http).map_err(|_| invalid())?, token: None })
    }

    /// The same client, with other certificates to trust.
    ///
    /// # Errors
    /// [`ClientError::Trust`].
    pub fn trusting(self, trust: Trust) -> Result<Self, ClientError> {
        let unusable = |error: reqwest::Error| ClientError::Trust(root_cause(&error));
        let http = match trust {
            Trust::System => return Ok(self),
            Trust::Bundle(pem) => {
                let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(unusable)?;
                if certificates.is_empty() {
                    return Err(ClientError::Trust("there is no certificate in PEM".to_owned()));
                }
                http().tls_certs_merge(certificates)
            }
            Trust::Anybody => http().tls_danger_accept_invalid_certs(true),
        };
        Ok(Self { http: http.build().map_err(unusable)?, ..self })
    }

    /// The same client, which shows a token.
    #[must_use]
    pub fn with_token(self, token: Option<Secret>) -> Self {
        Self { token, ..self }
    }

    /// What a worker needs to reach the same API.
    pub fn into_access(self) -> ApiAccess {
        ApiAccess { url: self.base.as_str().trim_end_matches('/').to_owned(), client: self.http, token: self.token }
    }

    /// Whether others on the way can read its token.
    pub fn exposes_token(&self) -> bool {
        self.token.is_some() && self.base.scheme() == "http" && !self.base.host_str().is_some_and(is_loopback)
    }

    /// Submits a task; submitting the same again answers the task that is there.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn submit(&self, task_type: &TaskType, submission: &Submission) -> Result<Submitted, ClientError> {
        let request = self.request(Method::POST, &[task_type.as_str()])?.json(submission);
        let (status, task) = self.answer(request, ANSWER).await?;
        Ok(Submitted { task, repeated: status == StatusCode::OK })
    }

    /// A task. With `wait` the API answers when the task ends, at the latest after that time or a minute.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn status(&self, name: &TaskName, wait: Option<Duration>, responses: Responses) -> Result<Report, ClientError> {
        let mut request = self.request(Method::GET, &name.path())?.query(&[("responses", responses.as_str())]);
        if let Some(wait) = wait {
            request = request.query(&[("wait", format!("{}ms", wait.min(LONGEST_WAIT).as_millis()))]);
        }
        Ok(self.answer(request, ANSWER + LONGEST_WAIT).await?.1)
    }

    /// A task with the response of one endpoint; none when that is not expected to answer.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn answer_of(&self, name: &TaskName, endpoint: &EndpointName) -> Result<Report, ClientError> {
        let request = self.request(Method::GET, &name.path())?.query(&[("endpoint", endpoint.as_str())]);
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// A page of the tasks of a type, or of all types.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn list(&self, task_type: Option<&TaskType>, query: &Query) -> Result<TaskPage, ClientError> {
        let status: Vec<_> = query.status.iter().map(|status| status.as_str()).collect();
        let parameters = [
            ("status", (!status.is_empty()).then(|| status.join(","))),
            ("identifier", query.identifier.clone()),
            ("since", query.since.map(|time| time.to_string())),
            ("until", query.until.map(|time| time.to_string())),
            ("limit", query.limit.map(|limit| limit.to_string())),
            ("cursor", query.cursor.clone()),
        ];
        let request = self.request(Method::GET, &[task_type.map_or("tasks", TaskType::as_str)])?.query(&given(parameters));
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// Cancels a task.
    ///
    /// # Errors
    /// Any [`ClientError`]; [`ClientError::Refused`] with 409 when it has ended otherwise.
    pub async fn cancel(&self, name: &TaskName) -> Result<Task, ClientError> {
        Ok(self.answer(self.request(Method::DELETE, &name.path())?, ANSWER).await?.1)
    }

    /// A page of the endpoints the API knows.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn endpoints(&self, limit: Option<u32>, cursor: Option<&str>) -> Result<EndpointPage, ClientError> {
        let parameters = [("limit", limit.map(|limit| limit.to_string())), ("cursor", cursor.map(str::to_owned))];
        let request = self.request(Method::GET, &["endpoints"])?.query(&given(parameters));
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// Forgets an endpoint.
    ///
    /// # Errors
    /// Any [`ClientError`]; [`ClientError::Refused`] with 409 when it is there and `force` is false.
    pub async fn forget_endpoint(&self, name: &EndpointName, force: bool) -> Result<ForgottenEndpoint, ClientError> {
        let request = self.request(Method::DELETE, &["endpoints", name.as_str()])?.query(&[("force", force)]);
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// The work queues.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn queues(&self) -> Result<QueueList, ClientError> {
        Ok(self.answer(self.request(Method::GET, &["queues"])?, ANSWER).await?.1)
    }

    /// The schedules.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn schedules(&self) -> Result<ScheduleList, ClientError> {
        Ok(self.answer(self.request(Method::GET, &["schedules"])?, ANSWER).await?.1)
    }

    /// Submits the task of a schedule now.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn run_schedule(&self, name: &str) -> Result<Task, ClientError> {
        let request = self.request(Method::POST, &["schedules", name, "run"])?.header(CONTENT_TYPE, "application/json");
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// Pauses a schedule, or lets it go on; answers how it stands.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn pause_schedule(&self, name: &str, paused: bool) -> Result<Schedule, ClientError> {
        let what = if paused { "pause" } else { "resume" };
        let request = self.request(Method::POST, &["schedules", name, what])?.header(CONTENT_TYPE, "application/json");
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// Pauses the queue of a type, or lets it go on; answers how it stands.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn pause(&self, task_type: &TaskType, paused: bool) -> Result<Queue, ClientError> {
        let what = if paused { "pause" } else { "resume" };
        // Without it a web page could send the same.
        let request = self.request(Method::POST, &["queues", task_type.as_str(), what])?.header(CONTENT_TYPE, "application/json");
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// The sums of some tasks of a type, from the oldest on.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn census(
        &self,
        task_type: &TaskType,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        cursor: Option<String>,
    ) -> Result<Census, ClientError> {
        let parameters = [
            ("type", Some(task_type.to_string())),
            ("since", since.map(|time| time.to_string())),
            ("until", until.map(|time| time.to_string())),
            ("cursor", cursor),
        ];
        let request = self.request(Method::GET, &["census"])?.query(&given(parameters));
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// The task types the API is configured with.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn task_types(&self) -> Result<Vec<TaskType>, ClientError> {
        #[derive(Deserialize)]
        struct Index {
            task_types: Vec<TaskType>,
        }
        let index: Index = self.answer(self.request(Method::GET, &[])?, ANSWER).await?.1;
        Ok(index.task_types)
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, ClientError> {
        let request = self.http.request(method, address(&self.base, path)?);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        })
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder, patience: Duration) -> Result<(StatusCode, T), ClientError> {
        let answer = request.timeout(patience).send().await.map_err(|error| self.failure(&error))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| self.failure(&error))?;
        if let Some(hint) = hint(status, self.token.is_some()) {
            return Err(ClientError::Locked { problem: Box::new(problem(status, &body)), hint });
        }
        if !status.is_success() {
            return Err(ClientError::Refused { status: status.as_u16(), problem: Box::new(problem(status, &body)) });
        }
        let value = serde_json::from_slice(&body).map_err(|error| ClientError::Foreign { url: self.url(), reason: error.to_string() })?;
        Ok((status, value))
    }

    fn failure(&self, error: &reqwest::Error) -> ClientError {
        let (url, reason) = (self.url(), root_cause(error));
        match tls_error(error) {
            Some(rustls::Error::InvalidCertificate(_)) => return ClientError::Untrusted { url, reason },
            Some(rustls::Error::InvalidMessage(_)) => return ClientError::Scheme { url, spoken: "https", other: "http" },
            _ => {}
        }
        // The alert with which TLS refuses a plain request.
        if self.base.scheme() == "http" && reason.contains("invalid http version") {
            return ClientError::Scheme { url, spoken: "http", other: "https" };
        }
        if error.is_connect() { ClientError::Unreachable { url, reason } } else { ClientError::Lost { url, reason } }
    }

    fn url(&self) -> String {
        shown(self.base.as_str())
    }
}

fn http() -> reqwest::ClientBuilder {
    // A redirect could carry a submission, and the token, to somewhere else.
    crate::https::client().connect_timeout(CONNECT).redirect(reqwest::redirect::Policy::none())
}

/// What to do about a door that stays shut.
const fn hint(status: StatusCode, shown: bool) -> Option<&'static str> {
    match (status, shown) {
        (StatusCode::UNAUTHORIZED, false) => {
            Some("name a file that holds a token with --token-file or TASKER_TOKEN_FILE; `tasker token create` makes one")
        }
        (StatusCode::UNAUTHORIZED, true) => Some("look with `tasker token list` whether the token is there and its time is not over"),
        (StatusCode::FORBIDDEN, _) => Some("`tasker token list` shows what each token is good for"),
        _ => None,
    }
}

/// An address as it may be shown: what stands before `@` may be a password.
fn shown(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host).trim_end_matches('/');
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}

/// The address of a path below the base, each segment encoded.
fn address(base: &Url, path: &[&str]) -> Result<Url, ClientError> {
    let mut url = base.clone();
    for segment in path {
        if matches!(*segment, "." | "..") {
            return Err(ClientError::Unnameable((*segment).to_owned()));
        }
    }
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    Ok(url)
}

fn given<const N: usize>(parameters: [(&'static str, Option<String>); N]) -> Vec<(&'static str, String)> {
    parameters.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect()
}

/// The API's words; those of a proxy before it are not JSON and only their status counts.
fn problem(status: StatusCode, body: &[u8]) -> Problem {
    serde_json::from_slice(body).unwrap_or_else(|_| Problem {
        code: format!("http_{}", status.as_u16()),
        detail: format!("the answer was HTTP {status}"),
        errors: Vec::new(),
        existing_id: None,
        request_id: None,
    })
}

/// What went wrong with TLS, if that was the reason.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut chain: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = chain {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        // An I/O error is in the place of what it wraps, and does not name it as its source.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        chain = wrapped.map(|wrapped| wrapped as _).or_else(|| error.source());
    }
    None
}

/// The innermost error, which says what happened; the outer ones say during what, and name the whole address.
fn root_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a fresh submission to console1 and console2 looks like.
    pub(in crate::cli) fn task() -> Task {
        serde_json::from_str(
            r#"{"id":"0190a6c8-5f5e-7c3a-8000-000000000001","identifier":"e7bd91d0-16ad-11e2-892e-0800200c9a66","type":"backup",
                "status":"CREATED","start_time":"2024-07-12T10:00:00.000000Z","endpoints":["console1","console2"],"payload":{"foo":1.0},
                "expected":0,"received":0,"finished":0,"failed":0,"canceled":0,"expired":0,"published_at":null,"finished_at":null,
                "receive_by":"2024-07-12T10:00:30Z","expires_at":"2024-07-13T10:00:00Z"}"#,
        )
        .expect("the contract's own example")
    }

    /// A response of console1 that failed like the sample handler.
    pub(in crate::cli) fn response() -> Response {
        serde_json::from_str(
            r#"{"id":"0190a6c8-5f5e-7c3a-8000-000000000001/console1","task_id":"0190a6c8-5f5e-7c3a-8000-000000000001","endpoint":"console1",
                "status":"FINISHED","errnr":32,"errmsg":"could not backup!","payload":null,"attempt":1,"attempts":[],"progress":null,
                "log":null,"start_time":"2024-07-12T10:00:00Z","last_modified_time":"2024-07-12T10:00:05Z"}"#,
        )
        .expect("the contract's own example")
    }

    #[test]
    fn keeps_what_it_reads() {
        let text = serde_json::to_string(&Report { task: task(), responses: vec![response()] }).expect("serialises");
        assert!(text.contains(r#""payload":{"foo":1.0}"#), "{text}");
        assert!(text.contains(r#""taskResponseList":[{"id":"0190"#), "{text}");
    }

    #[test]
    fn encodes_identifiers() {
        let base = Url::parse("http://h:1/tasker/").expect("an address");
        let made = |id| address(&base, &["worker", id]).map(|url| url.to_string()).map_err(|error| error.to_string());
        assert_eq!(made("a b/c?d#ä%"), Ok("http://h:1/tasker/worker/a%20b%2Fc%3Fd%23%C3%A4%25".to_owned()));
        assert_eq!(made(".."), Err("a task with the identifier `..` can only be named by its task id".to_owned()));
    }

    #[test]
    fn refuses_other_addresses() {
        for address in ["", "localhost", "localhost:8888", "ftp://h", "http://", "http://h?x=1", "https://u:hunter2@"] {
            let error = Client::new(address).expect_err(address).to_string();
            assert!(error.contains("is not the address of an API") && !error.contains("hunter2"), "{error}");
        }
        assert_eq!(shown("http://u:hunter2@h:1/x/"), "http://h:1/x");
    }

    #[test]
    fn a_person_is_told_of_flags() {
        let error = |pointer: &str, message: &str| MemberError { pointer: pointer.to_owned(), message: message.to_owned() };
        let errors = vec![
            error("/endpoints/1", "repeats /endpoints/0"),
            error("/payload/seconds", "is not a number"),
            error("/run_at", "is no time"),
            error("?since", "must be a time"),
            error("", "is missing"),
        ];
        let problem = Problem { code: "x".to_owned(), detail: "5 problems".to_owned(), errors, existing_id: None, request_id: None };
        let endpoints = ["a", "b"].map(|name| name.parse().expect("a name")).to_vec();
        let identifier = "i".parse().expect("an identifier");
        let submission = Submission { identifier, payload: None, endpoints, priority: None, ttl: None, run_at: None };
        let told = problem.with_flags(Some(&submission)).to_string();
        let lines = [
            "5 problems",
            "--endpoints b: repeats --endpoints a",
            "--payload /seconds: is not a number",
            "--run-at: is no time",
            "--since: must be a time",
            ": is missing",
        ];
        assert_eq!(told.lines().map(str::trim).collect::<Vec<_>>(), lines);
    }

    #[test]
    fn reads_problems_of_others() {
        let ours = br#"{"type":"about:blank","code":"invalid_body","detail":"the body is not valid","errors":[{"pointer":"/identifier","message":"is missing"}]}"#;
        assert_eq!(problem(StatusCode::UNPROCESSABLE_ENTITY, ours).to_string(), "/identifier: is missing");
        let proxy = problem(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!((proxy.code.as_str(), proxy.detail.as_str()), ("http_502", "the answer was HTTP 502 Bad Gateway"));
    }

    #[tokio::test]
    async fn says_who_does_not_answer() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let client = Client::new(&format!("http://{free}")).expect("an address");
        let error = client.endpoints(None, None).await.expect_err("nobody listens");
        assert!(error.is_transient());
        assert_eq!(
            error.to_string(),
            format!(
                "no API answers at http://{free} (connection refused): start one with `tasker up` or `tasker api`, or name another with --api"
            )
        );
    }
}
