//! Points in time: UTC with microseconds, RFC 3339 on the wire, `DATETIME(6)` or an integer in the store.
//!
//! RFC 3339 has years of four digits, and so has `DATETIME`: a time outside the years 1 to 9999 cannot be
//! written down. No value of [`Timestamp`] is outside, whatever it was made from.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time in microseconds since 1970-01-01T00:00:00Z, within the years 1 to 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The first one: 0001-01-01T00:00:00Z.
    pub const FIRST: Self = Self(-62_135_596_800_000_000);
    /// The last one: 9999-12-31T23:59:59.999999Z.
    pub const LAST: Self = Self(253_402_300_799_999_999);

    /// From microseconds since the epoch; what is too early or too late becomes the first or the last one.
    pub const fn from_micros(micros: i64) -> Self {
        match micros {
            micros if micros < Self::FIRST.0 => Self::FIRST,
            micros if micros > Self::LAST.0 => Self::LAST,
            micros => Self(micros),
        }
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// From milliseconds since the epoch, see [`Self::from_micros`].
    pub const fn from_millis(millis: i64) -> Self {
        Self::from_micros(millis.saturating_mul(1000))
    }

    /// Whole milliseconds since the epoch: times travel in these.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Later by a duration; the last one at most.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self::from_micros(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Earlier by a duration; the first one at least.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self::from_micros(self.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The time from an earlier point to this one; zero if that point is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self::from_micros(time.timestamp_micros())
    }
}

impl From<Timestamp> for DateTime<Utc> {
    fn from(time: Timestamp) -> Self {
        DateTime::from_timestamp_micros(time.0).expect("chrono has more years than four digits can say")
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&DateTime::<Utc>::from(*self).to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let time = DateTime::parse_from_rfc3339(&text).map_err(serde::de::Error::custom)?;
        Ok(time.with_timezone(&Utc).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_time_can_be_written_down_and_read_back(
            micros in any::<i64>(), seconds in any::<u64>(), near_the_end in 0..u64::from(u32::MAX), earlier in any::<bool>(),
        ) {
            for base in [Timestamp::from_micros(micros), Timestamp::LAST, Timestamp::FIRST] {
                for by in [Duration::from_secs(seconds), Duration::from_micros(near_the_end), Duration::MAX] {
                    let time = if earlier { base.before(by) } else { base.after(by) };
                    let text = time.to_string();
                    prop_assert_eq!(text.len(), "9999-12-31T23:59:59.999999Z".len(), "{}", text);
                    let written = serde_json::to_string(&time).expect("serialises");
                    prop_assert_eq!(serde_json::from_str::<Timestamp>(&written).expect("reads back"), time);
                    let on_its_side = if earlier { time <= base } else { time >= base };
                    prop_assert!(on_its_side);
                }
            }
        }
    }

    #[test]
    fn what_is_beyond_four_digits_becomes_the_last_moment() {
        assert_eq!(Timestamp::LAST.to_string(), "9999-12-31T23:59:59.999999Z");
        assert_eq!(Timestamp::FIRST.to_string(), "0001-01-01T00:00:00.000000Z");
        // The year 10000 in UTC, and the year 0.
        for (text, end) in
            [("9999-12-31T23:59:59-14:00", Timestamp::LAST), ("0000-12-31T23:59:59Z", Timestamp::FIRST)]
        {
            assert_eq!(serde_json::from_value::<Timestamp>(text.into()).expect("RFC 3339"), end);
        }
        for end in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            assert!([Timestamp::FIRST, Timestamp::LAST].contains(&end.into()), "{end}");
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let time = Timestamp::from_micros(1_700_000_000_123_456);
        assert_eq!(time.to_string(), "2023-11-14T22:13:20.123456Z");
        let text = serde_json::to_string(&time).expect("serialises");
        assert_eq!(serde_json::from_str::<Timestamp>(&text).expect("reads back"), time);
    }

    #[test]
    fn arithmetic_saturates() {
        let end = Timestamp::from_micros(i64::MAX);
        assert_eq!(end.after(Duration::MAX), end);
        assert_eq!(Timestamp::from_micros(5).since(Timestamp::from_micros(9)), Duration::ZERO);
    }
}
