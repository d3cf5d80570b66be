//! The time of day as the ledger counts it.
//!
//! Every deadline in the ledger is compared with *one* clock: the database's, read when the process starts and every
//! ten seconds, and carried on in between by the machine's monotonic clock. So neither a jump of the local clock nor a skew
//! between API processes moves a deadline. Until the first reading an API process decides nothing: what its machine says
//! may be years away, and what it took for past its retention would be deleted.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::domain::Timestamp;

/// A shared clock; clones tell the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Instant,
    /// Microseconds since the epoch at `origin`.
    at_origin: Arc<AtomicI64>,
    set: watch::Sender<bool>,
}

impl Clock {
    /// A clock that starts with the machine's own time of day.
    pub fn system() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        Self { origin: Instant::now(), at_origin: Arc::new(AtomicI64::new(micros)), set: watch::Sender::new(true) }
    }

    /// A clock that nothing may be decided by until an authority has set it.
    pub fn unset() -> Self {
        Self { set: watch::Sender::new(false), ..Self::system() }
    }

    /// Whether it goes by what it should.
    pub fn is_set(&self) -> bool {
        *self.set.borrow()
    }

    /// Waits until it does.
    pub async fn until_set(&self) {
        // The sender is ours and lives as long as we do.
        let _ = self.set.subscribe().wait_for(|set| *set).await;
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.origin.elapsed().as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.at_origin.load(Ordering::Acquire).saturating_add(elapsed))
    }

    /// Sets the clock to what an authority (the database) says it is now.
    pub fn set(&self, now: Timestamp) {
        let elapsed = i64::try_from(self.origin.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.at_origin.store(now.as_micros().saturating_sub(elapsed), Ordering::Release);
        self.set.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn nothing_goes_by_a_clock_that_is_not_set() {
        let (clock, authority) = (Clock::unset(), Timestamp::from_micros(1_000_000));
        let other = clock.clone();
        assert!(!clock.is_set());
        let waits = tokio::spawn(async move {
            other.until_set().await;
            other.now()
        });
        clock.set(authority);
        assert!(waits.await.expect("it waited").since(authority) < Duration::from_secs(60));
        assert!(clock.is_set());
    }

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
