//! Tokens that may do little: how much of the API they get, and which tasks they see.

use std::time::Duration;

use futures::future::join_all;
use tasker::api::Limits;
use tasker::domain::{PresenceState, Quota, Scope, SecretHash, Token};
use tasker::store::{AuditQuery, TokenCreated};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::api_access::{ADMIN, create, guarded, with};
use crate::api_rig::{Answer, Rig, read_answer};

const SHOP: &str = "tasker_the-secret-of-a-shop-in-a-test";

/// A token of this quota.
async fn limited(rig: &Rig, scopes: &[Scope], quota: Quota) -> Token {
    limited_as(rig, SHOP, scopes, quota).await
}

async fn limited_as(rig: &Rig, secret: &str, scopes: &[Scope], quota: Quota) -> Token {
    let token = Token {
        id: Uuid::now_v7(),
        name: format!("q{}", Uuid::new_v4().simple()).parse().expect("a name"),
        hash: SecretHash::of(secret.as_bytes()),
        scopes: scopes.iter().copied().collect(),
        task_types: Vec::new(),
        created_at: rig.state.clock.now(),
        expires_at: None,
        worker: None,
        parent: None,
        quota,
    };
    assert_eq!(rig.store.create_token(&token, None).await.expect("the store works"), TokenCreated::New);
    token
}

fn quota(text: &str) -> Quota {
    serde_json::from_str(text).expect("a quota")
}

async fn submit(rig: &Rig, secret: &str, body: &str) -> Answer {
    let request = rig.request("POST", "/worker").bearer_auth(secret);
    rig.send(request.header("Content-Type", "application/json").body(body.to_owned())).await
}

#[track_caller]
fn exceeded(answer: &Answer) -> u64 {
    assert_eq!((answer.status, answer.code().as_str()), (429, "quota_exceeded"), "{answer:?}");
    answer.header("retry-after").parse().expect("seconds")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_above_its_rate_is_told_when_to_come_again() {
    let rig = guarded().await;
    limited(&rig, &[Scope::Submit, Scope::Read], quota(r#"{"rate": "60/h", "burst": 3}"#)).await;
    for path in ["/worker", "/openapi.json", "/no/such/path"] {
        assert_ne!(with(&rig, SHOP, "GET", path).await.status, 429, "{path}");
    }
    let wait = exceeded(&with(&rig, SHOP, "GET", "/worker").await);
    assert!((1..=60).contains(&wait), "{wait}");
    // Whatever it may not do counts too, and others have what is theirs.
    exceeded(&with(&rig, SHOP, "GET", "/metrics").await);
    assert_eq!(with(&rig, ADMIN, "GET", "/worker").await.status, 200);
    let metrics = rig.state.metrics.render();
    assert!(metrics.contains("tasker_http_refused_total{code=\"quota_exceeded\"} 2"), "{metrics}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_quota_is_refused_before_it_is_read() {
    let rig = guarded().await;
    limited(&rig, &[Scope::Submit], quota(r#"{"bytes": 100}"#)).await;
    let long = format!(r#"{{"identifier": "first", "payload": "{}"}}"#, "x".repeat(10_000));
    assert_eq!(submit(&rig, SHOP, &long).await.status, 201, "a full bucket takes any body, once");
    // None of its body is sent, so whoever answers has not waited for it.
    let mut stream = rig.connect().await;
    let head = format!(
        "POST /worker HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SHOP}\r\nContent-Type: application/json\r\nContent-Length: 60\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("the server reads");
    let wait = exceeded(&read_answer(&mut stream).await);
    assert!((90..=101).contains(&wait), "{wait}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_say_how_long_it_is_counts_as_well() {
    let rig = guarded().await;
    limited(&rig, &[Scope::Submit], quota(r#"{"bytes": 100}"#)).await;
    let chunked = |identifier: &str| {
        let body = format!(r#"{{"identifier": "{identifier}", "payload": "{}"}}"#, "x".repeat(1000));
        format!(
            "POST /worker HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SHOP}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        )
    };
    assert_eq!(rig.raw(chunked("first").as_bytes()).await.status, 201);
    exceeded(&submit(&rig, SHOP, r#"{"identifier": "second"}"#).await);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_counts_as_far_as_it_came() {
    let rig = guarded().await;
    limited(&rig, &[Scope::Submit, Scope::Read], quota(r#"{"bytes": 100}"#)).await;
    let mut stream = rig.connect().await;
    let begun = format!(
        "POST /worker HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SHOP}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n{}\r\n",
        "x".repeat(1000)
    );
    stream.write_all(begun.as_bytes()).await.expect("the server reads");
    // A request without a body takes nothing, and is refused while the token is in debt.
    let charged = async {
        loop {
            let answer = with(&rig, SHOP, "GET", "/worker").await;
            if answer.status == 429 {
                return exceeded(&answer);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let wait = tokio::time::timeout(crate::api_rig::PATIENCE, charged).await.expect("it is charged");
    assert!((1..=9).contains(&wait), "{wait}");
    drop(stream);
    exceeded(&with(&rig, SHOP, "GET", "/worker").await);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_is_repeated_is_one_open_task() {
    let rig = guarded().await;
    limited(&rig, &[Scope::Submit, Scope::Read], quota(r#"{"open": 3}"#)).await;
    let batch = async |body: &str| {
        let request = rig.request("POST", "/tasks").bearer_auth(SHOP);
        rig.send(request.header("Content-Type", "application/json").body(body.to_owned())).await
    };
    let twice = r#"[{"type": "worker", "identifier": "b"}, {"type": "worker", "identifier": "b"}]"#;
    // Faster than the number of open tasks is read again.
    for status in [201, 200, 200] {
        assert_eq!(submit(&rig, SHOP, r#"{"identifier": "a"}"#).await.status, status);
    }
    for _ in 0..2 {
        assert_eq!(batch(twice).await.status, 200);
    }
    assert_eq!(submit(&rig, SHOP, r#"{"identifier": "c"}"#).await.status, 201, "two are open");
    exceeded(&submit(&rig, SHOP, r#"{"identifier": "d"}"#).await);
    assert_eq!(submit(&rig, SHOP, r#"{"identifier": "a"}"#).await.status, 200, "it is there");
    assert_eq!(batch(twice).await.status, 200);
    exceeded(&batch(&twice.replacen("\"b\"", "\"d\"", 1)).await);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_so_many_open_tasks() {
    let rig = guarded().await;
    limited(&rig, &[Scope::Submit, Scope::Read], quota(r#"{"open": 2}"#)).await;
    for name in ["a", "b"] {
        assert_eq!(submit(&rig, SHOP, &format!(r#"{{"identifier": "{name}"}}"#)).await.status, 201);
    }
    exceeded(&submit(&rig, SHOP, r#"{"identifier": "c"}"#).await);
    let batch = rig.request("POST", "/tasks").bearer_auth(SHOP).header("Content-Type", "application/json");
    exceeded(&rig.send(batch.body(r#"[{"type": "worker", "identifier": "c"}]"#)).await);
    assert_eq!(submit(&rig, ADMIN, r#"{"identifier": "of-another"}"#).await.status, 201);
    assert_eq!(with(&rig, SHOP, "DELETE", "/worker/a").await.status, 200, "it may make room");
    let made = async {
        while submit(&rig, SHOP, r#"{"identifier": "c"}"#).await.status != 201 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::api_rig::PATIENCE, made).await.expect("there is room for one more");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_reaches_so_many_endpoints_with_a_task() {
    let rig = guarded().await;
    limited(&rig, &[Scope::Submit, Scope::Read], quota(r#"{"endpoints": 2}"#)).await;
    let named = |identifier: &str, number: usize| {
        let names: Vec<String> = (0..number).map(|index| format!("ep{index}")).collect();
        serde_json::json!({"identifier": identifier, "endpoints": names}).to_string()
    };
    assert_eq!(submit(&rig, SHOP, &named("two", 2)).await.status, 201);
    let three = submit(&rig, SHOP, &named("three", 3)).await;
    assert_eq!((three.status, three.pointers()), (422, vec!["/endpoints".to_owned()]));
    // A task for all is for those that are there.
    for name in ["ep0", "ep1"] {
        rig.see(name, &["worker"], PresenceState::Alive).await;
    }
    assert_eq!(submit(&rig, SHOP, r#"{"identifier": "all"}"#).await.status, 201);
    rig.see("ep2", &["worker"], PresenceState::Alive).await;
    assert_eq!(submit(&rig, SHOP, r#"{"identifier": "all-three"}"#).await.status, 422);
    let batch = rig.request("POST", "/tasks").bearer_auth(SHOP).header("Content-Type", "application/json");
    let batch = rig.send(batch.body(r#"[{"type": "worker", "identifier": "x", "endpoints": ["ep0"]}, {"type": "worker", "identifier": "y"}]"#)).await;
    let results = batch.json()["results"].clone();
    assert_eq!(
        (results[0]["status"].as_u64(), results[1]["status"].as_u64()),
        (Some(201), Some(422)),
        "{batch:?}"
    );
    // What goes to its endpoints step by step is no way around it.
    for path in ["/rollouts", "/requests"] {
        let body = match path {
            "/rollouts" => r#"{"identifier": "r", "type": "worker", "waves": ["rest"]}"#,
            _ => r#"{"action": "build", "steps": [{"name": "build", "jobs": ["worker"]}]}"#,
        };
        let request = rig.request("POST", path).bearer_auth(SHOP).header("Content-Type", "application/json");
        let answer = rig.send(request.body(body)).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "insufficient_scope"),
            "{path}: {answer:?}"
        );
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_so_many_waits() {
    let rig = guarded().await;
    limited(&rig, &[Scope::Submit, Scope::Read], quota(r#"{"waits": 64}"#)).await;
    assert_eq!(submit(&rig, SHOP, r#"{"identifier": "a"}"#).await.status, 201);
    // One that finds the place of a probe taken comes again.
    let wait = async || loop {
        let answer = with(&rig, SHOP, "GET", "/worker/a?wait=60s").await;
        if answer.status != 429 {
            break answer;
        }
    };
    let waits = async { join_all((0..64).map(|_| wait())).await };
    let others = async {
        // One that finds a place among the first 64 is answered at once.
        let refused = async {
            loop {
                let answer = with(&rig, SHOP, "GET", "/worker/a?wait=1ms").await;
                if answer.status != 200 {
                    break answer;
                }
            }
        };
        let refused = tokio::time::timeout(crate::api_rig::PATIENCE, refused).await.expect("64 wait");
        assert_eq!((refused.status, refused.code().as_str()), (429, "too_many_waits"));
        assert_eq!(with(&rig, SHOP, "DELETE", "/worker/a").await.status, 200);
    };
    let (answers, ()) = tokio::join!(waits, others);
    assert!(answers.iter().all(|answer| answer.status == 200));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_of_an_address_are_counted_and_right_ones_are_not() {
    let rig = Rig::start_with(Limits { wrong_tokens: 2, ..Limits::default() }).await;
    create(&rig, ADMIN, &[Scope::Admin], &[]).await;
    assert_eq!(with(&rig, ADMIN, "GET", "/").await.status, 200);
    for guess in ["tasker_one", "tasker_two"] {
        assert_eq!(with(&rig, guess, "GET", "/").await.status, 401);
    }
    let session = format!(r#"{{"token": "{ADMIN}x"}}"#);
    for answer in [with(&rig, "tasker_three", "GET", "/").await, rig.post("/session", session).await] {
        assert_eq!((answer.status, answer.code().as_str()), (429, "too_many_wrong_tokens"), "{answer:?}");
        let wait: u64 = answer.header("retry-after").parse().expect("seconds");
        assert!((1..=60).contains(&wait), "{wait}");
    }
    assert_eq!(with(&rig, ADMIN, "GET", "/").await.status, 200, "who has a token is let in");
    assert_eq!(rig.get("/").await.status, 401, "who shows none is told that one is needed");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_invitations_of_an_address_are_counted_and_recorded() {
    let rig = Rig::start_with(Limits { wrong_tokens: 2, ..Limits::default() }).await;
    create(&rig, ADMIN, &[Scope::Admin], &[]).await;
    let guess = async || rig.post("/endpoints/ep1/enrolment", r#"{"ticket": "guess"}"#).await;
    for _ in 0..2 {
        let answer = guess().await;
        assert_eq!((answer.status, answer.code().as_str()), (410, "invitation_over"));
    }
    let refused = guess().await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "too_many_wrong_tokens"), "{refused:?}");
    assert_eq!(with(&rig, "tasker_one", "GET", "/").await.status, 401, "tokens are another matter");
    rig.begin_stop();
    let query = AuditQuery { action: Some("refused".to_owned()), limit: 10, ..Default::default() };
    let written = async {
        loop {
            let told = rig.store.audit_entries(&query).await.expect("the store works");
            if let Some(entry) = told.into_iter().find(|entry| entry.subject == "invitation_over") {
                break entry;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let entry = tokio::time::timeout(crate::api_rig::PATIENCE, written).await.expect("it is written");
    assert_eq!((entry.actor.as_str(), entry.source.as_str()), ("anonymous", "127.0.0.1"));
    assert_eq!(
        entry.detail.as_ref().map(|detail| detail.get()),
        Some(r#"{"count":2,"requests":{"POST /endpoints/{name}/enrolment":2}}"#)
    );
    rig.stop().await;
}

/// What tokens of two customers may do with the task of the first: a scope list, a request, and the status
/// for the owner and for the other.
#[rustfmt::skip]
const OWN: &[(&[Scope], &str, &str, u16, u16)] = &[
    (&[Scope::Submit, Scope::ReadOwn], "GET", "/worker/first", 200, 404),
    (&[Scope::Submit, Scope::ReadOwn], "GET", "/tasks/first", 200, 404),
    (&[Scope::Submit, Scope::ReadOwn], "GET", "/tasks/first/explain", 200, 404),
    (&[Scope::Submit, Scope::ReadOwn], "GET", "/worker/first/states", 200, 404),
    (&[Scope::Submit, Scope::ReadOwn], "GET", "/worker/first/names", 200, 404),
    (&[Scope::Submit, Scope::ReadOwn], "GET", "/worker/first/explain", 200, 404),
    (&[Scope::Submit, Scope::ReadOwn], "GET", "/worker/first/answers", 200, 404),
    (&[Scope::Submit, Scope::ReadOwn], "GET", "/worker/first/responses", 200, 404),
    (&[Scope::Submit, Scope::ReadOwn], "GET", "/worker/first/logs", 200, 404),
    (&[Scope::Submit, Scope::ReadOwn], "GET", "/worker", 403, 403),
    (&[Scope::Submit, Scope::ReadOwn], "GET", "/tasks", 403, 403),
    (&[Scope::Submit, Scope::ReadOwn], "DELETE", "/worker/first", 200, 404),
    (&[Scope::Submit, Scope::ReadOwn], "DELETE", "/tasks/first", 200, 404),
    (&[Scope::Submit], "DELETE", "/worker/first", 200, 404),
    (&[Scope::Submit], "GET", "/worker/first", 403, 403),
    (&[Scope::Submit, Scope::Read], "DELETE", "/worker/first", 200, 200),
    (&[Scope::Submit, Scope::Read, Scope::CancelOwn], "DELETE", "/worker/first", 200, 404),
    (&[Scope::Submit, Scope::Read, Scope::CancelOwn], "DELETE", "/tasks/first", 200, 404),
    (&[Scope::Submit, Scope::Read, Scope::CancelOwn], "GET", "/worker/first", 200, 200),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_others_is_unknown() {
    for (scopes, method, path, own, others) in OWN {
        let rig = guarded().await;
        let owner = limited_as(&rig, SHOP, scopes, Quota::default()).await;
        limited_as(&rig, "tasker_the-secret-of-another-shop", scopes, Quota::default()).await;
        assert_eq!(submit(&rig, SHOP, r#"{"identifier": "first"}"#).await.status, 201);
        let other = with(&rig, "tasker_the-secret-of-another-shop", method, path).await;
        assert_eq!(other.status, *others, "{scopes:?} {method} {path}: {other:?}");
        if *others == 404 {
            let nothing = path.replace("first", "nothing");
            let unknown = with(&rig, "tasker_the-secret-of-another-shop", method, &nothing).await;
            let detail = |answer: &Answer| {
                answer.json()["detail"].as_str().map(|text| text.replace("nothing", "first"))
            };
            assert_eq!(detail(&other), detail(&unknown), "as if there were none");
        }
        let answer = with(&rig, SHOP, method, path).await;
        assert_eq!(answer.status, *own, "{scopes:?} {method} {path} of {}: {answer:?}", owner.name);
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cancels_its_own_alone_cancels_no_filter() {
    let rig = guarded().await;
    limited(&rig, &[Scope::Submit, Scope::Read, Scope::CancelOwn], Quota::default()).await;
    let request = rig.request("POST", "/tasks/cancel").bearer_auth(SHOP);
    let answer = rig.send(request.header("Content-Type", "application/json").body(r#"{"filter": {}}"#)).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "insufficient_scope"));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn submitting_what_another_has_submitted_tells_nothing_of_it() {
    for scopes in [&[Scope::Submit, Scope::ReadOwn][..], &[Scope::Submit]] {
        nothing_is_told_of_what_another_has_submitted(scopes).await;
    }
}

async fn nothing_is_told_of_what_another_has_submitted(scopes: &[Scope]) {
    let rig = guarded().await;
    limited(&rig, scopes, Quota::default()).await;
    let other = "tasker_the-secret-of-another-shop";
    limited_as(&rig, other, scopes, Quota::default()).await;
    let first = r#"{"identifier": "first", "payload": 1}"#;
    let there = submit(&rig, SHOP, first).await;
    let id = there.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!((there.status, submit(&rig, SHOP, first).await.status), (201, 200), "its own it may repeat");
    for body in [first, r#"{"identifier": "first", "payload": 2}"#] {
        let refused = submit(&rig, other, body).await;
        assert_eq!((refused.status, refused.code().as_str()), (409, "identifier_conflict"), "{refused:?}");
        let batch = format!(r#"[{{"type": "worker", {}]"#, body.trim_start_matches('{'));
        let request = rig.request("POST", "/tasks").bearer_auth(other);
        let batch = rig.send(request.header("Content-Type", "application/json").body(batch)).await;
        assert_eq!(batch.json()["results"][0]["status"], 409, "{batch:?}");
        for answer in [&refused, &batch] {
            assert!(!answer.json().to_string().contains(&id), "{answer:?}");
        }
    }
    rig.stop().await;
}
