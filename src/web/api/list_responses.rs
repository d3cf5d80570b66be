//! `GET /{type}/{id}/responses`: what became of a task on its endpoints, page by page.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};

use super::named::{self, TaskName};
use super::query::{self, Query};
use super::{Answer, Api, answer, list_tasks};
use crate::contract::{self, ResponsePage, TaskResponse};
use crate::store::{ResponseFilter, ResponseQuery};

/// Responses on a page when nothing is said.
const DEFAULT_LIMIT: u32 = 100;

/// Lists the responses of a task by endpoint.
///
/// A page may be shorter than `limit`; the list has ended only when `next_cursor` is null.
#[utoipa::path(
    get, path = "/{type}/{id}/responses", operation_id = "listResponses", tag = "tasks",
    params(
        ("type" = String, Path, description = "A configured task type"),
        ("id" = String, Path, description = "The identifier, percent-encoded; or our id"),
        ("state" = Option<String>, Query, description = "Only `ok`, `failed`, `running`, `missing`, `canceled` or `expired` ones"),
        ("answer" = Option<String>, Query, description = "Only responses with this answer, as `GET /{type}/{id}/answers` names it"),
        ("from" = Option<String>, Query, description = "Only of this endpoint and those after it by name"),
        ("limit" = Option<u32>, Query, description = "Responses on a page, 1 to 1000, by default 100", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of responses", body = ResponsePage),
        (status = 404, description = "`unknown_task_type`, `unknown_task`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list_responses(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let policy = named::task_type(&api, &request)?;
    let name = TaskName::of(&request)?;
    let mut query = Query::new(request.query_string());
    let wanted = ResponseQuery {
        filter: query.take("state", state).unwrap_or_default(),
        answer: query.take("answer", str::parse),
        from: query.take("from", query::endpoint),
        after: query.take("cursor", query::read_endpoint_cursor),
        limit: query.take("limit", query::limit).unwrap_or(DEFAULT_LIMIT),
    };
    query.finish()?;
    let task = named::task(&api, &request, policy, &name).await?;
    api.room(&request, list_tasks::ROOM).await?;
    let store = Arc::clone(&api.state.store);
    let (responses, more) = api.run(async move { store.response_page(task.id, &wanted).await }).await?;
    let next_cursor = responses.last().filter(|_| more).map(|last| query::endpoint_cursor(&last.endpoint));
    let capacity = 256 + responses.len() * 512;
    let responses = responses.into_iter().map(TaskResponse::from).collect();
    answer(StatusCode::OK, &ResponsePage { responses, next_cursor }, capacity)
}

/// What `state` may be, and which responses each word means.
const STATES: [(&str, ResponseFilter); 6] = [
    ("ok", ResponseFilter::Succeeded),
    ("failed", ResponseFilter::Failed),
    ("running", ResponseFilter::Running),
    ("missing", ResponseFilter::Missing),
    ("canceled", ResponseFilter::Canceled),
    ("expired", ResponseFilter::Expired),
];

fn state(text: &str) -> Result<ResponseFilter, String> {
    let found = STATES.iter().find(|(word, _)| *word == text).map(|(_, filter)| *filter);
    found.ok_or_else(|| "must be ok, failed, running, missing, canceled or expired".to_owned())
}
