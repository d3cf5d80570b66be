//! When a worker sleeps.

use serde::{Deserialize, Serialize};

use super::Request;

/// A time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DayTime(u16);

impl DayTime {
    /// Reads `HH:MM`.
    pub fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.split_once(':')?;
        let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
        (hours < 24 && minutes < 60).then_some(Self(hours * 60 + minutes))
    }
}

impl std::fmt::Display for DayTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl Serialize for DayTime {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DayTime {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("expected a time such as 22:30, got {text:?}")))
    }
}

/// When a worker sleeps: from start to end, on some days of the week.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SleepSchedule {
    /// Whether it is followed.
    #[serde(default, rename = "schedule_active")]
    pub active: bool,
    /// Days on which it is, by their first two letters; all when there is none.
    #[serde(default, rename = "days_of_week", skip_serializing_if = "String::is_empty")]
    pub days: String,
    /// From when; the begin of the day when absent.
    #[serde(
        default,
        rename = "time_start",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "optional_time"
    )]
    pub start: Option<DayTime>,
    /// Until when; the end of the day when absent.
    #[serde(
        default,
        rename = "time_end",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "optional_time"
    )]
    pub end: Option<DayTime>,
}

fn optional_time<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<DayTime>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)?.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let wrong = || serde::de::Error::custom(format!("expected a time such as 22:30, got {text:?}"));
    DayTime::parse(&text).map(Some).ok_or_else(wrong)
}

impl SleepSchedule {
    /// The same with its days as they are compared: two letters, in lower case.
    #[must_use]
    pub fn tidied(mut self) -> Self {
        let days =
            self.days.split_whitespace().map(|day| day.to_lowercase().chars().take(2).collect::<String>());
        self.days = days.collect::<Vec<_>>().join(" ");
        self
    }

    /// What a worker is to be at this minute of a day, if the schedule says anything about that day.
    pub fn wanted(&self, weekday: &str, minute: u16) -> Option<Request> {
        if !self.active || !(self.days.is_empty() || self.days.split(' ').any(|day| day == weekday)) {
            return None;
        }
        let now = DayTime(minute);
        let started = self.start.is_none_or(|start| start <= now);
        let ended = self.end.is_some_and(|end| end <= now);
        // A night that goes on after midnight.
        let over_midnight = self.start.zip(self.end).is_some_and(|(start, end)| start > end);
        let inside = if over_midnight { started || !ended } else { started && !ended };
        Some(if inside { Request::Asleep } else { Request::Awake })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_from_start_to_end_on_its_days() {
        let schedule = |days: &str, start: &str, end: &str| SleepSchedule {
            active: true,
            days: days.into(),
            start: DayTime::parse(start),
            end: DayTime::parse(end),
        };
        let (asleep, awake) = (Some(Request::Asleep), Some(Request::Awake));
        for (schedule, day, time, expected) in [
            (schedule("", "09:00", "17:00"), "mo", "08:59", awake),
            (schedule("", "09:00", "17:00"), "mo", "09:00", asleep),
            (schedule("", "09:00", "17:00"), "mo", "17:00", awake),
            (schedule("mo tu", "09:00", "17:00"), "tu", "12:00", asleep),
            (schedule("mo tu", "09:00", "17:00"), "we", "12:00", None),
            (schedule("", "", "06:00"), "su", "00:00", asleep),
            (schedule("", "22:00", ""), "su", "23:59", asleep),
            (schedule("", "22:00", ""), "su", "21:59", awake),
            (schedule("", "22:00", "06:00"), "su", "23:00", asleep),
            (schedule("", "22:00", "06:00"), "su", "05:59", asleep),
            (schedule("", "22:00", "06:00"), "su", "06:00", awake),
            (SleepSchedule::default(), "su", "06:00", None),
        ] {
            let minute = DayTime::parse(time).expect("a time").0;
            assert_eq!(schedule.wanted(day, minute), expected, "{schedule:?} {day} {time}");
        }
        let tidied = SleepSchedule { days: " Monday  TUE".into(), ..Default::default() }.tidied();
        assert_eq!(tidied.days, "mo tu");
        for wrong in ["24:00", "7", "07:60", "x:y", ""] {
            assert_eq!(DayTime::parse(wrong), None);
        }
    }
}
