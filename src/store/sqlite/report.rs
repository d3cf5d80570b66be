//! What endpoints report.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::rows::{Query, lock, optional_time, time, write_responses, write_tasks};
use crate::domain::{EndpointName, LateAnswer, Report, TaskId, TaskType, Timestamp};
use crate::store::batch;
use crate::store::fault::Fault;
use crate::store::ledger::{RowState, Subscriber, Subscribers, TaskState, fold, in_question};
use crate::store::{Applied, columns};

pub(in crate::store) async fn apply(
    conn: &mut SqliteConnection,
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
    let (rows, mut known) = rows(conn, &tasks, &keys).await?;
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

/// Reads responses, and with each that nobody has answered what is known of its endpoint: nearly every report is of such a one, or of
/// whom the row names, so nothing else has to be read.
async fn rows(
    conn: &mut SqliteConnection,
    tasks: &HashMap<TaskId, TaskState>,
    keys: &[(TaskId, &EndpointName)],
) -> Result<(HashMap<(TaskId, EndpointName), RowState>, Subscribers), Fault> {
    let (mut rows, mut known) = (HashMap::with_capacity(keys.len()), Subscribers::new());
    for keys in keys.chunks(batch::KEYS) {
        let open = unanswered(conn, tasks, keys, &mut known).await?;
        let (open, other): (Vec<_>, Vec<_>) = keys.iter().zip(open).partition(|(_, open)| *open);
        rows.extend(open.into_iter().map(|(&(id, endpoint), _)| ((id, endpoint.clone()), RowState::EXPECTED)));
        let other: Vec<_> = other.into_iter().map(|(key, _)| *key).collect();
        if !other.is_empty() {
            answered(conn, &other, &mut rows).await?;
        }
    }
    Ok((rows, known))
}

/// Tells which of these responses nobody has answered, and learns about their endpoints. Each value that is read costs an allocation and
/// goes from thread to thread, so what all of these rows have in common is not read, and their keys are known by their place.
async fn unanswered(
    conn: &mut SqliteConnection,
    tasks: &HashMap<TaskId, TaskState>,
    keys: &[(TaskId, &EndpointName)],
    known: &mut Subscribers,
) -> Result<Vec<bool>, Fault> {
    let mut query = Query::new("WITH key(place, task_id, endpoint) AS (VALUES ");
    for place in 0..keys.len().next_power_of_two() {
        let key = keys.get(place);
        query.push(if place == 0 { "(" } else { ", (" }).push(place);
        query.push(", ").push_bind(key.map(|(id, _)| id.0)).push(", ").push_bind(key.map(|(_, endpoint)| endpoint.as_str()));
        query.push(")");
    }
    query.push(
        ") SELECT key.place, s.last_seen, s.home, s.previous_home, s.first_seen FROM key \
         CROSS JOIN response AS r ON r.task_id = key.task_id AND r.endpoint = key.endpoint CROSS JOIN task AS t ON t.id = r.task_id \
         LEFT JOIN subscription AS s ON s.endpoint = r.endpoint AND s.task_type = t.task_type WHERE r.status = 0 AND r.home IS NULL",
    );
    let mut open = vec![false; keys.len()];
    for row in query.build().fetch_all(&mut *conn).await? {
        let place: u32 = row.try_get(0)?;
        let place = batch::rows(place);
        open[place] = true;
        let (id, endpoint) = keys[place];
        if let (Some(last_seen), Some(task)) = (optional_time(&row, 1)?, tasks.get(&id)) {
            let subscriber =
                Subscriber { home: row.try_get(2)?, previous_home: row.try_get(3)?, first_seen: optional_time(&row, 4)?, last_seen };
            known.insert((endpoint.clone(), task.task_type.clone()), subscriber);
        }
    }
    Ok(open)
}

/// Reads whole rows.
async fn answered(
    conn: &mut SqliteConnection,
    keys: &[(TaskId, &EndpointName)],
    rows: &mut HashMap<(TaskId, EndpointName), RowState>,
) -> Result<(), Fault> {
    let mut query = Query::new(
        "SELECT task_id, endpoint, status, progress, start_time, home, run, doubled, errnr, late IS NOT NULL FROM response \
         WHERE (task_id, endpoint) IN (VALUES ",
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
    Ok(())
}

/// Reads what is known of endpoints, by name and type.
async fn subscribers(conn: &mut SqliteConnection, keys: Vec<(&EndpointName, &TaskType)>) -> Result<Subscribers, Fault> {
    let mut subscribers = Subscribers::with_capacity(keys.len());
    for keys in keys.chunks(batch::KEYS) {
        let mut query = Query::new(
            "SELECT endpoint, task_type, home, previous_home, first_seen, last_seen FROM subscription WHERE (endpoint, task_type) IN (VALUES ",
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
async fn keep_late(conn: &mut SqliteConnection, answers: Vec<((TaskId, &EndpointName), LateAnswer)>) -> Result<(), Fault> {
    for ((id, endpoint), answer) in answers {
        let keep = sqlx::query("UPDATE response SET late = ? WHERE task_id = ? AND endpoint = ?").bind(columns::late(&answer)?);
        keep.bind(id.0).bind(endpoint.as_str()).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Notes the rows whose task was run twice.
async fn mark_doubled(conn: &mut SqliteConnection, keys: Vec<(TaskId, &EndpointName)>) -> Result<(), Fault> {
    for (id, endpoint) in keys {
        let mark = sqlx::query("UPDATE response SET doubled = 1 WHERE task_id = ? AND endpoint = ?");
        mark.bind(id.0).bind(endpoint.as_str()).execute(&mut *conn).await?;
    }
    Ok(())
}
