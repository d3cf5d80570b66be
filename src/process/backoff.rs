//! How long to wait before the next try: exponential, capped, with full jitter, a pure function of attempt
//! and chance.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The schedule of a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// The longest wait before the second try.
    pub first: Duration,
    /// The longest wait of all.
    pub max: Duration,
}

impl Backoff {
    /// For connections: 0.2 s to 30 s, as many tries as it takes.
    pub const CONNECTION: Self = Self { first: Duration::from_millis(200), max: Duration::from_secs(30) };

    /// The upper bound of the wait after a number of failures, from 1: doubles each time up to the cap.
    pub fn ceiling(&self, failures: u32) -> Duration {
        let doubled =
            1u32.checked_shl(failures.saturating_sub(1)).and_then(|factor| self.first.checked_mul(factor));
        doubled.unwrap_or(self.max).min(self.max)
    }

    /// The wait after a number of failures: between half and all of the ceiling, by `chance` in `0.0..1.0`.
    /// Half is kept so that an unlucky draw does not hammer a server that has just refused.
    pub fn wait(&self, failures: u32, chance: f64) -> Duration {
        self.ceiling(failures).mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
    }

    /// [`Self::wait`] with a draw of the process's own generator.
    pub fn jittered(&self, failures: u32) -> Duration {
        self.wait(failures, fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stays_within_bounds(first in 0u64..100_000, max in 0u64..10_000_000, failures in 0u32.., chance in -1.0f64..2.0) {
            let backoff = Backoff { first: Duration::from_millis(first), max: Duration::from_millis(max) };
            let wait = backoff.wait(failures, chance);
            prop_assert!(wait <= backoff.max);
            prop_assert!(wait >= backoff.ceiling(failures).mul_f64(0.499));
        }

        #[test]
        fn never_shrinks(failures in 1u32..200) {
            let backoff = Backoff::CONNECTION;
            prop_assert!(backoff.ceiling(failures + 1) >= backoff.ceiling(failures));
        }
    }
}
