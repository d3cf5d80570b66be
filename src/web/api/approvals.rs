//! `POST /{type}/{id}/approvals`: a further person signs a task that waits for that.
//!
//! A task waits for approval if the trust file of the API (`security.trust`) asks for more signatures than its
//! order has. It is recorded like other tasks: its identifier is taken, and it can be read, canceled and
//! explained. It is not due before it expires, so nobody publishes it, and no endpoint is expected to perform it.
//! The signatures are part of its payload. Nothing else is kept, so nothing can differ from what endpoints count.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use serde_json::json;

use super::named::{self, TaskName};
use super::problem::Problem;
use super::query::Query;
use super::{Answer, Api, answer, deeds};
use crate::contract::{self, Approved, ProblemCode, ProblemItem, SignatureOfKey, TaskApproval};
use crate::domain::{Json, NewTask, OrderSignature, Ordered, Reason, Task, TaskType};
use crate::signing::{Approval, Denial};
use crate::store::Release;

/// Bytes of a signature with its key at most.
const LONGEST_BODY: usize = 4 << 10;

/// How often a signature is added to a payload that another one has been added to meanwhile.
const TRIES: u32 = 8;

/// How far a submission is approved whose task has to wait; none if it has all signatures, or needs none.
///
/// # Errors
/// When it can never count: `place` says where the payload stands in the body.
pub(super) fn lacking(api: &Api, task: &NewTask, place: &str) -> Result<Option<Approval>, Problem> {
    let Some(approvers) = &api.state.approvers else { return Ok(None) };
    let approval = approvers.approval(&task.task_type, &task.payload, api.now()?);
    let denied = |Denial { fault, reason, .. }: Denial| match Ordered::is_in(&task.payload) {
        true => refused(place, format!("endpoints would refuse it as {fault}: {reason}")),
        // It was never signed, and the reason says how to do that.
        false => refused(place, reason),
    };
    let lacking = approval.map_err(denied)?.filter(|approval| !approval.is_complete());
    match lacking {
        Some(approval) if task.place.is_some() => {
            let why = "tasks of a work queue do not wait for others: `tasker key sign --order` adds their signatures";
            Err(refused(place, format!("{}; {why}", told(&approval))))
        }
        lacking => Ok(lacking),
    }
}

/// The same for one of many submissions, which must be complete.
pub(super) fn complete(api: &Api, task: &NewTask, place: &str) -> Result<(), Problem> {
    match lacking(api, task, place)? {
        None => Ok(()),
        Some(approval) => {
            let why = "only a task that is submitted by itself waits for the others";
            Err(refused(place, format!("{}; {why}", told(&approval))))
        }
    }
}

fn refused(place: &str, message: String) -> Problem {
    Problem::invalid(ProblemCode::InvalidSubmission, vec![ProblemItem::new(place, message)])
}

/// How far a task is approved that waits for it.
pub(super) fn of_waiting(api: &Api, task: &Task) -> Option<TaskApproval> {
    let approval = if task.held { of(api, &task.task_type, &task.payload).ok() } else { None };
    approval.flatten().map(shown)
}

fn of(api: &Api, task_type: &TaskType, payload: &Json) -> Result<Option<Approval>, Denial> {
    let (Some(approvers), Ok(now)) = (&api.state.approvers, api.now()) else { return Ok(None) };
    approvers.approval(task_type, payload, now)
}

/// That a task waits for approval, where it does. The trust file may have changed meanwhile.
pub(super) fn reason(api: &Api, task: &Task) -> Option<Reason> {
    if !task.held {
        return None;
    }
    let text = match of(api, &task.task_type, &task.payload) {
        Ok(Some(approval)) if approval.is_complete() => {
            let who = approval.signed.join(", ");
            format!(
                "by the trust file as it is now enough persons have signed the task: `tasker approve` by one of {who} publishes it"
            )
        }
        Ok(Some(approval)) => {
            format!("{}; it waits for others ({})", told(&approval), approval.others.join(", "))
        }
        Ok(None) => format!(
            "the task waits for signatures, and this API knows nobody who signs tasks of `{}` (security.trust): cancel it, and submit it again",
            task.task_type
        ),
        Err(Denial { reason, .. }) => {
            format!(
                "the task waits for signatures, which none can be added to any more: {reason}; cancel it, and submit it again"
            )
        }
    };
    Some(Reason::waits_for_approval(text, task))
}

pub(super) fn shown(Approval { signed, others, needed, .. }: Approval) -> TaskApproval {
    TaskApproval { signed, others, needed: u32::try_from(needed).unwrap_or(u32::MAX) }
}

/// How far, for people.
fn told(Approval { signed, needed, .. }: &Approval) -> String {
    format!("{} of {needed} persons have signed it ({})", signed.len(), signed.join(", "))
}

/// Adds the signature of a person to a task that waits for approval.
///
/// The body is the signature of the order in the payload of the task, as `tasker approve` makes it. With the
/// last signature that is needed the task waits no longer, and is published within a second. A signature of a
/// person who has signed before changes nothing, unless the trust file asks for fewer persons meanwhile. Every endpoint counts the signatures itself.
#[utoipa::path(
    post, path = "/{type}/{id}/approvals", operation_id = "approveTask", tag = "tasks",
    params(
        ("type" = String, Path, description = "A configured task type"),
        ("id" = String, Path, description = "The identifier, percent-encoded; or our id"),
    ),
    request_body(content = SignatureOfKey, content_type = "application/json"),
    responses(
        (status = 200, description = "How far the task is approved now", body = Approved),
        (status = 404, description = "`unknown_task_type`, `unknown_task`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 409, description = "`not_waiting`: the task waits for no approval, or no longer", body = contract::Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_approval`: it is not the signature of a person who may sign the task", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn approve_task(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    let policy = named::task_type(&api, &request)?;
    let name = TaskName::of(&request)?;
    Query::new(request.query_string()).finish()?;
    let invalid = |place: &str, message: String| {
        Problem::invalid(ProblemCode::InvalidApproval, vec![ProblemItem::new(place, message)])
    };
    let signature: OrderSignature =
        api.read(&request, payload, LONGEST_BODY, |message| invalid("", message)).await?;
    let Some(approvers) = &api.state.approvers else {
        let detail = "this API knows no persons who approve tasks: security.trust names no trust file";
        return Err(Problem::new(ProblemCode::NotWaiting, detail));
    };
    for _ in 0..TRIES {
        let task = named::task(&api, &request, policy, &name).await?;
        let now = api.now()?;
        let added = approvers.add(&task.task_type, &task.payload, signature.clone(), now);
        let waits = task.held && task.expires_at > now;
        let (signed, approval) = match added {
            Ok((signed, approval)) if waits || signed.get() == task.payload.get() => (signed, approval),
            Err(Denial { reason, .. }) if waits => return Err(invalid("/sig", reason)),
            _ => {
                let detail = format!("the task is {} and waits for no approval", task.status.as_str());
                return Err(Problem::new(ProblemCode::NotWaiting, detail));
            }
        };
        let (by, released, until) = (signature.by, approval.is_complete(), approval.until);
        let approved = Approved {
            id: task.id,
            identifier: task.identifier.clone(),
            task_type: task.task_type.clone(),
            approval: shown(approval),
        };
        // This person has signed before. That is enough now if the trust file asks for fewer meanwhile.
        if signed.get() == task.payload.get() && !(waits && released) {
            deeds::nothing(&request);
            return answer(StatusCode::OK, &approved, 1024);
        }
        // Both times count from the release, as if the task had been submitted now.
        let expires_at = now.after(policy.expires_after).min(until);
        let receive_by = now.after(policy.wait_for_endpoints_timeout).min(expires_at);
        let release = released.then_some(Release { due_at: now, receive_by, expires_at });
        let (store, id, before) = (Arc::clone(&api.state.store), task.id, task.payload.clone());
        if api.run(async move { store.approve(id, &before, &signed, release, now).await }).await? {
            tracing::info!(task = %id, task_type = %approved.task_type, key = %by, released, "a task was approved");
            deeds::tell(
                &request,
                json!({"key": by.to_string(), "signed": approved.approval.signed, "needed": approved.approval.needed, "released": released}),
            );
            return answer(StatusCode::OK, &approved, 1024);
        }
    }
    let detail = "the task was changed again and again meanwhile, or is being published: try again";
    Err(Problem::new(ProblemCode::NotWaiting, detail))
}
