//! Sends tasks to endpoints: freezes who is expected, publishes, notes the broker's confirm.
//!
//! Promise: a task is published only after its expected set is in the ledger, so whatever an endpoint answers
//! finds its row. Given up: order between tasks, and exactly-once publishing; endpoints recognise repeats by
//! the task id. A publish that fails is not retried here: the row stays due and the reconciler takes it up.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::broker::{About, Address, BrokerError, Message, SharedBroker};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::{
    AttemptError, Audience, Command, EndpointName, Expect, Identifier, Json, NewTask, ReasonCode, Task,
    TaskId, TaskMessage, TaskType, Timestamp, WireVersion, WorkPart,
};
use crate::ledger::Ledger;
use crate::sealing::{Draft, Sealer};
use crate::service::Running;
use crate::store::{Freeze, SharedStore, StoreError, Subscribers};
use crate::telemetry::SharedMetrics;
use crate::watch::Watch;

/// Tasks frozen and published together at most. Bounds the transaction; the database's work a task falls
/// little beyond it.
const BATCH: usize = 256;

/// What is needed to publish a task.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Our name for it.
    pub id: TaskId,
    /// Its type.
    pub task_type: TaskType,
    /// The customer's name for it.
    pub identifier: Identifier,
    /// The customer's data.
    pub payload: Json,
    /// The endpoints asked for; empty means whoever is subscribed.
    pub endpoints: Vec<EndpointName>,
    /// When it was accepted.
    pub start_time: Timestamp,
    /// When every expected endpoint should have received it.
    pub receive_by: Timestamp,
    /// When it is given up.
    pub expires_at: Timestamp,
    /// Attempts that were lost with a worker.
    pub attempts: Vec<AttemptError>,
}

/// A task on its way from the acceptor to the publisher.
#[derive(Debug)]
pub struct Handover {
    /// The task.
    pub task: Outgoing,
    /// The worker that has been given it.
    pub worker: Option<EndpointName>,
    /// Its share of the memory that such tasks may take, given back once it is published.
    pub room: OwnedSemaphorePermit,
}

/// A task to be sent again.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The task.
    pub task: Outgoing,
    /// To whom.
    pub endpoints: Vec<EndpointName>,
    /// Whether they have received it before, see [`TaskMessage::received`].
    pub received: bool,
}

/// A task to be stopped.
#[derive(Debug, Clone)]
pub struct Stop {
    /// Its type.
    pub task_type: TaskType,
    /// The task.
    pub task_id: TaskId,
    /// Where.
    pub endpoints: Vec<EndpointName>,
}

macro_rules! outgoing_from {
    ($row:ident, $attempts:expr) => {
        impl From<$row> for Outgoing {
            fn from(row: $row) -> Self {
                let attempts: fn(&$row) -> Vec<AttemptError> = $attempts;
                Self {
                    attempts: attempts(&row),
                    id: row.id,
                    task_type: row.task_type,
                    identifier: row.identifier,
                    payload: row.payload,
                    endpoints: row.endpoints,
                    start_time: row.start_time,
                    receive_by: row.receive_by,
                    expires_at: row.expires_at,
                }
            }
        }
    };
}
outgoing_from!(NewTask, |_| Vec::new());
outgoing_from!(Task, |task| task.queued.as_ref().map_or_else(Vec::new, |queued| queued.attempts.clone()));

impl Outgoing {
    /// What an endpoint is told.
    pub fn message(&self, received: bool, now: Timestamp) -> TaskMessage {
        TaskMessage {
            work: WorkPart {
                id: self.id,
                task_type: self.task_type.clone(),
                identifier: self.identifier.clone(),
                audience: Some(Audience::of(&self.endpoints)),
                not_after: Some(self.expires_at),
                payload: self.payload.clone(),
            },
            expires_in: self.expires_at.since(now),
            received,
            attempts: self.attempts.clone(),
        }
    }
}

/// Publishes tasks.
#[derive(Debug)]
pub struct Publisher {
    config: Arc<Config>,
    store: SharedStore,
    ledger: Ledger,
    broker: SharedBroker,
    sealer: Sealer,
    clock: Clock,
    metrics: SharedMetrics,
    /// Where those workers wait that fetch their tasks.
    desk: Watch<EndpointName>,
}

impl Publisher {
    /// A publisher for the types of this configuration.
    #[expect(clippy::too_many_arguments, reason = "called once, with what it is made of")]
    pub fn new(
        config: Arc<Config>,
        store: SharedStore,
        ledger: Ledger,
        broker: SharedBroker,
        sealer: Sealer,
        clock: Clock,
        metrics: SharedMetrics,
        desk: Watch<EndpointName>,
    ) -> Arc<Self> {
        Arc::new(Self { config, store, ledger, broker, sealer, clock, metrics, desk })
    }

    /// Publishes what the acceptor hands over, until it closes the channel.
    pub fn run(self: Arc<Self>, mut accepted: mpsc::Receiver<Handover>) -> Running {
        Box::pin(async move {
            let mut batch = Vec::with_capacity(BATCH);
            while accepted.recv_many(&mut batch, BATCH).await > 0 {
                let (mut tasks, mut given, mut rooms) =
                    (Vec::new(), Vec::new(), Vec::with_capacity(batch.len()));
                for Handover { task, worker, room } in batch.drain(..) {
                    match worker {
                        Some(worker) => given.push((task, worker)),
                        None => tasks.push(task),
                    }
                    rooms.push(room);
                }
                if !given.is_empty() {
                    self.give(given).await;
                }
                if !tasks.is_empty()
                    && let Err(error) = self.publish_new(&tasks).await
                {
                    tracing::warn!(tasks = tasks.len(), %error, reason = %ReasonCode::NotPublished, "could not publish; the reconciler takes over");
                }
                drop(rooms);
            }
        })
    }

    /// Freezes the expected sets of tasks that have none, and publishes those.
    ///
    /// # Errors
    /// When the store cannot be reached; the tasks are due again later.
    pub async fn publish_new(&self, tasks: &[Outgoing]) -> Result<(), StoreError> {
        let (sets, versions) = self.expected(tasks).await?;
        // Locks are taken in the order of ids, see `store`.
        let frozen = self.ledger.freeze(&sets).await?;
        crate::failpoint::PUBLISHER_FROZEN.reach();
        let frozen: HashSet<TaskId> = frozen.into_iter().collect();
        let sets = tasks.iter().zip(sets).zip(versions).filter(|((task, _), _)| frozen.contains(&task.id));
        self.send_new(sets.map(|((task, set), reads)| (task, set.expected, reads))).await
    }

    /// Publishes tasks for named endpoints whose expected sets were frozen when they were recorded.
    ///
    /// # Errors
    /// As [`Self::publish_new`].
    pub async fn publish_frozen(&self, tasks: &[Outgoing]) -> Result<(), StoreError> {
        let readers = self.readers(tasks.iter().map(|task| (&task.task_type, &task.endpoints[..]))).await;
        let sets = tasks
            .iter()
            .map(|task| (task, task.endpoints.clone(), readers.read(&task.task_type, &task.endpoints)));
        self.send_new(sets).await
    }

    /// Sends tasks for the first time, each to its expected endpoints.
    async fn send_new<'a>(
        &self,
        sets: impl Iterator<Item = (&'a Outgoing, Vec<EndpointName>, WireVersion)>,
    ) -> Result<(), StoreError> {
        let (mut confirmed, mut sending, mut drafts) = (Vec::new(), Vec::new(), Vec::new());
        for (task, expected, reads) in sets {
            // Nobody to send to: it is as sent as it can be, and INCOMPLETE at its deadline.
            if expected.is_empty() {
                confirmed.push(task.id);
                continue;
            }
            let to = match task.endpoints.is_empty() {
                true => Address::All(task.task_type.clone()),
                false => Address::Named(task.task_type.clone(), expected),
            };
            drafts.push(self.draft(task, false, to, reads));
            sending.push(task);
        }
        let results = self.sealer.publish(drafts).await;
        crate::failpoint::PUBLISHER_CONFIRMED.reach();
        let sent = self.confirmed(&sending, &results);
        confirmed.extend(sending.iter().zip(sent).filter(|(_, sent)| *sent).map(|(task, _)| task.id));
        self.ledger.mark_published(&confirmed).await?;
        Ok(())
    }

    /// Sends tasks to the workers that have been given them.
    pub async fn give(&self, given: Vec<(Outgoing, EndpointName)>) {
        self.metrics.given.inc_by(given.len() as u64);
        let ask = |(task, worker)| Ask { task, endpoints: vec![worker], received: false };
        let asks: Vec<Ask> = given.into_iter().map(ask).collect();
        self.send(&asks).await;
        self.desk.wake(asks.iter().flat_map(|ask| &ask.endpoints));
    }

    /// Sends tasks again to just these endpoints, and counts what went out by the reason. Answers the tasks
    /// with a message that the broker did not confirm.
    pub async fn ask(&self, asks: &[Ask], reason: impl Fn(&Ask) -> &'static str) -> HashSet<TaskId> {
        let mut failed = HashSet::new();
        for (ask, sent) in asks.iter().zip(self.send(asks).await) {
            match sent {
                true => self.metrics.asks.with_label_values(&[reason(ask)]).inc(),
                false => drop(failed.insert(ask.task.id)),
            }
        }
        failed
    }

    /// Sends tasks to just these endpoints; answers whether the broker confirmed each.
    async fn send(&self, asks: &[Ask]) -> Vec<bool> {
        let readers = self.readers(asks.iter().map(|ask| (&ask.task.task_type, &ask.endpoints[..]))).await;
        let draft = |ask: &Ask| {
            let to = Address::Named(ask.task.task_type.clone(), ask.endpoints.clone());
            self.draft(&ask.task, ask.received, to, readers.read(&ask.task.task_type, &ask.endpoints))
        };
        let results = self.sealer.publish(asks.iter().map(draft).collect()).await;
        let tasks: Vec<&Outgoing> = asks.iter().map(|ask| &ask.task).collect();
        self.confirmed(&tasks, &results).collect()
    }

    /// Whether anything can be published now.
    pub fn is_connected(&self) -> bool {
        self.broker.link().borrow().up
    }

    /// Tells endpoints to stop a task that was canceled, past all that waits in their queues. Lost for those
    /// that are not connected: they are told when they return, or when they report. Answers the tasks whose
    /// message the broker did not confirm.
    pub async fn stop(&self, stops: Vec<Stop>) -> HashSet<TaskId> {
        let cancel = |task_id| Command::Cancel { task_id };
        self.command(stops, "to stop a canceled task", cancel, |_| WireVersion::One).await
    }

    /// Tells endpoints not to start tasks that were taken back, past all that waits in their queues. Lost for
    /// those that are not connected: they are told when they return. Those of a version that does not know
    /// withdrawals are not told. Answers the tasks whose message the broker did not confirm.
    pub async fn withdraw(&self, mut withdrawals: Vec<Stop>) -> HashSet<TaskId> {
        let readers =
            self.readers(withdrawals.iter().map(|stop| (&stop.task_type, &stop.endpoints[..]))).await;
        for Stop { task_type, endpoints, .. } in &mut withdrawals {
            endpoints.retain(|endpoint| readers.of(task_type, endpoint) >= WireVersion::Three);
        }
        withdrawals.retain(|stop| !stop.endpoints.is_empty());
        let withdraw = |task_id| Command::Withdraw { task_id };
        let reads = |stop: &Stop| readers.read(&stop.task_type, &stop.endpoints);
        self.command(withdrawals, "not to start a task that was taken back", withdraw, reads).await
    }

    /// Tells endpoints something about a task of theirs; `what` says it for people, and `reads` what they all
    /// read. Answers the tasks whose message the broker did not confirm.
    async fn command(
        &self,
        stops: Vec<Stop>,
        what: &str,
        command: impl Fn(TaskId) -> Command,
        reads: impl Fn(&Stop) -> WireVersion,
    ) -> HashSet<TaskId> {
        let draft = |stop: &Stop| {
            let to = Address::Control(stop.task_type.clone(), stop.endpoints.clone());
            let message = Message::new(to, Bytes::new());
            Draft { command: command(stop.task_id), version: reads(stop), message, answers: None }
        };
        let results = self.sealer.publish(stops.iter().map(draft).collect()).await;
        let mut failed = HashSet::new();
        for (Stop { task_id, endpoints, .. }, told) in stops.iter().zip(results) {
            match told {
                Ok(()) => {
                    tracing::info!(task = %task_id, endpoints = endpoints.len(), "told endpoints {what}")
                }
                Err(error) => {
                    tracing::warn!(task = %task_id, endpoints = endpoints.len(), %error, "cannot tell endpoints {what}");
                    failed.insert(*task_id);
                }
            }
        }
        failed
    }

    /// Whom each task is expected of, and the version that all of them read.
    async fn expected(&self, tasks: &[Outgoing]) -> Result<(Vec<Freeze>, Vec<WireVersion>), StoreError> {
        let open: BTreeSet<&TaskType> =
            tasks.iter().filter(|task| task.endpoints.is_empty()).map(|task| &task.task_type).collect();
        let known = |task_type: &TaskType| {
            self.config.policy(task_type).is_some_and(|policy| policy.expect == Expect::Known)
        };
        let (known, subscribed): (Vec<TaskType>, Vec<TaskType>) = open.into_iter().cloned().partition(known);
        let mut subscribers = HashMap::new();
        for (task_types, expect) in [(subscribed, Expect::Subscribed), (known, Expect::Known)] {
            if !task_types.is_empty() {
                subscribers.extend(self.store.subscribers(&task_types, expect).await?);
            }
        }
        let readers = self.readers(tasks.iter().map(|task| (&task.task_type, &task.endpoints[..]))).await;
        let who = |task: &Outgoing| match (task.endpoints.is_empty(), subscribers.get(&task.task_type)) {
            (true, Some(Subscribers { names, read })) => (names.clone(), *read),
            _ => (task.endpoints.clone(), readers.read(&task.task_type, &task.endpoints)),
        };
        let set = |task: &Outgoing| {
            let (expected, reads) = who(task);
            (Freeze { id: task.id, expected }, reads)
        };
        Ok(tasks.iter().map(set).unzip())
    }

    /// What these endpoints read. When the ledger does not say, it is as if that was version 1, which everybody
    /// reads.
    async fn readers<'a>(&self, named: impl Iterator<Item = (&'a TaskType, &'a [EndpointName])>) -> Readers {
        let names: BTreeSet<EndpointName> = named.flat_map(|(_, names)| names).cloned().collect();
        if names.is_empty() {
            return Readers::default();
        }
        Readers(self.store.readers(names).await.unwrap_or_default())
    }

    fn draft(&self, task: &Outgoing, received: bool, to: Address, reads: WireVersion) -> Draft {
        let command = Command::Task(task.message(received, self.clock.now()));
        let policy = self.config.policy(&task.task_type);
        let attempt = u32::try_from(task.attempts.len()).unwrap_or(u32::MAX).saturating_add(1);
        let message = Message {
            to,
            body: Bytes::new(),
            persistent: policy.is_some_and(|policy| policy.persistent),
            // The copy of an endpoint that does not take it soon is of no use: the ledger asks again when it
            // is back.
            expires_in: policy.map(|policy| policy.wait_for_endpoints_timeout),
            reads,
            about: About::Task { id: task.id, asked: Some((task.task_type.clone(), attempt)) },
        };
        Draft { command, version: reads, message, answers: None }
    }

    fn confirmed<'a>(
        &self,
        tasks: &'a [&Outgoing],
        results: &'a [Result<(), BrokerError>],
    ) -> impl Iterator<Item = bool> + use<'a> {
        let now = self.clock.now();
        for (task, result) in tasks.iter().zip(results) {
            let label = if result.is_ok() { "confirmed" } else { "failed" };
            self.metrics.publishes.with_label_values(&[task.task_type.as_str(), label]).inc();
            match result {
                Ok(()) => self.metrics.publish_seconds.observe(now.since(task.start_time).as_secs_f64()),
                Err(error) => {
                    tracing::debug!(task = %task.id, %error, reason = %ReasonCode::NotPublished, "not published")
                }
            }
        }
        results.iter().map(Result::is_ok)
    }
}

/// What the processes of subscriptions read.
#[derive(Debug, Default)]
struct Readers(HashMap<(TaskType, EndpointName), WireVersion>);

impl Readers {
    /// The newest version that all these endpoints read.
    fn read(&self, task_type: &TaskType, endpoints: &[EndpointName]) -> WireVersion {
        endpoints.iter().map(|endpoint| self.of(task_type, endpoint)).min().unwrap_or_default()
    }

    /// What one of them reads.
    fn of(&self, task_type: &TaskType, endpoint: &EndpointName) -> WireVersion {
        self.0.get(&(task_type.clone(), endpoint.clone())).copied().unwrap_or_default()
    }
}
