//! `GET /endpoints/{name}/tasks`: what an endpoint owes.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};

use super::problem::Problem;
use super::tasks::covered;
use super::{Answer, Api, answer, segment};
use crate::contract::{self, OwedTask, OwedTasks, ProblemCode};
use crate::domain::EndpointName;

/// Tasks that are told at most.
const LIMIT: u32 = 100;

/// Lists the tasks that an endpoint must perform and has not finished, oldest first, a hundred at most.
#[utoipa::path(
    get, path = "/endpoints/{name}/tasks", operation_id = "listOwedTasks", tag = "endpoints",
    params(("name" = String, Path, description = "The name of an endpoint")),
    responses(
        (status = 200, description = "What it owes; nothing for a name that nobody has", body = OwedTasks),
        (status = 404, description = "`unknown_endpoint`: no endpoint can have this name", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list_owed(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let name = segment(&request, 1)?;
    let unknown = |error| {
        Problem::new(ProblemCode::UnknownEndpoint, format!("no endpoint has this name: {error}"))
            .about(&name, None)
    };
    let endpoint: EndpointName = name.parse().map_err(unknown)?;
    let (store, types) = (Arc::clone(&api.state.store), covered(&api, &request));
    let mut owed = api.run(async move { store.owed_briefly(&endpoint, &types, LIMIT + 1).await }).await?;
    let more = owed.len() > LIMIT as usize;
    owed.truncate(LIMIT as usize);
    let told = owed.into_iter().map(|owed| OwedTask {
        id: owed.id,
        identifier: owed.identifier,
        task_type: owed.task_type,
        received: owed.received,
        start_time: owed.start_time,
        expires_at: owed.expires_at,
    });
    answer(StatusCode::OK, &OwedTasks { tasks: told.collect(), more }, 4096)
}
