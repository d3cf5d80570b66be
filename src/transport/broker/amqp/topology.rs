//! What is declared in RabbitMQ, by which role, and why each argument is what it is.
//!
//! Every exchange, queue and binding of the product is here and nowhere else; a new connection runs the same
//! functions as the first one. Arguments are constants and not configuration: re-declaring a queue with
//! another argument is refused by the broker (406), so a changed setting would lock every endpoint out of its
//! own queue. Works on RabbitMQ 3.10 to 4.x: queues are durable or exclusive, prefetch is per consumer,
//! nothing is mirrored or lazy. The last part is for HTTP tasks that workers perform, see [`super::post`].

use futures::future::{join_all, try_join_all};
use lapin::options::{
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use uuid::Uuid;

use super::link_error::{LinkError, within};
use super::options::Role;
use crate::domain::{EndpointName, TaskType};

/// An endpoint's queue that nobody consumed for so long is deleted: servers that are gone clean up after
/// themselves.
const TASK_QUEUE_UNUSED_MS: i64 = 7 * 24 * 3600 * 1000;
/// One endpoint that is away must not fill the broker's disk and so stop everybody; the ledger asks again for
/// what is dropped.
const TASK_QUEUE_BYTES: i64 = 256 << 20;
/// Responses are never dropped: over this, publishing them is refused and endpoints keep them in their
/// journals.
const RESPONSE_QUEUE_BYTES: i64 = 1 << 30;
/// Three of the longest presence intervals: older presence says nothing about now.
const PRESENCE_AGE_MS: i64 = 3 * 60 * 1000;
const PRESENCE_QUEUE_MESSAGES: i64 = 100_000;
/// Dead messages are for people to look at; nobody looks at more than this.
const DEAD_QUEUE_MESSAGES: i64 = 10_000;
const DEAD_QUEUE_BYTES: i64 = 64 << 20;
/// Control messages that wait for one connected process.
const CONTROL_QUEUE_MESSAGES: i64 = 10_000;
/// How long they wait in the queue of a restricted endpoint, which outlives the connection: the ledger says
/// them again to an endpoint that was away for longer.
const CONTROL_AGE_MS: i64 = 60 * 1000;
/// HTTP tasks of a pool that wait; over this, publishing them is refused and callers try again until their
/// time is over.
const HTTP_WORK_BYTES: i64 = 1 << 30;
/// How often an HTTP task is given out again after the worker that had it was lost. One that ends its workers
/// must not end all of them.
pub const HTTP_REDELIVERIES: u32 = 2;
/// What a caller that reconnects still finds; longer than it could wait for any of it.
const HTTP_REPLIES_UNUSED_MS: i64 = 10 * 60 * 1000;

/// The names in the broker. All begin with the installation's prefix, so that several can share a virtual
/// host.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// Tasks of a type for everyone.
    pub(super) fn fanout(&self, task_type: &TaskType) -> Result<ShortString, LinkError> {
        short(format!("{}.{task_type}", self.prefix))
    }

    /// Tasks of a type by endpoint name.
    pub(super) fn direct(&self, task_type: &TaskType) -> Result<ShortString, LinkError> {
        short(format!("{}.{task_type}.to", self.prefix))
    }

    /// An endpoint's queue for a type.
    pub(super) fn task_queue(
        &self,
        task_type: &TaskType,
        endpoint: &EndpointName,
    ) -> Result<ShortString, LinkError> {
        short(format!("{}.{task_type}.{endpoint}", self.prefix))
    }

    /// A restricted endpoint's queue for control messages of a type. No type is called `control`.
    pub(super) fn control_queue(
        &self,
        task_type: &TaskType,
        endpoint: &EndpointName,
    ) -> Result<ShortString, LinkError> {
        short(format!("{}.control.{}", self.prefix, control_key(task_type, endpoint)))
    }

    pub(super) fn control(&self) -> Result<ShortString, LinkError> {
        short(format!("{}.control", self.prefix))
    }

    pub(super) fn responses(&self) -> Result<ShortString, LinkError> {
        short(format!("{}.responses", self.prefix))
    }

    pub(super) fn presence(&self) -> Result<ShortString, LinkError> {
        short(format!("{}.presence", self.prefix))
    }

    pub(super) fn dead(&self) -> Result<ShortString, LinkError> {
        short(format!("{}.dead", self.prefix))
    }

    /// HTTP tasks for workers, by pool and caller.
    pub(super) fn http(&self) -> Result<ShortString, LinkError> {
        short(format!("{}.trs.http.v1", self.prefix))
    }

    /// HTTP tasks that no worker performed.
    pub(super) fn http_dead(&self) -> Result<ShortString, LinkError> {
        short(format!("{}.trs.http.v1.dead", self.prefix))
    }

    /// What is said to all workers, or to all callers.
    pub(super) fn http_control(&self) -> Result<ShortString, LinkError> {
        short(format!("{}.trs.http.v1.control", self.prefix))
    }

    /// What became of HTTP tasks, by caller.
    pub(super) fn http_replies_exchange(&self) -> Result<ShortString, LinkError> {
        short(format!("{}.trs.http.v1.replies", self.prefix))
    }

    /// Where the HTTP tasks of a pool wait.
    pub(super) fn http_work(&self, pool: &str) -> Result<ShortString, LinkError> {
        short(format!("{}.trs.http.v1.work.{pool}", self.prefix))
    }

    /// Where a caller finds what became of its HTTP tasks.
    pub(super) fn http_replies(&self, caller: Uuid) -> Result<ShortString, LinkError> {
        short(format!("{}.trs.http.v1.replies.{caller}", self.prefix))
    }
}

/// The key of an endpoint's control messages.
pub(super) fn control_key(task_type: &TaskType, endpoint: &EndpointName) -> String {
    // A type has no dot, so the first dot ends it and no two pairs share a key.
    format!("{task_type}.{endpoint}")
}

/// A name of AMQP. The library's own conversion panics above 255 bytes.
pub(super) fn short(name: String) -> Result<ShortString, LinkError> {
    ShortString::try_new(name.as_str()).map_err(|_| LinkError::Name { name })
}

/// A part of the topology that is declared, or refused, as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit<'a> {
    Control,
    Responses,
    Presence,
    Dead,
    Type(&'a TaskType),
}

impl Unit<'_> {
    /// What belongs to no type. An API process declares besides it the exchanges of its types, so that tasks
    /// can be published before the first endpoint has ever connected. An endpoint declares the API's queues
    /// too: what it reports must have a place to wait even if no API process has ever run against this
    /// broker.
    pub(super) const SHARED: [Self; 4] = [Self::Control, Self::Responses, Self::Presence, Self::Dead];

    /// The exchanges that are published to.
    pub(super) fn exchanges(&self, names: &Names) -> Result<Vec<ShortString>, LinkError> {
        Ok(match self {
            Self::Control => vec![names.control()?],
            Self::Responses => vec![names.responses()?],
            Self::Presence => vec![names.presence()?],
            Self::Dead => vec![names.dead()?],
            Self::Type(task_type) => vec![names.fanout(task_type)?, names.direct(task_type)?],
        })
    }

    /// The name of queue and exchange, if it is a queue of the API.
    pub(super) fn mailbox(&self, names: &Names) -> Result<Option<ShortString>, LinkError> {
        Ok(match self {
            Self::Control | Self::Type(_) => None,
            Self::Responses => Some(names.responses()?),
            Self::Presence => Some(names.presence()?),
            Self::Dead => Some(names.dead()?),
        })
    }
}

/// Declares parts of the topology.
pub(super) async fn declare(channel: &Channel, names: &Names, units: &[Unit<'_>]) -> Result<(), LinkError> {
    try_join_all(units.iter().map(|unit| declare_unit(channel, names, *unit))).await?;
    Ok(())
}

async fn declare_unit(channel: &Channel, names: &Names, unit: Unit<'_>) -> Result<(), LinkError> {
    match unit {
        // Cancels and the like go past the waiting tasks, to those who are connected.
        Unit::Control => exchange(channel, names.control()?, ExchangeKind::Direct).await,
        Unit::Responses => {
            // Reached through an exchange of the same name and not through the default exchange: a queue that
            // somebody deleted would swallow messages in silence, a missing exchange is an error that makes
            // us declare all this again.
            let mut arguments = classic();
            arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(RESPONSE_QUEUE_BYTES));
            arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
            mailbox(channel, names.responses()?, arguments).await
        }
        Unit::Presence => {
            let mut arguments = classic();
            arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(PRESENCE_AGE_MS));
            arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(PRESENCE_QUEUE_MESSAGES));
            arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
            mailbox(channel, names.presence()?, arguments).await
        }
        Unit::Dead => {
            let mut arguments = classic();
            arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(DEAD_QUEUE_MESSAGES));
            arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(DEAD_QUEUE_BYTES));
            arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
            mailbox(channel, names.dead()?, arguments).await
        }
        Unit::Type(task_type) => declare_type(channel, names, task_type).await,
    }
}

/// The exchanges of one type.
async fn declare_type(channel: &Channel, names: &Names, task_type: &TaskType) -> Result<(), LinkError> {
    // One publish reaches every subscriber's queue; the broker shares the body between classic queues.
    exchange(channel, names.fanout(task_type)?, ExchangeKind::Fanout).await?;
    // Tasks with a list of endpoints, and repeats for those who missed one; many names travel in one publish.
    exchange(channel, names.direct(task_type)?, ExchangeKind::Direct).await
}

/// Declares the queues of subscriptions and binds them, pipelined. Answers the place of a subscription to
/// blame with the error: the broker works through a channel in order and closes it at the first refusal.
pub(super) async fn declare_task_queues(
    channel: &Channel,
    names: &Names,
    subscriptions: &[(TaskType, EndpointName)],
) -> Result<(), (usize, LinkError)> {
    let mut types: Vec<&TaskType> = subscriptions.iter().map(|(task_type, _)| task_type).collect();
    types.sort_unstable();
    types.dedup();
    for task_type in types {
        if let Err(error) = declare_type(channel, names, task_type).await {
            let place = subscriptions.iter().position(|(of, _)| of == task_type).unwrap_or_default();
            return Err((place, error));
        }
    }
    let mut arguments = classic();
    arguments.insert("x-expires".into(), AMQPValue::LongLongInt(TASK_QUEUE_UNUSED_MS));
    arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(TASK_QUEUE_BYTES));
    // Not `reject-publish`: one full queue would make the broker refuse the whole fanout, for everyone.
    arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
    let declared = join_all(subscriptions.iter().map(|(task_type, endpoint)| {
        let arguments = arguments.clone();
        async move {
            let (queue, key) = (names.task_queue(task_type, endpoint)?, short(endpoint.to_string())?);
            declare_bound(channel, queue, arguments, names.direct(task_type)?, key).await
        }
    }))
    .await;
    blame(declared).map(|_| ())
}

/// Lets subscriptions take part in the fanout, once their queues are consumed: a process that had them before
/// has left it by then. Those marked `named_only` have left it themselves; the binding of an earlier life is
/// taken away.
pub(super) async fn join_fanout(
    channel: &Channel,
    names: &Names,
    subscriptions: &[(TaskType, EndpointName)],
    named_only: &[bool],
) -> Result<(), (usize, LinkError)> {
    let joined = join_all(subscriptions.iter().zip(named_only).map(
        |((task_type, endpoint), named_only)| async move {
            let (queue, fanout, key) =
                (names.task_queue(task_type, endpoint)?, names.fanout(task_type)?, ShortString::default());
            match named_only {
                true => {
                    within(
                        "leaving the fanout",
                        channel.queue_unbind(queue, fanout, key, FieldTable::default()),
                    )
                    .await
                }
                false => {
                    let bind = channel.queue_bind(
                        queue,
                        fanout,
                        key,
                        QueueBindOptions::default(),
                        FieldTable::default(),
                    );
                    within("joining the fanout", bind).await
                }
            }
        },
    ))
    .await;
    blame(joined).map(|_| ())
}

/// All values, or the error to blame with its place. What is sent on a channel that the broker has closed
/// fails too, with an error of this side that may be noticed first: the broker's own word counts before it.
pub(super) fn blame<T>(
    results: impl IntoIterator<Item = Result<T, LinkError>>,
) -> Result<Vec<T>, (usize, LinkError)> {
    let (mut values, mut blamed) = (Vec::new(), None::<(usize, LinkError)>);
    for (place, result) in results.into_iter().enumerate() {
        match result {
            Ok(value) => values.push(value),
            Err(error)
                if blamed.as_ref().is_none_or(|(_, first)| error.is_refusal() && !first.is_refusal()) =>
            {
                blamed = Some((place, error));
            }
            Err(_) => {}
        }
    }
    match blamed {
        None => Ok(values),
        Some(blamed) => Err(blamed),
    }
}

/// The queue for control messages of one connected process: gone with its connection, because what was said
/// to a process that is no longer there is said again from the ledger when it returns.
pub(super) async fn declare_control_queue(channel: &Channel) -> Result<ShortString, LinkError> {
    let mut arguments = classic();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(CONTROL_QUEUE_MESSAGES));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
    // Exclusive, since 4.x refuses queues that are neither durable nor exclusive; auto-delete, since a
    // consumer may be given up before its connection.
    let options =
        QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let queue = within(
        "declaring the control queue",
        channel.queue_declare(ShortString::default(), options, arguments),
    )
    .await?;
    Ok(queue.name().clone())
}

/// Declares control queues of restricted endpoints, one for each subscription: an endpoint that may not bind
/// cannot have one queue for all its types, and its types may be divided among several processes.
pub(super) async fn declare_control_queues(
    channel: &Channel,
    names: &Names,
    subscriptions: &[(TaskType, EndpointName)],
) -> Result<(), (usize, LinkError)> {
    let mut arguments = classic();
    arguments.insert("x-expires".into(), AMQPValue::LongLongInt(TASK_QUEUE_UNUSED_MS));
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(CONTROL_AGE_MS));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(CONTROL_QUEUE_MESSAGES));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
    let declared = join_all(subscriptions.iter().map(|(task_type, endpoint)| {
        let arguments = arguments.clone();
        async move {
            let (queue, key) =
                (names.control_queue(task_type, endpoint)?, short(control_key(task_type, endpoint))?);
            declare_bound(channel, queue, arguments, names.control()?, key).await
        }
    }))
    .await;
    blame(declared).map(|_| ())
}

/// Declares a durable queue and binds it, in one round trip.
async fn declare_bound(
    channel: &Channel,
    queue: ShortString,
    arguments: FieldTable,
    exchange: ShortString,
    key: ShortString,
) -> Result<(), LinkError> {
    // Started together, in this order, so that a queue costs one round trip and not two.
    let declare = channel.queue_declare(queue.clone(), QueueDeclareOptions::durable(), arguments);
    let bind = channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default());
    // Wait for both: a bind that finds the channel closed fails at once, and the refusal that closed the
    // channel comes after.
    let (declare, bind) =
        futures::join!(within("declaring a queue", declare), within("binding a queue", bind));
    blame([declare.map(|_| ()), bind]).map(|_| ()).map_err(|(_, error)| error)
}

/// Lets a control queue hear what is meant for these subscriptions.
pub(super) async fn bind_control(
    channel: &Channel,
    names: &Names,
    queue: &ShortString,
    subscriptions: &[(TaskType, EndpointName)],
) -> Result<(), LinkError> {
    let exchange = names.control()?;
    try_join_all(subscriptions.iter().map(|(task_type, endpoint)| {
        let (queue, exchange) = (queue.clone(), exchange.clone());
        async move {
            let key = short(control_key(task_type, endpoint))?;
            let bind =
                channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default());
            within("binding the control queue", bind).await
        }
    }))
    .await?;
    Ok(())
}

/// Takes subscriptions out of the fanout; their queues stay and still get what is sent by name.
pub(super) async fn leave_fanout(
    channel: &Channel,
    names: &Names,
    subscriptions: &[(TaskType, EndpointName)],
) -> Result<(), LinkError> {
    try_join_all(subscriptions.iter().map(|(task_type, endpoint)| async move {
        let (queue, exchange) = (names.task_queue(task_type, endpoint)?, names.fanout(task_type)?);
        within(
            "leaving the fanout",
            channel.queue_unbind(queue, exchange, ShortString::default(), FieldTable::default()),
        )
        .await
    }))
    .await?;
    Ok(())
}

/// What one side of remote HTTP tasks needs.
pub(super) async fn declare_http_role(
    channel: &Channel,
    names: &Names,
    role: &Role,
) -> Result<(), LinkError> {
    match role {
        Role::HttpCaller { pool, caller } => {
            declare_http(channel, names, pool).await?;
            declare_http_replies(channel, names, *caller).await
        }
        Role::HttpWorker { pool } => declare_http(channel, names, pool).await,
        Role::Api { .. } | Role::Endpoint => Ok(()),
    }
}

/// What remote HTTP tasks need, declared by both sides, so that tasks can wait for the first worker and
/// workers for the first task.
///
/// The work queue is a quorum queue: a task that was published must not be lost with a node, and only those
/// count how often a message was given out. One that nobody performed goes back to its caller: the key of a
/// task names the caller, and its reply queue is bound for that key to the exchange of dead ones.
///
/// Answers go through an exchange of their own and not through the default exchange: a task names a caller,
/// not a queue, so that nobody who can send tasks can have workers write into the queues of others.
pub(super) async fn declare_http(channel: &Channel, names: &Names, pool: &str) -> Result<(), LinkError> {
    exchange(channel, names.http()?, ExchangeKind::Topic).await?;
    exchange(channel, names.http_dead()?, ExchangeKind::Topic).await?;
    exchange(channel, names.http_replies_exchange()?, ExchangeKind::Direct).await?;
    exchange(channel, names.http_control()?, ExchangeKind::Direct).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(HTTP_REDELIVERIES.into()));
    arguments
        .insert("x-dead-letter-exchange".into(), AMQPValue::LongString(names.http_dead()?.as_str().into()));
    arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(HTTP_WORK_BYTES));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let queue = names.http_work(pool)?;
    within(
        "declaring the work queue",
        channel.queue_declare(queue.clone(), QueueDeclareOptions::durable(), arguments),
    )
    .await?;
    let key = short(format!("{pool}.*"))?;
    let bind =
        channel.queue_bind(queue, names.http()?, key, QueueBindOptions::default(), FieldTable::default());
    within("binding the work queue", bind).await
}

/// The queue of a caller, for what became of its HTTP tasks. Durable: answers that come while the broker
/// restarts are still there.
async fn declare_http_replies(channel: &Channel, names: &Names, caller: Uuid) -> Result<(), LinkError> {
    let mut arguments = classic();
    arguments.insert("x-expires".into(), AMQPValue::LongLongInt(HTTP_REPLIES_UNUSED_MS));
    let queue = names.http_replies(caller)?;
    within(
        "declaring the reply queue",
        channel.queue_declare(queue.clone(), QueueDeclareOptions::durable(), arguments),
    )
    .await?;
    let bind = |exchange, key| {
        channel.queue_bind(queue.clone(), exchange, key, QueueBindOptions::default(), FieldTable::default())
    };
    within("binding the reply queue", bind(names.http_replies_exchange()?, short(caller.to_string())?))
        .await?;
    within("binding the reply queue", bind(names.http_dead()?, short(format!("*.{caller}"))?)).await
}

/// A queue of this connection for what is said under a key.
pub(super) async fn declare_http_control(
    channel: &Channel,
    names: &Names,
    key: &'static str,
) -> Result<ShortString, LinkError> {
    let queue = declare_control_queue(channel).await?;
    let bind = channel.queue_bind(
        queue.clone(),
        names.http_control()?,
        key.into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    within("binding the control queue", bind).await?;
    Ok(queue)
}

/// Deletes the reply queue of a caller that ends.
pub(super) async fn remove_http_replies(
    channel: &Channel,
    names: &Names,
    caller: Uuid,
) -> Result<(), LinkError> {
    let delete = channel.queue_delete(names.http_replies(caller)?, QueueDeleteOptions::default());
    within("deleting the reply queue", delete).await.map(|_| ())
}

/// Queues and exchanges to delete, with the messages in them.
pub(super) struct Doomed {
    queues: Vec<ShortString>,
    exchanges: Vec<ShortString>,
}

impl Doomed {
    /// All that the other functions declare for these types and subscriptions.
    pub(super) fn all(
        names: &Names,
        types: &[TaskType],
        subscriptions: &[(TaskType, EndpointName)],
    ) -> Result<Self, LinkError> {
        let mut exchanges = vec![names.responses()?, names.presence()?, names.dead()?];
        let mut queues = exchanges.clone();
        queues.extend(Self::of_subscriptions(names, subscriptions)?.queues);
        exchanges.push(names.control()?);
        for task_type in types {
            exchanges.extend([names.fanout(task_type)?, names.direct(task_type)?]);
        }
        Ok(Self { queues, exchanges })
    }

    /// The queues of subscriptions.
    pub(super) fn of_subscriptions(
        names: &Names,
        subscriptions: &[(TaskType, EndpointName)],
    ) -> Result<Self, LinkError> {
        let mut queues = Vec::with_capacity(2 * subscriptions.len());
        for (task_type, endpoint) in subscriptions {
            queues.push(names.task_queue(task_type, endpoint)?);
            queues.push(names.control_queue(task_type, endpoint)?);
        }
        Ok(Self { queues, exchanges: Vec::new() })
    }

    /// What HTTP tasks of a pool need; the exchanges are those of all pools of the installation.
    pub(super) fn of_http(names: &Names, pool: &str) -> Result<Self, LinkError> {
        let exchanges =
            vec![names.http()?, names.http_dead()?, names.http_replies_exchange()?, names.http_control()?];
        Ok(Self { queues: vec![names.http_work(pool)?], exchanges })
    }
}

pub(super) async fn delete(channel: &Channel, doomed: Doomed) -> Result<(), LinkError> {
    for queue in doomed.queues {
        within("deleting a queue", channel.queue_delete(queue, QueueDeleteOptions::default())).await?;
    }
    for exchange in doomed.exchanges {
        within("deleting an exchange", channel.exchange_delete(exchange, ExchangeDeleteOptions::default()))
            .await?;
    }
    Ok(())
}

/// The arguments of every queue.
///
/// Classic, because a quorum queue writes each copy of a fanout to disk of its own (300 endpoints, 300
/// bodies) and knows no transient messages; nothing here needs replication since the ledger asks again. In
/// its second version (RabbitMQ 3.10 and newer, the only one since 4.0), because the first makes files for
/// each queue when the first message comes: of 10,000 endpoints that cost their first task four seconds.
fn classic() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
    arguments.insert("x-queue-version".into(), AMQPValue::LongLongInt(2));
    arguments
}

/// A durable exchange: a broker that restarts has it back before anybody reconnects.
async fn exchange(channel: &Channel, name: ShortString, kind: ExchangeKind) -> Result<(), LinkError> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    within("declaring an exchange", channel.exchange_declare(name, kind, options, FieldTable::default()))
        .await
}

/// Lets a queue of the API that somebody else has made, with whatever arguments, get what is published to its
/// exchange.
pub(super) async fn bind_foreign_mailbox(channel: &Channel, name: ShortString) -> Result<(), LinkError> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    within("looking for a queue", channel.queue_declare(name.clone(), passive, FieldTable::default()))
        .await?;
    let bind = channel.queue_bind(
        name.clone(),
        name,
        ShortString::default(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    within("binding a queue", bind).await
}

/// Fails unless there is an exchange of this name, of whatever kind.
pub(super) async fn find_exchange(channel: &Channel, name: ShortString) -> Result<(), LinkError> {
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    within(
        "looking for an exchange",
        channel.exchange_declare(name, ExchangeKind::Fanout, passive, FieldTable::default()),
    )
    .await
}

/// A durable queue behind a fanout exchange of its own name, so that somebody who debugs can bind a second
/// queue to it.
async fn mailbox(channel: &Channel, name: ShortString, arguments: FieldTable) -> Result<(), LinkError> {
    exchange(channel, name.clone(), ExchangeKind::Fanout).await?;
    declare_bound(channel, name.clone(), arguments, name, ShortString::default()).await
}
