//! Submits tasks at times, as the `schedules` of the configuration say.
//!
//! Promise: each time has one task, however many API processes run and whatever ends them: the task's
//! identifier is made of the schedule's name and the time, so that submitting it again changes nothing; what
//! is noted as done is noted afterwards. A schedule that is new begins with its first start: times before
//! that are not missed. One that is paused in the ledger submits nothing, whichever process looks at it; when
//! it is resumed it goes on with the times to come.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::acceptor::{AcceptError, Acceptor};
use crate::admission::{Admission, Asked, Unsubmitted, of_schedule};
use crate::clock::Clock;
use crate::config::{Config, Missed, Schedule};
use crate::domain::Timestamp;
use crate::service::Running;
use crate::store::{Accepted, SharedStore, StoreError};
use crate::telemetry::SharedMetrics;

/// How often to look at the clock.
const LOOK: Duration = Duration::from_millis(500);
/// A time that passed so long ago was missed.
const LATE: Duration = Duration::from_secs(60);
/// Tasks that a schedule submits in one pass at most; the next pass goes on.
const PASS: usize = 1000;
/// Times that are counted for a log line at most.
const COUNTED: usize = 100_000;

/// Why a task is not submitted yet.
#[derive(Debug, thiserror::Error)]
enum ScheduleError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Accept(#[from] AcceptError),
    #[error("the task with the identifier of the time {0} no longer exists")]
    Gone(Timestamp),
}

/// The loop.
#[derive(Debug)]
pub struct Scheduler {
    config: Arc<Config>,
    admission: Arc<Admission>,
    store: SharedStore,
    acceptor: Acceptor,
    clock: Clock,
    metrics: SharedMetrics,
}

impl Scheduler {
    /// A scheduler; several may run at once, in one process or in many.
    pub fn new(
        config: Arc<Config>,
        admission: Arc<Admission>,
        store: SharedStore,
        acceptor: Acceptor,
        clock: Clock,
        metrics: SharedMetrics,
    ) -> Self {
        Self { config, admission, store, acceptor, clock, metrics }
    }

    /// Submits until told to stop.
    pub fn run(self, stop: CancellationToken) -> Running {
        Box::pin(async move {
            if self.config.schedules.is_empty() {
                return stop.cancelled().await;
            }
            let mut next: HashMap<&str, Option<Timestamp>> = HashMap::new();
            while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
                let now = self.clock.now();
                for schedule in &self.config.schedules {
                    let waits = next
                        .get(schedule.name.as_str())
                        .is_some_and(|next| next.is_none_or(|next| next > now));
                    if waits {
                        continue;
                    }
                    match self.submit(schedule, now).await {
                        Ok(0) => _ = next.insert(&schedule.name, schedule.next(now)),
                        Ok(left) => {
                            let left =
                                if left < COUNTED { left.to_string() } else { format!("at least {COUNTED}") };
                            tracing::warn!(
                                schedule = schedule.name,
                                left,
                                "more missed times than one pass submits: continuing with the rest"
                            );
                        }
                        Err(error) => {
                            tracing::warn!(schedule = schedule.name, %error, "a scheduled task could not be submitted yet")
                        }
                    }
                }
            }
        })
    }

    /// Submits what a schedule has up to now. Answers how many times are left for the next pass.
    async fn submit(&self, schedule: &Schedule, now: Timestamp) -> Result<usize, ScheduleError> {
        let record = self.store.schedule(&schedule.name).await?;
        if record.as_ref().is_some_and(|record| record.paused_at.is_some()) {
            // Whoever resumes it notes that what has passed by then is seen to.
            return Ok(0);
        }
        let due = record.map_or_else(|| Due::none(now), |record| Due::of(schedule, record.done_until, now));
        for time in due.times {
            match self.submit_for(schedule, time, now).await? {
                Ok(()) => tracing::info!(schedule = schedule.name, %time, "submitted a scheduled task"),
                Err(why) => {
                    self.metrics
                        .unsubmitted
                        .with_label_values(&["schedule", schedule.task_type.as_str(), why.reason()])
                        .inc();
                    tracing::error!(schedule = schedule.name, %time, %why, "a scheduled task was not submitted");
                    self.store
                        .set_schedule_error(&schedule.name, &format!("no task for {time}: {why}"), now)
                        .await?;
                }
            }
        }
        self.store.set_schedule_done(&schedule.name, due.until).await?;
        Ok(due.left)
    }

    /// Submits the task of a time, or tells why that will never be.
    async fn submit_for(
        &self,
        schedule: &Schedule,
        time: Timestamp,
        now: Timestamp,
    ) -> Result<Result<(), Unsubmitted>, ScheduleError> {
        // The configuration was refused if there were no such type, and no schedule's name is too long for an
        // identifier.
        let (Some(policy), Ok(identifier)) =
            (self.config.policy(&schedule.task_type), of_schedule(&schedule.name, time))
        else {
            return Ok(Ok(()));
        };
        let asked = Asked { endpoints: schedule.endpoints.clone(), ..Asked::default() };
        let task = match self.admission.task(policy, identifier, schedule.payload.clone(), asked, now) {
            Ok(task) => task,
            Err(faults) => return Ok(Err(Unsubmitted::Payload(faults))),
        };
        let accepted = self.acceptor.submit(task).await?;
        crate::failpoint::SCHEDULER_SUBMITTED.reach();
        let Accepted::Existing { id, same } = accepted else { return Ok(Ok(())) };
        let existing = self.store.find(id).await?.ok_or(ScheduleError::Gone(time))?;
        // Another process, or this one before it ended, has submitted the same, and never before its time.
        Ok(if same && existing.start_time >= time { Ok(()) } else { Err(Unsubmitted::taken(existing)) })
    }
}

/// What a schedule is to submit.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    /// The times to submit a task for.
    times: Vec<Timestamp>,
    /// Up to when that is all.
    until: Timestamp,
    /// Times after that which have passed as well, counted up to [`COUNTED`].
    left: usize,
}

impl Due {
    fn none(now: Timestamp) -> Self {
        Self { times: Vec::new(), until: now, left: 0 }
    }

    /// Of the times after `done` up to `now`.
    fn of(schedule: &Schedule, done: Timestamp, now: Timestamp) -> Self {
        let passed = |after| {
            std::iter::successors(schedule.next(after), |time| schedule.next(*time))
                .take_while(|time| *time <= now)
        };
        match schedule.missed {
            Missed::All => {
                let mut passed = passed(done);
                let times: Vec<Timestamp> = passed.by_ref().take(PASS).collect();
                let left = if times.len() < PASS { 0 } else { passed.take(COUNTED).count() };
                let until = times.last().copied().filter(|_| left > 0).unwrap_or(now);
                Self { times, until, left }
            }
            Missed::Once => Self { times: last(passed, done, now).into_iter().collect(), ..Self::none(now) },
            Missed::Skip => Self { times: passed(done.max(earlier(now, LATE))).collect(), ..Self::none(now) },
        }
    }
}

/// The last of the times that have passed. Looks at the end first: there may have been millions.
fn last<T: Iterator<Item = Timestamp>>(
    passed: impl Fn(Timestamp) -> T,
    done: Timestamp,
    now: Timestamp,
) -> Option<Timestamp> {
    let hour = Duration::from_secs(3600);
    let spans = [hour / 60, hour, 24 * hour, 31 * 24 * hour, 366 * 24 * hour];
    let afters = spans.into_iter().map(|span| done.max(earlier(now, span))).chain([done]);
    afters.into_iter().find_map(|after| passed(after).last())
}

fn earlier(time: Timestamp, span: Duration) -> Timestamp {
    Timestamp::from_micros(
        time.as_micros().saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(missed: &str, cron: &str) -> Schedule {
        let text = format!(
            "task_types: [backup]\nschedules: [{{name: s, type: backup, cron: \"{cron}\", missed: {missed}}}]"
        );
        Config::from_yaml(&text).expect("valid").schedules.remove(0)
    }

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_micros(minutes * 60_000_000)
    }

    #[test]
    fn what_was_missed_is_made_up_for_as_the_policy_says() {
        for (missed, done, now, times) in [
            ("all", 0, 35, vec![10, 20, 30]),
            ("once", 0, 35, vec![30]),
            ("skip", 0, 35, vec![]),
            ("skip", 0, 30, vec![30]),
            ("skip", 0, 31, vec![]),
            ("once", 30, 35, vec![]),
            ("once", 0, 9, vec![]),
            ("all", 29, 30, vec![30]),
        ] {
            let times = times.into_iter().map(at).collect();
            let due = Due::of(&schedule(missed, "*/10 * * * *"), at(done), at(now));
            assert_eq!(due, Due { times, until: at(now), left: 0 }, "{missed} from {done} to {now}");
        }
    }

    #[test]
    fn a_pass_goes_on_where_the_one_before_stopped() {
        let schedule = schedule("all", "*/30 * * * *");
        let (mut done, now, mut all, mut lefts) = (at(0), at(35 * 24 * 60 + 7), Vec::new(), Vec::new());
        loop {
            let due = Due::of(&schedule, done, now);
            all.extend(due.times);
            lefts.push(due.left);
            done = due.until;
            if due.left == 0 {
                break;
            }
        }
        assert_eq!((all, done), ((1..=35 * 48).map(|half_hour| at(30 * half_hour)).collect(), now));
        assert_eq!(lefts, [680, 0]);
        // Just as many as a pass has, and one more.
        assert_eq!(Due::of(&schedule, at(0), at(30_000)).left, 0);
        assert_eq!(Due::of(&schedule, at(0), at(30_030)).left, 1);
        // Nothing is left out when the newest is far from the oldest.
        let year = Due::of(&self::schedule("all", "* * * * * *"), at(0), at(366 * 24 * 60));
        assert_eq!(
            (year.times.len(), year.until, year.left),
            (PASS, Timestamp::from_micros(1_000_000_000), COUNTED)
        );
    }

    #[test]
    fn the_last_of_many_is_found_at_their_end() {
        for (cron, done, now, time) in [
            ("* * * * * *", 0, 3 * 366 * 24 * 60, Some(3 * 366 * 24 * 60)),
            ("0 0 1 1 *", 0, 3 * 366 * 24 * 60, Some(1096 * 24 * 60)),
            ("0 0 1 * *", 0, 45 * 24 * 60, Some(31 * 24 * 60)),
            ("0 0 1 1 *", 1096 * 24 * 60, 3 * 366 * 24 * 60, None),
            ("30 0 * * *", 0, 24 * 60 + 29, Some(30)),
        ] {
            assert_eq!(
                Due::of(&schedule("once", cron), at(done), at(now)).times,
                Vec::from_iter(time.map(at)),
                "{cron}"
            );
        }
    }
}
