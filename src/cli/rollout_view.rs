//! Rollouts as people see them. Pure: values in, text out.

use std::fmt::Write;

use super::render::{clock, thousands, visible};
use super::table::{Cell, Colour, Narrow, Screen, Table};
use crate::contract::{Rollout, RolloutEvent, RolloutHold, RolloutPlan, RolloutTarget, RolloutWave};
use crate::domain::rollout::{RolloutStatus, TargetState, WavePhase};

/// Waves that are shown one by one; of more, those that have passed or wait are left out.
const EACH: usize = 12;

fn colour(status: RolloutStatus) -> Colour {
    match status {
        RolloutStatus::Done => Colour::Good,
        RolloutStatus::Halted | RolloutStatus::Partial | RolloutStatus::RollbackFailed => Colour::Bad,
        RolloutStatus::Paused
        | RolloutStatus::Aborting
        | RolloutStatus::Aborted
        | RolloutStatus::RollingBack
        | RolloutStatus::RolledBack => Colour::Open,
        RolloutStatus::Created | RolloutStatus::Running | RolloutStatus::Settling => Colour::Plain,
    }
}

fn colour_of_state(state: TargetState) -> Colour {
    match state {
        TargetState::Ok => Colour::Good,
        TargetState::Failed | TargetState::Unreachable => Colour::Bad,
        TargetState::Absent | TargetState::Skipped | TargetState::Superseded => Colour::Open,
        TargetState::Pending | TargetState::Sent | TargetState::Verifying => Colour::Plain,
    }
}

/// A number with commas: `1,204`.
fn grouped(number: u32) -> String {
    thousands(number.into())
}

fn limit(number: Option<u32>) -> String {
    number.map_or_else(|| "any".to_owned(), grouped)
}

/// Endpoints of a wave in a state that a budget limits, and how many the budget allows.
fn budgeted(number: u32, allowed: Option<u32>) -> Cell {
    let max = allowed.map_or_else(String::new, |allowed| format!(" (max {})", grouped(allowed)));
    let over = allowed.is_some_and(|allowed| number > allowed);
    Cell::new(format!("{}{max}", grouped(number)), if over { Colour::Bad } else { Colour::Plain })
}

fn count(number: u32, bad: bool) -> Cell {
    Cell::new(grouped(number), if bad && number > 0 { Colour::Bad } else { Colour::Plain })
}

/// What a document would do.
pub(super) fn plan(plan: &RolloutPlan, with_endpoints: bool, screen: Screen) -> String {
    let limit_of_absent =
        plan.max_absent.map_or_else(String::new, |max| format!(" (limit {})", grouped(max)));
    let mut text =
        format!("{} endpoints, {} absent{limit_of_absent}\n", grouped(plan.size), grouped(plan.absent));
    let mut table = Table::new([
        ("WAVE", Narrow::Keep),
        ("SIZE", Narrow::Keep),
        ("ABSENT", Narrow::Drop),
        ("WINDOW", Narrow::Keep),
        ("FAILED/UNREACHABLE", Narrow::Keep),
        ("GATES", Narrow::Cut),
    ]);
    for wave in &plan.waves {
        let name = wave.name.as_deref().map_or_else(String::new, |name| format!(" {}", visible(name)));
        table.push([
            format!("{}{name}", wave.wave).into(),
            grouped(wave.size).into(),
            grouped(wave.absent).into(),
            grouped(wave.window).into(),
            format!("{} / {}", limit(wave.allowed_failed), limit(wave.allowed_unreachable)).into(),
            wave.gates.join(", ").into(),
        ]);
    }
    text.push_str(&table.text(screen));
    if let Some(subject) = &plan.subject {
        let _ = writeln!(text, "subject {subject} of the lane {}", plan.lane);
    }
    let total = format!(
        "total allowance: failed {}, unreachable {}",
        limit(plan.allowed_failed),
        limit(plan.allowed_unreachable)
    );
    let window = plan.next_window.map_or_else(String::new, |time| format!(". Next window {}", clock(time)));
    let _ = writeln!(text, "{total}{window}");
    if let (Some(least), Some(most)) = (
        plan.domains.iter().map(|one| one.max_in_flight).min(),
        plan.domains.iter().map(|one| one.max_in_flight).max(),
    ) {
        let places = if least == most { limit(most) } else { format!("{} to {}", limit(least), limit(most)) };
        let _ = writeln!(
            text,
            "failure domains: {}, of each at most {places} in flight",
            grouped(u32::try_from(plan.domains.len()).unwrap_or(u32::MAX))
        );
    }
    for warning in &plan.warnings {
        let _ = writeln!(text, "warning: {}", visible(warning));
    }
    if with_endpoints {
        for wave in &plan.waves {
            let names: Vec<&str> = wave.endpoints.iter().map(|name| name.as_str()).collect();
            let _ = writeln!(text, "wave {}: {}", wave.wave, names.join(" "));
        }
    }
    text
}

/// Where a rollout stands, in a line.
pub(super) fn heading(rollout: &Rollout, screen: Screen) -> String {
    let status = screen.paint(rollout.status.as_str(), colour(rollout.status));
    let why = why(rollout);
    let place = match (rollout.wave, rollout.status.is_final()) {
        // Most reasons begin with their wave.
        (Some(wave), false) if !why.starts_with("wave ") => {
            format!(", wave {wave} of {}", rollout.waves.len())
        }
        _ => String::new(),
    };
    let reason = if why.is_empty() { why } else { format!(": {why}") };
    format!("{status} {} ({}){place}{reason}", rollout.identifier, rollout.task_type)
}

/// Why a rollout does not go on, or what it waits for.
fn why(rollout: &Rollout) -> String {
    match (&rollout.reason, rollout.next_window, rollout.start_at) {
        (Some(reason), ..) => visible(reason),
        (None, Some(opens), _) => {
            format!("starts nothing before its maintenance window opens at {}", clock(opens))
        }
        (None, None, Some(start)) if rollout.status == RolloutStatus::Created => {
            format!("starts at {}", clock(start))
        }
        (None, None, None) if rollout.status == RolloutStatus::Created => {
            "waits until somebody starts it".to_owned()
        }
        _ => String::new(),
    }
}

/// How far a rollout is, in a line.
pub(super) fn summary(rollout: &Rollout) -> String {
    let counts = &rollout.counts;
    let mut parts = vec![format!("{} of {} ok", grouped(counts.ok), grouped(rollout.size))];
    for (number, word) in [
        (counts.in_flight(), "in flight"),
        (counts.failed, "failed"),
        (counts.unreachable, "unreachable"),
        (counts.absent, "absent"),
        (counts.skipped, "skipped"),
        (counts.superseded, "superseded"),
    ] {
        if number > 0 {
            parts.push(format!("{} {word}", grouped(number)));
        }
    }
    parts.join(", ")
}

/// A rollout with its waves and those of its endpoints that failed.
pub(super) fn outcome(rollout: &Rollout, bad: &[RolloutTarget], screen: Screen) -> String {
    let mut text = heading(rollout, screen) + "\n" + &summary(rollout) + "\n";
    text.push_str(&waves(rollout, screen));
    for target in bad {
        let errnr = target.errnr.map_or_else(String::new, |errnr| format!("  errnr {errnr}"));
        let note = target.note.as_deref().map_or_else(String::new, |note| format!("  {}", visible(note)));
        let state = screen.paint(&target.state.as_str().to_lowercase(), colour_of_state(target.state));
        let _ = writeln!(text, "{}  {state}{errnr}{note}", target.endpoint);
    }
    text
}

/// The same, and what can be done next.
pub(super) fn rollout(rollout: &Rollout, bad: &[RolloutTarget], screen: Screen) -> String {
    let mut text = outcome(rollout, bad, screen);
    let more = (rollout.counts.failed + rollout.counts.unreachable)
        .saturating_sub(u32::try_from(bad.len()).unwrap_or(u32::MAX));
    if more > 0 {
        let which = match bad {
            [] => "failed or unreachable".to_owned(),
            _ => format!("and {} more", grouped(more)),
        };
        let _ = writeln!(
            text,
            "{which}: tasker rollout targets {} --state FAILED,UNREACHABLE",
            rollout.identifier
        );
    }
    for (place, next) in next(rollout).into_iter().enumerate() {
        let _ = writeln!(text, "{} tasker rollout {next}", if place == 0 { "next:" } else { "     " });
    }
    text
}

/// What somebody can do now, as it is typed after `tasker rollout`.
fn next(rollout: &Rollout) -> Vec<String> {
    let name = &rollout.identifier;
    let all = |verbs: &[&str]| {
        let abort = rollout.rollback.as_ref().map(|_| format!("abort {name} --rollback"));
        let verbs = verbs.iter().map(|verb| match verb.split_once(' ') {
            Some((verb, flags)) => format!("{verb} {name} {flags}"),
            None => format!("{verb} {name}"),
        });
        verbs
            .chain(abort.filter(|_| matches!(rollout.status, RolloutStatus::Halted | RolloutStatus::Paused)))
            .collect()
    };
    let waits = rollout.wave.and_then(|wave| rollout.waves.iter().find(|one| one.wave == wave));
    let gate = waits.filter(|wave| wave.phase == WavePhase::Waiting && wave.since.is_some());
    let gate = gate.and_then(|wave| wave.gates.iter().find(|gate| gate.starts_with("approval")));
    match rollout.status {
        RolloutStatus::Created if rollout.start_at.is_none() => all(&["start", "abort"]),
        RolloutStatus::Halted if waits.is_some_and(|wave| wave.phase == WavePhase::Probing) => {
            all(&["resume", "skip --gate", "abort"])
        }
        RolloutStatus::Halted if rollout.counts.failed + rollout.counts.unreachable == 0 => {
            all(&["resume", "abort"])
        }
        RolloutStatus::Halted => {
            let counts = waits.map(|wave| wave.counts).unwrap_or_default();
            let failed =
                if counts.failed > 0 { format!(" --allow-failed {}", counts.failed) } else { String::new() };
            let unreachable = if counts.unreachable > 0 {
                format!(" --allow-unreachable {}", counts.unreachable)
            } else {
                String::new()
            };
            let bad = match (rollout.counts.failed, rollout.counts.unreachable) {
                (_, 0) => "skip --state FAILED",
                (0, _) => "skip --state UNREACHABLE",
                _ => "skip --state FAILED,UNREACHABLE",
            };
            all(&["retry", bad, &format!("resume{failed}{unreachable}"), "abort"])
        }
        RolloutStatus::Paused => all(&["resume", "abort"]),
        RolloutStatus::Running if gate.is_some() => all(&["approve", "refuse", "skip --gate"]),
        RolloutStatus::RollingBack | RolloutStatus::RollbackFailed => {
            let undone_by = rollout.rollback.as_ref().and_then(|rollback| rollback.rollout.as_ref());
            undone_by.map(|undone_by| format!("show {undone_by}")).into_iter().collect()
        }
        RolloutStatus::Partial if rollout.counts.ok + rollout.counts.superseded < rollout.size => {
            all(&["rerun --identifier NAME"])
        }
        _ => Vec::new(),
    }
}

fn waves(rollout: &Rollout, screen: Screen) -> String {
    let (waves, current, is_over) = (&rollout.waves, rollout.wave, rollout.status.is_final());
    // Of a rollout that is over nothing is under way any more, and nothing comes.
    let phase = |phase: WavePhase| match (phase, is_over) {
        (WavePhase::Passed, _) | (_, false) => phase.as_str(),
        (WavePhase::Waiting, true) => "not begun",
        (_, true) => "stopped",
    };
    let mut table = Table::new([
        ("WAVE", Narrow::Keep),
        ("PHASE", Narrow::Keep),
        ("OK", Narrow::Keep),
        ("FLIGHT", Narrow::Keep),
        ("FAILED", Narrow::Keep),
        ("UNREACHABLE", Narrow::Keep),
        ("ABSENT", Narrow::Drop),
        (if is_over && rollout.counts.pending > 0 { "NOT BEGUN" } else { "LEFT" }, Narrow::Keep),
        ("GATES", Narrow::Cut),
    ]);
    let near = |wave: &&RolloutWave| {
        waves.len() <= EACH || current.is_none_or(|current| wave.wave.abs_diff(current) <= 4)
    };
    for wave in waves.iter().filter(near) {
        let counts = &wave.counts;
        let good = if counts.ok == wave.size { Colour::Good } else { Colour::Plain };
        let name = wave.name.as_deref().map_or_else(String::new, |name| format!(" {}", visible(name)));
        table.push([
            format!("{}{name}", wave.wave).into(),
            Cell::new(
                phase(wave.phase),
                if wave.phase == WavePhase::Passed { Colour::Good } else { Colour::Plain },
            ),
            Cell::new(grouped(counts.ok), good),
            grouped(counts.in_flight()).into(),
            budgeted(counts.failed, wave.allowed_failed),
            budgeted(counts.unreachable, wave.allowed_unreachable),
            grouped(counts.absent).into(),
            grouped(counts.pending).into(),
            wave.gates.join(", ").into(),
        ]);
    }
    table.text(screen)
}

/// Rollouts, one a line.
pub(super) fn rollouts(rollouts: &[Rollout], screen: Screen) -> String {
    let mut table = Table::new([
        ("ROLLOUT", Narrow::Keep),
        ("TYPE", Narrow::Drop),
        ("STATUS", Narrow::Keep),
        ("WAVE", Narrow::Keep),
        ("OK", Narrow::Keep),
        ("FAILED", Narrow::Keep),
        ("UNREACHABLE", Narrow::Drop),
        ("CREATED", Narrow::Drop),
        ("REASON", Narrow::Cut),
    ]);
    for rollout in rollouts {
        let wave = rollout.wave.unwrap_or_else(|| u32::try_from(rollout.waves.len()).unwrap_or(u32::MAX));
        table.push([
            rollout.identifier.as_str().into(),
            rollout.task_type.as_str().into(),
            Cell::new(rollout.status.as_str(), colour(rollout.status)),
            format!("{wave}/{}", rollout.waves.len()).into(),
            format!("{}/{}", grouped(rollout.counts.ok), grouped(rollout.size)).into(),
            count(rollout.counts.failed, true),
            count(rollout.counts.unreachable, true),
            clock(rollout.created).into(),
            why(rollout).into(),
        ]);
    }
    table.text(screen)
}

/// Endpoints of a rollout, one a line.
pub(super) fn targets(targets: &[RolloutTarget], screen: Screen) -> String {
    let mut table = Table::new([
        ("ENDPOINT", Narrow::Keep),
        ("WAVE", Narrow::Keep),
        ("STATE", Narrow::Keep),
        ("ROUND", Narrow::Drop),
        ("SINCE", Narrow::Drop),
        ("ERRNR", Narrow::Keep),
        ("NOTE", Narrow::Cut),
    ]);
    for target in targets {
        table.push([
            target.endpoint.as_str().into(),
            target.wave.to_string().into(),
            Cell::new(target.state.as_str(), colour_of_state(target.state)),
            target.round.to_string().into(),
            clock(target.since).into(),
            target.errnr.map_or_else(String::new, |errnr| errnr.to_string()).into(),
            visible(target.note.as_deref().unwrap_or_default()).into(),
        ]);
    }
    table.text(screen)
}

/// Events of a rollout, one a line.
pub(super) fn events(events: &[RolloutEvent]) -> String {
    let mut text = String::new();
    for told in events {
        let _ = writeln!(text, "{}  {}", clock(told.time), event(told));
    }
    text
}

/// What happened to a rollout, without the time.
pub(super) fn event(event: &RolloutEvent) -> String {
    let wave = event.wave.map_or_else(String::new, |wave| format!(" wave {wave}"));
    let endpoint = event.endpoint.as_ref().map_or_else(String::new, |endpoint| format!(" {endpoint}"));
    // Some texts begin with the wave, too.
    let repeats = |text: &str| {
        let rest = event.wave.and_then(|wave| text.strip_prefix(&format!("wave {wave}")).map(str::to_owned));
        rest.filter(|rest| rest.starts_with(' '))
    };
    let told = event.text.as_deref().map_or_else(String::new, |text| match repeats(text) {
        Some(rest) => visible(&rest),
        None => format!(": {}", visible(text)),
    });
    let actor = event.actor.as_deref().map_or_else(String::new, |actor| format!(" (by {})", visible(actor)));
    format!("{}{wave}{endpoint}{told}{actor}", event.kind.as_str())
}

/// Endpoints in flight, one a line.
pub(super) fn holds(holds: &[RolloutHold], screen: Screen) -> String {
    let mut table = Table::new([
        ("LANE", Narrow::Keep),
        ("ENDPOINT", Narrow::Keep),
        ("ROLLOUT", Narrow::Keep),
        ("SINCE", Narrow::Drop),
    ]);
    for hold in holds {
        let since = clock(hold.since);
        table.push([
            hold.lane.as_str().into(),
            hold.endpoint.as_str().into(),
            hold.rollout.as_str().into(),
            since.into(),
        ]);
    }
    table.text(screen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{RolloutCounts, RolloutPlanWave, RolloutRollback};
    use crate::domain::Timestamp;
    use crate::domain::rollout::{EventKind, RollbackOn};

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    fn wave(number: u32, phase: WavePhase, counts: RolloutCounts) -> RolloutWave {
        RolloutWave {
            wave: number,
            name: None,
            phase,
            since: Some(NOW),
            size: counts.ok + counts.failed + counts.absent + counts.pending + counts.sent,
            window: 100,
            allowed_failed: Some(0),
            allowed_unreachable: Some(30),
            gates: Vec::new(),
            approvals: Vec::new(),
            counts,
        }
    }

    fn halted() -> Rollout {
        let first = wave(1, WavePhase::Passed, RolloutCounts { ok: 61, ..RolloutCounts::default() });
        let counts =
            RolloutCounts { ok: 58, failed: 1, absent: 8, pending: 1234, ..RolloutCounts::default() };
        let second = wave(2, WavePhase::Admitting, counts);
        let mut sum = first.counts;
        sum.add(&second.counts);
        Rollout {
            id: uuid::Uuid::nil(),
            identifier: "kernel-6.9".parse().expect("a name"),
            task_type: "update".parse().expect("a type"),
            lane: "update".into(),
            subject: None,
            status: RolloutStatus::Halted,
            reason: Some("wave 2 of 2: 1 failed, allowed 0".into()),
            next_window: None,
            revision: 3,
            created_by: None,
            parent: None,
            rollback: None,
            created: NOW,
            start_at: Some(NOW),
            started_at: Some(NOW),
            ended_at: None,
            expires_at: NOW,
            allowed_failed: Some(24),
            allowed_unreachable: Some(120),
            wave: Some(2),
            size: 1362,
            counts: sum,
            waves: vec![first, second],
            document: None,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_halted_rollout_says_why_and_what_is_next() {
        let bad = [RolloutTarget {
            endpoint: "web17".parse().expect("a name"),
            wave: 2,
            state: TargetState::Failed,
            since: NOW,
            round: 1,
            task_id: None,
            errnr: Some(32),
            note: Some("disk full".into()),
            domain: None,
        }];
        let text = rollout(&halted(), &bad, Screen::PLAIN);
        let expected = "\
HALTED kernel-6.9 (update): wave 2 of 2: 1 failed, allowed 0
119 of 1,362 ok, 1 failed, 8 absent
WAVE  PHASE      OK  FLIGHT  FAILED     UNREACHABLE  ABSENT  LEFT   GATES
1     PASSED     61  0       0 (max 0)  0 (max 30)   0       0
2     ADMITTING  58  0       1 (max 0)  0 (max 30)   8       1,234
web17  failed  errnr 32  disk full
next: tasker rollout retry kernel-6.9
      tasker rollout skip kernel-6.9 --state FAILED
      tasker rollout resume kernel-6.9 --allow-failed 1
      tasker rollout abort kernel-6.9
";
        assert_eq!(text, expected);
        let (task_type, undone_by) =
            ("update".parse().expect("a type"), "kernel-6.9-rollback".parse().expect("a name"));
        let rollback = RolloutRollback { task_type, on: RollbackOn::Changed, rollout: None };
        let mut undone = Rollout { rollback: Some(rollback), ..halted() };
        assert_eq!(next(&undone).last().map(String::as_str), Some("abort kernel-6.9 --rollback"));
        undone.status = RolloutStatus::RollingBack;
        undone.rollback.as_mut().expect("there is one").rollout = Some(undone_by);
        assert_eq!(next(&undone), ["show kernel-6.9-rollback"]);
    }

    #[test]
    fn a_rollout_that_waits_says_for_what() {
        let waiting =
            Rollout { reason: None, status: RolloutStatus::Running, next_window: Some(NOW), ..halted() };
        let told = heading(&waiting, Screen::PLAIN);
        assert!(
            told.ends_with(
                "wave 2 of 2: starts nothing before its maintenance window opens at 2027-01-15 08:00:00Z"
            ),
            "{told}"
        );
        let created = Rollout { reason: None, status: RolloutStatus::Created, wave: Some(1), ..halted() };
        assert!(
            rollouts(std::slice::from_ref(&created), Screen::PLAIN)
                .contains("starts at 2027-01-15 08:00:00Z")
        );
        let manual = Rollout { start_at: None, ..created };
        assert!(heading(&manual, Screen::PLAIN).ends_with(": waits until somebody starts it"));
        assert_eq!(next(&manual), ["start kernel-6.9", "abort kernel-6.9"]);
    }

    #[test]
    fn an_event_names_its_wave_once() {
        let breached = RolloutEvent {
            seq: 1,
            revision: 1,
            time: NOW,
            kind: EventKind::Breached,
            actor: None,
            wave: Some(2),
            endpoint: None,
            text: Some("wave 2 of 3: 1 failed, allowed 0".to_owned()),
        };
        assert_eq!(event(&breached), "breached wave 2 of 3: 1 failed, allowed 0");
        let other = RolloutEvent { text: Some("wave 21 of 30".to_owned()), ..breached };
        assert_eq!(event(&other), "breached wave 2: wave 21 of 30");
    }

    #[test]
    fn a_plan_has_all_numbers() {
        let wave = |wave, size, gates: &[&str]| RolloutPlanWave {
            wave,
            name: None,
            size,
            absent: 2,
            window: size.min(100),
            allowed_failed: Some(0),
            allowed_unreachable: None,
            gates: gates.iter().map(|gate| (*gate).to_owned()).collect(),
            endpoints: vec!["web1".parse().expect("a name")],
        };
        let planned = RolloutPlan {
            identifier: "r".parse().expect("a name"),
            task_type: "update".parse().expect("a type"),
            lane: "update".into(),
            subject: None,
            size: 1204,
            absent: 31,
            max_absent: Some(120),
            allowed_failed: Some(24),
            allowed_unreachable: None,
            next_window: None,
            domains: vec![crate::contract::RolloutPlanDomain {
                domain: "rack=1".to_owned(),
                size: 7,
                max_in_flight: Some(2),
            }],
            waves: vec![wave(1, 1, &["soak 30m"]), wave(2, 1203, &["approval (1)"])],
            warnings: vec!["exclude \"site=x\": excludes nobody".to_owned()],
        };
        let expected = "\
1,204 endpoints, 31 absent (limit 120)
WAVE  SIZE   ABSENT  WINDOW  FAILED/UNREACHABLE  GATES
1     1      2       1       0 / any             soak 30m
2     1,203  2       100     0 / any             approval (1)
total allowance: failed 24, unreachable any
failure domains: 1, of each at most 2 in flight
warning: exclude \"site=x\": excludes nobody
";
        assert_eq!(plan(&planned, false, Screen::PLAIN), expected);
        assert!(plan(&planned, true, Screen::PLAIN).ends_with("wave 1: web1\nwave 2: web1\n"));
    }
}
