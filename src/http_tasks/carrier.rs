//! Who has tasks performed elsewhere, when the calls are not made in this process.
//!
//! The runner keeps what it promises whoever makes the calls: slots, progress, cancel and one completion a
//! task. A carrier takes one task at a time and answers once.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::BoxFuture;
use hyper::{HeaderMap, Method};
use tokio::sync::oneshot;
use url::Url;

use super::completion::{AttemptSummary, Timings, Trust};
use super::error::TaskError;
use super::response::Response;
use super::retry::RetryPolicy;
use super::settings::Settings;
use super::task::{InvalidTask, Task, TaskId};
use super::tls::TlsMode;

/// Takes tasks to where they are performed.
pub trait Carrier: Send + Sync {
    /// Has a task performed, tells when somebody has begun, and answers when it has ended, by its time-out
    /// and a bounded grace at the latest. Dropping the future cancels the task wherever it is.
    fn carry(&self, parcel: Parcel, started: oneshot::Sender<()>) -> BoxFuture<'static, Carried>;

    /// Whether tasks can be taken anywhere now.
    fn health(&self) -> CarrierHealth;

    /// Sends what is still to be said, and ends.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Whether tasks can be taken anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CarrierHealth {
    /// Whether tasks can be sent, and what became of them can arrive.
    pub connected: bool,
    /// Workers that were heard of lately.
    pub workers: usize,
    /// How long ago the last of them was heard.
    pub heard: Option<Duration>,
}

/// A task with everything that decides how it is performed.
pub struct Parcel {
    /// Its name.
    pub id: TaskId,
    /// When it was made.
    pub created: SystemTime,
    /// The method.
    pub method: Method,
    /// Where it goes.
    pub url: Url,
    /// Its headers. Some carry credentials: see [`fmt::Debug`], which shows none.
    pub headers: Arc<HeaderMap>,
    /// What it sends.
    pub body: Bytes,
    /// Who sends it.
    pub service: Arc<str>,
    /// How much of its time is left.
    pub timeout: Duration,
    /// How long one attempt may take.
    pub attempt_timeout: Option<Duration>,
    /// How failed attempts are repeated.
    pub retry: RetryPolicy,
    /// Whether it says of itself that doing it twice is as good as once.
    pub repeatable: bool,
    /// Whether the server has to prove who it is.
    pub tls_mode: TlsMode,
    /// The longest body of a response.
    pub body_limit: usize,
    /// Whether a longer one is cut.
    pub truncate: bool,
}

impl Parcel {
    /// A task as it is to be performed.
    pub(super) fn of(settings: &Settings, task: &Task, timeout: Duration) -> Result<Self, InvalidTask> {
        Ok(Self {
            id: task.id,
            created: task.created,
            method: task.method.clone(),
            url: task.validate()?.clone(),
            headers: task.headers.clone(),
            body: task.body.clone(),
            service: task.service.as_ref().unwrap_or(&settings.service).clone(),
            timeout,
            attempt_timeout: task.attempt_timeout.or(settings.attempt_timeout),
            retry: settings.policy_of(task),
            repeatable: task.repeatable,
            tls_mode: task.tls_mode,
            body_limit: task.body_limit.unwrap_or(settings.body_limit),
            truncate: task.truncate,
        })
    }

    /// Whether it may be performed twice when it is not known whether it was performed.
    pub fn may_repeat(&self) -> bool {
        self.repeatable || self.retry.may_repeat(&self.method, &self.headers)
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Parcel");
        shown.field("id", &self.id).field("method", &self.method).field("url", &self.url.as_str());
        shown.field("body_bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// What became of a task.
#[derive(Debug)]
pub struct Carried {
    /// The response, or why there is none that counts.
    pub result: Result<Response, TaskError>,
    /// Attempts begun.
    pub attempts: u32,
    /// How each of them ended.
    pub history: Vec<AttemptSummary>,
    /// Where the time went; what was spent on the way is added by the runner.
    pub timings: Timings,
    /// How far the server was known.
    pub trust: Trust,
    /// Who performed it.
    pub worker: Option<Arc<str>>,
}

impl Carried {
    /// One that nobody has performed, as far as is known here.
    pub const fn failed(created: SystemTime, error: TaskError) -> Self {
        Self {
            result: Err(error),
            attempts: 0,
            history: Vec::new(),
            timings: Timings::new(created),
            trust: Trust::Plain,
            worker: None,
        }
    }
}
