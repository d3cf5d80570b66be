//! What a worker over HTTP may do, and under whose name.

use std::time::Duration;

use serde_json::{Value, json};
use tasker::api::Limits;
use tasker::domain::{PresenceState, Scope, Token};
use tasker::store::TokenCreated;
use uuid::Uuid;

use crate::api_access::{ADMIN, create, refused, with};
use crate::api_rig::{Answer, PATIENCE, Rig, endpoint};

const CONFIG: &str =
    "task_types: [worker, {name: builds, delivery: queue}, {name: images, delivery: queue}]\napi: {port: 0}";
const WORK: &str = "tasker_any-worker-s-secret-here";
const BOUND: &str = "tasker_one-worker-s-own-secret-";

async fn rig() -> Rig {
    let rig = Rig::start_as(CONFIG, Limits::default()).await;
    create(&rig, ADMIN, &[Scope::Admin], &[]).await;
    // The first who shows a token makes the process look.
    assert_eq!(with(&rig, ADMIN, "GET", "/").await.status, 200);
    let own = create(&rig, WORK, &[Scope::Work], &[]).await;
    let bound = Token {
        id: Uuid::now_v7(),
        name: "bound".parse().expect("a name"),
        hash: tasker::domain::SecretHash::of(BOUND.as_bytes()),
        worker: Some(endpoint("rack1")),
        ..own
    };
    assert_eq!(rig.store.create_token(&bound, None).await.expect("the store works"), TokenCreated::New);
    rig
}

async fn post(rig: &Rig, secret: &str, path: &str, body: Value) -> Answer {
    let request = rig.request("POST", path).bearer_auth(secret).header("Content-Type", "application/json");
    rig.send(request.body(body.to_string())).await
}

fn tasks(types: &[&str], wait_ms: u64) -> Value {
    json!({"session": Uuid::nil(), "types": types, "all": true, "known": [], "stopped": [], "wait_ms": wait_ms})
}

fn presence(name: &str, types: &[&str]) -> Value {
    let id = Uuid::nil();
    json!({"v": 1, "kind": "alive", "endpoint": name, "instance": id, "home": id, "session": id, "types": types,
        "interval_ms": 10_000, "version": "1", "slots": 3})
}

fn report(name: &str, task_type: &str) -> Value {
    let id = Uuid::now_v7();
    json!({"reports": [{"v": 1, "kind": "received", "task_id": id, "type": task_type, "endpoint": name, "home": Uuid::nil()}]})
}

/// All that a worker can ask for.
fn requests(name: &str, types: &[&str]) -> [(String, Value); 3] {
    [
        (format!("/workers/{name}/tasks"), tasks(types, 0)),
        (format!("/workers/{name}/presence"), presence(name, types)),
        (format!("/workers/{name}/reports"), report(name, types[0])),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_gets_nothing_of_types_without_a_queue_nor_under_an_endpoint_s_name() {
    let rig = rig().await;
    for types in [&["worker"][..], &["builds", "worker"], &["unheard-of"]] {
        for (path, body) in requests("w", types) {
            if types[0] == "builds" && path.ends_with("reports") {
                continue; // Its report is of the first type alone.
            }
            let answer = post(&rig, WORK, &path, body).await;
            assert_eq!((answer.status, answer.code().as_str()), (422, "invalid_message"), "{path} {types:?}");
        }
    }
    assert_eq!(
        post(&rig, WORK, "/workers/console1/presence", presence("console1", &["builds"])).await.status,
        204
    );
    rig.see("console1", &["worker", "builds"], PresenceState::Alive).await;
    for (path, body) in requests("console1", &["builds"]) {
        let answer = post(&rig, WORK, &path, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (409, "name_taken"), "{path}");
    }
    // Once it has left, the name is free.
    rig.see("console1", &["worker", "builds"], PresenceState::Leaving).await;
    assert_eq!(post(&rig, WORK, "/workers/console1/tasks", tasks(&["builds"], 0)).await.status, 200);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_there_for_the_types_it_has_said() {
    let rig = rig().await;
    rig.see("w", &["builds"], PresenceState::Alive).await;
    let commands = async |types: &[&str]| {
        let answer = post(&rig, WORK, "/workers/w/tasks", tasks(types, 0)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["commands"].as_array().expect("commands").len()
    };
    assert_eq!(commands(&["builds"]).await, 1, "the welcome");
    assert_eq!(commands(&["images"]).await, 0, "nobody is there for these");
    assert_eq!(commands(&["builds", "images"]).await, 0);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_a_token_has_is_for_that_token_alone() {
    let rig = rig().await;
    for (path, body) in requests("rack1", &["builds"]) {
        assert!(post(&rig, BOUND, &path, body.clone()).await.status < 300, "{path}");
        for secret in [WORK, ADMIN] {
            refused(&post(&rig, secret, &path, body.clone()).await, 403, "insufficient_scope");
            refused(
                &post(&rig, secret, &path.replace("rack1", "r%61ck1"), body.clone()).await,
                403,
                "insufficient_scope",
            );
        }
    }
    for (path, body) in requests("rack2", &["builds"]) {
        refused(&post(&rig, BOUND, &path, body.clone()).await, 403, "insufficient_scope");
        assert!(post(&rig, WORK, &path, body).await.status < 300, "{path}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_says_it_has_is_bounded() {
    let rig = rig().await;
    let ids: Vec<Uuid> = (0..20_001).map(|_| Uuid::now_v7()).collect();
    for member in ["known", "stopped"] {
        let mut body = tasks(&["builds"], 0);
        body[member] = json!(ids);
        let answer = post(&rig, WORK, "/workers/w/tasks", body).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec![format!("/{member}")]));
    }
    let many: Vec<String> = (0..1001).map(|number| format!("t{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for types in [&many[..], &[]] {
        assert_eq!(post(&rig, WORK, "/workers/w/tasks", tasks(types, 0)).await.status, 422);
        assert_eq!(post(&rig, WORK, "/workers/w/presence", presence("w", types)).await.status, 422);
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_no_types_of_the_program() {
    let rig = rig().await;
    let mut number = presence("w", &["builds"]);
    number["interval_ms"] = json!(-1);
    for (path, body, words) in [
        ("/workers/w/presence", json!(null), "expected an object"),
        ("/workers/w/presence", number, "expected a whole number"),
        ("/workers/w/tasks", json!(null), "expected an object"),
        ("/workers/w/reports", json!({"reports": {}}), "expected an array"),
    ] {
        let answer = post(&rig, WORK, path, body.clone()).await;
        let message = answer.json()["errors"][0]["message"].as_str().expect("a message").to_owned();
        assert!(answer.status == 422 && message.contains(words), "{path} {body}: {message}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_while_its_request_waits_gets_nothing_more() {
    let rig = rig().await;
    rig.see("w", &["builds"], PresenceState::Alive).await;
    let asked = json!({"session": Uuid::nil(), "types": ["builds"], "all": false, "known": [], "stopped": [], "wait_ms": 60_000});
    let waiting = post(&rig, WORK, "/workers/w/tasks", asked);
    let revoked = async {
        // The request has been let in once it is looked for: an unknown secret makes the tokens be read, so
        // the revoked one is gone soon after.
        tokio::time::sleep(Duration::from_millis(300)).await;
        for token in rig.store.tokens().await.expect("the store works") {
            assert!(rig.store.delete_token(&token.name, None).await.expect("the store works"));
        }
    };
    let (answer, ()) = tokio::time::timeout(PATIENCE, futures::future::join(waiting, revoked))
        .await
        .expect("it does not wait for the end");
    refused(&answer, 401, "invalid_token");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_with_other_options_is_a_conflict_that_names_them() {
    let rig = Rig::start_as(CONFIG, Limits::default()).await;
    let submit = async |options: Value| {
        let mut body = json!({"identifier": "a", "payload": 1});
        for (name, value) in options.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        rig.post("/builds", body.to_string()).await
    };
    let first = json!({"run_at": "2100-01-01T00:00:00Z", "priority": 5, "ttl": "1h"});
    let made = submit(first.clone()).await;
    assert_eq!(made.status, 201, "{made:?}");
    for same in [
        first,
        json!({}),
        json!({"priority": 5}),
        json!({"run_at": "2100-01-01T01:00:00+01:00"}),
        json!({"ttl": "60m"}),
    ] {
        let answer = submit(same.clone()).await;
        assert_eq!((answer.status, &answer.json()["id"]), (200, &made.json()["id"]), "{same} {answer:?}");
    }
    for (other, named) in [
        (json!({"priority": 6}), "(priority)"),
        (json!({"run_at": "2100-01-01T00:00:01Z"}), "(run_at)"),
        (json!({"run_at": "2000-01-01T00:00:00Z"}), "(run_at)"),
        (json!({"ttl": "61m"}), "(ttl)"),
        (json!({"priority": 1, "run_at": "2099-01-01T00:00:00Z", "ttl": "1s"}), "(priority, run_at, ttl)"),
    ] {
        let answer = submit(other.clone()).await;
        assert_eq!((answer.status, answer.code().as_str()), (409, "identifier_conflict"), "{other}");
        let problem = answer.json();
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(named)), "{other} {problem}");
        assert_eq!(problem["existing_id"], made.json()["id"]);
    }
    rig.stop().await;
}
