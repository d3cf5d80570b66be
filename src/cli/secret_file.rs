//! Files with a secret, which only their owner can read, and files that are written in the same way.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::output::Failure;

/// A file that is made before there is a secret, so that no secret is lost for want of a file. Removed again
/// unless the secret was written.
pub(super) struct SecretFile {
    path: PathBuf,
    /// Where it is written: a temporary file beside `path` if it replaces one, otherwise `path` itself.
    written: PathBuf,
    file: File,
    kept: bool,
}

impl SecretFile {
    /// A new file. Fails if there is one. `flag` is what names another place.
    pub(super) fn create(path: &Path, flag: &str) -> Result<Self, Failure> {
        Self::open(path, path.to_owned(), flag)
    }

    /// A file that replaces the one at `path`, if there is one. `flag` is what names another place.
    pub(super) fn replacing(path: &Path, flag: &str) -> Result<Self, Failure> {
        let mut written = path.as_os_str().to_owned();
        written.push(".new");
        let written = PathBuf::from(written);
        // A killed run may have left its temporary file behind.
        let _ = fs::remove_file(&written);
        Self::open(path, written, flag)
    }

    fn open(path: &Path, written: PathBuf, flag: &str) -> Result<Self, Failure> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&written);
        let file = file.map_err(|error| Failure::Usage(not_made(&written, &error, flag)))?;
        Ok(Self { path: path.to_owned(), written, file, kept: false })
    }

    /// Lets everybody read the file: it has no secret.
    pub(super) fn readable(self) -> Result<Self, Failure> {
        let changed = self.file.set_permissions(fs::Permissions::from_mode(0o644));
        changed.map_err(|error| {
            Failure::Setup(format!("cannot change the mode of {}: {error}", self.written.display()))
        })?;
        Ok(self)
    }

    /// Writes the secret; answers with where it is.
    pub(super) fn keep(mut self, secret: &[u8]) -> Result<PathBuf, Failure> {
        let done = self.file.write_all(secret).and_then(|()| self.file.sync_all());
        let done = done.and_then(|()| match self.written == self.path {
            true => Ok(()),
            false => fs::rename(&self.written, &self.path),
        });
        done.map_err(|error| Failure::Setup(format!("cannot write {}: {error}", self.path.display())))?;
        self.kept = true;
        Ok(self.path.clone())
    }
}

/// Why a file cannot be made, and what to do.
fn not_made(file: &Path, error: &io::Error, flag: &str) -> String {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
    match (error.kind(), directory) {
        (ErrorKind::NotFound, Some(directory)) => {
            format!("directory {} does not exist: create it, or use {flag}", directory.display())
        }
        (ErrorKind::AlreadyExists, _) => {
            format!("file {} exists already: remove it, or use another {flag}", file.display())
        }
        _ => format!("cannot make the file {}: {error}", file.display()),
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.written);
        }
    }
}
