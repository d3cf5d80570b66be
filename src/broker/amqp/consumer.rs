//! Consumes for one [`crate::broker::Consumer`], over as many connections as it takes.
//!
//! Owns the lanes of one source, the control queue beside them, the order in which deliveries are handed over and their
//! acknowledgement. Any error or end of any of its streams gives the whole connection up; the next one is set up from the
//! same description. A task queue that another process consumes is asked for again and again; meanwhile the link is down
//! and the queues that could be had are served.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;
use futures::stream::{BoxStream, SelectAll, StreamExt};
use lapin::message;
use lapin::options::BasicAckOptions;
use lapin::types::ShortString;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::connection::{LinkError, Session, Sessions, next_session, within};
use super::lane::{self, Item, Lane, Opened, QUEUES, Refused};
use super::parts::control_keys;
use super::topology::{self, Names, control_key};
use crate::backoff::Backoff;
use crate::broker::{Acker, Delivery, Link, Origin, Source};
use crate::domain::{EndpointName, TaskType};

/// Channels that are set up at the same time.
const LANES_AT_ONCE: usize = 4;

/// A task queue: whose, and for which type.
pub(super) type Subscription = (TaskType, EndpointName);

/// Subscriptions that have left the fanout; shared by all consumers of a broker.
pub(super) type NamedOnly = Arc<Mutex<HashSet<Subscription>>>;

/// The task behind one consumer.
pub(super) struct Subscriber {
    pub(super) names: Names,
    pub(super) source: Source,
    pub(super) prefetch: u16,
    pub(super) sessions: Sessions,
    pub(super) deliveries: mpsc::Sender<Delivery>,
    pub(super) link: watch::Sender<Link>,
    pub(super) named_only: NamedOnly,
    pub(super) closing: CancellationToken,
    /// Subscriptions whose refusal was logged.
    pub(super) warned: HashSet<Subscription>,
}

/// Why a consumer stopped, when it did not fail.
enum End {
    Dropped,
    Closed,
}

impl Subscriber {
    /// Consumes until the consumer is dropped or the broker closed.
    pub(super) async fn run(mut self) {
        loop {
            let session = tokio::select! {
                session = next_session(&mut self.sessions) => session,
                () = self.closing.cancelled() => return,
                () = self.deliveries.closed() => return,
            };
            let Some(session) = session else { return };
            self.link.send_modify(|link| link.epoch += 1);
            let end = self.attend(&session).await;
            self.link.send_modify(|link| link.up = false);
            match end {
                Ok(End::Dropped | End::Closed) => return,
                Err(error) => session.fail(&error),
            }
        }
    }

    /// Sets up and consumes on one connection.
    async fn attend(&mut self, session: &Session) -> Result<End, LinkError> {
        let closing = self.closing.clone();
        let mut line = tokio::select! {
            line = self.set_up(session) => line?,
            () = session.broken() => return Err(LinkError::Ended("the connection ended")),
            () = closing.cancelled() => return Ok(End::Closed),
        };
        let end = self.hand_over(session, &mut line).await?;
        // The last acknowledgements were asked for before the end was.
        line.acknowledge(session).await?;
        if matches!(end, End::Dropped) {
            // The connection lives on; when the whole broker is closed, it takes its channels along.
            for lane in line.lanes {
                lane.close().await?;
            }
            if let Some(control) = line.control {
                control.close().await?;
            }
        }
        Ok(end)
    }

    async fn set_up(&mut self, session: &Session) -> Result<Line, LinkError> {
        let mut line = Line::new();
        match self.source.clone() {
            Source::Responses => line.add(Lane::shared(session, self.names.responses()?, self.prefetch).await?, vec![Whose::Responses]),
            Source::Presence => line.add(Lane::shared(session, self.names.presence()?, self.prefetch).await?, vec![Whose::Presence]),
            Source::Tasks(wanted) => {
                line.control = Some(Control::open(session, self.prefetch).await?);
                self.subscribe(session, &mut line, wanted).await?;
            }
        }
        self.say_whether_up(&line);
        Ok(line)
    }

    /// Takes up task queues; those that cannot be had now are kept in the line's `refused`.
    async fn subscribe(&mut self, session: &Session, line: &mut Line, wanted: Vec<Subscription>) -> Result<(), LinkError> {
        let (names, named_only) = (&self.names, &self.named_only);
        let lanes: Vec<_> = wanted.chunks(QUEUES).map(<[_]>::to_vec).collect();
        let mut lanes = futures::stream::iter(lanes)
            .map(|wanted| {
                let has_left = |subscription: &_| named_only.lock().unwrap_or_else(PoisonError::into_inner).contains(subscription);
                Lane::tasks(session, names, wanted, self.prefetch, has_left)
            })
            .buffer_unordered(LANES_AT_ONCE);
        let mut refused = Vec::new();
        while let Some(made) = lanes.next().await {
            let (opened, others) = made?;
            refused.extend(others);
            let Some(opened) = opened else { continue };
            if let Some(control) = &mut line.control {
                control.listen(names, &opened.subscriptions).await?;
            }
            let mut whose = Vec::with_capacity(opened.subscriptions.len());
            for (task_type, endpoint) in &opened.subscriptions {
                let direct = names.direct(task_type)?;
                whose.push(Whose::Tasks { task_type: task_type.clone(), endpoint: endpoint.clone(), direct });
            }
            line.add(opened, whose);
        }
        drop(lanes);
        self.note(line, refused);
        Ok(())
    }

    /// Remembers who was refused, and says so once.
    fn note(&mut self, line: &mut Line, refused: Vec<Refused>) {
        let mut still = HashSet::new();
        for Refused { subscription, error } in refused {
            let (task_type, endpoint) = &subscription;
            if self.warned.insert(subscription.clone()) {
                let queue = format!("the queue of endpoint `{endpoint}` for `{task_type}`");
                match error.is_access_refused() {
                    true => warn!(%task_type, %endpoint, "another process consumes {queue}; trying until it is free: {error}"),
                    false => warn!(%task_type, %endpoint, "the broker refuses {queue}; trying again: {error}"),
                }
            }
            still.insert(subscription);
        }
        self.warned.retain(|subscription| {
            let (task_type, endpoint) = subscription;
            let refused = still.contains(subscription);
            if !refused {
                info!(%task_type, %endpoint, "consuming the queue of endpoint `{endpoint}` for `{task_type}` now");
            }
            refused
        });
        line.refused = still.into_iter().collect();
    }

    fn say_whether_up(&self, line: &Line) {
        let up = line.refused.is_empty();
        self.link.send_if_modified(|link| std::mem::replace(&mut link.up, up) != up);
    }

    async fn hand_over(&mut self, session: &Session, line: &mut Line) -> Result<End, LinkError> {
        let (deliveries, closing) = (self.deliveries.clone(), self.closing.clone());
        let mut failures = 0;
        let mut retry_at = None;
        loop {
            if line.refused.is_empty() {
                retry_at = None;
            } else if retry_at.is_none() {
                failures += 1;
                retry_at = Some(Instant::now() + Backoff::CONNECTION.jittered(failures));
            }
            // Borrowed apart, so that each branch below takes what it needs.
            let Line { outbox, items, control, mark, .. } = &mut *line;
            // The brake: while the receiver is busy, nothing more is taken, and the broker stops at the prefetch.
            let hungry = outbox.is_empty();
            tokio::select! {
                biased;
                () = session.broken() => return Err(LinkError::Ended("the connection ended")),
                () = closing.cancelled() => return Ok(End::Closed),
                () = deliveries.closed() => return Ok(End::Dropped),
                () = mark.wake.notified() => line.acknowledge(session).await?,
                permit = deliveries.reserve(), if !hungry => match (permit, outbox.pop_front()) {
                    (Ok(permit), Some(delivery)) => permit.send(delivery),
                    _ => return Ok(End::Dropped),
                },
                item = next_control(control), if hungry => line.control_arrived(session, item).await?,
                Some((lane, item)) = items.next(), if hungry && !items.is_empty() => line.arrived(lane, item)?,
                () = async { match retry_at { Some(at) => sleep_until(at).await, None => pending().await } } => {
                    retry_at = None;
                    let wanted = std::mem::take(&mut line.refused);
                    self.subscribe(session, line, wanted).await?;
                    self.say_whether_up(line);
                }
            }
            while let Some(delivery) = line.outbox.pop_front() {
                match deliveries.try_send(delivery) {
                    Ok(()) => {}
                    Err(TrySendError::Full(delivery)) => {
                        line.outbox.push_front(delivery);
                        break;
                    }
                    Err(TrySendError::Closed(_)) => return Ok(End::Dropped),
                }
            }
        }
    }
}

/// Whose queue it is.
enum Whose {
    Tasks {
        task_type: TaskType,
        endpoint: EndpointName,
        /// The exchange that tells a delivery by name from one to all.
        direct: ShortString,
    },
    Responses,
    Presence,
}

impl Whose {
    fn origin(&self, exchange: &ShortString) -> Origin {
        match self {
            Self::Tasks { task_type, endpoint, direct } if exchange == direct => Origin::Named(task_type.clone(), endpoint.clone()),
            Self::Tasks { task_type, endpoint, .. } => Origin::All(task_type.clone(), endpoint.clone()),
            Self::Responses => Origin::Responses,
            Self::Presence => Origin::Presence,
        }
    }
}

/// All that one consumer has on one connection.
struct Line {
    lanes: Vec<Lane>,
    /// By lane, then by place in it.
    whose: Vec<Vec<Whose>>,
    items: SelectAll<BoxStream<'static, (usize, Item)>>,
    control: Option<Control>,
    refused: Vec<Subscription>,
    outbox: VecDeque<Delivery>,
    /// The running number of the last delivery, over all lanes.
    number: u64,
    mark: Arc<Mark>,
}

/// How far the receiver has acknowledged.
#[derive(Debug, Default)]
struct Mark {
    through: AtomicU64,
    wake: Notify,
}

impl Line {
    fn new() -> Self {
        Self {
            lanes: Vec::new(),
            whose: Vec::new(),
            items: SelectAll::new(),
            control: None,
            refused: Vec::new(),
            outbox: VecDeque::new(),
            number: 0,
            mark: Arc::default(),
        }
    }

    fn add(&mut self, opened: Opened, whose: Vec<Whose>) {
        let lane = self.lanes.len();
        self.items.push(opened.items.map(move |item| (lane, item)).boxed());
        self.lanes.push(opened.lane);
        self.whose.push(whose);
    }

    fn arrived(&mut self, lane: usize, (place, item): Item) -> Result<(), LinkError> {
        let delivery = delivered(item)?;
        for (place, delivery) in self.lanes[lane].arrived(place, delivery) {
            self.number += 1;
            self.lanes[lane].pass(self.number, delivery.delivery_tag);
            let origin = self.whose[lane][place].origin(&delivery.exchange);
            self.hand(origin, delivery.data.into(), delivery.redelivered);
        }
        Ok(())
    }

    async fn control_arrived(&mut self, session: &Session, item: Option<lapin::Result<message::Delivery>>) -> Result<(), LinkError> {
        let delivery = delivered(item)?;
        let Some(control) = &self.control else { return Ok(()) };
        let origins: Vec<Origin> = control_keys(delivery.routing_key.as_str(), &delivery.properties)
            .filter_map(|key| control.listeners.get(key))
            .map(|(task_type, endpoint)| Origin::Control(task_type.clone(), endpoint.clone()))
            .collect();
        // At once: it would be lost with the connection anyway, and must not wait behind tasks that are held back.
        let options = BasicAckOptions::default();
        tolerate(session, within("acknowledging", control.channel.basic_ack(delivery.delivery_tag, options)).await)?;
        let body = Bytes::from(delivery.data);
        for origin in origins {
            self.hand(origin, body.clone(), delivery.redelivered);
        }
        Ok(())
    }

    fn hand(&mut self, origin: Origin, body: Bytes, redelivered: bool) {
        let acker = Box::new(AmqpAcker { mark: Arc::clone(&self.mark), number: self.number });
        self.outbox.push_back(Delivery { origin, body, redelivered, acker });
    }

    async fn acknowledge(&mut self, session: &Session) -> Result<(), LinkError> {
        let through = self.mark.through.load(Ordering::Acquire);
        // At the same time: each waits until its frame is written.
        let acknowledged = try_join_all(self.lanes.iter_mut().map(|lane| lane.acknowledge(through))).await;
        tolerate(session, acknowledged.map(|_| ()))
    }
}

fn delivered(item: Option<lapin::Result<message::Delivery>>) -> Result<message::Delivery, LinkError> {
    match item {
        Some(Ok(delivery)) => Ok(delivery),
        Some(Err(source)) => Err(LinkError::Amqp { what: "consuming", source }),
        None => Err(LinkError::Ended("the broker ended a consumer; its queue may have been deleted")),
    }
}

/// On a blocked connection nothing is written, acknowledgements included; they go out when it is free again, and a new
/// connection would be blocked as well.
fn tolerate(session: &Session, acknowledged: Result<(), LinkError>) -> Result<(), LinkError> {
    match acknowledged {
        Err(LinkError::Silent { .. }) if session.is_blocked() => Ok(()),
        other => other,
    }
}

/// The control queue of one consumer.
struct Control {
    channel: lapin::Channel,
    queue: ShortString,
    consumer: lapin::Consumer,
    listeners: HashMap<String, Subscription>,
}

impl Control {
    async fn open(session: &Session, prefetch: u16) -> Result<Self, LinkError> {
        let channel = lane::channel(session, prefetch).await?;
        let queue = topology::declare_control_queue(&channel).await?;
        let consumer = lane::consume(&channel, queue.clone(), true).await?;
        Ok(Self { channel, queue, consumer, listeners: HashMap::new() })
    }

    async fn listen(&mut self, names: &Names, subscriptions: &[Subscription]) -> Result<(), LinkError> {
        topology::bind_control(&self.channel, names, &self.queue, subscriptions).await?;
        self.listeners
            .extend(subscriptions.iter().map(|subscription| (control_key(&subscription.0, &subscription.1), subscription.clone())));
        Ok(())
    }

    async fn close(self) -> Result<(), LinkError> {
        within("closing a channel", self.channel.close(200, "no longer consumed".into())).await
    }
}

async fn next_control(control: &mut Option<Control>) -> Option<lapin::Result<message::Delivery>> {
    match control {
        Some(control) => control.consumer.next().await,
        None => pending().await,
    }
}

/// Leaves it to the task that owns the channel to tell the broker: so acknowledgements never overtake each other, and many
/// in a row become one frame. After a cut there is nobody left who looks at the mark.
#[derive(Debug)]
struct AmqpAcker {
    mark: Arc<Mark>,
    number: u64,
}

#[async_trait]
impl Acker for AmqpAcker {
    async fn ack_through(&self) {
        self.mark.through.fetch_max(self.number, Ordering::AcqRel);
        self.mark.wake.notify_one();
    }
}
