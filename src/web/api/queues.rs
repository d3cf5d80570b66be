//! `GET /queues`, `POST /queues/{type}/pause` and `/resume`: how work queues stand.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};

use super::problem::Problem;
use super::{Answer, Api, access, answer, segment, unknown};
use crate::contract::{self, Queue, QueueList};
use crate::domain::{ReasonCode, TaskType};
use crate::live;
use crate::store::QueueRecord;

/// Lists the work queues. Counts every task that has not ended.
#[utoipa::path(
    get, path = "/queues", operation_id = "listQueues", tag = "queues",
    responses(
        (status = 200, description = "All task types with a work queue", body = QueueList),
    )
)]
pub async fn list(api: web::Data<Api>) -> Answer {
    let types: Vec<TaskType> = api.state.config.of_delivery(true).map(|policy| policy.name.clone()).collect();
    let records = look(&api, types).await?;
    let capacity = 256 * records.len();
    answer(StatusCode::OK, &QueueList { queues: records.into_iter().map(live::queue).collect() }, capacity)
}

/// Gives no more tasks of the type to workers. Those that run go on, new ones are taken in and wait.
#[utoipa::path(
    post, path = "/queues/{type}/pause", operation_id = "pauseQueue", tag = "queues",
    params(("type" = String, Path, description = "A configured task type with a work queue")),
    responses(
        (status = 200, description = "The queue, paused now or before", body = Queue),
        (status = 404, description = "`unknown_task_type`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn pause(api: web::Data<Api>, request: HttpRequest) -> Answer {
    set(&api, &request, true).await
}

/// Gives tasks of the type to workers again.
#[utoipa::path(
    post, path = "/queues/{type}/resume", operation_id = "resumeQueue", tag = "queues",
    params(("type" = String, Path, description = "A configured task type with a work queue")),
    responses(
        (status = 200, description = "The queue, going on now or before", body = Queue),
        (status = 404, description = "`unknown_task_type`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn resume(api: web::Data<Api>, request: HttpRequest) -> Answer {
    set(&api, &request, false).await
}

async fn set(api: &Api, request: &HttpRequest, paused: bool) -> Answer {
    let name = segment(request, 1)?;
    let policy = api.policy(&name).filter(|policy| policy.queue.is_some());
    let task_type = policy.ok_or_else(|| unknown::queue(api, request, &name))?.name.clone();
    let (ledger, now, of, by) =
        (api.state.ledger.clone(), api.now()?, task_type.clone(), access::token_name(request));
    if api.run(async move { ledger.pause(&of, paused, by.as_ref(), now).await }).await? {
        tracing::info!(%task_type, paused, reason = %ReasonCode::QueuePaused, "a queue was paused or resumed");
    }
    let record =
        look(api, vec![task_type]).await?.pop().ok_or_else(|| unknown::queue(api, request, &name))?;
    answer(StatusCode::OK, &live::queue(record), 256)
}

async fn look(api: &Api, types: Vec<TaskType>) -> Result<Vec<QueueRecord>, Problem> {
    let store = Arc::clone(&api.state.store);
    api.run(async move { store.queues(&types).await }).await
}
