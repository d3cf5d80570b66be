//! A task on its way to a worker, with everything that decides how it is performed.
//!
//! Credentials that the request carries travel with it; keys and certificates never do, they belong to the
//! worker.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::frame::{self, Frame, FrameError, LIMIT, headers};
use crate::broker::wire::millis;
use crate::http_tasks::{Jitter, Method, Parcel, RetryMethods, RetryPolicy, Task, TlsMode};

/// The kind of the message.
pub const KIND: &str = "order";
/// RabbitMQ closes a channel on which a delivery is held for half an hour; what may be performed again is
/// held until it is answered.
pub const LONGEST_HELD: Duration = Duration::from_secs(25 * 60);

/// Attempts that a worker makes for a task, whatever it says: each is remembered until the task has ended.
const MOST_ATTEMPTS: u32 = 1000;

/// What a lost worker means for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Another one performs it: the delivery is held until the answer has been taken.
    AtLeastOnce,
    /// Nobody else performs it: the delivery is acknowledged before the first byte is sent.
    AtMostOnce,
}

impl Class {
    /// That of a task.
    pub fn of(parcel: &Parcel) -> Self {
        if parcel.may_repeat() { Self::AtLeastOnce } else { Self::AtMostOnce }
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    id: Uuid,
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    service: String,
    /// How much of its time was left when it was sent, and when that was by the sender's clock.
    remaining_ms: u64,
    sent_ms: u64,
    #[serde(default)]
    attempt_timeout_ms: Option<u64>,
    attempts: u32,
    backoff_max_ms: u64,
    every_method: bool,
    jitter: bool,
    #[serde(default)]
    retry_after_max_ms: Option<u64>,
    deliver_last: bool,
    repeatable: bool,
    insecure: bool,
    body_limit: u64,
    truncate: bool,
    class: Class,
}

/// A task as it arrived.
#[derive(Debug)]
pub struct Order {
    /// The task, named as at home. Its limit on the body is no more than a message can carry.
    pub task: Task,
    /// What a lost worker means for it.
    pub class: Class,
    /// How much of its time is left.
    pub remaining: Duration,
    /// The longest body that its caller would take.
    pub body_limit: usize,
}

/// The bytes of a task of which so much time is left; none when they would be too many.
pub fn encode(parcel: &Parcel, remaining: Duration, now: SystemTime) -> Option<Bytes> {
    let RetryPolicy { backoff_max, methods, jitter, retry_after_max, deliver_last, .. } = parcel.retry;
    let head = Head {
        id: parcel.id.uuid(),
        method: parcel.method.as_str().to_owned(),
        url: parcel.url.as_str().to_owned(),
        headers: headers::to_pairs(&parcel.headers),
        service: parcel.service.to_string(),
        remaining_ms: millis(remaining),
        sent_ms: since_epoch(now),
        attempt_timeout_ms: parcel.attempt_timeout.map(millis),
        attempts: parcel.retry.attempts(),
        backoff_max_ms: millis(backoff_max),
        every_method: methods == RetryMethods::Every,
        jitter: jitter == Jitter::Quarter,
        retry_after_max_ms: retry_after_max.map(millis),
        deliver_last,
        repeatable: parcel.repeatable,
        insecure: parcel.tls_mode == TlsMode::Insecure,
        body_limit: parcel.body_limit as u64,
        truncate: parcel.truncate,
        class: Class::of(parcel),
    };
    frame::encode(KIND, &head, &parcel.body)
}

/// The task in a message, as it is to be performed now.
///
/// # Errors
/// When it is none; never panics, whatever the bytes.
pub fn decode(frame: &Frame, now: SystemTime) -> Result<Order, FrameError> {
    let head: Head = frame.members()?;
    let wrong = |member, why: String| FrameError::Member { member, why };
    let method =
        Method::from_bytes(head.method.as_bytes()).map_err(|_| wrong("method", "it is none".to_owned()))?;
    let mut task = Task::new(method, &head.url).map_err(|error| wrong("url", error.why))?.named(head.id);
    for (name, value) in &head.headers {
        task.add_header(name, &headers::bytes_of(value)?).map_err(|error| wrong("headers", error.why))?;
    }
    let body_limit = usize::try_from(head.body_limit).unwrap_or(usize::MAX);
    let remaining = remaining(head.remaining_ms, head.sent_ms, since_epoch(now));
    let retry = RetryPolicy {
        retries: Some(head.attempts.min(MOST_ATTEMPTS).saturating_sub(1)),
        backoff_max: Duration::from_millis(head.backoff_max_ms),
        methods: if head.every_method { RetryMethods::Every } else { RetryMethods::Auto },
        jitter: if head.jitter { Jitter::Quarter } else { Jitter::None },
        retry_after_max: head.retry_after_max_ms.map(Duration::from_millis),
        deliver_last: head.deliver_last,
    };
    let mut task = task
        .body(frame.body.clone())
        .service(&head.service)
        .timeout(remaining)
        .retry(retry)
        .repeatable(head.repeatable)
        .tls_mode(if head.insecure { TlsMode::Insecure } else { TlsMode::Verify })
        .body_limit(body_limit.min(LIMIT))
        .truncate(head.truncate);
    if let Some(limit) = head.attempt_timeout_ms {
        task = task.attempt_timeout(Duration::from_millis(limit));
    }
    Ok(Order { task, class: head.class, remaining, body_limit })
}

/// How much time is left by a clock that need not agree with the sender's. The broker hands out nothing whose
/// time is over: a clock by which it is, or by which the message comes from the future, is a wrong one and
/// says nothing.
fn remaining(remaining_ms: u64, sent_ms: u64, now_ms: u64) -> Duration {
    let left = now_ms
        .checked_sub(sent_ms)
        .and_then(|passed| remaining_ms.checked_sub(passed))
        .filter(|left| *left > 0);
    // Zero would be the runner's default.
    Duration::from_millis(left.unwrap_or(remaining_ms).max(1))
}

fn since_epoch(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_message_are_bounded() {
        let head = |headers: usize| {
            serde_json::json!({
                "id": Uuid::nil(), "method": "GET", "url": "http://a/", "service": "s", "headers": vec![["x", "1"]; headers],
                "remaining_ms": u64::MAX, "sent_ms": u64::MAX, "attempts": u32::MAX, "backoff_max_ms": u64::MAX, "every_method": false,
                "jitter": false, "retry_after_max_ms": u64::MAX, "deliver_last": false, "repeatable": false, "insecure": false,
                "body_limit": u64::MAX, "truncate": false, "class": "at_most_once",
            })
        };
        let read = |headers| {
            let bytes = frame::encode(KIND, &head(headers), b"").expect("short");
            decode(&frame::decode(&bytes).expect("a frame"), SystemTime::now())
        };
        let order = read(1000).expect("an order");
        assert!(tokio::time::Instant::now().checked_add(order.remaining).is_some());
        assert!(matches!(read(1001), Err(FrameError::Member { member: "headers", .. })));
    }

    #[test]
    fn a_clock_that_cannot_be_right_does_not_count() {
        let left = |remaining_ms, sent, now| remaining(remaining_ms, sent, now).as_millis();
        assert_eq!(left(1000, 5000, 5000), 1000);
        assert_eq!(left(1000, 5000, 5400), 600);
        assert_eq!(left(1000, 5000, 6000), 1000, "the broker would not have handed it out");
        assert_eq!(left(1000, 5000, 90_000_000), 1000);
        assert_eq!(left(1000, 5000, 4000), 1000, "from the future");
        assert_eq!(left(0, 0, 0), 1);
    }
}
