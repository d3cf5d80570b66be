//! `POST /workers/{name}/...`: for workers that reach nothing but this interface.
//!
//! Reports and presence go to the broker, as if the worker had published them there itself. Tasks are read from the ledger, so any API
//! process can answer, whoever gave them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::problem::{Code, Item, Problem, ProblemBody};
use super::{Answer, Api, ApiState, access, answer, segment};
use crate::broker::fetch::{ReportsMade, TasksGiven, TasksWanted};
use crate::broker::{Address, Message, wire};
use crate::domain::{Command, EndpointName, TaskId};
use crate::publisher::Outgoing;
use crate::store::{Owed, StoreError};

/// The longest body: a report may hold an answer of the largest size, and what wraps it.
const LIMIT: usize = 16 << 20;
/// How long a worker may be kept waiting.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How often to look without being told: another process may have given the worker a task.
const LOOK: Duration = Duration::from_secs(1);
/// Tasks given at once, beyond those it has.
const GIVEN: u32 = 100;
/// How long a message may lie with the broker that says that a worker is there.
const PRESENCE_LIVES: u32 = 3;

/// Takes in what a worker has to report about its tasks.
#[utoipa::path(
    post, path = "/workers/{name}/reports", operation_id = "reportTasks", tag = "workers",
    params(("name" = String, Path, description = "The worker")),
    request_body(content = serde_json::Value, content_type = "application/json", description = "`reports`: messages as `docs/queues.md` describes them"),
    responses(
        (status = 204, description = "They are with the broker"),
        (status = 400, description = "`invalid_json`, `incomplete_body`, `bad_path`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_message`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "`broker_unavailable`, `overloaded`", body = ProblemBody, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn reports(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    let worker = worker(&request)?;
    let ReportsMade { reports } = read(&api, &request, payload).await?;
    let mut messages = Vec::with_capacity(reports.len());
    for (at, report) in reports.into_iter().enumerate() {
        let body = Bytes::from(Box::<str>::from(report).into_string());
        let pointer = format!("/reports/{at}");
        match wire::decode_report(&body) {
            Ok(report) if report.endpoint == worker => {
                access::check_types(&request, [&report.task_type])?;
                messages.push(Message { to: Address::Responses, body, persistent: true, expires_in: None });
            }
            Ok(report) => return Err(invalid(pointer, format!("is a report of {}", report.endpoint))),
            Err(error) => return Err(invalid(pointer, error.to_string())),
        }
    }
    publish(&api, messages).await
}

/// Takes in that a worker is there.
#[utoipa::path(
    post, path = "/workers/{name}/presence", operation_id = "sayPresence", tag = "workers",
    params(("name" = String, Path, description = "The worker")),
    request_body(content = serde_json::Value, content_type = "application/json", description = "A message as `docs/queues.md` describes it"),
    responses(
        (status = 204, description = "It is with the broker"),
        (status = 400, description = "`invalid_json`, `incomplete_body`, `bad_path`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_message`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "`broker_unavailable`, `overloaded`", body = ProblemBody, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn presence(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    let worker = worker(&request)?;
    let message: Box<RawValue> = read(&api, &request, payload).await?;
    let body = Bytes::from(Box::<str>::from(message).into_string());
    let presence = wire::decode_presence(&body).map_err(|error| invalid("", error.to_string()))?;
    if presence.endpoint != worker {
        return Err(invalid("", format!("is presence of {}", presence.endpoint)));
    }
    access::check_types(&request, &presence.task_types)?;
    if let Some(other) = presence.task_types.iter().find(|name| api.state.config.policy(name).is_none_or(|policy| policy.queue.is_none())) {
        return Err(invalid("/types", format!("`{other}` is no configured task type with a work queue")));
    }
    let expires_in = Some(presence.interval.saturating_mul(PRESENCE_LIVES));
    publish(&api, vec![Message { to: Address::Presence, body, persistent: false, expires_in }]).await
}

/// Gives a worker the tasks that are its own and it has not received, and tells it which to stop. Waits for some if there are none.
#[utoipa::path(
    post, path = "/workers/{name}/tasks", operation_id = "fetchTasks", tag = "workers",
    params(("name" = String, Path, description = "The worker")),
    request_body(content = serde_json::Value, content_type = "application/json", description = "What it has; `docs/queues.md` describes it"),
    responses(
        (status = 200, description = "`commands`: messages as `docs/queues.md` describes them; none when the wait was over first", body = serde_json::Value),
        (status = 400, description = "`invalid_json`, `incomplete_body`, `bad_path`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_message`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "`database_unavailable`, `overloaded`", body = ProblemBody, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn tasks(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    let worker = worker(&request)?;
    let wanted: Arc<TasksWanted> = Arc::new(read(&api, &request, payload).await?);
    access::check_types(&request, &wanted.types)?;
    let until = Instant::now() + Duration::from_millis(wanted.wait_ms).min(LONGEST_WAIT);
    loop {
        let mut waiting = api.state.desk.subscribe(worker.clone());
        let (state, wanted, name) = (api.state.clone(), wanted.clone(), worker.clone());
        let commands = api.run(async move { commands(&state, &name, &wanted).await }).await?;
        let left = until.saturating_duration_since(Instant::now());
        if !commands.is_empty() || left.is_zero() || api.stop.is_cancelled() {
            return answer(StatusCode::OK, &TasksGiven { commands }, 4096);
        }
        tokio::select! {
            () = waiting.ended() => {}
            () = api.stop.cancelled() => {}
            () = tokio::time::sleep(left.min(LOOK)) => {}
        }
    }
}

async fn commands(state: &ApiState, worker: &EndpointName, wanted: &TasksWanted) -> Result<Vec<Box<RawValue>>, StoreError> {
    let mut commands: Vec<Bytes> = Vec::new();
    if !state.store.is_there(worker, wanted.session).await? {
        return Ok(Vec::new());
    }
    if wanted.all {
        let presence_interval = state.config.endpoint.presence_interval;
        commands.push(wire::encode_command(&Command::Welcome { session: wanted.session, presence_interval }));
    }
    let (known, stopped): (HashSet<TaskId>, HashSet<TaskId>) =
        (wanted.known.iter().copied().collect(), wanted.stopped.iter().copied().collect());
    let limit = GIVEN.saturating_add(u32::try_from(known.len() + stopped.len()).unwrap_or(u32::MAX));
    for Owed { task, row } in state.store.owed_anew(worker, &wanted.types, wanted.all, limit).await? {
        if task.status.is_final() {
            if !stopped.contains(&task.id) {
                commands.push(wire::encode_command(&Command::Cancel { task_id: task.id }));
            }
        } else if wanted.all || !known.contains(&task.id) {
            let message = Outgoing::from(task).message(row.home.is_some(), state.clock.now());
            commands.push(wire::encode_command(&Command::Task(message)));
        }
    }
    let raw = |body: Bytes| String::from_utf8(body.into()).ok().and_then(|text| RawValue::from_string(text).ok());
    Ok(commands.into_iter().filter_map(raw).collect())
}

fn worker(request: &HttpRequest) -> Result<EndpointName, Problem> {
    segment(request, 1)?.parse().map_err(|error| Problem::new(Code::BadPath, format!("{error}")))
}

async fn read<T: DeserializeOwned>(api: &Api, request: &HttpRequest, payload: web::Payload) -> Result<T, Problem> {
    let body = api.body(request, payload, LIMIT).await?;
    serde_json::from_str(body.json()?).map_err(|error| invalid("", error.to_string()))
}

fn invalid(pointer: impl Into<String>, message: String) -> Problem {
    Problem::invalid(Code::InvalidMessage, vec![Item::new(pointer, message)])
}

async fn publish(api: &Api, messages: Vec<Message>) -> Answer {
    let broker = api.state.broker.clone();
    let results = api.run(async move { Ok::<_, Problem>(broker.publish(messages).await) }).await?;
    match results.into_iter().find_map(Result::err) {
        None => Ok(HttpResponse::NoContent().finish()),
        Some(error) => Err(Problem::broker_unavailable(error)),
    }
}
