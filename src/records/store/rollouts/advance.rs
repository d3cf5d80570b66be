//! Moving rollouts on: by what is read of them, and by what somebody asks for.

use std::sync::Arc;

use futures::FutureExt;
use uuid::Uuid;

use super::look;
use super::read::with_waves;
use super::records::{AdvancedRollout, Commanded, RolloutBatches, RolloutPick, RolloutRecord};
use super::rows::ROLLOUT;
use super::write::write;
use crate::domain::Timestamp;
use crate::domain::rollout::{Asker, Change, Command, Refusal, View, command};
use crate::store::fault::Fault;
use crate::store::sql::Conn;
use crate::store::{Operation, Result, Store};

/// Decides the changes of a rollout from what is read of it.
pub type RolloutDecision = dyn Fn(View) -> Change + Send + Sync;

impl Store {
    /// Rollouts that are to be looked at, the longest overdue first.
    pub fn due_rollouts(&self, now: Timestamp, limit: u32) -> Operation<'_, Vec<Uuid>> {
        self.run(move |conn| due(conn, now, limit).boxed())
    }

    /// Moves a rollout on as the decision says of what is read while its row is locked, in one transaction:
    /// outcomes, waves, and the next batch with its frozen endpoints. None when another process has locked
    /// it, or it has ended.
    pub fn advance_rollout(
        &self,
        id: Uuid,
        decide: Arc<RolloutDecision>,
        batches: RolloutBatches,
        now: Timestamp,
    ) -> Operation<'_, Option<AdvancedRollout>> {
        self.transact(move |conn| advance(conn, id, decide.clone(), batches, now).boxed())
    }

    /// Does what somebody asks of a rollout. None when there is none.
    pub fn command_rollout(
        &self,
        id: Uuid,
        asked: Command,
        pick: RolloutPick,
        revision: Option<u32>,
        by: Option<Asker>,
        now: Timestamp,
    ) -> Operation<'_, Option<Commanded>> {
        let asked = Arc::new((asked, pick, by));
        self.transact(move |conn| apply(conn, id, asked.clone(), revision, now).boxed())
    }
}

async fn due(conn: &mut Conn<'_>, now: Timestamp, limit: u32) -> Result<Vec<Uuid>, Fault> {
    let index = conn.dialect().index("rollout_due");
    let mut select =
        conn.sql(format!("SELECT id FROM rollout {index} WHERE due_at <= ? ORDER BY due_at LIMIT ?"));
    select.bind(now).bind(limit).fetch_all().await?.iter().map(|row| row.get(0)).collect()
}

/// Locks a rollout and reads it with its waves.
async fn lock(conn: &mut Conn<'_>, id: Uuid, how: &'static str) -> Result<Option<RolloutRecord>, Fault> {
    let mut select = conn.sql(format!("SELECT {ROLLOUT} FROM rollout AS o WHERE o.id = ? {how}"));
    let Some(row) = select.bind(id).fetch_optional().await? else { return Ok(None) };
    with_waves(conn, &row).await.map(Some)
}

async fn advance(
    conn: &mut Conn<'_>,
    id: Uuid,
    decide: Arc<RolloutDecision>,
    batches: RolloutBatches,
    now: Timestamp,
) -> Result<Option<AdvancedRollout>, Fault> {
    let unless_taken = conn.dialect().locked_unless_taken();
    let Some(rollout) = lock(conn, id, unless_taken).await? else { return Ok(None) };
    if rollout.status.is_final() {
        return Ok(None);
    }
    let view = look::view(conn, &rollout, now).await?;
    let answered_at = view.in_flight.iter().filter_map(|target| target.answered_at).max();
    let change = decide(view);
    let next_wave = change.begins_next_wave();
    let advanced = write(conn, &rollout, change, None, Some(batches), now).await?;
    Ok(Some(AdvancedRollout { next_wave_after: answered_at.filter(|_| next_wave), ..advanced }))
}

async fn apply(
    conn: &mut Conn<'_>,
    id: Uuid,
    asked: Arc<(Command, RolloutPick, Option<Asker>)>,
    revision: Option<u32>,
    now: Timestamp,
) -> Result<Option<Commanded>, Fault> {
    let (asked, pick, by) = &*asked;
    let waiting = conn.dialect().locked();
    let Some(rollout) = lock(conn, id, waiting).await? else { return Ok(None) };
    if revision.is_some_and(|revision| revision != rollout.revision) {
        return Ok(Some(Commanded::Stale(rollout.revision)));
    }
    let view = look::without_targets(conn, &rollout, matches!(asked, Command::Start)).await?;
    let picked = look::picked(conn, &rollout, pick).await?;
    Ok(Some(match command(&view, asked, &picked, by.as_ref(), now) {
        Err(Refusal::Nothing(text)) => {
            let why = look::left_out(conn, &rollout, pick).await?;
            Commanded::Refused(Refusal::Nothing(why.unwrap_or(text)))
        }
        Err(refusal) => Commanded::Refused(refusal),
        Ok(None) => Commanded::Done { moved: 0, events: Vec::new() },
        Ok(Some(change)) => {
            let (moved, events) = (change.moves.len(), change.events.clone());
            write(conn, &rollout, change, by.as_ref().map(|by| &by.name), None, now).await?;
            Commanded::Done { moved, events }
        }
    }))
}
