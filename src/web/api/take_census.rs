//! `GET /census`: whether the tasks of a type add up, and requests and rollouts.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};

use super::query::{self, Query};
use super::view::View;
use super::{Answer, Api, answer, unknown};
use crate::contract::{self, Census, RequestCensus, RolloutCensus};
use crate::store::{CensusQuery, RequestCensusQuery, RolloutCensusQuery};

/// Tasks, requests or rollouts on a page when nothing is said. Each is read with all of its responses, jobs
/// or endpoints.
const DEFAULT_LIMIT: u32 = 100;

/// Adds up the tasks of a type: each accepted, with a response for every endpoint that must answer.
///
/// Goes from the oldest task to the newest, page by page; the sums of all pages tell whether anything is
/// missing or was run twice. `executions` counts the runs of handlers that began. A canceled response counts if
/// its handler has logged a line or told its progress. `interrupted` counts those runs that a stop or the end
/// of a process ended, and `excess` the responses with more attempts than the type has by now. What is on its way and in time is no flaw.
#[utoipa::path(
    get, path = "/census", operation_id = "takeCensus", tag = "operation",
    params(
        ("type" = String, Query, description = "A configured task type"),
        ("since" = Option<String>, Query, description = "Only tasks accepted at or after this time (RFC 3339)"),
        ("until" = Option<String>, Query, description = "Only tasks accepted before this time (RFC 3339)"),
        ("limit" = Option<u32>, Query, description = "Tasks on a page, 1 to 1000, by default 100", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "The sums of a page", body = Census),
        (status = 404, description = "`unknown_task_type`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 500, description = "`internal`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 503, description = "`database_unavailable`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn take_census(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let mut query = Query::new(request.query_string());
    let name = query.need("type", "a configured task type", |text| Ok(text.to_owned()));
    let mut wanted = CensusQuery {
        since: query.take("since", query::time),
        until: query.take("until", query::time),
        after: query.take("cursor", query::read_task_cursor),
        limit: query.take("limit", query::limit).unwrap_or(DEFAULT_LIMIT),
        attempts: None,
    };
    let name = query.finish_with(name)?;
    let policy = api.policy(&name).ok_or_else(|| unknown::task_type(&api, &request, &name))?;

    wanted.attempts = Some(policy.attempts);
    let (store, task_type, now) = (Arc::clone(&api.state.store), policy.name.clone(), api.now()?);
    let census = api.run(async move { store.census(&task_type, &wanted, now).await }).await?;
    answer(StatusCode::OK, &Census::view(census), 512)
}

/// Adds up requests: each ended with all that it needs, or in time and looked after, and its jobs as their
/// tasks.
///
/// Goes from the oldest request to the newest, page by page.
#[utoipa::path(
    get, path = "/census/requests", operation_id = "takeRequestCensus", tag = "operation",
    params(
        ("since" = Option<String>, Query, description = "Only requests recorded at or after this time (RFC 3339)"),
        ("until" = Option<String>, Query, description = "Only requests recorded before this time (RFC 3339)"),
        ("limit" = Option<u32>, Query, description = "Requests on a page, 1 to 1000, by default 100", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "The sums of a page", body = RequestCensus),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 500, description = "`internal`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 503, description = "`database_unavailable`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn take_request_census(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let mut query = Query::new(request.query_string());
    let wanted = RequestCensusQuery {
        since: query.take("since", query::time),
        until: query.take("until", query::time),
        after: query.take("cursor", query::read_request_place),
        limit: query.take("limit", query::limit).unwrap_or(DEFAULT_LIMIT),
        retention: api.state.config.tasks.retention,
    };
    query.finish()?;
    let (store, now) = (Arc::clone(&api.state.store), api.now()?);
    let census = api.run(async move { store.request_census(&wanted, now).await }).await?;
    answer(StatusCode::OK, &RequestCensus::view(census), 512)
}

/// Adds up rollouts: each that is open is looked at again, none that has ended holds an endpoint, and every
/// wave counts its endpoints right.
///
/// Goes from the oldest rollout to the newest, page by page.
#[utoipa::path(
    get, path = "/census/rollouts", operation_id = "takeRolloutCensus", tag = "operation",
    params(
        ("since" = Option<String>, Query, description = "Only rollouts recorded at or after this time (RFC 3339)"),
        ("until" = Option<String>, Query, description = "Only rollouts recorded before this time (RFC 3339)"),
        ("limit" = Option<u32>, Query, description = "Rollouts on a page, 1 to 1000, by default 100", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "The sums of a page", body = RolloutCensus),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 500, description = "`internal`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 503, description = "`database_unavailable`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn take_rollout_census(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let mut query = Query::new(request.query_string());
    let wanted = RolloutCensusQuery {
        since: query.take("since", query::time),
        until: query.take("until", query::time),
        after: query.take("cursor", query::read_rollout_cursor),
        limit: query.take("limit", query::limit).unwrap_or(DEFAULT_LIMIT),
    };
    query.finish()?;
    let store = Arc::clone(&api.state.store);
    let census = api.run(async move { store.rollout_census(&wanted).await }).await?;
    answer(StatusCode::OK, &RolloutCensus::view(census), 512)
}
