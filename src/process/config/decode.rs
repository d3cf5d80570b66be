//! The merged tree to a [`Config`]: every key with its kind and bounds stands here, once.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use ::config::{Value, ValueKind};

use super::kinds::{
    Choice, DatabaseUri, Given, Hidden, Host, HttpUrl, Ip, LabelMap, LogFilter, Size, Span, Text, Texts,
    Truth, TypeName, Whole, YEAR, named, split_list,
};
use super::layers::{self, Merged};
use super::problem::Problem;
use super::queue::Pointer;
use super::reader::{Findings, Table};
use super::settings::{
    Api, Body, BrokerTls, Config, Database, Endpoint, Http, HttpWorker, Log, LogFormat, Management, Manager,
    MessageQueue, OnStop, Output, Part, Proof, Security, Signatures, Signing, Tasks, TlsFiles, TypePolicy,
};
use super::yaml::DEFAULT_ORIGIN;
use super::{Secret, queue, requests, rules, schedules, show};
use crate::backoff::Backoff;
use crate::domain::{Authority, EnvironmentName, Expect, Ignored};
use crate::http_tasks::Allowed;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A message of RabbitMQ 4 and a `MEDIUMTEXT` hold 16 MiB; what wraps a body needs room too.
const LARGEST_BODY: u64 = 8 << 20;

const A_FILE: Text = Text("the path of a file", |text| !text.is_empty() && !text.contains('\0'));

const RECEIVE_TIMEOUT: Span = Span::up_to(DAY);

pub(super) fn decode(merged: Merged) -> (Config, Findings) {
    let findings =
        RefCell::new(Findings { problems: merged.problems, warnings: merged.warnings, entries: Vec::new() });
    let mut root = Table::new(&findings, "", merged.tree, layers::default_tree());

    let types = root.take("task_types");
    let api = api(&findings, root.table("api"));
    let tasks = tasks(root.table("tasks"));
    let task_types = task_types(&findings, types, &api, &tasks);
    let scheduled = root.take("schedules");
    let schedules = schedules::read(&findings, scheduled, &task_types);
    let requests = requests::read(&findings, root.table("requests"), &task_types);
    let mut manager = root.table("manager");
    let db = database(manager.table("db"));
    let message_queue = message_queue(&findings, manager.table("message_queue"));
    manager.finish();
    let flamenco = farm(root.table("flamenco"));
    let rabbitmq = management(root.table("rabbitmq"));
    let endpoint = endpoint(&findings, root.table("endpoint"), &task_types);
    let http_worker = http_worker(&findings, root.table("http_worker"));
    let security = security(root.table("security"));
    let log = log(root.table("log"));
    let insecure_transport = root.value("insecure_transport", &Truth);
    root.finish();

    let mut config = Config {
        task_types,
        schedules,
        requests,
        api,
        manager: Manager { db, message_queue },
        flamenco,
        insecure_transport,
        rabbitmq,
        endpoint,
        http_worker,
        tasks,
        security,
        log,
        sha256: String::new(),
    };
    let mut findings = findings.into_inner();
    rules::check(&mut config, &mut findings);
    config.sha256 = show::sha256(&findings.entries);
    findings.problems.sort_by(|a, b| a.key.cmp(&b.key));
    findings.warnings.sort_by(|a, b| a.key.cmp(&b.key));
    (config, findings)
}

fn api(findings: &RefCell<Findings>, mut table: Table<'_>) -> Api {
    let mut tls = table.table("tls");
    let files = pair_of_files(findings, &mut tls, ["certificate", "key"])
        .map(|(certificate, key)| TlsFiles { certificate, key });
    let hsts = tls.value("hsts", &Span { least: Duration::ZERO, ..Span::up_to(2 * YEAR) });
    tls.finish_needed();
    let api = Api {
        tls: files,
        hsts: Some(hsts).filter(|hsts| !hsts.is_zero()),
        host: table.optional("host", &Ip).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        port: table.value("port", &Whole(0, u16::MAX)),
        hosts: table.value(
            "hosts",
            &Texts("names of hosts such as `tasker.example` or `tasker.example:8443`", |text| {
                Authority::parse(text.as_bytes()).is_some()
            }),
        ),
        wait_for_endpoints_timeout: table
            .value("wait_for_endpoints_timeout", &Span { seconds: true, ..RECEIVE_TIMEOUT }),
        body_limit: in_memory(table.value("body_limit", &Size(1 << 10, LARGEST_BODY))),
        stop_timeout: table.value("stop_timeout", &Span::up_to(HOUR)),
        confirm_above: table.value("confirm_above", &Whole(0, 1_000_000_000)),
    };
    table.finish_needed();
    api
}

fn tasks(mut table: Table<'_>) -> Tasks {
    let tasks = Tasks {
        expires_after: table.value("expires_after", &Span::up_to(YEAR)),
        retention: table.value("retention", &Span::up_to(10 * YEAR)),
    };
    table.finish_needed();
    tasks
}

fn task_types(
    findings: &RefCell<Findings>,
    given: Option<Value>,
    api: &Api,
    tasks: &Tasks,
) -> Vec<TypePolicy> {
    const EXPECTED: &str = "expected a list of task types such as `[worker, backup]`";
    let problem = |message: String, source: Option<String>| {
        findings.borrow_mut().problems.push(Problem::new("task_types", message, source));
    };
    let Some(given) = given else {
        problem(format!("is missing: {EXPECTED}"), None);
        return Vec::new();
    };
    if let Some(variable) = layers::unset(&given) {
        problem(format!("the environment variable `{variable}` is not set"), layers::place(&given));
        return Vec::new();
    }
    let place = layers::place(&given);
    let items: Vec<Value> = match &given.kind {
        ValueKind::Array(items) if !items.is_empty() => items.clone(),
        ValueKind::String(text) if layers::untyped(given.origin().unwrap_or_default()) => {
            let origin = given.origin().map(str::to_owned);
            split_list(text).map(|name| Value::new(origin.as_ref(), name)).collect()
        }
        _ => {
            problem(format!("{EXPECTED}, got {}", Given::new(&given).describe(false)), place);
            return Vec::new();
        }
    };
    let mut policies: Vec<TypePolicy> = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let (path, place) = (format!("task_types[{index}]"), layers::place(&item));
        let Some(policy) =
            policy(Table::new(findings, path, named(item, "name"), Value::default()), api, tasks)
        else {
            continue;
        };
        if policies.iter().any(|other| other.name == policy.name) {
            problem(format!("`{}` is there twice", policy.name), place);
        } else {
            policies.push(policy);
        }
    }
    policies
}

fn policy(mut table: Table<'_>, api: &Api, tasks: &Tasks) -> Option<TypePolicy> {
    let name = table.required("name", &TypeName);
    let attempts = table.or("attempts", &Whole(1, 100), (3, DEFAULT_ORIGIN));
    let mut waits = table.table("backoff");
    let (shortest, longest) = (Duration::from_secs(1), Duration::from_secs(60));
    let first = waits.or("first", &Span::up_to(DAY), (shortest, DEFAULT_ORIGIN));
    let max = waits.or("max", &Span::up_to(DAY), (longest, DEFAULT_ORIGIN));
    waits.finish_needed();
    let time_limit = table.or("time_limit", &Span::up_to(30 * DAY), (HOUR, DEFAULT_ORIGIN));
    let life = (tasks.expires_after, "follows from tasks.expires_after");
    let expires_after = table.or("expires_after", &Span::up_to(YEAR), life);
    let concurrency = table.or("concurrency", &Whole(1, 1000), (4, DEFAULT_ORIGIN));
    let on_stop = table.or("on_stop", &Choice(OnStop::WORDS), (OnStop::Rerun, DEFAULT_ORIGIN));
    let output = table.or("output", &Choice(Output::WORDS), (Output::Auto, DEFAULT_ORIGIN));
    let persistent = table.or("persistent", &Truth, (false, DEFAULT_ORIGIN));
    let receive = (api.wait_for_endpoints_timeout, "follows from api.wait_for_endpoints_timeout");
    let wait_for_endpoints_timeout = table.or("wait_for_endpoints_timeout", &RECEIVE_TIMEOUT, receive);
    let words = &[("subscribed", Expect::Subscribed), ("known", Expect::Known)];
    let expect = table.or("expect", &Choice(words), (Expect::Subscribed, DEFAULT_ORIGIN));
    let body = table.or(
        "body",
        &Choice(&[("envelope", Body::Envelope), ("payload", Body::Payload)]),
        (Body::Envelope, DEFAULT_ORIGIN),
    );
    let trim = table.or("trim", &Truth, (false, DEFAULT_ORIGIN));
    let schema = table.optional(
        "schema",
        &Text("a JSON Schema, or the path of a file with one", |text| {
            !text.is_empty() && !text.contains('\0')
        }),
    );
    let run_as = table.optional("run_as", &ACCOUNT);
    let mut answers = table.table("answers");
    let pointers = Texts("JSON pointers such as `/pid`", |text| Pointer::parse(text).is_some());
    let ignored = answers.optional("ignore", &pointers).unwrap_or_default();
    answers.finish_needed();
    let queue = queue::queue(&mut table, name.as_ref());
    table.finish_needed();
    Some(TypePolicy {
        name: name?,
        attempts,
        backoff: Backoff { first, max },
        time_limit,
        expires_after,
        on_stop,
        output,
        concurrency,
        persistent,
        wait_for_endpoints_timeout,
        expect,
        body,
        trim,
        schema,
        run_as,
        ignored: Ignored::of(ignored.iter().map(String::as_str)),
        queue,
    })
}

/// Whom handlers run as.
const ACCOUNT: Text = Text("a user, or a user and a group such as `builder:docker`", |text| {
    text.split(':').count() <= 2
        && text.split(':').all(|name| !name.is_empty() && !name.contains(char::is_whitespace))
});

fn part<T>(value: Option<T>, table: Table<'_>) -> Part<T> {
    let begun = table.begun;
    let lacking = table.finish();
    // No default may stand in for a key that names a variable which is not set.
    Part { value: value.filter(|_| lacking.is_empty()), lacking, begun }
}

fn database(mut table: Table<'_>) -> Part<Database> {
    let verbose = table.value("verbose", &Truth);
    let max_connections = table.value("max_connections", &Whole(1, 1000));
    let uri = table.required("uri", &DatabaseUri);
    let value = uri.map(|uri| Database { verbose, uri, max_connections });
    part(value, table)
}

fn farm(mut table: Table<'_>) -> Part<Database> {
    let uri = table.required("uri", &DatabaseUri);
    // It is only looked at.
    let value = uri.map(|uri| Database { verbose: false, uri, max_connections: 4 });
    part(value, table)
}

fn message_queue(findings: &RefCell<Findings>, mut table: Table<'_>) -> Part<MessageQueue> {
    let host = table.required("host", &Host);
    let username = table.required("username", &Text("a user name", |text| (1..=255).contains(&text.len())));
    // A map says how, and thereby that.
    let (tls, tls_files) = match table.has_table("tls") {
        true => (true, broker_tls(findings, table.table("tls"))),
        false => (table.value("tls", &Truth), BrokerTls::default()),
    };
    let password = match tls_files.identity {
        Some(_) => Some(table.optional("password", &Hidden).unwrap_or_else(|| Secret::new(""))),
        None => table.required("password", &Hidden),
    };
    let usual = if tls { 5671 } else { 5672 };
    let port = table.or("port", &Whole(1, u16::MAX), (usual, "follows from manager.message_queue.tls"));
    let virtual_host = table.value(
        "virtual_host",
        &Text("1 to 255 bytes without control characters", |text| {
            (1..=255).contains(&text.len()) && !text.chars().any(char::is_control)
        }),
    );
    let exchange = table.value(
        "exchange",
        &Text("1 to 60 characters out of A-Z a-z 0-9 . _ -", |text| {
            (1..=60).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        }),
    );
    let unused = Text("a text", |_| true);
    let queue = table.optional("queue", &unused);
    let routing_key = table.optional("routing_key", &unused);
    let value = match (host, username, password) {
        (Some(host), Some(username), Some(password)) => Some(MessageQueue {
            host,
            port,
            username,
            password,
            virtual_host,
            exchange,
            queue,
            routing_key,
            tls,
            tls_files,
        }),
        _ => None,
    };
    part(value, table)
}

fn broker_tls(findings: &RefCell<Findings>, mut table: Table<'_>) -> BrokerTls {
    let files = BrokerTls {
        ca: table.optional("ca", &A_FILE).map(Into::into),
        identity: pair_of_files(findings, &mut table, ["certificate", "key"]),
    };
    table.finish_needed();
    files
}

fn management(mut table: Table<'_>) -> Part<Management> {
    let ca = table.optional("ca", &A_FILE).map(Into::into);
    let apiurl = table.required("apiurl", &HttpUrl);
    let username = table.required("username", &Text("a user name", |text| (1..=255).contains(&text.len())));
    let password = table.required("password", &Hidden);
    let value = match (apiurl, username, password) {
        (Some(apiurl), Some(username), Some(password)) => Some(Management { apiurl, ca, username, password }),
        _ => None,
    };
    part(value, table)
}

fn endpoint(findings: &RefCell<Findings>, mut table: Table<'_>, task_types: &[TypePolicy]) -> Endpoint {
    let path = Text("the path of a directory", |text| !text.is_empty() && !text.contains('\0'));
    let variable =
        Texts("names of environment variables", |text| !text.is_empty() && !text.contains(['=', '\0']));
    let longest = task_types.iter().map(TypePolicy::longest_life).max().unwrap_or(DAY);
    let remember = table.or(
        "remember",
        &Span::up_to(2 * YEAR),
        (longest.max(DAY) + HOUR, "follows from the longest expires_after"),
    );
    let endpoint = Endpoint {
        data_dir: table.value("data_dir", &path).into(),
        handlers_dir: table.optional("handlers_dir", &path).map(Into::into),
        presence_interval: table.value("presence_interval", &Span::up_to(HOUR)),
        stop_timeout: table.value("stop_timeout", &Span::up_to(HOUR)),
        remember,
        journal_limit: table.value("journal_limit", &Size(1 << 20, 1 << 40)),
        labels: table.value("labels", &LabelMap),
        labels_file: table.optional("labels_file", &A_FILE).map(Into::into),
        pass_env: table.value("pass_env", &variable),
        run_as: table.optional("run_as", &ACCOUNT),
        output_limit: in_memory(table.value("output_limit", &Size(1 << 10, LARGEST_BODY))),
        signatures: table.value("signatures", &Choice(Signatures::WORDS)),
        trust: table.value("trust", &A_FILE).into(),
        clock_tolerance: table
            .value("clock_tolerance", &Span { least: Duration::from_secs(1), ..Span::up_to(HOUR) }),
        stop_file: table.value("stop_file", &A_FILE).into(),
        http: http(findings, table.table("http")),
    };
    table.finish_needed();
    endpoint
}

fn http_worker(findings: &RefCell<Findings>, mut table: Table<'_>) -> HttpWorker {
    let pool = Text("1 to 64 letters, digits, `-` and `_`", |text| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    });
    let worker = HttpWorker {
        pool: table.value("pool", &pool),
        max_in_flight: table.value("max_in_flight", &Whole(1, u16::MAX)),
        stop_timeout: table.value("stop_timeout", &Span::up_to(HOUR)),
        allow_plaintext_broker: table.value("allow_plaintext_broker", &Truth),
        signatures: table.value("signatures", &Choice(Signatures::WORDS)),
        trust: table.value("trust", &A_FILE).into(),
        revocations: table.optional("revocations", &A_FILE).map(Into::into),
        http: http(findings, table.table("http")),
    };
    table.finish_needed();
    worker
}

/// Two files that are of no use without each other.
fn pair_of_files(
    findings: &RefCell<Findings>,
    table: &mut Table<'_>,
    keys: [&'static str; 2],
) -> Option<(PathBuf, PathBuf)> {
    let [first, second] = keys.map(|key| table.optional(key, &A_FILE));
    if first.is_some() != second.is_some() {
        let [lacking, given] = if second.is_some() { keys } else { [keys[1], keys[0]] };
        let message = format!("is missing: {} is of no use without it", table.path(given));
        findings.borrow_mut().problems.push(Problem::new(table.path(lacking), message, None));
    }
    first.zip(second).map(|(first, second)| (first.into(), second.into()))
}

fn http(findings: &RefCell<Findings>, mut table: Table<'_>) -> Http {
    let host = "hosts, addresses or networks such as `bmc1`, `*.example.org` or `10.0.0.0/8`, each with `:port` if need be";
    let allow = table.value("allow", &Texts(host, |text| text.parse::<Allowed>().is_ok()));
    let identity = pair_of_files(findings, &mut table, ["client_certificate", "client_key"]);
    let http = Http {
        // Each was read above.
        allow: allow.iter().filter_map(|entry| entry.parse().ok()).collect(),
        ca_bundle: table.optional("ca_bundle", &A_FILE).map(Into::into),
        identity,
        insecure: table.value("insecure", &Truth),
        max_sockets: in_memory(table.value("max_sockets", &Whole(1, 1_000_000))),
    };
    table.finish_needed();
    http
}

fn security(mut table: Table<'_>) -> Security {
    let proof = Choice(&[("warn", Proof::Warn), ("enforce", Proof::Enforce)]);
    let reports = table.value("reports", &proof);
    let signs = table.value("signatures", &Choice(&[("off", false), ("sign", true)]));
    let name = Text("a name of 1 to 64 characters out of A-Z a-z 0-9 . _ -", |text| {
        text.parse::<EnvironmentName>().is_ok()
    });
    // Read in any case: they may stay in the file while signatures are off.
    let environment = table.optional("environment", &name).and_then(|name| name.parse().ok());
    let key = table.optional("signing_key", &A_FILE);
    let certificate = table.optional("certificate", &A_FILE).map(Into::into);
    let revocations = table.optional("revocations", &A_FILE).map(Into::into);
    let trust = table.optional("trust", &A_FILE).map(Into::into);
    let signing = match (signs, environment, key) {
        (false, ..) => None,
        (true, Some(environment), Some(key)) => Some(Signing { environment, key: key.into(), certificate }),
        (true, environment, _) => {
            let lacking = if environment.is_none() { "environment" } else { "signing_key" };
            table.problem(lacking, "is missing: `signatures: sign` needs it", None);
            None
        }
    };
    table.finish_needed();
    Security { reports, signing, trust, revocations }
}

fn log(mut table: Table<'_>) -> Log {
    let formats = Choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let log = Log { filter: table.value("filter", &LogFilter), format: table.value("format", &formats) };
    table.finish_needed();
    log
}

/// A size that [`LARGEST_BODY`] bounds.
fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
