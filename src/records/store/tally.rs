//! What went wrong in a store so far, in numbers. For metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Refusal, StoreError};

/// Why an operation was tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It and another one waited for each other.
    Deadlock,
    /// Another one held a lock for too long.
    LockWait,
    /// Something changed under it.
    Conflict,
}

impl Retry {
    const ALL: [Self; 3] = [Self::Deadlock, Self::LockWait, Self::Conflict];

    /// In metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deadlock => "deadlock",
            Self::LockWait => "lock_wait",
            Self::Conflict => "conflict",
        }
    }
}

/// Labels of errors that are no [`Refusal`].
const BUSY: usize = Refusal::ALL.len();
const SCHEMA: usize = BUSY + 1;
const ROWS: usize = BUSY + 2;
const DEFECT: usize = BUSY + 3;

/// Counts since the process started.
#[derive(Debug, Default)]
pub struct Tally {
    retries: [AtomicU64; Retry::ALL.len()],
    refusals: [AtomicU64; DEFECT + 1],
}

impl Tally {
    pub(super) fn retried(&self, retry: Retry) {
        self.retries[retry as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, error: &StoreError) {
        let at = match error {
            StoreError::Unavailable { cause, .. } => *cause as usize,
            StoreError::Busy { .. } => BUSY,
            StoreError::Schema { .. }
            | StoreError::Missing { .. }
            | StoreError::NoTables { .. }
            | StoreError::NoDatabase { .. } => SCHEMA,
            StoreError::Rows { .. } | StoreError::TooLarge { .. } => ROWS,
            StoreError::Corrupt { .. } | StoreError::Statement { .. } | StoreError::Address { .. } => DEFECT,
        };
        self.refusals[at].fetch_add(1, Ordering::Relaxed);
    }

    /// Attempts that were begun anew, by cause.
    pub fn retries(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.retries.iter().map(|count| count.load(Ordering::Relaxed));
        Retry::ALL.into_iter().map(Retry::as_str).zip(counts)
    }

    /// Operations that were not done, by cause.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.refusals.iter().map(|count| count.load(Ordering::Relaxed));
        let others = ["busy", "schema", "rows", "defect"];
        Refusal::ALL.into_iter().map(Refusal::as_str).chain(others).zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_under_its_own_name() {
        let tally = Tally::default();
        for (times, retry) in Retry::ALL.into_iter().enumerate() {
            (0..=times).for_each(|_| tally.retried(retry));
        }
        assert_eq!(tally.retries().collect::<Vec<_>>(), [("deadlock", 1), ("lock_wait", 2), ("conflict", 3)]);
        let reason = || "why".to_owned();
        for cause in Refusal::ALL {
            tally.refused(&StoreError::Unavailable { safe_url: reason(), reason: reason(), cause });
        }
        for error in [
            StoreError::Busy { reason: reason() },
            StoreError::Schema { reason: reason() },
            StoreError::Rows { reason: reason() },
            StoreError::TooLarge { bytes: 2, most: 1 },
            StoreError::Corrupt { reason: reason() },
            StoreError::Statement { reason: reason() },
        ] {
            tally.refused(&error);
        }
        let counts: Vec<_> = tally.refusals().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2]);
        assert_eq!(tally.refusals().last(), Some(("defect", 2)));
    }
}
