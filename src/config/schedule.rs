//! Tasks that are submitted at times.

use std::cell::RefCell;
use std::str::FromStr;

use ::config::{Value, ValueKind};
use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;
use croner::Cron;

use super::TypePolicy;
use super::decode::TypeName;
use super::kinds::{Choice, Given, Text, Texts};
use super::layers::{self, DEFAULT_ORIGIN};
use super::problem::Problem;
use super::reader::{Findings, Table};
use crate::domain::likeness;
use crate::domain::{EndpointName, Json, TaskType, Timestamp, json};

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
    const WORDS: &[(&str, Self)] = &[("skip", Self::Skip), ("once", Self::Once), ("all", Self::All)];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, missed)| *missed == self).map_or("", |(word, _)| word)
    }
}

impl Schedule {
    /// The first time after another; none where there is none within the reach of the pattern.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = DateTime::<Utc>::from(after).with_timezone(&self.time_zone);
        let next = self.cron.find_next_occurrence(&after, false).ok()?;
        Some(next.with_timezone(&Utc).into())
    }

    /// A time by the clocks of its time zone, with their distance from UTC.
    pub fn local(&self, time: Timestamp) -> String {
        DateTime::<Utc>::from(time).with_timezone(&self.time_zone).to_rfc3339_opts(SecondsFormat::Secs, false)
    }
}

/// Reads the schedules.
pub(super) fn schedules(findings: &RefCell<Findings>, given: Option<Value>, types: &[TypePolicy]) -> Vec<Schedule> {
    let problem = |message: String, source: Option<String>| {
        findings.borrow_mut().problems.push(Problem::new("schedules", message, source));
    };
    let Some(given) = given else { return Vec::new() };
    let place = layers::place(&given);
    let ValueKind::Array(items) = given.kind else {
        problem(format!("expected a list of schedules, got {}", Given::new(&given).describe(false)), place);
        return Vec::new();
    };
    let mut schedules: Vec<Schedule> = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let place = layers::place(&item);
        let Some(schedule) = schedule(Table::new(findings, format!("schedules[{index}]"), item, Value::default()), types) else { continue };
        if schedules.iter().any(|other| other.name == schedule.name) {
            problem(format!("`{}` is there twice", schedule.name), place);
        } else {
            schedules.push(schedule);
        }
    }
    schedules
}

fn schedule(mut table: Table<'_>, types: &[TypePolicy]) -> Option<Schedule> {
    let name = Text("a name of 1 to 64 letters, digits, `.`, `_` or `-`", |text| {
        (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    });
    let name = table.required("name", &name);
    let task_type = table.required("type", &TypeName);
    let cron = Text("a cron pattern such as `30 3 * * 1-5`", |text| Cron::from_str(text).is_ok());
    let cron = table.required("cron", &cron).and_then(|text| Cron::from_str(&text).ok());
    let zone = Text("a time zone such as `Europe/Berlin`", |text| text.parse::<Tz>().is_ok());
    let time_zone = table.or("time_zone", &zone, ("UTC".to_owned(), DEFAULT_ORIGIN)).parse().unwrap_or(Tz::UTC);
    let missed = table.or("missed", &Choice(Missed::WORDS), (Missed::Once, DEFAULT_ORIGIN));
    let payload = table.optional("payload", &Text("JSON", |text| serde_json::from_str::<Json>(text).is_ok()));
    let names = table.optional("endpoints", &Texts("names of endpoints", |text| text.parse::<EndpointName>().is_ok()));
    let endpoints: Vec<EndpointName> = names.unwrap_or_default().iter().filter_map(|text| text.parse().ok()).collect();
    if let Some(task_type) = &task_type {
        match types.iter().find(|policy| policy.name == *task_type) {
            None => {
                let known = types.iter().map(|policy| policy.name.as_str());
                table.problem("type", likeness::unknown("task type", task_type.as_str(), "configured", known), None);
            }
            Some(policy) if policy.queue.is_some() && !endpoints.is_empty() => {
                table.problem("endpoints", "is not for a type with a work queue: the worker that has room performs it", None);
            }
            Some(_) => {}
        }
    }
    table.finish_needed();
    let payload = payload.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_else(|| json(&""));
    Some(Schedule { name: name?, task_type: task_type?, cron: cron?, time_zone, missed, payload, endpoints })
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn times(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let text = format!("task_types: [backup]\nschedules: [{{name: s, type: backup, cron: \"{cron}\", time_zone: {zone}}}]");
        let config = Config::from_yaml(&text).expect("valid");
        let after: DateTime<Utc> = after.parse().expect("a time");
        let times = std::iter::successors(config.schedules[0].next(after.into()), |time| config.schedules[0].next(*time));
        times.take(count).map(|time| DateTime::<Utc>::from(time).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)).collect()
    }

    #[test]
    fn times_follow_the_clocks_of_the_zone() {
        assert_eq!(times("30 3 * * *", "UTC", "2026-01-01T03:30:00Z", 2), ["2026-01-02T03:30:00Z", "2026-01-03T03:30:00Z"]);
        // Clocks go forward on March 29, 2026, at 2:00, and back on October 25 at 3:00.
        assert_eq!(times("30 3 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 2), ["2026-03-28T02:30:00Z", "2026-03-29T01:30:00Z"]);
        assert_eq!(times("0 12 * * 1-5", "Europe/Berlin", "2026-10-23T12:00:00Z", 1), ["2026-10-26T11:00:00Z"]);
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
    fn what_is_wrong_is_told_with_its_key() {
        let text = "task_types: [backup, {name: q, delivery: queue}]\nschedules:\n  - {name: a, type: none, cron: \"* * *\", time_zone: Mars, missed: some, payload: \"{\"}\n  - {name: b, type: q, cron: \"* * * * *\", endpoints: [x]}\n  - {name: b, type: q, cron: \"* * * * *\"}";
        let error = Config::from_yaml(text).expect_err("invalid").to_string();
        for key in ["[0].cron", "[0].time_zone", "[0].missed", "[0].payload", "[0].type", "[1].endpoints"] {
            assert!(error.contains(&format!("schedules{key}")), "{key} is not in {error}");
        }
    }
}
