//! What endpoints report.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::mysql::MySqlRow;
use sqlx::{MySqlConnection, Row};
use uuid::Uuid;

use super::rows::{Query, lock, optional_time, time, write_responses, write_tasks};
use crate::domain::{EndpointName, LateAnswer, Report, TaskId, TaskType, Timestamp};
use crate::store::batch;
use crate::store::fault::Fault;
use crate::store::ledger::{RowState, Subscriber, Subscribers, fold, in_question};
use crate::store::{Applied, columns};

pub(in crate::store) async fn apply(
    conn: &mut MySqlConnection,
    reports: Arc<[Report]>,
    now: Timestamp,
    retention: Duration,
) -> Result<Applied, Fault> {
    let mut ids: Vec<TaskId> = reports.iter().map(|report| report.task_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let tasks = lock(conn, &ids).await?;
    let mut keys: Vec<(TaskId, &EndpointName)> =
        reports.iter().filter(|report| tasks.contains_key(&report.task_id)).map(|report| (report.task_id, &report.endpoint)).collect();
    keys.sort_unstable();
    keys.dedup();
    let (rows, mut known) = rows(conn, &keys).await?;
    let asked = in_question(&tasks, &rows, &known, &reports).into_iter().collect();
    known.extend(subscribers(conn, asked).await?);
    let folded = fold(&tasks, &rows, &known, &reports, now, retention);
    let rows: Vec<_> = folded.rows.into_iter().collect();
    write_responses(conn, &rows, now).await?;
    mark_doubled(conn, folded.doubled.into_iter().collect()).await?;
    keep_late(conn, folded.late.into_iter().collect()).await?;
    write_tasks(conn, folded.tasks).await?;
    Ok(folded.applied)
}

/// Reads responses, and with each that nobody has yet what is known of its endpoint: nearly every report is the first or of whom the row
/// names, so nothing else has to be read. Without locks of their own: those of their tasks keep every writer away.
async fn rows(
    conn: &mut MySqlConnection,
    keys: &[(TaskId, &EndpointName)],
) -> Result<(HashMap<(TaskId, EndpointName), RowState>, Subscribers), Fault> {
    let (mut rows, mut known) = (HashMap::with_capacity(keys.len()), Subscribers::new());
    for keys in keys.chunks(batch::KEYS) {
        let mut query = Query::new(
            "SELECT r.task_id, r.endpoint, r.status, r.progress, r.start_time, r.home, r.run, r.doubled, r.errnr, r.late IS NOT NULL, \
             s.endpoint, s.task_type, s.home, s.previous_home, s.first_seen, s.last_seen FROM response AS r FORCE INDEX (PRIMARY) \
             LEFT JOIN task AS t FORCE INDEX (PRIMARY) ON r.home IS NULL AND t.id = r.task_id \
             LEFT JOIN subscription AS s FORCE INDEX (PRIMARY) ON s.endpoint = r.endpoint AND s.task_type = t.task_type \
             WHERE (r.task_id, r.endpoint) IN (",
        );
        for (at, (id, endpoint)) in batch::padded(keys).enumerate() {
            query.push(if at == 0 { "(" } else { ", (" });
            query.separated(", ").push_bind(id.0).push_bind(endpoint.as_str());
            query.push(")");
        }
        query.push(")");
        for row in query.build().fetch_all(&mut *conn).await? {
            let (id, endpoint): (Uuid, &str) = (row.try_get(0)?, row.try_get(1)?);
            let state = RowState {
                status: columns::response_status(row.try_get(2)?, || format!("response of {endpoint} to task {id}, column status"))?,
                progress: row.try_get(3)?,
                start_time: optional_time(&row, 4)?,
                home: row.try_get(5)?,
                run: row.try_get(6)?,
                doubled: row.try_get(7)?,
                errnr: row.try_get(8)?,
                late: row.try_get::<i64, _>(9)? != 0,
            };
            rows.insert((TaskId(id), columns::endpoint(endpoint)?), state);
            learn(&mut known, &row, 10)?;
        }
    }
    Ok((rows, known))
}

/// Reads what is known of endpoints, by name and type.
async fn subscribers(conn: &mut MySqlConnection, keys: Vec<(&EndpointName, &TaskType)>) -> Result<Subscribers, Fault> {
    let mut subscribers = Subscribers::with_capacity(keys.len());
    for keys in keys.chunks(batch::KEYS) {
        let mut query = Query::new(
            "SELECT endpoint, task_type, home, previous_home, first_seen, last_seen FROM subscription FORCE INDEX (PRIMARY) WHERE (endpoint, task_type) IN (",
        );
        for (at, (endpoint, task_type)) in batch::padded(keys).enumerate() {
            query.push(if at == 0 { "(" } else { ", (" });
            query.separated(", ").push_bind(endpoint.as_str()).push_bind(task_type.as_str());
            query.push(")");
        }
        query.push(")");
        for row in query.build().fetch_all(&mut *conn).await? {
            learn(&mut subscribers, &row, 0)?;
        }
    }
    Ok(subscribers)
}

/// Adds what a row says of an endpoint and type, from a column on; nothing where it says nothing.
fn learn(subscribers: &mut Subscribers, row: &MySqlRow, from: usize) -> Result<(), Fault> {
    let Some(endpoint) = row.try_get::<Option<&str>, _>(from)? else { return Ok(()) };
    let subscriber = Subscriber {
        home: row.try_get(from + 2)?,
        previous_home: row.try_get(from + 3)?,
        first_seen: optional_time(row, from + 4)?,
        last_seen: time(row, from + 5)?,
    };
    subscribers.insert((columns::endpoint(endpoint)?, columns::task_type(row.try_get(from + 1)?)?), subscriber);
    Ok(())
}

/// Keeps answers that came after the end beside what decided.
async fn keep_late(conn: &mut MySqlConnection, answers: Vec<((TaskId, &EndpointName), LateAnswer)>) -> Result<(), Fault> {
    for ((id, endpoint), answer) in answers {
        let keep = sqlx::query("UPDATE response SET late = ? WHERE task_id = ? AND endpoint = ?").bind(columns::late(&answer)?);
        keep.bind(id.0).bind(endpoint.as_str()).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Notes the rows whose task was run twice.
async fn mark_doubled(conn: &mut MySqlConnection, keys: Vec<(TaskId, &EndpointName)>) -> Result<(), Fault> {
    for (id, endpoint) in keys {
        let mark = sqlx::query("UPDATE response SET doubled = 1 WHERE task_id = ? AND endpoint = ?");
        mark.bind(id.0).bind(endpoint.as_str()).execute(&mut *conn).await?;
    }
    Ok(())
}
