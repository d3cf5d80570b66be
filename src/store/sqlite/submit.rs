//! From a submission to the broker's confirm: accept, freeze, mark as published.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::queue;
use super::rows::{Query, expect, lock, micros, push_ids, write_tasks};
use crate::domain::{EndpointName, Identifier, NewTask, TaskId, Timestamp, TokenName};
use crate::store::batch::{self, padded_rows};
use crate::store::fault::Fault;
use crate::store::submissions::{Entry, Key, answers, distinct, key};
use crate::store::submit::weight;
use crate::store::{Accepted, Freeze, QueueRule, Retry, columns};

pub(in crate::store) async fn accept(
    conn: &mut SqliteConnection,
    tasks: Arc<[NewTask]>,
    rules: Arc<[QueueRule]>,
    due_at: Timestamp,
    retention: Duration,
) -> Result<Vec<Accepted>, Fault> {
    let distinct = distinct(&tasks);
    let given = queue::give_at_once(conn, rules, &distinct).await?;
    let mut inserted = 0;
    for run in batch::runs(&distinct, batch::WIDE_ROWS, weight) {
        let mut query = Query::new(
            "INSERT INTO task (id, task_type, identifier, status, payload, endpoints, digest, start_time, receive_by, \
             expires_at, due_at, priority, run_at, parent, expected, frozen_at, published_at, submitted_by) VALUES ",
        );
        for (at, task) in padded_rows(run, weight).enumerate() {
            query.push(if at == 0 { "(" } else { ", (" });
            let mut values = query.separated(", ");
            values.push_bind(task.id.0).push_bind(task.task_type.as_str()).push_bind(task.identifier.as_str().as_bytes());
            let entry = Entry::of(task, given.contains_key(&task.id), due_at);
            values.push_bind(entry.status.code()).push_bind(task.payload.get()).push_bind(columns::list(&task.endpoints)?);
            values.push_bind(task.digest.as_slice()).push_bind(micros(task.start_time)).push_bind(micros(task.receive_by));
            values.push_bind(micros(task.expires_at)).push_bind(micros(entry.due_at));
            let place = task.place.as_ref();
            values.push_bind(place.map(|place| place.priority)).push_bind(place.and_then(|place| place.run_at).map(micros));
            values.push_bind(place.and_then(|place| place.parent).map(|id| id.0));
            values.push_bind(entry.expected).push_bind(entry.given_at.map(micros)).push_bind(entry.given_at.map(micros));
            values.push_bind(task.submitted_by.as_ref().map(TokenName::as_str));
            query.push(")");
        }
        query.push(" ON CONFLICT DO NOTHING");
        inserted += query.build().execute(&mut *conn).await?.rows_affected();
    }
    let all_new = usize::try_from(inserted) == Ok(distinct.len());
    let recorded = match all_new {
        true => distinct.iter().map(|task| (key(task), (task.id, task.digest))).collect(),
        false => recorded(conn, &distinct).await?,
    };
    let mut have_worker = HashMap::new();
    if distinct.iter().any(|task| task.place.is_some()) {
        let ours = distinct.iter().copied().filter(|task| recorded.get(&key(task)).is_some_and(|(id, _)| *id == task.id));
        have_worker = queue::enter(conn, ours.filter(|task| task.place.is_some()).collect(), given, all_new, retention).await?;
    }
    answers(&tasks, &recorded, &have_worker)
        .ok_or_else(|| Fault::Again(Retry::Conflict, "a task of the same identifier was forgotten meanwhile".into()))
}

/// Who has the keys of these submissions.
async fn recorded(conn: &mut SqliteConnection, tasks: &[&NewTask]) -> Result<HashMap<Key, (TaskId, [u8; 32])>, Fault> {
    let mut recorded = HashMap::with_capacity(tasks.len());
    for of_type in tasks.chunk_by(|a, b| a.task_type == b.task_type) {
        for chunk in of_type.chunks(batch::KEYS) {
            let Some(first) = chunk.first() else { continue };
            let mut query = Query::new("SELECT identifier, id, digest FROM task INDEXED BY task_identifier WHERE task_type = ");
            query.push_bind(first.task_type.as_str()).push(" AND identifier IN (");
            let mut list = query.separated(", ");
            for task in batch::padded(chunk) {
                list.push_bind(task.identifier.as_str().as_bytes());
            }
            query.push(")");
            for row in query.build().fetch_all(&mut *conn).await? {
                let (identifier, id, digest): (Vec<u8>, Uuid, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                let identifier: Identifier =
                    columns::name(&String::from_utf8_lossy(&identifier), || format!("task {id}, column identifier"))?;
                let digest = columns::sha256(&digest, || format!("task {id}, column digest"))?;
                recorded.insert((first.task_type.clone(), identifier), (TaskId(id), digest));
            }
        }
    }
    Ok(recorded)
}

/// Freezes as many as one transaction should; says which, and how many are done.
pub(in crate::store) async fn freeze(
    conn: &mut SqliteConnection,
    sets: Arc<[Freeze]>,
    now: Timestamp,
) -> Result<(Vec<TaskId>, usize), Fault> {
    let sets = &sets[..sets.len().min(batch::KEYS)];
    let mut ids: Vec<TaskId> = sets.iter().map(|set| set.id).collect();
    ids.dedup();
    let tasks = lock(conn, &ids).await?;
    let (mut changes, mut rows, mut done) = (Vec::new(), Vec::new(), 0);
    for same in sets.chunk_by(|a, b| a.id == b.id) {
        let Some(set) = same.first() else { continue };
        let mut expected: Vec<&EndpointName> = set.expected.iter().collect();
        expected.sort_unstable();
        expected.dedup();
        if !rows.is_empty() && rows.len() + expected.len() > batch::ROWS {
            break;
        }
        done += same.len();
        let number = u32::try_from(expected.len()).unwrap_or(u32::MAX);
        if let Some(change) = tasks.get(&set.id).and_then(|task| task.freeze(number, now)) {
            changes.push((set.id, change));
            rows.extend(expected.into_iter().map(|endpoint| (set.id, endpoint)));
        }
    }
    expect(conn, &rows, now).await?;
    let frozen = changes.iter().map(|(id, _)| *id).collect();
    write_tasks(conn, changes).await?;
    Ok((frozen, done))
}

pub(in crate::store) async fn mark_published(conn: &mut SqliteConnection, ids: Arc<[TaskId]>, now: Timestamp) -> Result<u64, Fault> {
    let mut sent = 0;
    for ids in ids.chunks(batch::KEYS) {
        // The guard is exact: whatever row it finds, it changes, and this transaction is the one that did.
        let mut query = Query::new("UPDATE task SET published_at = COALESCE(published_at, ");
        query.push_bind(micros(now)).push("), due_at = min(receive_by, expires_at), status = 1 WHERE +status = 0 AND id IN ");
        push_ids(&mut query, ids);
        let moved = query.build().execute(&mut *conn).await?.rows_affected();
        sent += moved;
        if usize::try_from(moved) == Ok(ids.len()) {
            continue;
        }
        // An answer was quicker than the confirm: the task keeps its status and learns when it was published.
        let mut query = Query::new("UPDATE task SET published_at = ");
        query.push_bind(micros(now));
        query.push(", due_at = CASE status WHEN 1 THEN min(receive_by, expires_at) ELSE due_at END WHERE published_at IS NULL AND +status <> 0 AND id IN ");
        push_ids(&mut query, ids);
        query.build().execute(&mut *conn).await?;
    }
    Ok(sent)
}
