//! What a process is told before it starts, checked before anything else happens.
//!
//! `settings` has one struct a concern. `layers` lays default, file, environment and flags over each other,
//! `placeholder` puts variables into the file, `decode` turns the result into these structs, with `queue`,
//! `requests` and `schedules` for parts of them, and `rules` holds them against each other; `reader` and
//! `kinds` are its tools. `span` and `size` know the units, `secret` keeps passwords out of every text,
//! `show` prints what is in effect, `exposed` looks who can read files with secrets, `database` reads addresses.
//!
//! Whatever is wrong is reported all at once, with key, expectation, what came, and its source. Database,
//! broker and management interface may be absent: a process asks for the parts it needs ([`Config::for_api`]
//! and its siblings).

mod database;
mod decode;
mod exposed;
mod kinds;
mod layers;
mod placeholder;
mod problem;
mod queue;
mod reader;
mod request;
mod requests;
mod rules;
mod schedule;
mod schedules;
mod secret;
mod settings;
pub mod show;
pub mod size;
pub mod span;
mod yaml;

pub use layers::{ConfigFile, DEFAULT, Environment, Flag, Sources};
pub use problem::{ConfigError, Problem};
pub use queue::{Delivery, Pointer, QueuePolicy, Successor};
pub use reader::Entry;
pub use request::{JobPolicy, Requests, RetryPolicy};
pub use rules::is_loopback;
pub use schedule::{Missed, Schedule, next_time};
pub use secret::Secret;
pub use settings::{
    Api, Body, BrokerTls, Config, Database, Endpoint, Http, HttpWorker, Loaded, Log, LogFormat, Management,
    Manager, MessageQueue, OnStop, Output, Part, Proof, Security, Signatures, Signing, Tasks, TlsFiles,
    TypePolicy,
};

#[cfg(test)]
mod tests;

use self::settings::MARGIN;
use crate::domain::TaskType;

/// Lays the sources over each other and checks the result.
///
/// # Errors
/// All that is wrong, at once. Parts that only some processes need are not among it, see [`Part`].
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut loaded = checked(layers::merge(sources)?)?;
    let exposed = exposed::secrets(&loaded, sources.file.path().as_deref());
    loaded.warnings.extend(exposed);
    Ok(loaded)
}

fn checked(merged: layers::Merged) -> Result<Loaded, ConfigError> {
    let (config, findings) = decode::decode(merged);
    if findings.problems.is_empty() {
        Ok(Loaded { config, warnings: findings.warnings, entries: findings.entries })
    } else {
        Err(ConfigError::Invalid(findings.problems))
    }
}

/// Doors of the fuzz targets and of the tests.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing {
    use super::{ConfigError, Environment, checked, layers, show};

    /// What is shown of a configuration.
    ///
    /// # Errors
    /// As [`super::load`].
    pub fn shown(text: &str) -> Result<String, ConfigError> {
        let loaded = checked(layers::merge_text("the text", text, &Environment::default(), &[])?)?;
        Ok(show::yaml(&loaded.entries, false))
    }
}

impl Config {
    /// Reads a text as if it were the only file, without environment and flags.
    ///
    /// # Errors
    /// As [`load`].
    pub fn from_yaml(text: &str) -> Result<Self, ConfigError> {
        Ok(checked(layers::merge_text("the text", text, &Environment::default(), &[])?)?.config)
    }

    /// Adds types of which nothing is known but the name and who performs them. A type that is configured
    /// stays as it is.
    pub fn add_types(&mut self, names: &[TaskType], delivery: Delivery) {
        let new: Vec<_> = names.iter().filter(|name| self.policy(name).is_none()).collect();
        let usual = |name: &TaskType| TypePolicy {
            expires_after: self.tasks.expires_after,
            wait_for_endpoints_timeout: self.api.wait_for_endpoints_timeout,
            ..TypePolicy::usual(name, delivery)
        };
        let policies: Vec<_> = new.into_iter().map(usual).collect();
        let longest = policies.iter().map(TypePolicy::longest_life).max().unwrap_or_default();
        self.endpoint.remember = self.endpoint.remember.max(longest + MARGIN);
        self.task_types.extend(policies);
    }
}

impl TypePolicy {
    /// The policy of a type of which nothing else is said.
    ///
    /// # Panics
    /// Never: a name and who performs it are a valid configuration.
    pub fn usual(name: &TaskType, delivery: Delivery) -> Self {
        let text = format!("task_types: [{{name: \"{name}\", delivery: {}}}]", delivery.as_str());
        let config = Config::from_yaml(&text).expect("a name of a task type is a word");
        config.task_types.into_iter().next().expect("the one type")
    }
}
