//! Tasks that a filter means, in the order in which they were accepted.
//!
//! Walks along the key of state and type, so many rows at a time, however few of them are meant: a question
//! never takes long, and who asks goes on until enough were found.

use std::collections::HashSet;
use std::sync::Arc;

use futures::FutureExt;

use super::batch;
use super::fault::Fault;
use super::sql::Conn;
use super::window::{ids_from, ids_until};
use super::{Operation, Result, Store};
use crate::domain::{Identifier, TaskId, TaskStatus, TaskType, Timestamp};

/// Rows that are looked at in one question.
const ROWS: u32 = 2000;

/// Which tasks are meant.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// Of this type.
    pub task_type: TaskType,
    /// In this state.
    pub status: TaskStatus,
    /// Only identifiers that begin so.
    pub identifier_prefix: Option<String>,
    /// Only tasks accepted at or after this.
    pub since: Option<Timestamp>,
    /// Only tasks accepted before this.
    pub until: Option<Timestamp>,
    /// Only those that an endpoint has finished with an error.
    pub failed: bool,
    /// Whether also those whose place another task has taken.
    pub replaced: bool,
}

/// What a step of the walk has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Tasks that are meant, oldest first.
    pub ids: Vec<TaskId>,
    /// Where to go on; none at the end.
    pub next: Option<TaskId>,
}

impl Store {
    /// The next tasks, after this one, that were meant at a time: open ones that had been accepted by then,
    /// others that had ended.
    pub fn sweep(&self, sweep: &Sweep, as_of: Timestamp, after: Option<TaskId>) -> Operation<'_, Swept> {
        let sweep = Arc::new(sweep.clone());
        self.run(move |conn| step(conn, sweep.clone(), as_of, after).boxed())
    }

    /// Which of these identifiers tasks of a type have.
    pub fn taken_identifiers(
        &self,
        task_type: &TaskType,
        identifiers: &[Identifier],
    ) -> Operation<'_, HashSet<Identifier>> {
        let (task_type, identifiers): (_, Arc<[Identifier]>) = (task_type.clone(), identifiers.into());
        self.run(move |conn| taken_identifiers(conn, task_type.clone(), identifiers.clone()).boxed())
    }
}

async fn step(
    conn: &mut Conn<'_>,
    sweep: Arc<Sweep>,
    as_of: Timestamp,
    after: Option<TaskId>,
) -> Result<Swept, Fault> {
    let index = conn.dialect().index("task_state");
    let mut select = conn.sql(format!(
        "SELECT t.id, t.identifier, t.start_time, t.failed, t.replaced_by IS NOT NULL, t.finished_at FROM task AS t {index} \
         WHERE t.status = ? AND t.task_type = ?"
    ));
    select.bind(sweep.status).bind(&sweep.task_type);
    if let Some(after) = after {
        select.push(" AND t.id > ?").bind(after);
    }
    if let Some(since) = sweep.since {
        select.push(" AND t.id >= ?").bind(ids_from(since));
    }
    if let Some(until) = sweep.until {
        select.push(" AND t.id < ?").bind(ids_until(until));
    }
    let rows = select.push(" ORDER BY t.id LIMIT ?").bind(ROWS).fetch_all().await?;
    let full = rows.len() >= ROWS as usize;
    let (mut ids, mut next) = (Vec::new(), None);
    for row in &rows {
        let (id, identifier, start_time): (TaskId, &[u8], Timestamp) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        let (failed, replaced, finished_at): (u32, bool, Option<Timestamp>) =
            (row.get(3)?, row.get(4)?, row.get(5)?);
        let meant_since =
            if sweep.status.is_final() { finished_at.unwrap_or(start_time) } else { start_time };
        next = Some(id);
        let meant =
            sweep.identifier_prefix.as_ref().is_none_or(|prefix| identifier.starts_with(prefix.as_bytes()))
                && sweep.since.is_none_or(|since| start_time >= since)
                && sweep.until.is_none_or(|until| start_time < until)
                && meant_since <= as_of
                && (failed > 0 || !sweep.failed)
                && (!replaced || sweep.replaced);
        if meant {
            ids.push(id);
        }
    }
    Ok(Swept { ids, next: next.filter(|_| full) })
}

/// Which of these identifiers tasks of a type have.
pub(super) async fn taken_identifiers(
    conn: &mut Conn<'_>,
    task_type: TaskType,
    identifiers: Arc<[Identifier]>,
) -> Result<HashSet<Identifier>, Fault> {
    let mut taken = HashSet::new();
    for some in identifiers.chunks(batch::KEYS) {
        let mut select =
            conn.sql("SELECT t.id, t.identifier FROM task AS t WHERE t.task_type = ? AND t.identifier IN ");
        select
            .bind(&task_type)
            .keys(&some.iter().map(|identifier| identifier.as_str().as_bytes()).collect::<Vec<_>>());
        for row in select.fetch_all().await? {
            taken.insert(super::tasks::identifier(row.get(1)?, row.get(0)?)?);
        }
    }
    Ok(taken)
}
