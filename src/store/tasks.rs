//! Rows of tasks: how they are read, locked and changed.

use super::Result;
use super::columns::{self, attempts, corrupt, json, name, task_status};
use super::fault::Fault;
use super::ledger::TaskState;
use super::sql::{Cells, Row, Statement, selected};
use crate::domain::{Counts, Identifier, Queued, Task, TaskId, TaskType, Timestamp};

selected! {
    /// What a [`Task`] is read from, of a table called `t`.
    TaskColumns<'r> {
        id: TaskId = "t.id",
        task_type: TaskType = "t.task_type",
        identifier: &'r [u8] = "t.identifier",
        status: u8 = "t.status",
        payload: String = "t.payload",
        endpoints: Option<&'r str> = "t.endpoints",
        expected: u32 = "t.expected",
        received: u32 = "t.received",
        finished: u32 = "t.finished",
        failed: u32 = "t.failed",
        canceled: u32 = "t.canceled",
        expired: u32 = "t.expired",
        start_time: Timestamp = "t.start_time",
        published_at: Option<Timestamp> = "t.published_at",
        finished_at: Option<Timestamp> = "t.finished_at",
        receive_by: Timestamp = "t.receive_by",
        expires_at: Timestamp = "t.expires_at",
        priority: Option<i32> = "t.priority",
        run_at: Option<Timestamp> = "t.run_at",
        attempts: Option<&'r str> = "t.attempts",
        parent: Option<TaskId> = "t.parent",
        replaced_by: Option<TaskId> = "t.replaced_by",
        successor_error: Option<String> = "t.successor_error",
    }
}

impl TaskColumns<'_> {
    fn decode(self) -> Result<Task> {
        let at = |column| format!("task {}, column {column}", self.id);
        Ok(Task {
            id: self.id,
            identifier: identifier(self.identifier, self.id)?,
            task_type: self.task_type,
            status: task_status(self.status, || at("status"))?,
            payload: json(self.payload, || at("payload"))?,
            endpoints: match self.endpoints {
                Some(list) => serde_json::from_str(list).map_err(|error| corrupt(at("endpoints"), error))?,
                None => Vec::new(),
            },
            queued: match self.priority {
                Some(priority) => Some(Queued {
                    priority,
                    run_at: self.run_at,
                    attempts: attempts(self.attempts, || at("attempts"))?,
                    parent: self.parent,
                    replaced_by: self.replaced_by,
                    successor_error: self.successor_error,
                }),
                None => None,
            },
            counts: Counts {
                expected: self.expected,
                received: self.received,
                finished: self.finished,
                failed: self.failed,
                canceled: self.canceled,
                expired: self.expired,
            },
            start_time: self.start_time,
            published_at: self.published_at,
            finished_at: self.finished_at,
            receive_by: self.receive_by,
            expires_at: self.expires_at,
        })
    }
}

/// The customer's name for a task, out of its column.
pub(super) fn identifier(bytes: &[u8], id: TaskId) -> Result<Identifier> {
    let at = || format!("task {id}, column identifier");
    name(std::str::from_utf8(bytes).map_err(|error| corrupt(at(), error))?, at)
}

/// What to select for [`task`].
pub(super) const TASK: &str = TaskColumns::LIST;

/// The task that a row begins with.
pub(super) fn task(cells: &mut Cells<'_>) -> Result<Task, Fault> {
    Ok(TaskColumns::read(cells)?.decode()?)
}

/// The task of a row that has nothing else.
pub(super) fn only_task(row: &Row) -> Result<Task, Fault> {
    task(&mut row.cells())
}

/// Reads the first of many tasks, each with what follows it in its row, until their payloads together are long.
pub(super) async fn within_budget<T>(
    select: &mut Statement<'_>,
    most: usize,
    with: impl Fn(Task, &mut Cells<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let read = |row: &Row| {
        let mut cells = row.cells();
        let task = task(&mut cells)?;
        let bytes = task.payload.get().len();
        Ok((with(task, &mut cells)?, bytes))
    };
    select.fetch_within(most, read).await
}

selected! {
    /// What a [`TaskState`] is read from, of a table called `t`.
    StateColumns<'r> {
        id: TaskId = "t.id",
        task_type: &'r str = "t.task_type",
        status: u8 = "t.status",
        expected: u32 = "t.expected",
        received: u32 = "t.received",
        finished: u32 = "t.finished",
        failed: u32 = "t.failed",
        canceled: u32 = "t.canceled",
        expired: u32 = "t.expired",
        frozen: bool = "t.frozen_at IS NOT NULL",
        listed: bool = "t.endpoints IS NOT NULL",
        queued: bool = "t.priority IS NOT NULL",
        start_time: Timestamp = "t.start_time",
        published_at: Option<Timestamp> = "t.published_at",
        expires_at: Timestamp = "t.expires_at",
        finished_at: Option<Timestamp> = "t.finished_at",
    }
}

/// What to select for [`task_state`].
pub(super) const STATE: &str = StateColumns::LIST;

/// The state of a task that a row begins with.
pub(super) fn task_state(cells: &mut Cells<'_>) -> Result<(TaskId, TaskState), Fault> {
    let columns = StateColumns::read(cells)?;
    let state = TaskState {
        task_type: columns::task_type(columns.task_type)?,
        status: task_status(columns.status, || format!("task {}, column status", columns.id))?,
        counts: Counts {
            expected: columns.expected,
            received: columns.received,
            finished: columns.finished,
            failed: columns.failed,
            canceled: columns.canceled,
            expired: columns.expired,
        },
        frozen: columns.frozen,
        listed: columns.listed,
        queued: columns.queued,
        start_time: columns.start_time,
        published_at: columns.published_at,
        expires_at: columns.expires_at,
        finished_at: columns.finished_at,
    };
    Ok((columns.id, state))
}
