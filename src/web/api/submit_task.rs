//! `POST /{type}`: takes a submission.

use std::sync::Arc;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use serde::Serialize;

use super::body::{self, Limit};
use super::matching::brief;
use super::problem::Problem;
use super::query::{self, Query};
use super::submission::{self, Submission};
use super::{Answer, Api, access, allowance, answer, approvals, deeds, named, percent, target};
use crate::admission::{Asked, Fault, reserved};
use crate::config::{Body, TypePolicy};
use crate::contract::{self, BODY_HEADER, ENVELOPE, ProblemCode, ProblemItem, TaskApproval, TaskBrief};
use crate::domain::{NewTask, Task, TaskId, TaskStatus};
use crate::store::Accepted;

/// Submits a task.
///
/// Answers once the task is recorded; from then on it will be performed, whatever happens to this process or
/// the broker. The same submission again answers 200 with the task that is there, so a request that got no
/// answer can simply be repeated. With `dry_run=true` nothing is recorded: the answer (200) says which
/// endpoints the task would be for.
#[utoipa::path(
    post, path = "/{type}", operation_id = "submitTask", tag = "tasks",
    params(
        ("type" = String, Path, description = "A configured task type"),
        ("dry_run" = Option<bool>, Query, description = "`true`: record nothing, answer with a `Preview`"),
        ("strict" = Option<bool>, Query, description = "`true`: refuse `endpoints` that were never heard of, instead of a warning"),
        ("Tasker-Body" = Option<String>, Header, description = "`envelope`: the body is a submission, also for a type with `body: payload`"),
    ),
    request_body(content = contract::Submission, content_type = "application/json"),
    responses(
        (status = 201, description = "Recorded", body = contract::Task, headers(("Location" = String, description = "Where to read the task"))),
        (status = 200, description = "The same submission was made before: the task as it stands; with `dry_run=true` a `Preview`", body = contract::SubmitAnswer),
        (status = 404, description = "`unknown_task_type`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 409, description = "`identifier_conflict`: other content under the same identifier", body = contract::Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_submission`, with every problem", body = contract::Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_submissions`, `quota_exceeded`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
        (status = 503, description = "`database_unavailable`, `overloaded`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn submit_task(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    let policy = named::task_type(&api, &request)?;
    let mut query = Query::new(request.query_string());
    let dry_run = query.take("dry_run", query::truth).unwrap_or(false);
    let strict = query.take("strict", query::truth).unwrap_or(false);
    query.finish()?;
    let limit = Limit { bytes: api.state.config.api.body_limit, setting: Some("api.body_limit") };
    let body = api.body(&request, payload, limit).await?;
    let text = body::json(&body)?;
    let enveloped = request.headers().get(BODY_HEADER).is_some_and(|form| form == ENVELOPE);
    let form = if enveloped { Body::Envelope } else { policy.body };
    let submission = match form {
        Body::Envelope => submission::parse(text, policy)
            .map_err(|problems| Problem::invalid(ProblemCode::InvalidSubmission, problems))?,
        Body::Payload => Submission::bare(text)
            .map_err(|problem| Problem::invalid(ProblemCode::InvalidSubmission, vec![problem]))?,
    };
    drop(body);
    let root = match form {
        Body::Envelope => "/payload",
        Body::Payload => "",
    };
    let (mut task, asked) = admit(&api, policy, submission, root, &request)?;
    if strict {
        let unheard = api.heard.refused(&task.endpoints).await?;
        if !unheard.is_empty() {
            return Err(Problem::invalid(ProblemCode::InvalidSubmission, unheard));
        }
    }
    if dry_run {
        let preview = target::preview(&api, policy, &task).await?;
        return answer(StatusCode::OK, &preview, 256 + preview.endpoints.len() * 32);
    }
    let lacking = match approvals::lacking(&api, &task, root) {
        Ok(lacking) => lacking,
        Err(refused) => return repeated(&api, before(&api, &request, &task).await?.ok_or(refused)?),
    };
    if let Some(approval) = &lacking {
        task = task.held_until(approval.until);
    }
    let mut odd = Vec::new();
    if let Some(target) = &task.target {
        let members = target::members(&api, policy).await?;
        match target::choose(&api, policy, &members, target, &task.identifier).await {
            Ok(chosen) => (task.endpoints, odd) = chosen,
            Err(nobody) => return repeated(&api, before(&api, &request, &task).await?.ok_or(nobody)?),
        }
    }
    allowance::check_reach(&api, &request, policy, &task).await?;
    let counted = allowance::check_submissions(&api, &request, [&task].into_iter()).await?;
    let recorded = record(&api, &request, task, &asked).await?;
    counted.settle(&api, recorded.is_new().into());
    respond(&api, form, recorded, lacking.map(approvals::shown), odd).await
}

/// The task of a submission whose payload stands at `root` in the body, and what it asks for.
///
/// # Errors
/// All that its type does not admit.
pub(super) fn admit(
    api: &Api,
    policy: &TypePolicy,
    submission: Submission,
    root: &str,
    request: &HttpRequest,
) -> Result<(NewTask, Asked), Problem> {
    let Submission { identifier, payload, asked } = submission;
    let invalid = |items| Problem::invalid(ProblemCode::InvalidSubmission, items);
    if let Some(reason) = reserved(&api.state.config, &policy.name, &identifier) {
        return Err(invalid(vec![ProblemItem::new("/identifier", reason)]));
    }
    let item = |fault: Fault| ProblemItem::new(format!("{root}{}", fault.pointer), fault.message);
    let task = api.state.admission.task(policy, identifier, payload, asked.clone(), api.now()?);
    let task = task.map_err(|faults| invalid(faults.into_iter().map(item).collect()))?;
    let (submitted_by, source) = (access::token_name(request), deeds::source(request));
    Ok((NewTask { submitted_by, source, ..task }, asked))
}

/// The task of a submission that would not be recorded now - its target chooses nobody, its order has ended -
/// if it was made before.
pub(super) async fn before(
    api: &Api,
    request: &HttpRequest,
    task: &NewTask,
) -> Result<Option<Task>, Problem> {
    let (store, task_type, identifier) =
        (Arc::clone(&api.state.store), task.task_type.clone(), task.identifier.clone());
    let Some(existing) =
        api.run(async move { store.find_by_identifier(&task_type, &identifier).await }).await?
    else {
        return Ok(None);
    };
    check_whose(api, request, existing.id).await?;
    let (store, id) = (Arc::clone(&api.state.store), existing.id);
    match api.run(async move { store.submission_digest(id).await }).await? {
        Some(digest) if digest == task.digest => Ok(Some(existing)),
        _ => Err(Problem::identifier_conflict(existing.id)),
    }
}

/// Refuses a task to a token that may read none, or none but its own: a repeated submission would tell how it
/// stands.
async fn check_whose(api: &Api, request: &HttpRequest, id: TaskId) -> Result<(), Problem> {
    let Some(own) = access::not_beyond(request) else { return Ok(()) };
    let store = Arc::clone(&api.state.store);
    let submitter = api.run(async move { store.submitter(id).await }).await?;
    match submitter.as_deref() == Some(own.as_str()) {
        true => Ok(()),
        false => Err(Problem::identifier_of_another()),
    }
}

/// Tasks that were submitted before and are read at the same time.
const READ_AT_ONCE: usize = 16;

/// How often a submission is tried whose twin was forgotten between being found and being read.
const TRIES: u32 = 3;

/// What came of a submission.
pub(super) enum Recorded {
    /// It is recorded.
    New(NewTask),
    /// It was made before.
    Before(Task),
}

impl Recorded {
    /// Whether it was not made before.
    pub(super) const fn is_new(&self) -> bool {
        matches!(self, Self::New(_))
    }
}

/// Records a submission.
pub(super) async fn record(
    api: &Api,
    request: &HttpRequest,
    task: NewTask,
    asked: &Asked,
) -> Result<Recorded, Problem> {
    for _ in 0..TRIES {
        let (acceptor, submitted) = (api.state.acceptor.clone(), task.clone());
        let accepted = api.run(async move { acceptor.submit(submitted).await }).await?;
        match came_of(api, request, asked, accepted).await? {
            Came::New => return Ok(Recorded::New(task)),
            Came::Before(existing) => return Ok(Recorded::Before(*existing)),
            Came::Gone => {}
        }
    }
    Err(Problem::internal("a task of this identifier is found and then not, again and again"))
}

/// Records submissions together; each has an outcome of its own: a status, and the task.
///
/// # Errors
/// When nothing is known of any of them.
pub(super) async fn record_all(
    api: &Api,
    request: &HttpRequest,
    tasks: Vec<(NewTask, Asked)>,
) -> Result<Vec<Result<(StatusCode, TaskBrief), Problem>>, Problem> {
    let (acceptor, submitted) =
        (api.state.acceptor.clone(), tasks.iter().map(|(task, _)| task.clone()).collect::<Vec<_>>());
    let accept = async move {
        Ok::<_, Problem>(join_all(submitted.into_iter().map(|task| acceptor.submit(task))).await)
    };
    let outcomes =
        tasks.into_iter().zip(api.run(accept).await?).map(|((task, asked), accepted)| async move {
            let recorded = match came_of(api, request, &asked, accepted?).await? {
                Came::New => Recorded::New(task),
                Came::Before(existing) => Recorded::Before(*existing),
                Came::Gone => record(api, request, task, &asked).await?,
            };
            Ok::<_, Problem>(match recorded {
                Recorded::New(task) => (StatusCode::CREATED, brief_of_new(&task)),
                Recorded::Before(task) => (StatusCode::OK, brief(&task)),
            })
        });
    Ok(stream::iter(outcomes).buffered(READ_AT_ONCE).collect().await)
}

/// What came of a submission that the ledger has looked at.
enum Came {
    /// It is recorded.
    New,
    /// It was made before.
    Before(Box<Task>),
    /// It was made before, and forgotten meanwhile.
    Gone,
}

async fn came_of(
    api: &Api,
    request: &HttpRequest,
    asked: &Asked,
    accepted: Accepted,
) -> Result<Came, Problem> {
    match accepted {
        Accepted::New | Accepted::Given(_) => Ok(Came::New),
        Accepted::Existing { id, same: false } => {
            check_whose(api, request, id).await?;
            Err(Problem::identifier_conflict(id))
        }
        Accepted::Existing { id, same: true } => {
            check_whose(api, request, id).await?;
            let store = Arc::clone(&api.state.store);
            let Some(existing) = api.run(async move { store.find(id).await }).await? else {
                return Ok(Came::Gone);
            };
            match differences(asked, &existing).as_slice() {
                [] => Ok(Came::Before(Box::new(existing))),
                differing => Err(Problem::other_options(id, &differing.join(", "))),
            }
        }
    }
}

/// The answer to a submission, of which there may be something to warn already. `approval` is how far a new
/// task is approved that waits for that.
pub(super) async fn respond(
    api: &Api,
    form: Body,
    recorded: Recorded,
    approval: Option<TaskApproval>,
    mut warnings: Vec<String>,
) -> Answer {
    match recorded {
        Recorded::New(task) => {
            warnings.extend(api.heard.warnings(&task.endpoints).await);
            let stopped = match task.place.is_none() && task.endpoints.is_empty() {
                true => api.heard.stopped(&task.task_type).await,
                false => None,
            };
            created(form, task, approval, warnings, stopped)
        }
        Recorded::Before(task) => repeated(api, task),
    }
}

fn brief_of_new(task: &NewTask) -> TaskBrief {
    TaskBrief {
        id: task.id,
        task_type: task.task_type.clone(),
        identifier: task.identifier.clone(),
        status: TaskStatus::Created,
        start_time: task.start_time,
    }
}

/// What a submission asks for otherwise than the one before it. What it does not ask for is as it was.
fn differences(asked: &Asked, existing: &Task) -> Vec<&'static str> {
    let Some(queued) = &existing.queued else { return Vec::new() };
    // A time that had passed was no time to wait for.
    let run_at = asked.run_at.map(|run_at| Some(run_at).filter(|run_at| *run_at > existing.start_time));
    let life = |ttl| queued.run_at.unwrap_or(existing.start_time).after(ttl);
    // Of a task that has begun it says nothing any more.
    let waits = !existing.status.is_final() && existing.counts.expected == 0 && queued.attempts.is_empty();
    let table = [
        ("priority", asked.priority.is_some_and(|priority| priority != queued.priority)),
        ("run_at", run_at.is_some_and(|run_at| run_at != queued.run_at)),
        ("ttl", waits && asked.ttl.is_some_and(|ttl| life(ttl) != existing.expires_at)),
    ];
    table.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

fn created(
    form: Body,
    task: NewTask,
    approval: Option<TaskApproval>,
    warnings: Vec<String>,
    stopped: Option<u64>,
) -> Answer {
    let capacity = task.payload.get().len() + 1024;
    let task = contract::Task { warnings, stopped, approval, ..task.into() };
    let mut answer = match form {
        Body::Envelope => answer(StatusCode::CREATED, &task, capacity)?,
        // As the clients of such interfaces expect it.
        Body::Payload => answer(StatusCode::OK, &Taken { success: true, task: &task }, capacity)?,
    };
    locate(&mut answer, &task)?;
    Ok(answer)
}

/// Says where to read a task that was recorded.
pub(super) fn locate(answer: &mut HttpResponse, task: &contract::Task) -> Result<(), Problem> {
    // A dot segment would not survive a client that resolves the address.
    let name = match task.identifier.as_str() {
        "." | ".." => task.id.to_string(),
        identifier => percent::encode(identifier),
    };
    let location = format!("/{}/{name}", task.task_type);
    answer.headers_mut().insert(header::LOCATION, location.parse().map_err(Problem::internal)?);
    Ok(())
}

/// The answer to a body that is nothing but the payload.
#[derive(Serialize)]
struct Taken<'a> {
    success: bool,
    #[serde(flatten)]
    task: &'a contract::Task,
}

pub(super) fn repeated(api: &Api, task: Task) -> Answer {
    let capacity = task.payload.get().len() + 1024;
    let approval = approvals::of_waiting(api, &task);
    answer(StatusCode::OK, &contract::Task { approval, ..task.into() }, capacity)
}
