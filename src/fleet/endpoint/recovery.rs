//! Takes up what an earlier process did not finish.
//!
//! The clock that the last process went by may have been set since, by years, so no time of day in the
//! journal says whether a task is still worth starting. What does is the time since the machine was started.
//! When the machine was started anew, or the task's time is over, the task is *parked*, which is neither run
//! nor forgotten. The next time the API asks for it, it says how long the task is still worth starting, and
//! it goes on (`intake`). If nobody asks, it is forgotten as what has ended is. And nothing waits longer for
//! its next attempt than its policy lets it.
//!
//! What was trusted when it came is judged again: the trust file may have been changed since.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::executor::{self, Retries, Step};
use super::journal::{JournalError, Record, StoredTask};
use super::lane::Assignment;
use super::performer::{Core, assignment_of};
use crate::config::TypePolicy;
use crate::domain::{Outcome, TaskId, Timestamp, json};
use crate::signing::Denial;

/// Tasks that are read back at once.
const READ: usize = 256;

/// Takes up what the journal holds.
pub(super) async fn recover(core: &Arc<Core>) -> Result<(), JournalError> {
    let (pending, unreported) = (core.journal.pending(), core.journal.unreported());
    if !pending.is_empty() || !unreported.is_empty() {
        tracing::info!(
            pending = pending.len(),
            unreported = unreported.len(),
            "resuming the tasks in the journal"
        );
    }
    for id in unreported {
        core.outbox.ended(id, None);
    }
    let mut parked = 0;
    for ids in pending.chunks(READ) {
        let (journal, guard, ids) = (core.journal.clone(), core.guard.clone(), ids.to_vec());
        let judge = move |task: StoredTask| {
            let judged = guard.as_ref().map_or(Ok(()), |guard| guard.judge_waiting(&task.message));
            (task, judged)
        };
        let read = move || {
            let read = |id| (id, journal.read_task(id).map(|task| task.map(&judge)));
            ids.into_iter().map(read).collect::<Vec<_>>()
        };
        let tasks = tokio::task::spawn_blocking(read).await.map_err(|_| JournalError::Closed)?;
        let mut records = Vec::new();
        for (id, task) in tasks {
            match task {
                Ok(Some((task, judged))) => take_up(core, task, judged, &mut records).await,
                Ok(None) => {}
                Err(error) => tracing::error!(task = %id, %error, "a task in the journal cannot be read"),
            }
        }
        let ended: Vec<TaskId> = records
            .iter()
            .filter(|record| matches!(record, Record::Outcome { .. }))
            .map(Record::id)
            .collect();
        parked += records.iter().filter(|record| matches!(record, Record::Parked { .. })).count();
        if !records.is_empty() {
            core.journal.keep(records).await?;
        }
        for id in ended {
            core.outbox.ended(id, None);
        }
    }
    if parked > 0 {
        tracing::info!(
            parked,
            "tasks that may have expired while the machine was down wait until the API asks for them"
        );
    }
    Ok(())
}

async fn take_up(
    core: &Arc<Core>,
    stored: StoredTask,
    judged: Result<(), Denial>,
    records: &mut Vec<Record>,
) {
    let id = stored.id;
    let known = assignment_of(&stored).and_then(|assignment| {
        core.lanes.get(&assignment.task.work.task_type).map(|lane| (assignment, lane))
    });
    let Some((assignment, lane)) = known else {
        tracing::error!(task = %id, "parked a journal entry of a kind that this version does not know");
        return records.push(Record::Parked { id });
    };
    let now = core.clock.now();
    let (assignment, stored) = match interrupted(&stored, &lane.policy, fastrand::f64()) {
        None => (assignment, stored),
        Some(Step::Final(event)) => {
            return records.push(Record::Outcome {
                id,
                report: core.report(id, assignment.task.work.task_type, event),
            });
        }
        Some(Step::Again { after, attempts }) => {
            let stored =
                StoredTask { started: 0, not_before: now.after(after), attempts: attempts.clone(), ..stored };
            records.push(Record::Task(stored.clone()));
            (Assignment { attempts, ..assignment }, stored)
        }
    };
    if let Err(denial) = judged {
        let (task_type, message) = (assignment.task.work.task_type, stored.message);
        return records.push(core.refuse_waiting(id, &task_type, assignment.attempts, message, denial).await);
    }
    // Another worker may have been given it meanwhile.
    if core.leases() {
        return records.push(Record::Parked { id });
    }
    match wait(&stored, core.boot.left(stored.deadline), &lane.policy, now) {
        None => records.push(Record::Parked { id }),
        Some(Duration::ZERO) => lane.push(assignment),
        Some(wait) => lane.push_at(Instant::now() + wait, id),
    }
}

/// What follows from the attempt that ran when the process ended, and may be why; `None` when none did.
/// Nobody can tell how much time is left, so only the number of attempts can make it the last.
fn interrupted(stored: &StoredTask, policy: &TypePolicy, chance: f64) -> Option<Step> {
    if stored.started == 0 {
        return None;
    }
    // The handler has said that it would, and what it answers.
    let restarted =
        stored.restarting.as_ref().map(|answer| serde_json::from_slice(answer).unwrap_or_else(|_| json(&())));
    let outcome = match restarted {
        Some(answer) => Outcome::Done(answer),
        None => executor::interrupted(policy.on_stop, "the endpoint process ended while the handler ran"),
    };
    let retries = Retries { attempts: policy.attempts, backoff: policy.backoff, time_left: Duration::MAX };
    Some(executor::decide(outcome, stored.started, None, stored.attempts.clone(), None, &retries, chance))
}

/// How long until the next attempt; `None` for what has no time left, or nobody knows how much. A wait that
/// is longer than the policy's longest is that of a clock that was set back, or what a handler asked for: the
/// two cannot be told apart, and too early is better than never.
fn wait(
    stored: &StoredTask,
    left: Option<Duration>,
    policy: &TypePolicy,
    now: Timestamp,
) -> Option<Duration> {
    left.filter(|left| !left.is_zero()).map(|_| stored.not_before.since(now).min(policy.backoff.max))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::config::OnStop;
    use crate::domain::{AttemptError, ReportEvent, TaskId, Timestamp, errnr};
    use crate::endpoint::boot::Boot;
    use crate::endpoint::journal::{Deadline, Record, State, StoredTask};
    use crate::endpoint::lane::Lane;
    use crate::endpoint::testing::{self, policy};

    const DAY: i64 = 24 * 3600;
    /// When the journal was written, in seconds.
    const THEN: i64 = 2000 * DAY;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn left(not_before: i64, started: u32, earlier: &[i32]) -> StoredTask {
        let attempts = (1..)
            .zip(earlier)
            .map(|(attempt, errnr)| AttemptError { attempt, errnr: *errnr, errmsg: String::new() })
            .collect();
        let (id, expires_at, not_before) = (TaskId::new(), at(THEN + DAY), at(not_before));
        StoredTask {
            id,
            expires_at,
            not_before,
            started,
            attempts,
            deadline: None,
            restarting: None,
            message: Bytes::new(),
        }
    }

    #[test]
    fn only_what_surely_has_time_left_goes_on_and_nothing_waits_long() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let table = [
            // The clock goes on as it did.
            (THEN, THEN + 1, seconds(0)),
            (THEN + 30, THEN + 1, seconds(29)),
            (THEN + 30, THEN + 31, seconds(0)),
            // It was set forward, past the end of the task's time and not.
            (THEN + 30, THEN + DAY - 1, seconds(0)),
            (THEN + 30, THEN + 800 * DAY, seconds(0)),
            // It was set back.
            (THEN, THEN - 800 * DAY, seconds(60)),
            (THEN + 30, THEN - 800 * DAY, seconds(60)),
            // A handler asked for an hour.
            (THEN + 3600, THEN + 1, seconds(60)),
        ];
        for (not_before, now, expected) in table {
            let stored = left(not_before, 0, &[]);
            assert_eq!(
                wait(&stored, seconds(1), &policy(), at(now)),
                expected,
                "not before {not_before}, now {now}"
            );
            for over in [seconds(0), None] {
                assert_eq!(
                    wait(&stored, over, &policy(), at(now)),
                    None,
                    "not before {not_before}, now {now}"
                );
            }
        }
    }

    /// A task that the last process left behind.
    fn left_behind(deadline: Option<Deadline>) -> StoredTask {
        StoredTask { deadline, ..testing::stored() }
    }

    #[tokio::test]
    async fn nothing_that_may_have_expired_is_started() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let boot = Boot::current();
        let in_time = boot.deadline(Duration::from_secs(3600)).expect("the system says which start this is");
        let tasks = [
            left_behind(Some(in_time)),
            // The clock was set back while it was down.
            left_behind(boot.deadline(Duration::ZERO)),
            // The machine was started anew.
            left_behind(Some(Deadline { boot: uuid::Uuid::nil(), ..in_time })),
            left_behind(Some(Deadline { boot: uuid::Uuid::from_u128(1), ..in_time })),
            // An earlier version has written it.
            left_behind(None),
        ];
        let lane = Arc::new(Lane::new(policy(), None));
        let core = Arc::new(testing::core(dir.path(), lane.clone(), None));
        core.journal.take(tasks.iter().cloned().map(Record::Task).collect()).await.expect("taken");
        recover(&core).await.expect("recovers");
        let states = tasks.each_ref().map(|task| core.journal.state(task.id).expect("known"));
        assert_eq!(
            states,
            [State::Pending { started: 0 }, State::Parked, State::Parked, State::Parked, State::Parked]
        );
        assert_eq!(lane.next().map(|turn| turn.id), Some(tasks[0].id));
        assert!(lane.next().is_none());
    }

    #[test]
    fn an_interrupted_attempt_counts_whatever_the_time_is() {
        assert!(interrupted(&left(THEN, 0, &[75]), &policy(), 1.0).is_none(), "nothing ran");
        for (started, earlier, seconds) in [(1, &[][..], 2), (2, &[75], 4)] {
            let Some(Step::Again { after, attempts }) =
                interrupted(&left(THEN, started, earlier), &policy(), 1.0)
            else {
                panic!("attempt {started} is not followed by another");
            };
            assert_eq!((after, attempts.len()), (Duration::from_secs(seconds), earlier.len() + 1));
            assert_eq!(
                attempts.last().map(|last| (last.attempt, last.errnr)),
                Some((started, errnr::INTERRUPTED))
            );
        }
        for (started, earlier) in [(3, &[75, 75][..]), (3, &[71, 71])] {
            let step = interrupted(&left(THEN, started, earlier), &policy(), 1.0);
            let Some(Step::Final(ReportEvent::Finished { errnr: errnr::INTERRUPTED, attempt: 3, .. })) = step
            else {
                panic!("{step:?}")
            };
        }
        let fail = TypePolicy { on_stop: OnStop::Fail, ..policy() };
        let step = interrupted(&left(THEN, 1, &[]), &fail, 1.0);
        let Some(Step::Final(ReportEvent::Finished { errnr: errnr::INTERRUPTED, attempt: 1, .. })) = step
        else {
            panic!("{step:?}")
        };
    }

    #[test]
    fn a_handler_that_restarted_us_has_ended_with_that() {
        let said = StoredTask {
            restarting: Some(Bytes::from_static(b"{\"version\":2}")),
            ..left(THEN, 3, &[71, 71])
        };
        let step = interrupted(&said, &TypePolicy { on_stop: OnStop::Fail, ..policy() }, 1.0);
        let Some(Step::Final(ReportEvent::Finished {
            errnr: 0,
            payload: Some(answer),
            attempt: 3,
            attempts,
            ..
        })) = step
        else {
            panic!("{step:?}")
        };
        assert_eq!((answer.get(), attempts.len()), ("{\"version\":2}", 2));
        assert!(
            interrupted(&StoredTask { started: 0, ..said }, &policy(), 1.0).is_none(),
            "it was said of an attempt that is over"
        );
    }
}
