//! `/session`: a token for as long as a browser is open.
//!
//! A page must not keep a token where scripts can read it. So the token is shown once, and what the browser
//! keeps is a derived one, in a cookie that no script reads: it is good for the same, for twelve hours, and
//! ends with its token.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use tokio::time::Instant;
use uuid::Uuid;

use super::cookie::Way;
use super::deeds::{self, Particulars};
use super::problem::Problem;
use super::{Answer, Api, access, answer};
use crate::config::Secret;
use crate::contract::{self, ProblemCode, ProblemItem, Session, SessionStart};
use crate::domain::{Scope, SecretHash, Token};
use crate::store::TokenCreated;

/// How long a session lasts at most.
const LASTS: Duration = Duration::from_hours(12);

/// Bytes that the body may have: a token.
const LONGEST_BODY: usize = 4 << 10;

/// Tells the client what its token or session is good for.
#[utoipa::path(
    get, path = "/session", operation_id = "showSession", tag = "operation",
    responses((status = 200, description = "What the token or the session of this request is good for", body = Session))
)]
pub async fn show(api: web::Data<Api>, request: HttpRequest) -> Answer {
    answer(StatusCode::OK, &session(&api, access::token_of(&request).as_deref())?, 256)
}

/// Begins a session: a cookie that is good for what the token is good for.
///
/// For pages in a browser; programs send the token itself. Without TLS sessions are for this machine alone.
#[utoipa::path(
    post, path = "/session", operation_id = "beginSession", tag = "operation",
    request_body(content = SessionStart, content_type = "application/json"),
    responses(
        (status = 201, description = "The session, and its cookie", body = Session, headers(("Set-Cookie" = String))),
        (status = 200, description = "The ledger has no token, so none is needed: no session was begun", body = Session),
        (status = 401, description = "`invalid_token`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 403, description = "`insecure_connection`, `cross_site`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_message`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn begin(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    // The text of the error is left out: it may repeat the secret.
    let invalid = |_| {
        Problem::invalid(
            ProblemCode::InvalidMessage,
            vec![ProblemItem::new("", "expected {\"token\": \"SECRET\"}")],
        )
    };
    let SessionStart { token } = api.read(&request, payload, LONGEST_BODY, invalid).await?;
    let (secret, peer) = (SecretHash::of(token.trim().as_bytes()), request.peer_addr().map(|peer| peer.ip()));
    let Some(parent) = access::known(&api, Some(&secret), peer).await? else {
        deeds::nothing(&request);
        return answer(StatusCode::OK, &session(&api, None)?, 256);
    };
    if parent.is_session() {
        return Err(Problem::invalid_token());
    }
    let (secret, way) = (random()?, Way::of(request.head(), api.is_tls()));
    let cookie = way.keep(secret.reveal(), LASTS.as_secs()).ok_or_else(insecure)?;
    request
        .extensions_mut()
        .insert(Particulars { actor: Some(parent.name.to_string()), ..Particulars::default() });
    let (id, now) = (Uuid::now_v7(), api.now()?);
    let end = now.after(LASTS);
    let token = Token {
        id,
        name: format!("session-{}", id.simple()).parse().map_err(Problem::internal)?,
        hash: SecretHash::of(secret.reveal().as_bytes()),
        created_at: now,
        expires_at: Some(parent.expires_at.map_or(end, |earlier| earlier.min(end))),
        parent: Some(parent.id),
        ..Token::clone(&parent)
    };
    let (store, kept) = (Arc::clone(&api.state.store), token.clone());
    match api.run(async move { store.begin_session(&kept).await }).await? {
        TokenCreated::New => {}
        TokenCreated::NameTaken | TokenCreated::SecretTaken => {
            return Err(Problem::internal("two sessions have one random secret"));
        }
    }
    tracing::info!(token = %parent.name, "a session has begun");
    let mut answer = answer(
        StatusCode::CREATED,
        &session(&api, Some(&Token { name: parent.name.clone(), ..token }))?,
        256,
    )?;
    answer.headers_mut().insert(header::SET_COOKIE, cookie.parse().map_err(Problem::internal)?);
    Ok(answer)
}

/// Ends the session of this request. A token that is not a session stays.
#[utoipa::path(
    delete, path = "/session", operation_id = "endSession", tag = "operation",
    responses((status = 204, description = "There is no session any more", headers(("Set-Cookie" = String))))
)]
pub async fn end(api: web::Data<Api>, request: HttpRequest) -> Answer {
    if let Some(token) = access::token_of(&request).filter(|token| token.is_session()) {
        let (store, id) = (Arc::clone(&api.state.store), token.id);
        api.run(async move { store.end_session(id).await }).await?;
        // Not good any more from this answer on, here at least.
        let (keyring, asked) = (api.keyring.clone(), Instant::now());
        let refreshed = async move {
            keyring.refresh(asked).await;
            Ok::<_, Problem>(())
        };
        api.run(refreshed).await?;
        tracing::info!(token = %token.name, "a session has ended");
    }
    let mut answer = HttpResponse::NoContent();
    if let Some(cookie) = Way::of(request.head(), api.is_tls()).keep("", 0) {
        answer.insert_header((header::SET_COOKIE, cookie));
    }
    Ok(answer.finish())
}

/// What a token is good for, or a request without one where none is needed.
fn session(api: &Api, token: Option<&Token>) -> Result<Session, Problem> {
    Ok(Session {
        name: token.map(|token| token.name.to_string()),
        session: token.is_some_and(Token::is_session),
        scopes: token.map_or_else(all_scopes, |token| token.scopes.iter().copied().collect()),
        task_types: token.map(|token| token.task_types.clone()).unwrap_or_default(),
        expires_at: token.and_then(|token| token.expires_at),
        now: api.now()?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// What somebody is good for who needs no token: all, of which some say less than others.
fn all_scopes() -> Vec<Scope> {
    Scope::ALL.into_iter().filter(|scope| !matches!(scope, Scope::ReadOwn | Scope::CancelOwn)).collect()
}

fn random() -> Result<Secret, Problem> {
    Secret::random("").ok_or_else(|| Problem::internal("the system gives no random numbers"))
}

fn insecure() -> Problem {
    Problem::new(
        ProblemCode::InsecureConnection,
        "without TLS a session is for this machine alone, by the name localhost: give the API a certificate (`api.tls`), or open the page through an HTTPS proxy or an SSH tunnel",
    )
}
