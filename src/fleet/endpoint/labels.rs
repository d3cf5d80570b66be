//! The labels of this endpoint: those of its configuration, and those of a file that is read again at every
//! sign of life.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::domain::{Labels, ReasonCode};
use crate::regular_file;

/// Bytes that the file may have: 32 labels of the longest names and values, and as many comments.
const LONGEST_FILE: u64 = 64 << 10;

/// How long a sign of life waits for the file.
const LONGEST_LOOK: Duration = Duration::from_secs(2);

/// What the endpoint says of itself.
#[derive(Debug)]
pub(super) struct OwnLabels {
    configured: Labels,
    file: Option<PathBuf>,
    /// Never locked while a file is read: who asks for the trouble must not wait for a file system.
    read: Mutex<LastRead>,
    /// A look that has not ended. No other one begins meanwhile: each would keep a thread.
    look: tokio::sync::Mutex<Option<Look>>,
}

type Look = JoinHandle<Result<Labels, String>>;

/// What the file said last.
#[derive(Debug, Default)]
struct LastRead {
    labels: Labels,
    /// What was wrong with it at the last look; told once.
    fault: Option<String>,
}

impl OwnLabels {
    pub(super) fn new(configured: Labels, file: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self { configured, file, read: Mutex::default(), look: tokio::sync::Mutex::default() })
    }

    /// The labels as they are now. Those of the file come first: it is what the programs of the server write.
    /// A file that cannot be used leaves those that were read last in force, since an endpoint that lost its
    /// labels would be missed by tasks that are meant for it.
    pub(super) async fn current(&self) -> Labels {
        let labels = self.configured.clone();
        let labels = match &self.file {
            Some(file) => self.of_file(file).await.or(labels),
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

    async fn of_file(&self, file: &Path) -> Labels {
        let outcome = self.look(file).await;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = match outcome {
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

    /// What the file says, unless its file system does not answer in time.
    async fn look(&self, file: &Path) -> Result<Labels, String> {
        let mut look = self.look.lock().await;
        let ended = {
            let file = file.to_owned();
            let begun = look.get_or_insert_with(|| tokio::task::spawn_blocking(move || labels_in(&file)));
            timeout(LONGEST_LOOK, begun).await
        };
        let Ok(ended) = ended else { return Err("does not answer".to_owned()) };
        *look = None;
        ended.unwrap_or_else(|error| Err(error.to_string()))
    }
}

/// The labels in a file: a line each, `name=value`. Empty lines and those that begin with `#` say nothing.
fn labels_in(file: &Path) -> Result<Labels, String> {
    let bytes = regular_file::read(file, LONGEST_FILE).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "stream did not contain valid UTF-8".to_owned())?;
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
        let fifo = dir.path().join("fifo");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
        std::fs::rename(&fifo, &file).expect("takes its place");
        assert_eq!(now().await, ["release=7", "role=db", "site=berlin"], "nobody writes to the FIFO");
        let trouble = own.trouble().expect("it is told");
        assert!(trouble.contains("not a regular file"), "{trouble}");
        std::fs::remove_file(&file).expect("removes");
        std::fs::write(&file, "").expect("writes");
        assert_eq!(now().await, ["role=web", "site=berlin"]);
        assert_eq!(OwnLabels::new(Labels::default(), None).current().await.to_string(), platform);
    }
}
