//! Rollouts: their waves, targets, events and holds. `records` has what is read and written, `rows` reads it,
//! `create` records a rollout with its waves and targets, `read` serves clients, `look` reads what a pass
//! needs, `probe` what it needs of probes, `lane` what it needs of the others of its lane, `advance` moves
//! rollouts on, `write` writes a change, `rollback` records the rollout that undoes one, `census` adds up,
//! `forget` forgets.
//!
//! Only the holder of a rollout's row lock changes its rows in the other tables. It inserts tasks and locks
//! none that is there: so the order of locks is rows of rollouts first, then those of holds.

mod advance;
mod anew;
mod census;
mod create;
mod forget;
mod lane;
mod look;
mod probe;
mod read;
mod records;
mod rollback;
mod rows;
mod write;

pub use advance::RolloutDecision;
pub use census::{RolloutCensus, RolloutCensusQuery, RolloutFlaw};
pub use create::{NewRollout, RolloutRecorded};
pub use read::{RolloutQuery, RolloutTargetQuery};
pub use records::{
    AdvancedRollout, Commanded, RolloutBatches, RolloutEventRecord, RolloutHold, RolloutOfLane, RolloutPick,
    RolloutRecord, RolloutTargetRecord,
};
