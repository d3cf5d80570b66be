//! Waits until a task or a request is settled, and says meanwhile how it stands: a progress bar for a person,
//! a line now and then for a log.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::ClientError;
use crate::clock::Clock;
use crate::contract::{Request, Rollout, RolloutCounts, Task};
use crate::domain::rollout::RolloutStatus;
use crate::domain::{Counts, EndpointName, RequestStatus, RolloutName, TaskId, TaskStatus};

use super::exit::{Code, verdict, verdict_on_request, verdict_on_rollout};
use super::output::{Failure, error_as_json, is_watched, note, note_json};
use super::patience::Patience;
use super::picture::{self, Sum};
use super::render;
use super::rollout_view;
use super::table::Screen;

/// How long each question lies at the API. The API answers at once when a task or a request *ends*; how far
/// it is meanwhile is only seen by asking again.
const WATCHED: Duration = Duration::from_millis(500);
const UNWATCHED: Duration = Duration::from_secs(3);

/// How often a log is told that the wait goes on: many CI systems end a job that prints nothing for some
/// minutes.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Names of endpoints in the progress bar at most.
const NAMES: usize = 2;

/// The same in a line of a log.
const NAMES_IN_LOG: usize = 8;

/// Lines of a request above the bar at most: a terminal that scrolls shows no progress.
const LINES: usize = 20;

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

impl Audience {
    /// Who reads standard error.
    pub(super) fn of(json: bool) -> Self {
        match (json, is_watched()) {
            (true, _) => Self::Program,
            (false, true) => Self::Terminal,
            (false, false) => Self::Log,
        }
    }
}

/// What is waited for.
pub(super) trait Awaited {
    /// The bar with what stands around it.
    const TEMPLATE: &'static str;

    /// What came of it; nothing while it is worth waiting.
    fn verdict(&self) -> Option<Code>;

    /// How many of its parts are over, and how many there are.
    fn parts(&self) -> (u64, u64);

    /// What a person sees beside the bar.
    fn message(&self) -> String;

    /// How it stands, in a line.
    fn summary(&self) -> String;

    /// The same for programs.
    fn standing(&self) -> impl Serialize;
}

/// Waits, at most for `limit`; `ask` has the API answer after so long a wait. Answers the verdict, or
/// [`Code::TimedOut`].
pub(super) async fn until_settled<T: Awaited>(
    ask: impl AsyncFn(Duration) -> Result<T, ClientError>,
    limit: Option<Duration>,
    audience: Audience,
) -> Result<Code, ClientError> {
    let started = Instant::now();
    let left = || limit.map_or(Duration::MAX, |limit| limit.saturating_sub(started.elapsed()));
    let slice = if audience == Audience::Terminal { WATCHED } else { UNWATCHED };
    let mut progress = Progress::new(audience, started, T::TEMPLATE);
    let mut patience = Patience::new();
    loop {
        let asked = Instant::now();
        let wait = slice.min(left());
        match ask(wait).await {
            Ok(awaited) => {
                patience.heard();
                if let Some(code) = awaited.verdict() {
                    return Ok(code);
                }
                progress.show(&awaited);
            }
            Err(error) => {
                let Some(pause) = patience.pause(&error) else { return Err(error) };
                progress.away(&error);
                tokio::time::sleep(pause.min(left())).await;
            }
        }
        if left().is_zero() {
            return Ok(Code::TimedOut);
        }
        // An API that does not hold questions must not be asked without pause.
        tokio::time::sleep(wait.saturating_sub(asked.elapsed()).min(slice)).await;
    }
}

/// The signals that end a wait. To be installed before anybody is told of the task: from then on a signal
/// must find us.
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    pub(super) fn install() -> Result<Self, Failure> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// What a wait answers, or the code of the signal that ended it.
    pub(super) async fn unless_one<T>(
        &mut self,
        wait: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Result<T, Code>, Failure> {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Ok(Err(Code::Interrupted)),
            _ = self.terminate.recv() => Ok(Err(Code::Terminated)),
            done = wait => done.map(Ok),
        }
    }
}

/// Says that the wait is over, that the task or the request goes on, and how to watch and cancel it.
pub(super) fn say_it_goes_on(json: bool, what: &str, code: Code, [watch, cancel]: &[String; 2]) {
    let (word, why) = match code {
        Code::TimedOut => ("timed_out", "timed out waiting"),
        Code::Interrupted | Code::Terminated => ("interrupted", "stopped waiting"),
        _ => return,
    };
    let text = format!("{why}; the {what} goes on\n  watch it:   {watch}\n  cancel it:  {cancel}");
    note(&if json { error_as_json(word, &text.replace("\n ", ",")) } else { format!("tasker: {text}") });
}

/// How a wait stands, for those who are told. A bar is gone when this is dropped.
struct Progress {
    audience: Audience,
    bar: ProgressBar,
    beat: Beat,
}

impl Progress {
    fn new(audience: Audience, now: Instant, template: &str) -> Self {
        let target = if audience == Audience::Terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { audience, bar, beat: Beat::new(now) }
    }

    fn show(&mut self, awaited: &impl Awaited) {
        let (over, all) = awaited.parts();
        self.bar.set_length(all);
        self.bar.set_position(over);
        self.bar.set_message(awaited.message());
        if self.beat.is_due(Instant::now()) {
            match self.audience {
                Audience::Terminal => {}
                Audience::Log => note(&format!("waiting: {}", awaited.summary())),
                Audience::Program => note_json(&Waiting { waiting: awaited.standing() }),
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
struct Waiting<T> {
    waiting: T,
}

/// A task that is waited for.
pub(super) struct AwaitedTask {
    pub(super) task: Task,
    /// The endpoints that have received it and have not finished, where they are few.
    pub(super) slow: Vec<EndpointName>,
}

impl Awaited for AwaitedTask {
    const TEMPLATE: &'static str = "{wide_bar:.green} {pos}/{len} endpoints {elapsed} {msg}";

    fn verdict(&self) -> Option<Code> {
        verdict(&self.task)
    }

    fn parts(&self) -> (u64, u64) {
        let Counts { expected, finished, canceled, expired, .. } = self.task.counts;
        ((finished + canceled + expired).into(), expected.into())
    }

    fn message(&self) -> String {
        message(&self.task, &self.slow)
    }

    fn summary(&self) -> String {
        let summary = render::summary(&self.task, Clock::system().now());
        if self.slow.is_empty() {
            summary
        } else {
            format!("{summary}, waiting for {}", some(&self.slow, NAMES_IN_LOG))
        }
    }

    fn standing(&self) -> impl Serialize {
        let Counts { expected, received, finished, failed, .. } = self.task.counts;
        let missing = self.task.missing.as_deref().unwrap_or_default();
        TaskStanding {
            id: self.task.id,
            status: self.task.status,
            expected,
            received,
            finished,
            failed,
            missing,
            slow: &self.slow,
        }
    }
}

/// How a task stands.
#[derive(Serialize)]
struct TaskStanding<'a> {
    id: TaskId,
    status: TaskStatus,
    expected: u32,
    received: u32,
    finished: u32,
    failed: u32,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    missing: &'a [EndpointName],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    slow: &'a [EndpointName],
}

impl Awaited for Request {
    const TEMPLATE: &'static str = "{msg}\n{wide_bar:.green} {pos}/{len} jobs {elapsed}";

    fn verdict(&self) -> Option<Code> {
        verdict_on_request(self.status)
    }

    fn parts(&self) -> (u64, u64) {
        let sum = Sum::of(self);
        (sum.ended() as u64, sum.all as u64)
    }

    fn message(&self) -> String {
        let now = Clock::system().now();
        let drawn = picture::steps(self, now, false, Screen::of_errors());
        // The bar has a line of its own, and so has the cursor: what does not fit on the screen cannot be
        // drawn anew.
        let most = Screen::lines_of_errors().map_or(LINES, |lines| LINES.min(lines.saturating_sub(2)));
        if drawn.lines().count() <= most { drawn.trim_end().to_owned() } else { picture::summary(self, now) }
    }

    fn summary(&self) -> String {
        picture::summary(self, Clock::system().now())
    }

    fn standing(&self) -> impl Serialize {
        let sum = Sum::of(self);
        RequestStanding {
            token: &self.token,
            status: self.status,
            step: self.step,
            jobs: sum.all,
            completed: sum.completed,
        }
    }
}

/// How a request stands.
#[derive(Serialize)]
struct RequestStanding<'a> {
    token: &'a str,
    status: RequestStatus,
    step: u32,
    jobs: usize,
    completed: usize,
}

impl Awaited for Rollout {
    const TEMPLATE: &'static str = "{msg}\n{wide_bar:.green} {pos}/{len} endpoints {elapsed}";

    fn verdict(&self) -> Option<Code> {
        verdict_on_rollout(self)
    }

    fn parts(&self) -> (u64, u64) {
        let RolloutCounts { ok, failed, skipped, superseded, .. } = self.counts;
        ((ok + failed + skipped + superseded).into(), self.size.into())
    }

    fn message(&self) -> String {
        let screen = Screen::of_errors();
        let drawn = rollout_view::rollout(self, &[], screen);
        // As for a request.
        let most = Screen::lines_of_errors().map_or(LINES, |lines| LINES.min(lines.saturating_sub(2)));
        if drawn.lines().count() <= most {
            drawn.trim_end().to_owned()
        } else {
            rollout_view::heading(self, screen)
        }
    }

    fn summary(&self) -> String {
        format!("{} {}: {}", self.status.as_str(), self.identifier, rollout_view::summary(self))
    }

    fn standing(&self) -> impl Serialize {
        RolloutStanding {
            rollout: &self.identifier,
            status: self.status,
            wave: self.wave,
            counts: self.counts,
        }
    }
}

/// How a rollout stands.
#[derive(Serialize)]
struct RolloutStanding<'a> {
    rollout: &'a RolloutName,
    status: RolloutStatus,
    wave: Option<u32>,
    counts: RolloutCounts,
}

/// What stands after the bar of a task.
fn message(task: &Task, slow: &[EndpointName]) -> String {
    let failed = (task.counts.failed > 0).then(|| format!("{} failed", task.counts.failed));
    let missing = task.missing.as_deref().unwrap_or_default();
    let told = |what: &str, names: &[EndpointName]| {
        (!names.is_empty()).then(|| format!("{what} {}", some(names, NAMES)))
    };
    let told = [failed, told("not received by", missing), told("waiting for", slow)];
    told.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The first of some names, and how many more there are.
fn some(names: &[EndpointName], most: usize) -> String {
    let named: Vec<_> = names.iter().take(most).map(EndpointName::as_str).collect();
    let more = names.len() - named.len();
    let others = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{others}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::examples::task;

    #[test]
    fn a_log_hears_of_a_wait_every_thirty_seconds() {
        let start = Instant::now();
        let mut beat = Beat::new(start);
        let due: Vec<u64> =
            (0..=100).filter(|second| beat.is_due(start + Duration::from_secs(*second))).collect();
        assert_eq!(due, [30, 60, 90]);
    }

    #[test]
    fn the_bar_names_some_of_those_it_waits_for() {
        let names = |names: &[&str]| Some(names.iter().map(|name| name.parse().expect("a name")).collect());
        assert_eq!(message(&task(), &[]), "");
        assert_eq!(
            message(
                &Task { counts: Counts { failed: 2, ..Counts::default() }, missing: names(&["a"]), ..task() },
                &[]
            ),
            "2 failed, not received by a"
        );
        let (missing, slow) = (names(&["a", "b", "c", "d"]), names(&["e", "f", "g"]).expect("names"));
        assert_eq!(
            message(&Task { missing, ..task() }, &slow),
            "not received by a, b and 2 more, waiting for e, f and 1 more"
        );
    }
}
