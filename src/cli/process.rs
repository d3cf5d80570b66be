//! How every process that runs until it is told to stop begins and ends.

use super::exit::Code;
use super::output::Failure;
use super::signals::Signals;
use crate::app;
use crate::config::{self, Config, ConfigFile, Environment, Flag, Sources};
use crate::telemetry::{Quieter, start_logging};

/// What every such process does before anything else.
pub(super) fn begin() -> Result<Signals, Failure> {
    app::seclude();
    Ok(Signals::install()?)
}

/// A setting that was made on the command line, if it was.
pub(super) fn flag(key: &'static str, name: &'static str, value: Option<String>) -> Option<Flag> {
    value.map(|value| Flag { key, name, value })
}

/// Reads the configuration and starts logging as it says.
pub(super) fn load(file: ConfigFile, flags: Vec<Flag>) -> Result<Config, Failure> {
    load_with(file, flags, &[])
}

/// The same, with some of the log left out unless the configuration asks for it.
pub(super) fn load_with(file: ConfigFile, flags: Vec<Flag>, quieter: &[Quieter]) -> Result<Config, Failure> {
    let loaded = config::load(&Sources { file, environment: Environment::of_process(), flags })?;
    start_logging(&loaded.config.log, quieter).map_err(Failure::Usage)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(loaded.config)
}

/// The exit code: a process that ended without being asked to has failed.
pub(super) fn ended(asked: bool) -> Result<Code, Failure> {
    if asked {
        Ok(Code::Ok)
    } else {
        Err(Failure::Setup("a component of the process ended unexpectedly; the log says which".to_owned()))
    }
}
