//! What those who look after the process see: health, readiness, metrics, request ids, and how it stops.

use std::collections::BTreeSet;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::api_rig::{PATIENCE, Rig, read_answer};

#[tokio::test(flavor = "multi_thread")]
async fn the_process_says_what_it_is() {
    let rig = Rig::start().await;
    assert_eq!(rig.get("/heartbeat").await.json(), json!({"status": "alive"}));
    let index = rig.get("/").await.json();
    assert_eq!(
        (&index["name"], &index["task_types"]),
        (&json!("tasker"), &json!(["worker", "backup", "Other_1"]))
    );
    let links: BTreeSet<_> =
        index["links"].as_array().expect("links").iter().map(|link| link.as_str().expect("a path")).collect();
    assert_eq!(links, tasker::api::routes().map(|(_, path)| path).collect());
    let described = rig.get("/openapi.json").await;
    assert_eq!(
        (described.header("content-type"), described.text.as_str()),
        ("application/json", tasker::api::document().as_str())
    );
    let head = rig.send(rig.request("HEAD", "/heartbeat")).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_broker_and_database() {
    let rig = Rig::start().await;
    let ready = rig.get("/ready").await;
    assert_eq!((ready.status, ready.json()), (200, json!({"ready": true, "database": "ok", "broker": "ok"})));
    rig.broker.cut();
    let ready = rig.get("/ready").await;
    assert_eq!(
        (ready.status, ready.json()),
        (503, json!({"ready": false, "database": "ok", "broker": "disconnected"}))
    );
    rig.broker.restore();
    assert_eq!(rig.get("/ready").await.status, 200);
    rig.store.close().await;
    // What the database has shown counts for a second.
    let begun = std::time::Instant::now();
    let mut ready = rig.get("/ready").await;
    while ready.status == 200 && begun.elapsed() < PATIENCE {
        ready = rig.get("/ready").await;
    }
    assert_eq!(
        (ready.status, ready.json()),
        (503, json!({"ready": false, "database": "unavailable", "broker": "ok"}))
    );
    assert_eq!(rig.get("/heartbeat").await.status, 200);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_for_readiness_costs_the_database_next_to_nothing() {
    let rig = Rig::start().await;
    let mut written = Vec::new();
    let begun = std::time::Instant::now();
    for _ in 0..200 {
        assert_eq!(rig.get("/ready").await.status, 200);
        written.push(rig.store.schedule("/ready").await.expect("answers"));
    }
    written.dedup();
    let seconds = usize::try_from(begun.elapsed().as_secs()).expect("few");
    assert!(!written.is_empty() && written.len() <= seconds + 1, "{} writes in {seconds} s", written.len());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_know_routes_and_no_names() {
    let rig = Rig::start().await;
    rig.submit("very-secret-name", &[]).await;
    rig.get("/worker/very-secret-name").await;
    rig.get("/worker/very-secret-name?responses=none&wait=0s").await;
    rig.raw_path("BREW", "/no/such/path").await;
    rig.get("/unheard-of").await;
    let metrics = rig.get("/metrics").await;
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        r#"tasker_http_request_seconds_count{method="POST",route="/{type}",status="201"} 1"#,
        r#"tasker_http_request_seconds_count{method="GET",route="/{type}/{id}",status="200"} 1"#,
        r#"tasker_http_request_seconds_count{method="GET",route="/{type}/{id}?wait",status="200"} 1"#,
        r#"tasker_http_request_seconds_count{method="OTHER",route="unmatched",status="404"} 1"#,
        r#"tasker_http_request_seconds_count{method="GET",route="/{type}",status="404"} 1"#,
    ] {
        assert!(metrics.text.contains(line), "{line} in {}", metrics.text);
    }
    assert!(!metrics.text.contains("secret") && !metrics.text.contains("unheard-of"));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_names_its_request() {
    let rig = Rig::start().await;
    let given = rig.send(rig.request("GET", "/worker/unknown").header("X-Request-Id", "Root=1-abc/d")).await;
    assert_eq!(
        (given.header("x-request-id"), &given.json()["request_id"]),
        ("Root=1-abc/d", &json!("Root=1-abc/d"))
    );
    for bad in ["", "a b", "\"x\"", "<script>", &"x".repeat(129)] {
        let answer = rig.send(rig.request("GET", "/heartbeat").header("X-Request-Id", bad)).await;
        assert!(
            answer.header("x-request-id").parse::<uuid::Uuid>().is_ok(),
            "{bad} is not repeated: {answer:?}"
        );
    }
    for path in ["/", "/worker", "/worker/unknown", "/metrics", "/no/such/path", "/worker?x=1"] {
        let answer = rig.get(path).await;
        assert!(!answer.header("x-request-id").is_empty(), "{path}");
        assert_eq!(
            (answer.header("x-content-type-options"), answer.header("cache-control")),
            ("nosniff", "no-store"),
            "{path}"
        );
        assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept() {
    let rig = Rig::start().await;
    let mut stream = rig.connect().await;
    let body = r#"{"identifier":"a"}"#;
    let post = format!(
        "POST /worker HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for (request, status) in [
        (post.as_str(), 201),
        (&post, 200),
        ("GET /worker/a HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ("GET /x HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    ] {
        stream.write_all(request.as_bytes()).await.expect("the connection holds");
        assert_eq!(read_answer(&mut stream).await.status, status);
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_who_waits_and_lets_go_of_who_idles() {
    let rig = Rig::start().await;
    rig.submit("t", &["console1"]).await;
    let mut idle = rig.connect().await;
    idle.write_all(b"GET /heartbeat HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("the server reads");
    assert_eq!(read_answer(&mut idle).await.status, 200);

    let (answer, ()) = tokio::join!(rig.get("/worker/t?wait=60s"), async {
        while rig.state.watch.is_empty() {
            tokio::task::yield_now().await;
        }
        rig.begin_stop();
    });
    assert_eq!(
        (answer.status, &answer.json()["task"]["status"]),
        (200, &json!("CREATED")),
        "what there is, not an error"
    );
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, idle.read_to_end(&mut rest))
        .await
        .expect("let go of in time")
        .expect("closed in order");
    assert!(rest.is_empty());
    let address = rig.address;
    // Loses patience long before the stop time-out, for which the idle connection could have held it up.
    rig.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_is_forgotten_unless_it_is_there() {
    use tasker::domain::PresenceState::{Alive, Leaving};
    let rig = Rig::start().await;
    for name in ["here", "ghost", "other"] {
        rig.see(name, &["worker", "backup"], Alive).await;
    }
    let id = rig.submit("owed", &["ghost"]).await;
    rig.freeze(id, &["ghost"]).await;
    let forget = async |path: &str| rig.send(rig.request("DELETE", path)).await;
    let present = forget("/endpoints/ghost").await;
    assert_eq!((present.status, present.code().as_str()), (409, "endpoint_present"));
    rig.see("ghost", &["worker", "backup"], Leaving).await;
    let gone = forget("/endpoints/ghost").await;
    assert_eq!((gone.status, gone.json()), (200, json!({"name": "ghost", "open": 1})));
    for path in ["/endpoints/ghost", "/endpoints/never", "/endpoints/no%20name"] {
        let unknown = forget(path).await;
        assert_eq!((unknown.status, unknown.code().as_str()), (404, "unknown_endpoint"), "{path}");
    }
    assert_eq!(forget("/endpoints/here?force=perhaps").await.code(), "invalid_query");
    assert_eq!(rig.get("/endpoints/here").await.code(), "method_not_allowed");

    // By the command line, too.
    let (address, listed) =
        (rig.address, async || rig.get("/endpoints").await.json()["endpoints"].as_array().map(Vec::len));
    let tasker = async |more: &'static [&'static str]| {
        let run = move || {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tasker"));
            command.env_remove("TASKER_API_URL").args([
                "endpoints",
                "forget",
                "here",
                "--api",
                &format!("http://{address}"),
            ]);
            command.args(more).output().expect("it runs")
        };
        tokio::task::spawn_blocking(run).await.expect("it runs")
    };
    let refused = tasker(&[]).await;
    assert!(
        !refused.status.success()
            && String::from_utf8_lossy(&refused.stderr).contains("here is there: stop it first"),
        "{refused:?}"
    );
    assert_eq!(listed().await, Some(2));
    let forced = tasker(&["--force"]).await;
    assert_eq!(
        (forced.status.code(), String::from_utf8_lossy(&forced.stdout).as_ref()),
        (Some(0), "here is forgotten\n"),
        "{forced:?}"
    );
    assert_eq!(listed().await, Some(1));
    rig.stop().await;
}
