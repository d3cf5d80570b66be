//! How many requests may wait, and what is told of those that were refused for who sent them.

use std::time::Duration;

use serde_json::json;
use tasker::api::Limits;
use tasker::domain::Scope;
use uuid::Uuid;

use crate::api_access::{create, guarded, with};
use crate::api_rig::{Answer, PATIENCE, Rig};

const ONE: &str = "tasker_one-of-two-secrets-in-here";
const OTHER: &str = "tasker_the-other-of-the-two-secrets";

#[track_caller]
fn full(answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status, answer.code().as_str(), answer.header("retry-after")),
        (status, code, "1"),
        "{answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_wait_leave_room_for_those_of_other_tokens() {
    let rig = Rig::start_with(Limits { waits: 2, waits_per_token: 1, ..Limits::default() }).await;
    let id = rig.submit("t", &["console1"]).await;
    rig.freeze(id, &["console1"]).await;
    for secret in [ONE, OTHER] {
        create(&rig, secret, &[Scope::Read], &[]).await;
        assert_eq!(with(&rig, secret, "GET", "/").await.status, 200);
    }
    let ask = |secret: &str, wait: &str| {
        rig.send(rig.request("GET", &format!("/worker/t?responses=none{wait}")).bearer_auth(secret))
    };
    let refuse = async {
        // As soon as the first waits, a second one of the same token finds no place.
        rig.until_waiting(1).await;
        full(&ask(ONE, "&wait=60s").await, 429, "too_many_waits");
        assert_eq!(ask(ONE, "").await.status, 200, "what does not wait needs no place");
        assert_eq!(ask(OTHER, "&wait=10ms").await.status, 200, "another token has a place of its own");
        rig.begin_stop();
    };
    let (waited, ()) = tokio::join!(ask(ONE, "&wait=60s"), refuse);
    assert_eq!(waited.status, 200);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_waits_leaves_room_for_other_workers() {
    let config = "task_types: [{name: builds, delivery: queue}]\napi: {port: 0}";
    let rig =
        Rig::start_as(config, Limits { waits_per_worker: 1, workers_per_token: 2, ..Limits::default() })
            .await;
    let body = |wait_ms: u64| json!({"session": Uuid::nil(), "types": ["builds"], "all": true, "known": [], "stopped": [], "wait_ms": wait_ms});
    let ask = |worker: &str, wait_ms: u64| {
        let request = rig
            .request("POST", &format!("/workers/{worker}/tasks"))
            .header("Content-Type", "application/json");
        rig.send(request.body(body(wait_ms).to_string()))
    };
    let refuse = async {
        // The first is on its way: it waits from the moment that another of its name finds no place.
        let full_for = async |worker: &str| {
            loop {
                let answer = ask(worker, 1).await;
                if answer.status != 200 {
                    return answer;
                }
            }
        };
        full(&full_for("a").await, 429, "too_many_waits");
        full(&full_for("b").await, 429, "too_many_waits");
        full(&full_for("c").await, 429, "too_many_waits");
        assert_eq!(ask("a", 0).await.status, 200, "what does not wait needs no place");
        rig.begin_stop();
    };
    // A question of `full_for` may hold the place for its millisecond.
    let wait = async |worker: &str| while ask(worker, 60_000).await.status != 200 {};
    let all = async { tokio::join!(wait("a"), wait("b"), refuse) };
    tokio::time::timeout(PATIENCE, all).await.expect("refused and stopped in time");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_refused_for_who_sends_them_are_counted() {
    let rig = guarded().await;
    create(&rig, ONE, &[Scope::Submit], &[]).await;
    assert_eq!(with(&rig, ONE, "POST", "/worker").await.status, 201);
    let before = rig.state.metrics.render();
    assert!(!before.contains("code=\"insufficient_scope\""), "{before}");
    let refused = [
        (with(&rig, ONE, "GET", "/").await.status, 403),
        (with(&rig, "tasker_a-guess", "GET", "/").await.status, 401),
        (with(&rig, "tasker_another-guess", "GET", "/").await.status, 401),
        (rig.get("/").await.status, 401),
        (rig.send(rig.request("GET", "/").header("Origin", "http://evil.example")).await.status, 403),
    ];
    assert!(refused.iter().all(|(status, wanted)| status == wanted), "{refused:?}");
    let after = rig.state.metrics.render();
    for (code, count) in
        [("insufficient_scope", 1), ("invalid_token", 2), ("token_needed", 1), ("cross_site", 1)]
    {
        let line = format!("tasker_http_refused_total{{code=\"{code}\"}} {count}");
        assert!(after.lines().any(|told| told == line), "{line} in {after}");
    }
    // What is wrong with a request for another reason is no refusal of its sender.
    assert_eq!(with(&rig, ONE, "POST", "/unheard-of").await.status, 404);
    assert_eq!(
        after.matches("tasker_http_refused_total{").count(),
        rig.state.metrics.render().matches("tasker_http_refused_total{").count()
    );
    tokio::time::timeout(Duration::from_secs(60), rig.stop()).await.expect("it stops");
}
