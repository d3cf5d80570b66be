//! What endpoints report.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::each;
use super::{Result, Store, batch};
use crate::domain::{EndpointName, Report, TaskId, TaskStatus, TaskType, Timestamp};

/// What a batch of reports did.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// Tasks whose status changed, with the status they have now.
    pub moved: Vec<(TaskId, TaskStatus)>,
    /// Reports that changed a row.
    pub changed: u64,
    /// Reports that were repeats or stragglers.
    pub repeated: u64,
    /// Reports of endpoints that were not expected: adopted into the set of an open task without a list.
    pub adopted: u64,
    /// Reports for tasks the ledger does not know, of another type than the task's, or of endpoints that are not expected and
    /// not adopted.
    pub unknown: u64,
    /// Reports of endpoints that were never subscribed to the type.
    pub unsubscribed: u64,
    /// Reports of another memory than the one that has the task, or the endpoint's name.
    pub foreign: u64,
    /// Answers that came after their response was given up; the first of a response is kept.
    pub late: u64,
    /// Answers that differ from the one that decided; the first of a response is kept.
    pub contradicting: u64,
    /// Rows that were found to have been run twice: a second execution reported its end.
    pub doubled: u64,
    /// Endpoints that say they have a task whose row was withdrawn: they must be told to stop.
    pub to_stop: Vec<(TaskType, TaskId, EndpointName)>,
}

impl Store {
    /// Applies what endpoints report: rows through [`crate::domain::ResponseStatus::next`], counts, task states through
    /// [`TaskStatus::next`], all in one transaction. Repeats and stragglers change nothing; of
    /// answers that come after the end and tell something else, the first is kept beside ([`Response::late`]). A report counts only if the task is
    /// of its type and if it comes of the memory that has the task, or, while none has it, of the memory that has the endpoint's name
    /// or had it before; no endpoint has answered that was never subscribed to the type. A report from an endpoint that
    /// is not expected is adopted into the set when the task has no list and is frozen, and a copy can have come through the fanout:
    /// the endpoint was known by the time it was published; of a task that has ended only one that has finished. A report about a
    /// task with a list never is. A cancel that nobody asked for ends its response as failed ([`errnr::STOPPED`](crate::domain::errnr::STOPPED)).
    pub async fn apply(&self, reports: &[Report], now: Timestamp, retention: Duration) -> Result<Applied> {
        if reports.is_empty() {
            return Ok(Applied::default());
        }
        self.fits(reports.iter().map(|report| 256 + batch::answer_bytes(&report.event)))?;
        let reports: Arc<[Report]> = reports.into();
        self.transact(each!(report::apply(reports.clone(), now, retention))).await
    }
}
