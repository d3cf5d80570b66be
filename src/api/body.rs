//! Reads a request body within its limits: type, length, time, and the memory of all bodies together.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{self, HeaderMap};
use actix_web::web;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::problem::Problem;
use crate::config::size;
use crate::contract::ProblemCode;
use crate::domain::json_check;

/// A body earns a second for each of these many bytes it has delivered, on top of [`super::Limits::body_timeout`]: a slow
/// line may take its time, a client that drips may not.
const BYTES_PER_SECOND: f64 = 16.0 * 1024.0;

/// A complete body. Its share of the memory for bodies is given back when it is dropped.
#[derive(Debug)]
pub struct Body {
    /// All of it.
    pub bytes: Vec<u8>,
    _share: Option<OwnedSemaphorePermit>,
}

impl Body {
    /// Its text, if it is JSON that every reader agrees on.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn json(&self) -> Result<&str, Problem> {
        json_check::check(&self.bytes).map_err(|fault| Problem::new(ProblemCode::InvalidJson, fault.to_string()))
    }
}

/// How long a body may be.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Bytes at most.
    pub bytes: usize,
    /// The key of the configuration that says so, if one does.
    pub setting: Option<&'static str>,
}

/// What a body must keep to.
#[derive(Debug)]
pub struct Rules<'a> {
    /// How long it may be.
    pub limit: Limit,
    /// See [`BYTES_PER_SECOND`].
    pub timeout: Duration,
    /// One permit for each byte that all bodies together may hold.
    pub budget: &'a Arc<Semaphore>,
}

/// Reads the body of a request of the right type.
///
/// # Errors
/// The rule that was broken; as early as it shows, so that a body that says it is too long is not read at all.
pub async fn read(headers: &HeaderMap, mut payload: web::Payload, rules: Rules<'_>) -> Result<Body, Problem> {
    let too_large = |announced: Option<usize>| {
        let Limit { bytes, setting } = rules.limit;
        let length = announced.map_or_else(|| "more".to_owned(), |announced| size::spell(announced as u64));
        let setting = setting.map_or_else(String::new, |setting| format!(" ({setting})"));
        Problem::new(ProblemCode::BodyTooLarge, format!("the body has {length}, the limit is {}{setting}", size::format(bytes as u64)))
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()).and_then(|length| length.parse().ok());
    if announced.is_some_and(|length: usize| length > rules.limit.bytes) {
        return Err(too_large(announced));
    }

    let start = Instant::now();
    let mut body = Body { bytes: Vec::with_capacity(announced.unwrap_or(0).min(64 * 1024)), _share: None };
    loop {
        let earned = Duration::from_secs_f64(body.bytes.len() as f64 / BYTES_PER_SECOND);
        let deadline = start + rules.timeout + earned;
        let Ok(chunk) = timeout_at(deadline, payload.next()).await else {
            return Err(Problem::new(ProblemCode::BodyTimeout, "the body did not arrive in time"));
        };
        let Some(chunk) = chunk else { return Ok(body) };
        let chunk = chunk.map_err(|error| Problem::new(ProblemCode::IncompleteBody, "the body ended early").because(error))?;
        if body.bytes.len() + chunk.len() > rules.limit.bytes {
            return Err(too_large(announced));
        }
        let bytes = u32::try_from(chunk.len()).map_err(|_| too_large(announced))?;
        let Ok(share) = Arc::clone(rules.budget).try_acquire_many_owned(bytes) else {
            return Err(Problem::new(ProblemCode::Overloaded, "too many request bodies are held; send this one again").retry_after(1));
        };
        match &mut body._share {
            Some(held) => held.merge(share),
            none => *none = Some(share),
        }
        body.bytes.extend_from_slice(&chunk);
    }
}

/// Only plain JSON, which [`super::access`] sees to before anything is read: another charset or a compressed body would have to be understood first.
pub fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let wrong = |detail: &str| Err(Problem::new(ProblemCode::UnsupportedMediaType, detail));
    let Some(media) = headers.get(header::CONTENT_TYPE) else { return wrong("Content-Type is missing") };
    if !media.to_str().is_ok_and(is_json) {
        return wrong("Content-Type must be application/json, with no charset but utf-8");
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => wrong("Content-Encoding is not supported"),
        _ => Ok(()),
    }
}

fn is_json(media: &str) -> bool {
    let mut parts = media.split(';').map(str::trim);
    let json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    json && parts.filter(|part| !part.is_empty()).all(|part| {
        let utf8 = |value: &str| value.trim_matches('"').eq_ignore_ascii_case("utf-8");
        part.split_once('=').is_some_and(|(name, value)| name.eq_ignore_ascii_case("charset") && utf8(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_from_the_rest() {
        for good in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=UTF-8",
            "application/json ; charset=\"utf-8\"",
            "application/json;",
        ] {
            assert!(is_json(good), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/json; charset=latin1",
            "application/json; charset",
            "application/json; q=1",
            "application/jsonp",
            "application/problem+json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=application/json",
        ] {
            assert!(!is_json(bad), "{bad}");
        }
    }
}
