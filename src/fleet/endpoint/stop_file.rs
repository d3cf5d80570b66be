//! A file by which whoever administers a server keeps it from beginning tasks: the kill switch.
//!
//! While the file exists, no attempt begins. What runs goes on, and tasks are still taken into the journal:
//! there they can be canceled, and wait for the file to go. Neither API nor broker have a say in it.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::ReasonCode;

/// How often it is looked for while no task begins. Before a task begins it is looked for in any case.
const EVERY: Duration = Duration::from_millis(500);

/// The file of one agent.
#[derive(Debug)]
pub(super) struct StopFile {
    path: PathBuf,
    exists: watch::Sender<bool>,
    /// Whether the log has told that nobody can say whether it exists.
    unseen: AtomicBool,
}

impl StopFile {
    /// Looks for the first time.
    pub(super) fn at(path: PathBuf) -> Self {
        let file = Self { path, exists: watch::Sender::default(), unseen: AtomicBool::default() };
        file.exists();
        file
    }

    /// Whether it exists now: one call of the system. A file that cannot be looked for leaves everything as
    /// it was.
    fn exists(&self) -> bool {
        let exists = match fs::symlink_metadata(&self.path) {
            Ok(_) => true,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                false
            }
            Err(error) => {
                if !self.unseen.swap(true, Ordering::Relaxed) {
                    tracing::warn!(path = %self.path.display(), %error, "endpoint.stop_file cannot be looked for: it would not stop this endpoint");
                }
                return *self.exists.borrow();
            }
        };
        self.unseen.store(false, Ordering::Relaxed);
        let changed = self.exists.send_if_modified(|known| std::mem::replace(known, exists) != exists);
        match (changed, exists) {
            (false, _) => {}
            (true, true) => {
                tracing::warn!(path = %self.path.display(), reason = %ReasonCode::StopFile, "endpoint.stop_file exists: no task begins here until it is removed; what runs goes on")
            }
            (true, false) => {
                tracing::info!(path = %self.path.display(), "endpoint.stop_file is removed: tasks begin again")
            }
        }
        exists
    }

    /// Looks for it again and again, for as long as it is polled.
    pub(super) async fn watch(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.exists();
        }
    }

    /// Waits until it does not exist, while somebody [watches](Self::watch). It is looked for at the end: the
    /// caller may begin a task.
    pub(super) async fn gone(&self) {
        let mut exists = self.exists.subscribe();
        while self.exists() {
            if exists.wait_for(|exists| !exists).await.is_err() {
                return;
            }
        }
    }

    /// Tells when it comes and goes.
    pub(super) fn subscribe(&self) -> watch::Receiver<bool> {
        self.exists.subscribe()
    }

    /// That no task begins, for people.
    pub(super) fn trouble(&self) -> Option<String> {
        let text = || format!("the file {} exists: no task begins until it is removed", self.path.display());
        self.exists.borrow().then(|| ReasonCode::StopFile.told(text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_stops_for_as_long_as_it_exists() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("stop");
        let file = StopFile::at(path.clone());
        file.gone().await;
        assert_eq!(file.trouble(), None);
        // Whatever it is, and wherever it points.
        std::os::unix::fs::symlink("nowhere", &path).expect("a link");
        assert!(file.exists());
        let trouble = file.trouble().expect("trouble");
        assert_eq!(ReasonCode::of_trouble(&trouble), ReasonCode::StopFile);
        let mut told = file.subscribe();
        let waits = async { tokio::join!(file.gone(), async { told.changed().await.expect("told") }) };
        let removed = async {
            tokio::time::sleep(10 * EVERY).await;
            fs::remove_file(&path).expect("removed");
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = waits => {}
            () = file.watch() => unreachable!("it looks for ever"),
            () = removed => unreachable!("it waits for ever"),
        }
        assert_eq!(file.trouble(), None);
        // A parent that is a file holds no file.
        fs::write(&path, "").expect("written");
        assert!(!StopFile::at(path.join("stop")).exists());
    }
}
