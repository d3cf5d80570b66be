//! The socket budget: how many connections may be open, so that the limit on files is never met.
//!
//! A permit is taken before a socket is made and lives as long as the driver of the connection, not as long
//! as the task: a finished task's socket is still open for a moment, and tasks that count only themselves run
//! into the limit.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::BuildError;

/// Files that are left to everything else in the process.
const SPARE: usize = 64;
/// The budget where there is no limit.
const UNLIMITED: usize = 1 << 20;

pub(super) struct Sockets {
    free: Arc<Semaphore>,
    total: AtomicUsize,
    waiting: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
}

/// The right to have one socket open.
pub(super) struct Permit {
    sockets: Arc<Sockets>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.sockets.open.fetch_sub(1, Relaxed);
    }
}

impl Sockets {
    pub(super) fn new(total: usize) -> Arc<Self> {
        let [waiting, open, most] = [0; 3].map(AtomicUsize::new);
        Arc::new(Self {
            free: Arc::new(Semaphore::new(total)),
            total: AtomicUsize::new(total),
            waiting,
            open,
            most,
        })
    }

    pub(super) fn total(&self) -> usize {
        self.total.load(Relaxed)
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    pub(super) fn most(&self) -> usize {
        self.most.load(Relaxed)
    }

    /// Whether somebody waits for a permit; then nothing may lie idle.
    pub(super) fn wanted(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    /// A permit if there is one.
    pub(super) fn try_take(self: &Arc<Self>) -> Option<Permit> {
        self.free.clone().try_acquire_owned().ok().map(|permit| self.taken(permit))
    }

    /// A permit when there is one.
    pub(super) async fn take(self: &Arc<Self>) -> Option<Permit> {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Relaxed);
            }
        }
        self.waiting.fetch_add(1, Relaxed);
        let _waiting = Waiting(&self.waiting);
        // Never closed.
        self.free.clone().acquire_owned().await.ok().map(|permit| self.taken(permit))
    }

    fn taken(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Permit {
        let open = self.open.fetch_add(1, Relaxed) + 1;
        self.most.fetch_max(open, Relaxed);
        Permit { sockets: self.clone(), _permit: permit }
    }

    /// The system has fewer than we believed: one less from now on, but never none.
    pub(super) fn shrink(&self) {
        if self.total() > 1 && self.free.forget_permits(1) == 1 {
            self.total.fetch_sub(1, Relaxed);
        }
    }
}

/// Whether the system says that no more files can be opened.
pub(super) fn is_out_of_files(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code == Some(rustix::io::Errno::MFILE.raw_os_error())
        || code == Some(rustix::io::Errno::NFILE.raw_os_error())
}

/// The sockets that this process may open now: its soft limit less what is open less a reserve.
///
/// # Errors
/// When that is none.
pub(super) fn budget(raise: bool) -> Result<usize, BuildError> {
    let mut limit = getrlimit(Resource::Nofile);
    if raise && limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    let soft =
        limit.current.map_or(UNLIMITED, |soft| usize::try_from(soft).unwrap_or(UNLIMITED)).min(UNLIMITED);
    let open = std::fs::read_dir("/proc/self/fd").map_or(SPARE, Iterator::count);
    match soft.saturating_sub(open + SPARE) {
        0 => Err(BuildError::NoSockets { limit: soft, open }),
        sockets => Ok(sockets),
    }
}
