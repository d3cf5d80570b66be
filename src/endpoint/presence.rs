//! Says who is here, for as long as the agent runs.
//!
//! Each connection is a session with a name of its own. It is joined, and said to be so again until the welcome for it has
//! come through the task queue: that is the proof that this endpoint consumes. From then on it is alive.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::performer::Core;
use crate::backoff::Backoff;
use crate::broker::{Address, Message, SharedBroker, wire};
use crate::domain::{Presence, PresenceState};

/// How long the last word may take.
const LEAVE: Duration = Duration::from_secs(2);

/// How many intervals without a word an endpoint is thought gone after; a word that lies longer in a queue says nothing.
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
    /// Whether its welcome has come.
    pub(super) welcomed: bool,
    /// How often to say so.
    pub(super) interval: Duration,
}

impl Session {
    /// Before the first connection.
    pub(super) fn none(interval: Duration) -> Self {
        Self { id: Uuid::nil(), epoch: 0, up: false, welcomed: false, interval }
    }
}

/// Says so for as long as it is polled.
pub(super) async fn say_so(core: Arc<Core>, broker: SharedBroker, mut sessions: watch::Receiver<Session>, welcome_timeout: Duration) {
    // A patience that grows: an API that is away for hours is not asked every few seconds by thousands.
    let patience = Backoff { first: welcome_timeout, max: welcome_timeout.saturating_mul(10) };
    let mut joined: Option<(Uuid, Instant)> = None;
    let (mut asked, mut failures) = (0u32, 0u32);
    let mut health = core.journal.health();
    // When what was heard of this worker last was sent: nobody counts its lease from before that.
    let mut heard = Instant::now();
    loop {
        health.mark_unchanged();
        let session = sessions.borrow_and_update().clone();
        let mut wait = Duration::MAX;
        let drains = core.draining.is_cancelled();
        if session.up {
            if joined.is_none_or(|(id, _)| id != session.id) {
                asked = 0;
            }
            let due = joined.is_none_or(|(id, since)| id != session.id || since.elapsed() >= patience.ceiling(asked));
            let begun = Instant::now();
            let state = if !session.welcomed && due { PresenceState::Joined } else { PresenceState::Alive };
            match say(&core, &broker, &session, state).await {
                true => {
                    heard = begun;
                    failures = 0;
                    if state == PresenceState::Joined {
                        joined = Some((session.id, Instant::now()));
                        asked = asked.saturating_add(1);
                    }
                    let until_due = joined.map_or(Duration::ZERO, |(_, since)| patience.ceiling(asked).saturating_sub(since.elapsed()));
                    wait = if session.welcomed { session.interval } else { session.interval.min(until_due) };
                }
                false => {
                    failures = failures.saturating_add(1);
                    wait = Backoff::CONNECTION.jittered(failures);
                }
            }
        }
        let lease = core.leases().then(|| heard + session.interval.saturating_mul(MISSED).saturating_sub(core.grace.min(session.interval)));
        tokio::select! {
            changed = worth_saying(&mut sessions, &session) => if changed.is_err() { return },
            // That no tasks are taken, or that they are again, is told at once.
            changed = health.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait) => {}
            // That a worker has no slots any more: at once, or it is given tasks that it does not begin.
            () = core.draining.cancelled(), if !drains => {}
            () = over(lease) => {
                heard = Instant::now();
                match core.let_go().await {
                    Ok(false) => {}
                    Ok(true) => tracing::warn!("not heard of for so long that another worker may have been given what this one has: it lets go"),
                    Err(error) => tracing::error!(%error, "what this worker had received could not be parked"),
                }
            }
        }
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
async fn worth_saying(sessions: &mut watch::Receiver<Session>, said: &Session) -> Result<(), watch::error::RecvError> {
    sessions.wait_for(|now| now.id != said.id || now.up != said.up || now.interval < said.interval).await.map(drop)
}

/// Says that this endpoint goes on purpose. Not said when the broker is away: silence says it, only later.
pub(super) async fn say_goodbye(core: &Arc<Core>, broker: &SharedBroker, session: &Session) {
    let _ = tokio::time::timeout(LEAVE, say(core, broker, session, PresenceState::Leaving)).await;
}

async fn say(core: &Arc<Core>, broker: &SharedBroker, session: &Session, state: PresenceState) -> bool {
    let mut task_types: Vec<_> = core.lanes.keys().cloned().collect();
    task_types.sort_unstable();
    let presence = Presence {
        endpoint: core.endpoint.clone(),
        instance: core.instance,
        home: core.home,
        session: session.id,
        task_types,
        state,
        interval: session.interval,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        trouble: core.trouble().await,
        slots: core.slots.map(|slots| if core.draining.is_cancelled() { 0 } else { slots }),
    };
    let expires_in = Some(session.interval.saturating_mul(MISSED));
    let message = Message { to: Address::Presence, body: wire::encode_presence(&presence), persistent: false, expires_in };
    match broker.publish(vec![message]).await.pop() {
        Some(Ok(())) => true,
        Some(Err(error)) => {
            tracing::debug!(%error, "presence did not go out");
            false
        }
        None => false,
    }
}
