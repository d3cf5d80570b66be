//! Writes a change of a rollout whose row is locked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::records::{AdvancedRollout, RolloutBatches, RolloutRecord};
use super::rows::{BY_NAME, COUNTS, GONE};
use super::{anew, lane, rollback};
use crate::domain::rollout::{
    Admission, Change, Edit, Fact, NewEvent, RolloutStatus, TargetMove, TargetState, WaveChange, WavePhase,
    WaveState,
};
use crate::domain::{
    EndpointName, Identifier, NewTask, ResponseStatus, TaskId, TaskType, Timestamp, TokenName, digest, json,
};
use crate::store::fault::Fault;
use crate::store::sql::Conn;
use crate::store::sweep::taken_identifiers;
use crate::store::tasks::all_of;
use crate::store::{Accepted, Freeze, Retry, batch, submit};

/// Endpoints of one task at most.
const BATCH: usize = 500;
/// Identifiers that are looked for at once.
const NUMBERS: u32 = 64;

/// Writes all of it. `batches` is there where targets may be started.
pub(super) async fn write(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    change: Change,
    by: Option<&TokenName>,
    batches: Option<RolloutBatches>,
    now: Timestamp,
) -> Result<AdvancedRollout, Fault> {
    let (mut waves, targets) = counted(rollout, &change);
    write_moves(conn, rollout, &change.moves, now).await?;
    write_holds(conn, rollout, &change.moves, now).await?;
    let tasks = match batches {
        Some(batches) if !change.admit.is_empty() => {
            start(conn, rollout, &waves, &change.admit, batches, now).await?
        }
        _ => Vec::new(),
    };
    let probe = match (batches, &change.probe) {
        (Some(batches), Some((wave, endpoints))) => {
            let number = rollout.batches + u32::try_from(tasks.len()).unwrap_or(u32::MAX) + 1;
            probe(conn, rollout, &mut waves, *wave, endpoints, number, batches, now).await?
        }
        _ => None,
    };
    let withdrawn = take_back(conn, rollout, &change.withdraw, ResponseStatus::Expected, now).await?;
    let stopped = stop(conn, rollout, &change.stop, now).await?;
    write_waves(conn, rollout, &waves, &change).await?;
    let revision = rollout.revision + u32::from(!change.events.is_empty());
    write_events(conn, rollout, &change.events, by, revision, now).await?;
    write_rollout(conn, rollout, &change, revision, tasks.len() + usize::from(probe.is_some()), now).await?;
    if let Some(edit) = &change.edit {
        write_edit(conn, rollout, edit).await?;
        if let Some(anew) = &edit.anew {
            anew::write(conn, rollout, anew, now).await?;
        }
    }
    if change.roll_back {
        let undone_by = rollback::record(conn, rollout, now).await?;
        let mut update = conn.sql("UPDATE rollout SET undone_by = ? WHERE id = ? AND undone_by IS NULL");
        let updated = update.bind(undone_by).bind(rollout.id).execute().await?;
        all_of(updated, &[rollout.id], "a rollout was rolled back by another although it was locked")?;
    }
    Ok(AdvancedRollout {
        identifier: rollout.identifier.clone(),
        task_type: rollout.task_type.clone(),
        moved: change.status,
        reason: change.status.and(change.reason),
        breach: change.breach,
        targets: targets.into_iter().collect(),
        tasks,
        probe,
        withdrawn,
        stopped,
        next_wave_after: None,
        due_at: change.due_at,
    })
}

/// The waves with the counts that they have after a change, and how many targets come to each state.
fn counted(rollout: &RolloutRecord, change: &Change) -> (Vec<WaveState>, BTreeMap<TargetState, u64>) {
    let (mut waves, mut targets) = (rollout.waves.clone(), BTreeMap::new());
    let moves = change
        .moves
        .iter()
        .map(|moved| (&moved.fact, moved.from, moved.to))
        .filter(|(_, from, to)| from != to);
    let started =
        change.admit.iter().map(|admission| (&admission.fact, TargetState::Pending, TargetState::Sent));
    for (fact, from, to) in moves.chain(started) {
        *targets.entry(to).or_default() += 1;
        if let Some(wave) = waves.get_mut(usize::try_from(fact.wave).unwrap_or(usize::MAX)) {
            wave.counts.shift(from, to);
        }
    }
    (waves, targets)
}

/// One statement for all targets that change alike.
async fn write_moves(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    moves: &[TargetMove],
    now: Timestamp,
) -> Result<(), Fault> {
    type Alike<'a> =
        (TargetState, TargetState, Option<i32>, Option<&'a str>, Option<Timestamp>, Option<Uuid>);
    let mut alike: BTreeMap<Alike<'_>, Vec<&EndpointName>> = BTreeMap::new();
    for TargetMove { fact, from, to, errnr, note, present_since, instance } in moves {
        alike
            .entry((*from, *to, *errnr, note.as_deref(), *present_since, *instance))
            .or_default()
            .push(&fact.endpoint);
    }
    let by_name = conn.dialect().index(BY_NAME);
    for ((from, to, errnr, note, present_since, instance), mut names) in alike {
        names.sort_unstable();
        for names in names.chunks(batch::KEYS) {
            let mut update =
                conn.sql(format!("UPDATE rollout_target {by_name} SET present_since = ?, instance = ?"));
            update.bind(present_since).bind(instance);
            if from != to {
                update
                    .push(", state = ?, since = ?, errnr = ?, note = ?")
                    .bind(to.code())
                    .bind(now)
                    .bind(errnr)
                    .bind(note);
                if matches!(to, TargetState::Verifying | TargetState::Ok | TargetState::Failed) {
                    update.push(", changed = 1");
                }
            }
            update
                .push(" WHERE rollout = ? AND state = ? AND endpoint IN ")
                .bind(rollout.id)
                .bind(from.code());
            all_of(
                update.keys(names).execute().await?,
                names,
                "a target was changed by another although its rollout was locked",
            )?;
        }
    }
    Ok(())
}

/// Frees the endpoints that leave the window for other rollouts, and holds those that come back into it.
async fn write_holds(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    moves: &[TargetMove],
    now: Timestamp,
) -> Result<(), Fault> {
    for names in crossing(moves, false).chunks(batch::KEYS) {
        let mut delete = conn.sql("DELETE FROM rollout_hold WHERE lane = ? AND rollout = ? AND endpoint IN ");
        delete.bind(rollout.lane.as_str()).bind(rollout.id).keys(names).execute().await?;
    }
    hold(conn, rollout, &crossing(moves, true), now).await.map(drop)
}

/// The endpoints that come into the window, or leave it, by name.
fn crossing(moves: &[TargetMove], comes: bool) -> Vec<&EndpointName> {
    let crosses =
        |moved: &&TargetMove| moved.from.is_in_flight() != comes && moved.to.is_in_flight() == comes;
    let mut names: Vec<&EndpointName> =
        moves.iter().filter(crosses).map(|moved| &moved.fact.endpoint).collect();
    names.sort_unstable();
    names
}

/// Notes that endpoints are in flight; answers how many were free.
async fn hold(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    names: &[&EndpointName],
    now: Timestamp,
) -> Result<u64, Fault> {
    let mut held = 0;
    for names in names.chunks(batch::KEYS) {
        let mut insert = conn.insert("rollout_hold");
        for name in batch::padded(names) {
            insert
                .row()
                .set("lane", rollout.lane.as_str())
                .set("endpoint", *name)
                .set("rollout", rollout.id)
                .set("since", now);
        }
        held += insert.if_new().await?;
    }
    Ok(held)
}

/// Records the tasks of targets that are started, with their expected endpoints.
async fn start(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    waves: &[WaveState],
    admit: &[Admission],
    batches: RolloutBatches,
    now: Timestamp,
) -> Result<Vec<NewTask>, Fault> {
    let mut names: Vec<&EndpointName> = admit.iter().map(|admission| &admission.fact.endpoint).collect();
    names.sort_unstable();
    let held = hold(conn, rollout, &names, now).await?;
    all_of(held, &names, "another rollout of the lane has started an endpoint meanwhile")?;
    // It may have ended there since that was looked at; from now on no other can start them.
    if !lane::started_by_newer(conn, rollout, names).await?.is_empty() {
        let text = "a newer rollout of the same subject has started an endpoint meanwhile";
        return Err(Fault::Again(Retry::Conflict, text.to_owned()));
    }
    let mut tasks = Vec::new();
    for of_wave in admit.chunk_by(|one, other| one.fact.wave == other.fact.wave) {
        for part in of_wave.chunks(BATCH) {
            let Some(first) = part.first() else { continue };
            let wave = waves.get(usize::try_from(first.fact.wave).unwrap_or(usize::MAX));
            let (receive, finish) = wave.map_or((Duration::ZERO, Duration::ZERO), |wave| {
                (wave.terms.receive_within, wave.terms.finish_within)
            });
            let number = rollout.batches + u32::try_from(tasks.len()).unwrap_or(u32::MAX) + 1;
            let endpoints: Vec<EndpointName> =
                part.iter().map(|admission| admission.fact.endpoint.clone()).collect();
            let identifier = format!("rollout-{}-w{}-b{number}", rollout.identifier, first.fact.wave + 1);
            tasks.push(NewTask {
                id: TaskId::new(),
                task_type: rollout.task_type.clone(),
                identifier: crate::store::columns::name(&identifier, || {
                    "the identifier of a batch".to_owned()
                })?,
                digest: digest(rollout.payload.get(), &endpoints),
                payload: rollout.payload.clone(),
                endpoints,
                target: None,
                place: None,
                start_time: now,
                receive_by: now.after(receive),
                expires_at: now.after(receive).after(finish),
                submitted_by: rollout.created_by.clone(),
                source: None,
                rerun_of: None,
                followed: false,
                rollout: Some(rollout.id),
                held: false,
            });
        }
    }
    let by_name = conn.dialect().index(BY_NAME);
    for task in &tasks {
        let names: Vec<&EndpointName> = task.endpoints.iter().collect();
        for names in names.chunks(batch::KEYS) {
            let mut update = conn.sql(format!(
                "UPDATE rollout_target {by_name} SET state = ?, since = ?, round = round + 1, task_id = ?, errnr = NULL, note = NULL, \
                 present_since = NULL, instance = NULL, stopped = 0 WHERE rollout = ? AND state = ? AND endpoint IN "
            ));
            update
                .bind(TargetState::Sent.code())
                .bind(now)
                .bind(task.id)
                .bind(rollout.id)
                .bind(TargetState::Pending.code());
            all_of(
                update.keys(names).execute().await?,
                names,
                "a target was started by another although its rollout was locked",
            )?;
        }
    }
    tasks.sort_unstable_by_key(|task| task.id);
    record(conn, rollout, &tasks, batches, now).await?;
    Ok(tasks)
}

/// Records tasks with their frozen endpoints.
async fn record(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    tasks: &[NewTask],
    batches: RolloutBatches,
    now: Timestamp,
) -> Result<(), Fault> {
    let accepted =
        submit::accept(conn, tasks.into(), Vec::new().into(), batches.lease_until, batches.retention).await?;
    if accepted.iter().any(|accepted| !matches!(accepted, Accepted::New)) {
        return Err(Fault::Again(
            Retry::Conflict,
            format!("the identifier of a batch of rollout {} is taken", rollout.identifier),
        ));
    }
    let sets: Vec<Freeze> =
        tasks.iter().map(|task| Freeze { id: task.id, expected: task.endpoints.clone() }).collect();
    submit::freeze(conn, sets.into(), now).await?;
    Ok(())
}

/// Records the task of a try of a probe, and notes it in its wave.
#[expect(clippy::too_many_arguments, reason = "called once, with what a pass has")]
async fn probe(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    waves: &mut [WaveState],
    place: u32,
    endpoints: &[EndpointName],
    number: u32,
    batches: RolloutBatches,
    now: Timestamp,
) -> Result<Option<NewTask>, Fault> {
    let wave = waves.get_mut(usize::try_from(place).unwrap_or(usize::MAX));
    let Some((wave, terms)) = wave.and_then(|wave| wave.terms.probe.clone().map(|terms| (wave, terms)))
    else {
        return Ok(None);
    };
    let identifier = free_probe(conn, rollout, &terms.task_type, place, number).await?;
    let receive_by = now.after(terms.receive_within);
    let task = NewTask {
        id: TaskId::new(),
        task_type: terms.task_type,
        identifier,
        digest: digest(terms.payload.get(), endpoints),
        payload: terms.payload,
        endpoints: endpoints.to_vec(),
        target: None,
        place: None,
        start_time: now,
        receive_by,
        expires_at: receive_by.after(terms.finish_within),
        submitted_by: rollout.created_by.clone(),
        source: None,
        rerun_of: None,
        followed: false,
        rollout: Some(rollout.id),
        held: false,
    };
    record(conn, rollout, std::slice::from_ref(&task), batches, now).await?;
    wave.probe.task = Some(task.id);
    Ok(Some(task))
}

/// The first identifier of a try from this number on that no task has. Clients may not use such identifiers,
/// but tasks may have them from a time when they could; a probe that waited for one would never begin.
async fn free_probe(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    task_type: &TaskType,
    place: u32,
    mut number: u32,
) -> Result<Identifier, Fault> {
    loop {
        let some = (number..number.saturating_add(NUMBERS)).map(|number| {
            let identifier = format!("rollout-{}-w{}-p{number}", rollout.identifier, place + 1);
            crate::store::columns::name(&identifier, || "the identifier of a probe".to_owned())
        });
        let some: Arc<[Identifier]> = some.collect::<crate::store::Result<_>>()?;
        let taken = taken_identifiers(conn, task_type.clone(), Arc::clone(&some)).await?;
        if let Some(free) = some.iter().find(|identifier| !taken.contains(*identifier)) {
            return Ok(free.clone());
        }
        number = number.saturating_add(NUMBERS);
    }
}

/// Notes that tasks are taken back from endpoints whose responses have this status, in the order of the keys
/// of the responses. The tasks are not locked: an endpoint that has received its task meanwhile keeps it.
/// Answers which endpoints to tell, by task.
async fn take_back(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    facts: &[Fact],
    status: ResponseStatus,
    now: Timestamp,
) -> Result<Vec<(TaskId, Vec<EndpointName>)>, Fault> {
    let mut names: Vec<&EndpointName> = facts.iter().map(|fact| &fact.endpoint).collect();
    names.sort_unstable();
    let mut tasks: BTreeMap<TaskId, Vec<EndpointName>> = BTreeMap::new();
    let by_name = conn.dialect().index(BY_NAME);
    for names in names.chunks(batch::KEYS) {
        let mut select = conn.sql(format!(
            "SELECT task_id, endpoint FROM rollout_target {by_name} WHERE rollout = ? AND task_id IS NOT NULL AND endpoint IN "
        ));
        for row in select.bind(rollout.id).keys(names).push(" ORDER BY endpoint").fetch_all().await? {
            tasks.entry(row.get(0)?).or_default().push(row.get(1)?);
        }
    }
    let by_key = conn.dialect().by_primary_key();
    for (id, endpoints) in &tasks {
        let names: Vec<&EndpointName> = endpoints.iter().collect();
        for names in names.chunks(batch::KEYS) {
            let mut update = conn.sql(format!(
                "UPDATE response {by_key} SET withdrawn_at = ? WHERE +status = ? AND withdrawn_at IS NULL AND task_id = ? AND endpoint IN "
            ));
            update.bind(now).bind(status).bind(*id).keys(names).execute().await?;
        }
    }
    Ok(tasks.into_iter().collect())
}

/// Notes that endpoints are told to stop the tasks that they have begun. Answers which endpoints to tell, by
/// task.
async fn stop(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    facts: &[Fact],
    now: Timestamp,
) -> Result<Vec<(TaskId, Vec<EndpointName>)>, Fault> {
    let mut names: Vec<&EndpointName> = facts.iter().map(|fact| &fact.endpoint).collect();
    names.sort_unstable();
    let by_name = conn.dialect().index(BY_NAME);
    for names in names.chunks(batch::KEYS) {
        let mut update = conn.sql(format!(
            "UPDATE rollout_target {by_name} SET stopped = 1 WHERE rollout = ? AND stopped = 0 AND state = ? AND endpoint IN "
        ));
        update.bind(rollout.id).bind(TargetState::Sent.code()).keys(names).execute().await?;
    }
    take_back(conn, rollout, facts, ResponseStatus::Created, now).await
}

async fn write_waves(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    waves: &[WaveState],
    change: &Change,
) -> Result<(), Fault> {
    for (number, (before, after)) in (0u32..).zip(rollout.waves.iter().zip(waves)) {
        let of_wave: Vec<&WaveChange> =
            change.waves.iter().filter(|changed| changed.wave == number).collect();
        if before.counts == after.counts && before.probe == after.probe && of_wave.is_empty() {
            continue;
        }
        let mut update = conn.sql("UPDATE rollout_wave SET ");
        for (column, state) in COUNTS.into_iter().zip(TargetState::ALL) {
            update.push(column).push(" = ?, ").bind(after.counts.get(state));
        }
        let (mut phase, mut since, mut approvals, mut probe) = (before.phase, before.since, None, None);
        let (mut failed, mut unreachable) = (before.allowed_failed, before.allowed_unreachable);
        for changed in of_wave {
            (phase, since) = (changed.phase, changed.since);
            approvals = changed.approvals.as_ref().or(approvals);
            probe = changed.probe.as_ref().or(probe);
            (failed, unreachable) =
                (changed.allowed_failed.or(failed), changed.allowed_unreachable.or(unreachable));
        }
        update.push(
            "phase = ?, since = ?, allowed_failed = ?, allowed_unreachable = ?, approvals = ?, probe = ? WHERE rollout = ? AND wave = ?",
        );
        update.bind(phase.code()).bind(since).bind(failed).bind(unreachable);
        update.bind(json(approvals.unwrap_or(&before.approvals)).get());
        update.bind(json(probe.unwrap_or(&after.probe)).get()).bind(rollout.id).bind(number);
        all_of(update.execute().await?, &[number], GONE)?;
    }
    Ok(())
}

/// Writes what somebody changed of the document. Waves that have passed stay as they were.
async fn write_edit(conn: &mut Conn<'_>, rollout: &RolloutRecord, edit: &Edit) -> Result<(), Fault> {
    let mut update =
        conn.sql("UPDATE rollout SET document = ?, settings = ?, expires_at = ?, allowed_failed = ?, allowed_unreachable = ? WHERE id = ?");
    update.bind(edit.document.get()).bind(json(&edit.settings).get()).bind(edit.expires_at);
    update.bind(edit.allowed_failed).bind(edit.allowed_unreachable).bind(rollout.id);
    all_of(update.execute().await?, &[rollout.id], GONE)?;
    for (number, (before, wave)) in (0u32..).zip(rollout.waves.iter().zip(&edit.waves)) {
        if before.phase == WavePhase::Passed {
            continue;
        }
        let mut update = conn.sql(
            "UPDATE rollout_wave SET places = ?, allowed_failed = ?, allowed_unreachable = ?, settings = ? WHERE rollout = ? AND wave = ?",
        );
        update
            .bind(wave.window)
            .bind(wave.allowed_failed)
            .bind(wave.allowed_unreachable)
            .bind(json(&wave.terms).get());
        update.bind(rollout.id).bind(number);
        all_of(update.execute().await?, &[number], GONE)?;
    }
    Ok(())
}

async fn write_events(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    events: &[NewEvent],
    by: Option<&TokenName>,
    revision: u32,
    now: Timestamp,
) -> Result<(), Fault> {
    let numbered: Vec<(u32, &NewEvent)> = (rollout.events + 1..).zip(events).collect();
    for run in numbered.chunks(batch::WIDE_ROWS) {
        let mut insert = conn.insert("rollout_event");
        for (seq, event) in batch::padded(run) {
            insert
                .row()
                .set("rollout", rollout.id)
                .set("seq", *seq)
                .set("revision", revision)
                .set("time", now)
                .set("kind", event.kind.code())
                .set("actor", by.map(TokenName::as_str))
                .set("wave", event.wave)
                .set("endpoint", event.endpoint.as_ref())
                .set("told", event.text.as_deref());
        }
        // For the repeats that fill the statement up.
        insert.or_keep("kind").await?;
    }
    Ok(())
}

async fn write_rollout(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    change: &Change,
    revision: u32,
    batches: usize,
    now: Timestamp,
) -> Result<(), Fault> {
    let status = change.status.unwrap_or(rollout.status);
    let (mut resume_to, mut reason) = (rollout.resume_to, rollout.reason.as_deref());
    if change.status.is_some() {
        // Why it was given up stays true when it has ended.
        let kept =
            reason.filter(|_| matches!(rollout.status, RolloutStatus::Aborting | RolloutStatus::RollingBack));
        (resume_to, reason) =
            (change.resume_to.filter(|_| !status.admits()), change.reason.as_deref().or(kept));
    } else if change.reason.is_some() {
        reason = change.reason.as_deref();
    }
    let begins = rollout.status == RolloutStatus::Created && status == RolloutStatus::Running;
    let events = rollout.events + u32::try_from(change.events.len()).unwrap_or(u32::MAX);
    let mut update = conn.sql(
        "UPDATE rollout SET status = ?, resume_to = ?, reason = ?, revision = ?, events = ?, batches = ?, allowed_failed = ?, \
         allowed_unreachable = ?, admitted_at = ?, started_at = ?, ended_at = ?, due_at = ?, rolls_back = ? WHERE id = ? AND status = ?",
    );
    update
        .bind(status.code())
        .bind(resume_to.map(RolloutStatus::code))
        .bind(reason)
        .bind(revision)
        .bind(events);
    update.bind(rollout.batches + u32::try_from(batches).unwrap_or(u32::MAX));
    update
        .bind(change.allowed_failed.or(rollout.allowed_failed))
        .bind(change.allowed_unreachable.or(rollout.allowed_unreachable));
    update.bind(if change.admit.is_empty() { rollout.admitted_at } else { Some(now) });
    update.bind(if begins { Some(now) } else { rollout.started_at });
    update.bind(if status.is_final() { Some(now) } else { None }).bind(change.due_at);
    update
        .bind(u8::from(rollout.rolls_back || change.rolls_back))
        .bind(rollout.id)
        .bind(rollout.status.code());
    all_of(update.execute().await?, &[rollout.id], GONE)
}
