//! The files that a command reads because its configuration names them.
//!
//! Only whether they are there. Their content is not looked at: perhaps only the user of the process may read
//! them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::args::Role;
use crate::config::{Config, Database, Endpoint, HttpWorker, MessageQueue, Problem, Security, Signatures};

/// The task type whose handler is compiled in and makes HTTP calls.
const HTTP: &str = "http";

/// A file, with the key that names it.
#[derive(Debug)]
pub(super) struct NamedFile {
    key: &'static str,
    /// The parameter of an address, where the value of the key is one.
    parameter: Option<&'static str>,
    path: PathBuf,
}

impl NamedFile {
    fn new(key: &'static str, path: &Path) -> Self {
        Self { key, parameter: None, path: path.to_owned() }
    }

    /// What is wrong with it: nothing if it may be a file.
    pub(super) fn trouble(&self) -> Option<Problem> {
        let what = match self.path.metadata() {
            Ok(meta) if meta.is_dir() => "is a directory; expected a file",
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                "does not exist"
            }
            _ => return None,
        };
        let parameter = self.parameter.map(|name| format!("{name}: ")).unwrap_or_default();
        let message = format!("{parameter}{} {what}", self.path.display());
        Some(Problem { key: self.key.to_owned(), message, source: None })
    }
}

/// The files without which a command does not start, or cannot connect.
pub(super) fn needed(config: &Config, role: Role, leads_to_broker: bool) -> Vec<NamedFile> {
    let queue = config.manager.message_queue.get().filter(|_| leads_to_broker);
    let mut files = of_broker(queue);
    match role {
        Role::Api => {
            if let Some(tls) = &config.api.tls {
                files.push(NamedFile::new("api.tls.certificate", &tls.certificate));
                files.push(NamedFile::new("api.tls.key", &tls.key));
            }
            files.extend(of_security(&config.security));
            files.extend(of_database("manager.db.uri", config.manager.db.get()));
            files.extend(of_database("flamenco.uri", config.flamenco.get()));
        }
        Role::Endpoint | Role::Worker => {
            let Endpoint { signatures, trust, .. } = &config.endpoint;
            if *signatures != Signatures::Off {
                files.push(NamedFile::new("endpoint.trust", trust));
            }
        }
        Role::HttpWorker => {
            let HttpWorker { signatures, trust, revocations, http, .. } = &config.http_worker;
            if *signatures != Signatures::Off {
                files.push(NamedFile::new("http_worker.trust", trust));
                files.extend(revocations.iter().map(|list| NamedFile::new("http_worker.revocations", list)));
            }
            let keys = [
                "http_worker.http.ca_bundle",
                "http_worker.http.client_certificate",
                "http_worker.http.client_key",
            ];
            files.extend(of_tls(keys, http.ca_bundle.as_ref(), http.identity.as_ref()));
        }
        Role::Initialize => {
            files.extend(of_database("manager.db.uri", config.manager.db.get()));
            let ca = config.management().ok().and_then(|management| management.ca.as_deref());
            files.extend(ca.map(|ca| NamedFile::new("rabbitmq.ca", ca)));
        }
    }
    files
}

/// The files that a command starts without, and misses later.
pub(super) fn used(config: &Config, role: Role) -> Vec<NamedFile> {
    if !matches!(role, Role::Endpoint | Role::Worker) {
        return Vec::new();
    }
    let Endpoint { labels_file, http, .. } = &config.endpoint;
    let mut files: Vec<_> =
        labels_file.iter().map(|file| NamedFile::new("endpoint.labels_file", file)).collect();
    if config.of_delivery(role == Role::Worker).any(|policy| policy.name.as_str() == HTTP) {
        let keys =
            ["endpoint.http.ca_bundle", "endpoint.http.client_certificate", "endpoint.http.client_key"];
        files.extend(of_tls(keys, http.ca_bundle.as_ref(), http.identity.as_ref()));
    }
    files
}

/// What an API process signs and judges with.
fn of_security(security: &Security) -> Vec<NamedFile> {
    let Security { signing, trust, revocations, reports: _ } = security;
    let certificate = signing.as_ref().and_then(|signing| signing.certificate.as_deref());
    // Without either of them nobody reads the list.
    let list = revocations.as_deref().filter(|_| signing.is_some() || trust.is_some());
    [
        ("security.signing_key", signing.as_ref().map(|signing| signing.key.as_path())),
        ("security.certificate", certificate),
        ("security.trust", trust.as_deref()),
        ("security.revocations", list),
    ]
    .into_iter()
    .filter_map(|(key, path)| Some(NamedFile::new(key, path?)))
    .collect()
}

fn of_database(key: &'static str, database: Option<&Database>) -> Vec<NamedFile> {
    let files = database.map(Database::tls_files).unwrap_or_default();
    files.into_iter().map(|(name, path)| NamedFile { key, parameter: Some(name), path }).collect()
}

fn of_broker(queue: Option<&MessageQueue>) -> Vec<NamedFile> {
    let Some(files) = queue.filter(|queue| queue.tls).map(|queue| &queue.tls_files) else {
        return Vec::new();
    };
    let keys = [
        "manager.message_queue.tls.ca",
        "manager.message_queue.tls.certificate",
        "manager.message_queue.tls.key",
    ];
    of_tls(keys, files.ca.as_ref(), files.identity.as_ref())
}

/// The CA certificates, and the certificate and the private key of the client.
fn of_tls(
    keys: [&'static str; 3],
    ca: Option<&PathBuf>,
    identity: Option<&(PathBuf, PathBuf)>,
) -> Vec<NamedFile> {
    let (certificate, key) = identity.map(|(certificate, key)| (certificate, key)).unzip();
    let files = keys.into_iter().zip([ca, certificate, key]);
    files.filter_map(|(key, path)| Some(NamedFile::new(key, path?))).collect()
}
