//! Rollouts: a task type run on a frozen set of endpoints, wave by wave, within budgets.
//!
//! `state` has the states of rollouts, waves and targets with the only functions that change them; `terms`
//! what a document asks for, with all defaults filled in; `plan` the waves that a document makes of a fleet;
//! `view` what is read of a rollout under its lock and what is written; `decide` makes the one of the other,
//! and so does `command` for what somebody asks for.

mod command;
mod decide;
mod plan;
mod state;
mod terms;
mod view;

#[cfg(test)]
mod simulation;

pub use command::{Allow, Asker, Command, Gate, Refusal, command, still_waits};
pub use decide::{ADMITTED, decide};
pub use plan::{Begun, Plan, PlanFault, PlannedDomain, PlannedWave, chosen, plan, replan};
pub use state::{RolloutEvent, RolloutStatus, TargetEvent, TargetState, WavePhase};
pub use terms::{
    Amount, Approval, CatchUp, Healthy, InFlightOnStop, MaintenanceWindow, OnBreach, Order, Own, Part, Probe,
    ProbeOn, Rollback, RollbackOn, RolloutSettings, RolloutTargets, RolloutTerms, Spread, Start, WaveOf,
    WaveTerms,
};
pub use view::{
    Admission, Answered, Breach, Change, Edit, EditedWave, EventKind, Fact, InFlight, NewEvent, Next,
    Presence, ProbeResult, ProbeState, Returned, Slot, TargetMove, View, WaveAnew, WaveChange, WaveCounts,
    WaveState, WavesAnew, Windows, current,
};
