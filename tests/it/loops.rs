//! The loops of an API process - publisher, presence, collector, reconciler - from the side of an endpoint
//! that the test plays by hand over the in-process broker.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sqlx::{Connection, Executor, SqliteConnection};
use tasker::app::ApiProcess;
use tasker::broker::memory::MemoryBroker;
use tasker::broker::{Address, Consumer, Message, SharedBroker, Source, envelope, wire};
use tasker::config::{Config, Database, Secret};
use tasker::domain::{
    Command, EndpointName, Identifier, NewTask, Presence, PresenceState, Report, ReportEvent, TaskId,
    TaskStatus, TaskType, Timestamp, WireVersion, errnr, json,
};
use tasker::https;
use tasker::store::{self, ResponseFilter, SharedStore};
use tempfile::TempDir;
use uuid::Uuid;

use crate::api_side::soon;
use crate::support::presence::presence_of_its_own;

/// An API process, and an endpoint's end of its broker.
struct Site {
    store: SharedStore,
    broker: MemoryBroker,
    link: SharedBroker,
    api: ApiProcess,
    address: std::net::SocketAddr,
    directory: TempDir,
}

fn worker() -> TaskType {
    "worker".parse().expect("a task type")
}

/// The memory of an endpoint that has only one.
fn home(name: &str) -> Uuid {
    Uuid::from_u128(name.bytes().map(u128::from).sum())
}

fn endpoint(name: &str) -> EndpointName {
    name.parse().expect("an endpoint")
}

impl Site {
    async fn new() -> Self {
        Self::with_types("[worker]").await
    }

    async fn with_types(task_types: &str) -> Self {
        let directory = TempDir::new().expect("a directory");
        let store = Self::open(&directory);
        store.migrate().await.expect("migrates");
        let broker = MemoryBroker::new();
        let (api, address) = Self::start(task_types, &store, &broker);
        let link = broker.connect();
        Self { store, broker, link, api, address, directory }
    }

    fn open(directory: &TempDir) -> SharedStore {
        let uri = Secret::new(format!("sqlite://{}", directory.path().join("ledger.db").display()));
        store::open(&Database { verbose: false, uri, max_connections: 4 }).expect("an address")
    }

    fn start(
        task_types: &str,
        store: &SharedStore,
        broker: &MemoryBroker,
    ) -> (ApiProcess, std::net::SocketAddr) {
        let rest = "api: {port: 0, wait_for_endpoints_timeout: 20s}\nendpoint: {presence_interval: 1s}";
        let config =
            Config::from_yaml(&format!("task_types: {task_types}\n{rest}")).expect("a configuration");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let api =
            ApiProcess::start(Arc::new(config), store.clone(), broker.connect(), listener).expect("starts");
        (api, address)
    }

    /// Records a task as if a process had died between accepting and publishing it: due now.
    async fn orphan(&self, endpoints: &[&str]) -> TaskId {
        self.orphans(endpoints, 1).await[0]
    }

    /// So many of them, which are due at the same time.
    async fn orphans(&self, endpoints: &[&str], count: usize) -> Vec<TaskId> {
        let now = self.store.now().await.expect("the store answers");
        let task = || NewTask {
            id: TaskId::new(),
            task_type: worker(),
            identifier: Uuid::new_v4().to_string().parse::<Identifier>().expect("an identifier"),
            payload: json(&"x"),
            endpoints: endpoints.iter().map(|name| endpoint(name)).collect(),
            target: None,
            rerun_of: None,
            digest: [7; 32],
            place: None,
            start_time: now,
            receive_by: now.after(Duration::from_secs(20)),
            expires_at: now.after(Duration::from_secs(600)),
            submitted_by: None,
            source: None,
            followed: false,
            rollout: None,
            held: false,
        };
        let tasks: Vec<NewTask> = std::iter::repeat_with(task).take(count).collect();
        let due = Timestamp::from_micros(now.as_micros() - 1);
        self.store.accept(&tasks, due, Duration::from_secs(60)).await.expect("accepts");
        tasks.iter().map(|task| task.id).collect()
    }

    async fn subscribe(&self, name: &str) -> Consumer {
        self.link.consume(Source::Tasks(vec![(worker(), endpoint(name))]), 100).await.expect("consumes")
    }

    async fn publish(&self, to: Address, body: Bytes) {
        let results = self.link.publish(vec![Message::new(to, body)]).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }

    /// Says that an endpoint has joined; answers its session.
    async fn join(&self, name: &str) -> Uuid {
        self.join_with(name, home(name)).await
    }

    /// The same with another memory.
    async fn join_with(&self, name: &str, home: Uuid) -> Uuid {
        let presence = presence(name, home);
        self.say_so(&presence).await;
        presence.session
    }

    async fn say_so(&self, presence: &Presence) {
        self.publish(Address::Presence, wire::encode_presence(presence)).await;
    }

    /// Who is expected to perform a task without a list now.
    async fn subscribed(&self) -> Vec<EndpointName> {
        self.store
            .subscribed(&[worker()])
            .await
            .expect("the store answers")
            .remove(&worker())
            .unwrap_or_default()
    }

    /// Changes the ledger behind the store's back.
    async fn execute(&self, statement: &'static str) {
        let uri = format!("sqlite://{}", self.directory.path().join("ledger.db").display());
        let mut conn = SqliteConnection::connect(&uri).await.expect("connects");
        conn.execute(statement).await.expect("is executed");
    }

    /// Has an endpoint join and waits until the ledger knows it.
    async fn is_known(&self, name: &str) {
        self.join(name).await;
        self.is_known_as(name).await;
    }

    async fn is_known_as(&self, name: &str) {
        let known = async {
            while self
                .store
                .endpoints(None, 100)
                .await
                .expect("the store answers")
                .iter()
                .all(|known| known.name.as_str() != name)
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        soon("it to be known", known).await;
    }

    async fn say(&self, task_id: TaskId, name: &str, event: ReportEvent) {
        let report =
            Report { task_id, task_type: worker(), endpoint: endpoint(name), home: home(name), event };
        self.publish(Address::Responses, wire::encode_report(&report)).await;
    }

    async fn finish(&self, task_id: TaskId, name: &str) {
        self.say(task_id, name, succeeded()).await;
    }

    async fn until_status(&self, id: TaskId, status: TaskStatus) {
        let look = async {
            while self
                .store
                .find(id)
                .await
                .expect("the store answers")
                .is_none_or(|task| task.status != status)
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        soon(&format!("{id} to be {status:?}"), look).await;
    }
}

/// Of an endpoint that has just connected.
fn presence(name: &str, home: Uuid) -> Presence {
    Presence {
        home,
        interval: Duration::from_millis(100),
        reads: WireVersion::One,
        ..presence_of_its_own(name, &["worker"], PresenceState::Joined)
    }
}

/// The end of a handler that has succeeded.
fn succeeded() -> ReportEvent {
    ReportEvent::Finished {
        errnr: 0,
        errmsg: String::new(),
        payload: None,
        attempt: 1,
        attempts: vec![],
        log: None,
        run: None,
    }
}

async fn command(consumer: &mut Consumer) -> Command {
    let delivery = soon("a command", consumer.deliveries.recv()).await.expect("the consumer lives");
    delivery.acker.ack_through().await;
    wire::decode_command(&delivery.body).expect("a command")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_is_welcomed_and_then_asked_for_what_it_owes() {
    let site = Site::new().await;
    let id = site.orphan(&["late"]).await;
    // Published by the reconciler: nobody is there, so it goes nowhere.
    site.until_status(id, TaskStatus::Sent).await;
    let mut queue = site.subscribe("late").await;
    let session = site.join("late").await;
    let first = command(&mut queue).await;
    assert!(matches!(first, Command::Welcome { session: answered, .. } if answered == session), "{first:?}");
    let second = command(&mut queue).await;
    assert!(matches!(&second, Command::Task(task) if task.work.id == id), "{second:?}");
    site.finish(id, "late").await;
    site.until_status(id, TaskStatus::Done).await;
    site.api.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_can_expect_those_who_are_stopped() {
    let site = Site::with_types("[{name: worker, expect: known}]").await;
    let of = |name: &str| Presence { interval: Duration::from_secs(60), ..presence(name, home(name)) };
    let (here, away) = (of("here"), of("away"));
    for presence in [&here, &away, &Presence { state: PresenceState::Leaving, ..away.clone() }] {
        site.say_so(presence).await;
    }
    let gone = async {
        while !site.subscribed().await.iter().map(EndpointName::as_str).eq(["here"]) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("one to be there alone", gone).await;
    let id = site.orphan(&[]).await;
    site.until_status(id, TaskStatus::Sent).await;
    assert_eq!(
        site.store.find(id).await.expect("the store answers").expect("it is there").counts.expected,
        2
    );
    site.finish(id, "here").await;
    // It gets the task when it is back.
    let mut queue = site.subscribe("away").await;
    site.join("away").await;
    while !matches!(command(&mut queue).await, Command::Task(task) if task.work.id == id) {}
    site.finish(id, "away").await;
    site.until_status(id, TaskStatus::Done).await;
    site.api.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_process_accepted_is_published_by_another() {
    let site = Site::new().await;
    let mut queue = site.subscribe("here").await;
    site.join("here").await;
    assert!(matches!(command(&mut queue).await, Command::Welcome { .. }));
    let ids = [site.orphan(&[]).await, site.orphan(&["here"]).await];
    let mut seen = Vec::new();
    for _ in ids {
        let Command::Task(task) = command(&mut queue).await else { panic!("not a task") };
        seen.push(task.work.id);
        site.finish(task.work.id, "here").await;
    }
    seen.sort_unstable();
    assert_eq!(seen, ids);
    for id in ids {
        site.until_status(id, TaskStatus::Done).await;
    }
    site.api.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_goes_alone_to_the_dead_exchange() {
    let site = Site::new().await;
    site.is_known("here").await;
    let id = site.orphan(&["here"]).await;
    site.until_status(id, TaskStatus::Sent).await;
    for body in [&b"\xff\x00"[..], b"{}", br#"{"v":9,"kind":"finished"}"#, br#"{"v":1,"kind":"dance"}"#] {
        site.publish(Address::Responses, Bytes::from_static(body)).await;
        site.publish(Address::Presence, Bytes::from_static(body)).await;
    }
    site.finish(TaskId::new(), "nobody").await;
    site.finish(id, "here").await;
    site.until_status(id, TaskStatus::Done).await;
    let all_dead = async {
        while site.broker.dead().len() < 8 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("eight dead messages", all_dead).await;
    assert!(site.broker.dead().iter().all(|(reason, _)| !reason.is_empty()));
    site.api.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_returns_is_asked_for_what_it_has_and_told_what_was_canceled() {
    let site = Site::new().await;
    site.is_known("here").await;
    let ids = [site.orphan(&["here"]).await, site.orphan(&["here"]).await];
    for id in ids {
        site.until_status(id, TaskStatus::Sent).await;
        site.say(id, "here", ReportEvent::Received).await;
    }
    let received = async {
        while site
            .store
            .open_rows(&ids)
            .await
            .expect("the store answers")
            .values()
            .flatten()
            .any(|row| row.home.is_none())
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("both to be received", received).await;
    let now = site.store.now().await.expect("the store answers");
    site.store.cancel(ids[1], now, Duration::from_secs(60)).await.expect("cancels");

    let mut queue = site.subscribe("here").await;
    site.join("here").await;
    assert!(matches!(command(&mut queue).await, Command::Welcome { .. }));
    let mut commands = [command(&mut queue).await, command(&mut queue).await];
    // A cancel goes past the queue, so either may come first.
    commands.sort_by_key(|command| matches!(command, Command::Cancel { .. }));
    assert!(
        matches!(&commands[0], Command::Task(task) if task.work.id == ids[0] && task.received),
        "{commands:?}"
    );
    assert!(matches!(commands[1], Command::Cancel { task_id } if task_id == ids[1]), "{commands:?}");

    // Whoever has missed that, too, is told when it reports; one whose row was withdrawn as well.
    let late = site.orphan(&["here", "late"]).await;
    assert!(
        matches!(command(&mut queue).await, Command::Task(task) if task.work.id == late && !task.received)
    );
    site.store.cancel(late, now, Duration::from_secs(60)).await.expect("cancels");
    site.say(late, "here", ReportEvent::Received).await;
    assert!(matches!(command(&mut queue).await, Command::Cancel { task_id } if task_id == late));
    site.api.stop().await;
}

/// The next command that is no welcome.
async fn order(consumer: &mut Consumer) -> Command {
    loop {
        match command(consumer).await {
            Command::Welcome { .. } => {}
            command => return command,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_that_stops_takes_back_what_was_not_received() {
    let site = Site::new().await;
    let client = https::client().build().expect("a client");
    let post = async |path: &str, body: serde_json::Value| {
        let answer = client
            .post(format!("http://{}/rollouts{path}", site.address))
            .json(&body)
            .send()
            .await
            .expect("answers");
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap_or_default());
    };
    let until_counts = async |wanted: &str| {
        let look = async {
            loop {
                let answer =
                    client.get(format!("http://{}/rollouts/r", site.address)).send().await.expect("answers");
                let shown: serde_json::Value = answer.json().await.expect("JSON");
                let counts = &shown["counts"];
                let counts = ["pending", "sent", "ok"].map(|state| counts[state].to_string()).join(" ");
                if format!("{} {counts}", shown["status"].as_str().unwrap_or_default()) == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        soon(wanted, look).await;
    };
    let said = |name: &str, reads| Presence {
        reads,
        interval: Duration::from_secs(60),
        ..presence(name, home(name))
    };
    let (mut here, mut gone, mut old) =
        (site.subscribe("here").await, site.subscribe("gone").await, site.subscribe("old").await);
    for (name, reads) in
        [("here", WireVersion::NEWEST), ("gone", WireVersion::NEWEST), ("old", WireVersion::Two)]
    {
        site.say_so(&said(name, reads)).await;
        site.is_known_as(name).await;
    }
    let targets = serde_json::json!({"endpoints": ["here", "gone", "old"]});
    post("", serde_json::json!({"identifier": "r", "type": "worker", "targets": targets, "waves": ["rest"], "receive_within": "1h"})).await;
    let Command::Task(task) = order(&mut here).await else { panic!("not a task") };
    let id = task.work.id;
    for queue in [&mut gone, &mut old] {
        assert!(matches!(order(queue).await, Command::Task(task) if task.work.id == id));
    }
    post("/r/pause", serde_json::json!({})).await;
    for queue in [&mut here, &mut gone] {
        assert!(matches!(order(queue).await, Command::Withdraw { task_id } if task_id == id));
    }
    // One comes back, and is told that in place of its task.
    site.say_so(&said("gone", WireVersion::NEWEST)).await;
    assert!(matches!(order(&mut gone).await, Command::Withdraw { task_id } if task_id == id));
    site.say(id, "here", ReportEvent::Canceled).await;
    site.say(id, "gone", ReportEvent::Received).await;
    assert!(
        matches!(order(&mut gone).await, Command::Withdraw { task_id } if task_id == id),
        "the message may have missed it"
    );
    site.finish(id, "gone").await;
    // An older version knows nothing of this: it finishes what it has, and is not sent the task again.
    site.say_so(&said("old", WireVersion::Two)).await;
    site.finish(id, "old").await;
    until_counts("PAUSED 1 0 2").await;
    post("/r/resume", serde_json::json!({})).await;
    let Command::Task(again) = order(&mut here).await else { panic!("not a task") };
    assert_ne!(again.work.id, id);
    site.finish(again.work.id, "here").await;
    until_counts("DONE 0 0 3").await;
    // All that the older one was sent besides is a welcome.
    site.publish(
        Address::Named(worker(), vec![endpoint("old")]),
        wire::encode_command(&Command::Cancel { task_id: id }, WireVersion::One),
    )
    .await;
    assert!(matches!(order(&mut old).await, Command::Cancel { .. }));
    site.api.stop().await;
}

/// A process writes the receipt of a task that was taken back, and ends before it tells the endpoint so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_received_after_it_was_taken_back_is_taken_back_by_another_process() {
    let site = Site::new().await;
    let mut gone = site.subscribe("gone").await;
    let said = Presence {
        reads: WireVersion::NEWEST,
        interval: Duration::from_secs(60),
        ..presence("gone", home("gone"))
    };
    site.say_so(&said).await;
    site.is_known_as("gone").await;
    let post = async |address, path: &str, body: serde_json::Value| {
        let client = https::client().build().expect("a client");
        let answer = client.post(format!("http://{address}/rollouts{path}")).json(&body).send().await;
        assert!(answer.expect("answers").status().is_success(), "{path}");
    };
    let document = serde_json::json!({
        "identifier": "r", "type": "worker", "targets": {"endpoints": ["gone"]}, "receive_within": "1h",
    });
    post(site.address, "", document).await;
    let Command::Task(task) = order(&mut gone).await else { panic!("not a task") };
    let id = task.work.id;
    post(site.address, "/r/pause", serde_json::json!({})).await;
    assert!(matches!(order(&mut gone).await, Command::Withdraw { task_id } if task_id == id));
    site.api.stop().await;

    let report = Report {
        task_id: id,
        task_type: worker(),
        endpoint: endpoint("gone"),
        home: home("gone"),
        event: ReportEvent::Received,
    };
    let message = Message::new(Address::Responses, wire::encode_report(&report));
    assert!(site.link.publish(vec![message]).await.iter().all(Result::is_ok));
    let mut died = site.link.consume(Source::Responses, 1).await.expect("consumes");
    let delivery = died.deliveries.recv().await.expect("the receipt");
    // The process has closed its own.
    let store = Site::open(&site.directory);
    let now = store.now().await.expect("the store answers");
    let applied = store.apply(&[report], &Arc::default(), now, Duration::from_secs(60)).await;
    assert_eq!(applied.expect("writes").to_withdraw.len(), 1);
    drop((delivery, died));

    let (api, address) = Site::start("[worker]", &store, &site.broker);
    let site = Site { store, api, address, ..site };
    assert!(matches!(order(&mut gone).await, Command::Withdraw { task_id } if task_id == id));
    // It had begun: it says so, and is not told again and again.
    site.say(id, "gone", ReportEvent::Received).await;
    site.finish(id, "gone").await;
    site.until_status(id, TaskStatus::Done).await;
    let mark = wire::encode_command(&Command::Cancel { task_id: TaskId::new() }, WireVersion::One);
    site.publish(Address::Control(worker(), vec![endpoint("gone")]), mark).await;
    assert!(matches!(order(&mut gone).await, Command::Cancel { .. }));
    site.api.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_endpoint_had_received_is_lost_when_its_memory_is() {
    let site = Site::new().await;
    let mut queue = site.subscribe("here").await;
    site.join("here").await;
    assert!(matches!(command(&mut queue).await, Command::Welcome { .. }));
    let id = site.orphan(&["here"]).await;
    assert!(matches!(command(&mut queue).await, Command::Task(task) if task.work.id == id));
    site.say(id, "here", ReportEvent::Received).await;
    // Not let in until the first has been silent for three intervals; it says again that it has joined, as
    // endpoints do.
    let ended = async {
        loop {
            site.join_with("here", Uuid::from_u128(7)).await;
            let task = site.store.find(id).await.expect("the store answers").expect("it is there");
            if task.status == TaskStatus::Done {
                break task;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let task = soon("the end of the task", ended).await;
    assert_eq!((task.counts.finished, task.counts.failed), (1, 1));
    let responses =
        site.store.responses(id, ResponseFilter::All, None, 100).await.expect("the store answers");
    assert_eq!(responses[0].errnr, Some(errnr::LOST), "{responses:?}");
    site.api.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ask_that_does_not_go_out_is_not_counted_and_not_lost() {
    let site = Site::new().await;
    let mut tasks = site.subscribe("a").await;
    site.is_known("a").await;
    site.broker.cut();
    let id = site.orphan(&["a"]).await;
    let metric = async |line: &str| {
        let url = format!("http://{}/metrics", site.address);
        let answer = https::client().build().expect("a client").get(url).send().await.expect("answers");
        let text = answer.text().await.expect("a text");
        text.lines().find_map(|text| text.strip_prefix(line)?.trim().parse::<f64>().ok()).unwrap_or_default()
    };
    // The first is the publish, those after it are asks.
    let tried = async {
        while metric(r#"tasker_publishes_total{result="failed",task_type="worker"}"#).await < 3.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("two asks", tried).await;
    assert_eq!(
        metric(r#"tasker_asks_total{reason="missing"}"#).await,
        0.0,
        "asks were counted that did not go out"
    );
    site.broker.restore();
    let asked = async {
        loop {
            // It is there all the time, which the API has not heard for a while.
            site.join("a").await;
            let next = tokio::time::timeout(Duration::from_millis(500), command(&mut tasks)).await;
            if let Ok(Command::Task(task)) = next {
                break task.work.id;
            }
        }
    };
    assert_eq!(soon("the task", asked).await, id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_report_changes_nothing() {
    let site = Site::new().await;
    let mut queue = site.subscribe("here").await;
    site.join("here").await;
    assert!(matches!(command(&mut queue).await, Command::Welcome { .. }));
    let [listed, everybody, absent] =
        [site.orphan(&["here"]).await, site.orphan(&[]).await, site.orphan(&["absent"]).await];
    for id in [listed, everybody] {
        assert!(
            matches!(command(&mut queue).await, Command::Task(task) if [listed, everybody].contains(&task.work.id)),
            "{id}"
        );
    }
    site.until_status(absent, TaskStatus::Sent).await;
    let done = |task_id, name: &str, home| {
        let event = ReportEvent::Finished {
            errnr: 0,
            errmsg: "forged".into(),
            payload: None,
            attempt: 1,
            attempts: vec![],
            log: None,
            run: None,
        };
        Report { task_id, task_type: worker(), endpoint: endpoint(name), home, event }
    };
    let of_another_type =
        Report { task_type: "backup".parse().expect("a task type"), ..done(listed, "here", home("here")) };
    let mut forged = vec![
        done(listed, "here", Uuid::from_u128(99)),
        of_another_type,
        done(absent, "absent", home("absent")),
    ];
    forged.extend((0..50).map(|number| done(everybody, &format!("ghost{number}"), home("ghost"))));
    for report in &forged {
        site.publish(Address::Responses, wire::encode_report(report)).await;
    }
    // Reports of one connection are taken in their order, so whatever they do is done by then.
    site.finish(everybody, "here").await;
    site.until_status(everybody, TaskStatus::Done).await;
    let task = async |id| site.store.find(id).await.expect("the store answers").expect("it is there");
    assert_eq!(task(everybody).await.counts.expected, 1, "nobody else was there");
    for id in [listed, absent] {
        let task = task(id).await;
        assert_eq!((task.status, task.counts.received), (TaskStatus::Sent, 0), "{task:?}");
    }
    // After its end, too.
    site.publish(Address::Responses, wire::encode_report(&done(everybody, "ghost", home("ghost")))).await;
    site.finish(listed, "here").await;
    site.until_status(listed, TaskStatus::Done).await;
    assert_eq!(task(everybody).await.counts.expected, 1);
    let responses =
        site.store.responses(listed, ResponseFilter::All, None, 100).await.expect("the store answers");
    assert_eq!(responses[0].errmsg, "", "it is the answer of the endpoint");

    // A cancel that the API has not sent: the endpoint cannot know, so it confirms it.
    let stopped = site.orphan(&["here"]).await;
    assert!(matches!(command(&mut queue).await, Command::Task(task) if task.work.id == stopped));
    site.say(stopped, "here", ReportEvent::Canceled).await;
    site.until_status(stopped, TaskStatus::Done).await;
    let responses =
        site.store.responses(stopped, ResponseFilter::All, None, 100).await.expect("the store answers");
    assert_eq!(responses[0].errnr, Some(errnr::STOPPED), "{responses:?}");

    let metrics = https::client().build().expect("a client").get(format!("http://{}/metrics", site.address));
    let metrics = metrics.send().await.expect("it answers").text().await.expect("a text");
    for (result, count) in [("unknown", 1), ("foreign", 1), ("unsubscribed", 52)] {
        let line = format!("tasker_responses_total{{result=\"{result}\"}} {count}\n");
        assert!(metrics.contains(&line), "no {line} in {metrics}");
    }
    site.api.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_kept_of_an_end_ends_its_response_all_the_same() {
    let site = Site::new().await;
    site.is_known("here").await;
    let deep = format!(r#""errnr":0,"attempt":1,"payload":{}{}"#, "[".repeat(100_000), "]".repeat(100_000));
    let long = format!(r#""errnr":0,"attempt":1,"payload":"{}""#, "x".repeat(9 << 20));
    let texts = format!(r#""errnr":3,"attempt":1,"errmsg":"{0}","log":"{0}""#, "é".repeat(6 << 20));
    for (members, errnr, reason) in [
        (deep, errnr::BAD_ANSWER, "nested deeper than 128 levels"),
        (long, errnr::BAD_ANSWER, "the answer has 9437186 bytes"),
        (r#""errnr":0,"attempt":1,"payload":"\udc00""#.to_owned(), errnr::BAD_ANSWER, "lone surrogate"),
        (r#""errnr":0,"attempt":1,"payload":1e99999"#.to_owned(), errnr::BAD_ANSWER, "out of range"),
        (r#""errnr":0,"attempt":1,"errmsg":"\ud800""#.to_owned(), errnr::BAD_ANSWER, "cannot be read"),
        (r#""errnr":"none""#.to_owned(), errnr::BAD_ANSWER, "cannot be read"),
        (texts, 3, "[cut: it had 12582912 bytes]"),
    ] {
        let id = site.orphan(&["here"]).await;
        let home = home("here");
        let body = format!(
            r#"{{"v":1,"kind":"finished","task_id":"{id}","type":"worker","endpoint":"here","home":"{home}",{members}}}"#
        );
        site.until_status(id, TaskStatus::Sent).await;
        site.publish(Address::Responses, body.into()).await;
        site.until_status(id, TaskStatus::Done).await;
        let response = site
            .store
            .responses(id, ResponseFilter::All, None, 100)
            .await
            .expect("the store answers")
            .remove(0);
        assert_eq!((response.errnr, response.payload.is_some()), (Some(errnr), false));
        assert!(
            response.errmsg.contains(reason) && response.errmsg.len() <= ReportEvent::TEXT,
            "no {reason}"
        );
        assert!(response.log.is_none_or(|log| log.starts_with(reason) && log.len() <= ReportEvent::TEXT));
    }
    assert!(site.broker.dead().is_empty(), "nothing was buried");
    site.api.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_goodbye_takes_nobody_away() {
    let site = Site::new().await;
    let mut queue = site.subscribe("here").await;
    let own = presence("here", home("here"));
    site.say_so(&own).await;
    assert!(matches!(command(&mut queue).await, Command::Welcome { .. }));
    let of_another_home = Presence { state: PresenceState::Leaving, ..presence("here", Uuid::from_u128(99)) };
    let of_another_process = Presence { state: PresenceState::Leaving, ..presence("here", home("here")) };
    for forged in [&of_another_home, &of_another_process] {
        site.say_so(forged).await;
    }
    // Presence of one connection is taken in its order, so whatever the goodbyes do is done by then.
    site.is_known("other").await;
    assert!(site.subscribed().await.contains(&endpoint("here")));
    let id = site.orphan(&[]).await;
    assert!(matches!(command(&mut queue).await, Command::Task(task) if task.work.id == id));

    // With all that the endpoint's own goodbye would say it is believed, until the endpoint says in its turn
    // that it is there.
    site.say_so(&Presence { state: PresenceState::Leaving, ..own.clone() }).await;
    soon("the goodbye", async {
        while site.subscribed().await.contains(&endpoint("here")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let alive = Presence { state: PresenceState::Alive, ..own };
    soon("the welcome", async {
        loop {
            site.say_so(&alive).await;
            if let Ok(command) = tokio::time::timeout(alive.interval, command(&mut queue)).await {
                break assert!(
                    matches!(command, Command::Welcome { session, .. } if session == alive.session),
                    "{command:?}"
                );
            }
        }
    })
    .await;
    assert!(site.subscribed().await.contains(&endpoint("here")));
    site.finish(id, "here").await;
    site.api.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_forged_names_hold_nobody_up_and_do_not_stay() {
    const GHOSTS: usize = 5000;
    let site = Site::new().await;
    let body = |number| {
        let forged = presence(&format!("ghost{number}"), Uuid::from_u128(99));
        wire::encode_presence(&Presence { interval: Presence::LONGEST_INTERVAL, ..forged })
    };
    let message = |number| Message::new(Address::Presence, body(number));
    let results = site.link.publish((0..GHOSTS).map(message).collect()).await;
    assert!(results.iter().all(Result::is_ok));
    // Behind all of them comes one that there is.
    let mut queue = site.subscribe("here").await;
    let own = presence("here", home("here"));
    site.say_so(&own).await;
    assert!(matches!(command(&mut queue).await, Command::Welcome { .. }));
    assert_eq!(site.subscribed().await.len(), GHOSTS + 1, "nothing tells a forged name from another");
    let id = site.orphan(&["here"]).await;
    assert!(matches!(command(&mut queue).await, Command::Task(task) if task.work.id == id));
    site.finish(id, "here").await;
    site.until_status(id, TaskStatus::Done).await;

    // However long an interval each has claimed, they are gone after three of the longest.
    let now = site.store.now().await.expect("the store answers");
    site.store
        .miss(now.after(Presence::LONGEST_INTERVAL * 3 + Duration::from_secs(1)))
        .await
        .expect("the store answers");
    assert_eq!(site.subscribed().await, []);
    site.say_so(&Presence { state: PresenceState::Alive, ..own }).await;
    assert!(matches!(command(&mut queue).await, Command::Welcome { .. }));
    let id = site.orphan(&[]).await;
    assert!(matches!(command(&mut queue).await, Command::Task(task) if task.work.id == id));
    site.finish(id, "here").await;
    site.until_status(id, TaskStatus::Done).await;
    let task = site.store.find(id).await.expect("the store answers").expect("it is there");
    assert_eq!(task.counts.expected, 1);
    site.api.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_the_ledger_refuses_costs_the_answer_alone() {
    let site = Site::new().await;
    site.is_known("here").await;
    site.execute(
        "CREATE TRIGGER refuse_answers BEFORE UPDATE ON response WHEN length(NEW.payload) > 1000
         BEGIN SELECT RAISE(ABORT, 'the answer is refused'); END",
    )
    .await;
    let answer = |bytes: usize, errnr| ReportEvent::Finished {
        errnr,
        errmsg: String::new(),
        payload: Some(json(&"x".repeat(bytes))),
        attempt: 1,
        attempts: vec![],
        log: Some("log".into()),
        run: None,
    };
    let tasks = [(10, 0), (5000, 0), (5000, 3), (20, 0)];
    let mut ids = Vec::new();
    for _ in tasks {
        let id = site.orphan(&["here"]).await;
        site.until_status(id, TaskStatus::Sent).await;
        ids.push(id);
    }
    let message = |(id, (bytes, errnr)): (&TaskId, (usize, i32))| {
        let report = Report {
            task_id: *id,
            task_type: worker(),
            endpoint: endpoint("here"),
            home: home("here"),
            event: answer(bytes, errnr),
        };
        Message { persistent: true, ..Message::new(Address::Responses, wire::encode_report(&report)) }
    };
    // Together, so that they come in one batch.
    let results = site.link.publish(ids.iter().zip(tasks).map(message).collect()).await;
    assert!(results.iter().all(Result::is_ok));
    for (id, (bytes, errnr)) in ids.iter().zip(tasks) {
        site.until_status(*id, TaskStatus::Done).await;
        let response = site
            .store
            .responses(*id, ResponseFilter::All, None, 100)
            .await
            .expect("the store answers")
            .remove(0);
        let refused = bytes > 1000;
        let expected = if refused && errnr == 0 { errnr::BAD_ANSWER } else { errnr };
        assert_eq!((response.errnr, response.payload.is_some()), (Some(expected), !refused), "{response:?}");
        assert_eq!(
            response.errmsg.contains("the ledger does not take what was reported"),
            refused,
            "{response:?}"
        );
    }
    assert!(site.broker.dead().is_empty(), "nothing was buried");

    // What is refused without its answer as well is buried, alone.
    let [lost, well] = [site.orphan(&["here"]).await, site.orphan(&["here"]).await];
    for id in [lost, well] {
        site.until_status(id, TaskStatus::Sent).await;
    }
    site.execute(
        "CREATE TRIGGER refuse_all BEFORE UPDATE ON response WHEN NEW.errnr = 42 OR NEW.errmsg LIKE '%does not take%'
         BEGIN SELECT RAISE(ABORT, 'all of it is refused'); END",
    )
    .await;
    let results =
        site.link.publish([(&lost, (10, 42)), (&well, (10, 0))].into_iter().map(message).collect()).await;
    assert!(results.iter().all(Result::is_ok));
    site.until_status(well, TaskStatus::Done).await;
    soon("the dead letter", async {
        while site.broker.dead().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let dead = site.broker.dead();
    assert!(dead.len() == 1 && dead[0].0.contains("refused"), "{dead:?}");
    assert_eq!(
        site.store.find(lost).await.expect("the store answers").expect("it is there").status,
        TaskStatus::Sent
    );
    site.api.stop().await;
}

/// The tasks in the next message that has some of these, each with the version that it is written in.
async fn together(consumer: &mut Consumer, ids: &[TaskId]) -> Vec<(TaskId, WireVersion)> {
    loop {
        let delivery = soon("a message", consumer.deliveries.recv()).await.expect("the consumer lives");
        delivery.acker.ack_through().await;
        let task = |item: &Bytes| match wire::decode_versioned(item).expect("a command") {
            (Command::Task(task), version) if ids.contains(&task.work.id) => Some((task.work.id, version)),
            _ => None,
        };
        let tasks: Vec<_> = envelope::items(&delivery.body).iter().filter_map(task).collect();
        if !tasks.is_empty() {
            return tasks;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_go_together_to_those_alone_who_read_lists() {
    let site = Site::new().await;
    let (mut old, mut new) = (site.subscribe("old").await, site.subscribe("new").await);
    let there =
        |name, reads| Presence { reads, interval: Duration::from_secs(60), ..presence(name, home(name)) };
    let older = there("old", WireVersion::One);
    site.say_so(&there("new", WireVersion::Two)).await;
    site.say_so(&older).await;
    for (queue, reads) in [(&mut old, WireVersion::One), (&mut new, WireVersion::Two)] {
        let welcome = command(queue).await;
        // No newer version than the endpoint knows: it would read the number as its own newest.
        assert!(matches!(welcome, Command::Welcome { reads: told, .. } if told == reads), "{welcome:?}");
    }
    // For everybody, and for a list: one of them reads version 1, so all get that, one by one.
    for endpoints in [&[][..], &["old", "new"]] {
        let ids = site.orphans(endpoints, 3).await;
        for queue in [&mut old, &mut new] {
            for _ in &ids {
                let tasks = together(queue, &ids).await;
                assert!(matches!(tasks[..], [(_, WireVersion::One)]), "{endpoints:?}: {tasks:?}");
            }
        }
    }
    let alone = site.orphans(&["new"], 3).await;
    let list =
        |ids: Vec<TaskId>| ids.into_iter().map(|id| (id, WireVersion::Two)).collect::<BTreeMap<_, _>>();
    assert_eq!(BTreeMap::from_iter(together(&mut new, &alone).await), list(alone));
    // The last that reads version 1 goes.
    site.say_so(&Presence { state: PresenceState::Leaving, ..older }).await;
    while site.subscribed().await.contains(&endpoint("old")) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let ids = site.orphans(&[], 3).await;
    assert_eq!(BTreeMap::from_iter(together(&mut new, &ids).await), list(ids));
    site.api.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_the_same_to_the_byte_whenever_it_is_sent() {
    #[derive(serde::Deserialize)]
    struct Parts {
        work: Box<serde_json::value::RawValue>,
    }
    let site = Site::new().await;
    let mut queue = site.subscribe("here").await;
    let presence = Presence {
        reads: WireVersion::Two,
        interval: Duration::from_secs(60),
        ..presence("here", home("here"))
    };
    site.say_so(&presence).await;
    assert!(matches!(command(&mut queue).await, Command::Welcome { .. }));
    let mut next = async || {
        let delivery = soon("a task", queue.deliveries.recv()).await.expect("the consumer lives");
        delivery.acker.ack_through().await;
        delivery.body
    };
    for endpoints in ["", r#", "endpoints": ["here"]"#] {
        let body = format!(
            r#"{{"identifier": "\u00e9 {}"{endpoints}, "payload": {{ "b":1.0, "a" :12345678901234567890123 }}}}"#,
            endpoints.len()
        );
        let client = https::client().build().expect("a client");
        let post = client
            .post(format!("http://{}/worker", site.address))
            .header("content-type", "application/json")
            .body(body);
        assert_eq!(post.send().await.expect("answers").status(), 201);
        let first = next().await;
        // Asked for again, as after a restart: now it comes from the ledger.
        let again = Presence { session: Uuid::new_v4(), ..presence.clone() };
        site.say_so(&again).await;
        assert!(matches!(wire::decode_command(&next().await), Ok(Command::Welcome { .. })));
        let second = next().await;
        let work = |body: &Bytes| serde_json::from_slice::<Parts>(body).expect("a task of version 2").work;
        assert_eq!(work(&first).get(), work(&second).get());
        assert_ne!(first, second, "another span is left");
        let Ok(Command::Task(task)) = wire::decode_command(&first) else { panic!("not a task") };
        site.finish(task.work.id, "here").await;
        site.until_status(task.work.id, TaskStatus::Done).await;
    }
    site.api.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_among_reports_takes_nothing_away_from_the_others() {
    let site = Site::new().await;
    site.is_known("here").await;
    let ids = site.orphans(&["here"], 2).await;
    for id in &ids {
        site.until_status(*id, TaskStatus::Sent).await;
    }
    let report = |id: &TaskId| {
        let report = Report {
            task_id: *id,
            task_type: worker(),
            endpoint: endpoint("here"),
            home: home("here"),
            event: succeeded(),
        };
        wire::encode_report(&report)
    };
    let rubbish = Bytes::from_static(b"{\"v\":1,\"kind\":\xff\n}");
    site.publish(Address::Responses, envelope::list(&[report(&ids[0]), rubbish.clone(), report(&ids[1])]))
        .await;
    for id in ids {
        site.until_status(id, TaskStatus::Done).await;
    }
    let dead = soon("the rubbish to be put aside", async {
        loop {
            match site.broker.dead() {
                dead if dead.is_empty() => tokio::time::sleep(Duration::from_millis(10)).await,
                dead => break dead,
            }
        }
    });
    let dead = dead.await;
    assert!(
        matches!(&dead[..], [(reason, body)] if reason.starts_with("not a message") && *body == rubbish),
        "{dead:?}"
    );
    site.api.stop().await;
}
