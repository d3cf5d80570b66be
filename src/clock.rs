//! The time of day as the ledger counts it.
//!
//! Every deadline in the ledger is compared with *one* clock: the database's, read when the process starts and every
//! minute, and carried on in between by the machine's monotonic clock. So neither a jump of the local clock nor a skew
//! between API processes moves a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::domain::Timestamp;

/// A shared clock; clones tell the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Instant,
    /// Microseconds since the epoch at `origin`.
    at_origin: Arc<AtomicI64>,
}

impl Clock {
    /// A clock that starts with the machine's own time of day.
    pub fn system() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        Self { origin: Instant::now(), at_origin: Arc::new(AtomicI64::new(micros)) }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.origin.elapsed().as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.at_origin.load(Ordering::Relaxed).saturating_add(elapsed))
    }

    /// Sets the clock to what an authority (the database) says it is now.
    pub fn set(&self, now: Timestamp) {
        let elapsed = i64::try_from(self.origin.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.at_origin.store(now.as_micros().saturating_sub(elapsed), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn clones_follow_the_authority() {
        let clock = Clock::system();
        let other = clock.clone();
        let authority = clock.now().after(Duration::from_secs(3600));
        clock.set(authority);
        let read = other.now();
        assert!(read >= authority && read.since(authority) < Duration::from_secs(60));
    }
}
