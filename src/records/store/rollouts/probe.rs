//! What a pass reads of the probe of a wave: what has come of a try, and who performs the next one.

use serde_json::Value;

use super::records::RolloutRecord;
use crate::domain::rollout::{Probe, ProbeOn, ProbeResult, TargetState, WavePhase, WaveState};
use crate::domain::{Attendance, EndpointName, Member, ResponseStatus, TaskId, TaskStatus, holds};
use crate::store::columns;
use crate::store::fault::Fault;
use crate::store::presence;
use crate::store::sql::{Conn, Row};

/// Bytes of an answer, or of a value of it, that are told of.
const TOLD: usize = 120;

/// What has come of a try.
pub(super) async fn result(conn: &mut Conn<'_>, probe: &Probe, task: TaskId) -> Result<ProbeResult, Fault> {
    let Some(row) = conn.sql("SELECT status FROM task WHERE id = ?").bind(task).fetch_optional().await?
    else {
        return Ok(ProbeResult::Ended { ok: 0, of: 0, fault: Some("its task was forgotten".to_owned()) });
    };
    let status = columns::task_status(row.get(0)?, || format!("task {task}, column status"))?;
    if !status.is_final() {
        return Ok(ProbeResult::Open);
    }
    let mut select = conn.sql(
        "SELECT endpoint, status, errnr, errmsg, payload FROM response WHERE task_id = ? ORDER BY endpoint",
    );
    let (mut ok, mut of, mut fault) = (0, 0, None);
    for row in select.bind(task).fetch_all().await? {
        of += 1;
        match fault_of(&row, probe, status)? {
            None => ok += 1,
            Some(told) if fault.is_none() => fault = Some(format!("{}: {told}", row.get::<EndpointName>(0)?)),
            Some(_) => {}
        }
    }
    Ok(ProbeResult::Ended { ok, of, fault })
}

/// Why an endpoint has not passed.
fn fault_of(row: &Row, probe: &Probe, task: TaskStatus) -> Result<Option<String>, Fault> {
    let status = columns::response_status(row.get(1)?, || "response, column status".to_owned())?;
    if status != ResponseStatus::Finished {
        return Ok(Some(
            if task == TaskStatus::Canceled { "it was canceled" } else { "no answer in time" }.to_owned(),
        ));
    }
    match row.get::<Option<i32>>(2)? {
        None | Some(0) => {}
        Some(errnr) => {
            let text = row.get::<Option<String>>(3)?.unwrap_or_default();
            return Ok(Some(format!("errnr {errnr} {}", shortened(&text))));
        }
    }
    if probe.expect.is_empty() {
        return Ok(None);
    }
    let payload: Option<String> = row.get(4)?;
    let answer: Value = payload.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let differs = |(pointer, expected): (&String, &Value)| {
        let found = answer.pointer(pointer);
        (found != Some(expected)).then(|| {
            let found = found.map_or_else(|| "missing".to_owned(), |found| shortened(&found.to_string()));
            format!("{pointer} is {found}, expected {}", shortened(&expected.to_string()))
        })
    };
    Ok(probe.expect.iter().find_map(differs))
}

fn shortened(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line[..line.floor_char_boundary(TOLD)].to_owned()
}

/// Who performs the next try.
pub(super) async fn performers(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    place: u32,
    probe: &Probe,
) -> Result<Vec<EndpointName>, Fault> {
    if let ProbeOn::Match(selectors) = &probe.on {
        let members = presence::members(conn, probe.task_type.clone()).await?;
        let fits = |member: &Member| {
            let Member { name, version, labels, .. } = member;
            member.attendance == Attendance::Subscribed
                && selectors.iter().all(|selector| holds(selector, name, version, labels))
        };
        return Ok(members.into_iter().filter(|member| fits(member)).map(|member| member.name).collect());
    }
    let index = conn.dialect().index("rollout_target_state");
    let waves = if probe.on == ProbeOn::Wave { "=" } else { "<=" };
    let mut select = conn.sql(format!(
        "SELECT t.endpoint FROM rollout_target AS t {index} WHERE t.rollout = ? AND t.state = ? AND t.wave {waves} ? ORDER BY t.wave, t.position"
    ));
    let rows = select.bind(rollout.id).bind(TargetState::Ok.code()).bind(place).fetch_all().await?;
    rows.iter().map(|row| row.get(0)).collect()
}

/// The probe of a wave that is tried now.
pub(super) fn tried(wave: &WaveState) -> Option<&Probe> {
    wave.terms.probe.as_ref().filter(|_| wave.phase == WavePhase::Probing)
}
