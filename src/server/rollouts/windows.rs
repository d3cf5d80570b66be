//! Maintenance windows: targets are started only inside.

use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds};

use crate::config::next_time;
use crate::domain::Timestamp;
use crate::domain::rollout::{MaintenanceWindow, Windows};

/// Whether a window can be understood, and opens at all.
///
/// # Errors
/// The member that is wrong, and what is wrong with it.
pub fn check(window: &MaintenanceWindow) -> Result<(), (&'static str, String)> {
    let cron = pattern(window).map_err(|error| ("cron", format!("is \"{}\": {error}", window.cron)))?;
    let zone: Tz = window.time_zone.parse().map_err(|_| {
        let text = format!("is \"{}\"; expected a time zone such as UTC or Europe/Berlin", window.time_zone);
        ("time_zone", text)
    })?;
    match next_time(&cron, zone, Timestamp::from_micros(0)) {
        Some(_) => Ok(()),
        None => Err(("cron", format!("is \"{}\", which never comes: the window never opens", window.cron))),
    }
}

fn pattern(window: &MaintenanceWindow) -> Result<Cron, croner::errors::CronError> {
    CronParser::builder().seconds(Seconds::Disallowed).build().parse(&window.cron)
}

/// Whether one of these windows is open, and when that changes next. Without windows it always is.
pub(super) fn at(windows: &[MaintenanceWindow], now: Timestamp) -> Windows {
    if windows.is_empty() {
        return Windows::ALWAYS;
    }
    let (mut closes, mut opens): (Option<Timestamp>, Option<Timestamp>) = (None, None);
    for window in windows {
        let lasts = window.lasts.saturating_sub(window.stop_before_end);
        // The first beginning that is not so long ago that the window is over.
        let (Ok(cron), Ok(zone)) = (pattern(window), window.time_zone.parse::<Tz>()) else { continue };
        let Some(mut begins) = next_time(&cron, zone, now.before(lasts)) else { continue };
        while begins <= now {
            closes = closes.max(Some(begins.after(lasts)));
            match next_time(&cron, zone, begins) {
                Some(later) => begins = later,
                None => break,
            }
        }
        if begins > now {
            opens = Some(opens.map_or(begins, |opens| opens.min(begins)));
        }
    }
    Windows { open: closes.is_some(), changes_at: closes.or(opens) }
}

/// When one of these windows opens next; none without windows, or while one is open.
pub fn next_opening(windows: &[MaintenanceWindow], now: Timestamp) -> Option<Timestamp> {
    let state = at(windows, now);
    state.changes_at.filter(|_| !state.open)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{DateTime, Utc};

    use super::*;

    fn window(cron: &str, hours: u64) -> MaintenanceWindow {
        let (lasts, stop_before_end) = (Duration::from_secs(hours * 3_600), Duration::from_secs(1_800));
        MaintenanceWindow {
            cron: cron.to_owned(),
            lasts,
            time_zone: "Europe/Berlin".to_owned(),
            stop_before_end,
        }
    }

    fn time(text: &str) -> Timestamp {
        text.parse::<DateTime<Utc>>().expect("a time").into()
    }

    #[test]
    fn a_window_opens_and_closes_by_the_clocks_of_its_zone() {
        let nightly = [window("0 22 * * *", 4)];
        for (now, open, changes_at) in [
            ("2026-11-27T20:59:59Z", false, "2026-11-27T21:00:00Z"),
            ("2026-11-27T21:00:00Z", true, "2026-11-28T00:30:00Z"),
            ("2026-11-28T00:29:59Z", true, "2026-11-28T00:30:00Z"),
            ("2026-11-28T00:30:00Z", false, "2026-11-28T21:00:00Z"),
            ("2026-07-01T20:30:00Z", true, "2026-07-01T23:30:00Z"),
        ] {
            assert_eq!(
                at(&nightly, time(now)),
                Windows { open, changes_at: Some(time(changes_at)) },
                "{now}"
            );
        }
        assert_eq!(at(&[], time("2026-11-27T20:59:59Z")), Windows::ALWAYS);
    }

    #[test]
    fn of_several_windows_one_is_enough() {
        let two = [window("0 22 * * *", 2), window("0 23 * * *", 3)];
        let state = at(&two, time("2026-11-27T22:15:00Z"));
        assert_eq!(state, Windows { open: true, changes_at: Some(time("2026-11-28T00:30:00Z")) });
        assert_eq!(next_opening(&two, time("2026-11-27T12:00:00Z")), Some(time("2026-11-27T21:00:00Z")));
    }
}
