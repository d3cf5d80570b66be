//! `GET /{type}/{id}`: a task with what became of it, now or when it has ended.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use tokio::time::{Instant, sleep};

use super::problem::{Problem, ProblemBody};
use super::query::{self, Query};
use super::view::{Names, Responses, TaskView, TaskWithResponses};
use super::{Answer, Api, TaskName, answer};
use crate::domain::{EndpointName, Response, ResponseStatus, Task, TaskId};
use crate::store::ResponseFilter;

/// The longest `wait`. Proxies on the way rarely wait longer than this either.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Which responses to send along.
#[derive(Debug, Clone, Copy)]
enum Include {
    These(ResponseFilter),
    None,
}

/// Reads a task with its responses.
///
/// With `wait` the answer comes when the task has ended, or with its current state when the time is over.
#[utoipa::path(
    get, path = "/{type}/{id}", operation_id = "showTask", tag = "tasks",
    params(
        ("type" = String, Path, description = "A configured task type"),
        ("id" = String, Path, description = "The identifier, percent-encoded; or our id"),
        ("wait" = Option<String>, Query, description = "How long to wait for the end, at most 60s", example = "20s"),
        ("responses" = Option<String>, Query, description = "`all` (default), `failed`, `missing` or `none`"),
    ),
    responses(
        (status = 200, description = "The task", body = TaskWithResponses),
        (status = 400, description = "`bad_path`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_task_type`, `unknown_task`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 500, description = "`internal`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "`database_unavailable`", body = ProblemBody, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn show_task(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let policy = api.task_type(&request)?;
    let name = TaskName::of(&request)?;
    let mut query = Query::new(request.query_string());
    let wait = query.take("wait", |text| query::span(text, MAX_WAIT));
    let include = query.take("responses", include).unwrap_or(Include::These(ResponseFilter::All));
    query.finish()?;

    let mut task = api.find(policy, &name).await?;
    if let Some(wait) = wait.filter(|_| !task.status.is_final()) {
        task = until_ended(&api, task, wait).await?;
    }
    show(&api, &task, include).await
}

fn include(text: &str) -> Result<Include, String> {
    match text {
        "all" => Ok(Include::These(ResponseFilter::All)),
        "failed" => Ok(Include::These(ResponseFilter::Failed)),
        "missing" => Ok(Include::These(ResponseFilter::Missing)),
        "none" => Ok(Include::None),
        _ => Err("must be all, failed, missing or none".to_owned()),
    }
}

/// The task when it has ended, when the time is over or when the process stops. A look that fails is only told if it was
/// the last one: the next may succeed.
async fn until_ended(api: &Api, task: Task, wait: Duration) -> Result<Task, Problem> {
    let deadline = Instant::now() + wait;
    let id = task.id;
    // Arm, then look, then wait: an end between the first look and this line is seen by the next look.
    let mut waiter = api.state.watch.subscribe(id);
    loop {
        let over = Instant::now() >= deadline || api.stop.is_cancelled();
        match look(api, id).await {
            Ok(task) if task.status.is_final() || over => return Ok(task),
            Err(problem) if over => return Err(problem),
            Ok(_) | Err(_) => {}
        }
        // Another process may have collected the end: look about once a second, out of step with other waiting requests.
        let pause = Duration::from_millis(fastrand::u64(750..1250)).min(deadline.saturating_duration_since(Instant::now()));
        let mut pause = pin!(sleep(pause));
        tokio::select! {
            () = waiter.ended() => {
                // Told once. What is seen now decides, and if it is not the end the clock goes on.
                waiter = api.state.watch.subscribe(id);
            }
            () = &mut pause => {}
            () = api.stop.cancelled() => {}
        }
    }
}

async fn look(api: &Api, id: TaskId) -> Result<Task, Problem> {
    let store = Arc::clone(&api.state.store);
    api.run(async move { store.find(id).await }).await?.ok_or_else(Problem::unknown_task)
}

async fn show(api: &Api, task: &Task, include: Include) -> Answer {
    let (store, id) = (Arc::clone(&api.state.store), task.id);
    let nobody_missing = task.counts.open() == 0;
    let (responses, missing) = api
        .run(async move {
            let responses = match include {
                Include::These(filter) => store.responses(id, filter).await?,
                Include::None => Vec::new(),
            };
            let missing = match include {
                // All of them are at hand already, or there are none.
                Include::These(ResponseFilter::All | ResponseFilter::Missing) => missing_among(&responses),
                _ if nobody_missing => Vec::new(),
                _ => store.missing(id).await?,
            };
            Ok::<_, crate::store::StoreError>((responses, missing))
        })
        .await?;
    let capacity = 1024 + task.payload.get().len() + responses.iter().map(size).sum::<usize>() + missing.len() * 32;
    let view = TaskView { missing: Some(Names(&missing)), ..TaskView::of(task) };
    answer(StatusCode::OK, &TaskWithResponses { task: view, responses: Responses(&responses) }, capacity)
}

fn missing_among(responses: &[Response]) -> Vec<EndpointName> {
    responses.iter().filter(|response| response.status == ResponseStatus::Expected).map(|response| response.endpoint.clone()).collect()
}

/// About the length of a response as JSON.
fn size(response: &Response) -> usize {
    let texts = response.payload.as_ref().map_or(4, |payload| payload.get().len()) + response.log.as_ref().map_or(4, String::len);
    400 + 2 * response.endpoint.as_str().len() + response.errmsg.len() + texts + response.attempts.len() * 64
}
