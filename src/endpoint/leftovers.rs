//! What executables a process left running when it was killed.
//!
//! A killed endpoint cannot end its handlers. So each process group is noted in a file while it runs, and the next start
//! ends those that are still there: they would do the same work beside the attempt that follows. A group is known by the
//! task's id in the environment of its members, since the bare number may have gone to somebody else meanwhile.

use std::fs;
use std::io;
use std::path::PathBuf;

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
        fs::create_dir_all(&dir)?;
        let mut ended = 0;
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let group = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            if let (Some(group), Ok(task)) = (group, fs::read_to_string(&path))
                && is_running(group, task.trim())
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
        if let Err(error) = fs::write(&path, task.to_string()) {
            tracing::warn!(%error, path = %path.display(), "a running handler cannot be noted");
        }
        Recorded(path)
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether a process of this group performs this task.
fn is_running(group: Pid, task: &str) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    let wanted = format!("TASKER_TASK_ID={task}");
    processes.filter_map(Result::ok).map(|entry| entry.path()).any(|process| {
        Stat::of(&process).is_some_and(|stat| stat.group == group.as_raw_pid())
            && fs::read(process.join("environ")).is_ok_and(|env| env.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes()))
    })
}
