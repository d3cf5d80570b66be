//! Recounts the targets of rollouts.

use futures::FutureExt;
use uuid::Uuid;

use super::rows::{COUNTS, target_state};
use crate::domain::RolloutName;
use crate::domain::rollout::{TargetState, WaveCounts};
use crate::store::columns::name;
use crate::store::fault::Fault;
use crate::store::sql::Conn;
use crate::store::{Result, Store};

/// A wave whose counts are not those of its targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutCensus {
    /// The rollout.
    pub rollout: RolloutName,
    /// The place of the wave.
    pub wave: u32,
    /// A state that is counted wrongly.
    pub state: TargetState,
    /// What the wave says.
    pub said: u32,
    /// How many there are.
    pub counted: u32,
}

impl Store {
    /// The rollouts after this one whose waves are to be recounted, so many at most, with what is wrong with them and the last of them.
    pub async fn recount_rollouts(&self, after: Option<Uuid>, limit: u32) -> Result<(Vec<RolloutCensus>, Option<Uuid>)> {
        self.transact(move |conn| recount(conn, after, limit).boxed()).await
    }
}

async fn recount(conn: &mut Conn<'_>, after: Option<Uuid>, limit: u32) -> Result<(Vec<RolloutCensus>, Option<Uuid>), Fault> {
    let mut select = conn.sql("SELECT id, identifier FROM rollout WHERE id > ? ORDER BY id LIMIT ?");
    let rows = select.bind(after.unwrap_or(Uuid::nil())).bind(limit).fetch_all().await?;
    let (mut wrong, mut last) = (Vec::new(), None);
    for row in &rows {
        let id: Uuid = row.get(0)?;
        let rollout: RolloutName = name(row.get(1)?, || format!("rollout {id}, column identifier"))?;
        last = Some(id);
        let mut said = conn.sql(format!("SELECT wave, {} FROM rollout_wave WHERE rollout = ? ORDER BY wave", COUNTS.join(", ")));
        let said = said.bind(id).fetch_all().await?;
        let mut counted = conn.sql("SELECT wave, state, COUNT(*) FROM rollout_target WHERE rollout = ? GROUP BY wave, state");
        let counted = counted.bind(id).fetch_all().await?;
        for wave in &said {
            let number: u32 = wave.get(0)?;
            let mut told = [0; TargetState::ALL.len()];
            for (at, told) in told.iter_mut().enumerate() {
                *told = wave.get(at + 1)?;
            }
            let told = WaveCounts::of(told);
            for state in TargetState::ALL {
                let mut there = 0;
                for row in &counted {
                    if row.get::<u32>(0)? == number && target_state(row.get(1)?)? == state {
                        there = u32::try_from(row.count(2)?).unwrap_or(u32::MAX);
                    }
                }
                if told.get(state) != there {
                    let said = told.get(state);
                    wrong.push(RolloutCensus { rollout: rollout.clone(), wave: number, state, said, counted: there });
                }
            }
        }
    }
    Ok((wrong, last))
}
