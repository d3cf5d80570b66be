//! Who may do what: the check before each request, by the table of routes (`route`).
//!
//! Runs after `request` has begun (so that refusals are counted, logged and have an id) and before a handler
//! or a byte of the body. Whether a task type exists is not told to those who may not know.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, web};
use tokio::time::Instant;
use uuid::Uuid;

use super::cookie::{self, Kept};
use super::guard::Meant;
use super::problem::Problem;
use super::query::Query;
use super::request::Unread;
use super::route::{About, For, Operation, Route};
pub(super) use super::whose::{token_name, token_of};
use super::{Api, body, page, segment};
use crate::contract::ProblemCode;
use crate::domain::{Scope, SecretHash, TaskType, Token, TokenName};
use crate::keyring::Found;

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Not even a token.
    Nothing,
    /// A token, of whatever kind.
    Token,
    /// A token with this scope.
    Scope(Scope, About),
    /// A token with this scope, or with that for its own tasks.
    Own(Scope, About),
}

fn need(route: Option<&Route>, method: &Method) -> Need {
    let Some(route) = route else { return Need::Token };
    match route.needs(method) {
        None | Some(For::Token) => Need::Token,
        Some(For::Everybody) => Need::Nothing,
        Some(For::Scope(scope)) => Need::Scope(scope, route.about),
        Some(For::Own(scope)) => Need::Own(scope, route.about),
    }
}

/// Wraps all routes, inside of `request::observe`.
pub async fn admit(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match check(&request).await.and_then(|()| check_query(&request)).and_then(|()| check_form(&request)) {
        Ok(()) => Ok(next.call(request).await?.map_into_boxed_body()),
        Err(problem) => {
            Unread::keep(&mut request);
            Ok(request.error_response(problem))
        }
    }
}

/// Refuses what is not for this process. Where nobody needs a token that is all that keeps web pages out.
fn check_meant(meant: Meant) -> Result<(), Problem> {
    match meant {
        Meant::Us => Ok(()),
        Meant::Address | Meant::Other => Err(Problem::misdirected(
            "the request is for another host: `api.hosts` lists the names of this API beside localhost and its port",
        )),
    }
}

async fn check(request: &ServiceRequest) -> Result<(), Problem> {
    let api = request
        .app_data::<web::Data<Api>>()
        .ok_or_else(|| Problem::internal("a request without the interface's data"))?;
    let meant = api.hosts.check(request)?;
    let shown = shown(request, api.is_tls());
    // A path needs no look where no token is needed and none is shown. A session counts as none: it is left
    // from a time when a token was needed.
    if matches!(shown, Shown::Nothing | Shown::Session(_))
        && matches!(api.keyring.look(None), Found::NoneNeeded)
    {
        return check_meant(meant);
    }
    // As the router sees the path, whose escapes it has undone: were one read and the other routed,
    // `/m%65trics` could be taken for a task type.
    let need = match page::is_page(request) {
        true => Need::Nothing,
        false => need(api.routes.of(request.match_info().as_str()), request.method()),
    };
    if api.hosts.is_listed() && !(need == Need::Nothing && meant == Meant::Address) {
        check_meant(meant)?;
    }
    if need == Need::Nothing {
        // As long as no token exists, a request with a token is no more trusted than one without: its host is
        // checked too.
        return if matches!(api.keyring.look(None), Found::NoneNeeded) { check_meant(meant) } else { Ok(()) };
    }
    let peer = request.peer_addr().map(|peer| peer.ip());
    let Some(token) = token(api, &shown, peer).await? else { return check_meant(meant) };
    if matches!(shown, Shown::Session(_)) && !matches!(*request.method(), Method::GET | Method::HEAD) {
        cookie::check_write(request.headers())?;
    }
    tracing::Span::current().record("token", token.name.as_str());
    request.extensions_mut().insert(token.clone());
    api.quotas.enter(&token, announced(request.headers()))?;
    let (scope, own, about) = match need {
        Need::Scope(scope, about) => (scope, None, about),
        Need::Own(scope, about) => (scope, scope.own(), about),
        Need::Nothing | Need::Token => return Ok(()),
    };
    if !token.permits(scope) && !own.is_some_and(|own| token.permits(own)) {
        return Err(Problem::insufficient_scope(format!("this needs a token with the scope `{scope}`")));
    }
    match about {
        About::Nothing | About::CoveredTypes => Ok(()),
        About::Worker => check_worker(api, &token, &segment(request.request(), 1)?),
        _ if token.is_unlimited() => Ok(()),
        About::TypeInPath if token.covers(&segment(request.request(), 0)?) => Ok(()),
        About::TypeInQuery
            if Query::new(request.query_string()).take("type", |name| Ok(token.covers(name)))
                == Some(true) =>
        {
            Ok(())
        }
        About::ScheduleInPath if schedule_is_covered(api, &token, &segment(request.request(), 1)?) => Ok(()),
        About::AllTypes => {
            Err(Problem::insufficient_scope("this needs a token that is good for all task types"))
        }
        About::TypeInPath | About::TypeInQuery | About::ScheduleInPath => {
            Err(Problem::insufficient_scope("this token is good for other task types"))
        }
    }
}

/// Refuses parameters where there are none: `?dry_run=true` that is ignored does what it was to try. Probes
/// may say what they like; nothing depends on it.
fn check_query(request: &ServiceRequest) -> Result<(), Problem> {
    if request.query_string().is_empty() || page::is_page(request) {
        return Ok(());
    }
    let api = request
        .app_data::<web::Data<Api>>()
        .ok_or_else(|| Problem::internal("a request without the interface's data"))?;
    let path = request.match_info().as_str();
    let operation = api.routes.of(path).and_then(|route| route.operation(request.method()));
    match operation {
        Some(operation) if !is_probe(operation) && !(operation.has_query)() => {
            Query::new(request.query_string()).finish()
        }
        _ => Ok(()),
    }
}

fn is_probe(operation: &Operation) -> bool {
    (operation.method, operation.needs) == ("GET", For::Everybody)
}

/// Whatever changes something is `application/json`, with a body or without: a web page can send nothing of
/// that kind to another site unasked.
fn check_form(request: &ServiceRequest) -> Result<(), Problem> {
    let headers = request.headers();
    let has_body = || {
        headers.contains_key(header::TRANSFER_ENCODING)
            || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
    };
    match *request.method() {
        Method::POST => body::check_type(headers),
        Method::PUT | Method::PATCH | Method::DELETE if has_body() => body::check_type(headers),
        _ => Ok(()),
    }
}

/// How long a body says that it is.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether a token is good for the type of a schedule. Of a name that no schedule has nothing is told to a
/// limited one.
fn schedule_is_covered(api: &Api, token: &Token, name: &str) -> bool {
    api.schedule(name).is_some_and(|schedule| token.covers(schedule.task_type.as_str()))
}

/// Whether a token may be used for a worker.
fn check_worker(api: &Api, token: &Token, worker: &str) -> Result<(), Problem> {
    match api.keyring.fits(token, worker) {
        true => Ok(()),
        false => Err(Problem::insufficient_scope("this token is not good for this worker")),
    }
}

/// Whether a request that has waited may still be answered: its token may have ended meanwhile, or be needed
/// since.
///
/// # Errors
/// As if the request came now.
pub(super) fn check_again(api: &Api, request: &HttpRequest) -> Result<(), Problem> {
    let extensions = request.extensions();
    match extensions.get::<Arc<Token>>() {
        Some(token) if !api.keyring.holds(token) || token.is_expired(api.now()?) => {
            Err(Problem::invalid_token())
        }
        Some(token) if token.worker.is_some() || request.path().starts_with("/workers/") => {
            check_worker(api, token, &segment(request, 1)?)
        }
        Some(_) => Ok(()),
        None if matches!(api.keyring.look(None), Found::NoneNeeded) => Ok(()),
        None => Err(Problem::token_needed()),
    }
}

/// The id of a request's token.
pub(super) fn token_id(request: &HttpRequest) -> Option<Uuid> {
    request.extensions().get::<Arc<Token>>().map(|token| token.id)
}

/// The name of a request's token if that may not read: what others have submitted is none of its business.
pub(super) fn blind(request: &HttpRequest) -> Option<TokenName> {
    token_name(request)
        .filter(|_| request.extensions().get::<Arc<Token>>().is_some_and(|token| !token.permits(Scope::Read)))
}

/// The name of a request's token if the request is about nothing but what was submitted with that.
pub(super) fn only_own(request: &HttpRequest) -> Option<TokenName> {
    let limited = |token: &Token| match *request.method() {
        Method::DELETE => token.cancels_own(),
        _ => token.reads_own(),
    };
    token_of(request).filter(|token| limited(token)).map(|token| token.name.clone())
}

/// The name of a request's token if it may not know, or not touch, what others have submitted.
pub(super) fn not_beyond(request: &HttpRequest) -> Option<TokenName> {
    blind(request).or_else(|| only_own(request))
}

/// Whether the token of a request is good for all of these types.
pub(super) fn check_types<'a>(
    request: &HttpRequest,
    types: impl IntoIterator<Item = &'a TaskType>,
) -> Result<(), Problem> {
    let extensions = request.extensions();
    let Some(token) = extensions.get::<Arc<Token>>() else { return Ok(()) };
    match types.into_iter().all(|task_type| token.covers(task_type.as_str())) {
        true => Ok(()),
        false => Err(Problem::insufficient_scope("this token is good for other task types")),
    }
}

/// Whether the token of a request, if it has one, is good for a type: of others it is told nothing.
pub(super) fn covers(request: &HttpRequest, task_type: &str) -> bool {
    request.extensions().get::<Arc<Token>>().is_none_or(|token| token.covers(task_type))
}

/// Whether the token of a request, if it has one, is good for all types.
pub(super) fn covers_all(request: &HttpRequest) -> bool {
    request.extensions().get::<Arc<Token>>().is_none_or(|token| token.is_unlimited())
}

/// The token that a request shows; none where none is needed.
async fn token(api: &Api, shown: &Shown, peer: Option<IpAddr>) -> Result<Option<Arc<Token>>, Problem> {
    let secret = match shown {
        Shown::Secret(secret) | Shown::Session(secret) => Some(secret),
        Shown::Nothing | Shown::Unreadable => None,
    };
    known(api, secret, peer).await.map_err(|problem| match (problem.code(), shown) {
        (ProblemCode::InvalidToken, Shown::Nothing) => Problem::token_needed(),
        _ => problem,
    })
}

/// The token of a secret; none where none is needed.
pub(super) async fn known(
    api: &Api,
    secret: Option<&SecretHash>,
    peer: Option<IpAddr>,
) -> Result<Option<Arc<Token>>, Problem> {
    let asked = Instant::now();
    let mut found = api.keyring.look(secret);
    if matches!(found, Found::Unread) || secret.is_some() && !matches!(found, Found::Known(_)) {
        if matches!(found, Found::Nobody) {
            // Valid tokens are accepted all the same: behind a proxy all clients have one address.
            api.wrong_tokens.may_guess(peer)?;
        }
        // It may have been created since the last look. What cannot be read now leaves everything as it was.
        let keyring = api.keyring.clone();
        let refreshed = async move {
            keyring.refresh(asked).await;
            Ok::<_, Problem>(())
        };
        _ = api.run(refreshed).await;
        found = api.keyring.look(secret);
    }
    match found {
        Found::Unread => Err(Problem::database_unavailable("the tokens have not been read yet")),
        Found::NoneNeeded => Ok(None),
        Found::Known(token) if token.expires_at.is_some() && token.is_expired(api.now()?) => {
            // The log says whose time is over; the answer does not.
            tracing::Span::current().record("token", token.name.as_str());
            Err(Problem::invalid_token())
        }
        Found::Known(token) => Ok(Some(token)),
        Found::Nobody => {
            if secret.is_some() {
                api.wrong_tokens.was_wrong(peer);
            }
            Err(Problem::invalid_token())
        }
    }
}

/// What a request shows of a token.
enum Shown {
    /// Nothing, or something for another kind of door.
    Nothing,
    /// What cannot be a token.
    Unreadable,
    /// A secret.
    Secret(SecretHash),
    /// The secret of a session.
    Session(SecretHash),
}

/// A header counts before a cookie, which a browser sends unasked.
fn shown(request: &ServiceRequest, tls: bool) -> Shown {
    match bearer(request.headers()) {
        Shown::Nothing => match cookie::kept(request.request().head(), tls) {
            Kept::Nothing => Shown::Nothing,
            Kept::Several => Shown::Unreadable,
            Kept::Secret(secret) => Shown::Session(SecretHash::of(secret)),
        },
        shown => shown,
    }
}

fn bearer(headers: &HeaderMap) -> Shown {
    let mut given = headers.get_all(header::AUTHORIZATION);
    let Some(value) = given.next() else { return Shown::Nothing };
    if given.next().is_some() {
        // Who reads the first and who reads the last would let in two different people.
        return Shown::Unreadable;
    }
    let bytes = value.as_bytes();
    let (scheme, rest) = bytes.split_at(bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len()));
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Shown::Nothing;
    }
    let secret = rest.trim_ascii();
    if secret.is_empty() || !secret.iter().all(u8::is_ascii_graphic) {
        Shown::Unreadable
    } else {
        Shown::Secret(SecretHash::of(secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::routes::ROUTES;
    use actix_web::http::header::HeaderValue;

    #[test]
    fn a_path_that_is_not_in_the_table_needs_a_token() {
        let need = |path, method| need(ROUTES.of(path), &method);
        assert_eq!((need("//", Method::GET), need("/census", Method::PUT)), (Need::Token, Need::Token));
        assert_eq!(need("/heartbeat", Method::HEAD), Need::Nothing);
        assert_eq!(need("/heartbeat", Method::POST), Need::Token);
    }

    #[test]
    fn a_token_is_shown_in_one_way() {
        let shown = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_bytes(value).expect("a value"));
            }
            match bearer(&headers) {
                Shown::Nothing => "nothing",
                Shown::Unreadable => "unreadable",
                Shown::Secret(secret) if secret.matches(&SecretHash::of(b"s3cr3t")) => "it",
                Shown::Secret(_) | Shown::Session(_) => "another",
            }
        };
        for good in [&b"Bearer s3cr3t"[..], b"bearer s3cr3t", b"BEARER   s3cr3t "] {
            assert_eq!(shown(&[good]), "it");
        }
        assert_eq!(shown(&[b"Bearer s3cr3T"]), "another");
        for none in [&b""[..], b"Basic czNjcjN0", b"s3cr3t", b"Bearers3cr3t"] {
            assert_eq!(shown(&[none]), "nothing", "{none:?}");
        }
        for bad in [&b"Bearer"[..], b"Bearer ", b"Bearer a b", b"Bearer s\xc3\xa9cret", b"Bearer a\tb"] {
            assert_eq!(shown(&[bad]), "unreadable", "{bad:?}");
        }
        assert_eq!(shown(&[b"Bearer s3cr3t", b"Bearer s3cr3t"]), "unreadable");
        assert_eq!(shown(&[]), "nothing");
    }
}
