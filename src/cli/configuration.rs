//! `tasker config`: check it, show it.

use std::fmt::Write;

use serde::Serialize;

use crate::admission::Admission;
use crate::broker::amqp::try_connection;
use crate::broker::provision::look;
use crate::config::{self, Config, ConfigError, Entry, Environment, Problem, Sources, show};
use crate::endpoint::HandlersDir;
use crate::store;

use super::args::{Configuration, Global, Role};
use super::exit::Code;
use super::output::{self, Failure, note, print, print_json};

pub(super) async fn run(global: &Global, command: Configuration) -> Result<Code, Failure> {
    let sources = Sources { file: global.file(), environment: Environment::of_process(), flags: Vec::new() };
    match command {
        Configuration::Check { roles, connect } => check(global, &sources, &roles, connect).await,
        Configuration::Show { origin } => show(global, &sources, origin),
    }
}

#[derive(Serialize)]
struct Checked {
    ok: bool,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

async fn check(global: &Global, sources: &Sources, roles: &[Role], connect: bool) -> Result<Code, Failure> {
    let loaded = match config::load(sources) {
        Ok(loaded) => loaded,
        Err(error) if !global.json => return Err(error.into()),
        Err(error) => return tell(&Checked { ok: false, problems: error.problems(), warnings: Vec::new() }),
    };
    let mut problems = lacking(&loaded.config, roles);
    // Only the API needs the schemas: elsewhere their files may be absent.
    if is_for(roles, &[Role::Api]) {
        problems
            .extend(Admission::read(&loaded.config).err().map(|error| error.problems()).unwrap_or_default());
    }
    let mut warnings = loaded.warnings;
    // Nobody but endpoints and workers looks there.
    if is_for(roles, &[Role::Endpoint, Role::Worker]) {
        warnings.extend(handlers_dir(&loaded.config));
    }
    let shut_out =
        if connect && problems.is_empty() { connections(&loaded.config, roles).await } else { Vec::new() };
    if global.json {
        problems.extend(shut_out);
        return tell(&Checked { ok: problems.is_empty(), problems, warnings });
    }
    if let Some((last, others)) = shut_out.split_last() {
        for problem in others {
            note(&format!("tasker: {}", problem.message));
        }
        return Err(Failure::Setup(last.message.clone()));
    }
    for warning in &warnings {
        output::warn(warning);
    }
    if !problems.is_empty() {
        return Err(ConfigError::Invalid(problems).into());
    }
    print("ok\n")?;
    Ok(Code::Ok)
}

/// Tells a program what was found.
fn tell(checked: &Checked) -> Result<Code, Failure> {
    print_json(checked)?;
    Ok(if checked.ok { Code::Ok } else { Code::Failure })
}

/// Whether something is of use to the roles that were named, or to any if none was.
fn is_for(roles: &[Role], users: &[Role]) -> bool {
    roles.is_empty() || users.iter().any(|role| roles.contains(role))
}

/// What keeps the roles, or all of them, out of the servers that are configured.
async fn connections(config: &Config, roles: &[Role]) -> Vec<Problem> {
    let problem = |key: &str, message: String| Problem { key: key.to_owned(), message, source: None };
    let mut problems = Vec::new();
    if let Some(db) = config.manager.db.get().filter(|_| is_for(roles, &[Role::Api, Role::Initialize])) {
        let looked = match store::open_existing(db) {
            // The tables are there once `tasker initialize` has run.
            Ok(store) => {
                let looked = match is_for(roles, &[Role::Api]) {
                    true => store.check_schema().await,
                    false => store.now().await.map(drop),
                };
                store.close().await;
                looked
            }
            Err(error) => Err(error),
        };
        problems.extend(looked.err().map(|error| problem("manager.db", error.to_string())));
    }
    let of_broker = [Role::Api, Role::Endpoint, Role::Worker, Role::HttpWorker];
    if let Some(queue) = config.manager.message_queue.get().filter(|_| is_for(roles, &of_broker)) {
        problems
            .extend(try_connection(queue).await.err().map(|reason| problem("manager.message_queue", reason)));
    }
    if let Some(management) = config.management().ok().filter(|_| is_for(roles, &[Role::Initialize])) {
        problems.extend(look(management).await.err().map(|error| problem("rabbitmq", error.to_string())));
    }
    problems
}

/// What is wrong with the directory of executables.
fn handlers_dir(config: &Config) -> Option<Problem> {
    let message = HandlersDir::new(config.endpoint.handlers_dir.as_deref()?).trouble()?;
    Some(Problem { key: "endpoint.handlers_dir".to_owned(), message, source: None })
}

/// What the roles miss. Without roles, what is missing of parts that are there at least in part.
fn lacking(config: &Config, roles: &[Role]) -> Vec<Problem> {
    let needed = |role: Role| -> Vec<Result<(), ConfigError>> {
        match role {
            Role::Api => vec![config.for_api().map(drop)],
            Role::Endpoint | Role::Worker => vec![config.for_endpoint().map(drop)],
            Role::HttpWorker => vec![config.for_http_worker().map(drop)],
            Role::Initialize => vec![config.database().map(drop), config.for_provisioning().map(drop)],
        }
    };
    let mut problems: Vec<Problem> = if roles.is_empty() {
        config.begun().cloned().collect()
    } else {
        roles
            .iter()
            .flat_map(|role| needed(*role))
            .filter_map(Result::err)
            .flat_map(|error| error.problems())
            .collect()
    };
    problems.sort_by(|a, b| a.key.cmp(&b.key));
    problems.dedup();
    problems
}

fn show(global: &Global, sources: &Sources, origin: bool) -> Result<Code, Failure> {
    let loaded = config::load(sources)?;
    let shown: serde_json::Map<_, _> =
        loaded.entries.iter().map(|entry| (entry.path.clone(), as_json(entry, origin))).collect();
    output::show(global.json, &shown, |_| {
        let mut text = String::new();
        for problem in loaded.config.begun() {
            _ = writeln!(text, "# {problem}");
        }
        text + &show::yaml(&loaded.entries, origin)
    })?;
    Ok(Code::Ok)
}

fn as_json(entry: &Entry, origin: bool) -> serde_json::Value {
    if origin {
        serde_json::json!({"value": entry.value, "origin": entry.origin})
    } else {
        entry.value.clone()
    }
}
