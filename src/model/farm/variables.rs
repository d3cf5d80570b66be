//! Variables in the settings of commands: `{blender}` is another path on each platform.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Task;

/// Whom a value is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Audience {
    /// Workers and users.
    All,
    /// Workers.
    Workers,
    /// Those who submit jobs.
    Users,
}

/// Whether clients turn values back into the variable's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// They do not.
    Oneway,
    /// They do: values are begins of paths.
    Twoway,
}

/// A value on some platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariableValue {
    /// For whom.
    pub audience: Audience,
    /// Where.
    pub platform: String,
    /// The value.
    pub value: String,
}

/// A variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Which way it is used.
    pub direction: Direction,
    /// Its values. A later one for the same audience and platform replaces an earlier one.
    pub values: Vec<VariableValue>,
}

/// All variables by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Variables(pub BTreeMap<String, Variable>);

impl Variables {
    /// The value of a variable for workers of a platform: the last one.
    fn for_workers(&self, name: &str, platform: &str) -> Option<&str> {
        let values = &self.0.get(name)?.values;
        let meant =
            values.iter().rfind(|value| value.audience != Audience::Users && value.platform == platform);
        meant.map(|value| &*value.value)
    }

    /// A text with the variables of a platform in it. What a value brings is not looked at again, so that the
    /// order of the variables does not matter.
    pub fn expand(&self, text: &str, platform: &str) -> String {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            expanded.push_str(&rest[..open]);
            rest = &rest[open..];
            let named =
                rest.find('}').and_then(|close| Some((self.for_workers(&rest[1..close], platform)?, close)));
            match named {
                Some((value, close)) => {
                    expanded.push_str(value);
                    rest = &rest[close + 1..];
                }
                // The name of a variable may begin after a brace that belongs to none.
                None => {
                    expanded.push('{');
                    rest = &rest[1..];
                }
            }
        }
        expanded.push_str(rest);
        expanded
    }

    /// Expands the settings of all commands: their texts, and nothing that is nested deeper.
    pub fn expand_task(&self, task: &mut Task, platform: &str) {
        for setting in task.commands.iter_mut().flat_map(|command| command.settings.values_mut()) {
            if let Value::String(text) = setting {
                *text = self.expand(text, platform);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn variables(entries: &[(&str, Audience, &str, &str)]) -> Variables {
        let mut variables = Variables::default();
        for (name, audience, platform, value) in entries {
            let fresh = || Variable { direction: Direction::Oneway, values: Vec::new() };
            let value =
                VariableValue { audience: *audience, platform: (*platform).into(), value: (*value).into() };
            variables.0.entry((*name).into()).or_insert_with(fresh).values.push(value);
        }
        variables
    }

    #[test]
    fn expands_what_is_meant_for_workers_of_the_platform() {
        let variables = variables(&[
            ("v", Audience::Workers, "linux", "/x"),
            ("u", Audience::Users, "linux", "/no"),
            ("r", Audience::All, "linux", "/y"),
            ("r", Audience::All, "windows", "Y:"),
            ("twice", Audience::All, "linux", "old"),
            ("twice", Audience::All, "linux", "new"),
            ("loop", Audience::All, "linux", "{v}"),
        ]);
        for (text, expected) in [
            ("{v}{v} {r}/a {u} {nope}", "/x/x /y/a {u} {nope}"),
            ("{{v}}", "{/x}"),
            ("{ {v", "{ {v"),
            ("{V} {v }", "{V} {v }"),
            ("{twice} {loop}", "new {v}"),
            ("", ""),
            ("{}", "{}"),
        ] {
            assert_eq!(variables.expand(text, "linux"), expected);
        }
        assert_eq!(variables.expand("{v} {r}", "windows"), "{v} Y:");
        assert_eq!(variables.expand("{v} {r}", "darwin"), "{v} {r}");
    }

    proptest! {
        #[test]
        fn a_text_without_known_names_stays(text in ".*") {
            prop_assert_eq!(Variables::default().expand(&text, "linux"), text);
        }

        #[test]
        fn all_occurrences_are_expanded(parts in proptest::collection::vec("[a-z{} ]{0,5}", 0..6)) {
            let text = parts.join("{é}");
            let expanded = variables(&[("é", Audience::All, "linux", "/x")]).expand(&text, "linux");
            prop_assert_eq!(expanded, text.replace("{é}", "/x"));
        }
    }
}
