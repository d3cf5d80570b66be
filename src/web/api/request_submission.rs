//! The body of `POST /requests`: an action with its params, and its steps where no configured action has
//! them.
//!
//! Refuses what it does not know, as for a task: a misspelt `jobs` that was ignored would leave out what was
//! to be done. What the steps themselves may be is judged by
//! [`NewRequest::new`](crate::domain::NewRequest::new).

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::members::pointer;
use crate::contract::ProblemItem;
use crate::domain::json_check::kind;
use crate::domain::{Json, Members, Step, When, json};

/// What a client asks for.
#[derive(Debug)]
pub struct RequestSubmission {
    /// What the request is for.
    pub action: String,
    /// What the jobs are told.
    pub params: Json,
    /// The steps, if it brings its own.
    pub steps: Option<Vec<Step>>,
    /// The client's name for it.
    pub request_token: Option<String>,
}

/// The request in a text that has passed [`crate::domain::json_check::check`].
///
/// # Errors
/// Every problem there is.
pub fn parse(text: &str) -> Result<RequestSubmission, Vec<ProblemItem>> {
    let mut body = Body { problems: Vec::new() };
    let Some(members) = body.members(text, "", &["action", "params", "steps", "request_token"]) else {
        return Err(body.problems);
    };
    let action = body.needed::<String>(&members, "", "action", "a string");
    let request_token = body.optional(&members, "", "request_token", "a string");
    let params = members
        .get("params")
        .map_or_else(|| json(&serde_json::Map::new()), |params| Json::from((*params).to_owned()));
    let steps = body.optional::<Vec<&RawValue>>(&members, "", "steps", "an array of steps");
    let steps = steps.map(|steps| {
        steps.into_iter().enumerate().map(|(place, step)| body.step(step, place)).collect::<Vec<_>>()
    });
    match action {
        Some(action) if body.problems.is_empty() => {
            let steps = steps.map(|steps| steps.into_iter().flatten().collect());
            Ok(RequestSubmission { action, params, steps, request_token })
        }
        _ => Err(body.problems),
    }
}

/// A body while it is read, with what is wrong so far.
struct Body {
    problems: Vec<ProblemItem>,
}

impl Body {
    fn problem(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.problems.push(ProblemItem::new(pointer, message));
    }

    /// The members of the object at a place, each once; none where there is no object.
    fn members<'a>(
        &mut self,
        text: &'a str,
        at: &str,
        known: &[&str],
    ) -> Option<HashMap<String, &'a RawValue>> {
        if !text.trim_start().starts_with('{') {
            self.problem(at, "must be an object");
            return None;
        }
        let Members(members) =
            serde_json::from_str(text).map_err(|error| self.problem(at, error.to_string())).ok()?;
        let mut seen = HashMap::new();
        for (name, value) in members {
            let place = format!("{at}{}", pointer(&name));
            if !known.contains(&&*name) {
                self.problem(place, format!("is not a member here ({})", known.join(", ")));
            } else if seen.insert(name.into_owned(), value).is_some() {
                self.problem(place, "occurs twice");
            }
        }
        Some(seen)
    }

    /// A member that may be absent; a problem when it is there and cannot be read.
    fn optional<'a, T: serde::Deserialize<'a>>(
        &mut self,
        members: &HashMap<String, &'a RawValue>,
        at: &str,
        name: &str,
        expected: &str,
    ) -> Option<T> {
        let value = members.get(name)?;
        let read = serde_json::from_str(value.get()).ok();
        if read.is_none() {
            self.problem(format!("{at}/{name}"), format!("must be {expected}, not {}", kind(value)));
        }
        read
    }

    /// A member that must be there.
    fn needed<T: DeserializeOwned>(
        &mut self,
        members: &HashMap<String, &RawValue>,
        at: &str,
        name: &str,
        expected: &str,
    ) -> Option<T> {
        if !members.contains_key(name) {
            self.problem(format!("{at}/{name}"), "is missing");
        }
        self.optional(members, at, name, expected)
    }

    fn step(&mut self, value: &RawValue, place: usize) -> Option<Step> {
        let at = format!("/steps/{place}");
        let members = self.members(value.get(), &at, &["name", "jobs", "when"])?;
        let name = self.needed(&members, &at, "name", "a string");
        let jobs = self.needed(&members, &at, "jobs", "an array of names");
        let words = When::ALL.map(When::as_str).join(", ");
        let when = self.optional(&members, &at, "when", &format!("one of {words}")).unwrap_or_default();
        Some(Step { name: name?, jobs: jobs?, when })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{self, RequestStep};

    fn problems(text: &str) -> Vec<(String, String)> {
        let items = parse(text).expect_err(text);
        items.into_iter().map(|item| (item.pointer, item.message)).collect()
    }

    #[test]
    fn takes_an_action_or_steps() {
        let least = parse(r#"{"action": "remove"}"#).expect("is fine");
        assert!(
            least.steps.is_none() && least.request_token.is_none() && least.params.get() == "{}",
            "{least:?}"
        );
        let most = r#"{"action": "other", "request_token": "mine", "params": {"id" : 1.0},
            "steps": [{"name": "a", "jobs": ["get"]}, {"name": "b", "when": "any_failed", "jobs": ["del1", "worker"]}]}"#;
        let most = parse(most).expect("is fine");
        assert_eq!(most.params.get(), r#"{"id" : 1.0}"#, "kept to the byte");
        let steps = most.steps.expect("it brings some");
        assert_eq!((steps[0].when, steps[1].when, steps[1].jobs.len()), (When::AllOk, When::AnyFailed, 2));
    }

    #[test]
    fn takes_what_clients_write() {
        let step =
            RequestStep { name: "undo".to_owned(), jobs: vec!["del".to_owned()], when: When::AnyFailed };
        let written = contract::RequestSubmission {
            action: "remove".to_owned(),
            params: Some(json(&[1])),
            steps: vec![step],
            request_token: Some("mine".to_owned()),
        };
        let read = parse(&serde_json::to_string(&written).expect("serialises")).expect("is taken");
        let wanted = ("remove".to_owned(), "[1]", Some("mine".to_owned()));
        assert_eq!((read.action, read.params.get(), read.request_token), wanted);
        assert_eq!(read.steps.map(|steps| steps.len()), Some(1));
        let bare =
            contract::RequestSubmission { params: None, steps: Vec::new(), request_token: None, ..written };
        assert!(
            parse(&serde_json::to_string(&bare).expect("serialises")).is_ok_and(|read| read.steps.is_none())
        );
    }

    #[test]
    fn lists_every_problem() {
        let text = r#"{"acton": 1, "action": 7, "action": "x", "request_token": 1, "steps": [
            {"name": 1, "jobs": "get"}, {"name": "a", "jobs": ["get", 3], "job": []}, {"jobs": [], "when": "never"}, 5]}"#;
        let pointers: Vec<_> = problems(text).into_iter().map(|(pointer, _)| pointer).collect();
        let wanted = [
            "/acton", "/action", "/request_token", "/steps/0/name", "/steps/0/jobs", "/steps/1/job",
            "/steps/1/jobs", "/steps/2/name", "/steps/2/when", "/steps/3",
        ];
        assert_eq!(pointers, wanted);
    }

    #[test]
    fn says_what_was_expected() {
        for (text, pointer, message) in [
            ("[]", "", "must be an object"),
            ("{}", "/action", "is missing"),
            (r#"{"action": null}"#, "/action", "must be a string, not null"),
            (r#"{"action": "a", "steps": {}}"#, "/steps", "must be an array of steps, not an object"),
            (
                r#"{"action": "a", "steps": [{"name": "s", "jobs": ["get"], "when": 1}]}"#,
                "/steps/0/when",
                "must be one of all_ok, all_done, any_failed, not a number",
            ),
        ] {
            assert_eq!(problems(text), [(pointer.to_owned(), message.to_owned())], "{text}");
        }
    }
}
