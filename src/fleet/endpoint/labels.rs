//! The labels of this endpoint: those of its configuration, and those of a file that is read again at every
//! sign of life.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::{Labels, ReasonCode};

/// Bytes that the file may have: 32 labels of the longest names and values, and as many comments.
const LONGEST_FILE: u64 = 64 << 10;

/// What the endpoint says of itself.
#[derive(Debug)]
pub(super) struct OwnLabels {
    configured: Labels,
    file: Option<PathBuf>,
    read: Mutex<LastRead>,
}

/// What the file said last.
#[derive(Debug, Default)]
struct LastRead {
    labels: Labels,
    /// What was wrong with it at the last look; told once.
    fault: Option<String>,
}

impl OwnLabels {
    pub(super) fn new(configured: Labels, file: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self { configured, file, read: Mutex::default() })
    }

    /// The labels as they are now. Those of the file come first: it is what the programs of the server write.
    /// A file that cannot be used leaves those that were read last in force, since an endpoint that lost its
    /// labels would be missed by tasks that are meant for it.
    pub(super) async fn current(self: &Arc<Self>) -> Labels {
        let labels = self.configured.clone();
        let labels = match self.file.clone() {
            Some(file) => {
                let me = self.clone();
                // The file system may be slow, and this is said beside everything else.
                let look = tokio::task::spawn_blocking(move || me.of_file(&file));
                look.await.unwrap_or_default().or(labels)
            }
            None => labels,
        };
        labels.with_platform()
    }

    /// Why the labels may be old, for people: what was wrong with the file at the last look.
    pub(super) fn trouble(&self) -> Option<String> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, fault) = self.file.as_ref().zip(read.fault.as_ref())?;
        let text = format!(
            "endpoint.labels_file {} cannot be used, the labels read last stay: {fault}",
            file.display()
        );
        Some(ReasonCode::LabelsUnread.told(text))
    }

    fn of_file(&self, file: &Path) -> Labels {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = match labels_in(file) {
            Ok(labels) => {
                read.labels = labels;
                None
            }
            Err(fault) => Some(fault),
        };
        if fault != read.fault {
            match &fault {
                Some(fault) => {
                    tracing::warn!(file = %file.display(), fault, "endpoint.labels_file cannot be used; the labels read last stay")
                }
                None => tracing::info!(file = %file.display(), "endpoint.labels_file is read again"),
            }
            read.fault = fault;
        }
        read.labels.clone()
    }
}

/// The labels in a file: a line each, `name=value`. Empty lines and those that begin with `#` say nothing.
fn labels_in(file: &Path) -> Result<Labels, String> {
    let mut text = String::new();
    let file = File::open(file).map_err(|error| error.to_string())?;
    file.take(LONGEST_FILE + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > LONGEST_FILE {
        return Err(format!("has more than {LONGEST_FILE} bytes"));
    }
    let mut labels = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) =
            line.split_once('=').ok_or_else(|| format!("line {}: expected `name=value`", index + 1))?;
        labels.push((key.trim().to_owned(), value.trim().to_owned()));
    }
    Labels::of(labels).map_err(|invalid| invalid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_file_is_read_again_and_comes_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("labels");
        let configured = Labels::of(
            [("site", "berlin"), ("role", "web")].map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        let own = OwnLabels::new(configured.expect("labels"), Some(file.clone()));
        let platform = format!("arch={} os={}", std::env::consts::ARCH, std::env::consts::OS);
        let now = async || {
            let labels = own.current().await;
            labels
                .iter()
                .filter(|(key, _)| !matches!(*key, "os" | "arch"))
                .map(|(key, value)| format!("{key}={value}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(now().await, ["role=web", "site=berlin"], "a file may come later");
        let trouble = own.trouble().expect("it is told");
        assert!(trouble.starts_with("labels_unread: ") && trouble.contains("No such file"), "{trouble}");
        std::fs::write(&file, "# written by the update\n\n release = 7 \nrole=db\n").expect("writes");
        assert_eq!(now().await, ["release=7", "role=db", "site=berlin"]);
        assert_eq!(own.trouble(), None);
        for broken in ["release", "na me=1", "name=other", &"x".repeat(70_000)] {
            std::fs::write(&file, broken).expect("writes");
            assert_eq!(
                now().await,
                ["release=7", "role=db", "site=berlin"],
                "{broken:.20}: those read last stay"
            );
        }
        std::fs::write(&file, "").expect("writes");
        assert_eq!(now().await, ["role=web", "site=berlin"]);
        assert_eq!(OwnLabels::new(Labels::default(), None).current().await.to_string(), platform);
    }
}
