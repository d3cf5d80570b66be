//! `GET /schedules`: what is submitted at times.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web;

use super::problem::ProblemBody;
use super::view::{ScheduleList, ScheduleView};
use super::{Answer, Api, answer};

/// Lists the schedules, and when each submits its next task.
#[utoipa::path(
    get, path = "/schedules", operation_id = "listSchedules", tag = "queues",
    responses(
        (status = 200, description = "All that are configured", body = ScheduleList),
        (status = 500, description = "`internal`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "`database_unavailable`", body = ProblemBody, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn list(api: web::Data<Api>) -> Answer {
    let (config, now) = (&api.state.config, api.now()?);
    let mut schedules = Vec::with_capacity(config.schedules.len());
    for schedule in &config.schedules {
        let (store, name) = (Arc::clone(&api.state.store), schedule.name.clone());
        let record = api.run(async move { store.schedule(&name).await }).await?;
        schedules.push(ScheduleView::of(schedule, record, now));
    }
    let room = 256 * schedules.len();
    answer(StatusCode::OK, &ScheduleList { schedules }, room)
}
