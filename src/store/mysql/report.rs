//! What endpoints report.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{MySqlConnection, Row};
use uuid::Uuid;

use super::rows::{Query, lock, optional_time, time, write_responses, write_tasks};
use crate::domain::{EndpointName, LateAnswer, Report, TaskId, TaskType, Timestamp};
use crate::store::batch;
use crate::store::fault::Fault;
use crate::store::ledger::{RowState, Subscriber, Subscribers, fold, in_question};
use crate::store::{Applied, columns};

pub(super) async fn apply(
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
    let rows = rows(conn, &keys).await?;
    let subscribers = subscribers(conn, in_question(&tasks, &rows, &reports).into_iter().collect()).await?;
    let folded = fold(&tasks, &rows, &subscribers, &reports, now, retention);
    let rows: Vec<_> = folded.rows.into_iter().collect();
    write_responses(conn, &rows, now).await?;
    mark_doubled(conn, folded.doubled.into_iter().collect()).await?;
    keep_late(conn, folded.late.into_iter().collect()).await?;
    write_tasks(conn, folded.tasks).await?;
    Ok(folded.applied)
}

/// Reads responses without locks of their own: those of their tasks keep every writer away.
async fn rows(conn: &mut MySqlConnection, keys: &[(TaskId, &EndpointName)]) -> Result<HashMap<(TaskId, EndpointName), RowState>, Fault> {
    let mut rows = HashMap::with_capacity(keys.len());
    for keys in keys.chunks(batch::KEYS) {
        let mut query = Query::new(
            "SELECT task_id, endpoint, status, progress, start_time, home, run, doubled, errnr, late IS NOT NULL FROM response FORCE INDEX (PRIMARY) WHERE (task_id, endpoint) IN (",
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
        }
    }
    Ok(rows)
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
            let subscriber = Subscriber {
                home: row.try_get(2)?,
                previous_home: row.try_get(3)?,
                first_seen: optional_time(&row, 4)?,
                last_seen: time(&row, 5)?,
            };
            subscribers.insert((columns::endpoint(row.try_get(0)?)?, columns::task_type(row.try_get(1)?)?), subscriber);
        }
    }
    Ok(subscribers)
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
