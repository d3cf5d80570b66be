//! Work queues: who waits, whose turn it is, what follows.
//!
//! `state` says how a task moves; `enter`, `give`, `take_back` and `leave` move it. `turns` decides at which
//! worker it is whose turn.

pub(super) mod enter;
pub(super) mod give;
pub(super) mod leave;
mod records;
mod state;
mod take_back;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::batch::{self, sorted};
use super::columns;
use super::fault::Fault;
use super::sql::Conn;
use super::tasks::{TASK, lock, within_budget};
use super::{Operation, Result, Store};
use crate::domain::{Task, TaskId, TaskStatus, TaskType, Timestamp, TokenName};
use state::QueueEvent;
use turns::TURNS;

pub(super) use give::taken;
pub use records::{Given, QueueRecord, QueueRule, TakenBack, Turns};
pub(super) use state::QueueState;

impl Store {
    /// Gives the tasks whose turn it is to workers that have room: a response row for each, and the task is
    /// `SENT`, due at `ask_at`. The best of all types goes first. Bounded; never waits for another process
    /// that does the same.
    pub fn give(&self, rules: &[QueueRule], now: Timestamp, ask_at: Timestamp) -> Operation<'_, Turns> {
        let rules: Arc<[QueueRule]> = rules.into();
        let queues = rules.clone();
        async move {
            if !self.run(move |conn| give::anybody_waits(conn, queues.clone()).boxed()).await? {
                return Ok(Turns::default());
            }
            self.transact(move |conn| give::give(conn, rules.clone(), now, ask_at).boxed()).await
        }
        .boxed()
    }

    /// Takes tasks back from workers that are gone, or are there without the memory of what they had
    /// received: they wait again in their old place, unless that was the last attempt. Bounded.
    pub fn take_back(
        &self,
        rules: &[QueueRule],
        now: Timestamp,
        retention: Duration,
    ) -> Operation<'_, TakenBack> {
        let rules: Arc<[QueueRule]> = rules.into();
        self.transact(move |conn| take_back::take_back(conn, rules.clone(), now, retention).boxed())
    }

    /// Puts delayed tasks whose time has come into line.
    pub fn make_ready(&self, ids: &[TaskId]) -> Operation<'_, ()> {
        let ids = sorted(ids);
        self.transact(move |conn| make_ready(conn, ids.clone()).boxed())
    }

    /// Looks anew at tasks that wait until fewer of their key run: the limits may be others than when they
    /// were held.
    pub fn release_held(&self, task_types: &[TaskType]) -> Operation<'_, ()> {
        let task_types: Arc<[TaskType]> = task_types.into();
        self.transact(move |conn| release_held(conn, task_types.clone()).boxed())
    }

    /// Tasks of these types that have succeeded and whose successor is to be queued, bounded.
    pub fn to_succeed(&self, task_types: &[TaskType]) -> Operation<'_, Vec<Task>> {
        let task_types: Arc<[TaskType]> = task_types.into();
        self.run(move |conn| to_succeed(conn, task_types.clone()).boxed())
    }

    /// Notes that the successors of these tasks have been seen to. Those of `failed`, which are among them,
    /// could not be queued for the reason that stands beside each.
    pub fn succeeded(&self, ids: &[TaskId], failed: &[(TaskId, String)]) -> Operation<'_, ()> {
        let (ids, failed): (_, Arc<[(TaskId, String)]>) = (sorted(ids), failed.into());
        self.transact(move |conn| succeeded(conn, ids.clone(), failed.clone()).boxed())
    }

    /// How the queues of these types stand, in their order. Counts every task that has not ended.
    pub fn queues(&self, task_types: &[TaskType]) -> Operation<'_, Vec<QueueRecord>> {
        let task_types: Arc<[TaskType]> = task_types.into();
        self.run(move |conn| queues(conn, task_types.clone()).boxed())
    }

    /// Stops giving tasks of a type to workers, or goes on. Running ones go on. Notes the token with which
    /// somebody stops it. Answers whether that changed anything.
    pub fn pause(
        &self,
        task_type: &TaskType,
        paused: bool,
        by: Option<&TokenName>,
        now: Timestamp,
    ) -> Operation<'_, bool> {
        let (task_type, by) = (task_type.clone(), by.cloned());
        self.transact(move |conn| pause(conn, task_type.clone(), paused, by.clone(), now).boxed())
    }
}

async fn make_ready(conn: &mut Conn<'_>, ids: Arc<[TaskId]>) -> Result<(), Fault> {
    lock(conn, &ids).await?;
    let by_key = conn.dialect().by_primary_key();
    for ids in ids.chunks(batch::KEYS) {
        for (delayed, ready) in QueueEvent::Due.moves() {
            let mut move_up = conn.sql("UPDATE queued_task SET state = ? WHERE state = ? AND task_id IN ");
            move_up.bind(ready).bind(delayed).keys(ids).execute().await?;
        }
        let mut due =
            conn.sql(format!("UPDATE task {by_key} SET due_at = expires_at WHERE +status = ? AND id IN "));
        due.bind(TaskStatus::Created).keys(ids).execute().await?;
    }
    Ok(())
}

async fn release_held(conn: &mut Conn<'_>, task_types: Arc<[TaskType]>) -> Result<(), Fault> {
    for task_type in task_types.iter() {
        for (held, ready) in QueueEvent::Release.moves() {
            let mut release = conn
                .sql("UPDATE queued_task SET state = ?, held_key = NULL WHERE task_type = ? AND state = ?");
            release.bind(ready).bind(task_type).bind(held).execute().await?;
        }
    }
    Ok(())
}

async fn to_succeed(conn: &mut Conn<'_>, task_types: Arc<[TaskType]>) -> Result<Vec<Task>, Fault> {
    if task_types.is_empty() {
        return Ok(Vec::new());
    }
    let dialect = conn.dialect();
    let (in_order, then, turn) = (dialect.in_order(), dialect.then(), dialect.index("queued_turn"));
    let mut select = conn.sql(format!(
        "SELECT {in_order} {TASK} FROM queued_task AS q {turn} {then} task AS t ON t.id = q.task_id WHERE q.state = ? AND q.task_type IN "
    ));
    select.bind(QueueState::Succeeded).keys(&task_types.iter().collect::<Vec<_>>());
    select.push(" LIMIT ?").bind(u32::try_from(TURNS).unwrap_or(u32::MAX));
    within_budget(&mut select, batch::READ_BYTES, |task, _| Ok(task)).await
}

async fn succeeded(
    conn: &mut Conn<'_>,
    ids: Arc<[TaskId]>,
    failed: Arc<[(TaskId, String)]>,
) -> Result<(), Fault> {
    for (id, error) in failed.iter() {
        conn.sql("UPDATE task SET successor_error = ? WHERE id = ?")
            .bind(error.as_str())
            .bind(*id)
            .execute()
            .await?;
    }
    for ids in ids.chunks(batch::KEYS) {
        for state in QueueEvent::Follow.removes() {
            conn.sql("DELETE FROM queued_task WHERE state = ? AND task_id IN ")
                .bind(state)
                .keys(ids)
                .execute()
                .await?;
        }
    }
    Ok(())
}

async fn queues(conn: &mut Conn<'_>, task_types: Arc<[TaskType]>) -> Result<Vec<QueueRecord>, Fault> {
    let mut records: Vec<QueueRecord> = task_types.iter().map(QueueRecord::empty).collect();
    for row in conn.sql("SELECT task_type, paused_at, paused_by FROM queue").fetch_all().await? {
        let name: &str = row.get(0)?;
        if let Some(record) = records.iter_mut().find(|record| record.task_type.as_str() == name) {
            record.paused_at = row.get(1)?;
            record.paused_by = columns::optional_name(row.get(2)?, || "queue, column paused_by".to_owned())?;
        }
    }
    let turn = conn.dialect().index("queued_turn");
    let mut counts = conn.sql(format!(
        "SELECT task_type, state, COUNT(*), MIN(queued_at) FROM queued_task {turn} GROUP BY task_type, state"
    ));
    for row in counts.fetch_all().await? {
        let name: &str = row.get(0)?;
        if let Some(record) = records.iter_mut().find(|record| record.task_type.as_str() == name) {
            record.count(
                QueueState::read(row.get(1)?, format!("of type {name}"))?,
                row.count(2)?,
                row.get(3)?,
            );
        }
    }
    Ok(records)
}

async fn pause(
    conn: &mut Conn<'_>,
    task_type: TaskType,
    paused: bool,
    by: Option<TokenName>,
    now: Timestamp,
) -> Result<bool, Fault> {
    let mut insert = conn.insert("queue");
    insert.row().set("task_type", &task_type);
    insert.if_new().await?;
    let mut change = conn.sql(match paused {
        true => "UPDATE queue SET paused_at = ?, paused_by = ? WHERE paused_at IS NULL AND task_type = ?",
        false => {
            "UPDATE queue SET paused_at = ?, paused_by = ? WHERE paused_at IS NOT NULL AND task_type = ?"
        }
    });
    let by = by.as_ref().filter(|_| paused).map(TokenName::as_str);
    Ok(change.bind(paused.then_some(now)).bind(by).bind(&task_type).execute().await? > 0)
}
