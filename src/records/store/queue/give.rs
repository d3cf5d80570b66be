//! Giving tasks to workers.
//!
//! Locks of queue rows are taken after those of their task rows, except by [`give`], which waits for nobody:
//! it skips what others have locked.

use std::collections::HashMap;
use std::sync::Arc;

use super::records::{Given, QueueRule, Turns};
use super::state::{QueueEvent, QueueState};
use super::turns::{Allowance, Candidate, TURNS, Turn, Worker, at_once, demand, plan};
use crate::domain::{EndpointName, NewTask, TaskId, TaskType, Timestamp};
use crate::store::batch;
use crate::store::columns::payload_key;
use crate::store::fault::Fault;
use crate::store::responses::expect;
use crate::store::sql::{Conn, Statement};
use crate::store::subscription::SubscriptionState;
use crate::store::tasks::{self, TASK, all_of, lock, within_budget};

/// Gives new tasks that are not recorded yet to workers that have room, if nobody waits before them: they are
/// recorded as given, which spares them the way through the queue. All others wait until it is their turn,
/// see [`give`].
pub(in crate::store) async fn give_at_once(
    conn: &mut Conn<'_>,
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
pub(super) async fn anybody_waits(conn: &mut Conn<'_>, rules: Arc<[QueueRule]>) -> Result<bool, Fault> {
    if rules.is_empty() {
        return Ok(false);
    }
    let mut select = conn.sql("");
    Ok(ready(&mut select, &types(&rules)).push(" LIMIT 1").fetch_optional().await?.is_some())
}

/// Goes on with the question for tasks of these types that only wait for a worker with room.
fn ready<'s, 'c>(select: &'s mut Statement<'c>, types: &[&TaskType]) -> &'s mut Statement<'c> {
    let index = select.dialect().index("queued_turn");
    select.push(&format!(
        "SELECT 1 FROM queued_task {index} WHERE state = ? AND held_key IS NULL AND task_type IN "
    ));
    select.bind(QueueState::Ready).keys(types)
}

fn types(rules: &[QueueRule]) -> Vec<&TaskType> {
    rules.iter().map(|rule| &rule.task_type).collect()
}

pub(super) async fn give(
    conn: &mut Conn<'_>,
    rules: Arc<[QueueRule]>,
    now: Timestamp,
    ask_at: Timestamp,
) -> Result<Turns, Fault> {
    let workers = workers(conn, &rules, Turn::Waiting).await?;
    let dialect = conn.dialect();
    let (in_order, then, lock_free) = (dialect.in_order(), dialect.then(), dialect.locked_unless_taken());
    let (turn, by_key) = (dialect.index("queued_turn"), dialect.by_primary_key());
    let (mut candidates, mut tasks, mut allowances, mut full) =
        (Vec::new(), HashMap::new(), HashMap::new(), false);
    for (rule, room) in demand(&rules, &workers, TURNS) {
        let Some(allowance) = allowance(conn, rule).await? else { continue };
        let mut select = conn.sql(format!(
            "SELECT {in_order} {TASK}, q.queued_at, q.limit_key FROM queued_task AS q {turn} {then} task AS t {by_key} ON t.id = q.task_id \
             WHERE q.task_type = ? AND q.state = ? AND q.held_key IS NULL ORDER BY q.priority, q.queued_at, q.task_id LIMIT ? {lock_free}"
        ));
        select.bind(&rule.task_type).bind(QueueState::Ready).bind(u32::try_from(room).unwrap_or(u32::MAX));
        let found = within_budget(&mut select, batch::READ_BYTES, |task, cells| {
            let queued_at = cells.take()?;
            let limit_key = payload_key(cells.take()?, "limit_key")?;
            Ok((Candidate::of(&task, queued_at, limit_key), task))
        });
        let found = found.await?;
        full |= found.len() == room;
        for (candidate, task) in found {
            candidates.push(candidate);
            tasks.insert(task.id, task);
        }
        allowances.insert(rule.task_type.clone(), allowance);
    }
    let plan = plan(candidates, workers, allowances, now);
    let more = full && !(plan.given.is_empty() && plan.held.is_empty() && plan.expired.is_empty());
    advance(conn, QueueEvent::Hold, &plan.held).await?;
    let mut given: Vec<(TaskId, EndpointName)> = plan.given;
    given.sort_unstable();
    let ids: Vec<TaskId> = given.iter().map(|(id, _)| *id).collect();
    // Locked already, with its queue row.
    let states = lock(conn, &ids).await?;
    let changes: HashMap<TaskId, _> = states
        .iter()
        .filter_map(|(id, state)| Some((*id, state.give(now, ask_at.min(state.expires_at))?)))
        .collect();
    given.retain(|(id, _)| changes.contains_key(id));
    let ids: Vec<TaskId> = given.iter().map(|(id, _)| *id).collect();
    advance(conn, QueueEvent::Give, &ids).await?;
    let rows: Vec<_> = given.iter().map(|(id, worker)| (*id, worker)).collect();
    expect(conn, &rows, now).await?;
    tasks::write(conn, changes.into_iter().collect()).await?;
    let given = given
        .into_iter()
        .filter_map(|(id, worker)| Some(Given { task: tasks.remove(&id)?, worker }))
        .collect();
    Ok(Turns { given, expired: plan.expired, more })
}

/// Moves tasks whose turn it was, and whose queue rows are locked since they were found ready.
async fn advance(conn: &mut Conn<'_>, event: QueueEvent, ids: &[TaskId]) -> Result<(), Fault> {
    for (from, to) in event.moves() {
        for ids in ids.chunks(batch::KEYS) {
            let held_key = if to == QueueState::Held { "limit_key" } else { "NULL" };
            let mut advance = conn.sql(format!(
                "UPDATE queued_task SET state = ?, held_key = {held_key} WHERE state = ? AND task_id IN "
            ));
            let moved = advance.bind(to).bind(from).keys(ids).execute().await?;
            all_of(moved, ids, "a task was taken out of the line by another although its place was locked")?;
        }
    }
    Ok(())
}

/// The workers that are there, with the room they have. Their subscriptions stay locked, so that nobody else
/// fills the same room. Those whose room somebody else is filling are left out if it is the turn of new
/// tasks, which may wait as well; otherwise they are waited for. What they have is counted by a statement of
/// its own, or it would be as of before the wait.
async fn workers(conn: &mut Conn<'_>, rules: &[QueueRule], turn: Turn) -> Result<Vec<Worker>, Fault> {
    if rules.is_empty() {
        return Ok(Vec::new());
    }
    let types = types(rules);
    let dialect = conn.dialect();
    let subscriptions = dialect.index("subscription_type");
    let mut select = conn.sql(format!(
        "SELECT s.endpoint, s.task_type, s.slots FROM subscription AS s {subscriptions} \
         WHERE s.state = ? AND s.slots > 0 AND s.trouble IS NULL AND s.task_type IN "
    ));
    select.bind(SubscriptionState::Online).keys(&types);
    if turn == Turn::AtOnce {
        select.push(
            " AND NOT EXISTS (SELECT 1 FROM queue AS p WHERE p.task_type = s.task_type AND p.paused_at IS NOT NULL) AND NOT EXISTS (",
        );
        ready(&mut select, &types).push(")");
    }
    select.push(" ORDER BY s.endpoint, s.task_type ");
    select.push(if turn == Turn::AtOnce { dialect.locked_unless_taken() } else { dialect.locked() });
    let mut workers: Vec<Worker> = Vec::new();
    for row in select.fetch_all().await? {
        let (name, task_type) = (row.get(0)?, row.get(1)?);
        match workers.last_mut() {
            Some(worker) if worker.name == name => worker.task_types.push(task_type),
            _ => workers.push(Worker { name, task_types: vec![task_type], room: row.get(2)? }),
        }
    }
    for workers in workers.chunks_mut(batch::KEYS) {
        let taken = taken(conn, &workers.iter().map(|worker| &worker.name).collect::<Vec<_>>()).await?;
        for worker in workers {
            worker.room = worker.room.saturating_sub(taken.get(&worker.name).copied().unwrap_or_default());
        }
    }
    workers.retain(|worker| worker.room > 0);
    Ok(workers)
}

/// How many tasks each of these workers has, of all types together. No more than [`batch::KEYS`] at once.
pub(in crate::store) async fn taken(
    conn: &mut Conn<'_>,
    workers: &[&EndpointName],
) -> Result<HashMap<EndpointName, u32>, Fault> {
    let dialect = conn.dialect();
    let (in_order, then, by_key) = (dialect.in_order(), dialect.then(), dialect.by_primary_key());
    let (owed, owed_by) = (dialect.index("response_owed"), dialect.owed_by());
    let mut select = conn.sql(format!(
        "SELECT {in_order} r.endpoint, COUNT(*) FROM response AS r {owed} {then} queued_task AS q {by_key} ON q.task_id = r.task_id \
         WHERE {owed_by} IN "
    ));
    let rows = select.keys(workers).push(" GROUP BY r.endpoint").fetch_all().await?;
    rows.iter().map(|row| Ok((row.get(0)?, u32::try_from(row.count(1)?).unwrap_or(u32::MAX)))).collect()
}

/// How many more of a type may run; none when its queue is paused, or another process is giving out what is
/// limited.
async fn allowance(conn: &mut Conn<'_>, rule: &QueueRule) -> Result<Option<Allowance>, Fault> {
    let limited = rule.max_running.is_some() || rule.max_per_key.is_some();
    let mut allowance =
        Allowance { of_type: rule.max_running, of_key: rule.max_per_key, running: HashMap::new() };
    if !limited {
        let mut paused = conn.sql("SELECT 1 FROM queue WHERE paused_at IS NOT NULL AND task_type = ?");
        let paused = paused.bind(&rule.task_type).fetch_optional().await?.is_some();
        return Ok((!paused).then_some(allowance));
    }
    let mut insert = conn.insert("queue");
    insert.row().set("task_type", &rule.task_type);
    insert.if_new().await?;
    // Two that count at the same time would each fill the same room.
    let lock_free = conn.dialect().locked_unless_taken();
    let mut mine =
        conn.sql(format!("SELECT paused_at IS NOT NULL FROM queue WHERE task_type = ? {lock_free}"));
    match mine.bind(&rule.task_type).fetch_optional().await? {
        Some(row) if !row.get::<bool>(0)? => {}
        _ => return Ok(None),
    }
    let turn = conn.dialect().index("queued_turn");
    let mut running =
        conn.sql(format!("SELECT limit_key, COUNT(*) FROM queued_task {turn} WHERE task_type = ? AND state = ? GROUP BY limit_key"));
    for row in running.bind(&rule.task_type).bind(QueueState::Given).fetch_all().await? {
        let count = u32::try_from(row.count(1)?).unwrap_or(u32::MAX);
        allowance.of_type = allowance.of_type.map(|left| left.saturating_sub(count));
        if let Some(key) = payload_key(row.get(0)?, "limit_key")? {
            allowance.running.insert(key, count);
        }
    }
    Ok(Some(allowance))
}
