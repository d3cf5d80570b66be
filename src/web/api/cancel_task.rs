//! `DELETE /{type}/{id}`: withdraws a task.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};

use super::named::{self, TaskName};
use super::problem::Problem;
use super::{Answer, Api, ApiState, access, answer, segment};
use crate::contract::{self, ProblemCode};
use crate::domain::{EndpointName, Task, TaskId, Timestamp, json};
use crate::publisher::Stop;
use crate::store::{CancelOutcome, StoreError};

/// Cancels a task.
///
/// The task is CANCELED at once: endpoints that have not started it never will, those that run it are told to
/// stop. What an endpoint finished before stays in the responses. A repeat answers the same. A token that may
/// not read, or has the scope `cancel:own`, cancels what was submitted with it alone; without `read` it gets
/// no payload.
#[utoipa::path(
    delete, path = "/{type}/{id}", operation_id = "cancelTask", tag = "tasks",
    params(
        ("type" = String, Path, description = "A configured task type"),
        ("id" = String, Path, description = "The identifier, percent-encoded; or our id"),
    ),
    responses(
        (status = 200, description = "The canceled task", body = contract::Task),
        (status = 404, description = "`unknown_task_type`, `unknown_task`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 409, description = "`already_ended`: DONE or EXPIRED", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn cancel_task(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let policy = named::task_type(&api, &request)?;
    let task = named::task(&api, &request, policy, &TaskName::of(&request)?).await?;
    answer_with(&api, &request, task).await
}

/// Cancels a task that was found for the token of the request.
pub(super) async fn answer_with(api: &Api, request: &HttpRequest, task: Task) -> Answer {
    let (state, now, id) = (api.state.clone(), api.now()?, task.id);
    let unknown = Problem::unknown_task(&task.task_type, &segment(request, 1)?);
    let canceled = api.run(async move { cancel(&state, id, now).await }).await?;
    let CancelOutcome { mut task, refused, .. } = canceled.ok_or(unknown)?;
    if refused {
        return Err(Problem::new(
            ProblemCode::AlreadyEnded,
            format!("the task is {} and cannot be canceled", task.status.as_str()),
        ));
    }
    if access::blind(request).is_some() {
        task.payload = json(&"");
    }
    let capacity = task.payload.get().len() + 1024;
    answer(StatusCode::OK, &contract::Task::from(task), capacity)
}

/// The ledger first: it decides who has to be told.
pub(super) async fn cancel(
    state: &ApiState,
    id: TaskId,
    now: Timestamp,
) -> Result<Option<CancelOutcome>, StoreError> {
    let outcome = state.ledger.cancel(id, now).await?;
    if let Some(CancelOutcome { task, to_stop, refused: false, .. }) = &outcome
        && !to_stop.is_empty()
    {
        tell(state, task, to_stop.clone());
    }
    Ok(outcome)
}

/// Tells endpoints to stop a task that was canceled. The customer need not wait for the broker: the cancel is
/// recorded, and who misses this message is told again.
pub(super) fn tell(state: &ApiState, task: &Task, endpoints: Vec<EndpointName>) {
    // Workers that fetch their tasks find it in the ledger.
    state.desk.wake(&endpoints);
    let stop = Stop { task_type: task.task_type.clone(), task_id: task.id, endpoints };
    let publisher = state.publisher.clone();
    tokio::spawn(async move { publisher.stop(vec![stop]).await });
}
