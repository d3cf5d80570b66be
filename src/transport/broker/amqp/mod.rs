//! The broker behind RabbitMQ.
//!
//! `options` say how to connect · `connection` keeps a link, `links` all of one process · `link_error` is
//! what can go wrong on one, `trouble` what to do about it · `topology` declares · `publisher` and `parts`
//! send · `consumer` and `feed` receive, and `aside` knows the queues that cost their connection ·
//! `admission` makes the queues of restricted endpoints · `post` sends and receives HTTP tasks that workers
//! perform. Each task here owns its channels alone; they meet in the present session of a connection, which
//! any of them may give up.

mod admission;
mod aside;
mod connection;
mod consumer;
mod feed;
mod link_error;
mod links;
mod options;
mod parts;
mod post;
mod publisher;
mod stream;
mod topology;
mod trouble;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use self::aside::Aside;
pub use self::connection::try_connection;
use self::connection::{Purpose, Sessions};
use self::consumer::{NamedOnly, RefusedQueues, Subscriber};
use self::link_error::{LinkError, within};
use self::links::Links;
pub use self::options::{AmqpOptions, Role};
use self::parts::Author;
pub use self::post::{Arrival, Inbox, Incoming, Letter, Post, Receipt, To};
use self::publisher::{PublishCall, Publisher, disconnected};
pub use self::topology::HTTP_REDELIVERIES;
use self::topology::{Doomed, Names};
use super::parcels::{self, Parcels};
use super::{Address, Broker, BrokerError, Consumer, Link, Message, Refusals, SharedBroker, Source};
use crate::domain::{EndpointName, TaskType};

/// Calls to publish that wait for the publisher.
const CALLS: usize = 64;

/// The broker behind RabbitMQ.
pub struct AmqpBroker {
    links: Links,
    names: Names,
    publishing: watch::Receiver<Link>,
    calls: mpsc::Sender<PublishCall>,
    /// For dead letters, on a channel of their own: what the broker refuses of them ends no other message's
    /// channel.
    dead_calls: mpsc::Sender<PublishCall>,
    consuming: Sessions,
    named_only: NamedOnly,
    refused_queues: RefusedQueues,
}

impl AmqpBroker {
    /// Starts to connect in the background, and returns at once. To be called on a tokio runtime.
    pub fn start(options: AmqpOptions) -> SharedBroker {
        let of_endpoint = options.role == Role::Endpoint;
        let names = Names::new(&options.message_queue.exchange);
        let author = Author::of(&options);
        let links = Links::new(options);
        // Endpoints have one connection, because there are thousands of them.
        let (publish, consuming) = if of_endpoint {
            let only = links.keep(Purpose::All);
            (only.clone(), only)
        } else {
            (links.keep(Purpose::Publish), links.keep(Purpose::Consume))
        };
        let publisher = |sessions| {
            let (link, publishing) = watch::channel(Link::default());
            let (calls, queue) = mpsc::channel(CALLS);
            let (safe_url, closing, refused) =
                (links.safe_url.clone(), links.closing.clone(), HashMap::new());
            let publisher = Publisher {
                names: names.clone(),
                author: author.clone(),
                safe_url,
                sessions,
                calls: queue,
                link,
                closing,
                refused,
            };
            links.workers.spawn(publisher.run());
            (publishing, calls)
        };
        let (publishing, calls) = publisher(publish.clone());
        let (_, dead_calls) = publisher(publish);
        Arc::new(Self {
            links,
            names,
            publishing,
            calls,
            dead_calls,
            consuming,
            named_only: NamedOnly::default(),
            refused_queues: RefusedQueues::default(),
        })
    }

    /// Deletes everything declared under the prefix of these options: for an installation that is given up,
    /// such as the bench's. Nobody may be connected to it any more.
    ///
    /// # Errors
    /// When the broker cannot be reached, or refuses.
    pub async fn remove_topology(
        options: &AmqpOptions,
        subscriptions: &[(TaskType, EndpointName)],
    ) -> Result<(), BrokerError> {
        let names = Names::new(&options.message_queue.exchange);
        let doomed = match &options.role {
            Role::HttpCaller { pool, .. } | Role::HttpWorker { pool } => Doomed::of_http(&names, pool),
            Role::Api { types } => Doomed::all(&names, types, subscriptions),
            Role::Endpoint => Doomed::all(&names, &[], subscriptions),
        };
        delete(options, doomed).await
    }

    /// Deletes the queues of an endpoint, with the messages in them.
    ///
    /// # Errors
    /// When the broker cannot be reached, or refuses.
    pub async fn remove_queues(
        options: &AmqpOptions,
        subscriptions: &[(TaskType, EndpointName)],
    ) -> Result<(), BrokerError> {
        let names = Names::new(&options.message_queue.exchange);
        delete(options, Doomed::of_subscriptions(&names, subscriptions)).await
    }

    fn named_only(&self) -> std::sync::MutexGuard<'_, HashSet<(TaskType, EndpointName)>> {
        self.named_only.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn leave_fanout(&self, subscriptions: &[(TaskType, EndpointName)]) -> Result<(), BrokerError> {
        let session = self.consuming.borrow().clone().ok_or_else(|| disconnected(&self.links.safe_url))?;
        if session.is_restricted() {
            // The API takes the endpoint out of the fanout when it says goodbye.
            return Ok(());
        }
        let left: Result<(), LinkError> = async {
            // A channel of its own: an error here must not end a channel that consumes.
            let channel = session.channel().await?;
            topology::leave_fanout(&channel, &self.names, subscriptions).await?;
            within("closing a channel", channel.close(200, "left".into())).await
        }
        .await;
        left.map_err(|error| BrokerError::Unconfirmed { reason: error.to_string() })
    }
}

/// Deletes queues and exchanges over a connection of its own.
async fn delete(options: &AmqpOptions, doomed: Result<Doomed, LinkError>) -> Result<(), BrokerError> {
    let removal = async {
        let doomed = doomed?;
        let session = connection::establish(options, Purpose::All).await?;
        let removed = match session.channel().await {
            Ok(channel) => topology::delete(&channel, doomed).await,
            Err(error) => Err(error),
        };
        session.end().await;
        removed
    };
    removal.await.map_err(|error: LinkError| BrokerError::Refused { reason: error.to_string() })
}

#[async_trait]
impl Broker for AmqpBroker {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), BrokerError>> {
        let count = messages.len();
        let all = |error: BrokerError| vec![Err(error); count];
        let Parcels { messages, places } = Parcels::of(messages);
        if self.links.closing.is_cancelled() {
            return all(BrokerError::Closed);
        }
        if !self.publishing.borrow().up {
            return all(disconnected(&self.links.safe_url));
        }
        let dead = messages.iter().all(|message| matches!(message.to, Address::Dead { .. }));
        if dead && self.consuming.borrow().as_ref().is_some_and(|session| session.is_restricted()) {
            let reason = "the broker user of an endpoint may not publish dead letters".to_owned();
            return all(BrokerError::Refused { reason });
        }
        let calls = if dead { &self.dead_calls } else { &self.calls };
        let (reply, answer) = oneshot::channel();
        if calls.send(PublishCall { messages, reply }).await.is_err() {
            return all(BrokerError::Closed);
        }
        match answer.await {
            Ok(results) => parcels::results(&places, &results),
            Err(_) => all(BrokerError::Unconfirmed { reason: "the publisher ended".to_owned() }),
        }
    }

    async fn consume(&self, source: Source, prefetch: u16) -> Result<Consumer, BrokerError> {
        if self.links.closing.is_cancelled() {
            return Err(BrokerError::Closed);
        }
        // A name that is given twice would be refused by the broker, with ourselves as the other process.
        let source = match source {
            Source::Tasks(names) => {
                Source::Tasks(names.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
            }
            other => other,
        };
        if let Source::Tasks(names) = &source {
            let mut named_only = self.named_only();
            named_only.retain(|left| !names.contains(left));
        }
        // 0 would mean "without bound" to the broker.
        let prefetch = prefetch.max(1);
        let (deliveries, receiver) = mpsc::channel(usize::from(prefetch));
        let (link, state) = watch::channel(Link::default());
        let (refused, refusals) = watch::channel(Refusals::new());
        let subscriber = Subscriber {
            names: self.names.clone(),
            options: Arc::clone(&self.links.options),
            source,
            prefetch,
            sessions: self.consuming.clone(),
            deliveries,
            link,
            named_only: Arc::clone(&self.named_only),
            refused_queues: Arc::clone(&self.refused_queues),
            closing: self.links.closing.clone(),
            refused,
            aside: Aside::default(),
        };
        self.links.workers.spawn(subscriber.run());
        Ok(Consumer { deliveries: receiver, link: state, refused: refusals })
    }

    async fn admit(&self, subscriptions: Vec<(TaskType, EndpointName)>) -> Vec<Result<(), BrokerError>> {
        let all = |error: BrokerError| vec![Err(error); subscriptions.len()];
        let Some(session) = self.consuming.borrow().clone() else {
            return all(disconnected(&self.links.safe_url));
        };
        match admission::admit(&session, &self.names, &subscriptions).await {
            Ok(results) => results
                .into_iter()
                .map(|result| result.map_err(|error| BrokerError::Refused { reason: error.to_string() }))
                .collect(),
            Err(error) => all(BrokerError::Unconfirmed { reason: error.to_string() }),
        }
    }

    async fn dismiss(&self, subscriptions: Vec<(TaskType, EndpointName)>) -> Result<(), BrokerError> {
        if self.links.closing.is_cancelled() {
            return Err(BrokerError::Closed);
        }
        if self.links.options.role == Role::Endpoint {
            // First: a reconnect in between must not bind them again.
            self.named_only().extend(subscriptions.iter().cloned());
        }
        self.leave_fanout(&subscriptions).await
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.publishing.clone()
    }

    fn refused_queues(&self) -> Vec<String> {
        self.refused_queues.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    async fn close(&self) {
        self.links.finish().await;
        self.links.disconnect().await;
    }
}

impl fmt::Debug for AmqpBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpBroker").field("url", &self.links.safe_url).finish()
    }
}
