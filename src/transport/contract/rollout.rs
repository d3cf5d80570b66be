//! Rollouts: changing a fleet in waves.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::rollout::{EventKind, RollbackOn, RolloutStatus, TargetState, WaveCounts, WavePhase};
use crate::domain::{EndpointName, Json, RolloutName, TaskId, TaskType, Timestamp};

/// What a rollout does, on whom, and what must hold. `docs/rollouts.md` explains every member.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RolloutDocument {
    /// Your name for it. The same document again under it answers 200.
    pub identifier: RolloutName,
    /// A task type without a work queue.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// What every endpoint is told; 64 KiB at most.
    #[schema(value_type = serde_json::Value, required = false)]
    pub payload: Option<Json>,
    /// An endpoint is in flight in one rollout of a lane at a time. By default the type.
    #[schema(required = false)]
    pub lane: Option<String>,
    /// What the rollout changes. Once a newer rollout of the same lane and subject has started an endpoint, older
    /// ones do not start that endpoint any more. Without a subject they may.
    #[schema(required = false, example = "web")]
    pub subject: Option<String>,
    /// Whom it is for: `endpoints`, `match`, `exclude`, `percent`, `order`, `seed`, `max`, `max_absent`. By
    /// default all that are known for the type.
    #[schema(value_type = serde_json::Value, required = false)]
    pub targets: Option<Value>,
    /// How endpoints in flight are spread over failure domains: `by` (labels), `max_in_flight` (of one
    /// domain). By default not at all.
    #[schema(value_type = serde_json::Value, required = false)]
    pub spread: Option<Value>,
    /// Its waves: sizes (`1`, `5%`, `rest`), or objects with `name`, `size` or `endpoints` or `match`, and
    /// members that differ from the whole. By default 1, 5%, 25%, rest.
    #[schema(value_type = Vec<serde_json::Value>, required = false, max_items = 100)]
    pub waves: Option<Vec<Value>>,
    /// Endpoints of a wave in flight at the same time: a number or a percentage. By default 100.
    #[schema(value_type = serde_json::Value, required = false)]
    pub window: Option<Value>,
    /// The time in which an endpoint must receive its task. By default that of the type.
    #[schema(required = false, example = "30s")]
    pub receive_within: Option<String>,
    /// The time in which it must finish then. By default as long as the type allows.
    #[schema(required = false, example = "1h")]
    pub finish_within: Option<String>,
    /// What an endpoint must show after success: `stays`, `within`, `match`.
    #[schema(value_type = serde_json::Value, required = false)]
    pub healthy: Option<Value>,
    /// Endpoints that may fail or be unreachable: `wave` and `total`, each with `failed` and `unreachable`.
    #[schema(value_type = serde_json::Value, required = false)]
    pub budget: Option<Value>,
    /// How long to wait after a wave. By default not at all.
    #[schema(required = false, example = "30m")]
    pub soak: Option<String>,
    /// What is tried after a wave and its soak time: `type`, `payload`, `on`, `ok`, `expect`, `passes`,
    /// `tries`, `every`. By default nothing.
    #[schema(value_type = serde_json::Value, required = false)]
    pub probe: Option<Value>,
    /// Who must agree before a wave begins: `before`, `count`, `from`, `not_creator`, `within`, `else`.
    #[schema(value_type = serde_json::Value, required = false)]
    pub approval: Option<Value>,
    /// When endpoints may be started: `cron`, `for`, `time_zone`, `stop_before_end`.
    #[schema(value_type = Vec<serde_json::Value>, required = false, max_items = 16)]
    pub windows: Option<Vec<Value>>,
    /// What a breach of a budget does: `halt`, `abort` or `rollback`.
    #[schema(required = false, example = "halt")]
    pub on_breach: Option<String>,
    /// What becomes of what has started when the rollout stops: `finish` or `stop`.
    #[schema(required = false, example = "finish")]
    pub in_flight: Option<String>,
    /// How endpoints are rolled back: `type`, `payload`, `on`, `window`, `receive_within`, `finish_within`,
    /// `healthy`.
    #[schema(value_type = serde_json::Value, required = false)]
    pub rollback: Option<Value>,
    /// What becomes of endpoints that come back late: `latest`, `run` or `skip`.
    #[schema(required = false, example = "latest")]
    pub catch_up: Option<String>,
    /// For how long they are waited for. By default 24 h.
    #[schema(required = false, example = "24h")]
    pub catch_up_for: Option<String>,
    /// `now`, `manual` or a time.
    #[schema(required = false, example = "now")]
    pub start_at: Option<String>,
    /// After how long it is given up. By default 30 d.
    #[schema(required = false, example = "30d")]
    pub expires_after: Option<String>,
}

/// What a document would do to the fleet as it is now.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RolloutPlan {
    /// The identifier of the document.
    pub identifier: RolloutName,
    /// Its type.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Its lane.
    pub lane: String,
    /// What it changes; null when its document does not say.
    #[serde(default)]
    #[schema(required = true)]
    pub subject: Option<String>,
    /// How many endpoints it is for.
    pub size: u32,
    /// How many of them are away now.
    pub absent: u32,
    /// With more it does not start; null for any number.
    #[schema(required = true)]
    pub max_absent: Option<u32>,
    /// Endpoints that may fail in all; null for any number.
    #[schema(required = true)]
    pub allowed_failed: Option<u32>,
    /// Endpoints that may be unreachable in all; null for any number.
    #[schema(required = true)]
    pub allowed_unreachable: Option<u32>,
    /// When the next maintenance window opens; null without windows, or inside of one.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub next_window: Option<Timestamp>,
    /// Its waves.
    pub waves: Vec<RolloutPlanWave>,
    /// The failure domains of `spread`, by name; none without it.
    #[serde(default)]
    pub domains: Vec<RolloutPlanDomain>,
    /// What to look at before it is submitted, such as an exclusion that excludes no endpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub warnings: Vec<String>,
}

/// A failure domain of a plan.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RolloutPlanDomain {
    /// Its labels with their values.
    #[schema(example = "rack=r12")]
    pub domain: String,
    /// How many endpoints it has.
    pub size: u32,
    /// How many of them may be in flight at the same time; null for any number.
    #[schema(required = true)]
    pub max_in_flight: Option<u32>,
}

/// A wave of a plan.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RolloutPlanWave {
    /// Its number, from 1 on.
    pub wave: u32,
    /// What it is called.
    #[schema(required = true)]
    pub name: Option<String>,
    /// How many endpoints it has.
    pub size: u32,
    /// How many of them are away now.
    pub absent: u32,
    /// Endpoints in flight at the same time.
    pub window: u32,
    /// Endpoints that may fail; null for any number.
    #[schema(required = true)]
    pub allowed_failed: Option<u32>,
    /// Endpoints that may be unreachable; null for any number.
    #[schema(required = true)]
    pub allowed_unreachable: Option<u32>,
    /// What the rollout waits for before the wave or after it, in words.
    pub gates: Vec<String>,
    /// Its endpoints, in the order of their turns.
    pub endpoints: Vec<EndpointName>,
}

/// How many endpoints are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolloutCounts {
    /// Their turn has not come.
    pub pending: u32,
    /// A task was sent to them.
    pub sent: u32,
    /// They have succeeded, and are to show that they are healthy.
    pub verifying: u32,
    /// They have succeeded.
    pub ok: u32,
    /// They have failed.
    pub failed: u32,
    /// They did not receive their task in time.
    pub unreachable: u32,
    /// They were away when their turn came.
    pub absent: u32,
    /// They are left out.
    pub skipped: u32,
    /// A newer rollout of the lane took their place.
    pub superseded: u32,
}

impl RolloutCounts {
    /// Those in flight.
    pub const fn in_flight(&self) -> u32 {
        self.sent + self.verifying
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.pending += other.pending;
        self.sent += other.sent;
        self.verifying += other.verifying;
        self.ok += other.ok;
        self.failed += other.failed;
        self.unreachable += other.unreachable;
        self.absent += other.absent;
        self.skipped += other.skipped;
        self.superseded += other.superseded;
    }
}

impl From<WaveCounts> for RolloutCounts {
    fn from(counts: WaveCounts) -> Self {
        Self {
            pending: counts.get(TargetState::Pending),
            sent: counts.get(TargetState::Sent),
            verifying: counts.get(TargetState::Verifying),
            ok: counts.get(TargetState::Ok),
            failed: counts.get(TargetState::Failed),
            unreachable: counts.get(TargetState::Unreachable),
            absent: counts.get(TargetState::Absent),
            skipped: counts.get(TargetState::Skipped),
            superseded: counts.get(TargetState::Superseded),
        }
    }
}

/// A rollout.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Rollout {
    /// Our name for it.
    pub id: uuid::Uuid,
    /// Your name for it.
    pub identifier: RolloutName,
    /// The type of its tasks.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Its lane.
    pub lane: String,
    /// What it changes; null when its document does not say.
    #[serde(default)]
    #[schema(required = true)]
    pub subject: Option<String>,
    /// Where it stands.
    pub status: RolloutStatus,
    /// Why it does not go on, or has ended.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// When its next maintenance window opens, while it may start nothing before; otherwise null.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub next_window: Option<Timestamp>,
    /// Grows with every change that is not an answer of an endpoint.
    pub revision: u32,
    /// The token it was submitted with.
    #[schema(required = true)]
    pub created_by: Option<String>,
    /// The id of the rollout that it repeats for some of its endpoints.
    #[schema(required = true)]
    pub parent: Option<uuid::Uuid>,
    /// How its endpoints are rolled back; null when its document does not say.
    #[serde(default)]
    #[schema(required = true)]
    pub rollback: Option<RolloutRollback>,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// When it is to start; null when somebody has to say so.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub start_at: Option<Timestamp>,
    /// When it started.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub ended_at: Option<Timestamp>,
    /// When it is given up.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Endpoints that may fail in all; null for any number.
    #[schema(required = true)]
    pub allowed_failed: Option<u32>,
    /// Endpoints that may be unreachable in all; null for any number.
    #[schema(required = true)]
    pub allowed_unreachable: Option<u32>,
    /// The number of the wave whose turn it is, from 1 on; null when all have passed.
    #[schema(required = true)]
    pub wave: Option<u32>,
    /// How many endpoints it is for.
    pub size: u32,
    /// How many endpoints are in each state.
    pub counts: RolloutCounts,
    /// Its waves.
    pub waves: Vec<RolloutWave>,
    /// What was submitted. Only where a single rollout is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>, required = false)]
    pub document: Option<Json>,
    /// In the answer to a submission, as in the plan. In the answer to a second approval by the same person: that
    /// the wave waits for others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub warnings: Vec<String>,
}

/// How the endpoints of a rollout are rolled back.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RolloutRollback {
    /// The type of its tasks.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Which endpoints it is for: `changed` or `failed`.
    #[schema(value_type = String, example = "changed")]
    pub on: RollbackOn,
    /// The identifier of the rollout that does it; null before it is made.
    #[schema(required = true)]
    pub rollout: Option<RolloutName>,
}

/// A wave of a rollout.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RolloutWave {
    /// Its number, from 1 on.
    pub wave: u32,
    /// What it is called.
    #[schema(required = true)]
    pub name: Option<String>,
    /// Where it stands.
    pub phase: WavePhase,
    /// Since when; for a wave that waits, since its turn came.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub since: Option<Timestamp>,
    /// How many endpoints it has.
    pub size: u32,
    /// Endpoints in flight at the same time.
    pub window: u32,
    /// Endpoints that may fail; null for any number.
    #[schema(required = true)]
    pub allowed_failed: Option<u32>,
    /// Endpoints that may be unreachable; null for any number.
    #[schema(required = true)]
    pub allowed_unreachable: Option<u32>,
    /// What the rollout waits for before the wave or after it, in words.
    pub gates: Vec<String>,
    /// Who has agreed to it.
    pub approvals: Vec<String>,
    /// How many of its endpoints are in each state.
    pub counts: RolloutCounts,
}

/// A page of rollouts.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RolloutPage {
    /// Newest first, without their documents.
    pub rollouts: Vec<Rollout>,
    /// What to pass as `cursor` for the next page; null when this is the last one.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// An endpoint of a rollout.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RolloutTarget {
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The number of its wave, from 1 on.
    pub wave: u32,
    /// Where it stands.
    pub state: TargetState,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// How often it was started.
    pub round: u32,
    /// The task of the last time.
    #[schema(value_type = Option<uuid::Uuid>, required = true)]
    pub task_id: Option<TaskId>,
    /// The error number of its handler.
    #[schema(required = true)]
    pub errnr: Option<i32>,
    /// What happened.
    #[schema(required = true)]
    pub note: Option<String>,
    /// Its failure domain; null without `spread`.
    #[serde(default)]
    #[schema(required = true)]
    pub domain: Option<String>,
}

/// A page of the endpoints of a rollout.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RolloutTargetPage {
    /// In the order of their turns.
    pub targets: Vec<RolloutTarget>,
    /// What to pass as `cursor` for the next page; null when this is the last one.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// Something that happened to a rollout.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RolloutEvent {
    /// Its number, from 1 on: what to pass as `after`.
    pub seq: u32,
    /// The revision that the rollout had afterwards.
    pub revision: u32,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// What.
    pub kind: EventKind,
    /// The name of the token of the one who asked for it; null for what the rollout did by itself.
    #[schema(required = true)]
    pub actor: Option<String>,
    /// The number of the wave it is about.
    #[schema(required = true)]
    pub wave: Option<u32>,
    /// The endpoint it is about.
    #[schema(value_type = Option<String>, required = true)]
    pub endpoint: Option<EndpointName>,
    /// More about it.
    #[schema(required = true)]
    pub text: Option<String>,
}

/// What happened to a rollout.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RolloutEvents {
    /// Oldest first.
    pub events: Vec<RolloutEvent>,
}

/// An endpoint that a rollout has in flight.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RolloutHold {
    /// In which lane.
    pub lane: String,
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The rollout.
    pub rollout: RolloutName,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// A page of endpoints that rollouts have in flight.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RolloutHoldPage {
    /// By lane and endpoint.
    pub holds: Vec<RolloutHold>,
}

/// Whether an endpoint was freed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FreedHold {
    /// Whether it was held.
    pub freed: bool,
}

/// A plain command to a rollout.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutCommand {
    /// The revision that was read: with another one the command is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub revision: Option<u32>,
}

/// How a rollout is given up.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AbortRollout {
    /// Whether the endpoints that it has changed are rolled back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub rollback: bool,
    /// The revision that was read: with another one the command is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub revision: Option<u32>,
}

/// How a rollout is to go on.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeRollout {
    /// Budgets that are raised.
    #[serde(default)]
    #[schema(required = false)]
    pub allow: RolloutAllow,
    /// The revision that was read: with another one the command is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub revision: Option<u32>,
}

/// Budgets that are raised, of each wave that has exceeded its own.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutAllow {
    /// Endpoints of the wave that may fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub failed: Option<u32>,
    /// Endpoints of the wave that may be unreachable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub unreachable: Option<u32>,
}

/// The endpoints that a command is about: these, or all in some states.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PickTargets {
    /// These endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub endpoints: Vec<EndpointName>,
    /// All in one of these states.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub states: Vec<TargetState>,
    /// Of those only the ones in the wave of this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub wave: Option<u32>,
    /// For `skip`: not endpoints, but the approval or the soak time that the rollout waits for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub gate: bool,
    /// The revision that was read: with another one the command is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub revision: Option<u32>,
}

/// Members of the document of a rollout that are changed. Each takes the place of what was there; `none`
/// takes it away.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EditRollout {
    /// The revision that was read: with another one the change is refused.
    pub revision: u32,
    /// Endpoints of a wave in flight at the same time.
    #[schema(value_type = serde_json::Value, required = false)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Value>,
    /// Endpoints that may fail or be unreachable.
    #[schema(value_type = serde_json::Value, required = false)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Value>,
    /// How long to wait after a wave.
    #[schema(required = false)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soak: Option<String>,
    /// What is tried after a wave and its soak time.
    #[schema(value_type = serde_json::Value, required = false)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Value>,
    /// Who must agree before a wave begins.
    #[schema(value_type = serde_json::Value, required = false)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Value>,
    /// When endpoints may be started.
    #[schema(value_type = serde_json::Value, required = false)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<Value>,
    /// What becomes of endpoints that come back late.
    #[schema(required = false)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<String>,
    /// For how long they are waited for.
    #[schema(required = false)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up_for: Option<String>,
    /// What a breach does.
    #[schema(required = false)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_breach: Option<String>,
    /// What becomes of what has started when the rollout stops.
    #[schema(required = false)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<String>,
    /// How endpoints are rolled back.
    #[schema(value_type = serde_json::Value, required = false)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Value>,
    /// After how long, from its submission on, it is given up.
    #[schema(required = false)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_after: Option<String>,
    /// All waves, those that have begun as they are. Endpoints that are PENDING are put into the others anew;
    /// while the rollout is CREATED, PAUSED or HALTED.
    #[schema(value_type = Vec<serde_json::Value>, required = false, max_items = 100)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waves: Option<Vec<Value>>,
}

/// A rollout once more, for some of its endpoints.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RerunRollout {
    /// Your name for the new one.
    pub identifier: RolloutName,
    /// The states of the endpoints that it is for, and `new` for those that the targets choose now and did
    /// not choose then. By default all that did not succeed, without those that are SUPERSEDED.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub only: Vec<RerunOnly>,
}

/// Endpoints of a rollout that a rerun is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum RerunOnly {
    /// Those in a state.
    State(TargetState),
    /// Those that were not among its endpoints.
    New(NewTargets),
}

impl RerunOnly {
    /// All of them.
    pub const ALL: [Self; TargetState::ALL.len() + 1] = {
        let mut all = [Self::New(NewTargets::New); TargetState::ALL.len() + 1];
        let mut at = 0;
        while at < TargetState::ALL.len() {
            all[at] = Self::State(TargetState::ALL[at]);
            at += 1;
        }
        all
    };

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::State(state) => state.as_str(),
            Self::New(_) => "new",
        }
    }
}

/// Endpoints that the targets of a rollout choose now and did not choose when it was submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum NewTargets {
    /// All of them.
    #[serde(rename = "new")]
    New,
}
