//! What became of the tasks of a span of time, as numbers.

use std::ops::AddAssign;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Counts, TaskStatus, Timestamp};

/// How many tasks came, and what became of those that ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Throughput {
    /// Tasks that were accepted.
    pub accepted: u64,
    /// Tasks that ended as `DONE` without an error.
    pub done: u64,
    /// Tasks that ended as `DONE`, with an error of at least one endpoint.
    pub failed: u64,
    /// Tasks that were canceled.
    pub canceled: u64,
    /// Tasks that were given up when their time was over.
    pub expired: u64,
    /// Answers that the tasks which ended had by then.
    pub answers: u64,
    /// Of these, answers with an error.
    pub errors: u64,
}

impl Throughput {
    /// A task that was accepted.
    pub const ACCEPTED: Self =
        Self { accepted: 1, done: 0, failed: 0, canceled: 0, expired: 0, answers: 0, errors: 0 };

    /// A task that has come to this status; none while it goes on.
    pub fn of_end(status: TaskStatus, counts: &Counts) -> Option<Self> {
        let ended =
            Self { answers: u64::from(counts.finished), errors: u64::from(counts.failed), ..Self::default() };
        Some(match status {
            TaskStatus::Created | TaskStatus::Sent | TaskStatus::Incomplete => return None,
            TaskStatus::Done if counts.failed == 0 => Self { done: 1, ..ended },
            TaskStatus::Done => Self { failed: 1, ..ended },
            TaskStatus::Canceled => Self { canceled: 1, ..ended },
            TaskStatus::Expired => Self { expired: 1, ..ended },
        })
    }
}

impl AddAssign for Throughput {
    fn add_assign(&mut self, other: Self) {
        let Self { accepted, done, failed, canceled, expired, answers, errors } = other;
        self.accepted += accepted;
        self.done += done;
        self.failed += failed;
        self.canceled += canceled;
        self.expired += expired;
        self.answers += answers;
        self.errors += errors;
    }
}

/// The length of the spans that throughput is kept for.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Grain {
    /// A minute, kept for seven days.
    #[default]
    Minute,
    /// An hour, kept for 400 days.
    Hour,
}

impl Grain {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Minute, Self::Hour];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }

    /// The number kept in the store.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// How long it is.
    pub const fn length(self) -> Duration {
        match self {
            Self::Minute => Duration::from_secs(60),
            Self::Hour => Duration::from_secs(3600),
        }
    }

    /// How long throughput is kept in spans of this length.
    pub const fn kept_for(self) -> Duration {
        const DAY: u64 = 24 * 3600;
        match self {
            Self::Minute => Duration::from_secs(7 * DAY),
            Self::Hour => Duration::from_secs(400 * DAY),
        }
    }

    /// When the span began that a time is in: spans begin with the minutes and hours of UTC.
    pub fn beginning(self, time: Timestamp) -> Timestamp {
        let (micros, length) =
            (time.as_micros(), i64::try_from(self.length().as_micros()).unwrap_or(i64::MAX));
        Timestamp::from_micros(micros - micros.rem_euclid(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_is_counted_once() {
        let counts = Counts { expected: 4, received: 4, finished: 3, failed: 0, canceled: 0, expired: 1 };
        let with_errors = Counts { failed: 2, ..counts };
        let ended = Throughput { answers: 3, ..Throughput::default() };
        for (status, counts, expected) in [
            (TaskStatus::Created, counts, None),
            (TaskStatus::Sent, counts, None),
            (TaskStatus::Incomplete, counts, None),
            (TaskStatus::Done, counts, Some(Throughput { done: 1, ..ended })),
            (TaskStatus::Done, with_errors, Some(Throughput { failed: 1, errors: 2, ..ended })),
            (TaskStatus::Canceled, with_errors, Some(Throughput { canceled: 1, errors: 2, ..ended })),
            (TaskStatus::Expired, counts, Some(Throughput { expired: 1, ..ended })),
        ] {
            assert_eq!(Throughput::of_end(status, &counts), expected, "{status:?}");
        }
    }

    #[test]
    fn spans_begin_with_minutes_and_hours() {
        let at = |text: &str| Timestamp::from(text.parse::<chrono::DateTime<chrono::Utc>>().expect("a time"));
        for (step, time, beginning) in [
            (Grain::Minute, "2026-03-01T12:34:56.789Z", "2026-03-01T12:34:00Z"),
            (Grain::Minute, "2026-03-01T12:34:00Z", "2026-03-01T12:34:00Z"),
            (Grain::Hour, "2026-03-01T12:34:56.789Z", "2026-03-01T12:00:00Z"),
            (Grain::Hour, "1969-12-31T23:59:59Z", "1969-12-31T23:00:00Z"),
        ] {
            assert_eq!(step.beginning(at(time)), at(beginning), "{step:?} {time}");
        }
    }
}
