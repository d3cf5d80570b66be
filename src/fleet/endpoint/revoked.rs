//! The keys that the root key has revoked, as an endpoint knows them: those of the list with the highest
//! number that it has seen.
//!
//! In one file of the directory of the endpoint, which its processes share. A list that [`Revoked::take`] has
//! kept survives the end of the process and the loss of power, and no older list of the same root key takes
//! its place. The numbers of another root key say nothing: a list of a root key that is not trusted any more
//! is replaced. A list that cannot be kept counts in this process, until [`Revoked::keep`] has kept it.

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
    /// The root key and the environment.
    trust: Trust,
    known: Mutex<Known>,
    changed: AtomicBool,
    /// A list that counts and is not on disk yet. Held while it is written.
    unkept: Mutex<Option<Revocations>>,
    /// Why it is not.
    failing: Mutex<Option<String>>,
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
        let trust = Trust { root: trust.root, ..Trust::of(trust.environment.clone()) };
        let known = read(dir)?.filter(|revocations| {
            let ours = trust.vouches_for(revocations);
            if !ours {
                tracing::warn!(path = %dir.join(FILE).display(), "the list of revoked keys is not one of the root key that is trusted: it does not count");
            }
            ours
        });
        let known = Mutex::new(known.as_ref().map(Known::of).unwrap_or_default());
        let (changed, unkept, failing) = (AtomicBool::new(false), Mutex::default(), Mutex::default());
        Ok(Self { dir: dir.to_owned(), trust, known, changed, unkept, failing })
    }

    /// The keys.
    pub(super) fn keys(&self) -> Arc<BTreeSet<KeyId>> {
        locked(&self.known).keys.clone()
    }

    /// The number of the list; 0 before the first.
    pub(super) fn serial(&self) -> u64 {
        locked(&self.known).serial
    }

    /// Whether there is another list than at the start.
    pub(super) fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    /// Takes a list of the root key, if it is newer, and keeps it. Waits for the disk.
    ///
    /// # Errors
    /// When it cannot be kept: it counts in this process all the same, and [`Self::keep`] tries again.
    pub(super) fn take(&self, revocations: &Revocations) -> io::Result<()> {
        {
            // In this order, so that of two lists the newer one is kept.
            let mut unkept = locked(&self.unkept);
            let mut known = locked(&self.known);
            if revocations.serial <= known.serial {
                return Ok(());
            }
            *known = Known::of(revocations);
            *unkept = Some(revocations.clone());
        }
        self.changed.store(true, Ordering::Release);
        self.keep()
    }

    /// Keeps the list that counts, if that was not possible before. Waits for the disk.
    ///
    /// # Errors
    /// When it is not possible now either.
    pub(super) fn keep(&self) -> io::Result<()> {
        let mut unkept = locked(&self.unkept);
        let written = unkept.as_ref().map_or(Ok(()), |revocations| self.write(revocations));
        if written.is_ok() {
            *unkept = None;
        }
        *locked(&self.failing) = written.as_ref().err().map(ToString::to_string);
        written
    }

    /// Why the list cannot be kept, for people.
    pub(super) fn trouble(&self) -> Option<String> {
        locked(&self.failing).clone()
    }

    /// One process of the endpoint at a time, and only what is newer than what the others have kept.
    fn write(&self, revocations: &Revocations) -> io::Result<()> {
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.dir.join(format!("{FILE}.lock")))?;
        lock.lock()?;
        // What cannot be read is replaced, and so is what another root key has signed.
        let kept = read(&self.dir).ok().flatten().filter(|kept| self.trust.vouches_for(kept));
        if kept.is_some_and(|kept| kept.serial >= revocations.serial) {
            return Ok(());
        }
        directory::replace(&self.dir, FILE, &serde_json::to_vec(revocations)?)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn the_numbers_of_another_root_key_say_nothing() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let place = |name: &str| name.parse::<EnvironmentName>().expect("a name");
        let [first, second] = [(); 2].map(|()| SigningKey::create().expect("a key").0);
        let of = |root: &SigningKey, environment: &str, serial| {
            let keys = [KeyId::of(b"a")].into();
            let list = revoke(root, &place(environment), Revocations { serial, keys, signature: [0; 64] });
            let trust = Trust { root: Some(*root.public()), ..Trust::of(place(environment)) };
            (list, Revoked::open(dir.path(), &trust).expect("opens"))
        };
        // Each list takes the place of the one before, which is of another root key or another environment.
        for (root, environment, serial) in
            [(&first, "prod", 9), (&second, "prod", 1), (&first, "prod", 2), (&first, "dev", 1)]
        {
            let (list, revoked) = of(root, environment, serial);
            assert_eq!(revoked.serial(), 0, "{environment} {serial}: what is kept does not count");
            revoked.take(&list).expect("kept");
            assert_eq!(of(root, environment, serial).1.serial(), serial, "{environment}");
        }
        // Of the same root key, the highest number counts.
        let (older, revoked) = of(&first, "dev", 1);
        revoked.take(&of(&first, "dev", 3).0).expect("kept");
        revoked.take(&older).expect("nothing to keep");
        assert_eq!(of(&first, "dev", 0).1.serial(), 3);
    }

    #[test]
    fn a_list_that_cannot_be_kept_counts_and_is_kept_later() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let (root, place) = (SigningKey::create().expect("a key").0, "prod".parse().expect("a name"));
        let list = |serial| {
            let keys = [KeyId::of(b"a")].into();
            revoke(&root, &place, Revocations { serial, keys, signature: [0; 64] })
        };
        let trust = Trust { root: Some(*root.public()), ..Trust::of(place.clone()) };
        let open = || Revoked::open(dir.path(), &trust).expect("opens");
        let in_the_way = dir.path().join(format!("{FILE}.lock"));
        fs::create_dir(&in_the_way).expect("a directory");
        let revoked = open();
        for serial in [1, 2] {
            assert!(revoked.take(&list(serial)).is_err());
            assert!(revoked.keep().is_err() && revoked.trouble().is_some());
            assert_eq!((revoked.serial(), revoked.keys().len(), revoked.has_changed()), (serial, 1, true));
            assert_eq!(open().serial(), 0);
        }
        fs::remove_dir(&in_the_way).expect("removed");
        revoked.keep().expect("kept");
        assert_eq!((open().serial(), revoked.trouble()), (2, None));
        revoked.keep().expect("nothing to keep");
    }
}
