//! The process groups that the handlers of this process run in.
//!
//! All of them are known here, for two reasons. A process that ends at once can end them first: nobody would
//! watch them afterwards. And a process that adopts orphans (as the first of a container does) can tell its
//! handlers, whose end is awaited elsewhere, from orphans, whose end nobody else asks for.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, child_subreaper, getpid, kill_process_group,
    test_kill_process_group, waitid, waitpid,
};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// Whether groups may begin. Read while one does: whoever writes knows that [`LEADERS`] lacks none.
static OPEN: RwLock<bool> = RwLock::new(true);

/// Whether all groups are being ended.
static ENDING: AtomicBool = AtomicBool::new(false);

/// The leaders of the groups that may be running.
static LEADERS: LazyLock<Mutex<HashSet<Pid>>> = LazyLock::new(Mutex::default);

/// How long a stop at once waits for a handler that is just being started.
const STARTING: Duration = Duration::from_secs(1);

/// How long the end of a child is left to those who wait for it.
const LEFT_TO_OTHERS: Duration = Duration::from_millis(100);

/// A process group; killed when dropped while it may be running.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) leader: Pid,
    over: bool,
}

impl Group {
    /// Starts a program as the leader of a group of its own.
    pub(super) fn start(command: &mut Command) -> io::Result<(Child, Self)> {
        let open = OPEN.read().unwrap_or_else(PoisonError::into_inner);
        if !*open {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the process ends"));
        }
        let child = command.process_group(0).spawn()?;
        // It has one until it has been waited for.
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let leader = leader.ok_or_else(|| io::Error::other("the new process has no number"))?;
        leaders().insert(leader);
        Ok((child, Self { leader, over: false }))
    }

    pub(super) fn signal(&self, signal: Signal) {
        // It may be gone already.
        let _ = kill_process_group(self.leader, signal);
    }

    /// Whether a process of it is left.
    pub(super) fn is_there(&self) -> bool {
        test_kill_process_group(self.leader).is_ok()
    }

    /// Says that all of it was ended.
    pub(super) fn over(mut self) {
        self.over = true;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.over {
            self.signal(Signal::KILL);
        }
        leaders().remove(&self.leader);
    }
}

fn leaders() -> MutexGuard<'static, HashSet<Pid>> {
    LEADERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends all handlers at once, and lets none begin any more: the process is about to end.
pub fn end_all() {
    ENDING.store(true, Ordering::SeqCst);
    let started = Instant::now();
    let mut open = loop {
        match OPEN.try_write() {
            Ok(open) => break Some(open),
            Err(std::sync::TryLockError::Poisoned(error)) => break Some(error.into_inner()),
            // A program on a file system that hangs must not keep the others running.
            Err(std::sync::TryLockError::WouldBlock) if started.elapsed() > STARTING => break None,
            Err(std::sync::TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(5)),
        }
    };
    if let Some(open) = &mut open {
        **open = false;
    }
    for leader in leaders().iter() {
        let _ = kill_process_group(*leader, Signal::KILL);
    }
}

/// Whether [`end_all`] was called: what ends now was ended by it.
pub(super) fn all_end() -> bool {
    ENDING.load(Ordering::SeqCst)
}

/// Waits for the orphans that this process adopts, if it does: as the first process of a container, or as a
/// "subreaper". Without that each of them stays in the table of processes until it is full. Ends only when
/// dropped.
///
/// # Errors
/// When ends of children cannot be heard of.
pub async fn reap_orphans() -> io::Result<()> {
    let adopts = getpid().is_init() || child_subreaper().is_ok_and(|set| set.is_some());
    if !adopts {
        return std::future::pending().await;
    }
    let mut ended = signal(SignalKind::child())?;
    while ended.recv().await.is_some() {
        tokio::time::sleep(LEFT_TO_OTHERS).await;
        let _ = tokio::task::spawn_blocking(reap).await;
    }
    Ok(())
}

fn reap() {
    let _none_begins = OPEN.write().unwrap_or_else(PoisonError::into_inner);
    let looking = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if !matches!(waitid(WaitId::All, looking), Ok(Some(_))) {
        return;
    }
    let Ok(processes) = fs::read_dir("/proc") else { return };
    for process in processes.filter_map(Result::ok) {
        let pid = process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let (Some(pid), Some(stat)) = (pid, Stat::of(&process.path())) else { continue };
        if stat.state == 'Z' && stat.parent == getpid().as_raw_pid() && !leaders().contains(&pid) {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}

/// What `/proc/PID/stat` says of a process. Everybody may read it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// `Z` when it has ended and nobody has waited for it.
    pub(super) state: char,
    pub(super) parent: i32,
    pub(super) group: i32,
    /// Ticks from the start of the machine to its own.
    pub(super) started: u64,
}

impl Stat {
    pub(super) fn of(process: &Path) -> Option<Self> {
        Self::read(&fs::read_to_string(process.join("stat")).ok()?)
    }

    /// The name is the second field: it may hold anything, and ends with the last bracket.
    fn read(text: &str) -> Option<Self> {
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let started = fields.nth(16)?.parse().ok()?;
        Some(Self { state, parent, group, started })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_name_is() {
        let line = "4242 (a) Z (b) 7) S 17 4200 4100 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 200\n";
        assert_eq!(Stat::read(line), Some(Stat { state: 'S', parent: 17, group: 4200, started: 987_654 }));
        for bad in ["", "1 (a", "1 (a) S", "1 (a) S 1 x", "1 (a) S 1 2 3"] {
            assert_eq!(Stat::read(bad), None, "{bad}");
        }
        let own = Stat::of(Path::new("/proc/self")).expect("our own");
        assert!(own.parent > 0 && own.started > 0 && own.state != 'Z', "{own:?}");
    }
}
