//! The JSON Schemas that payloads must satisfy. Read once, at the start; a schema that refers to another file or address is refused.

use std::collections::HashMap;

use jsonschema::Validator;
use serde_json::value::RawValue;

use super::problem::Item;
use crate::config::{Body, Config, TypePolicy};
use crate::domain::TaskType;

/// Characters of a value that a text about it shows.
const SHOWN: usize = 200;

/// Why a process does not start with a schema.
#[derive(Debug, thiserror::Error)]
#[error("the schema of task type `{task_type}` cannot be used: {reason}")]
pub struct SchemaError {
    /// Of which type.
    pub task_type: TaskType,
    /// What is wrong.
    pub reason: String,
}

/// The schemas of a configuration.
#[derive(Debug, Default)]
pub struct Schemas(HashMap<TaskType, Validator>);

impl Schemas {
    /// Reads the schemas of all types.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn read(config: &Config) -> Result<Self, SchemaError> {
        let mut schemas = HashMap::new();
        for policy in &config.task_types {
            let Some(given) = &policy.schema else { continue };
            let unusable = |reason: String| SchemaError { task_type: policy.name.clone(), reason };
            let text = match given.trim_start().starts_with('{') {
                true => given.clone(),
                false => std::fs::read_to_string(given).map_err(|error| unusable(format!("{given}: {error}")))?,
            };
            let schema: serde_json::Value = serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
            let validator = jsonschema::validator_for(&schema).map_err(|error| unusable(error.to_string()))?;
            schemas.insert(policy.name.clone(), validator);
        }
        Ok(Self(schemas))
    }

    /// All that is wrong with a payload, with pointers into the body.
    pub(super) fn check(&self, policy: &TypePolicy, payload: &RawValue) -> Vec<Item> {
        let Some(validator) = self.0.get(&policy.name) else { return Vec::new() };
        let root = match policy.body {
            Body::Envelope => "/payload",
            Body::Payload => "",
        };
        let Ok(value) = serde_json::from_str(payload.get()) else { return vec![Item::new(root, "cannot be read")] };
        let item = |error: jsonschema::ValidationError<'_>| {
            let mut message = error.to_string();
            if let Some((cut, _)) = message.char_indices().nth(SHOWN) {
                message.truncate(cut);
                message.push('…');
            }
            Item::new(format!("{root}{}", error.instance_path()), message)
        };
        validator.iter_errors(&value).map(item).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas(body: &str) -> (tempfile::TempDir, Config, Schemas) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("schema.json");
        let schema = r#"{"type": "object", "required": ["branchTag", "imageTag"], "additionalProperties": false,
            "properties": {"branchTag": {"type": "string", "minLength": 1}, "imageTag": {"type": "string"}}}"#;
        std::fs::write(&path, schema).expect("written");
        let config = format!("task_types: [{{name: warmers, body: {body}, schema: {}}}]", path.display());
        let config = Config::from_yaml(&config).expect("valid");
        let schemas = Schemas::read(&config).expect("usable");
        (directory, config, schemas)
    }

    fn problems(body: &str, payload: &str) -> Vec<(String, String)> {
        let (_directory, config, schemas) = schemas(body);
        let payload: Box<RawValue> = serde_json::from_str(payload).expect("JSON");
        schemas.check(&config.task_types[0], &payload).into_iter().map(|item| (item.pointer, item.message)).collect()
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        assert!(problems("payload", r#"{"branchTag": "a", "imageTag": "b"}"#).is_empty());
        let told = problems("payload", r#"{"branchTag": "", "more": 1}"#);
        let places: Vec<&str> = told.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(places.contains(&"/branchTag") && places.contains(&""), "{told:?}");
        assert!(told.iter().any(|(_, message)| message.contains("imageTag")), "{told:?}");
        assert_eq!(problems("envelope", r#"{"branchTag": 1, "imageTag": "b"}"#)[0].0, "/payload/branchTag");
    }

    #[test]
    fn what_is_no_schema_is_refused_with_its_type() {
        for text in ["{", r#"{"type": "strin"}"#, r#"{"$ref": "other.json"}"#, "/nowhere/schema.json"] {
            let config = format!("task_types: [{{name: a, schema: {}}}]", serde_json::Value::from(text));
            let error = Schemas::read(&Config::from_yaml(&config).expect("valid")).expect_err(text).to_string();
            assert!(error.contains("`a`"), "{error}");
        }
    }
}
