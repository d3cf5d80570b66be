//! YAML text to a tree of values that know their source.

use ::config::{Map, Value, ValueKind};

use super::placeholder::Placeholder;
use super::problem::Problem;
use crate::yaml::{Datum, Node, read};

pub(super) use crate::yaml::printable;

/// Where the compiled-in default comes from. Its lines mean nothing to a person who has only the program.
pub(super) const DEFAULT_ORIGIN: &str = "the default";

/// The layering knows numbers by what they are worth: how one was written stands in its origin, before the
/// place where it stands.
pub(super) const WRITTEN: &str = "the number ";
pub(super) const NAMED_IN: &str = ", named in ";

/// Far more than any configuration needs; a file over it is some other file.
const LONGEST: usize = 1024 * 1024;

/// Far more than any configuration needs.
const MOST: usize = 20_000;

/// Reads one document with a map at its root. A key without a value (all below it commented out, say) counts
/// as absent.
pub(super) fn parse(name: &str, text: &str) -> Result<Map<String, Value>, Problem> {
    if text.len() > LONGEST {
        return Err(Problem::new(
            "",
            format!("expected a configuration, got a file of {} bytes", text.len()),
            Some(name.to_owned()),
        ));
    }
    let root = read(text, MOST)
        .map_err(|error| Problem::new("", error.text, Some(origin(name, error.line.unwrap_or_default()))))?;
    match value_of(root, name, false).kind {
        ValueKind::Table(table) => Ok(table),
        ValueKind::Nil => Ok(Map::new()),
        _ => Err(Problem::new("", "expected a map of sections such as `api:`", Some(name.to_owned()))),
    }
}

fn origin(name: &str, line: u64) -> String {
    if line == 0 || name == DEFAULT_ORIGIN { name.to_owned() } else { format!("{name}:{line}") }
}

/// In a payload, a member that is null is one.
fn value_of(node: Node, name: &str, in_payload: bool) -> Value {
    let kind = match node.value {
        Datum::Nothing => ValueKind::Nil,
        Datum::Truth(truth) => ValueKind::Boolean(truth),
        Datum::Whole(number) => ValueKind::I128(number),
        Datum::Fraction(number) => ValueKind::Float(number),
        Datum::Text(text) => ValueKind::String(text),
        Datum::List(items) => {
            ValueKind::Array(items.into_iter().map(|item| value_of(item, name, in_payload)).collect())
        }
        Datum::Map(entries) => match entries.as_slice() {
            // `key: {NAME}` without quotes is a map to YAML, and a placeholder to whoever wrote it.
            [(inside, Node { value: Datum::Nothing, .. })] if Placeholder::read(inside).is_some() => {
                ValueKind::String(format!("{{{inside}}}"))
            }
            _ => ValueKind::Table(
                entries
                    .into_iter()
                    .filter(|(_, entry)| in_payload || !matches!(entry.value, Datum::Nothing))
                    .map(|(key, entry)| {
                        let in_payload = in_payload || key == "payload";
                        (key, value_of(entry, name, in_payload))
                    })
                    .collect(),
            ),
        },
    };
    let origin = origin(name, node.line);
    let origin =
        node.number.map_or_else(|| origin.clone(), |number| format!("{WRITTEN}{number}{NAMED_IN}{origin}"));
    Value::new(Some(&origin), kind)
}
