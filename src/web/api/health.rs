//! What is asked by people and machines that look after the process: `/`, `/heartbeat`, `/ready`, `/metrics`.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use super::{Answer, Api, answer, dashboard, page};
use crate::contract::{Heartbeat, Index, Readiness};
use crate::store::{Refusal, StoreError};

/// How long the database may take to show that it can be written.
const READY_TIMEOUT: Duration = Duration::from_secs(1);
const NO_ANSWER: &str = "no answer within 1s";

/// What is wrong with the database, in a few fixed words. Anybody who reaches the port can read them, so they
/// leave out the text of the error, which is for the operator.
fn in_short(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unavailable { cause: Refusal::ReadOnly, .. } => "read-only",
        StoreError::Unavailable { cause: Refusal::Full, .. } => "full",
        StoreError::Unavailable { cause: Refusal::Limit, .. } => "at a limit",
        StoreError::Unavailable { cause: Refusal::Storage, .. } => "storage error",
        StoreError::Busy { .. } => "busy",
        StoreError::Unavailable { cause: Refusal::Denied, .. } => "access denied",
        StoreError::NoDatabase { .. } => "no such database",
        StoreError::NoTables { .. } => "no tables",
        StoreError::Schema { .. } | StoreError::Missing { .. } => "not the schema of this version",
        _ => "unavailable",
    }
}

/// Says what this process serves.
///
/// A browser (`Accept: text/html`) is led to the dashboard.
#[utoipa::path(
    get, path = "/", operation_id = "index", tag = "operation",
    responses(
        (status = 200, description = "What there is", body = Index),
        (status = 303, description = "For a browser: the dashboard", headers(("Location" = String))),
    )
)]
pub async fn index(api: web::Data<Api>, request: HttpRequest) -> Answer {
    if page::is_looked_for(request.head()) {
        return Ok(dashboard::lead());
    }
    let index = Index {
        name: "tasker".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        task_types: api.state.config.task_types.iter().map(|policy| policy.name.clone()).collect(),
        actions: api.state.config.requests.actions.keys().cloned().collect(),
        links: api.routes.iter().map(|route| route.pattern.to_owned()).collect(),
    };
    answer(StatusCode::OK, &index, 512)
}

/// Says that the process answers, whatever the state of what it depends on.
#[utoipa::path(
    get, path = "/heartbeat", operation_id = "heartbeat", tag = "operation",
    responses((status = 200, description = "Alive", body = Heartbeat))
)]
pub async fn heartbeat() -> Answer {
    answer(StatusCode::OK, &Heartbeat { status: "alive".to_owned() }, 64)
}

/// Says whether the database can be written and the broker be reached.
///
/// Without the broker submissions are still taken and go out later; without the database nothing works. The
/// database is asked once a second at most.
#[utoipa::path(
    get, path = "/ready", operation_id = "ready", tag = "operation",
    responses(
        (status = 200, description = "Ready", body = Readiness),
        (status = 503, description = "Not ready; the body says why", body = Readiness),
    )
)]
pub async fn ready(api: web::Data<Api>) -> Answer {
    let database = database(&api).await;
    let broker = match (api.state.broker.link().borrow().up, api.state.broker.refused_queues().as_slice()) {
        (false, _) => "disconnected",
        (true, []) => "ok",
        // Which one is in the log.
        (true, [..]) => "refuses a queue of the API",
    };
    let ready = database == "ok" && broker == "ok" && !api.stop.is_cancelled();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer(status, &Readiness { ready, database: database.to_owned(), broker: broker.to_owned() }, 128)
}

async fn database(api: &web::Data<Api>) -> &'static str {
    let Ok(turn) = tokio::time::timeout(READY_TIMEOUT, api.probe.turn.clone().lock_owned()).await else {
        return NO_ANSWER;
    };
    if let Some(said) = api.probe.fresh() {
        return said;
    }
    let asking = api.clone();
    let asked = api.backstage.runtime.spawn(async move {
        // The turn goes along: a database that leaves a question open is not asked another.
        let _turn = turn;
        asking.probe.said(match asking.state.store.prove_writable(asking.state.clock.now()).await {
            Ok(()) => "ok",
            Err(error) => {
                tracing::debug!(%error, "the database is not ready");
                in_short(&error)
            }
        })
    });
    match tokio::time::timeout(READY_TIMEOUT, asked).await {
        Ok(Ok(said)) => said,
        Ok(Err(_)) => "unavailable",
        Err(_) => NO_ANSWER,
    }
}

/// All metrics in the Prometheus text format.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "operation",
    responses((status = 200, description = "Metrics", body = String, content_type = "text/plain; version=0.0.4; charset=utf-8"))
)]
pub async fn metrics(api: web::Data<Api>) -> Answer {
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(api.state.metrics.render()))
}
