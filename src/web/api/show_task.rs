//! `GET /{type}/{id}`: a task with what became of it, now or when it has ended.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use utoipa::IntoParams;

use super::answer::to_json;
use super::named::{self, TaskName};
use super::problem::Problem;
use super::query::{self, Query};
use super::until_ended::{MAX_WAIT, until_ended};
use super::{Answer, Api, access, answer, approvals};
use crate::contract::{self, Responses, TaskResponse, TaskWithResponses};
use crate::domain::{EndpointName, Response, ResponseStatus, Task, TaskId};
use crate::store::{ResponseFilter, StoreError};

/// Responses that are read first; most tasks have no more, and are answered in one piece.
const FIRST_PAGE: u32 = 64;
/// About so much is read at once from then on.
const PAGE_BYTES: usize = 4 << 20;
/// Responses read at once, at least: one is 256 KiB unless an endpoint was allowed more.
const SHORTEST_PAGE: u32 = 8;
/// Responses read at once, at most.
const LONGEST_PAGE: u32 = 2000;
/// What a response may take while it is read and written: many are shorter, few are longer.
const ROOM_EACH: usize = 128 << 10;
/// The end of a task with its responses.
const END: &[u8] = b"]}";

/// Which responses to send along.
#[derive(Debug, Clone)]
enum Include {
    These(ResponseFilter),
    Of(EndpointName),
    /// As the task stands.
    Few,
    None,
}

impl Include {
    /// What is to be sent along of a task.
    fn settled(self, task: &Task) -> Self {
        match self {
            Self::Few if task.counts.expected <= Responses::ENDPOINTS => Self::These(ResponseFilter::All),
            Self::Few if task.counts.finished > Responses::ANSWERS => Self::None,
            Self::Few => Self::These(ResponseFilter::Failed),
            other => other,
        }
    }
}

/// What a task may be asked for, as [`Wanted`] takes it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes; never made")]
pub(super) struct ShowQuery {
    /// How long to wait for the end, at most 60s
    #[param(example = "20s")]
    wait: Option<String>,
    /// `all` (default), `failed`, `missing`, `none`, or `few`. With `few`, a task for at most 5 endpoints has all
    /// its responses. A larger task has only the failed ones, and none once more than 20 endpoints have
    /// finished: then read `/{type}/{id}/answers`
    responses: Option<String>,
    /// Only the response of this endpoint, instead of `responses`
    endpoint: Option<String>,
}

/// What a request wants to know of a task.
#[derive(Debug)]
pub(super) struct Wanted {
    wait: Option<Duration>,
    include: Include,
}

impl Wanted {
    /// As the query of a request says.
    pub(super) fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let mut query = Query::new(request.query_string());
        let wait = query.take("wait", |text| query::span(text, MAX_WAIT));
        let include = query.take("responses", include);
        let endpoint = query.take("endpoint", |text| match (query::endpoint(text), &include) {
            (Ok(endpoint), None) => Ok(endpoint),
            (Ok(_), Some(_)) => Err("must not come with `responses`".to_owned()),
            (Err(error), _) => Err(error),
        });
        query.finish()?;
        Ok(Self {
            wait,
            include: endpoint.map(Include::Of).or(include).unwrap_or(Include::These(ResponseFilter::All)),
        })
    }
}

/// Reads a task with its responses.
///
/// With `wait` the answer comes when the task has ended, or with its current state when the time is over.
#[utoipa::path(
    get, path = "/{type}/{id}", operation_id = "showTask", tag = "tasks",
    params(
        ("type" = String, Path, description = "A configured task type"),
        ("id" = String, Path, description = "The identifier, percent-encoded; or our id"),
        ShowQuery,
    ),
    responses(
        (status = 200, description = "The task", body = TaskWithResponses),
        (status = 404, description = "`unknown_task_type`, `unknown_task`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_waits`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn show_task(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let policy = named::task_type(&api, &request)?;
    let name = TaskName::of(&request)?;
    let wanted = Wanted::of(&request)?;
    let task = named::task(&api, &request, policy, &name).await?;
    answer_with(api, &request, task, wanted).await
}

/// Answers with a task that was found.
pub(super) async fn answer_with(
    api: web::Data<Api>,
    request: &HttpRequest,
    mut task: Task,
    wanted: Wanted,
) -> Answer {
    let Wanted { wait, include } = wanted;
    if let Some(wait) = wait.filter(|_| !task.status.is_final()) {
        let (watch, id) = (&api.state.watch, task.id);
        task = until_ended(
            &api,
            request,
            wait,
            watch,
            &id,
            async || look(&api, &task).await,
            |task| task.status.is_final(),
        )
        .await?;
    }
    // The token may have been revoked during the wait.
    access::check_again(&api, request)?;
    api.room(request, 2 * task.payload.get().len() + first_page(&task) * ROOM_EACH).await?;
    show(api, task, include).await
}

/// Responses that are read first, at most.
fn first_page(task: &Task) -> usize {
    task.counts.expected.min(FIRST_PAGE) as usize
}

fn include(text: &str) -> Result<Include, String> {
    match Responses::ALL.into_iter().find(|which| which.as_str() == text) {
        Some(Responses::All) => Ok(Include::These(ResponseFilter::All)),
        Some(Responses::Failed) => Ok(Include::These(ResponseFilter::Failed)),
        Some(Responses::Missing) => Ok(Include::These(ResponseFilter::Missing)),
        Some(Responses::None) => Ok(Include::None),
        Some(Responses::Few) => Ok(Include::Few),
        None => Err("must be all, failed, missing, none or few".to_owned()),
    }
}

async fn look(api: &Api, task: &Task) -> Result<Task, Problem> {
    let (store, id) = (Arc::clone(&api.state.store), task.id);
    api.run(async move { store.find(id).await })
        .await?
        .ok_or_else(|| Problem::unknown_task(&task.task_type, task.identifier.as_str()))
}

async fn show(api: web::Data<Api>, task: Task, include: Include) -> Answer {
    let (store, id) = (Arc::clone(&api.state.store), task.id);
    let nobody_missing = task.counts.open() == 0;
    let include = include.settled(&task);
    let wanted = include.clone();
    let (responses, next, missing) = api
        .run(async move {
            let responses = match &include {
                Include::These(filter) => store.responses(id, *filter, None, FIRST_PAGE).await?,
                Include::Of(endpoint) => store.response_of(id, endpoint).await?.into_iter().collect(),
                Include::Few | Include::None => Vec::new(),
            };
            let next = following(&responses, FIRST_PAGE);
            let missing = match include {
                // All of them are at hand already, or there are none.
                Include::These(ResponseFilter::All | ResponseFilter::Missing) if next.is_none() => {
                    missing_among(&responses)
                }
                _ if nobody_missing => Vec::new(),
                _ => store.missing(id).await?,
            };
            Ok::<_, StoreError>((responses, next, missing))
        })
        .await?;
    let capacity =
        1024 + task.payload.get().len() + responses.iter().map(size).sum::<usize>() + missing.len() * 32;
    let approval = approvals::of_waiting(&api, &task);
    let task = contract::Task { missing: Some(missing), approval, ..task.into() };
    let body = TaskWithResponses { task, responses: responses.into_iter().map(TaskResponse::from).collect() };
    let (Include::These(filter), Some(next)) = (wanted, next) else {
        return answer(StatusCode::OK, &body, capacity);
    };
    let mut begin = to_json(&body, capacity)?;
    // Responses are the last member: what follows is put in before its end.
    begin.truncate(begin.len() - END.len());
    let begin = stream::once(ready(Ok(Bytes::from(begin))));
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .streaming(begin.chain(rest(api, id, filter, next))))
}

fn missing_among(responses: &[Response]) -> Vec<EndpointName> {
    responses
        .iter()
        .filter(|response| response.status == ResponseStatus::Expected)
        .map(|response| response.endpoint.clone())
        .collect()
}

/// Where the next page begins, and how long it may be.
struct Next {
    after: EndpointName,
    limit: u32,
}

/// The page that follows one with this limit, if one may: of as many responses as are likely to be
/// [`PAGE_BYTES`] together.
fn following(page: &[Response], limit: u32) -> Option<Next> {
    let last = page.last().filter(|_| page.len() >= limit as usize)?;
    let average = page.iter().map(size).sum::<usize>() / page.len();
    let limit =
        u32::try_from(PAGE_BYTES / average.max(1)).unwrap_or(LONGEST_PAGE).clamp(SHORTEST_PAGE, LONGEST_PAGE);
    Some(Next { after: last.endpoint.clone(), limit })
}

/// What comes after the first page, read as the customer takes it, so that no number of responses is in
/// memory at once. When the database fails in the middle the connection is closed before the end of the body:
/// the customer sees that it is not whole.
fn rest(
    api: web::Data<Api>,
    id: TaskId,
    filter: ResponseFilter,
    next: Next,
) -> impl Stream<Item = actix_web::Result<Bytes>> {
    stream::try_unfold(Some(next), move |next| {
        let api = api.clone();
        async move {
            let Some(Next { after, limit }) = next else { return Ok(None) };
            let store = Arc::clone(&api.state.store);
            let page = api
                .run(async move { store.responses(id, filter, Some(after), limit).await })
                .await
                .inspect_err(|problem| {
                    tracing::warn!(task = %id, "the responses of a task are truncated: {problem}");
                })?;
            let mut bytes = Vec::with_capacity(page.iter().map(size).sum::<usize>() + END.len());
            let next = following(&page, limit);
            for response in page {
                bytes.push(b',');
                serde_json::to_writer(&mut bytes, &TaskResponse::from(response))
                    .map_err(Problem::internal)?;
            }
            if next.is_none() {
                bytes.extend_from_slice(END);
            }
            Ok(Some((Bytes::from(bytes), next)))
        }
    })
}

/// About the length of a response as JSON.
fn size(response: &Response) -> usize {
    let texts = response.payload.as_ref().map_or(4, |payload| payload.get().len())
        + response.log.as_ref().map_or(4, String::len);
    400 + 2 * response.endpoint.as_str().len() + response.errmsg.len() + texts + response.attempts.len() * 64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Timestamp, json};

    fn page(count: usize, bytes: usize) -> Vec<Response> {
        let response = |place: usize| Response {
            task_id: TaskId::new(),
            endpoint: format!("e{place:04}").parse().expect("a name"),
            status: ResponseStatus::Finished,
            errnr: Some(0),
            errmsg: String::new(),
            payload: Some(json(&"x".repeat(bytes))),
            attempt: 1,
            attempts: Vec::new(),
            progress: None,
            log: None,
            start_time: None,
            last_modified_time: Timestamp::from_micros(0),
            vanished: false,
            late: None,
            answer: None,
        };
        (0..count).map(response).collect()
    }

    #[test]
    fn the_next_page_is_as_long_as_fits() {
        let next = |count, bytes, limit| {
            following(&page(count, bytes), limit).map(|next| (next.after.to_string(), next.limit))
        };
        assert_eq!(next(0, 0, 64), None);
        assert_eq!(next(63, 0, 64), None, "that was the last one");
        assert_eq!(next(64, 0, 64), Some(("e0063".to_owned(), LONGEST_PAGE)));
        assert_eq!(next(8, 1 << 20, 8), Some(("e0007".to_owned(), SHORTEST_PAGE)));
        let (_, limit) = next(64, 256 << 10, 64).expect("a page");
        assert!((SHORTEST_PAGE..=16).contains(&limit), "about 4 MiB: {limit}");
    }
}
