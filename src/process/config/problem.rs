//! What is wrong with a configuration, all of it at once.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The key it is about, such as `api.port`; empty when it is about a whole file.
    pub key: String,
    /// What was expected and what came; never the value of a secret.
    pub message: String,
    /// Where it was said: file and line, variable or flag.
    pub source: Option<String>,
}

impl Problem {
    pub(super) fn new(key: impl Into<String>, message: impl Into<String>, source: Option<String>) -> Self {
        Self { key: key.into(), message: message.into(), source }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        self.source.as_ref().map_or(Ok(()), |source| write!(f, " ({source})"))
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or may not be read.
    #[error("cannot read the configuration file {}: {reason}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// It does not say what it must, or says what it must not.
    #[error("{}", list(.0))]
    Invalid(Vec<Problem>),
}

impl ConfigError {
    /// What is wrong, one by one.
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Self::Unreadable { .. } => vec![Problem::new("", self.to_string(), None)],
            Self::Invalid(problems) => problems.clone(),
        }
    }
}

fn list(problems: &[Problem]) -> String {
    match problems {
        [one] => format!("the configuration is not valid: {one}"),
        many => {
            many.iter().fold(format!("the configuration has {} problems:", many.len()), |text, problem| {
                format!("{text}\n  {problem}")
            })
        }
    }
}
