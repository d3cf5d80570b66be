//! Reads what is said of requests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::str::FromStr;

use ::config::{Value, ValueKind};
use croner::Cron;

use super::kinds::{Choice, Given, Payload, Span, Text, Texts, Truth, TypeName, Whole, YEAR, named};
use super::layers;
use super::problem::Problem;
use super::reader::{Findings, Table};
use super::request::{JobPolicy, Requests, RetryPolicy};
use super::settings::TypePolicy;
use super::yaml::DEFAULT_ORIGIN;
use crate::backoff::Backoff;
use crate::domain::{EndpointName, RequestFault, Step, When, faults_of_steps, likeness};

pub(super) fn read(findings: &RefCell<Findings>, mut table: Table<'_>, types: &[TypePolicy]) -> Requests {
    let cron = Text("a cron pattern such as `*/5 * * * *`", |text| Cron::from_str(text).is_ok());
    #[expect(clippy::expect_used, reason = "the pattern is a constant")]
    let pattern = |text: String| {
        Cron::from_str(&text).unwrap_or_else(|_| Cron::from_str("* * * * *").expect("a pattern"))
    };
    let enabled = table.value("enabled", &Truth);
    let new_cron = pattern(table.value("new_cron", &cron));
    let job_cron = pattern(table.value("job_cron", &cron));
    let in_progress_cron = pattern(table.value("in_progress_cron", &cron));
    let expires_after = table.value("expires_after", &Span::up_to(YEAR));
    let retention = table.value("retention", &Span::up_to(10 * YEAR));
    let retry = {
        let mut retry = table.table("retry");
        let usual = RetryPolicy {
            tries: retry.value("tries", &TRIES),
            backoff: Backoff {
                first: retry.value("first", &Span::up_to(YEAR)),
                max: retry.value("max", &Span::up_to(YEAR)),
            },
        };
        retry.finish_needed();
        usual
    };
    let actions = table.take("actions");
    let jobs = table.take("jobs");
    let known = names_of_jobs(jobs.as_ref(), types);
    let requests = Requests {
        enabled,
        new_cron,
        job_cron,
        in_progress_cron,
        expires_after,
        retention,
        retry,
        actions: actions.map(|given| read_actions(findings, given, &known)).unwrap_or_default(),
        jobs: jobs.map(|given| read_jobs(findings, given, types, retry)).unwrap_or_default(),
    };
    table.finish_needed();
    requests
}

const TRIES: Whole<u32> = Whole(1, 100);

/// The members of a map, each with its path.
fn members(
    findings: &RefCell<Findings>,
    path: &str,
    what: &str,
    given: Value,
) -> Vec<(String, String, Value)> {
    let place = layers::place(&given);
    match given.kind {
        ValueKind::Table(members) => {
            let mut members: Vec<_> =
                members.into_iter().map(|(name, value)| (format!("{path}.{name}"), name, value)).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            members
        }
        _ => {
            let message = format!("expected a map of {what}, got {}", Given::new(&given).describe(false));
            findings.borrow_mut().problems.push(Problem::new(path, message, place));
            Vec::new()
        }
    }
}

/// What a step may name: the jobs, also those that are not well formed, and the task types.
fn names_of_jobs(jobs: Option<&Value>, types: &[TypePolicy]) -> Vec<String> {
    let mut names: Vec<String> = match jobs.map(|jobs| &jobs.kind) {
        Some(ValueKind::Table(jobs)) => jobs.keys().cloned().collect(),
        _ => Vec::new(),
    };
    names.sort();
    names.extend(types.iter().map(|policy| policy.name.to_string()));
    names
}

fn read_actions(findings: &RefCell<Findings>, given: Value, known: &[String]) -> BTreeMap<String, Vec<Step>> {
    let mut actions = BTreeMap::new();
    for (path, action, steps) in members(findings, "requests.actions", "actions with their steps", given) {
        let place = layers::place(&steps);
        let ValueKind::Array(items) = steps.kind else {
            let got = Given::new(&steps).describe(false);
            let message =
                format!("expected a list of steps such as `[{{name: a, jobs: [b, c]}}]`, got {got}");
            findings.borrow_mut().problems.push(Problem::new(&path, message, place));
            continue;
        };
        let count = items.len();
        let steps: Vec<Step> = items
            .into_iter()
            .enumerate()
            .filter_map(|(at, item)| read_step(findings, format!("{path}[{at}]"), item))
            .collect();
        if steps.len() != count {
            continue;
        }
        let unknown = steps.iter().enumerate().flat_map(|(place, step)| {
            let jobs = step.jobs.iter().enumerate().filter(|(_, job)| !known.contains(job));
            jobs.map(move |(at, job)| RequestFault {
                pointer: format!("/steps/{place}/jobs/{at}"),
                message: likeness::unknown("job", job, "configured", known.iter().map(String::as_str)).text,
            })
        });
        for RequestFault { pointer, message } in faults_of_steps(&steps).into_iter().chain(unknown) {
            let pointer = pointer.trim_start_matches("/steps");
            findings.borrow_mut().problems.push(Problem::new(
                format!("{path}{pointer}"),
                message,
                place.clone(),
            ));
        }
        actions.insert(action, steps);
    }
    actions
}

fn read_step(findings: &RefCell<Findings>, path: String, item: Value) -> Option<Step> {
    const WHEN: &[(&str, When)] = &[
        (When::AllOk.as_str(), When::AllOk),
        (When::AllDone.as_str(), When::AllDone),
        (When::AnyFailed.as_str(), When::AnyFailed),
    ];
    let mut table = Table::new(findings, path, item, Value::default());
    let name = table.required("name", &Text("the name of a step", |text| !text.is_empty()));
    let jobs = table.required("jobs", &Texts("names of jobs", |text| !text.is_empty()));
    let when = table.or("when", &Choice(WHEN), (When::AllOk, DEFAULT_ORIGIN));
    table.finish_needed();
    Some(Step { name: name?, jobs: jobs?, when })
}

fn read_jobs(
    findings: &RefCell<Findings>,
    given: Value,
    types: &[TypePolicy],
    usual: RetryPolicy,
) -> BTreeMap<String, JobPolicy> {
    let mut jobs = BTreeMap::new();
    for (path, job, value) in members(findings, "requests.jobs", "jobs with their task types", given) {
        let mut table = Table::new(findings, path, named(value, "type"), Value::default());
        let task_type = table.required("type", &TypeName);
        let payload = table.optional("payload", &Payload);
        let names = table
            .optional("endpoints", &Texts("names of endpoints", |text| text.parse::<EndpointName>().is_ok()));
        let endpoints: Vec<EndpointName> =
            names.unwrap_or_default().iter().filter_map(|text| text.parse().ok()).collect();
        let mut retry = table.table("retry");
        let from = "follows from requests.retry";
        let policy = RetryPolicy {
            tries: retry.or("tries", &TRIES, (usual.tries, from)),
            backoff: Backoff {
                first: retry.or("first", &Span::up_to(YEAR), (usual.backoff.first, from)),
                max: retry.or("max", &Span::up_to(YEAR), (usual.backoff.max, from)),
            },
        };
        retry.finish_needed();
        let finish_within = table.optional("finish_within", &Span::up_to(YEAR));
        match task_type.as_ref().map(|name| (name, types.iter().find(|policy| policy.name == *name))) {
            Some((name, None)) => {
                let known = types.iter().map(|policy| policy.name.as_str());
                table.problem(
                    "type",
                    likeness::unknown("task type", name.as_str(), "configured", known).text,
                    None,
                );
            }
            Some((_, Some(of))) if of.queue.is_some() && !endpoints.is_empty() => {
                table.problem(
                    "endpoints",
                    "is not for a type with a work queue: the worker that has room performs it",
                    None,
                );
            }
            _ => {}
        }
        table.finish_needed();
        if let Some(task_type) = task_type {
            jobs.insert(job, JobPolicy { task_type, payload, endpoints, retry: policy, finish_within });
        }
    }
    jobs
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigError};

    fn read(requests: &str) -> Result<crate::config::Requests, String> {
        let text = format!("task_types: [{{name: a, delivery: queue}}, b]\nrequests: {requests}");
        Config::from_yaml(&text).map(|config| config.requests).map_err(|error| match error {
            ConfigError::Invalid(problems) => problems.iter().map(|problem| format!("{problem}\n")).collect(),
            other => other.to_string(),
        })
    }

    #[test]
    fn everything_has_a_default() {
        let requests = read("{}").expect("valid");
        assert_eq!((requests.enabled, requests.retry.tries), (true, 5));
        assert!(requests.actions.is_empty() && requests.jobs.is_empty());
    }

    #[test]
    fn actions_and_jobs_are_read() {
        let requests = read(
            "{retry: {tries: 3}, actions: {go: [{name: one, jobs: [a, Big]}, {name: two, jobs: [a], when: all_done}]}, \
             jobs: {Big: b, Small: {type: a, retry: {first: 1s}, finish_within: 5m, payload: '{\"id\": \"{/params/id}\"}'}}}",
        );
        let requests = requests.expect("valid");
        assert_eq!(requests.actions["go"].iter().map(|step| step.jobs.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(requests.jobs["Big"].task_type.as_str(), "b");
        assert_eq!(
            (requests.jobs["Small"].retry.tries, requests.jobs["Small"].retry.backoff.first.as_secs()),
            (3, 1)
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        for (text, words) in [
            ("{actions: [a]}", &["requests.actions", "a map of actions"][..]),
            ("{actions: {go: []}}", &["requests.actions.go", "at least one step"]),
            ("{actions: {go: [{name: a, jobs: [b, b]}]}}", &["requests.actions.go/0/jobs/1", "second time"]),
            (
                "{actions: {go: [{name: a, jobs: [b], when: never}]}}",
                &["requests.actions.go[0].when", "all_ok"],
            ),
            (
                "{actions: {go: [{name: a, jobs: [gett]}]}, jobs: {get: a}}",
                &[
                    "requests.actions.go/0/jobs/0",
                    r#"unknown job "gett" (configured: get, a, b); did you mean get?"#,
                ],
            ),
            ("{jobs: {x: c}}", &["requests.jobs.x.type", "unknown task type \"c\""]),
            ("{jobs: {x: {type: a, endpoints: [e]}}}", &["requests.jobs.x.endpoints", "work queue"]),
            ("{retry: {tries: 0}}", &["requests.retry.tries", "from 1 to 100"]),
            ("{job_cron: often}", &["requests.job_cron", "a cron pattern"]),
        ] {
            let told = read(text).err().unwrap_or_default();
            assert!(words.iter().all(|word| told.contains(word)), "{text}: {told}");
        }
    }
}
