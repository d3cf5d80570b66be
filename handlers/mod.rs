//! The handlers that are compiled in. Each performs the task type of its own name.
//!
//! `worker` and `backup` are samples of a long task that works and of one that fails · `echo` answers its
//! payload · `steered` does what its payload says · `http` makes HTTP calls. Handlers in other languages lie
//! beside, in `examples/`.

mod backup;
mod echo;
mod http;
mod steered;
mod worker;

pub use backup::Backup;
pub use echo::Echo;
pub use http::{Http, runner as http_runner};
pub use steered::Steered;
pub use worker::Worker;

use std::time::Duration;

use serde::Deserialize;

use crate::config;
use crate::domain::{Outcome, TaskType, errnr, json_check};
use crate::endpoint::{Context, Registry, Work};

/// All of them, as the settings of an endpoint let them work.
pub fn builtin(settings: &config::Endpoint) -> Registry {
    let named = |name: &str| name.parse::<TaskType>().expect("the names below are task types");
    Registry::new()
        .with(named("worker"), Worker)
        .with(named("backup"), Backup)
        .with(named("echo"), Echo)
        .with(named("steered"), Steered)
        .with(named("http"), Http::new(settings))
}

/// A payload to try a handler with.
pub fn sample(task_type: &TaskType) -> Option<&'static str> {
    match task_type.as_str() {
        "worker" => Some(r#"{"seconds": 2}"#),
        "backup" => Some(r#"{"seconds": 1}"#),
        "echo" => Some(r#"{"hello": "world"}"#),
        "steered" => Some(r#"{"do": "ok", "answer": "hello"}"#),
        _ => None,
    }
}

/// How long a sample takes: `{"seconds": 2.5}`.
#[derive(Deserialize)]
struct Takes {
    #[serde(default)]
    seconds: Option<f64>,
}

/// The time a sample is to take: the usual one if the payload says nothing of it.
///
/// # Errors
/// A failure that says what is wrong with the payload: a mistake must not look like a success.
fn takes(work: &Work, usual: f64) -> Result<Duration, Outcome> {
    // What a submission without a payload has.
    if work.payload.get() == r#""""# {
        return Ok(Duration::from_secs_f64(usual));
    }
    let refused = |reason: String| {
        Outcome::failed(
            errnr::BAD_PAYLOAD,
            format!("the payload is not of the form {{\"seconds\": 2.5}}: {reason}"),
        )
    };
    let asked = work
        .payload::<Takes>()
        .map_err(|error| refused(json_check::in_words(&error)))?
        .seconds
        .unwrap_or(usual);
    Duration::try_from_secs_f64(asked).map_err(|error| refused(format!("{asked} seconds: {error}")))
}

/// Takes its time, and says so on the way.
///
/// # Errors
/// When told to stop before: half of a work is no success. Whether it is tried again is up to the task type.
async fn pass(time: Duration, context: &Context) -> Result<(), Outcome> {
    /// Steps of progress.
    const STEPS: u32 = 20;
    for step in 0..STEPS {
        tokio::select! {
            () = tokio::time::sleep(time / STEPS) => {}
            () = context.canceled() => {
                let (done, all) = ((time / STEPS * step).as_secs_f64(), time.as_secs_f64());
                return Err(Outcome::failed(errnr::INTERRUPTED, format!("interrupted after {done:.1} of {all:.1} s")));
            }
        }
        context.progress(u8::try_from((step + 1) * 100 / STEPS).unwrap_or(100));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TaskId;
    use crate::endpoint::{AttemptSink, Handler};
    use std::sync::Arc;
    use std::time::Instant;
    use tokio_util::sync::CancellationToken;

    struct Nowhere;
    impl AttemptSink for Nowhere {
        fn progress(&self, _: u8) {}
        fn log(&self, _: &str) {}
    }

    async fn run(handler: &dyn Handler, task_type: &str, payload: &str) -> Outcome {
        run_until(handler, task_type, payload, CancellationToken::new()).await
    }

    async fn run_until(
        handler: &dyn Handler,
        task_type: &str,
        payload: &str,
        stop: CancellationToken,
    ) -> Outcome {
        let work = Work {
            id: TaskId::new(),
            task_type: task_type.parse().expect("a type"),
            identifier: "1".parse().expect("an identifier"),
            endpoint: "console1".parse().expect("an endpoint"),
            attempt: 1,
            payload: serde_json::from_str(payload).expect("JSON"),
        };
        let context = Context::new(Instant::now() + Duration::from_secs(60), stop, Arc::new(Nowhere));
        handler.run(&work, &context).await
    }

    #[tokio::test(start_paused = true)]
    async fn samples_take_the_time_they_are_given() {
        for (payload, seconds) in [
            (r#""""#, 20.0),
            (r#"{"foo":"bar"}"#, 20.0),
            (r#"{"seconds":0.5}"#, 0.5),
            (r#"{"seconds":null}"#, 20.0),
        ] {
            let before = tokio::time::Instant::now();
            let Outcome::Done(answer) = run(&Worker, "worker", payload).await else {
                panic!("worker failed on {payload}")
            };
            assert!(
                (before.elapsed().as_secs_f64() - seconds).abs() < 0.1,
                "{payload}: {:?}",
                before.elapsed()
            );
            assert_eq!(answer.get(), format!(r#"{{"endpoint":"console1","seconds":{seconds:?}}}"#));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn samples_refuse_a_wrong_payload_at_once() {
        let before = tokio::time::Instant::now();
        for payload in [r#"{"seconds":"x"}"#, r#"{"seconds":-1}"#, r#"{"seconds":1e300}"#, "5", r#""x""#] {
            for handler in [&Worker as &dyn Handler, &Backup] {
                let outcome = run(handler, "worker", payload).await;
                assert!(
                    matches!(&outcome, Outcome::Failed { errnr: 65, errmsg, .. } if errmsg.contains("seconds")),
                    "{payload}: {outcome:?}"
                );
            }
        }
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn backup_fails_after_five_seconds() {
        let before = tokio::time::Instant::now();
        let outcome = run(&Backup, "backup", r#""""#).await;
        assert!(
            matches!(&outcome, Outcome::Failed { errnr: 32, errmsg, .. } if errmsg == "could not backup!"),
            "{outcome:?}"
        );
        assert!((before.elapsed().as_secs_f64() - 5.0).abs() < 0.1);
    }

    #[tokio::test(start_paused = true)]
    async fn samples_that_are_stopped_say_so() {
        for (handler, task_type) in [(&Worker as &dyn Handler, "worker"), (&Backup, "backup")] {
            let stop = CancellationToken::new();
            let stopping = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                stop.cancel();
            };
            let (outcome, ()) =
                tokio::join!(run_until(handler, task_type, r#"{"seconds":10}"#, stop.clone()), stopping);
            let told = matches!(&outcome, Outcome::Failed { errnr: errnr::INTERRUPTED, errmsg, .. } if errmsg.starts_with("interrupted after "));
            assert!(told, "{task_type}: {outcome:?}");
        }
    }

    #[tokio::test]
    async fn echo_answers_to_the_byte() {
        let payload = r#"{"b":1.0,"a":[12345678901234567890123]}"#;
        let outcome = run(&Echo, "echo", payload).await;
        assert!(matches!(&outcome, Outcome::Done(answer) if answer.get() == payload), "{outcome:?}");
    }

    #[tokio::test]
    async fn steered_refuses_what_it_does_not_know() {
        let outcome = run(&Steered, "steered", r#"{"do":"dance"}"#).await;
        assert!(matches!(&outcome, Outcome::Failed { errnr: 64, .. }), "{outcome:?}");
    }
}
