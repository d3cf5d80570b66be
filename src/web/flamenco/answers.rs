//! Answers requests: routes each to its handler, and limits the time.
//!
//! A request is let in by its head alone; only then its body is read.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, timeout};

use super::reply::{Reply, Request};
use super::route::{Call, PersonCall, Route, WorkerCall, route};
use super::site::Site;
use super::{people_side, worker_side};
use crate::farm::ObjectId;
use crate::request_body::{Body, BodyError};
use crate::store::Result;

/// Who sends a request, and may.
#[derive(Debug, Clone, Copy)]
enum Caller {
    /// Whoever registers.
    Newcomer,
    /// The worker that has shown its secret.
    Worker(ObjectId, WorkerCall),
    /// Somebody who looks after the farm.
    Person(PersonCall),
}

/// A request that was let in.
#[derive(Debug)]
pub(super) struct Admitted {
    pub call: Call,
    caller: Caller,
    request: Request,
    /// What is left of the time for an answer. The time that the body takes is the worker's own.
    within: Duration,
}

/// Lets a request in, or answers it.
pub(super) async fn admit(site: Arc<Site>, request: Request) -> Result<Admitted, Reply> {
    let call = match route(&request.method, &request.path) {
        Route::To(call) => call,
        Route::WrongMethod => return Err(Reply::empty(405)),
        Route::Elsewhere(path) => return Err(Reply::empty(301).with("Location", path)),
        Route::Unknown => return Err(Reply::text(404, format!("there is no {}", request.path))),
    };
    let begin = Instant::now();
    let caller = within(&site, site.settings.times.answer, call, caller(&site, call, &request)).await??;
    let within = site.settings.times.answer.saturating_sub(begin.elapsed());
    Ok(Admitted { call, caller, request, within })
}

/// Who sends a request; or why it is not let in.
async fn caller(site: &Site, call: Call, request: &Request) -> Result<Result<Caller, Reply>> {
    Ok(match call {
        Call::Register => worker_side::refused_newcomer(site, request).map_or(Ok(Caller::Newcomer), Err),
        Call::Worker(call) => match worker_side::who(site, request).await? {
            Some(worker) => Ok(Caller::Worker(worker, call)),
            None => Err(worker_side::unauthorized(call)),
        },
        Call::Person(call) => people_side::refused(site, call, request).map_or(Ok(Caller::Person(call)), Err),
    })
}

/// Answers a request. A worker waits for three seconds, so that an answer that is late is as good as none.
pub(super) async fn answer(site: Arc<Site>, admitted: Admitted, body: Body) -> Reply {
    let Admitted { call, caller, request, within: left } = admitted;
    let answered = async {
        match caller {
            Caller::Newcomer => worker_side::register(&site, &request, body).await,
            Caller::Worker(worker, call) => worker_side::answer(&site, worker, call, &request, body).await,
            Caller::Person(call) => people_side::answer(&site, call, &request, body).await,
        }
    };
    within(&site, left, call, answered).await.unwrap_or_else(|reply| reply)
}

/// Does something for an answer in time; or answers that there is trouble.
async fn within<T>(
    site: &Site,
    limit: Duration,
    call: Call,
    done: impl Future<Output = Result<T>>,
) -> Result<T, Reply> {
    match timeout(limit, done).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            tracing::error!(?call, %error, "a request could not be answered");
            Err(in_trouble(call, 500, "the manager cannot use its database"))
        }
        Err(_) => {
            tracing::warn!(?call, within = ?site.settings.times.answer, "a request was not answered in time");
            Err(in_trouble(call, 500, "the manager did not answer in time"))
        }
    }
}

/// The answer to a request whose body cannot be had.
pub(super) fn without_body(call: Call, error: &BodyError) -> Reply {
    let status = match error {
        // A worker drops what gets this answer; anything else it would send again for ever, and all later
        // reports would wait.
        BodyError::TooLong { .. } if matches!(call, Call::Worker(WorkerCall::Update(_))) => 409,
        BodyError::TooLong { .. } => 413,
        BodyError::Late => 408,
        BodyError::Incomplete(_) => 400,
        BodyError::Overloaded => 503,
    };
    in_trouble(call, status, &error.to_string())
}

/// The answer while the manager itself is in trouble. A worker that asks whether it may go on does so; one
/// that gets no JSON here never asks again.
fn in_trouble(call: Call, status: u16, why: &str) -> Reply {
    match call {
        Call::Worker(WorkerCall::MayRun(_)) => Reply::json(200, &json!({"may_keep_running": true})),
        Call::Worker(WorkerCall::Return(_)) => Reply::json(status, &json!({"message": why})),
        _ => Reply::text(status, why),
    }
}
