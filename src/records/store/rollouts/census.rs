//! Adds up rollouts: each moved on or waiting for somebody, its waves with the counts of their targets.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use uuid::Uuid;

use super::rows::{COUNTS, rollout_status, target_state};
use crate::domain::rollout::{RolloutStatus, TargetState};
use crate::domain::{RolloutName, Timestamp};
use crate::store::columns::name;
use crate::store::fault::Fault;
use crate::store::sql::{Conn, Row};
use crate::store::{Operation, Result, Store};

/// Flaws told in full of one page; the others are counted.
const FLAWS: usize = 20;

/// The sums of some rollouts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RolloutCensus {
    /// Rollouts that were recorded.
    pub accepted: u64,
    /// Of these, those that add up.
    pub accounted: u64,
    /// The others.
    pub missing: u64,
    /// Rollouts that have not ended.
    pub open: u64,
    /// What is wrong; the first 20.
    pub flaws: Vec<RolloutFlaw>,
    /// Where to go on; none at the end.
    pub next: Option<Uuid>,
}

/// What is wrong with a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutFlaw {
    /// The rollout.
    pub rollout: RolloutName,
    /// For people.
    pub reason: String,
}

/// Which rollouts to add up.
#[derive(Debug, Clone, Default)]
pub struct RolloutCensusQuery {
    /// Only those recorded at or after this time.
    pub since: Option<Timestamp>,
    /// Only those recorded before this time.
    pub until: Option<Timestamp>,
    /// Only those that come after this one: the cursor.
    pub after: Option<Uuid>,
    /// At most this many, 1 to 1000.
    pub limit: u32,
}

impl Store {
    /// Adds up rollouts, the oldest first.
    pub fn rollout_census(&self, query: &RolloutCensusQuery) -> Operation<'_, RolloutCensus> {
        let query = Arc::new(query.clone());
        self.transact(move |conn| census(conn, query.clone()).boxed())
    }
}

async fn census(conn: &mut Conn<'_>, query: Arc<RolloutCensusQuery>) -> Result<RolloutCensus, Fault> {
    let mut select = conn.sql(
        "SELECT o.id, o.identifier, o.status, o.due_at, (SELECT COUNT(*) FROM rollout_hold AS h WHERE h.rollout = o.id) FROM rollout AS o \
         WHERE o.id > ?",
    );
    select.bind(query.after.unwrap_or(Uuid::nil()));
    if let Some(since) = query.since {
        select.push(" AND o.created >= ?").bind(since);
    }
    if let Some(until) = query.until {
        select.push(" AND o.created < ?").bind(until);
    }
    let rows = select.push(" ORDER BY o.id LIMIT ?").bind(query.limit).fetch_all().await?;
    let mut census = RolloutCensus::default();
    for row in &rows {
        let id: Uuid = row.get(0)?;
        let rollout: RolloutName = name(row.get(1)?, || format!("rollout {id}, column identifier"))?;
        let status = rollout_status(row.get(2)?, || format!("rollout {id}, column status"))?;
        let mut reasons: Vec<String> = state_flaw(status, row.get(3)?, row.count(4)?).into_iter().collect();
        let mut waves = wave_flaws(conn, id).await?;
        if !waves.is_empty() {
            // Waves and targets are read one after the other, and it may have moved in between.
            let lock = conn.dialect().locked();
            let mut locked = conn.sql(format!("SELECT id FROM rollout WHERE id = ? {lock}"));
            locked.bind(id).fetch_optional().await?;
            waves = wave_flaws(conn, id).await?;
        }
        reasons.extend(waves);
        census.accepted += 1;
        census.open += u64::from(!status.is_final());
        census.accounted += u64::from(reasons.is_empty());
        census.missing += u64::from(!reasons.is_empty());
        let room = FLAWS.saturating_sub(census.flaws.len());
        census.flaws.extend(
            reasons.into_iter().take(room).map(|reason| RolloutFlaw { rollout: rollout.clone(), reason }),
        );
        census.next = Some(id);
    }
    if rows.len() < usize::try_from(query.limit).unwrap_or(usize::MAX) {
        census.next = None;
    }
    Ok(census)
}

/// What is wrong with a rollout apart from its waves.
fn state_flaw(status: RolloutStatus, due_at: Option<Timestamp>, holds: u64) -> Option<String> {
    let word = status.as_str();
    match (status.is_final(), due_at, holds) {
        (true, Some(due), _) => Some(format!("is {word} and is to be looked at again at {due}")),
        (true, None, 1..) => Some(format!("is {word} and holds {holds} endpoints")),
        (false, None, _) => Some(format!("is {word} and is not looked at again")),
        _ => None,
    }
}

/// Waves whose counts are not those of their targets.
async fn wave_flaws(conn: &mut Conn<'_>, id: Uuid) -> Result<Vec<String>, Fault> {
    let mut counted: HashMap<(u32, TargetState), u32> = HashMap::new();
    let mut select =
        conn.sql("SELECT wave, state, COUNT(*) FROM rollout_target WHERE rollout = ? GROUP BY wave, state");
    for row in select.bind(id).fetch_all().await? {
        counted.insert(
            (row.get(0)?, target_state(row.get(1)?)?),
            u32::try_from(row.count(2)?).unwrap_or(u32::MAX),
        );
    }
    let mut select = conn
        .sql(format!("SELECT wave, {} FROM rollout_wave WHERE rollout = ? ORDER BY wave", COUNTS.join(", ")));
    let mut flaws = Vec::new();
    for wave in select.bind(id).fetch_all().await? {
        flaws.extend(wave_flaw(&wave, &counted)?);
    }
    Ok(flaws)
}

fn wave_flaw(row: &Row, counted: &HashMap<(u32, TargetState), u32>) -> Result<Vec<String>, Fault> {
    let wave: u32 = row.get(0)?;
    let mut flaws = Vec::new();
    for (at, state) in TargetState::ALL.into_iter().enumerate() {
        let (said, there): (u32, u32) =
            (row.get(at + 1)?, counted.get(&(wave, state)).copied().unwrap_or_default());
        if said != there {
            flaws.push(format!(
                "wave {} counts {said} endpoints as {}; there are {there}",
                wave + 1,
                state.as_str()
            ));
        }
    }
    Ok(flaws)
}
