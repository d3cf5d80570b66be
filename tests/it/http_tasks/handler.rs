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

async fn run_until(settings: &Endpoint, payload: &Value, cancel: CancellationToken, told: Arc<Told>) -> Outcome {
    let work = Work {
        id: TaskId::new(),
        task_type: "http".parse().expect("a type"),
        identifier: "1".parse().expect("an identifier"),
        endpoint: "console1".parse().expect("an endpoint"),
        attempt: 1,
        payload: serde_json::from_str(&payload.to_string()).expect("JSON"),
    };
    Http::new(settings).run(&work, &Context::new(Instant::now() + Duration::from_secs(60), cancel, told)).await
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
        _ => ok().header("Content-Type", "text/plain"),
    })
    .await;
    let calls = json!([
        {"url": server.url("/")},
        {"url": server.url("/json"), "method": "POST", "body": {"ResetType": "On"}, "headers": {"X-Auth-Token": "hidden", "X-Many": ["1", "2"]}},
        {"url": server.url("/missing")},
        {"url": server.url("/busy"), "retries": 1, "backoff_max_ms": 1},
        {"url": server.url("/long"), "body_limit": 1},
    ]);
    let told: Arc<Told> = Arc::default();
    let outcome = run_until(&settings(&["127.0.0.1"]), &calls, CancellationToken::new(), told.clone()).await;
    let Outcome::Failed { errnr: 1, errmsg, .. } = &outcome else { panic!("{outcome:?}") };
    assert!(errmsg.contains("2 of 5") && errmsg.contains("call 2: status 404"), "{errmsg}");
    let answer = answer(&outcome);
    assert_eq!((&answer["total"], &answer["ok"], &answer["failed"]), (&json!(5), &json!(3), &json!(2)));
    let calls = &answer["calls"];
    let brief = |place: usize| json!([calls[place]["outcome"], calls[place]["status"], calls[place]["body"], calls[place]["attempts"]]);
    assert_eq!(brief(0), json!(["ok", 200, "ok", 1]));
    assert_eq!(brief(1), json!(["ok", 200, "ok", 1]));
    assert_eq!(brief(2), json!(["status", 404, "no such system", 1]));
    assert_eq!(brief(3), json!(["failed", 503, "later", 2]));
    assert_eq!(brief(4), json!(["ok", 200, "o", 1]));
    assert_eq!(
        (&calls[4]["truncated"], &calls[0]["content_type"], &calls[0]["trust"]),
        (&json!(true), &json!("text/plain"), &json!("plain"))
    );
    assert!(calls[3]["timings"]["waited_ms"].as_u64() >= Some(0) && calls[0]["timings"]["total_ms"].is_u64());
    assert!(!answer.to_string().contains("hidden"), "{answer}");
    assert_eq!(told.0.lock().expect("no panic here").0.last(), Some(&100));

    let posted = server.known.seen().into_iter().find(|seen| seen.path == "/json").expect("the POST");
    assert_eq!((posted.body.as_slice(), posted.header("content-type")), (br#"{"ResetType":"On"}"#.as_slice(), Some("application/json")));
    assert_eq!((posted.header("x-auth-token"), posted.headers.get_all("x-many").iter().count()), (Some("hidden"), 2));
}

#[tokio::test]
async fn nothing_is_reached_that_is_not_listed() {
    let server =
        Server::start(|seen, _| if seen.path == "/away" { Reply::status(302).header("Location", "http://127.0.0.2:9/") } else { ok() })
            .await;
    let here = json!([{"url": server.url("/")}]);
    let outcome = run(&settings(&[]), &here).await;
    assert!(matches!(&outcome, Outcome::Failed { errnr: 78, errmsg, .. } if errmsg.contains("endpoint.http.allow")), "{outcome:?}");
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
        let Outcome::Failed { errnr: 64, errmsg, payload: None } = &outcome else { panic!("{payload}: {outcome:?}") };
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
    let outcome = tokio::time::timeout(Duration::from_secs(10), running).await.expect("an end").expect("no panic");
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
    let bodies = answer["calls"].as_array().expect("calls").iter().filter(|call| call["body"].is_string()).count();
    assert!(bodies > 0 && bodies < 12, "{bodies}");
}

#[test]
fn settings_are_checked_when_they_are_read() {
    let read = |text: &str| Config::from_yaml(&format!("task_types: [http]\nendpoint: {{http: {text}}}"));
    assert_eq!(read("{}").expect("a configuration").endpoint.http.allow.len(), 0);
    assert_eq!(read("{allow: [bmc1, '*.example.org:443', 10.0.0.0/8]}").expect("a configuration").endpoint.http.allow.len(), 3);
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
