//! The time of day at this place, for sleep schedules.

use std::path::Path;

use chrono::{DateTime, Datelike, Timelike, Utc};
use chrono_tz::Tz;

use crate::domain::Timestamp;

/// The time zone of this machine; UTC when it says none.
pub(super) fn zone() -> Tz {
    let named = |name: &str| name.trim().trim_start_matches(':').parse::<Tz>().ok();
    let variable = std::env::var("TZ").ok().as_deref().and_then(named);
    let file = || std::fs::read_to_string("/etc/timezone").ok().as_deref().and_then(named);
    let link = || {
        let target = std::fs::read_link("/etc/localtime").ok()?;
        named(target.strip_prefix(zoneinfo(&target)?).ok()?.to_str()?)
    };
    variable.or_else(file).or_else(link).unwrap_or(Tz::UTC)
}

/// The directory of time zones that a path leads into.
fn zoneinfo(path: &Path) -> Option<&Path> {
    path.ancestors().find(|directory| directory.ends_with("zoneinfo"))
}

/// The day of the week, as schedules name it, and the minute of the day.
pub(super) fn day_and_minute(now: Timestamp, zone: Tz) -> (&'static str, u16) {
    let local = DateTime::<Utc>::from(now).with_timezone(&zone);
    let day = ["mo", "tu", "we", "th", "fr", "sa", "su"][local.weekday().num_days_from_monday() as usize];
    (day, u16::try_from(local.hour() * 60 + local.minute()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_day_and_minute_of_the_place() {
        // The first Thursday of 1970, half an hour before midnight in UTC.
        let now = Timestamp::from_micros((23 * 60 + 30) * 60_000_000);
        assert_eq!(day_and_minute(now, Tz::UTC), ("th", 23 * 60 + 30));
        assert_eq!(day_and_minute(now, Tz::Europe__Berlin), ("fr", 30));
        assert_eq!(
            zoneinfo(Path::new("/usr/share/zoneinfo/Europe/Berlin")),
            Some(Path::new("/usr/share/zoneinfo"))
        );
    }
}
