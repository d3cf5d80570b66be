//! Submitting: what is taken, kept and told, and that a repeat is one task.

use std::time::Duration;

use serde_json::json;
use sqlx::{Connection, Executor, SqliteConnection};

use tasker::api::Limits;
use tasker::domain::PresenceState;

use crate::api_rig::{PATIENCE, Rig};

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_is_recorded_and_told_in_full() {
    let mut rig = Rig::start().await;
    for name in ["console1", "console2"] {
        rig.see(name, &["Other_1"], PresenceState::Alive).await;
    }
    let body = r#"{"identifier":"e7bd91d0-16ad-11e2-892e-0800200c9a66","payload":{"b": 1.0,"a":12345678901234567890123,"s":"\u00e9\u0000"},"endpoints":["console2","console1"]}"#;
    let answer = rig.post("/Other_1", body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("location"), "/Other_1/e7bd91d0-16ad-11e2-892e-0800200c9a66");
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(
        answer.text.contains(r#""payload":{"b": 1.0,"a":12345678901234567890123,"s":"\u00e9\u0000"}"#),
        "to the byte: {answer:?}"
    );
    let task = answer.json();
    assert_eq!((&task["status"], &task["type"]), (&json!("CREATED"), &json!("Other_1")));
    assert_eq!(task["endpoints"], json!(["console2", "console1"]));
    for count in ["expected", "received", "finished", "failed", "canceled", "expired"] {
        assert_eq!(task[count], 0, "{count}");
    }

    let read = rig.get(answer.header("location")).await;
    assert_eq!(read.status, 200, "{read:?}");
    assert!(
        read.text.contains(r#""payload":{"b": 1.0,"a":12345678901234567890123,"s":"\u00e9\u0000"}"#),
        "to the byte: {read:?}"
    );
    let mut known = read.json()["task"].clone();
    assert_eq!(known["missing"], json!([]));
    known.as_object_mut().expect("an object").remove("missing");
    assert_eq!(known, task, "what is told first is what is in the ledger");
    assert_eq!(read.json()["taskResponseList"], json!([]));

    let handed_on = rig.accepted.recv().await.expect("handed to the publisher").task;
    assert_eq!(task["id"], handed_on.id.to_string());
    assert_eq!(
        handed_on.receive_by.since(handed_on.start_time),
        Duration::from_secs(7),
        "the type's own time-out"
    );
    assert_eq!(
        handed_on.expires_at.since(handed_on.start_time),
        Duration::from_secs(7200),
        "the type's own life"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_submission_has_an_empty_payload_and_no_list() {
    let rig = Rig::start().await;
    let task = rig.post("/worker", r#"{"identifier":"a"}"#).await.json();
    assert_eq!((&task["payload"], &task["endpoints"]), (&json!(""), &json!([])));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_identifier_finds_its_way_back() {
    let rig = Rig::start().await;
    for identifier in [
        "a/b",
        "100%",
        "%2F",
        "日本 語",
        "?x=1&y#z",
        ".",
        "..",
        "+",
        "a b",
        "\u{202e}rtl",
        "..%2f..",
        "\"quoted\"",
        &"é".repeat(191),
    ] {
        let answer = rig.post("/worker", json!({"identifier": identifier}).to_string()).await;
        assert_eq!(answer.status, 201, "{identifier}: {answer:?}");
        let location = answer.header("location").to_owned();
        let read = rig.get(&location).await;
        assert_eq!(read.status, 200, "{identifier} at {location}");
        assert_eq!(read.json()["task"]["identifier"], identifier);
        let by_id = rig.get(&format!("/worker/{}", answer.json()["id"].as_str().expect("an id"))).await;
        assert_eq!(by_id.json(), read.json());
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identifier_that_looks_like_an_id_is_found_first() {
    let rig = Rig::start().await;
    let other = rig.submit("other", &[]).await;
    let twin = rig.submit(&other.to_string(), &[]).await;
    assert_eq!(rig.get(&format!("/worker/{other}")).await.json()["task"]["id"], twin.to_string());
    assert_eq!(rig.get(&format!("/worker/{twin}")).await.json()["task"]["id"], twin.to_string());
    assert_eq!(
        rig.get(&format!("/backup/{twin}")).await.code(),
        "unknown_task",
        "another type's task is none of this type's"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_again_is_the_same_task() {
    let rig = Rig::start().await;
    for name in ["one", "two"] {
        rig.see(name, &["worker"], PresenceState::Alive).await;
    }
    let first = rig
        .post("/worker", r#"{"identifier":"x","payload":{"a":1,"b":"é"},"endpoints":["one","two"]}"#)
        .await;
    assert_eq!(first.status, 201);
    for same in [
        r#"{"identifier":"x","payload":{"a":1,"b":"é"},"endpoints":["one","two"]}"#,
        r#" { "endpoints" : ["two","one"], "payload" : { "b":"\u00e9" , "a": 1.0 }, "identifier":"\u0078" } "#,
    ] {
        let repeat = rig.post("/worker", same).await;
        assert_eq!((repeat.status, repeat.json()), (200, first.json()), "{same}");
    }
    for different in [
        r#"{"identifier":"x","payload":{"a":1,"b":"e"},"endpoints":["one","two"]}"#,
        r#"{"identifier":"x","payload":{"a":1,"b":"é"},"endpoints":["one"]}"#,
        r#"{"identifier":"x","payload":{"a":1,"b":"é"}}"#,
        r#"{"identifier":"x"}"#,
    ] {
        let conflict = rig.post("/worker", different).await;
        assert_eq!((conflict.status, conflict.code().as_str()), (409, "identifier_conflict"), "{different}");
        assert_eq!(conflict.json()["existing_id"], first.json()["id"]);
    }
    assert_eq!(
        rig.post("/backup", r#"{"identifier":"x"}"#).await.status,
        201,
        "another type has names of its own"
    );
    assert_eq!(rig.post("/worker", r#"{"identifier":"X"}"#).await.status, 201, "compared byte for byte");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_are_still_one() {
    let rig = Rig::start().await;
    let posts = (0..50).map(|_| rig.post("/worker", r#"{"identifier":"x","payload":[1,2]}"#));
    let answers = futures::future::join_all(posts).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 49);
    assert!(answers.iter().all(|answer| answer.json()["id"] == answers[0].json()["id"]));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_is_not_needed() {
    let rig = Rig::start().await;
    rig.broker.cut();
    assert_eq!(rig.post("/worker", r#"{"identifier":"x"}"#).await.status, 201);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_turned_away_before_memory_grows() {
    // On a busy machine it takes longer than a client gets for its head until the last of so many connections
    // is read for the first time.
    let rig =
        Rig::start_with(Limits { head_timeout: PATIENCE, body_timeout: PATIENCE, ..Limits::default() }).await;
    // A ledger that is slow: somebody else holds the only pen.
    let mut writer = SqliteConnection::connect(&rig.ledger()).await.expect("connects");
    writer.execute("BEGIN IMMEDIATE").await.expect("locks");
    let payload = "x".repeat(60 * 1024);
    let post = |number: usize| {
        rig.post("/worker", json!({"identifier": format!("flood-{number}"), "payload": payload}).to_string())
    };
    let mut answers: Vec<_> = (0..1200).map(|number| Box::pin(post(number))).collect();
    // 64 MiB wait to be recorded; what comes on top is refused while those wait.
    let mut refused = 0;
    while refused < 50 {
        let (answer, place, _) = futures::future::select_all(answers.iter_mut()).await;
        drop(answers.swap_remove(place));
        assert_eq!(
            (answer.status, answer.code().as_str(), answer.header("retry-after")),
            (429, "too_many_submissions", "1")
        );
        refused += 1;
    }
    writer.execute("COMMIT").await.expect("lets go");
    let taken = futures::future::join_all(answers).await.iter().filter(|answer| answer.status == 201).count();
    assert!(taken > 1000, "{taken} of the others were taken");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_was_never_heard_of_is_warned_of() {
    let rig = Rig::start().await;
    rig.see("console1", &["worker"], PresenceState::Alive).await;
    let submit = async |identifier: &str, endpoints: &[&str]| {
        let body = json!({"identifier": identifier, "endpoints": endpoints}).to_string();
        let answer = rig.post("/worker", body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["warnings"].clone()
    };
    assert_eq!(submit("known", &["console1"]).await, json!(null));
    assert_eq!(
        submit("typo", &["console1", "cosnole1", "far-away"]).await,
        json!([
            r#"endpoint "cosnole1" was never heard of; did you mean console1?"#,
            r#"endpoint "far-away" was never heard of"#
        ])
    );
    // One that has just come is looked for, though the names were read a moment ago.
    rig.see("console2", &["worker"], PresenceState::Alive).await;
    let seen = async |number: u32| submit(&format!("new-{number}"), &["console2"]).await.is_null();
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut number = 0;
    while !seen(number).await {
        assert!(std::time::Instant::now() < deadline);
        number += 1;
    }
    let many: Vec<String> = (0..30).map(|number| format!("ghost-{number}")).collect();
    let warnings = submit("many", &many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(
        (warnings.as_array().map(Vec::len), &warnings[20]),
        (Some(21), &json!("10 more endpoints were never heard of"))
    );
    assert_eq!(submit("all", &[]).await, json!(null));
    rig.stop().await;
}
