//! Many tasks in one request: submitted, canceled, queued again.

use std::time::Duration;

use serde_json::{Value, json};
use tasker::admission::{Admission, Asked};
use tasker::api::Limits;
use tasker::config::Config;
use tasker::domain::{PresenceState, ReportEvent, Scope};

use crate::api_access::{create, guarded};
use crate::api_rig::{Answer, Rig, finished};

const QUEUE: &str = "task_types: [{name: builds, delivery: queue}, {name: keyed, delivery: queue, unique_key: /key}, worker]\napi: {port: 0}";

async fn bulk(rig: &Rig, path: &str, body: Value) -> Answer {
    rig.post(path, body.to_string()).await
}

fn sums(answer: &Answer) -> [u64; 4] {
    assert_eq!(answer.status, 200, "{answer:?}");
    let sums = answer.json();
    ["matched", "done", "refused", "left"]
        .map(|name| sums[name].as_u64().unwrap_or_else(|| panic!("{name}: {sums}")))
}

async fn submit(rig: &Rig, task_type: &str, identifiers: &[&str]) {
    for identifier in identifiers {
        let answer = rig.post(&format!("/{task_type}"), json!({"identifier": identifier}).to_string()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_filter_means_is_canceled_when_its_number_is_known() {
    let rig = Rig::start().await;
    submit(&rig, "worker", &["a1", "a2", "b1"]).await;
    submit(&rig, "backup", &["a3"]).await;
    assert_eq!(rig.delete("/worker/a2").await.status, 200);
    let cancel = async |body: Value| bulk(&rig, "/tasks/cancel", body).await;
    let a = json!({"identifier": "a"});
    let preview = cancel(json!({"filter": a})).await;
    assert_eq!(sums(&preview), [2, 0, 0, 2], "those that have ended do not count");
    let examples: Vec<_> = preview.json()["examples"]
        .as_array()
        .expect("examples")
        .iter()
        .map(|task| task["identifier"].to_string())
        .collect();
    assert_eq!(examples, ["\"a1\"", "\"a3\""], "oldest first");
    assert_eq!(sums(&cancel(json!({"filter": a, "expect": 2, "dry_run": true})).await), [2, 0, 0, 2]);
    let moved = cancel(json!({"filter": a, "expect": 1})).await;
    assert_eq!(
        (moved.status, moved.code(), &moved.json()["count"]),
        (409, "count_moved".to_owned(), &json!(2)),
        "{moved:?}"
    );
    assert_eq!(rig.get("/worker/a1").await.json()["task"]["status"], "CREATED", "nothing was canceled");
    assert_eq!(sums(&cancel(json!({"filter": a, "expect": 2})).await), [2, 2, 0, 0]);
    for path in ["/worker/a1", "/backup/a3"] {
        assert_eq!(rig.get(path).await.json()["task"]["status"], "CANCELED", "{path}");
    }
    assert_eq!(rig.get("/worker/b1").await.json()["task"]["status"], "CREATED");
    assert_eq!(sums(&cancel(json!({"filter": a, "expect": 0})).await), [0, 0, 0, 0]);
    for (filter, matched) in [
        (json!({"type": ["worker"]}), 1),
        (json!({"type": ["worker", "worker", "backup"], "status": ["CREATED", "SENT"]}), 1),
        (json!({"status": ["SENT"]}), 0),
        (json!({"until": "2020-01-01T00:00:00Z"}), 0),
        (json!({"since": "2020-01-01T00:00:00Z"}), 1),
        (json!({}), 1),
    ] {
        assert_eq!(sums(&cancel(json!({"filter": filter})).await)[0], matched, "{filter}");
    }
    for (body, pointer) in [
        (json!({}), ""),
        (json!({"filter": {"state": ["SENT"]}}), ""),
        (json!({"filter": {"type": ["worker", "wroker"]}}), "/filter/type/1"),
        (json!({"filter": {"status": ["DONE"]}}), "/filter/status"),
        (json!({"filter": {}, "expect": -1}), ""),
    ] {
        let answer = cancel(body.clone()).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec![pointer.to_owned()]), "{body}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_cancel_neither_fails_nor_takes_more_while_tasks_come_and_end() {
    let rig = Rig::start().await;
    submit(&rig, "worker", &["a1", "a2", "a3"]).await;
    let cancel = async |body: Value| bulk(&rig, "/tasks/cancel", body).await;
    let seen = cancel(json!({"filter": {}})).await;
    assert_eq!(sums(&seen), [3, 0, 0, 3]);
    let as_of = seen.json()["as_of"].clone();
    assert_eq!(rig.delete("/worker/a2").await.status, 200);
    submit(&rig, "worker", &["late1", "late2"]).await;
    // As many might be others than those that were counted, so fewer are as bad as more.
    for expect in [3, 5] {
        let moved = cancel(json!({"filter": {}, "expect": expect})).await;
        assert_eq!((moved.status, moved.code()), (409, "count_moved".to_owned()), "{moved:?}");
        assert_eq!(moved.json()["count"], 4, "{moved:?}");
    }
    let done = cancel(json!({"filter": {}, "expect": 3, "as_of": as_of})).await;
    assert_eq!((sums(&done), &done.json()["as_of"]), ([2, 2, 0, 0], &as_of));
    for late in ["late1", "late2"] {
        assert_eq!(rig.get(&format!("/worker/{late}")).await.json()["task"]["status"], "CREATED", "{late}");
    }
    // More that were there by then are not more than were agreed on.
    let now = cancel(json!({"filter": {}})).await.json()["as_of"].clone();
    assert_eq!(sums(&cancel(json!({"filter": {}, "expect": 1, "as_of": now})).await), [2, 1, 0, 0]);
    assert_eq!(rig.get("/worker/late1").await.json()["task"]["status"], "CANCELED", "the oldest first");
    assert_eq!(rig.get("/worker/late2").await.json()["task"]["status"], "CREATED");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_cancels_so_many_and_says_what_is_left() {
    let rig = Rig::start().await;
    for first in [0, 1000] {
        let tasks: Vec<_> =
            (first..first + 1000).map(|n| json!({"type": "worker", "identifier": format!("t{n}")})).collect();
        let answer = bulk(&rig, "/tasks", json!(tasks)).await;
        let results = answer.json()["results"].as_array().expect("results").len();
        assert_eq!((answer.status, results), (200, 1000));
    }
    submit(&rig, "worker", &["t2000"]).await;
    let cancel =
        async |expect: u64| sums(&bulk(&rig, "/tasks/cancel", json!({"filter": {}, "expect": expect})).await);
    assert_eq!(cancel(2001).await, [2001, 1000, 0, 1001]);
    assert_eq!(cancel(1001).await, [1001, 1000, 0, 1]);
    assert_eq!(cancel(1).await, [1, 1, 0, 0]);
    let left = rig.get("/worker?status=CREATED").await.json();
    assert_eq!(left["tasks"], json!([]));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_submission_of_many_has_a_verdict_in_its_place() {
    let rig = Rig::start().await;
    submit(&rig, "worker", &["there"]).await;
    rig.see("web1", &["worker"], PresenceState::Joined).await;
    let tasks = json!([
        {"type": "worker", "identifier": "new", "payload": {"n": 1.0}},
        {"type": "worker", "identifier": "there"},
        {"type": "worker", "identifier": "there", "payload": 2},
        {"type": "wroker", "identifier": "x"},
        {"type": "worker", "identifier": 3, "endpoint": "web1"},
        {"identifier": "x"},
        7,
        {"type": "backup", "identifier": "new", "endpoints": ["web1", "unheard"]},
        {"type": "worker", "identifier": "chosen", "match": "name=web*"},
        {"type": "worker", "identifier": "nobody", "match": "name=db*"},
        {"type": "worker", "identifier": "new", "payload": {"n": 1.0}},
    ]);
    for body in [tasks.clone(), json!({"tasks": tasks})] {
        let answer = bulk(&rig, "/tasks", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = answer.json();
        let results = answer["results"].as_array().expect("results");
        let told: Vec<_> = results.iter().map(|result| result["status"].as_u64().unwrap_or(0)).collect();
        let (status, code) = (
            |place: usize| &results[place]["status"],
            |place: usize| results[place]["problem"]["code"].as_str(),
        );
        let first = *status(0) == 201;
        let new = if first { 201 } else { 200 };
        assert_eq!(
            told,
            [new, 200, 409, 404, 422, 422, 422, new, new, 422, if first { told[10] } else { 200 }],
            "{answer}"
        );
        assert!(matches!(told[10], 200 | 201), "{answer}");
        assert_eq!(results[10]["task"]["id"], results[0]["task"]["id"], "one task: {answer}");
        assert_eq!(
            [2, 3, 4, 9].map(code),
            ["identifier_conflict", "unknown_task_type", "invalid_submission", "invalid_submission"]
                .map(Some)
        );
        assert_eq!(results[3]["problem"]["suggestion"], "worker");
        assert_eq!(results[2]["problem"]["existing_id"], results[1]["task"]["id"]);
        assert!(results[4]["problem"].get("request_id").is_none(), "{answer}");
        assert_eq!(results[0]["task"]["identifier"], "new");
        if first {
            assert_eq!(answer["warnings"], json!(["endpoint \"unheard\" was never heard of"]));
        }
    }
    assert_eq!(rig.get("/worker/new").await.json()["task"]["payload"], json!({"n": 1.0}));
    assert_eq!(rig.get("/worker/chosen").await.json()["task"]["endpoints"], json!(["web1"]));
    let many: Vec<_> = (0..1001).map(|n| json!({"type": "worker", "identifier": format!("m{n}")})).collect();
    for body in [json!(many), json!({}), json!("worker")] {
        assert_eq!(bulk(&rig, "/tasks", body).await.code(), "invalid_submission");
    }
    assert_eq!(rig.get("/worker/m0").await.status, 404, "none of too many was recorded");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_is_not_known_is_refused() {
    let rig = Rig::start_as(QUEUE, Limits::default()).await;
    submit(&rig, "worker", &["a"]).await;
    for path in ["/tasks", "/tasks/cancel", "/queues/builds/requeue", "/worker/a/rerun"] {
        let answer = bulk(&rig, &format!("{path}?dry=true"), json!({"identifier": "b"})).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_query".to_owned()), "{path}: {answer:?}");
    }
    let group = rig
        .request("PUT", "/groups/web?x=1")
        .header("Content-Type", "application/json")
        .body(r#"{"match": "a"}"#);
    assert_eq!(rig.send(group).await.code(), "invalid_query");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn submissions_are_recorded_together() {
    let rig = Rig::start().await;
    let before = rig.state.metrics.accept_batch.get_sample_count();
    let tasks: Vec<_> = (0..1000).map(|n| json!({"type": "worker", "identifier": format!("t{n}")})).collect();
    assert_eq!(bulk(&rig, "/tasks", json!(tasks)).await.status, 200);
    let statements = rig.state.metrics.accept_batch.get_sample_count() - before;
    assert!(statements <= 10, "{statements} statements");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_submission_needs_its_type_in_the_token() {
    let rig = guarded().await;
    let secret = "w".repeat(40);
    create(&rig, &secret, &[Scope::Submit], &["worker"]).await;
    let tasks = json!([{"type": "worker", "identifier": "a"}, {"type": "backup", "identifier": "a"}, {"type": "nothing", "identifier": "a"}]);
    let request =
        rig.request("POST", "/tasks").bearer_auth(&secret).header("Content-Type", "application/json");
    let answer = rig.send(request.body(tasks.to_string())).await.json();
    let told: Vec<_> = answer["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|result| result["status"].clone())
        .collect();
    assert_eq!(told, [json!(201), json!(403), json!(403)], "which types there are is not told: {answer}");
    let both = "b".repeat(40);
    create(&rig, &both, &[Scope::Submit, Scope::Read], &["worker"]).await;
    let send = async |body: Value| {
        let request = rig
            .request("POST", "/tasks/cancel")
            .bearer_auth(&both)
            .header("Content-Type", "application/json");
        rig.send(request.body(body.to_string())).await
    };
    assert_eq!(send(json!({"filter": {"type": ["backup"]}})).await.status, 403);
    assert_eq!(sums(&send(json!({"filter": {}})).await), [1, 0, 0, 1], "of its types alone");
    rig.stop().await;
}

/// Ends tasks as a worker would: the first so many with an error.
async fn end(rig: &Rig, task_type: &str, identifier: &str, errnr: i32) {
    let task = rig.get(&format!("/{task_type}/{identifier}")).await.json()["task"].clone();
    let id = task["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    rig.give(task_type, "w").await;
    rig.report_of(task_type, id, "w", ReportEvent::Received).await;
    rig.report_of(task_type, id, "w", finished(errnr, if errnr == 0 { "" } else { "no" })).await;
    assert_eq!(
        rig.get(&format!("/{task_type}/{identifier}")).await.json()["task"]["status"],
        "DONE",
        "{identifier}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_failed_is_queued_again_once() {
    let rig = Rig::start_as(QUEUE, Limits::default()).await;
    for (identifier, errnr) in [("good", 0), ("bad1", 3), ("bad2", 4)] {
        let body = json!({"identifier": identifier, "payload": {"key": identifier}, "priority": 7});
        assert_eq!(rig.post("/builds", body.to_string()).await.status, 201);
        end(&rig, "builds", identifier, errnr).await;
    }
    submit(&rig, "builds", &["gone", "waits"]).await;
    assert_eq!(rig.delete("/builds/gone").await.status, 200);
    let requeue = async |body: Value| bulk(&rig, "/queues/builds/requeue", body).await;
    let preview = requeue(json!({})).await;
    assert_eq!(sums(&preview), [2, 0, 0, 2], "{preview:?}");
    for (filter, matched) in [
        (json!({"identifier": "bad2"}), 1),
        (json!({"only": ["canceled"]}), 1),
        (json!({"only": ["canceled", "failed", "expired"]}), 3),
        (json!({"until": "2020-01-01T00:00:00Z"}), 0),
    ] {
        assert_eq!(sums(&requeue(json!({"filter": filter})).await)[0], matched, "{filter}");
    }
    for expect in [1, 3] {
        assert_eq!(requeue(json!({"expect": expect})).await.code(), "count_moved");
    }
    assert_eq!(sums(&requeue(json!({"expect": 2})).await), [2, 2, 0, 0]);
    let old = rig.get("/builds/bad1").await.json()["task"].clone();
    let again = format!("again-{}", old["id"].as_str().expect("an id"));
    let new = rig.get(&format!("/builds/{again}")).await.json()["task"].clone();
    assert_eq!(
        (&new["status"], &new["rerun_of"], &new["payload"]),
        (&json!("CREATED"), &old["id"], &old["payload"]),
        "{new}"
    );
    assert_eq!((&new["queue"]["priority"], &old["status"]), (&json!(7), &json!("DONE")));
    assert_eq!(sums(&requeue(json!({})).await), [0, 0, 0, 0], "those are requeued");
    end(&rig, "builds", &again, 5).await;
    assert_eq!(
        sums(&requeue(json!({"expect": 1})).await),
        [1, 1, 0, 0],
        "what fails again may be requeued again"
    );

    let taken = rig.post("/builds", json!({"identifier": again}).to_string()).await;
    assert_eq!((taken.status, taken.pointers()), (422, vec!["/identifier".to_owned()]), "{taken:?}");
    for (path, body, status, code) in [
        ("/queues/worker/requeue", json!({}), 404, "unknown_task_type"),
        ("/queues/builds/requeue", json!({"filter": {"only": ["missing"]}}), 422, "invalid_submission"),
        ("/queues/builds/requeue", json!({"only": ["failed"]}), 422, "invalid_submission"),
    ] {
        let answer = bulk(&rig, path, body.clone()).await;
        assert_eq!((answer.status, answer.code()), (status, code.to_owned()), "{path} {body}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_queued_again_is_still_meant() {
    let rig = Rig::start_as(
        r#"{task_types: [{name: builds, delivery: queue, schema: '{"type": "object"}'}], api: {port: 0}}"#,
        Limits::default(),
    )
    .await;
    // They are of a time when the type had no schema.
    let before = Config::from_yaml(QUEUE).expect("a configuration");
    let admission = Admission::read(&before).expect("no schema");
    for (identifier, payload) in [("a", "1"), ("b", "{}"), ("c", "[]")] {
        let (now, payload) = (rig.state.clock.now(), serde_json::from_str(payload).expect("JSON"));
        let task = admission.task(
            &before.task_types[0],
            identifier.parse().expect("valid"),
            payload,
            Asked::default(),
            now,
        );
        rig.store
            .accept(&[task.expect("admitted")], now, Duration::from_secs(3600))
            .await
            .expect("the store works");
        end(&rig, "builds", identifier, 3).await;
    }
    let requeue =
        async |expect: u32| sums(&bulk(&rig, "/queues/builds/requeue", json!({"expect": expect})).await);
    assert_eq!(requeue(3).await, [3, 1, 2, 2]);
    assert_eq!(requeue(2).await, [2, 0, 2, 2], "`left` is what the next request may expect");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_queued_again_yields_to_newer_data() {
    let rig = Rig::start_as(QUEUE, Limits::default()).await;
    let push = async |identifier: &str, data: u32| {
        let body = json!({"identifier": identifier, "payload": {"key": "k", "data": data}});
        assert_eq!(rig.post("/keyed", body.to_string()).await.status, 201);
    };
    for (identifier, data) in [("first", 1), ("second", 2)] {
        push(identifier, data).await;
        end(&rig, "keyed", identifier, 3).await;
    }
    assert_eq!(sums(&bulk(&rig, "/queues/keyed/requeue", json!({"expect": 2})).await), [2, 2, 0, 0]);
    let waiting = rig.get("/keyed?status=CREATED").await.json();
    let data: Vec<_> = waiting["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .map(|task| task["payload"]["data"].clone())
        .collect();
    assert_eq!(data, [json!(2)], "the newest of the key: {waiting}");
    assert_eq!(
        sums(&bulk(&rig, "/queues/keyed/requeue", json!({"filter": {"only": ["canceled"]}})).await)[0],
        0,
        "what was replaced is not dead"
    );
    rig.stop().await;
}
