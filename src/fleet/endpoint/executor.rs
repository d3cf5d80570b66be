//! One attempt at one task, from a handler to what is to be done next. Knows neither broker nor journal.
//!
//! A pipeline: [`run`] under a time limit -> [`normalise`] -> [`decide`]. A panic, a passed time limit, a
//! missing handler and an answer that cannot be kept are ordinary outcomes with numbers of their own
//! ([`errnr`]). A stop of the process is told apart from all of them, since what follows is for the type's
//! policy to say.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Poll_, Poll};
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{AttemptSink, Context, Handler, Work};
use crate::backoff::Backoff;
use crate::config::OnStop;
use crate::domain::{AttemptError, Json, Outcome, ReportEvent, errnr, json_check};

/// How long an attempt gets to end by itself after it was told to.
pub const GRACE: Duration = Duration::from_secs(5);

/// Bytes of a log that are kept.
const LOG_TAIL: usize = 8 << 10;

/// Bytes of an error text that are kept.
const ERRMSG_LIMIT: usize = 4 << 10;

/// Ends of the endpoint process while it ran a task after which the task is taken for the cause, whatever its
/// policy says.
const POISON: usize = 3;

/// What an attempt may use up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long it may run.
    pub time: Duration,
    /// How long it gets to end by itself after that, or after a cancel.
    pub grace: Duration,
}

/// What can end an attempt from outside.
#[derive(Debug, Clone)]
pub struct Signals {
    /// The customer has canceled the task.
    pub canceled: CancellationToken,
    /// The process does not wait for it any longer.
    pub stopping: CancellationToken,
    /// The task may be another worker's by now.
    pub lost: CancellationToken,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum End {
    /// By itself, or by its time limit.
    Outcome(Outcome),
    /// By a cancel.
    Canceled,
    /// By the stop of the process.
    Stopped,
}

/// The outcome of an attempt that the end of the process ended, and not its handler.
pub fn interrupted(on_stop: OnStop, errmsg: &str) -> Outcome {
    match on_stop {
        OnStop::Fail => Outcome::failed(errnr::INTERRUPTED, errmsg),
        OnStop::Rerun | OnStop::Wait => Outcome::Retry {
            after: None,
            errnr: errnr::INTERRUPTED,
            errmsg: errmsg.to_owned(),
            payload: None,
        },
    }
}

/// How an attempt ended whose handler had said that it restarts the endpoint or the machine: a signal is part
/// of that.
pub fn restarted(end: End, answer: Json) -> End {
    const SIGNALS: std::ops::RangeInclusive<i32> = errnr::SIGNAL + 1..=errnr::SIGNAL + 64;
    match end {
        End::Stopped => End::Outcome(Outcome::Done(answer)),
        End::Outcome(Outcome::Failed { errnr, .. }) if SIGNALS.contains(&errnr) => {
            End::Outcome(Outcome::Done(answer))
        }
        other => other,
    }
}

/// Runs one attempt to its end. Whatever the handler does, this returns at the time limit and a grace.
pub async fn run(
    handler: Arc<dyn Handler>,
    work: Work,
    limits: Limits,
    signals: &Signals,
    sink: Arc<dyn AttemptSink>,
) -> End {
    let started = Instant::now();
    let deadline =
        started.checked_add(limits.time).unwrap_or_else(|| started + Duration::from_secs(u32::MAX.into()));
    let told = CancellationToken::new();
    let context = Context::new(deadline, told.clone(), sink);
    // A task of its own: a panic ends there, and a handler that blocks its thread cannot keep our timer from
    // firing.
    let mut attempt = Attempt(tokio::spawn(async move { handler.run(&work, &context).await }));
    enum Cause {
        Canceled,
        Stopping,
        TimeLimit,
    }
    let cause = tokio::select! {
        biased;
        joined = &mut attempt => return End::Outcome(joined.unwrap_or_else(outcome_of_panic)),
        () = signals.canceled.cancelled() => Cause::Canceled,
        () = signals.stopping.cancelled() => Cause::Stopping,
        () = signals.lost.cancelled() => Cause::Stopping,
        () = tokio::time::sleep_until(deadline.into()) => Cause::TimeLimit,
    };
    told.cancel();
    let late = tokio::time::timeout(limits.grace, &mut attempt).await;
    match cause {
        // Whatever it says: an executable that is asked to end may well call that a success.
        Cause::Canceled => End::Canceled,
        Cause::TimeLimit => End::Outcome(Outcome::failed(
            errnr::TIME_LIMIT,
            format!("the time limit of {:?} passed", limits.time),
        )),
        Cause::Stopping => match late {
            Ok(Ok(done @ Outcome::Done(_))) => End::Outcome(done),
            _ => End::Stopped,
        },
    }
}

/// A handler at work. Dropped, it is dropped too.
struct Attempt(JoinHandle<Outcome>);

impl Future for Attempt {
    type Output = Result<Outcome, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Poll_<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn outcome_of_panic(error: JoinError) -> Outcome {
    let text = error.try_into_panic().ok().map(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => {
            panic.downcast_ref::<&str>().map_or_else(|| "no text".to_owned(), |text| (*text).to_owned())
        }
    });
    Outcome::failed(
        errnr::PANIC,
        format!("the handler panicked: {}", text.unwrap_or_else(|| "it was aborted".to_owned())),
    )
}

/// Cuts an outcome down to what can be journaled, sent and shown. An answer has to be what a submission has
/// to be: it becomes part of a document with the answers of others, which one bad text would make unreadable.
pub fn normalise(outcome: Outcome, output_limit: usize) -> Outcome {
    match outcome {
        Outcome::Done(answer) => match objection(&answer, output_limit) {
            None => Outcome::Done(answer),
            Some(objection) => Outcome::failed(errnr::BAD_ANSWER, objection),
        },
        Outcome::Failed { errnr, errmsg, payload } => {
            let (errmsg, payload) = showable(errmsg, payload, output_limit);
            Outcome::Failed { errnr: never_zero(errnr), errmsg, payload }
        }
        Outcome::Retry { after, errnr, errmsg, payload } => {
            let (errmsg, payload) = showable(errmsg, payload, output_limit);
            Outcome::Retry { after, errnr: never_zero(errnr), errmsg, payload }
        }
    }
}

/// What can be shown of a failure; an answer that cannot is left out, which its error text then says.
fn showable(errmsg: String, payload: Option<Json>, output_limit: usize) -> (String, Option<Json>) {
    match payload.as_ref().and_then(|payload| objection(payload, output_limit)) {
        None => (shortened(errmsg, ERRMSG_LIMIT), payload),
        Some(objection) => {
            (format!("{}\n{objection}", shortened(errmsg, ERRMSG_LIMIT - objection.len() - 1)), None)
        }
    }
}

fn objection(answer: &Json, output_limit: usize) -> Option<String> {
    let length = answer.get().len();
    if length > output_limit {
        return Some(format!("the answer has {length} bytes, the limit is {output_limit}"));
    }
    json_check::check(answer.get().as_bytes()).err().map(|fault| format!("the answer is refused: {fault}"))
}

/// A failure that calls itself 0 would be taken for a success.
fn never_zero(number: i32) -> i32 {
    if number == 0 { errnr::PANIC } else { number }
}

fn shortened(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}

/// What follows from an attempt.
#[derive(Debug)]
pub enum Step {
    /// It is over.
    Final(ReportEvent),
    /// It is tried again.
    Again {
        /// After this long.
        after: Duration,
        /// What all attempts up to now died of.
        attempts: Vec<AttemptError>,
    },
}

/// The rules by which attempts follow one another.
#[derive(Debug, Clone, Copy)]
pub struct Retries {
    /// Attempts at most.
    pub attempts: u32,
    /// The wait between them.
    pub backoff: Backoff,
    /// How long the task is still worth starting.
    pub time_left: Duration,
}

/// What follows from the outcome of an attempt. `run` names the execution, if there was one to its end.
/// `chance` in `0.0..1.0` decides how much of the backoff is waited.
pub fn decide(
    outcome: Outcome,
    attempt: u32,
    run: Option<Uuid>,
    mut attempts: Vec<AttemptError>,
    log: Option<String>,
    retries: &Retries,
    chance: f64,
) -> Step {
    let interrupted = |number: i32| number == errnr::INTERRUPTED;
    let crashes = attempts.iter().filter(|one| interrupted(one.errnr)).count() + 1;
    let (errnr, errmsg, payload) = match outcome {
        Outcome::Done(answer) => (0, String::new(), Some(answer)),
        Outcome::Failed { errnr, errmsg, payload } => (errnr, errmsg, payload),
        Outcome::Retry { errnr, errmsg, .. } if interrupted(errnr) && crashes >= POISON => {
            (errnr, format!("poison: {crashes} times {errmsg}"), None)
        }
        Outcome::Retry { after, errnr, errmsg, payload } => {
            let after = after.unwrap_or_else(|| retries.backoff.wait(attempt, chance));
            let ended = || format!("ended with {errnr}");
            // A wait that outlasts the task would end in silence: its error is worth more.
            if attempt < retries.attempts && after < retries.time_left {
                let errmsg = if errmsg.is_empty() { ended() } else { errmsg };
                attempts.push(AttemptError { attempt, errnr, errmsg });
                return Step::Again { after, attempts };
            }
            let why = if attempt < retries.attempts { "no time left to retry" } else { "retries exhausted" };
            let errmsg = match errmsg.is_empty() {
                false => errmsg,
                true if retries.attempts == 1 => ended(),
                true => format!("{why}: attempt {attempt} of {} {}", retries.attempts, ended()),
            };
            (errnr, errmsg, payload)
        }
    };
    Step::Final(ReportEvent::Finished { errnr, errmsg, payload, attempt, attempts, log, run })
}

/// The last lines of an attempt's log. Cheap to write to and never larger than twice what is kept.
#[derive(Debug, Default)]
pub struct LogTail(Mutex<String>);

impl LogTail {
    /// Adds a line.
    pub fn push(&self, line: &str) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = &line[line.ceil_char_boundary(line.len().saturating_sub(LOG_TAIL))..];
        text.push_str(line);
        text.push('\n');
        if text.len() > 2 * LOG_TAIL {
            let cut = tail_start(&text);
            text.drain(..cut);
        }
    }

    /// What is kept; `None` when nothing was logged.
    pub fn take(&self) -> Option<String> {
        let mut text = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let cut = tail_start(&text);
        text.drain(..cut);
        (!text.is_empty()).then_some(text)
    }
}

/// Where the kept part begins: with a whole line if there is one.
fn tail_start(text: &str) -> usize {
    let Some(excess) = text.len().checked_sub(LOG_TAIL).filter(|excess| *excess > 0) else { return 0 };
    let start = text.ceil_char_boundary(excess);
    match text[start..].find('\n') {
        Some(newline) if start + newline + 1 < text.len() => start + newline + 1,
        _ => start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::json;
    use proptest::prelude::*;

    fn retries(attempts: u32) -> Retries {
        let backoff = Backoff { first: Duration::from_secs(2), max: Duration::from_secs(60) };
        Retries { attempts, backoff, time_left: Duration::from_secs(1000) }
    }

    fn again(after: Option<u64>) -> Outcome {
        Outcome::Retry {
            after: after.map(Duration::from_secs),
            errnr: 75,
            errmsg: "busy".into(),
            payload: Some(json(&"seen")),
        }
    }

    #[test]
    fn a_retry_follows_the_rules() {
        let earlier = vec![AttemptError { attempt: 1, errnr: 1, errmsg: "first".into() }];
        let Step::Again { after, attempts } =
            decide(again(None), 2, None, earlier.clone(), None, &retries(3), 1.0)
        else {
            panic!("not tried again");
        };
        assert_eq!((after, attempts.len(), attempts[1].attempt), (Duration::from_secs(4), 2, 2));
        for (outcome, attempt, number, shown) in [
            (again(None), 3, 75, true),
            (again(Some(1000)), 1, 75, true),
            (Outcome::failed(32, "no"), 1, 32, false),
        ] {
            let step = decide(outcome, attempt, None, earlier.clone(), None, &retries(3), 1.0);
            let Step::Final(ReportEvent::Finished { errnr, payload, .. }) = step else { panic!("{step:?}") };
            assert_eq!((errnr, payload.is_some()), (number, shown));
        }
        let step = decide(Outcome::Done(json(&1)), 2, None, earlier, Some("log".into()), &retries(3), 0.0);
        let Step::Final(ReportEvent::Finished { errnr: 0, attempt: 2, attempts, log: Some(_), .. }) = step
        else {
            panic!("{step:?}")
        };
        assert_eq!(attempts.len(), 1);
    }

    #[test]
    fn an_interruption_is_what_the_policy_says() {
        for on_stop in [OnStop::Rerun, OnStop::Wait] {
            let outcome = interrupted(on_stop, "it ended");
            assert!(matches!(decide(outcome, 1, None, vec![], None, &retries(2), 0.5), Step::Again { .. }));
            let step = decide(interrupted(on_stop, "it ended"), 1, None, vec![], None, &retries(1), 0.5);
            assert!(
                matches!(step, Step::Final(ReportEvent::Finished { errnr: 71, attempt: 1, .. })),
                "{step:?}"
            );
        }
        let step = decide(interrupted(OnStop::Fail, "it ended"), 1, None, vec![], None, &retries(9), 0.5);
        assert!(matches!(step, Step::Final(ReportEvent::Finished { errnr: 71, attempt: 1, .. })), "{step:?}");
    }

    #[test]
    fn only_an_end_from_outside_is_part_of_a_restart() {
        let number = |end| match restarted(end, json(&"restarted")) {
            End::Outcome(Outcome::Done(answer)) if answer.get() == "\"restarted\"" => Some(0),
            End::Outcome(Outcome::Failed { errnr, .. } | Outcome::Retry { errnr, .. }) => Some(errnr),
            _ => None,
        };
        let failed = |number| End::Outcome(Outcome::failed(number, "no"));
        assert_eq!([End::Stopped, failed(143), failed(137), failed(129)].map(number), [Some(0); 4]);
        assert_eq!(
            [failed(1), failed(124), failed(128), failed(193), failed(255)].map(number),
            [1, 124, 128, 193, 255].map(Some)
        );
        assert_eq!([End::Canceled, End::Outcome(Outcome::Done(json(&"its own")))].map(number), [None, None]);
        assert_eq!(number(End::Outcome(again(None))), Some(75));
    }

    #[test]
    fn what_ends_the_process_again_and_again_is_poison() {
        let crash = || Outcome::Retry {
            after: None,
            errnr: errnr::INTERRUPTED,
            errmsg: "it ended".into(),
            payload: None,
        };
        let earlier = |numbers: &[i32]| -> Vec<AttemptError> {
            (1..)
                .zip(numbers)
                .map(|(attempt, errnr)| AttemptError { attempt, errnr: *errnr, errmsg: String::new() })
                .collect()
        };
        for (numbers, poison) in [
            (&[][..], false),
            (&[71], false),
            (&[71, 75, 75], false),
            (&[71, 71], true),
            (&[71, 75, 71], true),
        ] {
            let attempt = u32::try_from(numbers.len()).expect("few") + 1;
            let step = decide(crash(), attempt, None, earlier(numbers), None, &retries(100), 0.5);
            match step {
                Step::Final(ReportEvent::Finished { errnr: 71, errmsg, run: None, .. }) if poison => {
                    assert!(errmsg.starts_with("poison"))
                }
                Step::Again { .. } if !poison => {}
                other => panic!("{numbers:?}: {other:?}"),
            }
        }
        // Another failure after two crashes is no third crash.
        assert!(matches!(
            decide(again(None), 3, None, earlier(&[71, 71]), None, &retries(100), 0.5),
            Step::Again { .. }
        ));
    }

    #[test]
    fn what_cannot_be_kept_becomes_a_failure() {
        let deep: Json =
            serde_json::from_str(&format!("{}{}", "[".repeat(129), "]".repeat(129))).expect("JSON");
        for answer in [json(&"x".repeat(100)), deep] {
            assert!(matches!(
                normalise(Outcome::Done(answer.clone()), 99),
                Outcome::Failed { errnr: errnr::BAD_ANSWER, .. }
            ));
            let failed = normalise(
                Outcome::Failed { errnr: 0, errmsg: "é".repeat(5000), payload: Some(answer.clone()) },
                99,
            );
            let Outcome::Failed { errnr: errnr::PANIC, errmsg, payload: None } = failed else {
                panic!("{failed:?}")
            };
            assert!(
                errmsg.len() <= ERRMSG_LIMIT
                    && errmsg.ends_with(&objection(&answer, 99).expect("an objection")),
                "{errmsg}"
            );
        }
        let edge: Json = serde_json::from_str(&format!("{}\"[[\\\"[\"{}", "[".repeat(128), "]".repeat(128)))
            .expect("JSON");
        assert!(matches!(normalise(Outcome::Done(edge), 1000), Outcome::Done(_)));
    }

    /// What the reader of values takes for JSON, and others do not.
    #[test]
    fn an_answer_has_to_be_what_a_submission_has_to_be() {
        let table = [
            (r#""\ud800""#, "lone surrogate in the string at byte 0"),
            (r#"{"name":"\udc00"}"#, "lone surrogate in the string at byte 8"),
            (r#"{"\ud800":1}"#, "lone surrogate in the string at byte 1"),
            ("[1e400]", "the number at byte 1 is out of range"),
        ];
        for (text, reason) in table {
            let answer: Json = serde_json::from_str(text).expect("JSON to this reader");
            let Outcome::Failed { errnr: errnr::BAD_ANSWER, errmsg, payload: None } =
                normalise(Outcome::Done(answer.clone()), 99)
            else {
                panic!("{text} is taken")
            };
            assert_eq!(errmsg, format!("the answer is refused: {reason}"));
            let failed = Outcome::Failed { errnr: 3, errmsg: "full".into(), payload: Some(answer) };
            let Outcome::Failed { errnr: 3, errmsg, payload: None } = normalise(failed, 99) else {
                panic!("{text} is taken")
            };
            assert_eq!(errmsg, format!("full\nthe answer is refused: {reason}"));
        }
    }

    proptest! {
        #[test]
        fn the_tail_is_the_end_of_the_log(lines in proptest::collection::vec("[a-zé]{0,3000}", 0..20)) {
            let tail = LogTail::default();
            lines.iter().for_each(|line| tail.push(line));
            let all: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
            let kept = tail.take().unwrap_or_default();
            prop_assert!(all.ends_with(&kept) && kept.len() <= LOG_TAIL);
            prop_assert!(kept == all || kept.len() + 3001 > LOG_TAIL / 2);
        }
    }
}
