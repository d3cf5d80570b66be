//! How often the ledger is read for what is watched. No I/O.
//!
//! Many states take long to read, few do not. So the pauses follow from how long the last reading took: what
//! is small is always fresh, and what is large takes a bounded part of the database's time.

use std::time::Duration;

use tokio::time::Instant;

/// At most four events a second are told of a thing.
pub(super) const BETWEEN: Duration = Duration::from_millis(250);

/// All is read again after this time at the latest, whatever it takes.
pub(super) const LONGEST: Duration = Duration::from_secs(30);

/// All is not read again before this time without a reason.
const SHORTEST: Duration = Duration::from_millis(500);

/// After a reading, so many times its length pass until the next: a twentieth of one connection's time.
const UNASKED: u32 = 20;

/// The same where something has changed: a fifth.
const ASKED: u32 = 4;

/// When all may be read again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    read_at: Instant,
    took: Duration,
}

impl Pace {
    /// After a reading that has just ended.
    pub fn after(began: Instant) -> Self {
        let now = Instant::now();
        Self { read_at: now, took: now.duration_since(began) }
    }

    /// When to read all again although nothing is known to have changed.
    pub fn unasked(&self) -> Instant {
        self.read_at + (self.took * UNASKED).clamp(SHORTEST, LONGEST)
    }

    /// When to read all again if something has changed.
    pub fn asked(&self) -> Instant {
        self.read_at + (self.took * ASKED).clamp(BETWEEN, LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_read_less_often() {
        let read_at = Instant::now();
        let table = [
            (0, 500, 250),
            (20, 500, 250),
            (100, 2_000, 400),
            (1_000, 20_000, 4_000),
            (10_000, 30_000, 30_000),
        ];
        for (took, unasked, asked) in table {
            let pace = Pace { read_at, took: Duration::from_millis(took) };
            let after = |at: Instant| at.duration_since(read_at).as_millis();
            assert_eq!((after(pace.unasked()), after(pace.asked())), (unasked, asked), "{took} ms");
        }
    }
}
