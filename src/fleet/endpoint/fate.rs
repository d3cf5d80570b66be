//! What becomes of a copy of a task that has come, and of a task that is refused.
//!
//! Pure: `intake` and `performer` do what is decided here. The verdict on a copy alone does not decide: what
//! the journal knows of its task counts too.

use super::journal::State;
use crate::signing::{Cause, Moment};

/// What is done about a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The task is journaled, and begins when its turn comes.
    Take,
    /// The task is parked here and goes on.
    Renew,
    /// The task waits or runs, which is said again.
    Known,
    /// Something is left of the task, whose report is with the broker: nothing is said that would overtake it.
    OnItsWay,
    /// The task has ended, which is reported again.
    Ended,
    /// The API says that this endpoint has received the task, and the journal does not know what became of it.
    Lost,
    /// The task ends as refused.
    Fail,
    /// Nothing: the copy is refused, and another copy may come.
    Refuse,
}

/// How a copy was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts.
    Good,
    /// Another copy may count.
    Refused,
    /// No copy of the task can count.
    RefusedForGood,
}

impl Fate {
    /// The fate of a copy of a task of which the journal knows this; `received` when the copy says that this
    /// endpoint has had the task before.
    pub(super) const fn of(state: Option<State>, received: bool, verdict: Verdict) -> Self {
        match (verdict, state) {
            // A copy that does not count says nothing of its task.
            (Verdict::Refused, _) => Self::Refuse,
            (_, Some(State::Digest | State::Unknown)) if !received => Self::OnItsWay,
            (_, Some(State::Finished { .. } | State::Canceled { .. } | State::Digest)) => Self::Ended,
            (_, Some(State::Unknown)) => Self::Lost,
            // It may have run, so it has not failed as refused.
            (_, None) if received => Self::Lost,
            // It waits, and is judged again when its turn comes; or it runs, and was judged then.
            (_, Some(State::Pending { .. })) => Self::Known,
            (Verdict::Good, Some(State::Parked)) => Self::Renew,
            (Verdict::Good, None) => Self::Take,
            (Verdict::RefusedForGood, Some(State::Parked) | None) => Self::Fail,
        }
    }
}

/// Who judges, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Court {
    /// Whether the copy has just come, or its task has waited here.
    pub(super) moment: Moment,
    /// Whether it is a worker, so that another one may be given the task.
    pub(super) is_worker: bool,
    /// Whether a welcome has confirmed the clock.
    pub(super) clock_is_right: bool,
}

impl Court {
    /// How a copy was judged that is refused for this cause: for good, or until another copy comes.
    pub(super) const fn verdict(self, cause: Cause) -> Verdict {
        let for_good = match cause {
            Cause::Copy => false,
            Cause::Task => true,
            Cause::Receivers => !self.is_worker,
            // A task that has just come is asked for again until somebody has mended the file. A task that has
            // waited was allowed when it came, so somebody has changed the file on purpose.
            Cause::TrustFile => matches!(self.moment, Moment::Waits),
            // A task comes only after the welcome, which confirms the clock. The turn of a task that has waited
            // may come before the welcome, when the clock may be wrong: the task is judged again when the API
            // asks for it.
            Cause::End => matches!(self.moment, Moment::Arrives) || self.clock_is_right,
        };
        if for_good { Verdict::RefusedForGood } else { Verdict::Refused }
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Good, Refused, RefusedForGood};
    use super::*;

    #[test]
    fn a_copy_meets_what_the_journal_knows() {
        use Fate as F;
        let ended = |reported| [State::Finished { reported }, State::Canceled { reported }];
        let [finished, canceled] = ended(true);
        let [unreported, untold] = ended(false);
        // What is known; what becomes of a good copy, and of one that is refused for good: the first time that
        // the task is sent, and when this endpoint is said to have received it.
        let table = [
            (None, [F::Take, F::Lost], [F::Fail, F::Lost]),
            (Some(State::Pending { started: 0 }), [F::Known; 2], [F::Known; 2]),
            (Some(State::Pending { started: 2 }), [F::Known; 2], [F::Known; 2]),
            (Some(State::Parked), [F::Renew; 2], [F::Fail; 2]),
            (Some(finished), [F::Ended; 2], [F::Ended; 2]),
            (Some(unreported), [F::Ended; 2], [F::Ended; 2]),
            (Some(canceled), [F::Ended; 2], [F::Ended; 2]),
            (Some(untold), [F::Ended; 2], [F::Ended; 2]),
            (Some(State::Digest), [F::OnItsWay, F::Ended], [F::OnItsWay, F::Ended]),
            (Some(State::Unknown), [F::OnItsWay, F::Lost], [F::OnItsWay, F::Lost]),
        ];
        for (state, good, refused_for_good) in table {
            let both = |verdict| [false, true].map(|received| Fate::of(state, received, verdict));
            assert_eq!(both(Good), good, "{state:?}");
            assert_eq!(both(RefusedForGood), refused_for_good, "{state:?}");
            assert_eq!(both(Refused), [F::Refuse; 2], "{state:?}");
        }
    }

    #[test]
    fn what_another_copy_can_mend_is_not_refused_for_good() {
        let court = |moment, is_worker, clock_is_right| Court { moment, is_worker, clock_is_right };
        let courts = [
            court(Moment::Arrives, false, true),
            court(Moment::Arrives, false, false),
            court(Moment::Arrives, true, true),
            court(Moment::Waits, false, true),
            court(Moment::Waits, false, false),
            court(Moment::Waits, true, true),
        ];
        let (no, yes) = (Refused, RefusedForGood);
        for (cause, verdicts) in [
            (Cause::Copy, [no, no, no, no, no, no]),
            (Cause::Task, [yes, yes, yes, yes, yes, yes]),
            (Cause::Receivers, [yes, yes, no, yes, yes, no]),
            (Cause::TrustFile, [no, no, no, yes, yes, yes]),
            (Cause::End, [yes, yes, yes, yes, no, yes]),
        ] {
            assert_eq!(courts.map(|court| court.verdict(cause)), verdicts, "{cause:?}");
        }
    }
}
