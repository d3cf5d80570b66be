//! What persons have signed runs once and in time, and what waits on a server is judged again when the server
//! trusts somebody else: whatever becomes of the process and its files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tasker::broker::wire;
use tasker::clock::Clock;
use tasker::domain::{
    Command, Order, Ordered, Recipients, SealFault, TaskId, TaskMessage, Timestamp, WireVersion, errnr,
    json as raw,
};
use tasker::failpoint::{self, Failpoint};
use tasker::signing::{Signer, SigningKey, sign_order};
use tasker_services::Process;
use uuid::Uuid;

use super::rig::endpoint;
use super::signatures::{Signed, Thief, id_of, was_refused};
use crate::support::clock::Shift;
use crate::support::platform::response_of;
use crate::support::power::Power;

/// How many tasks of a type run at the same time here.
const SLOTS: usize = 4;

/// Between which steps an endpoint can be killed that performs an order.
pub const ORDER_FAILPOINTS: [Failpoint; 4] = [
    failpoint::INTAKE_TAKEN,
    failpoint::ORDER_BEGUN,
    failpoint::PERFORMER_STARTED,
    failpoint::PERFORMER_JOURNALED,
];

/// A handler of `steered` that leaves a trace of each execution, as that of the program does, and ends as soon
/// as the file `hold` is gone.
const HELD: &str = "#!/bin/sh\nset -e\necho \"$TASKER_TASK_ID $TASKER_ENDPOINT $TASKER_ATTEMPT\" >> '@marks'\nwhile [ -e '@hold' ]; do sleep 0.05; done\n";

/// An installation where alice signs tasks of `steered`.
struct Ordering {
    signed: Signed,
    alice: SigningKey,
}

impl Ordering {
    fn new() -> anyhow::Result<Self> {
        let signed = Signed::new()?;
        let dir = signed.path("");
        for name in ["alice", "bob"] {
            signed.platform.tasker(&["key", "create", name, "--dir", &dir])?;
        }
        trust(&signed, &["key", "trust", &signed.path("alice.pub"), "-t", "steered"])?;
        let alice = signed.key("alice")?;
        Ok(Self { signed, alice })
    }

    /// A payload of `steered` that alice has signed, to be begun within these seconds. It leaves a trace of
    /// each execution.
    fn ordered(&self, mut steps: Value, secs: i64) -> Value {
        steps["mark"] = json!(self.signed.path("marks"));
        let now = Clock::system().now().as_millis();
        let mut order = Order {
            id: Uuid::new_v4(),
            environment: "it".parse().expect("a name"),
            task_type: "steered".parse().expect("a type"),
            not_after: Timestamp::from_millis(now + secs * 1000),
            to: Recipients::All,
            signatures: vec![],
        };
        let payload = raw(&steps);
        order.signatures = vec![sign_order(&self.alice, &order, &payload)];
        serde_json::to_value(Ordered { order, payload }).expect("JSON")
    }

    fn submit(&self, payload: Value) -> anyhow::Result<(String, TaskId)> {
        let identifier = self.signed.platform.submit("steered", payload, &["ep1"])?;
        let id = id_of(&self.signed.platform, "steered", &identifier)?;
        Ok((identifier, id))
    }

    /// Waits until this time is over.
    fn until_after(&self, end: Timestamp) -> anyhow::Result<()> {
        self.signed.platform.until("the time is over", |_| {
            ensure!(Clock::system().now() > end, "not yet");
            Ok(())
        })
    }

    /// Waits until the endpoint has ended a task as refused, with a reason that begins so.
    fn ends_refused(&self, identifier: &str, reason: &str) -> anyhow::Result<()> {
        was_refused(&self.signed.platform.response("steered", identifier, "ep1", "FINISHED")?, reason)
    }

    /// The attempts of a task that ran.
    fn marks(&self, id: TaskId) -> Vec<String> {
        let marks = fs::read_to_string(self.signed.path("marks")).unwrap_or_default();
        let of_task = |line: &&str| line.starts_with(&id.to_string());
        marks
            .lines()
            .filter(of_task)
            .map(|line| line.rsplit(' ').next().unwrap_or_default().to_owned())
            .collect()
    }

    /// Takes all slots of `steered`. Answers the identifiers of the tasks that do.
    fn occupy(&self) -> anyhow::Result<Vec<String>> {
        let one = |_| {
            let (identifier, id) = self.submit(self.ordered(json!({"do": "hang"}), 3600))?;
            self.signed.platform.until("it runs", |_| {
                ensure!(self.marks(id).len() == 1, "{:?}", self.marks(id));
                Ok(())
            })?;
            Ok(identifier)
        };
        (0..SLOTS).map(one).collect()
    }

    /// Has tasks of `steered` run until `let_go`, at endpoints that start from now on.
    fn hold(&self) -> anyhow::Result<()> {
        let handler = self.signed.path("handlers/steered");
        fs::write(&handler, HELD.replace('@', &self.signed.path("")))?;
        fs::set_permissions(&handler, fs::Permissions::from_mode(0o755))?;
        Ok(fs::write(self.signed.path("hold"), "")?)
    }

    /// Lets all tasks end that are held.
    fn let_go(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.signed.path("hold"))?)
    }
}

fn trust(signed: &Signed, arguments: &[&str]) -> anyhow::Result<()> {
    let file = signed.path("trust.yaml");
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--trust", &file]).collect();
    signed.platform.tasker(&arguments).map(drop)
}

/// Waits until a failpoint has ended a process.
fn killed(signed: &Signed, mut process: Process) -> anyhow::Result<()> {
    let process = std::cell::RefCell::new(&mut process);
    signed.platform.until("the failpoint ends the endpoint", |_| {
        ensure!(process.borrow_mut().ended()?.is_some(), "{}", process.borrow().log());
        Ok(())
    })
}

#[test]
fn an_order_begins_once_whatever_becomes_of_process_and_journal() -> anyhow::Result<()> {
    let ordering = Ordering::new()?;
    let (signed, platform) = (&ordering.signed, &ordering.signed.platform);
    let _api = signed.start_api()?;
    let thief = platform.block_on(Thief::come(platform))?;
    // The process ends between the note of the order and the journal, between the note that the order begins
    // and the journal, between the journal and the handler, or behind that: neither is the task lost, nor does
    // it run without the journal knowing.
    for (failpoint, attempt) in ORDER_FAILPOINTS.iter().zip(["1", "1", "2", "1"]) {
        let failpoint = failpoint.name();
        let armed = [("TASKER_FAILPOINT", format!("{failpoint}:kill:1"))];
        let one = signed.launch_with("ep1", "require", &armed)?;
        platform.subscribed("ep1", &["worker", "steered"]).with_context(|| one.log())?;
        let (identifier, id) = ordering.submit(ordering.ordered(json!({"do": "ok"}), 3600))?;
        killed(signed, one)?;
        let has_run = failpoint == failpoint::PERFORMER_JOURNALED.name();
        ensure!(ordering.marks(id).is_empty() != has_run, "{failpoint}: {:?}", ordering.marks(id));
        let mut one = signed.start("ep1")?;
        platform.task("steered", &identifier, "DONE").with_context(|| one.log())?;
        ensure!(ordering.marks(id) == [attempt], "{failpoint}: {:?}", ordering.marks(id));
        one.stop(Duration::from_secs(30))?;
    }
    // The journal is gone, and the key of the API signs the task once more, under its own id.
    let mut one = signed.start("ep1")?;
    let (identifier, id) = ordering.submit(ordering.ordered(json!({"do": "ok"}), 3600))?;
    platform.task("steered", &identifier, "DONE")?;
    let copy = platform.block_on(thief.wait_for(|item| match wire::decode_command(item) {
        Ok(Command::Task(task)) if task.work.id == id => Some(task),
        _ => None,
    }))?;
    let again = |task: TaskMessage| -> anyhow::Result<()> {
        let key = signed.key("server")?;
        let command = Command::Task(TaskMessage { received: false, ..task });
        let to = Recipients::of(command.subject(), &[endpoint("ep1")]);
        let seal = Signer::new("it".parse()?, key).seal(&command, to, None, Clock::system().now());
        let body = wire::encode_sealed(&command, WireVersion::Two, &seal);
        platform.block_on(thief.publish(("it.steered.to", "ep1"), &body))
    };
    one.stop(Duration::from_secs(30))?;
    fs::remove_dir_all(platform.home().join("journals/ep1/steered+worker"))?;
    let _one = signed.start("ep1")?;
    // What comes before its welcome would be dropped.
    let (identifier, _) = ordering.submit(ordering.ordered(json!({"do": "ok"}), 3600))?;
    platform.task("steered", &identifier, "DONE")?;
    again(copy)?;
    signed.refused(id, SealFault::Forgotten)?;
    ensure!(ordering.marks(id) == ["1"], "{:?}", ordering.marks(id));
    Ok(())
}

#[test]
fn an_order_that_cannot_be_noted_holds_up_no_other_task() -> anyhow::Result<()> {
    let ordering = Ordering::new()?;
    let (signed, platform) = (&ordering.signed, &ordering.signed.platform);
    let _api = signed.start_api()?;
    let one = signed.start("ep1")?;
    let in_the_way = platform.home().join("journals/ep1/steered.orders");
    fs::create_dir(&in_the_way)?;
    let (identifier, id) = ordering.submit(ordering.ordered(json!({"do": "ok"}), 3600))?;
    let other = platform.submit("worker", json!({"n": 1}), &["ep1"])?;
    platform.task("worker", &other, "DONE")?;
    platform.until("the trouble is told", |platform| {
        let (_, page) = platform.get("/endpoints")?;
        ensure!(
            page.to_string().contains("journal_failing: orders cannot be noted"),
            "{page}\n{}",
            one.log()
        );
        Ok(())
    })?;
    ensure!(ordering.marks(id).is_empty(), "{:?}", ordering.marks(id));
    fs::remove_dir(&in_the_way)?;
    platform.task("steered", &identifier, "DONE")?;
    platform.until("the trouble is over", |platform| {
        let (_, page) = platform.get("/endpoints")?;
        ensure!(!page.to_string().contains("journal_failing"), "{page}");
        Ok(())
    })
}

/// The order was good when it came, and has ended when it is its turn.
#[test]
fn an_order_that_has_ended_does_not_begin() -> anyhow::Result<()> {
    let ordering = Ordering::new()?;
    let (signed, platform) = (&ordering.signed, &ordering.signed.platform);
    let _api = signed.start_api()?;
    let exact = [("TASKER_ENDPOINT__CLOCK_TOLERANCE", "1s".to_owned())];
    let _one = signed.launch_with("ep1", "require", &exact)?;
    platform.subscribed("ep1", &["worker", "steered"])?;
    let running = ordering.occupy()?;
    let (short, short_id) = ordering.submit(ordering.ordered(json!({"do": "ok"}), 5))?;
    let (long, long_id) = ordering.submit(ordering.ordered(json!({"do": "ok"}), 3600))?;
    let end = Clock::system().now().after(Duration::from_secs(7));
    for identifier in [&short, &long] {
        platform.response("steered", identifier, "ep1", "CREATED")?;
    }
    ordering.until_after(end)?;
    for identifier in &running {
        platform.delete(&format!("/steered/{identifier}"))?;
    }
    ordering.ends_refused(&short, "expired: the order ended at")?;
    signed.refused(short_id, SealFault::Expired)?;
    platform.task("steered", &long, "DONE")?;
    ensure!(ordering.marks(short_id).is_empty() && ordering.marks(long_id) == ["1"]);
    Ok(())
}

/// Tasks wait in the journal of an endpoint that is killed; when it is back, its server trusts others.
#[test]
fn what_waits_is_judged_again_when_trust_has_changed() -> anyhow::Result<()> {
    let ordering = Ordering::new()?;
    let (signed, platform) = (&ordering.signed, &ordering.signed.platform);
    let dir = signed.path("");
    platform.tasker(&["key", "create", "server2", "--dir", &dir])?;
    // Tasks of `worker` wait until they are let go.
    let hold = signed.path("hold");
    let script = fs::read_to_string(signed.path("handlers/worker"))?;
    let waits = format!("while [ -e '{hold}' ]; do sleep 0.05; done\n");
    fs::write(signed.path("handlers/worker"), format!("{script}{waits}"))?;
    fs::write(&hold, "")?;
    let mut api = signed.start_api()?;
    let mut one = signed.start("ep1")?;

    // Nobody who is trusted has signed this order any more, and no copy of it is better.
    ordering.occupy()?;
    let (unapproved, unapproved_id) = ordering.submit(ordering.ordered(json!({"do": "ok"}), 3600))?;
    platform.response("steered", &unapproved, "ep1", "CREATED")?;
    one.kill()?;
    trust(signed, &["key", "trust", &signed.path("bob.pub"), "-t", "steered"])?;
    trust(signed, &["key", "distrust", "alice"])?;
    let mut one = signed.start("ep1")?;
    ordering.ends_refused(&unapproved, "unapproved: 0 of 1 persons")?;
    signed.refused(unapproved_id, SealFault::Unapproved)?;
    ensure!(ordering.marks(unapproved_id).is_empty(), "{:?}", ordering.marks(unapproved_id));

    // These copies do not count any more; the API may send others.
    let mut works = Vec::new();
    for number in 0..=SLOTS {
        let identifier = platform.submit("worker", json!({"n": number}), &["ep1"])?;
        platform.response("worker", &identifier, "ep1", "CREATED")?;
        works.push((id_of(platform, "worker", &identifier)?, identifier));
    }
    platform.until("all slots are taken", |_| {
        ensure!(signed.effects().len() == SLOTS, "{:?}", signed.effects());
        Ok(())
    })?;
    let ran = signed.effects();
    one.kill()?;
    trust(signed, &["key", "trust", &signed.path("server2.pub")])?;
    trust(signed, &["key", "distrust", "server"])?;
    fs::remove_file(&hold)?;
    let one = signed.launch("ep1", "require", None)?;
    for (id, _) in &works {
        signed.refused(*id, SealFault::UnknownKey)?;
    }
    ensure!(signed.effects() == ran, "{:?} {ran:?}", signed.effects());
    api.stop(Duration::from_secs(30))?;
    let _api = signed.start_api_with(&[("SIGNING_KEY", signed.path("server2.key"))])?;
    platform.subscribed("ep1", &["worker", "steered"]).with_context(|| one.log())?;
    for (id, identifier) in &works {
        let body = platform.task("worker", identifier, "DONE")?;
        ensure!(response_of(&body, "ep1").is_some_and(|response| response["errnr"] == 0), "{body}");
        let (before, after) = (ran.get(&id.to_string()), signed.effects().get(&id.to_string()).copied());
        ensure!(after == Some(before.copied().unwrap_or_default() + 1), "{before:?} {after:?}");
    }
    Ok(())
}

/// The order of a task is refused while the task waits for another copy: it ends with the reason.
#[test]
fn a_parked_task_whose_order_is_refused_ends() -> anyhow::Result<()> {
    let ordering = Ordering::new()?;
    let (signed, platform) = (&ordering.signed, &ordering.signed.platform);
    platform.tasker(&["key", "create", "server2", "--dir", &signed.path("")])?;
    let mut api = signed.start_api()?;
    let mut one = signed.start("ep1")?;
    ordering.occupy()?;
    let (identifier, id) = ordering.submit(ordering.ordered(json!({"do": "ok"}), 3600))?;
    platform.response("steered", &identifier, "ep1", "CREATED")?;
    one.kill()?;
    trust(signed, &["key", "trust", &signed.path("server2.pub")])?;
    trust(signed, &["key", "distrust", "server"])?;
    let mut one = signed.launch("ep1", "require", None)?;
    signed.refused(id, SealFault::UnknownKey)?;
    // Another copy may count, so the task is parked. By the time that one comes, nobody has signed its order.
    one.stop(Duration::from_secs(30))?;
    trust(signed, &["key", "trust", &signed.path("bob.pub"), "-t", "steered"])?;
    trust(signed, &["key", "distrust", "alice"])?;
    api.stop(Duration::from_secs(30))?;
    let _one = signed.launch("ep1", "require", None)?;
    let _api = signed.start_api_with(&[("SIGNING_KEY", signed.path("server2.key"))])?;
    ordering.ends_refused(&identifier, "unapproved: 0 of 1 persons")?;
    ensure!(ordering.marks(id).is_empty(), "{:?}", ordering.marks(id));
    Ok(())
}

/// The endpoint has had the task, and its journal is gone: nobody knows whether the order has begun.
#[test]
fn a_refused_task_that_was_received_and_is_not_known_is_lost() -> anyhow::Result<()> {
    let ordering = Ordering::new()?;
    let (signed, platform) = (&ordering.signed, &ordering.signed.platform);
    let _api = signed.start_api()?;
    let mut one = signed.start("ep1")?;
    ordering.occupy()?;
    let (identifier, id) = ordering.submit(ordering.ordered(json!({"do": "ok"}), 3600))?;
    platform.response("steered", &identifier, "ep1", "CREATED")?;
    one.kill()?;
    fs::remove_dir_all(platform.home().join("journals/ep1/steered+worker"))?;
    trust(signed, &["key", "trust", &signed.path("bob.pub"), "-t", "steered"])?;
    trust(signed, &["key", "distrust", "alice"])?;
    let _one = signed.start("ep1")?;
    let response = platform.response("steered", &identifier, "ep1", "FINISHED")?;
    ensure!(response["errnr"] == errnr::LOST, "{response}");
    ensure!(ordering.marks(id).is_empty(), "{:?}", ordering.marks(id));
    Ok(())
}

/// The order ends while the endpoint is away: the task waits for the welcome, and ends with the reason.
#[test]
fn an_order_that_has_ended_before_a_restart_ends_its_task() -> anyhow::Result<()> {
    let ordering = Ordering::new()?;
    let (signed, platform) = (&ordering.signed, &ordering.signed.platform);
    let _api = signed.start_api()?;
    let exact = [("TASKER_ENDPOINT__CLOCK_TOLERANCE", "1s".to_owned())];
    let mut one = signed.launch_with("ep1", "require", &exact)?;
    platform.subscribed("ep1", &["worker", "steered"])?;
    ordering.occupy()?;
    let (identifier, id) = ordering.submit(ordering.ordered(json!({"do": "ok"}), 10))?;
    platform.response("steered", &identifier, "ep1", "CREATED")?;
    let end = Clock::system().now().after(Duration::from_secs(12));
    one.kill()?;
    ordering.until_after(end)?;
    let _one = signed.launch_with("ep1", "require", &exact)?;
    ordering.ends_refused(&identifier, "expired: the order ended at")?;
    signed.refused(id, SealFault::Expired)?;
    ensure!(ordering.marks(id).is_empty(), "{:?}", ordering.marks(id));
    Ok(())
}

/// Somebody sets the clock back, so that an order seems not to have ended.
#[test]
fn an_order_does_not_begin_by_a_clock_that_was_set() -> anyhow::Result<()> {
    let ordering = Ordering::new()?;
    let (signed, platform) = (&ordering.signed, &ordering.signed.platform);
    let _api = signed.start_api()?;
    let clock = Shift::new(platform.home(), "endpoint.clock")?;
    let exact = [("TASKER_ENDPOINT__CLOCK_TOLERANCE", "1s".to_owned())];
    let environment = [clock.environment.clone(), exact.to_vec()].concat();
    ordering.hold()?;
    let one = signed.launch_with("ep1", "require", &environment)?;
    platform.subscribed("ep1", &["worker", "steered"])?;
    let running = ordering.occupy()?;
    let (identifier, id) = ordering.submit(ordering.ordered(json!({"do": "ok"}), 5))?;
    platform.response("steered", &identifier, "ep1", "CREATED")?;
    let end = Clock::system().now().after(Duration::from_secs(7));
    ordering.until_after(end)?;
    clock.set(-600)?;
    // They end by themselves: a cancel would show the endpoint that its clock is wrong.
    ordering.let_go()?;
    for identifier in &running {
        platform.task("steered", identifier, "DONE")?;
    }
    platform.until("the trouble is the clock", |platform| {
        let (_, page) = platform.get("/endpoints")?;
        ensure!(page.to_string().contains("clock_off: "), "{page}\n{}", one.log());
        Ok(())
    })?;
    ensure!(ordering.marks(id).is_empty(), "{:?}", ordering.marks(id));
    clock.set(0)?;
    ordering.ends_refused(&identifier, "expired: ")?;
    ensure!(ordering.marks(id).is_empty(), "{:?}", ordering.marks(id));
    Ok(())
}

/// A line of the file of orders that the disk has damaged may be about an order that has begun.
#[test]
fn no_order_begins_that_a_damaged_line_may_name() -> anyhow::Result<()> {
    let ordering = Ordering::new()?;
    let (signed, platform) = (&ordering.signed, &ordering.signed.platform);
    let _api = signed.start_api()?;
    let mut one = signed.start("ep1")?;
    let order = ordering.ordered(json!({"do": "ok"}), 3600);
    let (first, first_id) = ordering.submit(order.clone())?;
    platform.task("steered", &first, "DONE")?;
    one.stop(Duration::from_secs(30))?;
    let file = platform.home().join("journals/ep1/steered.orders");
    let damaged = fs::read_to_string(&file)?.replace("\"order\":\"", "\"order\":\"!");
    fs::write(&file, &damaged)?;
    let mut one = signed.start("ep1")?;
    // The order of the first task, under another name.
    let (again, again_id) = ordering.submit(order)?;
    platform.until("the trouble is told", |platform| {
        let (_, page) = platform.get("/endpoints")?;
        let wanted =
            "journal_failing: orders cannot be noted: damaged lines in steered.orders: 2, the first is line ";
        ensure!(page.to_string().contains(wanted), "{page}\n{}", one.log());
        Ok(())
    })?;
    // What needs no order is not held up.
    let other = platform.submit("worker", json!({"n": 1}), &["ep1"])?;
    platform.task("worker", &other, "DONE")?;
    ensure!(one.log().contains("damaged lines in steered.orders"), "{}", one.log());
    one.stop(Duration::from_secs(30))?;
    ensure!(fs::read_to_string(&file)? == damaged, "the file was changed");
    let ran = (ordering.marks(first_id), ordering.marks(again_id));
    ensure!(ran == (vec!["1".to_owned()], Vec::new()), "{ran:?}");
    // Somebody has looked at the file.
    fs::write(&file, damaged.replace('!', ""))?;
    let _one = signed.start("ep1")?;
    ordering.ends_refused(&again, "replayed: ")?;
    Ok(())
}

/// The disk does not answer when the turn of an order comes, and then the power is gone.
#[test]
fn the_loss_of_power_does_not_begin_an_order_again() -> anyhow::Result<()> {
    let ordering = Ordering::new()?;
    let (signed, platform) = (&ordering.signed, &ordering.signed.platform);
    let _api = signed.start_api()?;
    let power = Power::new(platform.home(), "journals/ep1/steered+worker/")?;
    ordering.hold()?;
    let mut one = signed.launch_with("ep1", "require", &power.environment)?;
    platform.subscribed("ep1", &["worker", "steered"]).with_context(|| one.log())?;
    ordering.occupy()?;
    let payload = ordering.ordered(json!({"do": "ok"}), 3600);
    let order = payload["order"]["id"].as_str().context("an id")?.to_owned();
    let (identifier, id) = ordering.submit(payload)?;
    platform.response("steered", &identifier, "ep1", "CREATED")?;
    power.stick()?;
    ordering.let_go()?;
    platform.until("the order begins", |platform| {
        let lines = fs::read_to_string(platform.home().join("journals/ep1/steered.orders"))?;
        let begun = |line: &str| line.contains(&order) && line.contains("\"begun\":true");
        ensure!(lines.lines().any(begun), "{lines}");
        Ok(())
    })?;
    // A handler would have begun by then.
    ordering.until_after(Clock::system().now().after(Duration::from_secs(2)))?;
    one.kill()?;
    power.cut()?;
    let _one = signed.start("ep1")?;
    platform.task("steered", &identifier, "DONE")?;
    ensure!(ordering.marks(id).len() == 1, "{:?}", ordering.marks(id));
    Ok(())
}

/// A worker in trouble is given no tasks, so no task can show that the trouble is over.
#[test]
fn a_worker_notes_orders_again_by_itself() -> anyhow::Result<()> {
    let ordering = Ordering::new()?;
    let (signed, platform) = (&ordering.signed, &ordering.signed.platform);
    platform.set_types(json!(["worker", {"name": "steered", "delivery": "queue"}]))?;
    let _api = signed.start_api()?;
    let environment = [("SIGNATURES", "require".to_owned()), ("TRUST", signed.path("trust.yaml"))];
    let environment = environment.map(|(key, value)| (format!("TASKER_ENDPOINT__{key}"), value));
    let arguments = ["worker", "-e", "w1", "-t", "steered"].map(str::to_owned);
    let worker = platform.launch("w1", &arguments, &environment)?;
    platform.subscribed("w1", &["steered"]).with_context(|| worker.log())?;
    let in_the_way = platform.home().join("journals/w1/steered.orders");
    fs::create_dir(&in_the_way)?;
    let submit = || -> anyhow::Result<String> {
        let identifier = uuid::Uuid::new_v4().to_string();
        let payload = ordering.ordered(json!({"do": "ok"}), 3600);
        let (status, answer) =
            platform.post("/steered", &json!({"identifier": identifier, "payload": payload}))?;
        ensure!(status == 201, "{status}: {answer}");
        Ok(identifier)
    };
    let first = submit()?;
    let trouble = |is_told: bool| {
        platform.until("the trouble", |platform| {
            let (_, page) = platform.get("/endpoints")?;
            let told = page.to_string().contains("journal_failing: orders cannot be noted");
            ensure!(told == is_told, "{page}\n{}", worker.log());
            Ok(())
        })
    };
    trouble(true)?;
    fs::remove_dir(&in_the_way)?;
    trouble(false)?;
    let second = submit()?;
    for identifier in [&second, &first] {
        platform.task("steered", identifier, "DONE")?;
    }
    Ok(())
}
