//! Dead letters: messages that could not be read or written, put aside for people to look at.
//!
//! Promise: honest messages behind a dead letter wait for a bounded time. What the dead exchange takes is
//! there with its reason, cut to its head; what it does not take after a few tries is dropped, counted and
//! said in the log. A flood of dead letters makes a line in the log every ten seconds.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use super::{Address, Message, SharedBroker};
use crate::backoff::Backoff;
use crate::telemetry::{LINE_EVERY, LogPace};

/// Bytes of a body that are kept: a broker refuses what is larger than its limit, and nobody reads more.
const HEAD: usize = 64 << 10;
/// How often a batch is tried.
const TRIES: u32 = 3;
/// For one try.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long nothing is tried after a batch was dropped.
const REST: Duration = Duration::from_secs(10);

/// An item of a message that could not be read or written.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    body: Bytes,
    reason: String,
}

impl DeadLetter {
    /// An item with the reason for which it is put aside.
    pub const fn new(body: Bytes, reason: String) -> Self {
        Self { body, reason }
    }

    fn message(&self) -> Message {
        let reason = match self.body.len() {
            0..=HEAD => self.reason.clone(),
            bytes => format!("{} (the first {HEAD} of {bytes} bytes)", self.reason),
        };
        // Copied, so that a large body is not held for the sake of its head.
        let body = if self.body.len() > HEAD {
            Bytes::copy_from_slice(&self.body[..HEAD])
        } else {
            self.body.clone()
        };
        Message { persistent: true, ..Message::new(Address::Dead { reason }, body) }
    }
}

/// What became of dead letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Buried {
    /// Put on the dead exchange.
    pub kept: u64,
    /// Dropped, since the dead exchange did not take them.
    pub dropped: u64,
}

/// Puts aside the dead letters of one source.
#[derive(Debug)]
pub struct DeadLetters {
    broker: SharedBroker,
    source: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Until when nothing is tried.
    resting: Option<Instant>,
    /// Whether the last batch was dropped.
    failing: bool,
    /// Of the lines about them.
    line: LogPace,
    /// What these have not told.
    untold: Buried,
}

impl DeadLetters {
    /// For messages that came from this source.
    pub fn new(broker: SharedBroker, source: &'static str) -> Self {
        Self { broker, source, state: Mutex::default() }
    }

    /// What they are called in logs and metrics.
    pub fn source(&self) -> &'static str {
        self.source
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts them aside. Whatever the outcome, the deliveries may be acknowledged afterwards.
    pub async fn bury(&self, letters: Vec<DeadLetter>) -> Buried {
        let Some(first) = letters.first().map(|letter| (letter.reason.clone(), letter.body.len())) else {
            return Buried::default();
        };
        let (resting, tries) = {
            let state = self.state();
            (state.resting.is_some_and(|until| until > Instant::now()), if state.failing { 1 } else { TRIES })
        };
        let (mut left, mut why) = (letters, None);
        let count = left.len() as u64;
        for tried in 0..if resting { 0 } else { tries } {
            if tried > 0 {
                sleep(Backoff::CONNECTION.jittered(tried)).await;
            }
            let results =
                match timeout(PATIENCE, self.broker.publish(left.iter().map(DeadLetter::message).collect()))
                    .await
                {
                    Ok(results) => results,
                    Err(_) => {
                        why = Some(format!("no confirm within {} s", PATIENCE.as_secs()));
                        continue;
                    }
                };
            let mut results = results.into_iter();
            left.retain(|_| match results.next() {
                Some(Ok(())) => false,
                Some(Err(error)) => {
                    why = Some(error.to_string());
                    true
                }
                None => true,
            });
            if left.is_empty() {
                break;
            }
        }
        let dropped = left.len() as u64;
        let buried = Buried { kept: count - dropped, dropped };
        self.tell(buried, first, why, resting);
        buried
    }

    fn tell(&self, buried: Buried, (reason, bytes): (String, usize), why: Option<String>, resting: bool) {
        let mut state = self.state();
        if !resting {
            state.failing = buried.dropped > 0;
            state.resting = state.failing.then(|| Instant::now() + REST);
        }
        state.untold.kept += buried.kept;
        state.untold.dropped += buried.dropped;
        if !state.line.is_due(LINE_EVERY) {
            return;
        }
        let Buried { kept, dropped } = std::mem::take(&mut state.untold);
        drop(state);
        let source = self.source;
        if kept > 0 {
            tracing::warn!(source, messages = kept, bytes, why = %reason, "messages went to the dead exchange; why and size are those of one of them");
        }
        if dropped > 0 {
            let why = why.unwrap_or_else(|| "it has refused others a moment ago".to_owned());
            tracing::error!(source, messages = dropped, bytes, why = %reason, "messages are lost: the dead-letter exchange refuses them: {why}");
        }
    }
}
