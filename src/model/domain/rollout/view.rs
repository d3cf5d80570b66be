//! What is read of a rollout while its row is locked, and what is written then.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::state::{RolloutStatus, TargetState, WavePhase};
use super::terms::{RolloutSettings, WaveTerms};
use crate::domain::{EndpointName, Json, RolloutName, TaskId, Timestamp, TokenName};

/// What is known of a rollout while its row is locked. What is in flight is there whole; of the rest as much
/// as one pass can use.
#[derive(Debug, Clone)]
pub struct View {
    /// Where it stands.
    pub status: RolloutStatus,
    /// Where it was before it was paused or halted.
    pub resume_to: Option<RolloutStatus>,
    /// Who made it.
    pub created_by: Option<TokenName>,
    /// What holds for the whole of it.
    pub settings: RolloutSettings,
    /// When it starts; none when somebody has to say so.
    pub start_at: Option<Timestamp>,
    /// When it is given up.
    pub expires_at: Timestamp,
    /// Targets that may fail in all.
    pub allowed_failed: Option<u32>,
    /// Targets that may be unreachable in all.
    pub allowed_unreachable: Option<u32>,
    /// With more that are away it does not start.
    pub max_absent: Option<u32>,
    /// Targets that are away now; known only before it starts.
    pub absent_now: u32,
    /// When targets were started last.
    pub admitted_at: Option<Timestamp>,
    /// Whether a newer rollout of its lane has begun; where it has a subject, one of the same subject.
    pub newer: bool,
    /// Its waves, in their order.
    pub waves: Vec<WaveState>,
    /// Targets in flight, and others of which there is news.
    pub in_flight: Vec<InFlight>,
    /// Targets that were away and are back.
    pub returned: Vec<Returned>,
    /// Targets that were waited for long enough, or that a newer rollout supersedes.
    pub waited: Vec<Returned>,
    /// The next targets, in the order of their turns, without those that another rollout holds.
    pub next: Vec<Next>,
    /// What has come of the try of a probe that was begun.
    pub probe: Option<ProbeResult>,
    /// Who performs the next try of the probe of the wave; known only while that is probed and no try is
    /// open.
    pub probed: Vec<EndpointName>,
    /// Whether targets may be started now.
    pub windows: Windows,
    /// Whether what it has changed is to be undone once nothing is in flight.
    pub rolls_back: bool,
    /// Whether there is a target to roll back; known only while it is given up and nothing is in flight.
    pub changed: bool,
    /// Where the rollout stands that undoes it.
    pub rollback: Option<RolloutStatus>,
}

/// A wave as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveState {
    /// What it is called.
    pub name: Option<String>,
    /// How many targets it has.
    pub size: u32,
    /// Where it stands.
    pub phase: WavePhase,
    /// Since when; for a wave that waits, since its turn came.
    pub since: Option<Timestamp>,
    /// Targets in flight at the same time at most.
    pub window: u32,
    /// Targets that may fail.
    pub allowed_failed: Option<u32>,
    /// Targets that may be unreachable.
    pub allowed_unreachable: Option<u32>,
    /// How it runs.
    pub terms: WaveTerms,
    /// Who has agreed to it.
    pub approvals: Vec<TokenName>,
    /// How far its probe is.
    pub probe: ProbeState,
    /// How many of its targets are in each state.
    pub counts: WaveCounts,
}

/// How far the probe of a wave is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeState {
    /// The task of the try that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// Tries that have succeeded one after the other.
    pub passes: u32,
    /// Tries that have not.
    pub failures: u32,
    /// When the next try begins; at once when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
}

/// What has come of a try of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeResult {
    /// It is not over.
    Open,
    /// It is over.
    Ended {
        /// Endpoints that have succeeded, with the answer that was expected.
        ok: u32,
        /// Endpoints that it was for.
        of: u32,
        /// What one of the others has answered.
        fault: Option<String>,
    },
}

/// The place of the wave whose turn it is; none when all have passed.
pub fn current(waves: &[WaveState]) -> Option<usize> {
    waves.iter().position(|wave| wave.phase != WavePhase::Passed)
}

/// How many targets are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WaveCounts([u32; TargetState::ALL.len()]);

impl WaveCounts {
    /// Of these counts, in the order of the states.
    pub const fn of(counts: [u32; TargetState::ALL.len()]) -> Self {
        Self(counts)
    }

    /// All in one state.
    pub fn all_in(state: TargetState, number: u32) -> Self {
        let mut counts = Self::default();
        counts.0[usize::from(state.code())] = number;
        counts
    }

    /// How many are in a state.
    pub fn get(&self, state: TargetState) -> u32 {
        self.0[usize::from(state.code())]
    }

    /// One goes from a state to another.
    pub fn shift(&mut self, from: TargetState, to: TargetState) {
        let from = &mut self.0[usize::from(from.code())];
        *from = from.saturating_sub(1);
        self.0[usize::from(to.code())] += 1;
    }

    /// All together.
    pub fn total(&self) -> u32 {
        self.0.iter().sum()
    }

    /// Those that take a place in the window.
    pub fn in_flight(&self) -> u32 {
        self.get(TargetState::Sent) + self.get(TargetState::Verifying)
    }

    /// Those that may still be started, are in flight, or are waited for.
    pub fn unsettled(&self) -> u32 {
        self.get(TargetState::Pending) + self.in_flight() + self.waited_for()
    }

    /// Those that are waited for.
    pub fn waited_for(&self) -> u32 {
        self.get(TargetState::Absent) + self.get(TargetState::Unreachable)
    }
}

/// Which target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fact {
    /// The place of its wave, from 0 on.
    pub wave: u32,
    /// Its place in the wave.
    pub position: u32,
    /// The endpoint.
    pub endpoint: EndpointName,
}

/// A target in flight, or one of which there is news.
#[derive(Debug, Clone)]
pub struct InFlight {
    /// Which.
    pub fact: Fact,
    /// Where it stands.
    pub state: TargetState,
    /// Since when.
    pub since: Timestamp,
    /// Since when its endpoint has been there without a break, as one process; known only while that is
    /// looked at.
    pub present_since: Option<Timestamp>,
    /// The process that this is said of.
    pub instance: Option<Uuid>,
    /// What its endpoint has answered.
    pub answered: Answered,
    /// Whether its task was taken back, unless the endpoint has begun it.
    pub withdrawn: bool,
    /// Whether its endpoint was told to stop it although it may have begun.
    pub stopped: bool,
    /// When that was recorded.
    pub answered_at: Option<Timestamp>,
    /// Whether its endpoint is there.
    pub presence: Presence,
    /// Its failure domain, where that limits what is in flight.
    pub slot: Option<Slot>,
}

/// A target that may be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// Which.
    pub fact: Fact,
    /// Whether its endpoint is there.
    pub there: bool,
    /// The newer rollout of the same subject that has started it already.
    pub overtaken_by: Option<RolloutName>,
    /// Its failure domain, where that limits what is in flight.
    pub slot: Option<Slot>,
}

/// A failure domain, of which some targets may be in flight at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Which domain.
    pub domain: String,
    /// How many may be.
    pub places: u32,
}

/// Whether an endpoint is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Presence {
    /// The process that is there now; none when none is.
    pub instance: Option<Uuid>,
    /// Whether what must hold for it holds.
    pub fits: bool,
}

/// What the response of a target says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// Nothing yet.
    Nothing,
    /// The endpoint has the task.
    Received {
        /// Since when.
        at: Timestamp,
    },
    /// The handler has ended.
    Finished {
        /// 0 for success.
        errnr: i32,
        /// What went wrong.
        errmsg: String,
    },
    /// The task was taken back, or stopped.
    Canceled {
        /// Whether it had been received.
        received: bool,
        /// Whether the endpoint has confirmed that it has not begun what was taken back.
        unbegun: bool,
    },
    /// The time of the task was over.
    Expired {
        /// Whether it had been received.
        received: bool,
    },
    /// There is no such response any more.
    Forgotten,
}

/// A target that waits, with its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned {
    /// Which.
    pub fact: Fact,
    /// Where it stands.
    pub state: TargetState,
}

/// Whether targets may be started now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Whether they may.
    pub open: bool,
    /// When that changes next.
    pub changes_at: Option<Timestamp>,
}

impl Windows {
    /// Without maintenance windows.
    pub const ALWAYS: Self = Self { open: true, changes_at: None };
}

/// What is done to a rollout. It follows from a [`View`] alone.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// What it becomes, where that changes.
    pub status: Option<RolloutStatus>,
    /// Where it was, for a pause or a halt.
    pub resume_to: Option<RolloutStatus>,
    /// Why it does not go on, or none when it goes on again. Written with a new status.
    pub reason: Option<String>,
    /// Targets that may fail in all, where that changes.
    pub allowed_failed: Option<u32>,
    /// Targets that may be unreachable in all, where that changes.
    pub allowed_unreachable: Option<u32>,
    /// Targets that change.
    pub moves: Vec<TargetMove>,
    /// Waves that change.
    pub waves: Vec<WaveChange>,
    /// Targets that are started.
    pub admit: Vec<Admission>,
    /// Targets from which the task is taken back, unless they have begun it.
    pub withdraw: Vec<Fact>,
    /// Targets that are to stop what they have begun.
    pub stop: Vec<Fact>,
    /// The place of the wave whose probe is tried now, and who performs that.
    pub probe: Option<(u32, Vec<EndpointName>)>,
    /// Whether what it has changed is to be undone once nothing is in flight.
    pub rolls_back: bool,
    /// Whether the rollout that undoes it is made now.
    pub roll_back: bool,
    /// What holds from now on, where somebody changed that.
    pub edit: Option<Arc<Edit>>,
    /// What is to be remembered of it.
    pub events: Vec<NewEvent>,
    /// What stopped it, where a budget was exceeded or a gate has failed.
    pub breach: Option<Breach>,
    /// When to look at it again without being told; none for a rollout that has ended.
    pub due_at: Option<Timestamp>,
}

impl Change {
    /// Whether a wave has passed, and targets of a later one are started.
    pub fn begins_next_wave(&self) -> bool {
        let passed = self
            .waves
            .iter()
            .filter(|changed| changed.phase == WavePhase::Passed)
            .map(|changed| changed.wave)
            .max();
        passed.is_some_and(|passed| self.admit.iter().any(|admission| admission.fact.wave > passed))
    }
}

/// What holds of a rollout once its document was changed, all numbers resolved.
#[derive(Debug, Clone)]
pub struct Edit {
    /// Which members change from what to what, for people.
    pub told: String,
    /// Whether any of them has another value than before.
    pub changes: bool,
    /// The document.
    pub document: Json,
    /// What holds for the whole of it.
    pub settings: RolloutSettings,
    /// When it is given up.
    pub expires_at: Timestamp,
    /// Targets that may fail in all.
    pub allowed_failed: Option<u32>,
    /// Targets that may be unreachable in all.
    pub allowed_unreachable: Option<u32>,
    /// Its waves, in their order. Those that have passed stay as they are.
    pub waves: Vec<EditedWave>,
    /// Other waves in the place of those that had not begun.
    pub anew: Option<WavesAnew>,
}

/// Waves with the targets that are put into them anew.
#[derive(Debug, Clone)]
pub struct WavesAnew {
    /// The first of them, counted from 0.
    pub first: u32,
    /// Whether targets of that are being started: those that have been stay in it.
    pub is_open: bool,
    /// The waves from that on; they take the place of all that were there.
    pub waves: Vec<WaveAnew>,
}

/// A wave that targets are put into anew.
#[derive(Debug, Clone)]
pub struct WaveAnew {
    /// What it is called.
    pub name: Option<String>,
    /// How it runs.
    pub runs: EditedWave,
    /// Its targets that may have been in another wave, in the order of their turns.
    pub targets: Vec<EndpointName>,
}

/// How a wave runs once the document was changed.
#[derive(Debug, Clone)]
pub struct EditedWave {
    /// Targets in flight at the same time at most.
    pub window: u32,
    /// Targets that may fail.
    pub allowed_failed: Option<u32>,
    /// Targets that may be unreachable.
    pub allowed_unreachable: Option<u32>,
    /// How it runs.
    pub terms: WaveTerms,
}

/// What stops a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    /// More targets have failed than may.
    Failed,
    /// More targets are unreachable than may be.
    Unreachable,
    /// Nobody agreed to a wave in time.
    Approval,
    /// A wave did not pass its probe.
    Probe,
}

impl Breach {
    /// As metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::Approval => "approval",
            Self::Probe => "probe",
        }
    }
}

/// What becomes of a target. Where it stays in its state, number and note stay too, and only its presence is
/// written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetMove {
    /// Which.
    pub fact: Fact,
    /// Where it stood.
    pub from: TargetState,
    /// Where it stands.
    pub to: TargetState,
    /// The error number of its handler.
    pub errnr: Option<i32>,
    /// What happened, for people.
    pub note: Option<String>,
    /// See [`InFlight::present_since`].
    pub present_since: Option<Timestamp>,
    /// See [`InFlight::instance`].
    pub instance: Option<Uuid>,
}

/// What becomes of a wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveChange {
    /// The place of the wave.
    pub wave: u32,
    /// Where it stands.
    pub phase: WavePhase,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Who has agreed, where that changes.
    pub approvals: Option<Vec<TokenName>>,
    /// How far its probe is, where that changes.
    pub probe: Option<ProbeState>,
    /// Targets that may fail, where that changes.
    pub allowed_failed: Option<u32>,
    /// Targets that may be unreachable, where that changes.
    pub allowed_unreachable: Option<u32>,
}

/// A target that is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Which.
    pub fact: Fact,
}

/// Something to be remembered of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// What happened.
    pub kind: EventKind,
    /// The place of the wave it is about.
    pub wave: Option<u32>,
    /// The endpoint it is about.
    pub endpoint: Option<EndpointName>,
    /// More about it.
    pub text: Option<String>,
}

impl NewEvent {
    /// An event about the rollout as a whole.
    pub const fn new(kind: EventKind, text: Option<String>) -> Self {
        Self { kind, wave: None, endpoint: None, text }
    }

    /// An event about some targets; none about nobody.
    pub fn of_targets<'f>(kind: EventKind, targets: impl Iterator<Item = &'f Fact>) -> Option<Self> {
        let targets: Vec<&Fact> = targets.collect();
        let text = match targets[..] {
            [] => return None,
            [one] => one.endpoint.to_string(),
            _ => format!("{} targets", targets.len()),
        };
        Some(Self::new(kind, Some(text)))
    }

    /// An event about a wave.
    pub const fn of_wave(kind: EventKind, wave: u32, text: Option<String>) -> Self {
        Self { kind, wave: Some(wave), endpoint: None, text }
    }

    /// An event about a target.
    pub fn of_target(kind: EventKind, fact: &Fact, text: Option<String>) -> Self {
        Self { kind, wave: Some(fact.wave), endpoint: Some(fact.endpoint.clone()), text }
    }
}

states! {
    /// What happened to a rollout.
    #[serde(rename_all = "snake_case")]
    EventKind 26 {
        /// It was recorded.
        Created = 0, "created";
        /// It began.
        Started = 1, "started";
        /// Somebody stopped it for now.
        Paused = 2, "paused";
        /// It goes on.
        Resumed = 3, "resumed";
        /// A budget was exceeded, or a gate has failed.
        Breached = 4, "breached";
        /// It is given up.
        Aborting = 5, "aborting";
        /// All its waves have passed.
        Settling = 6, "settling";
        /// It has ended.
        Ended = 7, "ended";
        /// The turn of a wave has come.
        WaveDue = 8, "wave_due";
        /// A wave began.
        WaveBegan = 9, "wave_began";
        /// The targets of a wave have answered.
        WaveSoaks = 10, "wave_soaks";
        /// A wave has passed.
        WavePassed = 11, "wave_passed";
        /// Somebody agreed to a wave.
        Approved = 12, "approved";
        /// Somebody did not agree to a wave.
        Refused = 13, "refused";
        /// A target has failed.
        TargetFailed = 14, "target_failed";
        /// A target did not receive its task in time.
        TargetUnreachable = 15, "target_unreachable";
        /// Somebody left targets out.
        TargetsSkipped = 16, "targets_skipped";
        /// Somebody wants targets tried again.
        TargetsRetried = 17, "targets_retried";
        /// Somebody passed over a gate.
        GateSkipped = 18, "gate_skipped";
        /// A newer rollout of the lane took the place of targets.
        Superseded = 19, "superseded";
        /// Another rollout begins to undo it.
        RollingBack = 20, "rolling_back";
        /// Tasks were taken back from targets that have not received them.
        Withdrawn = 21, "withdrawn";
        /// Targets were told to stop what they had begun.
        Stopped = 22, "stopped";
        /// The soak time of a wave is over, and its probe begins.
        WaveProbes = 23, "wave_probes";
        /// A try of a probe is over.
        Probed = 24, "probed";
        /// Somebody changed its document.
        Edited = 25, "edited";
    }
}
