//! What happens to every request, whatever it asks for: its id, its log span, its time in the metrics, the headers of its
//! answer, and the rendering of a [`Problem`].

use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, web};
use tracing::Instrument;

use super::Api;
use super::problem::Problem;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Wraps all routes.
pub async fn observe(request: ServiceRequest, next: Next<impl MessageBody + 'static>) -> Result<ServiceResponse<BoxBody>, Error> {
    let start = Instant::now();
    let id = request_id(request.headers());
    let method = method_label(request.method());
    let waits = request.query_string().split('&').any(|pair| pair.starts_with("wait="));
    let route = match request.match_pattern() {
        // Waiting is not slowness: long polls would drown the latency of plain reads.
        Some(pattern) if waits => format!("{pattern}?wait"),
        Some(pattern) => pattern,
        None => "unmatched".to_owned(),
    };
    let span = tracing::info_span!("request", request_id = %id, method, route);

    let (request, answer) = next.call(request).instrument(span.clone()).await?.into_parts();
    let _entered = span.enter();
    let problem = answer.error().and_then(|error| error.as_error::<Problem>());
    let mut answer = match problem {
        Some(problem) => {
            log(problem, answer.status().as_u16());
            problem.render(&id)
        }
        None => answer.map_into_boxed_body(),
    };

    let headers = answer.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // What a task says changes from one moment to the next, and is nobody else's business.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

    let elapsed = start.elapsed();
    let status = answer.status();
    if let Some(api) = request.app_data::<web::Data<Api>>() {
        api.state.metrics.http_requests.with_label_values(&[&route, method, status.as_str()]).observe(elapsed.as_secs_f64());
    }
    tracing::debug!(status = status.as_u16(), elapsed_ms = elapsed.as_millis(), "answered");
    Ok(ServiceResponse::new(request, answer))
}

fn log(problem: &Problem, status: u16) {
    let cause = problem.cause();
    match status {
        500 => tracing::error!(%problem, cause, "a request failed"),
        501.. => tracing::warn!(%problem, cause, "a request could not be served now"),
        _ => tracing::debug!(%problem, cause, "a request was refused"),
    }
}

/// The customer's own id for the request if it is safe to repeat in headers and logs, a new one otherwise.
fn request_id(headers: &HeaderMap) -> String {
    let safe =
        |id: &&str| (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/=+@".contains(&byte));
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(safe);
    given.map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}

/// The method as a label: a closed set, since anybody may invent methods.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_ids_are_repeated() {
        let id = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(value).expect("a value"));
            request_id(&headers)
        };
        assert_eq!(id(b"Root=1-67891233-abc/d:e"), "Root=1-67891233-abc/d:e");
        for bad in [&b""[..], b"a b", b"\"", b"a\tb", b"\xff", &[b'a'; 129], b"{}"] {
            let made = id(bad);
            assert!(made.parse::<uuid::Uuid>().is_ok(), "{made}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
