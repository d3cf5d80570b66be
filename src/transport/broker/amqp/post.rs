//! Messages between those who have HTTP tasks performed and the workers that perform them.
//!
//! Differs from the rest of the broker in what it promises: a delivery is acknowledged for itself and in any
//! order, since HTTP tasks end in any order, and a message that no queue takes is told to its sender, who has
//! nobody else to ask. It knows addresses and acknowledgements; what the bodies say is the business of
//! `http_remote`.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions,
    BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, message};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use uuid::Uuid;

use super::connection::{Purpose, Session, Sessions, next_session};
use super::link_error::{LinkError, within};
use super::links::Links;
use super::options::{AmqpOptions, Role};
use super::parts::{CONFIRM_TIME, IN_FLIGHT, expiration};
use super::publisher::disconnected;
use super::topology::{self, Names, short};
use crate::broker::{BrokerError, Link};

/// Letters that wait for the publisher.
const LETTERS: usize = 256;
/// Arrivals that wait for who reads them, besides those that the prefetch allows.
const ARRIVALS: usize = 64;
/// The header of a quorum queue that counts how often a message was given out before.
const DELIVERIES: &str = "x-delivery-count";
/// The header that says why a message was taken out of its queue.
const DEATH: &str = "x-first-death-reason";
/// The key of what is said to all workers.
const WORKERS: &str = "workers";
/// The key of what is said to all callers.
const CALLERS: &str = "callers";

/// Where a letter goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// The worker of a pool that has room; or back to the caller, when no worker performs it.
    Work {
        /// Whose workers.
        pool: String,
        /// Who gets it back.
        caller: Uuid,
    },
    /// The caller of this name.
    Replies(Uuid),
    /// All workers that are connected now.
    Workers,
    /// All callers that are connected now.
    Callers,
}

/// A message to publish.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Where to.
    pub to: To,
    /// Its name; the same when it is sent again.
    pub id: Uuid,
    /// The task that it is about.
    pub task: Uuid,
    /// How long it may lie in a queue.
    pub expires_in: Option<Duration>,
    /// Whether it outlives the broker's process.
    pub persistent: bool,
    /// What it says.
    pub body: Bytes,
}

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inbox {
    /// The tasks of the worker's pool.
    Work,
    /// What became of the caller's tasks.
    Replies,
    /// What is said to all workers, or all callers; lost for those not connected.
    Control,
}

/// A message that has come.
pub struct Arrival {
    /// The name that its sender gave it.
    pub id: Option<Uuid>,
    /// Who sent it, if it is a task: the broker took it by that name, and takes the answer by the same.
    pub caller: Option<Uuid>,
    /// Why it came back, if it is one of our own that nobody took.
    pub death: Option<String>,
    /// How often it was given out, this time included.
    pub deliveries: u32,
    /// What it says.
    pub body: Bytes,
    /// Says that it is in safe hands.
    pub receipt: Receipt,
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival")
            .field("id", &self.id)
            .field("death", &self.death)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// The right to say what becomes of a delivery. Dropped without use, the message comes again when the link is
/// renewed.
pub struct Receipt {
    channel: Channel,
    tag: u64,
}

impl Receipt {
    /// It is done with. Answers when the broker has been told, as far as this side can know; false when the
    /// link is gone, and the message comes again.
    pub async fn ack(self) -> bool {
        self.channel.basic_ack(self.tag, BasicAckOptions::default()).await.is_ok()
    }

    /// Somebody else is to have it.
    pub async fn give_back(self) {
        // A link that is gone gives it back too.
        _ = self
            .channel
            .basic_nack(self.tag, BasicNackOptions { requeue: true, ..BasicNackOptions::default() })
            .await;
    }
}

/// Messages as they come, over all connections.
#[derive(Debug)]
pub struct Incoming {
    /// Closed after [`Self::stop`], when nothing is left, or when the post is closed.
    pub arrivals: mpsc::Receiver<Arrival>,
    /// Whether this inbox is read now.
    pub link: watch::Receiver<Link>,
    stop: CancellationToken,
}

impl Incoming {
    /// Takes no more. What has been handed out by the broker still arrives.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

/// Sends and receives for one caller or worker, for ever, over a connection each.
pub struct Post {
    links: Links,
    role: Role,
    names: Names,
    letters: mpsc::Sender<Sending>,
    publishing: watch::Receiver<Link>,
    consuming: Sessions,
}

struct Sending {
    letter: Letter,
    reply: oneshot::Sender<Result<(), BrokerError>>,
}

impl Post {
    /// Starts to connect in the background. To be called on a tokio runtime, with the role of a caller or a
    /// worker.
    ///
    /// The receiver gets the names of letters that no queue has taken. That is told apart from the answer of
    /// [`Self::publish`], since the library may hand a returned message to the confirm of another one.
    ///
    /// # Errors
    /// When the configured prefix makes a name too long, or the role has no part in HTTP tasks: all other
    /// refusals pass.
    pub fn start(options: AmqpOptions) -> Result<(Self, mpsc::UnboundedReceiver<Uuid>), BrokerError> {
        let (names, role) = (Names::new(&options.message_queue.exchange), options.role.clone());
        let pool =
            pool_of(&names, &role).map_err(|error| BrokerError::Refused { reason: error.to_string() })?;
        let links = Links::new(options);
        // Apart, since a broker that is short of memory stops reading from connections that publish.
        let (sessions, consuming) = (links.keep(Purpose::Publish), links.keep(Purpose::Consume));
        let (letters, queue) = mpsc::channel(LETTERS);
        let (link, publishing) = watch::channel(Link::default());
        let (returned, returns) = mpsc::unbounded_channel();
        let (safe_url, closing) = (links.safe_url.clone(), links.closing.clone());
        let sender = Sender {
            names: names.clone(),
            pool,
            safe_url,
            sessions,
            letters: queue,
            link,
            returned,
            missing: false,
            closing,
        };
        links.workers.spawn(sender.run());
        Ok((Self { links, role, names, letters, publishing, consuming }, returns))
    }

    /// The address without password.
    pub fn safe_url(&self) -> &str {
        &self.links.safe_url
    }

    /// The state of the link that publishes.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.publishing.clone()
    }

    /// Publishes and waits for the confirm. A confirmed letter may still be told as returned, see
    /// [`Self::start`].
    ///
    /// # Errors
    /// [`BrokerError::Disconnected`] when it was not sent, [`BrokerError::Unconfirmed`] when it may have
    /// been, [`BrokerError::NotNow`] when no queue takes it now.
    pub async fn publish(&self, letter: Letter) -> Result<(), BrokerError> {
        if self.links.closing.is_cancelled() {
            return Err(BrokerError::Closed);
        }
        if !self.publishing.borrow().up {
            return Err(disconnected(&self.links.safe_url));
        }
        let (reply, answer) = oneshot::channel();
        self.letters.send(Sending { letter, reply }).await.map_err(|_| BrokerError::Closed)?;
        answer
            .await
            .unwrap_or_else(|_| Err(BrokerError::Unconfirmed { reason: "the publisher ended".to_owned() }))
    }

    /// Starts to read; at most `prefetch` deliveries are out at the same time, without bound when it is 0.
    pub fn consume(&self, inbox: Inbox, prefetch: u16) -> Incoming {
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        let (link, state) = watch::channel(Link::default());
        let stop = CancellationToken::new();
        let reader = Reader {
            names: self.names.clone(),
            role: self.role.clone(),
            inbox,
            prefetch,
            sessions: self.consuming.clone(),
            arrivals: sender,
            link,
            stop: stop.clone(),
            closing: self.links.closing.clone(),
        };
        self.links.workers.spawn(reader.run());
        Incoming { arrivals, link: state, stop }
    }

    /// Waits a while for what is on its way, gives a caller's queue up, and ends the connections.
    pub async fn close(&self) {
        self.links.finish().await;
        if let Role::HttpCaller { caller, .. } = &self.role
            && let Err(error) = self.give_up_replies(*caller).await
        {
            // It expires.
            debug!(broker = %self.links.safe_url, "left the reply queue behind: {error}");
        }
        self.links.disconnect().await;
    }

    async fn give_up_replies(&self, caller: Uuid) -> Result<(), LinkError> {
        let session = self.consuming.borrow().clone().ok_or(LinkError::Ended("not connected"))?;
        topology::remove_http_replies(&session.channel().await?, &self.names, caller).await
    }
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post")
            .field("url", &self.links.safe_url)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// The task that publishes, the only one on its channel.
struct Sender {
    names: Names,
    pool: String,
    safe_url: String,
    sessions: Sessions,
    letters: mpsc::Receiver<Sending>,
    link: watch::Sender<Link>,
    returned: mpsc::UnboundedSender<Uuid>,
    /// Whether a task came back because its queue is not there.
    missing: bool,
    closing: CancellationToken,
}

impl Sender {
    async fn run(mut self) {
        loop {
            let session = tokio::select! {
                biased;
                () = self.closing.cancelled() => return self.refuse_all(),
                session = next_session(&mut self.sessions) => session,
                // Those who asked just before the link went down.
                Some(Sending { reply, .. }) = self.letters.recv() => {
                    _ = reply.send(Err(disconnected(&self.safe_url)));
                    continue;
                }
            };
            let Some(session) = session else { return self.refuse_all() };
            let end = self.publish(&session).await;
            self.link.send_modify(|link| link.up = false);
            match end {
                Ok(()) => return self.refuse_all(),
                Err(error) => session.fail(&error),
            }
        }
    }

    /// Publishes on one connection. Dropping what is in flight answers those who wait: it may have been sent.
    async fn publish(&mut self, session: &Session) -> Result<(), LinkError> {
        let channel = session.channel().await?;
        within("turning on confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        self.link.send_modify(|link| *link = link.renewed());
        let mut in_flight = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                () = session.broken() => return Err(LinkError::Ended("the connection ended")),
                Some(confirmed) = in_flight.next(), if !in_flight.is_empty() => self.settle(confirmed)?,
                sending = self.letters.recv(), if in_flight.len() < IN_FLIGHT => {
                    let Some(Sending { letter, reply }) = sending else { return Ok(()) };
                    if std::mem::take(&mut self.missing) {
                        // Nobody else need be there to declare it. Those who sent what came back send it
                        // again.
                        if let Err(error) = self.declare(session).await {
                            // Nothing of it was sent. The next connection declares it again.
                            _ = reply.send(Err(disconnected(&self.safe_url)));
                            return Err(error);
                        }
                    }
                    let (exchange, key) = match self.address(&letter.to) {
                        Ok(address) => address,
                        Err(error) => {
                            _ = reply.send(Err(BrokerError::Refused { reason: error.to_string() }));
                            continue;
                        }
                    };
                    let mut publishing = Box::pin(send(channel.clone(), exchange, key, letter, reply));
                    // The first poll hands the frames to the library: polled here, they go out in order.
                    match (&mut publishing).now_or_never() {
                        Some(confirmed) => self.settle(confirmed)?,
                        None => in_flight.push(publishing),
                    }
                }
                () = self.closing.cancelled(), if in_flight.is_empty() && self.letters.is_empty() => return Ok(()),
            }
        }
    }

    async fn declare(&self, session: &Session) -> Result<(), LinkError> {
        topology::declare_http(&session.channel().await?, &self.names, &self.pool).await
    }

    fn address(&self, to: &To) -> Result<(ShortString, ShortString), LinkError> {
        Ok(match to {
            To::Work { pool, caller } => (self.names.http()?, short(format!("{pool}.{caller}"))?),
            To::Replies(caller) => (self.names.http_replies_exchange()?, short(caller.to_string())?),
            To::Workers => (self.names.http_control()?, WORKERS.into()),
            To::Callers => (self.names.http_control()?, CALLERS.into()),
        })
    }

    fn settle(&mut self, Confirmed { answer, reply }: Confirmed) -> Result<(), LinkError> {
        // Whoever asked may have gone.
        let answer = match answer {
            None => return Err(LinkError::Silent { what: "a message", limit: CONFIRM_TIME }),
            Some(Err(source)) => return Err(LinkError::Amqp { what: "publishing", source }),
            Some(Ok(answer)) => answer,
        };
        let is_ack = answer.is_ack();
        if let Some(message) = answer.take_message()
            && let Some(id) = uuid(message.delivery.properties.message_id())
        {
            self.missing |= self.names.http().is_ok_and(|exchange| exchange == message.delivery.exchange);
            _ = self.returned.send(id);
        }
        let refused = || BrokerError::NotNow { reason: "the queue is full, or has no leader now".to_owned() };
        _ = reply.send(if is_ack { Ok(()) } else { Err(refused()) });
        Ok(())
    }

    fn refuse_all(mut self) {
        self.letters.close();
        while let Ok(Sending { reply, .. }) = self.letters.try_recv() {
            _ = reply.send(Err(BrokerError::Closed));
        }
    }
}

/// The pool of a role, whose names have all been found short enough.
fn pool_of(names: &Names, role: &Role) -> Result<String, LinkError> {
    let (Role::HttpCaller { pool, .. } | Role::HttpWorker { pool }) = role else {
        return Err(LinkError::Ended("this role has no part in HTTP tasks"));
    };
    names.http_work(pool)?;
    // The longest of the others.
    names.http_replies(Uuid::nil())?;
    Ok(pool.clone())
}

struct Confirmed {
    /// None when it did not come in time.
    answer: Option<lapin::Result<Confirmation>>,
    reply: oneshot::Sender<Result<(), BrokerError>>,
}

async fn send(
    channel: Channel,
    exchange: ShortString,
    key: ShortString,
    letter: Letter,
    reply: oneshot::Sender<Result<(), BrokerError>>,
) -> Confirmed {
    let name = |id: Uuid| ShortString::from(id.to_string());
    let mut properties = BasicProperties::default()
        .with_content_type("application/vnd.tasker.http".into())
        .with_delivery_mode(if letter.persistent { 2 } else { 1 })
        .with_message_id(name(letter.id))
        .with_correlation_id(name(letter.task));
    if let Some(span) = letter.expires_in {
        properties = properties.with_expiration(expiration(span));
    }
    // What is said to all may find nobody.
    let mandatory = matches!(letter.to, To::Work { .. } | To::Replies(_));
    let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
    let published = async {
        match channel.basic_publish(exchange, key, options, &letter.body, properties).await {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        }
    };
    Confirmed { answer: timeout(CONFIRM_TIME, published).await.ok(), reply }
}

/// The task that reads one inbox.
struct Reader {
    names: Names,
    role: Role,
    inbox: Inbox,
    prefetch: u16,
    sessions: Sessions,
    arrivals: mpsc::Sender<Arrival>,
    link: watch::Sender<Link>,
    stop: CancellationToken,
    closing: CancellationToken,
}

impl Reader {
    async fn run(mut self) {
        loop {
            let session = tokio::select! {
                session = next_session(&mut self.sessions) => session,
                () = self.closing.cancelled() => return,
                () = self.stop.cancelled() => return,
                () = self.arrivals.closed() => return,
            };
            let Some(session) = session else { return };
            let end = tokio::select! {
                end = self.read(&session) => end,
                () = session.broken() => Err(LinkError::Ended("the connection ended")),
                () = self.closing.cancelled() => return,
                () = self.arrivals.closed() => return,
            };
            self.link.send_modify(|link| link.up = false);
            match end {
                Ok(()) => return,
                Err(error) => session.fail(&error),
            }
        }
    }

    /// Reads on one connection until told to stop.
    async fn read(&self, session: &Session) -> Result<(), LinkError> {
        let channel = session.channel().await?;
        within("setting the prefetch", channel.basic_qos(self.prefetch, BasicQosOptions::default())).await?;
        let queue = match (self.inbox, &self.role) {
            (Inbox::Work, Role::HttpWorker { pool }) => self.names.http_work(pool)?,
            (Inbox::Replies, Role::HttpCaller { caller, .. }) => self.names.http_replies(*caller)?,
            (Inbox::Control, Role::HttpWorker { .. }) => {
                topology::declare_http_control(&channel, &self.names, WORKERS).await?
            }
            (Inbox::Control, Role::HttpCaller { .. }) => {
                topology::declare_http_control(&channel, &self.names, CALLERS).await?
            }
            _ => return Err(LinkError::Ended("there is no such inbox in this role")),
        };
        let consume = channel.basic_consume(
            queue,
            ShortString::default(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let mut consumer = within("starting to consume", consume).await?;
        self.link.send_modify(|link| *link = link.renewed());
        let mut stopped = false;
        loop {
            tokio::select! {
                delivery = consumer.next() => {
                    let delivery = match delivery {
                        Some(Ok(delivery)) => delivery,
                        Some(Err(source)) => return Err(LinkError::Amqp { what: "consuming", source }),
                        None if stopped => return Ok(()),
                        None => return Err(LinkError::Ended("the broker ended a consumer; its queue may have been deleted")),
                    };
                    if self.arrivals.send(arrival(&channel, delivery)).await.is_err() {
                        return Ok(());
                    }
                }
                () = self.stop.cancelled(), if !stopped => {
                    stopped = true;
                    let cancel = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
                    within("stopping to consume", cancel).await?;
                }
            }
        }
    }
}

fn arrival(channel: &Channel, delivery: message::Delivery) -> Arrival {
    let headers = delivery.properties.headers().as_ref();
    let header = |name: &str| headers.and_then(|headers| headers.inner().get(name));
    let before = match header(DELIVERIES) {
        Some(AMQPValue::LongLongInt(count)) => u32::try_from(*count).unwrap_or(0),
        Some(AMQPValue::LongInt(count)) => u32::try_from(*count).unwrap_or(0),
        _ => u32::from(delivery.redelivered),
    };
    let death = match header(DEATH) {
        Some(AMQPValue::LongString(reason)) => Some(String::from_utf8_lossy(reason.as_bytes()).into_owned()),
        _ => None,
    };
    Arrival {
        id: uuid(delivery.properties.message_id()),
        caller: delivery
            .routing_key
            .as_str()
            .rsplit('.')
            .next()
            .and_then(|caller| Uuid::try_parse(caller).ok()),
        death,
        deliveries: before.saturating_add(1),
        body: Bytes::from(delivery.data),
        receipt: Receipt { channel: channel.clone(), tag: delivery.delivery_tag },
    }
}

fn uuid(text: &Option<ShortString>) -> Option<Uuid> {
    text.as_ref().and_then(|text| Uuid::try_parse(text.as_str()).ok())
}
