//! States in few bytes, and events as they happen.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tasker::api::Limits;
use tasker::domain::{
    LogPiece, PartState, PresenceState, Report, ReportEvent, Scope, States, TaskId, decode_changes,
};
use tasker::store::{Freeze, LoggedLines};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::api_access::{ADMIN, create, guarded, refused, with};
use crate::api_rig::{PATIENCE, Rig, endpoint, finished, task_type};

/// Endpoints of a task of which one change is told as a change.
const MANY: usize = 64;

/// A stream of events.
struct Stream {
    answer: reqwest::Response,
    text: String,
}

/// An event out of a stream.
#[derive(Debug, Clone)]
struct Event {
    name: String,
    id: Option<String>,
    data: Value,
}

impl Stream {
    async fn open(rig: &Rig, query: &str, last: Option<&str>) -> Self {
        let mut request = rig.request("GET", &format!("/events?{query}"));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { answer, text: String::new() }
    }

    /// The next event; none at the end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let lines: Vec<(&str, &str)> =
                    event.lines().filter_map(|line| line.split_once(": ")).collect();
                let field = |wanted: &str| {
                    lines.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned())
                };
                let event = field("event").map(|name| Event {
                    name,
                    id: field("id"),
                    data: serde_json::from_str(&field("data").expect("data")).expect("JSON"),
                });
                self.text = rest.to_owned();
                match event {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            let chunk = timeout(PATIENCE, self.answer.chunk())
                .await
                .expect("an event in time")
                .expect("the connection holds")?;
            self.text.push_str(std::str::from_utf8(&chunk).expect("a text"));
        }
    }

    async fn event(&mut self) -> Event {
        self.next().await.expect("an event")
    }

    /// Follows events until a vector is as it should be; says where that was.
    async fn until(&mut self, states: &mut States, wanted: impl Fn(&States) -> bool) -> Event {
        loop {
            let event = self.event().await;
            follow(states, &event);
            if wanted(states) {
                return event;
            }
        }
    }
}

/// Takes in what an event tells.
fn follow(states: &mut States, event: &Event) {
    let count = usize::try_from(event.data["count"].as_u64().expect("a count")).expect("a count");
    let bytes = |member: &str| event.data[member].as_str().map(|text| STANDARD.decode(text).expect("base64"));
    match (bytes("states"), bytes("changes")) {
        (Some(whole), None) => *states = States::from_bytes(&whole, count).expect("a vector"),
        (None, Some(changes)) => states.apply(&decode_changes(&changes, states.len()).expect("changes")),
        both => panic!("one of both: {both:?}"),
    }
}

fn name(number: usize) -> String {
    format!("console{number:02}")
}

/// A task of many endpoints, which all have been there and are gone.
async fn task(rig: &Rig) -> TaskId {
    let names: Vec<String> = (0..MANY).map(name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let id = rig.submit("nightly", &names).await;
    rig.freeze(id, &names).await;
    rig.state.ledger.mark_published(&[id]).await.expect("the store works");
    id
}

/// What the collector of this process does.
async fn report(rig: &Rig, id: TaskId, number: usize, event: ReportEvent) {
    let (task_type, endpoint) = (task_type("worker"), endpoint(&name(number)));
    let report = Report { task_id: id, task_type, endpoint, home: Uuid::nil(), event };
    rig.state.ledger.apply(&[report]).await.expect("the store works");
}

fn ok(states: &States) -> usize {
    states.iter().filter(|code| *code == PartState::Ok.code()).count()
}

async fn read(rig: &Rig, path: &str) -> (States, String) {
    let answer = rig.request("GET", path).send().await.expect("an answer");
    let header = |name: &str| answer.headers()[name].to_str().expect("a text").to_owned();
    assert_eq!(
        (answer.status().as_u16(), header("content-type").as_str()),
        (200, "application/octet-stream")
    );
    let (count, generation) = (header("x-count").parse().expect("a number"), header("x-generation"));
    (States::from_bytes(&answer.bytes().await.expect("a body"), count).expect("a vector"), generation)
}

#[tokio::test(flavor = "multi_thread")]
async fn states_and_names_of_a_task() {
    let rig = Rig::start().await;
    let id = rig.submit("t", &["c", "a", "b"]).await;
    let (none, before) = read(&rig, "/worker/t/states").await;
    assert!(none.is_empty(), "nobody is expected yet");
    rig.freeze(id, &["c", "a", "b"]).await;
    rig.report(id, "b", finished(0, "")).await;
    rig.report(id, "c", finished(3, "no")).await;
    let (states, generation) = read(&rig, &format!("/worker/{id}/states")).await;
    let expected = [PartState::Waiting, PartState::Ok, PartState::Failed].map(PartState::code);
    assert_eq!(states.iter().collect::<Vec<_>>(), expected);
    assert_ne!(generation, before);
    let names = rig.get("/worker/t/names").await;
    assert_eq!(names.json(), serde_json::json!({"generation": generation, "names": ["a", "b", "c"]}));
    assert_eq!((names.header("x-count"), names.header("x-generation")), ("3", generation.as_str()));
    for path in ["/worker/t/names", "/worker/t/states"] {
        let tag = rig.get(path).await.header("etag").to_owned();
        let again = rig.send(rig.request("GET", path).header("If-None-Match", &tag)).await;
        assert_eq!((again.status, again.text.as_str(), again.header("etag")), (304, "", tag.as_str()));
    }
    let tag = rig.get("/worker/t/states").await.header("etag").to_owned();
    rig.report(id, "a", finished(0, "")).await;
    assert_eq!(
        rig.send(rig.request("GET", "/worker/t/states").header("If-None-Match", tag)).await.status,
        200
    );
    for path in ["/worker/other/states", "/worker/other/names"] {
        assert_eq!(rig.get(path).await.code(), "unknown_task");
    }
    assert_eq!(rig.get("/worker/t/states?since=1").await.code(), "invalid_query");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lists_of_names_are_compressed_for_those_who_take_it() {
    let rig = Rig::start().await;
    let names: Vec<String> = (0..500).map(|number| format!("console{number:04}.example.com")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let id = rig.submit("t", &names).await;
    let expected = names.iter().map(|name| endpoint(name)).collect();
    rig.store.freeze(&[Freeze { id, expected }], rig.state.clock.now()).await.expect("the store works");
    let plain = rig.get("/worker/t/names").await;
    assert_eq!(plain.json()["names"], serde_json::json!(names));
    let request = rig.request("GET", "/worker/t/names").header("Accept-Encoding", "gzip");
    let answer = request.send().await.expect("an answer");
    assert_eq!(
        (&answer.headers()["content-encoding"], &answer.headers()["vary"]),
        (&"gzip".parse().expect("a value"), &"Accept-Encoding".parse().expect("a value"))
    );
    let bytes = answer.bytes().await.expect("a body");
    assert!(
        bytes.starts_with(&[0x1f, 0x8b]) && bytes.len() < plain.text.len() / 4,
        "{} of {}",
        bytes.len(),
        plain.text.len()
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_what_is_quiet_holds_no_room() {
    // Room for one answer with logs.
    let rig =
        Rig::start_with(Limits { answer_budget: 6 << 20, room_timeout: Duration::ZERO, ..Limits::default() })
            .await;
    let id = rig.submit("t", &["a"]).await;
    rig.freeze(id, &["a"]).await;
    let follow = async || rig.get("/worker/t/logs?wait=3s").await.status;
    let read = async || {
        // By now the one that follows has looked and waits.
        tokio::time::sleep(Duration::from_millis(200)).await;
        rig.get("/worker/t/logs").await
    };
    let (followed, read) = tokio::join!(follow(), read());
    assert_eq!((followed, read.status), (200, 200), "{read:?}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_watch_hear_of_endpoints_that_are_forgotten_together() {
    let rig = Rig::start().await;
    for name in ["a", "b"] {
        rig.see(name, &["worker"], PresenceState::Leaving).await;
    }
    // Nobody else waits for this.
    let fleet = rig.state.ledger.touched().fleet();
    assert_eq!(
        rig.delete("/endpoints?gone_for=1us").await.json()["endpoints"],
        serde_json::json!(["a", "b"])
    );
    timeout(PATIENCE, fleet.rung()).await.expect("it was rung");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_to_watch_has_to_be_said() {
    let rig = Rig::start().await;
    for query in ["", "?since=watch=", "?since=1-1", "?watch=", "?watch=everything"] {
        let answer = rig.get(&format!("/events{query}")).await;
        assert_eq!(
            (answer.code(), answer.pointers()),
            ("invalid_query".to_owned(), vec!["?watch".to_owned()]),
            "{query}"
        );
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn states_and_names_of_the_fleet() {
    let rig = Rig::start().await;
    rig.see("b", &["worker"], PresenceState::Alive).await;
    rig.see("a", &["worker", "backup"], PresenceState::Alive).await;
    rig.see("a", &["worker", "backup"], PresenceState::Leaving).await;
    let mut sick = rig.presence("c", &["worker"], PresenceState::Alive);
    sick.trouble = Some("the disk is full".to_owned());
    rig.see_this(sick).await;
    let (states, generation) = read(&rig, "/endpoints/states").await;
    assert_eq!(states.iter().collect::<Vec<_>>(), [4, 1, 2]);
    assert_eq!(
        rig.get("/endpoints/names").await.json(),
        serde_json::json!({"generation": generation, "names": ["a", "b", "c"]})
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_the_whole_and_then_what_changes() {
    let rig = Rig::start().await;
    let id = task(&rig).await;
    let mut stream = Stream::open(&rig, &format!("watch=task:{id}"), None).await;
    let first = stream.event().await;
    assert_eq!(
        (first.name.as_str(), &first.data["watch"]),
        ("task", &serde_json::json!(format!("task:{id}")))
    );
    assert_eq!(
        (&first.data["status"], &first.data["expected"], &first.data["type"]),
        (&"SENT".into(), &MANY.into(), &"worker".into())
    );
    let mut states = States::default();
    follow(&mut states, &first);
    assert!(states.iter().all(|code| code == PartState::Sent.code()));
    report(&rig, id, 7, finished(0, "")).await;
    let second = stream.event().await;
    assert!(second.data["changes"].is_string(), "{second:?}");
    follow(&mut states, &second);
    assert_eq!(
        (states.get(7), ok(&states), &second.data["finished"]),
        (Some(PartState::Ok.code()), 1, &1.into())
    );
    // More than one in eight.
    for number in 20..40 {
        report(&rig, id, number, finished(1, "no")).await;
    }
    stream
        .until(&mut states, |states| {
            states.iter().filter(|code| *code == PartState::Failed.code()).count() == 20
        })
        .await;
    let (read, generation) = read(&rig, &format!("/worker/{id}/states")).await;
    assert_eq!((&states, &first.data["generation"]), (&read, &generation.into()));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_moves_is_told_too() {
    let rig = Rig::start().await;
    let id = task(&rig).await;
    let mut stream = Stream::open(&rig, &format!("watch=task:{id}"), None).await;
    let mut states = States::default();
    follow(&mut states, &stream.event().await);
    // Past the ledger of this process.
    rig.report(id, &name(3), finished(0, "")).await;
    stream.until(&mut states, |states| states.get(3) == Some(PartState::Ok.code())).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_cut_a_stream_goes_on_where_it_was() {
    let rig = Rig::start().await;
    let id = task(&rig).await;
    let watch = format!("watch=task:{id}");
    let mut stream = Stream::open(&rig, &watch, None).await;
    let (mut states, mut watcher) = (States::default(), States::default());
    let mut last = stream.event().await;
    follow(&mut states, &last);
    let mut other = Stream::open(&rig, &watch, None).await;
    follow(&mut watcher, &other.event().await);
    for number in 0..4 {
        let id_of_last = last.id.clone().expect("an id");
        drop(stream);
        report(&rig, id, number, finished(0, "")).await;
        other.until(&mut watcher, |states| ok(states) == number + 1).await;
        // By turns as browsers and as programs do it.
        stream = match number % 2 {
            0 => Stream::open(&rig, &watch, Some(&id_of_last)).await,
            _ => Stream::open(&rig, &format!("{watch}&since={id_of_last}"), None).await,
        };
        last = stream.event().await;
        assert!(last.data["changes"].is_string(), "{last:?}");
        follow(&mut states, &last);
        assert_eq!(states, watcher);
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_gap_there_is_a_snapshot() {
    let rig = Rig::start().await;
    let id = task(&rig).await;
    let watch = format!("watch=task:{id}");
    let mut stream = Stream::open(&rig, &watch, None).await;
    let first = stream.event().await;
    let mut states = States::default();
    follow(&mut states, &first);
    // More events than a snapshot has bytes.
    for number in 0..5 {
        report(&rig, id, number, finished(0, "")).await;
        stream.until(&mut states, |states| ok(states) == number + 1).await;
    }
    let since = first.id.expect("an id");
    let (epoch, _) = since.split_once('-').expect("two parts");
    for old in [since.as_str(), "deadbeef-1", "nonsense", &format!("{epoch}-999999999")] {
        let mut again = Stream::open(&rig, &watch, Some(old)).await;
        let event = again.event().await;
        assert!(event.data["states"].is_string(), "{old}: {event:?}");
        let mut whole = States::default();
        follow(&mut whole, &event);
        assert_eq!(whole, states, "{old}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_things_are_watched_in_one_stream() {
    let config = "task_types: [worker, {name: builds, delivery: queue}]\napi: {port: 0}";
    let rig = Rig::start_as(config, Limits::default()).await;
    rig.see("a", &["worker"], PresenceState::Alive).await;
    let id = rig.submit("t", &["a"]).await;
    let mut stream = Stream::open(&rig, &format!("watch=task:{id},endpoints,queues,endpoints"), None).await;
    let mut seen = std::collections::BTreeMap::new();
    while seen.len() < 3 {
        let event = stream.event().await;
        seen.insert(event.name.clone(), event);
    }
    assert_eq!(seen["endpoints"].data["count"], 1);
    assert_eq!(seen["queues"].data["queues"][0]["type"], "builds");
    rig.see("b", &["worker"], PresenceState::Alive).await;
    loop {
        let event = stream.event().await;
        if event.name == "endpoints" {
            assert_eq!(
                (&event.data["count"], event.data["states"].is_string()),
                (&2.into(), true),
                "another list of names"
            );
            break;
        }
    }
    let answer = rig.post("/queues/builds/pause", "{}").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    loop {
        let event = stream.event().await;
        if event.name == "queues" && event.data["queues"][0]["paused_at"].is_string() {
            break;
        }
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_forgotten_is_gone() {
    let rig = Rig::start().await;
    let id = rig.submit("t", &["a"]).await;
    rig.freeze(id, &["a"]).await;
    let mut stream = Stream::open(&rig, &format!("watch=task:{id}"), None).await;
    assert_eq!(stream.event().await.name, "task");
    rig.report(id, "a", finished(0, "")).await;
    while stream.event().await.data["status"] != "DONE" {}
    assert_eq!(rig.store.forget(&[id]).await.expect("the store works"), 1);
    assert_eq!(stream.event().await.name, "gone");
    assert_eq!(rig.get(&format!("/events?watch=task:{id}")).await.code(), "unknown_task");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_streams_at_once() {
    let rig = Rig::start().await;
    let id = task(&rig).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = Stream::open(&rig, &format!("watch=task:{id},endpoints"), None).await;
        stream.event().await;
        streams.push(stream);
    }
    let began = Instant::now();
    rig.begin_stop();
    for mut stream in streams {
        while stream.next().await.is_some() {}
    }
    rig.stop().await;
    // Not within `api.stop_timeout`, which is a minute here.
    assert!(began.elapsed() < PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_names_nothing_is_refused() {
    let rig = Rig::start().await;
    for query in [
        "",
        "?watch=",
        "?watch=task:nightly",
        "?watch=everything",
        "?watch=queues&watch=queues",
        "?watch=queues&wait=1s",
    ] {
        assert_eq!(rig.get(&format!("/events{query}")).await.code(), "invalid_query", "{query}");
    }
    let many: Vec<String> = (0..17).map(|_| format!("task:{}", TaskId::new())).collect();
    assert_eq!(rig.get(&format!("/events?watch={}", many.join(","))).await.code(), "invalid_query");
    let unknown = rig.get(&format!("/events?watch=task:{}", TaskId::new())).await;
    assert_eq!(unknown.code(), "unknown_task");
    let head = rig.send(rig.request("HEAD", "/events?watch=endpoints")).await;
    assert_eq!(
        (head.status, head.header("content-type"), head.text.as_str()),
        (200, "text/event-stream", "")
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_watches_what_it_covers() {
    const WORKER: &str = "tasker_reads-tasks-of-the-type-worker";
    const BACKUP: &str = "tasker_reads-tasks-of-the-type-backup";
    let rig = guarded().await;
    create(&rig, WORKER, &[Scope::Read], &["worker"]).await;
    create(&rig, BACKUP, &[Scope::Read], &["backup"]).await;
    let answer = with(&rig, ADMIN, "POST", "/worker").await;
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    let watch = async |secret: &str, query: &str| {
        let request = rig.request("GET", &format!("/events?watch={query}")).bearer_auth(secret);
        let mut answer = request.send().await.expect("an answer");
        match answer.status().as_u16() {
            200 => answer.chunk().await.expect("the connection holds").is_some().to_string(),
            _ => serde_json::from_str::<Value>(&answer.text().await.expect("a text")).expect("JSON")["code"]
                .to_string(),
        }
    };
    assert_eq!(watch(WORKER, &format!("task:{id}")).await, "true");
    assert_eq!(watch(ADMIN, &format!("task:{id},queues,endpoints")).await, "true");
    // As if there were no such task.
    assert_eq!(watch(BACKUP, &format!("task:{id}")).await, "\"unknown_task\"");
    assert_eq!(watch(WORKER, "endpoints").await, "\"insufficient_scope\"");
    assert_eq!(watch(WORKER, &format!("task:{id},queues")).await, "\"insufficient_scope\"");
    refused(&with(&rig, WORKER, "GET", "/endpoints/states").await, 403, "insufficient_scope");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_have_a_bound_of_their_own() {
    let rig = Rig::start_with(Limits { streams: 2, waits: 0, answer_budget: 0, ..Limits::default() }).await;
    let first = Stream::open(&rig, "watch=endpoints", None).await;
    let mut second = Stream::open(&rig, "watch=endpoints", None).await;
    let third = rig.get("/events?watch=endpoints").await;
    assert_eq!((third.status, third.code().as_str(), third.header("retry-after")), (503, "overloaded", "1"));
    drop(first);
    // The server hears of the end of a connection when it gets to it.
    let again = async {
        while rig.request("HEAD", "/events?watch=endpoints").send().await.expect("an answer").status() != 200
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.expect("the place is free again");
    assert_eq!(second.event().await.name, "endpoints");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_watch_cost_what_one_costs() {
    const LISTENERS: usize = 300;
    let rig = Rig::start().await;
    let id = task(&rig).await;
    let watch = format!("watch=task:{id}");
    let reads = || rig.state.metrics.live_reads.with_label_values(&["task"]).get();
    let began = Instant::now();
    let open = (0..LISTENERS).map(|_| async {
        let mut stream = Stream::open(&rig, &watch, None).await;
        let mut states = States::default();
        follow(&mut states, &stream.event().await);
        (stream, states)
    });
    let mut streams = futures::future::join_all(open).await;
    assert_eq!(rig.state.metrics.event_streams.get(), LISTENERS as i64);
    report(&rig, id, 5, finished(0, "")).await;
    let told = streams.iter_mut().map(|(stream, states)| stream.until(states, |states| ok(states) == 1));
    futures::future::join_all(told).await;
    // Four looks a second, however many listen.
    let most = began.elapsed().as_millis() / Duration::from_millis(250).as_millis() + 2;
    assert!(u128::from(reads()) <= most, "{} looks in {:?}", reads(), began.elapsed());
    assert!(!rig.get("/metrics").await.text.contains("route=\"/events\""), "a stream is no slow request");
    drop(streams);
    let closed = async {
        while rig.state.metrics.event_streams.get() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, closed).await.expect("all are closed");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_handlers_are_read_while_they_come() {
    let rig = Rig::start().await;
    let id = rig.submit("t", &["a", "b"]).await;
    rig.freeze(id, &["a", "b"]).await;
    let log = async |name: &str, first: u64, text: &str| {
        let piece = LogPiece { attempt: 1, first, text: text.to_owned() };
        rig.report(id, name, ReportEvent::Log(piece.clone())).await;
        let lines = LoggedLines { task_id: id, endpoint: endpoint(name), home: Uuid::nil(), piece };
        assert_eq!(rig.state.ledger.append_logs(&[lines]).await.expect("the store works"), 1);
    };
    let get = async |query: &str| rig.get(&format!("/worker/t/logs{query}")).await.json();
    let nothing = get("?endpoint=a").await;
    assert_eq!(nothing, serde_json::json!({"logs": [], "next": "b0", "ended": false}));
    // Waits for what comes.
    let (first, ()) = tokio::join!(get("?endpoint=a&after=b0&wait=60s"), log("a", 0, "one\ntwo\n"));
    assert_eq!(
        (&first["logs"][0]["text"], &first["logs"][0]["begin"], &first["next"]),
        (&"one\ntwo\n".into(), &0.into(), &"b8".into())
    );
    log("a", 2, "three\n").await;
    let second = get("?endpoint=a&after=b8").await;
    assert_eq!(
        (&second["logs"][0]["text"], &second["logs"][0]["begin"], &second["ended"]),
        (&"three\n".into(), &8.into(), &false.into())
    );
    assert_eq!(get("?endpoint=a&after=b14").await["logs"], serde_json::json!([]));
    log("b", 4, "five\n").await;
    let all = get("").await;
    let texts: Vec<_> = all["logs"]
        .as_array()
        .expect("logs")
        .iter()
        .map(|log| (log["endpoint"].as_str(), log["text"].as_str()))
        .collect();
    assert_eq!(
        texts,
        [(Some("a"), Some("one\ntwo\nthree\n")), (Some("b"), Some("… 4 lines left out\nfive\n"))]
    );
    let place = all["next"].as_str().expect("a place").to_owned();
    assert_eq!(
        get(&format!("?after={place}")).await,
        serde_json::json!({"logs": [], "next": place, "ended": false})
    );
    rig.report(id, "a", finished(0, "")).await;
    rig.report(id, "b", finished(0, "")).await;
    assert_eq!(
        get("?endpoint=a&after=b14&wait=60s").await,
        serde_json::json!({"logs": [], "next": "b14", "ended": true})
    );
    assert_eq!(get(&format!("?after={place}&wait=60s")).await["ended"], true);
    for query in ["after=x", "after=l1", "after=b", "endpoint=a/b", "wait=1h", "tail=3"] {
        assert_eq!(rig.get(&format!("/worker/t/logs?{query}")).await.code(), "invalid_query", "{query}");
    }
    rig.stop().await;
}

/// A client whose window is small.
async fn asks_and_reads_nothing(rig: &Rig, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(2048).expect("a small buffer");
    let mut stream = socket.connect(rig.address).await.expect("a connection");
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
        .await
        .expect("the server reads");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_takes_nothing_is_cut_off_and_holds_nobody_up() {
    let rig = Rig::start_with(Limits { write_timeout: Duration::from_secs(2), ..Limits::default() }).await;
    let names: Vec<String> = (0..30_000).map(|number| format!("console{number:05}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let id = rig.submit("t", &names[..1]).await;
    let expected = names.iter().map(|name| endpoint(name)).collect();
    rig.store.freeze(&[Freeze { id, expected }], rig.state.clock.now()).await.expect("the store works");
    let path = format!("watch=task:{id}");
    let hog = asks_and_reads_nothing(&rig, &format!("/events?{path}")).await;
    let open = || rig.state.metrics.event_streams.get();
    let until = async |count: i64| {
        let look = async {
            while open() != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{} streams are open", open()));
    };
    until(1).await;
    // Others are told as ever.
    let mut stream = Stream::open(&rig, &path, None).await;
    assert_eq!(stream.event().await.data["count"], 30_000);
    rig.state.ledger.mark_published(&[id]).await.expect("the store works");
    assert!(stream.event().await.data["published_at"].is_string());
    until(1).await;
    drop(hog);
    drop(stream);
    until(0).await;
    rig.stop().await;
}
