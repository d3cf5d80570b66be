//! The keys that the root key has revoked, as an endpoint knows them: those of the list with the highest
//! number that it has seen.
//!
//! In one file of the directory of the endpoint, which its processes share. A list that [`Revoked::take`] has
//! kept survives the end of the process and the loss of power; an older one never takes its place.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::directory;
use crate::domain::{KeyId, Revocations};
use crate::signing::Trust;

/// The name of the file.
const FILE: &str = "revocations.json";

/// The list.
#[derive(Debug)]
pub(super) struct Revoked {
    dir: PathBuf,
    known: Mutex<Known>,
    changed: AtomicBool,
}

#[derive(Debug, Clone, Default)]
struct Known {
    serial: u64,
    keys: Arc<BTreeSet<KeyId>>,
}

impl Known {
    fn of(Revocations { serial, keys, .. }: &Revocations) -> Self {
        Self { serial: *serial, keys: Arc::new(keys.clone()) }
    }
}

impl Revoked {
    /// Reads what an earlier process has kept. A list of another root key, or another environment, is none.
    pub(super) fn open(dir: &Path, trust: &Trust) -> io::Result<Self> {
        let known = read(dir)?.filter(|revocations| {
            let ours = trust.vouches_for(revocations);
            if !ours {
                tracing::warn!(path = %dir.join(FILE).display(), "the list of revoked keys is not one of the root key that is trusted: it does not count");
            }
            ours
        });
        let known = Mutex::new(known.as_ref().map(Known::of).unwrap_or_default());
        Ok(Self { dir: dir.to_owned(), known, changed: AtomicBool::new(false) })
    }

    /// The keys.
    pub(super) fn keys(&self) -> Arc<BTreeSet<KeyId>> {
        self.known().keys.clone()
    }

    /// The number of the list; 0 before the first.
    pub(super) fn serial(&self) -> u64 {
        self.known().serial
    }

    /// Whether there is another list than at the start.
    pub(super) fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    /// Takes a list of the root key, if it is newer, and keeps it. Waits for the disk.
    ///
    /// # Errors
    /// When it cannot be kept: it counts in this process all the same.
    pub(super) fn take(&self, revocations: &Revocations) -> io::Result<()> {
        let mut known = self.known();
        if revocations.serial <= known.serial {
            return Ok(());
        }
        *known = Known::of(revocations);
        self.changed.store(true, Ordering::Release);
        // One process of the endpoint at a time, and only what is newer than what the others have kept.
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.dir.join(format!("{FILE}.lock")))?;
        lock.lock()?;
        // What cannot be read is replaced.
        let kept = read(&self.dir).ok().flatten();
        if kept.is_some_and(|kept| kept.serial >= revocations.serial) {
            return Ok(());
        }
        directory::replace(&self.dir, FILE, &serde_json::to_vec(revocations)?)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(dir: &Path) -> io::Result<Option<Revocations>> {
    match fs::read(dir.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => Ok(Some(serde_json::from_slice(&read?)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::EnvironmentName;
    use crate::signing::{SigningKey, revoke};

    #[test]
    fn the_newest_list_of_the_root_key_is_kept() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let (root, other) = (SigningKey::create().expect("a key").0, SigningKey::create().expect("a key").0);
        let place: EnvironmentName = "prod".parse().expect("a name");
        let list = |serial, keys: &[&[u8]]| {
            let keys = keys.iter().map(|key| KeyId::of(key)).collect();
            revoke(&root, &place, Revocations { serial, keys, signature: [0; 64] })
        };
        let trust = |root: &SigningKey| Trust { root: Some(*root.public()), ..Trust::of(place.clone()) };
        let open = || Revoked::open(dir.path(), &trust(&root)).expect("opens");
        let (one, two) = (open(), open());
        assert_eq!((one.serial(), one.has_changed()), (0, false));
        one.take(&list(5, &[b"a", b"b"])).expect("kept");
        assert_eq!((one.serial(), one.keys().len(), one.has_changed()), (5, 2, true));
        // Another process of the endpoint was told something older.
        two.take(&list(4, &[b"a"])).expect("nothing to keep");
        one.take(&list(3, &[])).expect("nothing to keep");
        assert_eq!((one.serial(), two.serial(), open().serial(), open().keys().len()), (5, 4, 5, 2));
        two.take(&list(6, &[b"c"])).expect("kept");
        assert_eq!((open().serial(), open().has_changed()), (6, false));
        let foreign = Revoked::open(dir.path(), &trust(&other)).expect("opens");
        assert_eq!((foreign.serial(), foreign.keys().len()), (0, 0));
        fs::write(dir.path().join(FILE), "{").expect("written");
        assert!(
            Revoked::open(dir.path(), &trust(&root)).is_err(),
            "a list that cannot be read is not forgotten"
        );
        one.take(&list(7, &[])).expect("kept");
        assert_eq!(open().serial(), 7);
    }
}
