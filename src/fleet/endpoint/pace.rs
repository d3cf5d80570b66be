//! What the welcomes have shown of the clock of this server.
//!
//! Signatures and orders end at a time of day, so they are judged by this clock only while the ledger has
//! confirmed it. A clock that was confirmed is watched from then on: it goes on with the time that passes, or
//! somebody has set it.

use std::time::{Duration, Instant};

use crate::domain::{SealHead, Timestamp};

/// The clock of a server.
#[derive(Debug, Default)]
pub(super) enum Pace {
    /// No signed welcome has come yet: nobody knows whether it is right.
    #[default]
    Unknown,
    /// A welcome has confirmed it.
    Right(Confirmed),
    /// It was set since the last welcome: another welcome has to tell whether it is right now.
    Set,
    /// The last welcome has shown that it is wrong, in this way.
    Off(String),
}

/// A clock as it was when a welcome confirmed it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Confirmed {
    at: Instant,
    /// The time of this clock.
    local: Timestamp,
    /// The time of the ledger's clock, or a little less: the welcome was under way.
    ledger: Timestamp,
}

impl Pace {
    /// What a welcome shows that has arrived at this time.
    pub(super) fn shown(head: &SealHead, at: Instant, local: Timestamp, tolerance: Duration) -> Self {
        match off(head, local, tolerance) {
            Some(text) => Self::Off(text),
            None => Self::Right(Confirmed { at, local, ledger: head.issued_at }),
        }
    }

    /// Looks whether a clock that was right has been set since, beyond what is tolerated. Returns whether that
    /// is so and was not noticed before.
    pub(super) fn look(&mut self, at: Instant, local: Timestamp, tolerance: Duration) -> bool {
        let Self::Right(confirmed) = self else { return false };
        let expected = confirmed.local.after(at.saturating_duration_since(confirmed.at));
        let was_set = local.since(expected).max(expected.since(local)) > tolerance;
        if was_set {
            *self = Self::Set;
        }
        was_set
    }

    /// Whether orders may be judged by this clock. Before the first welcome they may, although nobody has
    /// confirmed it: a task that waits here must not depend on an API that is away.
    pub(super) const fn can_be_asked(&self) -> bool {
        match self {
            Self::Unknown | Self::Right(_) => true,
            Self::Set | Self::Off(_) => false,
        }
    }

    /// Whether the ledger has confirmed it.
    pub(super) const fn is_right(&self) -> bool {
        matches!(self, Self::Right(_))
    }

    /// The time of the ledger's clock, or less; none while this clock is not known to be right.
    pub(super) fn ledger(&self, at: Instant) -> Option<Timestamp> {
        let Self::Right(confirmed) = self else { return None };
        Some(confirmed.ledger.after(at.saturating_duration_since(confirmed.at)))
    }

    /// How it is wrong, for people.
    pub(super) fn trouble(&self) -> Option<&str> {
        match self {
            Self::Off(text) => Some(text),
            Self::Unknown | Self::Right(_) | Self::Set => None,
        }
    }
}

/// How a clock is wrong that shows this time when a welcome arrives. A welcome that has lain in the queue
/// shows nothing: it was issued after the word that it answers was sent, and before it arrived, if all
/// clocks are right.
fn off(head: &SealHead, now: Timestamp, tolerance: Duration) -> Option<String> {
    let sent = head.answers.unwrap_or(now);
    let (by, direction) = if head.issued_at > now.after(tolerance) {
        (head.issued_at.since(now), "behind")
    } else if sent > head.issued_at.after(tolerance) {
        (sent.since(head.issued_at), "ahead of")
    } else {
        return None;
    };
    Some(format!(
        "the clock of this server is {} s {direction} that of the API: set it, with NTP for instance; no tasks are taken until then",
        by.as_secs()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{KeyId, Recipients};

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_micros(secs * 1_000_000)
    }

    fn head(answers: Option<i64>, issued_at: i64) -> SealHead {
        SealHead {
            by: KeyId::of(b"key"),
            issued_at: at(issued_at),
            not_after: at(issued_at + 900),
            to: Recipients::All,
            answers: answers.map(at),
        }
    }

    #[test]
    fn a_welcome_shows_how_the_clock_is_wrong() {
        // Said to have joined; welcomed, by the ledger's clock; arrived.
        for (answers, issued_at, now, word) in [
            (Some(1000), 1000, 1000, None),
            (Some(1060), 1000, 1060, None),
            (Some(1061), 1000, 1061, Some("61 s ahead of")),
            (Some(1600), 1000, 1600, Some("600 s ahead of")),
            (Some(940), 1000, 940, None),
            (Some(939), 1000, 939, Some("61 s behind")),
            // It has lain in the queue.
            (Some(1000), 1001, 5000, None),
            (None, 1000, 1060, None),
            (None, 1000, 1061, Some("61 s ahead of")),
            (None, 1000, 939, Some("61 s behind")),
        ] {
            let shown = Pace::shown(&head(answers, issued_at), Instant::now(), at(now), MINUTE);
            let fits = match (word, shown.trouble()) {
                (Some(word), Some(told)) => told.contains(word),
                (word, told) => word.is_none() && told.is_none(),
            };
            assert!(fits, "{answers:?} {issued_at} {now}: {shown:?}");
        }
    }

    #[test]
    fn a_clock_that_was_right_is_watched() {
        let then = Instant::now();
        // So much later the clock shows this.
        for (later, local, was_set) in [
            (0, 1000, false),
            (500, 1500, false),
            (500, 1560, false),
            (500, 1561, true),
            (500, 1440, false),
            (500, 1439, true),
            (0, 400, true),
        ] {
            let mut pace = Pace::shown(&head(Some(1000), 990), then, at(1000), MINUTE);
            let now = then + Duration::from_secs(later);
            assert_eq!(pace.look(now, at(local), MINUTE), was_set, "{later} {local}");
            assert!(!pace.look(now, at(local), MINUTE), "{later} {local}: it is noticed once");
            assert_eq!((pace.can_be_asked(), pace.is_right()), (!was_set, !was_set), "{later} {local}");
            // By the ledger's clock, which has gone on since it sent the welcome.
            let ledger = (!was_set).then(|| at(990).after(now - then));
            assert_eq!(pace.ledger(now), ledger, "{later} {local}");
        }
        let mut never = Pace::default();
        assert!(!never.look(then, at(1), MINUTE) && never.can_be_asked() && never.ledger(then).is_none());
        let off = Pace::shown(&head(None, 5000), then, at(1000), MINUTE);
        assert!(!off.can_be_asked() && !off.is_right() && off.ledger(then).is_none());
    }
}
