//! What happens to tasks apart from reports: claiming, settling, cancelling, forgetting.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{MySqlConnection, Row};

use super::rows::{Query, TASK, datetime, lock, push_ids, push_names, task, within_budget, write_tasks};
use crate::domain::{ResponseStatus, TaskId, TaskStatus, Timestamp, errnr};
use crate::store::columns::AFTER_TASK;
use crate::store::fault::Fault;
use crate::store::ledger::VANISHED;
use crate::store::{CancelOutcome, DueTask, Settlement, batch, columns};

pub(in crate::store) async fn claim_due(
    conn: &mut MySqlConnection,
    now: Timestamp,
    lease_until: Timestamp,
    limit: u32,
) -> Result<Vec<DueTask>, Fault> {
    let mut query = Query::new("SELECT ");
    query.push(TASK).push(", t.frozen_at IS NOT NULL, t.asks FROM task AS t FORCE INDEX (task_due) WHERE t.due_at <= ");
    query.push_bind(datetime(now)).push(" ORDER BY t.due_at LIMIT ").push_bind(limit).push(" FOR UPDATE SKIP LOCKED");
    let rows = within_budget(&mut query, conn).await?;
    let due = |row| Ok(DueTask { task: task(row)?, frozen: row.try_get::<i64, _>(AFTER_TASK)? != 0, asks: row.try_get(AFTER_TASK + 1)? });
    let due: Vec<DueTask> = rows.iter().map(due).collect::<Result<_, Fault>>()?;
    let mut ids: Vec<TaskId> = due.iter().map(|due| due.task.id).collect();
    ids.sort_unstable();
    for ids in ids.chunks(batch::KEYS) {
        let mut query = Query::new("UPDATE task FORCE INDEX (PRIMARY) SET due_at = ");
        query.push_bind(datetime(lease_until)).push(" WHERE id IN ");
        push_ids(&mut query, ids);
        query.build().execute(&mut *conn).await?;
    }
    Ok(due)
}

/// Settles as many as one transaction should; says which moved, and how many are done.
pub(in crate::store) async fn settle(
    conn: &mut MySqlConnection,
    settlements: Arc<[Settlement]>,
    now: Timestamp,
    retention: Duration,
) -> Result<(Vec<(TaskId, TaskStatus)>, usize), Fault> {
    let settlements = &settlements[..settlements.len().min(batch::KEYS)];
    let mut ids: Vec<TaskId> = settlements.iter().map(|settlement| settlement.id).collect();
    ids.dedup();
    let tasks = lock(conn, &ids).await?;
    let (mut changes, mut given_up, mut rows, mut done) = (Vec::new(), Vec::new(), 0, 0);
    for same in settlements.chunk_by(|a, b| a.id == b.id) {
        let Some(settlement) = same.last() else { continue };
        let Some(task) = tasks.get(&settlement.id) else {
            done += same.len();
            continue;
        };
        let gives_up = task.gives_up(settlement);
        let open = if gives_up { batch::rows(task.counts.open()) } else { 0 };
        if rows > 0 && rows + open > batch::ROWS {
            break;
        }
        rows += open;
        done += same.len();
        let lost = if gives_up { lose(conn, settlement.id, now).await? } else { 0 };
        changes.push((settlement.id, task.settle(settlement, lost, now, retention)));
        if gives_up {
            given_up.push(settlement.id);
        }
    }
    for ids in given_up.chunks(batch::KEYS) {
        let mut query = Query::new("UPDATE response FORCE INDEX (PRIMARY) SET last_modified_time = ");
        query.push_bind(datetime(now)).push(", status = 4 WHERE status < 2 AND task_id IN ");
        push_ids(&mut query, ids);
        query.build().execute(&mut *conn).await?;
    }
    let moved = changes.iter().filter(|(_, change)| change.from != change.to).map(|(id, change)| (*id, change.to)).collect();
    write_tasks(conn, changes).await?;
    Ok((moved, done))
}

/// Fails the responses of endpoints that have received a task and are not there any more, or not with the memory that has
/// it. Answers how many.
async fn lose(conn: &mut MySqlConnection, id: TaskId, now: Timestamp) -> Result<u32, Fault> {
    let absent = sqlx::query(
        "SELECT r.endpoint FROM response AS r FORCE INDEX (PRIMARY) JOIN task AS t ON t.id = r.task_id WHERE r.task_id = ? AND r.status = 1 \
         AND NOT EXISTS (SELECT 1 FROM subscription AS s WHERE s.endpoint = r.endpoint AND s.task_type = t.task_type \
         AND s.state = 1 AND s.home <=> r.home) ORDER BY r.endpoint",
    );
    let absent = absent.bind(id.0).fetch_all(&mut *conn).await?;
    let names: Vec<&str> = absent.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    for names in names.chunks(batch::KEYS) {
        let mut query = Query::new("UPDATE response FORCE INDEX (PRIMARY) SET status = ");
        query.push_bind(ResponseStatus::Finished.code()).push(", errnr = ").push_bind(errnr::LOST);
        query.push(", errmsg = ").push_bind(VANISHED).push(", last_modified_time = ").push_bind(datetime(now));
        query.push(" WHERE status = 1 AND task_id = ").push_bind(id.0).push(" AND endpoint IN ");
        push_names(&mut query, names.iter().copied());
        query.build().execute(&mut *conn).await?;
    }
    Ok(u32::try_from(names.len()).unwrap_or(u32::MAX))
}

pub(in crate::store) async fn cancel(
    conn: &mut MySqlConnection,
    id: TaskId,
    now: Timestamp,
    retention: Duration,
) -> Result<Option<CancelOutcome>, Fault> {
    let Some(state) = lock(conn, &[id]).await?.remove(&id) else { return Ok(None) };
    let open = sqlx::query("SELECT endpoint, status FROM response WHERE task_id = ? AND status < 2 ORDER BY endpoint")
        .bind(id.0)
        .fetch_all(&mut *conn)
        .await?;
    let (mut to_stop, mut withdrawn) = (Vec::with_capacity(open.len()), 0);
    for row in &open {
        withdrawn += u32::from(row.try_get::<u8, _>(1)? == ResponseStatus::Expected.code());
        to_stop.push(columns::endpoint(row.try_get(0)?)?);
    }
    let (changed, refused) = match state.cancel(withdrawn, now, retention) {
        Err(_) => (false, true),
        Ok(None) => (false, false),
        Ok(Some(change)) => {
            sqlx::query("UPDATE response SET last_modified_time = ?, status = 3 WHERE task_id = ? AND status = 0")
                .bind(datetime(now))
                .bind(id.0)
                .execute(&mut *conn)
                .await?;
            write_tasks(conn, vec![(id, change)]).await?;
            (true, false)
        }
    };
    let task = super::read::find(conn, id).await?;
    Ok(task.map(|task| CancelOutcome { task, changed, refused, to_stop: if refused { Vec::new() } else { to_stop } }))
}

/// Forgets as many as one transaction should; says how many went, and how many ids are done.
pub(in crate::store) async fn forget(conn: &mut MySqlConnection, ids: Arc<[TaskId]>) -> Result<(u64, usize), Fault> {
    let ids = &ids[..ids.len().min(batch::KEYS)];
    let tasks = lock(conn, ids).await?;
    let (mut finals, mut rows, mut done) = (Vec::new(), 0, 0);
    for id in ids {
        if let Some(task) = tasks.get(id).filter(|task| task.status.is_final()) {
            let expected = batch::rows(task.counts.expected);
            if rows > 0 && rows + expected > batch::ROWS {
                break;
            }
            rows += expected;
            finals.push(*id);
        }
        done += 1;
    }
    if finals.is_empty() {
        return Ok((0, done));
    }
    let mut query = Query::new("DELETE FROM response WHERE task_id IN ");
    push_ids(&mut query, &finals);
    query.build().execute(&mut *conn).await?;
    let mut query = Query::new("DELETE FROM task WHERE id IN ");
    push_ids(&mut query, &finals);
    let forgotten = query.build().execute(&mut *conn).await?.rows_affected();
    Ok((forgotten, done))
}
