//! Makes a task of a submission, whichever door it comes through: a request, a schedule, the end of the task
//! before.
//!
//! All doors trim, check and place a payload here, as its type says. `schemas` holds what payloads must
//! satisfy, `place` what a task gets besides its payload, `sample` what to try a type with, `names` the
//! identifiers that tasker itself gives, which no client may take; [`Unsubmitted`] is what is told of a task
//! that tasker could not submit.

mod names;
mod place;
mod sample;
mod schemas;
mod unsubmitted;

pub use names::{of_job, of_requeue, of_run, of_schedule, of_successor, reserved};
pub use place::Asked;
pub use schemas::Fault;
pub use unsubmitted::Unsubmitted;

use schemas::Schemas;

use crate::config::{Config, ConfigError, Problem, TypePolicy};
use crate::domain::{Identifier, Json, NewTask, Timestamp, json, json_check, trimmed};

/// What a submission must be to become a task.
#[derive(Debug)]
pub struct Admission {
    schemas: Schemas,
    /// Bytes that a payload may have. A request is bounded before it is read; a successor's payload may be
    /// made longer than the one before.
    longest: usize,
}

impl Admission {
    /// Reads the schemas of all types, and holds against them what the schedules carry.
    ///
    /// # Errors
    /// Every schema that cannot be used, and every schedule whose payload its type does not admit.
    pub fn read(config: &Config) -> Result<Self, ConfigError> {
        let (schemas, mut problems) = Schemas::read(config);
        let admission = Self { schemas, longest: config.api.body_limit };
        for (index, schedule) in config.schedules.iter().enumerate() {
            let Some(policy) = config.policy(&schedule.task_type) else { continue };
            // As for the body of a request, which nothing else of a schedule has passed.
            let faults = match json_check::check(schedule.payload.get().as_bytes()) {
                Ok(_) => admission.admit(policy, schedule.payload.clone()).err().unwrap_or_default(),
                Err(fault) => vec![Fault::whole(fault.to_string())],
            };
            problems.extend(faults.into_iter().map(|fault| Problem {
                key: format!("schedules[{index}].payload"),
                message: format!("task type `{}` does not admit it: {fault}", policy.name),
                source: None,
            }));
        }
        if problems.is_empty() { Ok(admission) } else { Err(ConfigError::Invalid(problems)) }
    }

    /// The task of a submission.
    ///
    /// # Errors
    /// All that is wrong with the payload.
    pub fn task(
        &self,
        policy: &TypePolicy,
        identifier: Identifier,
        payload: Json,
        asked: Asked,
        now: Timestamp,
    ) -> Result<NewTask, Vec<Fault>> {
        Ok(place::new_task(policy, identifier, self.admit(policy, payload)?, asked, now))
    }

    /// The JSON Schema that payloads of a type must satisfy, if there is one.
    pub fn schema(&self, policy: &TypePolicy) -> Option<Json> {
        self.schemas.of(&policy.name).map(json)
    }

    /// A payload that a type with a schema admits; none for a type without, or where none can be made of its
    /// schema.
    pub fn sample(&self, policy: &TypePolicy) -> Option<Json> {
        let sample = json(&sample::of(self.schemas.of(&policy.name)?)?);
        self.admit(policy, sample).ok()
    }

    /// The payload as the type has it.
    fn admit(&self, policy: &TypePolicy, payload: Json) -> Result<Json, Vec<Fault>> {
        let length = payload.get().len();
        if length > self.longest {
            return Err(vec![Fault::whole(format!(
                "has {length} bytes; at most {} are allowed (api.body_limit)",
                self.longest
            ))]);
        }
        let payload = if policy.trim { trimmed(payload) } else { payload };
        let faults = self.schemas.check(policy, &payload);
        if faults.is_empty() { Ok(payload) } else { Err(faults) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}, "t": {"maxLength": 1}}}"#;

    fn config(schedule: &str) -> Config {
        let schema = serde_json::Value::from(SCHEMA);
        let text = format!(
            "task_types: [{{name: a, trim: true, schema: {schema}}}]\nschedules: [{{name: s, type: a, cron: \"* * * * *\", payload: {}}}]",
            serde_json::Value::from(schedule)
        );
        Config::from_yaml(&text).expect("valid")
    }

    #[test]
    fn a_payload_is_trimmed_before_it_is_checked() {
        let config = config(r#"{"n": 1}"#);
        let admission = Admission::read(&config).expect("usable");
        let task = |payload: &str| {
            let payload = serde_json::from_str(payload).expect("JSON");
            admission.task(
                &config.task_types[0],
                "x".parse().expect("valid"),
                payload,
                Asked::default(),
                Timestamp::from_micros(0),
            )
        };
        assert_eq!(
            task(r#"{"n": 1, "t": " x "}"#).expect("satisfies").payload.get(),
            r#"{"n": 1, "t": "x"}"#
        );
        let faults = task(r#"{"n": "1", "t": " xy "}"#).expect_err("does not satisfy");
        let places: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(places, ["/n", "/t"], "{faults:?}");
        let long = format!(r#"{{"n": 1, "more": "{}"}}"#, "x".repeat(config.api.body_limit));
        let faults = task(&long).expect_err("too long");
        assert!(faults.len() == 1 && faults[0].to_string().contains("api.body_limit"), "{faults:?}");
    }

    #[test]
    fn a_sample_satisfies_its_schema() {
        let table = [
            (r#"{"type": "object"}"#, Some("{}")),
            (SCHEMA, Some(r#"{"n":1}"#)),
            (
                r#"{"required": ["a", "b", "c"], "properties": {"a": {"enum": ["x", "y"]}, "b": {"type": "string", "maxLength": 4},
                "c": {"type": "array", "minItems": 2, "items": {"type": "boolean"}}}}"#,
                Some(r#"{"a":"x","b":"exam","c":[true,true]}"#),
            ),
            (r#"{"type": ["null", "number"]}"#, Some("null")),
            (r#"{"type": "integer", "minimum": 7}"#, Some("7")),
            (r#"{"examples": [{"a": 1}], "default": 3}"#, Some(r#"{"a":1}"#)),
            (r#"{"default": 3}"#, Some("3")),
            (r#"{"const": [1]}"#, Some("[1]")),
            (r#"{"type": "string", "pattern": "^[0-9]+$"}"#, None),
            (r#"{"type": "object", "required": ["n"]}"#, None),
            (r##"{"$ref": "#"}"##, None),
        ];
        for (schema, sample) in table {
            let text = format!("task_types: [{{name: a, schema: {}}}, b]", serde_json::Value::from(schema));
            let config = Config::from_yaml(&text).expect("valid");
            let admission = Admission::read(&config).expect("usable");
            let found = admission.sample(&config.task_types[0]);
            assert_eq!(found.as_ref().map(|found| found.get()), sample, "{schema}");
            assert!(admission.sample(&config.task_types[1]).is_none());
        }
    }

    #[test]
    fn a_schedule_carries_what_its_type_admits() {
        let told = |payload: &str| Admission::read(&config(payload)).err().map(|error| error.problems());
        assert!(told(r#"{"n": 1, "t": " x "}"#).is_none());
        for (payload, word) in [
            (r#"{"n": "1"}"#, "/n"),
            ("{}", "required"),
            (r#""""#, "object"),
            (r#"{"n": 1, "t": "\ud800"}"#, "surrogate"),
        ] {
            let problems = told(payload).expect("refused");
            assert_eq!(problems[0].key, "schedules[0].payload");
            assert!(
                problems[0].message.contains(word) && problems[0].message.contains("`a`"),
                "{}",
                problems[0]
            );
        }
    }
}
