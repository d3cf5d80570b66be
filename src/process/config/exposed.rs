//! Secrets in files that everybody on the machine can read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::problem::Problem;
use super::settings::Loaded;

const OTHERS_MAY_READ: u32 = 0o004;

/// What is exposed: passwords that stand in the configuration file itself, and private keys.
pub(super) fn secrets(loaded: &Loaded, file: Option<&Path>) -> Vec<Problem> {
    let config = &loaded.config;
    let mut found = Vec::new();
    if let Some(file) = file.filter(|file| is_exposed(file)) {
        // What an environment variable was put in for has another origin.
        let here = format!("{}:", file.display());
        for entry in loaded
            .entries
            .iter()
            .filter(|entry| entry.origin.starts_with(&here) && entry.value.to_string().contains("***"))
        {
            let message = format!(
                "is a secret in a file that everybody on this machine can read: `chmod o-r {}`, or an environment variable in its place",
                file.display()
            );
            found.push(Problem::new(entry.path.clone(), message, Some(entry.origin.clone())));
        }
    }
    let keys = [
        ("api.tls.key", config.api.tls.as_ref().map(|files| &files.key)),
        ("endpoint.http.client_key", config.endpoint.http.identity.as_ref().map(|(_, key)| key)),
        ("http_worker.http.client_key", config.http_worker.http.identity.as_ref().map(|(_, key)| key)),
    ];
    for (name, key) in keys {
        if let Some(key) = key.filter(|key| is_exposed(key)) {
            let message = format!(
                "is a private key that everybody on this machine can read: `chmod o-r {}`",
                key.display()
            );
            found.push(Problem::new(name, message, None));
        }
    }
    found
}

/// What cannot be looked at cannot be read either.
fn is_exposed(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & OTHERS_MAY_READ != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigFile, Environment, Sources, load};

    #[test]
    fn secrets_that_everybody_can_read_are_warned_of() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let (file, key) = (dir.path().join("config.yaml"), dir.path().join("server.key"));
        let text = format!(
            "task_types: [worker]\nmanager: {{db: {{uri: \"mysql://u:CANARY@db/tasker\"}}}}\napi: {{tls: {{certificate: c, key: \"{}\"}}}}\n",
            key.display()
        );
        fs::write(&file, text).expect("written");
        fs::write(&key, "").expect("written");
        let warnings = |file_mode, key_mode| -> Vec<String> {
            for (path, mode) in [(&file, file_mode), (&key, key_mode)] {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changed");
            }
            let sources = Sources {
                file: ConfigFile::Path(file.clone()),
                environment: Environment::default(),
                flags: Vec::new(),
            };
            let warnings = load(&sources).expect("a configuration").warnings;
            warnings
                .iter()
                .map(ToString::to_string)
                .filter(|text| text.contains("everybody on this machine can read"))
                .collect()
        };
        assert!(warnings(0o640, 0o640).is_empty());
        let both = warnings(0o644, 0o604);
        assert_eq!(both.len(), 2, "{both:?}");
        assert!(
            both[0].starts_with("manager.db.uri: is a secret")
                && both[1].starts_with("api.tls.key: is a private key"),
            "{both:?}"
        );
        assert!(!both.concat().contains("CANARY"));
    }
}
