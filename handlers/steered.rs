//! Does what its payload says: for tests, and to show how the platform treats each way a handler can end.
//!
//! - `{"do": "ok", "answer": 1}` works and answers `answer`, or with `"bytes": 1000` a text of so many
//!   letters, 8 MiB at most.
//! - `{"do": "fail", "errnr": 7, "errmsg": "no"}` fails.
//! - `{"do": "retry", "times": 2, "after_ms": 10}` asks for another try in the first `times` attempts, then
//!   answers the number of the attempt.
//! - `{"do": "panic"}` panics.
//! - `{"do": "hang"}` does nothing until it is canceled or its time is over; with `"deaf": true` not even then.
//! - `{"do": "exit", "code": 3}` ends the whole process in the first `times` attempts (1 unless said), then
//!   answers.
//!
//! All of them first append a line `task endpoint attempt` to the file `mark` and see it on disk, if the
//! payload names one: so a test counts what really ran; in a release build that fails. Then they log the
//! lines of `log`, report the percentages of `progress`, and take `seconds`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use crate::domain::{Json, Outcome, errnr, json};
use crate::endpoint::{Context, Handler, Work};

/// The payload is none of those above (`EX_USAGE`).
const BAD_PAYLOAD: i32 = 64;

/// The file `mark` cannot be written (`EX_CANTCREAT`).
const CANNOT_MARK: i32 = 73;

/// Letters of an answer at most.
const LONGEST: usize = 8 << 20;

/// See the module.
pub struct Steered;

#[derive(Deserialize)]
struct Steps {
    #[serde(default)]
    mark: Option<PathBuf>,
    #[serde(default)]
    log: Vec<String>,
    #[serde(default)]
    progress: Vec<u8>,
    #[serde(default)]
    seconds: f64,
}

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Do {
    Ok {
        #[serde(default)]
        answer: serde_json::Value,
        #[serde(default)]
        bytes: Option<usize>,
    },
    Fail {
        #[serde(default = "one")]
        errnr: i32,
        #[serde(default)]
        errmsg: String,
    },
    Retry {
        times: u32,
        #[serde(default)]
        after_ms: Option<u64>,
    },
    Panic,
    Hang {
        #[serde(default)]
        deaf: bool,
    },
    Exit {
        #[serde(default = "one")]
        code: i32,
        #[serde(default = "once")]
        times: u32,
    },
}

fn one() -> i32 {
    1
}

fn once() -> u32 {
    1
}

#[async_trait]
impl Handler for Steered {
    async fn run(&self, work: &Work, context: &Context) -> Outcome {
        let (steps, what) = match (work.payload::<Steps>(), work.payload::<Do>()) {
            (Ok(steps), Ok(what)) => (steps, what),
            (Err(error), _) | (_, Err(error)) => {
                return Outcome::failed(BAD_PAYLOAD, format!("the payload says nothing to do: {error}"));
            }
        };
        if let Some(path) = steps.mark
            && let Err(error) = mark(&path, work).await
        {
            return Outcome::failed(CANNOT_MARK, format!("{} takes no mark: {error}", path.display()));
        }
        steps.log.iter().for_each(|line| context.log(line));
        steps.progress.iter().for_each(|percent| context.progress(*percent));
        if let Ok(time) = Duration::try_from_secs_f64(steps.seconds)
            && !time.is_zero()
        {
            tokio::time::sleep(time).await;
        }
        carry_out(what, work, context).await
    }
}

/// One write of a file opened for appending: lines of several processes do not mix.
async fn mark(path: &Path, work: &Work) -> std::io::Result<()> {
    // A payload must not choose which file of a server is written to.
    if !cfg!(debug_assertions) {
        return Err(std::io::ErrorKind::Unsupported.into());
    }
    let mut file = tokio::fs::OpenOptions::new().create(true).append(true).open(path).await?;
    file.write_all(format!("{} {} {}\n", work.id, work.endpoint, work.attempt).as_bytes()).await?;
    file.sync_all().await
}

async fn carry_out(what: Do, work: &Work, context: &Context) -> Outcome {
    let number: Json = json(&work.attempt);
    match what {
        Do::Ok { bytes: Some(bytes), .. } => Outcome::Done(json(&"x".repeat(bytes.min(LONGEST)))),
        Do::Ok { answer, bytes: None } => Outcome::Done(json(&answer)),
        Do::Fail { errnr, errmsg } => Outcome::failed(errnr, errmsg),
        Do::Retry { times, .. } if work.attempt > times => Outcome::Done(number),
        Do::Retry { after_ms, .. } => Outcome::Retry {
            after: after_ms.map(Duration::from_millis),
            errnr: errnr::TRY_AGAIN,
            errmsg: format!("attempt {} was asked to be tried again", work.attempt),
            payload: None,
        },
        Do::Panic => panic!("the payload asked for it"),
        Do::Hang { deaf: true } => std::future::pending().await,
        Do::Hang { deaf: false } => {
            context.canceled().await;
            Outcome::failed(1, "was told to stop")
        }
        Do::Exit { times, .. } if work.attempt > times => Outcome::Done(number),
        Do::Exit { code, .. } => std::process::exit(code),
    }
}
