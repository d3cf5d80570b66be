//! What an attacker without a trusted key can do to a worker: in place of the API (under its host name, or as a
//! proxy), or at the broker.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use tasker::broker::wire;
use tasker::clock::Clock;
use tasker::domain::{
    Command, EndpointName, Order, Ordered, Purpose, Recipients, Seal, SealFault, TaskId, TaskMessage,
    Timestamp, WireVersion, WorkPart, json as raw,
};
use tasker::signing::{Signer, SigningKey, sign_order};
use tasker_services::{Process, until};
use uuid::Uuid;

use super::rig::endpoint;
use super::signatures::{Signed, Thief, id_of, was_refused};
use crate::support::platform::{Platform, response_of};
use crate::support::queues::Queues;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What of a worker's answers is changed on their way.
#[derive(Default)]
struct Tricks {
    /// Commands that come before those of the next answer.
    added: Vec<Value>,
    /// Seals are taken off these kinds of commands.
    unsealed: Option<&'static str>,
    /// The commands that the API has sent.
    seen: Vec<Value>,
    /// The last session of the worker.
    session: Option<Uuid>,
}

/// Stands between a worker and the API.
struct Middle {
    url: String,
    tricks: Arc<Mutex<Tricks>>,
    stop: Arc<AtomicBool>,
}

impl Middle {
    fn before(platform: &Platform) -> anyhow::Result<Self> {
        let api = platform.url("").trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let (tricks, stop) = (Arc::<Mutex<Tricks>>::default(), Arc::new(AtomicBool::new(false)));
        let (shared, told) = (tricks.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if told.load(Ordering::SeqCst) {
                    return;
                }
                let (api, tricks) = (api.clone(), shared.clone());
                // Whoever hangs up asks again.
                std::thread::spawn(move || pass(stream, &api, &tricks));
            }
        });
        Ok(Self { url, tricks, stop })
    }

    fn tricks(&self) -> MutexGuard<'_, Tricks> {
        self.tricks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, command: &Bytes) -> anyhow::Result<()> {
        self.tricks().added.push(serde_json::from_slice(command)?);
        Ok(())
    }

    /// The command of the API about a task, of this kind.
    fn seen(&self, kind: &str, id: TaskId) -> anyhow::Result<Bytes> {
        let id = id.to_string();
        let of = |one: &&Value| one["kind"] == kind && (one["id"] == *id || one["task_id"] == *id);
        let found = self.tricks().seen.iter().find(of).map(ToString::to_string);
        found.map(Bytes::from).with_context(|| format!("no {kind} of {id} went by"))
    }
}

impl Drop for Middle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

/// The lines of a head and a body.
fn read_message(stream: &TcpStream) -> anyhow::Result<(Vec<String>, Vec<u8>)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.parse()?;
        }
        head.push(line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((head, body))
}

/// One message on a connection of its own.
fn write_message(mut stream: &TcpStream, head: &[String], body: &[u8]) -> anyhow::Result<()> {
    let ours = ["content-length", "connection", "accept-encoding"];
    let is_ours = |line: &&String| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        !ours.contains(&name.as_str())
    };
    let mut text: String = head.iter().filter(is_ours).map(|line| format!("{line}\r\n")).collect();
    text.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()));
    stream.write_all(&[text.as_bytes(), body].concat())?;
    Ok(())
}

/// Passes one request on, and changes what the API gives.
fn pass(stream: TcpStream, api: &str, tricks: &Mutex<Tricks>) -> anyhow::Result<()> {
    let (head, mut body) = read_message(&stream)?;
    let asks = head.first().is_some_and(|line| line.contains("/tasks "));
    if asks {
        let mut wanted: Value = serde_json::from_slice(&body)?;
        // What is added goes out soon.
        wanted["wait_ms"] = json!(wanted["wait_ms"].as_u64().unwrap_or_default().min(200));
        body = serde_json::to_vec(&wanted)?;
        let session = serde_json::from_value(wanted["session"].clone())?;
        tricks.lock().unwrap_or_else(PoisonError::into_inner).session = Some(session);
    }
    let far = TcpStream::connect(api)?;
    // As if the middle had the name of the API.
    let of_host = |line: &String| line.to_ascii_lowercase().starts_with("host:");
    let named = head.iter().map(|line| if of_host(line) { format!("host: {api}") } else { line.clone() });
    write_message(&far, &named.collect::<Vec<_>>(), &body)?;
    let (head, mut body) = read_message(&far)?;
    if asks && head.first().is_some_and(|line| line.contains(" 200 ")) {
        let mut given: Value = serde_json::from_slice(&body)?;
        let commands = given["commands"].as_array_mut().context("commands")?;
        let mut tricks = tricks.lock().unwrap_or_else(PoisonError::into_inner);
        tricks.seen.extend(commands.iter().cloned());
        for command in
            commands.iter_mut().filter(|one| tricks.unsealed.is_some_and(|kind| one["kind"] == kind))
        {
            command.as_object_mut().context("an object")?.remove("seal");
        }
        commands.splice(0..0, std::mem::take(&mut tricks.added));
        body = serde_json::to_vec(&given)?;
    }
    write_message(&stream, &head, &body)
}

/// An installation whose types have work queues, with somebody between its worker and its API.
struct Site {
    signed: Signed,
    middle: Middle,
}

impl Site {
    fn new() -> anyhow::Result<Self> {
        let signed = Signed::new()?;
        let types = ["worker", "steered"].map(|name| json!({"name": name, "delivery": "queue"}));
        signed.platform.set_types(json!(types))?;
        let middle = Middle::before(&signed.platform)?;
        Ok(Self { signed, middle })
    }

    fn launch(&self, name: &str, signatures: &str) -> anyhow::Result<Process> {
        self.launch_with(name, signatures, &["--api", &self.middle.url])
    }

    /// Starts a worker with more arguments.
    fn launch_with(&self, name: &str, signatures: &str, more: &[&str]) -> anyhow::Result<Process> {
        let settings = [
            ("SIGNATURES", signatures.to_owned()),
            ("TRUST", self.signed.path("trust.yaml")),
            ("HANDLERS_DIR", self.signed.path("handlers")),
        ];
        let environment: Vec<(String, String)> =
            settings.map(|(key, value)| (format!("TASKER_ENDPOINT__{key}"), value)).into();
        // One of its tasks hangs.
        let arguments =
            [&["worker", "-e", name, "-t", "worker", "-t", "steered", "--concurrency", "2"], more].concat();
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        self.signed.platform.launch(name, &arguments, &environment)
    }

    fn start(&self, name: &str) -> anyhow::Result<Process> {
        let worker = self.launch(name, "require")?;
        self.signed.platform.subscribed(name, &["worker", "steered"]).with_context(|| worker.log())?;
        Ok(worker)
    }

    fn submit(&self, task_type: &str, payload: &Value) -> anyhow::Result<(String, TaskId)> {
        let identifier = Uuid::new_v4().to_string();
        let body = json!({"identifier": identifier, "payload": payload});
        let (status, answer) = self.signed.platform.post(&format!("/{task_type}"), &body)?;
        ensure!(status == 201, "{status}: {answer}");
        let id = id_of(&self.signed.platform, task_type, &identifier)?;
        Ok((identifier, id))
    }

    /// Submits a task that must be done.
    fn finish(&self) -> anyhow::Result<TaskId> {
        let (identifier, id) = self.submit("worker", &json!({"n": 1}))?;
        self.signed.platform.task("worker", &identifier, "DONE")?;
        Ok(id)
    }

    /// The same over HTTP. Answers also how the task went by.
    fn done(&self) -> anyhow::Result<(TaskId, Bytes)> {
        let id = self.finish()?;
        Ok((id, self.middle.seen("task", id)?))
    }
}

fn now() -> Timestamp {
    Clock::system().now()
}

/// The task of a genuine copy under another id, and the seal of that copy.
fn another(copy: &Bytes) -> anyhow::Result<(TaskMessage, Seal)> {
    let (Command::Task(task), _, Some(seal)) = wire::decode_sealed(copy)? else {
        anyhow::bail!("not a sealed task: {copy:?}")
    };
    let work = WorkPart { id: TaskId::new(), ..task.work.clone() };
    let Command::Task(task) = Command::Task(TaskMessage { work, ..task }).in_version(WireVersion::One) else {
        anyhow::bail!("a task has become something else")
    };
    Ok((task, seal))
}

/// A message of the attacker: its description, what it says, its bytes, and the reason for which it must be
/// refused.
struct Forgery {
    what: &'static str,
    command: Command,
    bytes: Bytes,
    fault: SealFault,
}

/// What such a person has to work with, besides a key that nobody trusts.
struct Loot {
    /// The worker.
    me: EndpointName,
    /// The copy of a task that it has done, and the task.
    copy: Bytes,
    done: TaskId,
    /// A task that runs there.
    runs: TaskId,
    /// Its session.
    session: Uuid,
}

impl Loot {
    fn forgeries(&self, site: &Site) -> anyhow::Result<Vec<Forgery>> {
        let api = Signer::new("it".parse()?, site.signed.key("server")?);
        let elsewhere = Signer::new("dev".parse()?, site.signed.key("server")?);
        let own = Signer::new("it".parse()?, SigningKey::create()?.0);
        let (_, genuine) = another(&self.copy)?;
        let task = || another(&self.copy).map(|(task, _)| Command::Task(task));
        let (mut changed, _) = another(&self.copy)?;
        changed.work.id = self.done;
        changed.work.payload = raw(&json!({"evil": 1}));
        let cancel = || Command::Cancel { task_id: self.runs };
        let welcome = || Command::Welcome {
            session: self.session,
            presence_interval: Duration::from_secs(1),
            reads: WireVersion::One,
            task_type: Some("worker".parse().expect("a type")),
            revocations: None,
        };
        let other = endpoint("w2");
        let by = |signer: &Signer, command: &Command, to: &EndpointName, seconds: i64| {
            let at = Timestamp::from_micros(now().as_micros() + seconds * 1_000_000);
            signer.seal(command, Recipients::of(command.subject(), [to]), None, at)
        };
        let mut rows = Vec::new();
        let mut row = |what, command: Command, seal: Option<Seal>, fault| {
            let version = match command {
                Command::Welcome { .. } => WireVersion::Four,
                Command::Task(_) | Command::Cancel { .. } | Command::Withdraw { .. } => WireVersion::One,
            };
            let bytes = match seal {
                None => wire::encode_command(&command, version),
                Some(seal) => wire::encode_sealed(&command, version, &seal),
            };
            rows.push(Forgery { what, command, bytes, fault });
        };
        let me = &self.me;
        let mut sealed =
            |what, command: Command, (signer, to, seconds): (&Signer, &EndpointName, i64), fault| {
                let seal = by(signer, &command, to, seconds);
                row(what, command, Some(seal), fault);
            };
        sealed("a task with a key of the thief", task()?, (&own, me, 0), SealFault::UnknownKey);
        sealed("for another installation", task()?, (&elsewhere, me, 0), SealFault::Forged);
        sealed("for another worker", task()?, (&api, &other, 0), SealFault::Misdirected);
        sealed("of an hour ago", task()?, (&api, me, -3600), SealFault::Expired);
        sealed("of the next hour", task()?, (&api, me, 3600), SealFault::Early);
        sealed("a cancel of the thief", cancel(), (&own, me, 0), SealFault::UnknownKey);
        sealed("a welcome of the thief", welcome(), (&own, me, 0), SealFault::UnknownKey);
        row("a task that nobody has signed", task()?, None, SealFault::Unsigned);
        row("a cancel that nobody has signed", cancel(), None, SealFault::Unsigned);
        row("a welcome that nobody has signed", welcome(), None, SealFault::Unsigned);
        row("with the seal of another task", task()?, Some(genuine.clone()), SealFault::Forged);
        row("with another payload", Command::Task(changed), Some(genuine.clone()), SealFault::Forged);
        let pretended = task()?;
        let mut pretender = by(&own, &pretended, me, 0);
        pretender.head.by = genuine.head.by;
        row("in the name of the API", pretended, Some(pretender), SealFault::Forged);
        Ok(rows)
    }

    /// Sends all of it, none of which may do anything, and then has the API do what it does.
    fn try_all(
        &self,
        site: &Site,
        worker: &Process,
        hanging: &str,
        send: impl Fn(&Forgery) -> anyhow::Result<()>,
        next: impl Fn() -> anyhow::Result<TaskId>,
    ) -> anyhow::Result<()> {
        let (platform, me) = (&site.signed.platform, self.me.as_str());
        let mut wanted = BTreeMap::<String, usize>::new();
        for forgery in self.forgeries(site)? {
            send(&forgery)?;
            *wanted.entry(forgery.fault.to_string()).or_default() += 1;
            platform.until(forgery.what, |_| {
                let found = site.signed.quarantine(me)?;
                ensure!(found == wanted, "{found:?}, expected {wanted:?}\n{}", worker.log());
                Ok(())
            })?;
        }
        platform.until("all of it is counted", |_| {
            let counted = site.signed.counted()?;
            ensure!(counted == wanted, "{counted:?}, expected {wanted:?}");
            Ok(())
        })?;
        let after = next()?;
        platform.response("steered", hanging, me, "CREATED")?;
        platform.delete(&format!("/steered/{hanging}"))?;
        platform.response("steered", hanging, me, "CANCELED")?;
        let ran = [self.done, after].map(|id| (id.to_string(), 1));
        ensure!(site.signed.effects() == ran.into(), "{:?}", site.signed.effects());
        let strange = site.signed.strange_reports()?;
        ensure!(strange == 0, "the worker has reported {strange} tasks of the thief");
        Ok(())
    }
}

#[test]
fn what_a_thief_of_the_api_gives_a_worker_does_nothing() -> anyhow::Result<()> {
    let site = Site::new()?;
    let platform = &site.signed.platform;
    let _api = site.signed.start_api()?;
    let worker = site.start("w1")?;
    let (done, copy) = site.done()?;
    let (hanging, runs) = site.submit("steered", &json!({"do": "hang"}))?;
    platform.response("steered", &hanging, "w1", "CREATED")?;
    let session = site.middle.tricks().session.context("a session")?;
    let loot = Loot { me: endpoint("w1"), copy, done, runs, session };
    let send = |forgery: &Forgery| site.middle.add(&forgery.bytes);
    loot.try_all(&site, &worker, &hanging, send, || site.done().map(|(id, _)| id))
}

/// The same holds for a worker on RabbitMQ.
#[test]
fn what_a_thief_of_the_broker_gives_a_worker_does_nothing() -> anyhow::Result<()> {
    let site = Site::new()?;
    let platform = &site.signed.platform;
    let _api = site.signed.start_api()?;
    // The thief listens to what is sent under this name.
    let worker = site.launch_with("ep1", "require", &[])?;
    platform.subscribed("ep1", &["worker", "steered"]).with_context(|| worker.log())?;
    let thief = platform.block_on(Thief::come(platform))?;
    let done = || -> anyhow::Result<(TaskId, Bytes)> {
        let id = site.finish()?;
        Ok((id, platform.block_on(thief.copy_of(id))?))
    };
    let (id, copy) = done()?;
    let (hanging, runs) = site.submit("steered", &json!({"do": "hang"}))?;
    platform.response("steered", &hanging, "ep1", "CREATED")?;
    let session = platform.block_on(thief.wait_for(|item| match wire::decode_presence(item) {
        Ok(presence) if presence.endpoint == endpoint("ep1") => Some(presence.session),
        _ => None,
    }))?;
    let loot = Loot { me: endpoint("ep1"), copy, done: id, runs, session };
    let send = |forgery: &Forgery| {
        let place = match forgery.command {
            Command::Task(_) | Command::Welcome { .. } => ("it.worker.to", "ep1"),
            Command::Cancel { .. } | Command::Withdraw { .. } => ("it.control", "steered.ep1"),
        };
        platform.block_on(thief.publish(place, &forgery.bytes))
    };
    loot.try_all(&site, &worker, &hanging, send, || done().map(|(id, _)| id))
}

/// A worker that drains judges no tasks: it takes none, signed or not, and other workers get them.
#[test]
fn a_worker_that_drains_judges_no_tasks() -> anyhow::Result<()> {
    let site = Site::new()?;
    let platform = &site.signed.platform;
    let _api = site.signed.start_api()?;
    let mut worker = site.launch_with("ep1", "require", &["--stop-timeout", "120s"])?;
    platform.subscribed("ep1", &["worker", "steered"]).with_context(|| worker.log())?;
    let thief = platform.block_on(Thief::come(platform))?;
    let (hanging, _) = site.submit("steered", &json!({"do": "hang"}))?;
    platform.response("steered", &hanging, "ep1", "CREATED")?;
    worker.signal(rustix::process::Signal::TERM)?;
    platform.block_on(thief.wait_for(|item| match wire::decode_presence(item) {
        Ok(presence) if presence.endpoint == endpoint("ep1") && presence.slots == Some(0) => Some(()),
        _ => None,
    }))?;
    let work = WorkPart {
        id: TaskId::new(),
        task_type: "worker".parse()?,
        identifier: "late".parse()?,
        audience: None,
        not_after: None,
        payload: raw(&json!({"n": 1})),
    };
    let late = TaskMessage { work, expires_in: PATIENCE, received: false, attempts: vec![] };
    let late = wire::encode_command(&Command::Task(late), WireVersion::One);
    platform.block_on(thief.publish(("it.worker.to", "ep1"), &late))?;
    platform.delete(&format!("/steered/{hanging}"))?;
    platform.response("steered", &hanging, "ep1", "CANCELED")?;
    let ended = until("it ends", PATIENCE, || worker.ended()?.context("it still runs"))?;
    ensure!(ended.success(), "{ended}");
    let queues = platform.block_on(Queues::of(platform))?;
    let left = platform.block_on(queues.ready("it.worker.ep1"))?;
    let refused = site.signed.quarantine("ep1")?;
    ensure!(left == 0 && refused.is_empty(), "{left} left, {refused:?}\n{}", worker.log());
    Ok(())
}

/// The API itself is not enough for what persons sign, nor is one of two persons.
#[test]
fn a_worker_over_http_counts_the_persons_who_have_signed() -> anyhow::Result<()> {
    let site = Site::new()?;
    let (platform, signed) = (&site.signed.platform, &site.signed);
    signed.two_of(&["alice", "bob"])?;
    let [alice, bob] = [signed.key("alice")?, signed.key("bob")?];
    let _api = signed.start_api()?;
    let _worker = site.start("w1")?;
    let ordered = |keys: &[&SigningKey]| {
        let payload = raw(&json!({"n": 1}));
        let mut order = Order {
            id: Uuid::new_v4(),
            environment: "it".parse().expect("a name"),
            task_type: "worker".parse().expect("a type"),
            not_after: Timestamp::from_millis(now().as_millis() + 3_600_000),
            to: Recipients::All,
            signatures: vec![],
        };
        order.signatures = keys.iter().map(|key| sign_order(key, &order, &payload)).collect();
        serde_json::to_value(Ordered { order, payload }).expect("JSON")
    };
    let both = ordered(&[&alice, &bob]);
    let mut changed = ordered(&[&alice, &bob]);
    changed["payload"] = json!({"n": 2});
    let refused = |what: &str, payload: &Value, fault: SealFault| -> anyhow::Result<()> {
        let (identifier, _) = site.submit("worker", payload)?;
        let body = platform.task("worker", &identifier, "DONE").with_context(|| what.to_owned())?;
        let response = response_of(&body, "w1").with_context(|| body.to_string())?;
        was_refused(response, &format!("{fault}: ")).with_context(|| what.to_owned())
    };
    refused("no order", &json!({"n": 1}), SealFault::Unapproved)?;
    refused("one of two persons", &ordered(&[&alice]), SealFault::Unapproved)?;
    refused("one person twice", &ordered(&[&bob, &bob]), SealFault::Unapproved)?;
    refused("another payload", &changed, SealFault::Unapproved)?;
    ensure!(signed.effects().is_empty(), "{:?}", signed.effects());
    let (good, id) = site.submit("worker", &both)?;
    platform.task("worker", &good, "DONE")?;
    refused("the order of another task", &both, SealFault::Replayed)?;
    ensure!(signed.effects() == [(id.to_string(), 1)].into(), "{:?}", signed.effects());
    Ok(())
}

/// The list of the root key reaches a worker that runs, and stays with it.
#[test]
fn a_worker_over_http_is_told_which_keys_are_revoked() -> anyhow::Result<()> {
    let site = Site::new()?;
    let (platform, signed) = (&site.signed.platform, &site.signed);
    let (dir, trust, root) = (signed.path(""), signed.path("trust.yaml"), signed.path("root.key"));
    for name in ["root", "server2"] {
        platform.tasker(&["key", "create", name, "--dir", &dir])?;
    }
    let of_root = ["--root-key", &root, "--environment", "it"];
    platform.tasker(&["key", "trust", &signed.path("root.pub"), "--root", "--trust", &trust])?;
    platform.tasker(&["key", "distrust", "server", "--trust", &trust])?;
    for name in ["server", "server2"] {
        let public = signed.path(&format!("{name}.pub"));
        platform.tasker(&[&["key", "certify", &public][..], &of_root].concat())?;
    }
    let mut api = signed.start_api_with(&[("CERTIFICATE", signed.path("server.cert"))])?;
    let mut worker = site.start("w1")?;
    let (first, copy) = site.done()?;
    let (_, genuine) = another(&copy)?;
    let stolen = Signer::new("it".parse()?, site.signed.key("server")?)
        .with_certificate(genuine.certificate.context("a certificate")?, Purpose::Tasks)?;
    let forge = || -> anyhow::Result<TaskId> {
        let (task, _) = another(&copy)?;
        let (id, command) = (task.work.id, Command::Task(task));
        let to = Recipients::of(command.subject(), &[endpoint("w1")]);
        let seal = stolen.seal(&command, to, None, now());
        site.middle.add(&wire::encode_sealed(&command, WireVersion::One, &seal))?;
        Ok(id)
    };
    let before = forge()?;
    platform.until("the stolen key counts", |_| {
        ensure!(signed.effects().contains_key(&before.to_string()), "{:?}", signed.effects());
        Ok(())
    })?;

    let list = signed.path("revoked.json");
    let public = signed.path("server.pub");
    platform.tasker(&[&["key", "revoke", &public, "--list", &list][..], &of_root].concat())?;
    api.stop(Duration::from_secs(30))?;
    let settings = [
        ("CERTIFICATE", signed.path("server2.cert")),
        ("SIGNING_KEY", signed.path("server2.key")),
        ("REVOCATIONS", list),
    ];
    let _api = signed.start_api_with(&settings)?;
    let kept = platform.home().join("journals/w1/revocations.json");
    platform.until("the list is kept", |_| {
        ensure!(kept.exists(), "{}", worker.log());
        Ok(())
    })?;
    // What is added while nobody asks, or to an answer that is cut off, is lost: it is forged again.
    let refused = || {
        let before = signed.quarantine("w1")?.get("revoked").copied();
        platform.until("the stolen key is refused", |_| {
            forge()?;
            let found = signed.quarantine("w1")?.get("revoked").copied();
            ensure!(found > before, "{found:?}");
            Ok(())
        })
    };
    refused()?;
    let (second, _) = site.done()?;
    worker.stop(Duration::from_secs(30))?;
    let _worker = site.start("w1")?;
    let (third, _) = site.done()?;
    refused()?;
    let ran = [first, before, second, third].map(|id| (id.to_string(), 1));
    ensure!(signed.effects() == ran.into(), "{:?}", signed.effects());
    Ok(())
}

/// Signatures are introduced in steps. Workers perform tasks at each step, except one that requires signatures of
/// an API that does not sign: it waits.
#[test]
fn workers_over_http_are_told_to_verify_step_by_step() -> anyhow::Result<()> {
    let site = Site::new()?;
    let (platform, signed) = (&site.signed.platform, &site.signed);
    let mut plain = platform.launch("api", &["api".to_owned()], &[])?;
    let mut prefers = site.launch("w1", "prefer")?;
    platform.subscribed("w1", &["worker", "steered"])?;
    site.done()?;
    signed.unsigned_is_counted()?;
    prefers.stop(Duration::from_secs(30))?;
    let requires = site.launch("w1", "require")?;
    let refused = |unsigned: usize| {
        platform.until("the welcome is refused", |_| {
            let found = signed.quarantine("w1")?;
            ensure!(found.get("unsigned").is_some_and(|count| *count > unsigned), "{}", requires.log());
            Ok(())
        })
    };
    refused(0)?;
    let (waits, id) = site.submit("worker", &json!({"n": 2}))?;
    // The API signs, and somebody on the way takes the seals of its welcomes off for a while.
    site.middle.tricks().unsealed = Some("welcome");
    plain.stop(Duration::from_secs(30))?;
    let _api = signed.start_api()?;
    refused(signed.quarantine("w1")?["unsigned"])?;
    ensure!(!signed.effects().contains_key(&id.to_string()), "{:?}", signed.effects());
    site.middle.tricks().unsealed = None;
    // The worker goes on asking for its welcome.
    platform.task("worker", &waits, "DONE").with_context(|| requires.log())?;
    Ok(())
}
