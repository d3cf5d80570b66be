//! What a thief of the broker can do where messages are signed: a table of messages, each made from a genuine
//! one or with a key that the thief has, published past the API.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use tasker::broker::{envelope, wire};
use tasker::domain::{
    Command, Order, Ordered, Purpose, Recipients, SealFault, TaskId, TaskMessage, Timestamp, WireVersion,
    WorkPart, json as raw,
};
use tasker::signing::{Signer, SigningKey, read_certificate, sign_order};
use tasker_services::Process;
use uuid::Uuid;

use super::rig::endpoint;
use crate::support::clock::Shift;
use crate::support::platform::{Platform, response_of};

/// What the handler of `worker` does here: it leaves a trace of each execution.
const HANDLER: &str = "#!/bin/sh\nset -e\necho \"$TASKER_ENDPOINT $TASKER_TASK_ID\" >> '@effects'\nprintf '%s\\n' \"$(cat)\" >> '@payloads'\n";

/// An installation that signs, with a server on which that is required.
pub struct Signed {
    pub platform: Platform,
}

impl Signed {
    pub fn new() -> anyhow::Result<Self> {
        let platform = Platform::idle()?;
        let signed = Self { platform };
        let handlers = signed.platform.home().join("handlers");
        fs::create_dir(&handlers)?;
        fs::set_permissions(&handlers, fs::Permissions::from_mode(0o755))?;
        let script = HANDLER.replace('@', &signed.path(""));
        fs::write(handlers.join("worker"), script)?;
        fs::set_permissions(handlers.join("worker"), fs::Permissions::from_mode(0o755))?;
        let (dir, trust) = (signed.path(""), signed.path("trust.yaml"));
        signed.platform.tasker(&["key", "create", "server", "--dir", &dir])?;
        let public = signed.path("server.pub");
        signed.platform.tasker(&["key", "trust", &public, "--environment", "it", "--trust", &trust])?;
        Ok(signed)
    }

    pub fn path(&self, file: &str) -> String {
        self.platform.home().join(file).display().to_string()
    }

    /// The private key of this name.
    pub fn key(&self, name: &str) -> anyhow::Result<SigningKey> {
        Ok(SigningKey::read(self.platform.home().join(&format!("{name}.key")).as_path())?)
    }

    /// Makes a key for each of these persons, of whom two must sign tasks of `worker`.
    pub fn two_of(&self, names: &[&str]) -> anyhow::Result<()> {
        let (dir, trust) = (self.path(""), self.path("trust.yaml"));
        for (place, name) in names.iter().enumerate() {
            self.platform.tasker(&["key", "create", name, "--dir", &dir])?;
            // Of one person there cannot be two.
            let (public, threshold) = (self.path(&format!("{name}.pub")), if place == 0 { "1" } else { "2" });
            let arguments =
                ["key", "trust", &public, "-t", "worker", "--threshold", threshold, "--trust", &trust];
            self.platform.tasker(&arguments)?;
        }
        Ok(())
    }

    pub fn start_api(&self) -> anyhow::Result<Process> {
        self.start_api_with(&[])
    }

    pub fn start_api_with(&self, more: &[(&str, String)]) -> anyhow::Result<Process> {
        let api = self.launch_api(more)?;
        self.platform.until("the API is ready", |platform| {
            let (status, body) = platform.get("/ready")?;
            ensure!(status == 200, "{status}: {body}");
            Ok(())
        })?;
        Ok(api)
    }

    fn launch_api(&self, more: &[(&str, String)]) -> anyhow::Result<Process> {
        let settings = [
            ("SIGNATURES", "sign".to_owned()),
            ("ENVIRONMENT", "it".to_owned()),
            ("SIGNING_KEY", self.path("server.key")),
        ];
        // The last one counts.
        let settings = settings.iter().chain(more);
        let environment: Vec<_> =
            settings.map(|(key, value)| (format!("TASKER_SECURITY__{key}"), value.clone())).collect();
        self.platform.launch("api", &["api".to_owned()], &environment)
    }

    /// Starts an endpoint, whose clock is the one of `clock`.
    pub fn launch(&self, name: &str, signatures: &str, clock: Option<&Shift>) -> anyhow::Result<Process> {
        let clock = clock.map(|clock| clock.environment.clone()).unwrap_or_default();
        self.launch_with(name, signatures, &clock)
    }

    /// Starts an endpoint with more in its environment.
    pub fn launch_with(
        &self,
        name: &str,
        signatures: &str,
        more: &[(&'static str, String)],
    ) -> anyhow::Result<Process> {
        let settings = [
            ("SIGNATURES", signatures.to_owned()),
            ("TRUST", self.path("trust.yaml")),
            ("HANDLERS_DIR", self.path("handlers")),
        ];
        let mut environment: Vec<(String, String)> =
            settings.map(|(key, value)| (format!("TASKER_ENDPOINT__{key}"), value)).into();
        environment.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        let arguments = ["endpoint", "-e", name, "-t", "worker", "-t", "steered"].map(str::to_owned);
        self.platform.launch(name, &arguments, &environment)
    }

    pub fn start(&self, name: &str) -> anyhow::Result<Process> {
        let process = self.launch(name, "require", None)?;
        self.platform.subscribed(name, &["worker", "steered"]).with_context(|| process.log())?;
        Ok(process)
    }

    /// How often each task ran, anywhere.
    pub fn effects(&self) -> BTreeMap<String, usize> {
        let mut effects = BTreeMap::new();
        for line in fs::read_to_string(self.path("effects")).unwrap_or_default().lines() {
            *effects.entry(line.split_once(' ').map_or("", |(_, id)| id).to_owned()).or_default() += 1;
        }
        effects
    }

    /// How many files of an endpoint's quarantine have each reason.
    pub fn quarantine(&self, name: &str) -> anyhow::Result<BTreeMap<String, usize>> {
        let mut reasons = BTreeMap::new();
        let dir = self.platform.home().join(&format!("journals/{name}/steered+worker/quarantine"));
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let entry: Value = serde_json::from_slice(&fs::read(entry?.path())?)?;
            let reason = entry["reason"].as_str().context("a reason")?.to_owned();
            *reasons.entry(reason).or_default() += 1;
        }
        Ok(reasons)
    }

    /// Waits until an endpoint has refused a task, for this reason.
    pub fn refused(&self, id: TaskId, fault: SealFault) -> anyhow::Result<()> {
        self.platform.until(&format!("the task is refused as {fault}"), |_| {
            let dir = self.platform.home().join("journals/ep1/steered+worker/quarantine");
            let mut reasons = Vec::new();
            for entry in fs::read_dir(dir)? {
                let entry: Value = serde_json::from_slice(&fs::read(entry?.path())?)?;
                if entry["message"].as_str().is_some_and(|message| message.contains(&id.to_string())) {
                    reasons.push(format!("{}: {}", entry["reason"], entry["detail"]));
                }
            }
            let good = |reason: &String| reason.starts_with(&format!("\"{fault}\""));
            ensure!(!reasons.is_empty() && reasons.iter().all(good), "{reasons:?}");
            Ok(())
        })
    }

    /// Submits a task for `ep1`, which must refuse it. No other copy of it could be taken, so its response ends,
    /// and nothing is asked for again.
    pub fn is_refused(&self, what: &str, payload: Value, fault: SealFault) -> anyhow::Result<()> {
        let identifier = self.platform.submit("worker", payload, &["ep1"])?;
        let id = id_of(&self.platform, "worker", &identifier)?;
        self.refused(id, fault).with_context(|| what.to_owned())?;
        let body = self.platform.task("worker", &identifier, "DONE").with_context(|| what.to_owned())?;
        let response = response_of(&body, "ep1").with_context(|| body.to_string())?;
        was_refused(response, &format!("{fault}: ")).with_context(|| what.to_owned())
    }

    /// How many messages were refused, by the reason, as the API counts them.
    pub fn counted(&self) -> anyhow::Result<BTreeMap<String, usize>> {
        let (_, metrics) = self.platform.get("/metrics")?;
        let metrics = metrics.as_str().context("text")?.to_owned();
        let count = |line: &str| {
            let (reason, count) = line.strip_prefix("tasker_refused_total{reason=\"")?.split_once("\"} ")?;
            Some((reason.to_owned(), count.parse().ok()?))
        };
        Ok(metrics.lines().filter_map(count).collect())
    }

    /// How many reports there were about tasks that the API knows nothing of: each of them shows that a
    /// forged message did something.
    pub fn strange_reports(&self) -> anyhow::Result<u64> {
        Ok(self.metric("tasker_responses_total{result=\"unknown\"} ")?.unwrap_or(0))
    }

    /// Waits until the API counts what came unsigned: two welcomes and a task, at least.
    pub fn unsigned_is_counted(&self) -> anyhow::Result<()> {
        self.platform.until("what came unsigned is counted", |_| {
            let count = self.metric("tasker_unsigned_total ")?;
            ensure!(count.is_some_and(|count| count >= 3), "{count:?}");
            Ok(())
        })
    }

    /// The value of the metric whose line begins so, if there is one.
    fn metric(&self, begin: &str) -> anyhow::Result<Option<u64>> {
        let (_, metrics) = self.platform.get("/metrics")?;
        let metrics = metrics.as_str().context("text")?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(begin));
        value.map(str::parse).transpose().context("a number")
    }
}

/// Requires that a response has ended as refused, with a reason that begins so.
pub fn was_refused(response: &Value, reason: &str) -> anyhow::Result<()> {
    let told = response["errmsg"].as_str().unwrap_or_default();
    ensure!(response["errnr"] == 77 && told.starts_with(&format!("refused: {reason}")), "{response}");
    Ok(())
}

/// Somebody with all rights at the broker.
pub struct Thief {
    channel: Channel,
    _connection: Connection,
}

impl Thief {
    pub async fn come(platform: &Platform) -> anyhow::Result<Self> {
        let connection = Connection::connect(&platform.amqp(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let (options, none) = (QueueDeclareOptions::default(), FieldTable::default);
        channel.queue_declare("loot".into(), options, none()).await?;
        for (exchange, key) in [
            ("it.worker", ""),
            ("it.worker.to", "ep1"),
            ("it.worker.to", "ep2"),
            ("it.steered", ""),
            ("it.steered.to", "ep1"),
            ("it.steered.to", "old"),
            ("it.control", "worker.ep1"),
            ("it.control", "worker.ep2"),
            ("it.presence", ""),
        ] {
            let options = QueueBindOptions::default();
            channel.queue_bind("loot".into(), exchange.into(), key.into(), options, none()).await?;
        }
        Ok(Self { channel, _connection: connection })
    }

    /// The items of the next message that went by; none while there is no other.
    pub async fn next(&self) -> anyhow::Result<Vec<Bytes>> {
        match self.channel.basic_get("loot".into(), BasicGetOptions { no_ack: true }).await? {
            Some(message) => Ok(envelope::items(&Bytes::from(message.delivery.data))),
            None => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(Vec::new())
            }
        }
    }

    /// The next message that has something, of those that went by.
    pub async fn wait_for<T>(&self, wanted: impl Fn(&Bytes) -> Option<T>) -> anyhow::Result<T> {
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            if let Some(found) = self.next().await?.iter().find_map(&wanted) {
                return Ok(found);
            }
        }
        anyhow::bail!("no such message went by")
    }

    /// The copy of a task.
    pub async fn copy_of(&self, id: TaskId) -> anyhow::Result<Bytes> {
        self.wait_for(|item| match wire::decode_command(item) {
            Ok(Command::Task(task)) if task.work.id == id => Some(item.clone()),
            _ => None,
        })
        .await
    }

    pub async fn publish(&self, (exchange, key): (&str, &str), body: &[u8]) -> anyhow::Result<()> {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        self.channel.basic_publish(exchange.into(), key.into(), options, body, properties).await?.await?;
        Ok(())
    }
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
enum Forgery {
    /// A task that the thief made.
    Task,
    /// The genuine copy, changed in one place.
    Changed(fn(&mut TaskMessage)),
    /// The genuine copy as it is.
    Genuine,
    /// A cancel of the task that runs.
    Cancel,
    /// A withdrawal of it.
    Withdraw,
    /// A welcome of a session that the thief made up.
    Welcome,
    /// A welcome of this session, as it is.
    GenuineWelcome,
    /// Something else.
    Rubbish,
}

/// How it is sealed.
#[derive(Debug, Clone, Copy)]
enum Hand {
    /// Not at all.
    Nobody,
    /// With the seal of the genuine copy.
    Taken,
    /// With a key of the thief.
    Thief,
    /// With a key of the thief, which pretends to be that of the API.
    Pretender,
    /// With the key of the API, for another installation, as its test environment has it.
    OtherEnvironment,
    /// With the key of the API, so many seconds from now.
    Api(i64),
    /// With the key of the API, for `ep2`.
    ForOther,
}

use Forgery as F;
use Hand as H;

/// What is sent, how it is sealed, where to, and why it is refused. Nothing: it is known already.
type Row = (Forgery, Hand, (&'static str, &'static str), Option<SealFault>);

const ALL: (&str, &str) = ("it.worker", "");
const TO_EP1: (&str, &str) = ("it.worker.to", "ep1");
const OTHER_TYPE: (&str, &str) = ("it.steered.to", "ep1");
const CONTROL: (&str, &str) = ("it.control", "worker.ep1");

const TABLE: &[Row] = &[
    (F::Task, H::Nobody, TO_EP1, Some(SealFault::Unsigned)),
    (F::Task, H::Nobody, ALL, Some(SealFault::Unsigned)),
    (F::Task, H::Thief, TO_EP1, Some(SealFault::UnknownKey)),
    (F::Task, H::Pretender, TO_EP1, Some(SealFault::Forged)),
    (F::Task, H::OtherEnvironment, TO_EP1, Some(SealFault::Forged)),
    (F::Task, H::Taken, TO_EP1, Some(SealFault::Forged)),
    (F::Task, H::Api(-3600), TO_EP1, Some(SealFault::Expired)),
    (F::Task, H::Api(3600), TO_EP1, Some(SealFault::Early)),
    (F::Task, H::ForOther, TO_EP1, Some(SealFault::Misdirected)),
    (F::Task, H::Api(0), OTHER_TYPE, Some(SealFault::Unreadable)),
    (F::Genuine, H::Taken, OTHER_TYPE, Some(SealFault::Unreadable)),
    (F::Changed(|task| task.work.id = TaskId::new()), H::Taken, TO_EP1, Some(SealFault::Forged)),
    (
        F::Changed(|task| task.work.payload = raw(&json!({"evil": 1}))),
        H::Taken,
        TO_EP1,
        Some(SealFault::Forged),
    ),
    (
        F::Changed(|task| task.work.task_type = "steered".parse().expect("a type")),
        H::Taken,
        OTHER_TYPE,
        Some(SealFault::Forged),
    ),
    (
        F::Changed(|task| task.work.identifier = "other".parse().expect("an identifier")),
        H::Taken,
        TO_EP1,
        Some(SealFault::Forged),
    ),
    (F::Changed(|task| task.expires_in *= 2), H::Taken, TO_EP1, Some(SealFault::Forged)),
    (F::Changed(|task| task.received = true), H::Taken, TO_EP1, Some(SealFault::Forged)),
    // It is in the journal: the endpoint repeats its answer.
    (F::Genuine, H::Taken, TO_EP1, None),
    (F::Cancel, H::Nobody, CONTROL, Some(SealFault::Unsigned)),
    (F::Cancel, H::Thief, CONTROL, Some(SealFault::UnknownKey)),
    (F::Cancel, H::Pretender, CONTROL, Some(SealFault::Forged)),
    (F::Cancel, H::OtherEnvironment, CONTROL, Some(SealFault::Forged)),
    (F::Cancel, H::Taken, CONTROL, Some(SealFault::Forged)),
    (F::Cancel, H::Api(-3600), CONTROL, Some(SealFault::Expired)),
    (F::Cancel, H::ForOther, CONTROL, Some(SealFault::Misdirected)),
    (F::Withdraw, H::Nobody, CONTROL, Some(SealFault::Unsigned)),
    (F::Withdraw, H::Pretender, CONTROL, Some(SealFault::Forged)),
    (F::Welcome, H::Nobody, TO_EP1, Some(SealFault::Unsigned)),
    (F::Welcome, H::Thief, TO_EP1, Some(SealFault::UnknownKey)),
    (F::GenuineWelcome, H::Taken, OTHER_TYPE, Some(SealFault::Unreadable)),
    (F::GenuineWelcome, H::Taken, TO_EP1, None),
    (F::Rubbish, H::Nobody, TO_EP1, Some(SealFault::Unreadable)),
    (F::Rubbish, H::Nobody, CONTROL, Some(SealFault::Unreadable)),
];

/// What the thief has to work with.
struct Loot {
    /// The copy of a task that has ended at `ep1`.
    genuine: Bytes,
    /// A task that runs there.
    runs: TaskId,
    /// The welcome of `ep1` for `worker`.
    welcome: Bytes,
    api: Signer,
    elsewhere: Signer,
    own: Signer,
}

impl Loot {
    fn forge(&self, forgery: Forgery, hand: Hand) -> anyhow::Result<Bytes> {
        let (genuine, version, seal) = wire::decode_sealed(&self.genuine)?;
        let seal = seal.context("a seal")?;
        let Command::Task(task) = &genuine else { anyhow::bail!("the copy is not of a task") };
        let command = match forgery {
            F::Genuine => return Ok(self.genuine.clone()),
            F::Rubbish => return Ok(Bytes::from_static(b"{\"v\":2,\"kind\":\"task\",\"work\":1}")),
            F::Task => {
                let work = WorkPart { id: TaskId::new(), ..task.work.clone() };
                Command::Task(TaskMessage { work, ..task.clone() })
            }
            F::Changed(change) => {
                let mut task = task.clone();
                change(&mut task);
                Command::Task(task)
            }
            F::Cancel => Command::Cancel { task_id: self.runs },
            F::Withdraw => Command::Withdraw { task_id: self.runs },
            F::GenuineWelcome => return Ok(self.welcome.clone()),
            F::Welcome => welcome("worker", Uuid::new_v4()),
        };
        let version = match command {
            Command::Task(_) => version,
            Command::Withdraw { .. } => WireVersion::Three,
            Command::Welcome { .. } => WireVersion::NEWEST,
            Command::Cancel { .. } => WireVersion::One,
        };
        let now = || tasker::clock::Clock::system().now();
        let to = |name: &str| Recipients::of(command.subject(), &[endpoint(name)]);
        let seal = match hand {
            H::Nobody => return Ok(wire::encode_command(&command, version)),
            H::Taken => seal,
            H::Thief => self.own.seal(&command, to("ep1"), None, now()),
            H::Pretender => {
                let mut own = self.own.seal(&command, to("ep1"), None, now());
                own.head.by = seal.head.by;
                own
            }
            H::OtherEnvironment => self.elsewhere.seal(&command, to("ep1"), None, now()),
            H::Api(seconds) => {
                let at = Timestamp::from_micros(now().as_micros() + seconds * 1_000_000);
                self.api.seal(&command, to("ep1"), None, at)
            }
            H::ForOther => self.api.seal(&command, to("ep2"), None, now()),
        };
        Ok(wire::encode_sealed(&command, version, &seal))
    }
}

/// A welcome as the API sends it.
fn welcome(task_type: &str, session: Uuid) -> Command {
    Command::Welcome {
        session,
        presence_interval: Duration::from_secs(1),
        reads: WireVersion::NEWEST,
        task_type: Some(task_type.parse().expect("a type")),
        revocations: None,
    }
}

/// The id of a task.
pub fn id_of(platform: &Platform, task_type: &str, identifier: &str) -> anyhow::Result<TaskId> {
    let (_, body) = platform.get(&format!("/{task_type}/{identifier}"))?;
    Ok(body["task"]["id"].as_str().context("an id")?.parse()?)
}

#[test]
fn what_a_thief_of_the_broker_sends_does_nothing() -> anyhow::Result<()> {
    let signed = Signed::new()?;
    let platform = &signed.platform;
    let mut api = signed.start_api()?;
    let thief = platform.block_on(Thief::come(platform))?;
    let _one = signed.start("ep1")?;
    let welcome = platform.block_on(thief.wait_for(|item| match wire::decode_command(item) {
        Ok(Command::Welcome { task_type: Some(of), .. }) if of.as_str() == "worker" => Some(item.clone()),
        _ => None,
    }))?;
    let _two = signed.start("ep2")?;

    // A task for both, by name, which is done; and one that runs.
    let identifier = platform.submit("worker", json!({"n": 1}), &["ep1", "ep2"])?;
    platform.task("worker", &identifier, "DONE")?;
    let done = id_of(platform, "worker", &identifier)?;
    let genuine = platform.block_on(thief.copy_of(done))?;
    let hanging = platform.submit("steered", json!({"do": "hang"}), &["ep1"])?;
    platform.response("steered", &hanging, "ep1", "CREATED")?;
    let runs = id_of(platform, "steered", &hanging)?;

    let key = || signed.key("server");
    let loot = Loot {
        genuine,
        runs,
        welcome,
        api: Signer::new("it".parse()?, key()?),
        elsewhere: Signer::new("dev".parse()?, key()?),
        own: Signer::new("it".parse()?, SigningKey::create()?.0),
    };
    let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
    let mut on_ep2: BTreeMap<String, usize> = BTreeMap::new();
    for (forgery, hand, place, fault) in TABLE {
        let place = match forgery {
            // It is in the journal for the other type.
            F::Cancel | F::Withdraw => ("it.control", "steered.ep1"),
            _ => *place,
        };
        let body = loot.forge(*forgery, *hand)?;
        platform.block_on(thief.publish(place, &body))?;
        if let Some(fault) = fault {
            *wanted.entry(fault.to_string()).or_default() += 1;
            if place == ALL {
                *on_ep2.entry(fault.to_string()).or_default() += 1;
            }
        }
    }
    let mut counted = wanted.clone();
    on_ep2.iter().for_each(|(fault, count)| *counted.entry(fault.clone()).or_default() += count);
    platform.until("all of it is refused and counted", |_| {
        let (one, two, all) = (signed.quarantine("ep1")?, signed.quarantine("ep2")?, signed.counted()?);
        ensure!(one == wanted && two == on_ep2, "ep1: {one:?}, ep2: {two:?}, expected {wanted:?}");
        ensure!(all == counted, "counted {all:?}, expected {counted:?}");
        Ok(())
    })?;
    // Presence has told the last one.
    platform.until("the refusals are trouble", |platform| {
        let (_, page) = platform.get("/endpoints")?;
        ensure!(page.to_string().contains("signature_refused: the last message was refused as"), "{page}");
        Ok(())
    })?;

    // What the API sends goes on, in both directions.
    let after = platform.submit("worker", json!({"n": 2}), &[])?;
    let body = platform.task("worker", &after, "DONE")?;
    ensure!(response_of(&body, "ep1").is_some() && response_of(&body, "ep2").is_some(), "{body}");
    platform.response("steered", &hanging, "ep1", "CREATED")?;
    platform.delete(&format!("/steered/{hanging}"))?;
    platform.response("steered", &hanging, "ep1", "CANCELED")?;
    let ran = [done, id_of(platform, "worker", &after)?].map(|id| (id.to_string(), 2));
    ensure!(signed.effects() == ran.into(), "{:?}", signed.effects());
    let strange = signed.strange_reports()?;
    ensure!(strange == 0, "endpoints have reported {strange} tasks of the thief");
    platform.until("the trouble is over", |platform| {
        let (_, page) = platform.get("/endpoints")?;
        ensure!(!page.to_string().contains("signature_refused"), "{page}");
        Ok(())
    })?;

    api.stop(Duration::from_secs(30))?;
    let _api = signed.start_api()?;
    let of = |name: &'static str, counts: &BTreeMap<String, usize>| {
        counts.clone().into_iter().map(move |(fault, count)| ((name.to_owned(), fault), count as u64))
    };
    let expected: BTreeMap<_, _> = of("ep1", &wanted).chain(of("ep2", &on_ep2)).collect();
    let audited = platform.audited("endpoint.refused")?;
    ensure!(audited == expected, "audited {audited:?}, expected {expected:?}");
    Ok(())
}

/// The thief has what it takes to be believed by an endpoint that verifies nothing: the session.
#[test]
fn a_welcome_counts_only_from_the_api() -> anyhow::Result<()> {
    let signed = Signed::new()?;
    let platform = &signed.platform;
    // Makes the exchanges of the installation.
    signed.start_api()?.stop(Duration::from_secs(30))?;
    let thief = platform.block_on(Thief::come(platform))?;
    let one = signed.launch("ep1", "require", None)?;
    let session = platform.block_on(thief.wait_for(|item| match wire::decode_presence(item) {
        Ok(presence) if presence.endpoint == endpoint("ep1") => Some(presence.session),
        _ => None,
    }))?;
    let welcome = welcome("worker", session);
    let own = Signer::new("it".parse()?, SigningKey::create()?.0);
    let to = Recipients::of(session, &[endpoint("ep1")]);
    let seal = own.seal(&welcome, to, None, tasker::clock::Clock::system().now());
    let bodies = [
        wire::encode_command(&welcome, WireVersion::NEWEST),
        wire::encode_sealed(&welcome, WireVersion::NEWEST, &seal),
    ];
    for body in &bodies {
        platform.block_on(thief.publish(("it.worker.to", "ep1"), body))?;
    }
    let wanted = [("unknown_key".to_owned(), 1), ("unsigned".to_owned(), 1)].into();
    platform.until("both are refused", |_| {
        let found = signed.quarantine("ep1")?;
        ensure!(found == wanted, "{found:?}\n{}", one.log());
        Ok(())
    })?;
    let log = one.log();
    ensure!(!log.contains("subscribed"), "{log}");
    let _api = signed.start_api()?;
    platform.subscribed("ep1", &["worker", "steered"])
}

/// An API process whose ledger has another time, or the clock of the server, which has drifted.
#[test]
fn a_later_welcome_that_shows_a_wrong_clock_ends_the_session() -> anyhow::Result<()> {
    let signed = Signed::new()?;
    let platform = &signed.platform;
    let _api = signed.start_api()?;
    let thief = platform.block_on(Thief::come(platform))?;
    let one = signed.start("ep1")?;
    let alive = |other_than: Option<Uuid>| {
        platform.block_on(thief.wait_for(|item| match wire::decode_presence(item) {
            Ok(presence) if presence.endpoint == endpoint("ep1") && Some(presence.session) != other_than => {
                Some(presence)
            }
            _ => None,
        }))
    };
    let before = alive(None)?.session;
    // A session is over that was welcomed.
    let identifier = platform.submit("worker", json!({"n": 0}), &["ep1"])?;
    platform.task("worker", &identifier, "DONE")?;
    let api = Signer::new("it".parse()?, signed.key("server")?);
    let late = welcome("worker", before);
    let now = tasker::clock::Clock::system().now();
    let at = now.before(Duration::from_secs(600));
    let seal = api.seal(&late, Recipients::of(before, &[endpoint("ep1")]), Some(now), at);
    let body = wire::encode_sealed(&late, WireVersion::NEWEST, &seal);
    platform.block_on(thief.publish(TO_EP1, &body))?;
    let after = alive(Some(before))?;
    ensure!(
        after
            .trouble
            .as_deref()
            .is_some_and(|trouble| trouble.starts_with("clock_off: the clock of this server is")),
        "{:?}\n{}",
        after.trouble,
        one.log()
    );
    // The next welcome shows that the clock is right.
    platform.subscribed("ep1", &["worker", "steered"])?;
    let identifier = platform.submit("worker", json!({"n": 1}), &["ep1"])?;
    platform.task("worker", &identifier, "DONE")?;
    platform.until("the trouble is over", |platform| {
        let (_, page) = platform.get("/endpoints")?;
        ensure!(!page.to_string().contains("clock_off: "), "{page}");
        Ok(())
    })
}

/// A copy counts once, whatever has become of the memory of the endpoint.
#[test]
fn copies_cannot_be_replayed_after_a_restart() -> anyhow::Result<()> {
    let signed = Signed::new()?;
    let platform = &signed.platform;
    let _api = signed.start_api()?;
    let one = signed.start("ep1")?;
    let thief = platform.block_on(Thief::come(platform))?;
    let identifier = platform.submit("worker", json!({"n": 1}), &["ep1"])?;
    platform.task("worker", &identifier, "DONE")?;
    let id = id_of(platform, "worker", &identifier)?;
    let (copy, taken) = (platform.block_on(thief.copy_of(id))?, Instant::now());
    let mut process = one;
    for (number, forgets) in [false, true].into_iter().enumerate() {
        process.stop(Duration::from_secs(30))?;
        if forgets {
            fs::remove_dir_all(platform.home().join("journals/ep1"))?;
            // Copies that are a little older than the welcome count: API processes differ a little.
            platform.until("the copy is older than that", |_| {
                ensure!(taken.elapsed() > Duration::from_secs(6), "it is {:?} old", taken.elapsed());
                Ok(())
            })?;
        }
        process = signed.start("ep1")?;
        // What performs a task has its welcome; before that it would drop the copy unjudged.
        let welcomed = platform.submit("worker", json!({"n": number}), &["ep1"])?;
        platform.task("worker", &welcomed, "DONE")?;
        platform.block_on(thief.publish(("it.worker.to", "ep1"), &copy))?;
        let next = platform.submit("worker", json!({"n": number}), &["ep1"])?;
        platform.task("worker", &next, "DONE")?;
        ensure!(signed.effects().get(&id.to_string()) == Some(&1), "{:?}", signed.effects());
    }
    let found = signed.quarantine("ep1")?;
    ensure!(found == [("stale".to_owned(), 1)].into(), "{found:?}");
    Ok(())
}

#[test]
fn an_endpoint_with_a_wrong_clock_takes_nothing_and_says_why() -> anyhow::Result<()> {
    let signed = Signed::new()?;
    let platform = &signed.platform;
    let _api = signed.start_api()?;
    let clock = Shift::new(platform.home(), "endpoint.clock")?;
    for (seconds, word) in [(600, "s ahead of that of the API"), (-600, "s behind that of the API")] {
        clock.set(seconds)?;
        let mut one = signed.launch("ep1", "require", Some(&clock))?;
        let identifier = platform.submit("worker", json!({"n": 1}), &["ep1"])?;
        platform.until("the trouble is the clock", |platform| {
            let (_, page) = platform.get("/endpoints")?;
            let text = page.to_string();
            ensure!(text.contains("clock_off: ") && text.contains(word), "{page}\n{}", one.log());
            Ok(())
        })?;
        platform.task("worker", &identifier, "INCOMPLETE")?;
        ensure!(signed.effects().is_empty(), "{:?}", signed.effects());
        platform.delete(&format!("/worker/{identifier}"))?;
        one.stop(Duration::from_secs(30))?;
    }
    // It is set while the endpoint runs, and set right again.
    clock.set(0)?;
    let one = signed.launch("ep1", "require", Some(&clock))?;
    platform.subscribed("ep1", &["worker", "steered"])?;
    let first = platform.submit("worker", json!({"n": 2}), &["ep1"])?;
    platform.task("worker", &first, "DONE")?;
    clock.set(-600)?;
    let second = platform.submit("worker", json!({"n": 3}), &["ep1"])?;
    platform.until("the trouble is the clock", |platform| {
        let (_, page) = platform.get("/endpoints")?;
        ensure!(page.to_string().contains("clock_off: "), "{page}\n{}", one.log());
        Ok(())
    })?;
    ensure!(signed.effects().len() == 1, "{:?}", signed.effects());
    clock.set(0)?;
    platform.task("worker", &second, "DONE").map(drop)
}

/// What the thief of an API process sends: all of it has a good seal, and persons have signed only some.
#[test]
fn what_persons_must_sign_an_api_process_cannot() -> anyhow::Result<()> {
    let signed = Signed::new()?;
    let platform = &signed.platform;
    signed.two_of(&["alice", "bob"])?;
    platform.tasker(&["key", "create", "mallory", "--dir", &signed.path("")])?;
    let [alice, bob, mallory] = [signed.key("alice")?, signed.key("bob")?, signed.key("mallory")?];
    let _api = signed.start_api()?;
    let (mut one, _two) = (signed.start("ep1")?, signed.start("ep2")?);

    let order = |name: &str, minutes: i64, to: &[&str]| {
        let (id, now) = (Uuid::new_v4(), tasker::clock::Clock::system().now().as_millis());
        let to: Vec<_> = to.iter().map(|name| endpoint(name)).collect();
        Order {
            id,
            environment: "it".parse().expect("a name"),
            task_type: name.parse().expect("a type"),
            not_after: Timestamp::from_millis(now + minutes * 60_000),
            to: if to.is_empty() { Recipients::All } else { Recipients::of(id, &to) },
            signatures: vec![],
        }
    };
    let by = |mut order: Order, keys: &[&SigningKey]| {
        let payload = raw(&json!({"n": 1}));
        order.signatures = keys.iter().map(|key| sign_order(key, &order, &payload)).collect();
        serde_json::to_value(Ordered { order, payload }).expect("JSON")
    };
    let worker = || order("worker", 60, &[]);
    let mut changed = by(worker(), &[&alice, &bob]);
    changed["payload"] = json!({"n": 2});
    let elsewhere = Order { environment: "dev".parse()?, ..worker() };
    let unapproved = SealFault::Unapproved;
    for (what, payload, fault) in [
        ("no order", json!({"n": 1}), unapproved),
        ("one of two persons", by(worker(), &[&alice]), unapproved),
        ("one person twice", by(worker(), &[&alice, &alice]), unapproved),
        ("a stranger", by(worker(), &[&alice, &mallory]), unapproved),
        ("another payload", changed, unapproved),
        ("another type", by(order("steered", 60, &[]), &[&alice, &bob]), unapproved),
        ("another environment", by(elsewhere, &[&alice, &bob]), unapproved),
        ("over", by(order("worker", -60, &[]), &[&alice, &bob]), SealFault::Expired),
        ("for another endpoint", by(order("worker", 60, &["ep2"]), &[&alice, &bob]), SealFault::Misdirected),
    ] {
        signed.is_refused(what, payload, fault)?;
    }
    ensure!(signed.effects().is_empty(), "{:?}", signed.effects());

    // Two persons, one after the other, at the command line.
    let order_of = |arguments: &[&str], file: &str| -> anyhow::Result<Value> {
        let printed = platform.tasker(arguments)?.stdout;
        platform.home().write(file, std::str::from_utf8(&printed)?)?;
        Ok(serde_json::from_slice(&printed)?)
    };
    let [alices, bobs] = ["alice.key", "bob.key"].map(|file| signed.path(file));
    let payload = r#"{"n":1.0}"#;
    order_of(
        &["key", "sign", "worker", "--payload", payload, "--key", &alices, "--environment", "it"],
        "order.json",
    )?;
    let both =
        order_of(&["key", "sign", "--order", &signed.path("order.json"), "--key", &bobs], "signed.json")?;
    let submit =
        ["submit", "worker", "--identifier", "good", "--payload-file", &signed.path("signed.json"), "--wait"];
    platform.tasker(&submit)?;
    let good = id_of(platform, "worker", "good")?.to_string();
    ensure!(signed.effects() == [(good.clone(), 2)].into(), "{:?}", signed.effects());
    let payloads = fs::read_to_string(signed.path("payloads"))?;
    ensure!(
        payloads.lines().count() == 2
            && payloads.lines().all(|line| line.contains(&format!("\"payload\":{payload}"))),
        "handlers got {payloads}"
    );

    // Once is enough, also after a restart and for an endpoint that has lost its journal.
    signed.is_refused("the order of another task", both.clone(), SealFault::Replayed)?;
    one.stop(Duration::from_secs(30))?;
    fs::remove_dir_all(platform.home().join("journals/ep1/steered+worker"))?;
    let _one = signed.start("ep1")?;
    signed.is_refused("the order of another task, after the journal", both, SealFault::Replayed)?;
    ensure!(signed.effects() == [(good, 2)].into(), "{:?}", signed.effects());

    // One person does not do it alone.
    let lone = platform.tasker_any(&[
        "submit", "worker", "--identifier", "lone", "--key", &alices, "--environment", "it", "--endpoints",
        "ep1",
    ])?;
    ensure!(lone.status.success(), "{}", String::from_utf8_lossy(&lone.stderr));
    signed.refused(id_of(platform, "worker", "lone")?, unapproved)
}

/// The key of an API process comes and goes; servers know the root key alone.
#[test]
fn servers_trust_what_the_root_key_certifies() -> anyhow::Result<()> {
    let signed = Signed::new()?;
    let platform = &signed.platform;
    let (dir, trust) = (signed.path(""), signed.path("trust.yaml"));
    for name in ["root", "other"] {
        platform.tasker(&["key", "create", name, "--dir", &dir])?;
    }
    let root = signed.path("root.pub");
    platform.tasker(&["key", "trust", &root, "--root", "--trust", &trust])?;
    platform.tasker(&["key", "distrust", "server", "--trust", &trust])?;
    let certify = |root: &str, more: &[&str]| -> anyhow::Result<String> {
        let (public, root) = (signed.path("server.pub"), signed.path(root));
        let mut arguments = vec!["key", "certify", &public, "--root-key", &root, "--environment", "it"];
        arguments.extend(more);
        platform.tasker(&arguments)?;
        Ok(signed.path("server.cert"))
    };
    // Without a certificate, and with one of somebody else.
    let mut seen = 0;
    for certificate in [None, Some(certify("other.key", &[])?)] {
        let more: Vec<_> = certificate.into_iter().map(|path| ("CERTIFICATE", path)).collect();
        let mut api = signed.start_api_with(&more)?;
        let mut one = signed.launch("ep1", "require", None)?;
        seen = platform.until("the welcome is refused", |_| {
            let found = signed.quarantine("ep1")?;
            let count = found.get("unknown_key").copied().unwrap_or_default();
            ensure!(count > seen && found.len() == 1, "{found:?}\n{}", one.log());
            Ok(count)
        })?;
        one.stop(Duration::from_secs(30))?;
        api.stop(Duration::from_secs(30))?;
    }
    // For one type alone.
    let _api =
        signed.start_api_with(&[("CERTIFICATE", certify("root.key", &["-t", "worker", "--days", "1"])?)])?;
    let _one = signed.start("ep1")?;
    let identifier = platform.submit("worker", json!({"n": 1}), &["ep1"])?;
    platform.task("worker", &identifier, "DONE")?;
    let other = platform.submit("steered", json!({"do": "ok"}), &["ep1"])?;
    let id = id_of(platform, "steered", &other)?;
    signed.refused(id, SealFault::NotAllowed)
}

/// The list of the root key reaches endpoints that run, and stays with them.
#[test]
fn a_revoked_key_counts_no_more() -> anyhow::Result<()> {
    let signed = Signed::new()?;
    let platform = &signed.platform;
    let (dir, trust, root) = (signed.path(""), signed.path("trust.yaml"), signed.path("root.key"));
    for name in ["root", "server2"] {
        platform.tasker(&["key", "create", name, "--dir", &dir])?;
    }
    let of_root = ["--root-key", &root, "--environment", "it"];
    // The trust file is that of the configuration, unless another one is named.
    platform.tasker_with(
        &["key", "trust", &signed.path("root.pub"), "--root"],
        &[("TASKER_ENDPOINT__TRUST", trust.clone())],
    )?;
    platform.tasker(&["key", "distrust", "server", "--trust", &trust])?;
    for name in ["server", "server2"] {
        let public = signed.path(&format!("{name}.pub"));
        platform.tasker(&[&["key", "certify", &public][..], &of_root].concat())?;
    }
    let refused =
        platform.tasker_any(&[&["key", "certify", &signed.path("root.pub")][..], &of_root].concat())?;
    ensure!(!refused.status.success(), "the root key has certified itself");
    let mut api = signed.start_api_with(&[("CERTIFICATE", signed.path("server.cert"))])?;
    let mut one = signed.start("ep1")?;
    let thief = platform.block_on(Thief::come(platform))?;
    let identifier = platform.submit("worker", json!({"n": 1}), &["ep1"])?;
    platform.task("worker", &identifier, "DONE")?;
    let id = id_of(platform, "worker", &identifier)?;
    let copy = platform.block_on(thief.copy_of(id))?;
    let (Command::Task(task), version, Some(genuine)) = wire::decode_sealed(&copy)? else {
        anyhow::bail!("the copy is not of a sealed task")
    };
    // The thief has the key with its certificate.
    let stolen = Signer::new("it".parse()?, signed.key("server")?)
        .with_certificate(genuine.certificate.context("a certificate")?, Purpose::Tasks)?;
    let forge = |signer: &Signer| -> anyhow::Result<TaskId> {
        let work = WorkPart { id: TaskId::new(), ..task.work.clone() };
        let id = work.id;
        let command = Command::Task(TaskMessage { work, ..task.clone() });
        let to = Recipients::of(command.subject(), &[endpoint("ep1")]);
        let seal = signer.seal(&command, to, None, tasker::clock::Clock::system().now());
        platform.block_on(thief.publish(TO_EP1, &wire::encode_sealed(&command, version, &seal)))?;
        Ok(id)
    };
    let ran = |id: TaskId| signed.effects().contains_key(&id.to_string());
    let before = forge(&stolen)?;
    platform.until("the stolen key counts", |_| {
        ensure!(ran(before), "{:?}", signed.effects());
        Ok(())
    })?;

    // The same root key has certified a caller of HTTP tasks, whose key is good for nothing else.
    platform.tasker(&["key", "create", "caller", "--dir", &dir])?;
    let for_http = ["key", "certify", &signed.path("caller.pub"), "--for", "http"];
    platform.tasker(&[&for_http[..], &of_root].concat())?;
    let of_types = platform.tasker_any(&[&for_http[..], &of_root, &["-t", "worker"]].concat())?;
    ensure!(!of_types.status.success(), "HTTP tasks have no type");
    let certificate = read_certificate(signed.platform.home().join("caller.cert").as_path())?;
    let caller =
        Signer::new("it".parse()?, signed.key("caller")?).with_certificate(certificate, Purpose::Http)?;
    signed.refused(forge(&caller)?, SealFault::NotAllowed)?;

    let list = signed.path("revoked.json");
    let revoke = |key: &str, more: &[&str]| {
        platform.tasker_any(&[&["key", "revoke", key, "--list", &list][..], &of_root, more].concat())
    };
    let done = revoke(&signed.path("server.pub"), &[])?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    ensure!(!revoke(&signed.path("root.pub"), &[])?.status.success(), "the root key has revoked itself");
    let again = revoke("0123456789abcdef", &["--serial", "1"])?;
    let told = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure!(told.contains("--serial is 1; expected more than 1"), "{told}");
    api.stop(Duration::from_secs(30))?;
    let with_it = signed.launch_api(&[("REVOCATIONS", list.clone())])?;
    platform.until("the API does not sign with a revoked key", |_| {
        ensure!(with_it.log().contains("is revoked in security.revocations"), "{}", with_it.log());
        Ok(())
    })?;
    drop(with_it);
    let of_caller = [("CERTIFICATE", signed.path("caller.cert")), ("SIGNING_KEY", signed.path("caller.key"))];
    let with_it = signed.launch_api(&of_caller)?;
    platform.until("the API does not sign with the key of a caller", |_| {
        ensure!(with_it.log().contains("is for http, and not for tasks"), "{}", with_it.log());
        Ok(())
    })?;
    drop(with_it);
    let in_the_way = platform.home().join("journals/ep1/revocations.json.lock");
    fs::create_dir(&in_the_way)?;
    let settings = [
        ("CERTIFICATE", signed.path("server2.cert")),
        ("SIGNING_KEY", signed.path("server2.key")),
        ("REVOCATIONS", list.clone()),
    ];
    let _api = signed.start_api_with(&settings)?;
    // It was not started again, and is told all the same. The list counts before it can be kept.
    platform.until("the trouble is told", |platform| {
        let (_, page) = platform.get("/endpoints")?;
        let wanted = "journal_failing: the list of revoked keys cannot be kept";
        ensure!(page.to_string().contains(wanted), "{page}\n{}", one.log());
        Ok(())
    })?;
    signed.refused(forge(&stolen)?, SealFault::Revoked)?;
    let kept = platform.home().join("journals/ep1/revocations.json");
    ensure!(!kept.exists());
    fs::remove_dir(&in_the_way)?;
    platform.until("the list is kept", |_| {
        ensure!(same_json(&kept, &list)?, "{}", one.log());
        Ok(())
    })?;
    one.stop(Duration::from_secs(30))?;
    let one = signed.start("ep1")?;
    // What comes before its welcome would be dropped.
    let identifier = platform.submit("worker", json!({"n": 2}), &["ep1"])?;
    platform.task("worker", &identifier, "DONE")?;
    signed.refused(forge(&stolen)?, SealFault::Revoked)?;
    ensure!(!one.log().contains("keys were revoked"), "it knew them: {}", one.log());
    ensure!(signed.effects().len() == 3, "{:?}", signed.effects());
    Ok(())
}

/// Whether two files say the same.
fn same_json(one: impl AsRef<Path>, other: impl AsRef<Path>) -> anyhow::Result<bool> {
    let read = |text: String| serde_json::from_str::<Value>(&text);
    Ok(read(fs::read_to_string(one)?)? == read(fs::read_to_string(other)?)?)
}

/// The numbers of the lists begin anew with another root key.
#[test]
fn the_list_of_another_root_key_is_kept() -> anyhow::Result<()> {
    let signed = Signed::new()?;
    let platform = &signed.platform;
    let (dir, trust) = (signed.path(""), signed.path("trust.yaml"));
    for (root, serial) in [("first", "5"), ("second", "1")] {
        platform.tasker(&["key", "create", root, "--dir", &dir])?;
        if root == "second" {
            platform.tasker(&["key", "distrust", "root", "--trust", &trust])?;
        }
        let (public, private) = (signed.path(&format!("{root}.pub")), signed.path(&format!("{root}.key")));
        platform.tasker(&["key", "trust", &public, "--root", "--trust", &trust])?;
        let (list, of_root) = (signed.path(root), ["--root-key", &private, "--environment", "it"]);
        platform.tasker(&[&["key", "certify", &signed.path("server.pub")][..], &of_root].concat())?;
        let revoke = ["key", "revoke", "0123456789abcdef", "--list", &list, "--serial", serial];
        platform.tasker(&[&revoke[..], &of_root].concat())?;
        let settings = [("CERTIFICATE", signed.path("server.cert")), ("REVOCATIONS", list.clone())];
        let mut api = signed.start_api_with(&settings)?;
        let mut one = signed.start("ep1")?;
        platform.until("the list is kept", |platform| {
            let kept = platform.home().join("journals/ep1/revocations.json");
            ensure!(same_json(kept, &list)?, "{root}: {}", one.log());
            Ok(())
        })?;
        one.stop(Duration::from_secs(30))?;
        api.stop(Duration::from_secs(30))?;
    }
    Ok(())
}

/// Each step of the way is a fleet that works.
#[test]
fn signatures_are_introduced_step_by_step() -> anyhow::Result<()> {
    let signed = Signed::new()?;
    let platform = &signed.platform;
    let works = |what: &str| -> anyhow::Result<()> {
        let identifier = platform.submit("worker", json!({"n": what}), &["ep1"])?;
        platform.task("worker", &identifier, "DONE").map(drop).with_context(|| what.to_owned())
    };
    let subscribed = || platform.subscribed("ep1", &["worker", "steered"]);
    // Nobody signs, and the endpoint prefers signatures.
    let mut plain = platform.launch("api", &["api".to_owned()], &[])?;
    let mut prefers = signed.launch("ep1", "prefer", None)?;
    subscribed()?;
    works("unsigned")?;
    signed.unsigned_is_counted()?;
    prefers.stop(Duration::from_secs(30))?;
    // Where they are required, an API that does not sign is not listened to.
    let mut requires = signed.launch("ep1", "require", None)?;
    platform.until("the welcome is refused", |_| {
        ensure!(signed.quarantine("ep1")?.contains_key("unsigned"), "{}", requires.log());
        Ok(())
    })?;
    requires.stop(Duration::from_secs(30))?;
    plain.stop(Duration::from_secs(30))?;
    // The API signs, and the endpoint looks, or does not.
    let _api = signed.start_api()?;
    for signatures in ["off", "prefer", "require"] {
        let mut one = signed.launch("ep1", signatures, None)?;
        subscribed()?;
        works(signatures)?;
        one.stop(Duration::from_secs(30))?;
    }
    Ok(())
}
