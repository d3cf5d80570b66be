//! A channel that consumes one or more queues.
//!
//! Owns the order of its deliveries and what of them may be acknowledged. A broker numbers the deliveries of
//! a channel, and one acknowledgement covers a number and all before it; the library hands them out by queue,
//! each in a stream of its own. So a feed puts them back into the order of their numbers: what is passed on
//! was preceded by all smaller ones, and acknowledging it cannot take away what nobody has seen.

use std::collections::{BTreeMap, VecDeque};

use futures::future::join_all;
use futures::stream::{BoxStream, StreamExt};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer, message};

use super::connection::Session;
use super::link_error::{LinkError, Scope, within};
use super::topology::{self, Names};
use crate::domain::{EndpointName, TaskType};

/// Task queues on one channel. Few enough that a refusal, which ends the channel, costs little; many enough
/// that thousands of queues fit into the 2047 channels of a connection.
pub(super) const QUEUES: usize = 64;

/// An item of a feed: which of its queues, and what came; `None` when the broker ended the consumer.
pub(super) type Item = (usize, Option<lapin::Result<message::Delivery>>);

pub(super) struct Feed {
    channel: Channel,
    order: InOrder<(usize, message::Delivery)>,
    /// The running number of the consumer, and the broker's number, of what was passed on and not
    /// acknowledged.
    passed: VecDeque<(u64, u64)>,
}

/// A feed with its deliveries.
pub(super) struct Opened {
    pub(super) feed: Feed,
    pub(super) items: BoxStream<'static, Item>,
    pub(super) subscriptions: Vec<(TaskType, EndpointName)>,
}

/// A subscription that the broker would not have.
pub(super) struct Refused {
    pub(super) subscription: (TaskType, EndpointName),
    pub(super) error: LinkError,
}

impl Feed {
    fn new(channel: Channel) -> Self {
        Self { channel, order: InOrder::new(), passed: VecDeque::new() }
    }

    /// Consumes one queue of the API, alone or beside others.
    pub(super) async fn of_api(
        session: &Session,
        queue: ShortString,
        alone: bool,
        prefetch: u16,
    ) -> Result<Opened, LinkError> {
        let channel = channel(session, prefetch).await?;
        // Asked first: the broker logs each refusal as an error, and a process that stands by tries for as
        // long as it lives.
        if alone && is_consumed(&channel, queue.clone()).await? {
            within("closing a channel", channel.close(200, "consumed by another process".into())).await?;
            return Err(LinkError::Held);
        }
        let consumer = consume(&channel, queue, alone).await?;
        Ok(Opened { items: items(0, consumer), feed: Self::new(channel), subscriptions: Vec::new() })
    }

    /// Consumes task queues, and declares them first unless the session is restricted. Those the broker
    /// refuses are set aside and the others tried again without them, on a new channel, since a refusal ends
    /// the old one.
    pub(super) async fn tasks(
        session: &Session,
        names: &Names,
        wanted: Vec<(TaskType, EndpointName)>,
        prefetch: u16,
        named_only: impl Fn(&(TaskType, EndpointName)) -> bool,
    ) -> Result<(Vec<Opened>, Vec<Refused>), LinkError> {
        let (mut opened, mut refused) = (Vec::new(), Vec::new());
        let mut waiting = vec![wanted];
        while let Some(mut some) = waiting.pop() {
            if some.is_empty() {
                continue;
            }
            let (place, error) = match Self::open(session, names, &some, prefetch, &named_only).await {
                Ok(feed) => {
                    opened.push(feed);
                    continue;
                }
                Err(stopped) => stopped,
            };
            if error.scope() == Scope::Connection || !session.lives() {
                return Err(error);
            }
            if !error.is_refusal() && some.len() > 1 {
                // The broker has closed the channel, and its word got lost: looked for by halves.
                waiting.push(some.split_off(some.len() / 2));
            } else {
                refused.push(Refused { subscription: some.remove(place), error });
            }
            waiting.push(some);
        }
        Ok((opened, refused))
    }

    /// All of these on one channel, or the place of one to blame.
    async fn open(
        session: &Session,
        names: &Names,
        wanted: &[(TaskType, EndpointName)],
        prefetch: u16,
        named_only: &impl Fn(&(TaskType, EndpointName)) -> bool,
    ) -> Result<Opened, (usize, LinkError)> {
        // Before there is a channel: a name that does not fit would leave it behind.
        let queues = topology::blame(
            wanted.iter().map(|(task_type, endpoint)| names.task_queue(task_type, endpoint)),
        )?;
        let channel = channel(session, prefetch).await.map_err(|error| (0, error))?;
        if !session.is_restricted() {
            topology::declare_task_queues(&channel, names, wanted).await?;
        }
        // Exclusive: two processes of one name would each run half of the tasks and both answer for it.
        let consumers =
            topology::blame(join_all(queues.into_iter().map(|queue| consume(&channel, queue, true))).await)?;
        if !session.is_restricted() {
            let leavers: Vec<bool> = wanted.iter().map(named_only).collect();
            topology::join_fanout(&channel, names, wanted, &leavers).await?;
        }
        let streams = consumers.into_iter().enumerate().map(|(place, consumer)| items(place, consumer));
        let items = futures::stream::select_all(streams).boxed();
        Ok(Opened { feed: Self::new(channel), items, subscriptions: wanted.to_vec() })
    }

    /// Takes what came and answers what may be passed on now.
    pub(super) fn arrived(
        &mut self,
        place: usize,
        delivery: message::Delivery,
    ) -> Vec<(usize, message::Delivery)> {
        self.order.arrived(delivery.delivery_tag, (place, delivery))
    }

    /// Notes that a delivery is passed on under a running number.
    pub(super) fn pass(&mut self, number: u64, tag: u64) {
        self.passed.push_back((number, tag));
    }

    /// Acknowledges all that was passed on up to a running number.
    pub(super) async fn acknowledge(&mut self, through: u64) -> Result<(), LinkError> {
        let mut last = None;
        while let Some((_, tag)) = self.passed.pop_front_if(|(number, _)| *number <= through) {
            last = Some(tag);
        }
        match last {
            Some(tag) => {
                within("acknowledging", self.channel.basic_ack(tag, BasicAckOptions { multiple: true })).await
            }
            None => Ok(()),
        }
    }

    /// Ends the channel: what was not acknowledged goes back to its queue at once.
    pub(super) async fn close(self) -> Result<(), LinkError> {
        within("closing a channel", self.channel.close(200, "no longer consumed".into())).await
    }
}

pub(super) async fn channel(session: &Session, prefetch: u16) -> Result<Channel, LinkError> {
    let channel = session.channel().await?;
    // Before anything is consumed, and per consumer: without it the library buffers the whole queue.
    within("setting the prefetch", channel.basic_qos(prefetch, BasicQosOptions { global: false })).await?;
    Ok(channel)
}

/// Whether anybody consumes a queue.
async fn is_consumed(channel: &Channel, queue: ShortString) -> Result<bool, LinkError> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let asked = channel.queue_declare(queue, passive, FieldTable::default());
    Ok(within("asking for the consumers of a queue", asked).await?.consumer_count() > 0)
}

pub(super) async fn consume(
    channel: &Channel,
    queue: ShortString,
    exclusive: bool,
) -> Result<Consumer, LinkError> {
    let options = BasicConsumeOptions { exclusive, ..BasicConsumeOptions::default() };
    within("consuming", channel.basic_consume(queue, ShortString::default(), options, FieldTable::default()))
        .await
}

/// What comes from one consumer, with its end as an item of its own: a stream that merely ended would go
/// unnoticed among others.
pub(super) fn items(place: usize, consumer: Consumer) -> BoxStream<'static, Item> {
    consumer.map(move |item| (place, Some(item))).chain(futures::stream::iter([(place, None)])).boxed()
}

/// Puts numbered things, from 1 on, into order.
struct InOrder<T> {
    next: u64,
    early: BTreeMap<u64, T>,
}

impl<T> InOrder<T> {
    fn new() -> Self {
        Self { next: 1, early: BTreeMap::new() }
    }

    /// Takes one and answers all whose turn it is.
    fn arrived(&mut self, number: u64, thing: T) -> Vec<T> {
        if number != self.next {
            self.early.insert(number, thing);
            return Vec::new();
        }
        self.next += 1;
        let mut due = vec![thing];
        while let Some(thing) = self.early.remove(&self.next) {
            self.next += 1;
            due.push(thing);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_order_becomes_the_right_one(order in Just((1..50u64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut feed = InOrder::new();
            let passed: Vec<u64> = order.iter().flat_map(|number| feed.arrived(*number, *number)).collect();
            prop_assert_eq!(passed, (1..50).collect::<Vec<_>>());
        }
    }
}
