//! What a journal can fail with.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the journal did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process, or another agent of this one, uses the directory.
    #[error("the journal {dir} is in use by another process ({holder})")]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// What the lock file says.
        holder: String,
    },
    /// The directory cannot be used.
    #[error("the journal {dir} cannot be opened: {source}")]
    Open {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No more tasks are taken until reports have gone out.
    #[error("the journal is full")]
    Full,
    /// The disk did not take it.
    #[error("the journal cannot be written: {0}")]
    Write(Arc<io::Error>),
    /// What was asked for cannot be read back.
    #[error("the journal cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The journal has been closed.
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    pub(super) fn open(dir: &Path) -> impl Fn(io::Error) -> Self {
        |source| Self::Open { dir: dir.to_owned(), source }
    }
}
