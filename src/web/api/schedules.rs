//! `GET /schedules`, `POST /schedules/{name}/run`, `/pause` and `/resume`: what is submitted at times.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};

use super::problem::Problem;
use super::submit_task::locate;
use super::view;
use super::{Answer, Api, access, allowance, answer, deeds, segment, unknown};
use crate::admission::{Asked, of_run};
use crate::config::Schedule;
use crate::contract::{self, ProblemCode, ProblemItem, ScheduleList};
use crate::domain::NewTask;
use crate::store::Accepted;

/// Lists the schedules, and when each submits its next task.
#[utoipa::path(
    get, path = "/schedules", operation_id = "listSchedules", tag = "queues",
    responses(
        (status = 200, description = "All that are configured", body = ScheduleList),
    )
)]
pub async fn list(api: web::Data<Api>) -> Answer {
    let mut schedules = Vec::with_capacity(api.state.config.schedules.len());
    for schedule in &api.state.config.schedules {
        schedules.push(look(&api, schedule).await?);
    }
    let room = 512 * schedules.len();
    answer(StatusCode::OK, &ScheduleList { schedules }, room)
}

/// Submits the task of a schedule now, under a name of its own.
///
/// The times of the schedule stay as they are, and a schedule that is paused stays so. Sent twice, it submits
/// two tasks.
#[utoipa::path(
    post, path = "/schedules/{name}/run", operation_id = "runSchedule", tag = "queues",
    params(("name" = String, Path, description = "A configured schedule")),
    responses(
        (status = 201, description = "Recorded", body = contract::Task, headers(("Location" = String, description = "Where to read the task"))),
        (status = 404, description = "`unknown_schedule`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 409, description = "`identifier_conflict`: another request of the same microsecond", body = contract::Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_submission`: the type does not admit the payload", body = contract::Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_submissions`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn run(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let schedule = find(&api, &request)?;
    let now = api.now()?;
    let policy = api
        .state
        .config
        .policy(&schedule.task_type)
        .ok_or_else(|| Problem::internal("a schedule without its type"))?;
    let identifier = of_run(&schedule.name, now).map_err(Problem::internal)?;
    let asked = Asked { endpoints: schedule.endpoints.clone(), ..Asked::default() };
    let task = api.state.admission.task(policy, identifier, schedule.payload.clone(), asked, now).map_err(
        |faults| {
            let items = faults
                .into_iter()
                .map(|fault| ProblemItem::new(format!("/payload{}", fault.pointer), fault.message));
            Problem::invalid(ProblemCode::InvalidSubmission, items.collect())
        },
    )?;
    let (submitted_by, source) = (access::token_name(&request), deeds::source(&request));
    let task = NewTask { submitted_by, source, ..task };
    allowance::check_reach(&api, &request, policy, &task).await?;
    let counted = allowance::check_open(&api, &request, 1).await?;
    let (acceptor, submitted) = (api.state.acceptor.clone(), task.clone());
    match api.run(async move { acceptor.submit(submitted).await }).await? {
        Accepted::New | Accepted::Given(_) => {}
        Accepted::Existing { id, .. } => {
            counted.settle(&api, 0);
            return Err(Problem::identifier_conflict(id));
        }
    }
    tracing::info!(schedule = schedule.name, task = %task.id, "submitted the task of a schedule on request");
    let capacity = task.payload.get().len() + 1024;
    let task = contract::Task::from(task);
    let mut answer = answer(StatusCode::CREATED, &task, capacity)?;
    locate(&mut answer, &task)?;
    Ok(answer)
}

/// Submits no tasks of a schedule, whichever process looks at it, until it is resumed.
#[utoipa::path(
    post, path = "/schedules/{name}/pause", operation_id = "pauseSchedule", tag = "queues",
    params(("name" = String, Path, description = "A configured schedule")),
    responses(
        (status = 200, description = "The schedule, paused now or before", body = contract::Schedule),
        (status = 404, description = "`unknown_schedule`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn pause(api: web::Data<Api>, request: HttpRequest) -> Answer {
    set(&api, &request, true).await
}

/// Goes on with the times to come of a schedule. Those that passed while it was paused have no tasks.
#[utoipa::path(
    post, path = "/schedules/{name}/resume", operation_id = "resumeSchedule", tag = "queues",
    params(("name" = String, Path, description = "A configured schedule")),
    responses(
        (status = 200, description = "The schedule, going on now or before", body = contract::Schedule),
        (status = 404, description = "`unknown_schedule`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn resume(api: web::Data<Api>, request: HttpRequest) -> Answer {
    set(&api, &request, false).await
}

async fn set(api: &Api, request: &HttpRequest, paused: bool) -> Answer {
    let schedule = find(api, request)?;
    let (store, name, now) = (Arc::clone(&api.state.store), schedule.name.clone(), api.now()?);
    if api.run(async move { store.pause_schedule(&name, paused, now).await }).await? {
        tracing::info!(schedule = schedule.name, paused, "a schedule was paused or goes on");
    }
    answer(StatusCode::OK, &look(api, schedule).await?, 512)
}

/// The schedule in the path of a request.
fn find<'a>(api: &'a Api, request: &HttpRequest) -> Result<&'a Schedule, Problem> {
    let name = segment(request, 1)?;
    api.schedule(&name).ok_or_else(|| unknown::schedule(api, request, &name))
}

async fn look(api: &Api, schedule: &Schedule) -> Result<contract::Schedule, Problem> {
    let (store, name) = (Arc::clone(&api.state.store), schedule.name.clone());
    let record = api.run(async move { store.schedule(&name).await }).await?;
    Ok(view::schedule(schedule, record, api.now()?))
}
