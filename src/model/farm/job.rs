//! Jobs, as far as a manager knows them: by their tasks.

use std::collections::BTreeMap;

use super::{ObjectId, TaskStatus};

/// A job by the states of its tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobTally {
    /// The job.
    pub job: ObjectId,
    /// What kind of job it is.
    pub job_type: String,
    /// Higher first.
    pub priority: i32,
    /// How many tasks there are of each state that any has.
    pub tasks: BTreeMap<TaskStatus, u64>,
}
