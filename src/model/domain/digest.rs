//! What makes two submissions the same: the value of the payload and the set of endpoints. And what makes a
//! value in a payload the same as in another, also in answers.
//!
//! White space, the order of members, the spelling of strings (`é` or `\u00e9`) and of numbers (`1.0` or `1`)
//! do not matter; numbers are compared as exact decimals, so that two that differ only beyond a double's
//! precision differ here. Members that occur twice are both part of the value.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{EndpointName, PayloadKey, Target, own_name};

/// The digest of a submission. `payload` must be JSON of a depth that the stack bears.
pub fn digest(payload: &str, endpoints: &[EndpointName]) -> [u8; 32] {
    let mut names: Vec<&str> = endpoints.iter().map(EndpointName::as_str).collect();
    names.sort_unstable();
    // Neither a canonical JSON text nor a name holds a line break, so the parts cannot run into each other.
    let mut hash = Sha256::new_with_prefix(canonical(payload));
    for name in names {
        hash.update(b"\n");
        hash.update(name);
    }
    hash.finalize().into()
}

/// The digest of a submission that says what its endpoints must be. Whom that chooses changes from one moment
/// to the next, and the same submission again is still the same: the target counts, in its one spelling.
pub fn digest_of_target(payload: &str, target: &Target) -> [u8; 32] {
    // No name begins with a brace.
    Sha256::new_with_prefix(canonical(payload))
        .chain_update(b"\n")
        .chain_update(super::json(target).get())
        .finalize()
        .into()
}

/// The key that a payload has at a pointer (RFC 6901); none when there is nothing, or null.
pub fn payload_key(payload: &RawValue, pointer: &str) -> Option<PayloadKey> {
    value_at(payload, pointer)
        .filter(|value| value.get() != "null")
        .map(|value| Sha256::digest(canonical(value.get())).into())
}

/// The value that a pointer leads to, as it was written. Of members that occur twice the last one counts, as
/// for most readers.
pub fn value_at<'a>(value: &'a RawValue, pointer: &str) -> Option<&'a RawValue> {
    pointer.split('/').skip(1).try_fold(value, |value, step| {
        let name = step.replace("~1", "/").replace("~0", "~");
        match value.get().as_bytes().first() {
            Some(b'{') => serde_json::from_str::<HashMap<Cow<'a, str>, &'a RawValue>>(value.get())
                .ok()?
                .get(name.as_str())
                .copied(),
            Some(b'[') => serde_json::from_str::<Vec<&'a RawValue>>(value.get())
                .ok()?
                .get(name.parse::<usize>().ok()?)
                .copied(),
            _ => None,
        }
    })
}

/// A JSON text that is equal for equal values.
fn canonical(text: &str) -> Vec<u8> {
    canonical_but(text, "", &[])
}

/// The same text with masks: one for each value at an ignored place, which is given as the steps of a
/// pointer, and one for each name of the answering endpoint. The masks are no UTF-8, so nothing in the text
/// is equal to one.
pub(super) fn canonical_but(text: &str, own: &str, ignored: &[&[String]]) -> Vec<u8> {
    let mut writer = Canonical { text, own, at: 0, out: Vec::with_capacity(text.len()) };
    writer.value(ignored);
    writer.out
}

/// Stands for a value at an ignored place.
const IGNORED: u8 = 0xFE;

/// Reads a text that is known to be JSON of bounded depth, so it neither reports errors nor fears recursion.
struct Canonical<'a> {
    text: &'a str,
    /// The name that is masked in strings; empty where none is.
    own: &'a str,
    at: usize,
    out: Vec<u8>,
}

impl<'a> Canonical<'a> {
    /// `ignored` are the places below here, each the steps that are left to it.
    fn value(&mut self, ignored: &[&[String]]) {
        let begin = self.out.len();
        match self.peek() {
            b'{' => self.object(ignored),
            b'[' => self.array(ignored),
            b'"' => self.string(),
            _ => self.word(),
        }
        if ignored.iter().any(|steps| steps.is_empty()) {
            self.out.truncate(begin);
            self.out.push(IGNORED);
        }
    }

    fn array(&mut self, ignored: &[&[String]]) {
        self.at += 1;
        self.out.push(b'[');
        let mut place = 0usize;
        while !matches!(self.peek(), b']' | 0) {
            self.value(&below(ignored, || place.to_string()));
            self.out.push(b',');
            self.at += usize::from(self.peek() == b',');
            place += 1;
        }
        self.at += 1;
        self.out.push(b']');
    }

    /// Writes the members as they come, then puts them in order.
    fn object(&mut self, ignored: &[&[String]]) {
        self.at += 1;
        self.out.push(b'{');
        let begin = self.out.len();
        let mut members: Vec<(Range<usize>, usize)> = Vec::new();
        while !matches!(self.peek(), b'}' | 0) {
            let (start, spelt) = (self.out.len(), self.at);
            self.string();
            let name = start..self.out.len();
            let whole = self.text.get(spelt..self.at).unwrap_or_default();
            let within = below(ignored, || serde_json::from_str(whole).unwrap_or_default());
            self.at += usize::from(self.peek() == b':');
            self.value(&within);
            self.out.push(b',');
            members.push((name, self.out.len()));
            self.at += usize::from(self.peek() == b',');
        }
        self.at += 1;
        if !members.is_sorted_by_key(|(name, _)| &self.out[name.clone()]) {
            members.sort_by_key(|(name, _)| &self.out[name.clone()]);
            let ordered: Vec<u8> =
                members.iter().flat_map(|(name, end)| &self.out[name.start..*end]).copied().collect();
            self.out.truncate(begin);
            self.out.extend(ordered);
        }
        self.out.push(b'}');
    }

    fn string(&mut self) {
        self.skip_space();
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut end = start + 1;
        let mut escaped = false;
        while let Some(byte) = bytes.get(end) {
            match byte {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    end += 2;
                }
                _ => end += 1,
            }
        }
        self.at = (end + 1).min(bytes.len());
        let raw = self.text.get(start..self.at).unwrap_or_default();
        match escaped.then(|| serde_json::from_str::<String>(raw)) {
            Some(Ok(plain)) => self.masked(&plain, |out, part| {
                // Without the quotes around it.
                let spelt = serde_json::to_vec(part).unwrap_or_default();
                out.extend(spelt.get(1..spelt.len().saturating_sub(1)).unwrap_or_default());
            }),
            _ => self.masked(raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default(), |out, part| {
                out.extend(part.as_bytes())
            }),
        }
    }

    /// Writes a string in its parts between the masks.
    fn masked(&mut self, text: &str, spell: impl Fn(&mut Vec<u8>, &str)) {
        self.out.push(b'"');
        for (place, part) in own_name::parts(text, self.own).enumerate() {
            if place > 0 {
                self.out.push(own_name::MASK);
            }
            spell(&mut self.out, part);
        }
        self.out.push(b'"');
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let ends = |byte: u8| matches!(byte, b',' | b':' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
        let word = &rest[..rest.bytes().position(ends).unwrap_or(rest.len())];
        self.at += word.len().max(1);
        if word.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            decimal(word, &mut self.out);
        } else {
            self.out.extend(word.as_bytes());
        }
    }

    /// The next byte that is not white space; 0 at the end.
    fn peek(&mut self) -> u8 {
        self.skip_space();
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn skip_space(&mut self) {
        while matches!(self.text.as_bytes().get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }
}

/// Those of the places that lie below a member or an element, from there on.
pub(super) fn below<'p>(ignored: &[&'p [String]], step: impl FnOnce() -> String) -> Vec<&'p [String]> {
    if ignored.is_empty() {
        return Vec::new();
    }
    let step = step();
    ignored
        .iter()
        .filter_map(|steps| steps.split_first())
        .filter(|(first, _)| **first == step)
        .map(|(_, rest)| rest)
        .collect()
}

/// Writes a number as sign, digits without zeros at either end, and exponent of ten: equal for equal numbers,
/// and only for them.
fn decimal(number: &str, out: &mut Vec<u8>) {
    let (negative, number) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let trimmed = if fraction.is_empty() { whole.trim_end_matches('0') } else { whole };
    let (shift, places) = (whole.len() - trimmed.len(), fraction.len());
    let whole = trimmed.trim_start_matches('0');
    let fraction = if whole.is_empty() { fraction.trim_start_matches('0') } else { fraction };
    if whole.is_empty() && fraction.is_empty() {
        return out.push(b'0');
    }
    if negative {
        out.push(b'-');
    }
    // An exponent beyond i128 belongs to a number that is too small for a double: its spelling has to do.
    let shift = i128::try_from(shift).unwrap_or_default() - i128::try_from(places).unwrap_or_default();
    match exponent.parse::<i128>().ok().and_then(|exponent| exponent.checked_add(shift)) {
        Some(exponent) => {
            for part in [whole, fraction, "e"] {
                out.extend(part.as_bytes());
            }
            // Nearly always, and soon written.
            match u8::try_from(exponent) {
                Ok(digit @ 0..10) => out.push(b'0' + digit),
                _ => out.extend(exponent.to_string().into_bytes()),
            }
        }
        None => out.extend(number.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn text(text: &str) -> String {
        String::from_utf8(canonical(text)).expect("UTF-8")
    }

    fn names(names: &[&str]) -> Vec<EndpointName> {
        names.iter().map(|name| name.parse().expect("a name")).collect()
    }

    #[test]
    fn spelling_does_not_matter() {
        let same = [
            (r#"{"a":1,"b":[true,null]}"#, " { \"b\" : [ true , null ] ,\n \"a\" : 1.0 } "),
            (r#""é/""#, r#""\u00e9\/""#),
            (r#"{"\u0061":1}"#, r#"{"a":1}"#),
            ("100", "1e2"),
            ("-0.0", "0"),
            ("1.50", "15e-1"),
            ("[]", "[ ]"),
            ("{}", "{\t}"),
            (r#"{"b":{"y":1,"x":2},"a":0}"#, r#"{"a":0,"b":{"x":2,"y":1}}"#),
        ];
        for (one, other) in same {
            assert_eq!(text(one), text(other), "{one} and {other}");
        }
    }

    #[test]
    fn values_do() {
        let all = [
            "1",
            "-1",
            "10",
            "\"1\"",
            "true",
            "\"true\"",
            "null",
            "[]",
            "{}",
            "[[]]",
            "[1]",
            "[1,2]",
            "[2,1]",
            "[12]",
            "12345678901234567890123",
            "12345678901234567890124",
            r#"{"a":1}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":2,"a":1}"#,
            r#"{"a":2}"#,
            r#"{"a":[1]}"#,
            r#""\u0000""#,
            r#""\\u0000""#,
            "\"\"",
        ];
        for (index, one) in all.iter().enumerate() {
            for other in &all[index + 1..] {
                assert_ne!(text(one), text(other), "{one} and {other}");
            }
        }
    }

    #[test]
    fn endpoints_are_a_set() {
        assert_eq!(digest("1", &names(&["a", "b"])), digest("1", &names(&["b", "a"])));
        assert_ne!(digest("1", &names(&["a", "b"])), digest("1", &names(&["ab"])));
        assert_ne!(digest("1", &names(&["a"])), digest("1", &names(&[])));
        assert_ne!(digest("1", &names(&["a"])), digest("2", &names(&["a"])));
    }

    proptest! {
        #[test]
        fn equal_for_equal_values(pairs in prop::collection::btree_map(any::<String>(), any::<(i64, String)>(), 0..12)) {
            let forward: Value = pairs.iter().map(|(key, (number, text))| (key.clone(), serde_json::json!([number, text]))).collect::<serde_json::Map<_, _>>().into();
            let plain = serde_json::to_string(&forward).expect("serialises");
            let members: Vec<String> = pairs.iter().rev().map(|(key, value)| format!("{} : {}", serde_json::json!(key), serde_json::json!([value.0, value.1]))).collect();
            let backward = format!("{{ {} }}", members.join(" ,\n"));
            prop_assert_eq!(canonical(&plain), canonical(&backward));
        }

        /// It trusts its input; an input that breaks the trust must still not hang or panic.
        #[test]
        fn ends_on_any_text(text in "[{}\\[\\]\",:\\\\0-9eé ]{0,40}") {
            canonical(&text);
        }

        #[test]
        fn decimals_keep_the_number(whole in any::<u32>(), fraction in "[0-9]{1,6}", exponent in -20i32..20) {
            let written = format!("{whole}.{fraction}e{exponent}");
            let (read, kept): (f64, f64) = (written.parse().expect("a number"), text(&written).parse().expect("a number"));
            prop_assert_eq!(read, kept);
        }
    }

    /// The ledger keeps digests, so numbers stay what they were.
    #[test]
    fn a_number_has_one_form() {
        for (number, form) in [
            ("12", "12e0"),
            ("100", "1e2"),
            ("-0.050", "-5e-2"),
            ("10.250E+1", "1025e-1"),
            ("120e30", "12e31"),
            ("-0", "0"),
            ("0.00e7", "0"),
            ("1e-99999999999999999999999999999999999999999", "1e-99999999999999999999999999999999999999999"),
        ] {
            assert_eq!(text(number), form);
        }
    }

    #[test]
    fn what_is_absent_or_null_has_no_key() {
        let payload: Box<RawValue> =
            serde_json::from_str(r#"{"a": null, "b": "null", "c": {"d": null}, "e": [null, 0], "f": false}"#)
                .expect("JSON");
        for (pointer, there) in [
            ("/a", false),
            ("/b", true),
            ("/c", true),
            ("/c/d", false),
            ("/e/0", false),
            ("/e/1", true),
            ("/f", true),
            ("/g", false),
            ("", true),
        ] {
            assert_eq!(payload_key(&payload, pointer).is_some(), there, "{pointer}");
        }
        let null: Box<RawValue> = serde_json::from_str(" null ").expect("JSON");
        assert_eq!(payload_key(&null, ""), None);
    }
}
