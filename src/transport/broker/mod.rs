//! The fast path between API processes and endpoints.
//!
//! Owns topology, wire format and connections; the only place with lapin. Two implementations of one trait,
//! held together by one conformance suite: `amqp` (RabbitMQ) and `memory` (in this process, for `tasker up`
//! and tests). A third, `fetch`, is the link of a worker that reaches nothing but the API. `envelope`, `seal_form`
//! and `wire` are the bytes of messages, `dead` puts aside what cannot be read, `account` names the broker users
//! of endpoints.
//!
//! What it promises: a message whose publish answered `Ok` was accepted by the broker; a delivery that was
//! not acknowledged comes again. What it does not: that a message arrives. The ledger asks again
//! (`reconciler`).

pub mod account;
pub mod amqp;
pub mod dead;
pub mod envelope;
pub mod fetch;
pub mod memory;
mod parcels;
pub mod provision;
pub mod seal_form;
pub mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::domain::{EndpointName, TaskId, TaskType, WireVersion};

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// Every endpoint subscribed to the type: the fanout exchange.
    All(TaskType),
    /// Just these endpoints of the type. Any number; split into several publishes where a header would grow
    /// too long.
    Named(TaskType, Vec<EndpointName>),
    /// These endpoints of the type, past the tasks that wait in their queue; lost for those not connected
    /// now.
    Control(TaskType, Vec<EndpointName>),
    /// The API processes: what became of tasks. Durable.
    Responses,
    /// The API processes: who is there.
    Presence,
    /// For people to look at: what could not be decoded, with the reason.
    Dead {
        /// Why.
        reason: String,
    },
}

/// A message to publish.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where to.
    pub to: Address,
    /// See [`wire`].
    pub body: Bytes,
    /// Whether the broker writes it to disk before it confirms.
    pub persistent: bool,
    /// How long it may lie in a queue; endless when absent.
    pub expires_in: Option<std::time::Duration>,
    /// What all its receivers read. Those who read version 2 may get it in a list with others.
    pub reads: WireVersion,
    /// What it is about, told beside the body to those who watch the broker.
    pub about: About,
}

/// What a message is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum About {
    /// Nothing that has a name.
    #[default]
    Nothing,
    /// One task.
    Task {
        /// Which.
        id: TaskId,
        /// Its type, and the number of the attempt that is asked for; none of a report.
        asked: Option<(TaskType, u32)>,
    },
    /// So many items.
    Items(usize),
}

impl Message {
    /// Neither persistent nor bounded in time, for receivers of which nothing is known.
    pub const fn new(to: Address, body: Bytes) -> Self {
        Self { to, body, persistent: false, expires_in: None, reads: WireVersion::One, about: About::Nothing }
    }
}

/// What to consume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The task queues and control messages of these endpoints. Several names on one link: relays and
    /// simulated fleets.
    Tasks(Vec<(TaskType, EndpointName)>),
    /// What endpoints report; shared by all consumers.
    Responses,
    /// Who is there. One consumer has it, others wait until that one has gone: who judges by silence must
    /// have heard all.
    Presence,
}

/// How a message came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Through the fanout exchange to a subscriber's queue.
    All(TaskType, EndpointName),
    /// By name to a subscriber's queue.
    Named(TaskType, EndpointName),
    /// By name, past the queue.
    Control(TaskType, EndpointName),
    /// From [`Source::Responses`].
    Responses,
    /// From [`Source::Presence`].
    Presence,
}

/// Who has published a message, as far as the broker has verified it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// The API, for a worker over HTTP whose token it has checked. With the broker in memory, anybody: one
    /// process is the whole platform.
    Api,
    /// The broker user of this endpoint.
    Endpoint(EndpointName),
    /// A user that does not belong to one endpoint, or a message that names no user.
    Unproven,
}

impl Sender {
    /// Whether it may speak for an endpoint.
    pub fn vouches_for(&self, endpoint: &EndpointName) -> bool {
        match self {
            Self::Api => true,
            Self::Endpoint(name) => name == endpoint,
            Self::Unproven => false,
        }
    }
}

/// A message that has arrived and waits to be acknowledged.
#[derive(Debug)]
pub struct Delivery {
    /// How it came.
    pub origin: Origin,
    /// Who has published it.
    pub sender: Sender,
    /// One item or many, see [`envelope`].
    pub body: Bytes,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Tells the broker that it is in safe hands. Dropped without use, the message comes again when the link
    /// is renewed.
    pub acker: Box<dyn Acker>,
}

/// Acknowledges deliveries of one consumer.
#[async_trait]
pub trait Acker: Send + Sync + std::fmt::Debug {
    /// Acknowledges this delivery *and all before it* of the same [`Consumer`], in one frame. A link that has
    /// been renewed meanwhile makes it a no-op: the deliveries come again.
    async fn ack_through(&self);
}

/// A stream of deliveries that outlives the connection: after a cut it goes on with the next one.
#[derive(Debug)]
pub struct Consumer {
    /// Bounded by the prefetch; closed when the broker is closed.
    pub deliveries: mpsc::Receiver<Delivery>,
    /// The state of the link *of this consumer*. Up as soon as it is set up, whichever task queues could be
    /// had.
    pub link: watch::Receiver<Link>,
    /// The task queues that cannot be had now; all others are served. They are tried again for as long as the
    /// consumer lives.
    pub refused: watch::Receiver<Refusals>,
}

/// Task queues that the broker refuses, by type and endpoint.
pub type Refusals = BTreeMap<(TaskType, EndpointName), Refusal>;

/// Why a task queue cannot be consumed now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Whether another process consumes the queue: this one stands by, and nothing is wrong with the queue.
    pub held: bool,
    /// What the broker said.
    pub reason: String,
}

/// Whether a link is up, and which one it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether messages can go and come now.
    pub up: bool,
    /// Grows by one with each connection made.
    pub epoch: u64,
    /// Whether the broker user of this process may not declare anything: the API makes its queues.
    pub restricted: bool,
}

impl Link {
    /// Up again, on another connection.
    pub const fn renewed(self) -> Self {
        Self { up: true, epoch: self.epoch + 1, ..self }
    }
}

/// Why a message did not go out, or may not have.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// There is no connection. The message was not sent.
    #[error("not connected to the broker at {safe_url}")]
    Disconnected {
        /// The address without password.
        safe_url: String,
    },
    /// A worker that reaches only the API does not reach it. The message was not sent.
    #[error("cannot reach the API at {url}: {reason}")]
    ApiUnreachable {
        /// The address of the API.
        url: String,
        /// What was seen.
        reason: String,
    },
    /// The connection ended, or the confirm did not come in time. It may have been sent, or may still be.
    #[error("the broker did not confirm: {reason}")]
    Unconfirmed {
        /// What was seen.
        reason: String,
    },
    /// The broker said no, and may say yes later: a queue is full, has no leader yet or could not store it.
    /// It gives no reason, so that one cannot be told from the other. The message was not taken.
    #[error("the broker cannot accept the message now: {reason}")]
    NotNow {
        /// What it may be.
        reason: String,
    },
    /// It will never be taken, such as one that is too long.
    #[error("the message was refused: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// The broker is being closed.
    #[error("the broker link is closed")]
    Closed,
}

/// A broker. Cheap to clone behind an [`Arc`]; connects in the background and for ever.
#[async_trait]
pub trait Broker: Send + Sync + std::fmt::Debug {
    /// Publishes in order and waits for all confirms; answers one result a message, in order. Bounded: waits
    /// while too many are in flight. Messages that are alike go as one, where that can be read.
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), BrokerError>>;

    /// Starts to consume. Declares what the source needs, now and after every reconnect. Returns at once; the
    /// consumer's link says when it is up. A task queue that is refused takes nothing away from the others.
    async fn consume(&self, source: Source, prefetch: u16) -> Result<Consumer, BrokerError>;

    /// Makes the queues of restricted endpoints, and lets them take part in the fanout. Returns for each
    /// subscription whether it is admitted, in order. Call it each time an endpoint joins.
    async fn admit(&self, subscriptions: Vec<(TaskType, EndpointName)>) -> Vec<Result<(), BrokerError>>;

    /// Takes these subscriptions out of the fanout (graceful leave); named messages still wait in the queue.
    /// An endpoint calls it for itself, and the API for restricted endpoints.
    async fn dismiss(&self, subscriptions: Vec<(TaskType, EndpointName)>) -> Result<(), BrokerError>;

    /// The state of the link that publishes.
    fn link(&self) -> watch::Receiver<Link>;

    /// Queues of the API that are to be consumed and that the broker refuses: without them no answer is
    /// heard.
    fn refused_queues(&self) -> Vec<String> {
        Vec::new()
    }

    /// Ends all consumers and connections; what was published and not confirmed is waited for first.
    async fn close(&self);
}

/// A shared broker.
pub type SharedBroker = Arc<dyn Broker>;
