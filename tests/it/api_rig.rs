//! The HTTP interface on a free port over a SQLite file and an in-process broker, all its own, with the real
//! acceptor and nothing behind it: what endpoints would do is written into the ledger by the test.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tasker::acceptor::Acceptor;
use tasker::admission::Admission;
use tasker::api::{ApiState, Door, Limits, serve};
use tasker::broker::memory::MemoryBroker;
use tasker::clock::Clock;
use tasker::config::{Config, Database, Secret};
use tasker::domain::{
    EndpointName, Labels, Presence, PresenceState, Report, ReportEvent, TaskId, TaskType, Timestamp, json,
};
use tasker::ledger::Ledger;
use tasker::publisher::{self, Publisher};
use tasker::queue::Desk;
use tasker::requests::Calls;
use tasker::sealing::Sealer;
use tasker::store::farm::Farm;
use tasker::store::{Freeze, QueueRule, SharedStore};
use tasker::telemetry::Metrics;
use tasker::watch::Watch;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::presence::presence;

/// How long anything may take that should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long ended tasks are kept here.
const RETENTION: Duration = Duration::from_secs(3600);

const CONFIG: &str = "
task_types: [worker, backup, {name: Other_1, expires_after: 2h, wait_for_endpoints_timeout: 7s}]
api: {port: 0, hosts: [x], wait_for_endpoints_timeout: 30, body_limit: 64KiB, stop_timeout: 60s}
";

pub struct Rig {
    pub address: SocketAddr,
    pub store: SharedStore,
    pub broker: MemoryBroker,
    pub state: ApiState,
    /// What a publisher would be given.
    pub accepted: mpsc::Receiver<publisher::Handover>,
    client: reqwest::Client,
    stop: CancellationToken,
    server: JoinHandle<io::Result<()>>,
    directory: TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The code of a problem, after a look at all that every problem must have.
    pub fn code(&self) -> String {
        let problem = self.json();
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(problem["status"], self.status, "{self:?}");
        assert_eq!(problem["request_id"], self.header("x-request-id"), "{self:?}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{self:?}");
        let code = problem["code"].as_str().expect("a code").to_owned();
        assert_eq!(problem["type"], format!("urn:tasker:problem:{code}"));
        code
    }

    /// The pointers of a problem's errors.
    pub fn pointers(&self) -> Vec<String> {
        let problem = self.json();
        let errors = problem["errors"].as_array().expect("errors");
        errors.iter().map(|error| error["pointer"].as_str().expect("a pointer").to_owned()).collect()
    }
}

impl Rig {
    /// Waits until so many requests wait for tasks.
    pub async fn until_waiting(&self, number: usize) {
        let look = async {
            while self.state.watch.len() != number {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("it comes to that");
    }

    /// Waits until somebody waits for the end of a request.
    pub async fn until_request_waits(&self) {
        let look = async {
            while self.state.requests.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("it comes to that");
    }

    pub async fn start() -> Self {
        // Tests show many wrong tokens.
        Self::start_with(Limits { wrong_tokens: u32::MAX, ..Limits::default() }).await
    }

    pub async fn start_with(limits: Limits) -> Self {
        Self::start_as(CONFIG, limits).await
    }

    pub async fn start_as(config: &str, limits: Limits) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let uri = Secret::new(format!("sqlite://{}", directory.path().join("ledger.db").display()));
        let store =
            tasker::store::open(&Database { verbose: false, uri, max_connections: 4 }).expect("an address");
        store.migrate().await.expect("the schema");
        let broker = MemoryBroker::new();
        let (metrics, clock) = (Metrics::new(), Clock::system());
        let (watch, desk) = (Watch::default(), Desk::default());
        let (outgoing, accepted) = mpsc::channel(1000);
        let config = Arc::new(Config::from_yaml(config).expect("a configuration"));
        let ledger = Ledger::new(
            store.clone(),
            clock.clone(),
            metrics.clone(),
            watch.clone(),
            config.ignored(),
            RETENTION,
        );
        let (acceptor, recording) =
            Acceptor::new(ledger.clone(), clock.clone(), metrics.clone(), outgoing, Vec::new());
        tokio::spawn(recording);
        let admission = Arc::new(Admission::read(&config).expect("no schema"));
        let link = broker.connect();
        let sealer = Sealer::new(None, link.clone(), clock.clone());
        let publisher = Publisher::new(
            config.clone(),
            store.clone(),
            ledger.clone(),
            link.clone(),
            sealer.clone(),
            clock.clone(),
            metrics.clone(),
            desk.clone(),
        );
        let calls = Arc::new(Calls::new(config.clone(), admission.clone()));
        let state = ApiState {
            config,
            store: store.clone(),
            ledger,
            broker: link,
            sealer,
            publisher,
            acceptor,
            metrics,
            watch,
            requests: Watch::default(),
            rollouts: Watch::default(),
            calls,
            clock,
            desk,
            farm: Farm::new(store.clone()),
            admission,
            approvers: None,
            limits,
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let server =
            tokio::spawn(serve(state.clone(), Door::new(listener, None).expect("a door"), stop.clone()));
        let client = tasker::https::client().build().expect("an HTTP client");
        let rig = Self { address, store, broker, state, accepted, client, stop, server, directory };
        // It is answered when the tokens have been read: until then, routes for everybody do not know whether
        // there is one.
        rig.get("/").await;
        rig
    }

    /// The address of the ledger, for those who want to stand in its way.
    pub fn ledger(&self) -> String {
        format!("sqlite://{}", self.directory.path().join("ledger.db").display())
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        self.client.request(method, format!("http://{}{path}", self.address)).timeout(PATIENCE)
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let answer = request.send().await.expect("an answer");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Answer { status, headers, text: answer.text().await.expect("a body") }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request("DELETE", path)).await
    }

    pub async fn post(&self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.send(self.request("POST", path).header("Content-Type", "application/json").body(body.into()))
            .await
    }

    /// Submits to `worker` and gives our id.
    pub async fn submit(&self, identifier: &str, endpoints: &[&str]) -> TaskId {
        let body =
            serde_json::json!({"identifier": identifier, "payload": {"foo": "bar"}, "endpoints": endpoints});
        let answer = self.post("/worker", body.to_string()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().and_then(|id| id.parse().ok()).expect("an id")
    }

    /// Freezes who must answer, as the publisher does. Whoever was never there has been there, and is gone:
    /// no others are believed.
    pub async fn freeze(&self, id: TaskId, endpoints: &[&str]) {
        let known = self.store.endpoints(None, 1000).await.expect("the store works");
        let strangers =
            endpoints.iter().filter(|name| known.iter().all(|known| known.name.as_str() != **name));
        for some in strangers.collect::<Vec<_>>().chunks(500) {
            for state in [PresenceState::Alive, PresenceState::Leaving] {
                let presences: Vec<_> =
                    some.iter().map(|name| self.presence(name, &["worker"], state)).collect();
                self.store.see(&presences, self.state.clock.now()).await.expect("the store works");
            }
        }
        let expected = endpoints.iter().map(|name| endpoint(name)).collect();
        let frozen = self
            .store
            .freeze(&[Freeze { id, expected }], self.state.clock.now())
            .await
            .expect("the store works");
        assert_eq!(frozen, [id]);
    }

    /// Writes what an endpoint reports, as the collector does, but tells nobody.
    pub async fn report(&self, id: TaskId, name: &str, event: ReportEvent) {
        self.report_of("worker", id, name, event).await;
    }

    /// The same about a task of another type.
    pub async fn report_of(&self, of: &str, id: TaskId, name: &str, event: ReportEvent) {
        let report = Report {
            task_id: id,
            task_type: task_type(of),
            endpoint: endpoint(name),
            home: Uuid::nil(),
            event,
        };
        let ignored = Arc::new(self.state.config.ignored());
        self.store
            .apply(&[report], &ignored, self.state.clock.now(), RETENTION)
            .await
            .expect("the store works");
    }

    /// Gives what waits in a queue to a worker, as the dispatcher does.
    pub async fn give(&self, of: &str, worker: &str) {
        self.see_this(Presence { slots: Some(100), ..self.presence(worker, &[of], PresenceState::Joined) })
            .await;
        let rule = QueueRule { task_type: task_type(of), attempts: 3, max_running: None, max_per_key: None };
        let now = self.state.clock.now();
        self.store.give(&[rule], now, now.after(Duration::from_secs(60))).await.expect("the store works");
    }

    pub async fn see(&self, name: &str, types: &[&str], state: PresenceState) {
        self.see_at(name, types, state, None).await;
    }

    /// The same of an endpoint that tells its time.
    pub async fn see_at(&self, name: &str, types: &[&str], state: PresenceState, sent_at: Option<Timestamp>) {
        self.see_this(Presence { sent_at, ..self.presence(name, types, state) }).await;
    }

    /// The same of an endpoint with labels for the type `worker`.
    pub async fn see_labelled(&self, name: &str, labels: &[(&str, &str)]) {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let labels = Labels::of(labels).expect("labels");
        self.see_this(Presence { labels, ..self.presence(name, &["worker"], PresenceState::Alive) }).await;
    }

    pub async fn see_this(&self, presence: Presence) {
        self.store.see(&[presence], self.state.clock.now()).await.expect("the store works");
    }

    pub fn presence(&self, name: &str, types: &[&str], state: PresenceState) -> Presence {
        Presence { version: "1.2.3".to_owned(), ..presence(name, types, state) }
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    /// Sends bytes as they are and reads one answer.
    pub async fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.expect("the server reads");
        read_answer(&mut stream).await
    }

    /// Sends a request without body whose path no client library would let pass.
    pub async fn raw_path(&self, method: &str, path: &str) -> Answer {
        self.raw(
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n")
                .as_bytes(),
        )
        .await
    }

    /// Tells the server to stop and waits for it.
    pub async fn stop(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.server).await.expect("it stops in time");
        ended.expect("no panic").expect("no error");
    }

    pub fn begin_stop(&self) {
        self.stop.cancel();
    }
}

/// One answer with a `Content-Length`.
pub async fn read_answer(stream: &mut TcpStream) -> Answer {
    let read = async {
        let mut bytes = Vec::new();
        let (head, body) = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break bytes.split_at(end + 4);
            }
            assert!(
                stream.read_buf(&mut bytes).await.expect("the connection holds") > 0,
                "closed in the head: {bytes:?}"
            );
        };
        let head = std::str::from_utf8(head).expect("an HTTP head");
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|status| status.parse().ok())
            .expect("a status");
        let mut headers = reqwest::header::HeaderMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            headers.insert(
                reqwest::header::HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes())
                    .expect("a name"),
                value.parse().expect("a value"),
            );
        }
        let length: usize =
            headers.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0);
        let mut body = body.to_vec();
        while body.len() < length {
            assert!(
                stream.read_buf(&mut body).await.expect("the connection holds") > 0,
                "closed in the body"
            );
        }
        Answer { status, headers, text: String::from_utf8(body).expect("a text") }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("an answer in time")
}

pub fn endpoint(name: &str) -> EndpointName {
    name.parse().expect("an endpoint name")
}

pub fn task_type(name: &str) -> TaskType {
    name.parse().expect("a task type")
}

pub fn finished(errnr: i32, errmsg: &str) -> ReportEvent {
    let payload = (errnr == 0).then(|| json(&serde_json::json!({"seconds": 20})));
    ReportEvent::Finished {
        errnr,
        errmsg: errmsg.to_owned(),
        payload,
        attempt: 1,
        attempts: Vec::new(),
        log: None,
        run: None,
    }
}
