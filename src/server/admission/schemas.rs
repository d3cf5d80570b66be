//! The JSON Schemas that payloads must satisfy. Read once, at the start; a schema that refers to another file
//! or address is refused.

use std::collections::HashMap;
use std::fmt;

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::config::{Config, Problem, TypePolicy};
use crate::domain::TaskType;

/// Characters of a value that a text about it shows.
const SHOWN: usize = 200;

/// Something that is wrong with a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where in the payload (RFC 6901); empty for the whole.
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
    /// The same without values of the payload, for logs.
    pub masked: String,
}

impl Fault {
    /// Something that is wrong with the whole.
    pub(super) fn whole(message: impl Into<String>) -> Self {
        let message = message.into();
        Self { pointer: String::new(), masked: message.clone(), message }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.pointer.is_empty() {
            write!(f, "{}: ", self.pointer)?;
        }
        f.write_str(&self.message)
    }
}

/// The schemas of a configuration.
#[derive(Debug, Default)]
pub(super) struct Schemas(HashMap<TaskType, (Validator, Value)>);

impl Schemas {
    /// Reads the schemas of all types; those that cannot be used are problems.
    pub(super) fn read(config: &Config) -> (Self, Vec<Problem>) {
        let (mut schemas, mut problems) = (HashMap::new(), Vec::new());
        for (index, policy) in config.task_types.iter().enumerate() {
            let Some(given) = &policy.schema else { continue };
            match validator(given) {
                Ok(read) => _ = schemas.insert(policy.name.clone(), read),
                Err(reason) => problems.push(Problem {
                    key: format!("task_types[{index}].schema"),
                    message: format!("the schema of task type `{}` cannot be used: {reason}", policy.name),
                    source: None,
                }),
            }
        }
        (Self(schemas), problems)
    }

    /// What the payloads of a type must satisfy.
    pub(super) fn of(&self, task_type: &TaskType) -> Option<&Value> {
        self.0.get(task_type).map(|(_, schema)| schema)
    }

    /// All that is wrong with a payload.
    pub(super) fn check(&self, policy: &TypePolicy, payload: &RawValue) -> Vec<Fault> {
        let Some((validator, _)) = self.0.get(&policy.name) else { return Vec::new() };
        let Ok(value) = serde_json::from_str(payload.get()) else {
            return vec![Fault::whole("cannot be read")];
        };
        let fault = |error: jsonschema::ValidationError<'_>| {
            let (message, masked) = (shown(error.to_string()), shown(error.masked().to_string()));
            Fault { pointer: place(&error), message, masked }
        };
        validator.iter_errors(&value).map(fault).collect()
    }
}

/// Where a fault is. A member that is missing has a place too: the one where it should be.
fn place(error: &jsonschema::ValidationError<'_>) -> String {
    let place = error.instance_path();
    match error.kind() {
        ValidationErrorKind::Required { property } => match property.as_str() {
            Some(property) => place.join(property).to_string(),
            None => place.to_string(),
        },
        _ => place.to_string(),
    }
}

fn shown(mut text: String) -> String {
    if let Some((cut, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(cut);
        text.push('…');
    }
    text
}

/// A schema - a text, or the path of a file - and its validator.
fn validator(given: &str) -> Result<(Validator, Value), String> {
    let text = match given.trim_start().starts_with('{') {
        true => given.to_owned(),
        false => std::fs::read_to_string(given).map_err(|error| format!("{given}: {error}"))?,
    };
    let schema: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let validator = jsonschema::validator_for(&schema).map_err(|error| error.to_string())?;
    Ok((validator, schema))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(payload: &str) -> Vec<(String, String)> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("schema.json");
        let schema = r#"{"type": "object", "required": ["branchTag", "imageTag"], "additionalProperties": false,
            "properties": {"branchTag": {"type": "string", "minLength": 1}, "imageTag": {"type": "string"}}}"#;
        std::fs::write(&path, schema).expect("written");
        let config =
            Config::from_yaml(&format!("task_types: [{{name: warmers, schema: {}}}]", path.display()))
                .expect("valid");
        let (schemas, unusable) = Schemas::read(&config);
        assert!(unusable.is_empty(), "{unusable:?}");
        let payload: Box<RawValue> = serde_json::from_str(payload).expect("JSON");
        schemas
            .check(&config.task_types[0], &payload)
            .into_iter()
            .map(|fault| (fault.pointer, fault.message))
            .collect()
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        assert!(problems(r#"{"branchTag": "a", "imageTag": "b"}"#).is_empty());
        let told = problems(r#"{"branchTag": "", "more": 1}"#);
        let places: Vec<&str> = told.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(["/branchTag", "/imageTag", ""].iter().all(|place| places.contains(place)), "{told:?}");
        assert!(
            told.iter().any(|(place, message)| place == "/imageTag" && message.contains("required")),
            "{told:?}"
        );
    }

    #[test]
    fn what_is_no_schema_is_refused_with_its_type() {
        for text in ["{", r#"{"type": "strin"}"#, r#"{"$ref": "other.json"}"#, "/nowhere/schema.json"] {
            let config = format!("task_types: [{{name: a, schema: {}}}]", serde_json::Value::from(text));
            let (_, problems) = Schemas::read(&Config::from_yaml(&config).expect("valid"));
            assert!(problems.len() == 1 && problems[0].key == "task_types[0].schema", "{problems:?}");
            assert!(problems[0].message.contains("`a`"), "{}", problems[0]);
        }
    }
}
