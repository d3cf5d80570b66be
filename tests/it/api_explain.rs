//! Why a task does not run.

use serde_json::{Value, json};
use tasker::api::Limits;
use tasker::domain::{Presence, PresenceState, RefusedType, ReportEvent, Scope};

use crate::api_access::{ADMIN, create, with};
use crate::api_rig::{Answer, Rig, finished};

fn codes(answer: &Answer) -> Vec<String> {
    let explanation = answer.json();
    let reasons = explanation["reasons"].as_array().unwrap_or_else(|| panic!("reasons: {explanation}"));
    reasons.iter().map(|reason| reason["code"].as_str().expect("a code").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_counted_by_reason_and_each_is_told_its_own() {
    let rig = Rig::start().await;
    let names = ["away1", "away2", "bad", "busy", "good", "late"];
    let id = rig.submit("a", &names).await;
    let waiting = rig.get("/worker/a/explain").await;
    assert_eq!((waiting.status, codes(&waiting)), (200, vec!["not_published".to_owned()]), "{waiting:?}");
    rig.freeze(id, &names).await;
    for (name, event) in [
        ("busy", ReportEvent::Begun),
        ("late", ReportEvent::Received),
        ("bad", ReportEvent::Received),
        ("good", ReportEvent::Received),
    ] {
        rig.see(name, &["worker"], PresenceState::Joined).await;
        rig.report(id, name, event).await;
    }
    rig.report(id, "good", finished(0, "")).await;
    rig.report(id, "bad", finished(3, "no disk")).await;

    let all = rig.get("/worker/a/explain").await.json();
    assert_eq!((&all["status"], &all["reasons"]), (&json!("SENT"), &json!([])), "{all}");
    let group =
        |group: &Value| (group["code"].to_string(), group["count"].clone(), group["endpoints"].clone());
    let groups: Vec<_> = all["endpoints"].as_array().expect("groups").iter().map(group).collect();
    assert_eq!(groups[0], ("\"endpoint_stopped\"".to_owned(), json!(2), json!(["away1", "away2"])), "{all}");
    let mut others: Vec<_> = groups[1..].to_vec();
    others.sort_by_key(|(code, ..)| code.clone());
    let one = |code: &str, name: &str| (format!("\"{code}\""), json!(1), json!([name]));
    let told = [one("done", "good"), one("failed", "bad"), one("received", "late"), one("running", "busy")];
    assert_eq!(others, told);

    for (name, expected) in [
        ("busy", "running"),
        ("late", "received"),
        ("bad", "failed"),
        ("good", "done"),
        ("away1", "endpoint_stopped"),
    ] {
        for path in ["/worker/a".to_owned(), "/tasks/a".to_owned(), format!("/tasks/{id}")] {
            let answer = rig.get(&format!("{path}/explain?endpoint={name}")).await;
            assert_eq!(
                (codes(&answer), answer.json()["endpoint"].as_str()),
                (vec![expected.to_owned()], Some(name)),
                "{answer:?}"
            );
        }
    }
    let bad = rig.get("/worker/a/explain?endpoint=bad").await.json();
    assert_eq!(
        (&bad["reasons"][0]["evidence"]["errnr"], bad["reasons"][0]["since"].is_string()),
        (&json!(3), true),
        "{bad}"
    );
    let unknown = rig.get("/worker/a/explain?endpoint=awy1").await;
    assert_eq!(codes(&unknown), ["not_expected", "never_heard_of"]);
    assert_eq!(unknown.json()["reasons"][1]["evidence"]["suggestion"], "away1");

    assert_eq!(rig.delete("/worker/a").await.status, 200);
    assert_eq!(codes(&rig.get("/worker/a/explain").await), ["canceled", "stopping"]);
    assert_eq!(codes(&rig.get("/worker/a/explain?endpoint=busy").await), ["stopping"]);
    for (path, status, code) in [
        ("/worker/b/explain", 404, "unknown_task"),
        ("/nothing/a/explain", 404, "unknown_task_type"),
        ("/worker/a/explain?endpoint=a/b", 422, "invalid_query"),
        ("/worker/a/explain?endpiont=a", 422, "invalid_query"),
        ("/tasks/b/explain", 404, "unknown_task"),
    ] {
        let answer = rig.get(path).await;
        assert_eq!((answer.status, answer.code()), (status, code.to_owned()), "{path}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_a_queue_says_what_it_waits_for() {
    let config = "task_types: [{name: builds, delivery: queue}]\napi: {port: 0}";
    let rig = Rig::start_as(config, Limits::default()).await;
    for number in 0..3 {
        let answer = rig.post("/builds", json!({"identifier": format!("b{number}")}).to_string()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let waiting = rig.get("/builds/b2/explain").await;
    assert_eq!(codes(&waiting), ["no_worker", "waits_behind"], "{waiting:?}");
    assert_eq!(waiting.json()["reasons"][1]["evidence"]["ahead"], 2);
    assert_eq!(rig.post("/queues/builds/pause", "{}").await.status, 200);
    assert_eq!(codes(&rig.get("/tasks/b0/explain").await), ["queue_paused", "no_worker", "waits_behind"]);
    let at = rig.get("/builds/b0/explain?endpoint=w").await;
    assert_eq!(codes(&at), ["not_expected", "never_heard_of"]);

    // A worker without the handler is there, and does not subscribe.
    let reason = "handler_missing: there is no handler `builds`".to_owned();
    let refused = vec![RefusedType { task_type: "builds".parse().expect("a type"), held: false, reason }];
    rig.see_this(Presence { refused, ..rig.presence("w", &[], PresenceState::Alive) }).await;
    let waiting = rig.get("/tasks/b0/explain").await;
    assert_eq!(
        codes(&waiting),
        ["queue_paused", "no_worker", "handler_missing", "waits_behind"],
        "{waiting:?}"
    );
    assert_eq!(waiting.json()["reasons"][2]["evidence"]["endpoint"], "w", "{waiting:?}");
    assert_eq!(codes(&rig.get("/builds/b0/explain?endpoint=w").await), ["not_expected", "handler_missing"]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_paused_a_queue_is_named() {
    let config = "task_types: [{name: builds, delivery: queue}]\napi: {port: 0}";
    let rig = Rig::start_as(config, Limits::default()).await;
    let token = create(&rig, ADMIN, &[Scope::Admin], &[]).await;
    let name = json!(token.name.as_str());
    let paused = with(&rig, ADMIN, "POST", "/queues/builds/pause").await;
    assert_eq!((paused.status, &paused.json()["paused_by"]), (200, &name), "{paused:?}");
    let submitted = with(&rig, ADMIN, "POST", "/builds").await.json();
    let path = format!("/builds/{}/explain", submitted["identifier"].as_str().expect("an identifier"));
    let waiting = with(&rig, ADMIN, "GET", &path).await;
    assert_eq!(waiting.json()["reasons"][0]["evidence"]["by"], name, "{waiting:?}");
    let resumed = with(&rig, ADMIN, "POST", "/queues/builds/resume").await;
    assert_eq!((resumed.status, &resumed.json()["paused_by"]), (200, &Value::Null), "{resumed:?}");
    rig.stop().await;
}
