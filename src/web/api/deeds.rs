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
use serde_json::{Value, json};
use tracing::Instrument;

use super::auditor::ANONYMOUS;
use super::problem::Problem;
use super::route::Route;
use super::state::Api;
use super::whose;
use crate::domain::{self, Deed, Json, TokenName};

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
    ("POST",   "/{type}/{id}/approvals",            Some("task.approve")),
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

/// Bytes of what an entry tells of a request at most: a body may have names of a whole fleet.
const LONGEST_DETAIL: usize = 16 << 10;

/// Tells the audit log what a request has changed. Payloads are left out.
pub fn tell(request: &HttpRequest, detail: Value) {
    let detail = Some(kept(detail));
    request.extensions_mut().insert(Particulars { detail, ..Particulars::default() });
}

/// Tells the audit log to how many of the tasks that a filter means a request has done this. A request that
/// did it to none is not recorded.
pub fn count(request: &HttpRequest, done: &str, number: u32, filter: &Value) {
    match number {
        0 => nothing(request),
        _ => tell(request, json!({ done: number, "filter": filter })),
    }
}

/// Tells the audit log that a request has changed nothing, and is not to be recorded.
pub fn nothing(request: &HttpRequest) {
    request.extensions_mut().insert(Particulars { nothing: true, ..Particulars::default() });
}

/// What an entry tells.
fn kept(mut detail: Value) -> Json {
    leave_payloads_out(&mut detail);
    let length = detail.to_string().len();
    if length > LONGEST_DETAIL {
        let members: Vec<String> =
            detail.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        detail = json!({"members": members, "bytes": length});
    }
    domain::json(&detail)
}

/// Leaves out payloads, which may have secrets. Answers whether there were any.
pub fn leave_payloads_out(value: &mut Value) -> bool {
    let mut were = false;
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                were |= match name.as_str() {
                    "payload" => {
                        *value = "not recorded".into();
                        true
                    }
                    _ => leave_payloads_out(value),
                };
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| were |= leave_payloads_out(item)),
        _ => {}
    }
    were
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
    fn an_entry_tells_no_payload_and_stays_small() {
        let told = |detail| kept(detail).get().to_owned();
        assert_eq!(
            told(json!({"set": {"probe": {"type": "check", "payload": {"key": "s3cr3t"}}, "window": 2}})),
            r#"{"set":{"probe":{"payload":"not recorded","type":"check"},"window":2}}"#
        );
        assert_eq!(
            told(json!({"waves": [{"probe": {"payload": 1}}]})),
            r#"{"waves":[{"probe":{"payload":"not recorded"}}]}"#
        );
        let names: Vec<String> = (0..5_000).map(|n| format!("web{n}")).collect();
        let told = told(json!({"set": {"waves": [{"endpoints": names}]}}));
        assert!(told.starts_with(r#"{"bytes":"#) && told.ends_with(r#""members":["set"]}"#), "{told}");
    }

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
