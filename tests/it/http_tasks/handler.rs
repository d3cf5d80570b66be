//! The task type `http`: what a payload may say, where it may connect to, and what its answer shows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tasker::config::{Config, Endpoint};
use tasker::domain::{Outcome, TaskId};
use tasker::endpoint::{AttemptSink, Context, Handler, Work};
use tasker::handlers::Http;
use tokio_util::sync::CancellationToken;

use super::server::{Reply, Server, ok};
use super::tls::Authority;

/// The settings of an endpoint whose list of targets is this.
fn settings(allow: &[&str]) -> Endpoint {
    let config = json!({"task_types": ["http"], "endpoint": {"http": {"allow": allow}}});
    Config::from_yaml(&config.to_string()).expect("a configuration").endpoint
}

#[derive(Default)]
struct Told(std::sync::Mutex<(Vec<u8>, Vec<String>)>);

impl AttemptSink for Told {
    fn progress(&self, percent: u8) {
        self.0.lock().expect("no panic here").0.push(percent);
    }
    fn log(&self, line: &str) {
        self.0.lock().expect("no panic here").1.push(line.to_owned());
    }
}

async fn run(settings: &Endpoint, payload: &Value) -> Outcome {
    run_until(settings, payload, CancellationToken::new(), Arc::default()).await
}

async fn run_until(
    settings: &Endpoint,
    payload: &Value,
    cancel: CancellationToken,
    told: Arc<Told>,
) -> Outcome {
    run_text(settings, &payload.to_string(), cancel, told).await
}

/// With the payload as it stands.
async fn run_text(settings: &Endpoint, payload: &str, cancel: CancellationToken, told: Arc<Told>) -> Outcome {
    let work = Work {
        id: TaskId::new(),
        task_type: "http".parse().expect("a type"),
        identifier: "1".parse().expect("an identifier"),
        endpoint: "console1".parse().expect("an endpoint"),
        attempt: 1,
        payload: serde_json::from_str(payload).expect("JSON"),
    };
    Http::new(settings)
        .run(&work, &Context::new(Instant::now() + Duration::from_secs(60), cancel, told))
        .await
}

fn answer(outcome: &Outcome) -> Value {
    let payload = match outcome {
        Outcome::Done(payload) | Outcome::Failed { payload: Some(payload), .. } => payload,
        other => panic!("no answer: {other:?}"),
    };
    serde_json::from_str(payload.get()).expect("JSON")
}

#[tokio::test]
async fn the_answer_says_what_became_of_each_call() {
    let server = Server::start(|seen, _| match seen.path.as_str() {
        "/missing" => Reply::status(404).body("no such system"),
        "/busy" => Reply::status(503).body("later"),
        "/lost" => Reply::status(302),
        "/same" => Reply::status(304),
        _ => ok().header("Content-Type", "text/plain"),
    })
    .await;
    let calls = json!([
        {"url": server.url("/")},
        {"url": server.url("/json"), "method": "POST", "body": {"ResetType": "On"}, "headers": {"X-Auth-Token": "hidden", "X-Many": ["1", "2"]}},
        {"url": server.url("/missing")},
        {"url": server.url("/busy"), "retries": 1, "backoff_max_ms": 1},
        {"url": server.url("/long"), "body_limit": 1},
        {"url": server.url("/lost")},
        {"url": server.url("/same")},
    ]);
    let told: Arc<Told> = Arc::default();
    let outcome = run_until(&settings(&["127.0.0.1"]), &calls, CancellationToken::new(), told.clone()).await;
    let Outcome::Failed { errnr: 1, errmsg, .. } = &outcome else { panic!("{outcome:?}") };
    let first = format!("call 3 (GET {}): status 404", server.url("/missing"));
    assert!(errmsg.contains("3 of 7") && errmsg.contains(&first), "{errmsg}");
    let answer = answer(&outcome);
    assert_eq!((&answer["total"], &answer["ok"], &answer["failed"]), (&json!(7), &json!(4), &json!(3)));
    let calls = &answer["calls"];
    let brief = |place: usize| {
        json!([
            calls[place]["outcome"], calls[place]["status"], calls[place]["body"], calls[place]["attempts"]
        ])
    };
    assert_eq!(brief(0), json!(["ok", 200, "ok", 1]));
    assert_eq!(brief(1), json!(["ok", 200, "ok", 1]));
    assert_eq!(brief(2), json!(["status", 404, "no such system", 1]));
    assert_eq!(brief(3), json!(["status", 503, "later", 2]));
    assert_eq!(brief(4), json!(["ok", 200, "o", 1]));
    assert_eq!(brief(5), json!(["status", 302, null, 1]));
    assert_eq!(brief(6), json!(["ok", 304, null, 1]));
    assert_eq!(
        (&calls[4]["truncated"], &calls[0]["content_type"], &calls[0]["trust"]),
        (&json!(true), &json!("text/plain"), &json!("plain"))
    );
    assert!(calls[3]["timings"]["waited_ms"].as_u64() >= Some(0) && calls[0]["timings"]["total_ms"].is_u64());
    assert!(!answer.to_string().contains("hidden"), "{answer}");
    assert_eq!(told.0.lock().expect("no panic here").0.last(), Some(&100));

    let posted = server.known.seen().into_iter().find(|seen| seen.path == "/json").expect("the POST");
    assert_eq!(
        (posted.body.as_slice(), posted.header("content-type")),
        (br#"{"ResetType":"On"}"#.as_slice(), Some("application/json"))
    );
    assert_eq!(
        (posted.header("x-auth-token"), posted.headers.get_all("x-many").iter().count()),
        (Some("hidden"), 2)
    );
}

#[tokio::test]
async fn nothing_is_reached_that_is_not_listed() {
    let server = Server::start(|seen, _| {
        if seen.path == "/away" { Reply::status(302).header("Location", "http://127.0.0.2:9/") } else { ok() }
    })
    .await;
    let here = json!([{"url": server.url("/")}]);
    let outcome = run(&settings(&[]), &here).await;
    assert!(
        matches!(&outcome, Outcome::Failed { errnr: 78, errmsg, .. } if errmsg.contains("endpoint.http.allow")),
        "{outcome:?}"
    );
    for allow in [["*"], ["10.0.0.0/8"], ["127.0.0.1:1"]] {
        let outcome = run(&settings(&allow), &here).await;
        let error = answer(&outcome)["calls"][0]["error"].to_string();
        assert!(error.contains("endpoint.http.allow"), "{error}");
    }
    assert_eq!(server.known.accepted(), 0);
    assert!(matches!(run(&settings(&["127.0.0.1"]), &here).await, Outcome::Done(_)));
    let outcome = run(&settings(&["127.0.0.1"]), &json!([{"url": server.url("/away")}])).await;
    assert!(answer(&outcome)["calls"][0]["error"].to_string().contains("127.0.0.2"), "{outcome:?}");
}

#[tokio::test]
async fn what_a_payload_may_not_be() {
    let settings = settings(&["127.0.0.1"]);
    for payload in [
        json!([]),
        json!({"url": "http://127.0.0.1/"}),
        json!([{"method": "GET"}]),
        json!([{"url": "ftp://127.0.0.1/"}]),
        json!([{"url": "http://127.0.0.1/", "headers": {"X-Auth-Token": "hidden\nhidden"}}]),
        json!([{"url": "http://127.0.0.1/", "headers": {"X-Auth-Token": 5_318_008}}]),
        json!([{"url": "http://127.0.0.1/", "retry": 3}]),
        json!([{"url": "http://127.0.0.1/", "method": "G T"}]),
    ] {
        let outcome = run(&settings, &payload).await;
        let Outcome::Failed { errnr: 64, errmsg, payload: None } = &outcome else {
            panic!("{payload}: {outcome:?}")
        };
        assert!(!errmsg.contains("hidden") && !errmsg.contains("5318008"), "{errmsg}");
    }
}

#[tokio::test]
async fn a_cancel_ends_the_calls_and_is_answered() {
    let server = Server::start(|_, nth| if nth == 0 { ok() } else { Reply::Stall }).await;
    let cancel = CancellationToken::new();
    let (url, stop) = (server.url("/"), cancel.clone());
    let settings = settings(&["127.0.0.1"]);
    let running = tokio::spawn(async move {
        let calls = json!([{"url": url.clone()}, {"url": url.clone()}, {"url": url}]);
        run_until(&settings, &calls, stop, Arc::default()).await
    });
    server.known.until_seen(3).await;
    cancel.cancel();
    let outcome =
        tokio::time::timeout(Duration::from_secs(10), running).await.expect("an end").expect("no panic");
    let answer = answer(&outcome);
    assert_eq!((&answer["total"], &answer["ok"]), (&json!(3), &json!(1)));
    // The handler is gone, and its connections with it.
    server.known.until_open(0).await;
}

#[tokio::test]
async fn bodies_give_way_when_the_answer_would_be_too_long() {
    let server = Server::start(|_, _| Reply::status(200).body(vec![b'x'; 400])).await;
    let limited = Endpoint { output_limit: 4000, ..settings(&["127.0.0.1"]) };
    let calls: Vec<Value> = (0..12).map(|_| json!({"url": server.url("/")})).collect();
    let outcome = run(&limited, &json!(calls)).await;
    let Outcome::Done(text) = &outcome else { panic!("{outcome:?}") };
    assert!(text.get().len() <= 4000, "{}", text.get().len());
    let answer = answer(&outcome);
    let bodies =
        answer["calls"].as_array().expect("calls").iter().filter(|call| call["body"].is_string()).count();
    assert!(bodies > 0 && bodies < 12, "{bodies}");
}

#[tokio::test]
async fn a_json_body_goes_out_byte_for_byte() {
    let server = Server::start(|_, _| ok()).await;
    let settings = settings(&["127.0.0.1"]);
    let bodies = [
        r#"{"z":12345678901234567890123,"x":0.1000000000000000055511151231257827,"n":-0,"e":1E2,"b":1,"a":1,"a":2, "u":"\u00e9\/"}"#,
        "[ 1.0,\t18446744073709551616 ]",
        "1e400",
        "false",
    ];
    for body in bodies {
        let payload =
            format!(r#"[{{"url":"{}","method":"PUT","body": {body} , "retries": 0}}]"#, server.url("/"));
        let outcome = run_text(&settings, &payload, CancellationToken::new(), Arc::default()).await;
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
        let seen = server.known.seen().pop().expect("a request");
        assert_eq!(
            (String::from_utf8(seen.body.clone()).expect("text").as_str(), seen.header("content-type")),
            (body, Some("application/json"))
        );
    }
    // A text is its characters, and null is no body.
    for (body, sent) in [("\"\\u00e9 'x'\"", "\u{e9} 'x'"), ("null", "")] {
        let payload = format!(r#"[{{"url":"{}","method":"PUT","body":{body}}}]"#, server.url("/"));
        run_text(&settings, &payload, CancellationToken::new(), Arc::default()).await;
        let seen = server.known.seen().pop().expect("a request");
        assert_eq!((seen.body.as_slice(), seen.header("content-type")), (sent.as_bytes(), None), "{body}");
    }
}

#[tokio::test]
async fn what_is_no_text_comes_back_in_base64() {
    let server = Server::start(|seen, _| match seen.path.as_str() {
        "/bin" => Reply::status(200)
            .header("Content-Type", "application/octet-stream")
            .body(*b"\x00\xff\xfe\x80\x81A"),
        "/latin" => {
            Reply::status(200).header("Content-Type", "text/plain; charset=ISO-8859-1").body(*b"caf\xe9")
        }
        "/windows" => {
            Reply::status(200).header("Content-Type", "text/plain;charset=\"windows-1252\"").body(*b"\x80 5")
        }
        "/gzip" => Reply::status(200).header("Content-Encoding", "gzip").body(*b"\x1f\x8b\x08"),
        "/utf16" => Reply::status(200).header("Content-Type", "text/plain; charset=utf-16le").body(*b"a\0"),
        "/cut" => Reply::status(200).body("caf\u{e9}"),
        "/type" => Reply::status(200).header("Content-Type", "x".repeat(50_000)),
        _ => Reply::status(500).body(*b"\xff"),
    })
    .await;
    let url = |path: &str| json!({"url": server.url(path), "retries": 0});
    let mut cut = url("/cut");
    cut["body_limit"] = json!(4);
    let calls = json!([
        url("/bin"),
        url("/latin"),
        url("/windows"),
        url("/gzip"),
        url("/utf16"),
        cut,
        url("/error"),
        url("/type")
    ]);
    let answer = answer(&run(&settings(&["127.0.0.1"]), &calls).await);
    let calls = &answer["calls"];
    let told = |place: usize| {
        json!([
            calls[place]["body"],
            calls[place]["body_base64"],
            calls[place]["content_encoding"],
            calls[place]["truncated"]
        ])
    };
    assert_eq!(told(0), json!([null, "AP/+gIFB", null, null]));
    assert_eq!(told(1), json!(["caf\u{e9}", null, null, null]));
    assert_eq!(told(2), json!(["\u{20ac} 5", null, null, null]));
    assert_eq!(told(3), json!([null, "H4sI", "gzip", null]));
    assert_eq!(told(4), json!([null, "YQA=", null, null]));
    assert_eq!(told(5), json!(["caf", null, null, true]), "the character was cut");
    assert_eq!((told(6), &calls[6]["outcome"]), (json!([null, "/w==", null, null]), &json!("status")));
    let content_type = calls[7]["content_type"].as_str().expect("a type");
    assert!(content_type.len() < 600 && content_type.ends_with("x[...]"), "{}", content_type.len());
    assert!(!answer.to_string().contains('\u{fffd}'));
}

#[tokio::test]
async fn every_number_of_a_call_has_a_limit() {
    let server = Server::start(|_, _| Reply::Endless).await;
    let settings = settings(&["127.0.0.1"]);
    for (member, value, limit) in [
        ("body_limit", "1000000000000", "262144"),
        ("body_limit", "262145", "endpoint.output_limit"),
        ("body_limit", "1000000000000000000000000000000", "262144"),
        ("timeout_ms", "86400001", "86400000"),
        ("timeout_ms", "18446744073709551615", "86400000"),
        ("attempt_timeout_ms", "99999999999999999999999", "86400000"),
        ("backoff_max_ms", "86400001", "86400000"),
        ("retries", "101", "100"),
        ("retries", "4294967296", "100"),
    ] {
        let payload = format!(r#"[{{"url":"{0}"}},{{"url":"{0}","{member}":{value}}}]"#, server.url("/"));
        let outcome = run_text(&settings, &payload, CancellationToken::new(), Arc::default()).await;
        let Outcome::Failed { errnr: 64, errmsg, payload: None } = &outcome else {
            panic!("{member} {value}: {outcome:?}")
        };
        assert!(errmsg.contains("call 2") && errmsg.contains(member) && errmsg.contains(limit), "{errmsg}");
    }
    for wrong in ["-1", "1.5", "1e3", "\"5\"", "true"] {
        let payload = format!(r#"[{{"url":"{}","timeout_ms":{wrong}}}]"#, server.url("/"));
        let outcome = run_text(&settings, &payload, CancellationToken::new(), Arc::default()).await;
        assert!(matches!(outcome, Outcome::Failed { errnr: 64, .. }), "{wrong}: {outcome:?}");
    }
    // More calls than an answer could tell of, and more headers than a request can have.
    let many: Vec<Value> = (0..1024).map(|_| json!({"url": server.url("/")})).collect();
    let outcome = run(&settings, &json!(many)).await;
    assert!(
        matches!(&outcome, Outcome::Failed { errnr: 64, errmsg, .. } if errmsg.contains("1024") && errmsg.contains("1023")),
        "{outcome:?}"
    );
    let names: serde_json::Map<String, Value> = (0..40_000).map(|n| (format!("X-{n}"), json!("x"))).collect();
    for headers in [json!({"X-Many": vec!["x"; 1001]}), json!(names)] {
        let outcome = run(&settings, &json!([{"url": server.url("/"), "headers": headers}])).await;
        assert!(
            matches!(&outcome, Outcome::Failed { errnr: 64, errmsg, .. } if errmsg.contains("more than 1000")),
            "{outcome:?}"
        );
    }
    assert_eq!(server.known.accepted(), 0, "nothing is done when a part of it is refused");
}

#[tokio::test]
async fn endless_bodies_take_up_no_more_than_an_answer_has_room_for() {
    let server = Server::start(|_, _| Reply::Endless).await;
    let limited = Endpoint { output_limit: 100_000, ..settings(&["127.0.0.1"]) };
    let calls: Vec<Value> = (0..30).map(|_| json!({"url": server.url("/"), "body_limit": 40_000})).collect();
    let outcome = run(&limited, &json!(calls)).await;
    let Outcome::Done(text) = &outcome else { panic!("{outcome:?}") };
    assert!(text.get().len() <= 100_000, "{}", text.get().len());
    let answer = answer(&outcome);
    let bodies: Vec<Option<usize>> = answer["calls"]
        .as_array()
        .expect("calls")
        .iter()
        .map(|call| Some(call["body"].as_str()?.len()))
        .collect();
    assert_eq!(
        bodies[..3],
        [Some(40_000), Some(40_000), None],
        "the first come first, whichever was answered first"
    );
    assert!(bodies[2..].iter().all(Option::is_none), "{bodies:?}");
    assert!(answer["calls"].as_array().expect("calls").iter().all(|call| call["truncated"] == true));
}

#[tokio::test]
async fn a_task_chooses_to_verify_nothing_only_where_it_may() {
    let server = Server::tls(Authority::new().server(None), |_, _| ok()).await;
    let call = |url: String| json!([{"url": url, "tls": "insecure", "retries": 0, "timeout_ms": 2000}]);
    // On this machine there is nobody in between.
    assert!(matches!(run(&settings(&["127.0.0.1"]), &call(server.https("/"))).await, Outcome::Done(_)));
    let there = call("https://192.0.2.1:9/".to_owned());
    let error = |outcome: &Outcome| answer(outcome)["calls"][0]["error"].to_string();
    let refused = run(&settings(&["192.0.2.0/24"]), &there).await;
    assert!(error(&refused).contains("endpoint.http.insecure"), "{refused:?}");
    let mut allowed = settings(&["192.0.2.0/24"]);
    allowed.http.insecure = true;
    let tried = run(&allowed, &there).await;
    assert!(!error(&tried).contains("insecure"), "{tried:?}");
}

#[tokio::test]
async fn a_time_of_zero_is_the_default() {
    let server = Server::start(|_, _| ok().after(Duration::from_millis(50))).await;
    let call =
        json!([{"url": server.url("/"), "timeout_ms": 0, "attempt_timeout_ms": 0, "backoff_max_ms": 0}]);
    let outcome = run(&settings(&["127.0.0.1"]), &call).await;
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
}

#[test]
fn settings_are_checked_when_they_are_read() {
    let read = |text: &str| Config::from_yaml(&format!("task_types: [http]\nendpoint: {{http: {text}}}"));
    assert_eq!(read("{}").expect("a configuration").endpoint.http.allow.len(), 0);
    assert!(!read("{}").expect("a configuration").endpoint.http.insecure);
    assert!(read("{insecure: true}").expect("a configuration").endpoint.http.insecure);
    assert_eq!(
        read("{allow: [bmc1, '*.example.org:443', 10.0.0.0/8]}")
            .expect("a configuration")
            .endpoint
            .http
            .allow
            .len(),
        3
    );
    for (wrong, key) in [
        ("{allow: ['http://bmc1']}", "endpoint.http.allow"),
        ("{allow: [10.0.0.0/40]}", "endpoint.http.allow"),
        ("{client_key: /key}", "endpoint.http.client_certificate"),
        ("{allowed: [bmc1]}", "endpoint.http.allowed"),
    ] {
        let error = read(wrong).expect_err(wrong).to_string();
        assert!(error.contains(key), "{wrong}: {error}");
    }
}
