//! Whether nobody but root and the user of this process can change what a path leads to.
//!
//! Looked at from the root of the file system downwards: each directory on the way, each link that is
//! followed, and the file. Who cannot write to a directory cannot exchange what is in it, so all that was
//! found good on the way stays good until root or we change it: there is no moment between this look and the
//! use of the path in which others could.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::process::geteuid;

/// Links on the way at most, as in the kernel.
const LINKS: usize = 40;

const GROUP_MAY_WRITE: u32 = 0o020;
const OTHERS_MAY_WRITE: u32 = 0o002;
/// In such a directory an entry can be exchanged by its owner alone, the owner of the directory, and root.
const STICKY: u32 = 0o1000;

/// Why others can change what an absolute path leads to; nothing when they cannot.
///
/// # Errors
/// When something on the way cannot be looked at.
pub fn objection(path: &Path) -> io::Result<Option<String>> {
    let own = geteuid().as_raw();
    let mut ahead = reversed(path);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    if let Some(reason) = judge(&Entry::of(&fs::symlink_metadata(&at)?), own) {
        return Ok(Some(format!("/ {reason}")));
    }
    while let Some(name) = ahead.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let meta = fs::symlink_metadata(&next)?;
        if let Some(reason) = judge(&Entry::of(&meta), own) {
            return Ok(Some(format!("{} {reason}", next.display())));
        }
        if !meta.is_symlink() {
            at = next;
            continue;
        }
        links += 1;
        if links > LINKS {
            return Ok(Some(format!(
                "{} is one of more than {LINKS} links that lead to each other",
                next.display()
            )));
        }
        let target = fs::read_link(&next)?;
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        ahead.extend(reversed(&target));
    }
    Ok(None)
}

/// The names of a path, the first of them last.
fn reversed(path: &Path) -> Vec<OsString> {
    let names = path
        .components()
        .filter(|component| matches!(component, Component::Normal(_) | Component::ParentDir));
    names.rev().map(|component| component.as_os_str().to_owned()).collect()
}

/// What decides about a file, a directory or a link.
struct Entry {
    owner: u32,
    mode: u32,
    directory: bool,
    link: bool,
}

impl Entry {
    fn of(meta: &Metadata) -> Self {
        Self {
            owner: meta.uid(),
            mode: meta.mode() & 0o7777,
            directory: meta.is_dir(),
            link: meta.is_symlink(),
        }
    }
}

fn judge(entry: &Entry, own: u32) -> Option<String> {
    let Entry { owner, mode, directory, link } = *entry;
    if owner != 0 && owner != own {
        let expected =
            if own == 0 { "root".to_owned() } else { format!("root or user {own}, which tasker runs as") };
        return Some(format!("belongs to user {owner} instead of {expected}"));
    }
    // The mode of a link says nothing, and all that is in a sticky directory is looked at in its turn.
    if link || directory && mode & STICKY != 0 {
        return None;
    }
    let (who, cure) = match (mode & OTHERS_MAY_WRITE != 0, mode & GROUP_MAY_WRITE != 0) {
        (false, false) => return None,
        (true, _) => ("anyone", "chmod go-w"),
        (false, true) => ("its group", "chmod g-w"),
    };
    Some(format!("may be written to by {who} (mode {mode:04o}): `{cure}` changes that"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn root_and_we_are_trusted_and_nobody_else() {
        const FILE: (bool, bool) = (false, false);
        const DIRECTORY: (bool, bool) = (true, false);
        const LINK: (bool, bool) = (false, true);
        let table = [
            (0, 0o755, FILE, 1000, None),
            (1000, 0o4755, FILE, 1000, None),
            (1000, 0o755, FILE, 0, Some("belongs to user 1000 instead of root")),
            (1001, 0o700, FILE, 1000, Some("belongs to user 1001 instead of root or user 1000")),
            (0, 0o775, FILE, 0, Some("may be written to by its group (mode 0775): `chmod g-w`")),
            (1000, 0o757, FILE, 1000, Some("may be written to by anyone (mode 0757): `chmod go-w`")),
            (0, 0o777, FILE, 0, Some("may be written to by anyone")),
            // Sticky means nothing for a file.
            (0, 0o1777, FILE, 0, Some("may be written to by anyone")),
            (0, 0o2755, DIRECTORY, 0, None),
            (0, 0o1777, DIRECTORY, 1000, None),
            (1000, 0o1770, DIRECTORY, 1000, None),
            (1001, 0o1777, DIRECTORY, 1000, Some("belongs to user 1001")),
            (0, 0o777, DIRECTORY, 1000, Some("may be written to by anyone")),
            (0, 0o2775, DIRECTORY, 0, Some("may be written to by its group")),
            (0, 0o777, LINK, 1000, None),
            (1001, 0o777, LINK, 0, Some("belongs to user 1001")),
        ];
        for (owner, mode, (directory, link), own, expected) in table {
            let found = judge(&Entry { owner, mode, directory, link }, own);
            let good = match (expected, &found) {
                (Some(expected), Some(found)) => found.contains(expected),
                (expected, found) => expected.is_none() && found.is_none(),
            };
            assert!(good, "{owner} {mode:o} {directory} {link} as {own}: {found:?}");
        }
    }

    /// Whatever way leads to a file, one weak spot on it is found.
    #[test]
    fn every_step_of_the_way_counts() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let root = dir.path().canonicalize().expect("it is there");
        for name in ["handlers", "real/deep", "between"] {
            fs::create_dir_all(root.join(name)).expect("a directory");
        }
        fs::write(root.join("real/deep/run"), "").expect("written");
        symlink("../between/link", root.join("handlers/run")).expect("a link");
        symlink(root.join("real/here/../deep/run"), root.join("between/link")).expect("a link");
        symlink("deep", root.join("real/here")).expect("a link");
        let path = root.join("handlers/run");
        assert_eq!(objection(&path).expect("looked at"), None);
        for name in ["handlers", "real/deep/run", "real/deep", "real", "between", ""] {
            let weak = root.join(name);
            let before = fs::metadata(&weak).expect("it is there").permissions();
            for mode in [0o775, 0o757] {
                fs::set_permissions(&weak, fs::Permissions::from_mode(mode)).expect("changed");
                let found = objection(&path).expect("looked at").unwrap_or_default();
                let named = root.join(name).components().collect::<PathBuf>();
                assert!(
                    found.starts_with(&format!("{} may be written to", named.display())),
                    "{name}: {found}"
                );
            }
            fs::set_permissions(&weak, before).expect("changed");
        }
        assert_eq!(objection(&path).expect("looked at"), None);
        symlink("circle", root.join("circle")).expect("a link");
        assert!(objection(&root.join("circle")).expect("looked at").expect("an objection").contains("links"));
        assert!(objection(&root.join("nowhere")).is_err());
    }
}
