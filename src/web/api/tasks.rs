//! `/tasks`: tasks by id or identifier alone, and lists of all types, for people who do not know the type or
//! do not want to type it.
//!
//! A token that is limited to task types sees those types and nothing of others. Tasks of types that are not
//! configured any more have no paths, here as elsewhere.

use std::sync::Arc;

use actix_web::{HttpRequest, web};

use super::explain_task::{self, ExplainQuery};
use super::list_tasks::{self, Filters, ListQuery};
use super::named::TaskName;
use super::problem::Problem;
use super::query::Query;
use super::show_task::{self, ShowQuery, Wanted};
use super::{Answer, Api, access, cancel_task, segment};
use crate::contract::{self, ProblemCode};
use crate::domain::likeness::quoted;
use crate::domain::{Task, TaskType};
use crate::store::StoreError;

/// Tasks that are named in a text at most.
const NAMED: usize = 5;

/// Lists tasks of all types, newest first.
///
/// Of all types that the token covers. A page may be shorter than `limit`; the list has ended only when
/// `next_cursor` is null.
#[utoipa::path(
    get, path = "/tasks", operation_id = "listAllTasks", tag = "tasks",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of tasks", body = contract::TaskPage),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let mut query = Query::new(request.query_string());
    let filters = Filters::take(&mut query);
    query.finish()?;

    api.room(&request, list_tasks::ROOM).await?;
    let (store, types) = (Arc::clone(&api.state.store), covered(&api, &request));
    let (tasks, more) =
        api.run(async move { list_tasks::page_of_types(&store, &types, filters).await }).await?;
    list_tasks::answer_page(tasks, more)
}

/// Reads a task by its id, or by an identifier that no other task has.
#[utoipa::path(
    get, path = "/tasks/{id}", operation_id = "showAnyTask", tag = "tasks",
    params(
        ("id" = String, Path, description = "Our id; or the identifier, percent-encoded"),
        ShowQuery,
    ),
    responses(
        (status = 200, description = "The task", body = contract::TaskWithResponses),
        (status = 404, description = "`unknown_task`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 409, description = "`ambiguous_task`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let wanted = Wanted::of(&request)?;
    let task = find(&api, &request).await?;
    show_task::answer_with(api, &request, task, wanted).await
}

/// Says why a task does not run, by its id, or by an identifier that no other task has.
#[utoipa::path(
    get, path = "/tasks/{id}/explain", operation_id = "explainAnyTask", tag = "tasks",
    params(
        ("id" = String, Path, description = "Our id; or the identifier, percent-encoded"),
        ExplainQuery,
    ),
    responses(
        (status = 200, description = "The reasons", body = contract::Explanation),
        (status = 404, description = "`unknown_task`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 409, description = "`ambiguous_task`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn explain(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let endpoint = explain_task::endpoint(&request)?;
    let task = find(&api, &request).await?;
    explain_task::answer_with(&api, task, endpoint).await
}

/// Cancels a task by its id, or by an identifier that no other task has.
#[utoipa::path(
    delete, path = "/tasks/{id}", operation_id = "cancelAnyTask", tag = "tasks",
    params(("id" = String, Path, description = "Our id; or the identifier, percent-encoded")),
    responses(
        (status = 200, description = "The canceled task", body = contract::Task),
        (status = 404, description = "`unknown_task`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 409, description = "`ambiguous_task`; `already_ended`: DONE or EXPIRED", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn cancel(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let task = find(&api, &request).await?;
    cancel_task::answer_with(&api, &request, task).await
}

/// The configured types that the token covers.
pub(super) fn covered(api: &Api, request: &HttpRequest) -> Vec<TaskType> {
    let types = api.state.config.task_types.iter().map(|policy| &policy.name);
    types.filter(|name| access::covers(request, name.as_str())).cloned().collect()
}

/// The one task that the path names. A token that is limited to its own finds those alone.
async fn find(api: &Api, request: &HttpRequest) -> Result<Task, Problem> {
    let (name, types, submitter) = (TaskName::of(request)?, covered(api, request), access::only_own(request));
    let store = Arc::clone(&api.state.store);
    let found = api.run(async move {
        let mut found: Vec<Task> = Vec::new();
        if let Some(id) = name.id {
            found.extend(store.find(id).await?.filter(|task| types.contains(&task.task_type)));
        }
        if let Some(identifier) = &name.identifier {
            for task_type in &types {
                let task = store.find_by_identifier(task_type, identifier).await?;
                found.extend(task.filter(|task| found.iter().all(|other| other.id != task.id)));
            }
        }
        if let Some(token) = submitter {
            let mut own = Vec::new();
            for task in found {
                if store.submitter(task.id).await?.as_deref() == Some(token.as_str()) {
                    own.push(task);
                }
            }
            found = own;
        }
        Ok::<_, StoreError>(found)
    });
    let mut found = found.await?;
    match (found.pop(), found.is_empty()) {
        (Some(task), true) => Ok(task),
        (Some(last), false) => {
            found.push(last);
            Err(ambiguous(&segment(request, 1)?, &found))
        }
        (None, _) => {
            let name = segment(request, 1)?;
            Err(Problem::new(
                ProblemCode::UnknownTask,
                format!("task {} not found: no task has this id or identifier", quoted(&name)),
            )
            .about(&name, None))
        }
    }
}

fn ambiguous(name: &str, tasks: &[Task]) -> Problem {
    let named: Vec<_> =
        tasks.iter().take(NAMED).map(|task| format!("{} {}", task.task_type, task.id)).collect();
    let more = if tasks.len() > NAMED { ", ..." } else { "" };
    let (count, name) = (tasks.len(), quoted(name));
    Problem::new(
        ProblemCode::AmbiguousTask,
        format!(
            "{name} names {count} tasks ({}{more}): give the task type too, or the id of one",
            named.join(", ")
        ),
    )
}
