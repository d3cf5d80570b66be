//! Rows of tasks: how they are read, locked and changed.

use std::collections::HashMap;

use uuid::Uuid;

use super::batch::{self, padded};
use super::columns::{self, attempts, corrupt, json, name, task_status};
use super::fault::Fault;
use super::ledger::{TaskChange, TaskState, grouped};
use super::queue::leave;
use super::sql::{Cells, Conn, Row, Statement, selected};
use super::{Result, Retry};
use crate::domain::{Counts, Identifier, Queued, Task, TaskId, TaskStatus, TaskType, Timestamp};

selected! {
    /// What a [`Task`] is read from, of a table called `t`.
    TaskColumns<'r> {
        id: TaskId = "t.id",
        task_type: TaskType = "t.task_type",
        identifier: &'r [u8] = "t.identifier",
        status: u8 = "t.status",
        payload: String = "t.payload",
        endpoints: Option<&'r str> = "t.endpoints",
        target: Option<&'r str> = "t.target",
        rerun_of: Option<TaskId> = "t.rerun_of",
        counts: Counts = "t.expected, t.received, t.finished, t.failed, t.canceled, t.expired",
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
        held: bool = "t.frozen_at IS NULL AND t.priority IS NULL \
                      AND t.receive_by = t.expires_at AND t.due_at = t.expires_at",
    }
}

/// That a CREATED task waits for approval, as in [`TaskColumns`]. Others that are not published are due before
/// they expire, and most are to be received before.
pub(super) const HELD: &str =
    "frozen_at IS NULL AND priority IS NULL AND receive_by = expires_at AND due_at = expires_at";

impl TaskColumns<'_> {
    fn decode(self) -> Result<Task> {
        let at = |column| format!("task {}, column {column}", self.id);
        let status = task_status(self.status, || at("status"))?;
        Ok(Task {
            id: self.id,
            identifier: identifier(self.identifier, self.id)?,
            task_type: self.task_type,
            status,
            payload: json(self.payload, || at("payload"))?,
            endpoints: match self.endpoints {
                Some(list) => serde_json::from_str(list).map_err(|error| corrupt(at("endpoints"), error))?,
                None => Vec::new(),
            },
            target: match self.target {
                Some(target) => serde_json::from_str(target).map_err(|error| corrupt(at("target"), error))?,
                None => None,
            },
            rerun_of: self.rerun_of,
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
            counts: self.counts,
            start_time: self.start_time,
            published_at: self.published_at,
            finished_at: self.finished_at,
            receive_by: self.receive_by,
            expires_at: self.expires_at,
            held: self.held && status == TaskStatus::Created,
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

/// Reads the first of many tasks, each with what follows it in its row, until their payloads together are
/// long.
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
        counts: Counts = "t.expected, t.received, t.finished, t.failed, t.canceled, t.expired",
        frozen: bool = "t.frozen_at IS NOT NULL",
        listed: bool = "t.endpoints IS NOT NULL",
        queued: bool = "t.priority IS NOT NULL",
        start_time: Timestamp = "t.start_time",
        published_at: Option<Timestamp> = "t.published_at",
        expires_at: Timestamp = "t.expires_at",
        finished_at: Option<Timestamp> = "t.finished_at",
        followed: bool = "t.followed",
        rollout: Option<Uuid> = "t.rollout",
        asks: u32 = "t.asks",
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
        counts: columns.counts,
        frozen: columns.frozen,
        listed: columns.listed,
        queued: columns.queued,
        start_time: columns.start_time,
        published_at: columns.published_at,
        expires_at: columns.expires_at,
        finished_at: columns.finished_at,
        followed: columns.followed,
        rollout: columns.rollout,
        asks: columns.asks,
    };
    Ok((columns.id, state))
}

/// Locks tasks by id, which must be sorted, and reads what decisions need.
pub(super) async fn lock(conn: &mut Conn<'_>, ids: &[TaskId]) -> Result<HashMap<TaskId, TaskState>, Fault> {
    let (by_key, lock) = (conn.dialect().by_primary_key(), conn.dialect().locked());
    let mut tasks = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(batch::KEYS) {
        let mut select = conn.sql(format!("SELECT {STATE} FROM task AS t {by_key} WHERE t.id IN "));
        for row in select.keys(ids).push(" ORDER BY t.id ").push(lock).fetch_all().await? {
            let (id, state) = task_state(&mut row.cells())?;
            tasks.insert(id, state);
        }
    }
    Ok(tasks)
}

/// Writes changes of tasks that are locked, one statement for each distinct change. Those that have ended
/// leave their queues. The end of a followed task is noted in `ended`.
pub(super) async fn write(conn: &mut Conn<'_>, changes: Vec<(TaskId, TaskChange)>) -> Result<(), Fault> {
    let left: Vec<(TaskId, bool)> =
        changes.iter().filter_map(|(id, change)| Some((*id, change.leaves_queue()?))).collect();
    let ended: Vec<TaskId> =
        changes.iter().filter(|(_, change)| change.ends_followed()).map(|(id, _)| *id).collect();
    let by_key = conn.dialect().by_primary_key();
    for (change, ids) in grouped(changes) {
        for ids in ids.chunks(batch::KEYS) {
            let mut update = conn.sql(format!("UPDATE task {by_key} SET "));
            let names = ["expected", "received", "finished", "failed", "canceled", "expired"];
            for (name, count) in names.into_iter().zip(change.counts) {
                update.push(name).push(" = ?, ").bind(count);
            }
            update.push("frozen_at = COALESCE(frozen_at, ?), ").bind(change.frozen_at);
            update.push("published_at = COALESCE(published_at, ?), ").bind(change.published_at);
            update.push("finished_at = COALESCE(finished_at, ?), ").bind(change.finished_at);
            update.push("due_at = COALESCE(?, due_at), ").bind(change.due_at);
            update.push("asks = COALESCE(?, asks), ").bind(change.asks);
            update.push("status = ? WHERE +status = ? AND id IN ").bind(change.to).bind(change.from);
            let changed = update.keys(ids).execute().await?;
            all_of(changed, ids, "a task was moved by another although it was locked")?;
        }
    }
    for ids in ended.chunks(batch::NARROW_ROWS) {
        let mut insert = conn.insert("ended");
        for id in padded(ids) {
            insert.row().set("task_id", *id);
        }
        insert.or_keep("task_id").await?;
    }
    if left.is_empty() { Ok(()) } else { leave::leave(conn, left).await }
}

/// Fails unless a guarded statement has changed the rows of all these: what it was decided by does not
/// hold any more.
pub(super) fn all_of<T>(changed: u64, rows: &[T], otherwise: &str) -> Result<(), Fault> {
    match usize::try_from(changed) == Ok(rows.len()) {
        true => Ok(()),
        false => Err(Fault::Again(Retry::Conflict, otherwise.to_owned())),
    }
}
