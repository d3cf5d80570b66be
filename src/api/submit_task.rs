//! `POST /{type}`: takes a submission.

use std::sync::Arc;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, web};
use serde::Serialize;

use super::problem::{Code, Item, Problem, ProblemBody};
use super::submission::{self, Submission, SubmissionBody};
use super::view::TaskView;
use super::{Answer, Api, answer, percent};
use crate::admission::{Fault, reserved};
use crate::config::{Body, TypePolicy};
use crate::domain::{NewTask, Task};
use crate::store::Accepted;

/// Submits a task.
///
/// Answers once the task is recorded; from then on it will be performed, whatever happens to this process or the broker.
/// The same submission again answers 200 with the task that is there, so a request that got no answer can simply be repeated.
#[utoipa::path(
    post, path = "/{type}", operation_id = "submitTask", tag = "tasks",
    params(("type" = String, Path, description = "A configured task type")),
    request_body(content = SubmissionBody, content_type = "application/json"),
    responses(
        (status = 201, description = "Recorded", body = TaskView, headers(("Location" = String, description = "Where to read the task"))),
        (status = 200, description = "The same submission was made before: the task as it stands", body = TaskView),
        (status = 400, description = "`invalid_json`, `incomplete_body`, `bad_path`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_task_type`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "`body_timeout`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`identifier_conflict`: other content under the same identifier", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_submission`, with every problem", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_submissions`", body = ProblemBody, content_type = "application/problem+json", headers(("Retry-After" = u32))),
        (status = 500, description = "`internal`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "`database_unavailable`, `overloaded`", body = ProblemBody, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn submit_task(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    let policy = api.task_type(&request)?;
    let body = api.body(&request, payload, api.state.config.api.body_limit).await?;
    let text = body.json()?;
    let submission = match policy.body {
        Body::Envelope => submission::parse(text, policy).map_err(|problems| Problem::invalid(Code::InvalidSubmission, problems))?,
        Body::Payload => Submission::bare(text).map_err(|problem| Problem::invalid(Code::InvalidSubmission, vec![problem]))?,
    };
    drop(body);
    let Submission { identifier, payload, asked } = submission;
    if let Some(reason) = reserved(&api.state.config, &policy.name, &identifier) {
        return Err(Problem::invalid(Code::InvalidSubmission, vec![Item::new("/identifier", reason)]));
    }
    let root = match policy.body {
        Body::Envelope => "/payload",
        Body::Payload => "",
    };
    let item = |fault: Fault| Item::new(format!("{root}{}", fault.pointer), fault.message);
    let task = api.state.admission.task(policy, identifier, payload, asked, api.now()?);
    let task = task.map_err(|faults| Problem::invalid(Code::InvalidSubmission, faults.into_iter().map(item).collect()))?;
    record(&api, policy, task).await
}

/// How often a submission is tried whose twin was forgotten between being found and being read.
const TRIES: u32 = 3;

async fn record(api: &Api, policy: &TypePolicy, task: NewTask) -> Answer {
    for _ in 0..TRIES {
        let (acceptor, submitted) = (api.state.acceptor.clone(), task.clone());
        match api.run(async move { acceptor.submit(submitted).await }).await? {
            Accepted::New | Accepted::Given(_) => return created(policy, &task),
            Accepted::Existing { id, same: false } => return Err(Problem::identifier_conflict(id)),
            Accepted::Existing { id, same: true } => {
                let store = Arc::clone(&api.state.store);
                if let Some(existing) = api.run(async move { store.find(id).await }).await? {
                    return repeated(&existing);
                }
            }
        }
    }
    Err(Problem::internal("a task of this identifier is found and then not, again and again"))
}

fn created(policy: &TypePolicy, task: &NewTask) -> Answer {
    let capacity = task.payload.get().len() + 1024;
    let mut answer = match policy.body {
        Body::Envelope => answer(StatusCode::CREATED, &TaskView::accepted(task), capacity)?,
        // As the clients of such interfaces expect it.
        Body::Payload => answer(StatusCode::OK, &Taken { success: true, task: TaskView::accepted(task) }, capacity)?,
    };
    // A dot segment would not survive a client that resolves the address.
    let name = match task.identifier.as_str() {
        "." | ".." => task.id.to_string(),
        identifier => percent::encode(identifier),
    };
    let location = format!("/{}/{name}", task.task_type);
    answer.headers_mut().insert(header::LOCATION, location.parse().map_err(Problem::internal)?);
    Ok(answer)
}

/// The answer to a body that is nothing but the payload.
#[derive(Serialize)]
struct Taken<'a> {
    success: bool,
    #[serde(flatten)]
    task: TaskView<'a>,
}

fn repeated(task: &Task) -> Answer {
    answer(StatusCode::OK, &TaskView::of(task), task.payload.get().len() + 1024)
}
