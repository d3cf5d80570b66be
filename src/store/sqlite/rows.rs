//! Whole rows: reading tasks, locking them, writing what changed.

use std::collections::HashMap;

use futures::TryStreamExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};
use uuid::Uuid;

use crate::domain::{EndpointName, ReportEvent, Task, TaskId, Timestamp};
use crate::store::batch::{self, padded, padded_rows};
use crate::store::columns::{self, TaskColumns};
use crate::store::fault::Fault;
use crate::store::ledger::{RowChange, TaskChange, TaskState, counts_of, grouped};

pub(super) type Query = QueryBuilder<Sqlite>;

/// The columns of a [`Task`], of a table called `t`.
pub(super) const TASK: &str = "t.id, t.task_type, t.identifier, t.status, t.payload, t.endpoints, t.expected, t.received, \
                               t.finished, t.failed, t.canceled, t.expired, t.start_time, t.published_at, t.finished_at, \
                               t.receive_by, t.expires_at, t.priority, t.run_at, t.attempts, t.parent, t.replaced_by, \
                               t.successor_error";

/// A time as its column has it.
pub(super) fn micros(time: Timestamp) -> i64 {
    time.as_micros()
}

/// Adds `(?, ?, ...)` with the ids, filled up to one of few lengths.
pub(super) fn push_ids(query: &mut Query, ids: &[TaskId]) {
    query.push("(");
    let mut list = query.separated(", ");
    for id in padded(ids) {
        list.push_bind(id.0);
    }
    query.push(")");
}

/// Adds `(?, ?, ...)` with names, filled up to one of few lengths.
pub(super) fn push_names<'a>(query: &mut Query, names: impl IntoIterator<Item = &'a str>) {
    let names: Vec<&str> = names.into_iter().collect();
    query.push("(");
    let mut list = query.separated(", ");
    for name in padded(&names) {
        list.push_bind(*name);
    }
    query.push(")");
}

pub(super) fn task(row: &SqliteRow) -> Result<Task, Fault> {
    let columns = TaskColumns {
        id: row.try_get(0)?,
        task_type: row.try_get(1)?,
        identifier: row.try_get(2)?,
        status: row.try_get(3)?,
        payload: row.try_get(4)?,
        endpoints: row.try_get(5)?,
        counts: counts(row, 6)?,
        start_time: time(row, 12)?,
        published_at: optional_time(row, 13)?,
        finished_at: optional_time(row, 14)?,
        receive_by: time(row, 15)?,
        expires_at: time(row, 16)?,
        priority: row.try_get(17)?,
        run_at: optional_time(row, 18)?,
        attempts: row.try_get(19)?,
        parent: row.try_get(20)?,
        replaced_by: row.try_get(21)?,
        successor_error: row.try_get(22)?,
    };
    Ok(columns.decode()?)
}

/// Reads rows that begin with [`TASK`] until their payloads together are long: a thousand of the largest do not fit into memory.
pub(super) async fn within_budget(query: &mut Query, conn: &mut SqliteConnection) -> Result<Vec<SqliteRow>, Fault> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    let mut found = query.build().fetch(conn);
    while bytes < batch::READ_BYTES
        && let Some(row) = found.try_next().await?
    {
        bytes += row.try_get::<&str, _>(4)?.len();
        rows.push(row);
    }
    Ok(rows)
}

pub(super) fn counts(row: &SqliteRow, from: usize) -> Result<[u32; 6], sqlx::Error> {
    let mut counts = [0; 6];
    for (at, count) in counts.iter_mut().enumerate() {
        *count = row.try_get(from + at)?;
    }
    Ok(counts)
}

pub(super) fn time(row: &SqliteRow, at: usize) -> Result<Timestamp, sqlx::Error> {
    row.try_get(at).map(Timestamp::from_micros)
}

pub(super) fn optional_time(row: &SqliteRow, at: usize) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(at)?.map(Timestamp::from_micros))
}

/// Locks tasks by id, which must be sorted, and reads what decisions need.
pub(super) async fn lock(conn: &mut SqliteConnection, ids: &[TaskId]) -> Result<HashMap<TaskId, TaskState>, Fault> {
    let mut tasks = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(batch::KEYS) {
        let mut query = Query::new(
            "SELECT id, status, frozen_at IS NOT NULL, endpoints IS NOT NULL, priority IS NOT NULL, expires_at, finished_at, \
             expected, received, finished, failed, canceled, expired, task_type, start_time, published_at FROM task WHERE id IN ",
        );
        push_ids(&mut query, ids);
        query.push(" ORDER BY id");
        for row in query.build().fetch_all(&mut *conn).await? {
            let id: Uuid = row.try_get(0)?;
            tasks.insert(TaskId(id), task_state(&row)?);
        }
    }
    Ok(tasks)
}

/// The state out of the columns that [`lock`] reads, which come first.
pub(super) fn task_state(row: &SqliteRow) -> Result<TaskState, Fault> {
    let id: Uuid = row.try_get(0)?;
    Ok(TaskState {
        task_type: columns::task_type(row.try_get(13)?)?,
        status: columns::task_status(row.try_get(1)?, || format!("task {id}, column status"))?,
        frozen: row.try_get::<i64, _>(2)? != 0,
        listed: row.try_get::<i64, _>(3)? != 0,
        queued: row.try_get::<i64, _>(4)? != 0,
        expires_at: time(row, 5)?,
        finished_at: optional_time(row, 6)?,
        counts: counts_of(counts(row, 7)?),
        start_time: time(row, 14)?,
        published_at: optional_time(row, 15)?,
    })
}

/// Writes changes of tasks that are locked, one statement for each distinct change.
pub(super) async fn write_tasks(conn: &mut SqliteConnection, changes: Vec<(TaskId, TaskChange)>) -> Result<(), Fault> {
    let left: Vec<(TaskId, bool)> = changes.iter().filter_map(|(id, change)| Some((*id, change.leaves_queue()?))).collect();
    for (change, ids) in grouped(changes) {
        for ids in ids.chunks(batch::KEYS) {
            let mut query = Query::new("UPDATE task SET ");
            let names = ["expected", "received", "finished", "failed", "canceled", "expired"];
            for (name, count) in names.into_iter().zip(change.counts) {
                query.push(name).push(" = ").push_bind(count).push(", ");
            }
            query.push("frozen_at = COALESCE(frozen_at, ").push_bind(change.frozen_at.map(micros));
            query.push("), published_at = COALESCE(published_at, ").push_bind(change.published_at.map(micros));
            query.push("), finished_at = COALESCE(finished_at, ").push_bind(change.finished_at.map(micros));
            query.push("), due_at = COALESCE(").push_bind(change.due_at.map(micros));
            query.push(", due_at), asks = COALESCE(").push_bind(change.asks);
            query.push(", asks), status = ").push_bind(change.to.code());
            query.push(" WHERE +status = ").push_bind(change.from.code()).push(" AND id IN ");
            push_ids(&mut query, ids);
            query.build().execute(&mut *conn).await?;
        }
    }
    if left.is_empty() { Ok(()) } else { super::queue::leave(conn, left).await }
}

/// Writes the rows of those who must answer. Their tasks are locked, and have none of these rows yet.
pub(super) async fn expect(conn: &mut SqliteConnection, rows: &[(TaskId, &EndpointName)], now: Timestamp) -> Result<(), Fault> {
    for run in rows.chunks(batch::NARROW_ROWS) {
        let mut query = Query::new("INSERT INTO response (task_id, endpoint, status, last_modified_time) VALUES ");
        for (at, (id, endpoint)) in padded_rows(run, |_| 0).enumerate() {
            query.push(if at == 0 { "(" } else { ", (" });
            query.separated(", ").push_bind(id.0).push_bind(endpoint.as_str()).push("0").push_bind(micros(now));
            query.push(")");
        }
        // For the repeats that fill the statement up.
        query.push(" ON CONFLICT DO NOTHING");
        query.build().execute(&mut *conn).await?;
    }
    Ok(())
}

/// Writes responses whose tasks are locked, in the order of their keys.
pub(super) async fn write_responses(
    conn: &mut SqliteConnection,
    rows: &[((TaskId, &EndpointName), RowChange<'_>)],
    now: Timestamp,
) -> Result<(), Fault> {
    for run in batch::runs(rows, batch::WIDE_ROWS, weight) {
        let mut query = Query::new(
            "INSERT INTO response (task_id, endpoint, status, errnr, errmsg, payload, attempt, attempts, progress, log, \
             start_time, last_modified_time, home, run) VALUES ",
        );
        for (at, ((task_id, endpoint), change)) in padded_rows(run, weight).enumerate() {
            query.push(if at == 0 { "(" } else { ", (" });
            let mut values = query.separated(", ");
            values.push_bind(task_id.0).push_bind(endpoint.as_str()).push_bind(change.row.status.code());
            match change.answer {
                Some(ReportEvent::Finished { errnr, errmsg, payload, attempt, attempts, log, .. }) => {
                    values.push_bind(*errnr).push_bind(Some(errmsg.as_str())).push_bind(payload.as_ref().map(|json| json.get()));
                    values.push_bind(*attempt).push_bind(columns::list(attempts)?).push_bind(change.row.progress).push_bind(log.as_deref());
                }
                _ => {
                    values.push_bind(None::<i32>).push_bind(None::<&str>).push_bind(None::<&str>);
                    values.push_bind(0u32).push_bind(None::<String>).push_bind(change.row.progress).push_bind(None::<&str>);
                }
            }
            values.push_bind(change.row.start_time.map(micros)).push_bind(micros(now));
            values.push_bind(change.row.home).push_bind(change.row.run);
            query.push(")");
        }
        query.push(
            " ON CONFLICT (task_id, endpoint) DO UPDATE SET status = excluded.status, errnr = excluded.errnr, errmsg = excluded.errmsg, \
             payload = excluded.payload, attempt = excluded.attempt, attempts = excluded.attempts, progress = excluded.progress, \
             log = excluded.log, start_time = excluded.start_time, last_modified_time = excluded.last_modified_time, \
             home = excluded.home, run = excluded.run",
        );
        query.build().execute(&mut *conn).await?;
    }
    Ok(())
}

/// About how many bytes a response takes in a statement.
fn weight(row: &((TaskId, &EndpointName), RowChange<'_>)) -> usize {
    128 + row.0.1.as_str().len() + row.1.answer.map_or(0, batch::answer_bytes)
}
