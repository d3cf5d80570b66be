//! `tasker config`: check it, show it.

use std::fmt::Write;

use serde::Serialize;

use crate::admission::Admission;
use crate::config::{self, Config, ConfigError, Entry, Environment, Problem, Sources, show};

use super::args::{Configuration, Global, Role};
use super::exit::Code;
use super::output::{Failure, note, print, print_json};

pub(super) fn run(global: &Global, command: Configuration) -> Result<Code, Failure> {
    let sources = Sources { file: global.file(), environment: Environment::of_process(), flags: Vec::new() };
    match command {
        Configuration::Check { roles } => check(global, &sources, &roles),
        Configuration::Show { origin } => show(global, &sources, origin),
    }
}

/// Reads the configuration for a command that ends by itself; warns of the parts that it uses.
pub(super) fn read(sources: &Sources, parts: &[&str]) -> Result<Config, ConfigError> {
    let loaded = config::load(sources)?;
    for warning in loaded.warnings.iter().filter(|warning| parts.iter().any(|part| warning.key.starts_with(part))) {
        note(&format!("tasker: warning: {warning}"));
    }
    Ok(loaded.config)
}

#[derive(Serialize)]
struct Checked {
    ok: bool,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

fn check(global: &Global, sources: &Sources, roles: &[Role]) -> Result<Code, Failure> {
    let checked = match config::load(sources) {
        Ok(loaded) => {
            let mut problems = lacking(&loaded.config, roles);
            // Only the API needs the schemas: elsewhere their files may be absent.
            if roles.is_empty() || roles.contains(&Role::Api) {
                problems.extend(Admission::read(&loaded.config).err().map(|error| error.problems()).unwrap_or_default());
            }
            Checked { ok: problems.is_empty(), problems, warnings: loaded.warnings }
        }
        Err(error) => Checked { ok: false, problems: error.problems(), warnings: Vec::new() },
    };
    let code = if checked.ok { Code::Ok } else { Code::Failure };
    if global.json {
        print_json(&checked)?;
        return Ok(code);
    }
    for warning in &checked.warnings {
        note(&format!("warning: {warning}"));
    }
    let listed = checked.problems.iter().fold(String::new(), |text, problem| format!("{text}{problem}\n"));
    print(if checked.ok { "ok\n" } else { &listed })?;
    Ok(code)
}

/// What the roles miss. Without roles, what is missing of parts that are there at least in part.
fn lacking(config: &Config, roles: &[Role]) -> Vec<Problem> {
    let needed = |role: Role| -> Vec<Result<(), ConfigError>> {
        match role {
            Role::Api => vec![config.for_api().map(drop)],
            Role::Endpoint => vec![config.for_endpoint().map(drop)],
            Role::Initialize => vec![config.database().map(drop), config.for_provisioning().map(drop)],
        }
    };
    let mut problems: Vec<Problem> = if roles.is_empty() {
        config.begun().cloned().collect()
    } else {
        roles.iter().flat_map(|role| needed(*role)).filter_map(Result::err).flat_map(|error| error.problems()).collect()
    };
    problems.sort_by(|a, b| a.key.cmp(&b.key));
    problems.dedup();
    problems
}

fn show(global: &Global, sources: &Sources, origin: bool) -> Result<Code, Failure> {
    let loaded = config::load(sources)?;
    if global.json {
        let shown: serde_json::Map<_, _> = loaded.entries.iter().map(|entry| (entry.path.clone(), as_json(entry, origin))).collect();
        print_json(&shown)?;
    } else {
        let mut text = String::new();
        for problem in loaded.config.begun() {
            _ = writeln!(text, "# {problem}");
        }
        print(&(text + &show::yaml(&loaded.entries, origin)))?;
    }
    Ok(Code::Ok)
}

fn as_json(entry: &Entry, origin: bool) -> serde_json::Value {
    if origin { serde_json::json!({"value": entry.value, "origin": entry.origin}) } else { entry.value.clone() }
}
