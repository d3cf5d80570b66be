//! Who is there, worked out from what was read under the lock. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use uuid::Uuid;

use super::clock_offset::ClockOffset;
use crate::domain::{
    EndpointName, Labels, Presence, PresenceState, ReasonCode, RefusedType, TaskType, Timestamp, WireVersion,
};

/// Presence messages an endpoint may miss before it is thought gone.
const INTERVALS: u32 = 3;
/// How far ahead the end of a silence may lie: what lies further was said to a version that believed
/// everything. A little more than the longest, since the clocks of two API processes differ a little.
const LONGEST_SILENCE: Duration =
    Duration::from_secs(INTERVALS as u64 * Presence::LONGEST_INTERVAL.as_secs() + 60);

/// What to do about a type that a restricted endpoint was not invited for.
const NOT_INVITED: &str =
    "the endpoint was not invited for this type: invite it with all its types, enroll it, restart it";

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
    /// What the process reads.
    pub reads: WireVersion,
    /// The process that takes over when this one is gone.
    pub standby: Option<Standby>,
}

/// A second process of an endpoint's name, which consumes nothing while the first does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standby {
    pub instance: Uuid,
    pub home: Uuid,
    pub since: Timestamp,
    pub seen_until: Timestamp,
}

impl Subscription {
    /// Whether it keeps a process with another memory from taking its place: until it has said goodbye or is
    /// missed. When it may be missed is not for a look at the clock to say, which may just have been set, but
    /// for who has listened all the time.
    fn fences(&self, other: &Presence) -> bool {
        self.state == SubscriptionState::Online && self.home.is_some_and(|home| home != other.home)
    }

    /// Whether a sign of life of the process that has said goodbye was only overtaken by the goodbye: sent
    /// before it, however late it comes, or come within an interval. A later one was not: the process lives,
    /// and somebody else said goodbye. A goodbye may lie ahead a little, since another API process has noted
    /// it by its own reading of the clock.
    fn has_gone(&self, sign: &Presence, clock: ClockOffset, now: Timestamp) -> bool {
        let sent_before = clock.ledger_time(sign.sent_at).is_some_and(|sent| sent <= self.last_seen);
        let soon = sign.state == PresenceState::Alive && now.since(self.last_seen) < sign.interval;
        let left = self.state == SubscriptionState::Left && self.instance == sign.instance;
        left && self.last_seen.since(now) < sign.interval && (sent_before || soon)
    }

    /// Of a process that the ledger has not known as subscribed.
    fn absent(presence: &Presence, now: Timestamp) -> Self {
        Self {
            state: SubscriptionState::Missed,
            instance: presence.instance,
            session: presence.session,
            home: Some(presence.home),
            previous_home: None,
            first_seen: Some(now),
            last_seen: now,
            seen_until: now,
            trouble: None,
            slots: presence.slots.map(|_| 0),
            reads: presence.reads,
            standby: None,
        }
    }

    /// The same with a process beside it that would take its place; the process that has the place stands by
    /// for nobody.
    fn with_standby(mut self, presence: &Presence, now: Timestamp) -> Self {
        if self.instance == presence.instance && self.state == SubscriptionState::Online {
            return self;
        }
        let before = self.standby.filter(|before| before.instance == presence.instance);
        self.standby = match presence.state {
            PresenceState::Leaving if before.is_some() => None,
            PresenceState::Leaving => self.standby,
            PresenceState::Joined | PresenceState::Alive => Some(Standby {
                instance: presence.instance,
                home: presence.home,
                since: before.map_or(now, |before| before.since),
                seen_until: now.after(presence.interval.saturating_mul(INTERVALS)),
            }),
        };
        self
    }

    /// Goes to the process that stands by, if one does: from now on tasks are expected of that one, and it
    /// alone is let in. It gets them when it says that it consumes. The store does the same in SQL when the
    /// presence of the first is overdue.
    fn handed_over(self, now: Timestamp) -> Self {
        match self.standby.filter(|standby| standby.seen_until > now) {
            Some(Standby { instance, home, seen_until, .. }) => Self {
                state: SubscriptionState::Online,
                instance,
                // Of no connection of its own yet: whatever it says first makes it a newcomer.
                session: instance,
                home: Some(home),
                previous_home: if self.home == Some(home) {
                    self.previous_home
                } else {
                    self.home.or(self.previous_home)
                },
                seen_until,
                trouble: None,
                slots: self.slots.map(|_| 0),
                // It has not said yet what it reads.
                reads: WireVersion::One,
                standby: None,
                ..self
            },
            None => self,
        }
    }
}

/// What presence messages did.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Endpoints that must be welcomed and asked for what they owe: they were not subscribed before, have a
    /// new session, or still say `Joined` since no welcome has reached them.
    pub newcomers: Vec<Presence>,
    /// Processes that were not let in: another one with the same name and another memory was heard of a
    /// moment ago.
    pub fenced: Vec<Presence>,
    /// Subscriptions whose endpoint said goodbye, and did not join again in this batch.
    pub left: BTreeSet<(TaskType, EndpointName)>,
    /// What restricted endpoints said that they perform without having been invited for it, or although they
    /// were revoked.
    pub barred: BTreeSet<(TaskType, EndpointName)>,
}

/// What a batch of presence messages does.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Rows to write, by key, which is the order of locks.
    pub subscriptions: BTreeMap<(EndpointName, TaskType), Subscription>,
    /// Endpoints heard of.
    pub endpoints: BTreeMap<EndpointName, Heard>,
    /// For the caller.
    pub seen: Seen,
}

/// What an endpoint says of itself, whatever its types.
#[derive(Debug)]
pub(super) struct Heard {
    pub version: String,
    pub clock: ClockOffset,
    pub unproven_at: Option<Timestamp>,
    pub labels: Labels,
}

/// What the ledger knows of an endpoint from earlier presence.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Noted {
    pub clock: ClockOffset,
    /// When its presence last came from another broker user than its own.
    pub unproven_at: Option<Timestamp>,
}

/// The presence of a restricted endpoint without the types that it was not invited for, which it is told of
/// as if the broker had refused them. They are added to `barred`.
pub(super) fn within(
    mut presence: Presence,
    invited: &BTreeSet<TaskType>,
    barred: &mut BTreeSet<(TaskType, EndpointName)>,
) -> Presence {
    if !presence.restricted {
        return presence;
    }
    let (allowed, others): (Vec<_>, Vec<_>) =
        presence.task_types.into_iter().partition(|task_type| invited.contains(task_type));
    presence.task_types = allowed;
    let (refused, barred_too): (Vec<_>, Vec<_>) =
        presence.refused.into_iter().partition(|refused| invited.contains(&refused.task_type));
    presence.refused = refused;
    let uninvited: BTreeSet<_> =
        others.into_iter().chain(barred_too.into_iter().map(|refused| refused.task_type)).collect();
    for task_type in uninvited {
        let reason = ReasonCode::NotInvited.told(NOT_INVITED);
        presence.refused.push(RefusedType { task_type: task_type.clone(), held: false, reason });
        barred.insert((task_type, presence.endpoint.clone()));
    }
    presence
}

/// What presence messages do to the subscriptions and endpoints as they were read.
pub(super) fn see(
    known: &HashMap<(EndpointName, TaskType), Subscription>,
    noted: &HashMap<EndpointName, Noted>,
    presences: &[Presence],
    now: Timestamp,
) -> Changes {
    let mut changes = Changes::default();
    for presence in presences {
        let key = |task_type: &TaskType| (presence.endpoint.clone(), task_type.clone());
        let before = |changes: &Changes, task_type: &TaskType| {
            let key = key(task_type);
            changes.subscriptions.get(&key).or_else(|| known.get(&key)).cloned()
        };
        if presence
            .task_types
            .iter()
            .any(|task_type| before(&changes, task_type).is_some_and(|it| it.fences(presence)))
        {
            changes.seen.fenced.push(presence.clone());
            for task_type in &presence.task_types {
                if let Some(fence) = before(&changes, task_type).filter(|before| before.fences(presence)) {
                    changes.subscriptions.insert(key(task_type), fence.with_standby(presence, now));
                }
            }
            continue;
        }
        for refused in &presence.refused {
            let after = refuse(before(&changes, &refused.task_type), presence, refused, now);
            changes.subscriptions.insert(key(&refused.task_type), after);
        }
        let heard = changes.endpoints.get(&presence.endpoint);
        let heard = heard.map(|heard| Noted { clock: heard.clock, unproven_at: heard.unproven_at });
        let Noted { clock, unproven_at } =
            heard.or_else(|| noted.get(&presence.endpoint).copied()).unwrap_or_default();
        // One that only stands by says nothing about the endpoint, unless nobody else does.
        let stands_by = presence.task_types.is_empty() && presence.refused.iter().all(|refused| refused.held);
        if !stands_by || !known.keys().any(|(endpoint, _)| *endpoint == presence.endpoint) {
            let clock = clock.read(presence.sent_at, now);
            let unproven_at = if presence.proven { unproven_at } else { Some(now) };
            let (version, labels) = (presence.version.clone(), presence.labels.clone());
            let heard = Heard { version, clock, unproven_at, labels };
            changes.endpoints.insert(presence.endpoint.clone(), heard);
        }
        let mut new = false;
        for task_type in &presence.task_types {
            let before = before(&changes, task_type);
            let same_process = before.as_ref().is_some_and(|before| before.instance == presence.instance);
            let (state, seen_until) = match presence.state {
                // The farewell of a process that has been replaced, or a sign of life that its own farewell
                // overtook.
                PresenceState::Leaving if !same_process => continue,
                PresenceState::Alive | PresenceState::Joined
                    if before.as_ref().is_some_and(|it| it.has_gone(presence, clock, now)) =>
                {
                    continue;
                }
                PresenceState::Leaving => (SubscriptionState::Left, now),
                PresenceState::Joined | PresenceState::Alive => {
                    (SubscriptionState::Online, now.after(presence.interval.saturating_mul(INTERVALS)))
                }
            };
            let others =
                |standby: &Standby| standby.instance != presence.instance && standby.seen_until > now;
            let standby = before.as_ref().and_then(|before| before.standby).filter(others);
            // A process that still says `Joined` has not been welcomed, whatever the ledger knows: a welcome
            // can be lost.
            new |= presence.state == PresenceState::Joined;
            new |= state == SubscriptionState::Online
                && before.as_ref().is_none_or(|before| {
                    before.state != SubscriptionState::Online || before.session != presence.session
                });
            let (previous_home, first_seen) = match &before {
                Some(before) if before.home == Some(presence.home) => {
                    (before.previous_home, before.first_seen)
                }
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
                reads: presence.reads,
                standby,
            };
            let named = (task_type.clone(), presence.endpoint.clone());
            let after = if state == SubscriptionState::Left {
                changes.seen.left.insert(named);
                after.handed_over(now)
            } else {
                changes.seen.left.remove(&named);
                after
            };
            changes.subscriptions.insert(key(task_type), after);
        }
        forget_troubles(&mut changes, known, presence);
        let welcomed = |other: &Presence| {
            (&other.endpoint, other.session) == (&presence.endpoint, presence.session)
                && presence.task_types.iter().all(|task_type| other.task_types.contains(task_type))
        };
        if new && !presence.task_types.is_empty() && !changes.seen.newcomers.iter().any(welcomed) {
            changes.seen.newcomers.push(presence.clone());
        }
    }
    changes
}

/// Ends the trouble of types that are no longer this endpoint's: its new process does not have them, or the
/// process that could not consume them says goodbye.
fn forget_troubles(
    changes: &mut Changes,
    known: &HashMap<(EndpointName, TaskType), Subscription>,
    presence: &Presence,
) {
    let leaves = presence.state == PresenceState::Leaving;
    let says = |task_type: &TaskType| {
        presence.task_types.contains(task_type)
            || !leaves && presence.refused.iter().any(|refused| refused.task_type == *task_type)
    };
    if presence.task_types.is_empty() {
        // One that stands by, or consumes nothing, speaks for nobody.
        return;
    }
    for (key, before) in known.iter().filter(|((endpoint, _), _)| *endpoint == presence.endpoint) {
        let before = changes.subscriptions.get(key).unwrap_or(before);
        let idle = before.trouble.is_some() && before.state != SubscriptionState::Online;
        if idle && !says(&key.1) && leaves == (before.instance == presence.instance) {
            let after = Subscription { state: SubscriptionState::Left, trouble: None, ..before.clone() };
            changes.subscriptions.insert(key.clone(), after);
        }
    }
}

/// A type that a process cannot consume. Nobody is expected for that reason, and nobody gone: what was
/// subscribed stays so for as long as silence is allowed.
fn refuse(
    before: Option<Subscription>,
    presence: &Presence,
    refused: &RefusedType,
    now: Timestamp,
) -> Subscription {
    let others = before.as_ref().is_some_and(|before| {
        before.state == SubscriptionState::Online && before.instance != presence.instance
    });
    let mut after = before.unwrap_or_else(|| Subscription::absent(presence, now));
    if refused.held {
        return after.with_standby(presence, now);
    }
    if !others && presence.state != PresenceState::Leaving {
        after.trouble = Some(refused.reason.clone());
    }
    after
}
