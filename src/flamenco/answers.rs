//! Answers requests: routes each to its handler, and limits the time.

use std::sync::Arc;

use serde_json::json;

use super::reply::{Reply, Request};
use super::route::{Call, Route, route};
use super::site::Site;
use super::{people_side, worker_side};

/// Answers a request. A worker waits for three seconds, so that an answer that is late is as good as none.
pub(super) async fn answer(site: Arc<Site>, request: Request) -> Reply {
    let within = site.settings.times.answer;
    match route(&request.method, &request.path) {
        Route::WrongMethod => Reply::empty(405),
        Route::Elsewhere(path) => Reply::empty(301).with("Location", path),
        Route::Unknown => Reply::text(404, format!("there is no {}", request.path)),
        Route::To(call) => match tokio::time::timeout(within, answer_call(&site, call, &request)).await {
            Ok(reply) => reply,
            Err(_) => {
                tracing::warn!(path = %request.path, ?within, "a request was not answered in time");
                in_trouble(call, "the manager did not answer in time")
            }
        },
    }
}

async fn answer_call(site: &Site, call: Call<'_>, request: &Request) -> Reply {
    let answered = match people_side::is_for_people(call) {
        true => people_side::answer(site, call, request).await,
        false => worker_side::answer(site, call, request).await,
    };
    answered.unwrap_or_else(|error| {
        tracing::error!(path = %request.path, %error, "a request could not be answered");
        in_trouble(call, "the manager cannot use its database")
    })
}

/// The answer while the manager itself is in trouble. A worker that asks whether it may go on does so; one that gets no JSON here never
/// asks again.
fn in_trouble(call: Call<'_>, why: &str) -> Reply {
    match call {
        Call::MayRun(_) => Reply::json(200, &json!({"may_keep_running": true})),
        Call::Return(_) => Reply::json(500, &json!({"message": why})),
        _ => Reply::text(500, why),
    }
}
