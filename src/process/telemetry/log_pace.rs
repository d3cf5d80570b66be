//! The pace of a line in the log that a stranger, or a fault, could repeat thousands of times a second.

use std::time::{Duration, Instant};

/// How often most of such lines are written at most.
pub const LINE_EVERY: Duration = Duration::from_secs(10);

/// When a line was written last.
#[derive(Debug, Default)]
pub struct LogPace(Option<Instant>);

impl LogPace {
    /// Of a line that was not written yet.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Whether the line may be written now: it was not within this time. Whoever is told so writes it.
    pub fn is_due(&mut self, every: Duration) -> bool {
        let is_due = self.0.is_none_or(|written| written.elapsed() >= every);
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }

    /// Has the next line written, whenever the last one was.
    pub fn reset(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_once_in_a_while() {
        let mut pace = LogPace::new();
        assert!(pace.is_due(LINE_EVERY) && !pace.is_due(LINE_EVERY) && pace.is_due(Duration::ZERO));
        assert!(!pace.is_due(LINE_EVERY));
        pace.reset();
        assert!(pace.is_due(LINE_EVERY));
    }
}
