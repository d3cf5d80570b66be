//! Who is there, worked out from what was read under the lock. No I/O.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::Seen;
use crate::domain::{EndpointName, Presence, PresenceState, TaskType, Timestamp};

/// Presence messages an endpoint may miss before it is thought gone.
const INTERVALS: u32 = 3;
/// Characters of a version and of a trouble that are kept: no name check bounds these texts.
const TEXT_LENGTH: usize = 255;

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
    pub seen_until: Timestamp,
    pub trouble: Option<String>,
    pub slots: Option<u32>,
}

impl Subscription {
    /// Whether it keeps a process with another memory from taking its place.
    fn fences(&self, other: &Presence, now: Timestamp) -> bool {
        self.state == SubscriptionState::Online && self.seen_until > now && self.home.is_some_and(|home| home != other.home)
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
        if presence.task_types.iter().any(|task_type| before(&changes, task_type).is_some_and(|it| it.fences(presence, now))) {
            changes.seen.fenced.push(presence.clone());
            continue;
        }
        changes.endpoints.insert(presence.endpoint.clone(), shortened(&presence.version));
        // Whoever still says `Joined` has not been welcomed, whatever the ledger knows: a welcome can be lost.
        let mut new = presence.state == PresenceState::Joined;
        for task_type in &presence.task_types {
            let before = before(&changes, task_type);
            let same_process = before.as_ref().is_some_and(|before| before.instance == presence.instance);
            let left = before.as_ref().is_some_and(|before| before.state == SubscriptionState::Left);
            let (state, seen_until) = match presence.state {
                // The farewell of a process that has been replaced, or a sign of life that its own farewell overtook.
                PresenceState::Leaving if !same_process => continue,
                PresenceState::Alive if same_process && left => continue,
                PresenceState::Leaving => (SubscriptionState::Left, now),
                PresenceState::Joined | PresenceState::Alive => {
                    (SubscriptionState::Online, now.after(presence.interval.saturating_mul(INTERVALS)))
                }
            };
            new |= state == SubscriptionState::Online
                && before.is_none_or(|before| before.state != SubscriptionState::Online || before.session != presence.session);
            let after = Subscription {
                state,
                instance: presence.instance,
                session: presence.session,
                home: Some(presence.home),
                seen_until,
                trouble: presence.trouble.as_deref().map(shortened),
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

/// A text of an endpoint's own, cut down to its column.
fn shortened(text: &str) -> String {
    text.chars().take(TEXT_LENGTH).collect()
}
