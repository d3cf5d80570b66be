//! How far an endpoint's clock is from the ledger's, worked out from the times that its presence carries. No
//! I/O.
//!
//! A reading is the sender's time minus the receiver's. A message that waited, with the broker or with a
//! sender that could not reach it, gives a reading that is too low by the time it waited, and never one that
//! is too high. So the highest reading is the best one, and whether a message waited need not be known. A
//! clock may also be set back: lower readings count when enough of them came in a row. Presence expires with
//! the broker after three intervals, so that after an outage at most four messages of an endpoint in a row
//! are old.

use std::time::Duration;

use crate::domain::Timestamp;

/// Lower readings in a row from which on the clock itself is lower: one more than can have waited together.
const READINGS: u8 = 5;
/// How low the first reading may be to count at once: less than this is no wait that matters.
const PROMPT_MS: i64 = -1000;
/// The largest offset that is kept, some 300 years, so that sums and JSON numbers stay exact.
const LARGEST_MS: i64 = 10_000_000_000_000;

/// An endpoint's offset, and the readings that may change it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ClockOffset {
    /// The offset in milliseconds, positive when the endpoint's clock is ahead; none while it is not known.
    pub ms: Option<i64>,
    /// The highest of the lower readings that came in a row.
    pub lower_ms: Option<i64>,
    /// How many these are.
    pub readings: u8,
}

impl ClockOffset {
    /// What is known after one more presence, which was sent and received at these times. An endpoint that
    /// does not tell its time has no offset.
    pub fn read(self, sent_at: Option<Timestamp>, now: Timestamp) -> Self {
        let Some(sent_at) = sent_at else { return Self::default() };
        let reading = ((sent_at.as_micros() - now.as_micros()) / 1000).clamp(-LARGEST_MS, LARGEST_MS);
        if reading >= self.ms.unwrap_or(PROMPT_MS) {
            return Self { ms: Some(reading), ..Self::default() };
        }
        let lower = self.lower_ms.map_or(reading, |lower| lower.max(reading));
        match self.readings.saturating_add(1) {
            readings if readings < READINGS => Self { lower_ms: Some(lower), readings, ..self },
            _ => Self { ms: Some(lower), ..Self::default() },
        }
    }

    /// A time of the endpoint by the ledger's clock, while the offset is known.
    pub fn ledger_time(self, sent_at: Option<Timestamp>) -> Option<Timestamp> {
        Some(Timestamp::from_micros(sent_at?.as_micros().saturating_sub(self.ms?.saturating_mul(1000))))
    }
}

/// How the clocks of the endpoints that are there differ from the ledger's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockOffsets {
    /// Endpoints that are further off than
    /// [`Presence::CLOCK_TOLERANCE`](crate::domain::Presence::CLOCK_TOLERANCE).
    pub beyond: u64,
    /// The largest offset in either direction.
    pub largest: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The offsets shown after presence that was sent at these seconds by the endpoint's clock and received
    /// at those by the ledger's.
    fn shown(readings: &[(i64, i64)]) -> Vec<Option<i64>> {
        let at = |secs: i64| Timestamp::from_micros(1_700_000_000_000_000 + secs * 1_000_000);
        let mut offset = ClockOffset::default();
        let read = |&(sent, received): &(i64, i64)| {
            offset = offset.read(Some(at(sent)), at(received));
            offset.ms.map(|ms| ms / 1000)
        };
        readings.iter().map(read).collect()
    }

    #[test]
    fn what_waited_does_not_count() {
        // All of an outage at once, then one that came straight.
        assert_eq!(shown(&[(0, 0), (60, 180), (120, 180), (180, 190), (190, 190)]), [Some(0); 5]);
        assert_eq!(
            shown(&[(0, 180), (60, 180), (120, 180), (180, 180)]),
            [None, None, None, Some(0)],
            "no more when it is the first"
        );
        assert_eq!(shown(&[(300, 0), (310, 30), (340, 40)]), [Some(300); 3]);
        assert_eq!(shown(&[(310, 30), (340, 40)]), [Some(280), Some(300)]);
    }

    #[test]
    fn a_clock_that_was_set_is_followed() {
        assert_eq!(
            shown(&[(0, 0), (310, 10), (320, 20)]),
            [Some(0), Some(300), Some(300)],
            "forward: at once"
        );
        let back = [(0, 0), (-290, 10), (-280, 20), (-271, 30), (-260, 40), (-250, 50), (-240, 60)];
        assert_eq!(shown(&back), [Some(0), Some(0), Some(0), Some(0), Some(0), Some(-300), Some(-300)]);
        let slow = [(-300, 0), (-290, 10), (-280, 20), (-270, 30), (-260, 40)];
        assert_eq!(
            shown(&slow),
            [None, None, None, None, Some(-300)],
            "a clock that is behind from the start"
        );
    }

    #[test]
    fn whoever_tells_no_time_has_no_offset() {
        let now = Timestamp::from_micros(0);
        assert_eq!(
            ClockOffset { ms: Some(5), lower_ms: Some(3), readings: 2 }.read(None, now),
            ClockOffset::default()
        );
        let ages = ClockOffset::default().read(Some(Timestamp::LAST), Timestamp::FIRST);
        assert_eq!(ages.ms, Some(LARGEST_MS));
    }
}
