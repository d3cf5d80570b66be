//! Where an agent keeps its files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::domain::{EndpointName, TaskType};

/// A file name that every common file system takes.
const LONGEST: usize = 200;

/// Within it: what executables run.
pub(super) const RUNNING: &str = "running";
/// Messages that were refused.
pub(super) const QUARANTINE: &str = "quarantine";

/// `<data_dir>/<endpoint>/<types>`: the same for the same set of types in any order, and different for any
/// other.
pub(super) fn of(data_dir: &Path, endpoint: &EndpointName, task_types: &[&TaskType]) -> PathBuf {
    let mut names: Vec<_> = task_types.iter().map(|task_type| task_type.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut types = names.join("+");
    if types.len() > LONGEST {
        let sum = crc32fast::hash(types.as_bytes());
        types = format!("{}+{}-{sum:08x}", names[0], names.len() - 1);
    }
    // An endpoint may be called `..`; no name has a `%` of its own.
    let endpoint = match endpoint.as_str().strip_prefix('.') {
        Some(rest) => format!("%2E{rest}"),
        None => endpoint.to_string(),
    };
    data_dir.join(endpoint).join(types)
}

/// Puts a file in the place of another one: a crash leaves the old one or the new one, and whole. For its
/// owner alone. Waits for the disk.
pub(super) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let fresh = dir.join(format!("{name}.new"));
    // A killed process may have left one.
    let _ = fs::remove_file(&fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, dir.join(name))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(endpoint: &str, types: &[&str]) -> String {
        let types: Vec<TaskType> = types.iter().map(|name| name.parse().expect("a type")).collect();
        let types: Vec<_> = types.iter().collect();
        of(Path::new("/data"), &endpoint.parse().expect("an endpoint"), &types).display().to_string()
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        assert_eq!(dir("..", &["worker"]), "/data/%2E./worker");
        assert_eq!(dir(".", &["worker"]), "/data/%2E/worker");
        assert_eq!(dir("console1", &["worker", "backup", "worker"]), "/data/console1/backup+worker");
    }

    #[test]
    fn many_types_are_told_apart_in_a_short_name() {
        let names: Vec<String> = (0..100).map(|number| format!("a_rather_long_name_{number:03}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (all, but_one) = (dir("a", &names), dir("a", &names[..99]));
        assert!(all != but_one && all.len() < 60, "{all}");
    }
}
