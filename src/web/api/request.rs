//! What happens to every request, whatever it asks for: its id, its log span, its time in the metrics, the
//! headers of its answer, and the rendering of a [`Problem`].

use std::borrow::Cow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, Method};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, web};
use bytes::Bytes;
use tracing::Instrument;

use super::connections::Connection;
use super::outgoing::{Endless, Share};
use super::problem::Problem;
use super::{Api, deeds, page, whose};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Wraps all routes.
pub async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let start = Instant::now();
    let id = request_id(request.headers());
    let method = method_label(request.method());
    let waits = request.query_string().split('&').any(|pair| pair.starts_with("wait="));
    let found =
        request.app_data::<web::Data<Api>>().and_then(|api| api.routes.of(request.match_info().as_str()));
    let route = match found.map(|route| route.pattern) {
        // Waiting is not slowness: long polls would drown the latency of plain reads.
        Some(pattern) if waits => Cow::Owned(format!("{pattern}?wait")),
        Some(pattern) => Cow::Borrowed(pattern),
        None if page::is_under(request.match_info().as_str()) => Cow::Borrowed(page::ROOT),
        None => Cow::Borrowed("unmatched"),
    };
    let span = tracing::info_span!("request", request_id = %id, method, route = &*route, token = tracing::field::Empty);

    let action = found.and_then(|route| deeds::action(request.method(), route));
    let call = next.call(request);
    let answered = match action {
        Some(action) => deeds::done(call, action, id.clone()).instrument(span.clone()).await?,
        None => call.instrument(span.clone()).await?,
    };
    let (request, answer) = answered.into_parts();
    let peer = deeds::source(&request);
    let problem = answer.error().and_then(|error| error.as_error::<Problem>());
    let mut answer = match problem {
        Some(problem) => {
            // What is logged of it names the request and its token, which the span has.
            span.in_scope(|| {
                log(problem, answer.status().as_u16());
                if let Some(api) = request.app_data::<web::Data<Api>>()
                    && api.refusals.note(&api.state.metrics, problem, peer)
                {
                    let token = whose::token_name(&request);
                    api.audit.refused(problem.code(), peer, token, &format!("{method} {route}"));
                }
            });
            let refusal = problem.render(&id);
            match request.extensions_mut().remove::<Unread>() {
                Some(unread) => refusal.map_body(|_, body| RefusalBody { body, _unread: unread }.boxed()),
                None => refusal,
            }
        }
        None if answer.extensions().contains::<Endless>() => answer.map_into_boxed_body(),
        None => {
            let share = request.extensions_mut().remove::<Share>();
            let held = match request.app_data::<web::Data<Api>>() {
                Some(api) => api.answers.hold(answer.map_into_boxed_body(), share).await,
                None => Err(Problem::internal("a request without the interface's data")),
            };
            held.unwrap_or_else(|problem| {
                let refusal = problem.render(&id);
                span.in_scope(|| log(&problem, refusal.status().as_u16()));
                refusal
            })
        }
    };
    if request.conn_data::<Connection>().is_some_and(|connection| !connection.may_stay(peer)) {
        answer.head_mut().set_connection_type(ConnectionType::Close);
    }

    let headers = answer.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(header::CACHE_CONTROL) {
        // What a task says changes from one moment to the next, and is nobody else's business.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if page::is_under(request.match_info().as_str()) {
        page::confine(headers);
    }
    if let Some(hsts) = request.app_data::<web::Data<Api>>().and_then(|api| api.hsts.clone()) {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts);
    }

    let elapsed = start.elapsed();
    let status = answer.status();
    let endless = answer.extensions().contains::<Endless>();
    if let Some(api) = request.app_data::<web::Data<Api>>().filter(|_| !endless) {
        api.state
            .metrics
            .http_requests
            .with_label_values(&[&route, method, status.as_str()])
            .observe(elapsed.as_secs_f64());
    }
    tracing::debug!(parent: &span, status = status.as_u16(), elapsed_ms = elapsed.as_millis(), "answered");
    Ok(ServiceResponse::new(request, answer))
}

/// The body of a request that was refused without a look at it.
///
/// The server hangs up where nobody has read a body when its answer is sent. One whose reader has gone before
/// then it reads to its end, for the next request's sake, and a body in chunks need not have one: so whoever
/// refuses leaves it here, and it goes with the answer.
pub struct Unread {
    _payload: Payload,
}

impl Unread {
    /// Keeps the body of a request for its answer.
    pub fn keep(request: &mut ServiceRequest) {
        let payload = request.take_payload();
        if !matches!(payload, Payload::None) {
            request.extensions_mut().insert(Self { _payload: payload });
        }
    }
}

struct RefusalBody {
    body: BoxBody,
    _unread: Unread,
}

impl MessageBody for RefusalBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
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
    let safe = |id: &&str| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/=+@".contains(&byte))
    };
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
