//! The configuration, for commands that use it once and end.

use crate::config::{self, Config, ConfigError, ConfigFile, Environment, Sources};

use super::output;

/// Reads the configuration, and warns of the parts that the command uses.
pub(super) fn read(file: ConfigFile, parts: &[&str]) -> Result<Config, ConfigError> {
    let sources = Sources { file, environment: Environment::of_process(), flags: Vec::new() };
    let loaded = config::load(&sources)?;
    for warning in
        loaded.warnings.iter().filter(|warning| parts.iter().any(|part| warning.key.starts_with(part)))
    {
        output::warn(warning);
    }
    Ok(loaded.config)
}
