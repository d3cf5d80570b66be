//! Which program this is.

use serde::Serialize;

use super::exit::Code;
use super::output::{self, Failure};

/// Its version and, as far as the build knew it, the commit.
pub(super) const TEXT: &str = env!("TASKER_VERSION_TEXT");

#[derive(Serialize)]
struct Version {
    version: &'static str,
    /// Null in a build for development, and in one from sources without their history.
    commit: Option<&'static str>,
}

pub(super) fn show(program: &str, json: bool) -> Result<Code, Failure> {
    let version = Version { version: env!("CARGO_PKG_VERSION"), commit: option_env!("TASKER_BUILD_COMMIT") };
    output::show(json, &version, |_| format!("{program} {TEXT}\n"))?;
    Ok(Code::Ok)
}
