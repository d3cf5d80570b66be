//! Where an agent keeps its files.

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
