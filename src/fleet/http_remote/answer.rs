//! What became of a task, on its way back from the worker.
//!
//! Errors keep their structure, so that a caller can tell what it could tell of a task of its own process;
//! reasons from below (of the operating system, of TLS) come back as their texts. The one body there can be
//! follows the head.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use url::Url;

use super::frame::{self, Frame, FrameError, headers};
use crate::broker::wire::millis;
use crate::http_tasks::{
    AttemptFailure, AttemptOutcome, AttemptSummary, CanceledBy, Carried, Completion, Last, Phase,
    RemoteError, Response, StatusCode, TaskError, Timings, Trust, Version,
};

/// The kind of the message.
pub const KIND: &str = "answer";

#[derive(Serialize, Deserialize)]
struct Head {
    worker: String,
    attempts: u32,
    history: Vec<Attempt>,
    timings: Spans,
    trust: Known,
    outcome: Outcome,
}

#[derive(Serialize, Deserialize)]
struct Attempt {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    took_us: u64,
    reused: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wait_us: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Spans {
    queued_us: u64,
    connect_us: u64,
    headers_us: u64,
    body_us: u64,
    waited_us: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Known {
    Plain,
    Verified,
    InsecureRequested,
    InsecureFallback,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Ok(Answered),
    Invalid {
        field: String,
        why: String,
    },
    Timeout {
        phase: String,
        attempts: u32,
        last: Option<LastOne>,
    },
    /// Workers and callers of earlier versions spell it so.
    #[serde(rename = "cancelled")]
    Canceled,
    RetriesExhausted {
        attempts: u32,
        last: LastOne,
    },
    Failed(Failure),
    BodyTooLarge {
        limit: u64,
        partial: Answered,
    },
    Panicked,
    ShutDown,
    Remote(Trouble),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LastOne {
    Response(Answered),
    Failure(Failure),
}

#[derive(Serialize, Deserialize)]
struct Answered {
    status: u16,
    /// 9 for 0.9, 10 for 1.0, 11 for 1.1.
    version: u8,
    headers: Vec<(String, String)>,
    truncated: bool,
    url: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Failure {
    Dns { host: String, reason: Reason },
    Refused { host: String, address: IpAddr, why: String },
    Connect { target: String, reason: Reason },
    Proxy { target: String, status: u16 },
    Tls { target: String, reason: Reason },
    Certificate { target: String, reason: Reason },
    Exchange { target: String, phase: String, reason: Reason },
    Head { target: String, why: String },
    Inflate { target: String, reason: Reason },
    Slow { target: String, phase: String, limit_ms: u64 },
    Redirect { why: String },
}

/// An error from below: its number where the operating system gave it one, and its texts.
#[derive(Serialize, Deserialize)]
struct Reason {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    os: Option<i32>,
    text: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Trouble {
    Unroutable,
    Rejected,
    TooLarge { limit: u64 },
    Expired,
    WorkerLost { deliveries: u32 },
    BadFrame,
    Untrusted,
    BrokerDown,
}

/// The bytes of what became of a task. A response that is more than a message can carry becomes
/// [`RemoteError::TooLarge`]; of one that comes with an error, less of the body is sent.
pub fn encode(worker: &str, done: &Completion) -> Bytes {
    let head = |outcome| Head {
        worker: worker.to_owned(),
        attempts: done.attempts,
        history: done.history.iter().map(Attempt::of).collect(),
        timings: Spans::of(&done.timings),
        trust: Known::of(done.trust),
        outcome,
    };
    let body = match &done.result {
        Ok(response) => &response.body[..],
        Err(error) => error.last_response().map_or(&[][..], |response| &response.body),
    };
    let whole = head(Outcome::of(&done.result, false));
    if let Some(bytes) = frame::encode(KIND, &whole, body) {
        return bytes;
    }
    if done.result.is_err() {
        let cut = head(Outcome::of(&done.result, true));
        let room = frame::LIMIT
            .saturating_sub(frame::encode(KIND, &cut, &[]).map_or(frame::LIMIT, |alone| alone.len()));
        if let Some(bytes) = frame::encode(KIND, &cut, &body[..room.min(body.len())]) {
            return bytes;
        }
    }
    refuse(worker, done.attempts, RemoteError::TooLarge { limit: frame::LIMIT })
}

/// The bytes of an answer of which nothing can be told but this.
pub fn refuse(worker: &str, attempts: u32, error: RemoteError) -> Bytes {
    let timings = Spans { queued_us: 0, connect_us: 0, headers_us: 0, body_us: 0, waited_us: 0 };
    let outcome = Outcome::Remote(Trouble::of(error));
    let head = Head {
        worker: worker.to_owned(),
        attempts,
        history: Vec::new(),
        timings,
        trust: Known::Plain,
        outcome,
    };
    frame::encode(KIND, &head, &[]).expect("a name and a number are short")
}

/// What a worker says became of a task that was made then.
///
/// # Errors
/// When it says nothing that can be understood; never panics, whatever the bytes.
pub fn decode(frame: &Frame, created: std::time::SystemTime) -> Result<Carried, FrameError> {
    let Head { worker, attempts, history, timings, trust, outcome } = frame.members()?;
    Ok(Carried {
        result: outcome.into_result(frame.body.clone())?,
        attempts,
        history: history.into_iter().map(Attempt::into_summary).collect::<Result<_, _>>()?,
        timings: Timings {
            created,
            queued: Duration::from_micros(timings.queued_us),
            connect: Duration::from_micros(timings.connect_us),
            headers: Duration::from_micros(timings.headers_us),
            body: Duration::from_micros(timings.body_us),
            waited: Duration::from_micros(timings.waited_us),
            total: Duration::ZERO,
        },
        trust: match trust {
            Known::Plain => Trust::Plain,
            Known::Verified => Trust::Verified,
            Known::InsecureRequested => Trust::InsecureRequested,
            Known::InsecureFallback => Trust::InsecureFallback,
        },
        worker: Some(worker.into()),
    })
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn wrong(member: &'static str, found: impl std::fmt::Display) -> FrameError {
    FrameError::Member { member, why: format!("`{found}` is none") }
}

impl Attempt {
    fn of(summary: &AttemptSummary) -> Self {
        let (status, failed) = match summary.outcome {
            AttemptOutcome::Status(status) => (Some(status.as_u16()), None),
            AttemptOutcome::Failed(kind) => (None, Some(kind.to_owned())),
        };
        Self {
            status,
            failed,
            took_us: micros(summary.took),
            reused: summary.reused,
            wait_us: summary.wait.map(micros),
        }
    }

    fn into_summary(self) -> Result<AttemptSummary, FrameError> {
        let outcome = match (self.status, self.failed) {
            (Some(status), _) => AttemptOutcome::Status(status_of(status)?),
            (None, failed) => AttemptOutcome::Failed(AttemptFailure::known_kind(&failed.unwrap_or_default())),
        };
        let (took, wait) = (Duration::from_micros(self.took_us), self.wait_us.map(Duration::from_micros));
        Ok(AttemptSummary { outcome, took, reused: self.reused, wait })
    }
}

impl Spans {
    fn of(timings: &Timings) -> Self {
        Self {
            queued_us: micros(timings.queued),
            connect_us: micros(timings.connect),
            headers_us: micros(timings.headers),
            body_us: micros(timings.body),
            waited_us: micros(timings.waited),
        }
    }
}

impl Known {
    const fn of(trust: Trust) -> Self {
        match trust {
            Trust::Plain => Self::Plain,
            Trust::Verified => Self::Verified,
            Trust::InsecureRequested => Self::InsecureRequested,
            Trust::InsecureFallback => Self::InsecureFallback,
        }
    }
}

impl Outcome {
    /// `cut` says that not all of the body follows.
    fn of(result: &Result<Response, TaskError>, cut: bool) -> Self {
        match result {
            Ok(response) => Self::Ok(Answered::of(response, cut)),
            Err(TaskError::Invalid { field, why }) => {
                Self::Invalid { field: (*field).to_owned(), why: why.clone() }
            }
            Err(TaskError::Timeout { phase, attempts, last }) => {
                let last = last.as_ref().map(|last| LastOne::of(last, cut));
                Self::Timeout { phase: phase.as_str().to_owned(), attempts: *attempts, last }
            }
            Err(TaskError::Canceled { .. }) => Self::Canceled,
            Err(TaskError::RetriesExhausted { attempts, last }) => {
                Self::RetriesExhausted { attempts: *attempts, last: LastOne::of(last, cut) }
            }
            Err(TaskError::Failed(failure)) => Self::Failed(Failure::of(failure)),
            Err(TaskError::BodyTooLarge { limit, partial }) => {
                Self::BodyTooLarge { limit: *limit as u64, partial: Answered::of(partial, cut) }
            }
            Err(TaskError::Panicked) => Self::Panicked,
            Err(TaskError::ShutDown) => Self::ShutDown,
            Err(TaskError::Remote(error)) => Self::Remote(Trouble::of(*error)),
        }
    }

    fn into_result(self, body: Bytes) -> Result<Result<Response, TaskError>, FrameError> {
        Ok(Err(match self {
            Self::Ok(answered) => return Ok(Ok(answered.into_response(body)?)),
            Self::Invalid { field, why } => {
                let known = ["url", "header", "method", "service", "timeout"];
                TaskError::Invalid {
                    field: known.into_iter().find(|known| *known == field).unwrap_or("task"),
                    why,
                }
            }
            Self::Timeout { phase, attempts, last } => {
                let last = last.map(|last| last.into_last(body)).transpose()?;
                TaskError::Timeout { phase: phase_of(&phase)?, attempts, last }
            }
            // Not by the caller, who would not have waited for this.
            Self::Canceled => TaskError::Canceled { by: CanceledBy::Runtime },
            Self::RetriesExhausted { attempts, last } => {
                TaskError::RetriesExhausted { attempts, last: last.into_last(body)? }
            }
            Self::Failed(failure) => TaskError::Failed(failure.into_failure()?),
            Self::BodyTooLarge { limit, partial } => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                TaskError::BodyTooLarge { limit, partial: Box::new(partial.into_response(body)?) }
            }
            Self::Panicked => TaskError::Panicked,
            Self::ShutDown => TaskError::ShutDown,
            Self::Remote(trouble) => TaskError::Remote(trouble.into_error()),
        }))
    }
}

impl LastOne {
    fn of(last: &Last, cut: bool) -> Self {
        match last {
            Last::Response(response) => Self::Response(Answered::of(response, cut)),
            Last::Failure(failure) => Self::Failure(Failure::of(failure)),
        }
    }

    fn into_last(self, body: Bytes) -> Result<Last, FrameError> {
        Ok(match self {
            Self::Response(answered) => Last::Response(Box::new(answered.into_response(body)?)),
            Self::Failure(failure) => Last::Failure(failure.into_failure()?),
        })
    }
}

impl Answered {
    fn of(response: &Response, cut: bool) -> Self {
        Self {
            status: response.status.as_u16(),
            version: match response.version {
                Version::HTTP_09 => 9,
                Version::HTTP_10 => 10,
                _ => 11,
            },
            headers: headers::to_pairs(&response.headers),
            truncated: response.truncated || cut,
            url: response.url.as_str().to_owned(),
        }
    }

    fn into_response(self, body: Bytes) -> Result<Response, FrameError> {
        Ok(Response {
            status: status_of(self.status)?,
            version: match self.version {
                9 => Version::HTTP_09,
                10 => Version::HTTP_10,
                11 => Version::HTTP_11,
                other => return Err(wrong("version", other)),
            },
            headers: headers::from_pairs(self.headers)?,
            body,
            truncated: self.truncated,
            url: Url::parse(&self.url).map_err(|error| wrong("url", error))?,
        })
    }
}

impl Failure {
    fn of(failure: &AttemptFailure) -> Self {
        match failure.clone() {
            AttemptFailure::Dns { host, source } => Self::Dns { host, reason: Reason::of(&source) },
            AttemptFailure::Refused { host, address, why } => Self::Refused { host, address, why },
            AttemptFailure::Connect { target, source } => {
                Self::Connect { target, reason: Reason::of(&source) }
            }
            AttemptFailure::Proxy { target, status } => Self::Proxy { target, status },
            AttemptFailure::Tls { target, source } => Self::Tls { target, reason: Reason::of(&source) },
            AttemptFailure::Certificate { target, source } => {
                Self::Certificate { target, reason: Reason::of(&source) }
            }
            AttemptFailure::Exchange { target, phase, source } => Self::Exchange {
                target,
                phase: phase.as_str().to_owned(),
                reason: Reason { os: None, text: texts(&*source) },
            },
            AttemptFailure::Head { target, why } => Self::Head { target, why },
            AttemptFailure::Inflate { target, source } => {
                Self::Inflate { target, reason: Reason::of(&source) }
            }
            AttemptFailure::Slow { target, phase, limit } => {
                Self::Slow { target, phase: phase.as_str().to_owned(), limit_ms: millis(limit) }
            }
            AttemptFailure::Redirect { why } => Self::Redirect { why },
        }
    }

    fn into_failure(self) -> Result<AttemptFailure, FrameError> {
        Ok(match self {
            Self::Dns { host, reason } => AttemptFailure::Dns { host, source: reason.into_source() },
            Self::Refused { host, address, why } => AttemptFailure::Refused { host, address, why },
            Self::Connect { target, reason } => {
                AttemptFailure::Connect { target, source: reason.into_source() }
            }
            Self::Proxy { target, status } => AttemptFailure::Proxy { target, status },
            Self::Tls { target, reason } => AttemptFailure::Tls { target, source: reason.into_source() },
            Self::Certificate { target, reason } => {
                AttemptFailure::Certificate { target, source: reason.into_source() }
            }
            Self::Exchange { target, phase, reason } => {
                AttemptFailure::Exchange { target, phase: phase_of(&phase)?, source: reason.into_source() }
            }
            Self::Head { target, why } => AttemptFailure::Head { target, why },
            Self::Inflate { target, reason } => {
                AttemptFailure::Inflate { target, source: reason.into_source() }
            }
            Self::Slow { target, phase, limit_ms } => AttemptFailure::Slow {
                target,
                phase: phase_of(&phase)?,
                limit: Duration::from_millis(limit_ms),
            },
            Self::Redirect { why } => AttemptFailure::Redirect { why },
        })
    }
}

impl Reason {
    fn of(error: &io::Error) -> Self {
        Self { os: error.raw_os_error(), text: texts(error) }
    }

    fn into_source(self) -> Arc<io::Error> {
        Arc::new(self.os.map_or_else(|| io::Error::other(self.text), io::Error::from_raw_os_error))
    }
}

/// An error and what lies under it, in one line.
fn texts(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(reason) = next {
        let reason_text = reason.to_string();
        if !text.ends_with(&reason_text) {
            text.push_str(": ");
            text.push_str(&reason_text);
        }
        next = reason.source();
    }
    text
}

impl Trouble {
    const fn of(error: RemoteError) -> Self {
        match error {
            RemoteError::Unroutable => Self::Unroutable,
            RemoteError::Rejected => Self::Rejected,
            RemoteError::TooLarge { limit } => Self::TooLarge { limit: limit as u64 },
            RemoteError::Expired => Self::Expired,
            RemoteError::WorkerLost { deliveries } => Self::WorkerLost { deliveries },
            RemoteError::BadFrame => Self::BadFrame,
            RemoteError::Untrusted => Self::Untrusted,
            RemoteError::BrokerDown => Self::BrokerDown,
        }
    }

    fn into_error(self) -> RemoteError {
        match self {
            Self::Unroutable => RemoteError::Unroutable,
            Self::Rejected => RemoteError::Rejected,
            Self::TooLarge { limit } => {
                RemoteError::TooLarge { limit: usize::try_from(limit).unwrap_or(usize::MAX) }
            }
            Self::Expired => RemoteError::Expired,
            Self::WorkerLost { deliveries } => RemoteError::WorkerLost { deliveries },
            Self::BadFrame => RemoteError::BadFrame,
            Self::Untrusted => RemoteError::Untrusted,
            Self::BrokerDown => RemoteError::BrokerDown,
        }
    }
}

fn status_of(status: u16) -> Result<StatusCode, FrameError> {
    StatusCode::from_u16(status).map_err(|_| wrong("status", status))
}

fn phase_of(name: &str) -> Result<Phase, FrameError> {
    Phase::named(name).ok_or_else(|| wrong("phase", name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_tasks::{HeaderMap, Method, Task};

    fn response(body: &[u8]) -> Response {
        let mut headers = HeaderMap::new();
        headers.append("x-a", "1".parse().expect("a value"));
        headers.append("x-a", "2".parse().expect("a value"));
        Response {
            status: StatusCode::SERVICE_UNAVAILABLE,
            version: Version::HTTP_10,
            headers,
            body: Bytes::copy_from_slice(body),
            truncated: false,
            url: Url::parse("http://a.example/b?c").expect("a URL"),
        }
    }

    fn completion(result: Result<Response, TaskError>) -> Completion {
        let task = Task::template(Method::GET);
        let span = Duration::from_micros;
        let (queued, connect, headers, body, waited) = (span(1), span(2), span(3), span(4), span(5));
        let timings = Timings {
            created: task.created(),
            queued,
            connect,
            headers,
            body,
            waited,
            total: Duration::ZERO,
        };
        let history = vec![
            AttemptSummary {
                outcome: AttemptOutcome::Failed("slow"),
                took: span(7),
                reused: true,
                wait: Some(span(8)),
            },
            AttemptSummary {
                outcome: AttemptOutcome::Status(StatusCode::OK),
                took: span(9),
                reused: false,
                wait: None,
            },
        ];
        let (id, trust) = (task.id(), Trust::InsecureFallback);
        Completion { index: 0, id, tag: (), result, attempts: 2, history, timings, trust, worker: None }
    }

    fn back(done: &Completion) -> Carried {
        decode(&frame::decode(&encode("w", done)).expect("a frame"), done.timings.created).expect("an answer")
    }

    /// Every way a task can end, but for one that its caller has ended.
    fn ends() -> Vec<Result<Response, TaskError>> {
        let other = || Arc::new(io::Error::other("why"));
        let refused = || Arc::new(io::Error::from_raw_os_error(111));
        let target = || "a:1".to_owned();
        let failures = [
            AttemptFailure::Dns { host: "a".to_owned(), source: other() },
            AttemptFailure::Refused {
                host: "a".to_owned(),
                address: [127, 0, 0, 1].into(),
                why: "no".to_owned(),
            },
            AttemptFailure::Connect { target: target(), source: refused() },
            AttemptFailure::Proxy { target: target(), status: 407 },
            AttemptFailure::Tls { target: target(), source: other() },
            AttemptFailure::Certificate { target: target(), source: other() },
            AttemptFailure::Exchange { target: target(), phase: Phase::Body, source: other() },
            AttemptFailure::Head { target: target(), why: "long".to_owned() },
            AttemptFailure::Inflate { target: target(), source: other() },
            AttemptFailure::Slow { target: target(), phase: Phase::Tls, limit: Duration::from_millis(150) },
            AttemptFailure::Redirect { why: "no".to_owned() },
        ];
        let last = Last::Response(Box::new(response(b"later")));
        let mut ends = vec![
            Ok(response(b"\xff\x00")),
            Err(TaskError::Invalid { field: "url", why: "none".to_owned() }),
            Err(TaskError::Timeout { phase: Phase::Backoff, attempts: 1, last: Some(last.clone()) }),
            Err(TaskError::Timeout { phase: Phase::Queue, attempts: 0, last: None }),
            Err(TaskError::RetriesExhausted { attempts: 4, last }),
            Err(TaskError::BodyTooLarge { limit: 5, partial: Box::new(response(b"12345")) }),
            Err(TaskError::Panicked),
            Err(TaskError::ShutDown),
        ];
        for failure in failures {
            ends.push(Err(TaskError::RetriesExhausted { attempts: 2, last: Last::Failure(failure.clone()) }));
            ends.push(Err(TaskError::Failed(failure)));
        }
        for error in [
            RemoteError::Unroutable,
            RemoteError::Rejected,
            RemoteError::TooLarge { limit: 7 },
            RemoteError::Expired,
            RemoteError::WorkerLost { deliveries: 3 },
            RemoteError::BadFrame,
            RemoteError::Untrusted,
            RemoteError::BrokerDown,
        ] {
            ends.push(Err(TaskError::Remote(error)));
        }
        ends
    }

    #[test]
    fn every_end_comes_back_as_it_was() {
        for end in ends() {
            let done = completion(end);
            let carried = back(&done);
            // Errors have no equality of their own.
            assert_eq!(format!("{:?}", carried.result), format!("{:?}", done.result));
            match (&carried.result, &done.result) {
                (Ok(read), Ok(sent)) => assert_eq!((&read.body, &read.headers), (&sent.body, &sent.headers)),
                (Err(read), Err(sent)) => {
                    assert_eq!(read.explain(), sent.explain());
                    assert_eq!(
                        (read.is_retryable(), read.is_timeout()),
                        (sent.is_retryable(), sent.is_timeout())
                    );
                    assert_eq!(
                        read.last_response().map(|last| &last.body),
                        sent.last_response().map(|last| &last.body)
                    );
                }
                _ => panic!("compared above"),
            }
            assert_eq!(
                (carried.attempts, carried.history, carried.timings),
                (done.attempts, done.history, done.timings)
            );
            assert_eq!((carried.trust, carried.worker.as_deref()), (Trust::InsecureFallback, Some("w")));
        }
    }

    #[test]
    fn what_no_message_can_carry_is_cut_or_told() {
        let long = vec![b'x'; frame::LIMIT];
        let carried = back(&completion(Ok(response(&long))));
        assert!(matches!(carried.result, Err(TaskError::Remote(RemoteError::TooLarge { .. }))));
        let partial = Box::new(response(&long));
        let bytes = encode("w", &completion(Err(TaskError::BodyTooLarge { limit: frame::LIMIT, partial })));
        assert_eq!(bytes.len(), frame::LIMIT, "as much as fits");
        let carried = decode(&frame::decode(&bytes).expect("a frame"), std::time::SystemTime::UNIX_EPOCH)
            .expect("an answer");
        assert!(
            carried.result.is_err_and(|error| error.last_response().is_some_and(|partial| partial.truncated))
        );
    }
}
