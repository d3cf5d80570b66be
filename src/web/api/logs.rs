//! `GET /{type}/{id}/logs`: what handlers log, while they run.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use tokio::time::{Instant, sleep};

use super::named::{self, TaskName};
use super::query::{self, After, Query};
use super::until_ended::MAX_WAIT;
use super::{Answer, Api, access, answer};
use crate::contract::{self, LogPage, LogText};
use crate::domain::{EndpointName, TaskId, Timestamp};
use crate::store::{LogPlace, ResponseLog, SharedStore, StoreError};

/// Logs of one answer at most; of long ones fewer.
const MOST: u32 = 200;

/// Memory for an answer while it is read and written: a budget of the store, and the same as JSON.
const ROOM: usize = 6 << 20;

/// How long the last lines may be on their way after the answer: a handler that ends sends both.
const ON_THE_WAY: Duration = Duration::from_secs(2);

/// How often a request that waits looks.
const LOOK: Duration = Duration::from_millis(500);

/// Reads what the handlers of a task have logged, while they run and afterwards.
///
/// The ledger keeps the last 64 KiB of each endpoint. With `after`, the answer has only what has come since
/// the answer whose `next` that is; with `wait`, it comes when there is something new.
#[utoipa::path(
    get, path = "/{type}/{id}/logs", operation_id = "readLogs", tag = "live",
    params(
        ("type" = String, Path, description = "A configured task type"),
        ("id" = String, Path, description = "The identifier, percent-encoded; or our id"),
        ("endpoint" = Option<String>, Query, description = "Only the handler of this endpoint"),
        ("after" = Option<String>, Query, description = "`next` of the answer before, with the same `endpoint`"),
        ("wait" = Option<String>, Query, description = "How long to wait for lines, at most 60s", example = "20s"),
    ),
    responses(
        (status = 200, description = "Lines", body = LogPage),
        (status = 404, description = "`unknown_task_type`, `unknown_task`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_waits`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn read(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let policy = named::task_type(&api, &request)?;
    let name = TaskName::of(&request)?;
    let mut query = Query::new(request.query_string());
    let endpoint = query.take("endpoint", query::endpoint);
    let after = query.take("after", query::read_log_cursor);
    let wait = query.take("wait", |text| query::span(text, MAX_WAIT)).unwrap_or_default();
    query.finish()?;

    let id = named::task(&api, &request, policy, &name).await?.id;
    let until = Instant::now() + wait;
    let mut place = None;
    loop {
        let (store, of, from) = (Arc::clone(&api.state.store), endpoint.clone(), after.clone());
        api.room(&request, ROOM).await?;
        // Of a handler that had ended by then, all lines have come.
        let then = api.now()?.before(ON_THE_WAY);
        let page = api.run(async move { look(&store, id, of.as_ref(), from, then).await }).await?;
        // The token may have been revoked during the wait.
        access::check_again(&api, &request)?;
        let left = until.saturating_duration_since(Instant::now());
        if !page.logs.is_empty() || page.ended || left.is_zero() || api.stop.is_cancelled() {
            let capacity = 256 + page.logs.iter().map(|log| 256 + log.text.len()).sum::<usize>();
            return answer(StatusCode::OK, &page, capacity);
        }
        // A request that waits holds no room: those that follow quiet handlers would keep all others from
        // their answers.
        drop(page);
        Api::leave_room(&request);
        if place.is_none() {
            place = Some(api.waits.read(access::token_of(&request).as_deref())?);
        }
        tokio::select! {
            () = sleep(LOOK.min(left)) => {}
            () = api.stop.cancelled() => {}
        }
    }
}

async fn look(
    store: &SharedStore,
    id: TaskId,
    endpoint: Option<&EndpointName>,
    after: Option<After>,
    then: Timestamp,
) -> Result<LogPage, StoreError> {
    match endpoint {
        Some(endpoint) => {
            let from = if let Some(After::Byte(from)) = after { from } else { 0 };
            let ended_at = match store.ended_at(id, endpoint).await? {
                // An endpoint that is not part of the task logs nothing. Its log is over when the task is.
                None => store.standing(id).await?.map_or(Some(then), |standing| {
                    standing.finished_at.filter(|_| standing.counts.open() == 0)
                }),
                ended_at => ended_at,
            };
            let over = ended_at.is_some_and(|ended_at| ended_at <= then);
            let log = store.log_of(id, endpoint).await?;
            let next = log.as_ref().map_or(from, |log| log.log.length.max(from));
            let text = log.map(|log| text(&log, from)).filter(|log| !log.text.is_empty());
            Ok(LogPage {
                logs: text.into_iter().collect(),
                next: query::log_cursor(&After::Byte(next)),
                ended: over,
            })
        }
        None => {
            let place = if let Some(After::Place(place)) = after { Some(place) } else { None };
            let standing = store.standing(id).await?;
            let over = standing.is_none_or(|it| {
                it.counts.open() == 0 && it.finished_at.is_some_and(|ended_at| ended_at <= then)
            });
            let logs = store.logs(id, place.clone(), MOST).await?;
            let last = logs.last().map(|log| LogPlace { time: log.time, endpoint: log.endpoint.clone() });
            let ended = over && logs.is_empty();
            let next =
                last.or(place).map(|place| query::log_cursor(&After::Place(place))).unwrap_or_default();
            Ok(LogPage { logs: logs.iter().map(|log| text(log, 0)).collect(), next, ended })
        }
    }
}

fn text(log: &ResponseLog, from: u64) -> LogText {
    let (begin, text) = log.log.after(from);
    LogText { endpoint: log.endpoint.clone(), begin, text: text.to_owned(), time: log.time }
}
