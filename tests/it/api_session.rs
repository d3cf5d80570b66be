//! Sessions of browsers, and the files of the dashboard: what a hostile page, an old cookie or an open
//! connection gets.

use std::time::Duration;

use tasker::api::Limits;
use tasker::domain::{Scope, SecretHash, Token};
use tasker::store::TokenCreated;
use uuid::Uuid;

use crate::api_access::{ADMIN, create, guarded, refused, with};
use crate::api_rig::{Answer, Rig};

/// Begins a session and gives the cookie as a browser sends it back.
async fn begin(rig: &Rig, secret: &str) -> String {
    let answer = rig.post("/session", format!(r#"{{"token": "{secret}"}}"#)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let cookie = answer.header("set-cookie");
    assert!(cookie.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict"), "{cookie}");
    assert!(!answer.text.contains(secret) && !cookie.contains(secret));
    cookie.split(';').next().expect("a pair").to_owned()
}

async fn sent(rig: &Rig, method: &str, path: &str, cookie: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = rig.request(method, path).header("Cookie", cookie);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    rig.send(request).await
}

const SHORT: &str = "tasker_a-token-that-ends-soon-in-a-test";

const FORM: (&str, &str) = ("Content-Type", "application/json");
const OWN: (&str, &str) = ("Sec-Fetch-Site", "same-origin");

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_good_for_what_its_token_is_good_for_until_it_ends() {
    let rig = guarded().await;
    let token = create(&rig, "tasker_a-reader-s-secret-in-a-test", &[Scope::Read], &[]).await;
    let cookie = begin(&rig, "tasker_a-reader-s-secret-in-a-test").await;
    assert!(cookie.starts_with("tasker="), "{cookie}");
    let who = sent(&rig, "GET", "/session", &cookie, &[OWN]).await.json();
    assert_eq!((&who["name"], &who["session"]), (&token.name.as_str().into(), &true.into()));
    assert_eq!((&who["scopes"], &who["task_types"]), (&serde_json::json!(["read"]), &serde_json::json!([])));
    assert_eq!(sent(&rig, "GET", "/tasks", &cookie, &[OWN]).await.status, 200);
    refused(&sent(&rig, "POST", "/worker", &cookie, &[FORM, OWN]).await, 403, "insufficient_scope");

    // A session begins no other session.
    let secret = cookie.split_once('=').expect("a pair").1;
    refused(&rig.post("/session", format!(r#"{{"token": "{secret}"}}"#)).await, 401, "invalid_token");

    let ended = sent(&rig, "DELETE", "/session", &cookie, &[OWN]).await;
    assert_eq!(
        (ended.status, ended.header("set-cookie")),
        (204, "tasker=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict")
    );
    refused(&sent(&rig, "GET", "/tasks", &cookie, &[OWN]).await, 401, "invalid_token");
    // With its token itself nothing ends.
    assert_eq!(with(&rig, ADMIN, "DELETE", "/session").await.status, 204);
    assert_eq!(with(&rig, ADMIN, "GET", "/session").await.status, 200);
    refused(&rig.get("/session").await, 401, "token_needed");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_something_with_a_cookie_needs_the_word_of_the_browser() {
    let rig = guarded().await;
    let cookie = begin(&rig, ADMIN).await;
    let host = rig.address;
    let (own, foreign) = (format!("http://{host}"), "http://evil.example");
    for (method, path) in [
        ("POST", "/worker"),
        ("DELETE", "/worker/a"),
        ("POST", "/queues/builds/pause"),
        ("DELETE", "/session"),
    ] {
        for headers in
            [&[FORM][..], &[FORM, ("Sec-Fetch-Site", "none")], &[FORM, ("Referer", "http://127.0.0.1/")]]
        {
            let answer = sent(&rig, method, path, &cookie, headers).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (403, "cross_site"),
                "{method} {path} {headers:?}"
            );
        }
        for lie in [
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Site", "same-site"),
            ("Origin", foreign),
            ("Origin", "null"),
        ] {
            let answer = sent(&rig, method, path, &cookie, &[FORM, lie]).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (403, "cross_site"),
                "{method} {path} {lie:?}"
            );
        }
        let form = sent(&rig, "POST", "/worker", &cookie, &[("Content-Type", "text/plain"), OWN]).await;
        assert_eq!(form.status, 415);
    }
    // It reads nothing for another site either, and no other host.
    for lie in [("Sec-Fetch-Site", "cross-site"), ("Origin", foreign)] {
        assert_eq!(sent(&rig, "GET", "/tasks", &cookie, &[lie]).await.status, 403);
    }
    for word in [OWN, ("Origin", own.as_str())] {
        let body = rig
            .request("POST", "/worker")
            .header("Cookie", &cookie)
            .header(FORM.0, FORM.1)
            .header(word.0, word.1);
        let answer = rig.send(body.body(format!(r#"{{"identifier": "{}"}}"#, Uuid::new_v4()))).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_token_and_with_its_time() {
    let rig = guarded().await;
    let parent = create(&rig, "tasker_the-parent-s-secret-in-a-test", &[Scope::Read], &[]).await;
    let cookie = begin(&rig, "tasker_the-parent-s-secret-in-a-test").await;
    assert_eq!(sent(&rig, "GET", "/tasks", &cookie, &[]).await.status, 200);
    assert!(rig.store.delete_token(&parent.name, None).await.expect("the store works"));
    assert!(
        rig.store
            .tokens()
            .await
            .expect("the store works")
            .iter()
            .all(|token| token.parent != Some(parent.id))
    );
    // A secret that is not known makes the process look.
    assert_eq!(with(&rig, "tasker_nobody-s", "GET", "/").await.status, 401);
    refused(&sent(&rig, "GET", "/tasks", &cookie, &[]).await, 401, "invalid_token");

    // Its time is never longer than that of its token.
    let soon = rig.state.clock.now().after(Duration::from_secs(3600));
    let short = Token {
        id: Uuid::now_v7(),
        name: "short".parse().expect("a name"),
        hash: SecretHash::of(SHORT.as_bytes()),
        ..parent.clone()
    };
    let short = Token { expires_at: Some(soon), ..short };
    assert_eq!(rig.store.create_token(&short, None).await.expect("the store works"), TokenCreated::New);
    let cookie = begin(&rig, SHORT).await;
    let who = sent(&rig, "GET", "/session", &cookie, &[]).await.json();
    assert_eq!(who["expires_at"], serde_json::to_value(soon).expect("JSON"));

    let over = Token { parent: Some(short.id), expires_at: Some(rig.state.clock.now()), ..short.clone() };
    let over = Token {
        id: Uuid::now_v7(),
        name: "over".parse().expect("a name"),
        hash: SecretHash::of(b"over"),
        ..over
    };
    assert_eq!(rig.store.create_token(&over, None).await.expect("the store works"), TokenCreated::New);
    refused(&sent(&rig, "GET", "/session", "tasker=over", &[]).await, 401, "invalid_token");
    // One whose token is gone, should the ledger still have it.
    let orphan = Token {
        parent: Some(Uuid::now_v7()),
        expires_at: Some(soon),
        hash: SecretHash::of(b"orphan"),
        ..over
    };
    let orphan = Token { id: Uuid::now_v7(), name: "orphan".parse().expect("a name"), ..orphan };
    assert_eq!(rig.store.create_token(&orphan, None).await.expect("the store works"), TokenCreated::New);
    refused(&sent(&rig, "GET", "/session", "tasker=orphan", &[]).await, 401, "invalid_token");
    refused(&with(&rig, "orphan", "GET", "/session").await, 401, "invalid_token");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_a_session_is_for_this_machine_alone() {
    let rig = Rig::start_as("task_types: [worker]\napi: {port: 0}", Limits::default()).await;
    create(&rig, ADMIN, &[Scope::Admin], &[]).await;
    assert_eq!(with(&rig, ADMIN, "GET", "/").await.status, 200);
    let body = format!(r#"{{"token": "{ADMIN}"}}"#);
    let start = |host: &str, origin: &[(&str, &str)]| {
        let mut request =
            rig.request("POST", "/session").header("Host", host).header(FORM.0, FORM.1).body(body.clone());
        for (name, value) in origin {
            request = request.header(*name, *value);
        }
        rig.send(request)
    };
    let open = start("tasker.example", &[]).await;
    assert_eq!(
        (open.status, open.code().as_str(), open.header("set-cookie")),
        (403, "insecure_connection", ""),
        "{open:?}"
    );
    // A proxy with TLS in front: its pages have an origin with TLS.
    let proxied = start("tasker.example", &[("Origin", "https://tasker.example")]).await;
    assert_eq!(proxied.status, 201, "{proxied:?}");
    let cookie = proxied.header("set-cookie").to_owned();
    assert!(
        cookie.starts_with("__Host-tasker=") && cookie.ends_with("; SameSite=Strict; Secure"),
        "{cookie}"
    );
    let pair = cookie.split(';').next().expect("a pair");
    let read = async |host: &str, cookie: &str| {
        rig.send(rig.request("GET", "/session").header("Host", host).header("Cookie", cookie)).await
    };
    assert_eq!(read("tasker.example", pair).await.status, 200);
    // The plain one counts for nothing under another name.
    let plain = begin(&rig, ADMIN).await;
    refused(&read("tasker.example", &plain).await, 401, "token_needed");
    assert_eq!(read(&rig.address.to_string(), &plain).await.status, 200);
    refused(&read(&rig.address.to_string(), &format!("{plain}; {plain}")).await, 401, "invalid_token");
    // A header counts before a cookie.
    let both = rig.request("GET", "/session").header("Cookie", &plain).bearer_auth("tasker_nobody-s");
    refused(&rig.send(both).await, 401, "invalid_token");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_so_many_sessions_and_no_more() {
    let rig = guarded().await;
    let first = begin(&rig, ADMIN).await;
    let mut last = String::new();
    for _ in 0..50 {
        last = begin(&rig, ADMIN).await;
    }
    let sessions =
        rig.store.tokens().await.expect("the store works").into_iter().filter(Token::is_session).count();
    assert_eq!(sessions, 50);
    assert_eq!(sent(&rig, "GET", "/session", &last, &[]).await.status, 200);
    refused(&sent(&rig, "GET", "/session", &first, &[]).await, 401, "invalid_token");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_begins_a_session_is_a_token_and_nothing_else() {
    let rig = guarded().await;
    for (body, status, code) in [
        (r#"{"token": "tasker_nobody-s"}"#, 401, "invalid_token"),
        (r#"{"token": ""}"#, 401, "invalid_token"),
        (r#"{"token": 7}"#, 422, "invalid_message"),
        (r#"{"token": "a", "scopes": ["admin"]}"#, 422, "invalid_message"),
        ("{}", 422, "invalid_message"),
        ("", 400, "invalid_json"),
    ] {
        let answer = rig.post("/session", body).await;
        assert_eq!(
            (answer.status, answer.code().as_str(), answer.header("set-cookie")),
            (status, code, ""),
            "{body}: {answer:?}"
        );
    }
    let long = rig.post("/session", format!(r#"{{"token": "{}"}}"#, "a".repeat(5000))).await;
    assert_eq!(long.status, 413);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_there_is_nothing_to_begin() {
    let rig = Rig::start().await;
    let answer = rig.post("/session", r#"{"token": "tasker_whatever"}"#).await;
    assert_eq!((answer.status, answer.header("set-cookie")), (200, ""), "{answer:?}");
    let who = rig.get("/session").await.json();
    assert_eq!((&who["name"], &who["session"]), (&serde_json::Value::Null, &false.into()));
    assert_eq!(who["scopes"], serde_json::json!(["submit", "read", "work", "approve", "admin"]));
    // A session of another time changes nothing.
    assert_eq!(sent(&rig, "GET", "/tasks", "tasker=old", &[]).await.status, 200);
    assert_eq!(sent(&rig, "DELETE", "/session", "tasker=old", &[]).await.status, 204);
    rig.stop().await;
}

const HEADERS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'self'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_are_for_everybody_and_confined() {
    let rig = guarded().await;
    for path in [
        "/dashboard",
        "/dashboard/",
        "/dashboard/tasks",
        "/dashboard/tasks/worker/a%2Fb?q=%3Cscript%3E",
        "/dashboard/tasks/worker/x",
    ] {
        let page = rig.get(path).await;
        assert_eq!(
            (page.status, page.header("content-type"), page.header("cache-control")),
            (200, "text/html; charset=utf-8", "no-cache")
        );
        assert!(page.text.starts_with("<!doctype html>") && !page.text.contains("<script>"), "{page:?}");
        for (name, value) in HEADERS {
            assert_eq!(page.header(name), *value, "{path} {name}");
        }
        assert_eq!(rig.send(rig.request("HEAD", path)).await.status, 200);
        refused(&rig.post(path, "{}").await, 401, "token_needed");
    }
    let page = rig.get("/dashboard").await;
    // Relative to the address of the page, which a proxy may have below a path of its own.
    let script =
        page.text.split('"').find(|part| part.starts_with("dashboard/assets/app.js?v=")).expect("the script");
    let deeper = rig.get("/dashboard/tasks/worker/a%2Fb").await;
    assert!(deeper.text.contains(&format!("\"{}\"", script.replace("dashboard/", "../../"))), "{deeper:?}");
    let script = format!("/{script}");
    let file = rig.get(&script).await;
    assert_eq!((file.status, file.header("content-type")), (200, "text/javascript; charset=utf-8"));
    assert_eq!(file.header("cache-control"), "public, max-age=31536000, immutable");
    let stale = rig.get("/dashboard/assets/app.js?v=0123456789ab").await;
    assert_eq!(stale.header("cache-control"), "no-cache");
    let again = rig
        .send(rig.request("GET", "/dashboard/assets/app.js").header("If-None-Match", file.header("etag")))
        .await;
    assert_eq!((again.status, again.text.len()), (304, 0));
    let packed = rig.send(rig.request("GET", &script).header("Accept-Encoding", "gzip")).await;
    assert_eq!((packed.status, packed.header("content-encoding")), (200, "gzip"));
    for path in ["/dashboard/assets/none.js", "/dashboard/assets/..%2Fmod.rs", "/dashboard/assets/"] {
        let missing = rig.get(path).await;
        assert_eq!(missing.status, 404, "{path}");
        assert_eq!(missing.header("content-security-policy"), HEADERS[0].1, "{path}");
    }
    refused(&rig.get("/dashboards").await, 401, "token_needed");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_on_another_site_leads_to_a_page_and_to_nothing_else() {
    let rig = guarded().await;
    let visit =
        [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")];
    let page = [("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
    let get = async |path: &str, headers: &[(&str, &str)]| {
        let mut request = rig.request("GET", path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        rig.send(request).await
    };
    assert_eq!(get("/dashboard/tasks", &visit).await.status, 200);
    for frame in ["iframe", "empty", "script"] {
        let answer = get("/dashboard", &[visit[0], visit[1], ("Sec-Fetch-Dest", frame)]).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "cross_site"), "{frame}");
    }
    assert_eq!(get("/dashboard", &[("Sec-Fetch-Site", "cross-site")]).await.status, 403);
    for path in ["/tasks", "/heartbeat", "/dashboards"] {
        assert_eq!(get(path, &visit).await.status, 403, "{path}");
    }
    assert_eq!(get("/", &[visit[0], visit[1], visit[2]]).await.status, 403, "the list of paths is no page");
    // Whoever looks at `/` with a browser, by a link or not, is led to the page, which is shown without a
    // token.
    for headers in [&page[..], &[page[0], visit[0], visit[1], visit[2]]] {
        let led = get("/", headers).await;
        assert!(led.status == 200 && led.text.starts_with("<!doctype html>"), "{led:?}");
    }
    refused(&get("/", &[("Accept", "application/json")]).await, 401, "token_needed");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_for_this_host_alone_as_long_as_there_is_no_token() {
    let rig = Rig::start_as("task_types: [worker]\napi: {port: 0}", Limits::default()).await;
    for path in ["/dashboard", "/dashboard/assets/app.js", "/session", "/"] {
        let answer = rig
            .send(rig.request("GET", path).header("Host", "evil.example").header("Accept", "text/html"))
            .await;
        assert_eq!((answer.status, answer.code().as_str()), (421, "misdirected"), "{path}");
        let answer = rig
            .send(rig.request("GET", path).header("Host", format!("localhost:{}", rig.address.port())))
            .await;
        assert_eq!(answer.status, 200, "{path}");
    }
    rig.stop().await;
}
