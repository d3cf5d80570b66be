//! One HTTP request as it is to be made, with what may differ from the runner's settings.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method};
use url::Url;
use uuid::Uuid;

use super::text::base64;
use super::{RetryPolicy, Room, TlsMode};

/// A request and the head of a response may have so many headers.
pub(super) const HEADERS_LIMIT: usize = 1000;

/// A task's name for its whole life; a version 4 UUID, kept when it is launched again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(Uuid);

impl TaskId {
    /// A fresh one.
    pub(super) fn new() -> Self {
        Self(Uuid::new_v4())
    }

    /// As a UUID.
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which of the tasks that wait for the same host comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Priority {
    /// Before all others.
    High,
    /// As they came.
    #[default]
    Normal,
    /// After all others.
    Low,
}

/// What a task cannot be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no valid {field}: {why}")]
pub struct InvalidTask {
    /// Which part.
    pub field: &'static str,
    /// What is wrong.
    pub why: String,
}

impl InvalidTask {
    fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self { field, why: why.into() }
    }
}

/// A source descriptor: what the tasks of a list begin with. Cloning is cheap, headers and body are shared
/// until one is changed.
///
/// User and password of a URL become an `Authorization` header and are no part of the URL any more, so that
/// no text can show them.
#[derive(Clone)]
pub struct Task {
    pub(super) id: TaskId,
    pub(super) created: SystemTime,
    pub(super) method: Method,
    pub(super) url: Option<Url>,
    pub(super) headers: Arc<HeaderMap>,
    pub(super) body: Bytes,
    pub(super) service: Option<Arc<str>>,
    pub(super) timeout: Option<Duration>,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) retries: Option<u32>,
    pub(super) backoff_max: Option<Duration>,
    pub(super) policy: Option<Arc<RetryPolicy>>,
    pub(super) repeatable: bool,
    pub(super) tls_mode: TlsMode,
    pub(super) body_limit: Option<usize>,
    pub(super) truncate: bool,
    pub(super) room: Option<Room>,
    pub(super) priority: Priority,
    pub(super) skip: bool,
}

impl Task {
    /// One for a URL.
    ///
    /// # Errors
    /// When the URL is not `http` or `https` with a host.
    pub fn new(method: Method, url: &str) -> Result<Self, InvalidTask> {
        let mut task = Self::template(method);
        task.set_url(url)?;
        Ok(task)
    }

    /// One without a URL: each task of the list must get its own.
    pub fn template(method: Method) -> Self {
        Self {
            id: TaskId::new(),
            created: SystemTime::now(),
            method,
            url: None,
            headers: Arc::default(),
            body: Bytes::new(),
            service: None,
            timeout: None,
            attempt_timeout: None,
            retries: None,
            backoff_max: None,
            policy: None,
            repeatable: false,
            tls_mode: TlsMode::Verify,
            body_limit: None,
            truncate: false,
            room: None,
            priority: Priority::Normal,
            skip: false,
        }
    }

    /// Another of the same content, with a name of its own.
    pub(super) fn sibling(&self) -> Self {
        Self { id: TaskId::new(), created: SystemTime::now(), ..self.clone() }
    }

    /// Its name.
    pub const fn id(&self) -> TaskId {
        self.id
    }

    /// When it was made.
    pub const fn created(&self) -> SystemTime {
        self.created
    }

    /// Where it goes.
    pub const fn url(&self) -> Option<&Url> {
        self.url.as_ref()
    }

    /// Sends it elsewhere.
    ///
    /// # Errors
    /// When the URL is not `http` or `https` with a host.
    pub fn set_url(&mut self, url: &str) -> Result<(), InvalidTask> {
        let mut url = Url::parse(url).map_err(|error| InvalidTask::new("url", error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(InvalidTask::new(
                "url",
                format!("the scheme is `{}`, expected http or https", url.scheme()),
            ));
        }
        if url.host_str().is_none_or(str::is_empty) || url.port_or_known_default() == Some(0) {
            return Err(InvalidTask::new("url", "there is no host"));
        }
        if let Some(credentials) = take_credentials(&mut url) {
            self.set_header(AUTHORIZATION, credentials);
        }
        url.set_fragment(None);
        self.url = Some(url);
        Ok(())
    }

    /// Adds a header.
    ///
    /// # Errors
    /// When name or value cannot be one, the header is one that the engine writes itself, or there are 1000.
    pub fn header<V>(mut self, name: impl AsRef<str>, value: V) -> Result<Self, InvalidTask>
    where
        V: AsRef<[u8]>,
    {
        self.add_header(name.as_ref(), value.as_ref())?;
        Ok(self)
    }

    /// As [`Self::header`], in place.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn add_header(&mut self, name: &str, value: &[u8]) -> Result<(), InvalidTask> {
        // The operand of neither error: either could be a credential.
        let name: HeaderName = name.parse().map_err(|_| InvalidTask::new("header", "the name is none"))?;
        let mut value = HeaderValue::from_bytes(value)
            .map_err(|_| InvalidTask::new("header", format!("the value of `{name}` is none")))?;
        if matches!(
            name.as_str(),
            "content-length" | "transfer-encoding" | "connection" | "upgrade" | "te" | "trailer"
        ) {
            return Err(InvalidTask::new("header", format!("`{name}` follows from the request")));
        }
        value.set_sensitive(is_credential(&name));
        if self.headers.len() >= HEADERS_LIMIT {
            return Err(InvalidTask::new("header", format!("there are more than {HEADERS_LIMIT}")));
        }
        Arc::make_mut(&mut self.headers).append(name, value);
        Ok(())
    }

    fn set_header(&mut self, name: HeaderName, mut value: HeaderValue) {
        value.set_sensitive(is_credential(&name));
        Arc::make_mut(&mut self.headers).insert(name, value);
    }

    /// What it sends.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Who sends it: the `User-Agent`, unless that header is set. The runner's name otherwise.
    #[must_use]
    pub fn service(mut self, name: &str) -> Self {
        self.service = Some(name.into());
        self
    }

    /// How long it may take in all. Zero is the runner's default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
        self
    }

    /// How long one attempt may take, so that a stall leaves time for another.
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
        self
    }

    /// Attempts after the first.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// The longest wait between two attempts.
    #[must_use]
    pub fn backoff_max(mut self, longest: Duration) -> Self {
        self.backoff_max = Some(longest);
        self
    }

    /// How failed attempts are repeated, in place of the runner's policy. [`Self::retries`] and
    /// [`Self::backoff_max`] still come first.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.policy = Some(Arc::new(policy));
        self
    }

    /// The name it already has elsewhere: for who takes tasks from one process to another.
    #[must_use]
    pub fn named(mut self, id: Uuid) -> Self {
        self.id = TaskId(id);
        self
    }

    /// Whether doing it twice is as good as once, whatever its method: it may be sent again when bytes of it
    /// have left.
    #[must_use]
    pub fn repeatable(mut self, repeatable: bool) -> Self {
        self.repeatable = repeatable;
        self
    }

    /// Whether the server has to prove who it is.
    #[must_use]
    pub fn tls_mode(mut self, mode: TlsMode) -> Self {
        self.tls_mode = mode;
        self
    }

    /// The longest body of a response, inflated.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = Some(bytes);
        self
    }

    /// Memory that the bodies of all tasks with this room share, from the first byte that is read until the
    /// body is dropped. A body for which there is no more of it counts as longer than it may be. Not for
    /// tasks that are performed elsewhere.
    #[must_use]
    pub fn room(mut self, room: Room) -> Self {
        self.room = Some(room);
        self
    }

    /// Whether a longer body is cut instead of being an error.
    #[must_use]
    pub fn truncate(mut self, truncate: bool) -> Self {
        self.truncate = truncate;
        self
    }

    /// Which of the tasks for the same host comes first.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Whether it is left out.
    #[must_use]
    pub fn skip(mut self, skip: bool) -> Self {
        self.skip = skip;
        self
    }

    /// What keeps it from being sent.
    ///
    /// # Errors
    /// When there is no URL.
    pub fn validate(&self) -> Result<&Url, InvalidTask> {
        self.url.as_ref().ok_or_else(|| InvalidTask::new("url", "there is none"))
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.as_ref().map(Url::as_str);
        let headers: Vec<&str> = self.headers.keys().map(HeaderName::as_str).collect();
        let mut shown = f.debug_struct("Task");
        shown
            .field("id", &self.id.0)
            .field("method", &self.method)
            .field("url", &url)
            .field("headers", &headers);
        shown
            .field("body_bytes", &self.body.len())
            .field("tls_mode", &self.tls_mode)
            .field("skip", &self.skip)
            .finish_non_exhaustive()
    }
}

/// Headers whose value nobody may see.
pub(super) fn is_credential(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "authorization"
            | "proxy-authorization"
            | "cookie"
            | "x-auth-token"
            | "www-authenticate"
            | "set-cookie"
    ) || ["token", "secret", "api-key", "apikey", "password"].iter().any(|word| name.as_str().contains(word))
}

/// User and password of a URL as the value of an `Authorization` header; they leave the URL.
pub(super) fn take_credentials(url: &mut Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut plain = percent_decoded(url.username());
    plain.push(b':');
    plain.extend(percent_decoded(url.password().unwrap_or_default()));
    // Neither fails for a URL with a host.
    _ = url.set_username("");
    _ = url.set_password(None);
    let mut value = HeaderValue::from_str(&format!("Basic {}", base64(&plain))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let code = text
            .get(at + 1..at + 3)
            .filter(|_| *byte == b'%')
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        plain.push(code.unwrap_or(*byte));
        at += if code.is_some() { 3 } else { 1 };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_the_url() {
        let task = Task::new(Method::GET, "https://root:p%40ss@bmc/redfish#part").expect("a task");
        assert_eq!(task.url().map(Url::as_str), Some("https://bmc/redfish"));
        let value = &task.headers[AUTHORIZATION];
        assert_eq!(value, "Basic cm9vdDpwQHNz");
        assert!(value.is_sensitive());
        assert!(!format!("{task:?}").contains("cm9vd"));
    }

    #[test]
    fn what_cannot_be_sent_is_refused_when_made() {
        for (url, why) in [
            ("ftp://host/", "ftp"),
            ("http://", "empty host"),
            ("nothing", "relative"),
            ("http://host:0/", "no host"),
        ] {
            let error = Task::new(Method::GET, url).expect_err(url);
            assert_eq!(error.field, "url");
            assert!(error.why.contains(why), "{url}: {}", error.why);
        }
        let task = Task::template(Method::GET);
        assert_eq!(task.validate().expect_err("no URL").field, "url");
        let error = task.clone().header("X-Auth-Token", "a\nb").expect_err("a line break");
        assert!(!error.to_string().contains("a\nb"));
        assert!(task.header("Content-Length", "3").is_err());
    }
}
