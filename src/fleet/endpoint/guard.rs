//! Judges what arrives before anything else looks at it, where messages are signed.
//!
//! Owns what the judgement needs besides the trust file: the clock as the welcome has shown it, and when each
//! type was welcomed. A message that is refused is kept in the quarantine, counted, and told in the log and
//! in the presence of the endpoint. The endpoint never asks for it again: the sender of a good message sends
//! another copy.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::fate::{Court, Verdict};
use super::orders::{Admission, Orders, Use};
use super::pace::Pace;
use super::quarantine::{Quarantine, Refused};
use super::revoked::Revoked;
use crate::broker::wire;
use crate::clock::Clock;
use crate::domain::{
    Command, EndpointName, Json, Order, Ordered, ReasonCode, Revocations, Seal, SealFault, TaskId, TaskType,
    Timestamp, WorkPart,
};
use crate::signing::{self, Cause, Denial, Moment, Situation, Trust, Verified};
use crate::telemetry::{LINE_EVERY, LogPace};

/// How often the log tells of messages without a signature at most.
const UNSIGNED_LINE_EVERY: Duration = Duration::from_secs(600);

/// How long presence tells of a refused message at most.
const TOLD_FOR: Duration = Duration::from_secs(600);

/// How often orders that are long over are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

/// How often the guard looks after what no message brings: the clock, and what could not be written.
const TEND_EVERY: Duration = Duration::from_secs(5);

/// How a guard judges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// Whether a message without a seal is refused.
    pub(super) required: bool,
    /// How far clocks may be off.
    pub(super) tolerance: Duration,
    /// Whether tasks that are refused here may be given to another one.
    pub(super) is_worker: bool,
}

/// The judge of one endpoint.
#[derive(Debug)]
pub(super) struct Guard {
    trust: Trust,
    manner: Manner,
    endpoint: EndpointName,
    state: Mutex<State>,
    quarantine: Arc<Mutex<Quarantine>>,
    orders: Orders,
    revoked: Revoked,
    /// What its signatures cost is paid once, however many copies share one and however often each is judged.
    verified: Verified,
    /// Told when the clock was set.
    clock_set: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// When each type was welcomed, by the clock of the ledger.
    welcomed: HashMap<TaskType, Timestamp>,
    pace: Pace,
    /// Whether the clock was set, and the session goes on as if it was not.
    must_join_again: bool,
    /// What presence has not told yet.
    untold: Counts,
    /// The message that was refused last and may come again, until one is accepted.
    last: Option<(Instant, Denial)>,
    /// Of the line about refused messages, and how many it has not told.
    refused_line: LogPace,
    unlogged: usize,
    /// Of the line about messages without a signature.
    unsigned_line: LogPace,
    /// When orders were last forgotten.
    forgotten: Option<Instant>,
}

/// Messages that presence tells of.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// Those that were refused.
    pub(super) refused: BTreeMap<SealFault, u32>,
    /// Those that were taken without a signature.
    pub(super) unsigned: u32,
}

impl Counts {
    fn add(&mut self, Self { refused, unsigned }: Self) {
        for (fault, count) in refused {
            let known = self.refused.entry(fault).or_default();
            *known = known.saturating_add(count);
        }
        self.unsigned = self.unsigned.saturating_add(unsigned);
    }
}

/// What a task may do whose turn has come.
#[derive(Debug)]
pub(super) enum Begin {
    /// Begin, with this payload.
    Plain(Json),
    /// The same, where an order has begun with it: the handler must not run before that is on disk.
    Ordered(Json),
    /// Wait: its order cannot be noted, or the clock cannot tell whether it has ended.
    Later,
}

impl Guard {
    pub(super) fn new(
        trust: Trust,
        manner: Manner,
        endpoint: EndpointName,
        quarantine: PathBuf,
        orders: Orders,
        revoked: Revoked,
    ) -> Self {
        tracing::info!(
            %endpoint, environment = %trust.environment, servers = trust.servers.len(), required = manner.required, "messages are judged by their signatures"
        );
        let quarantine = Arc::new(Mutex::new(Quarantine::in_dir(quarantine)));
        let (state, verified, clock_set) = (Mutex::default(), Verified::new(), Notify::new());
        Self { trust, manner, endpoint, state, quarantine, orders, revoked, verified, clock_set }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges a message by all but its age, which is a matter of what comes before it: see
    /// [`Self::judge_by_welcome`].
    pub(super) fn judge(&self, command: &Command, seal: Option<&Seal>) -> Result<(), Denial> {
        self.judge_at(Moment::Arrives, command, seal)
    }

    /// Judges a task that waits here by the message that brought it: what is trusted may have changed since
    /// it came.
    pub(super) fn judge_waiting(&self, message: &[u8]) -> Result<(), Denial> {
        let (command, _, seal) = wire::decode_sealed(message)
            .map_err(|error| Denial::new(SealFault::Unreadable, error.to_string()))?;
        self.judge_at(Moment::Waits, &command, seal.as_ref())
    }

    fn judge_at(&self, moment: Moment, command: &Command, seal: Option<&Seal>) -> Result<(), Denial> {
        let (now, revoked) = (Clock::system().now(), self.revoked.keys());
        let (endpoint, tolerance, verified) = (&self.endpoint, self.manner.tolerance, &self.verified);
        let situation = Situation { endpoint, moment, now, tolerance, revoked: &revoked, verified };
        match seal {
            None if !self.manner.required => self.trust.judge_unsealed(command, situation),
            seal => self.trust.judge(command, seal, situation),
        }
    }

    /// Whether messages that were judged on arrival have to be judged again, because a key was revoked since.
    pub(super) fn has_changed(&self) -> bool {
        self.revoked.has_changed()
    }

    /// The number of the newest list of revoked keys; none where no root key is trusted, which signs them.
    pub(super) fn revocations(&self) -> Option<u64> {
        self.trust.root.map(|_| self.revoked.serial())
    }

    /// Takes a list of revoked keys that a good welcome has brought. Waits for the disk, which is rare.
    fn revoke(&self, revocations: &Revocations) {
        let serial = revocations.serial;
        match revocations.against(self.revoked.serial(), &self.revoked.keys()) {
            Ordering::Equal => {}
            Ordering::Less => {
                tracing::warn!(endpoint = %self.endpoint, serial, known = self.revoked.serial(), "the list of revoked keys of an API process has no higher number than the known one, which still counts");
            }
            Ordering::Greater if !self.trust.vouches_for(revocations) => {
                tracing::error!(endpoint = %self.endpoint, serial, "an API process has a list of revoked keys that is not one of the root key: it is not taken");
            }
            Ordering::Greater => match self.revoked.take(revocations) {
                Ok(()) => {
                    tracing::info!(endpoint = %self.endpoint, serial, keys = revocations.keys.len(), "keys were revoked");
                }
                Err(error) => {
                    tracing::error!(endpoint = %self.endpoint, serial, %error, "the list of revoked keys cannot be kept yet: it counts all the same");
                }
            },
        }
    }

    /// How a copy was judged that is refused for this cause, at this moment.
    pub(super) fn verdict_on(&self, moment: Moment, cause: Cause) -> Verdict {
        let (is_worker, clock_is_right) = (self.manner.is_worker, self.state().pace.is_right());
        Court { moment, is_worker, clock_is_right }.verdict(cause)
    }

    /// Judges a message that came through a queue of this type by what welcomes before it have told: when the
    /// endpoint subscribed, and which keys are revoked. In the order of the messages: of a batch all are read
    /// before the first is taken, and a welcome may be among them.
    pub(super) fn judge_by_welcome(
        &self,
        command: &Command,
        seal: Option<&Seal>,
        task_type: &TaskType,
    ) -> Result<(), Denial> {
        let Some(seal) = seal else { return Ok(()) };
        if self.has_changed() {
            signing::judge_key(seal.head.by, &self.revoked.keys())?;
        }
        let welcomed_at = self.state().welcomed.get(task_type).copied();
        welcomed_at.map_or(Ok(()), |at| signing::judge_age(command, &seal.head, at))
    }

    /// Whether tasks of this type bring orders.
    pub(super) fn needs_orders(&self, task_type: &TaskType) -> bool {
        self.trust.needs_orders(task_type)
    }

    /// Lets a task begin whose turn has come, with what its handler gets: of an order that has not ended, and
    /// that no other task has brought. Waits for the disk.
    pub(super) fn begin(&self, work: &WorkPart) -> Result<Begin, Denial> {
        let Some(Ordered { order, payload }) = self.trust.order_of(work)? else {
            return Ok(Begin::Plain(work.payload.clone()));
        };
        self.look_at_clock();
        if !self.state().pace.can_be_asked() {
            return Ok(Begin::Later);
        }
        signing::judge_end(&order, Clock::system().now(), self.manner.tolerance)?;
        match self.orders.begin(&work.task_type, used(&order, work.id)) {
            Ok(true) => Ok(Begin::Ordered(payload)),
            Ok(false) => Err(replayed(&order)),
            Err(error) => {
                tracing::error!(endpoint = %self.endpoint, task = %work.id, %error, "cannot note that an order begins: the task waits");
                Ok(Begin::Later)
            }
        }
    }

    /// Whether tasks of any type bring orders.
    pub(super) fn has_orders(&self) -> bool {
        self.trust.has_orders()
    }

    /// Judges a task that is to be taken by the order that it brings, if it has to; `remembered` when the
    /// journal knows the task. Waits for the disk.
    ///
    /// # Errors
    /// When the order cannot be noted, so that the task cannot be taken now.
    pub(super) fn use_order(&self, work: &WorkPart, remembered: bool) -> io::Result<Result<(), Denial>> {
        let order = match self.trust.order_of(work) {
            Ok(None) => return Ok(Ok(())),
            Ok(Some(Ordered { order, .. })) => order,
            Err(denial) => return Ok(Err(denial)),
        };
        Ok(match self.orders.admit(&work.task_type, used(&order, work.id), remembered)? {
            Admission::Granted => Ok(()),
            Admission::OfAnother => Err(replayed(&order)),
            Admission::Forgotten => {
                let id = order.id;
                let told =
                    format!("the order {id} has begun under this task, which the journal has forgotten");
                Err(Denial::new(SealFault::Forgotten, told).of(Cause::Task))
            }
        })
    }

    /// Takes a welcome that was found good, with the list of revoked keys that it brings. Returns whether it
    /// counts: not if the clock is wrong, since tasks cannot be judged then, or if its own key is revoked.
    pub(super) fn welcome(
        &self,
        seal: Option<&Seal>,
        task_type: &TaskType,
        revocations: Option<&Revocations>,
    ) -> bool {
        let Some(Seal { head, .. }) = seal else {
            // It tells no time, and no better one may come where nobody signs.
            let mut state = self.state();
            if matches!(state.pace, Pace::Set) {
                state.pace = Pace::Unknown;
            }
            return true;
        };
        if let Some(revocations) = revocations {
            self.revoke(revocations);
            if self.revoked.keys().contains(&head.by) {
                tracing::error!(endpoint = %self.endpoint, key = %head.by, "an API process signs with a key that its own list revokes: give it another one");
                return false;
            }
        }
        let pace = Pace::shown(head, Instant::now(), Clock::system().now(), self.manner.tolerance);
        let mut state = self.state();
        match pace.trouble() {
            Some(text) => tracing::error!(endpoint = %self.endpoint, "{text}"),
            None => {
                let at = state.welcomed.entry(task_type.clone()).or_insert(head.issued_at);
                *at = head.issued_at.max(*at);
            }
        }
        state.pace = pace;
        state.pace.is_right()
    }

    /// Looks whether the clock was set since the last welcome, beyond what is tolerated: another welcome has
    /// to tell whether it is right now. Wakes whoever waits in [`Self::clock_set`].
    fn look_at_clock(&self) {
        let mut state = self.state();
        if state.pace.look(Instant::now(), Clock::system().now(), self.manner.tolerance) {
            state.must_join_again = true;
            self.clock_set.notify_one();
        }
    }

    /// Looks at the clock, and returns whether the session must begin anew because it was set. Says so once.
    pub(super) fn must_join_again(&self) -> bool {
        self.look_at_clock();
        std::mem::take(&mut self.state().must_join_again)
    }

    /// Waits until somebody has noticed that the clock was set.
    pub(super) async fn clock_set(&self) {
        self.clock_set.notified().await;
    }

    /// Looks after what no message brings, for as long as it is polled: that the clock was set; lists and
    /// orders that could not be written; orders that are long over.
    pub(super) async fn tend(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TEND_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look_at_clock();
            let (guard, now) = (self.clone(), Instant::now());
            // Fails only when it panics, or the process ends.
            let _ = tokio::task::spawn_blocking(move || guard.tend_files(now)).await;
        }
    }

    /// Waits for the disk.
    fn tend_files(&self, now: Instant) {
        if self.revoked.trouble().is_some() && self.revoked.keep().is_ok() {
            tracing::info!(endpoint = %self.endpoint, "the list of revoked keys is kept now");
        }
        self.orders.try_again();
        let forget_at = {
            let mut state = self.state();
            let is_due = |forgotten: Instant| now.saturating_duration_since(forgotten) >= FORGET_EVERY;
            let due = state.forgotten.is_none_or(is_due);
            let ledger = state.pace.ledger(now).filter(|_| due);
            if ledger.is_some() {
                state.forgotten = Some(now);
            }
            ledger
        };
        if let Some(ledger) = forget_at
            && let Err(error) = self.orders.forget(ledger)
        {
            tracing::warn!(endpoint = %self.endpoint, %error, "orders that are long over cannot be forgotten");
        }
    }

    /// Notes that a sealed task was accepted: tasks do come, so the last refusal is no trouble any more.
    pub(super) fn accepted(&self) {
        self.state().last = None;
    }

    /// Notes that a message without a seal was taken.
    pub(super) fn took_unsigned(&self) {
        let mut state = self.state();
        state.untold.add(Counts { unsigned: 1, ..Counts::default() });
        if state.unsigned_line.is_due(UNSIGNED_LINE_EVERY) {
            tracing::warn!(endpoint = %self.endpoint, "took a message without a signature, since signatures are preferred and not required here");
        }
    }

    /// Puts refused messages aside and counts them.
    pub(super) async fn refuse(&self, refused: Vec<Refused>) {
        let Some(last) = refused.last().map(|refused| refused.denial.clone()) else { return };
        let line = {
            let mut state = self.state();
            for one in &refused {
                let refused = [(one.denial.fault, 1)].into();
                state.untold.add(Counts { refused, unsigned: 0 });
            }
            // What ends a task is told with its response, and troubles no other task.
            if let Some(open) = refused.iter().rev().find(|one| !one.ends_task) {
                state.last = Some((Instant::now(), open.denial.clone()));
            }
            state.unlogged += refused.len();
            state.refused_line.is_due(LINE_EVERY).then(|| std::mem::take(&mut state.unlogged))
        };
        if let Some(messages) = line {
            tracing::warn!(
                endpoint = %self.endpoint, messages, fault = %last.fault, why = %last.reason,
                "refused messages; fault and why are those of the last one, and the quarantine has more"
            );
        }
        let (quarantine, at) = (self.quarantine.clone(), Clock::system().now());
        let keep = move || {
            let mut quarantine = quarantine.lock().unwrap_or_else(PoisonError::into_inner);
            quarantine.keep(&refused, at, Instant::now())
        };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(keep).await {
            tracing::warn!(endpoint = %self.endpoint, %error, "refused messages cannot be kept in the quarantine");
        }
    }

    /// Why tasks are refused, for people. A refused message does not trouble a worker: it would be given no
    /// tasks, and one forged message would stop it.
    pub(super) fn trouble(&self) -> Option<String> {
        let is_worker = self.manner.is_worker;
        let state = self.state();
        if let Some(text) = state.pace.trouble() {
            return Some(ReasonCode::ClockOff.told(text));
        }
        if let Some(text) = self.orders.trouble() {
            return Some(ReasonCode::JournalFailing.told(format!("orders cannot be noted: {text}")));
        }
        // A worker can do its work all the same.
        if let Some(text) = self.revoked.trouble().filter(|_| !is_worker) {
            let told = format!("the list of revoked keys cannot be kept: {text}");
            return Some(ReasonCode::JournalFailing.told(told));
        }
        let (at, denial) = state.last.as_ref().filter(|_| !is_worker)?;
        (at.elapsed() < TOLD_FOR).then(|| {
            let Denial { fault, reason, .. } = denial;
            ReasonCode::SignatureRefused.told(format!("the last message was refused as {fault}: {reason}"))
        })
    }

    /// What was refused since this was asked last.
    pub(super) fn take_counts(&self) -> Counts {
        std::mem::take(&mut self.state().untold)
    }

    /// Gives back counts that could not be told.
    pub(super) fn put_back(&self, counts: Counts) {
        self.state().untold.add(counts);
    }
}

/// That a task brings an order.
fn used(order: &Order, task: TaskId) -> Use {
    Use { order: order.id, task, until_ms: order.not_after.as_millis() }
}

fn replayed(order: &Order) -> Denial {
    Denial::new(SealFault::Replayed, format!("another task has brought the order {}", order.id))
        .of(Cause::Task)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::orders::margin;
    use super::*;
    use crate::domain::{KeyId, Recipients, SealHead};
    use crate::signing::TypeTrust;

    #[test]
    fn orders_are_forgotten_while_a_session_lasts() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let (tolerance, update) = (Duration::from_secs(1), "update".parse::<TaskType>().expect("a type"));
        let persons = TypeTrust { signers: vec!["alice".to_owned()], ..TypeTrust::default() };
        let types = [(update.clone(), persons)].into();
        let trust = Trust { types, ..Trust::of("prod".parse().expect("a name")) };
        let orders = Orders::open(dir.path(), [&update], margin(tolerance)).expect("opens");
        let revoked = Revoked::open(dir.path(), &trust).expect("opens");
        let manner = Manner { required: true, tolerance, is_worker: false };
        let (name, quarantine) = ("ep1".parse().expect("a name"), dir.path().join("quarantine"));
        let guard = Guard::new(trust, manner, name, quarantine, orders, revoked);
        let (then, now) = (Instant::now(), Clock::system().now());
        let of = |task| Use { order: Uuid::from_u128(7), task, until_ms: now.as_millis() };
        let (one, other) = (TaskId(Uuid::from_u128(1)), TaskId(Uuid::from_u128(2)));
        assert_eq!(guard.orders.admit(&update, of(one), false).expect("written"), Admission::Granted);
        let admit_other = |after: Duration| {
            guard.tend_files(then + after);
            guard.orders.admit(&update, of(other), false).expect("written")
        };
        let (hour, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
        // Nobody has said what time it is.
        assert_eq!(admit_other(hour), Admission::OfAnother);
        let head = SealHead {
            by: KeyId::of(b"key"),
            issued_at: now,
            not_after: now.after(hour),
            to: Recipients::All,
            answers: Some(now),
        };
        let seal = Seal { head, batch: None, certificate: None, signature: [0; 64] };
        assert!(guard.welcome(Some(&seal), &update, None));
        for (minutes, admission) in
            [(0, Admission::OfAnother), (59, Admission::OfAnother), (60, Admission::Granted)]
        {
            assert_eq!(admit_other(minute * minutes), admission, "{minutes}");
        }
    }
}
