//! Reads the body of an HTTP request within its limits: length, time, and the memory of all bodies together.

use std::sync::Arc;
use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::Bytes;
use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// A body earns a second for each of these many bytes it has delivered, on top of [`Rules::timeout`]: a slow
/// line may take its time, a client that drips may not.
const BYTES_PER_SECOND: f64 = 16.0 * 1024.0;

/// A complete body. Its share of the memory for bodies is given back when it is dropped.
#[derive(Debug, Default)]
pub struct Body {
    /// All of it.
    pub bytes: Vec<u8>,
    _share: Option<OwnedSemaphorePermit>,
}

/// What a body must keep to.
#[derive(Debug)]
pub struct Rules<'a> {
    /// Bytes at most.
    pub longest: usize,
    /// How long a body may take beyond what it earns by arriving.
    pub timeout: Duration,
    /// One permit for each byte that all bodies together may hold.
    pub budget: &'a Arc<Semaphore>,
}

/// Which rule a body broke.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than it may be.
    #[error("the body is too long")]
    TooLong {
        /// How long it said that it is, if it did.
        announced: Option<usize>,
    },
    /// It was too slow.
    #[error("the body did not arrive in time")]
    Late,
    /// It was cut off.
    #[error("the body ended early")]
    Incomplete(#[source] PayloadError),
    /// Others hold the memory.
    #[error("too many request bodies are held; send this one again")]
    Overloaded,
}

/// Reads a body.
///
/// # Errors
/// The rule that was broken; as early as it shows, so that a body that says it is too long is not read at
/// all.
pub async fn read(
    headers: &HeaderMap,
    payload: &mut (impl Stream<Item = Result<Bytes, PayloadError>> + Unpin),
    rules: Rules<'_>,
) -> Result<Body, BodyError> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse().ok());
    if announced.is_some_and(|length: usize| length > rules.longest) {
        return Err(BodyError::TooLong { announced });
    }
    let start = Instant::now();
    let mut body = Body { bytes: Vec::with_capacity(announced.unwrap_or(0).min(64 * 1024)), _share: None };
    loop {
        let earned = Duration::from_secs_f64(body.bytes.len() as f64 / BYTES_PER_SECOND);
        let Ok(chunk) = timeout_at(start + rules.timeout + earned, payload.next()).await else {
            return Err(BodyError::Late);
        };
        let Some(chunk) = chunk else { return Ok(body) };
        let chunk = chunk.map_err(BodyError::Incomplete)?;
        if body.bytes.len() + chunk.len() > rules.longest {
            return Err(BodyError::TooLong { announced });
        }
        let bytes = u32::try_from(chunk.len()).map_err(|_| BodyError::TooLong { announced })?;
        let share =
            Arc::clone(rules.budget).try_acquire_many_owned(bytes).map_err(|_| BodyError::Overloaded)?;
        match &mut body._share {
            Some(held) => held.merge(share),
            none => *none = Some(share),
        }
        body.bytes.extend_from_slice(&chunk);
    }
}
