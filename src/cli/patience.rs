//! How a command that watches something goes on while the API is away.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::client::ClientError;

/// How long the API may be away.
const OUTAGE: Duration = Duration::from_secs(60);

/// The shortest time from one question to the next, where the API is to hold them.
const BETWEEN: Duration = Duration::from_millis(200);

/// What is left of the patience with an API that does not answer.
#[derive(Debug)]
pub(super) struct Patience {
    failures: u32,
    heard: Instant,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { failures: 0, heard: Instant::now() }
    }

    /// The API has answered.
    pub(super) fn heard(&mut self) {
        *self = Self::new();
    }

    /// How long to wait before the question is repeated; none when that is of no use any more.
    pub(super) fn pause(&mut self, error: &ClientError) -> Option<Duration> {
        if !error.is_transient() || self.heard.elapsed() >= OUTAGE {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        Some(Backoff::CONNECTION.jittered(self.failures))
    }
}

/// How long to wait after the answer to a question that was asked then: an API that does not hold questions
/// must not be asked without a pause.
pub(super) fn before_the_next(asked: Instant) -> Duration {
    BETWEEN.saturating_sub(asked.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lasts_for_a_minute_after_the_last_answer() {
        let away = ClientError::Lost { url: "http://a".to_owned(), reason: "reset".to_owned() };
        let wrong = ClientError::Address { address: "a".to_owned() };
        let mut patience = Patience::new();
        assert_eq!(patience.pause(&wrong), None, "asking again does not help");
        assert!(patience.pause(&away).is_some());
        patience.heard = Instant::now().checked_sub(OUTAGE).expect("the machine runs for longer");
        assert_eq!(patience.pause(&away), None);
        patience.heard();
        assert!(patience.pause(&away).is_some_and(|pause| pause <= Backoff::CONNECTION.first));
    }
}
