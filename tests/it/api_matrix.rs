//! Every route with every kind of token.
//!
//! The requests come from the table of routes; what each kind of token may do is written down here once more,
//! so a route that is opened or closed by mistake differs from its row, and a route without a row fails.

use std::collections::BTreeSet;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::iter;
use serde_json::{Value, json};
use tasker::api::{Limits, routes};
use tasker::domain::{Scope, SecretHash, Token};
use tasker::store::TokenCreated;
use uuid::Uuid;

use crate::api_access::{ADMIN, create, with};
use crate::api_rig::{Answer, Rig, endpoint};

/// The kinds of tokens, in the order of the columns of [`EXPECTED`].
const KINDS: [&str; 15] = [
    "none", "unknown", "expired", "revoked", "submit", "read", "work", "admin",
    // `admin`, limited to types: those of the request, another one.
    "these types", "other types",
    // `work`, bound to a worker: the one in the path, another one.
    "this worker", "other worker",
    // `admin`, for a worker that another token is bound to.
    "bound elsewhere", // What is submitted with them alone.
    "read:own", "cancel:own",
];

/// What each kind gets: `1` is 401, `3` is 403 for its scope, `.` is anything but a refusal. One letter a
/// kind; spaces are for the eye.
#[rustfmt::skip]
const EXPECTED: &[(&str, &str, &str)] = &[
    ("GET",    "/",                        "1111 3.3. 33 33. 33"),
    ("HEAD",   "/",                        "1111 3.3. 33 33. 33"),
    ("GET",    "/heartbeat",               ".... .... .. ... .."),
    ("HEAD",   "/heartbeat",               ".... .... .. ... .."),
    ("GET",    "/ready",                   ".... .... .. ... .."),
    ("HEAD",   "/ready",                   ".... .... .. ... .."),
    ("GET",    "/metrics",                 "1111 3.3. 33 33. 33"),
    ("HEAD",   "/metrics",                 "1111 3.3. 33 33. 33"),
    ("GET",    "/openapi.json",            "1111 3.3. .. 33. 33"),
    ("HEAD",   "/openapi.json",            "1111 3.3. .. 33. 33"),
    ("GET",    "/census",                  "1111 3.3. .3 33. 33"),
    ("HEAD",   "/census",                  "1111 3.3. .3 33. 33"),
    ("GET",    "/census/requests",         "1111 3.3. 33 33. 33"),
    ("HEAD",   "/census/requests",         "1111 3.3. 33 33. 33"),
    ("GET",    "/census/rollouts",         "1111 3.3. 33 33. 33"),
    ("HEAD",   "/census/rollouts",         "1111 3.3. 33 33. 33"),
    ("GET",    "/audit",                  "1111 333. 33 33. 33"),
    ("HEAD",   "/audit",                  "1111 333. 33 33. 33"),
    ("GET",    "/audit/submissions",      "1111 333. 33 33. 33"),
    ("HEAD",   "/audit/submissions",      "1111 333. 33 33. 33"),
    ("GET",    "/endpoints",               "1111 3.3. 33 33. 33"),
    ("HEAD",   "/endpoints",               "1111 3.3. 33 33. 33"),
    ("GET",    "/endpoints/states",        "1111 3.3. 33 33. 33"),
    ("HEAD",   "/endpoints/states",        "1111 3.3. 33 33. 33"),
    ("GET",    "/endpoints/names",         "1111 3.3. 33 33. 33"),
    ("HEAD",   "/endpoints/names",         "1111 3.3. 33 33. 33"),
    ("GET",    "/events",                  "1111 3.3. .. 33. 33"),
    ("HEAD",   "/events",                  "1111 3.3. .. 33. 33"),
    ("DELETE", "/endpoints",               "1111 333. 33 33. 33"),
    ("DELETE", "/endpoints/{name}",        "1111 333. 33 33. 33"),
    ("GET",    "/groups",                  "1111 3.3. 33 33. 33"),
    ("HEAD",   "/groups",                  "1111 3.3. 33 33. 33"),
    ("GET",    "/groups/{name}",           "1111 3.3. 33 33. 33"),
    ("HEAD",   "/groups/{name}",           "1111 3.3. 33 33. 33"),
    ("PUT",    "/groups/{name}",           "1111 333. 33 33. 33"),
    ("DELETE", "/groups/{name}",           "1111 333. 33 33. 33"),
    ("GET",    "/endpoints/{name}/tasks",  "1111 3.3. 33 33. 33"),
    ("HEAD",   "/endpoints/{name}/tasks",  "1111 3.3. 33 33. 33"),
    ("POST",   "/endpoints/{name}/enrolment", ".... .... .. ... .."),
    ("GET",    "/session",                 "1111 .... .. ... .."),
    ("HEAD",   "/session",                 "1111 .... .. ... .."),
    ("DELETE", "/session",                 "1111 .... .. ... .."),
    ("POST",   "/session",                 ".... .... .. ... .."),
    ("GET",    "/queues",                  "1111 3.3. 33 33. 33"),
    ("HEAD",   "/queues",                  "1111 3.3. 33 33. 33"),
    ("POST",   "/queues/{type}/pause",     "1111 333. 33 33. 33"),
    ("POST",   "/queues/{type}/resume",    "1111 333. 33 33. 33"),
    ("POST",   "/queues/{type}/requeue",   "1111 333. .3 33. 33"),
    ("GET",    "/schedules",               "1111 3.3. 33 33. 33"),
    ("HEAD",   "/schedules",               "1111 3.3. 33 33. 33"),
    ("POST",   "/schedules/{name}/run",    "1111 .33. .3 33. 33"),
    ("POST",   "/schedules/{name}/pause",  "1111 333. 33 33. 33"),
    ("POST",   "/schedules/{name}/resume", "1111 333. 33 33. 33"),
    ("GET",    "/flamenco/jobs",          "1111 3.3. 33 33. 33"),
    ("HEAD",   "/flamenco/jobs",          "1111 3.3. 33 33. 33"),
    ("GET",    "/flamenco/tasks",         "1111 3.3. 33 33. 33"),
    ("HEAD",   "/flamenco/tasks",         "1111 3.3. 33 33. 33"),
    ("GET",    "/flamenco/tasks/{id}",    "1111 3.3. 33 33. 33"),
    ("HEAD",   "/flamenco/tasks/{id}",    "1111 3.3. 33 33. 33"),
    ("GET",    "/flamenco/workers",       "1111 3.3. 33 33. 33"),
    ("HEAD",   "/flamenco/workers",       "1111 3.3. 33 33. 33"),
    ("GET",    "/types",                   "1111 3.3. .. 33. 33"),
    ("HEAD",   "/types",                   "1111 3.3. .. 33. 33"),
    ("GET",    "/tasks/counts",            "1111 3.3. .. 33. 33"),
    ("HEAD",   "/tasks/counts",            "1111 3.3. .. 33. 33"),
    ("GET",    "/stats",                   "1111 3.3. .. 33. 33"),
    ("HEAD",   "/stats",                   "1111 3.3. .. 33. 33"),
    ("GET",    "/tasks",                   "1111 3.3. .. 33. 33"),
    ("HEAD",   "/tasks",                   "1111 3.3. .. 33. 33"),
    ("POST",   "/tasks",                   "1111 .33. .. 33. 33"),
    ("POST",   "/tasks/cancel",            "1111 333. .. 33. 33"),
    ("GET",    "/tasks/{id}",              "1111 3.3. .. 33. .3"),
    ("HEAD",   "/tasks/{id}",              "1111 3.3. .. 33. .3"),
    ("DELETE", "/tasks/{id}",              "1111 .33. .. 33. 3."),
    ("GET",    "/tasks/{id}/explain",      "1111 3.3. .. 33. .3"),
    ("HEAD",   "/tasks/{id}/explain",      "1111 3.3. .. 33. .3"),
    ("GET",    "/requests",                "1111 3.3. 33 33. 33"),
    ("HEAD",   "/requests",                "1111 3.3. 33 33. 33"),
    ("POST",   "/requests",                "1111 .33. 33 33. 33"),
    ("GET",    "/requests/{token}",        "1111 3.3. 33 33. 33"),
    ("HEAD",   "/requests/{token}",        "1111 3.3. 33 33. 33"),
    ("DELETE", "/requests/{token}",        "1111 .33. 33 33. 3."),
    ("POST",   "/requests/{token}/retry",  "1111 .33. 33 33. 33"),
    ("GET",    "/api/poll/{token}",        "1111 3.3. 33 33. 33"),
    ("HEAD",   "/api/poll/{token}",        "1111 3.3. 33 33. 33"),
    ("GET",    "/rollouts",                "1111 3.3. .. 33. 33"),
    ("HEAD",   "/rollouts",                "1111 3.3. .. 33. 33"),
    ("POST",   "/rollouts",                "1111 .33. .. 33. 33"),
    ("POST",   "/rollouts/plan",           "1111 3.3. .. 33. 33"),
    ("GET",    "/rollouts/holds",          "1111 3.3. 33 33. 33"),
    ("HEAD",   "/rollouts/holds",          "1111 3.3. 33 33. 33"),
    ("DELETE", "/rollouts/holds/{lane}/{endpoint}", "1111 333. 33 33. 33"),
    ("GET",    "/rollouts/{id}",           "1111 3.3. .. 33. 33"),
    ("HEAD",   "/rollouts/{id}",           "1111 3.3. .. 33. 33"),
    ("PATCH",  "/rollouts/{id}",           "1111 .33. .. 33. 33"),
    ("GET",    "/rollouts/{id}/targets",   "1111 3.3. .. 33. 33"),
    ("HEAD",   "/rollouts/{id}/targets",   "1111 3.3. .. 33. 33"),
    ("GET",    "/rollouts/{id}/events",    "1111 3.3. .. 33. 33"),
    ("HEAD",   "/rollouts/{id}/events",    "1111 3.3. .. 33. 33"),
    ("POST",   "/rollouts/{id}/start",     "1111 .33. .. 33. 33"),
    ("POST",   "/rollouts/{id}/pause",     "1111 .33. .. 33. 33"),
    ("POST",   "/rollouts/{id}/resume",    "1111 .33. .. 33. 33"),
    ("POST",   "/rollouts/{id}/abort",     "1111 .33. .. 33. 33"),
    // `approve` is for tokens with the scope of that name: `api_rollouts` shows them.
    ("POST",   "/rollouts/{id}/approve",   "1111 333. .. 33. 33"),
    ("POST",   "/rollouts/{id}/refuse",    "1111 333. .. 33. 33"),
    ("POST",   "/rollouts/{id}/skip",      "1111 .33. .. 33. 33"),
    ("POST",   "/rollouts/{id}/retry",     "1111 .33. .. 33. 33"),
    ("POST",   "/rollouts/{id}/rerun",     "1111 333. .. 33. 33"),
    ("POST",   "/workers/{name}/tasks",    "1111 33.. .3 .33 33"),
    ("POST",   "/workers/{name}/reports",  "1111 33.. .3 .33 33"),
    ("POST",   "/workers/{name}/presence", "1111 33.. .3 .33 33"),
    ("GET",    "/{type}",                  "1111 3.3. .3 33. 33"),
    ("HEAD",   "/{type}",                  "1111 3.3. .3 33. 33"),
    ("POST",   "/{type}",                  "1111 .33. .3 33. 33"),
    ("GET",    "/{type}/{id}",             "1111 3.3. .3 33. .3"),
    ("HEAD",   "/{type}/{id}",             "1111 3.3. .3 33. .3"),
    ("DELETE", "/{type}/{id}",             "1111 .33. .3 33. 3."),
    ("GET",    "/{type}/{id}/states",      "1111 3.3. .3 33. .3"),
    ("HEAD",   "/{type}/{id}/states",      "1111 3.3. .3 33. .3"),
    ("GET",    "/{type}/{id}/names",       "1111 3.3. .3 33. .3"),
    ("HEAD",   "/{type}/{id}/names",       "1111 3.3. .3 33. .3"),
    ("GET",    "/{type}/{id}/explain",     "1111 3.3. .3 33. .3"),
    ("HEAD",   "/{type}/{id}/explain",     "1111 3.3. .3 33. .3"),
    ("GET",    "/{type}/{id}/answers",     "1111 3.3. .3 33. .3"),
    ("HEAD",   "/{type}/{id}/answers",     "1111 3.3. .3 33. .3"),
    ("GET",    "/{type}/{id}/responses",   "1111 3.3. .3 33. .3"),
    ("HEAD",   "/{type}/{id}/responses",   "1111 3.3. .3 33. .3"),
    ("GET",    "/{type}/{id}/logs",        "1111 3.3. .3 33. .3"),
    ("HEAD",   "/{type}/{id}/logs",        "1111 3.3. .3 33. .3"),
    ("POST",   "/{type}/{id}/rerun",       "1111 333. .3 33. 33"),
    // The same of the scope `approve`.
    ("POST",   "/{type}/{id}/approvals",   "1111 333. .3 33. 33"),
];

const BOUND: &str = "rack1";

async fn rig() -> Rig {
    let config = "task_types: [worker, {name: builds, delivery: queue}, {name: images, delivery: queue}]\napi: {port: 0}
schedules: [{name: nightly, type: worker, cron: '30 3 * * *'}]";
    Rig::start_as(config, Limits { wrong_tokens: u32::MAX, ..Limits::default() }).await
}

/// The secret of a kind.
fn secret(kind: &str) -> String {
    format!("tasker_the-secret-of-{}", kind.replace(' ', "-"))
}

/// Makes a token of each kind.
async fn make_tokens(rig: &Rig) {
    create(rig, ADMIN, &[Scope::Admin], &[]).await;
    for (kind, scope) in [
        ("submit", Scope::Submit),
        ("read", Scope::Read),
        ("work", Scope::Work),
        ("admin", Scope::Admin),
        ("read:own", Scope::ReadOwn),
        ("cancel:own", Scope::CancelOwn),
    ] {
        create(rig, &secret(kind), &[scope], &[]).await;
    }
    create(rig, &secret("these types"), &[Scope::Admin], &["worker", "builds"]).await;
    create(rig, &secret("other types"), &[Scope::Admin], &["images"]).await;
    let revoked = create(rig, &secret("revoked"), &[Scope::Admin], &[]).await;
    for (kind, worker) in [("this worker", Some(BOUND)), ("expired", None)] {
        let token = Token {
            id: Uuid::now_v7(),
            name: kind.replace(' ', "-").parse().expect("a name"),
            hash: SecretHash::of(secret(kind).as_bytes()),
            scopes: [if worker.is_some() { Scope::Work } else { Scope::Admin }].into_iter().collect(),
            expires_at: worker.is_none().then(|| rig.state.clock.now()),
            worker: worker.map(endpoint),
            ..revoked.clone()
        };
        assert_eq!(rig.store.create_token(&token, None).await.expect("the store works"), TokenCreated::New);
    }
    assert_eq!(with(rig, &secret("revoked"), "GET", "/").await.status, 200);
    assert!(rig.store.delete_token(&revoked.name, None).await.expect("the store works"));
    // A secret that is not known makes the process read the tokens again.
    assert_eq!(with(rig, "tasker_nobody-s", "GET", "/").await.status, 401);
}

/// A request for a route that all who may send it send like this.
fn request(rig: &Rig, method: &str, pattern: &str, worker: &str) -> reqwest::RequestBuilder {
    let task_type = if pattern.starts_with("/queues/") { "builds" } else { "worker" };
    let name = match pattern.split('/').nth(1) {
        Some("workers") => worker,
        Some("schedules") => "nightly",
        _ => "web1",
    };
    let path = pattern
        .replace("{type}", task_type)
        .replace("{id}", "there")
        .replace("{name}", name)
        .replace("{token}", "there");
    let path = path.replace("{lane}", "worker").replace("{endpoint}", "web1");
    let query = match pattern {
        "/census" => "?type=worker",
        "/audit/submissions" => "?hour=2026-01-01T00:00:00Z",
        _ => "",
    };
    let request = rig.request(method, &format!("{path}{query}"));
    match method {
        "POST" | "PUT" => {
            request.header("Content-Type", "application/json").body(body(pattern, worker).to_string())
        }
        _ => request,
    }
}

fn body(pattern: &str, worker: &str) -> Value {
    let id = Uuid::nil();
    match pattern {
        "/workers/{name}/tasks" => {
            json!({"session": id, "types": ["builds"], "all": true, "known": [], "stopped": [], "wait_ms": 0})
        }
        "/workers/{name}/reports" => {
            json!({"reports": [{"v": 1, "kind": "received", "task_id": Uuid::now_v7(), "type": "builds", "endpoint": worker, "home": id}]})
        }
        "/workers/{name}/presence" => json!({
            "v": 1, "kind": "alive", "endpoint": worker, "instance": id, "home": id, "session": id, "types": ["builds"],
            "interval_ms": 10_000, "version": "1", "slots": 3,
        }),
        "/groups/{name}" => json!({"match": "role=web"}),
        "/session" => json!({"token": ADMIN}),
        "/tasks" => json!([{"type": "worker", "identifier": Uuid::new_v4().to_string()}]),
        "/tasks/cancel" => json!({"filter": {}}),
        "/queues/{type}/requeue" => json!({}),
        "/requests" => json!({"action": "build", "steps": [{"name": "build", "jobs": ["builds"]}]}),
        _ => json!({"identifier": Uuid::new_v4().to_string()}),
    }
}

/// The letter of an answer.
fn verdict(pattern: &str, answer: &Answer) -> char {
    match (answer.status, answer.header("www-authenticate")) {
        // The token was let in all the same: a busy machine has kept the database waiting.
        (503, _) if pattern == "/ready" => '.',
        (401, r#"Bearer realm="tasker""# | r#"Bearer realm="tasker", error="invalid_token""#) => '1',
        (403, r#"Bearer realm="tasker", error="insufficient_scope""#) => '3',
        // A path that nobody serves, or a defect, proves nothing.
        (401 | 403 | 405 | 500.., _) => '!',
        _ => '.',
    }
}

#[test]
fn each_route_has_one_row_and_is_described() {
    let served: BTreeSet<_> = routes().collect();
    let rows: Vec<_> = EXPECTED.iter().map(|(method, pattern, _)| (*method, *pattern)).collect();
    assert_eq!(rows.len(), rows.iter().collect::<BTreeSet<_>>().len(), "a row is there twice");
    assert_eq!(served, rows.into_iter().collect(), "left: what is served, right: what has a row");
    let document: Value = serde_json::from_str(&tasker::api::document()).expect("JSON");
    let described: BTreeSet<_> = document["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, methods)| {
            methods
                .as_object()
                .expect("methods")
                .keys()
                .map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    // Every `GET` also answers `HEAD`; docs/api.md says it once for all.
    let expected = served
        .iter()
        .filter(|(method, _)| *method != "HEAD")
        .map(|(method, path)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(described, expected.collect(), "left: the OpenAPI document, right: what is served");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_treats_every_kind_of_token_as_its_row_says() {
    let rig = rig().await;
    make_tokens(&rig).await;
    let cell = async |method: &str, pattern: &str, kind: &str| {
        let worker = if matches!(kind, "this worker" | "bound elsewhere") { BOUND } else { "rack2" };
        let request = request(&rig, method, pattern, worker);
        let request = match kind {
            "none" => request,
            "other worker" => request.bearer_auth(secret("this worker")),
            "bound elsewhere" => request.bearer_auth(secret("admin")),
            _ => request.bearer_auth(secret(kind)),
        };
        rig.send(request).await
    };
    let cell = &cell;
    let mut wrong = Vec::new();
    // A few rows at the same time: secrets that nobody has are looked up together, and each look costs half a
    // second. A thousand requests at once would be about load, not about tokens.
    let rows = EXPECTED.iter().map(|(method, pattern, expected)| async move {
        (method, pattern, expected, join_all(KINDS.iter().map(|kind| cell(method, pattern, kind))).await)
    });
    let rows: Vec<_> = iter(rows).buffer_unordered(8).collect().await;
    for (method, pattern, expected, answers) in rows {
        let expected: Vec<char> = expected.chars().filter(|letter| *letter != ' ').collect();
        assert_eq!(expected.len(), KINDS.len(), "{method} {pattern}: one letter a kind");
        for ((kind, expected), answer) in KINDS.iter().zip(expected).zip(answers) {
            if verdict(pattern, &answer) != expected {
                wrong.push(format!("{method} {pattern} with {kind}: expected {expected}, got {answer:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_a_path_does_not_take_is_told_only_to_those_with_a_token() {
    let rig = rig().await;
    make_tokens(&rig).await;
    let served: BTreeSet<_> = routes().collect();
    let patterns: BTreeSet<_> = routes().map(|(_, pattern)| pattern).collect();
    for pattern in patterns {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            if served.contains(&(method, pattern)) {
                continue;
            }
            let unknown = rig.send(request(&rig, method, pattern, "rack2")).await;
            assert_eq!(unknown.status, 401, "{method} {pattern}: {unknown:?}");
            let admin = rig.send(request(&rig, method, pattern, "rack2").bearer_auth(ADMIN)).await;
            assert_eq!(admin.status, 405, "{method} {pattern}: {admin:?}");
            let allowed: BTreeSet<_> = admin.header("allow").split(", ").collect();
            let takes: BTreeSet<_> =
                served.iter().filter(|(_, of)| *of == pattern).map(|(method, _)| *method).collect();
            assert_eq!(allowed, takes, "{method} {pattern}");
        }
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_there_is_a_token_every_route_serves_this_machine_and_no_web_page() {
    let served = rig().await;
    let (rig, port) = (&served, served.address.port());
    // At the same time: secrets that nobody has are looked up together, and each look costs half a second.
    join_all(routes().map(|(method, pattern)| async move {
        let send = async |headers: &[(&str, &str)]| {
            let mut request = request(rig, method, pattern, "rack2");
            for (name, value) in headers {
                // A second `Content-Type` would be another request than the one meant.
                let (client, built) = request.build_split();
                let mut built = built.expect("a request");
                let name: reqwest::header::HeaderName = name.parse().expect("a header");
                built.headers_mut().insert(name, value.parse().expect("a value"));
                request = reqwest::RequestBuilder::from_parts(client, built);
            }
            rig.send(request).await
        };
        for headers in [&[][..], &[("Authorization", "Bearer tasker_whatever")]] {
            let answer = send(headers).await;
            assert!(
                !matches!(answer.status, 401 | 403 | 405 | 415 | 421 | 500..),
                "{method} {pattern}: {answer:?}"
            );
        }
        let is = |answer: &Answer, status: u16, code: &str| {
            assert_eq!(answer.status, status, "{method} {pattern}: {answer:?}");
            assert!(method == "HEAD" || answer.code() == code, "{method} {pattern}: {answer:?}");
        };
        for host in
            [format!("evil.example:{port}"), "192.0.2.1".to_owned(), format!("localhost:{}", port ^ 1)]
        {
            is(&send(&[("Host", &host)]).await, 421, "misdirected");
            is(
                &send(&[("Host", &host), ("Authorization", "Bearer tasker_whatever")]).await,
                421,
                "misdirected",
            );
        }
        for page in [("Origin", "http://evil.example"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")]
        {
            is(&send(&[page]).await, 403, "cross_site");
        }
        if method == "POST" {
            for form in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
            {
                is(&send(&[("Content-Type", form)]).await, 415, "unsupported_media_type");
            }
        }
    }))
    .await;
    served.stop().await;
}
