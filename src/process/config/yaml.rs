//! YAML text to a tree of values that know their line.

use std::fmt;

use ::config::{Map, Value, ValueKind};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, Spanned};

use super::placeholder::Placeholder;
use super::problem::Problem;

/// Where the compiled-in default comes from. Its lines mean nothing to a person who has only the program.
pub(super) const DEFAULT_ORIGIN: &str = "the default";

/// Far more than any configuration needs; a file over it is some other file.
const LONGEST: usize = 1024 * 1024;

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
    let options = serde_saphyr::options! {
        // A snippet would show the lines around an error, and passwords stand in lines.
        with_snippet: false,
        // A user called `no` and a password of 0123 are texts.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
        budget: serde_saphyr::budget! { max_depth: 32, max_nodes: 20_000, max_aliases: 100 },
    };
    let root: Spanned<Raw> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| syntax(name, &error))?;
    match root.value.into_value(name, root.referenced.line()).kind {
        ValueKind::Table(table) => Ok(table),
        ValueKind::Nil => Ok(Map::new()),
        _ => Err(Problem::new("", "expected a map of sections such as `api:`", Some(name.to_owned()))),
    }
}

fn syntax(name: &str, error: &Error) -> Problem {
    let source = error.location().map_or_else(|| name.to_owned(), |at| origin(name, at.line()));
    let message = match error.without_snippet() {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key `{}` is given twice", printable(key))
        }
        Error::MultipleDocuments { .. } => "expected one YAML document, got several".to_owned(),
        Error::Budget { .. } => {
            "expected a configuration, got YAML that is nested too deep or too large".to_owned()
        }
        // Other texts of the parser may quote the line.
        _ => "not valid YAML: look at quotes, brackets, indentation and colons here or just above".to_owned(),
    };
    Problem::new("", message, Some(source))
}

fn origin(name: &str, line: u64) -> String {
    if line == 0 || name == DEFAULT_ORIGIN { name.to_owned() } else { format!("{name}:{line}") }
}

/// A key as it may be shown: `password:secret` without a blank is a key in YAML, and must not be.
pub(super) fn printable(key: &str) -> &str {
    let word = key.len() <= 64 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if word && !key.is_empty() { key } else { "(a key that is no word)" }
}

enum Raw {
    Nothing,
    Truth(bool),
    Whole(i128),
    Fraction(f64),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(String, Spanned<Raw>)>),
}

impl Raw {
    fn into_value(self, name: &str, line: u64) -> Value {
        let kind = match self {
            Self::Nothing => ValueKind::Nil,
            Self::Truth(truth) => ValueKind::Boolean(truth),
            Self::Whole(number) => ValueKind::I128(number),
            Self::Fraction(number) => ValueKind::Float(number),
            Self::Text(text) => ValueKind::String(text),
            Self::List(items) => ValueKind::Array(
                items.into_iter().map(|item| item.value.into_value(name, item.referenced.line())).collect(),
            ),
            Self::Map(entries) => match entries.as_slice() {
                // `key: {NAME}` without quotes is a map to YAML, and a placeholder to whoever wrote it.
                [(inside, Spanned { value: Self::Nothing, .. })] if Placeholder::read(inside).is_some() => {
                    ValueKind::String(format!("{{{inside}}}"))
                }
                _ => ValueKind::Table(
                    entries
                        .into_iter()
                        .filter(|(_, entry)| !matches!(entry.value, Self::Nothing))
                        .map(|(key, entry)| (key, entry.value.into_value(name, entry.referenced.line())))
                        .collect(),
                ),
            },
        };
        Value::new(Some(&origin(name, line)), kind)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyRaw)
    }
}

struct AnyRaw;

impl<'de> Visitor<'de> for AnyRaw {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_bool<E>(self, truth: bool) -> Result<Raw, E> {
        Ok(Raw::Truth(truth))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Whole(number.into()))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Whole(number.into()))
    }
    fn visit_i128<E>(self, number: i128) -> Result<Raw, E> {
        Ok(Raw::Whole(number))
    }
    fn visit_u128<E>(self, number: u128) -> Result<Raw, E> {
        Ok(i128::try_from(number).map_or(Raw::Fraction(f64::MAX), Raw::Whole))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
        Ok(Raw::Fraction(number))
    }
    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }
    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }
    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Nothing)
    }
    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Nothing)
    }
    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Raw, D::Error> {
        from.deserialize_any(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = from.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}
