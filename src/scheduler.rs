//! Submits tasks at times, as the `schedules` of the configuration say.
//!
//! Promise: each time has one task, however many API processes run and whatever ends them: the task's identifier is made of the schedule's
//! name and the time, so that submitting it again changes nothing; what is noted as done is noted afterwards. A schedule that is new
//! begins with its first start: times before that are not missed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use tokio_util::sync::CancellationToken;

use crate::acceptor::{AcceptError, Acceptor};
use crate::clock::Clock;
use crate::config::{Config, Missed, Schedule};
use crate::domain::{Identifier, Timestamp};
use crate::queue::{Asked, new_task};
use crate::store::{SharedStore, StoreError};

/// How often to look at the clock.
const LOOK: Duration = Duration::from_millis(500);
/// A time that passed so long ago was missed.
const LATE: Duration = Duration::from_secs(60);
/// Times that are made up for at most.
const MOST: usize = 1000;

/// Why nothing was submitted.
#[derive(Debug, thiserror::Error)]
enum ScheduleError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Accept(#[from] AcceptError),
}

/// The loop.
#[derive(Debug)]
pub struct Scheduler {
    config: Arc<Config>,
    store: SharedStore,
    acceptor: Acceptor,
    clock: Clock,
}

impl Scheduler {
    /// A scheduler; several may run at once, in one process or in many.
    pub fn new(config: Arc<Config>, store: SharedStore, acceptor: Acceptor, clock: Clock) -> Self {
        Self { config, store, acceptor, clock }
    }

    /// Submits until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        if self.config.schedules.is_empty() {
            return stop.cancelled().await;
        }
        let mut next: HashMap<&str, Option<Timestamp>> = HashMap::new();
        while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let now = self.clock.now();
            for schedule in &self.config.schedules {
                let waits = next.get(schedule.name.as_str()).is_some_and(|next| next.is_none_or(|next| next > now));
                if waits {
                    continue;
                }
                match self.submit(schedule, now).await {
                    Ok(()) => _ = next.insert(&schedule.name, schedule.next(now)),
                    Err(error) => tracing::warn!(schedule = schedule.name, %error, "a scheduled task could not be submitted yet"),
                }
            }
        }
    }

    /// Submits what a schedule has up to now.
    async fn submit(&self, schedule: &Schedule, now: Timestamp) -> Result<(), ScheduleError> {
        let done = self.store.schedule_done(&schedule.name).await?;
        for time in done.map(|done| due(schedule, done, now)).unwrap_or_default() {
            let Some(policy) = self.config.policy(&schedule.task_type) else { continue };
            let Some(identifier) = identifier(schedule, time) else { continue };
            let asked = Asked { endpoints: schedule.endpoints.clone(), ..Asked::default() };
            let task = new_task(policy, identifier, schedule.payload.clone(), asked, now);
            self.acceptor.submit(task).await?;
            crate::failpoint::reach("scheduler.submitted");
            tracing::info!(schedule = schedule.name, %time, "submitted a scheduled task");
        }
        self.store.set_schedule_done(&schedule.name, now).await?;
        Ok(())
    }
}

/// The times to submit a task for, of those after `done` up to `now`.
fn due(schedule: &Schedule, done: Timestamp, now: Timestamp) -> Vec<Timestamp> {
    let passed = std::iter::successors(schedule.next(done), |time| schedule.next(*time)).take_while(|time| *time <= now);
    match schedule.missed {
        Missed::All => passed.take(MOST).collect(),
        Missed::Once => passed.last().into_iter().collect(),
        Missed::Skip => passed.filter(|time| time.after(LATE) >= now).collect(),
    }
}

fn identifier(schedule: &Schedule, time: Timestamp) -> Option<Identifier> {
    let time = DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Secs, true);
    format!("{}-{time}", schedule.name).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(missed: &str) -> Schedule {
        let text = format!("task_types: [backup]\nschedules: [{{name: s, type: backup, cron: \"*/10 * * * *\", missed: {missed}}}]");
        Config::from_yaml(&text).expect("valid").schedules.remove(0)
    }

    #[test]
    fn what_was_missed_is_made_up_for_as_the_policy_says() {
        let at = |minutes: i64| Timestamp::from_micros(minutes * 60_000_000);
        for (missed, done, now, times) in [
            ("all", 0, 35, vec![10, 20, 30]),
            ("once", 0, 35, vec![30]),
            ("skip", 0, 35, vec![]),
            ("skip", 0, 30, vec![30]),
            ("once", 30, 35, vec![]),
            ("all", 29, 30, vec![30]),
        ] {
            let times: Vec<Timestamp> = times.into_iter().map(at).collect();
            assert_eq!(due(&schedule(missed), at(done), at(now)), times, "{missed} from {done} to {now}");
        }
    }

    #[test]
    fn a_time_has_one_name() {
        let name = identifier(&schedule("all"), Timestamp::from_micros(1_767_225_600_000_000)).expect("an identifier");
        assert_eq!(name.as_str(), "s-2026-01-01T00:00:00Z");
    }
}
