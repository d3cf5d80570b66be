//! A render farm's workers and tasks, and what the Server is still to be told.
//!
//! Several managers may work on one database. So each change of a task is decided under the lock of its row,
//! and is written in one transaction with the update that tells the Server: a manager that dies in between
//! leaves neither without the other. Order of locks: the worker's row, then task rows, then the rest.

mod barred;
mod download;
mod hand_out;
mod look;
mod notes;
mod outgoing;
mod parents;
mod reports;
mod take_back;
mod task_rows;
mod timeouts;
mod worker_rows;

pub use barred::Barred;
pub use hand_out::{Asked, Assigned};
pub use look::{FarmPage, FarmTaskOrder, FarmTaskQuery};
pub use reports::{MayRun, Reported};

use std::sync::Arc;

use super::SharedStore;
use crate::farm::ObjectId;

/// The farm in a database.
#[derive(Debug, Clone)]
pub struct Farm {
    store: SharedStore,
}

impl Farm {
    /// The farm of a store.
    pub const fn new(store: SharedStore) -> Self {
        Self { store }
    }
}

/// A line for the log of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The job of the task.
    pub job: Option<ObjectId>,
    /// The task.
    pub task: ObjectId,
    /// What to append.
    pub text: Arc<str>,
}

/// Whether others may change a row meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lock {
    None,
    Held,
}
