//! Entering a queue.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::state::QueueState;
use crate::domain::{EndpointName, NewTask, Place, TaskId, Timestamp, UniqueKey};
use crate::store::Retry;
use crate::store::batch::{self, padded_rows};
use crate::store::fault::Fault;
use crate::store::ledger::{TaskChange, TaskState};
use crate::store::responses::expect;
use crate::store::sql::{Conn, Dialect};
use crate::store::submissions::entering;
use crate::store::tasks::{self, lock};

/// Puts tasks that are recorded into their queues, and answers which of them a worker has. `all_new` says
/// that this transaction has recorded all of them; otherwise some may have been recorded, and queued, by an
/// attempt whose commit was thought lost: for those the workers that this attempt has found do not count.
pub(in crate::store) async fn enter(
    conn: &mut Conn<'_>,
    tasks: Vec<&NewTask>,
    mut given: HashMap<TaskId, EndpointName>,
    all_new: bool,
    retention: Duration,
) -> Result<HashMap<TaskId, EndpointName>, Fault> {
    let mut entered = HashSet::new();
    if !all_new {
        for tasks in tasks.chunks(batch::KEYS) {
            let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
            let mut select = conn.sql(
                "SELECT t.id FROM task AS t LEFT JOIN queued_task AS q ON q.task_id = t.id \
                 WHERE (t.finished_at IS NOT NULL OR q.task_id IS NOT NULL) AND t.id IN ",
            );
            for row in select.keys(&ids).fetch_all().await? {
                entered.insert(row.get(0)?);
            }
        }
    }
    let (unique, plain) = entering(&tasks, &entered);
    for run in plain.chunks(batch::WIDE_ROWS) {
        insert(conn, run, &given).await?;
    }
    for (task, place) in unique {
        if displace(conn, task, place, retention).await? {
            insert(conn, &[(task, place)], &given).await?;
            hold_key(conn, task, place).await?;
        }
    }
    let starts: HashMap<TaskId, Timestamp> =
        plain.iter().map(|(task, _)| (task.id, task.start_time)).collect();
    given.retain(|id, _| starts.contains_key(id));
    let mut rows: Vec<(TaskId, &EndpointName)> = given.iter().map(|(id, worker)| (*id, worker)).collect();
    rows.sort_unstable();
    if let Some(now) = starts.values().max() {
        expect(conn, &rows, *now).await?;
    }
    Ok(given)
}

async fn insert(
    conn: &mut Conn<'_>,
    run: &[(&NewTask, &Place)],
    given: &HashMap<TaskId, EndpointName>,
) -> Result<(), Fault> {
    let mut insert = conn.insert("queued_task");
    for (task, place) in padded_rows(run, |_| 0) {
        insert
            .row()
            .set("task_id", task.id)
            .set("task_type", &task.task_type)
            .set("state", QueueState::first(place.run_at.is_some(), given.contains_key(&task.id)))
            .set("priority", place.priority)
            .set("queued_at", place.run_at.unwrap_or(task.start_time))
            .set("limit_key", place.limit_key.as_ref().map(<[u8; 32]>::as_slice))
            .set("chains", place.chains)
            .set("unique_scope", place.unique.as_ref().map(|unique| unique.scope.as_str()))
            .set("unique_key", place.unique.as_ref().map(|unique| unique.key.as_slice()));
    }
    // For the repeats that fill the statement up.
    insert.or_keep("task_id").await
}

/// Fails unless a task waits with its unique key by now: another process may have queued one with the same
/// key since it was found free.
async fn hold_key(conn: &mut Conn<'_>, task: &NewTask, place: &Place) -> Result<(), Fault> {
    let Some(unique) = &place.unique else { return Ok(()) };
    match waiting(conn, unique).await? == Some(task.id) {
        true => Ok(()),
        false => Err(Fault::Again(
            Retry::Conflict,
            "another task with the same unique key was queued meanwhile".into(),
        )),
    }
}

/// Makes room for a task with a unique key. Answers whether it goes into the queue: one that was queued after
/// another, or repeats one, yields to one that waits already.
async fn displace(
    conn: &mut Conn<'_>,
    task: &NewTask,
    place: &Place,
    retention: Duration,
) -> Result<bool, Fault> {
    let Some(unique) = &place.unique else { return Ok(true) };
    let Some(old) = waiting(conn, unique).await? else { return Ok(true) };
    // What repeats a task has the older data, too.
    let yields = place.parent.is_some() || task.rerun_of.is_some();
    let (goes, stays) = if yields { (task.id, old) } else { (old, task.id) };
    let mut ids = [goes, stays];
    ids.sort_unstable();
    let tasks = lock(conn, &ids).await?;
    if waiting(conn, unique).await? != Some(old) {
        return Err(Fault::Again(Retry::Conflict, "the task to be replaced has gone meanwhile".into()));
    }
    if let Some(old) = tasks.get(&old)
        && !place.renews
        && !yields
    {
        let least = conn.dialect().least();
        let mut inherit = conn.sql(format!(
            "UPDATE task SET expires_at = ?, receive_by = ?, due_at = {least}(due_at, ?) WHERE id = ?"
        ));
        inherit
            .bind(old.expires_at)
            .bind(old.expires_at)
            .bind(old.expires_at)
            .bind(task.id)
            .execute()
            .await?;
    }
    replace(conn, goes, stays, tasks.get(&goes), task.start_time, retention).await?;
    Ok(goes == old)
}

/// Ends a task whose place another one has; answers what has become of it.
pub(super) async fn replace(
    conn: &mut Conn<'_>,
    goes: TaskId,
    stays: TaskId,
    state: Option<&TaskState>,
    now: Timestamp,
    retention: Duration,
) -> Result<Option<TaskChange>, Fault> {
    let Some(Ok(Some(change))) = state.map(|state| state.cancel(0, now, retention)) else { return Ok(None) };
    tasks::write(conn, vec![(goes, change.clone())]).await?;
    conn.sql("UPDATE task SET replaced_by = ? WHERE id = ?").bind(stays).bind(goes).execute().await?;
    Ok(Some(change))
}

/// The task that waits with this key. Each database has a key for those that wait alone: MySQL over a column
/// of its own, SQLite over a part of the rows, which it finds by the literal.
pub(super) async fn waiting(conn: &mut Conn<'_>, unique: &UniqueKey) -> Result<Option<TaskId>, Fault> {
    let index = conn.dialect().index("queued_unique");
    let key = match conn.dialect() {
        Dialect::MySql => "waiting_key = ?".to_owned(),
        Dialect::Sqlite => format!("unique_key = ? AND state < {}", QueueState::WAITING_END),
    };
    let mut select =
        conn.sql(format!("SELECT task_id FROM queued_task {index} WHERE unique_scope = ? AND {key}"));
    let found = select.bind(unique.scope.as_str()).bind(unique.key.as_slice()).fetch_optional().await?;
    found.map(|row| row.get(0)).transpose()
}
