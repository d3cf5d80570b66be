//! YAML text to a tree of values that know their line, and JSON of it.
//!
//! A payload reaches its handler as it was written, so a number keeps its own text on the way: `6.10` is not
//! 6.1. What YAML alone takes for a number (`0755`, `0x1F`, `1_000`, `.inf`) has no JSON, and is refused
//! there.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};
use serde_saphyr::{Error, Spanned};

use crate::domain::json_text::{write_list, write_object};
use crate::domain::{Json, json};

/// A value, and where it stands.
#[derive(Debug)]
pub struct Node {
    /// The line, from 1 on; 0 where it is not known.
    pub line: u64,
    /// The value.
    pub value: Datum,
    /// What stands there, if that is a number without quotes.
    pub number: Option<String>,
}

/// What a value is. What some readers of YAML take for a number and others do not is a text here.
#[derive(Debug)]
pub enum Datum {
    /// Nothing, or null.
    Nothing,
    /// True or false.
    Truth(bool),
    /// A whole number.
    Whole(i128),
    /// Another number.
    Fraction(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the text.
    Map(Vec<(String, Node)>),
}

/// Why a text cannot be read. It never quotes the text: passwords stand in lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Unreadable {
    /// Where, if that is known.
    pub line: Option<u64>,
    /// What is wrong.
    pub text: String,
}

/// Reads one document of at most so many values.
///
/// # Errors
/// The first thing that is wrong.
pub fn read(text: &str, most: usize) -> Result<Node, Unreadable> {
    let options = serde_saphyr::options! {
        // A snippet would show the lines around an error.
        with_snippet: false,
        // A user called `no` and a password of 0123 are texts.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
        budget: serde_saphyr::budget! { max_depth: 32, max_nodes: most, max_aliases: 100 },
    };
    let root: Spanned<Raw> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| unreadable(&error))?;
    Ok(node(root, text, &plain(text)))
}

fn unreadable(error: &Error) -> Unreadable {
    let text = match error.without_snippet() {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key `{}` is given twice", printable(key))
        }
        Error::MultipleDocuments { .. } => "expected one YAML document, got several".to_owned(),
        Error::Budget { .. } => "the YAML is nested too deep or too large".to_owned(),
        // Other texts of the parser may quote the line.
        _ => "not valid YAML: look at quotes, brackets, indentation and colons here or just above".to_owned(),
    };
    Unreadable { line: error.location().map(|at| at.line()).filter(|line| *line > 0), text }
}

/// A key as it may be shown: `password:secret` without a blank is a key in YAML, and must not be.
pub fn printable(key: &str) -> &str {
    let word = key.len() <= 64 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if word && !key.is_empty() { key } else { "(a key that is not a word)" }
}

impl Node {
    /// The JSON of the value: its numbers as they were written, its members in their order.
    ///
    /// # Errors
    /// The first number that JSON does not have.
    pub fn json(&self) -> Result<Json, Unreadable> {
        let mut text = String::new();
        self.write(&mut text)?;
        let raw = serde_json::value::RawValue::from_string(text)
            .map_err(|error| Unreadable { line: None, text: error.to_string() })?;
        Ok(raw.into())
    }

    fn write(&self, to: &mut String) -> Result<(), Unreadable> {
        if let Some(number) = &self.number {
            let refused = |text| Unreadable { line: Some(self.line).filter(|line| *line > 0), text };
            *to += json_number(number).map_err(refused)?;
            return Ok(());
        }
        match &self.value {
            Datum::Nothing => to.push_str("null"),
            Datum::Truth(truth) => to.push_str(if *truth { "true" } else { "false" }),
            // Numbers that were made by a tag, of what stands in quotes.
            Datum::Whole(number) => *to += &number.to_string(),
            Datum::Fraction(number) => *to += &number.to_string(),
            Datum::Text(text) => *to += json(text).get(),
            Datum::List(items) => write_list(to, items, Self::write)?,
            Datum::Map(members) => {
                write_object(to, members.iter().map(|(key, member)| (key, member)), Self::write)?;
            }
        }
        Ok(())
    }
}

/// A number that was written without quotes, if JSON has it.
///
/// # Errors
/// What to do about it.
pub fn json_number(text: &str) -> Result<&str, String> {
    // Anything else that is valid JSON was no number to begin with.
    match serde_json::from_str::<&serde_json::value::RawValue>(text) {
        Ok(_) => Ok(text),
        Err(_) => Err(format!(
            "`{text}` is a number in some versions of YAML and not in JSON: put it in quotes ('{text}') if it is a text, or write the number in decimal digits"
        )),
    }
}

/// Whether a text is a number in YAML 1.1 or 1.2.
fn looks_like_a_number(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text).to_ascii_lowercase();
    let digits = |text: &str, radix| {
        text.chars().all(|one| one == '_' || one.is_digit(radix)) && text.contains(|one: char| one != '_')
    };
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(rest) = text.strip_prefix(prefix) {
            return digits(rest, radix);
        }
    }
    let (number, power) = text.split_once('e').map_or((&*text, None), |(one, power)| (one, Some(power)));
    let power_fits = power.is_none_or(|power| digits(power.strip_prefix(['+', '-']).unwrap_or(power), 10));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fits = |text: &str| text.is_empty() || digits(text, 10);
    let begins = number.starts_with(|one: char| one.is_ascii_digit() || one == '.');
    let counts = fits(whole) && fits(fraction) && number.contains(|one: char| one.is_ascii_digit());
    matches!(&*text, ".inf" | ".nan") || (begins && counts && power_fits)
}

enum Raw {
    Scalar(Datum),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(String, Spanned<Raw>)>),
}

/// Where scalars begin that are written without quotes, in no block, and without a tag that makes them texts.
fn plain(text: &str) -> HashSet<usize> {
    Parser::new_from_str(text)
        .map_while(Result::ok)
        .filter_map(|(event, span)| match event {
            Event::Scalar(_, ScalarStyle::Plain, _, tag)
                if tag.as_deref().is_none_or(|tag| {
                    ["int", "float"].into_iter().any(|number| tag.is_yaml_core_schema_tag(number))
                }) =>
            {
                span.start.byte_offset()
            }
            _ => None,
        })
        .collect()
}

fn node(Spanned { value, referenced, defined }: Spanned<Raw>, text: &str, plain: &HashSet<usize>) -> Node {
    let span = defined.span();
    let written = || {
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
        plain.contains(&start).then(|| text.get(start..end).map(str::trim))?
    };
    let number = match &value {
        Raw::Scalar(Datum::Whole(_) | Datum::Fraction(_) | Datum::Text(_)) => written(),
        _ => None,
    };
    let number = number.filter(|written| looks_like_a_number(written)).map(str::to_owned);
    let value = match value {
        Raw::Scalar(scalar) => scalar,
        Raw::List(items) => Datum::List(items.into_iter().map(|item| node(item, text, plain)).collect()),
        Raw::Map(members) => {
            Datum::Map(members.into_iter().map(|(key, member)| (key, node(member, text, plain))).collect())
        }
    };
    Node { line: referenced.line(), value, number }
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
        Ok(Raw::Scalar(Datum::Truth(truth)))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Datum::Whole(number.into())))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Datum::Whole(number.into())))
    }
    fn visit_i128<E>(self, number: i128) -> Result<Raw, E> {
        Ok(Raw::Scalar(Datum::Whole(number)))
    }
    fn visit_u128<E>(self, number: u128) -> Result<Raw, E> {
        Ok(Raw::Scalar(i128::try_from(number).map_or(Datum::Fraction(f64::MAX), Datum::Whole)))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Datum::Fraction(number)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Datum::Text(text.to_owned())))
    }
    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Scalar(Datum::Text(text)))
    }
    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Datum::Nothing))
    }
    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Datum::Nothing))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn as_json(text: &str) -> Result<String, Unreadable> {
        read(text, 1_000)?.json().map(|json| json.get().to_owned())
    }

    #[test]
    fn numbers_keep_their_text_and_members_their_order() {
        for (yaml, expected) in [
            ("{z: 6.10, a: 1.0}", r#"{"z":6.10,"a":1.0}"#),
            (
                "big: 12345678901234567890123456789012345678901234567890",
                r#"{"big":12345678901234567890123456789012345678901234567890}"#,
            ),
            ("- -0\n- 1e400 # much\n- 2.50E-3   \n", "[-0,1e400,2.50E-3]"),
            ("ä: &n 1.50\nb: *n", r#"{"ä":1.50,"b":1.50}"#),
            (
                "{a: '0755', b: \"6.10\", c: 1.2.3, d: 2024-01-01, e: 1e, f: +, g: 0xZZ, h: v6.10}",
                r#"{"a":"0755","b":"6.10","c":"1.2.3","d":"2024-01-01","e":"1e","f":"+","g":"0xZZ","h":"v6.10"}"#,
            ),
            (
                "{a: true, b: no, c: ~, d: , e: [], f: {}, g: \"q\\\"\"}",
                r#"{"a":true,"b":"no","c":null,"d":null,"e":[],"f":{},"g":"q\""}"#,
            ),
            ("a: |\n  0755\n", "{\"a\":\"0755\\n\"}"),
            ("a: |-\n  6.10\nb: >-\n  0755\nc: |- # as it is\n  7", r#"{"a":"6.10","b":"0755","c":"7"}"#),
            (
                "{a: !!str 6.10, b: !!str 0755, c: &x !!str 1_0, d: *x, e: !!float 6.10, f: ! 1}",
                r#"{"a":"6.10","b":"0755","c":"1_0","d":"1_0","e":6.10,"f":"1"}"#,
            ),
            ("\u{feff}ä: 6.10", r#"{"ä":6.10}"#),
        ] {
            assert_eq!(as_json(yaml).as_deref(), Ok(expected), "{yaml}");
        }
    }

    #[test]
    fn numbers_that_json_does_not_have_are_refused() {
        for number in [
            "0755", "0x1F", "0o17", "0b11", ".inf", "-.INF", ".nan", "1_000", "+5", ".5", "5.", "007.5",
            "-012",
        ] {
            let refused = as_json(&format!("a: 1\nlist:\n  - ok\n  - {number}")).expect_err(number);
            assert_eq!(refused.line, Some(4), "{number}");
            assert!(refused.text.starts_with(&format!("`{number}` is a number in some")), "{refused}");
        }
    }

    #[test]
    fn what_is_no_yaml_is_told_by_its_line() {
        for (yaml, line, text) in [
            ("a: 1\na: 2", 2, "the key `a` is given twice"),
            ("a: 1\n---\nb: 2", 0, "several"),
            ("a: [", 1, "not valid YAML"),
        ] {
            let error = as_json(yaml).expect_err(yaml);
            assert!(error.text.contains(text) && (line == 0 || error.line == Some(line)), "{error:?}");
        }
    }
}
