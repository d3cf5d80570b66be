//! Consumes for one [`crate::broker::Consumer`], over as many connections as it takes.
//!
//! Owns the feeds of one source, the control queue beside them, the order in which deliveries are handed over
//! and their acknowledgement. An error that ends the connection gives it up; the next one is set up from the
//! same description. An error that ends a channel costs the queues on that channel: they are tried again,
//! each with a backoff of its own, and all others are served meanwhile. Queues that end the connection itself
//! are set aside, see [`super::aside`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use futures::stream::{BoxStream, SelectAll, StreamExt};
use lapin::message;
use lapin::options::{BasicAckOptions, QueuePurgeOptions};
use lapin::types::ShortString;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::aside::{Aside, Blamed, Subscription};
use super::connection::{Session, Sessions, next_session};
use super::feed::{self, Feed, Item, Opened, QUEUES, Refused};
use super::link_error::{LinkError, Scope, within};
use super::options::AmqpOptions;
use super::parts::{control_keys, sender};
use super::topology::{self, Names, control_key};
use crate::backoff::Backoff;
use crate::broker::{Acker, Delivery, Link, Origin, Refusal, Refusals, Sender, Source};
use crate::config::MessageQueue;
use crate::domain::{EndpointName, TaskType};

/// Channels that are set up at the same time.
const FEEDS_AT_ONCE: usize = 4;
/// When a queue is tried again that another process consumes: soon, since who stands by is to take over soon.
const STANDBY: Backoff = Backoff { first: Duration::from_millis(200), max: Duration::from_secs(2) };

/// Subscriptions that have left the fanout; shared by all consumers of a broker.
pub(super) type NamedOnly = Arc<Mutex<HashSet<Subscription>>>;

/// Queues of the API that cannot be consumed now; shared by all consumers of a broker.
pub(super) type RefusedQueues = Arc<Mutex<BTreeSet<String>>>;

/// The task behind one consumer.
pub(super) struct Subscriber {
    pub(super) names: Names,
    pub(super) options: Arc<AmqpOptions>,
    pub(super) source: Source,
    pub(super) prefetch: u16,
    pub(super) sessions: Sessions,
    pub(super) deliveries: mpsc::Sender<Delivery>,
    pub(super) link: watch::Sender<Link>,
    pub(super) named_only: NamedOnly,
    pub(super) refused_queues: RefusedQueues,
    pub(super) closing: CancellationToken,
    /// Tells which task queues cannot be had.
    pub(super) refused: watch::Sender<Refusals>,
    /// Those that cost their connection.
    pub(super) aside: Aside,
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
            self.link.send_modify(|link| {
                *link = Link { epoch: link.epoch + 1, restricted: session.is_restricted(), ..*link };
            });
            let end = self.attend(&session).await;
            self.link.send_modify(|link| link.up = false);
            match end {
                Ok(End::Dropped | End::Closed) => return,
                Err(error) => {
                    let blocked = session.is_blocked();
                    let reason = if error.may_be_for_one_queue() && !blocked {
                        Some(error.to_string())
                    } else {
                        session.last_word()
                    };
                    self.aside.ended(reason);
                    session.fail(&error);
                }
            }
        }
    }

    /// Sets up and consumes on one connection.
    async fn attend(&mut self, session: &Session) -> Result<End, LinkError> {
        let (closing, deliveries) = (self.closing.clone(), self.deliveries.clone());
        let mut line = tokio::select! {
            line = self.set_up(session) => line?,
            () = session.broken() => return Err(LinkError::Ended("the connection ended")),
            () = closing.cancelled() => return Ok(End::Closed),
            () = deliveries.closed() => return Ok(End::Dropped),
        };
        let end = self.hand_over(session, &mut line).await?;
        // The last acknowledgements were asked for before the end was.
        line.acknowledge(session).await?;
        if matches!(end, End::Dropped) {
            // The connection lives on; when the whole broker is closed, it takes its channels along.
            for (feed, _) in line.feeds.into_values() {
                feed.close().await?;
            }
            if let Some(control) = line.control.open {
                control.close().await?;
            }
        }
        Ok(end)
    }

    async fn set_up(&mut self, session: &Session) -> Result<Line, LinkError> {
        let mut line = Line::new();
        match self.source.clone() {
            Source::Responses => {
                line.add(self.of_api(session, self.names.responses()?, false).await?, vec![Whose::Responses])
            }
            Source::Presence => {
                line.add(self.of_api(session, self.names.presence()?, true).await?, vec![Whose::Presence])
            }
            Source::Tasks(wanted) => {
                self.listen_to_control(session, &mut line).await?;
                self.subscribe(session, &mut line, wanted).await?;
            }
        }
        self.link.send_modify(|link| link.up = true);
        Ok(line)
    }

    /// Consumes a queue of the API, alone or beside other processes. While the broker refuses it, or another
    /// process has it alone, the connection is left to those who share it.
    async fn of_api(&self, session: &Session, queue: ShortString, alone: bool) -> Result<Opened, LinkError> {
        let (mut held, mut failures) = (None, 0u32);
        loop {
            let error = match Feed::of_api(session, queue.clone(), alone, self.prefetch).await {
                Ok(opened) => {
                    self.refused_queues.lock().unwrap_or_else(PoisonError::into_inner).remove(queue.as_str());
                    if held.is_some() {
                        info!(%queue, "consuming the queue `{queue}` now");
                    }
                    return Ok(opened);
                }
                Err(error) if error.scope() == Scope::Connection || !session.lives() => return Err(error),
                Err(error) => error,
            };
            let is_held = alone && error.is_held();
            let changed = held.replace(is_held) != Some(is_held);
            failures = if changed { 1 } else { failures.saturating_add(1) };
            if is_held {
                // Nothing is wrong with a queue that another process reads.
                self.refused_queues.lock().unwrap_or_else(PoisonError::into_inner).remove(queue.as_str());
            } else {
                self.refused_queues.lock().unwrap_or_else(PoisonError::into_inner).insert(queue.to_string());
            }
            match (changed, is_held) {
                (true, true) => info!(%queue, "another API process reads the queue `{queue}`; standing by"),
                (true, false) => {
                    warn!(%queue, "the broker refuses the queue `{queue}`; trying again: {error}")
                }
                (false, _) => {}
            }
            sleep(if is_held { STANDBY } else { Backoff::CONNECTION }.jittered(failures)).await;
        }
    }

    /// Opens the control queue if there is none. Without it cancels are late, and all else goes on.
    async fn listen_to_control(&self, session: &Session, line: &mut Line) -> Result<(), LinkError> {
        if line.control.open.is_some() {
            return Ok(());
        }
        let subscriptions = line.subscriptions();
        let opened = async {
            let mut control = Control::open(session, self.prefetch).await?;
            control.listen(&self.names, &subscriptions).await?;
            Ok::<_, LinkError>(control)
        };
        match opened.await {
            Ok(control) => line.control.opened(control),
            Err(error) if error.scope() != Scope::Connection && session.lives() => {
                line.control.refused(&error)
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes up task queues; those that cannot be had now are kept in the line's `refused`.
    async fn subscribe(
        &mut self,
        session: &Session,
        line: &mut Line,
        wanted: Vec<Subscription>,
    ) -> Result<(), LinkError> {
        let (suspects, others): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|subscription| self.aside.is_suspect(subscription));
        self.subscribe_together(session, line, others).await?;
        for subscription in suspects {
            match self.aside.not_yet(&subscription) {
                Some(blamed) => line.set_aside(subscription, blamed),
                None => self.subscribe_together(session, line, vec![subscription]).await?,
            }
        }
        self.tell(line);
        Ok(())
    }

    /// The same without regard to what they may cost.
    async fn subscribe_together(
        &mut self,
        session: &Session,
        line: &mut Line,
        wanted: Vec<Subscription>,
    ) -> Result<(), LinkError> {
        self.aside.ask(&wanted);
        let (names, named_only, aside) = (&self.names, &self.named_only, &mut self.aside);
        let feeds: Vec<_> = wanted.chunks(QUEUES).map(<[_]>::to_vec).collect();
        let mut feeds = futures::stream::iter(feeds)
            .map(|wanted| {
                let has_left = |subscription: &_| {
                    named_only.lock().unwrap_or_else(PoisonError::into_inner).contains(subscription)
                };
                Feed::tasks(session, names, wanted, self.prefetch, has_left)
            })
            .buffer_unordered(FEEDS_AT_ONCE);
        while let Some(made) = feeds.next().await {
            let (opened, refused) = made?;
            for Refused { subscription, error } in refused {
                aside.answered(&subscription);
                line.refused(subscription, &error);
            }
            for opened in opened {
                if let Some(control) = &mut line.control.open
                    && let Err(error) = control.listen(names, &opened.subscriptions).await
                {
                    if error.scope() == Scope::Connection || !session.lives() {
                        return Err(error);
                    }
                    line.control.refused(&error);
                }
                let mut whose = Vec::with_capacity(opened.subscriptions.len());
                for subscription @ (task_type, endpoint) in &opened.subscriptions {
                    aside.answered(subscription);
                    line.had(task_type, endpoint);
                    let direct = names.direct(task_type)?;
                    whose.push(Whose::Tasks {
                        task_type: task_type.clone(),
                        endpoint: endpoint.clone(),
                        direct,
                    });
                }
                line.add(opened, whose);
            }
        }
        Ok(())
    }

    /// Says what is refused, before anything comes of what is not.
    fn tell(&self, line: &Line) {
        let now: Refusals = line
            .refused
            .iter()
            .map(|(subscription, waiting)| (subscription.clone(), waiting.refusal.clone()))
            .collect();
        self.refused.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }

    async fn hand_over(&mut self, session: &Session, line: &mut Line) -> Result<End, LinkError> {
        let (deliveries, closing) = (self.deliveries.clone(), self.closing.clone());
        loop {
            let retry_at = line.retry_at();
            // Borrowed apart, so that each branch below takes what it needs.
            let Line { outbox, items, control, mark, .. } = &mut *line;
            // The brake: while the receiver is busy, nothing more is taken, and the broker stops at the
            // prefetch.
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
                item = next_control(&mut control.open), if hungry => {
                    let taken = line.control_arrived(session, item).await;
                    if let Err(error) = taken {
                        if error.scope() == Scope::Connection || !session.lives() {
                            return Err(error);
                        }
                        line.control.refused(&error);
                    }
                }
                Some((feed, item)) = items.next(), if hungry && !items.is_empty() => {
                    if let Err(error) = line.arrived(feed, item, &self.options.message_queue) {
                        if error.scope() == Scope::Connection || !session.lives() || !matches!(self.source, Source::Tasks(_)) {
                            return Err(error);
                        }
                        line.lose(feed, &error).await;
                        self.tell(line);
                    }
                }
                () = async { match retry_at { Some(at) => sleep_until(at).await, None => pending().await } } => {
                    self.listen_to_control(session, line).await?;
                    let due = line.due();
                    self.subscribe(session, line, due).await?;
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
    fn subscription(&self) -> Option<Subscription> {
        match self {
            Self::Tasks { task_type, endpoint, .. } => Some((task_type.clone(), endpoint.clone())),
            Self::Responses | Self::Presence => None,
        }
    }

    fn origin(&self, exchange: &ShortString) -> Origin {
        match self {
            Self::Tasks { task_type, endpoint, direct } if exchange == direct => {
                Origin::Named(task_type.clone(), endpoint.clone())
            }
            Self::Tasks { task_type, endpoint, .. } => Origin::All(task_type.clone(), endpoint.clone()),
            Self::Responses => Origin::Responses,
            Self::Presence => Origin::Presence,
        }
    }
}

/// All that one consumer has on one connection.
struct Line {
    /// With whose queues they are, by place in the feed.
    feeds: BTreeMap<usize, (Feed, Vec<Whose>)>,
    /// The number of the next feed: items of one that was lost must not count for another.
    next: usize,
    items: SelectAll<BoxStream<'static, (usize, Item)>>,
    control: ControlState,
    refused: BTreeMap<Subscription, Waiting>,
    outbox: VecDeque<Delivery>,
    /// The running number of the last delivery, over all feeds.
    number: u64,
    mark: Arc<Mark>,
}

/// A task queue that could not be had, and when it is tried again.
struct Waiting {
    refusal: Refusal,
    failures: u32,
    retry_at: Instant,
}

/// How often the control queue may be refused before that is worth a warning: a few seconds.
const LASTING: u32 = 3;

/// The control queues, or when they are tried again.
#[derive(Default)]
struct ControlState {
    open: Option<Control>,
    failures: u32,
    retry_at: Option<Instant>,
}

impl ControlState {
    fn opened(&mut self, control: Control) {
        if self.failures > 0 {
            info!("consuming the control queue now");
        }
        *self = Self { open: Some(control), failures: 0, retry_at: None };
    }

    fn refused(&mut self, error: &LinkError) {
        // The API makes the queue of a restricted endpoint a moment after its first start.
        match self.failures {
            0 => info!("waiting for the control queue: {error}"),
            LASTING => {
                warn!(
                    "the broker refuses the control queue; cancels are delayed until the queue exists: {error}"
                );
            }
            _ => {}
        }
        self.open = None;
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(Instant::now() + Backoff::CONNECTION.jittered(self.failures));
    }
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
            feeds: BTreeMap::new(),
            next: 0,
            items: SelectAll::new(),
            control: ControlState::default(),
            refused: BTreeMap::new(),
            outbox: VecDeque::new(),
            number: 0,
            mark: Arc::default(),
        }
    }

    fn add(&mut self, opened: Opened, whose: Vec<Whose>) {
        let feed = self.next;
        self.next += 1;
        self.items.push(opened.items.map(move |item| (feed, item)).boxed());
        self.feeds.insert(feed, (opened.feed, whose));
    }

    /// The task queues that are consumed now.
    fn subscriptions(&self) -> Vec<Subscription> {
        self.feeds.values().flat_map(|(_, whose)| whose.iter().filter_map(Whose::subscription)).collect()
    }

    /// Notes why a task queue cannot be had, and says so once.
    fn refused(&mut self, subscription: Subscription, error: &LinkError) {
        let refusal = Refusal { held: error.is_held(), reason: error.to_string() };
        let before = self.refused.get(&subscription);
        if before.is_none_or(|before| before.refusal.held != refusal.held) {
            let (task_type, endpoint) = &subscription;
            let queue = format!("the queue of endpoint `{endpoint}` for `{task_type}`");
            match refusal.held {
                true => {
                    warn!(%task_type, %endpoint, "another process consumes {queue}; standing by until it is free: {error}")
                }
                false => warn!(%task_type, %endpoint, "the broker refuses {queue}; trying again: {error}"),
            }
        }
        let failures = before.map_or(0, |before| before.failures).saturating_add(1);
        let backoff = if refusal.held { STANDBY } else { Backoff::CONNECTION };
        self.refused.insert(
            subscription,
            Waiting { refusal, failures, retry_at: Instant::now() + backoff.jittered(failures) },
        );
    }

    /// Notes that a task queue is not asked for now, since that costs the connection.
    fn set_aside(&mut self, subscription: Subscription, blamed: &Blamed) {
        let Blamed { reason, failures, retry_at } = blamed.clone();
        self.refused
            .insert(subscription, Waiting { refusal: Refusal { held: false, reason }, failures, retry_at });
    }

    /// Notes that a task queue is consumed.
    fn had(&mut self, task_type: &TaskType, endpoint: &EndpointName) {
        if self.refused.remove(&(task_type.clone(), endpoint.clone())).is_some() {
            info!(%task_type, %endpoint, "consuming the queue of endpoint `{endpoint}` for `{task_type}` now");
        }
    }

    /// Gives a feed up: what of it was not acknowledged comes again, and its queues are tried again.
    async fn lose(&mut self, feed: usize, error: &LinkError) {
        let Some((lost, whose)) = self.feeds.remove(&feed) else { return };
        for subscription in whose.iter().filter_map(Whose::subscription) {
            self.refused(subscription, error);
        }
        // The broker may have closed it already; what else comes from its queues is not looked at any more.
        let _ = lost.close().await;
    }

    /// When something that was refused is tried again.
    fn retry_at(&self) -> Option<Instant> {
        self.refused.values().map(|waiting| waiting.retry_at).chain(self.control.retry_at).min()
    }

    /// The task queues to try again now.
    fn due(&self) -> Vec<Subscription> {
        let now = Instant::now();
        self.refused
            .iter()
            .filter(|(_, waiting)| waiting.retry_at <= now)
            .map(|(subscription, _)| subscription.clone())
            .collect()
    }

    fn arrived(
        &mut self,
        feed: usize,
        (place, item): Item,
        message_queue: &MessageQueue,
    ) -> Result<(), LinkError> {
        let Some((open, whose)) = self.feeds.get_mut(&feed) else { return Ok(()) };
        let delivery = delivered(item)?;
        for (place, delivery) in open.arrived(place, delivery) {
            self.number += 1;
            open.pass(self.number, delivery.delivery_tag);
            let origin = whose[place].origin(&delivery.exchange);
            let sender = match origin {
                Origin::Responses | Origin::Presence => sender(&delivery.properties, message_queue),
                // The user of a task proves nothing: endpoints may share the API's user.
                Origin::All(..) | Origin::Named(..) | Origin::Control(..) => Sender::Unproven,
            };
            let acker = Box::new(AmqpAcker { mark: Arc::clone(&self.mark), number: self.number });
            let (body, redelivered) = (delivery.data.into(), delivery.redelivered);
            self.outbox.push_back(Delivery { origin, sender, body, redelivered, acker });
        }
        Ok(())
    }

    async fn control_arrived(&mut self, session: &Session, (place, item): Item) -> Result<(), LinkError> {
        let delivery = delivered(item)?;
        let Some(control) = &self.control.open else { return Ok(()) };
        let origins = control.origins(place, &delivery);
        // At once: it would be lost with the connection anyway, and must not wait behind tasks that are held
        // back.
        let options = BasicAckOptions::default();
        tolerate(
            session,
            within("acknowledging", control.channel.basic_ack(delivery.delivery_tag, options)).await,
        )?;
        let body = Bytes::from(delivery.data);
        for origin in origins {
            let acker = Box::new(AmqpAcker { mark: Arc::clone(&self.mark), number: self.number });
            self.outbox.push_back(Delivery {
                origin,
                sender: Sender::Unproven,
                body: body.clone(),
                redelivered: delivery.redelivered,
                acker,
            });
        }
        Ok(())
    }

    async fn acknowledge(&mut self, session: &Session) -> Result<(), LinkError> {
        let through = self.mark.through.load(Ordering::Acquire);
        // At the same time: each waits until its frame is written.
        for acknowledged in join_all(self.feeds.values_mut().map(|(feed, _)| feed.acknowledge(through))).await
        {
            match tolerate(session, acknowledged) {
                // The end of the channel comes through its deliveries, and what was not acknowledged comes
                // again.
                Err(error) if error.scope() != Scope::Connection && session.lives() => {}
                other => other?,
            }
        }
        Ok(())
    }
}

fn delivered(item: Option<lapin::Result<message::Delivery>>) -> Result<message::Delivery, LinkError> {
    match item {
        Some(Ok(delivery)) => Ok(delivery),
        Some(Err(source)) => Err(LinkError::Amqp { what: "consuming", source }),
        None => Err(LinkError::ConsumerEnded),
    }
}

/// On a blocked connection nothing is written, acknowledgements included; they go out when it is free again,
/// and a new connection would be blocked as well.
fn tolerate(session: &Session, acknowledged: Result<(), LinkError>) -> Result<(), LinkError> {
    match acknowledged {
        Err(LinkError::Silent { .. }) if session.is_blocked() => Ok(()),
        other => other,
    }
}

/// The control queues of one consumer, on a channel.
struct Control {
    channel: lapin::Channel,
    queues: ControlQueues,
    items: SelectAll<BoxStream<'static, Item>>,
}

/// Which control queues there are, and for which subscriptions.
enum ControlQueues {
    /// One queue of this connection for all subscriptions, bound by their keys.
    Own { queue: ShortString, listeners: HashMap<String, Subscription> },
    /// One queue for each subscription, which the API has declared. An item has the index of its
    /// subscription.
    Made(Vec<Subscription>),
}

impl Control {
    async fn open(session: &Session, prefetch: u16) -> Result<Self, LinkError> {
        let channel = feed::channel(session, prefetch).await?;
        let mut items = SelectAll::new();
        let queues = if session.is_restricted() {
            ControlQueues::Made(Vec::new())
        } else {
            let queue = topology::declare_control_queue(&channel).await?;
            items.push(feed::items(0, feed::consume(&channel, queue.clone(), true).await?));
            ControlQueues::Own { queue, listeners: HashMap::new() }
        };
        Ok(Self { channel, queues, items })
    }

    async fn listen(&mut self, names: &Names, subscriptions: &[Subscription]) -> Result<(), LinkError> {
        match &mut self.queues {
            ControlQueues::Own { queue, listeners } => {
                topology::bind_control(&self.channel, names, queue, subscriptions).await?;
                let key = |of: &Subscription| (control_key(&of.0, &of.1), of.clone());
                listeners.extend(subscriptions.iter().map(key));
            }
            ControlQueues::Made(whose) => {
                for subscription @ (task_type, endpoint) in subscriptions {
                    // The task queue was lost and is consumed again; the control queue was not lost.
                    if whose.contains(subscription) {
                        continue;
                    }
                    let queue = names.control_queue(task_type, endpoint)?;
                    // The ledger repeats what was sent before this connection.
                    let purge = self.channel.queue_purge(queue.clone(), QueuePurgeOptions::default());
                    within("purging the control queue", purge).await?;
                    self.items
                        .push(feed::items(whose.len(), feed::consume(&self.channel, queue, true).await?));
                    whose.push(subscription.clone());
                }
            }
        }
        Ok(())
    }

    /// The subscriptions that a message is for.
    fn origins(&self, place: usize, delivery: &message::Delivery) -> Vec<Origin> {
        let origin =
            |(task_type, endpoint): &Subscription| Origin::Control(task_type.clone(), endpoint.clone());
        match &self.queues {
            ControlQueues::Own { listeners, .. } => {
                control_keys(delivery.routing_key.as_str(), &delivery.properties)
                    .filter_map(|key| listeners.get(key))
                    .map(origin)
                    .collect()
            }
            ControlQueues::Made(whose) => whose.get(place).map(origin).into_iter().collect(),
        }
    }

    async fn close(self) -> Result<(), LinkError> {
        within("closing a channel", self.channel.close(200, "no longer consumed".into())).await
    }
}

async fn next_control(control: &mut Option<Control>) -> Item {
    let next = match control {
        Some(control) => control.items.next().await,
        None => None,
    };
    // The end of a queue is an item too, so there is no next item only when no queue is consumed.
    match next {
        Some(item) => item,
        None => pending().await,
    }
}

/// Leaves it to the task that owns the channel to tell the broker: so acknowledgements never overtake each
/// other, and many in a row become one frame. After a cut there is nobody left who looks at the mark.
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
