//! What clients read of rollouts.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use uuid::Uuid;

use super::records::{RolloutEventRecord, RolloutHold, RolloutRecord, RolloutTargetRecord};
use super::rows::{EVENT, ROLLOUT, TARGET, event, rollout, target, wave, wave_columns};
use crate::domain::rollout::{EventKind, RolloutStatus, TargetState, WavePhase};
use crate::domain::{EndpointName, Json, RolloutName, Timestamp};
use crate::store::columns::{self, sha256};
use crate::store::fault::Fault;
use crate::store::read::LIST_BYTES;
use crate::store::sql::{Conn, Row};
use crate::store::{Operation, Result, Store, batch};

/// Which rollouts.
#[derive(Debug, Clone, Default)]
pub struct RolloutQuery {
    /// Only these states; empty means all.
    pub status: Vec<RolloutStatus>,
    /// Only those that come after this one in the list: the cursor.
    pub before: Option<Uuid>,
    /// At most this many, 1 to 1000.
    pub limit: u32,
}

/// Which targets of a rollout.
#[derive(Debug, Clone, Default)]
pub struct RolloutTargetQuery {
    /// Only these states; empty means all.
    pub states: Vec<TargetState>,
    /// Only those of this wave.
    pub wave: Option<u32>,
    /// Only those that come after this one: the cursor.
    pub after: Option<(u32, u32)>,
    /// At most this many, 1 to 1000.
    pub limit: u32,
}

impl Store {
    /// The rollout of this identifier, with its waves.
    pub fn rollout(&self, identifier: &RolloutName) -> Operation<'_, Option<RolloutRecord>> {
        let identifier = identifier.clone();
        self.run(move |conn| find(conn, identifier.clone()).boxed())
    }

    /// The id of the rollout of this identifier, and the digest of what it was made of.
    pub fn rollout_digest(&self, identifier: &RolloutName) -> Operation<'_, Option<(Uuid, [u8; 32])>> {
        let identifier = identifier.clone();
        self.run(move |conn| digest_of(conn, identifier.clone()).boxed())
    }

    /// What the rollout of this id was made of.
    pub fn rollout_document(&self, id: Uuid) -> Operation<'_, Option<Json>> {
        self.run(move |conn| document(conn, id).boxed())
    }

    /// Rollouts, newest first, with their waves, and whether more may follow. At most `limit`, fewer where
    /// their payloads are long.
    pub fn rollouts(&self, query: &RolloutQuery) -> Operation<'_, (Vec<RolloutRecord>, bool)> {
        let query = Arc::new(query.clone());
        self.run(move |conn| list(conn, query.clone()).boxed())
    }

    /// Targets of a rollout, in the order of their turns.
    pub fn rollout_targets(
        &self,
        id: Uuid,
        query: &RolloutTargetQuery,
    ) -> Operation<'_, Vec<RolloutTargetRecord>> {
        let query = Arc::new(query.clone());
        self.run(move |conn| targets(conn, id, query.clone()).boxed())
    }

    /// Events of a rollout after this number, oldest first.
    pub fn rollout_events(&self, id: Uuid, after: u32, limit: u32) -> Operation<'_, Vec<RolloutEventRecord>> {
        self.run(move |conn| events(conn, id, after, limit).boxed())
    }

    /// Endpoints that rollouts have in flight, by lane and name, after a cursor.
    pub fn rollout_holds(
        &self,
        after: Option<(String, EndpointName)>,
        limit: u32,
    ) -> Operation<'_, Vec<RolloutHold>> {
        self.run(move |conn| holds(conn, after.clone(), limit).boxed())
    }

    /// Lets other rollouts of the lane have an endpoint. Answers whether it was held.
    pub fn free_rollout_hold(&self, lane: &str, endpoint: &EndpointName) -> Operation<'_, bool> {
        let (lane, endpoint): (Arc<str>, _) = (lane.into(), endpoint.clone());
        self.transact(move |conn| free(conn, lane.clone(), endpoint.clone()).boxed())
    }

    /// How many endpoints rollouts have in flight.
    pub fn count_rollout_holds(&self) -> Operation<'_, u64> {
        self.run(|conn| count_holds(conn).boxed())
    }

    /// What rollouts wait for, each with the time since when the first of them does.
    pub fn rollout_waits(&self) -> Operation<'_, [(&'static str, Option<Timestamp>); 3]> {
        self.run(|conn| waits(conn).boxed())
    }

    /// How many rollouts are in each state that is not final.
    pub fn open_rollouts(&self) -> Operation<'_, Vec<(RolloutStatus, u64)>> {
        self.run(|conn| open(conn).boxed())
    }
}

/// The id and the digest of the rollout of an identifier.
pub(super) async fn digest_of(
    conn: &mut Conn<'_>,
    identifier: RolloutName,
) -> Result<Option<(Uuid, [u8; 32])>, Fault> {
    let found = conn
        .sql("SELECT id, digest FROM rollout WHERE identifier = ?")
        .bind(identifier.as_str())
        .fetch_optional()
        .await?;
    let Some(row) = found else { return Ok(None) };
    let id: Uuid = row.get(0)?;
    Ok(Some((id, sha256(row.get(1)?, || format!("rollout {id}, column digest"))?)))
}

async fn find(conn: &mut Conn<'_>, identifier: RolloutName) -> Result<Option<RolloutRecord>, Fault> {
    let mut select = conn.sql(format!("SELECT {ROLLOUT} FROM rollout AS o WHERE o.identifier = ?"));
    let Some(row) = select.bind(identifier.as_str()).fetch_optional().await? else { return Ok(None) };
    with_waves(conn, &row).await.map(Some)
}

pub(super) async fn document(conn: &mut Conn<'_>, id: Uuid) -> Result<Option<Json>, Fault> {
    let found = conn.sql("SELECT document FROM rollout WHERE id = ?").bind(id).fetch_optional().await?;
    let read = |row: &Row| Ok(columns::json(row.get(0)?, || format!("rollout {id}, column document"))?);
    found.as_ref().map(read).transpose()
}

/// The rollout of a row, with its waves.
pub(super) async fn with_waves(conn: &mut Conn<'_>, row: &Row) -> Result<RolloutRecord, Fault> {
    let mut found = [rollout(row)?];
    add_waves(conn, &mut found).await?;
    let [found] = found;
    Ok(found)
}

/// Reads the waves of rollouts.
async fn add_waves(conn: &mut Conn<'_>, rollouts: &mut [RolloutRecord]) -> Result<(), Fault> {
    let ids: Vec<Uuid> = rollouts.iter().map(|rollout| rollout.id).collect();
    let mut waves: HashMap<Uuid, Vec<_>> = HashMap::new();
    for ids in ids.chunks(batch::KEYS) {
        let mut select =
            conn.sql(format!("SELECT {} FROM rollout_wave AS w WHERE w.rollout IN ", wave_columns()));
        for row in select.keys(ids).push(" ORDER BY w.rollout, w.wave").fetch_all().await? {
            let (rollout, state) = wave(&row)?;
            waves.entry(rollout).or_default().push(state);
        }
    }
    for rollout in rollouts {
        rollout.waves = waves.remove(&rollout.id).unwrap_or_default();
    }
    Ok(())
}

async fn list(conn: &mut Conn<'_>, query: Arc<RolloutQuery>) -> Result<(Vec<RolloutRecord>, bool), Fault> {
    let mut select = conn.sql(format!("SELECT {ROLLOUT} FROM rollout AS o WHERE 1 = 1"));
    if !query.status.is_empty() {
        let codes: Vec<u8> = query.status.iter().map(|status| status.code()).collect();
        select.push(" AND o.status IN ").keys(&codes);
    }
    if let Some(before) = query.before {
        select.push(" AND o.id < ?").bind(before);
    }
    select.push(" ORDER BY o.id DESC LIMIT ?").bind(query.limit);
    let read = |row: &Row| rollout(row).map(|rollout| (rollout.payload.get().len(), rollout));
    let rows = select
        .fetch_within(LIST_BYTES, |row| read(row).map(|(bytes, rollout)| ((bytes, rollout), bytes)))
        .await?;
    let full = rows.len() >= usize::try_from(query.limit).unwrap_or(usize::MAX);
    let bytes: usize = rows.iter().map(|(bytes, _)| bytes).sum();
    let mut rollouts: Vec<RolloutRecord> = rows.into_iter().map(|(_, rollout)| rollout).collect();
    add_waves(conn, &mut rollouts).await?;
    Ok((rollouts, full || bytes >= LIST_BYTES))
}

async fn targets(
    conn: &mut Conn<'_>,
    id: Uuid,
    query: Arc<RolloutTargetQuery>,
) -> Result<Vec<RolloutTargetRecord>, Fault> {
    let mut select = conn.sql(format!("SELECT {TARGET} FROM rollout_target AS t WHERE t.rollout = ?"));
    select.bind(id);
    if !query.states.is_empty() {
        let codes: Vec<u8> = query.states.iter().map(|state| state.code()).collect();
        select.push(" AND t.state IN ").keys(&codes);
    }
    if let Some(wave) = query.wave {
        select.push(" AND t.wave = ?").bind(wave);
    }
    if let Some((wave, position)) = query.after {
        select
            .push(" AND (t.wave > ? OR (t.wave = ? AND t.position > ?))")
            .bind(wave)
            .bind(wave)
            .bind(position);
    }
    let rows = select.push(" ORDER BY t.wave, t.position LIMIT ?").bind(query.limit).fetch_all().await?;
    rows.iter().map(target).collect()
}

async fn events(
    conn: &mut Conn<'_>,
    id: Uuid,
    after: u32,
    limit: u32,
) -> Result<Vec<RolloutEventRecord>, Fault> {
    let mut select = conn.sql(format!(
        "SELECT {EVENT} FROM rollout_event AS v WHERE v.rollout = ? AND v.seq > ? ORDER BY v.seq LIMIT ?"
    ));
    select.bind(id).bind(after).bind(limit).fetch_all().await?.iter().map(event).collect()
}

async fn holds(
    conn: &mut Conn<'_>,
    after: Option<(String, EndpointName)>,
    limit: u32,
) -> Result<Vec<RolloutHold>, Fault> {
    let (lane, endpoint) =
        after.map_or_else(Default::default, |(lane, endpoint)| (lane, endpoint.as_str().to_owned()));
    let mut select = conn.sql(
        "SELECT h.lane, h.endpoint, o.identifier, h.since FROM rollout_hold AS h JOIN rollout AS o ON o.id = h.rollout \
         WHERE h.lane > ? OR (h.lane = ? AND h.endpoint > ?) ORDER BY h.lane, h.endpoint LIMIT ?",
    );
    let rows = select
        .bind(lane.as_str())
        .bind(lane.as_str())
        .bind(endpoint.as_str())
        .bind(limit)
        .fetch_all()
        .await?;
    let hold = |row: &Row| {
        let rollout = columns::name(row.get(2)?, || "rollout, column identifier".to_owned())?;
        Ok(RolloutHold { lane: row.get(0)?, endpoint: row.get(1)?, rollout, since: row.get::<Timestamp>(3)? })
    };
    rows.iter().map(hold).collect()
}

async fn free(conn: &mut Conn<'_>, lane: Arc<str>, endpoint: EndpointName) -> Result<bool, Fault> {
    let mut delete = conn.sql("DELETE FROM rollout_hold WHERE lane = ? AND endpoint = ?");
    Ok(delete.bind(&*lane).bind(&endpoint).execute().await? > 0)
}

async fn count_holds(conn: &mut Conn<'_>) -> Result<u64, Fault> {
    conn.sql("SELECT COUNT(*) FROM rollout_hold").fetch_one().await?.count(0)
}

async fn waits(conn: &mut Conn<'_>) -> Result<[(&'static str, Option<Timestamp>); 3], Fault> {
    let index = conn.dialect().index("rollout_status");
    let mut since = [None; 2];
    for (since, phase) in since.iter_mut().zip([WavePhase::Waiting, WavePhase::Soaking]) {
        // The turn of a wave that has no time has not come.
        let mut select = conn.sql(format!(
            "SELECT MIN(w.since) FROM rollout AS o {index} JOIN rollout_wave AS w ON w.rollout = o.id WHERE o.status = ? AND w.phase = ?"
        ));
        *since = select.bind(RolloutStatus::Running.code()).bind(phase.code()).fetch_one().await?.get(0)?;
    }
    let mut select = conn.sql(format!(
        "SELECT MAX(v.time) AS since FROM rollout AS o {index} JOIN rollout_event AS v ON v.rollout = o.id AND v.kind IN (?, ?) \
         WHERE o.status = ? GROUP BY o.id ORDER BY since LIMIT 1"
    ));
    select
        .bind(EventKind::Breached.code())
        .bind(EventKind::Refused.code())
        .bind(RolloutStatus::Halted.code());
    let halted = select.fetch_optional().await?.map(|row| row.get(0)).transpose()?;
    let [approval, soak] = since;
    Ok([("approval", approval), ("soak", soak), ("halted", halted)])
}

async fn open(conn: &mut Conn<'_>) -> Result<Vec<(RolloutStatus, u64)>, Fault> {
    let index = conn.dialect().index("rollout_status");
    let mut counts = Vec::new();
    for status in RolloutStatus::ALL.into_iter().filter(|status| !status.is_final()) {
        let mut count = conn.sql(format!("SELECT COUNT(*) FROM rollout {index} WHERE status = ?"));
        counts.push((status, count.bind(status.code()).fetch_one().await?.count(0)?));
    }
    Ok(counts)
}
