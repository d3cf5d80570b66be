//! The bodies of this interface: their type, and what is said about those that break a rule.

use std::sync::Arc;
use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::Bytes;
use futures::Stream;
use tokio::sync::Semaphore;

use super::problem::Problem;
use crate::config::size;
use crate::contract::ProblemCode;
use crate::domain::json_check;
use crate::request_body::{self, Body, BodyError, Rules};

/// The text of a body, if it is JSON that every reader agrees on.
///
/// # Errors
/// What is wrong with it.
pub fn json(body: &Body) -> Result<&str, Problem> {
    json_check::check(&body.bytes).map_err(|fault| Problem::new(ProblemCode::InvalidJson, fault.to_string()))
}

/// How long a body may be.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Bytes at most.
    pub bytes: usize,
    /// The key of the configuration that says so, if one does.
    pub setting: Option<&'static str>,
}

/// Reads the body of a request of the right type.
///
/// # Errors
/// The rule that was broken.
pub async fn read(
    headers: &HeaderMap,
    mut payload: impl Stream<Item = Result<Bytes, PayloadError>> + Unpin,
    limit: Limit,
    timeout: Duration,
    budget: &Arc<Semaphore>,
) -> Result<Body, Problem> {
    let rules = Rules { longest: limit.bytes, timeout, budget };
    request_body::read(headers, &mut payload, rules).await.map_err(|error| match error {
        BodyError::TooLong { announced } => {
            let length =
                announced.map_or_else(|| "more".to_owned(), |announced| size::spell(announced as u64));
            let setting = limit.setting.map_or_else(String::new, |setting| format!(" ({setting})"));
            let most = size::format(limit.bytes as u64);
            Problem::new(
                ProblemCode::BodyTooLarge,
                format!("the body has {length}, the limit is {most}{setting}"),
            )
        }
        BodyError::Late => Problem::new(ProblemCode::BodyTimeout, error.to_string()),
        BodyError::Overloaded => Problem::new(ProblemCode::Overloaded, error.to_string()).retry_after(1),
        BodyError::Incomplete(ref cause) => {
            Problem::new(ProblemCode::IncompleteBody, error.to_string()).because(cause)
        }
    })
}

/// Only plain JSON, which [`super::access`] sees to before anything is read: another charset or a compressed
/// body would have to be understood first.
pub fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let wrong = |detail: &str| Err(Problem::new(ProblemCode::UnsupportedMediaType, detail));
    let Some(media) = headers.get(header::CONTENT_TYPE) else { return wrong("Content-Type is missing") };
    if !media.to_str().is_ok_and(is_json) {
        return wrong("Content-Type must be application/json, with no charset but utf-8");
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            wrong("Content-Encoding is not supported")
        }
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
