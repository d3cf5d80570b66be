//! Recording rollouts.

use std::sync::Arc;

use futures::FutureExt;
use uuid::Uuid;

use super::read;
use super::rows::COUNTS;
use crate::domain::rollout::{
    EventKind, Plan, RolloutSettings, RolloutStatus, TargetState, WaveCounts, WavePhase,
};
use crate::domain::{EndpointName, Json, RolloutName, TaskType, Timestamp, TokenName, json};
use crate::store::fault::Fault;
use crate::store::sql::Conn;
use crate::store::{Operation, Result, Retry, Store, batch, without_statements};

/// A rollout to be recorded, with the waves that are frozen with it.
#[derive(Debug, Clone)]
pub struct NewRollout {
    /// Made by the API.
    pub id: Uuid,
    /// The customer's name for it.
    pub identifier: RolloutName,
    /// The type of its tasks.
    pub task_type: TaskType,
    /// Its lane.
    pub lane: String,
    /// What it changes, where that is said.
    pub subject: Option<String>,
    /// When it counts as started among those of its lane, where that is not when it starts.
    pub ranks_at: Option<Timestamp>,
    /// What every task carries.
    pub payload: Json,
    /// What was submitted.
    pub document: Json,
    /// SHA-256 of what makes two submissions the same.
    pub digest: [u8; 32],
    /// What holds for the whole of it.
    pub settings: RolloutSettings,
    /// Its waves.
    pub plan: Plan,
    /// The token it was submitted with.
    pub created_by: Option<TokenName>,
    /// The rollout that it repeats for some of its targets.
    pub parent: Option<Uuid>,
    /// When it was accepted.
    pub created: Timestamp,
    /// When it is to start; none when somebody has to say so.
    pub start_at: Option<Timestamp>,
    /// When it is given up.
    pub expires_at: Timestamp,
}

/// What became of a rollout that was to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutRecorded {
    /// It is there.
    New,
    /// It was there, made of the same document.
    Same(Uuid),
    /// There is one with its name, made of another document.
    Other(Uuid),
}

impl Store {
    /// Records a rollout with its waves and targets, all in one transaction. A repeat finds it, also after it
    /// has ended.
    pub fn record_rollout(&self, new: NewRollout) -> Operation<'_, RolloutRecorded> {
        if let Err(error) = self.fits(std::iter::once(new.payload.get().len() + new.document.get().len())) {
            return without_statements(Err(error));
        }
        let new = Arc::new(new);
        self.transact(move |conn| record(conn, new.clone()).boxed())
    }
}

/// Records it; see [`Store::record_rollout`].
pub(super) async fn record(conn: &mut Conn<'_>, new: Arc<NewRollout>) -> Result<RolloutRecorded, Fault> {
    let mut insert = conn.insert("rollout");
    insert
        .row()
        .set("id", new.id)
        .set("identifier", new.identifier.as_str())
        .set("task_type", &new.task_type)
        .set("lane", new.lane.as_str())
        .set("subject", new.subject.as_deref())
        .set("ranks_at", new.ranks_at)
        .set("payload", new.payload.get())
        .set("document", new.document.get())
        .set("settings", json(&new.settings).get())
        .set("digest", new.digest.as_slice())
        .set("status", RolloutStatus::Created.code())
        .set("revision", 1u32)
        .set("events", 1u32)
        .set("allowed_failed", new.plan.allowed_failed)
        .set("allowed_unreachable", new.plan.allowed_unreachable)
        .set("max_absent", new.plan.max_absent)
        .set("created_by", new.created_by.as_ref().map(TokenName::as_str))
        .set("parent", new.parent)
        .set("created", new.created)
        .set("start_at", new.start_at)
        .set("expires_at", new.expires_at)
        .set("due_at", new.start_at.unwrap_or(new.expires_at).min(new.expires_at));
    if insert.if_new().await? == 0 {
        let Some((id, digest)) = read::digest_of(conn, new.identifier.clone()).await? else {
            return Err(Fault::Again(
                Retry::Conflict,
                "a rollout of the same identifier was forgotten meanwhile".into(),
            ));
        };
        return Ok(if digest == new.digest { RolloutRecorded::Same(id) } else { RolloutRecorded::Other(id) });
    }
    write_waves(conn, &new).await?;
    write_targets(conn, &new).await?;
    let mut insert = conn.insert("rollout_event");
    let text = format!("{} endpoints in {} waves", new.plan.size(), new.plan.waves.len());
    insert
        .row()
        .set("rollout", new.id)
        .set("seq", 1u32)
        .set("revision", 1u32)
        .set("time", new.created)
        .set("kind", EventKind::Created.code())
        .set("actor", new.created_by.as_ref().map(TokenName::as_str))
        .set("told", text.as_str());
    insert.all().await?;
    Ok(RolloutRecorded::New)
}

async fn write_waves(conn: &mut Conn<'_>, new: &NewRollout) -> Result<(), Fault> {
    let mut insert = conn.insert("rollout_wave");
    for (number, wave) in (0u32..).zip(&new.plan.waves) {
        insert
            .row()
            .set("rollout", new.id)
            .set("wave", number)
            .set("name", wave.name.as_deref())
            .set("size", wave.size())
            .set("phase", WavePhase::Waiting.code())
            .set("places", wave.window)
            .set("allowed_failed", wave.allowed_failed)
            .set("allowed_unreachable", wave.allowed_unreachable)
            .set("settings", json(&wave.terms).get());
        let counts = WaveCounts::all_in(TargetState::Pending, wave.size());
        for (column, state) in COUNTS.into_iter().zip(TargetState::ALL) {
            insert.set(column, counts.get(state));
        }
    }
    insert.all().await
}

async fn write_targets(conn: &mut Conn<'_>, new: &NewRollout) -> Result<(), Fault> {
    let waves = (0u32..).zip(&new.plan.waves);
    let targets: Vec<(u32, u32, &EndpointName)> = waves
        .flat_map(|(wave, planned)| (0u32..).zip(&planned.targets).map(move |(at, name)| (wave, at, name)))
        .collect();
    let domain = |name: &EndpointName| new.plan.domains.get(*new.plan.domain_of.get(name)?);
    for run in targets.chunks(batch::NARROW_ROWS) {
        let mut insert = conn.insert("rollout_target");
        for (wave, position, endpoint) in batch::padded(run) {
            insert
                .row()
                .set("rollout", new.id)
                .set("wave", *wave)
                .set("position", *position)
                .set("endpoint", *endpoint)
                .set("state", TargetState::Pending.code())
                .set("since", new.created)
                .set("domain", domain(endpoint).map(|domain| domain.name.as_str()))
                .set("domain_places", domain(endpoint).and_then(|domain| domain.places));
        }
        // For the repeats that fill the statement up.
        insert.or_keep("state").await?;
    }
    Ok(())
}
