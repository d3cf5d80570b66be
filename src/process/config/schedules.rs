//! Reads the schedules.

use std::cell::RefCell;
use std::str::FromStr;

use ::config::{Value, ValueKind};
use chrono_tz::Tz;
use croner::Cron;

use super::kinds::{Choice, Given, Payload, Text, Texts, TypeName};
use super::layers;
use super::problem::Problem;
use super::reader::{Findings, Table};
use super::schedule::{Missed, Schedule};
use super::settings::TypePolicy;
use super::yaml::DEFAULT_ORIGIN;
use crate::domain::{EndpointName, json, likeness};

pub(super) fn read(
    findings: &RefCell<Findings>,
    given: Option<Value>,
    types: &[TypePolicy],
) -> Vec<Schedule> {
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
        let Some(schedule) =
            schedule(Table::new(findings, format!("schedules[{index}]"), item, Value::default()), types)
        else {
            continue;
        };
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
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    });
    let name = table.required("name", &name);
    let task_type = table.required("type", &TypeName);
    let cron = Text("a cron pattern such as `30 3 * * 1-5`", |text| Cron::from_str(text).is_ok());
    let cron = table.required("cron", &cron).and_then(|text| Cron::from_str(&text).ok());
    let zone = Text("a time zone such as `Europe/Berlin`", |text| text.parse::<Tz>().is_ok());
    let time_zone =
        table.or("time_zone", &zone, ("UTC".to_owned(), DEFAULT_ORIGIN)).parse().unwrap_or(Tz::UTC);
    let missed = table.or("missed", &Choice(Missed::WORDS), (Missed::Once, DEFAULT_ORIGIN));
    let payload = table.optional("payload", &Payload);
    let names = table
        .optional("endpoints", &Texts("names of endpoints", |text| text.parse::<EndpointName>().is_ok()));
    let endpoints: Vec<EndpointName> =
        names.unwrap_or_default().iter().filter_map(|text| text.parse().ok()).collect();
    if let Some(task_type) = &task_type {
        match types.iter().find(|policy| policy.name == *task_type) {
            None => {
                let known = types.iter().map(|policy| policy.name.as_str());
                table.problem(
                    "type",
                    likeness::unknown("task type", task_type.as_str(), "configured", known).text,
                    None,
                );
            }
            Some(policy) if policy.queue.is_some() && !endpoints.is_empty() => {
                table.problem(
                    "endpoints",
                    "is not for a type with a work queue: the worker that has room performs it",
                    None,
                );
            }
            Some(_) => {}
        }
    }
    table.finish_needed();
    let payload = payload.unwrap_or_else(|| json(&""));
    Some(Schedule { name: name?, task_type: task_type?, cron: cron?, time_zone, missed, payload, endpoints })
}
