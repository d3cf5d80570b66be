//! Decides the changes of a rollout from what is read of it. No I/O, no clock.
//!
//! The order within a pass is what keeps the promises: outcomes first, then breaches, then waves, and targets
//! are started only after all that. So whatever is started was started in the knowledge of every outcome that
//! was committed before.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::state::{RolloutEvent, RolloutStatus, TargetEvent, TargetState, WavePhase};
use super::terms::{CatchUp, InFlightOnStop, OnBreach};
use super::view::{
    Admission, Answered, Breach, Change, EventKind, Fact, InFlight, NewEvent, Next, ProbeResult, ProbeState,
    TargetMove, View, WaveChange, WaveState, current,
};
use crate::domain::{Timestamp, errnr};

/// Targets that are started in one pass at most.
pub const ADMITTED: u32 = 1_000;
/// How often to look while something is in flight, or held by another rollout.
const LOOK: Duration = Duration::from_secs(1);
/// How often to look whether targets that are away have returned.
const LOOK_FOR_RETURNED: Duration = Duration::from_secs(2);
/// How often to look whether enough targets are there to start.
const LOOK_FOR_START: Duration = Duration::from_secs(10);
/// Characters of an error text that a target keeps.
const NOTE: usize = 300;

/// The changes of a rollout now.
pub fn decide(view: &View, now: Timestamp) -> Change {
    let (waves, change, touched) = (view.waves.clone(), Change::default(), HashSet::new());
    let mut pass = Pass { view, now, status: view.status, waves, change, touched, again: false };
    pass.outcomes();
    if pass.status.can_be_given_up() && view.expires_at <= now {
        pass.abort(format!("its time is over: it was to end by {}", view.expires_at));
    }
    if pass.status == RolloutStatus::Created {
        pass.start();
    }
    if pass.status.admits() {
        pass.give_up_waiting();
        pass.take_back_returned();
        pass.leave_to_newer();
        if !pass.breach() {
            pass.advance_waves();
        }
        if pass.status.admits() {
            pass.admit();
        }
    }
    if pass.status == RolloutStatus::Aborting && pass.in_flight() == 0 {
        pass.drained();
    }
    pass.withdraw();
    pass.stop_in_flight();
    if let Some(undone) =
        view.rollback.filter(|undone| pass.status == RolloutStatus::RollingBack && undone.is_final())
    {
        pass.end(RolloutEvent::End { all_ok: undone == RolloutStatus::Done });
    }
    pass.done()
}

struct Pass<'a> {
    view: &'a View,
    now: Timestamp,
    status: RolloutStatus,
    waves: Vec<WaveState>,
    change: Change,
    /// Targets that have changed in this pass: each does once.
    touched: HashSet<Fact>,
    /// Whether there is more to do at once.
    again: bool,
}

/// States of targets that a pass has moved.
struct States<'p>(HashMap<&'p Fact, TargetState>);

impl States<'_> {
    fn of(&self, target: &InFlight) -> TargetState {
        self.0.get(&target.fact).copied().unwrap_or(target.state)
    }
}

impl<'a> Pass<'a> {
    /// What targets have answered, or did not in time.
    fn outcomes(&mut self) {
        let view = self.view;
        for target in &view.in_flight {
            let Some(WaveState { terms, .. }) = view.waves.get(at(target.fact.wave)) else { continue };
            match target.state {
                TargetState::Verifying => self.verify(target, terms.healthy.as_ref()),
                TargetState::Sent | TargetState::Unreachable | TargetState::Failed => {
                    if let Some((event, number, note)) = outcome(target, terms, view.status, self.now) {
                        self.shift(target, event, number, note);
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether a target that has succeeded is healthy.
    fn verify(&mut self, target: &InFlight, healthy: Option<&super::Healthy>) {
        let Some(healthy) = healthy else { return self.shift(target, TargetEvent::Healthy, None, None) };
        let there = target.presence.instance;
        let same = there.is_some() && there == target.instance;
        let present_since =
            if same { target.present_since.or(Some(self.now)) } else { there.map(|_| self.now) };
        let stayed = present_since.is_some_and(|since| self.now.since(since) >= healthy.stays);
        if stayed && target.presence.fits {
            return self.shift(target, TargetEvent::Healthy, None, None);
        }
        if target.since.after(healthy.within) <= self.now {
            let what = match (there, target.presence.fits) {
                (None, _) => "it is not back",
                (Some(_), false) => "it does not have the labels that it was to have",
                (Some(_), true) => "it did not stay",
            };
            let note = format!("not healthy within {}: {what}", span(healthy.within));
            // With the handler's number: without one the target counts as overdue, and its success as late.
            let number = match &target.answered {
                Answered::Finished { errnr, .. } => Some(*errnr),
                _ => None,
            };
            return self.shift(target, TargetEvent::Failed, number, Some(note));
        }
        if present_since != target.present_since || there != target.instance {
            let (fact, state) = (target.fact.clone(), target.state);
            self.change.moves.push(TargetMove {
                fact,
                from: state,
                to: state,
                errnr: None,
                note: None,
                present_since,
                instance: there,
            });
        }
    }

    fn shift(&mut self, target: &InFlight, event: TargetEvent, number: Option<i32>, note: Option<String>) {
        let Some(to) = target.state.next(event) else { return };
        match to {
            TargetState::Failed => self.change.events.push(NewEvent::of_target(
                EventKind::TargetFailed,
                &target.fact,
                note.clone(),
            )),
            TargetState::Unreachable => self.change.events.push(NewEvent::of_target(
                EventKind::TargetUnreachable,
                &target.fact,
                note.clone(),
            )),
            _ => {}
        }
        let there = target.presence.instance;
        let (present_since, instance) =
            if to == TargetState::Verifying { (there.map(|_| self.now), there) } else { (None, None) };
        let fact = target.fact.clone();
        self.push(TargetMove { fact, from: target.state, to, errnr: number, note, present_since, instance });
    }

    fn push(&mut self, moved: TargetMove) {
        if !self.touched.insert(moved.fact.clone()) {
            return;
        }
        if let Some(wave) = self.waves.get_mut(at(moved.fact.wave)) {
            wave.counts.shift(moved.from, moved.to);
        }
        self.change.moves.push(moved);
    }

    fn plain_move(&mut self, fact: &Fact, from: TargetState, event: TargetEvent) {
        self.noted_move(fact, from, event, None);
    }

    fn noted_move(&mut self, fact: &Fact, from: TargetState, event: TargetEvent, note: Option<String>) {
        if let Some(to) = from.next(event) {
            self.push(TargetMove {
                fact: fact.clone(),
                from,
                to,
                errnr: None,
                note,
                present_since: None,
                instance: None,
            });
        }
    }

    /// Takes back what targets have not received: in time, or before the rollout stopped. What is taken back
    /// starts no more, unless it has begun.
    fn withdraw(&mut self) {
        let states = self.states();
        let taken_back = |target: &&InFlight| {
            let state = states.of(target);
            let goes =
                state == TargetState::Unreachable || state == TargetState::Sent && !self.status.admits();
            goes && target.answered == Answered::Nothing && !target.withdrawn
        };
        let withdraw: Vec<Fact> =
            self.view.in_flight.iter().filter(taken_back).map(|target| target.fact.clone()).collect();
        self.change.events.extend(NewEvent::of_targets(EventKind::Withdrawn, withdraw.iter()));
        self.change.withdraw = withdraw;
    }

    /// Stops what targets have begun, where the rollout says so when it stops. Said in each pass until they
    /// answer: who was not there is told when it is.
    fn stop_in_flight(&mut self) {
        if self.view.settings.in_flight != InFlightOnStop::Stop
            || self.status.admits()
            || self.status == RolloutStatus::RollingBack
        {
            return;
        }
        let runs = |target: &&InFlight| {
            let received =
                target.state == TargetState::Sent && matches!(target.answered, Answered::Received { .. });
            received && target.presence.instance.is_some() && !self.touched.contains(&target.fact)
        };
        let targets: Vec<&InFlight> = self.view.in_flight.iter().filter(runs).collect();
        let anew = targets.iter().filter(|target| !target.stopped).map(|target| &target.fact);
        self.change.events.extend(NewEvent::of_targets(EventKind::Stopped, anew));
        self.change.stop = targets.iter().map(|target| target.fact.clone()).collect();
    }

    fn start(&mut self) {
        if self.view.start_at.is_none_or(|start| start > self.now) {
            return;
        }
        if let Some(max) = self.view.max_absent.filter(|max| self.view.absent_now > *max) {
            let text = format!("{} targets are away, allowed {max}", self.view.absent_now);
            self.change.reason = Some(text);
            return;
        }
        self.begin();
    }

    fn begin(&mut self) {
        self.turn(RolloutEvent::Start, None);
        self.change.events.push(NewEvent::new(EventKind::Started, None));
        self.wave_due(0);
    }

    fn turn(&mut self, event: RolloutEvent, reason: Option<String>) {
        let Some(to) = self.status.next(event) else { return };
        if to == self.status {
            return;
        }
        if matches!(to, RolloutStatus::Halted | RolloutStatus::Paused) {
            self.change.resume_to = Some(self.status);
        }
        // Why it was given up stays true when it ends in the same pass.
        let given_up = matches!(self.status, RolloutStatus::Aborting | RolloutStatus::RollingBack);
        if reason.is_some() || !given_up {
            self.change.reason = reason;
        }
        self.status = to;
        self.change.status = Some(to);
        self.again = true;
    }

    fn abort(&mut self, reason: String) {
        self.change.events.push(NewEvent::new(EventKind::Aborting, Some(reason.clone())));
        self.turn(RolloutEvent::Abort, Some(reason));
    }

    /// Nothing is in flight any more of a rollout that was given up.
    fn drained(&mut self) {
        if !(self.view.rolls_back || self.change.rolls_back) {
            return self.end(RolloutEvent::Drained);
        }
        // Whether something has changed was read before the outcomes of this pass.
        if self.view.status != RolloutStatus::Aborting || !self.change.moves.is_empty() {
            self.again = true;
        } else if self.view.changed {
            self.turn(RolloutEvent::RollBack, None);
            self.change.roll_back = true;
            self.change.events.push(NewEvent::new(EventKind::RollingBack, None));
        } else {
            self.end(RolloutEvent::Drained);
        }
    }

    fn end(&mut self, event: RolloutEvent) {
        self.turn(event, None);
        self.change.events.push(NewEvent::new(EventKind::Ended, Some(self.status.as_str().to_owned())));
    }

    fn give_up_waiting(&mut self) {
        let superseded = self.view.newer && self.view.settings.catch_up == CatchUp::Latest;
        let event = if superseded { TargetEvent::Superseded } else { TargetEvent::GivenUp };
        let before = self.change.moves.len();
        for waited in &self.view.waited {
            self.plain_move(&waited.fact, waited.state, event);
        }
        let given_up = self.change.moves.len() - before;
        if superseded && given_up > 0 {
            let text = format!("{given_up} targets: a newer rollout of the lane has begun");
            self.change.events.push(NewEvent::new(EventKind::Superseded, Some(text)));
        }
        self.again |= given_up > 0;
    }

    fn take_back_returned(&mut self) {
        for returned in &self.view.returned {
            let event = if returned.state == TargetState::Absent {
                TargetEvent::Returned
            } else {
                TargetEvent::Withdrawn
            };
            self.plain_move(&returned.fact, returned.state, event);
            self.again = true;
        }
    }

    /// Leaves alone what a newer rollout of the same subject has started: this one would undo it.
    fn leave_to_newer(&mut self) {
        let mut left: BTreeMap<&str, u32> = BTreeMap::new();
        for Next { fact, overtaken_by, .. } in &self.view.next {
            let Some(newer) = overtaken_by else { continue };
            let note = format!("left to {newer}, which is newer and has started it");
            self.noted_move(fact, TargetState::Pending, TargetEvent::Superseded, Some(note));
            *left.entry(newer.as_str()).or_default() += 1;
        }
        self.again |= !left.is_empty();
        for (newer, count) in left {
            let text = format!("{count} targets: left to {newer}, which is newer and has started them");
            self.change.events.push(NewEvent::new(EventKind::Superseded, Some(text)));
        }
    }

    /// Stops the rollout where a budget is exceeded. Answers whether it did.
    fn breach(&mut self) -> bool {
        let over = over_budget(&self.waves, self.view.allowed_failed, self.view.allowed_unreachable);
        let Some((breach, wave, text)) = over else { return false };
        self.stop(breach, wave, text, self.view.settings.on_breach);
        true
    }

    fn stop(&mut self, breach: Breach, wave: Option<u32>, text: String, how: OnBreach) {
        self.change.breach = Some(breach);
        self.change.events.push(NewEvent {
            kind: EventKind::Breached,
            wave,
            endpoint: None,
            text: Some(text.clone()),
        });
        match how {
            OnBreach::Halt => self.turn(RolloutEvent::Halt, Some(text)),
            OnBreach::Abort => self.abort(text),
            OnBreach::Rollback => {
                self.change.rolls_back = true;
                self.abort(text);
            }
        }
    }

    fn advance_waves(&mut self) {
        if self.status == RolloutStatus::Running {
            while let Some(place) = current(&self.waves) {
                if !self.advance_wave(place) {
                    break;
                }
            }
        }
        let unsettled: u32 = self.waves.iter().map(|wave| wave.counts.unsettled()).sum();
        if self.status.admits() && current(&self.waves).is_none() {
            if unsettled == 0 {
                let all_ok =
                    self.waves.iter().all(|wave| wave.counts.get(TargetState::Ok) == wave.counts.total());
                self.end(RolloutEvent::End { all_ok });
            } else if self.status == RolloutStatus::Running {
                self.turn(RolloutEvent::Settle, None);
                self.change.events.push(NewEvent::new(
                    EventKind::Settling,
                    Some(format!("{unsettled} targets are waited for")),
                ));
            }
        }
    }

    /// Moves a wave on by one phase. Answers whether it did.
    fn advance_wave(&mut self, place: usize) -> bool {
        let wave = &self.waves[place];
        let (number, counts) = (u32::try_from(place).unwrap_or(u32::MAX), wave.counts);
        match wave.phase {
            WavePhase::Waiting => {
                let since = wave.since.unwrap_or(self.now);
                if let Some(approval) = &wave.terms.approval
                    && wave.approvals.len() < usize::try_from(approval.count).unwrap_or(usize::MAX)
                {
                    if since.after(approval.within) <= self.now {
                        let text =
                            format!("wave {} was not approved within {}", number + 1, span(approval.within));
                        let how = approval.otherwise;
                        self.stop(Breach::Approval, Some(number), text, how);
                    }
                    return false;
                }
                self.turn_wave(place, WavePhase::Admitting, EventKind::WaveBegan);
                true
            }
            WavePhase::Admitting => {
                let answered = counts.get(TargetState::Pending) == 0 && counts.in_flight() == 0;
                // Where no target of a wave has succeeded, the wave proves nothing: it waits for targets that
                // are away.
                if !answered || counts.get(TargetState::Ok) == 0 && counts.waited_for() > 0 {
                    return false;
                }
                if counts.get(TargetState::Superseded) == counts.total() {
                    // There is nothing to wait for, or to probe.
                    self.pass_wave(place);
                } else if wave.terms.soak.is_zero() {
                    self.probe_or_pass(place);
                } else {
                    self.turn_wave(place, WavePhase::Soaking, EventKind::WaveSoaks);
                }
                true
            }
            WavePhase::Soaking => {
                let over = wave.since.is_none_or(|since| since.after(wave.terms.soak) <= self.now);
                if !over || counts.in_flight() > 0 {
                    return false;
                }
                self.probe_or_pass(place);
                true
            }
            WavePhase::Probing => self.probe(place),
            WavePhase::Passed => false,
        }
    }

    /// What comes after the soak time.
    fn probe_or_pass(&mut self, place: usize) {
        match self.waves[place].terms.probe.is_some() {
            true => self.turn_wave(place, WavePhase::Probing, EventKind::WaveProbes),
            false => self.pass_wave(place),
        }
    }

    /// Goes on with the probe of a wave. Answers whether the wave has passed.
    fn probe(&mut self, place: usize) -> bool {
        let wave = &self.waves[place];
        // What is read of the probe is of the wave as it was read.
        let same = self.view.waves.get(place).is_some_and(|read| read.phase == WavePhase::Probing);
        if wave.terms.probe.is_none() {
            // Somebody changed the document.
            self.pass_wave(place);
            return true;
        }
        let Some(probe) = wave.terms.probe.clone().filter(|_| same) else { return false };
        let (number, mut state) = (u32::try_from(place).unwrap_or(u32::MAX), wave.probe.clone());
        let (ok, of, fault) = match (&state.task, &self.view.probe) {
            (Some(_), Some(ProbeResult::Ended { ok, of, fault })) => (*ok, *of, fault.clone()),
            (Some(_), _) => return false,
            (None, _) if state.next_at.is_some_and(|at| at > self.now) => return false,
            (None, _) if self.view.probed.is_empty() => {
                (0, 0, Some("there is no endpoint to perform it".to_owned()))
            }
            (None, _) => {
                self.change.probe = Some((number, self.view.probed.clone()));
                return false;
            }
        };
        let needed = probe.ok.rounded_up(of).max(1);
        let succeeded = ok >= needed;
        let (passes, failures) =
            if succeeded { (state.passes + 1, state.failures) } else { (0, state.failures + 1) };
        let told = match succeeded {
            true => format!("{ok} of {of} ok: {passes} of {} passes", probe.passes),
            false => {
                let fault = fault.map_or_else(String::new, |fault| format!(": {fault}"));
                format!("{ok} of {of} ok, needed {needed}: failure {failures} of {}{fault}", probe.tries)
            }
        };
        self.change.events.push(NewEvent::of_wave(EventKind::Probed, number, Some(told.clone())));
        if passes >= probe.passes {
            self.pass_wave(place);
            return true;
        }
        state = ProbeState { task: None, passes, failures, next_at: Some(self.now.after(probe.every)) };
        self.waves[place].probe = state.clone();
        self.change.waves.push(WaveChange {
            probe: Some(state),
            ..WaveChange::of(number, WavePhase::Probing, self.waves[place].since)
        });
        if failures >= probe.tries {
            let (text, how) =
                (format!("wave {} did not pass its probe: {told}", number + 1), self.view.settings.on_breach);
            self.stop(Breach::Probe, Some(number), text, how);
        }
        false
    }

    fn pass_wave(&mut self, place: usize) {
        self.turn_wave(place, WavePhase::Passed, EventKind::WavePassed);
        if place + 1 < self.waves.len() {
            self.wave_due(place + 1);
        }
    }

    /// The turn of a wave has come.
    fn wave_due(&mut self, place: usize) {
        let (now, number) = (self.now, u32::try_from(place).unwrap_or(u32::MAX));
        let Some(wave) = self.waves.get_mut(place) else { return };
        wave.since = Some(now);
        if let Some(approval) = &wave.terms.approval {
            let text = format!("approvals needed: {}", approval.count);
            self.change.events.push(NewEvent::of_wave(EventKind::WaveDue, number, Some(text)));
        }
        self.change.waves.push(WaveChange::of(number, wave.phase, Some(now)));
    }

    fn turn_wave(&mut self, place: usize, phase: WavePhase, kind: EventKind) {
        let (now, number) = (self.now, u32::try_from(place).unwrap_or(u32::MAX));
        self.waves[place].phase = phase;
        self.waves[place].since = Some(now);
        self.change.waves.push(WaveChange::of(number, phase, Some(now)));
        self.change.events.push(NewEvent::of_wave(kind, number, None));
        self.again = true;
    }

    /// Starts the next targets, as many as there are places.
    fn admit(&mut self) {
        let place = current(&self.waves).unwrap_or(self.waves.len().saturating_sub(1));
        let Some(wave) = self.waves.get(place).filter(|wave| wave.phase != WavePhase::Waiting) else {
            return;
        };
        if !self.view.windows.open {
            return;
        }
        let (window, slots) = (wave.window, self.in_flight());
        let free = window.saturating_sub(slots);
        let waited = self.view.admitted_at.is_none_or(|last| last.after(LOOK) <= self.now);
        if free == 0 || !(slots == 0 || waited || u64::from(free) * 10 >= u64::from(window)) {
            return;
        }
        let most = at(free.min(ADMITTED));
        let (mut taken, mut passed_over) = (self.taken(), false);
        for Next { fact, there, slot, .. } in &self.view.next {
            if at(fact.wave) > place || self.touched.contains(fact) {
                continue;
            }
            if self.change.admit.len() == most {
                break;
            }
            if let Some(slot) = slot.as_ref().filter(|_| *there) {
                let taken = taken.entry(slot.domain.as_str()).or_default();
                if *taken >= slot.places {
                    passed_over = true;
                    continue;
                }
                *taken += 1;
            }
            match there {
                true => {
                    if let Some(wave) = self.waves.get_mut(at(fact.wave)) {
                        wave.counts.shift(TargetState::Pending, TargetState::Sent);
                    }
                    self.change.admit.push(Admission { fact: fact.clone() });
                }
                false => {
                    self.plain_move(fact, TargetState::Pending, TargetEvent::Away);
                    self.again = true;
                }
            }
        }
        // Where some were passed over, there may be others behind them that were not read.
        self.again |= self.change.admit.len() == at(ADMITTED) || passed_over && !self.change.admit.is_empty();
    }

    /// How many targets of each failure domain are in flight after the outcomes of this pass.
    fn taken(&self) -> HashMap<&'a str, u32> {
        let states = self.states();
        let mut taken = HashMap::new();
        for target in &self.view.in_flight {
            if let Some(slot) = target.slot.as_ref().filter(|_| states.of(target).is_in_flight()) {
                *taken.entry(slot.domain.as_str()).or_default() += 1;
            }
        }
        taken
    }

    /// The states that targets have after what this pass has decided so far.
    fn states(&self) -> States<'_> {
        States(self.change.moves.iter().map(|moved| (&moved.fact, moved.to)).collect())
    }

    fn in_flight(&self) -> u32 {
        self.waves.iter().map(|wave| wave.counts.in_flight()).sum()
    }

    /// The change, with the time of the next look.
    fn done(mut self) -> Change {
        self.change.due_at = if self.status.is_final() { None } else { Some(self.next_look()) };
        self.change
    }

    fn next_look(&self) -> Timestamp {
        let (view, now) = (self.view, self.now);
        if self.again {
            return now;
        }
        let mut next = view.expires_at.max(now);
        let mut at_latest = |time: Timestamp| next = next.min(time.max(now));
        if self.in_flight() > 0 {
            at_latest(now.after(LOOK));
        }
        match self.status {
            RolloutStatus::Created => match view.start_at {
                Some(start) if start <= now => at_latest(now.after(LOOK_FOR_START)),
                Some(start) => at_latest(start),
                None => {}
            },
            RolloutStatus::RollingBack => at_latest(now.after(LOOK)),
            status if status.admits() => {
                if self.waves.iter().any(|wave| wave.counts.waited_for() > 0) {
                    at_latest(now.after(LOOK_FOR_RETURNED));
                }
                let place = current(&self.waves).unwrap_or(self.waves.len().saturating_sub(1));
                let pending =
                    self.waves.iter().take(place + 1).any(|wave| wave.counts.get(TargetState::Pending) > 0);
                match self.waves.get(place) {
                    Some(wave) if wave.phase == WavePhase::Waiting => {
                        if let (Some(since), Some(approval)) = (wave.since, &wave.terms.approval) {
                            at_latest(since.after(approval.within));
                        }
                    }
                    Some(wave) if wave.phase == WavePhase::Probing => match wave.probe.next_at {
                        // A try that was just begun has no task yet.
                        Some(next_at) if wave.probe.task.is_none() && self.change.probe.is_none() => {
                            at_latest(next_at)
                        }
                        _ => at_latest(now.after(LOOK)),
                    },
                    Some(wave) => {
                        let soaked = wave.since.unwrap_or(now).after(wave.terms.soak);
                        // Afterwards it waits for what is in flight.
                        if wave.phase == WavePhase::Soaking && soaked > now {
                            at_latest(soaked);
                        }
                        match (pending, view.windows.open) {
                            (true, true) => at_latest(now.after(LOOK)),
                            (true, false) => view.windows.changes_at.into_iter().for_each(&mut at_latest),
                            (false, _) => {}
                        }
                    }
                    None => {}
                }
            }
            _ => {}
        }
        next
    }
}

impl WaveChange {
    /// A change of the phase alone.
    pub const fn of(wave: u32, phase: WavePhase, since: Option<Timestamp>) -> Self {
        Self {
            wave,
            phase,
            since,
            approvals: None,
            probe: None,
            allowed_failed: None,
            allowed_unreachable: None,
        }
    }
}

/// The first budget that is exceeded: of a wave, or of the whole.
pub(super) fn over_budget(
    waves: &[WaveState],
    failed: Option<u32>,
    unreachable: Option<u32>,
) -> Option<(Breach, Option<u32>, String)> {
    let states = [(TargetState::Failed, Breach::Failed), (TargetState::Unreachable, Breach::Unreachable)];
    for (place, wave) in waves.iter().enumerate() {
        for ((state, breach), allowed) in states.iter().zip([wave.allowed_failed, wave.allowed_unreachable]) {
            let count = wave.counts.get(*state);
            if let Some(allowed) = allowed.filter(|allowed| count > *allowed) {
                let text = format!(
                    "wave {} of {}: {count} {}, allowed {allowed}",
                    place + 1,
                    waves.len(),
                    breach.as_str()
                );
                return Some((*breach, u32::try_from(place).ok(), text));
            }
        }
    }
    for ((state, breach), allowed) in states.iter().zip([failed, unreachable]) {
        let count: u32 = waves.iter().map(|wave| wave.counts.get(*state)).sum();
        if let Some(allowed) = allowed.filter(|allowed| count > *allowed) {
            return Some((
                *breach,
                None,
                format!("all waves: {count} {}, allowed {allowed}", breach.as_str()),
            ));
        }
    }
    None
}

/// What has become of a target that was sent its task.
fn outcome(
    target: &InFlight,
    terms: &super::WaveTerms,
    status: RolloutStatus,
    now: Timestamp,
) -> Option<(TargetEvent, Option<i32>, Option<String>)> {
    let sent = target.state == TargetState::Sent;
    match &target.answered {
        Answered::Finished { errnr: 0, .. } => {
            Some((TargetEvent::Succeeded { verify: terms.healthy.is_some() }, Some(0), None))
        }
        // The update has ended its own endpoint: what counts is how the endpoint comes back.
        Answered::Finished { errnr: errnr::INTERRUPTED | errnr::LOST, .. }
            if terms.healthy.is_some() && target.state != TargetState::Failed =>
        {
            Some((
                TargetEvent::Succeeded { verify: true },
                None,
                Some("the endpoint ended while the handler ran".to_owned()),
            ))
        }
        Answered::Finished { errnr, errmsg } => {
            Some((TargetEvent::Failed, Some(*errnr), Some(shortened(errmsg))))
        }
        Answered::Nothing if sent && target.since.after(terms.receive_within) <= now => {
            let note = format!("not received within {}", span(terms.receive_within));
            Some((TargetEvent::NotReceived, None, Some(note)))
        }
        // It was taken back, and an end does not wait for an endpoint that is away.
        Answered::Nothing
            if sent
                && target.withdrawn
                && status == RolloutStatus::Aborting
                && target.presence.instance.is_none() =>
        {
            Some((
                TargetEvent::NotReceived,
                None,
                Some("not received when the rollout was given up".to_owned()),
            ))
        }
        Answered::Received { at } if at.after(terms.finish_within) <= now => {
            let note = format!("not finished within {}", span(terms.finish_within));
            Some((TargetEvent::Failed, None, Some(note)))
        }
        Answered::Received { .. } => Some((TargetEvent::Received, None, None)),
        Answered::Nothing => None,
        Answered::Canceled { .. } if target.stopped => Some((
            TargetEvent::Failed,
            None,
            Some("stopped, since the rollout stopped (`in_flight: stop`)".to_owned()),
        )),
        // What was taken back is tried again when the endpoint is there.
        Answered::Canceled { unbegun: true, .. } if sent => Some((TargetEvent::Withdrawn, None, None)),
        Answered::Canceled { unbegun: true, .. } | Answered::Canceled { received: false, .. } if !sent => {
            None
        }
        Answered::Canceled { .. } => {
            Some((TargetEvent::Failed, None, Some("its task was canceled".to_owned())))
        }
        Answered::Expired { received: false } if sent => {
            Some((TargetEvent::NotReceived, None, Some("not received while its task lived".to_owned())))
        }
        Answered::Expired { received: false } => None,
        Answered::Expired { received: true } => {
            Some((TargetEvent::Failed, None, Some("not finished while its task lived".to_owned())))
        }
        Answered::Forgotten => Some((TargetEvent::Failed, None, Some("its task was forgotten".to_owned()))),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(NOTE).collect()
}

/// A span for people: in the largest unit that says it whole.
fn span(span: Duration) -> String {
    let secs = span.as_secs();
    match secs {
        0 => format!("{}ms", span.as_millis()),
        secs if secs % 86_400 == 0 => format!("{}d", secs / 86_400),
        secs if secs % 3_600 == 0 => format!("{}h", secs / 3_600),
        secs if secs % 60 == 0 => format!("{}m", secs / 60),
        secs => format!("{secs}s"),
    }
}

fn at(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
