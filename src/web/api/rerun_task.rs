//! `POST /{type}/{id}/rerun`: a task once more, for the endpoints that did not succeed or that gave one
//! answer.

use std::sync::Arc;

use actix_web::{HttpRequest, web};

use super::named::{self, TaskName};
use super::problem::Problem;
use super::query::Query;
use super::submit_task::{before, record, repeated, respond};
use super::{Answer, Api, access, allowance, approvals, deeds};
use crate::admission::{Asked, Fault, reserved};
use crate::config::{Body, TypePolicy};
use crate::contract::{self, ProblemCode, ProblemItem, Rerun};
use crate::domain::{AnswerDigest, EndpointName, Fared, Identifier, NewTask, Task};

/// Bytes that the body may have: an identifier, four words and a digest.
const LONGEST_BODY: usize = 4 << 10;

/// Submits a task again, for those of its endpoints that did not succeed, or that gave one answer.
///
/// The new task has the payload of the old one and names it in `rerun_of`. Responses that are still open are
/// left alone: their endpoints may perform the task yet. Since the answer tells who did not succeed, the
/// token needs the scope `read` as well. A task of a work queue is queued again when it has failed, expired
/// or been canceled. The same rerun again answers 200 with the task that is there.
#[utoipa::path(
    post, path = "/{type}/{id}/rerun", operation_id = "rerunTask", tag = "tasks",
    params(
        ("type" = String, Path, description = "A configured task type"),
        ("id" = String, Path, description = "The identifier, percent-encoded; or our id"),
    ),
    request_body(content = Rerun, content_type = "application/json"),
    responses(
        (status = 201, description = "Recorded", body = contract::Task, headers(("Location" = String, description = "Where to read the task"))),
        (status = 200, description = "The same rerun was made before: the task as it stands", body = contract::Task),
        (status = 404, description = "`unknown_task_type`, `unknown_task`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 409, description = "`nothing_failed`: no endpoint is in such a state, or gave the answer; `identifier_conflict`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_submission`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_submissions`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
        (status = 503, description = "`database_unavailable`, `overloaded`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn rerun_task(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    if access::blind(&request).is_some() {
        return Err(Problem::insufficient_scope(
            "a rerun tells which endpoints did not succeed: it needs a token with the scopes `submit` and `read`",
        ));
    }
    let policy = named::task_type(&api, &request)?;
    Query::new(request.query_string()).finish()?;
    let invalid = |pointer: &str, message| {
        Problem::invalid(ProblemCode::InvalidSubmission, vec![ProblemItem::new(pointer, message)])
    };
    let asked: Rerun = api.read(&request, payload, LONGEST_BODY, |error| invalid("", error)).await?;
    let task = named::task(&api, &request, policy, &TaskName::of(&request)?).await?;
    if let Some(reason) = reserved(&api.state.config, &policy.name, &asked.identifier) {
        return Err(invalid("/identifier", reason));
    }
    let Rerun { identifier, only, answer } = asked;
    let only = if only.is_empty() && answer.is_none() { Fared::ALL.to_vec() } else { only };
    let (store, id, ways) = (Arc::clone(&api.state.store), task.id, only.clone());
    let endpoints = api.run(async move { store.fared(id, &ways, answer).await }).await?;
    // One that has waited in its queue to the end has no response.
    let waited = task.queued.is_some() && task.counts.expected == 0 && answer.is_none();
    let queued_again =
        waited && only.iter().any(|way| way.as_str() == task.status.as_str().to_ascii_lowercase());
    if endpoints.is_empty() && !queued_again {
        let detail = nobody(&only, answer, &task);
        return Err(Problem::new(ProblemCode::NothingFailed, detail));
    }
    let (new, asked) = again(&api, &request, policy, &task, identifier, endpoints)?;
    if let Err(refused) = approvals::complete(&api, &new, "") {
        return repeated(&api, before(&api, &request, &new).await?.ok_or(refused)?);
    }
    allowance::check_reach(&api, &request, policy, &new).await?;
    let counted = allowance::check_submissions(&api, &request, [&new].into_iter()).await?;
    let recorded = record(&api, &request, new, &asked).await?;
    counted.settle(&api, recorded.is_new().into());
    respond(&api, Body::Envelope, recorded, None, Vec::new()).await
}

/// The task that repeats another one for these endpoints, or in its queue.
///
/// # Errors
/// When its type does not admit the payload any more.
pub(super) fn again(
    api: &Api,
    request: &HttpRequest,
    policy: &TypePolicy,
    task: &Task,
    identifier: Identifier,
    endpoints: Vec<EndpointName>,
) -> Result<(NewTask, Asked), Problem> {
    let asked = match &task.queued {
        Some(queued) => Asked { priority: Some(queued.priority), ..Asked::default() },
        None => Asked { endpoints, ..Asked::default() },
    };
    let new = api.state.admission.task(policy, identifier, task.payload.clone(), asked.clone(), api.now()?);
    let item = |fault: Fault| {
        ProblemItem::new(String::new(), format!("its type does not admit the payload any more: {fault}"))
    };
    let new = new.map_err(|faults| {
        Problem::invalid(ProblemCode::InvalidSubmission, faults.into_iter().map(item).collect())
    })?;
    let (submitted_by, source) = (access::token_name(request), deeds::source(request));
    Ok((NewTask { submitted_by, source, rerun_of: Some(task.id), ..new }, asked))
}

/// Why the task is for no endpoint.
fn nobody(only: &[Fared], answer: Option<AnswerDigest>, task: &Task) -> String {
    let ways = only.iter().map(|way| way.as_str()).collect::<Vec<_>>().join(" or ");
    let status = task.status.as_str();
    match answer {
        None => format!("no endpoint to rerun: none is {ways} (the task is {status})"),
        Some(answer) if only.is_empty() => {
            format!(
                "no endpoint of the task has given the answer {answer}: `GET /{}/{}/answers` lists the answers",
                task.task_type, task.id
            )
        }
        Some(answer) => format!(
            "no endpoint to rerun: none that has given the answer {answer} is {ways} (the task is {status})"
        ),
    }
}
