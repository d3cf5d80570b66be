//! Rows of rollouts, waves and targets: how they are read.

use uuid::Uuid;

use super::records::{RolloutEventRecord, RolloutRecord, RolloutTargetRecord};
use crate::domain::rollout::{EventKind, RolloutStatus, TargetState, WaveCounts, WavePhase, WaveState};
use crate::domain::{EndpointName, TaskId, TaskType, Timestamp, TokenName};
use crate::store::Result;
use crate::store::columns::{corrupt, json, name};
use crate::store::fault::Fault;
use crate::store::sql::{Row, selected};

selected! {
    /// What a [`RolloutRecord`] is read from, of a table called `o`.
    RolloutColumns<'r> {
        id: Uuid = "o.id",
        identifier: &'r str = "o.identifier",
        task_type: TaskType = "o.task_type",
        lane: String = "o.lane",
        subject: Option<String> = "o.subject",
        ranks_at: Option<Timestamp> = "o.ranks_at",
        payload: String = "o.payload",
        settings: &'r str = "o.settings",
        status: u8 = "o.status",
        resume_to: Option<u8> = "o.resume_to",
        reason: Option<String> = "o.reason",
        revision: u32 = "o.revision",
        events: u32 = "o.events",
        batches: u32 = "o.batches",
        allowed_failed: Option<u32> = "o.allowed_failed",
        allowed_unreachable: Option<u32> = "o.allowed_unreachable",
        max_absent: Option<u32> = "o.max_absent",
        created_by: Option<&'r str> = "o.created_by",
        parent: Option<Uuid> = "o.parent",
        created: Timestamp = "o.created",
        start_at: Option<Timestamp> = "o.start_at",
        started_at: Option<Timestamp> = "o.started_at",
        admitted_at: Option<Timestamp> = "o.admitted_at",
        ended_at: Option<Timestamp> = "o.ended_at",
        expires_at: Timestamp = "o.expires_at",
        rolls_back: u8 = "o.rolls_back",
        undone_by: Option<&'r str> = "(SELECT c.identifier FROM rollout AS c WHERE c.id = o.undone_by)",
    }
}

/// What to select for [`rollout`].
pub(super) const ROLLOUT: &str = RolloutColumns::LIST;

/// The rollout of a row, without its waves.
pub(super) fn rollout(row: &Row) -> Result<RolloutRecord, Fault> {
    let columns = RolloutColumns::read(&mut row.cells())?;
    let at = |column| format!("rollout {}, column {column}", columns.id);
    let status = |code: u8, column| rollout_status(code, || at(column));
    Ok(RolloutRecord {
        id: columns.id,
        identifier: name(columns.identifier, || at("identifier"))?,
        task_type: columns.task_type,
        lane: columns.lane,
        subject: columns.subject,
        ranks_at: columns.ranks_at,
        payload: json(columns.payload, || at("payload"))?,
        settings: serde_json::from_str(columns.settings).map_err(|error| corrupt(at("settings"), error))?,
        status: status(columns.status, "status")?,
        resume_to: columns.resume_to.map(|code| status(code, "resume_to")).transpose()?,
        reason: columns.reason,
        revision: columns.revision,
        events: columns.events,
        batches: columns.batches,
        allowed_failed: columns.allowed_failed,
        allowed_unreachable: columns.allowed_unreachable,
        max_absent: columns.max_absent,
        created_by: token_name(columns.created_by, || at("created_by"))?,
        parent: columns.parent,
        created: columns.created,
        start_at: columns.start_at,
        started_at: columns.started_at,
        admitted_at: columns.admitted_at,
        ended_at: columns.ended_at,
        expires_at: columns.expires_at,
        rolls_back: columns.rolls_back != 0,
        undone_by: columns.undone_by.map(|text| name(text, || at("undone_by"))).transpose()?,
        waves: Vec::new(),
    })
}

fn token_name(text: Option<&str>, at: impl FnOnce() -> String) -> Result<Option<TokenName>> {
    text.map(|text| name(text, at)).transpose()
}

selected! {
    /// What a [`WaveState`] is read from, of a table called `w`, after its rollout.
    WaveColumns<'r> {
        name: Option<String> = "w.name",
        size: u32 = "w.size",
        phase: u8 = "w.phase",
        since: Option<Timestamp> = "w.since",
        places: u32 = "w.places",
        allowed_failed: Option<u32> = "w.allowed_failed",
        allowed_unreachable: Option<u32> = "w.allowed_unreachable",
        settings: &'r str = "w.settings",
        approvals: Option<&'r str> = "w.approvals",
        probe: Option<&'r str> = "w.probe",
    }
}

/// What is wrong when a row of a rollout is not there although the rollout is locked.
pub(super) const GONE: &str = "a rollout was changed by another although it was locked";

/// The key for some hundred targets of one rollout. A planner that is left alone reads, and locks, all of them
/// instead.
pub(super) const BY_NAME: &str = "rollout_target_endpoint";

/// The columns with the counts of a wave, in the order of the states.
pub(super) const COUNTS: [&str; TargetState::ALL.len()] = [
    "count_pending", "count_sent", "count_verifying", "count_ok", "count_failed", "count_unreachable",
    "count_absent", "count_skipped", "count_superseded",
];

/// What to select for [`wave`].
pub(super) fn wave_columns() -> String {
    format!("w.rollout, {}, w.{}", WaveColumns::LIST, COUNTS.join(", w."))
}

/// The wave of a row, with its rollout.
pub(super) fn wave(row: &Row) -> Result<(Uuid, WaveState), Fault> {
    let mut cells = row.cells();
    let rollout: Uuid = cells.take()?;
    let columns = WaveColumns::read(&mut cells)?;
    let at = |column| format!("wave of rollout {rollout}, column {column}");
    let mut counts = [0; TargetState::ALL.len()];
    for count in &mut counts {
        *count = cells.take()?;
    }
    let approvals = columns
        .approvals
        .map(serde_json::from_str)
        .transpose()
        .map_err(|error| corrupt(at("approvals"), error))?;
    let probe =
        columns.probe.map(serde_json::from_str).transpose().map_err(|error| corrupt(at("probe"), error))?;
    let phase = WavePhase::from_code(columns.phase)
        .ok_or_else(|| corrupt(at("phase"), format!("{} is not a phase", columns.phase)))?;
    let wave = WaveState {
        name: columns.name,
        size: columns.size,
        phase,
        since: columns.since,
        window: columns.places,
        allowed_failed: columns.allowed_failed,
        allowed_unreachable: columns.allowed_unreachable,
        terms: serde_json::from_str(columns.settings).map_err(|error| corrupt(at("settings"), error))?,
        approvals: approvals.unwrap_or_default(),
        probe: probe.unwrap_or_default(),
        counts: WaveCounts::of(counts),
    };
    Ok((rollout, wave))
}

/// A status out of its column.
pub(super) fn rollout_status(code: u8, at: impl FnOnce() -> String) -> Result<RolloutStatus> {
    RolloutStatus::from_code(code).ok_or_else(|| corrupt(at(), format!("{code} is not a status")))
}

/// A state out of its column.
pub(super) fn target_state(code: u8) -> Result<TargetState> {
    TargetState::from_code(code)
        .ok_or_else(|| corrupt("rollout_target, column state".to_owned(), format!("{code} is not a state")))
}

selected! {
    /// What a [`RolloutTargetRecord`] is read from, of a table called `t`.
    TargetColumns<'r> {
        wave: u32 = "t.wave",
        position: u32 = "t.position",
        endpoint: EndpointName = "t.endpoint",
        state: u8 = "t.state",
        since: Timestamp = "t.since",
        round: u32 = "t.round",
        task_id: Option<TaskId> = "t.task_id",
        errnr: Option<i32> = "t.errnr",
        note: Option<&'r str> = "t.note",
        domain: Option<&'r str> = "t.domain",
    }
}

/// What to select for [`target`].
pub(super) const TARGET: &str = TargetColumns::LIST;

/// The target of a row.
pub(super) fn target(row: &Row) -> Result<RolloutTargetRecord, Fault> {
    let columns = TargetColumns::read(&mut row.cells())?;
    Ok(RolloutTargetRecord {
        wave: columns.wave,
        position: columns.position,
        endpoint: columns.endpoint,
        state: target_state(columns.state)?,
        since: columns.since,
        round: columns.round,
        task_id: columns.task_id,
        errnr: columns.errnr,
        note: columns.note.map(str::to_owned),
        domain: columns.domain.map(str::to_owned),
    })
}

selected! {
    /// What a [`RolloutEventRecord`] is read from, of a table called `v`.
    EventColumns<'r> {
        seq: u32 = "v.seq",
        revision: u32 = "v.revision",
        time: Timestamp = "v.time",
        kind: u8 = "v.kind",
        actor: Option<&'r str> = "v.actor",
        wave: Option<u32> = "v.wave",
        endpoint: Option<EndpointName> = "v.endpoint",
        text: Option<String> = "v.told",
    }
}

/// What to select for [`event`].
pub(super) const EVENT: &str = EventColumns::LIST;

/// The event of a row.
pub(super) fn event(row: &Row) -> Result<RolloutEventRecord, Fault> {
    let columns = EventColumns::read(&mut row.cells())?;
    let at = |column| format!("rollout_event, column {column}");
    let kind = EventKind::from_code(columns.kind)
        .ok_or_else(|| corrupt(at("kind"), format!("{} is not a kind", columns.kind)))?;
    Ok(RolloutEventRecord {
        seq: columns.seq,
        revision: columns.revision,
        time: columns.time,
        kind,
        actor: token_name(columns.actor, || at("actor"))?,
        wave: columns.wave,
        endpoint: columns.endpoint,
        text: columns.text,
    })
}
