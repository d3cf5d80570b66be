//! Which requests are for this process: `Host`, `Origin`, and the form that no web page can send unasked.

use tasker::api::Limits;
use tasker::domain::Scope;

use crate::api_access::{create, with};
use crate::api_rig::{Answer, Rig};

const SECRET: &str = "tasker_a-secret-of-this-file";

async fn rig(api: &str) -> Rig {
    let config =
        format!("task_types: [worker, {{name: builds, delivery: queue}}]\napi: {{port: 0, hosts: [{api}]}}");
    Rig::start_as(&config, Limits::default()).await
}

/// Sends a request with these headers and nothing else.
async fn raw(rig: &Rig, request: &str, headers: &[&str]) -> Answer {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    rig.raw(format!("{request}\r\n{headers}\r\n").as_bytes()).await
}

#[track_caller]
fn is(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_only_this_machine_by_its_own_names_is_served() {
    let rig = rig("").await;
    let port = rig.address.port();
    for host in [
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
        format!("LOCALHOST.:{port}"),
    ] {
        assert_eq!(raw(&rig, "GET / HTTP/1.1", &[&format!("Host: {host}")]).await.status, 200, "{host}");
    }
    for host in [
        format!("evil.example:{port}"),
        format!("192.0.2.1:{port}"),
        "localhost".to_owned(),
        "localhost:1".to_owned(),
    ] {
        for path in [
            "GET /",
            "GET /heartbeat",
            "GET /no/such/path",
            "POST /queues/builds/pause",
            "DELETE /worker/a",
            "BREW /",
        ] {
            is(
                &raw(
                    &rig,
                    &format!("{path} HTTP/1.1"),
                    &[&format!("Host: {host}"), "Content-Type: application/json", "Content-Length: 0"],
                )
                .await,
                421,
                "misdirected",
            );
        }
    }
    let ours = format!("Host: 127.0.0.1:{port}");
    for headers in [&[][..], &[ours.as_str(), ours.as_str()]] {
        assert_eq!(
            raw(&rig, "GET / HTTP/1.1", headers).await.status,
            400,
            "the server itself wants exactly one"
        );
    }
    is(&raw(&rig, "GET / HTTP/1.0", &[]).await, 421, "misdirected");
    is(&raw(&rig, "GET http://evil.example/ HTTP/1.1", &[&ours]).await, 421, "misdirected");
    assert_eq!(raw(&rig, &format!("GET http://127.0.0.1:{port}/ HTTP/1.1"), &[&ours]).await.status, 200);
    // A token that is shown where there is none changes nothing.
    is(
        &raw(&rig, "GET / HTTP/1.1", &["Host: evil.example", "Authorization: Bearer x"]).await,
        421,
        "misdirected",
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tokens_the_list_of_hosts_decides() {
    let open = rig("").await;
    create(&open, SECRET, &[Scope::Admin], &[]).await;
    assert_eq!(with(&open, SECRET, "GET", "/").await.status, 200);
    let token = format!("Authorization: Bearer {SECRET}");
    assert_eq!(
        raw(&open, "GET / HTTP/1.1", &["Host: tasker.example", &token]).await.status,
        200,
        "no list, no check"
    );
    assert_eq!(raw(&open, "GET /ready HTTP/1.0", &[]).await.status, 200);
    open.stop().await;

    let listed = rig("tasker.example, \"other.example:99\"").await;
    create(&listed, SECRET, &[Scope::Admin], &[]).await;
    assert_eq!(with(&listed, SECRET, "GET", "/").await.status, 200);
    for host in ["Host: tasker.example", "Host: TASKER.example:8443", "Host: other.example:99"] {
        assert_eq!(raw(&listed, "GET / HTTP/1.1", &[host, &token]).await.status, 200, "{host}");
    }
    for host in ["Host: evil.example", "Host: other.example", "Host: 192.0.2.1"] {
        is(&raw(&listed, "GET / HTTP/1.1", &[host, &token]).await, 421, "misdirected");
    }
    // A load balancer knows an address, or nothing.
    for headers in [&["Host: 192.0.2.1:8888"][..], &["Host: [2001:db8::1]"], &[]] {
        assert_eq!(raw(&listed, "GET /heartbeat HTTP/1.0", headers).await.status, 200, "{headers:?}");
        is(&raw(&listed, "GET /openapi.json HTTP/1.0", headers).await, 421, "misdirected");
    }
    is(&raw(&listed, "GET /heartbeat HTTP/1.1", &["Host: evil.example"]).await, 421, "misdirected");
    listed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_are_refused_whatever_they_ask() {
    let rig = rig("").await;
    let host = format!("Host: 127.0.0.1:{}", rig.address.port());
    let foreign = [
        "Origin: http://evil.example",
        "Origin: null",
        "Origin: http://127.0.0.1",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ];
    for header in foreign {
        for request in [
            "GET /",
            "GET /heartbeat",
            "OPTIONS /worker",
            "POST /queues/builds/pause",
            "DELETE /worker/a",
            "PUT /worker",
        ] {
            let answer = raw(
                &rig,
                &format!("{request} HTTP/1.1"),
                &[&host, header, "Content-Type: application/json", "Content-Length: 0"],
            )
            .await;
            assert_eq!(answer.status, 403, "{request} {header}");
        }
    }
    let own = format!("Origin: http://localhost:{}", rig.address.port());
    assert_eq!(raw(&rig, "GET / HTTP/1.1", &[&host, &own, "Sec-Fetch-Site: same-origin"]).await.status, 200);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_something_is_of_a_form_that_a_page_cannot_send_unasked() {
    let rig = rig("").await;
    let host = format!("Host: 127.0.0.1:{}", rig.address.port());
    let paths = [
        "/queues/builds/pause", "/queues/builds/resume", "/worker", "/workers/w/tasks", "/workers/w/reports",
        "/workers/w/presence", "/",
    ];
    for path in paths {
        for form in [
            "Content-Type: text/plain",
            "Content-Type: application/x-www-form-urlencoded",
            "Content-Type: application/json, text/plain",
            "X: y",
        ] {
            is(
                &raw(&rig, &format!("POST {path} HTTP/1.1"), &[&host, form, "Content-Length: 0"]).await,
                415,
                "unsupported_media_type",
            );
        }
    }
    for method in ["DELETE", "PUT", "PATCH"] {
        let answer = raw(
            &rig,
            &format!("{method} /worker/a HTTP/1.1"),
            &[&host, "Content-Type: text/plain", "Content-Length: 1000"],
        )
        .await;
        is(&answer, 415, "unsupported_media_type");
    }
    assert_eq!(rig.delete("/worker/a").await.status, 404, "without a body there is no type");
    assert_eq!(rig.post("/queues/builds/pause", "").await.status, 200);
    rig.stop().await;
}
