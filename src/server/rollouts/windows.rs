//! Maintenance windows: targets are started only inside.

use std::time::Duration;

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
        let (Ok(cron), Ok(zone)) = (pattern(window), window.time_zone.parse::<Tz>()) else { continue };
        let next = |after| next_time(&cron, zone, after);
        closes = closes.max(last_up_to(now, now.before(lasts), next).map(|begins| begins.after(lasts)));
        if let Some(begins) = next(now) {
            opens = Some(opens.map_or(begins, |opens| opens.min(begins)));
        }
    }
    Windows { open: closes.is_some(), changes_at: closes.or(opens) }
}

/// Two beginnings of a window are so far apart at least: its pattern has no seconds.
const MINUTE: Duration = Duration::from_secs(60);

/// The last of the times up to `now` that come after `after`; `next` answers the first after a time. By halving:
/// a window may last for days and begin each minute, and this is asked in each pass.
fn last_up_to(
    now: Timestamp,
    after: Timestamp,
    next: impl Fn(Timestamp) -> Option<Timestamp>,
) -> Option<Timestamp> {
    let up_to_now = |after| next(after).filter(|time| *time <= now);
    let mut last = up_to_now(after)?;
    let mut none_after = now;
    while none_after.since(last) >= MINUTE {
        let middle = last.after(none_after.since(last) / 2);
        match up_to_now(middle) {
            Some(later) => last = later,
            None => none_after = middle,
        }
    }
    Some(last)
}

/// When one of these windows opens next; none without windows, or while one is open.
pub fn next_opening(windows: &[MaintenanceWindow], now: Timestamp) -> Option<Timestamp> {
    let state = at(windows, now);
    state.changes_at.filter(|_| !state.open)
}

#[cfg(test)]
mod tests {
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
    fn a_window_may_begin_each_minute() {
        let always = [window("* * * * *", 168)];
        let changes_at = Some(time("2026-12-04T21:44:00Z"));
        assert_eq!(at(&always, time("2026-11-27T22:14:59Z")), Windows { open: true, changes_at });
        let till_noon = [window("* 0-11 * * *", 24)];
        for (now, open, changes_at) in [
            ("2026-11-27T23:00:00Z", true, "2026-11-28T22:30:00Z"),
            ("2026-11-28T10:59:59Z", true, "2026-11-29T10:29:00Z"),
            ("2026-11-28T20:00:00Z", true, "2026-11-29T10:29:00Z"),
        ] {
            assert_eq!(
                at(&till_noon, time(now)),
                Windows { open, changes_at: Some(time(changes_at)) },
                "{now}"
            );
        }
    }

    #[test]
    fn of_several_windows_one_is_enough() {
        let two = [window("0 22 * * *", 2), window("0 23 * * *", 3)];
        let state = at(&two, time("2026-11-27T22:15:00Z"));
        assert_eq!(state, Windows { open: true, changes_at: Some(time("2026-11-28T00:30:00Z")) });
        assert_eq!(next_opening(&two, time("2026-11-27T12:00:00Z")), Some(time("2026-11-27T21:00:00Z")));
    }
}
