//! What a task of a work queue has besides: performed once, by one worker that has room.

use super::{AttemptError, TaskId, Timestamp};

/// The largest priority that a task may have; the least is its negative.
pub const MAX_PRIORITY: i32 = 1_000_000;

/// SHA-256 of a value in a payload, taken of its canonical JSON: two payloads with the same value have the
/// same key.
pub type PayloadKey = [u8; 32];

/// Where a new task stands in its queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The lower, the sooner; tasks of one priority in the order of their submission.
    pub priority: i32,
    /// Not before this time.
    pub run_at: Option<Timestamp>,
    /// What no other waiting task may have.
    pub unique: Option<UniqueKey>,
    /// What only so many running tasks may have.
    pub limit_key: Option<PayloadKey>,
    /// Whether another task is to be queued after its success.
    pub chains: bool,
    /// The task after whose success it was queued. Such a task yields to one with its key that waits already:
    /// that one is newer.
    pub parent: Option<TaskId>,
    /// Whether its time to live was asked for. If not, a task that replaces another has what was left to that
    /// one.
    pub renews: bool,
}

/// What makes a waiting task the only one of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UniqueKey {
    /// Among which tasks: a type's own, or those of all types that name this scope.
    pub scope: String,
    /// The value.
    pub key: PayloadKey,
}

/// What the ledger knows of a task of a work queue besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// The lower, the sooner.
    pub priority: i32,
    /// It was not to begin before this time.
    pub run_at: Option<Timestamp>,
    /// Attempts that were lost with their worker.
    pub attempts: Vec<AttemptError>,
    /// The task after whose success it was queued.
    pub parent: Option<TaskId>,
    /// The task that took its place while it waited.
    pub replaced_by: Option<TaskId>,
    /// Why nothing was queued after its success, although its type says so.
    pub successor_error: Option<String>,
}
