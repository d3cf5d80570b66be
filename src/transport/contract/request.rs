//! Requests: steps of jobs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{self, JobStatus, Json, RequestStatus, TaskId, Timestamp, When};

/// What is to be done, step by step.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestSubmission {
    /// What the request is for. A configured action (`requests.actions`) brings its steps.
    #[schema(min_length = 1, max_length = 191, example = "retrieve_user")]
    pub action: String,
    /// What the jobs need to know: any JSON value, handed to each job as it is; `{}` when absent. 256 KiB at
    /// most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value, required = false, example = json!({"id": 333}))]
    pub params: Option<Json>,
    /// The steps, in their order; absent for the steps of the configured action.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, min_items = 1, max_items = 100)]
    pub steps: Vec<RequestStep>,
    /// Your name for the request. The same submission may be sent again under it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, min_length = 1, max_length = 191)]
    pub request_token: Option<String>,
}

/// Jobs that run at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestStep {
    /// What the step is called.
    #[schema(min_length = 1, max_length = 191, example = "delete_user_accounts")]
    pub name: String,
    /// The names of its jobs; none twice. Each is a task type, or configured in `requests.jobs`.
    #[schema(min_items = 1, max_items = 1000, example = json!(["service1DeleteUser", "service2DeleteUser"]))]
    pub jobs: Vec<String>,
    /// When it runs.
    #[serde(default, skip_serializing_if = "When::is_usual")]
    #[schema(required = false)]
    pub when: When,
}

/// A request that was recorded.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RequestToken {
    /// Names the request from now on.
    pub token: String,
}

/// How a request stands, in a word.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RequestPoll {
    /// Where it stands.
    pub status: RequestStatus,
}

/// A page of requests.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RequestPage {
    /// Newest first, without their jobs.
    pub requests: Vec<Request>,
    /// What to pass as `cursor` for the next page; null when this is the last one.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// A request.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Request {
    /// Its name.
    pub token: String,
    /// The name that the client gave it.
    #[schema(required = true)]
    pub request_token: Option<String>,
    /// What it is for.
    pub action: String,
    /// Where it stands.
    pub status: RequestStatus,
    /// Why it cannot complete: the first job that failed, or what is wrong with the request.
    #[schema(required = true)]
    pub error: Option<String>,
    /// The place of the step that runs, or ran last, from 0 on.
    pub step: u32,
    /// Its steps, in their order.
    pub steps: Vec<RequestStep>,
    /// What the jobs are told.
    #[schema(value_type = serde_json::Value)]
    pub params: Json,
    /// What the jobs have found out, by key.
    #[schema(value_type = serde_json::Value)]
    pub extras: Json,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub completed: Option<Timestamp>,
    /// When it is given up.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub expires_at: Option<Timestamp>,
    /// All attempts of its jobs, oldest first. Only where a single request is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub jobs: Option<Vec<Job>>,
}

/// An attempt of a job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Its number.
    pub id: u64,
    /// Which job of the step.
    pub name: String,
    /// The place of the step, from 0 on.
    pub step: u32,
    /// The number of the attempt, from 1 on.
    #[serde(rename = "try")]
    pub attempt: u32,
    /// Where it stands.
    pub status: JobStatus,
    /// Why it did not complete.
    #[schema(required = true)]
    pub error: Option<String>,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// When it is to begin, if not at once.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub due_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub completed: Option<Timestamp>,
    /// The task that performs it.
    #[schema(value_type = Option<uuid::Uuid>, required = true)]
    pub task_id: Option<TaskId>,
}

impl From<domain::Step> for RequestStep {
    fn from(domain::Step { name, jobs, when }: domain::Step) -> Self {
        Self { name, jobs, when }
    }
}

impl From<domain::Request> for Request {
    fn from(request: domain::Request) -> Self {
        Self {
            token: request.token.into(),
            request_token: request.request_token,
            action: request.action,
            status: request.status,
            error: request.error,
            step: request.step,
            steps: request.steps.into_iter().map(Into::into).collect(),
            params: request.params,
            extras: domain::json(&request.extras),
            created: request.created,
            completed: request.completed,
            expires_at: request.expires_at,
            jobs: None,
        }
    }
}

impl From<domain::Job> for Job {
    fn from(job: domain::Job) -> Self {
        Self {
            id: job.id,
            name: job.name,
            step: job.step,
            attempt: job.attempt,
            status: job.status,
            error: job.error,
            created: job.created,
            due_at: job.due_at,
            completed: job.completed,
            task_id: job.task_id,
        }
    }
}
