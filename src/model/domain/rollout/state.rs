//! Where rollouts, their waves and their targets stand, and the only functions that may change it.
//! `docs/states.md` draws the arrows.

use serde::{Deserialize, Serialize};

states! {
    /// Where a rollout stands.
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    RolloutStatus 12 {
        /// Recorded, with its waves; nothing has started.
        Created = 0, "CREATED";
        /// Its waves run.
        Running = 1, "RUNNING";
        /// All its waves have passed; endpoints that were away are waited for.
        Settling = 2, "SETTLING";
        /// Somebody stopped it; nothing new starts.
        Paused = 3, "PAUSED";
        /// A budget or a gate stopped it; nothing new starts until somebody decides.
        Halted = 4, "HALTED";
        /// It is to end; what has started finishes.
        Aborting = 5, "ABORTING";
        /// All its targets have succeeded. Final.
        Done = 6, "DONE";
        /// It has ended, and not all its targets have succeeded. Final.
        Partial = 7, "PARTIAL";
        /// It was given up. Final.
        Aborted = 8, "ABORTED";
        /// It was given up, and another rollout undoes it.
        RollingBack = 9, "ROLLING_BACK";
        /// Its endpoints were rolled back. Final.
        RolledBack = 10, "ROLLED_BACK";
        /// It has ended, and not all its endpoints were rolled back. Final.
        RollbackFailed = 11, "ROLLBACK_FAILED";
    }
}

states! {
    /// Where a wave stands.
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    WavePhase 5 {
        /// Its turn has not come, or it waits for an approval.
        Waiting = 0, "WAITING";
        /// Its targets are started, as many at a time as its window says.
        Admitting = 1, "ADMITTING";
        /// Its targets have answered; the soak time passes.
        Soaking = 2, "SOAKING";
        /// The next wave may begin. Final.
        Passed = 3, "PASSED";
        /// Its soak time is over; its probe is tried.
        Probing = 4, "PROBING";
    }
}

states! {
    /// Where a target, an endpoint of a rollout, stands.
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    TargetState 9 {
        /// Its turn has not come.
        Pending = 0, "PENDING";
        /// A task was sent to it.
        Sent = 1, "SENT";
        /// It has succeeded, and is to show that it is healthy.
        Verifying = 2, "VERIFYING";
        /// It has succeeded. Final.
        Ok = 3, "OK";
        /// It has failed, or did not finish in time.
        Failed = 4, "FAILED";
        /// It did not receive its task in time.
        Unreachable = 5, "UNREACHABLE";
        /// It was away when its turn came. It is started when it returns.
        Absent = 6, "ABSENT";
        /// It is left out.
        Skipped = 7, "SKIPPED";
        /// A newer rollout of the lane takes its place. Final.
        Superseded = 8, "SUPERSEDED";
    }
}

/// What can happen to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutEvent {
    /// It may begin.
    Start,
    /// Somebody stops it for now.
    Pause,
    /// It goes on where it was.
    Resume {
        /// Where it was.
        to: RolloutStatus,
    },
    /// A budget is exceeded, or a gate has failed.
    Halt,
    /// It is given up: by somebody, by a breach, or because its time is over.
    Abort,
    /// Its last wave has passed, and targets are waited for.
    Settle,
    /// No target waits any more; for a rollout that is undone: of the rollout that undoes it.
    End {
        /// Whether all targets have succeeded.
        all_ok: bool,
    },
    /// Nothing is in flight any more.
    Drained,
    /// Nothing is in flight any more, and what it has changed is to be undone.
    RollBack,
}

impl RolloutStatus {
    /// Whether nothing can change it any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Partial | Self::Aborted | Self::RolledBack | Self::RollbackFailed)
    }

    /// Whether targets may be started.
    pub const fn admits(self) -> bool {
        matches!(self, Self::Running | Self::Settling)
    }

    /// Whether it can still be given up.
    pub const fn can_be_given_up(self) -> bool {
        matches!(self.next(RolloutEvent::Abort), Some(Self::Aborting)) && !matches!(self, Self::Aborting)
    }

    /// The only place where a rollout's status may change. Repeats of what somebody asked for answer the
    /// status that is there; none is answered where the status does not allow the event.
    #[must_use]
    pub const fn next(self, event: RolloutEvent) -> Option<Self> {
        use RolloutEvent as E;
        Some(match (self, event) {
            (Self::Created, E::Start) => Self::Running,
            (Self::Running | Self::Settling | Self::Paused, E::Pause) => Self::Paused,
            (Self::Paused | Self::Halted, E::Resume { to }) if to.admits() => to,
            (Self::Running | Self::Settling, E::Halt) => Self::Halted,
            (Self::Aborting | Self::Aborted, E::Abort) => self,
            (Self::Created | Self::Running | Self::Settling | Self::Paused | Self::Halted, E::Abort) => {
                Self::Aborting
            }
            (Self::Running, E::Settle) => Self::Settling,
            (Self::Running | Self::Settling, E::End { all_ok: true }) => Self::Done,
            (Self::Running | Self::Settling, E::End { all_ok: false }) => Self::Partial,
            (Self::Aborting, E::Drained) => Self::Aborted,
            (Self::Aborting, E::RollBack) => Self::RollingBack,
            (Self::RollingBack, E::End { all_ok: true }) => Self::RolledBack,
            (Self::RollingBack, E::End { all_ok: false }) => Self::RollbackFailed,
            // A repeat of a start or a resume.
            (Self::Running | Self::Settling, E::Start | E::Resume { .. }) => self,
            _ => return None,
        })
    }
}

/// What can happen to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetEvent {
    /// It is away when its turn comes.
    Away,
    /// It is back.
    Returned,
    /// Its handler ended well.
    Succeeded {
        /// Whether it is to show that it is healthy.
        verify: bool,
    },
    /// It was healthy for as long as it had to.
    Healthy,
    /// Its handler failed, it did not finish in time, or it did not get healthy in time.
    Failed,
    /// It did not receive its task in time.
    NotReceived,
    /// Its task was taken back before it began.
    Withdrawn,
    /// It has received its task after all.
    Received,
    /// The time for which it was waited for is over.
    GivenUp,
    /// A newer rollout of the lane has begun, or one of the same subject has started it already.
    Superseded,
    /// Somebody leaves it out.
    Skip,
    /// Somebody wants it tried again.
    Retry,
}

impl TargetState {
    /// Whether it takes a place in the window.
    pub const fn is_in_flight(self) -> bool {
        matches!(self, Self::Sent | Self::Verifying)
    }

    /// Whether it is waited for though its wave may have passed.
    pub const fn is_waited_for(self) -> bool {
        matches!(self, Self::Absent | Self::Unreachable)
    }

    /// The only place where a target's state may change, but for PENDING: its [`super::Admission`] makes it
    /// SENT. None where the event changes nothing.
    #[must_use]
    pub const fn next(self, event: TargetEvent) -> Option<Self> {
        use TargetEvent as E;
        Some(match (self, event) {
            (Self::Pending, E::Away) => Self::Absent,
            (Self::Pending | Self::Absent, E::Skip) => Self::Skipped,
            (Self::Failed | Self::Unreachable, E::Skip) => Self::Skipped,
            (Self::Sent | Self::Unreachable, E::Succeeded { verify: true }) => Self::Verifying,
            (Self::Sent | Self::Unreachable | Self::Failed, E::Succeeded { verify: false }) => Self::Ok,
            // What was overdue and has succeeded after all.
            (Self::Failed, E::Succeeded { verify: true }) => Self::Ok,
            (Self::Sent | Self::Unreachable | Self::Verifying, E::Failed) => Self::Failed,
            (Self::Sent, E::NotReceived) => Self::Unreachable,
            (Self::Verifying, E::Healthy) => Self::Ok,
            (Self::Absent, E::Returned) | (Self::Unreachable | Self::Sent, E::Withdrawn) => Self::Pending,
            (Self::Unreachable, E::Received) => Self::Sent,
            (Self::Absent | Self::Unreachable, E::GivenUp) => Self::Skipped,
            (Self::Pending | Self::Absent | Self::Unreachable, E::Superseded) => Self::Superseded,
            (Self::Failed | Self::Unreachable | Self::Absent | Self::Skipped, E::Retry) => Self::Pending,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_rollouts() {
        use RolloutEvent as E;
        use RolloutStatus as S;
        let events = [
            E::Start,
            E::Pause,
            E::Resume { to: S::Settling },
            E::Halt,
            E::Abort,
            E::Settle,
            E::End { all_ok: true },
            E::End { all_ok: false },
            E::Drained,
            E::RollBack,
        ];
        let table: [(S, [Option<S>; 10]); 12] = [
            (
                S::Created,
                [Some(S::Running), None, None, None, Some(S::Aborting), None, None, None, None, None],
            ),
            (
                S::Running,
                [
                    Some(S::Running),
                    Some(S::Paused),
                    Some(S::Running),
                    Some(S::Halted),
                    Some(S::Aborting),
                    Some(S::Settling),
                    Some(S::Done),
                    Some(S::Partial),
                    None,
                    None,
                ],
            ),
            (
                S::Settling,
                [
                    Some(S::Settling),
                    Some(S::Paused),
                    Some(S::Settling),
                    Some(S::Halted),
                    Some(S::Aborting),
                    None,
                    Some(S::Done),
                    Some(S::Partial),
                    None,
                    None,
                ],
            ),
            (
                S::Paused,
                [
                    None,
                    Some(S::Paused),
                    Some(S::Settling),
                    None,
                    Some(S::Aborting),
                    None,
                    None,
                    None,
                    None,
                    None,
                ],
            ),
            (
                S::Halted,
                [None, None, Some(S::Settling), None, Some(S::Aborting), None, None, None, None, None],
            ),
            (
                S::Aborting,
                [
                    None,
                    None,
                    None,
                    None,
                    Some(S::Aborting),
                    None,
                    None,
                    None,
                    Some(S::Aborted),
                    Some(S::RollingBack),
                ],
            ),
            (S::Done, [None; 10]),
            (S::Partial, [None; 10]),
            (S::Aborted, [None, None, None, None, Some(S::Aborted), None, None, None, None, None]),
            (
                S::RollingBack,
                [
                    None,
                    None,
                    None,
                    None,
                    None,
                    None,
                    Some(S::RolledBack),
                    Some(S::RollbackFailed),
                    None,
                    None,
                ],
            ),
            (S::RolledBack, [None; 10]),
            (S::RollbackFailed, [None; 10]),
        ];
        for (from, to) in table {
            for (event, to) in events.into_iter().zip(to) {
                assert_eq!(from.next(event), to, "{from:?} {event:?}");
            }
        }
        assert_eq!(
            S::Halted.next(E::Resume { to: S::Aborting }),
            None,
            "nothing but what ran is gone on with"
        );
    }

    #[test]
    fn final_targets_stay_and_every_other_can_be_left() {
        use TargetEvent as E;
        use TargetState as S;
        let events = [
            E::Away,
            E::Returned,
            E::Succeeded { verify: false },
            E::Succeeded { verify: true },
            E::Healthy,
            E::Failed,
            E::NotReceived,
            E::Withdrawn,
            E::Received,
            E::GivenUp,
            E::Superseded,
            E::Skip,
            E::Retry,
        ];
        let to = |from: S| -> Vec<S> {
            let mut to: Vec<S> = events.into_iter().filter_map(|event| from.next(event)).collect();
            to.sort_unstable();
            to.dedup();
            to
        };
        assert_eq!(to(S::Pending), [S::Absent, S::Skipped, S::Superseded]);
        assert_eq!(to(S::Sent), [S::Pending, S::Verifying, S::Ok, S::Failed, S::Unreachable]);
        assert_eq!(to(S::Verifying), [S::Ok, S::Failed]);
        assert_eq!(to(S::Ok), []);
        assert_eq!(to(S::Failed), [S::Pending, S::Ok, S::Skipped]);
        assert_eq!(
            to(S::Unreachable),
            [S::Pending, S::Sent, S::Verifying, S::Ok, S::Failed, S::Skipped, S::Superseded]
        );
        assert_eq!(to(S::Absent), [S::Pending, S::Skipped, S::Superseded]);
        assert_eq!(to(S::Skipped), [S::Pending]);
        assert_eq!(to(S::Superseded), []);
    }
}
