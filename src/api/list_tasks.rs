//! `GET /{type}`: the tasks of a type, newest first, page by page.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};

use super::problem::ProblemBody;
use super::query::{self, Query};
use super::view::{TaskPage, TaskView};
use super::{Answer, Api, answer};
use crate::domain::{Task, TaskStatus, TaskType};
use crate::store::{self, SharedStore, StoreError, TaskQuery};

/// Tasks on a page when nothing is said.
const DEFAULT_LIMIT: u32 = 100;

/// Tasks read from the store at once, and bytes of payload after which a page ends early: a thousand tasks of a megabyte
/// each would be a gigabyte.
const STEP: u32 = 100;
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// What a page may take while it is made: its tasks, and the same as JSON.
const ROOM: usize = 2 * PAGE_BYTES;

/// Lists tasks, newest first.
///
/// A page may be shorter than `limit`; the list has ended only when `next_cursor` is null.
#[utoipa::path(
    get, path = "/{type}", operation_id = "listTasks", tag = "tasks",
    params(
        ("type" = String, Path, description = "A configured task type"),
        ("status" = Option<String>, Query, description = "Only these states, separated by commas", example = "SENT,INCOMPLETE"),
        ("identifier" = Option<String>, Query, description = "Only identifiers that begin so"),
        ("since" = Option<String>, Query, description = "Only tasks accepted at or after this time (RFC 3339)"),
        ("until" = Option<String>, Query, description = "Only tasks accepted before this time (RFC 3339)"),
        ("limit" = Option<u32>, Query, description = "Tasks on a page, 1 to 1000, by default 100", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of tasks", body = TaskPage),
        (status = 400, description = "`bad_path`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_task_type`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 500, description = "`internal`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "`database_unavailable`", body = ProblemBody, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn list_tasks(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let policy = api.task_type(&request)?;
    let mut query = Query::new(request.query_string());
    let filters = TaskQuery {
        status: query.take("status", states).unwrap_or_default(),
        identifier_prefix: query.take("identifier", |text| Ok(text.to_owned())).filter(|prefix| !prefix.is_empty()),
        since: query.take("since", query::time),
        until: query.take("until", query::time),
        before: query.take("cursor", query::read_task_cursor),
        limit: query.take("limit", query::limit).unwrap_or(DEFAULT_LIMIT),
    };
    query.finish()?;

    api.room(&request, ROOM).await?;
    let (store, task_type) = (Arc::clone(&api.state.store), policy.name.clone());
    let (tasks, more) = api.run(async move { page(&store, &task_type, filters).await }).await?;
    let next_cursor = tasks.last().filter(|_| more).map(|last| query::task_cursor(last.id));
    let capacity = 1024 + tasks.iter().map(|task| 512 + size(task)).sum::<usize>();
    answer(StatusCode::OK, &TaskPage { tasks: tasks.iter().map(TaskView::of).collect(), next_cursor }, capacity)
}

fn states(text: &str) -> Result<Vec<TaskStatus>, String> {
    let state = |word: &str| TaskStatus::ALL.into_iter().find(|status| status.as_str() == word);
    let states: Option<Vec<_>> = text.split(',').map(state).collect();
    states.ok_or_else(|| {
        let words: Vec<_> = TaskStatus::ALL.iter().map(|status| status.as_str()).collect();
        format!("must be out of {}", words.join(", "))
    })
}

/// A page, and whether there may be more.
async fn page(ledger: &SharedStore, task_type: &TaskType, mut query: TaskQuery) -> Result<(Vec<Task>, bool), StoreError> {
    let limit = query.limit as usize;
    let mut tasks: Vec<Task> = Vec::new();
    let mut bytes = 0;
    while tasks.len() < limit && bytes < PAGE_BYTES {
        let wanted = STEP.min(query.limit - tasks.len() as u32);
        let step = ledger.list(task_type, &TaskQuery { limit: wanted, ..query.clone() }).await?;
        let payloads: usize = step.iter().map(|task| task.payload.get().len()).sum();
        let end = step.len() < wanted as usize && payloads < store::LIST_BYTES;
        bytes += step.iter().map(size).sum::<usize>();
        query.before = step.last().map(|task| task.id).or(query.before);
        tasks.extend(step);
        if end {
            return Ok((tasks, false));
        }
    }
    Ok((tasks, true))
}

fn size(task: &Task) -> usize {
    task.payload.get().len() + task.endpoints.iter().map(|endpoint| endpoint.as_str().len() + 3).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_words_of_the_contract() {
        assert_eq!(states("SENT,DONE"), Ok(vec![TaskStatus::Sent, TaskStatus::Done]));
        for bad in ["", "sent", "SENT,", "SENT,,DONE", "SENT DONE", "FINISHED"] {
            assert!(states(bad).is_err_and(|message| message.contains("INCOMPLETE")), "{bad}");
        }
    }
}
