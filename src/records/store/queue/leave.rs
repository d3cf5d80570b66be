//! Leaving a queue.

use std::collections::HashSet;

use super::state::{QueueEvent, QueueState, Step};
use crate::domain::{TaskId, TaskType};
use crate::store::batch;
use crate::store::fault::Fault;
use crate::store::sql::{Conn, Dialect};

/// Takes ended tasks out of their queues, each with whether it has succeeded; lets others of their keys go
/// on.
pub(in crate::store) async fn leave(conn: &mut Conn<'_>, left: Vec<(TaskId, bool)>) -> Result<(), Fault> {
    let succeeded: HashSet<TaskId> =
        left.iter().filter(|(_, succeeded)| *succeeded).map(|(id, _)| *id).collect();
    let mut ids: Vec<TaskId> = left.into_iter().map(|(id, _)| id).collect();
    ids.sort_unstable();
    for ids in ids.chunks(batch::KEYS) {
        // Most have neither a key nor a successor.
        let mut plain =
            conn.sql("DELETE FROM queued_task WHERE chains = ? AND limit_key IS NULL AND task_id IN ");
        let gone = plain.bind(false).keys(ids).execute().await?;
        if usize::try_from(gone) == Ok(ids.len()) {
            continue;
        }
        let mut rest = conn
            .sql("SELECT task_id, task_type, limit_key, chains, state FROM queued_task WHERE task_id IN ");
        for row in rest.keys(ids).push(" ORDER BY task_id").fetch_all().await? {
            let id: TaskId = row.get(0)?;
            let end = QueueEvent::End { followed: row.get(3)? && succeeded.contains(&id) };
            match QueueState::read(row.get(4)?, id)?.next(end) {
                Step::To(state) => {
                    let mut end =
                        conn.sql("UPDATE queued_task SET state = ?, held_key = NULL WHERE task_id = ?");
                    end.bind(state).bind(id).execute().await?;
                }
                Step::Leaves => {
                    conn.sql("DELETE FROM queued_task WHERE task_id = ?").bind(id).execute().await?;
                }
                Step::Stays => continue,
            }
            if let Some(key) = row.get(2)? {
                release_next(conn, row.get(1)?, key).await?;
            }
        }
    }
    Ok(())
}

/// Lets the best that is held for a key go on. MySQL updates the first row of an order, and may not read the
/// table that it updates; SQLite is made without the former.
async fn release_next(conn: &mut Conn<'_>, task_type: TaskType, key: &[u8]) -> Result<(), Fault> {
    let (dialect, index) = (conn.dialect(), conn.dialect().index("queued_turn"));
    for (held, released) in QueueEvent::Release.moves() {
        let best =
            "task_type = ? AND state = ? AND held_key = ? ORDER BY priority, queued_at, task_id LIMIT 1";
        let set = "UPDATE queued_task SET state = ?, held_key = NULL WHERE";
        let mut release = conn.sql(match dialect {
            Dialect::MySql => format!("{set} {best}"),
            Dialect::Sqlite => {
                format!("{set} task_id = (SELECT task_id FROM queued_task {index} WHERE {best})")
            }
        });
        release.bind(released).bind(&task_type).bind(held).bind(key).execute().await?;
    }
    Ok(())
}
