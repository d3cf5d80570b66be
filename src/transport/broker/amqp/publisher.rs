//! Publishes on one channel, from one task.
//!
//! Owns the channel in confirm mode and what is in flight on it. One task, because confirms of a channel that
//! several tasks publish on can reach the wrong message. Pipelined: up to [`IN_FLIGHT`] publishes wait for
//! their confirms, each of which is looked at for itself. A confirm that does not come leaves a message
//! unknown, never "not sent".

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{Channel, Confirmation};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::connection::{Session, Sessions, next_session};
use super::link_error::{LinkError, Scope, within};
use super::parts::{Author, CONFIRM_TIME, IN_FLIGHT, Part, needed_type, parts};
use super::topology::{Names, Unit, short};
use crate::backoff::Backoff;
use crate::broker::{BrokerError, Link, Message};
use crate::domain::TaskType;

/// How long nothing is published to an exchange that was refused.
const LEFT_ALONE: Duration = Duration::from_secs(10);
/// How often the above is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Beyond this a broker closes the channel, and with it fails everybody's messages.
const BODY_BYTES: usize = 16 << 20;

/// Messages to publish and where to say what became of them.
pub(super) struct PublishCall {
    pub(super) messages: Vec<Message>,
    pub(super) reply: oneshot::Sender<Vec<Result<(), BrokerError>>>,
}

/// The task that publishes.
pub(super) struct Publisher {
    pub(super) names: Names,
    pub(super) author: Author,
    pub(super) safe_url: String,
    pub(super) sessions: Sessions,
    pub(super) calls: mpsc::Receiver<PublishCall>,
    pub(super) link: watch::Sender<Link>,
    pub(super) closing: CancellationToken,
    /// Exchanges that were refused, with the reason and until when nothing is published to them.
    pub(super) refused: HashMap<ShortString, (String, Instant)>,
}

impl Publisher {
    /// Publishes until closed and nothing is in flight.
    pub(super) async fn run(mut self) {
        loop {
            let session = tokio::select! {
                biased;
                () = self.closing.cancelled() => return self.refuse_all(),
                session = next_session(&mut self.sessions) => session,
                // Those who asked just before the link went down.
                Some(call) = self.calls.recv() => {
                    self.refuse(call);
                    continue;
                }
            };
            let Some(session) = session else { return self.refuse_all() };
            match self.publish_on(&session).await {
                Ok(()) => return self.refuse_all(),
                Err(error) => session.fail(&error),
            }
        }
    }

    /// Publishes on one connection, over as many channels as it takes.
    async fn publish_on(&mut self, session: &Session) -> Result<(), LinkError> {
        for failures in 1.. {
            for (exchange, reason) in session.refused() {
                self.leave_alone(exchange, reason);
            }
            let channel = confirming_channel(session).await?;
            self.link.send_modify(|link| *link = link.renewed());
            let mut flight = Flight::new(channel);
            let end = self.publish(session, &mut flight).await;
            self.link.send_modify(|link| link.up = false);
            let Err(error) = end else { return Ok(()) };
            flight.give_up(&self.safe_url, &error);
            if error.scope() == Scope::Connection || !session.lives() {
                return Err(error);
            }
            warn!(broker = %self.safe_url, "a channel that publishes has ended; opening another one: {error}");
            if let Some(exchange) = error.refused_exchange().and_then(|name| short(name.to_owned()).ok()) {
                self.leave_alone(exchange, error.to_string());
            }
            // What ended it may be gone: an exchange or a queue that somebody has deleted.
            let pause = sleep(Backoff::CONNECTION.jittered(failures.min(5)));
            tokio::select! {
                () = session.broken() => return Err(LinkError::Ended("the connection ended")),
                () = self.closing.cancelled() => return Ok(()),
                () = pause => session.declare().await?,
            }
        }
        Ok(())
    }

    fn leave_alone(&mut self, exchange: ShortString, reason: String) {
        self.refused.insert(exchange, (reason, Instant::now() + LEFT_ALONE));
    }

    /// Declares the types of these messages that this channel has not seen. One that is refused is left alone
    /// for a while.
    async fn declare_types(
        &mut self,
        session: &Session,
        flight: &mut Flight,
        messages: &[Message],
    ) -> Result<(), LinkError> {
        self.refused.retain(|_, (_, until)| *until > Instant::now());
        for task_type in messages.iter().filter_map(needed_type) {
            if flight.declared.contains(task_type)
                || self.refused.contains_key(&self.names.fanout(task_type)?)
            {
                continue;
            }
            // A publish to an exchange that is not there would end the channel, and with it everybody's
            // messages.
            match session.declare_unit(Unit::Type(task_type)).await? {
                Ok(()) => drop(flight.declared.insert(task_type.clone())),
                Err(error) => {
                    warn!(%task_type, "nothing is published to the exchanges of `{task_type}` for {} s: {error}", LEFT_ALONE.as_secs());
                    for exchange in Unit::Type(task_type).exchanges(&self.names)? {
                        self.leave_alone(exchange, error.to_string());
                    }
                }
            }
        }
        Ok(())
    }

    /// Publishes on one channel until it fails or the broker is closed.
    async fn publish(&mut self, session: &Session, flight: &mut Flight) -> Result<(), LinkError> {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            flight.fill()?;
            tokio::select! {
                biased;
                () = session.broken() => return Err(LinkError::Ended("the connection ended")),
                Some(confirmed) = flight.in_flight.next(), if !flight.in_flight.is_empty() => flight.settle(confirmed)?,
                call = self.calls.recv(), if flight.has_room() => match call {
                    Some(call) => {
                        if let Err(error) = self.declare_types(session, flight, &call.messages).await {
                            self.refuse(call);
                            return Err(error);
                        }
                        flight.accept(call, &self.names, &self.author, session.frame_max(), &self.refused);
                    }
                    None => return Ok(()),
                },
                _ = look.tick() => {
                    let blocked = session.is_blocked();
                    // Those who look at the link before they publish need not wait for the time limit.
                    self.link.send_if_modified(|link| std::mem::replace(&mut link.up, !blocked) == blocked);
                    if flight.give_up_overdue(&self.safe_url) && !blocked {
                        return Err(LinkError::Silent { what: "a message", limit: CONFIRM_TIME });
                    }
                }
                () = self.closing.cancelled(), if flight.is_idle() => return Ok(()),
            }
        }
    }

    fn refuse(&self, call: PublishCall) {
        let error =
            if self.closing.is_cancelled() { BrokerError::Closed } else { disconnected(&self.safe_url) };
        // The caller may have gone.
        let _ = call.reply.send(vec![Err(error); call.messages.len()]);
    }

    fn refuse_all(mut self) {
        self.calls.close();
        while let Ok(call) = self.calls.try_recv() {
            self.refuse(call);
        }
    }
}

pub(super) fn disconnected(safe_url: &str) -> BrokerError {
    BrokerError::Disconnected { safe_url: safe_url.to_owned() }
}

async fn confirming_channel(session: &Session) -> Result<Channel, LinkError> {
    let channel = session.channel().await?;
    within("turning on confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok(channel)
}

/// Which message of which call a publish belongs to.
#[derive(Clone, Copy)]
struct Place {
    call: u64,
    message: usize,
}

struct Confirmed {
    place: Place,
    answer: lapin::Result<Confirmation>,
}

type Publishing = Pin<Box<dyn Future<Output = Confirmed> + Send>>;

/// What is on its way through one channel.
struct Flight {
    channel: Channel,
    /// Types whose exchanges were declared since this channel was opened.
    declared: BTreeSet<TaskType>,
    next_call: u64,
    calls: HashMap<u64, Pending>,
    waiting: VecDeque<(Place, Part)>,
    in_flight: FuturesUnordered<Publishing>,
}

/// A call that is not answered yet.
struct Pending {
    /// Taken when the caller was told that it took too long; what is in flight is still counted.
    reply: Option<oneshot::Sender<Vec<Result<(), BrokerError>>>>,
    messages: Vec<Progress>,
    /// Publishes of all messages that are not confirmed.
    open: usize,
    /// When something last moved.
    moved: Instant,
}

#[derive(Default)]
struct Progress {
    unsent: usize,
    unconfirmed: usize,
    error: Option<BrokerError>,
}

impl Pending {
    fn is_done(&self) -> bool {
        self.open == 0
    }

    /// Answers the caller; what is still open gets the error that fits.
    fn answer(&mut self, safe_url: &str, reason: &str) {
        let Some(reply) = self.reply.take() else { return };
        let results = self.messages.iter_mut().map(|progress| match progress {
            Progress { error: Some(error), .. } => Err(error.clone()),
            Progress { unconfirmed: 1.., .. } => Err(BrokerError::Unconfirmed { reason: reason.to_owned() }),
            Progress { unsent: 1.., .. } => Err(disconnected(safe_url)),
            _ => Ok(()),
        });
        // The caller may have gone.
        let _ = reply.send(results.collect());
    }
}

impl Flight {
    fn new(channel: Channel) -> Self {
        Self {
            channel,
            declared: BTreeSet::new(),
            next_call: 0,
            calls: HashMap::new(),
            waiting: VecDeque::new(),
            in_flight: FuturesUnordered::new(),
        }
    }

    fn has_room(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.len() < IN_FLIGHT
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    fn accept(
        &mut self,
        call: PublishCall,
        names: &Names,
        author: &Author,
        frame_max: usize,
        refused: &HashMap<ShortString, (String, Instant)>,
    ) {
        let id = self.next_call;
        self.next_call += 1;
        let mut pending = Pending {
            reply: Some(call.reply),
            messages: Vec::with_capacity(call.messages.len()),
            open: 0,
            moved: Instant::now(),
        };
        for (index, message) in call.messages.iter().enumerate() {
            let mut progress = Progress::default();
            let made = match message.body.len() {
                0..=BODY_BYTES => parts(names, author, message, frame_max).map_err(|error| error.to_string()),
                length => Err(format!("a body of {length} bytes is over the limit of {BODY_BYTES}")),
            };
            let made =
                made.and_then(|parts| match parts.iter().find_map(|part| refused.get(&part.exchange)) {
                    Some((reason, _)) => Err(reason.clone()),
                    None => Ok(parts),
                });
            match made {
                Ok(parts) => {
                    progress.unsent = parts.len();
                    pending.open += parts.len();
                    self.waiting
                        .extend(parts.into_iter().map(|part| (Place { call: id, message: index }, part)));
                }
                Err(reason) => progress.error = Some(BrokerError::Refused { reason }),
            }
            pending.messages.push(progress);
        }
        match pending.is_done() {
            true => pending.answer("", ""),
            false => drop(self.calls.insert(id, pending)),
        }
    }

    /// Sends as much as may be in flight.
    fn fill(&mut self) -> Result<(), LinkError> {
        while self.in_flight.len() < IN_FLIGHT {
            let Some((place, part)) = self.waiting.pop_front() else { break };
            if let Some(pending) = self.calls.get_mut(&place.call) {
                pending.moved = Instant::now();
                pending.messages[place.message].unsent -= 1;
                pending.messages[place.message].unconfirmed += 1;
            }
            let mut publishing: Publishing = Box::pin(publish(self.channel.clone(), place, part));
            // The first poll hands the frames to the library: polled here, they go out in order.
            match (&mut publishing).now_or_never() {
                Some(confirmed) => self.settle(confirmed)?,
                None => self.in_flight.push(publishing),
            }
        }
        Ok(())
    }

    fn settle(&mut self, Confirmed { place, answer }: Confirmed) -> Result<(), LinkError> {
        let confirmation = answer.map_err(|source| LinkError::Amqp { what: "publishing", source })?;
        if let Confirmation::Ack(Some(_)) = confirmation {
            // The library may hand the returned message to the confirm of another one. So this channel's word
            // is worth nothing: all that is not confirmed yet is published again, and whoever comes back is
            // asked for what got lost just before.
            return Err(LinkError::Returned);
        }
        let Some(pending) = self.calls.get_mut(&place.call) else { return Ok(()) };
        let progress = &mut pending.messages[place.message];
        progress.unconfirmed -= 1;
        pending.open -= 1;
        pending.moved = Instant::now();
        if !confirmation.is_ack() {
            let reason = "a queue is full or could not store it".to_owned();
            progress.error = Some(BrokerError::NotNow { reason });
        }
        if pending.is_done()
            && let Some(mut done) = self.calls.remove(&place.call)
        {
            done.answer("", "");
        }
        Ok(())
    }

    /// Answers those who wait too long; tells whether there were any.
    fn give_up_overdue(&mut self, safe_url: &str) -> bool {
        let overdue: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, pending)| pending.reply.is_some() && pending.moved.elapsed() > CONFIRM_TIME)
            .map(|(id, _)| *id)
            .collect();
        for id in &overdue {
            // What was not sent never will be; what was sent may still be confirmed, and takes up room until
            // then.
            let before = self.waiting.len();
            self.waiting.retain(|(place, _)| place.call != *id);
            let dropped = before - self.waiting.len();
            let Some(pending) = self.calls.get_mut(id) else { continue };
            pending.answer(safe_url, &format!("no confirm within {} s", CONFIRM_TIME.as_secs()));
            pending.open -= dropped;
            if pending.is_done() {
                self.calls.remove(id);
            }
        }
        !overdue.is_empty()
    }

    /// Answers everybody: the channel is gone.
    fn give_up(mut self, safe_url: &str, error: &LinkError) {
        let reason = error.to_string();
        for pending in self.calls.values_mut() {
            pending.answer(safe_url, &reason);
        }
    }
}

async fn publish(channel: Channel, place: Place, part: Part) -> Confirmed {
    let Part { exchange, routing_key, properties, body, mandatory } = part;
    let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
    let answer = match channel.basic_publish(exchange, routing_key, options, &body, properties).await {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    Confirmed { place, answer }
}
