//! The file that keeps a journal for one process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::error::JournalError;
use crate::domain::TaskType;

/// Held by the process that uses the directory.
pub(super) const LOCK: &str = "lock";

/// Takes a directory for this process alone.
pub(super) fn lock(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join(LOCK);
    let failed = JournalError::open(dir);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(&failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            Err(JournalError::InUse { dir: dir.to_owned(), holder: holder.trim().to_owned() })
        }
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Says who holds a lock and for what. The lock is what counts, and a full disk must not keep us from
/// starting.
pub(super) fn sign(mut lock: &File, types: &[&TaskType]) {
    let types: Vec<&str> = types.iter().map(|task_type| task_type.as_str()).collect();
    let _ = lock.set_len(0).and_then(|()| writeln!(lock, "pid {}: {}", std::process::id(), types.join(" ")));
}
