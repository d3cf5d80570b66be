//! Who is there, worked out from what was read under the lock. No I/O.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use uuid::Uuid;

use super::Seen;
use crate::domain::{EndpointName, Presence, PresenceState, TaskType, Timestamp};

/// Presence messages an endpoint may miss before it is thought gone.
const INTERVALS: u32 = 3;
/// How far ahead the end of a silence may lie: what lies further was said to a version that believed everything. A little more
/// than the longest, since the clocks of two API processes differ a little.
const LONGEST_SILENCE: Duration = Duration::from_secs(INTERVALS as u64 * Presence::LONGEST_INTERVAL.as_secs() + 60);

/// The ends of a silence between which an endpoint is there; outside of them it is gone.
pub(super) fn in_time(now: Timestamp) -> (Timestamp, Timestamp) {
    (now, now.after(LONGEST_SILENCE))
}

/// Whether an endpoint is subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SubscriptionState {
    /// Its presence was overdue.
    Missed,
    /// It is there.
    Online,
    /// It said that it goes. Unlike one that was missed, the same process does not come back.
    Left,
}

impl SubscriptionState {
    /// The number kept in the store.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The state with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Missed, Self::Online, Self::Left].get(usize::from(code)).copied()
    }
}

/// A subscription as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscription {
    pub state: SubscriptionState,
    pub instance: Uuid,
    pub session: Uuid,
    /// None only for one that was seen by a version that did not ask.
    pub home: Option<Uuid>,
    /// The memory that had the name before this one.
    pub previous_home: Option<Uuid>,
    /// None only for one that was first seen by a version that did not note it.
    pub first_seen: Option<Timestamp>,
    /// When it was last heard of.
    pub last_seen: Timestamp,
    /// Until when it may be silent.
    pub seen_until: Timestamp,
    pub trouble: Option<String>,
    pub slots: Option<u32>,
}

impl Subscription {
    /// Whether it keeps a process with another memory from taking its place: until it has said goodbye or is missed. When it may be
    /// missed is not for a look at the clock to say, which may just have been set, but for who has listened all the time.
    fn fences(&self, other: &Presence) -> bool {
        self.state == SubscriptionState::Online && self.home.is_some_and(|home| home != other.home)
    }

    /// Whether a sign of life of the process that has said goodbye was only overtaken by that. One that comes an interval later was
    /// not: it lives, and somebody else said goodbye.
    fn has_gone(&self, sign: &Presence, now: Timestamp) -> bool {
        let overtaken = self.last_seen <= now && now.since(self.last_seen) < sign.interval;
        self.state == SubscriptionState::Left && self.instance == sign.instance && overtaken
    }
}

/// What a batch of presence messages does.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Rows to write, by key, which is the order of locks.
    pub subscriptions: BTreeMap<(EndpointName, TaskType), Subscription>,
    /// Endpoints heard of, with their version.
    pub endpoints: BTreeMap<EndpointName, String>,
    /// For the caller.
    pub seen: Seen,
}

/// What presence messages do to the subscriptions as they were read.
pub(super) fn see(known: &HashMap<(EndpointName, TaskType), Subscription>, presences: &[Presence], now: Timestamp) -> Changes {
    let mut changes = Changes::default();
    for presence in presences {
        let before = |changes: &Changes, task_type: &TaskType| {
            let key = (presence.endpoint.clone(), task_type.clone());
            changes.subscriptions.get(&key).or_else(|| known.get(&key)).cloned()
        };
        if presence.task_types.iter().any(|task_type| before(&changes, task_type).is_some_and(|it| it.fences(presence))) {
            changes.seen.fenced.push(presence.clone());
            continue;
        }
        changes.endpoints.insert(presence.endpoint.clone(), presence.version.clone());
        // Whoever still says `Joined` has not been welcomed, whatever the ledger knows: a welcome can be lost.
        let mut new = presence.state == PresenceState::Joined;
        for task_type in &presence.task_types {
            let before = before(&changes, task_type);
            let same_process = before.as_ref().is_some_and(|before| before.instance == presence.instance);
            let (state, seen_until) = match presence.state {
                // The farewell of a process that has been replaced, or a sign of life that its own farewell overtook.
                PresenceState::Leaving if !same_process => continue,
                PresenceState::Alive if before.as_ref().is_some_and(|before| before.has_gone(presence, now)) => continue,
                PresenceState::Leaving => (SubscriptionState::Left, now),
                PresenceState::Joined | PresenceState::Alive => {
                    (SubscriptionState::Online, now.after(presence.interval.saturating_mul(INTERVALS)))
                }
            };
            new |= state == SubscriptionState::Online
                && before.as_ref().is_none_or(|before| before.state != SubscriptionState::Online || before.session != presence.session);
            let (previous_home, first_seen) = match &before {
                Some(before) if before.home == Some(presence.home) => (before.previous_home, before.first_seen),
                Some(before) => (before.home.or(before.previous_home), before.first_seen),
                None => (None, Some(now)),
            };
            let after = Subscription {
                state,
                instance: presence.instance,
                session: presence.session,
                home: Some(presence.home),
                previous_home,
                first_seen,
                last_seen: now,
                seen_until,
                trouble: presence.trouble.clone(),
                slots: presence.slots,
            };
            changes.subscriptions.insert((presence.endpoint.clone(), task_type.clone()), after);
        }
        let welcomed = |other: &Presence| other.endpoint == presence.endpoint && other.session == presence.session;
        if new && !changes.seen.newcomers.iter().any(welcomed) {
            changes.seen.newcomers.push(presence.clone());
        }
    }
    changes
}
