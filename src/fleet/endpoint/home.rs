//! The name of an endpoint's memory: made once for its data directory and kept in a file there.
//!
//! Two processes of one endpoint that know nothing of each other's tasks - on two servers by mistake, or
//! before and after the disk was lost - have the same name and different homes. The ledger tells them apart
//! by it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use uuid::Uuid;

const FILE: &str = "home";

/// The home of this directory, which is made if it is not there. Processes that start at the same time get
/// the same one.
///
/// # Errors
/// When the directory cannot be used, or holds a file of this name that is none of ours.
pub(super) fn of(dir: &Path) -> io::Result<Uuid> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let path = dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => return text.trim().parse().map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Written in full under another name, then given its own unless somebody was faster: never seen
    // half-written.
    let home = Uuid::new_v4();
    let draft = dir.join(format!("{FILE}.{home}"));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    writeln!(file, "{home}")?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, &path);
    fs::remove_file(&draft)?;
    File::open(dir)?.sync_all()?;
    match linked {
        Ok(()) => Ok(home),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::read_to_string(&path)?.trim().parse().map_err(io::Error::other)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::thread;

    #[test]
    fn is_the_same_for_everybody_and_for_ever() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let dir = dir.path().join("console1");
        let homes: HashSet<Uuid> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| of(&dir).expect("a home"))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(homes.len(), 1);
        assert_eq!(HashSet::from([of(&dir).expect("a home")]), homes);
        assert_eq!(fs::read_dir(&dir).expect("a directory").count(), 1, "no drafts are left");
    }

    #[test]
    fn a_strange_file_is_an_error() {
        let dir = tempfile::TempDir::new().expect("a directory");
        fs::write(dir.path().join(FILE), "sweet home").expect("written");
        assert!(of(dir.path()).is_err());
    }
}
