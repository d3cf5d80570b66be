//! What comes back for each task: exactly one completion, owned, with its body read.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode, Version};
use url::Url;

use super::task::is_credential;
use super::text;
use super::{TaskError, TaskId};

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

/// A complete response.
#[derive(Clone)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// The version of HTTP.
    pub version: Version,
    /// Its headers, in their order.
    pub headers: HeaderMap,
    /// Its body, inflated when it was compressed at our wish.
    pub body: Bytes,
    /// Whether the body was longer.
    pub truncated: bool,
    /// Where it came from, after redirects.
    pub url: Url,
}

impl Response {
    /// The body as text: in UTF-8, or in the character set that `Content-Type` names if that is US-ASCII, ISO-8859-1 or windows-1252. None when it
    /// is no such text or compressed (`Content-Encoding`); nothing is ever replaced. A character that was cut at the end is left out.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        text::of(&self.headers, &self.body, self.truncated)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().filter(|(name, _)| !is_credential(name)).collect();
        let mut shown = f.debug_struct("Response");
        shown.field("status", &self.status.as_u16()).field("version", &self.version).field("url", &self.url.as_str());
        shown.field("headers", &headers).field("body_bytes", &self.body.len()).field("truncated", &self.truncated).finish()
    }
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
    /// TLS without a look at the certificate, since it did not pass and [`super::InsecureFallback`] allows this host.
    InsecureFallback,
}
