//! A task and the only function that may change its status.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{EndpointName, Identifier, Json, Place, Queued, Target, TaskId, TaskType, Timestamp, TokenName};

/// Where a task stands. `docs/states.md` draws the arrows; [`TaskStatus::next`] is the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum TaskStatus {
    /// Recorded; not known to have left for the broker, or waiting in a work queue.
    Created,
    /// The broker has confirmed it, an endpoint has answered, or a worker was given it.
    Sent,
    /// The receive deadline passed and some expected endpoint has not received it. Not the end: a late
    /// endpoint turns it back.
    Incomplete,
    /// Every expected endpoint finished, with or without errors. Final.
    Done,
    /// Withdrawn by the customer. Final.
    Canceled,
    /// Its time to live ran out before every expected endpoint finished. Final.
    Expired,
}

/// What can happen to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEvent {
    /// The broker confirmed all its messages.
    Published,
    /// A worker was given it.
    Taken,
    /// The worker that had it is gone: it waits again.
    Returned,
    /// A response row changed; the counts say how things stand now.
    Progress,
    /// The time by which every expected endpoint should have received it is over.
    ReceiveDeadline,
    /// The customer withdrew it.
    Cancel,
    /// Its time to live is over.
    Expire,
}

/// An event that a status does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task that is {from:?} cannot take {event:?}")]
pub struct IllegalMove {
    /// The status it had.
    pub from: TaskStatus,
    /// What was asked of it.
    pub event: TaskEvent,
}

impl TaskStatus {
    /// All states, in the order of their codes.
    pub const ALL: [Self; 6] =
        [Self::Created, Self::Sent, Self::Incomplete, Self::Done, Self::Canceled, Self::Expired];

    /// Whether nothing can change it any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Canceled | Self::Expired)
    }

    /// The word used on the wire, in logs and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Sent => "SENT",
            Self::Incomplete => "INCOMPLETE",
            Self::Done => "DONE",
            Self::Canceled => "CANCELED",
            Self::Expired => "EXPIRED",
        }
    }

    /// The number kept in the store.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The status with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The only place where a task's status may change. Repeats are no moves: they answer the status that is
    /// there.
    ///
    /// # Errors
    /// [`IllegalMove`] for the one thing a customer can ask in vain: to cancel what has ended otherwise.
    pub fn next(self, event: TaskEvent, counts: &Counts) -> Result<Self, IllegalMove> {
        use TaskEvent as E;
        let next = match (self, event) {
            (Self::Done | Self::Expired, E::Cancel) => return Err(IllegalMove { from: self, event }),
            (status, _) if status.is_final() => status,
            (_, E::Cancel) => Self::Canceled,
            (_, E::Expire) => Self::Expired,
            (_, E::Progress) if counts.all_finished() => Self::Done,
            // The responses that are not finished were taken back.
            (_, E::Progress) if counts.expected > 0 && counts.open() == 0 => Self::Canceled,
            (Self::Created, E::Progress) if counts.received > 0 => Self::Sent,
            (Self::Incomplete, E::Progress) if counts.all_received() => Self::Sent,
            (Self::Created, E::Published | E::Taken) => Self::Sent,
            (Self::Sent, E::Returned) => Self::Created,
            (_, E::ReceiveDeadline) if !counts.all_received() => Self::Incomplete,
            (status, _) => status,
        };
        Ok(next)
    }
}

/// How the expected endpoints of a task stand. `finished + canceled + expired` never exceeds `expected`, and
/// equals it once all is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Counts {
    /// Endpoints that must answer.
    pub expected: u32,
    /// Of these, how many have received it (whatever came of it).
    pub received: u32,
    /// Of these, how many have finished, with or without an error.
    pub finished: u32,
    /// Of the finished, how many with an error number other than 0.
    pub failed: u32,
    /// Rows withdrawn by a cancel.
    pub canceled: u32,
    /// Rows given up when the task's time was over.
    pub expired: u32,
}

impl Counts {
    /// Whether every expected endpoint has received it; false while nobody is expected.
    pub const fn all_received(&self) -> bool {
        self.expected > 0 && self.received >= self.expected
    }

    /// Whether every expected endpoint has finished; false while nobody is expected.
    pub const fn all_finished(&self) -> bool {
        self.expected > 0 && self.finished >= self.expected
    }

    /// Rows that still wait for something.
    pub const fn open(&self) -> u32 {
        self.expected.saturating_sub(self.finished + self.canceled + self.expired)
    }
}

/// A submission that has passed validation, not yet recorded.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// Made by the API.
    pub id: TaskId,
    /// The configured type it was posted to.
    pub task_type: TaskType,
    /// The customer's name for it, unique within the type.
    pub identifier: Identifier,
    /// The customer's data, `""` when none was given.
    pub payload: Json,
    /// The endpoints asked for, or chosen as the target says; empty means whoever is subscribed.
    pub endpoints: Vec<EndpointName>,
    /// What the endpoints had to be, where they were not named.
    pub target: Option<Target>,
    /// SHA-256 of what makes two submissions the same: the payload's value and the set of endpoints, or what
    /// they have to be.
    pub digest: [u8; 32],
    /// Where it stands in the work queue of its type; none for a task that endpoints perform.
    pub place: Option<Place>,
    /// When it was accepted.
    pub start_time: Timestamp,
    /// When every expected endpoint should have received it.
    pub receive_by: Timestamp,
    /// When it is given up.
    pub expires_at: Timestamp,
    /// The token it was submitted with; none without one, and for what tasker submits.
    pub submitted_by: Option<TokenName>,
    /// The address that it came from; none for what tasker submits.
    pub source: Option<IpAddr>,
    /// The task that it repeats for some of its endpoints.
    pub rerun_of: Option<TaskId>,
    /// Whether something waits for its end. If so, the ledger notes the end for the process that has to go
    /// on.
    pub followed: bool,
    /// The rollout that it is a batch of.
    pub rollout: Option<uuid::Uuid>,
    /// Whether it waits for approval: it is not published, and nobody looks at it before it expires.
    pub held: bool,
}

/// A task as the ledger has it.
#[derive(Debug, Clone)]
pub struct Task {
    /// Our name for it.
    pub id: TaskId,
    /// The customer's name for it.
    pub identifier: Identifier,
    /// Its type.
    pub task_type: TaskType,
    /// Where it stands.
    pub status: TaskStatus,
    /// The customer's data.
    pub payload: Json,
    /// The endpoints asked for, or chosen as the target says; empty means whoever was subscribed.
    pub endpoints: Vec<EndpointName>,
    /// What the endpoints had to be, where they were not named.
    pub target: Option<Target>,
    /// The task that it repeats for some of its endpoints.
    pub rerun_of: Option<TaskId>,
    /// Of a work queue; none for a task that endpoints perform.
    pub queued: Option<Queued>,
    /// How its expected endpoints stand.
    pub counts: Counts,
    /// When it was accepted.
    pub start_time: Timestamp,
    /// When the broker first confirmed it.
    pub published_at: Option<Timestamp>,
    /// When it reached a final state.
    pub finished_at: Option<Timestamp>,
    /// When every expected endpoint should have received it.
    pub receive_by: Timestamp,
    /// When it is given up.
    pub expires_at: Timestamp,
    /// Whether it waits for approval.
    pub held: bool,
}

impl NewTask {
    /// The task as one that waits for approval until then. Nobody has to receive it before.
    pub fn held_until(self, end: Timestamp) -> Self {
        Self { held: true, expires_at: end, receive_by: end, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TaskEvent as E;
    use TaskStatus as S;

    fn counts(expected: u32, received: u32, finished: u32) -> Counts {
        Counts { expected, received, finished, ..Counts::default() }
    }

    #[test]
    fn moves_as_the_picture_says() {
        let table = [
            (S::Created, E::Published, counts(2, 0, 0), S::Sent),
            (S::Created, E::Progress, counts(2, 1, 0), S::Sent),
            (S::Created, E::Progress, counts(2, 0, 0), S::Created),
            (S::Created, E::Progress, counts(1, 1, 1), S::Done),
            (S::Created, E::ReceiveDeadline, counts(2, 0, 0), S::Incomplete),
            (S::Sent, E::Published, counts(2, 0, 0), S::Sent),
            (S::Created, E::Taken, counts(1, 0, 0), S::Sent),
            (S::Sent, E::Taken, counts(1, 0, 0), S::Sent),
            (S::Sent, E::Returned, counts(0, 0, 0), S::Created),
            (S::Created, E::Returned, counts(0, 0, 0), S::Created),
            (S::Sent, E::Progress, counts(2, 2, 1), S::Sent),
            (S::Sent, E::Progress, counts(2, 2, 2), S::Done),
            (S::Sent, E::ReceiveDeadline, counts(2, 2, 0), S::Sent),
            (S::Sent, E::ReceiveDeadline, counts(2, 1, 1), S::Incomplete),
            (S::Sent, E::ReceiveDeadline, counts(0, 0, 0), S::Incomplete),
            (S::Incomplete, E::Published, counts(2, 1, 0), S::Incomplete),
            (S::Incomplete, E::Progress, counts(2, 1, 1), S::Incomplete),
            (S::Incomplete, E::Progress, counts(2, 2, 1), S::Sent),
            (S::Incomplete, E::Progress, counts(2, 2, 2), S::Done),
            (S::Incomplete, E::Cancel, counts(2, 1, 1), S::Canceled),
            (S::Sent, E::Expire, counts(2, 1, 1), S::Expired),
            (S::Created, E::Expire, counts(0, 0, 0), S::Expired),
            (S::Canceled, E::Cancel, counts(2, 1, 1), S::Canceled),
            // The one was taken back, and the other has finished.
            (S::Sent, E::Progress, Counts { canceled: 1, ..counts(2, 1, 1) }, S::Canceled),
            (S::Created, E::Progress, Counts { canceled: 1, ..counts(2, 1, 0) }, S::Sent),
        ];
        for (from, event, counts, to) in table {
            assert_eq!(from.next(event, &counts), Ok(to), "{from:?} on {event:?} with {counts:?}");
        }
    }

    #[test]
    fn nothing_leaves_a_final_state() {
        for from in S::ALL.into_iter().filter(|status| status.is_final()) {
            for event in [E::Published, E::Taken, E::Returned, E::Progress, E::ReceiveDeadline, E::Expire] {
                assert_eq!(from.next(event, &counts(2, 2, 2)), Ok(from));
            }
        }
        for from in [S::Done, S::Expired] {
            assert_eq!(from.next(E::Cancel, &counts(1, 1, 1)), Err(IllegalMove { from, event: E::Cancel }));
        }
    }

    #[test]
    fn codes_are_the_positions() {
        for status in S::ALL {
            assert_eq!(S::from_code(status.code()), Some(status));
        }
        assert_eq!(S::from_code(6), None);
    }
}
