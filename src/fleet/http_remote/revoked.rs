//! The keys of callers that the root key has revoked, as an HTTP worker knows them: those of the list in a file
//! of its machine.
//!
//! The file is read when the worker starts, and again when it has changed. What comes then counts if the root key
//! of the trust file has signed it and its number is higher: nobody takes a revocation back with an older list, and
//! a file that cannot be read any more, or is not such a list, changes nothing. A worker keeps no list elsewhere, so
//! at its start others must not be able to change the file.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::custody;
use crate::domain::{KeyId, Revocations};
use crate::signing::{KeyError, Trust, TrustError, read_revocations};
use crate::telemetry::{LINE_EVERY, LogPace};

/// Why the list of revoked keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// Whose signatures count is not known.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The list cannot be read.
    #[error(transparent)]
    List(#[from] KeyError),
    /// Others can put an older list in its place.
    #[error("the list of revoked keys {path} can be changed by others: {reason}")]
    Exposed {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It is not that of this installation.
    #[error(
        "the list of revoked keys {path} is not signed with the root key of the trust file for its environment"
    )]
    Foreign {
        /// Which.
        path: PathBuf,
    },
}

/// The keys of the list.
#[derive(Debug)]
pub(super) struct RevokedKeys {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// The file of which the rest was read, or that was of no use.
    look: Option<Look>,
    serial: u64,
    keys: Arc<BTreeSet<KeyId>>,
    /// Of the line that the file cannot be read.
    line: LogPace,
}

/// By what a file is seen to have changed: file system, file, bytes, and time of the last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look([u64; 3], [i64; 2]);

impl Look {
    /// None while there is no file.
    fn at(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self([meta.dev(), meta.ino(), meta.len()], [meta.ctime(), meta.ctime_nsec()]))
    }
}

impl RevokedKeys {
    /// The list in a file.
    ///
    /// # Errors
    /// When it cannot be read, others can change it, or the root key has not signed it.
    pub(super) fn open(path: &Path, trust: &Trust) -> Result<Self, GuardError> {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        let absolute = std::path::absolute(path).map_err(failed)?;
        if let Some(reason) = custody::objection(&absolute).map_err(failed)? {
            return Err(GuardError::Exposed { path: path.to_owned(), reason });
        }
        // Before it is read, so that no change is overlooked.
        let look = Look::at(&absolute);
        let Revocations { serial, keys, .. } = read(&absolute, trust)?;
        tracing::info!(serial, keys = keys.len(), "read the list of revoked keys");
        let known = Known { look, serial, keys: Arc::new(keys), line: LogPace::new() };
        Ok(Self { path: absolute, known: Mutex::new(known) })
    }

    /// The keys of today. Looks at the file, which takes a microsecond, and reads it if it has changed.
    pub(super) fn keys(&self, trust: &Trust) -> Arc<BTreeSet<KeyId>> {
        self.keys_read(|path| read(path, trust))
    }

    fn keys_read(&self, read: impl Fn(&Path) -> Result<Revocations, GuardError>) -> Arc<BTreeSet<KeyId>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let look = Look::at(&self.path);
        if look == known.look {
            return known.keys.clone();
        }
        let read = read(&self.path);
        match &read {
            // The cause, such as too many open files, may pass while the file stays the same: read it again the
            // next time. A file that is gone comes back only as a change.
            Err(GuardError::List(KeyError::File { source, .. })) if source.kind() != ErrorKind::NotFound => {}
            _ => known.look = look,
        }
        let path = self.path.display();
        match read {
            Ok(list) => match list.against(known.serial, &known.keys) {
                Ordering::Equal => {}
                Ordering::Less => {
                    tracing::warn!(%path, serial = list.serial, known = known.serial, "the list of revoked keys has no higher number than the one before, which still counts");
                }
                Ordering::Greater => {
                    tracing::info!(
                        serial = list.serial,
                        keys = list.keys.len(),
                        "read a new list of revoked keys"
                    );
                    (known.serial, known.keys) = (list.serial, Arc::new(list.keys));
                }
            },
            Err(error) => {
                // This file is not read again before it changes, so this line is the only one about it.
                if known.look == look {
                    known.line.reset();
                }
                if known.line.is_due(LINE_EVERY) {
                    tracing::warn!(%error, "the list of revoked keys cannot be read again: the one before still counts");
                }
            }
        }
        known.keys.clone()
    }
}

fn read(path: &Path, trust: &Trust) -> Result<Revocations, GuardError> {
    let list = read_revocations(path)?;
    match trust.vouches_for(&list) {
        true => Ok(list),
        false => Err(GuardError::Foreign { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::domain::EnvironmentName;
    use crate::signing::{SigningKey, revoke};

    #[test]
    fn the_newest_list_of_the_file_counts() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("revoked.json");
        let [root, other] = [(); 2].map(|()| SigningKey::create().expect("a key").0);
        let place: EnvironmentName = "prod".parse().expect("a name");
        let trust = Trust { root: Some(*root.public()), ..Trust::of(place.clone()) };
        let list = |by: &SigningKey, serial, keys: &[&str]| {
            let keys = keys.iter().map(|key| KeyId::of(key.as_bytes())).collect();
            let list = revoke(by, &place, Revocations { serial, keys, signature: [0; 64] });
            serde_json::to_string(&list).expect("JSON")
        };
        let write = |text: &str| {
            // As programs replace files.
            let new = dir.path().join("new");
            fs::write(&new, text).expect("written");
            fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).expect("changed");
            fs::rename(new, &path).expect("replaced");
        };
        let open = || RevokedKeys::open(&path, &trust);
        assert!(matches!(open(), Err(GuardError::List(KeyError::File { .. }))));
        write("{");
        assert!(matches!(open(), Err(GuardError::List(KeyError::Revocations { .. }))));
        write(&list(&other, 1, &["a"]));
        assert!(matches!(open(), Err(GuardError::Foreign { .. })));
        write(&list(&root, 2, &["a"]));
        let rootless = Trust { root: None, ..trust.clone() };
        assert!(matches!(RevokedKeys::open(&path, &rootless), Err(GuardError::Foreign { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("changed");
        assert!(matches!(open(), Err(GuardError::Exposed { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");

        let revoked = open().expect("a list");
        let ids = |keys: &[&str]| keys.iter().map(|key| KeyId::of(key.as_bytes())).collect::<BTreeSet<_>>();
        assert_eq!(*revoked.keys(&trust), ids(&["a"]));
        for (text, wanted) in [
            (list(&root, 3, &["a", "b"]), &["a", "b"][..]),
            (list(&root, 2, &["a"]), &["a", "b"]),
            (list(&other, 9, &[]), &["a", "b"]),
            ("{".to_owned(), &["a", "b"]),
            (list(&root, 4, &["c"]), &["c"]),
        ] {
            write(&text);
            assert_eq!(*revoked.keys(&trust), ids(wanted), "{text}");
        }
        // What fails for a moment is tried again, though the file stays as it is.
        write(&list(&root, 5, &["c", "d"]));
        let busy = |path: &Path| {
            let source = std::io::Error::other("too many open files");
            Err(GuardError::List(KeyError::File { path: path.to_owned(), source }))
        };
        assert_eq!(*revoked.keys_read(busy), ids(&["c"]));
        assert_eq!(*revoked.keys(&trust), ids(&["c", "d"]));
        fs::remove_file(&path).expect("removed");
        assert_eq!(*revoked.keys(&trust), ids(&["c", "d"]));
        write(&list(&root, 6, &[]));
        assert_eq!(*revoked.keys(&trust), ids(&[]));
    }
}
