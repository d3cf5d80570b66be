//! What holds for requests.

use std::collections::BTreeMap;
use std::time::Duration;

use croner::Cron;

use crate::backoff::Backoff;
use crate::domain::{EndpointName, Json, Step, TaskType};

/// What holds for requests.
#[derive(Debug, Clone)]
pub struct Requests {
    /// Whether this process moves them on. The HTTP side answers in any case.
    pub enabled: bool,
    /// When to look for requests whose rows somebody has changed with SQL: the original's pattern for new
    /// requests.
    pub new_cron: Cron,
    /// The same: the original's pattern for jobs.
    pub job_cron: Cron,
    /// The same: the original's pattern for requests in progress.
    pub in_progress_cron: Cron,
    /// How long a request may take.
    pub expires_after: Duration,
    /// How long an ended request is kept.
    pub retention: Duration,
    /// How often a job without a policy of its own is tried.
    pub retry: RetryPolicy,
    /// The steps of actions.
    pub actions: BTreeMap<String, Vec<Step>>,
    /// Jobs that are not performed by the task type of their name, or not as usual.
    pub jobs: BTreeMap<String, JobPolicy>,
}

/// How often a job is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts at most.
    pub tries: u32,
    /// How long to wait before the next.
    pub backoff: Backoff,
}

/// How a job is performed.
#[derive(Debug, Clone)]
pub struct JobPolicy {
    /// The type of its tasks.
    pub task_type: TaskType,
    /// What its tasks are told, with places such as `{/params/id}`; none for the whole call.
    pub payload: Option<Json>,
    /// The endpoints that perform them; empty for all that are subscribed to the type, or for its workers.
    pub endpoints: Vec<EndpointName>,
    /// How often it is tried.
    pub retry: RetryPolicy,
    /// How long an attempt may take; none for as long as its task lives.
    pub finish_within: Option<Duration>,
}
