//! Times as people give them: a time, or a span from now.

use std::time::Duration;

use crate::clock::Clock;
use crate::config::span;
use crate::domain::Timestamp;

/// A time, or how long ago it was.
pub(super) fn ago(text: &str) -> Result<Timestamp, String> {
    let span = span::parse(text).map(|span| Clock::system().now().before(span));
    span.or_else(|_| instant(text))
}

/// A time, or how long there is until it comes.
pub(super) fn to_come(text: &str) -> Result<Timestamp, String> {
    let span = span::parse(text).map(|span| Clock::system().now().after(span));
    span.or_else(|_| instant(text))
}

/// For how long something holds that is made now.
pub(super) fn validity(text: &str) -> Result<Duration, String> {
    match span::parse(text) {
        Ok(span) if span.is_zero() => Err("would end at once: expected a span such as `90d`".to_owned()),
        span => span.map_err(|error| error.to_string()),
    }
}

fn instant(text: &str) -> Result<Timestamp, String> {
    let time = chrono::DateTime::parse_from_rfc3339(text);
    time.map(|time| time.to_utc().into())
        .map_err(|_| "expected a time such as `2024-07-12T10:00:00Z` or a span such as `2h`".to_owned())
}
