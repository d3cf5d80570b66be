//! Simulated endpoints: the same protocol as the real agent, no journal on disk and no work.
//!
//! Many names may share a link, as the endpoints of the bench do; one that goes away has a link of its own.
//! An endpoint remembers what it has taken for as long as the process lives, so that a task runs once,
//! however often it is asked for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::nature::{Absence, Course, Nature, Time, home_of, seed_of};
use crate::broker::{
    Address, BrokerError, Consumer, Delivery, Message, Origin, SharedBroker, Source, envelope, wire,
};
use crate::clock::Clock;
use crate::domain::{
    Command, EndpointName, Json, Labels, Presence, PresenceState, Report, ReportEvent, TaskId, TaskMessage,
    TaskType, Timestamp, WireVersion, json,
};

/// Deliveries a link takes before the first is acknowledged, and in one go.
const PREFETCH: u16 = 1000;
/// How often a fleet says that it is there; as often as the API asks of the largest.
const PRESENCE: Duration = Duration::from_secs(30);
/// Presence messages published in one go.
const CHUNK: usize = 500;
/// The time in which the endpoints of a fleet join, one after the other.
const JOIN: Duration = Duration::from_millis(500);

/// What a fleet has heard of each task.
type Heard = HashMap<TaskId, HeardTask>;

/// Makes a link to the broker.
pub type Connect = Arc<dyn Fn() -> SharedBroker + Send + Sync>;

/// What a fleet has heard of a task.
#[derive(Debug, Clone)]
pub struct HeardTask {
    /// When the first endpoint got it.
    pub first: Timestamp,
    /// When the last answer was handed to the broker.
    pub answered: Timestamp,
    /// How many copies each endpoint got. More than one is no fault: the ledger may ask again, and a repeat
    /// is answered again.
    pub copies: HashMap<EndpointName, u32>,
}

/// The names of a simulated fleet: `sim-00000` and on.
pub fn names(count: usize) -> Vec<EndpointName> {
    named("sim", count)
}

/// So many names that begin alike.
pub fn named(prefix: &str, count: usize) -> Vec<EndpointName> {
    (0..count).filter_map(|number| format!("{prefix}-{number:05}").parse().ok()).collect()
}

/// The labels of an endpoint where no file of faults has others: as many as a well-kept server has.
pub fn labels_of(name: &EndpointName) -> Labels {
    let number: usize =
        name.as_str().rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or_default();
    let label = |key: &str, values: usize| (key.to_owned(), format!("{key}-{}", number % values));
    let kinds = [
        ("site", 5),
        ("role", 7),
        ("rack", 40),
        ("zone", 3),
        ("kernel", 11),
        ("owner", 13),
        ("tier", 2),
        ("model", 17),
        ("batch", 100),
        ("ring", 4),
    ];
    Labels::believed(kinds.into_iter().map(|(key, values)| label(key, values)).collect())
}

/// A selector that looks at several labels, and chooses few of a fleet.
pub const SELECTOR: &str =
    "site=site-3 and not role=role-1 and rack in (rack-3, rack-13, rack-23) and name=sim-*";

/// A simulated fleet.
#[derive(Debug)]
pub struct Fleet {
    size: usize,
    welcomed: watch::Receiver<usize>,
    heard: Arc<Mutex<Heard>>,
    failing: Arc<Mutex<HashSet<EndpointName>>>,
    stop: CancellationToken,
    links: TaskTracker,
}

impl Fleet {
    /// A fleet that answers at once, spread evenly over links that others close.
    ///
    /// # Errors
    /// When a link is closed.
    pub async fn join(
        links: &[SharedBroker],
        task_type: &TaskType,
        names: &[EndpointName],
    ) -> Result<Self, BrokerError> {
        let (mut fleet, common) = Self::begin(std::slice::from_ref(task_type), PRESENCE, true);
        let share = names.len().div_ceil(links.len().max(1)).max(1);
        for (link, names) in links.iter().zip(names.chunks(share)) {
            let instance = Uuid::new_v4();
            let one = |name: &EndpointName| {
                let nature =
                    Nature::of(labels_of(name), Time::always(Duration::ZERO), seed_of(&[name.as_str()]));
                (name.clone(), One::new(nature, instance))
            };
            let mut member = Member::new(common.clone(), names.iter().map(one));
            let mut consumer = member.consume(link).await?;
            let (link, stop) = (link.clone(), fleet.stop.clone());
            fleet.size += names.len();
            fleet.links.spawn(async move {
                stop.run_until_cancelled(member.serve(&link, &mut consumer)).await;
            });
        }
        fleet.links.close();
        Ok(fleet)
    }

    /// A fleet whose endpoints behave each after its nature, and say goodbye when it stops.
    pub fn of(
        connect: Connect,
        task_types: &[TaskType],
        fleet: Vec<(EndpointName, Nature)>,
        presence: Duration,
    ) -> Self {
        let (mut made, common) = Self::begin(task_types, presence, false);
        made.size = fleet.len();
        let apart = JOIN / u32::try_from(fleet.len()).unwrap_or(u32::MAX).max(1);
        for (number, (name, nature)) in (0u32..).zip(fleet) {
            let (connect, stop) = (connect.clone(), made.stop.clone());
            let home = home_of(&name);
            let member = Member::new(common.clone(), [(name, One::new(nature, home))]);
            made.links.spawn(async move {
                stop.run_until_cancelled(tokio::time::sleep(apart * number)).await;
                member.live(&connect, &stop).await;
            });
        }
        made.links.close();
        made
    }

    fn begin(task_types: &[TaskType], presence: Duration, at_once: bool) -> (Self, Common) {
        let (welcomes, welcomed) = watch::channel(0);
        let (heard, failing) = (Arc::new(Mutex::new(Heard::new())), Arc::new(Mutex::new(HashSet::new())));
        let common = Common {
            task_types: task_types.into(),
            presence,
            at_once,
            welcomes,
            heard: heard.clone(),
            failing: failing.clone(),
            clock: Clock::system(),
        };
        let (stop, links) = (CancellationToken::new(), TaskTracker::new());
        (Self { size: 0, welcomed, heard, failing, stop, links }, common)
    }

    /// Completes when every endpoint has been welcomed.
    pub async fn welcomed(&mut self) {
        let size = self.size;
        // The sender lives as long as a link runs.
        let _ = self.welcomed.wait_for(|count| *count >= size).await;
    }

    /// What a fleet that answers at once has heard of each task.
    pub fn heard(&self) -> HashMap<TaskId, HeardTask> {
        self.heard.lock().map(|heard| heard.clone()).unwrap_or_default()
    }

    /// From now on these endpoints fail, and no others.
    pub fn fail(&self, names: impl IntoIterator<Item = EndpointName>) {
        if let Ok(mut failing) = self.failing.lock() {
            *failing = names.into_iter().collect();
        }
    }

    /// Lets go.
    pub async fn stop(self) {
        self.stop.cancel();
        self.links.wait().await;
    }
}

/// What all endpoints of a fleet have in common.
#[derive(Debug, Clone)]
struct Common {
    task_types: Arc<[TaskType]>,
    /// How often they say that they are there.
    presence: Duration,
    /// Whether they answer at once, whatever their nature.
    at_once: bool,
    welcomes: watch::Sender<usize>,
    heard: Arc<Mutex<Heard>>,
    failing: Arc<Mutex<HashSet<EndpointName>>>,
    clock: Clock,
}

/// One endpoint.
struct One {
    home: Uuid,
    nature: Nature,
    /// Whether the ledger knows it as subscribed on the present link.
    welcomed: bool,
    /// Whether it was welcomed before.
    known: bool,
    tasks: HashMap<TaskId, Standing>,
}

impl One {
    fn new(nature: Nature, home: Uuid) -> Self {
        Self { home, nature, welcomed: false, known: false, tasks: HashMap::new() }
    }
}

/// Where a task stands that an endpoint remembers.
#[derive(Debug, Clone)]
enum Standing {
    /// It was not received, and never will be.
    Deaf,
    /// Its handler runs.
    Runs,
    /// Its handler has ended, or it was canceled.
    Ended(ReportEvent),
}

/// An end of a handler that is still to come.
#[derive(Debug)]
struct Due {
    endpoint: EndpointName,
    task_id: TaskId,
    task_type: TaskType,
    payload: Json,
    errnr: i32,
    errmsg: String,
    away: Option<Absence>,
}

/// The endpoints of one link.
struct Member {
    common: Common,
    instance: Uuid,
    session: Uuid,
    /// How often to say that they are there, as the API has asked.
    interval: Duration,
    endpoints: HashMap<EndpointName, One>,
    /// By time, and by number among those of one time.
    due: BTreeMap<(Instant, u64), Due>,
    count: u64,
}

impl Member {
    fn new(common: Common, endpoints: impl IntoIterator<Item = (EndpointName, One)>) -> Self {
        let (instance, session, interval) = (Uuid::new_v4(), Uuid::new_v4(), common.presence);
        Self {
            common,
            instance,
            session,
            interval,
            endpoints: endpoints.into_iter().collect(),
            due: BTreeMap::new(),
            count: 0,
        }
    }

    /// Lives on links of its own, one after the other, until it is told to stop.
    async fn live(mut self, connect: &Connect, stop: &CancellationToken) {
        let mut away = None::<Absence>;
        while !stop.is_cancelled() {
            if let Some(Absence { lasts, .. }) = away.take() {
                match lasts {
                    Some(lasts) => _ = stop.run_until_cancelled(tokio::time::sleep(lasts)).await,
                    None => return,
                }
            }
            let link = connect();
            (self.instance, self.session) = (Uuid::new_v4(), Uuid::new_v4());
            self.endpoints.values_mut().for_each(|one| one.welcomed = false);
            let Ok(mut consumer) = self.consume(&link).await else { return };
            away = stop.run_until_cancelled(self.serve(&link, &mut consumer)).await.flatten();
            if away.is_none_or(|away| away.said) {
                self.say(&link, PresenceState::Leaving).await;
            }
            link.close().await;
            if away.is_none() {
                return;
            }
        }
    }

    async fn consume(&mut self, link: &SharedBroker) -> Result<Consumer, BrokerError> {
        let types = self.common.task_types.clone();
        let subscriptions = self
            .endpoints
            .keys()
            .flat_map(|name| types.iter().map(|task_type| (task_type.clone(), name.clone())));
        link.consume(Source::Tasks(subscriptions.collect()), PREFETCH).await
    }

    /// Takes what comes until an endpoint goes away, or the link has ended.
    async fn serve(&mut self, link: &SharedBroker, consumer: &mut Consumer) -> Option<Absence> {
        consumer.link.wait_for(|link| link.up).await.ok()?;
        self.say(link, PresenceState::Joined).await;
        let deliveries = &mut consumer.deliveries;
        let mut next_presence = Instant::now() + self.interval;
        let mut batch = Vec::with_capacity(16);
        loop {
            // What a handler came to is told only to a ledger that listens.
            let here = !self.common.at_once && self.endpoints.values().all(|one| one.welcomed);
            let next_end = self.due.keys().next().map(|(at, _)| *at).filter(|_| here);
            tokio::select! {
                () = tokio::time::sleep_until(next_presence) => {
                    self.say(link, PresenceState::Alive).await;
                    next_presence = Instant::now() + self.interval;
                }
                () = sleep_until(next_end) => {
                    if let Some(away) = self.end(link).await {
                        return Some(away);
                    }
                }
                taken = take(deliveries, &mut batch) => {
                    if taken == 0 {
                        return None;
                    }
                    self.answer(link, &batch).await;
                    batch.clear();
                    if !self.common.at_once
                        && self.endpoints.values().all(|one| one.welcomed)
                        && let Some(away) = self.endpoints.values_mut().find_map(|one| one.nature.leaves())
                    {
                        return Some(away);
                    }
                }
            }
        }
    }

    async fn say(&self, link: &SharedBroker, state: PresenceState) {
        let names: Vec<&EndpointName> = self.endpoints.keys().collect();
        for chunk in names.chunks(CHUNK) {
            let messages = chunk.iter().filter_map(|endpoint| {
                let one = self.endpoints.get(*endpoint)?;
                let said = Presence {
                    home: one.home,
                    interval: self.interval,
                    task_types: self.common.task_types.to_vec(),
                    labels: one.nature.labels.clone(),
                    ..presence(endpoint, self.instance, self.session, state)
                };
                Some(Message {
                    reads: WireVersion::NEWEST,
                    ..Message::new(Address::Presence, wire::encode_presence(&said))
                })
            });
            link.publish(messages.collect()).await;
        }
    }

    async fn answer(&mut self, link: &SharedBroker, batch: &[Delivery]) {
        let (got, mut tasks) = (self.common.clock.now(), HashSet::new());
        let failing = self.common.failing.lock().map(|failing| failing.clone()).unwrap_or_default();
        let mut reports = Vec::with_capacity(batch.len());
        for delivery in batch {
            let (Origin::All(task_type, endpoint)
            | Origin::Named(task_type, endpoint)
            | Origin::Control(task_type, endpoint)) = &delivery.origin
            else {
                continue;
            };
            for item in envelope::items(&delivery.body) {
                match wire::decode_command(&item) {
                    Ok(Command::Welcome { session, presence_interval, .. }) if session == self.session => {
                        self.welcome(endpoint, presence_interval);
                    }
                    Ok(Command::Task(task))
                        if self.endpoints.get(endpoint).is_some_and(|one| one.welcomed) =>
                    {
                        if self.common.at_once {
                            tasks.insert(task.work.id);
                            self.count(task.work.id, endpoint, got);
                            let number = i32::from(failing.contains(endpoint));
                            let event = finished(number, if number == 0 { "" } else { "simulated" });
                            reports.push(self.report(task.work.id, task_type, endpoint, event));
                        } else if let Some(event) = self.take(endpoint, task_type, &task) {
                            reports.push(self.report(task.work.id, task_type, endpoint, event));
                        }
                    }
                    Ok(Command::Cancel { task_id }) if !self.common.at_once => {
                        let event = self.cancel(endpoint, task_id, false);
                        reports.extend(event.map(|event| self.report(task_id, task_type, endpoint, event)));
                    }
                    Ok(Command::Withdraw { task_id }) if !self.common.at_once => {
                        let event = self.cancel(endpoint, task_id, true);
                        reports.extend(event.map(|event| self.report(task_id, task_type, endpoint, event)));
                    }
                    _ => {}
                }
            }
        }
        link.publish(reports).await;
        if !tasks.is_empty()
            && let Ok(mut heard) = self.common.heard.lock()
        {
            let now = self.common.clock.now();
            for task in tasks {
                heard.entry(task).and_modify(|task| task.answered = now);
            }
        }
        if let Some(last) = batch.last() {
            last.acker.ack_through().await;
        }
    }

    fn welcome(&mut self, endpoint: &EndpointName, interval: Duration) {
        let Some(one) = self.endpoints.get_mut(endpoint) else { return };
        one.welcomed = true;
        if !std::mem::replace(&mut one.known, true) {
            self.common.welcomes.send_modify(|count| *count += 1);
        }
        if !self.common.at_once {
            self.interval = interval.max(Presence::SHORTEST_INTERVAL);
        }
    }

    /// Takes a task, or says again what became of it.
    fn take(
        &mut self,
        endpoint: &EndpointName,
        task_type: &TaskType,
        task: &TaskMessage,
    ) -> Option<ReportEvent> {
        let TaskMessage { work, received, .. } = task;
        let one = self.endpoints.get_mut(endpoint)?;
        match one.tasks.get(&work.id) {
            Some(Standing::Deaf) => return None,
            Some(Standing::Runs) => return Some(ReportEvent::Begun),
            Some(Standing::Ended(event)) => return Some(event.clone()),
            None if *received => return Some(ReportEvent::lost("the simulated endpoint was started again")),
            None => {}
        }
        let (standing, due) = match one.nature.course(&work.payload) {
            Course::Deaf => (Standing::Deaf, None),
            Course::Hangs => (Standing::Runs, None),
            Course::Ends { after, errnr, errmsg, away } => {
                let (endpoint, task_type, payload) =
                    (endpoint.clone(), task_type.clone(), work.payload.clone());
                (
                    Standing::Runs,
                    Some((
                        after,
                        Due { endpoint, task_id: work.id, task_type, payload, errnr, errmsg, away },
                    )),
                )
            }
        };
        let heard = !matches!(standing, Standing::Deaf);
        one.tasks.insert(work.id, standing);
        if let Some((after, due)) = due {
            self.count += 1;
            self.due.insert((Instant::now() + after, self.count), due);
        }
        heard.then_some(ReportEvent::Begun)
    }

    /// Stops a task, unless it is only to be stopped where it has not begun; or sees to it that it never
    /// starts.
    fn cancel(
        &mut self,
        endpoint: &EndpointName,
        task_id: TaskId,
        unless_begun: bool,
    ) -> Option<ReportEvent> {
        let one = self.endpoints.get_mut(endpoint)?;
        match one.tasks.get(&task_id) {
            Some(Standing::Deaf) => return None,
            Some(Standing::Ended(event)) => return Some(event.clone()),
            Some(Standing::Runs) if unless_begun => return Some(ReportEvent::Begun),
            Some(Standing::Runs) | None => {}
        }
        one.tasks.insert(task_id, Standing::Ended(ReportEvent::Canceled));
        Some(ReportEvent::Canceled)
    }

    /// The handler whose time is over first has ended. Answers whether its endpoint goes away.
    async fn end(&mut self, link: &SharedBroker) -> Option<Absence> {
        let (_, Due { endpoint, task_id, task_type, payload, errnr, errmsg, away }) = self.due.pop_first()?;
        let one = self.endpoints.get_mut(&endpoint)?;
        if !matches!(one.tasks.get(&task_id), Some(Standing::Runs)) {
            return None;
        }
        let event = finished(errnr, &errmsg);
        one.tasks.insert(task_id, Standing::Ended(event.clone()));
        let labelled = errnr == 0 && one.nature.has_succeeded(&payload);
        // One that goes away tells the ledger when it is back and is asked.
        if away.is_none() {
            link.publish(vec![self.report(task_id, &task_type, &endpoint, event)]).await;
            if labelled {
                self.say(link, PresenceState::Alive).await;
            }
        }
        away
    }

    fn count(&self, id: TaskId, endpoint: &EndpointName, now: Timestamp) {
        if let Ok(mut heard) = self.common.heard.lock() {
            let task = heard.entry(id).or_insert_with(|| HeardTask {
                first: now,
                answered: now,
                copies: HashMap::new(),
            });
            *task.copies.entry(endpoint.clone()).or_default() += 1;
        }
    }

    fn report(
        &self,
        task_id: TaskId,
        task_type: &TaskType,
        endpoint: &EndpointName,
        event: ReportEvent,
    ) -> Message {
        let home = self.endpoints.get(endpoint).map_or(self.instance, |one| one.home);
        let report =
            Report { task_id, task_type: task_type.clone(), endpoint: endpoint.clone(), home, event };
        Message {
            persistent: true,
            reads: WireVersion::NEWEST,
            ..Message::new(Address::Responses, wire::encode_report(&report))
        }
    }
}

/// The presence of an endpoint that performs no task types.
pub fn presence(endpoint: &EndpointName, instance: Uuid, session: Uuid, state: PresenceState) -> Presence {
    Presence {
        endpoint: endpoint.clone(),
        instance,
        home: instance,
        session,
        task_types: Vec::new(),
        refused: Vec::new(),
        state,
        interval: PRESENCE,
        sent_at: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        trouble: None,
        slots: None,
        reads: WireVersion::NEWEST,
        labels: labels_of(endpoint),
        restricted: false,
        refusals: BTreeMap::new(),
        unsigned: 0,
        revocations: None,
        proven: false,
    }
}

fn finished(errnr: i32, errmsg: &str) -> ReportEvent {
    ReportEvent::Finished {
        errnr,
        errmsg: errmsg.to_owned(),
        payload: (errnr == 0).then(|| json(&"simulated")),
        attempt: 1,
        attempts: Vec::new(),
        log: None,
        run: Some(Uuid::new_v4()),
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn take(deliveries: &mut mpsc::Receiver<Delivery>, batch: &mut Vec<Delivery>) -> usize {
    deliveries.recv_many(batch, usize::from(PREFETCH)).await
}
