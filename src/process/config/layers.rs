//! Where a configuration comes from: compiled-in default < file < environment < flags, laid over each other.
//!
//! Every value keeps the name of its source. A `placeholder` in a file is replaced *after* YAML was read, so
//! that no character of a password can change the meaning of the file.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ::config::{Map, Source, Value, ValueKind};

use super::placeholder::{self, Placeholder};
use super::problem::{ConfigError, Problem};
use super::yaml::{self, DEFAULT_ORIGIN, NAMED_IN, WRITTEN};

/// The reference of every key with its default.
pub const DEFAULT: &str = include_str!("../../../config/default.config.yaml");

/// The types of the platform that starts with one command and no file.
const EMBEDDED: &str = "task_types: [worker, backup]";

const VARIABLE: &str = "the environment variable ";
const FLAG: &str = "the flag ";

/// Which file is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ConfigFile {
    /// None: the default, with the built-in sample types.
    #[default]
    Embedded,
    /// `config/<mode>.config.yaml` below the working directory, or `/etc/tasker/<mode>.config.yaml`.
    Mode(String),
    /// This one.
    Path(PathBuf),
}

impl ConfigFile {
    /// Its path. For a mode, the first place that has a file; if none has, the place that is looked at first.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Embedded => None,
            Self::Mode(mode) => Some(find(mode, &PLACES.map(Path::new))),
            Self::Path(path) => Some(path.clone()),
        }
    }

    /// Whether there is such a file.
    pub fn is_there(&self) -> bool {
        self.path().is_none_or(|path| is_there(&path))
    }

    /// What to do where there is no such file.
    fn absent(&self) -> String {
        match self {
            Self::Mode(mode) => format!(
                "there is no such file, and no {} either; run tasker from the directory that has `config/`, or pass --config FILE",
                of_mode(mode, Path::new(PLACES[1])).display()
            ),
            _ => "there is no such file".to_owned(),
        }
    }
}

/// Where the file of a mode is looked for.
const PLACES: [&str; 2] = ["config", "/etc/tasker"];

fn of_mode(mode: &str, place: &Path) -> PathBuf {
    place.join(format!("{mode}.config.yaml"))
}

fn find(mode: &str, places: &[&Path]) -> PathBuf {
    let paths = || places.iter().map(|place| of_mode(mode, place));
    paths().find(|path| is_there(path)).or_else(|| paths().next()).unwrap_or_default()
}

/// A file that may not be read is there: another one must not take its place in silence.
fn is_there(path: &Path) -> bool {
    !matches!(path.metadata(), Err(error) if error.kind() == ErrorKind::NotFound)
}

/// The environment, read once when the process starts.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// Ours whose value is not Unicode.
    unreadable: Vec<String>,
}

impl Environment {
    /// This process's.
    pub fn of_process() -> Self {
        let mut environment = Self::default();
        for (name, value) in std::env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => _ = environment.variables.insert(name, value),
                (Ok(name), Err(_)) if keys_of(&name).is_some() => environment.unreadable.push(name),
                _ => {}
            }
        }
        environment
    }

    /// One made of these.
    pub fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { variables: variables.into(), unreadable: Vec::new() }
    }
}

/// The keys a variable's name stands for: `TASKER_API__PORT` for `api`, `port`. Our other variables
/// (`TASKER_API_URL`, those that executables get) have no double underscore.
fn keys_of(variable: &str) -> Option<Vec<String>> {
    let name = variable.strip_prefix("TASKER_")?;
    // No key lies this deep; what is left of a longer name becomes one unknown key.
    const DEEPEST: usize = 8;
    (name.contains("__") || matches!(name, "TASK_TYPES" | "INSECURE_TRANSPORT"))
        .then(|| name.splitn(DEEPEST, "__").map(str::to_ascii_lowercase).collect())
}

/// A value given on the command line.
#[derive(Debug, Clone)]
pub struct Flag {
    /// The key it sets, such as `api.port`.
    pub key: &'static str,
    /// Its text.
    pub value: String,
    /// What the flag is called, such as `--listen`.
    pub name: &'static str,
}

/// All layers of one configuration.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file.
    pub file: ConfigFile,
    /// The environment.
    pub environment: Environment,
    /// The flags.
    pub flags: Vec<Flag>,
}

/// The layers laid over each other, with what was wrong so far.
pub(super) struct Merged {
    pub(super) tree: Value,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }
    fn collect(&self) -> Result<Map<String, Value>, ::config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// The compiled-in default alone.
pub(super) fn default_tree() -> Value {
    yaml::parse(DEFAULT_ORIGIN, DEFAULT).map(|tree| Value::new(None, tree)).unwrap_or_default()
}

pub(super) fn merge(sources: &Sources) -> Result<Merged, ConfigError> {
    let (name, text) = match sources.file.path() {
        None => ("`tasker up`".to_owned(), EMBEDDED.to_owned()),
        Some(path) => (path.display().to_string(), read(path, &sources.file)?),
    };
    merge_text(&name, &text, &sources.environment, &sources.flags)
}

fn read(path: PathBuf, file: &ConfigFile) -> Result<String, ConfigError> {
    let unreadable = |reason| ConfigError::Unreadable { path: path.clone(), reason };
    let bytes = std::fs::read(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => unreadable(file.absent()),
        _ => unreadable(error.to_string()),
    })?;
    String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8 text".to_owned()))
}

pub(super) fn merge_text(
    name: &str,
    text: &str,
    environment: &Environment,
    flags: &[Flag],
) -> Result<Merged, ConfigError> {
    let file = yaml::parse(name, text).map_err(|problem| ConfigError::Invalid(vec![problem]))?;
    let default =
        yaml::parse(DEFAULT_ORIGIN, DEFAULT).map_err(|problem| ConfigError::Invalid(vec![problem]))?;
    let mut problems = Vec::new();
    let mut layers = ::config::Config::builder();
    for layer in [default, file, variables(environment, &mut problems), given(flags)] {
        layers = layers.add_source(Layer(known_form(layer, &mut problems)));
    }
    let merged = layers.build().map_err(|error| {
        ConfigError::Invalid(vec![Problem::new("", error.to_string(), Some(name.to_owned()))])
    })?;
    let mut tree = merged.cache;
    substitute(&mut tree, environment);
    let warnings = single_underscores(environment);
    Ok(Merged { tree, problems, warnings })
}

/// Takes out top-level keys that are no words: the layering would read `a[7]` or `a.b` as paths.
fn known_form(layer: Map<String, Value>, problems: &mut Vec<Problem>) -> Map<String, Value> {
    let (words, others): (Map<_, _>, Map<_, _>) = layer
        .into_iter()
        .partition(|(key, _)| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
    problems.extend(
        others.iter().map(|(key, value)| Problem::new(yaml::printable(key), "unknown key", place(value))),
    );
    words
}

fn variables(environment: &Environment, problems: &mut Vec<Problem>) -> Map<String, Value> {
    for name in &environment.unreadable {
        problems.push(Problem::new("", "the value is not Unicode text", Some(format!("{VARIABLE}{name}"))));
    }
    let keyed = environment.variables.iter().filter_map(|(name, value)| {
        let source = format!("{VARIABLE}{name}");
        keys_of(name).map(|keys| (keys, Value::new(Some(&source), value.as_str())))
    });
    nest(keyed)
}

fn given(flags: &[Flag]) -> Map<String, Value> {
    nest(flags.iter().map(|flag| {
        let keys = flag.key.split('.').map(str::to_owned).collect();
        (keys, Value::new(Some(&format!("{FLAG}{}", flag.name)), flag.value.as_str()))
    }))
}

/// Makes nested tables out of values with their keys from the root on.
fn nest(values: impl Iterator<Item = (Vec<String>, Value)>) -> Map<String, Value> {
    let mut root = Map::new();
    for (keys, value) in values {
        put(&mut root, &keys, value);
    }
    root
}

fn put(table: &mut Map<String, Value>, keys: &[String], value: Value) {
    match keys {
        [] => {}
        [key] => _ = table.insert(key.clone(), value),
        [key, below @ ..] => {
            let inner = table.entry(key.clone()).or_default();
            if !matches!(inner.kind, ValueKind::Table(_)) {
                *inner = Value::new(None, Map::<String, Value>::new());
            }
            if let ValueKind::Table(inner) = &mut inner.kind {
                put(inner, below, value);
            }
        }
    }
}

/// Replaces placeholders in what a file says. A variable that is not set and has no default leaves the text,
/// marked by its origin.
fn substitute(value: &mut Value, environment: &Environment) {
    let origin = value.origin().unwrap_or_default().to_owned();
    if untyped(&origin) {
        return;
    }
    match &mut value.kind {
        ValueKind::Table(table) => table.values_mut().for_each(|inner| substitute(inner, environment)),
        ValueKind::Array(items) => items.iter_mut().for_each(|inner| substitute(inner, environment)),
        ValueKind::String(text) => {
            let placeholders = Placeholder::all(text);
            let Some(first) = placeholders.first() else { return };
            let missing = placeholders.iter().find(|one| one.value(&environment.variables).is_none());
            let source = match missing {
                Some(Placeholder { name, .. }) => format!("{UNSET}{name}{NAMED_IN}{origin}"),
                None => format!("{VARIABLE}{}{NAMED_IN}{origin}", first.name),
            };
            let replaced = placeholder::replace(text, &environment.variables);
            *value = Value::new(Some(&source), replaced);
        }
        _ => {}
    }
}

const UNSET: &str = "the environment variable, which is not set, ";

/// How a number was written in a file, without quotes; also one that only others take for a number.
pub(super) fn number(value: &Value) -> Option<&str> {
    value.origin()?.strip_prefix(WRITTEN)?.split_once(NAMED_IN).map(|(number, _)| number)
}

/// Which layer a value is of, for people.
pub(super) fn layer(value: &Value) -> &str {
    let origin = value.origin().unwrap_or_default();
    if origin.starts_with(WRITTEN) { place_of(origin) } else { origin }
}

/// Whether a value is text only because its source knows nothing else: it may stand for a number, a truth or
/// a list.
pub(super) fn untyped(origin: &str) -> bool {
    origin.starts_with(VARIABLE) || origin.starts_with(FLAG)
}

/// The variable whose value was put in for a placeholder.
pub(super) fn placeholder(value: &Value) -> Option<&str> {
    value.origin()?.strip_prefix(VARIABLE)?.split_once(NAMED_IN).map(|(name, _)| name)
}

/// The variable that a value or one of its items names and that is not set.
pub(super) fn unset(value: &Value) -> Option<&str> {
    match &value.kind {
        ValueKind::Array(items) => items.iter().find_map(unset),
        _ => value.origin()?.strip_prefix(UNSET)?.split_once(NAMED_IN).map(|(name, _)| name),
    }
}

/// The place of a value for people: file and line, variable or flag. The layering forgets where a table came
/// from; what lies in it has not.
pub(super) fn place(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::Table(table) if value.origin().is_none() => table.values().filter_map(place).min(),
        _ => value.origin().map(|origin| place_of(origin).to_owned()),
    }
}

/// [`place`] of what an origin says: a placeholder stands in its file.
pub(super) fn place_of(origin: &str) -> &str {
    origin.split_once(NAMED_IN).map_or(origin, |(_, place)| place)
}

/// `TASKER_API_PORT` sets nothing: say so to whoever forgot an underscore.
fn single_underscores(environment: &Environment) -> Vec<Problem> {
    let mut paths = Vec::new();
    leaves(&default_tree(), "", &mut paths);
    let meant = |name: &str| {
        let name = name.strip_prefix("TASKER_")?.to_ascii_lowercase();
        paths.iter().find(|path| path.contains('.') && path.replace('.', "_") == name)
    };
    let slips = environment.variables.keys().filter(|name| !name.contains("__"));
    let warning = |name: &String| {
        let path = meant(name)?;
        let right = format!("TASKER_{}", path.replace('.', "__").to_ascii_uppercase());
        Some(Problem::new(
            path.as_str(),
            format!("`{name}` has no effect: levels are separated by two underscores, `{right}`"),
            None,
        ))
    };
    slips.filter_map(warning).collect()
}

fn leaves(value: &Value, path: &str, paths: &mut Vec<String>) {
    match &value.kind {
        ValueKind::Table(table) => {
            for (key, inner) in table {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(inner, &below, paths);
            }
        }
        _ => paths.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_mode_is_the_first_there_is() {
        let (here, etc) =
            (tempfile::TempDir::new().expect("a directory"), tempfile::TempDir::new().expect("a directory"));
        let places = [here.path(), etc.path()];
        let found = || find("production", &places);
        assert_eq!(found(), here.path().join("production.config.yaml"));
        std::fs::write(etc.path().join("production.config.yaml"), "").expect("written");
        assert_eq!(found(), etc.path().join("production.config.yaml"));
        std::fs::write(here.path().join("production.config.yaml"), "").expect("written");
        assert_eq!(found(), here.path().join("production.config.yaml"));
    }
}
