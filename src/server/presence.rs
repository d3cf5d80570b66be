//! Who is there: takes in presence, welcomes endpoints, asks those that return for what they owe.
//!
//! An endpoint that joins drops what lies in its queue until it is welcomed (see [`Command::Welcome`]), is
//! welcomed only after the ledger knows it as subscribed, and is then asked for all it owes. So a copy of a
//! task runs only where the ledger expects it, and what was missed meanwhile comes from the ledger and not
//! from an old queue. What the endpoint received under another memory is not asked of it: that memory may be
//! alive elsewhere, so the response fails as lost.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::broker::dead::DeadLetters;
use crate::broker::wire::{self, Heard};
use crate::broker::{Address, BrokerError, Link, Message, Sender, SharedBroker, Source};
use crate::clock::{self, Clock};
use crate::collector::{Batches, Sink, Unproven};
use crate::config::Config;
use crate::domain::likeness::listed;
use crate::domain::{
    Command, EndpointName, Presence, PresenceState, ReasonCode, Report, ReportEvent, Task, TaskId, TaskType,
    WireVersion,
};
use crate::ledger::Ledger;
use crate::publisher::{Ask, Publisher, Stop};
use crate::sealing::{Draft, Sealer};
use crate::service::Running;
use crate::store::{Missed, Owed, Seen, SharedStore, StoreError};
use crate::telemetry::{Distrust, SharedMetrics};

/// Tasks asked for in one go of an endpoint that returned.
const OWED_PAGE: u32 = 100;
/// Endpoints welcomed at the same time: each costs a query or two.
const WELCOMES: usize = 8;
/// Presence messages a second that an API process shall have to take in, whatever the size of the fleet.
const MESSAGES_PER_SECOND: u64 = 100;
/// The longest interval asked of endpoints.
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
/// How often overdue subscriptions are looked for.
const MISS_EVERY: Duration = Duration::from_secs(1);

/// The presence loop.
pub struct PresenceWatch {
    config: Arc<Config>,
    store: SharedStore,
    ledger: Ledger,
    broker: SharedBroker,
    sealer: Sealer,
    publisher: Arc<Publisher>,
    clock: Clock,
    metrics: SharedMetrics,
    /// The probe that was read last.
    probed: watch::Sender<Uuid>,
    /// The queues that were made for endpoints without a handler, and the session that last reported it.
    made: Mutex<HashMap<(TaskType, EndpointName), Uuid>>,
    told: Mutex<Told>,
}

impl PresenceWatch {
    /// A loop. Of the loops of several processes one reads presence, and the others stand by.
    #[expect(clippy::too_many_arguments, reason = "called once, with what it is made of")]
    pub fn new(
        config: Arc<Config>,
        store: SharedStore,
        ledger: Ledger,
        broker: SharedBroker,
        sealer: Sealer,
        publisher: Arc<Publisher>,
        clock: Clock,
        metrics: SharedMetrics,
    ) -> Self {
        Self {
            config,
            store,
            ledger,
            broker,
            sealer,
            publisher,
            clock,
            metrics,
            probed: watch::Sender::new(Uuid::nil()),
            made: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// Takes in presence until told to stop.
    ///
    /// # Errors
    /// When the broker is closed before it could start.
    pub fn run(self, stop: CancellationToken) -> Running<Result<(), BrokerError>> {
        Box::pin(async move {
            let (broker, store, metrics) = (self.broker.clone(), self.store.clone(), self.metrics.clone());
            let dead = DeadLetters::new(broker.clone(), "presence");
            let unproven = Unproven::new(self.config.security.reports);
            Batches { broker, store, metrics, from: Source::Presence, dead, unproven }.run(&self, &stop).await
        })
    }

    /// Marks subscriptions as gone, when this process can know it:
    /// - presence has been coming in without a break for as long as silence is allowed: after an outage of
    ///   ours every endpoint looks overdue;
    /// - all presence that the queue had at the judged time is written: this process reads the queue alone,
    ///   and its probe has come back. So a worker whose presence the broker has confirmed is never thought
    ///   gone before its lease ends, even if processes were frozen;
    /// - the probe came back within an interval: presence that is late here is late from every endpoint;
    /// - the database's clock was not set since all were heard of: times that were noted before are of
    ///   another clock.
    async fn miss_overdue(&self, link: watch::Receiver<Link>, stop: &CancellationToken) {
        let mut links = [link, self.broker.link()];
        let mut steps = self.clock.steps();
        let (mut since, mut silence, mut ticks) = (Instant::now(), None, tokio::time::interval(MISS_EVERY));
        // After a slow round the missed ones are not made up for.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let looked = async {
                let broken = links.iter_mut().fold(false, |broken, link| broken | is_broken(link));
                // Down, or read by another process.
                if broken {
                    (since, silence) = (Instant::now(), None);
                    return Ok(Missed::default());
                }
                let allowed = match silence {
                    Some(allowed) => allowed,
                    None => *silence.insert(self.interval().await? * 3),
                };
                // Read anew: another process may have noted times by a clock that has just been set.
                self.clock.set(self.store.now().await?);
                let now = self.clock.now();
                if !self.has_read_all_within(allowed / 3).await {
                    (since, silence) = (Instant::now(), None);
                }
                if has_stepped(&mut steps) {
                    // The others notice a little later.
                    (since, silence) = (Instant::now() + clock::READ_EVERY, None);
                }
                if since.elapsed() < allowed {
                    return Ok(Missed::default());
                }
                self.store.miss(now).await
            };
            match stop.run_until_cancelled(looked).await {
                None => return,
                Some(Ok(Missed { subscriptions: 0, .. })) => {}
                Some(Ok(Missed { subscriptions, endpoints })) => {
                    let names: Vec<&str> = endpoints.iter().map(EndpointName::as_str).collect();
                    self.ledger.touched().fleet().ring();
                    tracing::info!(subscriptions, endpoints = listed(&names), reason = %ReasonCode::EndpointGone, "endpoints missed three presence intervals");
                }
                Some(Err(error)) => {
                    error.log("cannot look for overdue endpoints");
                    (since, silence) = (Instant::now(), None);
                }
            }
        }
    }

    /// Whether all presence that lies in the queue now has been written, within this time.
    async fn has_read_all_within(&self, time: Duration) -> bool {
        let (id, mut probed) = (Uuid::new_v4(), self.probed.subscribe());
        let probe =
            Message { expires_in: Some(time), ..Message::new(Address::Presence, wire::encode_probe(id)) };
        let come_back = async {
            let sent = self.broker.publish(vec![probe]).await.iter().all(Result::is_ok);
            sent && probed.wait_for(|last| *last == id).await.is_ok()
        };
        tokio::time::timeout(time, come_back).await.unwrap_or(false)
    }

    /// The interval to ask of endpoints now.
    async fn interval(&self) -> Result<Duration, StoreError> {
        let types: Vec<TaskType> = self.config.task_types.iter().map(|policy| policy.name.clone()).collect();
        let subscribed = self.store.subscribed(&types).await?.values().map(Vec::len).sum();
        Ok(interval_for(subscribed, self.config.endpoint.presence_interval))
    }

    /// Welcomes an endpoint, then asks for what it owes. In this order: both go through its queue, and it
    /// drops what comes before the welcome.
    async fn welcome(&self, presence: Presence, interval: Duration) -> Result<(), StoreError> {
        // If the welcome does not go out, the endpoint says again that it has joined.
        self.send_welcome(&presence, interval).await;
        self.ask_owed(&presence).await
    }

    /// Returns whether the broker has confirmed all of it.
    async fn send_welcome(&self, presence: &Presence, interval: Duration) -> bool {
        let drafts = presence.task_types.iter().map(|task_type| {
            let to = Address::Named(task_type.clone(), vec![presence.endpoint.clone()]);
            let message = Message { expires_in: Some(LONGEST_INTERVAL), ..Message::new(to, Bytes::new()) };
            let command = Command::Welcome {
                session: presence.session,
                presence_interval: interval,
                reads: WireVersion::NEWEST,
                task_type: Some(task_type.clone()),
                revocations: self.sealer.revocations().cloned(),
            };
            Draft { command, version: presence.reads, message, answers: presence.sent_at }
        });
        let results = self.sealer.publish(drafts.collect()).await;
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            tracing::debug!(endpoint = %presence.endpoint, %error, "could not welcome");
        }
        results.iter().all(Result::is_ok)
    }

    /// Tells endpoints that were welcomed with an older list than this process has which keys are revoked: each
    /// session once, since an endpoint that trusts another root key never takes the list. Processes that are
    /// fenced off are left out: the list comes in a welcome, which would let them in.
    async fn tell_revocations(&self, presences: &[Presence], fenced: &[Presence]) -> Result<(), StoreError> {
        let Some(serial) = self.sealer.revocations().map(|revocations| revocations.serial) else {
            return Ok(());
        };
        let behind = self.told().behind(presences, fenced, serial);
        if behind.is_empty() {
            return Ok(());
        }
        let interval = self.interval().await?;
        tracing::info!(endpoints = behind.len(), serial, "telling endpoints which keys are revoked");
        futures::stream::iter(behind.into_values())
            .for_each_concurrent(WELCOMES, async |presence| {
                if self.send_welcome(presence, interval).await {
                    self.told().note(presence);
                }
            })
            .await;
        Ok(())
    }

    async fn ask_owed(&self, presence: &Presence) -> Result<(), StoreError> {
        let endpoint = &presence.endpoint;
        let mut after: Option<TaskId> = None;
        loop {
            let owed = self.store.owed_by(endpoint, &presence.task_types, after, OWED_PAGE).await?;
            let Some(last) = owed.last() else { return Ok(()) };
            after = Some(last.task.id);
            let (mut asks, mut stops, mut withdrawals, mut lost) =
                (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for Owed { task, row } in owed {
                let endpoints = vec![endpoint.clone()];
                match row.home {
                    _ if task.status.is_final() => {
                        stops.push(Stop { task_type: task.task_type, task_id: task.id, endpoints })
                    }
                    None if row.withdrawn => {
                        withdrawals.push(Stop { task_type: task.task_type, task_id: task.id, endpoints })
                    }
                    Some(home) if home != presence.home => lost.push(replaced(&task, presence, home)),
                    home => asks.push(Ask { task: task.into(), endpoints, received: home.is_some() }),
                }
            }
            if !asks.is_empty() {
                tracing::info!(%endpoint, tasks = asks.len(), "asking an endpoint that returned for what it owes");
                self.publisher.ask(&asks, |_| "returned").await;
            }
            if !stops.is_empty() {
                self.publisher.stop(stops).await;
            }
            if !withdrawals.is_empty() {
                self.publisher.withdraw(withdrawals).await;
            }
            if !lost.is_empty() {
                tracing::warn!(%endpoint, tasks = lost.len(), reason = %ReasonCode::JournalGone, "an endpoint returned without its journal: what it had received is unknown");
                self.ledger.apply(&lost).await?;
            }
        }
    }
}

/// The sessions that were told which keys are revoked since they began.
#[derive(Debug, Default)]
struct Told(HashMap<EndpointName, Uuid>);

impl Told {
    /// The presences, by session, that still need the list with this number: alive, not fenced off, with an
    /// older list, and not yet told in this session.
    fn behind<'p>(
        &self,
        presences: &'p [Presence],
        fenced: &[Presence],
        serial: u64,
    ) -> BTreeMap<Uuid, &'p Presence> {
        let is_behind = |presence: &&Presence| {
            presence.state == PresenceState::Alive
                && !fenced.iter().any(|other| other.session == presence.session)
                && !presence.task_types.is_empty()
                && presence.revocations.is_some_and(|known| known < serial)
                && self.0.get(&presence.endpoint) != Some(&presence.session)
        };
        presences.iter().filter(is_behind).map(|presence| (presence.session, presence)).collect()
    }

    /// Notes that the broker has confirmed the list for this session. Until then, each presence of the session
    /// sends it again.
    fn note(&mut self, presence: &Presence) {
        remember(&mut self.0, presence.endpoint.clone(), presence.session);
    }
}

/// Entries of a memory of sessions at most. Names of endpoints come and go, as those of containers do; what is
/// forgotten is done once more, which changes nothing.
const REMEMBERED: usize = 100_000;

/// Notes a session.
fn remember<K: Eq + std::hash::Hash>(sessions: &mut HashMap<K, Uuid>, of: K, session: Uuid) {
    if sessions.len() >= REMEMBERED {
        sessions.clear();
    }
    sessions.insert(of, session);
}

/// What becomes of a response whose endpoint came back as another process, which does not know how far the
/// first one was.
fn replaced(task: &Task, presence: &Presence, home: Uuid) -> Report {
    let event =
        ReportEvent::lost("the endpoint that had received it was replaced by one that does not know of it");
    Report {
        task_id: task.id,
        task_type: task.task_type.clone(),
        endpoint: presence.endpoint.clone(),
        home,
        event,
    }
}

/// Whether the clock was set since this was asked last.
fn has_stepped(steps: &mut watch::Receiver<u64>) -> bool {
    let stepped = steps.has_changed().unwrap_or(false);
    steps.mark_unchanged();
    stepped
}

/// Whether a link is down, or was since this was asked last.
fn is_broken(link: &mut watch::Receiver<Link>) -> bool {
    let changed = link.has_changed().unwrap_or(false);
    let up = link.borrow_and_update().up;
    changed || !up
}

#[async_trait]
impl Sink for PresenceWatch {
    type Item = Heard;

    fn decode(&self, body: &[u8], sender: &Sender) -> Result<Heard, wire::WireError> {
        let mut heard = wire::decode_heard(body)?;
        if let Heard::Presence(presence) = &mut heard {
            presence.proven = sender.vouches_for(&presence.endpoint);
            presence.restricted = match sender {
                // A worker over HTTP has no queues at the broker, whatever its presence says.
                Sender::Api => false,
                Sender::Endpoint(_) => true,
                Sender::Unproven => presence.restricted,
            };
        }
        Ok(heard)
    }

    fn speaker<'a>(&self, heard: &'a Heard) -> Option<&'a EndpointName> {
        match heard {
            Heard::Presence(presence) => Some(&presence.endpoint),
            Heard::Probe(_) => None,
        }
    }

    async fn accompany(&self, link: watch::Receiver<Link>, deaf: &CancellationToken) {
        self.miss_overdue(link, deaf).await;
    }

    async fn write(&self, heard: &[Heard]) -> Result<(), StoreError> {
        let (mut presences, mut probe) = (Vec::with_capacity(heard.len()), None);
        for heard in heard {
            match heard {
                Heard::Presence(presence) => presences.push(presence.clone()),
                Heard::Probe(id) => probe = Some(*id),
            }
        }
        if !presences.is_empty() {
            self.see(&presences).await?;
        }
        if let Some(id) = probe {
            self.probed.send_replace(id);
        }
        Ok(())
    }
}

impl PresenceWatch {
    async fn see(&self, presences: &[Presence]) -> Result<(), StoreError> {
        let Seen { newcomers, fenced, left, barred } = self.store.see(presences, self.clock.now()).await?;
        for Presence { endpoint, refusals, .. } in presences {
            for (fault, count) in refusals {
                let count = u64::from(*count);
                self.metrics.seal_refusals.with_label_values(&[fault.as_str()]).inc_by(count);
                self.metrics.distrusted.add(Distrust::Message(*fault), endpoint, count);
            }
        }
        let unsigned = presences.iter().map(|presence| u64::from(presence.unsigned)).sum();
        self.metrics.unsigned.inc_by(unsigned);
        for Presence { endpoint, instance, .. } in &fenced {
            self.metrics.fenced.inc();
            tracing::warn!(%endpoint, %instance, reason = %ReasonCode::Fenced, "refused a second process of this name while the first may hold tasks");
        }
        if !newcomers.is_empty() || presences.iter().any(|presence| presence.state != PresenceState::Alive) {
            self.ledger.touched().fleet().ring();
        }
        self.dismiss(presences, &left).await;
        let newcomers = self.admit(presences, newcomers, &barred).await;
        self.tell_revocations(presences, &fenced).await?;
        if newcomers.is_empty() {
            return Ok(());
        }
        let (interval, workers) =
            (self.interval().await?, newcomers.iter().any(|presence| presence.slots.is_some()));
        let welcomes = newcomers.into_iter().map(|presence| self.welcome(presence, interval));
        let results: Vec<_> = futures::stream::iter(welcomes).buffer_unordered(WELCOMES).collect().await;
        if workers {
            self.ledger.bell().ring();
        }
        results.into_iter().collect()
    }

    /// Makes the queues of restricted endpoints that join, or that report missing queues. Returns the
    /// newcomers with those of their types that can be welcomed now; for the others the endpoint joins again.
    async fn admit(
        &self,
        presences: &[Presence],
        mut newcomers: Vec<Presence>,
        barred: &BTreeSet<(TaskType, EndpointName)>,
    ) -> Vec<Presence> {
        let wanted = self.wanted(presences, &newcomers, barred);
        if wanted.is_empty() {
            return newcomers;
        }
        let results = self.broker.admit(wanted.keys().cloned().collect()).await;
        let mut failed = BTreeSet::new();
        for (((task_type, endpoint), idle), result) in wanted.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    tracing::debug!(%task_type, %endpoint, "admitted");
                    if let Some(session) = idle {
                        remember(&mut self.made(), (task_type, endpoint), session);
                    }
                }
                Err(error) => {
                    tracing::warn!(%task_type, %endpoint, "cannot make the queue of endpoint `{endpoint}` for `{task_type}`; it is made when it asks again: {error}");
                    failed.insert((task_type, endpoint));
                }
            }
        }
        newcomers.retain_mut(|Presence { endpoint, task_types, .. }| {
            task_types.retain(|task_type| !failed.contains(&(task_type.clone(), endpoint.clone())));
            !task_types.is_empty()
        });
        newcomers
    }

    /// The subscriptions of restricted endpoints that need queues now: those of newcomers, and those that the
    /// broker refused. An endpoint without a handler says so with each presence, so it gets its queue once a
    /// session, and the session is returned with it. Types that are not configured need no queue, and nobody gets
    /// one that is barred.
    fn wanted(
        &self,
        presences: &[Presence],
        newcomers: &[Presence],
        barred: &BTreeSet<(TaskType, EndpointName)>,
    ) -> BTreeMap<(TaskType, EndpointName), Option<Uuid>> {
        let restricted =
            |presence: &&Presence| presence.restricted && presence.state != PresenceState::Leaving;
        let made = self.made();
        let lacking = presences.iter().filter(restricted).flat_map(|presence| {
            let lacking = presence.refused.iter().filter(|refused| !refused.held);
            lacking.map(|refused| {
                let idle = ReasonCode::of_trouble(&refused.reason) == ReasonCode::HandlerMissing;
                let subscription = (refused.task_type.clone(), presence.endpoint.clone());
                (subscription, idle.then_some(presence.session))
            })
        });
        let lacking = lacking.filter(|(subscription, idle)| {
            idle.is_none_or(|session| made.get(subscription) != Some(&session))
        });
        let joined =
            newcomers.iter().filter(restricted).flat_map(|Presence { endpoint, task_types, .. }| {
                task_types.iter().map(move |task_type| ((task_type.clone(), endpoint.clone()), None))
            });
        let is_configured =
            |(task_type, _): &(TaskType, EndpointName)| self.config.policy(task_type).is_some();
        let wanted = lacking.chain(joined);
        wanted
            .filter(|(subscription, _)| is_configured(subscription) && !barred.contains(subscription))
            .collect()
    }

    fn made(&self) -> MutexGuard<'_, HashMap<(TaskType, EndpointName), Uuid>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes restricted endpoints that have left out of the fanout. After an error, tasks to everybody still
    /// go to the queue, and the endpoint drops them when it is back.
    async fn dismiss(&self, presences: &[Presence], left: &BTreeSet<(TaskType, EndpointName)>) {
        let restricted: HashSet<&EndpointName> = presences
            .iter()
            .filter(|presence| presence.restricted)
            .map(|presence| &presence.endpoint)
            .collect();
        let left: Vec<_> =
            left.iter().filter(|(_, endpoint)| restricted.contains(endpoint)).cloned().collect();
        if !left.is_empty()
            && let Err(error) = self.broker.dismiss(left).await
        {
            tracing::warn!(%error, "cannot end the subscriptions of endpoints that have left: tasks to everybody wait in their queues");
        }
    }
}

/// The interval to ask of each of so many subscriptions: the configured one on small fleets, longer on large
/// ones.
fn interval_for(subscribed: usize, configured: Duration) -> Duration {
    let needed = Duration::from_secs(subscribed as u64 / MESSAGES_PER_SECOND);
    needed.clamp(configured.min(LONGEST_INTERVAL), LONGEST_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(name: &str, session: u128, revocations: Option<u64>) -> Presence {
        Presence {
            endpoint: name.parse().expect("a name"),
            instance: Uuid::from_u128(1),
            home: Uuid::from_u128(2),
            session: Uuid::from_u128(session),
            task_types: vec!["worker".parse().expect("a type")],
            refused: Vec::new(),
            state: PresenceState::Alive,
            interval: Duration::from_secs(1),
            sent_at: None,
            version: String::new(),
            trouble: None,
            slots: None,
            reads: WireVersion::NEWEST,
            labels: crate::domain::Labels::default(),
            restricted: false,
            refusals: BTreeMap::new(),
            unsigned: 0,
            revocations,
            proven: false,
        }
    }

    #[test]
    fn who_is_behind_is_told_until_the_broker_has_it() {
        let joined = Presence { state: PresenceState::Joined, ..alive("joined", 1, Some(4)) };
        let idle = Presence { task_types: Vec::new(), ..alive("idle", 2, Some(4)) };
        let fenced = alive("fenced", 3, Some(4));
        let (behind, level, plain) =
            (alive("behind", 4, Some(4)), alive("level", 5, Some(5)), alive("plain", 6, None));
        let presences = [&joined, &idle, &fenced, &behind, &level, &plain, &behind].map(Clone::clone);
        let mut told = Told::default();
        let sessions = |told: &Told, serial| {
            told.behind(&presences, std::slice::from_ref(&fenced), serial).into_keys().collect::<Vec<_>>()
        };
        // Nothing has got through, and it is asked again.
        for _ in 0..2 {
            assert_eq!(sessions(&told, 5), [behind.session]);
        }
        told.note(&behind);
        assert!(sessions(&told, 5).is_empty());
        let next = alive("behind", 7, Some(4));
        let again = told.behind(std::slice::from_ref(&next), &[], 5);
        assert_eq!(again.into_keys().collect::<Vec<_>>(), [next.session], "a session of its own");
    }

    #[test]
    fn the_interval_grows_with_the_fleet() {
        let configured = Duration::from_secs(10);
        for (subscribed, secs) in [(0, 10), (999, 10), (1_000, 10), (3_000, 30), (6_000, 60), (50_000, 60)] {
            assert_eq!(interval_for(subscribed, configured), Duration::from_secs(secs), "{subscribed}");
        }
    }
}
