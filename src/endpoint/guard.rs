//! Judges what arrives before anything else looks at it, where messages are signed.
//!
//! Owns what the judgement needs besides the trust file: the clock as the welcome has shown it, and when each
//! type was welcomed. What is refused is kept in the quarantine, counted, told in the log and in the presence
//! of the endpoint, and never asked for again: whoever has sent a message that counts sends it anew.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::orders::{Orders, Use};
use super::quarantine::{Quarantine, Refused};
use crate::clock::Clock;
use crate::domain::{
    Command, EndpointName, Json, Ordered, ReasonCode, Seal, SealFault, SealHead, TaskType, Timestamp,
    WorkPart,
};
use crate::signing::{self, Denial, Situation, Trust};

/// How often the log tells of refused messages at most.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How long presence tells of a refused message at most.
const TOLD_FOR: Duration = Duration::from_secs(600);

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
    orders: Orders,
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
    untold: BTreeMap<SealFault, u32>,
    /// The message that was refused last, until one is accepted.
    last: Option<(Instant, Denial)>,
    /// When the log told of refused messages last, and how many it has not told.
    logged: Option<Instant>,
    unlogged: usize,
}

impl Guard {
    pub(super) fn new(
        trust: Trust,
        required: bool,
        tolerance: Duration,
        endpoint: EndpointName,
        quarantine: PathBuf,
        orders: Orders,
    ) -> Self {
        tracing::info!(
            %endpoint, environment = %trust.environment, servers = trust.servers.len(), required, "messages are judged by their signatures"
        );
        let quarantine = Arc::new(Mutex::new(Quarantine::in_dir(quarantine)));
        Self { trust, required, tolerance, endpoint, state: Mutex::default(), quarantine, orders }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges a message by all but its age, which is a matter of what comes before it: see
    /// [`Self::judge_age`].
    pub(super) fn judge(&self, command: &Command, seal: Option<&Seal>) -> Result<(), Denial> {
        let now = Clock::system().now();
        let situation = Situation { endpoint: &self.endpoint, now, tolerance: self.tolerance };
        match seal {
            None if !self.required => self.trust.judge_unsealed(command, situation),
            seal => self.trust.judge(command, seal, situation),
        }
    }

    /// Judges the age of a message that came through a queue of this type. In the order of the messages: of a
    /// batch all are read before the first is taken, and a welcome may be among them.
    pub(super) fn judge_age(
        &self,
        command: &Command,
        seal: Option<&Seal>,
        task_type: &TaskType,
    ) -> Result<(), Denial> {
        let welcomed_at = self.state().welcomed.get(task_type).copied();
        seal.zip(welcomed_at).map_or(Ok(()), |(seal, at)| signing::judge_age(command, &seal.head, at))
    }

    /// What the handler gets of a task.
    pub(super) fn payload(&self, work: &WorkPart) -> Json {
        self.trust.order_of(work).map_or_else(|| work.payload.clone(), |ordered| ordered.payload)
    }

    /// Whether tasks of any type bring orders.
    pub(super) fn has_orders(&self) -> bool {
        self.trust.has_orders()
    }

    /// Judges tasks that are new here by the orders that they bring. Returns for each why it is refused, if
    /// it is. Waits for the disk.
    pub(super) fn use_orders(&self, tasks: &[WorkPart]) -> io::Result<Vec<Result<(), Denial>>> {
        let mut judged = Vec::with_capacity(tasks.len());
        for work in tasks {
            let Some(Ordered { order, .. }) = self.trust.order_of(work) else {
                judged.push(Ok(()));
                continue;
            };
            let one = Use { order: order.id, task: work.id, until_ms: order.not_after.as_millis() };
            judged.push(match self.orders.admit(&work.task_type, one)? {
                true => Ok(()),
                false => Err(Denial::new(
                    SealFault::Replayed,
                    format!("another task has brought the order {}", order.id),
                )),
            });
        }
        Ok(judged)
    }

    /// Takes a welcome that was found good. Returns whether the clock is right: else tasks cannot be judged,
    /// and the endpoint is not to count as welcomed.
    pub(super) fn welcome(&self, seal: Option<&Seal>, task_type: &TaskType) -> bool {
        let Some(Seal { head, .. }) = seal else { return true };
        let now = Clock::system().now();
        let off = off(head, now, self.tolerance);
        let mut state = self.state();
        if let Some(text) = &off {
            tracing::error!(endpoint = %self.endpoint, "{text}");
        } else {
            state.pace = Some((Instant::now(), now));
            let at = state.welcomed.entry(task_type.clone()).or_insert(head.issued_at);
            *at = head.issued_at.max(*at);
        }
        state.clock = off;
        state.clock.is_none()
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

    /// Notes that a sealed task was accepted: what was refused before was not all that comes.
    pub(super) fn accepted(&self) {
        self.state().last = None;
    }

    /// Puts refused messages aside and counts them.
    pub(super) async fn refuse(&self, refused: Vec<Refused>) {
        let Some(last) = refused.last().map(|refused| refused.denial.clone()) else { return };
        let line = {
            let mut state = self.state();
            for one in &refused {
                let count = state.untold.entry(one.denial.fault).or_default();
                *count = count.saturating_add(1);
            }
            state.last = Some((Instant::now(), last.clone()));
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
        let keep = move || quarantine.lock().unwrap_or_else(PoisonError::into_inner).keep(&refused, at);
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
        let (at, denial) = state.last.as_ref().filter(|_| !is_worker)?;
        (at.elapsed() < TOLD_FOR).then(|| {
            let Denial { fault, reason } = denial;
            ReasonCode::SignatureRefused.told(format!("the last message was refused as {fault}: {reason}"))
        })
    }

    /// What was refused since this was asked last.
    pub(super) fn take_counts(&self) -> BTreeMap<SealFault, u32> {
        std::mem::take(&mut self.state().untold)
    }

    /// Gives back counts that could not be told.
    pub(super) fn put_back(&self, counts: BTreeMap<SealFault, u32>) {
        let mut state = self.state();
        for (fault, count) in counts {
            let untold = state.untold.entry(fault).or_default();
            *untold = untold.saturating_add(count);
        }
    }
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
