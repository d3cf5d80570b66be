//! How far a batch is.

/// How far a batch is. `total` is the sum of all the others but `bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Tasks of the list.
    pub total: usize,
    /// Left out.
    pub skipped: usize,
    /// Waiting for a slot for the first time; also waiting for a worker, when the calls are made elsewhere.
    pub queued: usize,
    /// Holding a slot, or being performed elsewhere.
    pub running: usize,
    /// Waiting before another attempt, or for a slot for it.
    pub waiting: usize,
    /// Ended with a response.
    pub ok: usize,
    /// Ended without.
    pub failed: usize,
    /// Ended by somebody.
    pub canceled: usize,
    /// Bytes of all bodies so far.
    pub bytes: u64,
}

impl Progress {
    /// Whether something is still to come.
    pub const fn is_running(&self) -> bool {
        self.queued + self.running + self.waiting > 0
    }
}

/// Where a task is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Queued,
    Running,
    Waiting,
}

impl Stage {
    pub(super) fn of(self, progress: &mut Progress) -> &mut usize {
        match self {
            Self::Queued => &mut progress.queued,
            Self::Running => &mut progress.running,
            Self::Waiting => &mut progress.waiting,
        }
    }
}
