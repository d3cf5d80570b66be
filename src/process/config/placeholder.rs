//! `{NAME}` in a value of a file stands for an environment variable; `{NAME:-text}` for `text` where the
//! variable is not set or empty.

use std::collections::BTreeMap;

/// A placeholder, without its braces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placeholder<'a> {
    /// The variable.
    pub(super) name: &'a str,
    /// What stands for a variable that is not set.
    default: Option<&'a str>,
}

impl<'a> Placeholder<'a> {
    /// The placeholder in a text that stood between braces.
    pub(super) fn read(inside: &'a str) -> Option<Self> {
        let (name, default) =
            inside.split_once(":-").map_or((inside, None), |(name, default)| (name, Some(default)));
        let word = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        (name.starts_with(|c: char| c.is_ascii_uppercase()) && word).then_some(Self { name, default })
    }

    /// All placeholders of a text, in order.
    pub(super) fn all(text: &'a str) -> Vec<Self> {
        let parts = text.split('{').skip(1);
        parts.filter_map(|part| Self::read(part.split_once('}')?.0)).collect()
    }

    /// What it stands for; none for a variable that is not set and has no default.
    pub(super) fn value(&self, variables: &'a BTreeMap<String, String>) -> Option<&'a str> {
        let set = variables.get(self.name).map(String::as_str);
        set.filter(|value| self.default.is_none() || !value.is_empty()).or(self.default)
    }
}

/// A text with its placeholders replaced. One that stands for nothing stays as it is.
pub(super) fn replace(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        replaced.push_str(before);
        let found = after
            .split_once('}')
            .and_then(|(inside, tail)| Some((Placeholder::read(inside)?.value(variables)?, tail)));
        match found {
            Some((value, tail)) => {
                replaced.push_str(value);
                rest = tail;
            }
            None => {
                replaced.push('{');
                rest = after;
            }
        }
    }
    replaced + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_or_its_default_takes_the_place() {
        let variables =
            [("A", "1"), ("EMPTY", "")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        for (text, replaced) in [
            ("{A}", "1"),
            ("x{A}y{A}", "x1y1"),
            ("{A:-2}", "1"),
            ("{B:-*/5 * * * *}", "*/5 * * * *"),
            ("{B:-}", ""),
            ("{EMPTY:-2}", "2"),
            ("{EMPTY}", ""),
            ("{B}", "{B}"),
            ("{a:-2} {A:2} {", "{a:-2} {A:2} {"),
        ] {
            assert_eq!(replace(text, &variables), replaced, "{text}");
        }
    }
}
