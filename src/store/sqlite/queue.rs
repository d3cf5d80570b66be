//! Work queues: entering, turns, leaving.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::rows::{Query, TASK, expect, lock, micros, optional_time, push_ids, push_names, task, time, within_budget, write_tasks};
use crate::domain::{EndpointName, NewTask, PayloadKey, Place, Task, TaskId, TaskType, Timestamp, UniqueKey, errnr};
use crate::store::batch::{self, padded_rows};
use crate::store::columns::{self, AFTER_TASK};
use crate::store::fault::Fault;
use crate::store::ledger::{Back, worker_lost};
use crate::store::submissions::{entering, first_state};
use crate::store::turns::{Allowance, Candidate, Orphan, Turn, Worker, at_once, demand, plan};
use crate::store::{Given, QueueRecord, QueueRule, Retry, TakenBack, Turns};

/// Tasks given, or taken back, in one transaction at most.
const TURNS: usize = 256;

/// Tasks that only wait for a worker with room, of types to be listed.
const READY: &str = "SELECT 1 FROM queued_task INDEXED BY queued_turn WHERE state = 0 AND held_key IS NULL AND task_type IN ";

/// Gives new tasks that are not recorded yet to workers that have room, if nobody waits before them: they are recorded as given, which
/// spares them the way through the queue. All others wait until it is their turn, see [`give`].
pub(in crate::store) async fn give_at_once(
    conn: &mut SqliteConnection,
    rules: Arc<[QueueRule]>,
    tasks: &[&NewTask],
) -> Result<HashMap<TaskId, EndpointName>, Fault> {
    let candidates = at_once(&rules, tasks);
    if candidates.is_empty() {
        return Ok(HashMap::new());
    }
    let workers = workers(conn, &rules, Turn::AtOnce).await?;
    let now = tasks.iter().map(|task| task.start_time).max().unwrap_or(Timestamp::from_micros(0));
    Ok(plan(candidates, workers, HashMap::new(), now).given.into_iter().collect())
}

/// Whether a task of these queues could be given to a worker that has room.
pub(in crate::store) async fn anybody_waits(conn: &mut SqliteConnection, rules: Arc<[QueueRule]>) -> Result<bool, Fault> {
    if rules.is_empty() {
        return Ok(false);
    }
    let mut query = Query::new(READY);
    push_names(&mut query, rules.iter().map(|rule| rule.task_type.as_str()));
    query.push(" LIMIT 1");
    Ok(query.build().fetch_optional(conn).await?.is_some())
}

/// Puts tasks that are recorded into their queues, and answers which of them a worker has. `all_new` says that this transaction has
/// recorded all of them; otherwise some may have been recorded, and queued, by an attempt whose commit was thought lost: for those the
/// workers that this attempt has found do not count.
pub(in crate::store) async fn enter(
    conn: &mut SqliteConnection,
    tasks: Vec<&NewTask>,
    mut given: HashMap<TaskId, EndpointName>,
    all_new: bool,
    retention: Duration,
) -> Result<HashMap<TaskId, EndpointName>, Fault> {
    let mut entered = HashSet::new();
    if !all_new {
        for tasks in tasks.chunks(batch::KEYS) {
            let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
            let mut query = Query::new(
                "SELECT t.id FROM task AS t LEFT JOIN queued_task AS q ON q.task_id = t.id \
                 WHERE (t.finished_at IS NOT NULL OR q.task_id IS NOT NULL) AND t.id IN ",
            );
            push_ids(&mut query, &ids);
            for row in query.build().fetch_all(&mut *conn).await? {
                entered.insert(TaskId(row.try_get(0)?));
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
        }
    }
    let starts: HashMap<TaskId, Timestamp> = plain.iter().map(|(task, _)| (task.id, task.start_time)).collect();
    given.retain(|id, _| starts.contains_key(id));
    let mut rows: Vec<(TaskId, &EndpointName)> = given.iter().map(|(id, worker)| (*id, worker)).collect();
    rows.sort_unstable();
    if let Some(now) = starts.values().max() {
        expect(conn, &rows, *now).await?;
    }
    Ok(given)
}

async fn insert(conn: &mut SqliteConnection, run: &[(&NewTask, &Place)], given: &HashMap<TaskId, EndpointName>) -> Result<(), Fault> {
    let mut query = Query::new(
        "INSERT INTO queued_task (task_id, task_type, state, priority, queued_at, limit_key, chains, unique_scope, unique_key) VALUES ",
    );
    for (at, (task, place)) in padded_rows(run, |_| 0).enumerate() {
        query.push(if at == 0 { "(" } else { ", (" });
        let mut values = query.separated(", ");
        values.push_bind(task.id.0).push_bind(task.task_type.as_str()).push_bind(first_state(place, given.contains_key(&task.id)));
        values.push_bind(place.priority).push_bind(micros(place.run_at.unwrap_or(task.start_time)));
        values.push_bind(place.limit_key.as_ref().map(<[u8; 32]>::as_slice)).push_bind(place.chains);
        values.push_bind(place.unique.as_ref().map(|unique| unique.scope.as_str()));
        values.push_bind(place.unique.as_ref().map(|unique| unique.key.as_slice()));
        query.push(")");
    }
    // For the repeats that fill the statement up.
    query.push(" ON CONFLICT (task_id) DO NOTHING");
    query.build().execute(&mut *conn).await?;
    Ok(())
}

/// Makes room for a task with a unique key. Answers whether it goes into the queue: one that was queued after another yields to one
/// that waits already.
async fn displace(conn: &mut SqliteConnection, task: &NewTask, place: &Place, retention: Duration) -> Result<bool, Fault> {
    let Some(unique) = &place.unique else { return Ok(true) };
    let Some(old) = waiting(conn, unique).await? else { return Ok(true) };
    let (goes, stays) = if place.parent.is_some() { (task.id, old) } else { (old, task.id) };
    let mut ids = [goes, stays];
    ids.sort_unstable();
    let tasks = lock(conn, &ids).await?;
    if waiting(conn, unique).await? != Some(old) {
        return Err(Fault::Again(Retry::Conflict, "the task to be replaced has gone meanwhile".into()));
    }
    if let Some(old) = tasks.get(&old)
        && !place.renews
        && place.parent.is_none()
    {
        let left = "UPDATE task SET expires_at = ?, receive_by = ?, due_at = min(due_at, ?) WHERE id = ?";
        let until = micros(old.expires_at);
        sqlx::query(left).bind(until).bind(until).bind(until).bind(task.id.0).execute(&mut *conn).await?;
    }
    replace(conn, goes, stays, tasks.get(&goes), task.start_time, retention).await?;
    Ok(goes == old)
}

/// Ends a task whose place another one has.
async fn replace(
    conn: &mut SqliteConnection,
    goes: TaskId,
    stays: TaskId,
    state: Option<&crate::store::ledger::TaskState>,
    now: Timestamp,
    retention: Duration,
) -> Result<(), Fault> {
    if let Some(Ok(Some(change))) = state.map(|state| state.cancel(0, now, retention)) {
        write_tasks(conn, vec![(goes, change)]).await?;
        sqlx::query("UPDATE task SET replaced_by = ? WHERE id = ?").bind(stays.0).bind(goes.0).execute(&mut *conn).await?;
    }
    Ok(())
}

/// The task that waits with this key.
async fn waiting(conn: &mut SqliteConnection, unique: &UniqueKey) -> Result<Option<TaskId>, Fault> {
    let found =
        sqlx::query("SELECT task_id FROM queued_task INDEXED BY queued_unique WHERE unique_scope = ? AND unique_key = ? AND state < 3")
            .bind(unique.scope.as_str())
            .bind(unique.key.as_slice())
            .fetch_optional(&mut *conn)
            .await?;
    Ok(found.map(|row| row.try_get(0)).transpose()?.map(TaskId))
}

/// Takes ended tasks out of their queues, each with whether it has succeeded; lets others of their keys go on.
pub(in crate::store) async fn leave(conn: &mut SqliteConnection, left: Vec<(TaskId, bool)>) -> Result<(), Fault> {
    let succeeded: HashSet<TaskId> = left.iter().filter(|(_, succeeded)| *succeeded).map(|(id, _)| *id).collect();
    let mut ids: Vec<TaskId> = left.into_iter().map(|(id, _)| id).collect();
    ids.sort_unstable();
    for ids in ids.chunks(batch::KEYS) {
        let mut query = Query::new("DELETE FROM queued_task WHERE chains = 0 AND limit_key IS NULL AND task_id IN ");
        push_ids(&mut query, ids);
        let gone = query.build().execute(&mut *conn).await?.rows_affected();
        if usize::try_from(gone) == Ok(ids.len()) {
            continue;
        }
        let mut query = Query::new("SELECT task_id, task_type, limit_key, chains FROM queued_task WHERE state < 4 AND task_id IN ");
        push_ids(&mut query, ids);
        query.push(" ORDER BY task_id");
        for row in query.build().fetch_all(&mut *conn).await? {
            let (id, task_type): (Uuid, &str) = (row.try_get(0)?, row.try_get(1)?);
            let key: Option<Vec<u8>> = row.try_get(2)?;
            let chains: bool = row.try_get(3)?;
            let end = match chains && succeeded.contains(&TaskId(id)) {
                true => sqlx::query("UPDATE queued_task SET state = 4, held_key = NULL WHERE task_id = ?"),
                false => sqlx::query("DELETE FROM queued_task WHERE task_id = ?"),
            };
            end.bind(id).execute(&mut *conn).await?;
            if let Some(key) = key {
                let free = "UPDATE queued_task SET state = 0, held_key = NULL WHERE task_id = (SELECT task_id FROM queued_task INDEXED BY queued_turn \
                            WHERE task_type = ? AND state = 1 AND held_key = ? ORDER BY priority, queued_at, task_id LIMIT 1)";
                sqlx::query(free).bind(task_type).bind(key).execute(&mut *conn).await?;
            }
        }
    }
    Ok(())
}

pub(in crate::store) async fn give(
    conn: &mut SqliteConnection,
    rules: Arc<[QueueRule]>,
    now: Timestamp,
    ask_at: Timestamp,
) -> Result<Turns, Fault> {
    let workers = workers(conn, &rules, Turn::Waiting).await?;
    let (mut candidates, mut tasks, mut allowances, mut full) = (Vec::new(), HashMap::new(), HashMap::new(), false);
    for (rule, room) in demand(&rules, &workers, TURNS) {
        let Some(allowance) = allowance(conn, rule).await? else { continue };
        let mut query = Query::new("SELECT ");
        query.push(TASK).push(", q.queued_at, q.limit_key, t.priority IS NOT NULL");
        query.push(" FROM queued_task AS q INDEXED BY queued_turn CROSS JOIN task AS t ON t.id = q.task_id WHERE q.task_type = ");
        query
            .push_bind(rule.task_type.as_str())
            .push(" AND q.state = 0 AND q.held_key IS NULL ORDER BY q.priority, q.queued_at, q.task_id LIMIT ");
        query.push_bind(u32::try_from(room).unwrap_or(u32::MAX));
        let rows = within_budget(&mut query, conn).await?;
        full |= rows.len() == room;
        for row in &rows {
            let task = task(row)?;
            let limit_key = key(row.try_get(AFTER_TASK + 1)?, "limit_key")?;
            candidates.push(Candidate::of(&task, time(row, AFTER_TASK)?, limit_key));
            tasks.insert(task.id, task);
        }
        allowances.insert(rule.task_type.clone(), allowance);
    }
    let plan = plan(candidates, workers, allowances, now);
    let more = full && !(plan.given.is_empty() && plan.held.is_empty() && plan.expired.is_empty());
    hold(conn, &plan.held).await?;
    let mut given: Vec<(TaskId, EndpointName)> = plan.given;
    given.sort_unstable();
    let ids: Vec<TaskId> = given.iter().map(|(id, _)| *id).collect();
    // Locked already, with its queue row.
    let states = lock(conn, &ids).await?;
    let changes: HashMap<TaskId, _> =
        states.iter().filter_map(|(id, state)| Some((*id, state.give(now, ask_at.min(state.expires_at))?))).collect();
    given.retain(|(id, _)| changes.contains_key(id));
    for given in given.chunks(batch::KEYS) {
        let ids: Vec<TaskId> = given.iter().map(|(id, _)| *id).collect();
        let mut query = Query::new("UPDATE queued_task SET state = 3 WHERE task_id IN ");
        push_ids(&mut query, &ids);
        query.build().execute(&mut *conn).await?;
    }
    let rows: Vec<_> = given.iter().map(|(id, worker)| (*id, worker)).collect();
    expect(conn, &rows, now).await?;
    write_tasks(conn, changes.into_iter().collect()).await?;
    let given = given.into_iter().filter_map(|(id, worker)| Some(Given { task: tasks.remove(&id)?, worker })).collect();
    Ok(Turns { given, expired: plan.expired, more })
}

/// A key of a payload out of its column.
fn key(bytes: Option<Vec<u8>>, column: &str) -> Result<Option<PayloadKey>, Fault> {
    let read = bytes.map(|bytes| columns::sha256(&bytes, || format!("queued_task, column {column}")));
    Ok(read.transpose()?)
}

/// The workers that are there, with the room they have.
async fn workers(conn: &mut SqliteConnection, rules: &[QueueRule], turn: Turn) -> Result<Vec<Worker>, Fault> {
    if rules.is_empty() {
        return Ok(Vec::new());
    }
    let names = || rules.iter().map(|rule| rule.task_type.as_str());
    let mut query = Query::new(
        "SELECT s.endpoint, s.task_type, s.slots - (SELECT COUNT(*) FROM response AS r INDEXED BY response_owed \
         CROSS JOIN queued_task AS q ON q.task_id = r.task_id WHERE r.endpoint = s.endpoint AND r.status < 2) AS room \
         FROM subscription AS s INDEXED BY subscription_type WHERE s.state = 1 AND s.slots > 0 AND s.trouble IS NULL AND s.task_type IN ",
    );
    push_names(&mut query, names());
    if turn == Turn::AtOnce {
        query.push(
            " AND NOT EXISTS (SELECT 1 FROM queue AS p WHERE p.task_type = s.task_type AND p.paused_at IS NOT NULL) AND NOT EXISTS (",
        );
        push_names(query.push(READY), names());
        query.push(")");
    }
    query.push(" ORDER BY s.endpoint, s.task_type");
    let mut workers: Vec<Worker> = Vec::new();
    for row in query.build().fetch_all(&mut *conn).await? {
        let (name, task_type) = (columns::endpoint(row.try_get(0)?)?, columns::task_type(row.try_get(1)?)?);
        match workers.last_mut() {
            Some(worker) if worker.name == name => worker.task_types.push(task_type),
            _ => workers.push(Worker { name, task_types: vec![task_type], room: u32::try_from(row.try_get::<i64, _>(2)?).unwrap_or(0) }),
        }
    }
    workers.retain(|worker| worker.room > 0);
    Ok(workers)
}

/// How many more of a type may run; none when its queue is paused, or another process is giving out what is limited.
async fn allowance(conn: &mut SqliteConnection, rule: &QueueRule) -> Result<Option<Allowance>, Fault> {
    let limited = rule.max_running.is_some() || rule.max_per_key.is_some();
    let name = rule.task_type.as_str();
    if limited {
        sqlx::query("INSERT INTO queue (task_type) VALUES (?) ON CONFLICT DO NOTHING").bind(name).execute(&mut *conn).await?;
        let mine = sqlx::query("SELECT paused_at FROM queue WHERE task_type = ?").bind(name);
        let Some(row) = mine.fetch_optional(&mut *conn).await? else { return Ok(None) };
        if optional_time(&row, 0)?.is_some() {
            return Ok(None);
        }
    } else if sqlx::query("SELECT 1 FROM queue WHERE paused_at IS NOT NULL AND task_type = ?")
        .bind(name)
        .fetch_optional(&mut *conn)
        .await?
        .is_some()
    {
        return Ok(None);
    }
    let mut allowance = Allowance { of_type: rule.max_running, of_key: rule.max_per_key, running: HashMap::new() };
    if limited {
        let running = sqlx::query(
            "SELECT limit_key, COUNT(*) FROM queued_task INDEXED BY queued_turn WHERE task_type = ? AND state = 3 GROUP BY limit_key",
        );
        for row in running.bind(name).fetch_all(&mut *conn).await? {
            let count = u32::try_from(row.try_get::<i64, _>(1)?).unwrap_or(u32::MAX);
            allowance.of_type = allowance.of_type.map(|left| left.saturating_sub(count));
            if let Some(key) = key(row.try_get(0)?, "limit_key")? {
                allowance.running.insert(key, count);
            }
        }
    }
    Ok(Some(allowance))
}

async fn hold(conn: &mut SqliteConnection, ids: &[TaskId]) -> Result<(), Fault> {
    for ids in ids.chunks(batch::KEYS) {
        let mut query = Query::new("UPDATE queued_task SET state = 1, held_key = limit_key WHERE state = 0 AND task_id IN ");
        push_ids(&mut query, ids);
        query.build().execute(&mut *conn).await?;
    }
    Ok(())
}

/// Lets all held tasks of these types be looked at again.
pub(in crate::store) async fn release_held(conn: &mut SqliteConnection, task_types: Arc<[TaskType]>) -> Result<(), Fault> {
    for task_type in task_types.iter() {
        let free = "UPDATE queued_task SET state = 0, held_key = NULL WHERE task_type = ? AND state = 1";
        sqlx::query(free).bind(task_type.as_str()).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Responses of queued tasks whose worker is gone, or has come back without the memory of them.
async fn orphans(conn: &mut SqliteConnection, rules: &[QueueRule], of: Option<&[TaskId]>) -> Result<Vec<Orphan>, Fault> {
    if rules.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = Query::new(
        "SELECT q.task_id, q.task_type, r.endpoint, r.home IS NOT NULL, t.attempts, q.unique_scope, q.unique_key \
         FROM queued_task AS q INDEXED BY queued_turn CROSS JOIN response AS r ON r.task_id = q.task_id \
         JOIN task AS t ON t.id = q.task_id LEFT JOIN subscription AS s ON s.endpoint = r.endpoint AND s.task_type = q.task_type \
         WHERE q.state = 3 AND +r.status < 2 AND (s.state IS NULL OR s.state <> 1 OR (r.home IS NOT NULL AND s.home IS NOT r.home)) \
         AND q.task_type IN ",
    );
    push_names(&mut query, rules.iter().map(|rule| rule.task_type.as_str()));
    if let Some(ids) = of {
        query.push(" AND q.task_id IN ");
        push_ids(&mut query, ids);
    }
    query.push(" ORDER BY q.task_id LIMIT ").push_bind(u32::try_from(TURNS).unwrap_or(u32::MAX));
    let rows = query.build().fetch_all(&mut *conn).await?;
    rows.iter()
        .map(|row| {
            let id: Uuid = row.try_get(0)?;
            let (scope, unique_key): (Option<String>, Option<Vec<u8>>) = (row.try_get(5)?, row.try_get(6)?);
            Ok(Orphan {
                id: TaskId(id),
                task_type: columns::task_type(row.try_get(1)?)?,
                worker: columns::endpoint(row.try_get(2)?)?,
                received: row.try_get::<i64, _>(3)? != 0,
                attempts: columns::attempts(row.try_get(4)?, || format!("task {id}, column attempts"))?,
                unique: scope.zip(key(unique_key, "unique_key")?).map(|(scope, key)| UniqueKey { scope, key }),
            })
        })
        .collect()
}

pub(in crate::store) async fn take_back(
    conn: &mut SqliteConnection,
    rules: Arc<[QueueRule]>,
    now: Timestamp,
    retention: Duration,
) -> Result<TakenBack, Fault> {
    let mut ids: Vec<TaskId> = orphans(conn, &rules, None).await?.into_iter().map(|orphan| orphan.id).collect();
    ids.sort_unstable();
    if ids.is_empty() {
        return Ok(TakenBack::default());
    }
    let states = lock(conn, &ids).await?;
    let mut back = TakenBack::default();
    for mut orphan in orphans(conn, &rules, Some(&ids)).await? {
        let (Some(state), Some(rule)) = (states.get(&orphan.id), rules.iter().find(|rule| rule.task_type == orphan.task_type)) else {
            continue;
        };
        if orphan.received {
            orphan.attempts.push(worker_lost(&orphan.worker, orphan.attempts.len()));
        }
        let change = match state.take_back(orphan.attempts.len(), rule.attempts, now, retention) {
            Back::Waits(change) => {
                wait_again(conn, &orphan).await?;
                back.returned += 1;
                change
            }
            Back::Failed(change) => {
                let last = orphan.attempts.pop();
                let failed = "UPDATE response SET status = 2, errnr = ?, errmsg = ?, attempt = ?, attempts = ?, last_modified_time = ? \
                              WHERE task_id = ? AND endpoint = ?";
                let number = u32::try_from(orphan.attempts.len() + 1).unwrap_or(u32::MAX);
                let failed = sqlx::query(failed).bind(errnr::LOST).bind(last.map(|last| last.errmsg)).bind(number);
                let failed = failed.bind(columns::list(&orphan.attempts)?).bind(micros(now)).bind(orphan.id.0).bind(orphan.worker.as_str());
                failed.execute(&mut *conn).await?;
                change
            }
            Back::Closed(change) => {
                let closed = sqlx::query("UPDATE response SET status = 3, last_modified_time = ? WHERE task_id = ? AND endpoint = ?");
                closed.bind(micros(now)).bind(orphan.id.0).bind(orphan.worker.as_str()).execute(&mut *conn).await?;
                change
            }
        };
        if change.from != change.to {
            back.moved.push((orphan.id, change.to));
        }
        let waits_again = !change.to.is_final();
        write_tasks(conn, vec![(orphan.id, change)]).await?;
        // One of its key that was queued meanwhile has its place.
        if waits_again
            && let Some(unique) = &orphan.unique
            && let Some(newer) = waiting(conn, unique).await?
            && newer != orphan.id
        {
            let state = lock(conn, &[orphan.id]).await?;
            replace(conn, orphan.id, newer, state.get(&orphan.id), now, retention).await?;
        } else if waits_again {
            sqlx::query("UPDATE queued_task SET state = 0 WHERE task_id = ?").bind(orphan.id.0).execute(&mut *conn).await?;
        }
    }
    Ok(back)
}

/// Nobody has it any more; what became of it is kept with the task.
async fn wait_again(conn: &mut SqliteConnection, orphan: &Orphan) -> Result<(), Fault> {
    sqlx::query("DELETE FROM response WHERE task_id = ?").bind(orphan.id.0).execute(&mut *conn).await?;
    let attempts = sqlx::query("UPDATE task SET attempts = ? WHERE id = ?").bind(columns::list(&orphan.attempts)?);
    attempts.bind(orphan.id.0).execute(&mut *conn).await?;
    Ok(())
}

pub(in crate::store) async fn make_ready(conn: &mut SqliteConnection, ids: Arc<[TaskId]>) -> Result<(), Fault> {
    lock(conn, &ids).await?;
    for ids in ids.chunks(batch::KEYS) {
        let mut query = Query::new("UPDATE queued_task SET state = 0 WHERE state = 2 AND task_id IN ");
        push_ids(&mut query, ids);
        query.build().execute(&mut *conn).await?;
        let mut query = Query::new("UPDATE task SET due_at = expires_at WHERE +status = 0 AND id IN ");
        push_ids(&mut query, ids);
        query.build().execute(&mut *conn).await?;
    }
    Ok(())
}

pub(in crate::store) async fn to_succeed(conn: &mut SqliteConnection, task_types: Arc<[TaskType]>) -> Result<Vec<Task>, Fault> {
    if task_types.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = Query::new("SELECT ");
    query.push(TASK).push(
        " FROM queued_task AS q INDEXED BY queued_turn CROSS JOIN task AS t ON t.id = q.task_id WHERE q.state = 4 AND q.task_type IN ",
    );
    push_names(&mut query, task_types.iter().map(TaskType::as_str));
    query.push(" LIMIT ").push_bind(u32::try_from(TURNS).unwrap_or(u32::MAX));
    within_budget(&mut query, conn).await?.iter().map(task).collect()
}

pub(in crate::store) async fn succeeded(
    conn: &mut SqliteConnection,
    ids: Arc<[TaskId]>,
    failed: Arc<[(TaskId, String)]>,
) -> Result<(), Fault> {
    for (id, error) in failed.iter() {
        sqlx::query("UPDATE task SET successor_error = ? WHERE id = ?").bind(error.as_str()).bind(id.0).execute(&mut *conn).await?;
    }
    for ids in ids.chunks(batch::KEYS) {
        let mut query = Query::new("DELETE FROM queued_task WHERE state = 4 AND task_id IN ");
        push_ids(&mut query, ids);
        query.build().execute(&mut *conn).await?;
    }
    Ok(())
}

pub(in crate::store) async fn queues(conn: &mut SqliteConnection, task_types: Arc<[TaskType]>) -> Result<Vec<QueueRecord>, Fault> {
    let mut records: Vec<QueueRecord> = task_types.iter().map(QueueRecord::empty).collect();
    for row in sqlx::query("SELECT task_type, paused_at FROM queue").fetch_all(&mut *conn).await? {
        let name: &str = row.try_get(0)?;
        if let Some(record) = records.iter_mut().find(|record| record.task_type.as_str() == name) {
            record.paused_at = optional_time(&row, 1)?;
        }
    }
    let counts =
        sqlx::query("SELECT task_type, state, COUNT(*), MIN(queued_at) FROM queued_task INDEXED BY queued_turn GROUP BY task_type, state");
    for row in counts.fetch_all(&mut *conn).await? {
        let name: &str = row.try_get(0)?;
        if let Some(record) = records.iter_mut().find(|record| record.task_type.as_str() == name) {
            record.count(row.try_get(1)?, row.try_get::<i64, _>(2)?.unsigned_abs(), time(&row, 3)?);
        }
    }
    Ok(records)
}

pub(in crate::store) async fn pause(conn: &mut SqliteConnection, task_type: TaskType, paused: bool, now: Timestamp) -> Result<bool, Fault> {
    let name = task_type.as_str();
    sqlx::query("INSERT INTO queue (task_type) VALUES (?) ON CONFLICT DO NOTHING").bind(name).execute(&mut *conn).await?;
    let changed = match paused {
        true => sqlx::query("UPDATE queue SET paused_at = ? WHERE paused_at IS NULL AND task_type = ?").bind(micros(now)).bind(name),
        false => sqlx::query("UPDATE queue SET paused_at = NULL WHERE paused_at IS NOT NULL AND task_type = ?").bind(name),
    };
    Ok(changed.execute(&mut *conn).await?.rows_affected() > 0)
}
