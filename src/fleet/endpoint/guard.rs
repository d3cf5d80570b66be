//! Judges what arrives before anything else looks at it, where messages are signed.
//!
//! Owns what the judgement needs besides the trust file: the clock as the welcome has shown it, and when each
//! type was welcomed. A message that is refused is kept in the quarantine, counted, and told in the log and
//! in the presence of the endpoint. The endpoint never asks for it again: the sender of a good message sends
//! another copy.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::orders::{Admission, Orders, Use};
use super::quarantine::{Quarantine, Refused};
use super::revoked::Revoked;
use crate::broker::wire;
use crate::clock::Clock;
use crate::domain::{
    Command, EndpointName, Json, Order, Ordered, ReasonCode, Revocations, Seal, SealFault, SealHead, TaskId,
    TaskType, Timestamp, WorkPart,
};
use crate::signing::{self, Denial, Moment, Situation, Trust};

/// How often the log tells of refused messages at most.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How often the log tells of messages without a signature at most.
const UNSIGNED_LINE_EVERY: Duration = Duration::from_secs(600);

/// How long presence tells of a refused message at most.
const TOLD_FOR: Duration = Duration::from_secs(600);

/// How often orders that are long over are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(24 * 3600);

/// The judge of one endpoint.
#[derive(Debug)]
pub(super) struct Guard {
    trust: Trust,
    /// Whether a message without a seal is refused.
    required: bool,
    tolerance: Duration,
    endpoint: EndpointName,
    state: Mutex<State>,
    quarantine: Arc<Mutex<Quarantine>>,
    orders: Arc<Orders>,
    revoked: Revoked,
}

#[derive(Debug, Default)]
struct State {
    /// When each type was welcomed, by the clock of the ledger.
    welcomed: HashMap<TaskType, Timestamp>,
    /// The machine's clock when the last welcome came: it must go on from there.
    pace: Option<(Instant, Timestamp)>,
    /// How the clock is wrong.
    clock: Option<String>,
    /// What presence has not told yet.
    untold: Counts,
    /// The message that was refused last and may come again, until one is accepted.
    last: Option<(Instant, Denial)>,
    /// When the log told of refused messages last, and how many it has not told.
    logged: Option<Instant>,
    unlogged: usize,
    /// When the log told of messages without a signature last.
    unsigned_logged: Option<Instant>,
    /// When orders were last forgotten.
    forgotten: Option<Instant>,
    /// Why orders cannot be noted, until one is.
    orders: Option<String>,
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
    Now(Json),
    /// Wait: its order cannot be noted.
    Later,
}

impl Guard {
    pub(super) fn new(
        trust: Trust,
        required: bool,
        tolerance: Duration,
        endpoint: EndpointName,
        quarantine: PathBuf,
        orders: Orders,
        revoked: Revoked,
    ) -> Self {
        tracing::info!(
            %endpoint, environment = %trust.environment, servers = trust.servers.len(), required, "messages are judged by their signatures"
        );
        let quarantine = Arc::new(Mutex::new(Quarantine::in_dir(quarantine)));
        let orders = Arc::new(orders);
        Self { trust, required, tolerance, endpoint, state: Mutex::default(), quarantine, orders, revoked }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges a message by all but its age, which is a matter of what comes before it: see
    /// [`Self::judge_age`].
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
        let (endpoint, tolerance) = (&self.endpoint, self.tolerance);
        let situation = Situation { endpoint, moment, now, tolerance, revoked: &revoked };
        match seal {
            None if !self.required => self.trust.judge_unsealed(command, situation),
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
        if serial < self.revoked.serial() {
            tracing::warn!(endpoint = %self.endpoint, serial, known = self.revoked.serial(), "an API process has an older list of revoked keys, which is not taken");
        } else if serial > self.revoked.serial() {
            if !self.trust.vouches_for(revocations) {
                tracing::error!(endpoint = %self.endpoint, serial, "an API process has a list of revoked keys that is not one of the root key: it is not taken");
                return;
            }
            match self.revoked.take(revocations) {
                Ok(()) => {
                    tracing::info!(endpoint = %self.endpoint, serial, keys = revocations.keys.len(), "keys were revoked");
                }
                Err(error) => {
                    tracing::error!(endpoint = %self.endpoint, serial, %error, "the list of revoked keys cannot be kept: it counts until this process ends");
                }
            }
        }
    }

    /// Whether a refusal ends a task that has just come: another copy of it brings the same order, or none.
    pub(super) const fn is_final(fault: SealFault) -> bool {
        matches!(
            fault,
            SealFault::Unapproved | SealFault::Replayed | SealFault::Forgotten | SealFault::TooLarge
        )
    }

    /// Whether a task that waits here and is refused may be asked for again with a copy that counts, so that
    /// it is not to be given up.
    pub(super) fn may_come_again(&self, fault: SealFault) -> bool {
        match fault {
            // Of the copy.
            SealFault::Unsigned
            | SealFault::Forged
            | SealFault::UnknownKey
            | SealFault::Revoked
            | SealFault::Early
            | SealFault::Stale
            | SealFault::Unreadable => true,
            // By a clock that may be wrong.
            SealFault::Expired => self.state().pace.is_none(),
            // Of what persons have signed, or of the trust file.
            SealFault::Misdirected
            | SealFault::NotAllowed
            | SealFault::Unapproved
            | SealFault::Replayed
            | SealFault::Forgotten
            | SealFault::TooLarge => false,
        }
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
            return Ok(Begin::Now(work.payload.clone()));
        };
        signing::judge_end(&order, Clock::system().now(), self.tolerance)?;
        let noted = self.orders.begin(&work.task_type, used(&order, work.id));
        self.note_orders(noted.as_ref().err());
        match noted {
            Ok(true) => Ok(Begin::Now(payload)),
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
        let admitted = self.orders.admit(&work.task_type, used(&order, work.id), remembered);
        self.note_orders(admitted.as_ref().err());
        Ok(match admitted? {
            Admission::Granted => Ok(()),
            Admission::OfAnother => Err(replayed(&order)),
            Admission::Forgotten => Err(Denial::new(
                SealFault::Forgotten,
                format!("the order {} has begun under this task, which the journal has forgotten", order.id),
            )),
        })
    }

    /// Notes whether orders can be noted.
    fn note_orders(&self, error: Option<&io::Error>) {
        self.state().orders = error.map(|error| format!("orders cannot be noted: {error}"));
    }

    /// Takes a welcome that was found good, with the list of revoked keys that it brings. Returns whether it
    /// counts: not if the clock is wrong, since tasks cannot be judged then, or if its own key is revoked.
    pub(super) fn welcome(
        &self,
        seal: Option<&Seal>,
        task_type: &TaskType,
        revocations: Option<&Revocations>,
    ) -> bool {
        let Some(Seal { head, .. }) = seal else { return true };
        if let Some(revocations) = revocations {
            self.revoke(revocations);
            if self.revoked.keys().contains(&head.by) {
                tracing::error!(endpoint = %self.endpoint, key = %head.by, "an API process signs with a key that its own list revokes: give it another one");
                return false;
            }
        }
        let now = Clock::system().now();
        let off = off(head, now, self.tolerance);
        let mut state = self.state();
        if let Some(text) = &off {
            tracing::error!(endpoint = %self.endpoint, "{text}");
            state.pace = None;
        } else {
            state.pace = Some((Instant::now(), now));
            let at = state.welcomed.entry(task_type.clone()).or_insert(head.issued_at);
            *at = head.issued_at.max(*at);
            let due = state.forgotten.is_none_or(|forgotten| forgotten.elapsed() >= FORGET_EVERY);
            if due && self.has_orders() {
                state.forgotten = Some(Instant::now());
                self.forget_orders(head.issued_at);
            }
        }
        state.clock = off;
        state.clock.is_none()
    }

    /// Forgets orders that are long over, behind the back of the caller: at this time of the ledger's clock.
    fn forget_orders(&self, now: Timestamp) {
        let (orders, endpoint) = (self.orders.clone(), self.endpoint.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = orders.forget(now) {
                tracing::warn!(%endpoint, %error, "orders that are long over cannot be forgotten");
            }
        });
    }

    /// Whether the machine's clock was set since the last welcome, beyond what is tolerated: another welcome
    /// has to tell whether it is right now. Says so once.
    pub(super) fn clock_was_set(&self) -> bool {
        let mut state = self.state();
        let Some((then, time)) = state.pace else { return false };
        let (expected, now) = (time.after(then.elapsed()), Clock::system().now());
        let moved = now.since(expected).max(expected.since(now)) > self.tolerance;
        if moved {
            state.pace = None;
        }
        moved
    }

    /// Notes that a sealed task was accepted: tasks do come, so the last refusal is no trouble any more.
    pub(super) fn accepted(&self) {
        self.state().last = None;
    }

    /// Notes that a message without a seal was taken.
    pub(super) fn took_unsigned(&self) {
        let mut state = self.state();
        state.untold.add(Counts { unsigned: 1, ..Counts::default() });
        if state.unsigned_logged.is_none_or(|logged| logged.elapsed() >= UNSIGNED_LINE_EVERY) {
            state.unsigned_logged = Some(Instant::now());
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
            if let Some(open) = refused.iter().rev().find(|one| !Self::is_final(one.denial.fault)) {
                state.last = Some((Instant::now(), open.denial.clone()));
            }
            state.unlogged += refused.len();
            let due = state.logged.is_none_or(|logged| logged.elapsed() >= LINE_EVERY);
            due.then(|| {
                state.logged = Some(Instant::now());
                std::mem::take(&mut state.unlogged)
            })
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
    pub(super) fn trouble(&self, is_worker: bool) -> Option<String> {
        let state = self.state();
        if let Some(text) = &state.clock {
            return Some(ReasonCode::ClockOff.told(text));
        }
        if let Some(text) = &state.orders {
            return Some(ReasonCode::JournalFailing.told(text));
        }
        let (at, denial) = state.last.as_ref().filter(|_| !is_worker)?;
        (at.elapsed() < TOLD_FOR).then(|| {
            let Denial { fault, reason } = denial;
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
}

/// How a clock is wrong that shows this time when a welcome arrives. A welcome that has lain in the queue
/// shows nothing: it was issued after the word that it answers was sent, and before it arrived, if all
/// clocks are right.
fn off(head: &SealHead, now: Timestamp, tolerance: Duration) -> Option<String> {
    let sent = head.answers.unwrap_or(now);
    let (by, direction) = if head.issued_at > now.after(tolerance) {
        (head.issued_at.since(now), "behind")
    } else if sent > head.issued_at.after(tolerance) {
        (sent.since(head.issued_at), "ahead of")
    } else {
        return None;
    };
    Some(format!(
        "the clock of this server is {} s {direction} that of the API: set it, with NTP for instance; no tasks are taken until then",
        by.as_secs()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{KeyId, Recipients};

    #[test]
    fn a_welcome_shows_how_the_clock_is_wrong() {
        let at = |secs: i64| Timestamp::from_micros(secs * 1_000_000);
        // Said to have joined; welcomed, by the ledger's clock; arrived.
        for (answers, issued_at, now, word) in [
            (Some(1000), 1000, 1000, None),
            (Some(1060), 1000, 1060, None),
            (Some(1061), 1000, 1061, Some("61 s ahead of")),
            (Some(1600), 1000, 1600, Some("600 s ahead of")),
            (Some(940), 1000, 940, None),
            (Some(939), 1000, 939, Some("61 s behind")),
            // It has lain in the queue.
            (Some(1000), 1001, 5000, None),
            (None, 1000, 1060, None),
            (None, 1000, 1061, Some("61 s ahead of")),
            (None, 1000, 939, Some("61 s behind")),
        ] {
            let head = SealHead {
                by: KeyId::of(b"key"),
                issued_at: at(issued_at),
                not_after: at(issued_at + 900),
                to: Recipients::All,
                answers: answers.map(at),
            };
            let told = off(&head, at(now), Duration::from_secs(60));
            let fits = match (word, &told) {
                (Some(word), Some(told)) => told.contains(word),
                (word, told) => word.is_none() && told.is_none(),
            };
            assert!(fits, "{answers:?} {issued_at} {now}: {told:?}");
        }
    }
}
