//! What comes back for each task: exactly one completion, owned, with its body read.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::StatusCode;

use super::error::TaskError;
use super::response::Response;
use super::task::TaskId;

/// How a task ended.
#[derive(Debug, Clone)]
pub struct Completion<T = ()> {
    /// Its place in the list.
    pub index: usize,
    /// Its name.
    pub id: TaskId,
    /// What the caller gave it to be found again.
    pub tag: T,
    /// The response, or why there is none that counts.
    pub result: Result<Response, TaskError>,
    /// Attempts begun.
    pub attempts: u32,
    /// How each of them ended.
    pub history: Vec<AttemptSummary>,
    /// Where the time went.
    pub timings: Timings,
    /// How far the server was known, at the last connection.
    pub trust: Trust,
    /// Who made the calls, when it was not this process.
    pub worker: Option<Arc<str>>,
}

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptSummary {
    /// The status, or the kind of the failure.
    pub outcome: AttemptOutcome,
    /// How long it took.
    pub took: Duration,
    /// Whether it went over a connection that had served before.
    pub reused: bool,
    /// The wait that followed, if another attempt did.
    pub wait: Option<Duration>,
}

/// The status, or the kind of the failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// A response came.
    Status(StatusCode),
    /// None came; see [`super::AttemptFailure::kind`].
    Failed(&'static str),
}

/// Where the time of a task went. Spans of phases are those of its last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// When the task was made.
    pub created: SystemTime,
    /// From the launch to its slot.
    pub queued: Duration,
    /// Look-up, connecting and TLS; zero on a connection that was there.
    pub connect: Duration,
    /// From the request to the head of the response.
    pub headers: Duration,
    /// Reading the body.
    pub body: Duration,
    /// All waits between attempts.
    pub waited: Duration,
    /// From its slot to its end.
    pub total: Duration,
}

impl Timings {
    pub(super) const fn new(created: SystemTime) -> Self {
        let none = Duration::ZERO;
        Self { created, queued: none, connect: none, headers: none, body: none, waited: none, total: none }
    }
}

/// How far a server was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Trust {
    /// Not at all: no TLS, or no connection came about.
    #[default]
    Plain,
    /// Its certificate was verified.
    Verified,
    /// TLS without a look at the certificate, as the task asked for.
    InsecureRequested,
    /// TLS without a look at the certificate, since it did not pass and [`super::InsecureFallback`] allows
    /// this host.
    InsecureFallback,
}
