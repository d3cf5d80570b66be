//! What executables a process left running when it was killed.
//!
//! A killed endpoint cannot end its handlers. So each process group is noted in a file while it runs, and the
//! next start ends those that are still there: they would do the same work beside the attempt that follows.
//! The bare number may have gone to somebody else meanwhile, so a group is known by the start of its leader,
//! or by the task's id in the environment of its members.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process_group};

use super::groups::Stat;
use crate::domain::TaskId;

/// The directory with one file for each group that runs.
#[derive(Debug)]
pub(super) struct Leftovers {
    dir: PathBuf,
}

/// A group that runs; its file goes when this is dropped.
pub(super) struct Recorded(PathBuf);

impl Leftovers {
    /// Ends what an earlier process left running. Returns how many groups that were.
    pub(super) fn sweep(dir: PathBuf) -> io::Result<(Self, usize)> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let mut ended = 0;
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let group = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.parse().ok())
                .and_then(Pid::from_raw);
            if let (Some(group), Ok(note)) = (group, fs::read_to_string(&path))
                && is_running(group, &note)
            {
                let _ = kill_process_group(group, Signal::KILL);
                ended += 1;
            }
            fs::remove_file(&path)?;
        }
        Ok((Self { dir }, ended))
    }

    /// Notes a group. Best effort: a full disk must not keep a handler from running.
    pub(super) fn record(&self, group: Pid, task: TaskId) -> Recorded {
        let path = self.dir.join(group.as_raw_nonzero().to_string());
        let mut file = OpenOptions::new();
        let file = file.write(true).create(true).truncate(true).mode(0o600).open(&path);
        if let Err(error) = file.and_then(|mut file| file.write_all(note(task, group).as_bytes())) {
            tracing::warn!(%error, path = %path.display(), "cannot note a running handler on disk");
        }
        Recorded(path)
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What is written down about a group: the task, and when its leader started in the life of the system.
fn note(task: TaskId, leader: Pid) -> String {
    match start_of(leader) {
        Some(start) => format!("{task} {start}"),
        None => task.to_string(),
    }
}

/// Everybody may know it: unlike the environment, also of a handler that runs as another user.
fn start_of(process: Pid) -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let stat = Stat::of(&Path::new("/proc").join(process.as_raw_pid().to_string()))?;
    Some(format!("{}@{}", stat.started, boot.trim()))
}

/// Whether the group of this number is the one that was noted.
fn is_running(group: Pid, note: &str) -> bool {
    let mut words = note.split_ascii_whitespace();
    let (task, start) = (words.next().unwrap_or_default(), words.next());
    if start.is_some() && start_of(group).as_deref() == start {
        return true;
    }
    // The leader may be gone and the rest be there.
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    let wanted = format!("TASKER_TASK_ID={task}");
    processes.filter_map(Result::ok).map(|entry| entry.path()).any(|process| {
        Stat::of(&process).is_some_and(|stat| stat.group == group.as_raw_pid())
            && fs::read(process.join("environ"))
                .is_ok_and(|env| env.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_known_by_the_start_of_its_leader() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let mut child = std::process::Command::new("sleep");
        let mut child = std::os::unix::process::CommandExt::process_group(&mut child, 0)
            .arg("1000")
            .spawn()
            .expect("starts");
        let leader = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a number");
        // Nothing in its environment says so.
        let text = note(TaskId::new(), leader);
        let (task, start) = text.split_once(' ').expect("two words");
        assert!(is_running(leader, &text) && !is_running(leader, task));
        assert!(!is_running(leader, &format!("{task} 1{start}")), "another process that got the number");
        fs::write(dir.path().join(leader.as_raw_pid().to_string()), &text).expect("written");
        let (_, ended) = Leftovers::sweep(dir.path().to_owned()).expect("swept");
        assert_eq!(ended, 1);
        assert!(!child.wait().expect("waited for").success());
    }
}
