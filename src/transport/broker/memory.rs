//! The broker inside this process.
//!
//! Owns queues in memory with the semantics the RabbitMQ topology has: fanout and named delivery, control
//! past the queue, one consumer for each task queue, redelivery of what was not acknowledged. Used by
//! `tasker up` and by tests, each with one API process: consumers of presence would share it.
//!
//! Promises what the trait promises, for as long as the process lives; nothing is on disk. Bounded: a task or
//! presence queue over its limit drops its oldest messages (the ledger asks again), a full response queue
//! makes publishers wait.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};

use super::parcels::{self, Parcels};
use super::{
    Acker, Address, Broker, BrokerError, Consumer, Delivery, Link, Message, Origin, Refusal, Refusals,
    Sender, SharedBroker, Source,
};
use crate::domain::{EndpointName, TaskType};

/// Bytes that a queue holds at most. Bodies are shared between queues, so a fanout counts them often but
/// holds them once.
const QUEUE_BYTES: usize = 64 << 20;
/// Messages that a queue holds at most; the bound that counts for small ones.
const QUEUE_MESSAGES: usize = 100_000;
/// Control messages that wait for one consumer at most, and dead ones that are kept for people to look at.
const SIDE_MESSAGES: usize = 1_000;

/// An in-process broker. Clones are the same broker; each [`Self::connect`] is a process's own connection to
/// it.
#[derive(Clone, Default)]
pub struct MemoryBroker {
    shared: Arc<Shared>,
}

impl MemoryBroker {
    /// An empty broker.
    pub fn new() -> Self {
        Self::default()
    }

    /// A connection, as one process has it: closing it ends its consumers and nobody else's.
    pub fn connect(&self) -> SharedBroker {
        let mut state = self.shared.state();
        let id = state.next_id();
        let link =
            watch::Sender::new(Link { up: !state.down, epoch: u64::from(!state.down), restricted: false });
        state.connections.insert(id, link);
        Arc::new(Connection { id, shared: Arc::clone(&self.shared) })
    }

    /// Cuts all connections until [`Self::restore`]: deliveries that are not acknowledged come again,
    /// publishes are refused.
    pub fn cut(&self) {
        let mut state = self.shared.state();
        state.down = true;
        let ids: Vec<u64> = state.consumers.keys().copied().collect();
        for id in ids {
            state.detach(id);
        }
        for link in state.connections.values() {
            link.send_modify(|link| link.up = false);
        }
        // Those that wait for room must learn that the link is gone.
        self.shared.room.notify_waiters();
    }

    /// Ends what [`Self::cut`] began.
    pub fn restore(&self) {
        let mut state = self.shared.state();
        if !std::mem::take(&mut state.down) {
            return;
        }
        for link in state.connections.values() {
            link.send_modify(|link| *link = link.renewed());
        }
        let mut ids: Vec<u64> = state.consumers.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            state.attach(id);
        }
    }

    /// Waits until all that endpoints have said - reports and presence - has been taken in and acknowledged.
    /// Polled: only a stop waits for it, and every acknowledgement would have to tell.
    pub async fn until_taken_in(&self) {
        while !self.shared.state().is_taken_in() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The dead messages with their reasons, oldest first.
    pub fn dead(&self) -> Vec<(String, Bytes)> {
        self.shared.state().dead.iter().cloned().collect()
    }
}

impl std::fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryBroker")
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Told whenever the response queue shrinks.
    room: Notify,
}

impl Shared {
    /// Nothing under this lock can panic half-way, so a poisoned state is still whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct State {
    ids: u64,
    down: bool,
    connections: HashMap<u64, watch::Sender<Link>>,
    queues: HashMap<QueueName, Queue>,
    fanout: HashMap<TaskType, BTreeSet<EndpointName>>,
    consumers: HashMap<u64, Reader>,
    dead: VecDeque<(String, Bytes)>,
}

impl State {
    /// Whether no word of an endpoint waits for the API, in a queue or on its way.
    fn is_taken_in(&self) -> bool {
        let of_api = |name: &QueueName| matches!(name, QueueName::Responses | QueueName::Presence);
        let waits = |(name, queue): (&QueueName, &Queue)| of_api(name) && !queue.messages.is_empty();
        let held =
            |reader: &Reader| reader.queues.iter().any(|queue| of_api(&queue.name) && queue.outstanding > 0);
        !self.queues.iter().any(waits) && !self.consumers.values().any(held)
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum QueueName {
    Tasks(TaskType, EndpointName),
    Responses,
    Presence,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Stored>,
    bytes: usize,
    /// Who may take from it, with the queue's place in the reader's list. At most one for tasks.
    readers: Vec<(u64, usize)>,
    /// Who waits for a task queue to be free, in order.
    waiting: VecDeque<u64>,
}

struct Stored {
    body: Bytes,
    expires_at: Option<Instant>,
    redelivered: bool,
    by_name: bool,
}

impl Queue {
    fn is_full(&self) -> bool {
        self.bytes >= QUEUE_BYTES || self.messages.len() >= QUEUE_MESSAGES
    }

    fn push(&mut self, message: Stored) {
        self.bytes += message.body.len();
        self.messages.push_back(message);
    }

    fn push_front(&mut self, message: Stored) {
        self.bytes += message.body.len();
        self.messages.push_front(message);
    }

    /// The oldest message that is still worth something.
    fn pop(&mut self, now: Instant) -> Option<Stored> {
        while let Some(message) = self.messages.pop_front() {
            self.bytes -= message.body.len();
            if message.expires_at.is_none_or(|at| at > now) {
                return Some(message);
            }
        }
        None
    }
}

/// One consumer as the broker sees it.
struct Reader {
    connection: u64,
    prefetch: u16,
    queues: Vec<Attached>,
    /// Places in `queues` that may have something to take: round robin, so that one busy queue does not
    /// starve the others.
    ready: VecDeque<usize>,
    control: VecDeque<(Origin, Bytes)>,
    unacked: VecDeque<Unacked>,
    next_tag: u64,
    /// Grows when its messages go back to their queues: older ackers are stale.
    generation: u64,
    link: watch::Sender<Link>,
    refused: watch::Sender<Refusals>,
    wake: Arc<Notify>,
}

struct Attached {
    name: QueueName,
    attached: bool,
    ready: bool,
    outstanding: u16,
}

struct Unacked {
    tag: u64,
    place: usize,
    message: Stored,
}

impl Reader {
    fn mark_ready(&mut self, place: usize) {
        if !std::mem::replace(&mut self.queues[place].ready, true) {
            self.ready.push_back(place);
        }
        self.wake.notify_one();
    }
}

impl State {
    fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    fn enqueue(&mut self, name: &QueueName, message: Stored) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        while queue.is_full() && *name != QueueName::Responses {
            match queue.messages.pop_front() {
                Some(oldest) => queue.bytes -= oldest.body.len(),
                None => break,
            }
        }
        queue.push(message);
        for &(reader, place) in &queue.readers {
            if let Some(reader) = self.consumers.get_mut(&reader) {
                reader.mark_ready(place);
            }
        }
    }

    /// Gives a reader its queues, as far as they are free, and says so on its link.
    fn attach(&mut self, id: u64) {
        let Some(reader) = self.consumers.get_mut(&id) else { return };
        if self.down {
            return;
        }
        for place in 0..reader.queues.len() {
            if reader.queues[place].attached {
                continue;
            }
            let queue = self.queues.entry(reader.queues[place].name.clone()).or_default();
            if matches!(reader.queues[place].name, QueueName::Tasks(..)) && !queue.readers.is_empty() {
                if !queue.waiting.contains(&id) {
                    queue.waiting.push_back(id);
                }
                continue;
            }
            queue.readers.push((id, place));
            reader.queues[place].attached = true;
            reader.mark_ready(place);
        }
        let held = Refusal { held: true, reason: "another process consumes the queue".to_owned() };
        let refused =
            reader.queues.iter().filter(|queue| !queue.attached).filter_map(|queue| match &queue.name {
                QueueName::Tasks(task_type, endpoint) => {
                    Some(((task_type.clone(), endpoint.clone()), held.clone()))
                }
                QueueName::Responses | QueueName::Presence => None,
            });
        reader.refused.send_replace(refused.collect());
        if !reader.link.borrow().up {
            reader.link.send_modify(|link| *link = link.renewed());
        }
    }

    /// Takes all queues from a reader, puts back what it has not acknowledged, in order, and lets others have
    /// the queues.
    fn detach(&mut self, id: u64) {
        let Some(reader) = self.consumers.get_mut(&id) else { return };
        reader.link.send_modify(|link| link.up = false);
        reader.generation += 1;
        reader.control.clear();
        reader.ready.clear();
        for Unacked { place, message, .. } in reader.unacked.drain(..).rev() {
            if let Some(queue) = self.queues.get_mut(&reader.queues[place].name) {
                queue.push_front(Stored { redelivered: true, ..message });
            }
        }
        let mut wake = Vec::new();
        let mut heirs = Vec::new();
        for attached in &mut reader.queues {
            attached.outstanding = 0;
            attached.ready = false;
            let Some(queue) = self.queues.get_mut(&attached.name) else { continue };
            queue.waiting.retain(|&waiting| waiting != id);
            if std::mem::take(&mut attached.attached) {
                queue.readers.retain(|&(reader, _)| reader != id);
                heirs.extend(queue.waiting.pop_front().map(|heir| (heir, attached.name.clone())));
                wake.extend(queue.readers.iter().copied());
            }
        }
        for (reader, place) in wake {
            if let Some(reader) = self.consumers.get_mut(&reader) {
                reader.mark_ready(place);
            }
        }
        for (heir, name) in heirs {
            self.attach(heir);
            // The one before may have left the fanout.
            if let QueueName::Tasks(task_type, endpoint) = name {
                self.fanout.entry(task_type).or_default().insert(endpoint);
            }
        }
    }

    /// The next delivery for a reader, with its tag. Control goes first: it is meant to overtake.
    fn take(&mut self, id: u64, now: Instant) -> Option<(Origin, Stored, u64)> {
        let reader = self.consumers.get_mut(&id)?;
        if let Some((origin, body)) = reader.control.pop_front() {
            let message = Stored { body, expires_at: None, redelivered: false, by_name: true };
            return Some((origin, message, reader.next_tag.saturating_sub(1)));
        }
        while let Some(place) = reader.ready.pop_front() {
            let attached = &mut reader.queues[place];
            attached.ready = false;
            if attached.outstanding >= reader.prefetch {
                continue;
            }
            let Some(message) = self.queues.get_mut(&attached.name).and_then(|queue| queue.pop(now)) else {
                continue;
            };
            attached.outstanding += 1;
            let origin = match &attached.name {
                QueueName::Tasks(task_type, endpoint) if message.by_name => {
                    Origin::Named(task_type.clone(), endpoint.clone())
                }
                QueueName::Tasks(task_type, endpoint) => Origin::All(task_type.clone(), endpoint.clone()),
                QueueName::Responses => Origin::Responses,
                QueueName::Presence => Origin::Presence,
            };
            let tag = reader.next_tag;
            reader.next_tag += 1;
            let copy = Stored { body: message.body.clone(), ..message };
            reader.unacked.push_back(Unacked { tag, place, message });
            reader.mark_ready(place);
            return Some((origin, copy, tag));
        }
        None
    }
}

#[derive(Clone)]
struct Connection {
    id: u64,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("memory::Connection").field("id", &self.id).finish()
    }
}

impl Connection {
    /// Places a message; `None` when it has to wait for room.
    fn place(&self, message: &Message) -> Option<Result<(), BrokerError>> {
        let mut state = self.shared.state();
        if !state.connections.contains_key(&self.id) {
            return Some(Err(BrokerError::Closed));
        }
        if state.down {
            return Some(Err(BrokerError::Disconnected { safe_url: "memory:".into() }));
        }
        let stored = |by_name| Stored {
            body: message.body.clone(),
            expires_at: message.expires_in.and_then(|span| Instant::now().checked_add(span)),
            redelivered: false,
            by_name,
        };
        match &message.to {
            Address::All(task_type) => {
                let names: Vec<_> = state.fanout.get(task_type).into_iter().flatten().cloned().collect();
                for name in names {
                    state.enqueue(&QueueName::Tasks(task_type.clone(), name), stored(false));
                }
            }
            Address::Named(task_type, names) => {
                // A name that is given twice gets one copy, as from an exchange.
                for name in names.iter().collect::<BTreeSet<_>>() {
                    state.enqueue(&QueueName::Tasks(task_type.clone(), name.clone()), stored(true));
                }
            }
            Address::Control(task_type, names) => {
                let State { queues, consumers, .. } = &mut *state;
                for name in names.iter().collect::<BTreeSet<_>>() {
                    let Some(queue) = queues.get(&QueueName::Tasks(task_type.clone(), name.clone())) else {
                        continue;
                    };
                    for (reader, _) in &queue.readers {
                        let Some(reader) = consumers.get_mut(reader) else { continue };
                        if reader.control.len() == SIDE_MESSAGES {
                            reader.control.pop_front();
                        }
                        reader.control.push_back((
                            Origin::Control(task_type.clone(), name.clone()),
                            message.body.clone(),
                        ));
                        reader.wake.notify_one();
                    }
                }
            }
            Address::Responses => {
                if state.queues.entry(QueueName::Responses).or_default().is_full() {
                    return None;
                }
                state.enqueue(&QueueName::Responses, stored(false));
            }
            Address::Presence => {
                state.queues.entry(QueueName::Presence).or_default();
                state.enqueue(&QueueName::Presence, stored(false));
            }
            Address::Dead { reason } => {
                if state.dead.len() == SIDE_MESSAGES {
                    state.dead.pop_front();
                }
                state.dead.push_back((reason.clone(), message.body.clone()));
            }
        }
        Some(Ok(()))
    }

    /// Hands a reader's messages over until its consumer is dropped or the connection closed.
    async fn feed(self, id: u64, wake: Arc<Notify>, deliveries: mpsc::Sender<Delivery>) {
        loop {
            // The permit first: a message that is taken has a place to go.
            let Ok(permit) = deliveries.reserve().await else { break };
            let taken = {
                let mut state = self.shared.state();
                if !state.consumers.contains_key(&id) {
                    return;
                }
                let taken = state.take(id, Instant::now());
                let generation = state.consumers.get(&id).map_or(0, |reader| reader.generation);
                taken.map(|taken| (taken, generation))
            };
            match taken {
                Some(((origin, message, tag), generation)) => {
                    if origin == Origin::Responses {
                        self.shared.room.notify_waiters();
                    }
                    let acker = Box::new(MemoryAcker {
                        shared: Arc::clone(&self.shared),
                        reader: id,
                        tag,
                        generation,
                    });
                    permit.send(Delivery {
                        origin,
                        sender: Sender::Api,
                        body: message.body,
                        redelivered: message.redelivered,
                        acker,
                    });
                }
                None => {
                    drop(permit);
                    tokio::select! {
                        () = wake.notified() => {}
                        () = deliveries.closed() => break,
                    }
                }
            }
        }
        let mut state = self.shared.state();
        state.detach(id);
        state.consumers.remove(&id);
    }
}

#[async_trait]
impl Broker for Connection {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), BrokerError>> {
        let Parcels { messages, places } = Parcels::of(messages);
        let mut results = Vec::with_capacity(messages.len());
        for message in &messages {
            let result = loop {
                // Armed before the look, so that room made in between is not missed.
                let room = self.shared.room.notified();
                if let Some(result) = self.place(message) {
                    break result;
                }
                room.await;
            };
            results.push(result);
        }
        parcels::results(&places, &results)
    }

    async fn consume(&self, source: Source, prefetch: u16) -> Result<Consumer, BrokerError> {
        let names: Vec<QueueName> = match source {
            Source::Tasks(names) => {
                let names: BTreeSet<_> = names.into_iter().collect();
                names.into_iter().map(|(task_type, name)| QueueName::Tasks(task_type, name)).collect()
            }
            Source::Responses => vec![QueueName::Responses],
            Source::Presence => vec![QueueName::Presence],
        };
        let (deliveries, receiver) = mpsc::channel(usize::from(prefetch.max(1)));
        let wake = Arc::new(Notify::new());
        let (link, link_receiver) = watch::channel(Link::default());
        let (refused, refusals) = watch::channel(Refusals::new());
        let id = {
            let mut state = self.shared.state();
            if !state.connections.contains_key(&self.id) {
                return Err(BrokerError::Closed);
            }
            for name in &names {
                state.queues.entry(name.clone()).or_default();
                if let QueueName::Tasks(task_type, endpoint) = name {
                    state.fanout.entry(task_type.clone()).or_default().insert(endpoint.clone());
                }
            }
            let queues = names
                .into_iter()
                .map(|name| Attached { name, attached: false, ready: false, outstanding: 0 })
                .collect();
            let id = state.next_id();
            let reader = Reader {
                connection: self.id,
                prefetch: prefetch.max(1),
                queues,
                ready: VecDeque::new(),
                control: VecDeque::new(),
                unacked: VecDeque::new(),
                next_tag: 1,
                generation: 0,
                link,
                refused,
                wake: Arc::clone(&wake),
            };
            state.consumers.insert(id, reader);
            state.attach(id);
            id
        };
        tokio::spawn(self.clone().feed(id, wake, deliveries));
        Ok(Consumer { deliveries: receiver, link: link_receiver, refused: refusals })
    }

    async fn admit(&self, subscriptions: Vec<(TaskType, EndpointName)>) -> Vec<Result<(), BrokerError>> {
        // Consuming a queue makes it.
        vec![Ok(()); subscriptions.len()]
    }

    async fn dismiss(&self, subscriptions: Vec<(TaskType, EndpointName)>) -> Result<(), BrokerError> {
        let mut state = self.shared.state();
        for (task_type, name) in subscriptions {
            if let Some(names) = state.fanout.get_mut(&task_type) {
                names.remove(&name);
            }
        }
        Ok(())
    }

    fn link(&self) -> watch::Receiver<Link> {
        let state = self.shared.state();
        state
            .connections
            .get(&self.id)
            .map_or_else(|| watch::Sender::new(Link::default()).subscribe(), watch::Sender::subscribe)
    }

    async fn close(&self) {
        let mut state = self.shared.state();
        let Some(link) = state.connections.remove(&self.id) else { return };
        link.send_modify(|link| link.up = false);
        let ids: Vec<u64> = state
            .consumers
            .iter()
            .filter(|(_, reader)| reader.connection == self.id)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            state.detach(id);
            if let Some(reader) = state.consumers.remove(&id) {
                reader.wake.notify_one();
            }
        }
        self.shared.room.notify_waiters();
    }
}

struct MemoryAcker {
    shared: Arc<Shared>,
    reader: u64,
    tag: u64,
    generation: u64,
}

impl std::fmt::Debug for MemoryAcker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryAcker").field("reader", &self.reader).field("tag", &self.tag).finish()
    }
}

#[async_trait]
impl Acker for MemoryAcker {
    async fn ack_through(&self) {
        let mut state = self.shared.state();
        let State { queues, consumers, .. } = &mut *state;
        let Some(reader) = consumers.get_mut(&self.reader) else { return };
        if reader.generation != self.generation {
            return;
        }
        while reader.unacked.front().is_some_and(|unacked| unacked.tag <= self.tag) {
            let Some(Unacked { place, .. }) = reader.unacked.pop_front() else { break };
            reader.queues[place].outstanding -= 1;
            if queues.get(&reader.queues[place].name).is_some_and(|queue| !queue.messages.is_empty()) {
                reader.mark_ready(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn message(to: Address) -> Message {
        Message::new(to, Bytes::from_static(b"body"))
    }

    fn subscription() -> (TaskType, EndpointName) {
        ("worker".parse().expect("a type"), "console1".parse().expect("an endpoint"))
    }

    #[tokio::test]
    async fn a_cut_brings_back_what_was_not_acknowledged() {
        let broker = MemoryBroker::new();
        let link = broker.connect();
        let mut consumer = link.consume(Source::Tasks(vec![subscription()]), 2).await.expect("consumes");
        let first = consumer.link.borrow_and_update().epoch;
        assert!(
            link.publish(vec![message(Address::All(subscription().0)); 3]).await.iter().all(Result::is_ok)
        );
        let stale = consumer.deliveries.recv().await.expect("a delivery");
        broker.cut();
        let refused = link.publish(vec![message(Address::Responses)]).await;
        assert!(matches!(refused[..], [Err(BrokerError::Disconnected { .. })]));
        broker.restore();
        consumer.link.wait_for(|link| link.up && link.epoch > first).await.expect("comes up");
        stale.acker.ack_through().await;
        let mut again = 0;
        while again < 2 {
            let delivery = consumer.deliveries.recv().await.expect("a delivery");
            again += usize::from(delivery.redelivered);
            delivery.acker.ack_through().await;
        }
        // Two had been handed over when the link was cut; the third is new.
        assert!(!consumer.deliveries.recv().await.expect("a delivery").redelivered);
    }

    #[tokio::test]
    async fn a_full_response_queue_makes_publishers_wait() {
        let link = MemoryBroker::new().connect();
        let many = vec![message(Address::Responses); QUEUE_MESSAGES];
        assert!(link.publish(many).await.iter().all(Result::is_ok));
        let waiting = link.publish(vec![message(Address::Responses)]);
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut waiting).await.is_err());
        let mut consumer = link.consume(Source::Responses, 1).await.expect("consumes");
        consumer.deliveries.recv().await.expect("a delivery").acker.ack_through().await;
        assert!(matches!(waiting.await[..], [Ok(())]));
    }

    #[tokio::test]
    async fn a_full_task_queue_drops_the_oldest() {
        let link = MemoryBroker::new().connect();
        drop(link.consume(Source::Tasks(vec![subscription()]), 1).await.expect("consumes"));
        let numbered = |number: usize| Message {
            body: number.to_string().into(),
            ..message(Address::All(subscription().0))
        };
        link.publish((0..QUEUE_MESSAGES + 5).map(numbered).collect()).await;
        let mut consumer = link.consume(Source::Tasks(vec![subscription()]), 1).await.expect("consumes");
        let oldest = consumer.deliveries.recv().await.expect("a delivery");
        let oldest: usize = std::str::from_utf8(&oldest.body).expect("digits").parse().expect("a number");
        assert!((4..=5).contains(&oldest), "{oldest} came first");
    }
}
