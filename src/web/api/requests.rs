//! `/requests` and `/api/poll`: steps of jobs, one step after the other, the jobs of a step at the same time.
//!
//! A request is about types of all kinds, so it takes a token that is good for all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, web};
use utoipa::IntoParams;

use super::body::{self, Limit};
use super::problem::Problem;
use super::query::{self, Query};
use super::request_submission::{self, RequestSubmission};
use super::segment::segment;
use super::until_ended::{MAX_WAIT, until_ended};
use super::{Answer, Api, ApiState, access, allowance, answer, cancel_task};
use crate::contract::{self, ProblemCode, ProblemItem, Request, RequestPage, RequestPoll, RequestToken};
use crate::domain::likeness::{quoted, unknown};
use crate::domain::{self, NewRequest, RequestFault, RequestStatus, Step, json};
use crate::store::{Begun, CancelOutcome, CanceledRequest, LIST_BYTES, Recorded, RequestQuery, StoreError};

/// Requests on a page when nothing is said.
const DEFAULT_LIMIT: u32 = 100;

/// What an attempt of a job may take while it is read and written.
const ROOM_EACH: usize = 512;

/// Submits a request.
///
/// Answers once the request is recorded. The same submission again under the same `request_token` answers 200
/// with the token of the request that is there, so a request that got no answer can simply be repeated.
#[utoipa::path(
    post, path = "/requests", operation_id = "submitRequest", tag = "requests",
    request_body(content = contract::RequestSubmission, content_type = "application/json"),
    responses(
        (status = 201, description = "Recorded", body = RequestToken, headers(("Location" = String, description = "Where to read the request"))),
        (status = 200, description = "The same submission was made before under this `request_token`", body = RequestToken),
        (status = 409, description = "`request_conflict`: other content under the same `request_token`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_submission`, with every problem", body = contract::Problem, content_type = "application/problem+json"),
        (status = 503, description = "`database_unavailable`, `overloaded`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn submit(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    let limit = Limit { bytes: api.state.config.api.body_limit, setting: Some("api.body_limit") };
    let body = api.body(&request, payload, limit).await?;
    let invalid = |problems| Problem::invalid(ProblemCode::InvalidSubmission, problems);
    let submission = request_submission::parse(body::json(&body)?).map_err(invalid)?;
    drop(body);
    let new = new_request(&api, submission)?.map_err(invalid)?;
    allowance::check_unbounded(&request, "requests")?;
    let counted = allowance::check_open(&api, &request, 1).await?;
    let new = NewRequest { submitted_by: access::token_name(&request), ..new };
    let (ledger, recorded) = (api.state.ledger.clone(), new.clone());
    let status = match api.run(async move { ledger.record_request(&recorded).await }).await? {
        Recorded::New => StatusCode::CREATED,
        there => {
            if !is_own(&api, &request, &new.token).await? {
                return Err(another(&new));
            }
            if matches!(there, Recorded::Other) {
                return Err(conflict(&new));
            }
            StatusCode::OK
        }
    };
    counted.settle(&api, (status == StatusCode::CREATED).into());
    let token = new.token.to_string();
    let location = format!("/requests/{token}").parse().map_err(Problem::internal)?;
    let mut answer = answer(status, &RequestToken { token }, 128)?;
    if status == StatusCode::CREATED {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    Ok(answer)
}

/// The request of a submission, or all its problems.
fn new_request(
    api: &Api,
    submission: RequestSubmission,
) -> Result<Result<NewRequest, Vec<ProblemItem>>, Problem> {
    let RequestSubmission { action, params, steps, request_token } = submission;
    let settings = &api.state.config.requests;
    let own = steps.is_some();
    let Some(steps) = steps.or_else(|| settings.actions.get(&action).cloned()) else {
        let text = unknown("action", &action, "configured", settings.actions.keys().map(String::as_str)).text;
        return Ok(Err(vec![ProblemItem::new(
            "/action",
            format!("{text}; for an action that is not configured, give /steps"),
        )]));
    };
    // The steps of configured actions were checked at the start of the process.
    let mut faults = if own { unknown_jobs(api, &steps) } else { Vec::new() };
    let now = api.now()?;
    let made = NewRequest::new(request_token, action, params, steps, now, now.after(settings.expires_after));
    let item = |fault: RequestFault| ProblemItem::new(fault.pointer, fault.message);
    Ok(match made {
        Ok(new) if faults.is_empty() => Ok(new),
        Ok(_) => Err(faults),
        Err(more) => {
            faults.extend(more.into_iter().map(item));
            faults.sort_by(|one, other| one.pointer.cmp(&other.pointer));
            Err(faults)
        }
    })
}

/// The jobs that nothing performs.
fn unknown_jobs(api: &Api, steps: &[Step]) -> Vec<ProblemItem> {
    let each = steps
        .iter()
        .enumerate()
        .flat_map(|(place, step)| step.jobs.iter().enumerate().map(move |(at, job)| (place, at, job)));
    let unknown = each.filter_map(|(place, at, job)| {
        let reason = api.state.calls.type_of(job).err()?;
        Some(ProblemItem::new(format!("/steps/{place}/jobs/{at}"), reason))
    });
    unknown.collect()
}

/// The refusal of a `request_token` that is taken by a request of which the token may know nothing.
fn another(new: &NewRequest) -> Problem {
    let name = quoted(new.request_token.as_deref().unwrap_or_default());
    let detail = format!(
        "the request_token {name} is taken by a request that was not submitted with this token; choose another"
    );
    Problem::new(ProblemCode::RequestConflict, detail)
}

fn conflict(new: &NewRequest) -> Problem {
    let name = quoted(new.request_token.as_deref().unwrap_or_default());
    let detail = format!(
        "the request_token {name} is that of request {} with another action, other params or other steps",
        new.token
    );
    Problem::new(ProblemCode::RequestConflict, detail).about(new.token.as_str(), None)
}

/// What a list of requests may be asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes; never made")]
struct ListQuery {
    /// Only these states, separated by commas
    #[param(example = "Queuing,Inprogress")]
    status: Option<String>,
    /// Only the request that was submitted with this `request_token`
    request_token: Option<String>,
    /// Only requests for this action
    action: Option<String>,
    /// Only requests recorded at or after this time (RFC 3339)
    since: Option<String>,
    /// Only requests recorded before this time (RFC 3339)
    until: Option<String>,
    /// Requests on a page, 1 to 1000, by default 100
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before
    cursor: Option<String>,
}

/// Lists requests, newest first, without their jobs.
///
/// A page may be shorter than `limit`; the list has ended only when `next_cursor` is null.
#[utoipa::path(
    get, path = "/requests", operation_id = "listRequests", tag = "requests",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of requests", body = RequestPage),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let mut query = Query::new(request.query_string());
    let wanted = RequestQuery {
        status: query
            .take("status", |text| query::words(text, &RequestStatus::ALL, RequestStatus::as_str))
            .unwrap_or_default(),
        named: query.take("request_token", |text| Ok(domain::RequestToken::of(text))),
        action: query.take("action", |text| Ok(text.to_owned())),
        since: query.take("since", query::time),
        until: query.take("until", query::time),
        before: query.take("cursor", query::read_request_cursor),
        limit: query.take("limit", query::limit).unwrap_or(DEFAULT_LIMIT),
    };
    query.finish()?;

    api.room(&request, 2 * LIST_BYTES).await?;
    let store = Arc::clone(&api.state.store);
    let (requests, more) = api.run(async move { store.requests(&wanted).await }).await?;
    let next_cursor =
        requests.last().filter(|_| more).map(|last| query::request_cursor(last.created, last.token.as_str()));
    let capacity = 1024 + requests.iter().map(|request| 1024 + request.params.get().len()).sum::<usize>();
    let requests = requests.into_iter().map(Request::from).collect();
    answer(StatusCode::OK, &RequestPage { requests, next_cursor }, capacity)
}

/// How a request may be asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes; never made")]
struct ShowQuery {
    /// How long to wait for the end, at most 60s
    #[param(example = "20s")]
    wait: Option<String>,
}

/// Reads a request with its jobs.
///
/// With `wait` the answer comes when the request has ended, or with its current state when the time is over.
#[utoipa::path(
    get, path = "/requests/{token}", operation_id = "showRequest", tag = "requests",
    params(("token" = String, Path, description = "The token of the request"), ShowQuery),
    responses(
        (status = 200, description = "The request", body = Request),
        (status = 404, description = "`unknown_request`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_waits`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn show(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let token = match token(&request, 1) {
        Ok(token) => token,
        // The list shows rows of other names too.
        Err(refusal) => {
            let odd = segment(&request, 1)?;
            if !odd.is_ascii() {
                return Err(refusal);
            }
            match find(&api, &domain::RequestToken::stored(&odd)).await {
                Err(problem) if problem.code() == ProblemCode::UnknownRequest => return Err(refusal),
                found => found?.token,
            }
        }
    };
    let mut query = Query::new(request.query_string());
    let wait = query.take("wait", |text| query::span(text, MAX_WAIT));
    query.finish()?;
    let mut found = find(&api, &token).await?;
    if let Some(wait) = wait.filter(|_| !found.status.is_final()) {
        let look = async || find(&api, &token).await;
        found = until_ended(&api, &request, wait, &api.state.requests, &token, look, |found| {
            found.status.is_final()
        })
        .await?;
    }
    // The token may have been revoked during the wait.
    access::check_again(&api, &request)?;
    whole(&api, &request, found).await
}

/// The token in the path of a request.
fn token(request: &HttpRequest, index: usize) -> Result<domain::RequestToken, Problem> {
    let text = segment(request, index)?;
    text.parse().map_err(|error| {
        Problem::new(ProblemCode::BadPath, format!("{} is not a token: {error}", quoted(&text)))
    })
}

async fn find(api: &Api, token: &domain::RequestToken) -> Result<domain::Request, Problem> {
    let (store, wanted) = (Arc::clone(&api.state.store), token.clone());
    api.run(async move { store.request(&wanted).await }).await?.ok_or_else(|| unknown_request(token))
}

fn unknown_request(token: &domain::RequestToken) -> Problem {
    let detail = format!("request {} not found: no request has this token", quoted(token.as_str()));
    Problem::new(ProblemCode::UnknownRequest, detail).about(token.as_str(), None)
}

/// A token that may not read, or is limited to its own, changes the requests alone that were submitted with
/// it; of others it is told nothing.
async fn check_submitter(
    api: &Api,
    request: &HttpRequest,
    token: &domain::RequestToken,
) -> Result<(), Problem> {
    if is_own(api, request, token).await? { Ok(()) } else { Err(unknown_request(token)) }
}

/// Whether a request may be told of and changed: it was submitted with the token that asks, or that is good
/// for all.
async fn is_own(api: &Api, request: &HttpRequest, token: &domain::RequestToken) -> Result<bool, Problem> {
    let Some(own) = access::not_beyond(request) else { return Ok(true) };
    let (store, of) = (Arc::clone(&api.state.store), token.clone());
    let submitter = api.run(async move { store.request_submitter(&of).await }).await?;
    Ok(submitter.as_deref() == Some(own.as_str()))
}

/// Answers with a request and its jobs.
async fn whole(api: &Api, request: &HttpRequest, found: domain::Request) -> Answer {
    let number: usize = found.steps.iter().map(|step| step.jobs.len()).sum();
    api.room(request, 2 * found.params.get().len() + number * ROOM_EACH).await?;
    let (store, token) = (Arc::clone(&api.state.store), found.token.clone());
    let jobs = api.run(async move { store.jobs(&token).await }).await?;
    let capacity = 1024 + found.params.get().len() + jobs.len() * ROOM_EACH;
    let jobs = jobs.into_iter().map(contract::Job::from).collect();
    answer(StatusCode::OK, &Request { jobs: Some(jobs), ..found.into() }, capacity)
}

/// Answers with a request that was changed. A token that may not read is told no more than where it stands.
async fn changed(api: &Api, request: &HttpRequest, mut found: domain::Request) -> Answer {
    if access::blind(request).is_none() {
        return whole(api, request, found).await;
    }
    (found.params, found.extras, found.error) = (json(&serde_json::Map::new()), BTreeMap::new(), None);
    answer(StatusCode::OK, &Request::from(found), 1024)
}

/// Cancels a request: jobs that have not begun never will, those that run are told to stop. A repeat answers
/// the same. A token that may not read cancels what was submitted with it alone.
#[utoipa::path(
    delete, path = "/requests/{token}", operation_id = "cancelRequest", tag = "requests",
    params(("token" = String, Path, description = "The token of the request")),
    responses(
        (status = 200, description = "The canceled request", body = Request),
        (status = 404, description = "`unknown_request`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 409, description = "`already_ended`: Completed or Failed", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn cancel(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let token = token(&request, 1)?;
    check_submitter(&api, &request, &token).await?;
    let (state, of) = (api.state.clone(), token.clone());
    let canceled = api.run(async move { withdraw(&state, &of).await }).await?;
    let CanceledRequest { request: found, refused, .. } = canceled.ok_or_else(|| unknown_request(&token))?;
    if refused {
        let detail = format!("the request is {} and cannot be canceled", found.status.as_str());
        return Err(Problem::new(ProblemCode::AlreadyEnded, detail));
    }
    changed(&api, &request, found).await
}

/// The ledger comes first: it decides which tasks end and which endpoints must be told.
async fn withdraw(
    state: &ApiState,
    token: &domain::RequestToken,
) -> Result<Option<CanceledRequest>, StoreError> {
    let Some(mut canceled) = state.ledger.cancel_request(token).await? else { return Ok(None) };
    if canceled.changed {
        state.requests.wake([token]);
    }
    for CancelOutcome { task, to_stop, .. } in
        canceled.stopped.drain(..).filter(|outcome| !outcome.to_stop.is_empty())
    {
        cancel_task::tell(state, &task, to_stop);
    }
    Ok(Some(canceled))
}

/// Runs the failed jobs of a request again, and what follows them. Completed jobs are not repeated. A token
/// that may not read does so with what was submitted with it alone.
#[utoipa::path(
    post, path = "/requests/{token}/retry", operation_id = "retryRequest", tag = "requests",
    params(("token" = String, Path, description = "The token of the request")),
    responses(
        (status = 200, description = "The request, in progress again", body = Request),
        (status = 404, description = "`unknown_request`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 409, description = "`nothing_failed`: no job of the request has failed", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn retry(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let (token, now) = (token(&request, 1)?, api.now()?);
    check_submitter(&api, &request, &token).await?;
    let jobs = find(&api, &token).await?.steps.into_iter().flat_map(|step| step.jobs);
    let tries: Vec<_> =
        jobs.map(|job| (api.state.calls.retry(&job).tries, job)).map(|(tries, job)| (job, tries)).collect();
    let (ledger, of, expires_at) =
        (api.state.ledger.clone(), token.clone(), now.after(api.state.config.requests.expires_after));
    let begun = api.run(async move { ledger.begin_anew(&of, &tries, expires_at).await }).await?;
    let refused = |detail: String| Err(Problem::new(ProblemCode::NothingFailed, detail));
    match begun.ok_or_else(|| unknown_request(&token))? {
        Begun::Jobs(found, _) => changed(&api, &request, found).await,
        Begun::NotFailed(found) => refused(format!(
            "the request is {}: only the jobs of a Failed one are run again",
            found.status.as_str()
        )),
        Begun::NoJob(_) => {
            refused("no job of the request has failed, but the request itself: submit another one".to_owned())
        }
    }
}

/// Where a request stands, in a word: for clients of the original.
#[utoipa::path(
    get, path = "/api/poll/{token}", operation_id = "pollRequest", tag = "requests",
    params(("token" = String, Path, description = "The token of the request")),
    responses(
        (status = 200, description = "Where it stands", body = RequestPoll),
        (status = 404, description = "`unknown_request`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn poll(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let found = find(&api, &token(&request, 2)?).await?;
    answer(StatusCode::OK, &RequestPoll { status: found.status }, 64)
}
