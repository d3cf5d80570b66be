//! Tasks that are submitted at times.

use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;
use croner::Cron;

use crate::domain::{EndpointName, Json, TaskType, Timestamp};

/// A task that is submitted at times.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// What its tasks are called: the name and the time.
    pub name: String,
    /// Of which type they are.
    pub task_type: TaskType,
    /// When.
    pub cron: Cron,
    /// By the clocks of where.
    pub time_zone: Tz,
    /// What to do about times that passed while no process was there.
    pub missed: Missed,
    /// The payload of each.
    pub payload: Json,
    /// Who is to perform them; empty means whoever is subscribed.
    pub endpoints: Vec<EndpointName>,
}

/// What to do about times that passed while no process was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// Nothing.
    Skip,
    /// One task, for the last of them.
    Once,
    /// A task for each.
    All,
}

impl Missed {
    /// All of them, with the words for them.
    pub(super) const WORDS: &[(&str, Self)] =
        &[("skip", Self::Skip), ("once", Self::Once), ("all", Self::All)];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, missed)| *missed == self).map_or("", |(word, _)| word)
    }
}

impl Schedule {
    /// The first time after another; none where there is none within the reach of the pattern.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        next_time(&self.cron, self.time_zone, after)
    }

    /// A time by the clocks of its time zone, with their distance from UTC.
    pub fn local(&self, time: Timestamp) -> String {
        DateTime::<Utc>::from(time).with_timezone(&self.time_zone).to_rfc3339_opts(SecondsFormat::Secs, false)
    }
}

/// The first time of a pattern after another, by the clocks of a time zone.
pub fn next_time(cron: &Cron, time_zone: Tz, after: Timestamp) -> Option<Timestamp> {
    let after = DateTime::<Utc>::from(after).with_timezone(&time_zone);
    let next = cron.find_next_occurrence(&after, false).ok()?;
    Some(next.with_timezone(&Utc).into())
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn times(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let text = format!(
            "task_types: [backup]\nschedules: [{{name: s, type: backup, cron: \"{cron}\", time_zone: {zone}}}]"
        );
        let config = Config::from_yaml(&text).expect("valid");
        let after: DateTime<Utc> = after.parse().expect("a time");
        let times = std::iter::successors(config.schedules[0].next(after.into()), |time| {
            config.schedules[0].next(*time)
        });
        times
            .take(count)
            .map(|time| DateTime::<Utc>::from(time).to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
            .collect()
    }

    #[test]
    fn times_follow_the_clocks_of_the_zone() {
        assert_eq!(
            times("30 3 * * *", "UTC", "2026-01-01T03:30:00Z", 2),
            ["2026-01-02T03:30:00Z", "2026-01-03T03:30:00Z"]
        );
        // Clocks go forward on March 29, 2026, at 2:00, and back on October 25 at 3:00.
        assert_eq!(
            times("30 3 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 2),
            ["2026-03-28T02:30:00Z", "2026-03-29T01:30:00Z"]
        );
        assert_eq!(
            times("0 12 * * 1-5", "Europe/Berlin", "2026-10-23T12:00:00Z", 1),
            ["2026-10-26T11:00:00Z"]
        );
    }

    #[test]
    fn either_kind_of_day_counts_unless_both_are_asked_for() {
        let days = |cron: &str| -> Vec<String> {
            times(cron, "UTC", "2026-02-09T00:00:00Z", 4).iter().map(|time| time[5..10].to_owned()).collect()
        };
        assert_eq!(days("0 0 13 * 5"), ["02-13", "02-20", "02-27", "03-06"]);
        assert_eq!(days("0 0 14 * 5"), ["02-13", "02-14", "02-20", "02-27"]);
        assert_eq!(days("0 0 */2 * MON"), ["02-11", "02-13", "02-15", "02-16"]);
        assert_eq!(days("0 0 13 * +5"), ["02-13", "03-13", "11-13", "08-13"]);
        assert_eq!(days("0 0 13 * *"), ["02-13", "03-13", "04-13", "05-13"]);
    }

    #[test]
    fn an_hour_that_is_there_twice_has_one_task_a_time() {
        let times = times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(times.len(), 2);
        assert!(times[0].starts_with("2026-10-25") && times[1] == "2026-10-26T01:30:00Z", "{times:?}");
    }

    #[test]
    fn payloads_are_json_or_yaml() {
        for (payload, json) in [
            (r#"'{"full": true}'"#, r#"{"full": true}"#),
            (
                "{Full: true, parts: [1, 2.5, null, '3'], none: {}}",
                r#"{"Full":true,"none":{},"parts":[1,2.5,null,"3"]}"#,
            ),
            ("[a, -1]", r#"["a",-1]"#),
            (
                "{version: 6.10, big: 12345678901234567890123, a: [1.0, '0755', -0], none: null}",
                r#"{"a":[1.0,"0755",-0],"big":12345678901234567890123,"none":null,"version":6.10}"#,
            ),
            ("6.10", "6.10"),
            ("7", "7"),
            ("false", "false"),
            ("'7'", "7"),
        ] {
            let text = format!(
                "task_types: [backup]\nschedules: [{{name: a, type: backup, cron: '0 0 * * *', payload: {payload}}}]"
            );
            let config = Config::from_yaml(&text).unwrap_or_else(|error| panic!("{payload}: {error}"));
            assert_eq!(config.schedules[0].payload.get(), json, "{payload}");
        }
        let text =
            "task_types: [backup]\nschedules: [{name: a, type: backup, cron: '0 0 * * *', payload: full}]";
        let error = Config::from_yaml(text).expect_err("no JSON").to_string();
        assert!(
            error.contains(
                "expected JSON in a text, such as `'{\"full\": true}'`, or a map or a list, got `full`"
            ),
            "{error}"
        );
    }

    #[test]
    fn a_number_that_json_does_not_have_is_refused_where_it_stands() {
        let text = "task_types: [backup]\nschedules:\n  - name: a\n    type: backup\n    cron: '0 0 * * *'\n    payload:\n      mode: 0755";
        let error = Config::from_yaml(text).expect_err("no JSON").to_string();
        assert!(
            error.contains("`0755` is a number in some versions of YAML") && error.contains("the text:7"),
            "{error}"
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        let text = "task_types: [backup, {name: q, delivery: queue}]\nschedules:\n  - {name: a, type: none, cron: \"* * *\", time_zone: Mars, missed: some, payload: \"{\"}\n  - {name: b, type: q, cron: \"* * * * *\", endpoints: [x]}\n  - {name: b, type: q, cron: \"* * * * *\"}";
        let error = Config::from_yaml(text).expect_err("invalid").to_string();
        for key in ["[0].cron", "[0].time_zone", "[0].missed", "[0].payload", "[0].type", "[1].endpoints"] {
            assert!(error.contains(&format!("schedules{key}")), "{key} is not in {error}");
        }
    }
}
