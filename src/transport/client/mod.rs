//! The HTTP client of our API: one method a route.
//!
//! Shared by the command line, the bench, and workers that reach nothing but the API. It speaks the
//! `contract` and knows nothing of terminals. It repeats a request only when the API asks it to come back
//! later, and only within the patience of the caller. All other errors go to the caller, who decides with
//! [`ClientError::is_transient`]: submitting is safe to repeat, since the identifier names the task.

mod error;
mod events;
mod rollouts;

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::config::{Secret, is_loopback};
use crate::contract::{
    Answers, Approved, AuditPage, AuditedSubmissions, BODY_HEADER, BatchAnswer, BulkAnswer, BulkCancel,
    Census, ENVELOPE, EndpointPage, EnrolmentTicket, Explanation, ForgottenEndpoint, ForgottenEndpoints,
    Group, GroupChange, GroupList, Index, LogPage, NameList, Preview, Queue, QueueList, Readiness, Request,
    RequestCensus, RequestPage, RequestSubmission, RequestToken, Requeue, Rerun, ResponsePage, Responses,
    RolloutCensus, Schedule, ScheduleList, SealedIdentity, Statistics, Submission, Task, TaskPage,
    TaskWithResponses, TasksGiven, TasksWanted, WorkerReports,
};
use crate::domain::{
    AnswerDigest, EndpointName, Grain, GroupName, OrderSignature, RequestStatus, Selector, States, TaskId,
    TaskStatus, TaskType, Timestamp,
};
use crate::https;
pub use error::ClientError;
use error::{hint, is_of_another, knows_no_path, problem, shown};
pub use events::{Event, Events};
pub use rollouts::{RolloutAction, RolloutTargets};

/// Where the API is when nothing says so.
pub const USUAL_URL: &str = "http://127.0.0.1:8888";

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// How long an answer may take, beyond a wait that was asked for.
const ANSWER: Duration = Duration::from_secs(30);

/// The same for workers. They lose nothing by asking again.
const ANSWER_TO_WORKER: Duration = Duration::from_secs(15);

/// The longest wait the API takes.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

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

    /// Its path. Below `/tasks` some names are those of other paths.
    fn path(&self) -> Result<[&str; 2], ClientError> {
        match &self.task_type {
            None if matches!(self.id.as_str(), "counts" | "cancel") => Err(ClientError::Unnameable {
                name: self.id.clone(),
                how: "with its type, or by its task id",
            }),
            None => Ok(["tasks", &self.id]),
            Some(task_type) => Ok([task_type.as_str(), &self.id]),
        }
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

/// Which tasks to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Only these states; empty means all.
    pub status: Vec<TaskStatus>,
    /// Only tasks that an endpoint has finished with an error.
    pub failed: bool,
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

/// Which requests to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestQuery {
    /// Only these states; empty means all.
    pub status: Vec<RequestStatus>,
    /// Only the request that a client has given this name.
    pub request_token: Option<String>,
    /// Only requests for this.
    pub action: Option<String>,
    /// Only requests recorded at or after this.
    pub since: Option<Timestamp>,
    /// Only requests recorded before this.
    pub until: Option<Timestamp>,
    /// At most this many.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// Whose certificates are trusted.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// Those the system vouches for.
    #[default]
    System,
    /// Those, and what these certificates in PEM vouch for.
    Bundle(Vec<u8>),
    /// Any certificate is accepted, so the token goes to any server that answers.
    Anybody,
}

/// A client of one API. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    base: Url,
    http: reqwest::Client,
    token: Option<Secret>,
    patience: Duration,
}

impl Client {
    /// A client of the API at an address such as `http://127.0.0.1:8888`. Connects when first used.
    ///
    /// # Errors
    /// [`ClientError::Address`].
    pub fn new(address: &str) -> Result<Self, ClientError> {
        let invalid = || ClientError::Address { address: shown(address) };
        let base = Url::parse(address).map_err(|_| invalid())?;
        if !matches!(base.scheme(), "http" | "https")
            || !base.has_host()
            || base.query().is_some()
            || base.fragment().is_some()
        {
            return Err(invalid());
        }
        Ok(Self {
            base,
            http: crate::https::build(http).map_err(|_| invalid())?,
            token: None,
            patience: Duration::ZERO,
        })
    }

    /// The same client, with other certificates to trust.
    ///
    /// # Errors
    /// [`ClientError::Trust`].
    pub fn trusting(self, trust: Trust) -> Result<Self, ClientError> {
        let unusable = |error: reqwest::Error| ClientError::Trust(https::root_cause(&error));
        let http = match trust {
            Trust::System => return Ok(self),
            Trust::Bundle(pem) => {
                http().tls_certs_merge(https::certificates(&pem).map_err(ClientError::Trust)?)
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

    /// The same client, which sends a request again when the API says to come back within so long: a token
    /// may send so many a second, or something is away for a moment.
    #[must_use]
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Whether others on the way can read its token.
    pub fn exposes_token(&self) -> bool {
        self.token.is_some() && self.is_in_the_clear()
    }

    /// Whether others on the way can read what is said.
    pub fn is_in_the_clear(&self) -> bool {
        self.base.scheme() == "http" && !self.base.host_str().is_some_and(is_loopback)
    }

    /// Fetches the broker user of an endpoint, sealed.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn enrol(&self, name: &EndpointName, ticket: String) -> Result<SealedIdentity, ClientError> {
        let request = self.post(&["endpoints", name.as_str(), "enrolment"])?;
        Ok(self.answer(request.json(&EnrolmentTicket { ticket }), ANSWER).await?.1)
    }

    /// Submits a task; submitting the same again answers the task that is there.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn submit(
        &self,
        task_type: &TaskType,
        submission: &Submission,
    ) -> Result<Submitted, ClientError> {
        self.submit_as(task_type, submission, false).await
    }

    /// The same; where it is strict, endpoints that were never heard of are refused.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn submit_as(
        &self,
        task_type: &TaskType,
        submission: &Submission,
        strict: bool,
    ) -> Result<Submitted, ClientError> {
        let strict = given([("strict", strict.then(|| "true".to_owned()))]);
        let request =
            self.post(&[task_type.as_str()])?.query(&strict).header(BODY_HEADER, ENVELOPE).json(submission);
        let (status, task) = self.answer(request, ANSWER).await?;
        Ok(Submitted { task, repeated: status == StatusCode::OK })
    }

    /// Whom a submission would be for; nothing is submitted.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn preview(
        &self,
        task_type: &TaskType,
        submission: &Submission,
    ) -> Result<Preview, ClientError> {
        let request = self
            .post(&[task_type.as_str()])?
            .query(&[("dry_run", true)])
            .header(BODY_HEADER, ENVELOPE)
            .json(submission);
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// A task. With `wait` the API answers when the task ends, at the latest after that time or a minute.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn status(
        &self,
        name: &TaskName,
        wait: Option<Duration>,
        responses: Responses,
    ) -> Result<TaskWithResponses, ClientError> {
        let mut request =
            self.request(Method::GET, &name.path()?)?.query(&[("responses", responses.as_str())]);
        if let Some(wait) = wait {
            request = request.query(&[("wait", millis(wait.min(LONGEST_WAIT)))]);
        }
        Ok(self.answer(request, ANSWER + LONGEST_WAIT).await?.1)
    }

    /// A task with the response of one endpoint; none when that is not expected to answer.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn answer_of(
        &self,
        name: &TaskName,
        endpoint: &EndpointName,
    ) -> Result<TaskWithResponses, ClientError> {
        let request = self.request(Method::GET, &name.path()?)?.query(&[("endpoint", endpoint.as_str())]);
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// Why a task does not run, or how far it is; at an endpoint, or altogether.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn explain(
        &self,
        name: &TaskName,
        endpoint: Option<&EndpointName>,
    ) -> Result<Explanation, ClientError> {
        let [task_type, id] = name.path()?;
        let endpoint = ("endpoint", endpoint.map(EndpointName::to_string));
        Ok(self
            .answer(self.request(Method::GET, &[task_type, id, "explain"])?.query(&given([endpoint])), ANSWER)
            .await?
            .1)
    }

    /// Submits many tasks, each as JSON with its type; answers what came of each, in their order.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn submit_many(&self, submissions: &[&RawValue]) -> Result<BatchAnswer, ClientError> {
        Ok(self.answer(self.post(&["tasks"])?.json(submissions), ANSWER).await?.1)
    }

    /// Cancels some of the tasks that a filter means, if they are no more than is expected; without that it
    /// says how many they are.
    ///
    /// # Errors
    /// Any [`ClientError`]; [`ClientError::Refused`] with 409 when they are more.
    pub async fn cancel_matching(&self, cancel: &BulkCancel) -> Result<BulkAnswer, ClientError> {
        Ok(self.answer(self.post(&["tasks", "cancel"])?.json(cancel), ANSWER).await?.1)
    }

    /// Queues again some of the tasks that a filter means, if they are no more than is expected; without that
    /// it says how many they are.
    ///
    /// # Errors
    /// As [`Self::cancel_matching`].
    pub async fn requeue(&self, task_type: &TaskType, requeue: &Requeue) -> Result<BulkAnswer, ClientError> {
        Ok(self.answer(self.post(&["queues", task_type.as_str(), "requeue"])?.json(requeue), ANSWER).await?.1)
    }

    /// The largest groups of equal answers to a task, so many at most.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn answers(&self, task_type: &TaskType, id: &str, limit: u32) -> Result<Answers, ClientError> {
        let request =
            self.request(Method::GET, &[task_type.as_str(), id, "answers"])?.query(&[("limit", limit)]);
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// A page of the responses to a task, or of those with one answer.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn responses(
        &self,
        task_type: &TaskType,
        id: &str,
        answer: Option<AnswerDigest>,
        cursor: Option<&str>,
    ) -> Result<ResponsePage, ClientError> {
        let parameters =
            [("answer", answer.map(|digest| digest.to_string())), ("cursor", cursor.map(str::to_owned))];
        let request =
            self.request(Method::GET, &[task_type.as_str(), id, "responses"])?.query(&given(parameters));
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
            ("failed", query.failed.then(|| "true".to_owned())),
            ("identifier", query.identifier.clone()),
            ("since", query.since.map(|time| time.to_string())),
            ("until", query.until.map(|time| time.to_string())),
            ("limit", query.limit.map(|limit| limit.to_string())),
            ("cursor", query.cursor.clone()),
        ];
        let request = self
            .request(Method::GET, &[task_type.map_or("tasks", TaskType::as_str)])?
            .query(&given(parameters));
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// Submits a task again, for those of its endpoints that did not succeed; the same again answers the task
    /// that is there.
    ///
    /// # Errors
    /// Any [`ClientError`]; [`ClientError::Refused`] with 409 when no endpoint is in such a state.
    pub async fn rerun(
        &self,
        task_type: &TaskType,
        id: &str,
        rerun: &Rerun,
    ) -> Result<Submitted, ClientError> {
        let path = [task_type.as_str(), id, "rerun"];
        let (status, task) = self.answer(self.post(&path)?.json(rerun), ANSWER).await?;
        Ok(Submitted { task, repeated: status == StatusCode::OK })
    }

    /// Adds the signature of a person to a task that waits for that.
    ///
    /// # Errors
    /// Any [`ClientError`]; [`ClientError::Refused`] with 409 when it waits for none, with 422 when it is not
    /// the signature of a person who may sign it.
    pub async fn approve(
        &self,
        task_type: &TaskType,
        id: TaskId,
        signature: &OrderSignature,
    ) -> Result<Approved, ClientError> {
        let id = id.to_string();
        let path = [task_type.as_str(), &id, "approvals"];
        Ok(self.answer(self.post(&path)?.json(signature), ANSWER).await?.1)
    }

    /// How the endpoints of a task stand, and what the list of their names is called.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn states(&self, task_type: &TaskType, id: &str) -> Result<(String, States), ClientError> {
        let request = self.request(Method::GET, &[task_type.as_str(), id, "states"])?;
        let answer = self.admitted(self.knock(request.timeout(ANSWER)).await?).await?;
        let header = |name: &str| {
            answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let (generation, count) = (header("x-generation"), header("x-count").parse().unwrap_or_default());
        let bytes = answer.bytes().await.map_err(|error| self.failure(&error))?;
        let foreign = || ClientError::Foreign {
            url: self.url(),
            reason: format!("{} bytes are not {count} states", bytes.len()),
        };
        Ok((generation, States::from_bytes(&bytes, count).ok_or_else(foreign)?))
    }

    /// The names of a task's endpoints, in the order of its states.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn names(&self, task_type: &TaskType, id: &str) -> Result<NameList, ClientError> {
        Ok(self.answer(self.request(Method::GET, &[task_type.as_str(), id, "names"])?, ANSWER).await?.1)
    }

    /// What the handlers of a task have logged after a place: of one endpoint, or of all. With `wait` the API
    /// answers when there is something.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn logs(
        &self,
        task_type: &TaskType,
        id: &str,
        endpoint: Option<&EndpointName>,
        after: Option<&str>,
        wait: Option<Duration>,
    ) -> Result<LogPage, ClientError> {
        let parameters = [
            ("endpoint", endpoint.map(ToString::to_string)),
            ("after", after.map(str::to_owned)),
            ("wait", wait.map(|wait| millis(wait.min(LONGEST_WAIT)))),
        ];
        let request = self.request(Method::GET, &[task_type.as_str(), id, "logs"])?.query(&given(parameters));
        Ok(self.answer(request, ANSWER + LONGEST_WAIT).await?.1)
    }

    /// Cancels a task.
    ///
    /// # Errors
    /// Any [`ClientError`]; [`ClientError::Refused`] with 409 when it has ended otherwise.
    pub async fn cancel(&self, name: &TaskName) -> Result<Task, ClientError> {
        Ok(self.answer(self.request(Method::DELETE, &name.path()?)?, ANSWER).await?.1)
    }

    /// A page of the endpoints the API knows, or of those of them that fit.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn endpoints(
        &self,
        fitting: Option<&Selector>,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<EndpointPage, ClientError> {
        let fitting = ("match", fitting.map(Selector::to_string));
        let parameters =
            [fitting, ("limit", limit.map(|limit| limit.to_string())), ("cursor", cursor.map(str::to_owned))];
        let request = self.request(Method::GET, &["endpoints"])?.query(&given(parameters));
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// Forgets an endpoint.
    ///
    /// # Errors
    /// Any [`ClientError`]; [`ClientError::Refused`] with 409 when it is there and `force` is false.
    pub async fn forget_endpoint(
        &self,
        name: &EndpointName,
        force: bool,
    ) -> Result<ForgottenEndpoint, ClientError> {
        let request = self.request(Method::DELETE, &["endpoints", name.as_str()])?.query(&[("force", force)]);
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// Forgets endpoints that have been away for so long, or tells which these would be; the answer says
    /// whether there are more.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn forget_endpoints(
        &self,
        gone_for: Duration,
        dry_run: bool,
    ) -> Result<ForgottenEndpoints, ClientError> {
        let gone_for = ("gone_for", Some(millis(gone_for)));
        let parameters = given([gone_for, ("dry_run", dry_run.then(|| "true".to_owned()))]);
        Ok(self
            .answer(self.request(Method::DELETE, &["endpoints"])?.query(&parameters), ANSWER + LONGEST_WAIT)
            .await?
            .1)
    }

    /// The groups of endpoints.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn groups(&self) -> Result<GroupList, ClientError> {
        Ok(self.answer(self.request(Method::GET, &["groups"])?, ANSWER).await?.1)
    }

    /// A group of endpoints.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn group(&self, name: &GroupName) -> Result<Group, ClientError> {
        Ok(self.answer(self.request(Method::GET, &["groups", name.as_str()])?, ANSWER).await?.1)
    }

    /// Stores a group, in the place of the one of its name.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn write_group(&self, name: &GroupName, change: &GroupChange) -> Result<Group, ClientError> {
        Ok(self.answer(self.request(Method::PUT, &["groups", name.as_str()])?.json(change), ANSWER).await?.1)
    }

    /// Deletes a group; answers how it was.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn delete_group(&self, name: &GroupName) -> Result<Group, ClientError> {
        Ok(self.answer(self.request(Method::DELETE, &["groups", name.as_str()])?, ANSWER).await?.1)
    }

    /// The work queues.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn queues(&self) -> Result<QueueList, ClientError> {
        Ok(self.answer(self.request(Method::GET, &["queues"])?, ANSWER).await?.1)
    }

    /// How many tasks there were since a time, of a type or of all, and what became of them.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn statistics(
        &self,
        task_type: Option<&TaskType>,
        grain: Grain,
        since: Timestamp,
    ) -> Result<Statistics, ClientError> {
        let parameters = [
            ("type", task_type.map(ToString::to_string)),
            ("step", Some(grain.as_str().to_owned())),
            ("since", Some(since.to_string())),
        ];
        Ok(self.answer(self.request(Method::GET, &["stats"])?.query(&given(parameters)), ANSWER).await?.1)
    }

    /// The newest entries of the audit log that fit.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn audit(
        &self,
        before: Option<u64>,
        actor: Option<&str>,
        action: Option<&str>,
        limit: u32,
    ) -> Result<AuditPage, ClientError> {
        let parameters = [
            ("before", before.map(|before| before.to_string())),
            ("actor", actor.map(str::to_owned)),
            ("action", action.map(str::to_owned)),
            ("limit", Some(limit.to_string())),
        ];
        Ok(self.answer(self.request(Method::GET, &["audit"])?.query(&given(parameters)), ANSWER).await?.1)
    }

    /// The entries of the audit log after one, oldest first.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn audit_after(&self, after: u64, limit: u32) -> Result<AuditPage, ClientError> {
        let request = self.request(Method::GET, &["audit"])?;
        Ok(self.answer(request.query(&[("after", after), ("limit", u64::from(limit))]), ANSWER).await?.1)
    }

    /// The submissions of an hour that are kept now, added up.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn audited_submissions(&self, hour: Timestamp) -> Result<AuditedSubmissions, ClientError> {
        let request = self.request(Method::GET, &["audit", "submissions"])?;
        Ok(self.answer(request.query(&[("hour", hour.to_string())]), ANSWER + LONGEST_WAIT).await?.1)
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
        Ok(self.answer(self.post(&["schedules", name, "run"])?, ANSWER).await?.1)
    }

    /// Pauses a schedule, or lets it go on; answers how it stands.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn pause_schedule(&self, name: &str, paused: bool) -> Result<Schedule, ClientError> {
        let what = if paused { "pause" } else { "resume" };
        Ok(self.answer(self.post(&["schedules", name, what])?, ANSWER).await?.1)
    }

    /// Pauses the queue of a type, or lets it go on; answers how it stands.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn pause(&self, task_type: &TaskType, paused: bool) -> Result<Queue, ClientError> {
        let what = if paused { "pause" } else { "resume" };
        Ok(self.answer(self.post(&["queues", task_type.as_str(), what])?, ANSWER).await?.1)
    }

    /// Submits a request; answers its token, and whether the same was submitted before.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn submit_request(
        &self,
        submission: &RequestSubmission,
    ) -> Result<(RequestToken, bool), ClientError> {
        let (status, token) = self.answer(self.post(&["requests"])?.json(submission), ANSWER).await?;
        Ok((token, status == StatusCode::OK))
    }

    /// A request with its jobs. With `wait` the API answers when the request ends, at the latest after that
    /// time or a minute.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn request_of(&self, token: &str, wait: Option<Duration>) -> Result<Request, ClientError> {
        let wait = wait.map(|wait| millis(wait.min(LONGEST_WAIT)));
        let request = self.request(Method::GET, &["requests", token])?.query(&given([("wait", wait)]));
        Ok(self.answer(request, ANSWER + LONGEST_WAIT).await?.1)
    }

    /// A page of the requests.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn requests(&self, query: &RequestQuery) -> Result<RequestPage, ClientError> {
        let status: Vec<_> = query.status.iter().map(|status| status.as_str()).collect();
        let parameters = [
            ("status", (!status.is_empty()).then(|| status.join(","))),
            ("request_token", query.request_token.clone()),
            ("action", query.action.clone()),
            ("since", query.since.map(|time| time.to_string())),
            ("until", query.until.map(|time| time.to_string())),
            ("limit", query.limit.map(|limit| limit.to_string())),
            ("cursor", query.cursor.clone()),
        ];
        Ok(self.answer(self.request(Method::GET, &["requests"])?.query(&given(parameters)), ANSWER).await?.1)
    }

    /// Cancels a request.
    ///
    /// # Errors
    /// Any [`ClientError`]; [`ClientError::Refused`] with 409 when it has ended otherwise.
    pub async fn cancel_request(&self, token: &str) -> Result<Request, ClientError> {
        Ok(self.answer(self.request(Method::DELETE, &["requests", token])?, ANSWER).await?.1)
    }

    /// Retries the failed jobs of a request.
    ///
    /// # Errors
    /// Any [`ClientError`]; [`ClientError::Refused`] with 409 when none has failed.
    pub async fn retry_request(&self, token: &str) -> Result<Request, ClientError> {
        Ok(self.answer(self.post(&["requests", token, "retry"])?, ANSWER).await?.1)
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

    /// Adds up a page of requests.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn request_census(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        cursor: Option<String>,
    ) -> Result<RequestCensus, ClientError> {
        let parameters = [
            ("since", since.map(|time| time.to_string())),
            ("until", until.map(|time| time.to_string())),
            ("cursor", cursor),
        ];
        let request = self.request(Method::GET, &["census", "requests"])?.query(&given(parameters));
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// Adds up a page of rollouts.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn rollout_census(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        cursor: Option<String>,
    ) -> Result<RolloutCensus, ClientError> {
        let parameters = [
            ("since", since.map(|time| time.to_string())),
            ("until", until.map(|time| time.to_string())),
            ("cursor", cursor),
        ];
        let request = self.request(Method::GET, &["census", "rollouts"])?.query(&given(parameters));
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// What there is, such as the configured task types.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn index(&self) -> Result<Index, ClientError> {
        Ok(self.answer(self.request(Method::GET, &[])?, ANSWER).await?.1)
    }

    /// Whether the process can do its work.
    ///
    /// # Errors
    /// Any [`ClientError`]; [`ClientError::Refused`] with 503 when it cannot.
    pub async fn ready(&self) -> Result<Readiness, ClientError> {
        Ok(self.answer(self.request(Method::GET, &["ready"])?, ANSWER).await?.1)
    }

    /// All metrics in the Prometheus text format.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let (_, text) = self.send(self.request(Method::GET, &["metrics"])?, ANSWER).await?;
        String::from_utf8(text.into()).map_err(|error| self.foreign(&error))
    }

    /// Gives a worker what there is for it. The API answers when there is something, at the latest after the
    /// wait that is wanted.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn fetch_tasks(
        &self,
        worker: &EndpointName,
        wanted: &TasksWanted,
    ) -> Result<TasksGiven, ClientError> {
        let patience = ANSWER_TO_WORKER + Duration::from_millis(wanted.wait_ms).min(LONGEST_WAIT);
        Ok(self.answer(self.of_worker(worker, "tasks")?.json(wanted), patience).await?.1)
    }

    /// Tells what became of tasks of a worker.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn report_tasks(
        &self,
        worker: &EndpointName,
        reports: &WorkerReports,
    ) -> Result<(), ClientError> {
        self.send(self.of_worker(worker, "reports")?.json(reports), ANSWER_TO_WORKER).await.map(drop)
    }

    /// Tells that a worker is there; the message is one that [`crate::contract::WorkerPresence`] describes.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn say_presence(&self, worker: &EndpointName, presence: Bytes) -> Result<(), ClientError> {
        self.send(self.of_worker(worker, "presence")?.body(presence), ANSWER_TO_WORKER).await.map(drop)
    }

    /// The address of the API as it may be shown: without a name and password.
    pub fn url(&self) -> String {
        shown(self.base.as_str())
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, ClientError> {
        let request = self.http.request(method, address(&self.base, path)?);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        })
    }

    /// A `POST`. Without the header, a web page could send the same.
    fn post(&self, path: &[&str]) -> Result<RequestBuilder, ClientError> {
        Ok(self.request(Method::POST, path)?.header(CONTENT_TYPE, "application/json"))
    }

    fn of_worker(&self, worker: &EndpointName, what: &str) -> Result<RequestBuilder, ClientError> {
        self.post(&["workers", worker.as_str(), what])
    }

    /// Sends a request whose answer is JSON.
    async fn answer<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        patience: Duration,
    ) -> Result<(StatusCode, T), ClientError> {
        let (status, body) = self.send(request, patience).await?;
        let value = serde_json::from_slice(&body).map_err(|error| self.foreign(&error))?;
        Ok((status, value))
    }

    async fn send(
        &self,
        request: RequestBuilder,
        patience: Duration,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let answer = self.admitted(self.knock(request.timeout(patience)).await?).await?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| self.failure(&error))?;
        Ok((status, body))
    }

    /// What the API says, once it does not ask to come back within our patience.
    async fn knock(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let began = Instant::now();
        loop {
            let again = request.try_clone();
            let Some(this) = again else {
                return request.send().await.map_err(|error| self.failure(&error));
            };
            let answer = this.send().await.map_err(|error| self.failure(&error))?;
            match come_back_in(&answer) {
                Some(wait) if wait <= self.patience.saturating_sub(began.elapsed()) => {
                    tokio::time::sleep(wait).await
                }
                _ => return Ok(answer),
            }
        }
    }

    /// The answer, unless the API refuses.
    async fn admitted(&self, answer: Response) -> Result<Response, ClientError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let path = below(&self.base, answer.url());
        let body = answer.bytes().await.map_err(|error| self.failure(&error))?;
        let refusal = problem(status, &body);
        if knows_no_path(status, &refusal, path.split('/').next().unwrap_or_default()) {
            let (path, problem) = (format!("/{path}"), Box::new(refusal));
            return Err(ClientError::Older { url: self.url(), path, problem });
        }
        if is_of_another(status, &refusal) {
            return Err(ClientError::NotTasker { url: self.url(), seen: format!("HTTP {status}") });
        }
        if let Some(hint) = hint(status, self.token.is_some()) {
            return Err(ClientError::Locked { problem: Box::new(refusal), hint });
        }
        Err(ClientError::Refused { status: status.as_u16(), problem: Box::new(refusal) })
    }

    fn foreign(&self, error: &dyn std::error::Error) -> ClientError {
        ClientError::Foreign { url: self.url(), reason: error.to_string() }
    }

    fn failure(&self, error: &reqwest::Error) -> ClientError {
        let (url, reason) = (self.url(), https::root_cause(error));
        match https::tls_error(error) {
            Some(rustls::Error::InvalidCertificate(_)) => return ClientError::Untrusted { url, reason },
            Some(rustls::Error::InvalidMessage(_)) => {
                return ClientError::Scheme { url, spoken: "https", other: "http" };
            }
            _ => {}
        }
        // The alert with which TLS refuses a plain request.
        if self.base.scheme() == "http" && reason.contains("invalid http version") {
            return ClientError::Scheme { url, spoken: "http", other: "https" };
        }
        // A database or a broker greets before it is asked.
        if reason.contains("unexpected message from connection") {
            return ClientError::NotTasker { url, seen: "it does not speak HTTP".to_owned() };
        }
        if error.is_connect() {
            ClientError::Unreachable { url, reason }
        } else {
            ClientError::Lost { url, reason }
        }
    }
}

/// When a request that was turned away may come back.
fn come_back_in(answer: &Response) -> Option<Duration> {
    if !matches!(answer.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    // A zero would make a loop without a pause.
    Some(Duration::from_secs(seconds).max(Duration::from_millis(100)))
}

fn http() -> reqwest::ClientBuilder {
    // A redirect could carry a submission, and the token, to somewhere else.
    https::client().connect_timeout(CONNECT).redirect(reqwest::redirect::Policy::none())
}

/// The address of a path below the base, each segment encoded.
fn address(base: &Url, path: &[&str]) -> Result<Url, ClientError> {
    let mut url = base.clone();
    for segment in path {
        if matches!(*segment, "." | "..") {
            return Err(ClientError::Unnameable { name: (*segment).to_owned(), how: "by its task id" });
        }
    }
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    Ok(url)
}

/// The path of an address below that of the API, without the first slash.
fn below(base: &Url, url: &Url) -> String {
    let path = url.path().strip_prefix(base.path().trim_end_matches('/')).unwrap_or_default();
    path.trim_start_matches('/').to_owned()
}

/// A time as a query has it.
fn millis(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

fn given<const N: usize>(parameters: [(&'static str, Option<String>); N]) -> Vec<(&'static str, String)> {
    parameters.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_identifiers() {
        let base = Url::parse("http://h:1/tasker/").expect("an address");
        let made = |id| {
            address(&base, &["worker", id]).map(|url| url.to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(made("a b/c?d#ä%"), Ok("http://h:1/tasker/worker/a%20b%2Fc%3Fd%23%C3%A4%25".to_owned()));
        assert_eq!(
            made(".."),
            Err("a task with the identifier `..` can only be named by its task id".to_owned())
        );
    }

    #[test]
    fn refuses_other_addresses() {
        for address in
            ["", "localhost", "localhost:8888", "ftp://h", "http://", "http://h?x=1", "https://u:hunter2@"]
        {
            let error = Client::new(address).expect_err(address).to_string();
            assert!(error.contains("is not the address of an API") && !error.contains("hunter2"), "{error}");
        }
        assert_eq!(shown("http://u:hunter2@h:1/x/"), "http://h:1/x");
    }

    #[tokio::test]
    async fn does_not_wait_for_longer_than_its_patience_whatever_it_is_asked() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let serve = async {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a request"));
            }
            let answer = format!(
                "HTTP/1.1 503 Service Unavailable\r\nretry-after: {}\r\ncontent-length: 0\r\n\r\n",
                u64::MAX
            );
            stream.write_all(answer.as_bytes()).await.expect("answered");
        };
        let client = Client::new(&url).expect("an address").patient(Duration::from_secs(3600));
        let ((), answer) = tokio::join!(serve, client.endpoints(None, None, None));
        assert!(matches!(answer, Err(ClientError::Refused { status: 503, .. })), "{answer:?}");
    }

    #[tokio::test]
    async fn says_that_something_else_answers() {
        for (greets, seen) in [
            (&b"HTTP/1.1 404 Not Found\r\ncontent-length: 6\r\n\r\n<html>"[..], "HTTP 404 Not Found"),
            (b"5.5.5-11.4-MariaDB\0\0\0", "it does not speak HTTP"),
        ] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("an address");
            let server = tokio::spawn(async move {
                let (mut other, _) = listener.accept().await?;
                let mut request = [0; 1024];
                if greets.starts_with(b"HTTP") {
                    tokio::io::AsyncReadExt::read(&mut other, &mut request).await?;
                }
                tokio::io::AsyncWriteExt::write_all(&mut other, greets).await?;
                // Until the client has read it.
                while tokio::io::AsyncReadExt::read(&mut other, &mut request).await? > 0 {}
                std::io::Result::Ok(())
            });
            let client = Client::new(&format!("http://{address}")).expect("an address");
            let error = client.endpoints(None, None, None).await.expect_err("it is not an API").to_string();
            let wanted = format!("http://{address} answers, but it is not a tasker API ({seen})");
            assert!(error.starts_with(&wanted), "{error}");
            server.abort();
        }
    }

    #[tokio::test]
    async fn says_who_does_not_answer() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port");
        let client = Client::new(&format!("http://{free}")).expect("an address");
        let error = client.endpoints(None, None, None).await.expect_err("nobody listens");
        assert!(error.is_transient());
        assert_eq!(
            error.to_string(),
            format!(
                "no API answers at http://{free} (connection refused): start one with `tasker up` or `tasker api`, or name another with --api"
            )
        );
    }
}
