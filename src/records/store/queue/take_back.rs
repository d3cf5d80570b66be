//! Taking tasks back from workers that are gone.

use std::sync::Arc;
use std::time::Duration;

use super::enter::{replace, waiting};
use super::records::{QueueRule, TakenBack};
use super::state::{QueueEvent, QueueState};
use super::turns::{Orphan, TURNS};
use crate::domain::{FinalAnswer, Ignored, ResponseStatus, TaskId, TaskType, Timestamp, UniqueKey, errnr};
use crate::store::columns::{self, payload_key};
use crate::store::fault::Fault;
use crate::store::ledger::{Back, worker_lost};
use crate::store::responses::ENDED;
use crate::store::sql::{Conn, Row};
use crate::store::subscription::SubscriptionState;
use crate::store::tasks::{self, all_of, lock};

pub(super) async fn take_back(
    conn: &mut Conn<'_>,
    rules: Arc<[QueueRule]>,
    now: Timestamp,
    retention: Duration,
) -> Result<TakenBack, Fault> {
    let mut ids: Vec<TaskId> =
        orphans(conn, &rules, None).await?.into_iter().map(|orphan| orphan.id).collect();
    ids.sort_unstable();
    if ids.is_empty() {
        return Ok(TakenBack::default());
    }
    let states = lock(conn, &ids).await?;
    let mut back = TakenBack::default();
    for mut orphan in orphans(conn, &rules, Some(&ids)).await? {
        let (Some(state), Some(rule)) =
            (states.get(&orphan.id), rules.iter().find(|rule| rule.task_type == orphan.task_type))
        else {
            continue;
        };
        if orphan.may_have_begun() {
            orphan.attempts.push(worker_lost(&orphan.worker, orphan.received, orphan.attempts.len()));
        }
        let change = match state.take_back(orphan.attempts.len(), rule.attempts, now, retention) {
            Back::Waits(change) => {
                wait_again(conn, &orphan).await?;
                back.returned += 1;
                change
            }
            Back::Failed(change) => {
                fail(conn, &mut orphan, now).await?;
                change
            }
            Back::Closed(change) => {
                let mut close =
                    conn.sql("UPDATE response SET status = ?, last_modified_time = ? WHERE task_id = ? AND endpoint = ? AND +status < ?");
                let closed = close
                    .bind(ResponseStatus::Canceled)
                    .bind(now)
                    .bind(orphan.id)
                    .bind(&orphan.worker)
                    .bind(ENDED)
                    .execute()
                    .await?;
                all_of(closed, &[orphan.id], "the response of a lost worker has ended meanwhile")?;
                change
            }
        };
        if change.from != change.to {
            back.moved.push((orphan.id, change.to));
            back.ended.extend(state.ended(&change));
        }
        let waits_again = !change.to.is_final();
        tasks::write(conn, vec![(orphan.id, change)]).await?;
        if !waits_again {
            continue;
        }
        // One of its key that was queued meanwhile has its place.
        let newer = match &orphan.unique {
            Some(unique) => waiting(conn, unique).await?.filter(|newer| *newer != orphan.id),
            None => None,
        };
        match newer {
            Some(newer) => {
                let tasks = lock(conn, &[orphan.id]).await?;
                let Some(state) = tasks.get(&orphan.id) else { continue };
                if let Some(change) = replace(conn, orphan.id, newer, Some(state), now, retention).await? {
                    back.returned -= 1;
                    back.moved.push((orphan.id, change.to));
                    back.ended.extend(state.ended(&change));
                }
            }
            None => return_to_line(conn, orphan.id).await?,
        }
    }
    Ok(back)
}

/// Responses of queued tasks whose worker is gone, or has come back without the memory of them.
async fn orphans(
    conn: &mut Conn<'_>,
    rules: &[QueueRule],
    of: Option<&[TaskId]>,
) -> Result<Vec<Orphan>, Fault> {
    if rules.is_empty() {
        return Ok(Vec::new());
    }
    let dialect = conn.dialect();
    let (in_order, then, same) = (dialect.in_order(), dialect.then(), dialect.same());
    let (turn, by_key) = (dialect.index("queued_turn"), dialect.by_primary_key());
    let mut select = conn.sql(format!(
        "SELECT {in_order} q.task_id, q.task_type, r.endpoint, r.home IS NOT NULL, t.attempts, q.unique_scope, q.unique_key, s.state \
         FROM queued_task AS q {turn} {then} response AS r {by_key} ON r.task_id = q.task_id \
         JOIN task AS t ON t.id = q.task_id LEFT JOIN subscription AS s ON s.endpoint = r.endpoint AND s.task_type = q.task_type \
         WHERE q.state = ? AND +r.status < ? \
         AND (s.state IS NULL OR s.state <> ? OR (r.home IS NOT NULL AND NOT (s.home {same} r.home))) AND q.task_type IN "
    ));
    select.bind(QueueState::Given).bind(ENDED).bind(SubscriptionState::Online);
    select.keys(&rules.iter().map(|rule| &rule.task_type).collect::<Vec<&TaskType>>());
    if let Some(ids) = of {
        select.push(" AND q.task_id IN ").keys(ids);
    }
    select.push(" ORDER BY q.task_id LIMIT ?").bind(u32::try_from(TURNS).unwrap_or(u32::MAX));
    select.fetch_all().await?.iter().map(orphan).collect()
}

fn orphan(row: &Row) -> Result<Orphan, Fault> {
    let id: TaskId = row.get(0)?;
    let unique = row.get::<Option<String>>(5)?.zip(payload_key(row.get(6)?, "unique_key")?);
    Ok(Orphan {
        id,
        task_type: row.get(1)?,
        worker: row.get(2)?,
        received: row.get(3)?,
        left: row.get::<Option<u8>>(7)? == Some(SubscriptionState::Left.code()),
        attempts: columns::attempts(row.get(4)?, || format!("task {id}, column attempts"))?,
        unique: unique.map(|(scope, key)| UniqueKey { scope, key }),
    })
}

/// That was its last attempt: the response tells of it.
async fn fail(conn: &mut Conn<'_>, orphan: &mut Orphan, now: Timestamp) -> Result<(), Fault> {
    let errmsg = orphan.attempts.pop().map(|last| last.errmsg).unwrap_or_default();
    let answer =
        FinalAnswer { endpoint: orphan.worker.as_str(), errnr: errnr::LOST, errmsg: &errmsg, payload: None };
    let digest = answer.digest(&Ignored::default());
    let number = u32::try_from(orphan.attempts.len() + 1).unwrap_or(u32::MAX);
    let mut fail = conn.sql(
        "UPDATE response SET status = ?, errnr = ?, errmsg = ?, answer = ?, attempt = ?, attempts = ?, last_modified_time = ? \
         WHERE task_id = ? AND endpoint = ? AND +status < ?",
    );
    fail.bind(ResponseStatus::Finished).bind(errnr::LOST).bind(errmsg.as_str()).bind(digest).bind(number);
    fail.bind(columns::list(&orphan.attempts)?).bind(now).bind(orphan.id).bind(&orphan.worker).bind(ENDED);
    all_of(fail.execute().await?, &[orphan.id], "the response of a lost worker has ended meanwhile")
}

/// Nobody has it any more; what became of it is kept with the task.
async fn wait_again(conn: &mut Conn<'_>, orphan: &Orphan) -> Result<(), Fault> {
    conn.sql("DELETE FROM response WHERE task_id = ?").bind(orphan.id).execute().await?;
    let mut keep = conn.sql("UPDATE task SET attempts = ? WHERE id = ?");
    keep.bind(columns::list(&orphan.attempts)?).bind(orphan.id).execute().await?;
    Ok(())
}

async fn return_to_line(conn: &mut Conn<'_>, id: TaskId) -> Result<(), Fault> {
    for (given, ready) in QueueEvent::Return.moves() {
        let mut back = conn.sql("UPDATE queued_task SET state = ? WHERE state = ? AND task_id = ?");
        let moved = back.bind(ready).bind(given).bind(id).execute().await?;
        all_of(moved, &[id], "a task of a lost worker has left its queue meanwhile")?;
    }
    Ok(())
}
