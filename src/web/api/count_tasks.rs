//! `GET /tasks/counts`: how many tasks have not ended.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};

use super::{Answer, Api, access, answer};
use crate::contract::{OpenTasks, TaskCounts};

/// Counts the tasks that have not ended, by type and status.
///
/// Of all types that the token covers. The cost does not grow with the number of tasks that have ended.
#[utoipa::path(
    get, path = "/tasks/counts", operation_id = "countTasks", tag = "tasks",
    responses((status = 200, description = "The counts", body = TaskCounts))
)]
pub async fn count_tasks(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let store = Arc::clone(&api.state.store);
    let counted = api.run(async move { store.open_tasks().await }).await?;
    let covered = counted.into_iter().filter(|open| access::covers(&request, open.task_type.as_str()));
    let open = covered.map(|open| OpenTasks {
        task_type: open.task_type,
        status: open.status,
        count: open.count,
        oldest: open.oldest,
    });
    answer(StatusCode::OK, &TaskCounts { open: open.collect() }, 512)
}
