//! `tasker config`: check it, show it.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use crate::admission::Admission;
use crate::broker::amqp::try_connection;
use crate::broker::provision::look;
use crate::config::{
    self, Config, ConfigError, Endpoint, Entry, Environment, HttpWorker, Problem, Security, Signatures,
    Sources, show,
};
use crate::endpoint::HandlersDir;
use crate::store;

use super::args::{Configuration, Global, Role};
use super::enrolment;
use super::exit::Code;
use super::output::{self, Failure, note, print, print_json};

pub(super) async fn run(global: &Global, command: Configuration) -> Result<Code, Failure> {
    let mut sources =
        Sources { file: global.file(), environment: Environment::of_process(), flags: Vec::new() };
    match command {
        Configuration::Check { roles, identity, connect } => {
            let performs = |role: &Role| matches!(role, Role::Endpoint | Role::Worker);
            // The environment may name one for all commands of a machine.
            if let Some(path) = identity.filter(|_| !roles.is_empty() && roles.iter().all(performs)) {
                sources.flags = enrolment::flags(&path, None)?;
            }
            check(global, &sources, &roles, connect).await
        }
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
    let mut problems = lacking(&loaded.config, roles, global.api.is_some());
    // Only the API needs the schemas: elsewhere their files may be absent.
    if is_for(roles, &[Role::Api]) {
        problems
            .extend(Admission::read(&loaded.config).err().map(|error| error.problems()).unwrap_or_default());
    }
    let mut warnings = loaded.warnings;
    warnings.retain(|warning| roles.is_empty() || roles.iter().any(|role| reads(*role, &warning.key)));
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
    Some(problem("endpoint.handlers_dir", message))
}

/// The parts of the configuration that a command reads.
const fn parts(role: Role) -> &'static [&'static str] {
    match role {
        Role::Api => {
            &["api", "flamenco", "manager", "requests", "schedules", "security", "task_types", "tasks"]
        }
        Role::Endpoint | Role::Worker => &["endpoint", "manager.message_queue", "task_types"],
        Role::HttpWorker => &["endpoint.clock_tolerance", "http_worker", "manager.message_queue"],
        Role::Initialize => &["manager", "rabbitmq"],
    }
}

/// Whether a command reads a key. All read what is about no part, and those about processes of every kind.
fn reads(role: Role, key: &str) -> bool {
    let within = |part: &str| {
        key.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    key.is_empty() || ["insecure_transport", "log"].iter().chain(parts(role)).any(|part| within(part))
}

/// What the processes of these roles miss to start. Without roles: what is missing in those parts of the
/// configuration that somebody has begun to fill in.
fn lacking(config: &Config, roles: &[Role], over_api: bool) -> Vec<Problem> {
    let mut problems: Vec<Problem> = match roles {
        [] => config.begun().cloned().collect(),
        _ => roles.iter().flat_map(|role| lacking_for(config, *role, over_api)).collect(),
    };
    problems.sort_by(|a, b| a.key.cmp(&b.key));
    problems.dedup();
    problems
}

fn lacking_for(config: &Config, role: Role, over_api: bool) -> Vec<Problem> {
    let parts: Vec<Result<(), ConfigError>> = match role {
        Role::Api => vec![config.for_api().map(drop), config.farm().map(drop)],
        // Such a worker reaches no broker.
        Role::Worker if over_api => vec![],
        Role::Endpoint | Role::Worker => vec![config.for_endpoint().map(drop)],
        Role::HttpWorker => vec![config.for_http_worker().map(drop)],
        Role::Initialize => vec![config.database().map(drop), config.for_provisioning().map(drop)],
    };
    let mut problems: Vec<Problem> =
        parts.into_iter().filter_map(Result::err).flat_map(|error| error.problems()).collect();
    match role {
        Role::Endpoint if config.of_delivery(false).next().is_none() => {
            problems.push(problem("task_types", "has no type without a work queue, which endpoints perform"));
        }
        Role::Worker if config.of_delivery(true).next().is_none() => {
            problems.push(problem("task_types", "has no type with `delivery: queue`, which workers perform"));
        }
        Role::HttpWorker if config.http_worker.http.allow.is_empty() => {
            problems.push(problem("http_worker.http.allow", "is empty: list the hosts that tasks may reach"));
        }
        _ => {}
    }
    problems.extend(files(config, role).into_iter().filter_map(|(key, path)| absent(key, path?)));
    problems
}

/// A file that is read where signatures are verified.
fn verified(signatures: Signatures, path: &Path) -> Option<&Path> {
    Some(path).filter(|_| signatures != Signatures::Off)
}

/// The files without which a command does not start, with their keys.
fn files(config: &Config, role: Role) -> Vec<(&'static str, Option<&Path>)> {
    match role {
        Role::Api => {
            let Security { signing, trust, revocations, reports: _ } = &config.security;
            let (signing, tls) = (signing.as_ref(), config.api.tls.as_ref());
            vec![
                ("api.tls.certificate", tls.map(|tls| tls.certificate.as_path())),
                ("api.tls.key", tls.map(|tls| tls.key.as_path())),
                ("security.signing_key", signing.map(|signing| signing.key.as_path())),
                ("security.certificate", signing.and_then(|signing| signing.certificate.as_deref())),
                ("security.trust", trust.as_deref()),
                // Without either of them nobody reads it.
                (
                    "security.revocations",
                    revocations.as_deref().filter(|_| signing.is_some() || trust.is_some()),
                ),
            ]
        }
        Role::Endpoint | Role::Worker => {
            let Endpoint { signatures, trust, .. } = &config.endpoint;
            vec![("endpoint.trust", verified(*signatures, trust))]
        }
        Role::HttpWorker => {
            let HttpWorker { signatures, trust, revocations, .. } = &config.http_worker;
            vec![
                ("http_worker.trust", verified(*signatures, trust)),
                (
                    "http_worker.revocations",
                    revocations.as_deref().and_then(|path| verified(*signatures, path)),
                ),
            ]
        }
        Role::Initialize => vec![],
    }
}

/// The problem of a file that does not exist. Its content is not looked at: perhaps only the user of the process
/// may read it.
fn absent(key: &str, path: &Path) -> Option<Problem> {
    let absent = path.metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    absent.then(|| problem(key, format!("there is no file {}", path.display())))
}

fn problem(key: &str, message: impl Into<String>) -> Problem {
    Problem { key: key.to_owned(), message: message.into(), source: None }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What each command lacks of a configuration.
    #[test]
    fn each_command_needs_what_it_reads() {
        let broker =
            "message_queue: {host: localhost, username: u, password: p, virtual_host: /, exchange: e}";
        let db = "db: {uri: \"mysql://u@localhost/tasker\"}";
        let with = |parts: &str, more: &str| {
            format!("task_types: [backup, {{name: build, delivery: queue}}]\nmanager: {{{parts}}}\n{more}")
        };
        let both = format!("{db}, {broker}");
        let allowed = "http_worker: {http: {allow: [bmc1]}}";
        let all = [Role::Api, Role::Endpoint, Role::Worker, Role::HttpWorker, Role::Initialize];
        let (queue, no_db) = ("manager.message_queue.", "manager.db.uri");
        for (what, text, wanted) in [
            (
                "everything",
                with(
                    &both,
                    &format!(
                        "{allowed}\nrabbitmq: {{apiurl: \"http://localhost:15672/api\", username: a, password: b}}"
                    ),
                ),
                [&[][..]; 5],
            ),
            (
                "a database and a broker",
                with(&both, ""),
                [&[], &[], &[], &["http_worker.http.allow"], &["rabbitmq."]],
            ),
            ("a broker", with(broker, allowed), [&[no_db], &[], &[], &[], &[no_db, "rabbitmq."]]),
            (
                "a database",
                with(db, allowed),
                [&[queue], &[queue], &[queue], &[queue], &[queue, "rabbitmq."]],
            ),
            (
                "half a database of the render farm",
                with(
                    &both,
                    &format!("{allowed}\nflamenco: {{uri: \"mysql://u:{{TASKER_NO_SUCH}}@localhost/farm\"}}"),
                ),
                [&["flamenco.uri"], &[], &[], &[], &["rabbitmq."]],
            ),
            (
                "no work queue",
                format!("task_types: [backup]\nmanager: {{{broker}}}\n{allowed}"),
                [&[no_db], &[], &["task_types"], &[], &[no_db, "rabbitmq."]],
            ),
            (
                "work queues alone",
                format!("task_types: [{{name: build, delivery: queue}}]\nmanager: {{{broker}}}\n{allowed}"),
                [&[no_db], &["task_types"], &[], &[], &[no_db, "rabbitmq."]],
            ),
            (
                "files of the API that are not there",
                with(
                    &both,
                    &format!(
                        "{allowed}\napi: {{tls: {{certificate: /none/c, key: /none/k}}}}\nsecurity: {{signatures: sign, environment: it, signing_key: /none/s, certificate: /none/e, trust: /none/t, revocations: /none/r}}"
                    ),
                ),
                [
                    &[
                        "api.tls.certificate", "api.tls.key", "security.certificate", "security.revocations",
                        "security.signing_key", "security.trust",
                    ],
                    &[],
                    &[],
                    &[],
                    &["rabbitmq."],
                ],
            ),
            (
                "files of the API that it does not read",
                with(
                    &both,
                    &format!(
                        "{allowed}\nsecurity: {{environment: it, signing_key: /none/s, certificate: /none/e, revocations: /none/r}}"
                    ),
                ),
                [&[], &[], &[], &[], &["rabbitmq."]],
            ),
            (
                "trust files that are not there",
                with(
                    &both,
                    "endpoint: {signatures: prefer, trust: /none/t}\nhttp_worker: {signatures: require, trust: /none/h, revocations: /none/r, http: {allow: [bmc1]}}",
                ),
                [
                    &[],
                    &["endpoint.trust"],
                    &["endpoint.trust"],
                    &["http_worker.revocations", "http_worker.trust"],
                    &["rabbitmq."],
                ],
            ),
            (
                "trust files that nobody reads",
                with(
                    &both,
                    "endpoint: {trust: /none/t}\nhttp_worker: {trust: /none/h, revocations: /none/r, http: {allow: [bmc1]}}",
                ),
                [&[], &[], &[], &[], &["rabbitmq."]],
            ),
        ] {
            let config = Config::from_yaml(&text).expect(what);
            for (role, wanted) in all.into_iter().zip(wanted) {
                let found: Vec<String> =
                    lacking(&config, &[role], false).into_iter().map(|problem| problem.key).collect();
                let named = |key: &String| wanted.iter().any(|part| key.starts_with(part));
                let met = |part: &&str| found.iter().any(|key| key.starts_with(part));
                assert!(found.iter().all(named) && wanted.iter().all(met), "{what}, {role:?}: {found:?}");
            }
        }
        let config = Config::from_yaml(&with("", "")).expect("a configuration");
        assert_eq!(lacking(&config, &[Role::Worker], true), []);
        assert_ne!(lacking(&config, &[Role::Worker], false), []);
        assert_eq!(lacking(&config, &[], false), [], "a part that is absent altogether is fine");
    }

    #[test]
    fn each_command_is_warned_of_what_it_reads() {
        use Role::{Api, Endpoint, HttpWorker, Initialize, Worker};
        for (key, readers) in [
            ("", &[Api, Endpoint, Worker, HttpWorker, Initialize][..]),
            ("log.filter", &[Api, Endpoint, Worker, HttpWorker, Initialize]),
            ("manager.message_queue.port", &[Api, Endpoint, Worker, HttpWorker, Initialize]),
            ("manager.db.uri", &[Api, Initialize]),
            ("rabbitmq.apiurl", &[Initialize]),
            ("api.host", &[Api]),
            ("schedules[0].cron", &[Api]),
            ("task_types[1].time_limit", &[Api, Endpoint, Worker]),
            ("endpoint.http.client_key", &[Endpoint, Worker]),
            ("endpoint.clock_tolerance", &[Endpoint, Worker, HttpWorker]),
            ("http_worker.http.client_key", &[HttpWorker]),
        ] {
            for role in [Api, Endpoint, Worker, HttpWorker, Initialize] {
                assert_eq!(reads(role, key), readers.contains(&role), "{role:?} {key}");
            }
        }
    }
}
