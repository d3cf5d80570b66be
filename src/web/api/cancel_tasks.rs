//! `POST /tasks/cancel`: withdraws all tasks that a filter means.

use std::collections::BTreeSet;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use futures::future::join_all;
use serde_json::json;

use super::cancel_task;
use super::matching::{self, BATCH, Came, Matching};
use super::problem::Problem;
use super::query::Query;
use super::tasks::covered;
use super::{Answer, Api, access, answer, deeds, unknown};
use crate::contract::{self, BulkAnswer, BulkCancel, TaskFilter};
use crate::domain::{TaskId, TaskStatus, TaskType};
use crate::store::{CancelOutcome, Sweep};

/// Bytes that the body may have: a filter with many types.
const LONGEST_BODY: usize = 128 << 10;

/// Tasks that are canceled at the same time.
const AT_ONCE: usize = 16;

/// Cancels the open tasks that a filter means.
///
/// Without `expect` nothing is canceled: the answer says how many tasks the filter means. With `expect`,
/// their number then, and `as_of`, the time of that answer, up to 1,000 of them are canceled, each as
/// `DELETE /tasks/{id}` does; `left` says how many are left then, which the next request expects, with the same
/// `as_of`. Tasks that have ended since are fine, and tasks that came since are not touched. Without `as_of`
/// there must be exactly as many as `expect` says. Since the answer tells of tasks, the token needs the scope
/// `read` as well.
#[utoipa::path(
    post, path = "/tasks/cancel", operation_id = "cancelTasks", tag = "tasks",
    request_body(content = BulkCancel, content_type = "application/json"),
    responses(
        (status = 200, description = "How many tasks the filter means, and what was done", body = BulkAnswer),
        (status = 409, description = "`count_moved`: without `as_of`, the filter means another number of tasks than was expected; `count` tells how many", body = contract::Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_submission`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn cancel_tasks(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    if access::token_of(&request).is_some_and(|token| token.cancels_own()) {
        return Err(Problem::insufficient_scope(
            "this means tasks of others too: it needs a token with the scopes `submit` and `read`, and without `cancel:own`",
        ));
    }
    Query::new(request.query_string()).finish()?;
    let asked: BulkCancel =
        api.read(&request, payload, LONGEST_BODY, |error| matching::invalid("", error)).await?;
    let told = json!(asked.filter);
    let sweeps = sweeps(&api, &request, asked.filter)?;
    let mut found = Matching::find(&api, sweeps, asked.as_of, |_, _, ids| async move { Ok(ids) }).await?;
    let mut came = Came::default();
    let expected = found.expected(asked.expect, asked.dry_run)?;
    let mut came_to = Ok(());
    if !expected.is_empty() {
        came_to = cancel_some(&api, &expected[..expected.len().min(BATCH)], &mut came).await;
        tracing::info!(canceled = came.done, ended = came.gone, "tasks were canceled by a filter");
    }
    // What was canceled before a fault was canceled.
    deeds::count(&request, "canceled", came.done, &told);
    came_to?;
    answer(StatusCode::OK, &found.answer(&api, came).await?, 2048)
}

/// Cancels tasks up to the first portion with a fault. The others of that portion go on to their end: what
/// follows from a cancel must not be dropped.
async fn cancel_some(api: &Api, ids: &[TaskId], came: &mut Came) -> Result<(), Problem> {
    for some in ids.chunks(AT_ONCE) {
        let (state, now, some) = (api.state.clone(), api.now()?, some.to_vec());
        let cancel = async move {
            let each = some.into_iter().map(|id| cancel_task::cancel(&state, id, now));
            Ok::<_, Problem>(join_all(each).await)
        };
        let mut fault = None;
        for outcome in api.run(cancel).await? {
            match outcome {
                Ok(Some(CancelOutcome { refused: false, .. })) => came.done += 1,
                Ok(_) => came.gone += 1,
                Err(error) => fault = Some(error),
            }
        }
        if let Some(fault) = fault {
            return Err(fault.into());
        }
    }
    Ok(())
}

/// What a filter means, for each type and state.
fn sweeps(api: &Api, request: &HttpRequest, filter: TaskFilter) -> Result<Vec<Sweep>, Problem> {
    let TaskFilter { types, status, identifier, since, until } = filter;
    access::check_types(request, &types)?;
    for (index, name) in types.iter().enumerate() {
        if api.policy(name.as_str()).is_none() {
            let problem = unknown::named_type(api, request, name.as_str());
            return Err(matching::invalid(&format!("/filter/type/{index}"), problem.detail()));
        }
    }
    if let Some(ended) = status.iter().find(|status| status.is_final()) {
        let message = format!("has {}: such a task has ended and cannot be canceled", ended.as_str());
        return Err(matching::invalid("/filter/status", message));
    }
    let types: BTreeSet<TaskType> =
        if types.is_empty() { covered(api, request) } else { types }.into_iter().collect();
    let identifier_prefix = identifier.filter(|prefix| !prefix.is_empty());
    let mut sweeps = Vec::new();
    for task_type in types {
        for status in TaskStatus::ALL
            .into_iter()
            .filter(|one| !one.is_final() && (status.is_empty() || status.contains(one)))
        {
            let (task_type, identifier_prefix) = (task_type.clone(), identifier_prefix.clone());
            sweeps.push(Sweep {
                task_type,
                status,
                identifier_prefix,
                since,
                until,
                failed: false,
                replaced: true,
            });
        }
    }
    Ok(sweeps)
}
