//! What an endpoint says of itself so that tasks can be aimed at it: `site=berlin`, `role=web`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Facts that every endpoint has without being told; no label may have their names. `os` and `arch` come from
/// the program, `name` and `version` from its presence.
pub const BUILT_IN: [&str; 4] = ["arch", "name", "os", "version"];

/// Why a label is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLabel {
    /// Keys stand in selectors.
    #[error(
        "`{0}` is not a label name: expected 1 to 63 letters, digits, `.`, `_`, `-` and `/` that begin and end with a letter or digit"
    )]
    Key(String),
    /// The name of a fact that every endpoint has.
    #[error("`{0}` is built in (arch, name, os, version): choose another name")]
    BuiltIn(String),
    /// Values stand in tables and logs.
    #[error("the value of `{0}` is at most {max} bytes without control characters", max = Labels::VALUE_LENGTH)]
    Value(String),
    /// They travel with every sign of life.
    #[error("{0} labels; at most {max} are allowed", max = Labels::MAX)]
    TooMany(usize),
}

/// The labels of an endpoint, by name.
///
/// Kept as one text of lines `key=value`, sorted by key: a selector looks at those of 50,000 endpoints, and
/// maps of them would be a million small allocations. No key has a `=`, and neither keys nor values have a
/// line break.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(Box<str>);

impl Labels {
    /// Labels at most, the built-in facts not counted.
    pub const MAX: usize = 32;
    /// Bytes that a value may have.
    pub const VALUE_LENGTH: usize = 255;
    /// Bytes that a key may have.
    const KEY_LENGTH: usize = 63;

    /// Labels as an operator has written them.
    ///
    /// # Errors
    /// [`InvalidLabel`] for the first label that is not valid, or when there are too many labels.
    pub fn of(labels: impl IntoIterator<Item = (String, String)>) -> Result<Self, InvalidLabel> {
        let labels: BTreeMap<String, String> = labels.into_iter().collect();
        for (key, value) in &labels {
            check_key(key)?;
            if BUILT_IN.contains(&key.as_str()) {
                return Err(InvalidLabel::BuiltIn(key.clone()));
            }
            check_value(key, value)?;
        }
        if labels.len() > Self::MAX {
            Err(InvalidLabel::TooMany(labels.len()))
        } else {
            Ok(Self::packed(&labels))
        }
    }

    fn packed(labels: &BTreeMap<String, String>) -> Self {
        Self(labels.iter().map(|(key, value)| format!("{key}={value}\n")).collect::<String>().into())
    }

    /// Labels that a message brings. Invalid labels are dropped, and so are labels beyond the limit: a
    /// program of another version may have sent them.
    #[must_use]
    pub fn believed(labels: BTreeMap<String, String>) -> Self {
        let fits =
            |(key, value): &(String, String)| check_key(key).and_then(|()| check_value(key, value)).is_ok();
        Self::packed(&labels.into_iter().filter(fits).take(Self::MAX + BUILT_IN.len()).collect())
    }

    /// These labels, and the facts `os` and `arch` of the program that runs.
    #[must_use]
    pub fn with_platform(self) -> Self {
        let mut labels = BTreeMap::from(self);
        labels.insert("os".to_owned(), std::env::consts::OS.to_owned());
        labels.insert("arch".to_owned(), std::env::consts::ARCH.to_owned());
        Self::packed(&labels)
    }

    /// These labels, and those of `others` whose names are not among them.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        let mut labels = BTreeMap::from(others);
        labels.extend(BTreeMap::from(self));
        Self::packed(&labels)
    }

    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.split_terminator('\n').find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.split_terminator('\n').filter_map(|line| line.split_once('='))
    }

    /// Whether the endpoint has no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

/// As a JSON object.
impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Labels;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map of labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Labels, A::Error> {
                let mut text = String::with_capacity(256);
                while entries
                    .next_key_seed(Part { text: &mut text, end: '=', without: &['=', '\n'] })?
                    .is_some()
                {
                    entries.next_value_seed(Part { text: &mut text, end: '\n', without: &['\n'] })?;
                }
                let labels = Labels(text.into());
                let sorted = labels.iter().map(|(key, _)| key).is_sorted_by(|one, other| one < other);
                Ok(if sorted { labels } else { Labels::packed(&labels.into()) })
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// A key or a value on its way into the text.
struct Part<'a> {
    text: &'a mut String,
    end: char,
    without: &'static [char],
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Part<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_str<E: de::Error>(self, part: &str) -> Result<(), E> {
        if part.contains(self.without) {
            return Err(E::custom("a label with a character that no label may have"));
        }
        self.text.push_str(part);
        self.text.push(self.end);
        Ok(())
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(formatter, "{separator}{key}={value}")?;
        }
        Ok(())
    }
}

/// Whether a text can be the name of a label.
///
/// # Errors
/// With what is expected.
pub fn check_key(key: &str) -> Result<(), InvalidLabel> {
    let ends = [key.as_bytes().first(), key.as_bytes().last()]
        .into_iter()
        .all(|end| end.is_some_and(u8::is_ascii_alphanumeric));
    let inside = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte));
    if ends && inside && key.len() <= Labels::KEY_LENGTH {
        Ok(())
    } else {
        Err(InvalidLabel::Key(key.to_owned()))
    }
}

fn check_value(key: &str, value: &str) -> Result<(), InvalidLabel> {
    let fits = value.len() <= Labels::VALUE_LENGTH && !value.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(InvalidLabel::Value(key.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(labels: &[(&str, &str)]) -> Result<Labels, InvalidLabel> {
        Labels::of(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn what_is_no_label_is_named() {
        assert!(of(&[("site", "berlin"), ("example.org/role", "web 1"), ("a", "")]).is_ok());
        for key in ["", "-a", "a-", "a b", "ä", "a=b", &"x".repeat(64)] {
            assert_eq!(of(&[(key, "1")]), Err(InvalidLabel::Key(key.to_owned())));
        }
        assert_eq!(of(&[("name", "1")]), Err(InvalidLabel::BuiltIn("name".to_owned())));
        for value in ["a\nb", &"x".repeat(256)] {
            assert_eq!(of(&[("a", value)]), Err(InvalidLabel::Value("a".to_owned())));
        }
        let many: Vec<(String, String)> = (0..33).map(|n| (format!("k{n}"), String::new())).collect();
        assert_eq!(Labels::of(many), Err(InvalidLabel::TooMany(33)));
    }

    #[test]
    fn they_are_asked_by_name_and_read_back() {
        let labels = of(&[("site", "berlin"), ("site.room", "a=b"), ("a", ""), ("note", r#"say "ü" \"#)])
            .expect("labels");
        let asked =
            ["site", "site.room", "a", "note", "sit", "room", "", "site=berlin"].map(|key| labels.get(key));
        assert_eq!(
            asked,
            [Some("berlin"), Some("a=b"), Some(""), Some(r#"say "ü" \"#), None, None, None, None]
        );
        let text = serde_json::to_string(&labels).expect("JSON");
        assert_eq!(text, r#"{"a":"","note":"say \"ü\" \\","site":"berlin","site.room":"a=b"}"#);
        assert_eq!(serde_json::from_str::<Labels>(&text).expect("labels"), labels);
        assert_eq!(
            serde_json::from_str::<Labels>(r#"{"b":"1","a":"2","b":"3"}"#).expect("labels").to_string(),
            "a=2 b=3"
        );
        for bad in [r#"{"a=b":"1"}"#, r#"{"a":"1\n2"}"#, r#"{"a\nb":"1"}"#, r#"{"a":1}"#, "[]"] {
            assert!(serde_json::from_str::<Labels>(bad).is_err(), "{bad}");
        }
        assert_eq!(
            labels.clone().or(of(&[("a", "1"), ("z", "2")]).expect("labels")).get("a"),
            Some(""),
            "the first wins"
        );
        assert!(Labels::default().is_empty() && Labels::default().iter().next().is_none());
    }

    #[test]
    fn of_a_message_only_labels_are_believed() {
        let labels = [("os", "linux"), ("a b", "1"), ("good", "yes"), ("bad", "\u{7}")];
        let labels = Labels::believed(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert_eq!(labels.to_string(), "good=yes os=linux");
        let many = (0..100).map(|n| (format!("k{n}"), String::new())).collect();
        assert_eq!(Labels::believed(many).iter().count(), Labels::MAX + BUILT_IN.len());
    }
}
