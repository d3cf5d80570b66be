//! The quotas that need more than the headers of a request: how many open tasks its token has, and how many
//! endpoints a task reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use actix_web::HttpRequest;

use super::problem::Problem;
use super::quotas::Added;
use super::state::Api;
use super::{access, target};
use crate::config::TypePolicy;
use crate::contract::{ProblemCode, ProblemItem};
use crate::domain::{Identifier, NewTask, TaskType, Token};

/// Tasks that were added to the open ones of a token, see [`Quotas`](super::quotas::Quotas).
#[derive(Debug)]
#[must_use]
pub struct Counted(Option<(Arc<Token>, Added)>);

impl Counted {
    /// Takes back those that were submitted before: only so many were new.
    pub fn settle(self, api: &Api, new: usize) {
        if let Some((token, added)) = self.0 {
            api.quotas.take_back(&token, &added, u32::try_from(new).unwrap_or(u32::MAX));
        }
    }
}

/// Whether the token of a request may have so many more open tasks.
///
/// # Errors
/// When it would have more open tasks than it may, or the ledger cannot be read.
pub async fn check_open(api: &Api, request: &HttpRequest, more: usize) -> Result<Counted, Problem> {
    let Some(token) = access::token_of(request) else { return Ok(Counted(None)) };
    let Some(most) = token.quota.open else { return Ok(Counted(None)) };
    let more = u32::try_from(more).unwrap_or(u32::MAX);
    loop {
        if let Some(verdict) = api.quotas.add_open(&token, most, more) {
            return verdict.map(|added| Counted(Some((token, added))));
        }
        let (store, name) = (Arc::clone(&api.state.store), token.name.clone());
        let count = api.run(async move { store.open_tasks_of(&name).await }).await?;
        api.quotas.keep_open(&token, count);
    }
}

/// The same for these submissions. Those that were made before are looked for if all of them would be too
/// many: repeating a submission is never too much.
///
/// # Errors
/// When it would have more open tasks than it may, or the ledger cannot be read.
pub async fn check_submissions(
    api: &Api,
    request: &HttpRequest,
    tasks: impl Iterator<Item = &NewTask> + Clone,
) -> Result<Counted, Problem> {
    let all = tasks.clone().count();
    let refused = match check_open(api, request, all).await {
        Err(problem) if problem.code() == ProblemCode::QuotaExceeded => problem,
        verdict => return verdict,
    };
    let mut by_type: BTreeMap<TaskType, BTreeSet<Identifier>> = BTreeMap::new();
    for task in tasks {
        by_type.entry(task.task_type.clone()).or_default().insert(task.identifier.clone());
    }
    let mut new: usize = by_type.values().map(BTreeSet::len).sum();
    for (task_type, identifiers) in by_type {
        let (store, identifiers) = (Arc::clone(&api.state.store), Vec::from_iter(identifiers));
        let taken = async move { store.taken_identifiers(&task_type, &identifiers).await };
        new -= api.run(taken).await?.len();
    }
    match new {
        0 => Ok(Counted(None)),
        new if new == all => Err(refused),
        new => check_open(api, request, new).await,
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
