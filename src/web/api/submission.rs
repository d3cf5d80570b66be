//! The body of a `POST`: the envelope around the customer's payload.
//!
//! Refuses what it does not know. A misspelt `endpoint` that was ignored would send the task to the whole
//! fleet.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use serde_json::value::RawValue;

use super::members::pointer;
use crate::admission::Asked;
use crate::config::{TypePolicy, span};
use crate::contract::{OneOrMany, ProblemItem};
use crate::domain::json_check::kind;
use crate::domain::likeness::{did_you_mean, nearest};
use crate::domain::{
    EndpointName, GroupName, Identifier, Json, MAX_PRIORITY, MOST_REGEXES, Members, Selector, Target,
    Timestamp, json,
};

/// Endpoints one submission may list.
pub const MAX_ENDPOINTS: usize = 50_000;

/// What a customer asks for.
#[derive(Debug)]
pub struct Submission {
    /// The customer's name for it.
    pub identifier: Identifier,
    /// The customer's data, byte for byte.
    pub payload: Json,
    /// What it asks for besides.
    pub asked: Asked,
}

impl Submission {
    /// The submission whose body is nothing but the payload; its identifier is made.
    pub fn bare(text: &str) -> Result<Self, ProblemItem> {
        let payload = serde_json::from_str(text).map_err(|error| ProblemItem::new("", error.to_string()))?;
        let identifier = uuid::Uuid::now_v7()
            .to_string()
            .parse()
            .map_err(|error| ProblemItem::new("", format!("{error}")))?;
        Ok(Self { identifier, payload, asked: Asked::default() })
    }
}

/// The submission in a text that has passed [`crate::domain::json_check::check`].
///
/// # Errors
/// Every problem there is.
pub fn parse(text: &str, policy: &TypePolicy) -> Result<Submission, Vec<ProblemItem>> {
    if !text.trim_start().starts_with('{') {
        return Err(vec![ProblemItem::new("", "must be an object")]);
    }
    let Members(members) =
        serde_json::from_str(text).map_err(|error| vec![ProblemItem::new("", error.to_string())])?;
    read(&members, policy)
}

/// The submission with these members.
///
/// # Errors
/// Every problem there is.
pub fn read(
    members: &[(Cow<'_, str>, &RawValue)],
    policy: &TypePolicy,
) -> Result<Submission, Vec<ProblemItem>> {
    let mut problems = Vec::new();
    let mut seen: HashMap<&str, &RawValue> = HashMap::new();
    for (name, value) in members {
        let queue = policy.queue.is_some();
        let of_endpoints = &**name == "endpoints" || TARGET.contains(&&**name);
        if !of_endpoints && !matches!(&**name, "identifier" | "payload" | "priority" | "ttl" | "run_at") {
            let mut known = vec!["identifier", "payload"];
            match queue {
                true => known.extend(["priority", "ttl", "run_at"]),
                false => known.extend(["endpoints"].into_iter().chain(TARGET)),
            }
            let likely = did_you_mean(nearest(name, known.iter().copied()));
            let message = format!("is not a member of a submission ({}){likely}", known.join(", "));
            problems.push(ProblemItem::new(pointer(name), message));
        } else if queue && of_endpoints {
            problems.push(ProblemItem::new(
                pointer(name),
                "is not for a task type with a work queue: the worker that has room performs it",
            ));
        } else if !queue && matches!(&**name, "priority" | "ttl" | "run_at") {
            problems.push(ProblemItem::new(pointer(name), "is for task types with a work queue"));
        } else if seen.insert(name, value).is_some() {
            problems.push(ProblemItem::new(pointer(name), "occurs twice"));
        }
    }
    let identifier =
        identifier(seen.get("identifier").copied()).map_err(|problem| problems.push(problem)).ok();
    let payload = seen.get("payload").map_or_else(|| json(&""), |value| Json::from((*value).to_owned()));
    let endpoints = seen.get("endpoints").map_or_else(Vec::new, |value| endpoints(value, &mut problems));
    let target = target(&seen, &mut problems);
    let asked = Asked {
        endpoints,
        target,
        priority: member(&seen, "priority", &mut problems, priority, || {
            format!("a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}")
        }),
        ttl: member(
            &seen,
            "ttl",
            &mut problems,
            |value| ttl(value, policy),
            || format!("a span such as `30m`, at most {}", span::format(policy.longest_life())),
        ),
        run_at: member(&seen, "run_at", &mut problems, run_at, || {
            "a time such as `2024-07-12T10:00:00Z`".to_owned()
        }),
    };
    match identifier {
        Some(identifier) if problems.is_empty() => Ok(Submission { identifier, payload, asked }),
        _ => Err(problems),
    }
}

/// The members that say what endpoints must be.
const TARGET: [&str; 7] = ["match", "groups", "exclude", "percent", "limit", "seed", "expect"];

/// Selectors or groups that one submission may have in a list.
const MAX_SELECTORS: usize = 100;

/// What its endpoints must be; none where it says nothing about that.
fn target(seen: &HashMap<&str, &RawValue>, problems: &mut Vec<ProblemItem>) -> Option<Target> {
    let first = TARGET.iter().find(|name| seen.contains_key(**name))?;
    if seen.contains_key("endpoints") {
        let message =
            format!("does not go with `{first}`: `name in (web1, web2)` in `match` names endpoints, too");
        problems.push(ProblemItem::new("/endpoints", message));
    }
    let mut regexes = 0;
    let target = Target {
        selectors: selectors(seen, "match", &mut regexes, problems),
        groups: groups(seen, problems),
        exclude: selectors(seen, "exclude", &mut regexes, problems),
        percent: member(
            seen,
            "percent",
            problems,
            |value| number(value, 100),
            || "a whole number from 1 to 100".to_owned(),
        ),
        limit: member(
            seen,
            "limit",
            problems,
            |value| number(value, u32::MAX),
            || "a whole number from 1 on".to_owned(),
        ),
        seed: member(seen, "seed", problems, seed, || "a text of at most 191 characters".to_owned()),
        expect: member(
            seen,
            "expect",
            problems,
            |value| serde_json::from_str(value.get()).ok(),
            || "`subscribed` or `known`".to_owned(),
        ),
    };
    if seen.contains_key("seed") && !seen.contains_key("percent") && !seen.contains_key("limit") {
        problems.push(ProblemItem::new("/seed", "is of no use without `percent` or `limit`"));
    }
    Some(target)
}

/// The selectors of a member: one text, or a list. `regexes` counts the regular expressions of all members.
fn selectors(
    seen: &HashMap<&str, &RawValue>,
    name: &str,
    regexes: &mut usize,
    problems: &mut Vec<ProblemItem>,
) -> Vec<Selector> {
    let Some(value) = seen.get(name) else { return Vec::new() };
    let Ok(given) = serde_json::from_str::<OneOrMany>(value.get()) else {
        let message =
            format!("must be a selector such as `site=berlin`, or an array of them, not {}", kind(value));
        problems.push(ProblemItem::new(pointer(name), message));
        return Vec::new();
    };
    read_selectors(given, &pointer(name), regexes, problems)
        .into_iter()
        .map(|(_, selector)| selector)
        .collect()
}

/// Reads selectors that stand at a place, each with its own place.
pub(super) fn read_selectors(
    given: OneOrMany,
    at: &str,
    regexes: &mut usize,
    problems: &mut Vec<ProblemItem>,
) -> Vec<(String, Selector)> {
    let (texts, listed) = match given {
        OneOrMany::One(text) => (vec![text], false),
        OneOrMany::Many(texts) => (texts, true),
    };
    if texts.len() > MAX_SELECTORS {
        let message = format!("has {} selectors, {MAX_SELECTORS} are allowed", texts.len());
        problems.push(ProblemItem::new(at, message));
        return Vec::new();
    }
    let mut selectors = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let place = if listed { format!("{at}/{index}") } else { at.to_owned() };
        match text.parse::<Selector>() {
            Ok(selector) => {
                *regexes += selector.regexes();
                if *regexes > MOST_REGEXES {
                    problems.push(ProblemItem::new(place, too_many_regexes()));
                    return selectors;
                }
                selectors.push((place, selector));
            }
            Err(invalid) => problems.push(ProblemItem::new(place, format!("is not a selector: {invalid}"))),
        }
    }
    selectors
}

/// What is wrong where there are more than [`MOST_REGEXES`].
pub(super) fn too_many_regexes() -> String {
    format!("has, with those before it, more than {MOST_REGEXES} regular expressions")
}

/// The names of groups.
fn groups(seen: &HashMap<&str, &RawValue>, problems: &mut Vec<ProblemItem>) -> Vec<GroupName> {
    let Some(value) = seen.get("groups") else { return Vec::new() };
    let Ok(texts) = serde_json::from_str::<Vec<String>>(value.get()) else {
        problems.push(ProblemItem::new("/groups", "must be an array of the names of groups"));
        return Vec::new();
    };
    if texts.len() > MAX_SELECTORS {
        problems.push(ProblemItem::new(
            "/groups",
            format!("names {} groups, {MAX_SELECTORS} are allowed", texts.len()),
        ));
        return Vec::new();
    }
    let mut names = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        match text.parse() {
            Ok(name) => names.push(name),
            Err(invalid) => problems.push(ProblemItem::new(
                format!("/groups/{index}"),
                format!("is not a group name: {invalid}"),
            )),
        }
    }
    names
}

/// A whole number from 1 to a greatest.
fn number<T: serde::de::DeserializeOwned + PartialOrd + From<u8>>(
    value: &RawValue,
    greatest: T,
) -> Option<T> {
    serde_json::from_str::<T>(value.get()).ok().filter(|number| *number >= T::from(1) && *number <= greatest)
}

fn seed(value: &RawValue) -> Option<String> {
    serde_json::from_str::<String>(value.get()).ok().filter(|seed| seed.chars().count() <= 191)
}

fn identifier(value: Option<&RawValue>) -> Result<Identifier, ProblemItem> {
    let problem = |message: String| ProblemItem::new("/identifier", message);
    let value = value.ok_or_else(|| problem("is missing".to_owned()))?;
    let text: String = serde_json::from_str(value.get())
        .map_err(|_| problem(format!("must be a string, not {}", kind(value))))?;
    text.parse().map_err(|invalid| problem(format!("{invalid}")))
}

/// A member that may be absent; a problem when it is there and cannot be read.
fn member<T>(
    seen: &HashMap<&str, &RawValue>,
    name: &str,
    problems: &mut Vec<ProblemItem>,
    read: impl FnOnce(&RawValue) -> Option<T>,
    expected: impl FnOnce() -> String,
) -> Option<T> {
    let value = seen.get(name)?;
    let read = read(value);
    if read.is_none() {
        problems.push(ProblemItem::new(pointer(name), format!("must be {}", expected())));
    }
    read
}

fn priority(value: &RawValue) -> Option<i32> {
    serde_json::from_str::<i32>(value.get())
        .ok()
        .filter(|number| (-MAX_PRIORITY..=MAX_PRIORITY).contains(number))
}

fn ttl(value: &RawValue, policy: &TypePolicy) -> Option<Duration> {
    let text = serde_json::from_str::<String>(value.get()).ok()?;
    span::parse(&text).ok().filter(|ttl| !ttl.is_zero() && *ttl <= policy.longest_life())
}

fn run_at(value: &RawValue) -> Option<Timestamp> {
    serde_json::from_str(value.get()).ok()
}

fn endpoints(value: &RawValue, problems: &mut Vec<ProblemItem>) -> Vec<EndpointName> {
    let Ok(values) = serde_json::from_str::<Vec<&RawValue>>(value.get()) else {
        problems.push(ProblemItem::new(
            "/endpoints",
            format!("must be an array of endpoint names, not {}", kind(value)),
        ));
        return Vec::new();
    };
    if values.len() > MAX_ENDPOINTS {
        problems.push(ProblemItem::new(
            "/endpoints",
            format!("lists {} endpoints, {MAX_ENDPOINTS} are allowed", values.len()),
        ));
        return Vec::new();
    }
    let mut first = HashMap::with_capacity(values.len());
    let mut names = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        let mut problem =
            |message: String| problems.push(ProblemItem::new(format!("/endpoints/{index}"), message));
        let Ok(text) = serde_json::from_str::<String>(value.get()) else {
            problem(format!("must be a string, not {}", kind(value)));
            continue;
        };
        match text.parse::<EndpointName>() {
            Err(invalid) => problem(invalid.to_string()),
            Ok(name) => match first.get(&name) {
                Some(earlier) => problem(format!("repeats /endpoints/{earlier}")),
                None => {
                    first.insert(name.clone(), index);
                    names.push(name);
                }
            },
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::contract;
    use proptest::prelude::*;

    /// As for a type that endpoints perform.
    fn parse(text: &str) -> Result<Submission, Vec<ProblemItem>> {
        let config = Config::from_yaml("task_types: [worker]").expect("valid");
        super::parse(text, &config.task_types[0])
    }

    fn problems(text: &str) -> Vec<(String, String)> {
        let items = parse(text).expect_err("this must be refused");
        items.into_iter().map(|item| (item.pointer, item.message)).collect()
    }

    fn pointers(text: &str) -> Vec<String> {
        problems(text).into_iter().map(|(pointer, _)| pointer).collect()
    }

    #[test]
    fn takes_the_least_and_the_most() {
        let least = parse(r#" {"identifier":"a"} "#).expect("is fine");
        assert_eq!(
            (least.identifier.as_str(), least.payload.get(), least.asked.endpoints.len()),
            ("a", r#""""#, 0)
        );
        let most = parse(
            r#"{"endpoints":["b","a"],"payload": {"x" : 1.0, "x":2, "y":12345678901234567890123},"identifier":"日本 /%"}"#,
        );
        let most = most.expect("is fine");
        assert_eq!(
            most.payload.get(),
            r#"{"x" : 1.0, "x":2, "y":12345678901234567890123}"#,
            "kept to the byte"
        );
        assert_eq!(
            most.asked.endpoints.iter().map(EndpointName::as_str).collect::<Vec<_>>(),
            ["b", "a"],
            "in the order given"
        );
        assert!(parse(r#"{"identifier":"a","endpoints":[]}"#).expect("is fine").asked.endpoints.is_empty());
        assert_eq!(parse(r#"{"identifier":"a","payload":null}"#).expect("is fine").payload.get(), "null");
        assert_eq!(
            parse(r#"{"identif\u0069er":"a"}"#)
                .expect("an escaped name is the same name")
                .identifier
                .as_str(),
            "a"
        );
    }

    #[test]
    fn takes_what_clients_write() {
        let config =
            Config::from_yaml("task_types: [worker, {name: builds, delivery: queue}]").expect("valid");
        let bare = contract::Submission::new("a".parse().expect("an identifier"), Some(json(&[1])));
        let endpoints = vec!["web1".parse().expect("a name")];
        let run_at = Some(Timestamp::from_micros(1_700_000_000_000_000));
        let written = [
            (&config.task_types[0], contract::Submission { endpoints, ..bare.clone() }),
            (
                &config.task_types[1],
                contract::Submission { priority: Some(-3), ttl: Some("5m".to_owned()), run_at, ..bare },
            ),
        ];
        for (policy, written) in written {
            let text = serde_json::to_string(&written).expect("serialises");
            let Submission { identifier, payload, asked } = super::parse(&text, policy).expect("is taken");
            assert_eq!((identifier, payload.get()), (written.identifier, "[1]"));
            let Asked { endpoints, target, priority, ttl, run_at } = asked;
            assert!(target.is_none());
            assert_eq!((endpoints, priority, run_at), (written.endpoints, written.priority, written.run_at));
            assert_eq!(ttl.map(span::format), written.ttl);
        }
    }

    #[test]
    fn reads_what_endpoints_must_be() {
        let target = |members: &str| {
            parse(&format!(r#"{{"identifier":"a",{members}}}"#)).map(|submission| submission.asked.target)
        };
        let text = |members: &str| {
            target(members).expect("is fine").map(|target| serde_json::to_string(&target).expect("JSON"))
        };
        assert_eq!(text(r#""payload":1"#), None);
        assert_eq!(text(r#""match":"a=1""#).as_deref(), Some(r#"{"match":["a=1"]}"#));
        let all = r#""match":["a=1","b , @c"],"groups":["g"],"exclude":"d","percent":10,"limit":3,"seed":"x","expect":"known""#;
        let read = r#"{"match":["a=1","b and @c"],"groups":["g"],"exclude":["d"],"percent":10,"limit":3,"seed":"x","expect":"known"}"#;
        assert_eq!(text(all).as_deref(), Some(read));
        for (members, expected) in [
            (r#""match":["a","b="]"#, &["/match/1"][..]),
            (r#""match":"(" "#, &["/match"]),
            (
                r#""match":3,"exclude":{},"percent":0,"limit":-1,"seed":1"#,
                &["/match", "/exclude", "/percent", "/limit", "/seed"],
            ),
            (r#""percent":101"#, &["/percent"]),
            (r#""groups":["a","-"],"expect":"all""#, &["/groups/1", "/expect"]),
            (r#""groups":"a""#, &["/groups"]),
            (r#""groups":["a"],"endpoints":["x"]"#, &["/endpoints"]),
            (r#""seed":"x""#, &["/seed"]),
            (r#""match":"a","endpoints":["x"]"#, &["/endpoints"]),
        ] {
            let problems = target(members).expect_err(members);
            assert_eq!(
                problems.iter().map(|problem| problem.pointer.as_str()).collect::<Vec<_>>(),
                expected,
                "{members}"
            );
        }
        let told = &problems(r#"{"identifier":"a","match":"a= )"}"#)[0].1;
        assert!(told.contains("is not a selector: at character"), "{told}");
        let config = Config::from_yaml("task_types: [{name: builds, delivery: queue}]").expect("valid");
        let problems =
            super::parse(r#"{"identifier":"a","match":"a"}"#, &config.task_types[0]).expect_err("is refused");
        assert!(problems[0].message.contains("work queue"));
    }

    #[test]
    fn lists_every_problem() {
        let text = r#"{"endpoint":["x"],"a/b~c":1,"identifier":7,"endpoints":["ok","no way",3,"ok",""],"payload":1,"payload":2}"#;
        assert_eq!(
            pointers(text),
            [
                "/endpoint", "/a~1b~0c", "/payload", "/identifier", "/endpoints/1", "/endpoints/2",
                "/endpoints/3", "/endpoints/4"
            ]
        );
        assert!(problems(text).contains(&("/endpoints/3".to_owned(), "repeats /endpoints/0".to_owned())));
        assert!(
            problems(text)
                .contains(&("/endpoints/2".to_owned(), "must be a string, not a number".to_owned()))
        );
    }

    #[test]
    fn the_identifier_is_needed_and_has_a_form() {
        for (text, word) in [
            ("{}", "missing"),
            (r#"{"identifier":""}"#, "1 to 191"),
            (r#"{"identifier":null}"#, "not null"),
            (r#"{"identifier":["a"]}"#, "not an array"),
            (r#"{"identifier":{}}"#, "not an object"),
            (r#"{"identifier":true}"#, "not a boolean"),
            (r#"{"identifier":"a\u0000b"}"#, "control"),
            (r#"{"identifier":"a\nb"}"#, "control"),
        ] {
            let [(pointer, message)] = &problems(text)[..] else { panic!("one problem in {text}") };
            assert_eq!(pointer, "/identifier");
            assert!(message.contains(word), "{text}: {message}");
        }
        assert!(parse(&format!(r#"{{"identifier":"{}"}}"#, "é".repeat(191))).is_ok());
        assert_eq!(pointers(&format!(r#"{{"identifier":"{}"}}"#, "é".repeat(192))), ["/identifier"]);
    }

    #[test]
    fn only_an_object_will_do() {
        for text in ["[]", "1", "null", r#""x""#, r#"[{"identifier":"a"}]"#] {
            assert_eq!(problems(text), [(String::new(), "must be an object".to_owned())]);
        }
    }

    #[test]
    fn endpoints_have_a_form_and_a_maximum() {
        for wrong in ["null", "\"a\"", "{}", "1"] {
            assert_eq!(pointers(&format!(r#"{{"identifier":"a","endpoints":{wrong}}}"#)), ["/endpoints"]);
        }
        let list = |count: usize| {
            let names: Vec<String> = (0..count).map(|index| format!("n{index}")).collect();
            serde_json::json!({"identifier": "a", "endpoints": names}).to_string()
        };
        assert_eq!(parse(&list(MAX_ENDPOINTS)).expect("is fine").asked.endpoints.len(), MAX_ENDPOINTS);
        assert_eq!(pointers(&list(MAX_ENDPOINTS + 1)), ["/endpoints"]);
    }

    #[test]
    fn a_pointer_stays_readable() {
        let text = format!(r#"{{"identifier":"a","{}":1}}"#, "é".repeat(100_000));
        assert!(pointers(&text)[0].len() < 500);
    }

    proptest! {
        #[test]
        fn a_payload_survives_as_it_is(payload in any::<String>(), identifier in "[a-z]{1,20}") {
            let text = serde_json::to_string(&payload).expect("serialises");
            let body = format!("{{\"payload\":\t{text} ,\"identifier\":\"{identifier}\"}}");
            let submission = parse(&body).expect("is fine");
            prop_assert_eq!(submission.payload.get(), text);
        }
    }
}
