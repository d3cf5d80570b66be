//! The other rollouts of a lane: what has begun later does not give way to what began before.

use std::collections::HashSet;

use uuid::Uuid;

use super::records::RolloutRecord;
use super::rows::BY_NAME;
use crate::domain::EndpointName;
use crate::store::batch;
use crate::store::fault::Fault;
use crate::store::sql::Conn;

/// Whether a newer rollout of the lane has begun.
pub(super) async fn has_newer(conn: &mut Conn<'_>, rollout: &RolloutRecord) -> Result<bool, Fault> {
    let Some(started) = rollout.started_at else { return Ok(false) };
    let index = conn.dialect().index("rollout_lane");
    let mut select =
        conn.sql(format!("SELECT id FROM rollout {index} WHERE lane = ? AND started_at > ? LIMIT 1"));
    Ok(select.bind(rollout.lane.as_str()).bind(started).fetch_optional().await?.is_some())
}

/// Those of some endpoints that newer rollouts of the lane, of the same type, have changed. Other types of a
/// lane change other things.
pub(super) async fn changed_since(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    names: Vec<&EndpointName>,
) -> Result<HashSet<EndpointName>, Fault> {
    let index = conn.dialect().index(BY_NAME);
    let mut found = HashSet::new();
    for newer in newer_of_type(conn, rollout).await? {
        for names in names.chunks(batch::KEYS) {
            let mut select = conn.sql(format!(
                "SELECT endpoint FROM rollout_target {index} WHERE rollout = ? AND changed = 1 AND endpoint IN "
            ));
            for row in select.bind(newer).keys(names).fetch_all().await? {
                found.insert(row.get(0)?);
            }
        }
    }
    Ok(found)
}

/// The rollouts of the lane and of the same type that have begun after one.
async fn newer_of_type(conn: &mut Conn<'_>, rollout: &RolloutRecord) -> Result<Vec<Uuid>, Fault> {
    let Some(started) = rollout.started_at else { return Ok(Vec::new()) };
    let index = conn.dialect().index("rollout_lane");
    let mut select = conn
        .sql(format!("SELECT id FROM rollout {index} WHERE lane = ? AND started_at > ? AND task_type = ?"));
    select.bind(rollout.lane.as_str()).bind(started).bind(&rollout.task_type);
    select.fetch_all().await?.iter().map(|row| row.get(0)).collect()
}
