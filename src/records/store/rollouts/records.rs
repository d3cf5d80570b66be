//! What is read of rollouts, and what moving them on has done.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::rollout::{
    Breach, EventKind, NewEvent, Refusal, RolloutSettings, RolloutStatus, TargetState, WaveState,
};
use crate::domain::{EndpointName, Json, NewTask, RolloutName, TaskId, TaskType, Timestamp, TokenName};

/// A rollout as the ledger has it.
#[derive(Debug, Clone)]
pub struct RolloutRecord {
    /// Our name for it.
    pub id: Uuid,
    /// The customer's name for it.
    pub identifier: RolloutName,
    /// The type of its tasks.
    pub task_type: TaskType,
    /// Its lane.
    pub lane: String,
    /// What it changes, where that is said.
    pub subject: Option<String>,
    /// When it counts as started among those of its lane, where that is not when it started.
    pub ranks_at: Option<Timestamp>,
    /// What every task carries.
    pub payload: Json,
    /// What holds for the whole of it.
    pub settings: RolloutSettings,
    /// Where it stands.
    pub status: RolloutStatus,
    /// Where it was before it was paused or halted.
    pub resume_to: Option<RolloutStatus>,
    /// Why it does not go on.
    pub reason: Option<String>,
    /// How often it was changed by something else than an answer.
    pub revision: u32,
    /// How many events there are.
    pub events: u32,
    /// How many batches there are.
    pub batches: u32,
    /// Targets that may fail in all.
    pub allowed_failed: Option<u32>,
    /// Targets that may be unreachable in all.
    pub allowed_unreachable: Option<u32>,
    /// With more that are away it does not start.
    pub max_absent: Option<u32>,
    /// The token it was submitted with.
    pub created_by: Option<TokenName>,
    /// The rollout that it repeats for some of its targets.
    pub parent: Option<Uuid>,
    /// When it was recorded.
    pub created: Timestamp,
    /// When it is to start; none when somebody has to say so.
    pub start_at: Option<Timestamp>,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When targets were started last.
    pub admitted_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When it is given up.
    pub expires_at: Timestamp,
    /// Whether what it has changed is to be undone once nothing is in flight.
    pub rolls_back: bool,
    /// The rollout that undoes it.
    pub undone_by: Option<RolloutName>,
    /// Its waves, in their order.
    pub waves: Vec<WaveState>,
}

/// A rollout that has not ended, among those of its lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutOfLane {
    /// The customer's name for it.
    pub identifier: RolloutName,
    /// The type of its tasks.
    pub task_type: TaskType,
    /// Where it stands.
    pub status: RolloutStatus,
    /// What it changes, where that is said.
    pub subject: Option<String>,
}

/// A target as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutTargetRecord {
    /// The place of its wave.
    pub wave: u32,
    /// Its place in the wave.
    pub position: u32,
    /// The endpoint.
    pub endpoint: EndpointName,
    /// Where it stands.
    pub state: TargetState,
    /// Since when.
    pub since: Timestamp,
    /// How often it was started.
    pub round: u32,
    /// The task of the last time.
    pub task_id: Option<TaskId>,
    /// The error number of its handler.
    pub errnr: Option<i32>,
    /// What happened.
    pub note: Option<String>,
    /// Its failure domain.
    pub domain: Option<String>,
}

/// Something that happened to a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutEventRecord {
    /// Its number, from 1 on.
    pub seq: u32,
    /// The revision that the rollout had afterwards.
    pub revision: u32,
    /// When.
    pub time: Timestamp,
    /// What.
    pub kind: EventKind,
    /// Who asked for it; none for what the rollout did by itself.
    pub actor: Option<TokenName>,
    /// The place of the wave it is about.
    pub wave: Option<u32>,
    /// The endpoint it is about.
    pub endpoint: Option<EndpointName>,
    /// More about it.
    pub text: Option<String>,
}

/// An endpoint that a rollout has in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutHold {
    /// In which lane.
    pub lane: String,
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The rollout.
    pub rollout: RolloutName,
    /// Since when.
    pub since: Timestamp,
}

/// The targets that a command is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutPick {
    /// None.
    Nobody,
    /// These.
    Endpoints(Vec<EndpointName>),
    /// All in one of these states, of this wave or of all.
    States(Vec<TargetState>, Option<u32>),
}

/// What recording the batches of rollouts needs to know.
#[derive(Debug, Clone, Copy)]
pub struct RolloutBatches {
    /// Until when the process that records a batch has to publish it before any other may.
    pub lease_until: Timestamp,
    /// How long an ended task is kept.
    pub retention: Duration,
}

/// What moving a rollout on has done.
#[derive(Debug)]
pub struct AdvancedRollout {
    /// The customer's name for it.
    pub identifier: RolloutName,
    /// The type of its tasks.
    pub task_type: TaskType,
    /// The status that it has now, where that is a new one.
    pub moved: Option<RolloutStatus>,
    /// Why, for a breach.
    pub reason: Option<String>,
    /// What stopped it.
    pub breach: Option<Breach>,
    /// How many targets have changed, by the state they have now.
    pub targets: Vec<(TargetState, u64)>,
    /// Tasks that were recorded, whose expected endpoints are frozen.
    pub tasks: Vec<NewTask>,
    /// The task of a try of a probe that was recorded, likewise.
    pub probe: Option<NewTask>,
    /// Tasks that were taken back, each with the endpoints that are to be told.
    pub withdrawn: Vec<(TaskId, Vec<EndpointName>)>,
    /// Tasks that are to be stopped, each with the endpoints that are to be told.
    pub stopped: Vec<(TaskId, Vec<EndpointName>)>,
    /// When the last answer was recorded that ended a wave, where the next one has begun at once.
    pub next_wave_after: Option<Timestamp>,
    /// When to look again; none when it has ended.
    pub due_at: Option<Timestamp>,
}

/// What became of a command.
#[derive(Debug)]
pub enum Commanded {
    /// Done, or it was so already.
    Done {
        /// How many targets it changed.
        moved: usize,
        /// What happened; nothing where it was so already.
        events: Vec<NewEvent>,
    },
    /// Not done.
    Refused(Refusal),
    /// The rollout has another revision.
    Stale(u32),
}
