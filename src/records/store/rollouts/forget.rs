//! Forgetting rollouts that have ended.

use futures::FutureExt;
use uuid::Uuid;

use crate::domain::Timestamp;
use crate::store::fault::Fault;
use crate::store::sql::Conn;
use crate::store::{Operation, Result, Store};

/// The tables with the rows of a rollout, beside its own.
const TABLES: [&str; 4] = ["rollout_wave", "rollout_target", "rollout_event", "rollout_hold"];

impl Store {
    /// Forgets a rollout that ended before a time, with its waves, targets and events, all in one
    /// transaction. Answers whether there was one.
    pub fn forget_rollout(&self, before: Timestamp) -> Operation<'_, bool> {
        self.transact(move |conn| forget(conn, before).boxed())
    }
}

async fn forget(conn: &mut Conn<'_>, before: Timestamp) -> Result<bool, Fault> {
    let index = conn.dialect().index("rollout_ended");
    // Kept while an older rollout of the subject is open: that one has to know which endpoints this one has
    // started.
    let mut select = conn.sql(format!(
        "SELECT o.id FROM rollout AS o {index} WHERE o.ended_at < ? AND NOT EXISTS (SELECT 1 FROM rollout AS p \
         WHERE p.lane = o.lane AND p.subject = o.subject AND p.ended_at IS NULL AND COALESCE(p.ranks_at, p.started_at) < o.started_at) \
         ORDER BY o.ended_at LIMIT 1"
    ));
    let Some(row) = select.bind(before).fetch_optional().await? else { return Ok(false) };
    let id: Uuid = row.get(0)?;
    // Its own row first: another process that forgets it too waits here, and then finds nothing.
    if conn.sql("DELETE FROM rollout WHERE id = ?").bind(id).execute().await? == 0 {
        return Ok(true);
    }
    for table in TABLES {
        conn.sql(format!("DELETE FROM {table} WHERE rollout = ?")).bind(id).execute().await?;
    }
    Ok(true)
}
