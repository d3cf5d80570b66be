//! What a pass reads of a rollout whose row is locked: what is in flight, of the rest no more than it can
//! use.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::records::{RolloutPick, RolloutRecord};
use super::rows::{rollout_status, target_state};
use super::{lane, probe, rollback};
use crate::domain::rollout::{
    ADMITTED, Answered, CatchUp, Fact, InFlight, Next, Presence, Returned, RolloutStatus, Slot, TargetState,
    View, WavePhase, WaveState, Windows, current,
};
use crate::domain::{EndpointName, Labels, ResponseStatus, Selector, TaskId, Timestamp, fact};
use crate::store::batch;
use crate::store::columns;
use crate::store::fault::Fault;
use crate::store::sql::{Conn, Row};
use crate::store::subscription::SubscriptionState;

/// Targets with news that are read at most, beside those in flight.
const NEWS: u32 = 200;
/// Targets that are read beside those that can be started: some may turn out to be away.
const SPARE: u32 = 64;
/// Targets that are read for one command at most.
const PICKED: u32 = 50_000;
/// An endpoint that is there and does not receive its tasks is started so often by itself. Then somebody has
/// to want it.
const ROUNDS: u32 = 2;
/// Characters of an error text that are read.
const NOTE: u32 = 300;

/// What is known of a rollout. Targets that may be started are read only where they can be.
pub(super) async fn view(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    now: Timestamp,
) -> Result<View, Fault> {
    let starts =
        rollout.status == RolloutStatus::Created && rollout.start_at.is_some_and(|start| start <= now);
    let mut view = without_targets(conn, rollout, starts).await?;
    view.in_flight = in_flight(conn, rollout).await?;
    if !rollout.status.admits() {
        // It is rolled back only once nothing is in flight.
        let is_drained = rollout.waves.iter().all(|wave| wave.counts.in_flight() == 0);
        view.changed = rollout.status == RolloutStatus::Aborting
            && rollout.rolls_back
            && is_drained
            && rollback::has_changed(conn, rollout).await?;
        view.rollback = if rollout.status == RolloutStatus::RollingBack {
            status_of_rollback(conn, rollout).await?
        } else {
            None
        };
        return Ok(view);
    }
    view.waited = waited(conn, rollout, view.newer, now).await?;
    view.returned = returned(conn, rollout).await?;
    let current = current(&view.waves).unwrap_or(view.waves.len().saturating_sub(1));
    if let Some((wave, terms)) =
        rollout.waves.get(current).and_then(|wave| probe::tried(wave).map(|terms| (wave, terms)))
    {
        match wave.probe.task {
            Some(task) => view.probe = Some(probe::result(conn, terms, task).await?),
            None if wave.probe.next_at.is_none_or(|at| at <= now) => {
                let place = u32::try_from(current).unwrap_or(u32::MAX);
                view.probed = probe::performers(conn, rollout, place, terms).await?;
            }
            None => {}
        }
    }
    if let Some(wave) = view.waves.get(current)
        && (wave.phase != WavePhase::Waiting || wave.terms.approval.is_none())
    {
        // Where the wave may pass now, the next one begins in the same pass.
        let following = view.waves.get(current + 1).filter(|_| may_pass(wave, &view.in_flight));
        let last = u32::try_from(current).unwrap_or(u32::MAX) + u32::from(following.is_some());
        let window = following.map_or(0, |following| following.window).max(wave.window);
        view.next = next(conn, rollout, last, &full(&view.in_flight), window.min(ADMITTED) + SPARE).await?;
        // With `latest`, it is known already whether there is a newer one of the same subject.
        if view.newer || rollout.settings.catch_up != CatchUp::Latest {
            let names = view.next.iter().map(|next| &next.fact.endpoint).collect();
            let mut overtaken = lane::started_by_newer(conn, rollout, names).await?;
            for next in &mut view.next {
                next.overtaken_by = overtaken.remove(&next.fact.endpoint);
            }
        }
    }
    Ok(view)
}

/// Whether nothing of a wave is left to be waited for once what is in flight has its outcomes.
fn may_pass(wave: &WaveState, in_flight: &[InFlight]) -> bool {
    let open = |target: &InFlight| matches!(target.answered, Answered::Nothing | Answered::Received { .. });
    wave.counts.get(TargetState::Pending) == 0
        && wave.terms.soak.is_zero()
        && wave.terms.probe.is_none()
        && !in_flight.iter().any(open)
}

/// What is known of a rollout apart from its targets.
pub(super) async fn without_targets(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    starts: bool,
) -> Result<View, Fault> {
    Ok(View {
        status: rollout.status,
        resume_to: rollout.resume_to,
        created_by: rollout.created_by.clone(),
        settings: rollout.settings.clone(),
        start_at: rollout.start_at,
        expires_at: rollout.expires_at,
        allowed_failed: rollout.allowed_failed,
        allowed_unreachable: rollout.allowed_unreachable,
        max_absent: rollout.max_absent,
        absent_now: if starts && rollout.max_absent.is_some() { absent(conn, rollout).await? } else { 0 },
        admitted_at: rollout.admitted_at,
        newer: if rollout.settings.catch_up == CatchUp::Latest {
            lane::has_newer(conn, rollout).await?
        } else {
            false
        },
        waves: rollout.waves.clone(),
        in_flight: Vec::new(),
        returned: Vec::new(),
        waited: Vec::new(),
        next: Vec::new(),
        probe: None,
        probed: Vec::new(),
        windows: Windows::ALWAYS,
        rolls_back: rollout.rolls_back,
        changed: false,
        rollback: None,
    })
}

/// Where the rollout stands that undoes this one.
async fn status_of_rollback(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
) -> Result<Option<RolloutStatus>, Fault> {
    let mut select = conn.sql(
        "SELECT c.status, c.id FROM rollout AS o JOIN rollout AS c ON c.id = o.undone_by WHERE o.id = ?",
    );
    let Some(row) = select.bind(rollout.id).fetch_optional().await? else { return Ok(None) };
    let status = rollout_status(row.get(0)?, || format!("rollout {}, column undone_by", rollout.id))?;
    // What is left to a newer rollout is not to be undone.
    let is_done = status == RolloutStatus::Partial && left_nothing(conn, row.get(1)?).await?;
    Ok(Some(if is_done { RolloutStatus::Done } else { status }))
}

/// Whether each target of a rollout has succeeded, or was left to a newer one.
async fn left_nothing(conn: &mut Conn<'_>, id: Uuid) -> Result<bool, Fault> {
    let mut select = conn
        .sql("SELECT COUNT(*) FROM rollout_wave WHERE rollout = ? AND size > count_ok + count_superseded");
    Ok(select.bind(id).fetch_one().await?.count(0)? == 0)
}

/// How many of the targets are away.
async fn absent(conn: &mut Conn<'_>, rollout: &RolloutRecord) -> Result<u32, Fault> {
    let mut count = conn.sql(
        "SELECT COUNT(*) FROM rollout_target AS t LEFT JOIN subscription AS s ON s.endpoint = t.endpoint AND s.task_type = ? \
         WHERE t.rollout = ? AND (s.state IS NULL OR s.state <> ?)",
    );
    count.bind(&rollout.task_type).bind(rollout.id).bind(SubscriptionState::Online);
    Ok(u32::try_from(count.fetch_one().await?.count(0)?).unwrap_or(u32::MAX))
}

async fn in_flight(conn: &mut Conn<'_>, rollout: &RolloutRecord) -> Result<Vec<InFlight>, Fault> {
    let finished = ResponseStatus::Finished;
    let mut found = Vec::new();
    for (state, news) in [
        (TargetState::Sent, ""),
        (TargetState::Verifying, ""),
        // Of the others only what has answered after all.
        (TargetState::Unreachable, "AND (r.start_time IS NOT NULL OR r.status = ?) LIMIT ?"),
        (TargetState::Failed, "AND t.errnr IS NULL AND r.errnr = 0 AND r.status = ? LIMIT ?"),
    ] {
        if rollout.waves.iter().all(|wave| wave.counts.get(state) == 0) {
            continue;
        }
        let index = conn.dialect().index("rollout_target_state");
        let join = if news.is_empty() { "LEFT JOIN" } else { "JOIN" };
        let mut select = conn.sql(format!(
            "SELECT t.wave, t.position, t.endpoint, t.since, t.present_since, t.instance, r.status, r.errnr, SUBSTR(r.errmsg, 1, {NOTE}), \
             r.start_time, s.state, s.instance, r.home, r.withdrawn_at, t.stopped, t.domain, t.domain_places, r.last_modified_time FROM rollout_target AS t {index} \
             {join} response AS r ON r.task_id = t.task_id AND r.endpoint = t.endpoint \
             LEFT JOIN subscription AS s ON s.endpoint = t.endpoint AND s.task_type = ? WHERE t.rollout = ? AND t.state = ? {news}"
        ));
        select.bind(&rollout.task_type).bind(rollout.id).bind(state.code());
        if !news.is_empty() {
            select.bind(finished).bind(NEWS);
        }
        for row in select.fetch_all().await? {
            found.push(one_in_flight(&row, state)?);
        }
    }
    judge_health(conn, rollout, &mut found).await?;
    Ok(found)
}

fn key(row: &Row) -> Result<Fact, Fault> {
    Ok(Fact { wave: row.get(0)?, position: row.get(1)?, endpoint: row.get(2)? })
}

/// The failure domain of a target, where that limits what is in flight.
fn slot(row: &Row, at: usize) -> Result<Option<Slot>, Fault> {
    let (domain, places) = (row.get::<Option<String>>(at)?, row.get::<Option<u32>>(at + 1)?);
    Ok(domain.zip(places).map(|(domain, places)| Slot { domain, places }))
}

/// The failure domains of which no more targets may be started now. Those that have answered will have left
/// when it is decided.
fn full(in_flight: &[InFlight]) -> Vec<String> {
    let mut taken: HashMap<&str, (u32, u32)> = HashMap::new();
    for target in in_flight {
        let stays = target.state == TargetState::Verifying
            || target.state == TargetState::Sent
                && matches!(target.answered, Answered::Nothing | Answered::Received { .. });
        if let Some(slot) = target.slot.as_ref().filter(|_| stays) {
            taken.entry(slot.domain.as_str()).or_insert((0, slot.places)).0 += 1;
        }
    }
    let mut full: Vec<String> = taken
        .into_iter()
        .filter(|(_, (taken, places))| taken >= places)
        .map(|(name, _)| name.to_owned())
        .collect();
    full.sort_unstable();
    full.truncate(batch::KEYS);
    full
}

fn is_online(row: &Row, at: usize) -> Result<bool, Fault> {
    Ok(row.get::<Option<u8>>(at)? == Some(SubscriptionState::Online.code()))
}

fn one_in_flight(row: &Row, state: TargetState) -> Result<InFlight, Fault> {
    let status = row
        .get::<Option<u8>>(6)?
        .map(|code| columns::response_status(code, || "response, column status".to_owned()));
    let received: Option<Timestamp> = row.get(9)?;
    let withdrawn = row.get::<Option<Timestamp>>(13)?.is_some();
    let answered = match status.transpose()? {
        None => Answered::Forgotten,
        Some(ResponseStatus::Expected) => Answered::Nothing,
        Some(ResponseStatus::Created) => received.map_or(Answered::Nothing, |at| Answered::Received { at }),
        Some(ResponseStatus::Finished) => Answered::Finished {
            errnr: row.get::<Option<i32>>(7)?.unwrap_or_default(),
            errmsg: row.get::<Option<String>>(8)?.unwrap_or_default(),
        },
        // The ledger itself cancels what nobody has received, without an answer of the endpoint.
        Some(ResponseStatus::Canceled) => Answered::Canceled {
            received: received.is_some(),
            unbegun: withdrawn && row.get::<Option<Uuid>>(12)?.is_some(),
        },
        Some(ResponseStatus::Expired) => Answered::Expired { received: received.is_some() },
    };
    let instance = if is_online(row, 10)? { row.get::<Option<Uuid>>(11)? } else { None };
    Ok(InFlight {
        fact: key(row)?,
        state,
        since: row.get(3)?,
        present_since: row.get(4)?,
        instance: row.get(5)?,
        answered,
        withdrawn,
        stopped: row.get::<u8>(14)? != 0,
        answered_at: row.get(17)?,
        presence: Presence { instance, fits: true },
        slot: slot(row, 15)?,
    })
}

/// Reads the labels of those that are to have some, and notes who does not fit.
async fn judge_health(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    targets: &mut [InFlight],
) -> Result<(), Fault> {
    let selectors = |wave: u32| -> &[Selector] {
        let wave = rollout.waves.get(usize::try_from(wave).unwrap_or(usize::MAX));
        wave.and_then(|wave| wave.terms.healthy.as_ref()).map_or(&[], |healthy| &healthy.selectors)
    };
    let asked =
        |target: &InFlight| target.state == TargetState::Verifying && !selectors(target.fact.wave).is_empty();
    let names: Vec<EndpointName> =
        targets.iter().filter(|target| asked(target)).map(|target| target.fact.endpoint.clone()).collect();
    let names: Vec<&EndpointName> = names.iter().collect();
    let mut facts: HashMap<EndpointName, (String, Labels)> = HashMap::with_capacity(names.len());
    for names in names.chunks(batch::KEYS) {
        for row in conn
            .sql("SELECT name, version, labels FROM endpoint WHERE name IN ")
            .keys(names)
            .fetch_all()
            .await?
        {
            facts.insert(row.get(0)?, (row.get(1)?, columns::labels_of(row.get(2)?)?));
        }
    }
    for target in targets {
        if asked(target) {
            let name = &target.fact.endpoint;
            let holds = |(version, labels): &(String, Labels)| {
                selectors(target.fact.wave)
                    .iter()
                    .all(|selector| selector.matches(|key| fact(name, version, labels, key)))
            };
            target.presence.fits = facts.get(name).is_some_and(holds);
        }
    }
    Ok(())
}

/// Targets that were waited for long enough, or that a newer rollout supersedes.
async fn waited(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    newer: bool,
    now: Timestamp,
) -> Result<Vec<Returned>, Fault> {
    let before = if newer { now } else { now.before(rollout.settings.catch_up_for) };
    let index = conn.dialect().index("rollout_target_state");
    let mut waited = Vec::new();
    for state in [TargetState::Absent, TargetState::Unreachable] {
        if rollout.waves.iter().all(|wave| wave.counts.get(state) == 0) {
            continue;
        }
        let mut select = conn.sql(format!(
            "SELECT t.wave, t.position, t.endpoint FROM rollout_target AS t {index} WHERE t.rollout = ? AND t.state = ? AND t.since <= ? \
             ORDER BY t.wave, t.position LIMIT ?"
        ));
        for row in select.bind(rollout.id).bind(state.code()).bind(before).bind(NEWS).fetch_all().await? {
            waited.push(Returned { fact: key(&row)?, state });
        }
    }
    Ok(waited)
}

/// Targets that were away and are back; of the unreachable ones those whose last task cannot start any more.
async fn returned(conn: &mut Conn<'_>, rollout: &RolloutRecord) -> Result<Vec<Returned>, Fault> {
    let mut found = Vec::new();
    for (state, closed) in [
        (TargetState::Absent, ""),
        (
            TargetState::Unreachable,
            "AND t.round < ? AND EXISTS (SELECT 1 FROM response AS r WHERE r.task_id = t.task_id AND r.endpoint = t.endpoint \
             AND (r.start_time IS NULL AND r.status IN (?, ?) OR r.status = ? AND r.withdrawn_at IS NOT NULL AND r.home IS NOT NULL))",
        ),
    ] {
        if rollout.waves.iter().all(|wave| wave.counts.get(state) == 0) {
            continue;
        }
        let index = conn.dialect().index("rollout_target_state");
        let mut select = conn.sql(format!(
            "SELECT t.wave, t.position, t.endpoint FROM rollout_target AS t {index} \
             JOIN subscription AS s ON s.endpoint = t.endpoint AND s.task_type = ? \
             WHERE t.rollout = ? AND t.state = ? AND s.state = ? {closed} ORDER BY t.wave, t.position LIMIT ?"
        ));
        select.bind(&rollout.task_type).bind(rollout.id).bind(state.code()).bind(SubscriptionState::Online);
        if !closed.is_empty() {
            select
                .bind(ROUNDS)
                .bind(ResponseStatus::Canceled)
                .bind(ResponseStatus::Expired)
                .bind(ResponseStatus::Canceled);
        }
        for row in select.bind(NEWS).fetch_all().await? {
            found.push(Returned { fact: key(&row)?, state });
        }
    }
    Ok(found)
}

/// The next targets in the order of their turns, up to a wave, without those that others hold and those of
/// failure domains that are full.
async fn next(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    last: u32,
    full: &[String],
    limit: u32,
) -> Result<Vec<Next>, Fault> {
    let index = conn.dialect().index("rollout_target_state");
    let mut select = conn.sql(format!(
        "SELECT t.wave, t.position, t.endpoint, s.state, t.domain, t.domain_places FROM rollout_target AS t {index} \
         LEFT JOIN subscription AS s ON s.endpoint = t.endpoint AND s.task_type = ? \
         LEFT JOIN rollout_hold AS h ON h.lane = ? AND h.endpoint = t.endpoint \
         WHERE t.rollout = ? AND t.state = ? AND t.wave <= ? AND h.endpoint IS NULL"
    ));
    select
        .bind(&rollout.task_type)
        .bind(rollout.lane.as_str())
        .bind(rollout.id)
        .bind(TargetState::Pending.code())
        .bind(last);
    if !full.is_empty() {
        let full: Vec<&str> = full.iter().map(String::as_str).collect();
        select.push(" AND (t.domain IS NULL OR t.domain NOT IN ").keys(&full).push(")");
    }
    let rows = select.push(" ORDER BY t.wave, t.position LIMIT ?").bind(limit).fetch_all().await?;
    rows.iter()
        .map(|row| {
            let (fact, there) = (key(row)?, is_online(row, 3)?);
            Ok(Next { fact, there, overtaken_by: None, slot: slot(row, 4)? })
        })
        .collect()
}

/// The targets that a command is about, without those whose task may still run.
pub(super) async fn picked(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    pick: &RolloutPick,
) -> Result<Vec<Returned>, Fault> {
    const SELECT: &str = "SELECT t.wave, t.position, t.endpoint, t.state FROM rollout_target AS t WHERE t.rollout = ? AND NOT EXISTS \
         (SELECT 1 FROM response AS r WHERE r.task_id = t.task_id AND r.endpoint = t.endpoint AND r.status < ?)";
    let ended = ResponseStatus::Finished;
    let mut rows = Vec::new();
    match pick {
        RolloutPick::Nobody => {}
        RolloutPick::Endpoints(names) => {
            let names: Vec<&EndpointName> = names.iter().collect();
            for names in names.chunks(batch::KEYS) {
                let mut select = conn.sql(format!("{SELECT} AND t.endpoint IN "));
                rows.extend(select.bind(rollout.id).bind(ended).keys(names).fetch_all().await?);
            }
        }
        RolloutPick::States(states, wave) => {
            let codes: Vec<u8> = states.iter().map(|state| state.code()).collect();
            let mut select = conn.sql(format!("{SELECT} AND t.state IN "));
            select.bind(rollout.id).bind(ended).keys(&codes);
            if let Some(wave) = wave {
                select.push(" AND t.wave = ?").bind(*wave);
            }
            rows = select.push(" ORDER BY t.wave, t.position LIMIT ?").bind(PICKED).fetch_all().await?;
        }
    }
    rows.iter().map(|row| Ok(Returned { fact: key(row)?, state: target_state(row.get(3)?)? })).collect()
}

/// Why a command is about nobody: an endpoint that is no target, or one whose task may still run.
pub(super) async fn left_out(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    pick: &RolloutPick,
) -> Result<Option<String>, Fault> {
    if let RolloutPick::Endpoints(names) = pick {
        let names: Vec<&EndpointName> = names.iter().take(batch::KEYS).collect();
        let mut select = conn.sql("SELECT endpoint FROM rollout_target WHERE rollout = ? AND endpoint IN ");
        let rows = select.bind(rollout.id).keys(&names).fetch_all().await?;
        let known: HashSet<EndpointName> = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
        if let Some(other) = names.iter().find(|name| !known.contains(**name)) {
            return Ok(Some(format!(
                "`{other}` is not a target of this rollout: `rollout targets` lists those it has"
            )));
        }
    }
    let mut select = conn.sql(
        "SELECT t.endpoint, t.task_id FROM rollout_target AS t \
         JOIN response AS r ON r.task_id = t.task_id AND r.endpoint = t.endpoint \
         WHERE t.rollout = ? AND r.status < ?",
    );
    select.bind(rollout.id).bind(ResponseStatus::Finished);
    match pick {
        RolloutPick::Nobody => return Ok(None),
        RolloutPick::Endpoints(names) => {
            let names: Vec<&EndpointName> = names.iter().take(batch::KEYS).collect();
            select.push(" AND t.endpoint IN ").keys(&names);
        }
        RolloutPick::States(states, wave) => {
            let codes: Vec<u8> = states.iter().map(|state| state.code()).collect();
            select.push(" AND t.state IN ").keys(&codes);
            if let Some(wave) = wave {
                select.push(" AND t.wave = ?").bind(*wave);
            }
        }
    }
    let Some(row) = select.push(" ORDER BY t.wave, t.position LIMIT 1").fetch_optional().await? else {
        return Ok(None);
    };
    let (endpoint, task): (EndpointName, TaskId) = (row.get(0)?, row.get(1)?);
    Ok(Some(format!(
        "the task {task} of `{endpoint}` has not ended there and may still run: wait for it, or cancel it (`tasker cancel {task}`)"
    )))
}
