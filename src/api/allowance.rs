//! The quotas that need more than the headers of a request: how many open tasks its token has, and how many
//! endpoints a task reaches.

use std::sync::Arc;

use actix_web::HttpRequest;

use super::problem::Problem;
use super::state::Api;
use super::{access, target};
use crate::config::TypePolicy;
use crate::contract::{ProblemCode, ProblemItem};
use crate::domain::NewTask;

/// Whether the token of a request may have so many more open tasks.
///
/// # Errors
/// When it would have more open tasks than it may, or the ledger cannot be read.
pub async fn check_open(api: &Api, request: &HttpRequest, more: usize) -> Result<(), Problem> {
    let Some(token) = access::token_of(request) else { return Ok(()) };
    let Some(most) = token.quota.open else { return Ok(()) };
    let more = u32::try_from(more).unwrap_or(u32::MAX);
    loop {
        if let Some(verdict) = api.quotas.add_open(&token, most, more) {
            return verdict;
        }
        let (store, name) = (Arc::clone(&api.state.store), token.name.clone());
        let count = api.run(async move { store.open_tasks_of(&name).await }).await?;
        api.quotas.keep_open(&token, count);
    }
}

/// Whether a task is for no more endpoints than the token of a request may reach with one.
///
/// # Errors
/// [`ProblemCode::InvalidSubmission`] when it is for more, or the ledger cannot be read.
pub async fn check_reach(
    api: &Api,
    request: &HttpRequest,
    policy: &TypePolicy,
    task: &NewTask,
) -> Result<(), Problem> {
    let Some(most) = access::token_of(request).and_then(|token| token.quota.endpoints) else { return Ok(()) };
    let reached = match task.endpoints.len() {
        0 if task.place.is_some() => 1,
        0 => target::everybody(api, policy, task).await?,
        named => named,
    };
    match reached <= most as usize {
        true => Ok(()),
        false => Err(Problem::invalid(
            ProblemCode::InvalidSubmission,
            vec![ProblemItem::new(
                "/endpoints",
                format!("the task is for {reached} endpoints, and this token may reach {most} with one"),
            )],
        )),
    }
}

/// Refuses what starts many tasks by and by, if the token of a request has a limit of endpoints: none of
/// these tasks shows how many endpoints all of them reach.
///
/// # Errors
/// When the token has such a limit.
pub fn check_unbounded(request: &HttpRequest, what: &str) -> Result<(), Problem> {
    match access::token_of(request).and_then(|token| token.quota.endpoints) {
        None => Ok(()),
        Some(most) => Err(Problem::insufficient_scope(format!(
            "this token may reach {most} endpoints with a task, so it submits no {what}"
        ))),
    }
}
