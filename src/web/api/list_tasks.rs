//! `GET /{type}`: the tasks of a type, newest first, page by page.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use utoipa::IntoParams;

use super::query::{self, Query};
use super::{Answer, Api, answer, named};
use crate::contract::{self, TaskPage};
use crate::domain::{Task, TaskId, TaskStatus, TaskType};
use crate::store::{self, SharedStore, StoreError, TaskQuery};

/// Tasks on a page when nothing is said.
const DEFAULT_LIMIT: u32 = 100;

/// Tasks read from the store at once, and bytes of payload after which a page ends early: a thousand tasks of
/// a megabyte each would be a gigabyte.
const STEP: u32 = 100;
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// What a page may take while it is made: its tasks, and the same as JSON.
pub(super) const ROOM: usize = 2 * PAGE_BYTES;

/// What a list of tasks may be asked for, as [`Filters`] takes it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes; never made")]
pub(super) struct ListQuery {
    /// Only these states, separated by commas
    #[param(example = "SENT,INCOMPLETE")]
    status: Option<String>,
    /// `true`: only tasks that an endpoint has finished with an error
    failed: Option<bool>,
    /// Only identifiers that begin so
    identifier: Option<String>,
    /// Only tasks accepted at or after this time (RFC 3339)
    since: Option<String>,
    /// Only tasks accepted before this time (RFC 3339)
    until: Option<String>,
    /// Tasks on a page, 1 to 1000, by default 100
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before
    cursor: Option<String>,
}

/// Lists tasks, newest first.
///
/// A page may be shorter than `limit`; the list has ended only when `next_cursor` is null.
#[utoipa::path(
    get, path = "/{type}", operation_id = "listTasks", tag = "tasks",
    params(
        ("type" = String, Path, description = "A configured task type"),
        ListQuery,
    ),
    responses(
        (status = 200, description = "A page of tasks", body = TaskPage),
        (status = 404, description = "`unknown_task_type`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list_tasks(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let policy = named::task_type(&api, &request)?;
    let mut query = Query::new(request.query_string());
    let filters = Filters::take(&mut query);
    query.finish()?;

    api.room(&request, ROOM).await?;
    let (store, task_type) = (Arc::clone(&api.state.store), policy.name.clone());
    let (tasks, more) = api.run(async move { page(&store, &task_type, filters.0).await }).await?;
    answer_page(tasks, more)
}

/// Which tasks a list is to have.
#[derive(Debug)]
pub(super) struct Filters(TaskQuery);

impl Filters {
    /// Takes them out of a query string.
    pub(super) fn take(query: &mut Query) -> Self {
        Self(TaskQuery {
            status: query
                .take("status", |text| query::words(text, &TaskStatus::ALL, TaskStatus::as_str))
                .unwrap_or_default(),
            failed: query.take("failed", query::truth).unwrap_or(false),
            identifier_prefix: query
                .take("identifier", |text| Ok(text.to_owned()))
                .filter(|prefix| !prefix.is_empty()),
            since: query.take("since", query::time),
            until: query.take("until", query::time),
            before: query.take("cursor", query::read_task_cursor),
            limit: query.take("limit", query::limit).unwrap_or(DEFAULT_LIMIT),
        })
    }
}

/// The answer with a page, after which more tasks may follow.
pub(super) fn answer_page(tasks: Vec<Task>, more: bool) -> Answer {
    let next_cursor = tasks.last().filter(|_| more).map(|last| query::task_cursor(last.id));
    let capacity = 1024 + tasks.iter().map(|task| 512 + size(task)).sum::<usize>();
    let tasks = tasks.into_iter().map(contract::Task::from).collect();
    answer(StatusCode::OK, &TaskPage { tasks, next_cursor }, capacity)
}

/// A page, and whether there may be more.
async fn page(
    ledger: &SharedStore,
    task_type: &TaskType,
    mut query: TaskQuery,
) -> Result<(Vec<Task>, bool), StoreError> {
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

/// A page of several types, and whether there may be more.
///
/// Reads a page of each type along its key and keeps the newest of all: as many reads as types, but never one
/// that walks over the tasks of types that are not asked for.
pub(super) async fn page_of_types(
    ledger: &SharedStore,
    types: &[TaskType],
    filters: Filters,
) -> Result<(Vec<Task>, bool), StoreError> {
    let Filters(query) = filters;
    let mut page = Newest { limit: query.limit as usize, tasks: Vec::new(), complete_from: None };
    for task_type in types {
        let step = ledger.list(task_type, &query).await?;
        let payloads: usize = step.iter().map(|task| task.payload.get().len()).sum();
        let cut = step.len() >= page.limit || payloads >= store::LIST_BYTES;
        page.add(step, cut);
    }
    let more = page.complete_from.is_some();
    Ok((page.tasks, more))
}

/// The newest tasks of several lists, as many as a page takes.
struct Newest {
    limit: usize,
    tasks: Vec<Task>,
    /// Older tasks than this one may be missing, so none are told.
    complete_from: Option<TaskId>,
}

impl Newest {
    /// Adds a list, of which older tasks were left out if it was `cut`.
    fn add(&mut self, step: Vec<Task>, cut: bool) {
        self.complete_from = self.complete_from.max(step.last().filter(|_| cut).map(|task| task.id));
        self.tasks.extend(step);
        self.tasks.sort_unstable_by_key(|task| std::cmp::Reverse(task.id));
        let (mut bytes, mut fits) = (0, 0);
        for task in self.tasks.iter().take(self.limit) {
            if self.complete_from.is_some_and(|from| task.id < from) || bytes >= PAGE_BYTES {
                break;
            }
            (bytes, fits) = (bytes + size(task), fits + 1);
        }
        if fits < self.tasks.len() {
            self.tasks.truncate(fits);
            self.complete_from = self.complete_from.max(self.tasks.last().map(|task| task.id));
        }
    }
}

fn size(task: &Task) -> usize {
    task.payload.get().len()
        + task.endpoints.iter().map(|endpoint| endpoint.as_str().len() + 3).sum::<usize>()
}
