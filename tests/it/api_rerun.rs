//! A task once more, for the endpoints that did not succeed.

use serde_json::json;
use tasker::api::Limits;
use tasker::domain::ReportEvent;

use crate::api_rig::{Rig, finished};

/// A task of five endpoints: two finished, one of them with an error, one runs it, two have not received it.
async fn performed(rig: &Rig) {
    let names = ["good", "bad", "busy", "away1", "away2"];
    let body = json!({"identifier": "a", "payload": {"n": 1.0}, "endpoints": names});
    let answer = rig.post("/worker", body.to_string()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let id = answer.json()["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    rig.freeze(id, &names).await;
    for name in ["good", "bad", "busy"] {
        rig.report(id, name, ReportEvent::Received).await;
    }
    rig.report(id, "good", finished(0, "")).await;
    rig.report(id, "bad", finished(3, "no disk")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_endpoints_that_are_through_without_success_perform_it_again() {
    let rig = Rig::start().await;
    performed(&rig).await;
    let again = async |identifier: &str, only: &[&str]| {
        let body = json!({"identifier": identifier, "only": only});
        rig.post("/worker/a/rerun", body.to_string()).await
    };
    // What is open is left alone: those endpoints may perform it yet.
    let first = again("b", &[]).await;
    assert_eq!((first.status, first.header("location")), (201, "/worker/b"), "{first:?}");
    let (old, new) = (rig.get("/worker/a").await.json()["task"].clone(), first.json());
    assert_eq!(
        (&new["endpoints"], &new["rerun_of"], &new["payload"]),
        (&json!(["bad"]), &old["id"], &old["payload"])
    );
    assert_eq!(rig.get("/worker/b").await.json()["task"]["rerun_of"], old["id"]);
    assert!(old.get("rerun_of").is_none());
    let repeat = again("b", &[]).await;
    assert_eq!((repeat.status, &repeat.json()["id"]), (200, &new["id"]), "{repeat:?}");
    let nobody = again("c", &["missing", "expired", "canceled"]).await;
    assert_eq!((nobody.status, nobody.code()), (409, "nothing_failed".to_owned()), "{nobody:?}");

    assert_eq!(rig.delete("/worker/a").await.status, 200);
    for (identifier, only, endpoints) in [
        ("d", &["missing"][..], json!(["away1", "away2"])),
        // The one that runs it has been told to stop, and has not said yet what came of it.
        ("e", &["canceled"], json!(["away1", "away2"])),
        ("f", &["failed", "missing"], json!(["away1", "away2", "bad"])),
        ("g", &[], json!(["away1", "away2", "bad"])),
    ] {
        let answer = again(identifier, only).await;
        assert_eq!((answer.status, &answer.json()["endpoints"]), (201, &endpoints), "{only:?}: {answer:?}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_again_is_refused() {
    let rig = Rig::start().await;
    performed(&rig).await;
    for (path, body, status, code) in [
        ("/worker/unheard-of/rerun", r#"{"identifier":"b"}"#, 404, "unknown_task"),
        ("/unheard-of/a/rerun", r#"{"identifier":"b"}"#, 404, "unknown_task_type"),
        ("/worker/a/rerun", "{}", 422, "invalid_submission"),
        ("/worker/a/rerun", r#"{"identifier":"b","only":["slow"]}"#, 422, "invalid_submission"),
        ("/worker/a/rerun", r#"{"identifier":"b","endpoints":["good"]}"#, 422, "invalid_submission"),
        ("/worker/a/rerun", r#"{"identifier":"a"}"#, 409, "identifier_conflict"),
        ("/worker/a/rerun", "", 400, "invalid_json"),
    ] {
        let answer = rig.post(path, body).await;
        assert_eq!((answer.status, answer.code()), (status, code.to_owned()), "{path} {body}: {answer:?}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_a_work_queue_is_queued_again() {
    let rig =
        Rig::start_as("task_types: [{name: builds, delivery: queue}]\napi: {port: 0}", Limits::default())
            .await;
    let body = r#"{"identifier":"a","payload":7,"priority":-3}"#;
    assert_eq!(rig.post("/builds", body).await.status, 201);
    let again = async |body: &str| rig.post("/builds/a/rerun", body).await;
    assert_eq!(again(r#"{"identifier":"b"}"#).await.code(), "nothing_failed", "it still waits");
    assert_eq!(rig.delete("/builds/a").await.status, 200);
    assert_eq!(again(r#"{"identifier":"b","only":["failed","expired"]}"#).await.code(), "nothing_failed");
    let answer = again(r#"{"identifier":"b","only":["canceled"]}"#).await;
    assert_eq!(
        (answer.status, &answer.json()["payload"], &answer.json()["queue"]["priority"]),
        (201, &json!(7), &json!(-3)),
        "{answer:?}"
    );
    rig.stop().await;
}
