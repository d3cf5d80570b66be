//! Questions that change nothing.

use std::collections::HashMap;
use std::sync::Arc;

use futures::TryStreamExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::rows::{Query, TASK, micros, optional_time, push_ids, push_names, task, task_state, time, within_budget};
use crate::clock::Clock;
use crate::domain::{Counts, EndpointName, Identifier, Response, Task, TaskId, TaskStatus, TaskType, Timestamp};
use crate::store::census::{self, Audit};
use crate::store::columns::AFTER_TASK;
use crate::store::columns::{self, ResponseColumns};
use crate::store::fault::Fault;
use crate::store::window::{ids_from, ids_until, newest, prefix_end};
use crate::store::{Census, CensusQuery, LIST_BYTES, OpenRow, OpenTasks, Owed, ResponseFilter, TaskQuery, batch};

pub(super) async fn now(conn: &mut SqliteConnection) -> Result<Timestamp, Fault> {
    // The file is on this machine, and so is its clock.
    sqlx::query("SELECT 1").execute(conn).await?;
    Ok(Clock::system().now())
}

pub(super) async fn find(conn: &mut SqliteConnection, id: TaskId) -> Result<Option<Task>, Fault> {
    let mut query = Query::new("SELECT ");
    query.push(TASK).push(" FROM task AS t WHERE t.id = ").push_bind(id.0);
    query.build().fetch_optional(conn).await?.as_ref().map(task).transpose()
}

pub(super) async fn submitter(conn: &mut SqliteConnection, id: TaskId) -> Result<Option<String>, Fault> {
    let found = sqlx::query("SELECT submitted_by FROM task WHERE id = ?").bind(id.0).fetch_optional(conn).await?;
    Ok(found.map(|row| row.try_get(0)).transpose()?.flatten())
}

pub(super) async fn find_by_identifier(
    conn: &mut SqliteConnection,
    task_type: TaskType,
    identifier: Identifier,
) -> Result<Option<Task>, Fault> {
    let mut query = Query::new("SELECT ");
    query.push(TASK).push(" FROM task AS t WHERE t.task_type = ").push_bind(task_type.as_str());
    query.push(" AND t.identifier = ").push_bind(identifier.as_str().as_bytes());
    query.build().fetch_optional(conn).await?.as_ref().map(task).transpose()
}

pub(super) async fn missing(conn: &mut SqliteConnection, id: TaskId) -> Result<Vec<EndpointName>, Fault> {
    let missing = sqlx::query("SELECT endpoint FROM response WHERE start_time IS NULL AND task_id = ? ORDER BY endpoint");
    missing.bind(id.0).fetch_all(conn).await?.iter().map(|row| Ok(columns::endpoint(row.try_get(0)?)?)).collect()
}

pub(super) async fn open_rows(conn: &mut SqliteConnection, ids: Arc<[TaskId]>) -> Result<HashMap<TaskId, Vec<OpenRow>>, Fault> {
    let mut rows: HashMap<TaskId, Vec<OpenRow>> = HashMap::new();
    for ids in ids.chunks(batch::KEYS) {
        let mut query = Query::new("SELECT endpoint, home, last_modified_time, task_id FROM response WHERE +status < 2 AND task_id IN ");
        push_ids(&mut query, ids);
        query.push(" ORDER BY task_id, endpoint");
        for row in query.build().fetch_all(&mut *conn).await? {
            let id: Uuid = row.try_get(3)?;
            rows.entry(TaskId(id)).or_default().push(open_row(&row, 0)?);
        }
    }
    Ok(rows)
}

fn open_row(row: &SqliteRow, from: usize) -> Result<OpenRow, Fault> {
    Ok(OpenRow { endpoint: columns::endpoint(row.try_get(from)?)?, home: row.try_get(from + 1)?, last_modified_time: time(row, from + 2)? })
}

/// Which open responses of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwedRows {
    All,
    /// Those that it has not received, and those of tasks that have ended meanwhile.
    Anew,
}

pub(super) async fn owed_by(
    conn: &mut SqliteConnection,
    endpoint: EndpointName,
    task_types: Arc<[TaskType]>,
    of: OwedRows,
    after: Option<TaskId>,
    limit: u32,
) -> Result<Vec<Owed>, Fault> {
    if task_types.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = Query::new("SELECT ");
    query.push(TASK).push(", r.endpoint, r.home, r.last_modified_time");
    query
        .push(" FROM response AS r INDEXED BY response_owed CROSS JOIN task AS t ON t.id = r.task_id WHERE r.status < 2 AND r.endpoint = ");
    query.push_bind(endpoint.as_str()).push(" AND r.task_id > ").push_bind(after.map_or(Uuid::nil(), |id| id.0));
    query.push(" AND t.task_type IN ");
    push_names(&mut query, task_types.iter().map(TaskType::as_str));
    if of == OwedRows::Anew {
        query.push(" AND (r.home IS NULL OR t.status > 2)");
    }
    query.push(" ORDER BY r.task_id LIMIT ").push_bind(limit);
    let rows = within_budget(&mut query, conn).await?;
    rows.iter().map(|row| Ok(Owed { task: task(row)?, row: open_row(row, AFTER_TASK)? })).collect()
}

pub(super) async fn responses(
    conn: &mut SqliteConnection,
    id: TaskId,
    filter: ResponseFilter,
    after: Option<EndpointName>,
    limit: u32,
) -> Result<Vec<Response>, Fault> {
    let mut query = responses_of(id);
    if let Some(after) = &after {
        query.push(" AND endpoint > ").push_bind(after.as_str());
    }
    query.push(match filter {
        ResponseFilter::All => "",
        ResponseFilter::Failed => " AND status = 2 AND errnr <> 0",
        ResponseFilter::Missing => " AND start_time IS NULL",
    });
    query.push(" ORDER BY endpoint LIMIT ").push_bind(limit);
    query.build().fetch_all(conn).await?.iter().map(|row| response(row, id)).collect()
}

pub(super) async fn response_of(conn: &mut SqliteConnection, id: TaskId, endpoint: EndpointName) -> Result<Option<Response>, Fault> {
    let mut query = responses_of(id);
    query.push(" AND endpoint = ").push_bind(endpoint.as_str());
    query.build().fetch_optional(conn).await?.map(|row| response(&row, id)).transpose()
}

/// The responses of a task, for more conditions to follow.
fn responses_of(id: TaskId) -> Query {
    let mut query = Query::new(
        "SELECT endpoint, status, errnr, errmsg, payload, attempt, attempts, progress, log, start_time, last_modified_time, \
         status = 1 AND NOT EXISTS (SELECT 1 FROM subscription AS s WHERE s.endpoint = response.endpoint AND s.state = 1 AND s.home IS response.home \
         AND s.task_type = (SELECT t.task_type FROM task AS t WHERE t.id = response.task_id)), late \
         FROM response WHERE task_id = ",
    );
    query.push_bind(id.0);
    query
}

fn response(row: &SqliteRow, id: TaskId) -> Result<Response, Fault> {
    let columns = ResponseColumns {
        endpoint: row.try_get(0)?,
        status: row.try_get(1)?,
        errnr: row.try_get(2)?,
        errmsg: row.try_get(3)?,
        payload: row.try_get(4)?,
        attempt: row.try_get(5)?,
        attempts: row.try_get(6)?,
        progress: row.try_get(7)?,
        log: row.try_get(8)?,
        start_time: optional_time(row, 9)?,
        last_modified_time: time(row, 10)?,
        vanished: row.try_get::<i64, _>(11)? != 0,
        late: row.try_get(12)?,
    };
    Ok(columns.decode(id)?)
}

pub(super) async fn list(conn: &mut SqliteConnection, task_type: TaskType, query: Arc<TaskQuery>) -> Result<Vec<Task>, Fault> {
    if query.status.is_empty() {
        return Ok(list_one(conn, &task_type, &query, None).await?.0);
    }
    // One read for each status: each is a walk along a key that stops at the limit.
    let (mut tasks, mut complete_from) = (Vec::new(), None);
    for status in TaskStatus::ALL.into_iter().filter(|status| query.status.contains(status)) {
        let (those, cut) = list_one(conn, &task_type, &query, Some(status)).await?;
        // Where one read has ended early, older tasks of the others do not follow yet.
        complete_from = complete_from.max(those.last().filter(|_| cut).map(|task| task.id));
        tasks.extend(those);
    }
    tasks.retain(|task| complete_from.is_none_or(|from| task.id >= from));
    Ok(newest(tasks, query.limit))
}

/// The tasks of one status, or of all, and whether they were cut off by their length.
async fn list_one(
    conn: &mut SqliteConnection,
    task_type: &TaskType,
    wanted: &TaskQuery,
    status: Option<TaskStatus>,
) -> Result<(Vec<Task>, bool), Fault> {
    let mut query = Query::new("SELECT ");
    query.push(TASK).push(" FROM task AS t ");
    query.push(match (&wanted.identifier_prefix, status) {
        (Some(_), _) => "",
        (None, Some(_)) => "INDEXED BY task_state ",
        (None, None) => "INDEXED BY task_list ",
    });
    query.push("WHERE t.task_type = ").push_bind(task_type.as_str());
    if let Some(status) = status {
        query.push(" AND t.status = ").push_bind(status.code());
    }
    if let Some(before) = wanted.before {
        query.push(" AND t.id < ").push_bind(before.0);
    }
    if let Some(since) = wanted.since {
        query.push(" AND t.start_time >= ").push_bind(micros(since)).push(" AND t.id >= ").push_bind(ids_from(since));
    }
    if let Some(until) = wanted.until {
        query.push(" AND t.start_time < ").push_bind(micros(until)).push(" AND t.id < ").push_bind(ids_until(until));
    }
    if let Some(prefix) = &wanted.identifier_prefix {
        query.push(" AND t.identifier >= ").push_bind(prefix.as_bytes());
        if let Some(end) = prefix_end(prefix.as_bytes()) {
            query.push(" AND t.identifier < ").push_bind(end);
        }
    }
    query.push(" ORDER BY t.id DESC LIMIT ").push_bind(wanted.limit);
    let (mut tasks, mut bytes) = (Vec::new(), 0);
    let mut found = query.build().fetch(conn);
    while bytes < LIST_BYTES
        && let Some(row) = found.try_next().await?
    {
        let task = task(&row)?;
        bytes += task.payload.get().len();
        tasks.push(task);
    }
    Ok((tasks, bytes >= LIST_BYTES))
}

pub(super) async fn open_tasks(conn: &mut SqliteConnection) -> Result<Vec<OpenTasks>, Fault> {
    // From the key alone; ids sort by time, so the least is the oldest.
    let rows = sqlx::query(
        "SELECT g.task_type, g.status, g.number, t.start_time FROM (SELECT task_type, status, COUNT(*) AS number, MIN(id) AS oldest \
         FROM task INDEXED BY task_state WHERE status IN (0, 1, 2) GROUP BY status, task_type) AS g \
         JOIN task AS t ON t.id = g.oldest ORDER BY g.task_type, g.status",
    )
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(OpenTasks {
                task_type: columns::task_type(row.try_get(0)?)?,
                status: columns::task_status(row.try_get(1)?, || "task, column status".into())?,
                count: row.try_get::<i64, _>(2)?.unsigned_abs(),
                oldest: time(row, 3)?,
            })
        })
        .collect()
}

pub(super) async fn census(
    conn: &mut SqliteConnection,
    task_type: TaskType,
    wanted: Arc<CensusQuery>,
    now: Timestamp,
) -> Result<Census, Fault> {
    let mut query = Query::new(
        "SELECT t.id, t.status, t.frozen_at IS NOT NULL, t.endpoints IS NOT NULL, t.priority IS NOT NULL, t.expires_at, t.finished_at, \
         t.expected, t.received, t.finished, t.failed, t.canceled, t.expired, t.task_type, t.start_time, t.published_at, t.identifier, t.receive_by, t.due_at, COUNT(r.endpoint), \
             COALESCE(SUM(r.start_time IS NOT NULL), 0), \
             COALESCE(SUM(r.status = 2), 0), \
             COALESCE(SUM(r.status = 2 AND r.errnr <> 0), 0), \
             COALESCE(SUM(r.status = 3), 0), \
             COALESCE(SUM(r.status = 4), 0), \
             COALESCE(SUM(r.doubled OR (r.status = 2 AND r.attempt > 0 AND r.attempt <> 1 + COALESCE(json_array_length(r.attempts), 0))), 0), \
             COALESCE(SUM(CASE WHEN r.status = 2 AND r.attempt > 0 THEN 1 + COALESCE(json_array_length(r.attempts), 0) ELSE 0 END + COALESCE(r.doubled, 0)), 0), \
             COALESCE(SUM((length(COALESCE(r.attempts, '')) - length(REPLACE(COALESCE(r.attempts, ''), '\"errnr\":71,', ''))) / 11 + (r.status = 2 AND r.errnr = 71)), 0), \
             COALESCE(SUM(r.status = 2 AND r.attempt > ",
    );
    // A task that was interrupted by each of its attempts is in order; one that ran more often than its policy allows is not.
    query.push_bind(wanted.attempts.unwrap_or(u32::MAX));
    query.push(
        "), 0) \
         FROM (SELECT * FROM task INDEXED BY task_list WHERE task_type = ",
    );
    query.push_bind(task_type.as_str());
    if let Some(after) = wanted.after {
        query.push(" AND id > ").push_bind(after.0);
    }
    if let Some(since) = wanted.since {
        query.push(" AND start_time >= ").push_bind(micros(since)).push(" AND id >= ").push_bind(ids_from(since));
    }
    if let Some(until) = wanted.until {
        query.push(" AND start_time < ").push_bind(micros(until)).push(" AND id < ").push_bind(ids_until(until));
    }
    query.push(" ORDER BY id LIMIT ").push_bind(wanted.limit);
    query.push(") AS t LEFT JOIN response AS r ON r.task_id = t.id GROUP BY t.id ORDER BY t.id");
    let rows = query.build().fetch_all(conn).await?;
    let more = u32::try_from(rows.len()).is_ok_and(|read| read >= wanted.limit);
    let audits = rows.iter().map(audit).collect::<Result<Vec<_>, Fault>>()?;
    Ok(census::census(audits, more, now))
}

fn audit(row: &SqliteRow) -> Result<Audit, Fault> {
    let id: Uuid = row.try_get(0)?;
    let number = |at: usize| Ok::<_, Fault>(u32::try_from(row.try_get::<i64, _>(at).map(i64::unsigned_abs)?).unwrap_or(u32::MAX));
    let identifier: Vec<u8> = row.try_get(16)?;
    Ok(Audit {
        id: TaskId(id),
        identifier: columns::name(&String::from_utf8_lossy(&identifier), || format!("task {id}, column identifier"))?,
        task: task_state(row)?,
        receive_by: time(row, 17)?,
        due_at: time(row, 18)?,
        counted: Counts {
            expected: number(19)?,
            received: number(20)?,
            finished: number(21)?,
            failed: number(22)?,
            canceled: number(23)?,
            expired: number(24)?,
        },
        doubled: number(25)?,
        executions: number(26)?,
        interrupted: number(27)?,
        excess: number(28)?,
    })
}
