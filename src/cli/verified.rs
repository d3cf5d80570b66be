//! What a census adds up to.

use serde::Serialize;

use crate::contract::{Census, Flaw};
use crate::domain::TaskType;

/// What is wrong, told in full.
const FLAWS: usize = 20;

/// The sums of one type.
#[derive(Debug, Serialize)]
pub(super) struct Verified {
    #[serde(rename = "type")]
    pub(super) task_type: TaskType,
    pub(super) accepted: u64,
    pub(super) accounted: u64,
    pub(super) missing: u64,
    pub(super) expected: u64,
    pub(super) open: u64,
    pub(super) double: u64,
    pub(super) executions: u64,
    pub(super) interrupted: u64,
    pub(super) excess: u64,
    pub(super) flaws: Vec<Flaw>,
}

impl Verified {
    /// No task of a type yet.
    pub(super) fn none(task_type: TaskType) -> Self {
        let flaws = Vec::new();
        Self {
            task_type,
            accepted: 0,
            accounted: 0,
            missing: 0,
            expected: 0,
            open: 0,
            double: 0,
            executions: 0,
            interrupted: 0,
            excess: 0,
            flaws,
        }
    }

    /// Adds a page; answers where the next one begins.
    pub(super) fn add(&mut self, page: Census) -> Option<String> {
        self.accepted += page.accepted;
        self.accounted += page.accounted;
        self.missing += page.missing;
        self.expected += page.expected;
        self.open += page.open;
        self.double += page.double;
        self.executions += page.executions;
        self.interrupted += page.interrupted;
        self.excess += page.excess;
        self.flaws.extend(page.flaws);
        self.flaws.truncate(FLAWS);
        page.next_cursor
    }
}
