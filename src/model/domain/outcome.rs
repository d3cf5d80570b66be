//! What a handler asks for, and the error numbers the platform itself gives.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::Json;

/// How an attempt ended, as the handler sees it. Closed on purpose: everything else (a panic, a time limit, a
/// missing handler) is turned into one of these by the executor.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It worked; the answer goes to the customer.
    Done(Json),
    /// It did not work and trying again would not help.
    Failed {
        /// Not 0; see [`errnr`] for the numbers the platform gives.
        errnr: i32,
        /// One or a few lines for a person.
        errmsg: String,
        /// What there is to show nevertheless.
        payload: Option<Json>,
    },
    /// It did not work this time. Spends an attempt; when none is left it becomes a failure with this error.
    Retry {
        /// How long to wait; the type's backoff when absent.
        after: Option<Duration>,
        /// Not 0.
        errnr: i32,
        /// One or a few lines for a person.
        errmsg: String,
        /// What there is to show if no attempt is left.
        payload: Option<Json>,
    },
}

impl Outcome {
    /// A failure without an answer.
    pub fn failed(errnr: i32, errmsg: impl Into<String>) -> Self {
        Self::Failed { errnr, errmsg: errmsg.into(), payload: None }
    }

    /// Another try after the type's backoff.
    pub fn retry(errmsg: impl Into<String>) -> Self {
        Self::Retry { after: None, errnr: errnr::TRY_AGAIN, errmsg: errmsg.into(), payload: None }
    }
}

/// What an attempt before the deciding one died of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AttemptError {
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Its error number.
    pub errnr: i32,
    /// Its error text.
    pub errmsg: String,
}

/// Error numbers given by the platform. They follow `sysexits.h` and the shell, so that they mean the same in
/// Rust handlers and executables; a handler may use any other number.
pub mod errnr {
    /// The answer of the handler is not JSON that every reader takes although it has to be, or is too long
    /// (`EX_DATAERR`).
    pub const BAD_ANSWER: i32 = 65;
    /// The payload is not what the handler takes (`EX_DATAERR`): what the samples say.
    pub const BAD_PAYLOAD: i32 = 65;
    /// The endpoint received the task and was not heard of again, or has forgotten it (`EX_UNAVAILABLE`).
    pub const LOST: i32 = 69;
    /// The handler panicked or could not be started (`EX_SOFTWARE`).
    pub const PANIC: i32 = 70;
    /// The endpoint process ended while the handler ran (`EX_OSERR`).
    pub const INTERRUPTED: i32 = 71;
    /// The handler asked for another try (`EX_TEMPFAIL`).
    pub const TRY_AGAIN: i32 = 75;
    /// The endpoint was told to cancel the task, and the task was not canceled (`EX_NOPERM`).
    pub const STOPPED: i32 = 77;
    /// The trust file of the endpoint does not allow the task any more that waited there (`EX_NOPERM`).
    pub const REFUSED: i32 = 77;
    /// The time limit passed (as `timeout(1)`).
    pub const TIME_LIMIT: i32 = 124;
    /// There is no handler of this name (as the shell's "command not found").
    pub const NO_HANDLER: i32 = 127;
    /// Added to the number of the signal that ended an executable (as the shell).
    pub const SIGNAL: i32 = 128;
}
