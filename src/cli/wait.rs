//! Waits until a task is settled, and says meanwhile how it stands: a progress bar for a person, a line now and then for a log.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::backoff::Backoff;
use crate::client::{Client, ClientError, TaskName};
use crate::clock::Clock;
use crate::contract::{Responses, Task};
use crate::domain::{Counts, EndpointName, TaskId, TaskStatus};

use super::exit::{Code, verdict};
use super::output::{Failure, note, note_json};
use super::render;

/// How long each question lies at the API. The API answers at once when a task *ends*; that it became incomplete, or how
/// many have finished, is only seen by asking again.
const WATCHED: Duration = Duration::from_millis(500);
const UNWATCHED: Duration = Duration::from_secs(3);

/// How long the API may be away meanwhile.
const OUTAGE: Duration = Duration::from_secs(60);

/// How often a log is told that the wait goes on: many CI systems end a job that prints nothing for some minutes.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Names of endpoints in the progress bar at most.
const NAMES: usize = 2;

/// Who is told how a wait stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// A person at a terminal.
    Terminal,
    /// A log, in lines of text.
    Log,
    /// A program that reads lines of JSON.
    Program,
}

/// Waits, at most for `limit`. Answers the verdict, or [`Code::TimedOut`].
pub(super) async fn until_settled(
    client: &Client,
    name: &TaskName,
    limit: Option<Duration>,
    audience: Audience,
) -> Result<Code, ClientError> {
    let started = Instant::now();
    let left = || limit.map_or(Duration::MAX, |limit| limit.saturating_sub(started.elapsed()));
    let slice = if audience == Audience::Terminal { WATCHED } else { UNWATCHED };
    let mut progress = Progress::new(audience, started);
    let (mut failures, mut answered) = (0, Instant::now());
    loop {
        let asked = Instant::now();
        let wait = slice.min(left());
        match client.status(name, Some(wait), Responses::None).await {
            Ok(report) => {
                (failures, answered) = (0, Instant::now());
                if let Some(code) = verdict(&report.task) {
                    return Ok(code);
                }
                progress.show(&report.task);
            }
            Err(error) if error.is_transient() && answered.elapsed() < OUTAGE => {
                failures += 1;
                progress.away(&error);
                tokio::time::sleep(Backoff::CONNECTION.jittered(failures).min(left())).await;
            }
            Err(error) => return Err(error),
        }
        if left().is_zero() {
            return Ok(Code::TimedOut);
        }
        // An API that does not hold questions must not be asked without pause.
        tokio::time::sleep(wait.saturating_sub(asked.elapsed()).min(slice)).await;
    }
}

/// The signals that end a wait. To be installed before anybody is told of the task: from then on a signal must find us.
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    pub(super) fn install() -> Result<Self, Failure> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// What a wait answers, or the code of the signal that ended it.
    pub(super) async fn unless_one<T>(mut self, wait: impl Future<Output = Result<T, Failure>>) -> Result<Result<T, Code>, Failure> {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Ok(Err(Code::Interrupted)),
            _ = self.terminate.recv() => Ok(Err(Code::Terminated)),
            done = wait => done.map(Ok),
        }
    }
}

/// How a wait stands, for those who are told. A bar is gone when this is dropped.
struct Progress {
    audience: Audience,
    bar: ProgressBar,
    beat: Beat,
}

impl Progress {
    fn new(audience: Audience, now: Instant) -> Self {
        let target = if audience == Audience::Terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{wide_bar:.green} {pos}/{len} endpoints {elapsed} {msg}") {
            bar.set_style(style);
        }
        Self { audience, bar, beat: Beat::new(now) }
    }

    fn show(&mut self, task: &Task) {
        self.bar.set_length(task.counts.expected.into());
        self.bar.set_position((task.counts.finished + task.counts.canceled + task.counts.expired).into());
        self.bar.set_message(message(task));
        if self.beat.is_due(Instant::now()) {
            match self.audience {
                Audience::Terminal => {}
                Audience::Log => note(&format!("waiting: {}", render::summary(task, Clock::system().now()))),
                Audience::Program => note_json(&Waiting { waiting: Standing::of(task) }),
            }
        }
    }

    fn away(&mut self, error: &ClientError) {
        self.bar.set_message("the API does not answer, trying again");
        if self.audience == Audience::Log && self.beat.is_due(Instant::now()) {
            note(&format!("waiting: {error}"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// When the next line of a log is due.
struct Beat(Instant);

impl Beat {
    fn new(now: Instant) -> Self {
        Self(now + HEARTBEAT)
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.0;
        if due {
            self.0 = now + HEARTBEAT;
        }
        due
    }
}

/// A line of a log for programs.
#[derive(Serialize)]
struct Waiting<'a> {
    waiting: Standing<'a>,
}

/// How a task stands.
#[derive(Serialize)]
struct Standing<'a> {
    id: TaskId,
    status: TaskStatus,
    expected: u32,
    received: u32,
    finished: u32,
    failed: u32,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    missing: &'a [EndpointName],
}

impl<'a> Standing<'a> {
    fn of(task: &'a Task) -> Self {
        let Counts { expected, received, finished, failed, .. } = task.counts;
        let missing = task.missing.as_deref().unwrap_or_default();
        Self { id: task.id, status: task.status, expected, received, finished, failed, missing }
    }
}

/// What stands after the bar.
fn message(task: &Task) -> String {
    let failed = (task.counts.failed > 0).then(|| format!("{} failed", task.counts.failed));
    let missing = task.missing.as_deref().unwrap_or_default();
    let waiting = (!missing.is_empty()).then(|| {
        let named: Vec<_> = missing.iter().take(NAMES).map(EndpointName::as_str).collect();
        let more = missing.len() - named.len();
        let others = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("not received by {}{others}", named.join(", "))
    });
    failed.into_iter().chain(waiting).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::examples::task;

    #[test]
    fn a_log_hears_of_a_wait_every_thirty_seconds() {
        let start = Instant::now();
        let mut beat = Beat::new(start);
        let due: Vec<u64> = (0..=100).filter(|second| beat.is_due(start + Duration::from_secs(*second))).collect();
        assert_eq!(due, [30, 60, 90]);
    }

    #[test]
    fn the_bar_names_some_of_those_it_waits_for() {
        let names = |names: &[&str]| Some(names.iter().map(|name| name.parse().expect("a name")).collect());
        assert_eq!(message(&task()), "");
        assert_eq!(
            message(&Task { counts: Counts { failed: 2, ..Counts::default() }, missing: names(&["a"]), ..task() }),
            "2 failed, not received by a"
        );
        assert_eq!(message(&Task { missing: names(&["a", "b", "c", "d"]), ..task() }), "not received by a, b and 2 more");
    }
}
