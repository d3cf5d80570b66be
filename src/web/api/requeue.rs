//! `POST /queues/{type}/requeue`: queues again what has ended without success.
//!
//! A requeued task is a new one that names the old one in `rerun_of`: nothing leaves a final state, so that
//! counts and times of what has ended stay what they were. Its identifier is made of the old one's id. So it
//! is queued once however often it is asked for, and a task that was requeued is not meant by the next
//! request.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use serde_json::json;

use super::matching::{self, BATCH, Came, Matching};
use super::problem::Problem;
use super::query::Query;
use super::submit_task::record_all;
use super::{Answer, Api, access, allowance, answer, deeds, rerun_task, segment, unknown};
use crate::admission::of_requeue;
use crate::config::TypePolicy;
use crate::contract::{self, BulkAnswer, DeadFilter, ProblemCode, Requeue};
use crate::domain::{Fared, TaskId, TaskStatus};
use crate::store::{StoreError, Sweep};

/// Bytes that the body may have: a filter.
const LONGEST_BODY: usize = 4 << 10;

/// Tasks that are queued at the same time: their payloads are in memory.
const AT_ONCE: usize = 16;

/// Queues again the tasks of a work queue that have ended without success and that a filter means.
///
/// Without `expect` nothing is queued: the answer says how many tasks the filter means. With `expect`, their
/// number then, and `as_of`, the time of that answer, up to 1,000 of them are queued again, each as a new
/// task that names the old one in `rerun_of`; `left` says how many are left then, which the next request
/// expects, with the same `as_of`. Tasks that others have requeued since are fine, and tasks that ended since
/// are not touched. Without `as_of` there must be exactly as many as `expect` says. A task whose type does not
/// admit its payload any more is refused and still meant, so `left` may never be 0: a request that has done
/// nothing is the last. Since the answer tells of tasks, the token needs the scope `read` as well.
#[utoipa::path(
    post, path = "/queues/{type}/requeue", operation_id = "requeueTasks", tag = "queues",
    params(("type" = String, Path, description = "A configured task type with a work queue")),
    request_body(content = Requeue, content_type = "application/json"),
    responses(
        (status = 200, description = "How many tasks the filter means, and what was done", body = BulkAnswer),
        (status = 404, description = "`unknown_task_type`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 409, description = "`count_moved`: without `as_of`, the filter means another number of tasks than was expected; `count` tells how many", body = contract::Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_submission`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_submissions`: send the request again with what is left", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn requeue(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    let name = segment(&request, 1)?;
    if access::blind(&request).is_some() {
        return Err(Problem::insufficient_scope(
            "this tells which tasks there are: it needs a token with the scopes `submit` and `read`",
        ));
    }
    if !access::covers(&request, &name) {
        return Err(Problem::insufficient_scope("this token is good for other task types"));
    }
    let policy = api.policy(&name).filter(|policy| policy.queue.is_some());
    let policy = policy.ok_or_else(|| unknown::queue(&api, &request, &name))?;
    Query::new(request.query_string()).finish()?;
    let asked: Requeue =
        api.read(&request, payload, LONGEST_BODY, |error| matching::invalid("", error)).await?;
    let told = json!(asked.filter);
    let sweeps = sweeps(policy, asked.filter)?;
    let found = Matching::find(&api, sweeps, asked.as_of, |store, task_type, ids| async move {
        let again = |id: &TaskId| of_requeue(*id);
        let taken = store.taken_identifiers(&task_type, &ids.iter().map(again).collect::<Vec<_>>()).await?;
        Ok(ids.into_iter().filter(|id| !taken.contains(&again(id))).collect())
    });
    let mut found = found.await?;
    let (mut came, mut came_to) = (Came::default(), Ok(()));
    let expected = found.expected(asked.expect, asked.dry_run)?;
    if !expected.is_empty() {
        // Of tasks with the same unique key the newest has to be the one that waits: the others yield to it.
        let newest_first = policy.queue.as_ref().is_some_and(|queue| queue.unique_key.is_some());
        let ids = expected.iter().copied();
        let batch: Vec<TaskId> =
            if newest_first { ids.rev().take(BATCH).collect() } else { ids.take(BATCH).collect() };
        let counted = allowance::check_open(&api, &request, batch.len()).await?;
        came_to = requeue_some(&api, &request, policy, &batch, &mut came).await;
        counted.settle(&api, came.done as usize);
        tracing::info!(task_type = %policy.name, requeued = came.done, refused = came.refused + came.gone, "tasks of a queue were requeued");
    }
    // What was queued before a fault is queued.
    deeds::count(&request, "requeued", came.done, &told);
    came_to?;
    answer(StatusCode::OK, &found.answer(&api, came).await?, 2048)
}

/// Queues tasks again, up to the first portion with a fault.
async fn requeue_some(
    api: &Api,
    request: &HttpRequest,
    policy: &TypePolicy,
    ids: &[TaskId],
    came: &mut Came,
) -> Result<(), Problem> {
    for some in ids.chunks(AT_ONCE) {
        let (store, some) = (Arc::clone(&api.state.store), some.to_vec());
        let tasks = async move {
            let mut tasks = Vec::with_capacity(some.len());
            for id in some {
                tasks.push(store.find(id).await?);
            }
            Ok::<_, StoreError>(tasks)
        };
        let mut again = Vec::with_capacity(AT_ONCE);
        for task in api.run(tasks).await? {
            match task
                .as_ref()
                .map(|task| rerun_task::again(api, request, policy, task, of_requeue(task.id), Vec::new()))
            {
                Some(Ok(new)) => again.push(new),
                Some(Err(problem)) => {
                    tracing::warn!(%problem, "a task was not requeued");
                    came.refused += 1;
                }
                None => came.gone += 1,
            }
        }
        let mut fault = None;
        for outcome in record_all(api, request, again).await? {
            match outcome {
                Ok(_) => came.done += 1,
                // Another request has requeued it at the same time.
                Err(problem) if problem.code() == ProblemCode::IdentifierConflict => came.gone += 1,
                Err(problem) => fault = Some(problem),
            }
        }
        if let Some(fault) = fault {
            return Err(fault);
        }
    }
    Ok(())
}

/// What a filter means, for each way to end.
fn sweeps(policy: &TypePolicy, filter: DeadFilter) -> Result<Vec<Sweep>, Problem> {
    let DeadFilter { only, identifier, since, until } = filter;
    let ways = if only.is_empty() { vec![Fared::Failed] } else { only };
    let prefix = identifier.filter(|prefix| !prefix.is_empty());
    let sweep = |way: Fared| {
        let (status, failed) = match way {
            Fared::Failed => (TaskStatus::Done, true),
            Fared::Expired => (TaskStatus::Expired, false),
            Fared::Canceled => (TaskStatus::Canceled, false),
            Fared::Missing => {
                return Err(matching::invalid(
                    "/filter/only",
                    "must be one of failed, expired, canceled: a queued task has no missing endpoints",
                ));
            }
        };
        let (task_type, identifier_prefix) = (policy.name.clone(), prefix.clone());
        Ok(Sweep { task_type, status, identifier_prefix, since, until, failed, replaced: false })
    };
    let mut sweeps: Vec<Sweep> = Vec::new();
    for way in ways {
        let sweep = sweep(way)?;
        if sweeps.iter().all(|other| other.status != sweep.status) {
            sweeps.push(sweep);
        }
    }
    Ok(sweeps)
}
