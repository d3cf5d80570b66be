//! `tasker config`: check it, show it.

use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;

use crate::admission::Admission;
use crate::broker::amqp::try_connection;
use crate::broker::provision::look;
use crate::config::{self, Config, ConfigError, ConfigFile, Entry, Environment, Problem, Sources, show};
use crate::endpoint::HandlersDir;
use crate::store;

use super::args::{Configuration, Global, Role};
use super::enrolment;
use super::exit::Code;
use super::named_files::{self, NamedFile};
use super::output::{self, Failure, note, print, print_json};

pub(super) async fn run(global: &Global, command: Configuration) -> Result<Code, Failure> {
    let mut sources =
        Sources { file: global.file(), environment: Environment::of_process(), flags: Vec::new() };
    match command {
        Configuration::Check { roles, identity, connect } => {
            let link = Link::of(global);
            if let Some(path) = identity_for(&roles, link, identity)? {
                sources.flags = enrolment::flags(&path, None)?;
            }
            if link == Link::ApiAlone && !roles.is_empty() && roles.iter().all(|role| *role == Role::Worker) {
                sources.file = ConfigFile::Embedded;
            }
            check(global, &sources, &roles, connect).await
        }
        Configuration::Show { origin } => show(global, &sources, origin),
    }
}

/// How a worker gets its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// From the broker of the configuration.
    Broker,
    /// From the API, with a configuration that has its task types.
    Api,
    /// From the API, without a configuration: it names its task types with `-t`.
    ApiAlone,
}

impl Link {
    fn of(global: &Global) -> Self {
        match (&global.api, global.named_file()) {
            (None, _) => Self::Broker,
            (Some(_), Some(_)) => Self::Api,
            (Some(_), None) => Self::ApiAlone,
        }
    }

    /// Whether a command connects to the broker; `initialize` asks the management interface instead.
    fn leads_to_broker(self, role: Role) -> bool {
        match role {
            Role::Api | Role::Endpoint | Role::HttpWorker => true,
            Role::Worker => self == Self::Broker,
            Role::Initialize => false,
        }
    }
}

/// The identity that the commands are started with. The environment may name one for all commands of a machine,
/// so it is passed over where a command reads none.
fn identity_for(roles: &[Role], link: Link, given: Option<PathBuf>) -> Result<Option<PathBuf>, Failure> {
    let may_read = |role: &Role| matches!(role, Role::Endpoint | Role::Worker);
    let is_read = roles.iter().all(may_read) && roles.iter().any(|role| link.leads_to_broker(*role));
    match (given, is_read) {
        (given @ Some(_), true) => Ok(given),
        (None, true) => {
            Ok(std::env::var_os("TASKER_IDENTITY").filter(|path| !path.is_empty()).map(Into::into))
        }
        (None, false) => Ok(None),
        (Some(_), false) => Err(Failure::Usage(
            "--identity is the broker user of an endpoint or a worker: use it with --for endpoint, or with --for worker without --api, and with no --for of another command".to_owned(),
        )),
    }
}

#[derive(Serialize)]
struct Checked {
    ok: bool,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

async fn check(global: &Global, sources: &Sources, roles: &[Role], connect: bool) -> Result<Code, Failure> {
    let link = Link::of(global);
    let loaded = match config::load(sources) {
        Ok(loaded) => loaded,
        Err(error) if !global.json => return Err(error.into()),
        Err(error) => return tell(&Checked { ok: false, problems: error.problems(), warnings: Vec::new() }),
    };
    let mut problems = lacking(&loaded.config, roles, link);
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
    let missed = roles.iter().flat_map(|role| named_files::used(&loaded.config, *role));
    warnings.extend(distinct(missed.filter_map(|file| file.trouble()).collect()));
    let shut_out = match connect && problems.is_empty() {
        true => connections(&loaded.config, roles, link).await,
        false => Vec::new(),
    };
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
async fn connections(config: &Config, roles: &[Role], link: Link) -> Vec<Problem> {
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
    let of_broker = roles.is_empty() || roles.iter().any(|role| link.leads_to_broker(*role));
    if let Some(queue) = config.manager.message_queue.get().filter(|_| of_broker) {
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
fn lacking(config: &Config, roles: &[Role], link: Link) -> Vec<Problem> {
    distinct(match roles {
        [] => config.begun().cloned().collect(),
        _ => roles.iter().flat_map(|role| lacking_for(config, *role, link)).collect(),
    })
}

/// Problems by key, without those that several commands have.
fn distinct(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by(|a, b| a.key.cmp(&b.key));
    problems.dedup();
    problems
}

fn lacking_for(config: &Config, role: Role, link: Link) -> Vec<Problem> {
    let leads_to_broker = link.leads_to_broker(role);
    let parts: Vec<Result<(), ConfigError>> = match role {
        Role::Api => vec![config.for_api().map(drop), config.farm().map(drop)],
        Role::Worker if !leads_to_broker => vec![],
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
        Role::Worker if link != Link::ApiAlone && config.of_delivery(true).next().is_none() => {
            problems.push(problem("task_types", "has no type with `delivery: queue`, which workers perform"));
        }
        Role::HttpWorker if config.http_worker.http.allow.is_empty() => {
            problems.push(problem("http_worker.http.allow", "is empty: list the hosts that tasks may reach"));
        }
        _ => {}
    }
    problems.extend(named_files::needed(config, role, leads_to_broker).iter().filter_map(NamedFile::trouble));
    problems
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
        let tls = ["ca", "certificate", "key"].map(|file| format!("manager.message_queue.tls.{file}"));
        let tls: [&str; 3] = [&tls[0], &tls[1], &tls[2]];
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
            (
                "files of connections and of HTTP calls that are not there",
                with(
                    &format!(
                        "db: {{uri: \"mysql://u@localhost/t?ssl-mode=VERIFY_CA&ssl-ca=/none/d\"}}, {}",
                        broker.replace(
                            "exchange: e",
                            "exchange: e, tls: {ca: /none/b, certificate: /none/c, key: /none/k}"
                        )
                    ),
                    "rabbitmq: {apiurl: \"https://localhost:15671/api\", ca: /none/m, username: a, password: b}\nhttp_worker: {http: {allow: [bmc1], ca_bundle: /none/h, client_certificate: /none/i, client_key: /none/j}}\nendpoint: {labels_file: /none/l, http: {ca_bundle: /none/x}}",
                ),
                [
                    &[no_db, tls[0], tls[1], tls[2]],
                    &tls,
                    &tls,
                    &[
                        "http_worker.http.ca_bundle",
                        "http_worker.http.client_certificate",
                        "http_worker.http.client_key",
                        tls[0],
                        tls[1],
                        tls[2],
                    ],
                    &[no_db, "rabbitmq.ca"],
                ],
            ),
        ] {
            let config = Config::from_yaml(&text).expect(what);
            for (role, wanted) in all.into_iter().zip(wanted) {
                let found: Vec<String> =
                    lacking(&config, &[role], Link::Broker).into_iter().map(|problem| problem.key).collect();
                let named = |key: &String| wanted.iter().any(|part| key.starts_with(part));
                let met = |part: &&str| found.iter().any(|key| key.starts_with(part));
                assert!(found.iter().all(named) && wanted.iter().all(met), "{what}, {role:?}: {found:?}");
            }
        }
        let config = Config::from_yaml("task_types: [backup]").expect("a configuration");
        assert_eq!(lacking(&config, &[Role::Worker], Link::ApiAlone), [], "it names its types itself");
        assert_ne!(lacking(&config, &[Role::Worker], Link::Api), []);
        let config = Config::from_yaml(&with("", "")).expect("a configuration");
        assert_eq!(lacking(&config, &[Role::Worker], Link::Api), []);
        assert_ne!(lacking(&config, &[Role::Worker], Link::Broker), []);
        assert_eq!(lacking(&config, &[], Link::Broker), [], "a part that is absent altogether is fine");
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
