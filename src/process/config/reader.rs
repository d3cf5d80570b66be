//! Reads tables key by key: collects what is wrong instead of stopping at it, and notes what was read from
//! where.

use std::cell::RefCell;
use std::collections::BTreeMap;

use ::config::{Value, ValueKind};

use super::kinds::{Given, Kind};
use super::layers;
use super::problem::Problem;
use super::yaml::{DEFAULT_ORIGIN, printable};
use crate::domain::likeness::nearest;

/// A value in effect, for `config show`.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its key from the root on, such as `api.port` or `task_types[0].attempts`.
    pub path: String,
    /// The value; secrets are `***`.
    pub value: serde_json::Value,
    /// Which layer said so.
    pub origin: String,
}

impl Entry {
    /// Whether somebody said so, rather than the default or another value.
    pub(super) fn is_given(&self) -> bool {
        self.origin != DEFAULT_ORIGIN && !self.origin.starts_with("follows from ")
    }
}

/// All that was found while reading.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    pub(super) entries: Vec<Entry>,
}

/// A table being read. Keys that nobody asked for are unknown, see [`Table::finish`].
pub(super) struct Table<'f> {
    findings: &'f RefCell<Findings>,
    path: String,
    rest: BTreeMap<String, Value>,
    default: BTreeMap<String, Value>,
    known: Vec<&'static str>,
    /// Required values that are absent, or whose placeholder is not set: only whoever needs this table minds.
    pub(super) lacking: Vec<Problem>,
    /// Whether any required value was given.
    pub(super) begun: bool,
}

impl<'f> Table<'f> {
    pub(super) fn new(
        findings: &'f RefCell<Findings>,
        path: impl Into<String>,
        value: Value,
        default: Value,
    ) -> Self {
        let path = path.into();
        let rest = match value.kind {
            ValueKind::Table(table) => table.into_iter().collect(),
            ValueKind::Nil => BTreeMap::new(),
            _ => {
                let message = format!("expected a map, got {}", Given::new(&value).describe(false));
                findings.borrow_mut().problems.push(Problem::new(&path, message, layers::place(&value)));
                BTreeMap::new()
            }
        };
        let default = default.into_table().unwrap_or_default().into_iter().collect();
        Self { findings, path, rest, default, known: Vec::new(), lacking: Vec::new(), begun: false }
    }

    /// The path of one of its keys.
    pub(super) fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Takes a value out as it is.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.rest.remove(key)
    }

    /// Whether a map was given for a key.
    pub(super) fn has_table(&self, key: &str) -> bool {
        self.rest.get(key).is_some_and(|value| matches!(value.kind, ValueKind::Table(_)))
    }

    /// A table of what was taken out under a key, or of what stands for it.
    pub(super) fn below(&self, key: &str, value: Value) -> Table<'f> {
        Table::new(self.findings, self.path(key), value, Value::default())
    }

    /// The table below a key; an empty one when it is absent.
    pub(super) fn table(&mut self, key: &'static str) -> Table<'f> {
        let value = self.take(key).unwrap_or_default();
        let default = self.default.remove(key).unwrap_or_default();
        Table::new(self.findings, self.path(key), value, default)
    }

    /// A value that may be absent.
    pub(super) fn optional<K: Kind>(&mut self, key: &'static str, kind: &K) -> Option<K::Value> {
        let value = self.take(key)?;
        let path = self.path(key);
        if let Some(variable) = layers::unset(&value) {
            let message = format!("the environment variable `{variable}` is not set");
            self.lacking.push(Problem::new(path, message, layers::place(&value)));
            return None;
        }
        let given = Given::new(&value);
        let Some(parsed) = kind.parse(&given) else {
            self.problem(key, kind.refusal(&given), layers::place(&value));
            return None;
        };
        let origin = layers::layer(&value).to_owned();
        self.findings.borrow_mut().entries.push(Entry { path, value: kind.show(&parsed), origin });
        Some(parsed)
    }

    /// A value the compiled-in default has. When the given one is wrong, that default stands in so that
    /// reading can go on.
    pub(super) fn value<K: Kind<Value: Default>>(&mut self, key: &'static str, kind: &K) -> K::Value {
        let fallback = self.default.remove(key);
        self.optional(key, kind).or_else(|| kind.parse(&Given::new(&fallback?))).unwrap_or_default()
    }

    /// A value that must be there.
    pub(super) fn required<K: Kind>(&mut self, key: &'static str, kind: &K) -> Option<K::Value> {
        if !self.rest.contains_key(key) {
            let message = format!("is missing: expected {}", kind.expected());
            self.lacking.push(Problem::new(self.path(key), message, None));
        } else {
            self.begun = true;
        }
        self.optional(key, kind)
    }

    /// A value that may be absent, and then is what `otherwise` says for the reason it gives.
    pub(super) fn or<K: Kind>(
        &mut self,
        key: &'static str,
        kind: &K,
        (otherwise, from): (K::Value, &str),
    ) -> K::Value {
        let absent = !self.rest.contains_key(key);
        self.optional(key, kind).unwrap_or_else(|| {
            if absent {
                self.derived(key, kind, &otherwise, from);
            }
            otherwise
        })
    }

    /// Notes a value that follows from others.
    fn derived<K: Kind>(&self, key: &str, kind: &K, value: &K::Value, from: &str) {
        let entry = Entry { path: self.path(key), value: kind.show(value), origin: from.to_owned() };
        self.findings.borrow_mut().entries.push(entry);
    }

    /// Notes something wrong with a key.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>, source: Option<String>) {
        self.findings.borrow_mut().problems.push(Problem::new(self.path(key), message, source));
    }

    /// Reports what nobody asked for. Answers what is lacking.
    pub(super) fn finish(self) -> Vec<Problem> {
        for (key, value) in &self.rest {
            let shown = printable(key);
            let near = nearest(key, self.known.iter().copied());
            let hint = near.map_or_else(
                || format!("known here: {}", self.known.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            self.problem(shown, format!("unknown key; {hint}"), layers::place(value));
        }
        self.lacking
    }

    /// [`Self::finish`] for a table everybody needs: what is lacking is a problem at once.
    pub(super) fn finish_needed(self) {
        let findings = self.findings;
        let lacking = self.finish();
        findings.borrow_mut().problems.extend(lacking);
    }
}
