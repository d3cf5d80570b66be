//! A value that a JSON Schema most likely admits, for people to try a task type with.
//!
//! Knows the few words that schemas of payloads mostly consist of. Whether the value is admitted is for the
//! validator to say.

use serde_json::{Map, Value, json};

/// Levels within each other at most.
const DEPTH: u32 = 16;

/// A value for a schema, if one can be told from it.
pub(super) fn of(schema: &Value) -> Option<Value> {
    value(schema, DEPTH)
}

fn value(schema: &Value, depth: u32) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let first = |key: &str| schema.get(key)?.as_array()?.first().cloned();
    let said = first("examples")
        .or_else(|| schema.get("default").cloned())
        .or_else(|| schema.get("const").cloned())
        .or_else(|| first("enum"));
    if said.is_some() {
        return said;
    }
    let kind =
        schema.get("type").and_then(|kind| kind.as_str().or_else(|| kind.as_array()?.first()?.as_str()));
    let number =
        |key: &str| schema.get(key).and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok());
    match kind {
        Some("string") => {
            Some(text(number("minLength").unwrap_or(0), number("maxLength").unwrap_or(usize::MAX)).into())
        }
        Some("integer" | "number") => Some(schema.get("minimum").cloned().unwrap_or_else(|| json!(1))),
        Some("boolean") => Some(true.into()),
        Some("null") => Some(Value::Null),
        Some("array") => {
            let items = vec![
                value(schema.get("items").unwrap_or(&Value::Null), depth);
                number("minItems").unwrap_or(0).min(10)
            ];
            items.into_iter().collect::<Option<Vec<_>>>().map(Value::Array)
        }
        Some("object") | None
            if kind.is_some() || schema.get("properties").is_some() || schema.get("required").is_some() =>
        {
            let required = schema
                .get("required")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str);
            let member =
                |name: &str| Some((name.to_owned(), value(schema.get("properties")?.get(name)?, depth)?));
            required.map(member).collect::<Option<Map<_, _>>>().map(Value::Object)
        }
        _ => None,
    }
}

/// A word of a length within bounds.
fn text(least: usize, most: usize) -> String {
    "example".chars().cycle().take(7.max(least.min(200)).min(most)).collect()
}
