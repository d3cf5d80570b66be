//! Who may do what: tokens, their scopes and their end.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection};
use tasker::api::{Door, DoorError, Limits, check_guarded, serve};
use tasker::domain::{Quota, Scope, SecretHash, Token};
use tasker::store::TokenCreated;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::api_rig::{Answer, PATIENCE, Rig, read_answer, task_type};

pub const ADMIN: &str = "tasker_an-admin-s-secret-in-a-test";

/// Writes a token into the ledger, as `tasker token create` does.
pub async fn create(rig: &Rig, secret: &str, scopes: &[Scope], types: &[&str]) -> Token {
    let token = Token {
        id: Uuid::now_v7(),
        name: format!("t{}", Uuid::new_v4().simple()).parse().expect("a name"),
        hash: SecretHash::of(secret.as_bytes()),
        scopes: scopes.iter().copied().collect(),
        task_types: types.iter().map(|name| task_type(name)).collect(),
        created_at: rig.state.clock.now(),
        expires_at: None,
        worker: None,
        parent: None,
        quota: Quota::default(),
    };
    assert_eq!(rig.store.create_token(&token, None).await.expect("the store works"), TokenCreated::New);
    token
}

pub async fn with(rig: &Rig, secret: &str, method: &str, path: &str) -> Answer {
    let body = (method == "POST").then(|| format!(r#"{{"identifier": "{}"}}"#, Uuid::new_v4()));
    let request = rig.request(method, path).bearer_auth(secret).header("Content-Type", "application/json");
    rig.send(request.body(body.unwrap_or_default())).await
}

/// A platform with an administrator, which therefore wants tokens.
pub async fn guarded() -> Rig {
    let rig = Rig::start().await;
    create(&rig, ADMIN, &[Scope::Admin], &[]).await;
    // The first who shows a token makes the process look.
    assert_eq!(with(&rig, ADMIN, "GET", "/").await.status, 200);
    rig
}

#[track_caller]
pub fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{answer:?}");
    let challenge = match code {
        "token_needed" => r#"Bearer realm="tasker""#.to_owned(),
        code => format!(r#"Bearer realm="tasker", error="{code}""#),
    };
    assert_eq!(answer.header("www-authenticate"), challenge);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_needs_a_token_on_this_machine_before_there_is_one() {
    let rig = Rig::start().await;
    assert_eq!(rig.get("/").await.status, 200);
    rig.submit("first", &[]).await;
    assert_eq!(with(&rig, "whatever", "GET", "/worker/first").await.status, 200);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_of_the_description_is_open_without_a_token() {
    let rig = guarded().await;
    let document: Value = serde_json::from_str(&tasker::api::document()).expect("JSON");
    let mut walked = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys().map(|method| method.to_uppercase()) {
            // A token begins a session, and an invitation an enrolment: both are in the body.
            if method == "POST" && ["/session", "/endpoints/{name}/enrolment"].contains(&path.as_str()) {
                continue;
            }
            for path in [
                path.replace("{type}", "worker").replace("{id}", "x"),
                path.replace("{type}", "unheard-of").replace("{id}", "x"),
            ] {
                let answer = rig.send(rig.request(&method, &path)).await;
                match path.as_str() {
                    "/heartbeat" | "/ready" => assert_eq!(answer.status, 200, "{path}"),
                    _ => refused(&answer, 401, "token_needed"),
                }
                let escaped = format!(
                    "/%{:02x}{}",
                    path.as_bytes().get(1).copied().unwrap_or(b'x'),
                    path.get(2..).unwrap_or_default()
                );
                if !matches!(path.as_str(), "/heartbeat" | "/ready") {
                    refused(&rig.raw_path(&method, &escaped).await, 401, "token_needed");
                }
                walked += 1;
            }
        }
    }
    assert!(walked > 20, "{walked}");
    for (method, path) in [
        ("GET", "/no/such/path"),
        ("PUT", "/worker"),
        ("BREW", "/"),
        ("POST", "/census"),
        ("GET", "/a%00"),
        ("OPTIONS", "/worker"),
    ] {
        refused(&rig.raw_path(method, path).await, 401, "token_needed");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_in_one_way() {
    let rig = guarded().await;
    let raw = async |headers: &[&[u8]]| {
        let mut request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n".to_vec();
        for header in headers {
            request.extend_from_slice(header);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        rig.raw(&request).await
    };
    let good = format!("Authorization: bearer {ADMIN}");
    assert_eq!(raw(&[good.as_bytes()]).await.status, 200);
    refused(&raw(&[good.as_bytes(), good.as_bytes()]).await, 401, "invalid_token");
    refused(&raw(&[good.as_bytes(), b"Authorization: Basic YTpi"]).await, 401, "invalid_token");
    refused(&raw(&[b"Authorization: Basic YTpi"]).await, 401, "token_needed");
    refused(&raw(&[format!("Authorization: {ADMIN}").as_bytes()]).await, 401, "token_needed");
    for bad in [
        &b"Authorization: Bearer "[..],
        b"Authorization: Bearer",
        b"Authorization: Bearer t\xc3\xa4sker",
        b"Authorization: Bearer a b",
    ] {
        refused(&raw(&[bad]).await, 401, "invalid_token");
    }
    for wrong in [
        "tasker_wrong",
        &ADMIN.to_uppercase(),
        &ADMIN[..ADMIN.len() - 1],
        &format!("{ADMIN}x"),
        &"x".repeat(2000),
    ] {
        refused(&with(&rig, wrong, "GET", "/openapi.json").await, 401, "invalid_token");
    }
    // A token in the address would be in the logs of every proxy.
    refused(&rig.get(&format!("/openapi.json?access_token={ADMIN}")).await, 401, "token_needed");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_say_what_a_token_is_good_for() {
    let rig = guarded().await;
    rig_task(&rig).await;
    let table = [(Scope::Submit, "s"), (Scope::Read, "r"), (Scope::Work, "w"), (Scope::Admin, "a")];
    for (scope, secret) in table {
        create(&rig, &secret.repeat(40), &[scope], &[]).await;
    }
    for (method, path, fitting, status) in [
        ("GET", "/", "ra", 200),
        ("GET", "/metrics", "ra", 200),
        ("GET", "/openapi.json", "ra", 200),
        ("HEAD", "/openapi.json", "ra", 200),
        ("GET", "/census?type=worker", "ra", 200),
        ("GET", "/endpoints", "ra", 200),
        ("GET", "/worker", "ra", 200),
        ("GET", "/worker/there", "ra", 200),
        ("POST", "/worker", "sa", 201),
        ("DELETE", "/worker/there", "a", 200),
        // Who has any token is told what is wrong with the request.
        ("PUT", "/census", "srwa", 405),
        ("GET", "/no/such/path", "srwa", 404),
        ("GET", "/heartbeat", "srwa", 200),
    ] {
        for (_, secret) in table {
            let answer = with(&rig, &secret.repeat(40), method, path).await;
            let hidden = method == "DELETE" && secret == "s";
            let wanted = if hidden {
                404
            } else if fitting.contains(secret) {
                status
            } else {
                403
            };
            assert_eq!(answer.status, wanted, "{method} {path} with {secret}: {answer:?}");
            if wanted == 403 && method != "HEAD" {
                refused(&answer, 403, "insufficient_scope");
            }
        }
    }
    // One path, however it is spelt.
    assert_eq!(with(&rig, &"r".repeat(40), "GET", "/%6detrics").await.status, 200);
    assert_eq!(with(&rig, &"s".repeat(40), "GET", "/%6detrics").await.status, 403);
    rig.stop().await;
}

async fn rig_task(rig: &Rig) {
    let request =
        rig.request("POST", "/worker").bearer_auth(ADMIN).header("Content-Type", "application/json");
    assert_eq!(rig.send(request.body(r#"{"identifier": "there"}"#)).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_token_learns_nothing_of_other_types() {
    let rig = guarded().await;
    rig_task(&rig).await;
    let secret = "l".repeat(40);
    create(&rig, &secret, &[Scope::Admin], &["worker"]).await;
    for (method, path, status) in [
        ("GET", "/worker", 200),
        ("GET", "/wor%6ber", 200),
        ("GET", "/worker/there", 200),
        ("POST", "/worker", 201),
        ("DELETE", "/worker/there", 200),
        ("GET", "/census?type=worker", 200),
        ("GET", "/census?type=wor%6Ber", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/backup", 403),
        ("GET", "/unheard-of", 403),
        ("POST", "/backup", 403),
        ("DELETE", "/backup/there", 403),
        ("GET", "/census?type=backup", 403),
        ("GET", "/census?type=unheard-of", 403),
        ("GET", "/census?type=worker&type=backup", 403),
        ("GET", "/census", 403),
        ("GET", "/", 403),
        ("GET", "/endpoints", 403),
        ("GET", "/metrics", 403),
    ] {
        assert_eq!(with(&rig, &secret, method, path).await.status, status, "{method} {path}");
    }
    let problem = |answer: Answer| (answer.status, answer.json()["detail"].clone());
    let (known, unknown) =
        (with(&rig, &secret, "GET", "/backup").await, with(&rig, &secret, "GET", "/unheard-of").await);
    assert_eq!(problem(known), problem(unknown), "what is configured is told to nobody else");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_when_its_time_is_over_or_it_is_revoked() {
    let rig = guarded().await;
    let token = create(&rig, &"e".repeat(40), &[Scope::Admin], &[]).await;
    let over = Token {
        id: Uuid::now_v7(),
        name: "over".parse().expect("a name"),
        hash: SecretHash::of(b"over"),
        ..token.clone()
    };
    let over = Token { expires_at: Some(rig.state.clock.now()), ..over };
    assert_eq!(rig.store.create_token(&over, None).await.expect("the store works"), TokenCreated::New);
    refused(&with(&rig, "over", "GET", "/openapi.json").await, 401, "invalid_token");

    assert_eq!(
        with(&rig, &"e".repeat(40), "GET", "/openapi.json").await.status,
        200,
        "a new token works at once"
    );
    for token in rig.store.tokens().await.expect("the store works") {
        assert!(rig.store.delete_token(&token.name, None).await.expect("the store works"));
    }
    let shut = async {
        while with(&rig, ADMIN, "GET", "/openapi.json").await.status != 401 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, shut).await.expect("it is refused within seconds");
    // That none is left opens no door.
    refused(&rig.get("/openapi.json").await, 401, "token_needed");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_changes_nothing() {
    let rig = guarded().await;
    rig.store.close().await;
    assert_eq!(with(&rig, ADMIN, "GET", "/openapi.json").await.status, 200);
    refused(&with(&rig, "tasker_unknown", "GET", "/openapi.json").await, 401, "invalid_token");
    refused(&rig.get("/openapi.json").await, 401, "token_needed");

    // A process that has never read them lets nobody in, and says when to come back.
    let other = another(&rig, "127.0.0.1:0").await;
    for request in
        [rig.request("GET", "/openapi.json"), rig.request("GET", "/openapi.json").bearer_auth(ADMIN)]
    {
        let answer = rig.send(at(request, other)).await;
        assert_eq!(
            (answer.status, answer.code().as_str(), answer.header("retry-after")),
            (503, "database_unavailable", "5")
        );
    }
    assert_eq!(rig.send(at(rig.request("GET", "/heartbeat"), other)).await.status, 200);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_to_others_is_never_open() {
    let rig = Rig::start().await;
    let everywhere = another(&rig, "0.0.0.0:0").await;
    refused(&rig.send(at(rig.request("GET", "/"), everywhere)).await, 401, "token_needed");

    let unguarded =
        check_guarded(everywhere, &rig.store, "tasker token create").await.expect_err("there is no token");
    assert!(
        matches!(unguarded, DoorError::Unguarded { .. })
            && unguarded.to_string().contains("`tasker token create`"),
        "{unguarded}"
    );
    check_guarded(rig.address, &rig.store, "").await.expect("a loopback address needs none");
    create(&rig, ADMIN, &[Scope::Admin], &[]).await;
    check_guarded(everywhere, &rig.store, "").await.expect("there is one now");
    assert_eq!(rig.send(at(rig.request("GET", "/").bearer_auth(ADMIN), everywhere)).await.status, 200);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_to_send_a_body_to_be_refused() {
    let rig = guarded().await;
    let answer = rig.raw(b"POST /worker HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n").await;
    refused(&answer, 401, "token_needed");
    // A body that never ends is not read for ever either.
    let mut stream = rig.connect().await;
    let head = b"POST /worker HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head).await.expect("the server reads");
    refused(&read_answer(&mut stream).await, 401, "token_needed");
    let flood = async { while stream.write_all(b"4\r\naaaa\r\n").await.is_ok() {} };
    tokio::time::timeout(PATIENCE, flood).await.expect("the server hangs up");
    let metrics = with(&rig, ADMIN, "GET", "/metrics").await.text;
    let line = r#"tasker_http_request_seconds_count{method="POST",route="/{type}",status="401"} 2"#;
    assert!(metrics.contains(line), "refusals are counted: {metrics}");
    rig.stop().await;
}

/// The same interface behind another door. It goes with the test.
async fn another(rig: &Rig, address: &str) -> SocketAddr {
    let door = Door::new(TcpListener::bind(address).expect("a free port"), None).expect("a door");
    let address = door.address();
    tokio::spawn(serve(rig.state.clone(), door, CancellationToken::new()));
    address
}

/// The same request to another door.
fn at(request: reqwest::RequestBuilder, door: SocketAddr) -> reqwest::RequestBuilder {
    let (client, request) = request.build_split();
    let mut request = request.expect("a request");
    request.url_mut().set_port(Some(door.port())).expect("a port");
    reqwest::RequestBuilder::from_parts(client, request)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_only_submit_cancels_its_own_tasks_and_reads_none() {
    let rig = guarded().await;
    rig_task(&rig).await;
    let (one, other, reader) = ("1".repeat(40), "2".repeat(40), "3".repeat(40));
    create(&rig, &one, &[Scope::Submit], &[]).await;
    create(&rig, &other, &[Scope::Submit, Scope::Work], &["worker"]).await;
    create(&rig, &reader, &[Scope::Submit, Scope::Read], &[]).await;
    let request = rig.request("POST", "/worker").bearer_auth(&one).header("Content-Type", "application/json");
    let made = rig.send(request.body(r#"{"identifier": "mine", "payload": "a canary"}"#)).await;
    assert_eq!(made.status, 201);
    let id = made.json()["id"].as_str().expect("an id").to_owned();

    let unknown = with(&rig, &other, "DELETE", "/worker/unheard-of").await;
    for name in ["mine", &id, "there"] {
        let answer = with(&rig, &other, "DELETE", &format!("/worker/{name}")).await;
        assert_eq!(
            (answer.status, answer.json()["code"].clone()),
            (404, unknown.json()["code"].clone()),
            "{name}"
        );
        let detail = |answer: &Answer, name: &str| {
            answer.json()["detail"].as_str().map(|text| text.replace(name, "NAME"))
        };
        assert_eq!(detail(&answer, name), detail(&unknown, "unheard-of"), "{name}");
    }
    assert_eq!(
        with(&rig, &reader, "GET", "/worker/mine").await.json()["task"]["status"],
        "CREATED",
        "nothing was canceled"
    );
    let canceled = with(&rig, &one, "DELETE", "/worker/mine").await;
    assert_eq!((canceled.status, canceled.json()["status"].clone()), (200, "CANCELED".into()));
    assert!(!canceled.text.contains("canary"), "{canceled:?}");
    assert_eq!(
        with(&rig, &one, "DELETE", &format!("/worker/{id}")).await.status,
        200,
        "a repeat answers the same"
    );
    assert!(
        with(&rig, &reader, "DELETE", "/worker/mine").await.text.contains("canary"),
        "who may read it may cancel it"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_only_submit_cancels_and_retries_its_own_requests_alone() {
    let rig = guarded().await;
    let (one, other, reader) = ("1".repeat(40), "2".repeat(40), "3".repeat(40));
    create(&rig, &one, &[Scope::Submit], &[]).await;
    create(&rig, &other, &[Scope::Submit, Scope::Work], &[]).await;
    create(&rig, &reader, &[Scope::Submit, Scope::Read], &[]).await;
    let steps = r#"[{"name": "a", "jobs": ["worker"]}]"#;
    let submit = async |secret: &str, name: &str| {
        let request =
            rig.request("POST", "/requests").bearer_auth(secret).header("Content-Type", "application/json");
        let body = format!(
            r#"{{"action": "go", "request_token": "{name}", "params": "a canary", "steps": {steps}}}"#
        );
        let made = rig.send(request.body(body)).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.json()["token"].as_str().expect("a token").to_owned()
    };
    let (mine, readers) = (submit(&one, "mine").await, submit(&reader, "readers").await);
    let repeated = async |secret: &str, params: &str| {
        let request =
            rig.request("POST", "/requests").bearer_auth(secret).header("Content-Type", "application/json");
        let body =
            format!(r#"{{"action": "go", "request_token": "mine", "params": "{params}", "steps": {steps}}}"#);
        rig.send(request.body(body)).await
    };
    let (same, differs) = (repeated(&other, "a canary").await, repeated(&other, "no canary").await);
    assert_eq!(
        (same.status, same.code(), same.json()["detail"].clone()),
        (409, "request_conflict".to_owned(), differs.json()["detail"].clone()),
        "{same:?}"
    );
    assert_eq!(
        [repeated(&one, "a canary").await.status, repeated(&reader, "a canary").await.status],
        [200; 2]
    );
    let insert = format!(
        "INSERT INTO requests (token, action, params, steps) VALUES ('inserted', 'go', '1', '{steps}')"
    );
    let mut producer = SqliteConnection::connect(&rig.ledger()).await.expect("connects");
    producer.execute(AssertSqlSafe(insert)).await.expect("inserted");

    let send = async |secret: &str, method: &str, token: &str| {
        let path = format!("/requests/{token}{}", if method == "POST" { "/retry" } else { "" });
        let request =
            rig.request(method, &path).bearer_auth(secret).header("Content-Type", "application/json");
        rig.send(request).await
    };
    for method in ["DELETE", "POST"] {
        let unknown = send(&other, method, "unheard-of").await;
        assert_eq!((unknown.status, unknown.code()), (404, "unknown_request".to_owned()));
        for (secret, token) in [(&other, &*mine), (&other, "inserted"), (&one, "inserted"), (&one, &*readers)]
        {
            let answer = send(secret, method, token).await;
            assert_eq!((answer.status, answer.code()), (404, unknown.code()), "{method} {token}");
            let detail = |answer: &Answer, name: &str| {
                answer.json()["detail"].as_str().map(|text| text.replace(name, "NAME"))
            };
            assert_eq!(detail(&answer, token), detail(&unknown, "unheard-of"), "{method} {token}");
        }
    }
    assert_eq!(
        with(&rig, &reader, "GET", &format!("/requests/{mine}")).await.json()["status"],
        "Queuing",
        "nothing was canceled"
    );
    assert_eq!(send(&one, "POST", &mine).await.code(), "nothing_failed", "it is found");
    let canceled = send(&one, "DELETE", &mine).await;
    assert_eq!((canceled.status, canceled.json()["status"].clone()), (200, "Canceled".into()));
    assert!(!canceled.text.contains("canary"), "{canceled:?}");
    assert!(send(&reader, "DELETE", &mine).await.text.contains("canary"), "who may read it may cancel it");
    for (secret, token) in [(&reader, "inserted"), (&ADMIN.to_owned(), &*readers)] {
        assert_eq!(send(secret, "DELETE", token).await.status, 200, "{token}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_submit_tasks_of_a_type_may_run_its_schedules() {
    let config = "task_types: [worker, backup]\napi: {port: 0, hosts: [x]}\nschedules:\n  \
                  - {name: nightly, type: backup, cron: \"0 3 * * *\"}\n  - {name: other, type: worker, cron: \"0 3 * * *\"}";
    let rig = Rig::start_as(config, Limits::default()).await;
    create(&rig, ADMIN, &[Scope::Admin], &[]).await;
    let (one, all, reader) = ("1".repeat(40), "2".repeat(40), "3".repeat(40));
    create(&rig, &one, &[Scope::Submit], &["backup"]).await;
    create(&rig, &all, &[Scope::Submit], &[]).await;
    create(&rig, &reader, &[Scope::Read], &[]).await;
    for (secret, path, status) in [
        (one.as_str(), "/schedules/nightly/run", 201),
        // Whether there is such a schedule is not told to one who may not run it.
        (&one, "/schedules/other/run", 403),
        (&one, "/schedules/unheard-of/run", 403),
        (&all, "/schedules/other/run", 201),
        (&all, "/schedules/unheard-of/run", 404),
        (&reader, "/schedules/nightly/run", 403),
        (&all, "/schedules/nightly/pause", 403),
        (&all, "/schedules/nightly/resume", 403),
        (ADMIN, "/schedules/nightly/pause", 200),
        (ADMIN, "/schedules/nightly/run", 201),
        (ADMIN, "/schedules/unheard-of/pause", 404),
    ] {
        let answer = with(&rig, secret, "POST", path).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        if status == 201 {
            let task = answer.json();
            assert_eq!(
                answer.header("location"),
                format!(
                    "/{}/{}",
                    task["type"].as_str().unwrap_or_default(),
                    task["identifier"].as_str().unwrap_or_default().replace(':', "%3A")
                )
            );
        }
    }
    assert_eq!(
        with(&rig, &one, "POST", "/schedules/nightly/run").await.json()["endpoints"],
        serde_json::json!([])
    );
    let listed = with(&rig, &reader, "GET", "/schedules").await.json();
    assert!(
        listed["schedules"][0]["paused_at"].is_string() && listed["schedules"][1]["paused_at"].is_null(),
        "{listed}"
    );
    rig.stop().await;
}
