//! What requests have done, for the audit log.
//!
//! A request that changes something is recorded once it has succeeded. The table [`ACTIONS`] names every
//! route that changes anything. Submissions and messages of workers are too many to be recorded one by one: a
//! task carries its token and address itself, and once an hour an entry accounts for all submissions.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use actix_web::dev::ServiceResponse;
use actix_web::http::Method;
use actix_web::{Error, HttpMessage, HttpRequest, rt, web};
use tracing::Instrument;

use super::auditor::ANONYMOUS;
use super::problem::Problem;
use super::route::Route;
use super::state::Api;
use super::whose;
use crate::domain::{Deed, Json, TokenName, json};

/// Requests that change something, and what the log calls them; nothing for those that are not recorded one
/// by one. `POST` of a submission comes first, because it is looked up most often.
#[rustfmt::skip]
const ACTIONS: &[(&str, &str, Option<&str>)] = &[
    ("POST",   "/{type}",                           None),
    ("POST",   "/workers/{name}/tasks",             None),
    ("POST",   "/workers/{name}/reports",           None),
    ("POST",   "/workers/{name}/presence",          None),
    ("POST",   "/tasks",                            None),
    ("POST",   "/requests",                         None),
    ("POST",   "/rollouts/plan",                    None),
    ("POST",   "/{type}/{id}/rerun",                None),
    ("DELETE", "/{type}/{id}",                      Some("task.cancel")),
    ("DELETE", "/tasks/{id}",                       Some("task.cancel")),
    ("POST",   "/tasks/cancel",                     Some("task.cancel_all")),
    ("POST",   "/queues/{type}/pause",              Some("queue.pause")),
    ("POST",   "/queues/{type}/resume",             Some("queue.resume")),
    ("POST",   "/queues/{type}/requeue",            Some("queue.requeue")),
    ("POST",   "/schedules/{name}/run",             Some("schedule.run")),
    ("POST",   "/schedules/{name}/pause",           Some("schedule.pause")),
    ("POST",   "/schedules/{name}/resume",          Some("schedule.resume")),
    ("DELETE", "/requests/{token}",                 Some("request.cancel")),
    ("POST",   "/requests/{token}/retry",           Some("request.retry")),
    ("POST",   "/rollouts",                         Some("rollout.submit")),
    ("PATCH",  "/rollouts/{id}",                    Some("rollout.edit")),
    ("POST",   "/rollouts/{id}/start",              Some("rollout.start")),
    ("POST",   "/rollouts/{id}/pause",              Some("rollout.pause")),
    ("POST",   "/rollouts/{id}/resume",             Some("rollout.resume")),
    ("POST",   "/rollouts/{id}/abort",              Some("rollout.abort")),
    ("POST",   "/rollouts/{id}/approve",            Some("rollout.approve")),
    ("POST",   "/rollouts/{id}/refuse",             Some("rollout.refuse")),
    ("POST",   "/rollouts/{id}/skip",               Some("rollout.skip")),
    ("POST",   "/rollouts/{id}/retry",              Some("rollout.retry")),
    ("POST",   "/rollouts/{id}/rerun",              Some("rollout.rerun")),
    ("DELETE", "/rollouts/holds/{lane}/{endpoint}", Some("rollout.free_hold")),
    ("POST",   "/endpoints/{name}/enrolment",       Some("endpoint.enroll")),
    ("DELETE", "/endpoints",                        Some("endpoint.forget_all")),
    ("DELETE", "/endpoints/{name}",                 Some("endpoint.forget")),
    ("PUT",    "/groups/{name}",                    Some("group.write")),
    ("DELETE", "/groups/{name}",                    Some("group.delete")),
    ("POST",   "/session",                          Some("session.begin")),
    ("DELETE", "/session",                          Some("session.end")),
];

/// What a handler knows of its request beyond the route.
#[derive(Debug, Default)]
pub struct Particulars {
    /// Who it is, if the body of the request has shown it.
    pub actor: Option<String>,
    /// What else is to be known.
    pub detail: Option<Json>,
    /// Whether nothing was changed, so that there is nothing to record.
    pub nothing: bool,
}

/// Tells the audit log to how many tasks a request has done this. A request that did it to none is not
/// recorded.
pub fn count(request: &HttpRequest, done: &str, number: u32) {
    let detail = json(&serde_json::json!({ done: number }));
    let particulars = Particulars { detail: Some(detail), nothing: number == 0, ..Particulars::default() };
    request.extensions_mut().insert(particulars);
}

/// What the log calls a request; nothing for one that is not recorded.
pub fn action(method: &Method, route: &Route) -> Option<&'static str> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let row = ACTIONS.iter().find(|(of, at, _)| *of == method.as_str() && *at == route.pattern);
    row.and_then(|(_, _, action)| *action)
}

/// Answers a request that has this [`action`], and records it. Both are done to the end, also if the client
/// hangs up: otherwise the work that the handler has begun would be done without an entry.
pub async fn done<B: 'static>(
    call: impl Future<Output = Result<ServiceResponse<B>, Error>> + 'static,
    action: &'static str,
    request_id: String,
) -> Result<ServiceResponse<B>, Error> {
    let work = async move {
        let answered = call.await?;
        if answered.status().is_success()
            && let Some(api) = answered.request().app_data::<web::Data<Api>>()
        {
            record(api, answered.request(), action, &request_id).await;
        }
        Ok::<_, Error>(answered)
    };
    match rt::spawn(work.in_current_span()).await {
        Ok(answered) => answered,
        Err(died) => Err(Problem::internal(died).into()),
    }
}

/// Records a request that has succeeded, if it has changed something.
async fn record(api: &Api, request: &HttpRequest, action: &str, request_id: &str) {
    let particulars = request.extensions_mut().remove::<Particulars>().unwrap_or_default();
    if particulars.nothing {
        return;
    }
    let token = whose::token_name(request);
    let actor = particulars.actor.as_deref().or(token.as_ref().map(TokenName::as_str)).unwrap_or(ANONYMOUS);
    let source = source(request).map_or_else(String::new, |peer| peer.to_string());
    let deed = Deed::new(actor, action, request.match_info().as_str(), &source).asked_by(request_id);
    let deed = match particulars.detail {
        Some(detail) => deed.with(detail),
        None => deed,
    };
    let audit = Arc::clone(&api.audit);
    // It has come to an end either way, and `add` has told what went wrong.
    let _ = api
        .run(async move {
            audit.add(vec![deed]).await;
            Ok::<_, Problem>(())
        })
        .await;
}

/// The address that a request came from.
pub fn source(request: &HttpRequest) -> Option<IpAddr> {
    request.peer_addr().map(|peer| peer.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::routes::ROUTES;

    #[test]
    fn whatever_changes_something_has_a_row() {
        let changes = ROUTES.iter().flat_map(|route| {
            let operations = route.operations.iter().filter(|operation| operation.method != "GET");
            operations.map(|operation| (operation.method, route.pattern))
        });
        let rows: BTreeSet<_> = ACTIONS.iter().map(|(method, pattern, _)| (*method, *pattern)).collect();
        assert_eq!(rows.len(), ACTIONS.len(), "a row is there twice");
        assert_eq!(rows, changes.collect(), "left: rows, right: routes");
    }
}
