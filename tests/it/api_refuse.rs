//! Everything that is refused: each row of the error table in `docs/api.md`.

use std::time::Duration;

use serde_json::json;
use tasker::api::Limits;
use tasker::domain::PresenceState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::api_rig::{Rig, finished, read_answer};

/// `?dry_run=true` that is ignored does what it was to try.
#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_a_path_does_not_have() {
    let rig = Rig::start().await;
    rig.submit("kept", &["a"]).await;
    let document = rig.get("/openapi.json").await.json();
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        let parts = path.split('/').map(|part| match part {
            "{type}" => "worker",
            "{id}" if path.starts_with("/{type}") => "kept",
            part if part.starts_with('{') => "00000000-0000-7000-8000-000000000000",
            part => part,
        });
        let at = format!("{}?zzz=1", parts.collect::<Vec<_>>().join("/"));
        for method in item.as_object().expect("operations").keys().map(|method| method.to_uppercase()) {
            if matches!(path.as_str(), "/heartbeat" | "/ready") {
                assert_eq!(rig.get(&at).await.status, 200, "a probe may say what it likes");
                continue;
            }
            let mut request = rig.request(&method, &at).header("content-type", "application/json");
            if method != "GET" {
                request = request.body("{}");
            }
            let answer = rig.send(request).await;
            assert!((400..500).contains(&answer.status), "{method} {at}: {answer:?}");
            let has_query = item[method.to_lowercase()]["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|one| one["in"] == "query");
            if !has_query {
                assert_eq!(answer.code(), "invalid_query", "{method} {at}: {answer:?}");
                assert_eq!(answer.pointers(), ["?zzz"], "{method} {at}");
            }
            asked += 1;
        }
    }
    assert!(asked > 50, "{asked} operations");
    assert_eq!(rig.delete("/worker/kept?dry_run=true").await.status, 422);
    let kept = rig.get("/worker/kept").await.json();
    assert_ne!(kept["task"]["status"].as_str().expect("a status"), "CANCELED", "{kept}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_methods_that_are_not_there() {
    let rig = Rig::start().await;
    rig.submit("here", &[]).await;
    for (method, path, status, code) in [
        ("POST", "/nothing", 404, "unknown_task_type"),
        ("GET", "/nothing", 404, "unknown_task_type"),
        ("GET", "/nothing/here", 404, "unknown_task_type"),
        ("DELETE", "/nothing/here", 404, "unknown_task_type"),
        ("PUT", "/nothing", 404, "unknown_task_type"),
        ("GET", "/Worker", 404, "unknown_task_type"),
        ("GET", "/worker%20", 404, "unknown_task_type"),
        ("GET", "/responses", 404, "unknown_task_type"),
        ("GET", "/metrics/x", 404, "unknown_task_type"),
        ("GET", "/worker/there", 404, "unknown_task"),
        ("DELETE", "/worker/there", 404, "unknown_task"),
        ("GET", "/backup/here", 404, "unknown_task"),
        ("GET", "/worker/0193e3a5-7c3e-7b1c-9d5a-3f0f5a1c2b77", 404, "unknown_task"),
        ("GET", "/worker/", 404, "not_found"),
        ("GET", "/worker/here/x", 404, "not_found"),
        ("GET", "//", 404, "not_found"),
        ("GET", "/worker/%2e%2e/x", 404, "not_found"),
        ("PUT", "/worker", 405, "method_not_allowed"),
        ("DELETE", "/worker", 405, "method_not_allowed"),
        ("POST", "/worker/here", 405, "method_not_allowed"),
        ("PATCH", "/worker/here", 405, "method_not_allowed"),
        ("BREW", "/worker/here", 405, "method_not_allowed"),
        ("POST", "/metrics", 405, "method_not_allowed"),
        ("POST", "/", 405, "method_not_allowed"),
        ("OPTIONS", "/endpoints", 405, "method_not_allowed"),
        ("GET", "/worker/%00", 400, "bad_path"),
        ("GET", "/worker/%ff", 400, "bad_path"),
        ("GET", "/worker/a%0d%0ab", 400, "bad_path"),
        ("GET", "/worker/%c3%28", 400, "bad_path"),
        ("GET", "/worker/%", 400, "bad_path"),
        ("GET", "/%ff/here", 400, "bad_path"),
        ("POST", "/%00", 400, "bad_path"),
        ("DELETE", "/worker/%e2%80", 400, "bad_path"),
    ] {
        let answer = rig.raw_path(method, path).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {path}: {answer:?}");
    }
    for (path, allow) in
        [("/worker", "GET, HEAD, POST"), ("/worker/here", "GET, HEAD, DELETE"), ("/ready", "GET, HEAD")]
    {
        assert_eq!(rig.raw_path("PUT", path).await.header("allow"), allow);
    }
    assert_eq!(rig.raw_path("GET", "/work%65r/%68ere").await.status, 200, "an escape more is the same path");
    assert_eq!(
        rig.raw_path("GET", "/worker%2Fhere").await.code(),
        "unknown_task_type",
        "an escaped slash separates nothing"
    );
    assert_eq!(rig.raw_path("GET", "/worker/a%2Fb").await.code(), "unknown_task");
    assert_eq!(rig.raw_path("GET", &format!("/worker/{}", "x".repeat(10_000))).await.code(), "unknown_task");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_has_comes_back_with_what_there_is() {
    let config = "task_types: [backup, worker, {name: builds, delivery: queue}]\napi: {port: 0, hosts: [x]}\n\
                  schedules: [{name: nightly, type: backup, cron: \"0 3 * * *\"}]";
    let rig = Rig::start_as(config, Limits::default()).await;
    rig.see("console1", &["worker", "backup"], PresenceState::Alive).await;
    let types = "(configured: backup, worker, builds)";
    for (method, path, detail, value, suggestion) in [
        (
            "POST",
            "/wroker",
            format!(r#"unknown task type "wroker" {types}; did you mean worker?"#),
            "wroker",
            Some("worker"),
        ),
        (
            "GET",
            "/Backup/x",
            format!(r#"unknown task type "Backup" {types}; did you mean backup?"#),
            "Backup",
            Some("backup"),
        ),
        (
            "GET",
            "/schedule",
            format!(r#"unknown task type "schedule" {types}; did you mean /schedules?"#),
            "schedule",
            Some("/schedules"),
        ),
        ("GET", "/f%22oo", format!(r#"unknown task type "f\"oo" {types}"#), "f\"oo", None),
        (
            "GET",
            "/census?type=bakup",
            format!(r#"unknown task type "bakup" {types}; did you mean backup?"#),
            "bakup",
            Some("backup"),
        ),
        ("GET", "/worker/nope", r#"task "nope" of type worker not found"#.to_owned(), "nope", None),
        ("DELETE", "/worker/no%20pe", r#"task "no pe" of type worker not found"#.to_owned(), "no pe", None),
        (
            "POST",
            "/queues/build/pause",
            r#"unknown work queue "build" (configured: builds); did you mean builds?"#.to_owned(),
            "build",
            Some("builds"),
        ),
        (
            "POST",
            "/queues/worker/resume",
            r#"task type "worker" has no work queue (those that have one: builds)"#.to_owned(),
            "worker",
            None,
        ),
        (
            "POST",
            "/schedules/nigthly/run",
            r#"unknown schedule "nigthly" (configured: nightly); did you mean nightly?"#.to_owned(),
            "nigthly",
            Some("nightly"),
        ),
        (
            "DELETE",
            "/endpoints/cosnole1",
            r#"unknown endpoint "cosnole1" (known: console1); did you mean console1?"#.to_owned(),
            "cosnole1",
            Some("console1"),
        ),
        (
            "POST",
            "/queues/builds/puase",
            r#"there is nothing at "/queues/builds/puase"; did you mean /queues/builds/pause?"#.to_owned(),
            "/queues/builds/puase",
            Some("/queues/builds/pause"),
        ),
        (
            "GET",
            "/worker/here/x",
            r#"there is nothing at "/worker/here/x": /openapi.json describes every path"#.to_owned(),
            "/worker/here/x",
            None,
        ),
    ] {
        let answer = rig.raw_path(method, path).await;
        let problem = answer.json();
        assert_eq!(
            (problem["detail"].as_str(), problem["value"].as_str()),
            (Some(detail.as_str()), Some(value)),
            "{method} {path}"
        );
        assert_eq!(problem["suggestion"].as_str(), suggestion, "{method} {path}");
    }
    let wrong = rig.raw_path("PUT", "/endpoints").await.json();
    assert_eq!(wrong["detail"], r#""/endpoints" does not take PUT, but GET, HEAD, DELETE"#);
    let long = rig.raw_path("GET", &format!("/{}", "x".repeat(10_000))).await;
    assert!(long.text.len() < 1000, "{long:?}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_not_json() {
    let rig = Rig::start().await;
    let deep = |levels: usize| {
        format!(r#"{{"identifier":"deep","payload":{}1{}}}"#, "[".repeat(levels), "]".repeat(levels))
    };
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"{".to_vec(),
        b"not json".to_vec(),
        b"{\"identifier\":\"a\"}}".to_vec(),
        b"{'identifier':'a'}".to_vec(),
        b"{\"identifier\":\"a\",}".to_vec(),
        b"\xef\xbb\xbf{\"identifier\":\"a\"}".to_vec(),
        b"{\"identifier\":\"\xff\"}".to_vec(),
        b"{\"identifier\":\"a\",\"payload\":\"\xc0\xaf\"}".to_vec(),
        b"{\"identifier\":\"a\",\"payload\":\"\xed\xa0\x80\"}".to_vec(),
        br#"{"identifier":"\ud800"}"#.to_vec(),
        br#"{"identifier":"a","payload":["\udfff x"]}"#.to_vec(),
        br#"{"identifier":"a","payload":1e400}"#.to_vec(),
        br#"{"identifier":"a","payload":NaN}"#.to_vec(),
        format!(r#"{{"identifier":"a","payload":{}}}"#, "9".repeat(400)).into_bytes(),
        "[".repeat(60_000).into_bytes(),
        deep(128).into_bytes(),
        deep(20_000).into_bytes(),
        b"{\"identifier\":\"a\nb\"}".to_vec(),
        vec![0; 100],
    ];
    for body in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        let answer = rig.post("/worker", body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_json"), "{shown}");
    }
    assert_eq!(rig.post("/worker", deep(127)).await.status, 201, "128 levels with the outermost");
    assert_eq!(
        rig.get("/worker").await.text.matches(r#""identifier":"#).count(),
        1,
        "nothing else was recorded"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn submissions_with_problems_are_told_all_of_them() {
    let rig = Rig::start().await;
    let long = "é".repeat(192);
    let cases = [
        ("{}".to_owned(), vec!["/identifier"]),
        (r#"{"identifier":""}"#.to_owned(), vec!["/identifier"]),
        (r#"{"identifier":null}"#.to_owned(), vec!["/identifier"]),
        (r#"{"identifier":7}"#.to_owned(), vec!["/identifier"]),
        (r#"{"identifier":"a\u0000b"}"#.to_owned(), vec!["/identifier"]),
        (json!({"identifier": long}).to_string(), vec!["/identifier"]),
        (r#"{"identifier":"a","identifier":"a"}"#.to_owned(), vec!["/identifier"]),
        (r#"{"identifier":"a","payload":1,"payload":1}"#.to_owned(), vec!["/payload"]),
        (r#"{"identifier":"a","endpoint":["console1"]}"#.to_owned(), vec!["/endpoint"]),
        (r#"{"identifier":"a","id":"x","a/b":1,"c~d":2}"#.to_owned(), vec!["/id", "/a~1b", "/c~0d"]),
        (r#"{"identifier":"a","endpoints":"console1"}"#.to_owned(), vec!["/endpoints"]),
        (r#"{"identifier":"a","endpoints":{}}"#.to_owned(), vec!["/endpoints"]),
        (r#"{"identifier":"a","endpoints":null}"#.to_owned(), vec!["/endpoints"]),
        (
            r#"{"identifier":"a","endpoints":["ok",1,"a b","","ok","../x","#.to_owned()
                + &format!("{:?}]}}", "x".repeat(129)),
            vec![
                "/endpoints/1", "/endpoints/2", "/endpoints/3", "/endpoints/4", "/endpoints/5",
                "/endpoints/6",
            ],
        ),
        (
            r#"{"endpoints":[null],"x":1,"identifier":[]}"#.to_owned(),
            vec!["/x", "/identifier", "/endpoints/0"],
        ),
        ("[]".to_owned(), vec![""]),
        ("null".to_owned(), vec![""]),
        ("\"identifier\"".to_owned(), vec![""]),
    ];
    for (body, pointers) in cases {
        let answer = rig.post("/worker", body.clone()).await;
        assert_eq!((answer.status, answer.code().as_str()), (422, "invalid_submission"), "{body}");
        assert_eq!(answer.pointers(), pointers, "{body}");
    }
    assert_eq!(rig.get("/worker").await.json()["tasks"], json!([]), "nothing was recorded");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_plain_json_is_read() {
    let rig = Rig::start().await;
    let body = r#"{"identifier":"a"}"#;
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin1",
        "application/jsonx",
        "*/*",
    ] {
        let answer = rig.send(rig.request("POST", "/worker").header("Content-Type", kind).body(body)).await;
        assert_eq!((answer.status, answer.code().as_str()), (415, "unsupported_media_type"), "{kind}");
    }
    assert_eq!(
        rig.send(rig.request("POST", "/worker").body(body)).await.code(),
        "unsupported_media_type",
        "no type at all"
    );
    let packed = rig
        .request("POST", "/worker")
        .header("Content-Type", "application/json")
        .header("Content-Encoding", "gzip");
    assert_eq!(rig.send(packed.body(body)).await.code(), "unsupported_media_type");
    let good = rig
        .request("POST", "/worker")
        .header("Content-Type", "Application/JSON; Charset=\"UTF-8\"")
        .body(body);
    assert_eq!(rig.send(good).await.status, 201);
    rig.stop().await;
}

/// The limit of the rig.
const LIMIT: usize = 64 * 1024;

fn body_of(length: usize) -> String {
    let frame = r#"{"identifier":"a","payload":""}"#.len();
    format!(r#"{{"identifier":"a","payload":"{}"}}"#, "x".repeat(length - frame))
}

fn head(rest: &str) -> String {
    format!("POST /worker HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{rest}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_early() {
    let rig = Rig::start().await;
    assert_eq!(rig.post("/worker", body_of(LIMIT)).await.status, 201, "the limit itself is fine");
    let over = rig.post("/worker", body_of(LIMIT + 1)).await;
    assert_eq!((over.status, over.code().as_str()), (413, "body_too_large"));
    let detail = format!("the body has {} bytes (64.0 KiB), the limit is 64KiB (api.body_limit)", LIMIT + 1);
    assert_eq!(over.json()["detail"], detail);

    let announced = rig.raw(head("Content-Length: 99999999999").as_bytes()).await;
    assert_eq!(
        (announced.status, announced.header("connection")),
        (413, "close"),
        "not one byte had to be sent"
    );

    let mut stream = rig.connect().await;
    stream.write_all(head("Transfer-Encoding: chunked").as_bytes()).await.expect("the server reads");
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    let (mut reader, mut writer) = stream.split();
    // Goes on sending until the server has had enough; the answer must get through all the same.
    let sending = async { while writer.write_all(chunk.as_bytes()).await.is_ok() {} };
    let reading = async {
        let mut answer = Vec::new();
        while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
            assert!(reader.read_buf(&mut answer).await.expect("an answer") > 0);
        }
        answer
    };
    let answer = tokio::select! {
        answer = reading => answer,
        () = sending => panic!("the connection was cut without an answer"),
        () = tokio::time::sleep(crate::api_rig::PATIENCE) => panic!("no answer"),
    };
    assert!(answer.starts_with(b"HTTP/1.1 413 "), "{}", String::from_utf8_lossy(&answer));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let limits = Limits { body_timeout: Duration::from_millis(300), ..Limits::default() };
    let rig = Rig::start_with(limits).await;
    for start in [
        head("Content-Length: 100"),
        head("Transfer-Encoding: chunked"),
        head("Content-Length: 100") + "{\"identifier\":",
    ] {
        let answer = rig.raw(start.as_bytes()).await;
        assert_eq!(
            (answer.status, answer.code().as_str(), answer.header("connection")),
            (408, "body_timeout", "close")
        );
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_bodies_together_have_a_limit() {
    let rig = Rig::start_with(Limits { body_budget: 20_000, ..Limits::default() }).await;
    assert_eq!(rig.post("/worker", body_of(20_000)).await.status, 201);
    let body = body_of(19_000);
    let (first, rest) = body.split_at(15_000);
    // When the server has read the first part is not told from outside, so ask until it has. The two do not
    // fit together: when the question comes first, it is the held one that is refused, and another takes its
    // place.
    let held_and_refused = async {
        loop {
            let mut held = rig.connect().await;
            held.write_all((head(&format!("Content-Length: {}", body.len())) + first).as_bytes())
                .await
                .expect("the server reads");
            while held.try_read(&mut [0]).is_err() {
                let answer = rig.post("/worker", body_of(10_000).replace("\"a\"", "\"b\"")).await;
                if answer.status == 503 {
                    return (held, answer);
                }
            }
        }
    };
    let (mut held, refused) =
        tokio::time::timeout(crate::api_rig::PATIENCE, held_and_refused).await.expect("refused in time");
    assert_eq!((refused.code().as_str(), refused.header("retry-after")), ("overloaded", "1"));
    held.write_all(rest.as_bytes()).await.expect("the server reads");
    assert_eq!(
        read_answer(&mut held).await.code(),
        "identifier_conflict",
        "the held one was read to its end"
    );
    assert_eq!(rig.post("/worker", body_of(20_000)).await.status, 200, "and has given its share back");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_breaks_off_records_all_or_nothing() {
    let rig = Rig::start().await;
    let body = r#"{"identifier":"reset"}"#;
    let mut stream = rig.connect().await;
    stream
        .write_all((head(&format!("Content-Length: {}", body.len())) + &body[..10]).as_bytes())
        .await
        .expect("the server reads");
    stream.set_zero_linger().expect("a socket");
    drop(stream);

    // Broken off after the last byte: recorded or not, but the same submission again settles it.
    for round in 0..20 {
        let body = format!(r#"{{"identifier":"reset-{round}"}}"#);
        let mut stream = rig.connect().await;
        stream
            .write_all((head(&format!("Content-Length: {}", body.len())) + &body).as_bytes())
            .await
            .expect("the server reads");
        stream.set_zero_linger().expect("a socket");
        drop(stream);
        let again = rig.post("/worker", body).await;
        assert!(matches!(again.status, 200 | 201), "{again:?}");
    }
    assert_eq!(rig.get("/worker/reset").await.code(), "unknown_task");
    assert_eq!(
        rig.get("/worker?identifier=reset&limit=1000").await.json()["tasks"].as_array().map(Vec::len),
        Some(20)
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_cannot_be_used() {
    let rig = Rig::start().await;
    let id = rig.submit("here", &[]).await;
    for (path, pointers) in [
        ("/worker?limit=0", vec!["?limit"]),
        ("/worker?limit=1001", vec!["?limit"]),
        (
            "/worker?limit=ten&since=yesterday&until=1&status=sent",
            vec!["?status", "?since", "?until", "?limit"],
        ),
        ("/worker?stauts=SENT", vec!["?stauts"]),
        ("/worker?status=DONE&status=SENT", vec!["?status"]),
        ("/worker?cursor=abc", vec!["?cursor"]),
        ("/worker?identifier=%ff", vec!["?identifier"]),
        ("/worker/here?wait=61s", vec!["?wait"]),
        ("/worker/here?wait=20", vec!["?wait"]),
        ("/worker/here?wait=", vec!["?wait"]),
        ("/worker/here?responses=some&wait=-1s&x", vec!["?wait", "?responses", "?x"]),
        ("/endpoints?limit=-1&cursor=t00", vec!["?limit", "?cursor"]),
        ("/endpoints?type=worker", vec!["?type"]),
    ] {
        let answer = rig.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (422, "invalid_query"), "{path}");
        assert_eq!(answer.pointers(), pointers, "{path}");
    }
    assert_eq!(rig.get(&format!("/worker?cursor={id}")).await.code(), "invalid_query", "an id is no cursor");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_cannot_be_canceled() {
    let rig = Rig::start().await;
    let id = rig.submit("over", &["console1"]).await;
    rig.freeze(id, &["console1"]).await;
    rig.report(id, "console1", finished(0, "")).await;
    let answer = rig.delete("/worker/over").await;
    assert_eq!((answer.status, answer.code().as_str()), (409, "already_ended"));
    assert!(answer.text.contains("DONE"));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_nothing_is_promised() {
    let rig = Rig::start().await;
    rig.submit("here", &[]).await;
    rig.store.close().await;
    for (method, path) in [
        ("POST", "/worker"),
        ("GET", "/worker"),
        ("GET", "/worker/here"),
        ("GET", "/worker/here?wait=1s"),
        ("DELETE", "/worker/here"),
        ("GET", "/endpoints"),
    ] {
        let request = rig
            .request(method, path)
            .header("Content-Type", "application/json")
            .body(r#"{"identifier":"there"}"#);
        let answer = rig.send(request).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "database_unavailable"), "{method} {path}");
        assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0));
        assert!(
            !answer.text.contains("sqlite"),
            "how the database is reached is nobody's business: {answer:?}"
        );
    }
    for path in ["/", "/heartbeat", "/metrics", "/openapi.json"] {
        assert_eq!(rig.get(path).await.status, 200, "{path} needs no database");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_gets_a_short_answer() {
    let rig = Rig::start().await;
    let start = tokio::time::Instant::now();
    for bytes in [
        "\0\0\0\0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET /worker/é\u{1} HTTP/1.1\r\n\r\n",
    ] {
        assert_eq!(rig.raw(bytes.as_bytes()).await.status, 400, "{bytes:?}");
    }
    let smuggled = head("Content-Length: 5\r\nTransfer-Encoding: chunked")
        + "0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(rig.raw(smuggled.as_bytes()).await.status, 400);
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(200_000));
    let mut stream = rig.connect().await;
    let _ = stream.write_all(long.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 431 ") || answer.is_empty(),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert!(start.elapsed() < crate::api_rig::PATIENCE);
    assert_eq!(rig.get("/heartbeat").await.status, 200, "and everybody else is served");
    rig.stop().await;
}
