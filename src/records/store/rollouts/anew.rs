//! Other waves in the place of those of a rollout that had not begun, with their targets.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::records::RolloutRecord;
use super::rows::{BY_NAME, COUNTS, GONE};
use crate::domain::rollout::{TargetState, WavePhase, WavesAnew};
use crate::domain::{EndpointName, Timestamp, json};
use crate::store::batch;
use crate::store::fault::Fault;
use crate::store::sql::Conn;
use crate::store::tasks::all_of;

/// Puts the targets into the new waves and writes these. The row of the rollout is locked, and nothing of it
/// is started meanwhile: a target that has left PENDING by itself stays in the wave that is open.
pub(super) async fn write(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    anew: &WavesAnew,
    now: Timestamp,
) -> Result<(), Fault> {
    let mut place = free_place(conn, rollout.id).await?;
    for (number, wave) in (anew.first..).zip(&anew.waves) {
        put(conn, rollout.id, anew, number, &wave.targets, place).await?;
        place += u32::try_from(wave.targets.len()).unwrap_or(u32::MAX);
    }
    let first_that_waits = anew.first + u32::from(anew.is_open);
    let mut delete = conn.sql("DELETE FROM rollout_wave WHERE rollout = ? AND wave >= ? AND phase = ?");
    delete.bind(rollout.id).bind(first_that_waits).bind(WavePhase::Waiting.code()).execute().await?;
    // The turn of the wave that waits has come if it had come before.
    let place = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let its_turn = rollout.waves.get(place(first_that_waits)).is_some_and(|wave| wave.since.is_some());
    let waiting = (anew.first..).zip(&anew.waves).filter(|(number, _)| *number >= first_that_waits);
    for (number, wave) in waiting {
        let mut insert = conn.insert("rollout_wave");
        insert
            .row()
            .set("rollout", rollout.id)
            .set("wave", number)
            .set("size", 0u32)
            .set("phase", WavePhase::Waiting.code())
            .set("since", (its_turn && number == first_that_waits).then_some(now))
            .set("places", wave.runs.window)
            .set("settings", json(&wave.runs.terms).get());
        insert.all().await?;
    }
    let counts = count(conn, rollout.id, anew.first).await?;
    for (number, wave) in (anew.first..).zip(&anew.waves) {
        let of_wave = |state: TargetState| counts.get(&(number, state.code())).copied().unwrap_or_default();
        let size: u32 = TargetState::ALL.into_iter().map(of_wave).sum();
        let mut update = conn.sql(
            "UPDATE rollout_wave SET name = ?, size = ?, places = ?, allowed_failed = ?, allowed_unreachable = ?, settings = ?",
        );
        update
            .bind(wave.name.as_deref())
            .bind(size)
            .bind(wave.runs.window)
            .bind(wave.runs.allowed_failed)
            .bind(wave.runs.allowed_unreachable)
            .bind(json(&wave.runs.terms).get());
        for (column, state) in COUNTS.into_iter().zip(TargetState::ALL) {
            update.push(", ").push(column).push(" = ?").bind(of_wave(state));
        }
        update.push(" WHERE rollout = ? AND wave = ?").bind(rollout.id).bind(number);
        all_of(update.execute().await?, &[number], GONE)?;
    }
    Ok(())
}

/// Puts targets into a wave, in the order in which they are given, at places from this one on.
async fn put(
    conn: &mut Conn<'_>,
    rollout: Uuid,
    anew: &WavesAnew,
    number: u32,
    targets: &[EndpointName],
    first: u32,
) -> Result<(), Fault> {
    let by_name = conn.dialect().index(BY_NAME);
    let mut place = first;
    for names in targets.chunks(batch::KEYS) {
        let mut update =
            conn.sql(format!("UPDATE rollout_target {by_name} SET wave = ?, position = CASE endpoint"));
        update.bind(number);
        for name in names {
            update.push(" WHEN ? THEN ?").bind(name).bind(place);
            place += 1;
        }
        update.push(" ELSE position END WHERE rollout = ?").bind(rollout);
        if anew.is_open {
            update.push(" AND (wave <> ? OR state = ?)").bind(anew.first).bind(TargetState::Pending.code());
        }
        let mut names: Vec<&EndpointName> = names.iter().collect();
        names.sort_unstable();
        update.push(" AND endpoint IN ").keys(&names).execute().await?;
    }
    Ok(())
}

/// A place behind those of all targets of a rollout: no target has it or one after it.
async fn free_place(conn: &mut Conn<'_>, rollout: Uuid) -> Result<u32, Fault> {
    let mut select = conn.sql("SELECT MAX(position) FROM rollout_target WHERE rollout = ?");
    let last: Option<u32> = select.bind(rollout).fetch_one().await?.get(0)?;
    Ok(last.map_or(0, |last| last.saturating_add(1)))
}

/// How many targets of the waves from the first on are in each state.
async fn count(conn: &mut Conn<'_>, rollout: Uuid, first: u32) -> Result<BTreeMap<(u32, u8), u32>, Fault> {
    let mut select = conn.sql(
        "SELECT wave, state, COUNT(*) FROM rollout_target WHERE rollout = ? AND wave >= ? GROUP BY wave, state",
    );
    let rows = select.bind(rollout).bind(first).fetch_all().await?;
    rows.iter()
        .map(|row| Ok(((row.get(0)?, row.get(1)?), u32::try_from(row.count(2)?).unwrap_or(u32::MAX))))
        .collect()
}
