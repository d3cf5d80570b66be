//! Other waves in the place of those of a rollout that had not begun, with their targets.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::records::RolloutRecord;
use super::rows::{BY_NAME, COUNTS};
use crate::domain::rollout::{TargetState, WaveAnew, WavePhase, WavesAnew};
use crate::domain::{EndpointName, Timestamp, json};
use crate::store::batch;
use crate::store::fault::Fault;
use crate::store::sql::Conn;

/// Puts the targets into the new waves and writes these. The row of the rollout is locked, and nothing of it
/// is started meanwhile: a target that has left PENDING by itself stays in the wave that is open.
pub(super) async fn write(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    anew: &WavesAnew,
    now: Timestamp,
) -> Result<(), Fault> {
    let turns = Turns::read(conn, rollout.id).await?;
    let mut top = turns.end;
    for (number, wave) in (anew.first..).zip(&anew.waves) {
        put(conn, rollout.id, anew, number, wave, &turns, &mut top).await?;
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
        update.push(" WHERE rollout = ? AND wave = ?").bind(rollout.id).bind(number).execute().await?;
    }
    Ok(())
}

/// The places of all targets of a rollout before anything is moved.
struct Turns {
    /// Places before those of a wave, for each wave.
    before: BTreeMap<u32, u32>,
    /// A place behind all that there are.
    end: u32,
}

impl Turns {
    async fn read(conn: &mut Conn<'_>, rollout: Uuid) -> Result<Self, Fault> {
        let mut select = conn.sql(
            "SELECT wave, MAX(position) FROM rollout_target WHERE rollout = ? GROUP BY wave ORDER BY wave",
        );
        let (mut before, mut end, mut highest) = (BTreeMap::new(), 0, 0);
        for row in select.bind(rollout).fetch_all().await? {
            let (wave, last): (u32, u32) = (row.get(0)?, row.get(1)?);
            before.insert(wave, end);
            (end, highest) = (end + last + 1, highest.max(last + 1));
        }
        // So no place that is given is one that a target has now.
        for places in before.values_mut() {
            *places += highest;
        }
        Ok(Self { before, end: end + highest })
    }
}

/// Puts targets into a wave. Each statement moves those of one wave by the same number of places: their order
/// stays. Those of a list get one place after the other behind all others.
async fn put(
    conn: &mut Conn<'_>,
    rollout: Uuid,
    anew: &WavesAnew,
    number: u32,
    wave: &WaveAnew,
    turns: &Turns,
    top: &mut u32,
) -> Result<(), Fault> {
    if wave.listed {
        for (from, name) in &wave.targets {
            moved(conn, rollout, anew, *from, number, "?", *top, std::slice::from_ref(&name)).await?;
            *top += 1;
        }
        return Ok(());
    }
    let mut by_wave: BTreeMap<u32, Vec<&EndpointName>> = BTreeMap::new();
    for (from, name) in &wave.targets {
        by_wave.entry(*from).or_default().push(name);
    }
    for (from, mut names) in by_wave {
        names.sort_unstable();
        let places = turns.before.get(&from).copied().unwrap_or_default();
        for names in names.chunks(batch::KEYS) {
            moved(conn, rollout, anew, from, number, "position + ?", places, names).await?;
        }
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "one statement")]
async fn moved(
    conn: &mut Conn<'_>,
    rollout: Uuid,
    anew: &WavesAnew,
    from: u32,
    to: u32,
    position: &str,
    places: u32,
    names: &[&EndpointName],
) -> Result<(), Fault> {
    let by_name = conn.dialect().index(BY_NAME);
    let mut update = conn.sql(format!(
        "UPDATE rollout_target {by_name} SET wave = ?, position = {position} WHERE rollout = ? AND wave = ?"
    ));
    update.bind(to).bind(places).bind(rollout).bind(from);
    if anew.is_open && from == anew.first {
        update.push(" AND state = ?").bind(TargetState::Pending.code());
    }
    update.push(" AND endpoint IN ").keys(names).execute().await.map(drop)
}

/// How many targets of the waves from the first on are in each state.
async fn count(conn: &mut Conn<'_>, rollout: Uuid, first: u32) -> Result<BTreeMap<(u32, u8), u32>, Fault> {
    let mut select = conn.sql(
        "SELECT wave, state, COUNT(*) FROM rollout_target WHERE rollout = ? AND wave >= ? GROUP BY wave, state",
    );
    let rows = select.bind(rollout).bind(first).fetch_all().await?;
    rows.iter()
        .map(|row| {
            let number: i64 = row.get(2)?;
            Ok(((row.get(0)?, row.get(1)?), u32::try_from(number).unwrap_or(u32::MAX)))
        })
        .collect()
}
