//! The time of day as the ledger counts it.
//!
//! Every deadline in the ledger is compared with *one* clock: the database's, read when the process starts
//! and every ten seconds, and carried on in between by the machine's monotonic clock. So neither a jump of
//! the local clock nor a skew between API processes moves a deadline. Until the first reading an API process
//! decides nothing: what its machine says may be years away, and what it took for past its retention would be
//! deleted.
//!
//! The database's clock may itself be set forward or back. This clock follows at its next reading, since all
//! API processes have to tell the same time, and says so: see [`Clock::steps`]. Between two times of which
//! one was noted before a step there is no age. Other processes notice the same step up to [`READ_EVERY`]
//! earlier or later.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::domain::Timestamp;

/// How often the database's clock is read.
pub const READ_EVERY: Duration = Duration::from_secs(10);

/// A reading that is this far from what was to be expected is a step. Less is drift, or the time that the
/// answer took.
const STEP: Duration = Duration::from_secs(3);

/// A shared clock; clones tell the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Instant,
    /// Microseconds since the epoch at `origin`.
    at_origin: Arc<AtomicI64>,
    set: watch::Sender<bool>,
    steps: watch::Sender<u64>,
}

impl Clock {
    /// A clock that starts with the machine's own time of day.
    pub fn system() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        Self {
            origin: Instant::now(),
            at_origin: Arc::new(AtomicI64::new(micros)),
            set: watch::Sender::new(true),
            steps: watch::Sender::new(0),
        }
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

    /// How often the authority's clock was found to have been set forward or back; the first reading of all
    /// is no step. Until everything was heard of anew, times that were noted before a change of this number
    /// prove no silence.
    pub fn steps(&self) -> watch::Receiver<u64> {
        self.steps.subscribe()
    }

    /// Sets the clock to what an authority (the database) says it is now.
    pub fn set(&self, now: Timestamp) {
        let expected = self.now();
        let (forward, back) = (now.since(expected), expected.since(now));
        if self.is_set() && forward.max(back) > STEP {
            tracing::warn!(?forward, ?back, "the database's clock was set; all times follow it");
            // Before the time itself: whoever sees that sees this.
            self.steps.send_modify(|steps| *steps += 1);
        }
        let elapsed = i64::try_from(self.origin.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.at_origin.store(now.as_micros().saturating_sub(elapsed), Ordering::Release);
        self.set.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn steps_are_told_from_drift_and_from_the_first_reading() {
        let clock = Clock::unset();
        let steps = clock.steps();
        let minutes = Duration::from_secs(300);
        clock.set(clock.now().after(minutes));
        assert_eq!(*steps.borrow(), 0, "nothing went by it before");
        clock.set(clock.now().after(Duration::from_millis(900)));
        clock.set(clock.now().before(Duration::from_millis(900)));
        assert_eq!(*steps.borrow(), 0, "a slow answer is no step");
        clock.set(clock.now().after(minutes));
        assert_eq!(*steps.borrow(), 1);
        clock.set(clock.now());
        assert_eq!(*steps.borrow(), 1, "once each");
        clock.clone().set(clock.now().before(minutes));
        assert_eq!(*steps.borrow(), 2);
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
