//! How a task moves through its queue. No I/O.

use crate::store::Result;
use crate::store::columns::corrupt;

/// Where a task of a work queue is. The numbers are kept in the store; those that wait come first, which
/// SQLite's key on unique keys relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum QueueState {
    /// It waits for a worker with room.
    Ready,
    /// It waits until fewer tasks of its key run.
    Held,
    /// It waits for its time.
    Delayed,
    /// A worker has it.
    Given,
    /// It has succeeded, and another task is to be queued after it.
    Succeeded,
}

/// What can happen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum QueueEvent {
    /// It was its turn, and as many of its key run as may.
    Hold,
    /// One of its key has left, or the limits are others.
    Release,
    /// Its time has come.
    Due,
    /// It was its turn.
    Give,
    /// Its worker is lost.
    Return,
    /// The task has ended; `followed` when another is to be queued after it.
    End {
        /// Whether it stays for that.
        followed: bool,
    },
    /// What follows it has been queued, or cannot be.
    Follow,
}

/// What an event does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Step {
    To(QueueState),
    /// It is in the queue no more.
    Leaves,
    /// Nothing.
    Stays,
}

impl QueueState {
    /// All states, in the order of their codes.
    pub const ALL: [Self; 5] = [Self::Ready, Self::Held, Self::Delayed, Self::Given, Self::Succeeded];

    /// All states in which a task waits have lower codes, all others not.
    pub const WAITING_END: u8 = Self::Given.code();

    /// The number kept in the store.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The state with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The state out of its column.
    pub fn read(code: u8, of: impl std::fmt::Display) -> Result<Self> {
        Self::from_code(code).ok_or_else(|| {
            corrupt(format!("queued task {of}, column state"), format!("{code} is not a state"))
        })
    }

    /// The state in which a task enters its queue.
    pub const fn first(delayed: bool, given: bool) -> Self {
        match (given, delayed) {
            (true, _) => Self::Given,
            (false, true) => Self::Delayed,
            (false, false) => Self::Ready,
        }
    }

    /// What an event does in this state.
    pub const fn next(self, event: QueueEvent) -> Step {
        use QueueEvent::{Due, End, Follow, Give, Hold, Release, Return};
        use QueueState::{Delayed, Given, Held, Ready, Succeeded};
        match (self, event) {
            (Ready, Hold) => Step::To(Held),
            (Held, Release) | (Delayed, Due) | (Given, Return) => Step::To(Ready),
            (Ready, Give) => Step::To(Given),
            (Ready | Held | Delayed | Given, End { followed: true }) => Step::To(Succeeded),
            (Ready | Held | Delayed | Given, End { followed: false }) | (Succeeded, Follow) => Step::Leaves,
            _ => Step::Stays,
        }
    }
}

impl QueueEvent {
    /// The states that it moves, each with where to: what the statements that do it are guarded by, and what
    /// they set.
    pub fn moves(self) -> impl Iterator<Item = (QueueState, QueueState)> {
        QueueState::ALL.into_iter().filter_map(move |from| match from.next(self) {
            Step::To(to) => Some((from, to)),
            Step::Leaves | Step::Stays => None,
        })
    }

    /// The states that it takes out of the queue.
    pub fn removes(self) -> impl Iterator<Item = QueueState> {
        QueueState::ALL.into_iter().filter(move |from| from.next(self) == Step::Leaves)
    }
}

#[cfg(test)]
mod tests {
    use QueueEvent as E;
    use QueueState as S;

    use super::*;

    #[test]
    fn every_state_and_event() {
        let (followed, ended) = (E::End { followed: true }, E::End { followed: false });
        let events = [E::Hold, E::Release, E::Due, E::Give, E::Return, followed, ended, E::Follow];
        let (to, leaves, stays) = (Step::To, Step::Leaves, Step::Stays);
        let table = [
            (S::Ready, [to(S::Held), stays, stays, to(S::Given), stays, to(S::Succeeded), leaves, stays]),
            (S::Held, [stays, to(S::Ready), stays, stays, stays, to(S::Succeeded), leaves, stays]),
            (S::Delayed, [stays, stays, to(S::Ready), stays, stays, to(S::Succeeded), leaves, stays]),
            (S::Given, [stays, stays, stays, stays, to(S::Ready), to(S::Succeeded), leaves, stays]),
            (S::Succeeded, [stays, stays, stays, stays, stays, stays, stays, leaves]),
        ];
        for (from, steps) in table {
            for (event, step) in events.into_iter().zip(steps) {
                assert_eq!(from.next(event), step, "{from:?} on {event:?}");
            }
        }
    }

    #[test]
    fn codes_are_those_of_the_migrations() {
        assert_eq!(S::ALL.map(S::code), [0, 1, 2, 3, 4]);
        assert!(S::ALL.into_iter().all(|state| S::from_code(state.code()) == Some(state)));
        assert_eq!(S::from_code(5), None);
        let waits = |state| matches!(state, S::Ready | S::Held | S::Delayed);
        assert!(S::ALL.into_iter().all(|state| waits(state) == (state.code() < S::WAITING_END)));
    }

    #[test]
    fn a_task_enters_where_it_belongs() {
        for (delayed, given, state) in [
            (false, false, S::Ready),
            (true, false, S::Delayed),
            (false, true, S::Given),
            (true, true, S::Given),
        ] {
            assert_eq!(S::first(delayed, given), state, "delayed: {delayed}, given: {given}");
        }
    }
}
