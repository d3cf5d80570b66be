//! What `tasker up` says when it is up: what it serves, and commands to try it with that fit the configured
//! types.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::admission::Admission;
use crate::client::USUAL_URL;
use crate::config::{Api, Body, Config, TypePolicy};
use crate::domain::{EndpointName, TaskType};
use crate::endpoint::HandlersDir;
use crate::handlers;
use crate::shell;

/// A submission to try the platform with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trial {
    task_type: TaskType,
    /// JSON; none where nobody knows what the handler takes.
    payload: Option<String>,
    body: Body,
}

impl Trial {
    /// One of a type that simulated endpoints perform: they take anything.
    pub(super) fn simulated(task_type: TaskType) -> Self {
        Self { task_type, payload: Some("{}".to_owned()), body: Body::Envelope }
    }

    /// One of the type that is most likely to show something: one with an executable rather than a sample,
    /// and a sample that works rather than one that fails.
    pub(super) fn of(config: &Config, admission: &Admission) -> Option<Self> {
        let dir = config.endpoint.handlers_dir.as_deref().map(HandlersDir::new);
        let trial = |policy: &TypePolicy| {
            let own = dir.as_ref().is_some_and(|dir| dir.has(&policy.name));
            let (rank, usual) = match (own, policy.name.as_str()) {
                (true, _) => (0, None),
                (false, "worker" | "echo") => (1, handlers::sample(&policy.name).map(str::to_owned)),
                (false, "http") => (2, allowed_call(config)),
                (false, name) => {
                    (if name == "steered" { 3 } else { 4 }, handlers::sample(&policy.name).map(str::to_owned))
                }
            };
            let payload = match &policy.schema {
                Some(_) => admission.sample(policy).map(|sample| sample.get().to_owned()),
                None => usual,
            };
            // What a schema asks for and nobody can tell, or a call to nowhere, would be refused.
            let known = payload.is_some() || (policy.schema.is_none() && policy.name.as_str() != "http");
            let trial = Self { task_type: policy.name.clone(), payload, body: policy.body };
            (if known { rank } else { 5 }, trial)
        };
        config
            .task_types
            .iter()
            .map(trial)
            .min_by_key(|(rank, _)| *rank)
            .filter(|(rank, _)| *rank < 5)
            .map(|(_, trial)| trial)
    }
}

/// A call to the first address that the handler `http` may connect to, if one can be told from what is
/// allowed.
fn allowed_call(config: &Config) -> Option<String> {
    let host = config
        .endpoint
        .http
        .allow
        .iter()
        .map(ToString::to_string)
        .find(|allowed| !allowed.contains(['*', '/']))?;
    Some(format!(r#"{{"url": "https://{host}/"}}"#))
}

/// What is told of a platform.
#[derive(Debug)]
pub(super) struct Greeting<'a> {
    pub(super) api: &'a Api,
    /// Where it listens.
    pub(super) address: SocketAddr,
    pub(super) types: &'a [TaskType],
    pub(super) endpoints: &'a [EndpointName],
    pub(super) workers: &'a [EndpointName],
    pub(super) simulated: &'a [EndpointName],
    pub(super) data_dir: &'a str,
    /// Whether the directory had no ledger before.
    pub(super) new: bool,
    /// Whether there is a token.
    pub(super) guarded: bool,
    pub(super) trial: Option<&'a Trial>,
}

impl Greeting<'_> {
    /// The text, without a line's end.
    pub(super) fn text(&self) -> String {
        let list = |names: &mut dyn Iterator<Item = &str>| match names.collect::<Vec<_>>() {
            names if names.is_empty() => "none".to_owned(),
            names => names.join(", "),
        };
        let mut text = format!(
            "tasker {version} is up\n  API         {scheme}://{address}\n  dashboard   {url}/dashboard\n  task types  {types}\n  endpoints   {endpoints}\n",
            version = env!("CARGO_PKG_VERSION"),
            scheme = self.api.scheme(),
            address = self.address,
            url = self.api.url_at(self.address),
            types = list(&mut self.types.iter().map(TaskType::as_str)),
            endpoints = list(&mut self.endpoints.iter().map(EndpointName::as_str)),
        );
        if !self.workers.is_empty() {
            _ = writeln!(text, "  workers     {}", list(&mut self.workers.iter().map(EndpointName::as_str)));
        }
        if let (Some(first), Some(last)) = (self.simulated.first(), self.simulated.last()) {
            _ = writeln!(text, "  simulated   {} endpoints, {first} to {last}", self.simulated.len());
        }
        _ = writeln!(text, "  data        {}{}\n", self.data_dir, if self.new { " (new)" } else { "" });
        if let Some(trial) = self.trial {
            text += &self.commands(trial);
        }
        text + "Ctrl-C stops it; the data stays. `tasker --help` lists the commands."
    }

    fn commands(&self, Trial { task_type, payload, body }: &Trial) -> String {
        let url = self.api.url_at(self.address);
        let secure = self.api.tls.is_some();
        // A secret on a command line is seen by everybody on the machine.
        let mut text = match self.guarded {
            true => "Try it, with the secret of a token in the file `token`, and `Authorization: Bearer SECRET` in the file `header`:\n",
            false => "Try it:\n",
        }
        .to_owned();
        let curl = format!(
            "curl -s{}{}",
            if secure { "k" } else { "" },
            if self.guarded { " -H @header" } else { "" }
        );
        text += "  tasker";
        for (wanted, option) in [
            (url != USUAL_URL, format!(" --api {url}")),
            (self.guarded, " --token-file token".to_owned()),
            (secure, " --insecure".to_owned()),
        ] {
            text += if wanted { &option } else { "" };
        }
        _ = write!(text, " submit {task_type}");
        if let Some(payload) = payload {
            _ = write!(text, " --payload {}", shell::word(payload));
        }
        text += " --wait\n";
        let (sent, then) = match (body, payload) {
            (Body::Envelope, Some(payload)) => {
                (format!(r#"{{"identifier": "first", "payload": {payload}}}"#), "/first?wait=20s")
            }
            (Body::Envelope, None) => (r#"{"identifier": "first"}"#.to_owned(), "/first?wait=20s"),
            // The identifier is made, and is in the answer.
            (Body::Payload, payload) => (payload.clone().unwrap_or_else(|| "{}".to_owned()), "?limit=1"),
        };
        _ = write!(
            text,
            "  {curl} -H 'Content-Type: application/json' {url}/{task_type} \\\n       -d {}\n  {curl} '{url}/{task_type}{then}'\n\n",
            shell::word(&sent)
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(text: &str) -> Option<(String, Option<String>)> {
        let config = Config::from_yaml(text).expect("valid");
        let admission = Admission::read(&config).expect("usable");
        Trial::of(&config, &admission).map(|trial| (trial.task_type.to_string(), trial.payload))
    }

    #[test]
    fn the_type_that_shows_most_is_tried() {
        let some = |name: &str, payload: Option<&str>| Some((name.to_owned(), payload.map(str::to_owned)));
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("uptime.sh");
        std::fs::write(&file, "#!/bin/sh\n").expect("writes");
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("changes");
        let handlers = format!("endpoint: {{handlers_dir: {}}}", dir.path().display());
        for (text, tried) in [
            ("task_types: [backup, worker]", some("worker", Some(r#"{"seconds": 2}"#))),
            ("task_types: [backup]", some("backup", Some(r#"{"seconds": 1}"#))),
            (&format!("task_types: [worker, uptime]\n{handlers}"), some("uptime", None)),
            ("task_types: [http, nobody]", some("nobody", None)),
            ("task_types: [http]", None),
            (
                "task_types: [http]\nendpoint: {http: {allow: [\"*\", 10.0.0.0/8, \"bmc1:444\"]}}",
                some("http", Some(r#"{"url": "https://bmc1:444/"}"#)),
            ),
            (
                r#"task_types: [{name: worker, schema: '{"type": "object", "required": ["seconds"], "properties": {"seconds": {"minimum": 3, "type": "number"}}}'}]"#,
                some("worker", Some(r#"{"seconds":3}"#)),
            ),
            (
                r#"task_types: [{name: worker, schema: '{"type": "string", "pattern": "^x$"}'}, backup]"#,
                some("backup", Some(r#"{"seconds": 1}"#)),
            ),
        ] {
            assert_eq!(trial(text), tried, "{text}");
        }
    }

    #[test]
    fn the_commands_fit_the_interface() {
        let types: [TaskType; 1] = ["builds".parse().expect("a type")];
        let trial = |body| Trial {
            task_type: types[0].clone(),
            payload: Some(r#"{"it": "isn't"}"#.to_owned()),
            body,
        };
        let greeting = |trial: &Trial, address: &str, scheme, guarded| {
            let tls = if scheme == "https" { "api: {tls: {certificate: c.pem, key: k.pem}}" } else { "" };
            let config = Config::from_yaml(&format!("task_types: [builds]\n{tls}")).expect("valid");
            Greeting {
                api: &config.api,
                address: address.parse().expect("an address"),
                types: &types,
                endpoints: &[],
                workers: &[],
                simulated: &[],
                data_dir: "/d",
                new: false,
                guarded,
                trial: Some(trial),
            }
            .text()
        };
        let text = greeting(&trial(Body::Envelope), "127.0.0.1:8888", "http", false);
        assert!(
            text.contains(
                "\n  tasker submit builds --payload '{\"it\": \"isn'\\''t\"}' --wait\n  curl -s -H"
            ),
            "{text}"
        );
        assert!(text.contains("\n  curl -s 'http://127.0.0.1:8888/builds/first?wait=20s'\n"), "{text}");
        let text = greeting(&trial(Body::Envelope), "127.0.0.1:9000", "https", true);
        assert!(
            text.contains(
                "  tasker --api https://127.0.0.1:9000 --token-file token --insecure submit builds "
            ),
            "{text}"
        );
        assert!(
            text.contains("  curl -sk -H @header 'https://127.0.0.1:9000/builds/first?wait=20s'"),
            "{text}"
        );
        let text = greeting(&trial(Body::Envelope), "0.0.0.0:9000", "http", true);
        assert!(text.contains("  API         http://0.0.0.0:9000\n"), "{text}");
        assert!(
            text.contains("--api http://127.0.0.1:9000 ") && text.contains(" 'http://127.0.0.1:9000/builds/"),
            "{text}"
        );
        let text = greeting(&trial(Body::Payload), "127.0.0.1:8888", "http", false);
        assert!(
            text.contains("\n  tasker submit builds --payload ")
                && text.contains("-d '{\"it\": \"isn'\\''t\"}'\n")
                && text.contains("/builds?limit=1'"),
            "{text}"
        );
    }
}
