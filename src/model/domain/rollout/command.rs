//! What somebody asks of a rollout, and what comes of it. No I/O, no clock.

use std::sync::Arc;

use super::decide::over_budget;
use super::state::{RolloutEvent, RolloutStatus, TargetEvent, TargetState, WavePhase};
use super::view::{
    Change, Edit, EventKind, NewEvent, ProbeState, Returned, TargetMove, View, WaveChange, WaveState, current,
};
use crate::domain::{Timestamp, TokenName};

/// What is asked for.
#[derive(Debug, Clone)]
pub enum Command {
    /// To begin.
    Start,
    /// To start nothing new.
    Pause,
    /// To go on.
    Resume(Allow),
    /// To give up: what has started finishes, nothing new starts.
    Abort {
        /// Whether what it has changed is to be undone then.
        roll_back: bool,
    },
    /// To let the wave begin whose turn it is.
    Approve,
    /// Not to let it begin.
    Refuse,
    /// To leave out the targets that are picked.
    Skip,
    /// To pass over the gate that the rollout waits at.
    SkipGate,
    /// To try the targets again that are picked.
    Retry,
    /// To go by another document from now on.
    Edit(Arc<Edit>),
}

/// Budgets that are raised to go on after a halt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allow {
    /// Targets that may fail in each wave that has exceeded its budget.
    pub failed: Option<u32>,
    /// Targets that may be unreachable in each such wave.
    pub unreachable: Option<u32>,
}

/// What a rollout waits at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// An approval.
    Approval,
    /// The soak time.
    Soak,
    /// A probe.
    Probe,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// The name of their token.
    pub name: TokenName,
    /// Whether it has the scope `approve`.
    pub approves: bool,
    /// Whether it has the scope `admin`.
    pub administers: bool,
}

/// Why what was asked for is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The rollout is in a state that does not allow it.
    WrongState(String),
    /// Somebody else must do it.
    NotYou(String),
    /// There is nothing to do it to.
    Nothing(String),
}

impl View {
    /// The gate that the rollout waits at.
    pub fn gate(&self) -> Option<Gate> {
        let wave = self.waves.get(current(&self.waves)?)?;
        match wave.phase {
            WavePhase::Waiting if wave.terms.approval.is_some() && wave.since.is_some() => {
                Some(Gate::Approval)
            }
            WavePhase::Soaking => Some(Gate::Soak),
            WavePhase::Probing => Some(Gate::Probe),
            _ => None,
        }
    }
}

/// The changes of a rollout when somebody asks for something; none where that is so already. `picked` are the
/// targets that it is about. Without tokens nobody has a name, and everybody may do everything.
///
/// # Errors
/// Why it is not done.
pub fn command(
    view: &View,
    asked: &Command,
    picked: &[Returned],
    by: Option<&Asker>,
    now: Timestamp,
) -> Result<Option<Change>, Refusal> {
    let mut change = Change { due_at: Some(now), reason: None, ..Change::default() };
    match asked {
        Command::Start => start(view, &mut change, now)?,
        Command::Pause => turn(view, &mut change, RolloutEvent::Pause, EventKind::Paused)?,
        Command::Resume(allow) => resume(view, &mut change, *allow, now)?,
        Command::Abort { roll_back } => abort(view, &mut change, *roll_back)?,
        Command::Approve => approve(view, &mut change, by)?,
        Command::Refuse => refuse(view, &mut change, by)?,
        Command::Skip => pick(view, &mut change, picked, TargetEvent::Skip, EventKind::TargetsSkipped)?,
        Command::Retry => pick(view, &mut change, picked, TargetEvent::Retry, EventKind::TargetsRetried)?,
        Command::SkipGate => skip_gate(view, &mut change, by, now)?,
        Command::Edit(edit) => edited(view, &mut change, edit, by, now)?,
    }
    Ok((!change.events.is_empty()).then_some(change))
}

fn wrong(view: &View, wanted: &str) -> Refusal {
    Refusal::WrongState(format!("the rollout is {}; {wanted}", view.status.as_str()))
}

fn turn(view: &View, change: &mut Change, event: RolloutEvent, kind: EventKind) -> Result<(), Refusal> {
    let to = view.status.next(event).ok_or_else(|| wrong(view, &wanted(event)))?;
    if to != view.status {
        change.status = Some(to);
        change.resume_to = (to == RolloutStatus::Paused).then_some(view.status);
        change.events.push(NewEvent::new(kind, None));
    }
    Ok(())
}

fn abort(view: &View, change: &mut Change, roll_back: bool) -> Result<(), Refusal> {
    if view.status == RolloutStatus::RollingBack {
        return Err(wrong(
            view,
            "the rollout that undoes it can be paused and aborted under its own identifier",
        ));
    }
    if roll_back && view.settings.rollback.is_none() {
        return Err(Refusal::WrongState(
            "its document has no `rollback`, which says how it is undone".to_owned(),
        ));
    }
    turn(view, change, RolloutEvent::Abort, EventKind::Aborting)?;
    if !roll_back || view.rolls_back {
        return Ok(());
    }
    if view.status == RolloutStatus::Aborted {
        return Err(wrong(view, "it can be rolled back only while endpoints are in flight"));
    }
    change.rolls_back = true;
    let text = Some("with a rollback".to_owned());
    match change.events.last_mut() {
        Some(event) => event.text = text,
        None => change.events.push(NewEvent::new(EventKind::Aborting, text)),
    }
    Ok(())
}

fn wanted(event: RolloutEvent) -> String {
    match event {
        RolloutEvent::Start => "only a rollout that is CREATED can be started",
        RolloutEvent::Pause => "only one that is RUNNING or SETTLING can be paused",
        RolloutEvent::Resume { .. } => "only one that is PAUSED or HALTED can be resumed",
        _ => "it has ended",
    }
    .to_owned()
}

fn start(view: &View, change: &mut Change, now: Timestamp) -> Result<(), Refusal> {
    if view.status == RolloutStatus::Created
        && let Some(max) = view.max_absent.filter(|max| view.absent_now > *max)
    {
        let away = view.absent_now;
        return Err(Refusal::WrongState(format!(
            "{away} targets are away, and targets.max_absent allows {max}: it does not start"
        )));
    }
    turn(view, change, RolloutEvent::Start, EventKind::Started)?;
    if change.status.is_some()
        && let Some(wave) = view.waves.first()
    {
        change.waves.push(WaveChange::of(0, wave.phase, Some(now)));
    }
    Ok(())
}

fn resume(view: &View, change: &mut Change, allow: Allow, now: Timestamp) -> Result<(), Refusal> {
    let to = view.resume_to.unwrap_or(RolloutStatus::Running);
    turn(view, change, RolloutEvent::Resume { to }, EventKind::Resumed)?;
    if change.status.is_none() {
        return Ok(());
    }
    let mut waves = view.waves.clone();
    for (place, wave) in waves.iter_mut().enumerate() {
        let mut changed = WaveChange::of(number(place), wave.phase, wave.since);
        for (allowed, state, raised, told) in [
            (&mut wave.allowed_failed, TargetState::Failed, allow.failed, &mut changed.allowed_failed),
            (
                &mut wave.allowed_unreachable,
                TargetState::Unreachable,
                allow.unreachable,
                &mut changed.allowed_unreachable,
            ),
        ] {
            if let (Some(now_allowed), Some(raised)) = (*allowed, raised)
                && wave.counts.get(state) > now_allowed
                && raised > now_allowed
            {
                (*allowed, *told) = (Some(raised), Some(raised));
            }
        }
        // A gate that has failed begins anew.
        let waits = Some(place) == current(&view.waves)
            && wave.phase == WavePhase::Waiting
            && view.status == RolloutStatus::Halted;
        if waits {
            (changed.since, changed.approvals) = (Some(now), Some(Vec::new()));
        }
        let probes = Some(place) == current(&view.waves)
            && wave.phase == WavePhase::Probing
            && view.status == RolloutStatus::Halted;
        if probes {
            changed.probe = Some(ProbeState::default());
        }
        if waits || probes || changed.allowed_failed.is_some() || changed.allowed_unreachable.is_some() {
            change.waves.push(changed);
        }
    }
    let total = |state| view.waves.iter().map(|wave| wave.counts.get(state)).sum::<u32>();
    let raised = |allowed: Option<u32>, count: u32, asked: Option<u32>| {
        allowed.zip(asked).filter(|(allowed, _)| count > *allowed).map(|_| count)
    };
    change.allowed_failed = raised(view.allowed_failed, total(TargetState::Failed), allow.failed);
    change.allowed_unreachable =
        raised(view.allowed_unreachable, total(TargetState::Unreachable), allow.unreachable);
    let failed = change.allowed_failed.or(view.allowed_failed);
    let unreachable = change.allowed_unreachable.or(view.allowed_unreachable);
    if let Some((_, _, text)) = over_budget(&waves, failed, unreachable) {
        let text = format!("{text}: retry or skip targets, or raise what is allowed (`allow`)");
        return Err(Refusal::WrongState(text));
    }
    if let Some(event) = change.events.last_mut() {
        let told = |name: &str, number: Option<u32>| number.map(|number| format!("{name} {number}"));
        let told: Vec<String> = [told("failed", allow.failed), told("unreachable", allow.unreachable)]
            .into_iter()
            .flatten()
            .collect();
        event.text = (!told.is_empty()).then(|| format!("allowed {}", told.join(", ")));
    }
    Ok(())
}

fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// The wave that waits for an approval, with what it asks for.
fn at_gate(view: &View) -> Result<(usize, &super::Approval), Refusal> {
    let waits = |place: &usize| {
        view.gate() == Some(Gate::Approval) && !view.status.is_final() && view.waves.len() > *place
    };
    let place =
        current(&view.waves).filter(waits).ok_or_else(|| wrong(view, "no wave waits for an approval"))?;
    let approval = view.waves[place].terms.approval.as_ref();
    approval.map(|approval| (place, approval)).ok_or_else(|| wrong(view, "no wave waits for an approval"))
}

/// Whether somebody may decide about an approval: agree or refuse.
fn may_approve(view: &View, approval: &super::Approval, by: Option<&Asker>) -> Result<(), Refusal> {
    let Some(Asker { name: by, approves, .. }) = by else { return Ok(()) };
    if !approves {
        return Err(Refusal::NotYou(
            "who decides about an approval needs a token with the scope `approve`".to_owned(),
        ));
    }
    if approval.not_creator && view.created_by.as_ref() == Some(by) {
        return Err(Refusal::NotYou(format!(
            "`{by}` made the rollout; somebody else has to approve (approval.not_creator)"
        )));
    }
    if !approval.from.is_empty() && !approval.from.contains(by) {
        let names: Vec<&str> = approval.from.iter().map(TokenName::as_str).collect();
        return Err(Refusal::NotYou(format!(
            "`{by}` is not among those who approve (approval.from: {})",
            names.join(", ")
        )));
    }
    Ok(())
}

/// Whether somebody may change an approval: everybody whose own approval would be enough for what is asked, and an
/// administrator, whatever `from` says, since in an emergency all of those may be away. A change that makes the
/// approval weaker, or passes over it, needs more: where more than one person must approve, none of them alone may
/// make it.
fn may_change(
    view: &View,
    approval: &super::Approval,
    weakens: bool,
    by: Option<&Asker>,
) -> Result<(), Refusal> {
    match by {
        Some(asker) if asker.administers => {
            may_approve(view, &super::Approval { from: Vec::new(), ..approval.clone() }, by)
        }
        Some(_) if weakens && approval.count > 1 => Err(Refusal::NotYou(format!(
            "{} people must approve, so one of them alone does not pass over the approval or lower it: let others \
             approve, or ask somebody who has a token with the scope `admin`",
            approval.count
        ))),
        _ => may_approve(view, approval, by),
    }
}

/// Whether a changed approval is weaker: it asks for fewer people, or admits people who could not approve before.
/// Otherwise an editor could admit a second token of their own.
fn is_weaker(before: &super::Approval, after: &super::Approval) -> bool {
    let others = match (before.from.is_empty(), after.from.is_empty()) {
        (true, _) => false,
        (false, true) => true,
        (false, false) => after.from.iter().any(|name| !before.from.contains(name)),
    };
    after.count < before.count || others || (before.not_creator && !after.not_creator)
}

/// The warning for somebody who has approved the current wave already, while it waits for others.
pub fn still_waits(waves: &[WaveState], by: Option<&Asker>) -> Option<String> {
    let by = by.map_or_else(anonymous, |by| by.name.clone());
    let wave = waves.get(current(waves)?)?;
    let approval = wave.terms.approval.as_ref().filter(|_| wave.phase == WavePhase::Waiting)?;
    wave.approvals.contains(&by).then(|| {
        let given = wave.approvals.len();
        format!("`{by}` has approved already ({given} of {}): somebody else has to", approval.count)
    })
}

fn approve(view: &View, change: &mut Change, by: Option<&Asker>) -> Result<(), Refusal> {
    if !view.status.admits() && view.status != RolloutStatus::Paused {
        return Err(wrong(view, "no wave waits for an approval"));
    }
    let (place, approval) = at_gate(view)?;
    may_approve(view, approval, by)?;
    let name = by.map_or_else(anonymous, |by| by.name.clone());
    let wave = &view.waves[place];
    if wave.approvals.contains(&name) {
        return Ok(());
    }
    let approvals: Vec<TokenName> = wave.approvals.iter().cloned().chain([name]).collect();
    let text = format!("{} of {}", approvals.len(), approval.count);
    change.events.push(NewEvent::of_wave(EventKind::Approved, number(place), Some(text)));
    change.waves.push(WaveChange {
        approvals: Some(approvals),
        ..WaveChange::of(number(place), wave.phase, wave.since)
    });
    Ok(())
}

fn refuse(view: &View, change: &mut Change, by: Option<&Asker>) -> Result<(), Refusal> {
    let (place, approval) = at_gate(view)?;
    may_approve(view, approval, by)?;
    let event = match approval.otherwise {
        super::OnBreach::Halt => RolloutEvent::Halt,
        super::OnBreach::Abort | super::OnBreach::Rollback => RolloutEvent::Abort,
    };
    let to = view.status.next(event).ok_or_else(|| wrong(view, "no wave waits for an approval"))?;
    change.resume_to = (to == RolloutStatus::Halted).then_some(view.status);
    change.status = Some(to);
    change.reason = Some(format!("wave {} was refused", place + 1));
    change.events.push(NewEvent::of_wave(EventKind::Refused, number(place), None));
    Ok(())
}

/// Without tokens nobody has a name.
#[expect(clippy::expect_used, reason = "letters")]
fn anonymous() -> TokenName {
    "anonymous".parse().expect("a name")
}

fn pick(
    view: &View,
    change: &mut Change,
    picked: &[Returned],
    event: TargetEvent,
    kind: EventKind,
) -> Result<(), Refusal> {
    if !view.status.can_be_given_up() {
        return Err(wrong(view, "its targets do not change any more (`rerun` makes a new one of them)"));
    }
    for Returned { fact, state } in picked {
        if let Some(to) = state.next(event) {
            let fact = fact.clone();
            change.moves.push(TargetMove {
                fact,
                from: *state,
                to,
                errnr: None,
                note: None,
                present_since: None,
                instance: None,
            });
        }
    }
    let Some(event) = NewEvent::of_targets(kind, change.moves.iter().map(|moved| &moved.fact)) else {
        return Err(Refusal::Nothing("none of these targets is in a state that allows this".to_owned()));
    };
    change.events.push(event);
    Ok(())
}

fn edited(
    view: &View,
    change: &mut Change,
    edit: &Arc<Edit>,
    by: Option<&Asker>,
    now: Timestamp,
) -> Result<(), Refusal> {
    let mut told = edit.told.clone();
    if !view.status.can_be_given_up() {
        return Err(wrong(view, "its document does not change any more"));
    }
    let still = [RolloutStatus::Created, RolloutStatus::Paused, RolloutStatus::Halted];
    if edit.anew.is_some() && !still.contains(&view.status) {
        return Err(wrong(
            view,
            "its waves can be changed while it is CREATED, PAUSED or HALTED: pause it first",
        ));
    }
    for (place, wave) in view.waves.iter().enumerate() {
        let Some(approval) = wave.terms.approval.as_ref().filter(|_| wave.phase == WavePhase::Waiting) else {
            continue;
        };
        let after = edit.waves.get(place).and_then(|wave| wave.terms.approval.as_ref());
        // Other waves may put its endpoints before the approval.
        let weakens = edit.anew.is_some() || after.is_none_or(|after| is_weaker(approval, after));
        if weakens || after != Some(approval) {
            may_change(view, approval, weakens, by)?;
        }
        // An approval counts for the document that was approved, and the others get their whole time. A wave that
        // is made anew loses its approvals with its row.
        if (edit.changes || edit.anew.is_some()) && !wave.approvals.is_empty() {
            let names: Vec<&str> = wave.approvals.iter().map(TokenName::as_str).collect();
            told.push_str(&format!("; approvals taken back: {}", names.join(", ")));
            if edit.anew.is_none() {
                change.waves.push(WaveChange {
                    approvals: Some(Vec::new()),
                    ..WaveChange::of(number(place), wave.phase, wave.since.map(|_| now))
                });
            }
        }
    }
    change.events.push(NewEvent::new(EventKind::Edited, Some(told)));
    change.edit = Some(edit.clone());
    Ok(())
}

fn skip_gate(view: &View, change: &mut Change, by: Option<&Asker>, now: Timestamp) -> Result<(), Refusal> {
    let gate = view
        .gate()
        .filter(|_| view.status.can_be_given_up())
        .ok_or_else(|| wrong(view, "it waits at no gate"))?;
    let Some(place) = current(&view.waves) else { return Err(wrong(view, "it waits at no gate")) };
    if gate == Gate::Approval {
        let (_, approval) = at_gate(view)?;
        may_change(view, approval, true, by)?;
    }
    let (phase, word) = match gate {
        Gate::Approval => (WavePhase::Admitting, "approval"),
        // What comes after it is not passed over.
        Gate::Soak if view.waves.get(place).is_some_and(|wave| wave.terms.probe.is_some()) => {
            (WavePhase::Probing, "soak")
        }
        Gate::Soak => (WavePhase::Passed, "soak"),
        Gate::Probe => (WavePhase::Passed, "probe"),
    };
    change.waves.push(WaveChange::of(number(place), phase, Some(now)));
    if phase == WavePhase::Passed
        && let Some(next) = view.waves.get(place + 1)
    {
        change.waves.push(WaveChange::of(number(place + 1), next.phase, Some(now)));
    }
    change.events.push(NewEvent::of_wave(EventKind::GateSkipped, number(place), Some(word.to_owned())));
    Ok(())
}
