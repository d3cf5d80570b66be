//! What callers and workers tell each other besides tasks and answers. All of it may be lost: it makes things
//! sooner known, and nothing depends on it but that.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::frame::{self, Frame, FrameError};
use crate::broker::amqp::{Letter, To};
use crate::broker::wire::millis;

/// Runs in one notice: far below the longest message.
pub const RUNS: usize = 10_000;

/// A notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// From a worker to a caller: it has begun these.
    Started {
        /// Who.
        worker: String,
        /// Which.
        runs: Vec<Uuid>,
    },
    /// From a worker to all callers, from time to time.
    Heartbeat {
        /// Who.
        worker: String,
        /// Whether it is the last one.
        leaving: bool,
    },
    /// From a caller to all workers: nobody waits for these any more.
    Cancel {
        /// Which.
        runs: Vec<Uuid>,
        /// How long one of them could still arrive.
        remember: Duration,
    },
}

#[derive(Serialize, Deserialize)]
struct Started {
    worker: String,
    runs: Vec<Uuid>,
}

#[derive(Serialize, Deserialize)]
struct Heartbeat {
    worker: String,
    #[serde(default)]
    leaving: bool,
}

#[derive(Serialize, Deserialize)]
struct Cancel {
    runs: Vec<Uuid>,
    remember_ms: u64,
}

impl Notice {
    /// Its bytes.
    pub fn encode(self) -> Bytes {
        let bytes = match self {
            Self::Started { worker, runs } => frame::encode("started", &Started { worker, runs }, &[]),
            Self::Heartbeat { worker, leaving } => {
                frame::encode("heartbeat", &Heartbeat { worker, leaving }, &[])
            }
            Self::Cancel { runs, remember } => {
                frame::encode("cancel", &Cancel { runs, remember_ms: millis(remember) }, &[])
            }
        };
        bytes.expect("notices are short, see RUNS")
    }

    /// The letter with it.
    pub(super) fn to(self, to: To) -> Letter {
        let body = self.encode();
        Letter { to, id: Uuid::new_v4(), task: Uuid::nil(), expires_in: None, persistent: false, body }
    }

    /// The notice in a message.
    ///
    /// # Errors
    /// When it is none; never panics, whatever the bytes.
    pub fn decode(frame: &Frame) -> Result<Self, FrameError> {
        match frame.kind.as_str() {
            "started" => frame.members().map(|Started { worker, runs }| Self::Started { worker, runs }),
            "heartbeat" => {
                frame.members().map(|Heartbeat { worker, leaving }| Self::Heartbeat { worker, leaving })
            }
            "cancel" => frame.members().map(|Cancel { runs, remember_ms }| Self::Cancel {
                runs,
                remember: Duration::from_millis(remember_ms),
            }),
            _ => Err(frame.misplaced()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_come_back_as_they_were() {
        let (worker, runs) = ("w".to_owned(), vec![Uuid::from_u128(1), Uuid::from_u128(2)]);
        for notice in [
            Notice::Started { worker: worker.clone(), runs: runs.clone() },
            Notice::Heartbeat { worker, leaving: true },
            Notice::Cancel { runs, remember: Duration::from_millis(1500) },
        ] {
            let frame = frame::decode(&notice.clone().encode()).expect("a message");
            assert_eq!(Notice::decode(&frame).expect("a notice"), notice);
        }
    }

    #[test]
    fn the_longest_notice_fits() {
        let runs = vec![Uuid::nil(); RUNS];
        assert!(Notice::Cancel { runs, remember: Duration::MAX }.encode().len() < frame::LIMIT);
    }
}
