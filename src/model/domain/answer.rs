//! Which final answers are the same, so that a person reads three groups and not ten thousand rows.
//!
//! An answer is its error number, its message and its payload. The name of the endpoint that gives it does
//! not count wherever it stands alone in a text (`own_name`), nor does what the type's configuration ignores.
//! JSON counts by value, as it does in submissions.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::digest::canonical_but;
use super::likeness::quoted;
use super::{TaskType, own_name};

/// Stands before the payload of an answer: a byte that is in no text.
const PAYLOAD: u8 = 0xFD;

/// The name of a group of equal answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AnswerDigest([u8; 16]);

impl AnswerDigest {
    /// Hexadecimal digits that it has.
    pub const DIGITS: usize = 32;

    /// As it was stored.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// To be stored.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for AnswerDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for AnswerDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for AnswerDigest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || {
            format!(
                "expected the digest of an answer, {} hexadecimal digits, got {}",
                Self::DIGITS,
                quoted(text)
            )
        };
        // A sign would pass as a digit.
        let formed = text.len() == Self::DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = Some(text).filter(|_| formed).and_then(|text| u128::from_str_radix(text, 16).ok());
        number.map(|number| Self(number.to_be_bytes())).ok_or_else(invalid)
    }
}

impl Serialize for AnswerDigest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AnswerDigest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Places in a payload that do not count: process ids, times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignored(Vec<Vec<String>>);

impl Ignored {
    /// What these JSON pointers (RFC 6901) lead to.
    pub fn of<'p>(pointers: impl IntoIterator<Item = &'p str>) -> Self {
        let steps = |pointer: &str| {
            pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
        };
        Self(pointers.into_iter().map(steps).collect())
    }

    pub(super) fn places(&self) -> Vec<&[String]> {
        self.0.iter().map(Vec::as_slice).collect()
    }
}

/// What does not count in the answers to tasks of each type. A type without an entry ignores nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IgnoredByType(BTreeMap<TaskType, Ignored>);

impl FromIterator<(TaskType, Ignored)> for IgnoredByType {
    fn from_iter<T: IntoIterator<Item = (TaskType, Ignored)>>(types: T) -> Self {
        Self(types.into_iter().filter(|(_, ignored)| !ignored.0.is_empty()).collect())
    }
}

impl IgnoredByType {
    /// Of a type.
    pub fn of(&self, task_type: &TaskType) -> &Ignored {
        static NOTHING: Ignored = Ignored(Vec::new());
        self.0.get(task_type).unwrap_or(&NOTHING)
    }
}

/// The final answer of an endpoint to a task.
#[derive(Debug, Clone, Copy)]
pub struct FinalAnswer<'a> {
    /// The name of the endpoint that gave it; empty for what the platform says in the place of endpoints.
    pub endpoint: &'a str,
    /// 0 for success.
    pub errnr: i32,
    /// What went wrong, empty on success.
    pub errmsg: &'a str,
    /// What the handler answered; JSON of bounded depth.
    pub payload: Option<&'a RawValue>,
}

impl FinalAnswer<'_> {
    /// Equal for answers that are the same.
    pub fn digest(&self, ignored: &Ignored) -> AnswerDigest {
        let mut hash = Sha256::new_with_prefix(self.errnr.to_be_bytes());
        for (place, part) in own_name::parts(self.errmsg, self.endpoint).enumerate() {
            if place > 0 {
                hash.update([own_name::MASK]);
            }
            hash.update(part);
        }
        if let Some(payload) = self.payload {
            hash.update([PAYLOAD]);
            hash.update(self.canonical(payload, &ignored.places()));
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.finalize()[..16]);
        AnswerDigest(digest)
    }

    /// A text that is equal for values that are the same.
    pub(super) fn canonical(&self, value: &RawValue, ignored: &[&[String]]) -> Vec<u8> {
        canonical_but(value.get(), self.endpoint, ignored)
    }

    /// A text of the answer with a word in the place of its endpoint's name.
    pub(super) fn nameless(&self, text: &str) -> String {
        own_name::replaced(text, self.endpoint, "<endpoint>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Json;
    use proptest::prelude::*;

    fn digest_of(
        name: &str,
        errnr: i32,
        errmsg: &str,
        payload: Option<&str>,
        ignored: &[&str],
    ) -> AnswerDigest {
        let payload: Option<Json> = payload.map(|text| serde_json::from_str(text).expect("JSON"));
        let answer = FinalAnswer { endpoint: name, errnr, errmsg, payload: payload.as_deref() };
        answer.digest(&Ignored::of(ignored.iter().copied()))
    }

    #[test]
    fn the_own_name_the_spelling_and_ignored_places_do_not_count() {
        let digest =
            |name: &str, payload: &str, ignored: &[&str]| digest_of(name, 0, "", Some(payload), ignored);
        for (one, other, ignored) in [
            (("a", r#"{"n":1,"m":[true]}"#), ("b", " {\"m\": [true], \"n\": 1.0}"), &[][..]),
            (("web1", r#"{"host":"web1.example.com"}"#), ("web2", r#"{"host":"web2.example.com"}"#), &[]),
            // Also as the name of a member, which moves to another place in the order; and behind an escape.
            (("a", r#"{"a":1,"b":"\na"}"#), ("z", r#"{"z":1,"b":"\nz"}"#), &[]),
            (
                ("a", r#"{"pid":7,"x":[{"ms":1},2]}"#),
                ("b", r#"{"pid":"none","x":[{"ms":3},2]}"#),
                &["/pid", "/x/0/ms"],
            ),
            (("x", r#"{"a/b":1,"~":2}"#), ("y", r#"{"a/b":3,"~":[4]}"#), &["/a~1b", "/~0"]),
            (("a", "17"), ("b", r#"{"all":"else"}"#), &[""]),
        ] {
            assert_eq!(digest(one.0, one.1, ignored), digest(other.0, other.1, ignored), "{one:?} {other:?}");
        }
        for (one, other, ignored) in [
            (("a", r#"{"n":1}"#), ("b", r#"{"n":2}"#), &[][..]),
            (("web1", r#"["web12"]"#), ("web2", r#"["web22"]"#), &[]),
            (("web1", r#"["web2"]"#), ("web2", r#"["web1"]"#), &["/1"]),
            (("a", r#"{"pid":1}"#), ("b", "{}"), &["/pid"]),
            (("a", r#"{"pid":1,"n":1}"#), ("b", r#"{"pid":1,"n":2}"#), &["/pid", "/n/0"]),
            (("a", r#"[1,2]"#), ("b", r#"[2,1]"#), &["/01"]),
            // A number is no text.
            (("1", "[1]"), ("2", "[2]"), &[]),
        ] {
            assert_ne!(digest(one.0, one.1, ignored), digest(other.0, other.1, ignored), "{one:?} {other:?}");
        }
    }

    #[test]
    fn number_message_and_payload_count_each_for_itself() {
        let all = [
            digest_of("a", 0, "", None, &[]),
            digest_of("a", 1, "", None, &[]),
            digest_of("a", 0, "", Some("null"), &[]),
            digest_of("a", 0, "null", None, &[]),
            digest_of("a", 0, "x", Some("\"\""), &[]),
            digest_of("a", 0, "", Some("\"x\""), &[]),
            digest_of("a", 0, "a", None, &[]),
            digest_of("a", 0, "\u{ff}", None, &[]),
        ];
        for (place, one) in all.iter().enumerate() {
            assert!(all[place + 1..].iter().all(|other| other != one), "{place}");
        }
    }

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = AnswerDigest::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        let text = "000102030405060708090a0b0c0d0eff";
        assert_eq!((digest.to_string().as_str(), text.parse()), (text, Ok(digest)));
        assert_eq!(text.to_uppercase().parse(), Ok(digest));
        for text in [
            "",
            "00",
            "+00102030405060708090a0b0c0d0eff",
            "é00102030405060708090a0b0c0d0ef",
            "000102030405060708090a0b0c0d0eff0",
        ] {
            assert!(
                text.parse::<AnswerDigest>().is_err_and(|reason| reason.contains("32 hexadecimal digits")),
                "{text}"
            );
        }
    }

    /// A text with places for a name, none of which touches a letter or digit, and without other words that
    /// could be one.
    fn template() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("[ :;/\\\\\"\n({\u{e9}]{0,2}[ :/(]", 1..6)
    }

    proptest! {
        #[test]
        fn the_own_name_never_tells_answers_apart(one in "[A-Za-z0-9][A-Za-z0-9._-]{0,12}", other in "[A-Za-z0-9][A-Za-z0-9._-]{0,12}", around in template()) {
            let message = |name: &str| around.iter().map(|text| format!("{name}{text}")).collect::<String>().replace('\u{e9}', "");
            let payload = |name: &str| crate::domain::json(&BTreeMap::from([(format!("at {name}"), message(name))]));
            let digest = |name: &str| digest_of(name, 1, &message(name), Some(payload(name).get()), &[]);
            prop_assert_eq!(digest(&one), digest(&other));
        }

        #[test]
        fn another_message_is_another_answer(name in "[A-Za-z0-9._-]{1,4}", one in "\\PC{0,20}", other in "\\PC{0,20}") {
            // Replacing its name by one that cannot stand there keeps apart what is not the same.
            let shown = |text: &str| own_name::parts(text, &name).map(str::to_owned).collect::<Vec<_>>();
            let same = digest_of(&name, 1, &one, None, &[]) == digest_of(&name, 1, &other, None, &[]);
            prop_assert_eq!(same, shown(&one) == shown(&other));
        }

        #[test]
        fn any_answer_has_a_digest(name in "[A-Za-z0-9._-]{1,128}", text in any::<String>(), ignored in proptest::collection::vec("(/[a-c0-2~]{0,2}){0,3}", 0..3)) {
            let json = crate::domain::json(&serde_json::json!({"a": [text, {"b": text}], text.as_str(): 1}));
            let ignored: Vec<&str> = ignored.iter().map(String::as_str).collect();
            prop_assert_eq!(digest_of(&name, 0, &text, Some(json.get()), &ignored), digest_of(&name, 0, &text, Some(json.get()), &ignored));
        }
    }
}
