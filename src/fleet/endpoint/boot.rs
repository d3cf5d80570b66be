//! The time since this machine was started. No setting of a clock moves it, and it goes on while the machine
//! sleeps.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use uuid::Uuid;

use super::journal::Deadline;

/// Tells one start of a machine from another.
const ID: &str = "/proc/sys/kernel/random/boot_id";

/// The start of the machine that this process lives in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Boot {
    /// None where the system does not say.
    id: Option<Uuid>,
}

impl Boot {
    /// The one that this process lives in.
    pub(super) fn current() -> Self {
        let id = fs::read_to_string(ID).ok().and_then(|text| text.trim().parse().ok());
        if id.is_none() {
            tracing::warn!(
                "{ID} cannot be read: after each restart of this endpoint its tasks wait until the API asks for them"
            );
        }
        Self { id }
    }

    /// The time after this span.
    pub(super) fn deadline(self, left: Duration) -> Option<Deadline> {
        let micros = u64::try_from(uptime().saturating_add(left).as_micros()).unwrap_or(u64::MAX);
        self.id.map(|boot| Deadline { boot, micros })
    }

    /// How long it is until then; nothing when that was measured from another start, and nobody knows how
    /// long ago that was.
    pub(super) fn left(self, deadline: Option<Deadline>) -> Option<Duration> {
        let deadline = deadline.filter(|deadline| Some(deadline.boot) == self.id)?;
        Some(Duration::from_micros(deadline.micros).saturating_sub(uptime()))
    }
}

fn uptime() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_start_knows_how_much_time_is_left() {
        let (here, hour) = (Boot { id: Some(Uuid::from_u128(1)) }, Duration::from_secs(3600));
        let deadline = here.deadline(hour).expect("it has a name");
        let left = here.left(Some(deadline)).expect("it is the same");
        assert!(left <= hour && left > hour / 2, "{left:?}");
        assert_eq!(here.left(here.deadline(Duration::ZERO)), Some(Duration::ZERO));
        assert_eq!(here.left(Some(Deadline { boot: Uuid::from_u128(2), ..deadline })), None);
        assert_eq!(here.left(None), None);
        let nameless = Boot { id: None };
        assert_eq!((nameless.deadline(hour), nameless.left(Some(deadline))), (None, None));
        assert!(here.deadline(Duration::MAX).is_some_and(|deadline| deadline.micros == u64::MAX));
    }

    #[test]
    fn this_machine_says_which_start_it_is() {
        assert!(Boot::current().id.is_some() && uptime() > Duration::ZERO);
    }
}
