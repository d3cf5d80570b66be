//! Says who is here, for as long as the agent runs.
//!
//! Each connection is a session with a name of its own. Each of its types is joined, and said to be so again
//! until its welcome has come through its task queue: that is the proof that this endpoint consumes it. From
//! then on it is alive. A type whose queue cannot be had is told with the reason, and takes nothing away from
//! the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::performer::Core;
use crate::backoff::Backoff;
use crate::broker::{Address, Message, Refusal, SharedBroker, wire};
use crate::clock::Clock;
use crate::domain::{Presence, PresenceState, RefusedType, TaskType, WireVersion};

/// How long the last word may take.
const LEAVE: Duration = Duration::from_secs(2);

/// How many intervals without a word an endpoint is thought gone after; a word that lies longer in a queue
/// says nothing.
const MISSED: u32 = 3;

/// The consuming connection as the intake sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    /// Made anew at each connect.
    pub(super) id: Uuid,
    /// Which connection of the consumer it is.
    pub(super) epoch: u64,
    /// Whether it is up.
    pub(super) up: bool,
    /// The types that are consumed on it.
    pub(super) types: BTreeSet<TaskType>,
    /// Those of them whose welcome has come.
    pub(super) welcomed: BTreeSet<TaskType>,
    /// The types that cannot be consumed now.
    pub(super) refused: BTreeMap<TaskType, Refusal>,
    /// How often to say so.
    pub(super) interval: Duration,
    /// Whether the API makes the queues of this endpoint.
    pub(super) restricted: bool,
}

impl Session {
    /// Before the first connection.
    pub(super) fn none(interval: Duration) -> Self {
        let (types, welcomed, refused) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        Self { id: Uuid::nil(), epoch: 0, up: false, types, welcomed, refused, interval, restricted: false }
    }

    /// Whether tasks arrive of all types that can be consumed, and of one at least.
    pub(super) fn is_welcomed(&self) -> bool {
        self.up && !self.types.is_empty() && self.types == self.welcomed
    }

    /// Takes up what can be consumed now. A type that comes back needs a welcome of its own: what lies in its
    /// queue may be stale. Answers whether anything changed.
    pub(super) fn consume(
        &mut self,
        types: BTreeSet<TaskType>,
        refused: BTreeMap<TaskType, Refusal>,
    ) -> bool {
        if self.types == types && self.refused == refused {
            return false;
        }
        self.welcomed.retain(|task_type| types.contains(task_type));
        (self.types, self.refused) = (types, refused);
        true
    }

    /// The types that wait for their welcome.
    fn unwelcomed(&self) -> BTreeSet<TaskType> {
        self.types.difference(&self.welcomed).cloned().collect()
    }
}

/// The types that were last said to have joined, and when.
struct Joined {
    session: Uuid,
    types: BTreeSet<TaskType>,
    since: Instant,
}

/// Says so for as long as it is polled.
pub(super) async fn say_so(
    core: Arc<Core>,
    broker: SharedBroker,
    shared: watch::Sender<Session>,
    welcome_timeout: Duration,
) {
    let mut sessions = shared.subscribe();
    // A patience that grows: an API that is away for hours is not asked every few seconds by thousands.
    let patience = Backoff { first: welcome_timeout, max: welcome_timeout.saturating_mul(10) };
    let mut joined: Option<Joined> = None;
    let (mut asked, mut failures) = (0u32, 0u32);
    let mut health = core.journal.health();
    let mut stopped = core.stop_file.subscribe();
    // When what was heard of this worker last was sent: nobody counts its lease from before that. A type that
    // it consumed and cannot consume now is not told, so its lease is not renewed, and it may hold tasks of
    // that type.
    let (mut heard, mut consumed) = (Instant::now(), BTreeSet::new());
    loop {
        health.mark_unchanged();
        stopped.mark_unchanged();
        let session = sessions.borrow_and_update().clone();
        let mut wait = Duration::MAX;
        let drains = core.draining.is_cancelled();
        if session.up {
            let unwelcomed = session.unwelcomed();
            let said = joined
                .as_ref()
                .filter(|joined| joined.session == session.id && joined.types.is_superset(&unwelcomed));
            if said.is_none() {
                asked = 0;
            }
            let due = !unwelcomed.is_empty()
                && said.is_none_or(|joined| joined.since.elapsed() >= patience.ceiling(asked));
            let begun = Instant::now();
            let lease = lease_end(&core, &session, heard);
            core.lease_until(lease);
            let mut words = Vec::new();
            if due {
                words.push((PresenceState::Joined, unwelcomed.clone()));
            }
            if !due || unwelcomed != session.types {
                words.push((PresenceState::Alive, session.types.clone()));
            }
            let saying = say(&core, &broker, &session, words);
            tokio::pin!(saying);
            let said = tokio::select! {
                biased;
                () = over(lease) => None,
                said = &mut saying => Some(said),
            };
            match said {
                // The word may hang in the broker, or on a disk, for longer than the lease lasts.
                None => {
                    give_up(&core, &shared).await;
                    consumed.clear();
                    // It is of a session that has ended now. A second one beside it would hang as well.
                    saying.await;
                    heard = Instant::now();
                    continue;
                }
                Some(true) => {
                    consumed.extend(session.types.iter().cloned());
                    if consumed == session.types {
                        heard = begun;
                    }
                    failures = 0;
                    if due {
                        joined = Some(Joined {
                            session: session.id,
                            types: unwelcomed.clone(),
                            since: Instant::now(),
                        });
                        asked = asked.saturating_add(1);
                    }
                    let until_due = joined.as_ref().map_or(Duration::ZERO, |joined| {
                        patience.ceiling(asked).saturating_sub(joined.since.elapsed())
                    });
                    wait = if unwelcomed.is_empty() {
                        session.interval
                    } else {
                        session.interval.min(until_due)
                    };
                }
                Some(false) => {
                    failures = failures.saturating_add(1);
                    wait = Backoff::CONNECTION.jittered(failures);
                }
            }
        }
        let lease = lease_end(&core, &session, heard);
        core.lease_until(lease);
        tokio::select! {
            // First: of a process that was stopped for a while everything is due at the same time, and a word
            // would hide that its lease is over.
            biased;
            () = over(lease) => {
                give_up(&core, &shared).await;
                heard = Instant::now();
                consumed.clear();
            }
            changed = worth_saying(&mut sessions, &session) => if changed.is_err() { return },
            // That no tasks are taken, or that they are again, is told at once.
            changed = health.changed() => if changed.is_err() { return },
            changed = stopped.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait) => {}
            // That a worker has no slots any more: at once, or it is given tasks that it does not begin.
            () = core.draining.cancelled(), if !drains => {}
        }
    }
}

/// When the lease of what a worker has ends, if it was last heard of then: early enough for its handlers to be
/// stopped before others are given their tasks.
fn lease_end(core: &Core, session: &Session, heard: Instant) -> Option<Instant> {
    let lasts = session.interval.saturating_mul(MISSED).saturating_sub(core.grace.min(session.interval));
    core.leases().then(|| heard + lasts)
}

/// Lets go of what a worker has, since its lease is over.
async fn give_up(core: &Core, shared: &watch::Sender<Session>) {
    // What lies in the queue may have been given to another worker meanwhile: a session of its own begins,
    // whose welcome comes behind that.
    shared.send_modify(|session| {
        session.id = Uuid::new_v4();
        session.welcomed.clear();
    });
    match core.let_go().await {
        Ok(false) => {}
        Ok(true) => tracing::warn!(
            "the lease is over: another worker may have been given these tasks, so they are parked here"
        ),
        Err(error) => tracing::error!(%error, "cannot park the tasks of this worker"),
    }
}

/// Waits for the end of a lease, for ever when there is none.
async fn over(lease: Option<Instant>) {
    match lease {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// A change that must be told now. A welcome alone is not: the next word in turn tells that all is well.
async fn worth_saying(
    sessions: &mut watch::Receiver<Session>,
    said: &Session,
) -> Result<(), watch::error::RecvError> {
    let differs = |now: &Session| {
        (now.id, now.up, &now.types, &now.refused) != (said.id, said.up, &said.types, &said.refused)
    };
    sessions.wait_for(|now| differs(now) || now.interval < said.interval).await.map(drop)
}

/// Says that this endpoint goes on purpose. Not said when the broker is away: silence says it, only later.
pub(super) async fn say_goodbye(core: &Arc<Core>, broker: &SharedBroker, session: &Session) {
    let _ = tokio::time::timeout(
        LEAVE,
        say(core, broker, session, vec![(PresenceState::Leaving, session.types.clone())]),
    )
    .await;
}

async fn say(
    core: &Arc<Core>,
    broker: &SharedBroker,
    session: &Session,
    words: Vec<(PresenceState, BTreeSet<TaskType>)>,
) -> bool {
    let refused = session.refused.iter().map(|(task_type, Refusal { held, reason })| RefusedType {
        task_type: task_type.clone(),
        held: *held,
        reason: reason.clone(),
    });
    // The labels before the trouble, which tells whether they could be read. What the journal finds changes
    // its health, and that is told at once.
    core.journal.look();
    let labels = core.labels.current().await;
    let presence = Presence {
        endpoint: core.endpoint.clone(),
        instance: core.instance,
        home: core.home,
        session: session.id,
        task_types: Vec::new(),
        refused: refused.collect(),
        state: PresenceState::Alive,
        interval: session.interval,
        // The machine's clock as it is now: a setting of it shows.
        sent_at: Some(Clock::system().now()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        trouble: core.trouble().await,
        slots: core.slots.map(|slots| if core.draining.is_cancelled() { 0 } else { slots }),
        reads: WireVersion::NEWEST,
        labels,
        restricted: session.restricted,
        refusals: BTreeMap::new(),
        unsigned: 0,
        revocations: core.guard.as_ref().and_then(|guard| guard.revocations()),
        proven: false,
    };
    let counts = core.guard.as_ref().map(|guard| guard.take_counts()).unwrap_or_default();
    // Told once: each word that tells them is counted.
    let mut untold = counts.clone();
    let messages = words.into_iter().map(|(state, types)| {
        let (task_types, told) = (types.into_iter().collect(), std::mem::take(&mut untold));
        let (refusals, unsigned) = (told.refused, told.unsigned);
        let presence = Presence { state, task_types, refusals, unsigned, ..presence.clone() };
        let expires_in = Some(session.interval.saturating_mul(MISSED));
        Message { expires_in, ..Message::new(Address::Presence, wire::encode_presence(&presence)) }
    });
    let results = broker.publish(messages.collect()).await;
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        tracing::debug!(%error, "presence did not go out");
    }
    let said = results.iter().all(Result::is_ok);
    if let Some(guard) = core.guard.as_ref().filter(|_| !said) {
        guard.put_back(counts);
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::journal::{Record, State};
    use crate::endpoint::lane::Lane;
    use crate::endpoint::testing::{self, Scripted};

    #[tokio::test]
    async fn a_lease_ends_while_a_word_hangs_in_the_broker() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let lane = Arc::new(Lane::new(testing::policy(), None));
        let core = Arc::new(testing::core(dir.path(), lane, Some(1)));
        let task = testing::stored();
        core.journal.take(vec![Record::Task(task.clone())]).await.expect("taken");
        let types = BTreeSet::from([testing::policy().name]);
        let first = Session {
            id: Uuid::from_u128(1),
            up: true,
            types: types.clone(),
            welcomed: types.clone(),
            ..Session::none(Duration::from_millis(100))
        };
        let session = watch::Sender::new(first.clone());
        let mut sessions = session.subscribe();
        // A link that does not break and confirms nothing.
        let broker = Scripted::new(0, |_| Ok(()));
        let mut said = broker.published.subscribe();
        let saying = tokio::spawn(say_so(core.clone(), broker.clone(), session, Duration::from_secs(30)));
        let now = sessions.wait_for(|now| now.id != first.id).await.expect("it runs").clone();
        assert!(now.welcomed.is_empty() && core.lease_is_over());
        assert_eq!(said.borrow().len(), 1, "no second word beside the one that hangs");
        // The next word, of the new session, is behind the parking of what there was.
        broker.confirms.add_permits(1);
        let said = said.wait_for(|said| said.len() > 1).await.expect("it runs").clone();
        let words: Vec<_> =
            said.iter().map(|(_, word)| wire::decode_presence(&word.body).expect("presence")).collect();
        assert_eq!((words[0].session, words[0].state), (first.id, PresenceState::Alive));
        assert_eq!((words[1].session, words[1].state), (now.id, PresenceState::Joined));
        assert_eq!(core.journal.state(task.id), Some(State::Parked));
        saying.abort();
    }
}
