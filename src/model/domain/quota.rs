//! How much a token may use of the API, and the bucket that counts it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A number of things in a span of time: `50/s`, `600/min`, `1000/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    count: u32,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
}

impl Unit {
    const ALL: [(&'static str, Self); 3] = [("s", Self::Second), ("min", Self::Minute), ("h", Self::Hour)];

    const fn secs(self) -> f64 {
        match self {
            Self::Second => 1.0,
            Self::Minute => 60.0,
            Self::Hour => 3600.0,
        }
    }
}

impl Rate {
    /// So many a second.
    pub fn per_second(self) -> f64 {
        f64::from(self.count) / self.unit.secs()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Unit::ALL.iter().find(|(_, unit)| *unit == self.unit).map_or("s", |(word, _)| word);
        write!(f, "{}/{word}", self.count)
    }
}

/// A text is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a rate: expected a number above 0 and a unit, such as 50/s, 600/min or 1000/h")]
pub struct InvalidRate(String);

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let read = || {
            let (count, word) = text.split_once('/')?;
            let (_, unit) = Unit::ALL.into_iter().find(|(known, _)| *known == word)?;
            let count = count.parse().ok().filter(|count| *count > 0)?;
            Some(Self { count, unit })
        };
        read().ok_or_else(|| InvalidRate(text.to_owned()))
    }
}

impl TryFrom<String> for Rate {
    type Error = InvalidRate;

    fn try_from(text: String) -> Result<Self, InvalidRate> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

/// How much a token may use. What is absent has no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Requests that may come at once after a pause; by default those of a second, at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Tasks submitted with it that have not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<u32>,
    /// Endpoints of a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<u32>,
    /// Reads that wait for an end, at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<u32>,
    /// Bytes of request bodies in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

impl Quota {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Requests a second, and how many at once.
    pub fn requests(&self) -> Option<Flow> {
        let per_second = self.rate?.per_second();
        Some(Flow { per_second, at_once: self.burst.map_or(per_second.max(1.0), f64::from) })
    }

    /// Bytes a second, and how many at once.
    pub fn body_bytes(&self) -> Option<Flow> {
        let per_second = self.bytes? as f64;
        Some(Flow { per_second, at_once: per_second })
    }
}

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flow {
    /// What comes in a second.
    pub per_second: f64,
    /// What it holds at most.
    pub at_once: f64,
}

/// What is left of a flow. Times are spans since a moment that the caller has chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    level: f64,
    at: Duration,
}

impl Bucket {
    /// A full one.
    pub const fn full(flow: Flow, now: Duration) -> Self {
        Self { level: flow.at_once, at: now }
    }

    /// Takes so much. What is more than the bucket holds needs a full one and leaves a debt, so that a large
    /// thing passes too, at the same rate.
    ///
    /// # Errors
    /// How long to wait until there is enough.
    pub fn take(&mut self, flow: Flow, amount: f64, now: Duration) -> Result<(), Duration> {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.level = (self.level + passed * flow.per_second).min(flow.at_once);
        self.at = self.at.max(now);
        let needed = amount.min(flow.at_once);
        if self.level < needed {
            return Err(Duration::from_secs_f64(((needed - self.level) / flow.per_second).min(86_400.0)));
        }
        self.level -= amount;
        Ok(())
    }

    /// Takes what has been used already, enough or not.
    pub const fn owe(&mut self, amount: f64) {
        self.level -= amount;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FLOW: Flow = Flow { per_second: 10.0, at_once: 20.0 };

    #[test]
    fn rates_are_read_and_written() {
        for (text, per_second) in [("50/s", 50.0), ("600/min", 10.0), ("36/h", 0.01)] {
            let rate: Rate = text.parse().expect("a rate");
            assert_eq!((rate.to_string().as_str(), rate.per_second()), (text, per_second));
        }
        for text in ["", "50", "0/s", "-1/s", "1.5/s", "50/d", "50 /s", "/s", "50/", "4294967296/s"] {
            let error = text.parse::<Rate>().expect_err(text);
            assert!(error.to_string().contains("50/s"), "{error}");
        }
    }

    #[test]
    fn a_quota_is_kept_as_json() {
        let quota = Quota { rate: "50/s".parse().ok(), open: Some(7), ..Quota::default() };
        let text = serde_json::to_string(&quota).expect("JSON");
        assert_eq!(text, r#"{"rate":"50/s","open":7}"#);
        assert_eq!(serde_json::from_str::<Quota>(&text).expect("a quota"), quota);
        assert!(Quota::default().is_none() && !quota.is_none());
        let flow = |rate: &str, burst| {
            Quota { rate: rate.parse().ok(), burst, ..Quota::default() }.requests().expect("a flow").at_once
        };
        assert_eq!((flow("50/s", None), flow("50/s", Some(200)), flow("6/min", None)), (50.0, 200.0, 1.0));
    }

    #[test]
    fn a_bucket_gives_what_it_has_and_says_when_there_is_more() {
        let mut bucket = Bucket::full(FLOW, Duration::ZERO);
        for _ in 0..20 {
            assert_eq!(bucket.take(FLOW, 1.0, Duration::ZERO), Ok(()));
        }
        assert_eq!(bucket.take(FLOW, 1.0, Duration::ZERO), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(FLOW, 1.0, Duration::from_millis(100)), Ok(()));
        // What is larger than the bucket waits until it is full, and those after it until the debt is paid.
        assert_eq!(bucket.take(FLOW, 50.0, Duration::from_millis(100)), Err(Duration::from_secs(2)));
        assert_eq!(bucket.take(FLOW, 50.0, Duration::from_millis(2100)), Ok(()));
        assert_eq!(bucket.take(FLOW, 1.0, Duration::from_millis(2100)), Err(Duration::from_millis(3100)));
        // A time before the last one gives nothing.
        assert_eq!(bucket.take(FLOW, 1.0, Duration::ZERO), Err(Duration::from_millis(3100)));
    }

    proptest! {
        #[test]
        fn no_more_passes_than_the_flow_says(steps in proptest::collection::vec((0u64..300, 1u32..40), 1..200)) {
            let (mut bucket, mut now, mut passed, mut last) = (Bucket::full(FLOW, Duration::ZERO), 0, 0.0, 0.0);
            for (pause, amount) in steps {
                now += pause;
                if bucket.take(FLOW, f64::from(amount), Duration::from_millis(now)).is_ok() {
                    (passed, last) = (passed + f64::from(amount), f64::from(amount));
                }
            }
            // The last one may have left a debt.
            prop_assert!(passed - last <= FLOW.at_once + FLOW.per_second * now as f64 / 1000.0 + 0.001);
        }
    }
}
