//! What must hold between keys, and what is allowed but rarely meant.

use std::net::IpAddr;

use super::database::{MODE, parameter};
use super::problem::Problem;
use super::reader::Findings;
use super::settings::{Config, MARGIN, Part, Signatures, TypePolicy};
use super::{layers, span};
use crate::domain::likeness;

pub(super) fn check(config: &mut Config, findings: &mut Findings) {
    for policy in &config.task_types {
        let (receive, life) = (policy.wait_for_endpoints_timeout, policy.expires_after);
        if receive >= life && policy.queue.is_none() {
            let message = format!(
                "the time-out for receiving ({}) must be shorter than the task's life (expires_after {}) for type `{}`",
                span::format(receive),
                span::format(life),
                policy.name
            );
            problem(
                findings,
                type_key(
                    findings,
                    policy.name.as_str(),
                    "wait_for_endpoints_timeout",
                    "api.wait_for_endpoints_timeout",
                ),
                message,
            );
        }
        if policy.backoff.max < policy.backoff.first {
            let message = format!(
                "the longest wait ({}) must not be shorter than the first ({}) for type `{}`",
                span::format(policy.backoff.max),
                span::format(policy.backoff.first),
                policy.name
            );
            problem(
                findings,
                type_key(
                    findings,
                    policy.name.as_str(),
                    "backoff.max",
                    &type_key(findings, policy.name.as_str(), "backoff.first", "task_types"),
                ),
                message,
            );
        }
        let limit = type_key(findings, policy.name.as_str(), "time_limit", "");
        if !limit.is_empty() && policy.time_limit > life {
            let message = format!(
                "an attempt may run for {}, but the task is given up after {}",
                span::format(policy.time_limit),
                span::format(life)
            );
            warning(findings, limit, message);
        }
    }
    if let Some(longest) = config.task_types.iter().map(TypePolicy::longest_life).max()
        && config.endpoint.remember < longest + MARGIN
    {
        let message = format!(
            "expected at least {} (the longest expires_after and an hour), got {}: a task could run twice",
            span::format(longest + MARGIN),
            span::format(config.endpoint.remember)
        );
        problem(findings, "endpoint.remember".to_owned(), message);
    }
    let worker = &config.http_worker;
    if worker.revocations.is_some() && worker.signatures == Signatures::Off {
        let message = "nobody reads the list of revoked keys while http_worker.signatures is off".to_owned();
        warning(findings, "http_worker.revocations".to_owned(), message);
    }
    successors(config, findings);
    schedules(config, findings);
    network(config, findings);
    protect(config, findings);
}

/// What is queued after a success must be a task of a queue.
fn successors(config: &Config, findings: &mut Findings) {
    for policy in config.of_delivery(true) {
        let Some(then) = policy.queue.as_ref().and_then(|queue| queue.then.as_ref()) else { continue };
        if config.policy(&then.task_type).is_none_or(|policy| policy.queue.is_none()) {
            let queues = config.of_delivery(true).map(|policy| policy.name.as_str());
            let message = likeness::unknown(
                "work queue",
                then.task_type.as_str(),
                "types with `delivery: queue`",
                queues,
            )
            .text;
            problem(findings, type_key(findings, policy.name.as_str(), "then.type", "task_types"), message);
        }
    }
}

/// A pattern may be well formed and still have no time: April 31, or a year that is over.
fn schedules(config: &Config, findings: &mut Findings) {
    let now = chrono::Utc::now().into();
    for (index, schedule) in config.schedules.iter().enumerate() {
        if schedule.next(now).is_none() {
            let message = format!(
                "`{}` has no time from now on, so schedule `{}` never submits a task",
                schedule.cron.as_str(),
                schedule.name
            );
            warning(findings, format!("schedules[{index}].cron"), message);
            continue;
        }
        let Some(policy) = config.policy(&schedule.task_type) else { continue };
        let name = policy.name.as_str();
        let said = given_key(findings, name, "expect").is_some();
        if policy.queue.is_none() && schedule.endpoints.is_empty() && !said {
            let message = format!(
                "a task of `{}` is for the endpoints that are there at its time; an endpoint that restarts then does not get it. \
                 `expect: known` of the type `{name}` delivers it when the endpoint is back; `expect: subscribed` keeps it so without this warning",
                schedule.name
            );
            warning(findings, format!("schedules[{index}].type"), message);
        }
    }
}

fn network(config: &Config, findings: &mut Findings) {
    if !config.api.host.to_canonical().is_loopback() && config.api.tls.is_none() {
        let message =
            format!("tokens and tasks cross the network to {} in the clear: set api.tls", config.api.host);
        warning(findings, "api.host".to_owned(), message);
    }
    if let Some(management) = &config.rabbitmq.value
        && !management.apiurl.ends_with("/api")
    {
        let message = format!(
            "the management interface answers below `/api` usually: write `{}/api` unless something in front of it says otherwise",
            management.apiurl
        );
        warning(findings, "rabbitmq.apiurl".to_owned(), message);
    }
    if let Some(queue) = &config.manager.message_queue.value {
        let local = is_loopback(&queue.host);
        if local && config.api.port == queue.port {
            let message = format!("{} is the port of manager.message_queue on this host", queue.port);
            problem(findings, "api.port".to_owned(), message);
        }
        if let (true, 5672) | (false, 5671) = (queue.tls, queue.port) {
            let message = format!(
                "{} is the usual port {} TLS",
                queue.port,
                if queue.tls { "without" } else { "with" }
            );
            warning(findings, "manager.message_queue.port".to_owned(), message);
        }
    }
}

/// What crosses the network unprotected on its way to broker, database and management interface: these parts
/// are of no use then, unless `insecure_transport` says that the network is trusted.
fn protect(config: &mut Config, findings: &mut Findings) {
    let mut exposures = Exposures { allowed: config.insecure_transport, findings };
    exposures.check(&mut config.manager.message_queue, "manager.message_queue.tls", |queue| {
        (!queue.tls && !is_loopback(&queue.host)).then(|| {
            format!("passwords and tasks cross the network to {} in the clear: set tls: true", queue.host)
        })
    });
    exposures.check(&mut config.rabbitmq, "rabbitmq.apiurl", |management| {
        let url = reqwest::Url::parse(&management.apiurl).ok()?;
        let host = url.host_str().filter(|host| url.scheme() == "http" && !is_loopback(host))?;
        Some(format!("the administrator's password crosses the network to {host} in the clear: use https://"))
    });
    for (key, database) in
        [("manager.db.uri", &mut config.manager.db), ("flamenco.uri", &mut config.flamenco)]
    {
        let address = database.value.as_ref().map(|db| reqwest::Url::parse(db.uri.reveal()));
        match address.and_then(Result::ok).as_ref().map(exposed) {
            None | Some(Ok(None)) => {}
            Some(Ok(Some(message))) => exposures.check(database, key, |_| Some(message.to_owned())),
            Some(Err(value)) => {
                let message = format!(
                    "ssl-mode is one of DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY, not `{}`",
                    value.escape_debug()
                );
                problem(exposures.findings, key.to_owned(), message);
            }
        }
    }
}

struct Exposures<'f> {
    allowed: bool,
    findings: &'f mut Findings,
}

impl Exposures<'_> {
    fn check<T>(&mut self, part: &mut Part<T>, key: &str, exposed: impl Fn(&T) -> Option<String>) {
        let Some(message) = part.value.as_ref().and_then(exposed) else { return };
        if self.allowed {
            return warning(self.findings, key.to_owned(), message);
        }
        let message =
            format!("{message}; if nobody else can reach that network, set insecure_transport: true");
        part.lacking.push(with_source(self.findings, key.to_owned(), message));
        part.value = None;
    }
}

/// What the connection to a database on another host does not protect, and what to do about it.
///
/// # Errors
/// A value that is no mode.
fn exposed(url: &reqwest::Url) -> Result<Option<&'static str>, String> {
    let mode = parameter(url, MODE);
    let message = match mode.as_deref().unwrap_or("PREFERRED").to_ascii_uppercase().as_str() {
        "DISABLED" => "password and tasks cross the network in the clear: use `?ssl-mode=VERIFY_IDENTITY`",
        // Who sits between can make the server seem to offer none.
        "PREFERRED" => {
            "the connection falls back to plain text when the server offers no TLS: add `?ssl-mode=VERIFY_IDENTITY`"
        }
        "REQUIRED" => {
            "the server's certificate is not verified, so another host can pose as the server: use `?ssl-mode=VERIFY_IDENTITY`"
        }
        "VERIFY_CA" | "VERIFY_IDENTITY" => return Ok(None),
        _ => return Err(mode.unwrap_or_default()),
    };
    let local = parameter(url, ["socket"; 2]).is_some() || url.host_str().is_some_and(is_loopback);
    Ok((url.scheme() == "mysql" && !local).then_some(message))
}

/// Whether a host is this machine for nobody but this machine.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// The path of a type's key if it was given, else another key.
fn type_key(findings: &Findings, name: &str, key: &str, otherwise: &str) -> String {
    given_key(findings, name, key).unwrap_or_else(|| otherwise.to_owned())
}

/// The path of a type's key if it was given.
fn given_key(findings: &Findings, name: &str, key: &str) -> Option<String> {
    let index = findings.entries.iter().find(|entry| {
        entry.path.starts_with("task_types[") && entry.path.ends_with("].name") && entry.value == name
    });
    let path = index.and_then(|entry| entry.path.strip_suffix("name")).map(|prefix| format!("{prefix}{key}"));
    path.filter(|path| findings.entries.iter().any(|entry| entry.path == *path && entry.is_given()))
}

fn problem(findings: &mut Findings, key: String, message: String) {
    let problem = with_source(findings, key, message);
    findings.problems.push(problem);
}

fn warning(findings: &mut Findings, key: String, message: String) {
    let warning = with_source(findings, key, message);
    findings.warnings.push(warning);
}

fn with_source(findings: &Findings, key: String, message: String) -> Problem {
    let source = findings
        .entries
        .iter()
        .find(|entry| entry.path == key)
        .map(|entry| layers::place_of(&entry.origin).to_owned());
    Problem { key, message, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_elsewhere_is_safe_only_with_a_verified_certificate() {
        const CLEAR: Option<&str> = Some("in the clear");
        const FALLS_BACK: Option<&str> = Some("falls back");
        const UNVERIFIED: Option<&str> = Some("not verified");
        for (rest, word) in [
            ("db.example/t", FALLS_BACK),
            ("db.example/t?ssl-mode=DISABLED", CLEAR),
            ("db.example/t?ssl-mode=disabled", CLEAR),
            ("db.example/t?sslmode=Disabled", CLEAR),
            ("db.example/t?ssl-mode=%44ISABLED", CLEAR),
            ("db.example/t?ssl-mode=PREFERRED", FALLS_BACK),
            ("db.example/t?ssl-mode=REQUIRED", UNVERIFIED),
            ("db.example/t?ssl-mode=REQUIRED&ssl-ca=/ca.pem", UNVERIFIED),
            ("db.example/t?ssl-mode=VERIFY_CA", None),
            ("db.example/t?ssl-mode=verify_identity", None),
            ("db.example/t?charset=utf8mb4&sslmode=VERIFY_IDENTITY", None),
            ("db.example/t?ssl-mode=DISABLED&ssl-mode=VERIFY_IDENTITY", None),
            ("db.example/t?ssl-mode=VERIFY_IDENTITY&sslmode=DISABLED", CLEAR),
            // Names that the driver does not know.
            ("db.example/t?ssl_mode=VERIFY_IDENTITY", FALLS_BACK),
            ("db.example/t?SSL-MODE=VERIFY_IDENTITY", FALLS_BACK),
            ("db.example/t?x=ssl-mode=VERIFY_IDENTITY", FALLS_BACK),
            ("db.example/t?charset=utf8mb4#ssl-mode=VERIFY_IDENTITY", FALLS_BACK),
            ("10.0.0.7/t", FALLS_BACK),
            ("[2001:db8::1]/t?ssl-mode=DISABLED", CLEAR),
            ("localhost.example/t", FALLS_BACK),
            ("localhost/t?ssl-mode=DISABLED", None),
            ("LOCALHOST/t", None),
            ("127.0.0.1:3306/t", None),
            ("[::1]/t", None),
            ("[::ffff:127.0.0.1]/t", None),
            ("db.example/t?socket=/run/mysqld/mysqld.sock", None),
        ] {
            let url = reqwest::Url::parse(&format!("mysql://u:p@{rest}")).expect("an address");
            let told = exposed(&url).expect("a mode");
            assert_eq!(told.is_some(), word.is_some(), "{rest}: {told:?}");
            assert!(
                told.is_none_or(
                    |told| told.contains(word.unwrap_or_default()) && told.contains("VERIFY_IDENTITY")
                ),
                "{rest}: {told:?}"
            );
        }
        let url = reqwest::Url::parse("mysql://u:p@localhost/t?ssl-mode=VERIFY").expect("an address");
        assert_eq!(exposed(&url), Err("VERIFY".to_owned()));
    }
}
