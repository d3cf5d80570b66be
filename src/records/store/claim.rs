//! A database that one process has for itself, for as long as it lives.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Refusal, Result, StoreError};

/// A claim. It ends when this is dropped, and with the process.
#[derive(Debug)]
pub struct Claim {
    pub(super) lost: CancellationToken,
    pub(super) _held: Held,
}

/// What holds a claim.
#[derive(Debug)]
pub(super) enum Held {
    /// A task with the connection that has the server's lock.
    Connection { _keeper: AbortOnDropHandle<()> },
    /// A locked file beside that of the database; none in a directory that cannot be written.
    File { _locked: Option<File> },
}

impl Claim {
    /// Canceled when another process has it: the server had lost the connection of this one.
    pub const fn lost(&self) -> &CancellationToken {
        &self.lost
    }
}

/// Locks the file of this path, which is made if need be. Where that cannot be, nobody can write the database
/// either, and the claim holds nothing: the process is to start, and to say what is wrong.
pub(super) fn lock(path: &Path) -> Result<Option<Claim>> {
    let unusable = |error: std::io::Error| StoreError::Unavailable {
        safe_url: path.display().to_string(),
        reason: error.to_string(),
        cause: Refusal::Storage,
    };
    let claim = |file| Claim { lost: CancellationToken::new(), _held: Held::File { _locked: file } };
    let file = match OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
            return Ok(Some(claim(None)));
        }
        Err(error) => return Err(unusable(error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(claim(Some(file)))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}
