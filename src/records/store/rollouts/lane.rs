//! The other rollouts of a lane. Of the rollouts of one subject, the newest that has started an endpoint has the
//! last word there. A rollback counts as started when the rollout that it undoes was started. A rerun counts as
//! new.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use uuid::Uuid;

use super::records::{RolloutOfLane, RolloutRecord};
use super::rows::{BY_NAME, rollout_status};
use crate::domain::rollout::{RolloutStatus, TargetState};
use crate::domain::{EndpointName, RolloutName, Timestamp};
use crate::store::columns::name;
use crate::store::fault::Fault;
use crate::store::sql::{Conn, Row, Statement};
use crate::store::{Operation, Result, Store, batch};

/// Open rollouts of a lane that are read at most.
const OPEN: u32 = 100;

impl Store {
    /// Rollouts of a lane that have not ended, oldest first, at most 100.
    pub fn rollouts_of_lane(&self, lane: &str) -> Operation<'_, Vec<RolloutOfLane>> {
        let lane: Arc<str> = lane.into();
        self.run(move |conn| of_lane(conn, lane.clone()).boxed())
    }
}

async fn of_lane(conn: &mut Conn<'_>, lane: Arc<str>) -> Result<Vec<RolloutOfLane>, Fault> {
    let index = conn.dialect().index("rollout_status");
    let open: Vec<u8> =
        RolloutStatus::ALL.into_iter().filter(|one| !one.is_final()).map(RolloutStatus::code).collect();
    let mut select = conn.sql(format!(
        "SELECT identifier, task_type, status, subject FROM rollout {index} WHERE lane = ? AND status IN "
    ));
    select.bind(&*lane).keys(&open).push(" ORDER BY id LIMIT ?").bind(OPEN);
    let one = |row: &Row| {
        let identifier: RolloutName = name(row.get(0)?, || "rollout, column identifier".to_owned())?;
        let status = rollout_status(row.get(2)?, || format!("rollout {identifier}, column status"))?;
        Ok(RolloutOfLane { identifier, task_type: row.get(1)?, status, subject: row.get(3)? })
    };
    select.fetch_all().await?.iter().map(one).collect()
}

/// When a rollout counts as started; none before it starts.
pub(super) fn rank(rollout: &RolloutRecord) -> Option<Timestamp> {
    rollout.ranks_at.or(rollout.started_at)
}

/// Whether a newer rollout of the lane has begun; where this one has a subject, one of that subject.
pub(super) async fn has_newer(conn: &mut Conn<'_>, rollout: &RolloutRecord) -> Result<bool, Fault> {
    let Some(mut select) = select_newer(conn, rollout) else { return Ok(false) };
    if let Some(subject) = &rollout.subject {
        select.push(" AND subject = ?").bind(subject.as_str());
    }
    Ok(select.push(" LIMIT 1").fetch_optional().await?.is_some())
}

/// Those of some endpoints that newer rollouts of the same subject have started, each with the newest of
/// these.
pub(super) async fn started_by_newer(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    mut names: Vec<&EndpointName>,
) -> Result<HashMap<EndpointName, RolloutName>, Fault> {
    let (mut found, by_name) = (HashMap::new(), conn.dialect().index(BY_NAME));
    names.sort_unstable();
    for (newer, identifier) in newer(conn, rollout).await? {
        names.retain(|name| !found.contains_key(*name));
        for names in names.chunks(batch::KEYS) {
            let mut select = conn.sql(format!(
                "SELECT endpoint FROM rollout_target {by_name} WHERE rollout = ? AND (changed = 1 OR state = ?) AND endpoint IN "
            ));
            for row in select.bind(newer).bind(TargetState::Sent.code()).keys(names).fetch_all().await? {
                found.insert(row.get(0)?, identifier.clone());
            }
        }
    }
    Ok(found)
}

/// The rollouts of the same subject that have begun after one, newest first.
async fn newer(conn: &mut Conn<'_>, rollout: &RolloutRecord) -> Result<Vec<(Uuid, RolloutName)>, Fault> {
    let Some(subject) = &rollout.subject else { return Ok(Vec::new()) };
    let Some(mut select) = select_newer(conn, rollout) else { return Ok(Vec::new()) };
    select
        .push(" AND subject = ?")
        .bind(subject.as_str())
        .push(" ORDER BY COALESCE(ranks_at, started_at) DESC");
    let one = |row: &Row| Ok((row.get(0)?, name(row.get(1)?, || "rollout, column identifier".to_owned())?));
    select.fetch_all().await?.iter().map(one).collect()
}

/// Begins to select the rollouts of the lane that count as started after one.
fn select_newer<'c>(conn: &'c mut Conn<'_>, rollout: &RolloutRecord) -> Option<Statement<'c>> {
    let rank = rank(rollout)?;
    let index = conn.dialect().index("rollout_lane");
    let mut select = conn.sql(format!(
        "SELECT id, identifier FROM rollout {index} WHERE lane = ? AND started_at > ? AND (ranks_at IS NULL OR ranks_at > ?)"
    ));
    select.bind(rollout.lane.as_str()).bind(rank).bind(rank);
    Some(select)
}
