//! What is asked by people and machines that look after the process: `/`, `/heartbeat`, `/ready`, `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use super::{Answer, Api, answer};

/// How long the database may take to say that it is there.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// What there is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Index<'a> {
    /// Always `tasker`.
    name: &'a str,
    /// The version of the program.
    version: &'a str,
    /// The configured task types: each is a path.
    task_types: Vec<&'a str>,
    /// The other paths.
    links: Vec<&'a str>,
}

/// Says what this process serves.
#[utoipa::path(
    get, path = "/", operation_id = "index", tag = "operation",
    responses((status = 200, description = "What there is", body = Index))
)]
pub async fn index(api: web::Data<Api>) -> Answer {
    let index = Index {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        task_types: api.state.config.task_types.iter().map(|policy| policy.name.as_str()).collect(),
        links: vec!["/endpoints", "/heartbeat", "/ready", "/metrics", "/openapi.json"],
    };
    answer(StatusCode::OK, &index, 512)
}

/// The process answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Heartbeat {
    /// Always `alive`.
    status: &'static str,
}

/// Says that the process answers, whatever the state of what it depends on.
#[utoipa::path(
    get, path = "/heartbeat", operation_id = "heartbeat", tag = "operation",
    responses((status = 200, description = "Alive", body = Heartbeat))
)]
pub async fn heartbeat() -> Answer {
    answer(StatusCode::OK, &Heartbeat { status: "alive" }, 64)
}

/// Whether the process can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// Whether all of the following is well.
    ready: bool,
    /// `ok`, or what is wrong.
    database: &'static str,
    /// `ok`, or what is wrong.
    broker: &'static str,
}

/// Says whether database and broker can be reached.
///
/// Without the broker submissions are still taken and go out later; without the database nothing works.
#[utoipa::path(
    get, path = "/ready", operation_id = "ready", tag = "operation",
    responses(
        (status = 200, description = "Ready", body = Readiness),
        (status = 503, description = "Not ready; the body says why", body = Readiness),
    )
)]
pub async fn ready(api: web::Data<Api>) -> Answer {
    let store = Arc::clone(&api.state.store);
    let asked = api.run(async move {
        let answered = tokio::time::timeout(READY_TIMEOUT, store.now()).await;
        // Details are for the operator: this path is open to whoever reaches the port.
        Ok::<_, Problem>(match answered {
            Ok(Ok(_)) => "ok",
            Ok(Err(error)) => {
                tracing::debug!(%error, "the database is not ready");
                "unavailable"
            }
            Err(_) => "no answer within 1s",
        })
    });
    let database = asked.await?;
    let broker = match (api.state.broker.link().borrow().up, api.state.broker.refused_queues().as_slice()) {
        (false, _) => "disconnected",
        (true, []) => "ok",
        // Which one is in the log.
        (true, [..]) => "refuses a queue of the API",
    };
    let ready = database == "ok" && broker == "ok" && !api.stop.is_cancelled();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer(status, &Readiness { ready, database, broker }, 128)
}

/// All metrics in the Prometheus text format.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "operation",
    responses((status = 200, description = "Metrics", body = String, content_type = "text/plain; version=0.0.4; charset=utf-8"))
)]
pub async fn metrics(api: web::Data<Api>) -> Answer {
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(api.state.metrics.render()))
}
