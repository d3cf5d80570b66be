//! Random fleets, outcomes, clocks and people against what every rollout promises.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::{EndpointName, Timestamp, errnr, json};

const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

/// What an endpoint does with its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    Succeeds,
    Fails,
    /// Never receives it.
    Deaf,
    /// Receives it and never ends.
    Hangs,
    /// Ends while its handler runs, and comes back.
    Restarts,
    /// Succeeds, and never has the labels that it is to have.
    Unwell,
    /// Is away until some second.
    Away(u32),
    /// Is cut off when its task is sent, and back after so many seconds.
    CutOff(u32),
}

#[derive(Debug, Clone)]
struct One {
    fact: Fact,
    nature: Nature,
    state: TargetState,
    since: Timestamp,
    present_since: Option<Timestamp>,
    instance: Option<Uuid>,
    answered: Answered,
    errnr: Option<i32>,
    /// When its endpoint answers next.
    answers_at: Option<Timestamp>,
    rounds: u32,
    /// When its task was sent last.
    sent_at: Timestamp,
    /// When its handler begins, unless it is told otherwise before.
    begins_at: Option<Timestamp>,
    /// Whether its task was taken back.
    withdrawn: bool,
    /// When its endpoint is told that.
    told_at: Option<Timestamp>,
    begun: bool,
    /// Since when its endpoint is told to stop it in any case.
    stopped_at: Option<Timestamp>,
    /// How often its handler has begun.
    executions: u32,
    /// The second at which a newer rollout of the same subject starts it.
    overtaken_at: Option<u32>,
}

/// A rollout as a store would keep it.
#[derive(Debug, Clone)]
struct Fleet {
    status: RolloutStatus,
    resume_to: Option<RolloutStatus>,
    settings: RolloutSettings,
    allowed: (Option<u32>, Option<u32>),
    waves: Vec<WaveState>,
    targets: Vec<One>,
    admitted_at: Option<Timestamp>,
    now: Timestamp,
    due_at: Option<Timestamp>,
    latency: u32,
    /// Seconds that some wait for their turn once they have their task, below this.
    queue: u32,
    executions_before_rollback: Option<u32>,
    /// Targets of one failure domain that may be in flight.
    places: Option<u32>,
    /// When the open try of a probe ends, and how many tries fail from now on.
    probe_ends: Option<Timestamp>,
    probe_faults: u32,
    ended: bool,
    rolls_back: bool,
    /// When the rollout that undoes it ends, and how.
    rollback: Option<(Timestamp, RolloutStatus)>,
}

impl One {
    /// Whether a newer rollout has started it by then. That passes over what is in flight.
    fn is_overtaken(&self, now: Timestamp) -> bool {
        self.overtaken_at.is_some_and(|at| START.after(Duration::from_secs(at.into())) <= now)
    }

    fn has_received(&self) -> bool {
        self.rounds > 0
            && matches!(self.state, TargetState::Ok | TargetState::Failed | TargetState::Verifying)
    }
}

impl Fleet {
    fn view(&self) -> View {
        let there = |one: &One| match one.nature {
            Nature::Away(until) => self.now >= START.after(Duration::from_secs(until.into())),
            Nature::CutOff(_) => {
                one.rounds == 0 || one.sent_at == self.now || one.begins_at.is_none_or(|at| at <= self.now)
            }
            _ => true,
        };
        let news = |one: &&One| match one.state {
            TargetState::Sent | TargetState::Verifying => true,
            TargetState::Unreachable => {
                matches!(one.answered, Answered::Received { .. } | Answered::Finished { .. })
            }
            TargetState::Failed => {
                one.errnr.is_none() && matches!(one.answered, Answered::Finished { errnr: 0, .. })
            }
            _ => false,
        };
        let waits =
            |one: &&One| one.state.is_waited_for() && one.since.after(self.settings.catch_up_for) <= self.now;
        let back = |one: &&One| {
            let closed = matches!(
                one.answered,
                Answered::Expired { received: false } | Answered::Canceled { unbegun: true, .. }
            );
            there(one)
                && (one.state == TargetState::Absent
                    || one.state == TargetState::Unreachable && closed && one.rounds < 2)
        };
        let in_flight = |one: &One| InFlight {
            fact: one.fact.clone(),
            state: one.state,
            since: one.since,
            present_since: one.present_since,
            instance: one.instance,
            answered: one.answered.clone(),
            withdrawn: one.withdrawn,
            stopped: one.stopped_at.is_some(),
            answered_at: None,
            presence: Presence {
                instance: there(one).then_some(Uuid::from_u128(1)),
                fits: one.nature != Nature::Unwell,
            },
            slot: self.slot(&one.fact),
        };
        let next = |one: &One| Next {
            fact: one.fact.clone(),
            there: there(one),
            overtaken_by: one.is_overtaken(self.now).then(|| "newer".parse().expect("a name")),
            slot: self.slot(&one.fact),
        };
        let returned = |one: &One| Returned { fact: one.fact.clone(), state: one.state };
        View {
            status: self.status,
            resume_to: self.resume_to,
            created_by: None,
            settings: self.settings.clone(),
            start_at: Some(START),
            expires_at: START.after(Duration::from_secs(100_000)),
            allowed_failed: self.allowed.0,
            allowed_unreachable: self.allowed.1,
            max_absent: None,
            absent_now: 0,
            admitted_at: self.admitted_at,
            newer: false,
            waves: self.waves.clone(),
            in_flight: self.targets.iter().filter(news).map(in_flight).collect(),
            returned: self.targets.iter().filter(back).map(returned).collect(),
            waited: self.targets.iter().filter(waits).map(returned).collect(),
            next: self.targets.iter().filter(|one| one.state == TargetState::Pending).map(next).collect(),
            probe: self.probe_ends.map(|ends| self.probe_result(ends)),
            probed: vec!["prober".parse().expect("a name")],
            windows: Windows::ALWAYS,
            rolls_back: self.rolls_back,
            changed: self.targets.iter().any(One::has_received),
            rollback: self
                .rollback
                .map(|(ends, how)| if ends <= self.now { how } else { RolloutStatus::Running }),
        }
    }

    /// What has come of the open try of a probe.
    fn probe_result(&self, ends: Timestamp) -> ProbeResult {
        match ends <= self.now {
            true => ProbeResult::Ended { ok: u32::from(self.probe_faults == 0), of: 1, fault: None },
            false => ProbeResult::Open,
        }
    }

    /// The failure domain of a target.
    fn slot(&self, fact: &Fact) -> Option<Slot> {
        self.places.map(|places| Slot { domain: format!("rack={}", fact.position % 3), places })
    }

    /// One pass, with all that a pass promises.
    fn pass(&mut self) -> Result<(), TestCaseError> {
        let before = self.clone();
        let probed = matches!(self.view().probe, Some(ProbeResult::Ended { .. }));
        let change = decide(&self.view(), self.now);
        self.apply(&change)?;
        if change.events.iter().any(|event| event.kind == EventKind::Probed) {
            prop_assert!(probed, "only what is over is judged");
            self.probe_faults = self.probe_faults.saturating_sub(1);
        }
        for changed in change.waves.iter().filter(|changed| changed.phase == WavePhase::Passed) {
            let wave = &before.waves[changed.wave as usize];
            let after = &self.waves[changed.wave as usize];
            prop_assert!(
                wave.terms.probe.is_none()
                    || wave.phase == WavePhase::Probing && probed
                    || after.counts.get(TargetState::Superseded) == after.size,
                "a wave passes without its probe"
            );
        }
        let slots: u32 = self.waves.iter().map(|wave| wave.counts.in_flight()).sum();
        if !change.admit.is_empty() {
            prop_assert!(
                self.status.admits() && before.status != RolloutStatus::Paused,
                "nothing starts in {:?}",
                self.status
            );
            let current = self
                .waves
                .iter()
                .position(|wave| wave.phase != WavePhase::Passed)
                .unwrap_or(self.waves.len() - 1);
            prop_assert!(
                slots <= self.waves[current].window,
                "{slots} slots of {}",
                self.waves[current].window
            );
            for Slot { domain, places } in
                change.admit.iter().filter_map(|admission| self.slot(&admission.fact))
            {
                let of_it = |one: &&One| {
                    one.state.is_in_flight() && self.slot(&one.fact).is_some_and(|slot| slot.domain == domain)
                };
                let taken = self.targets.iter().filter(of_it).count();
                prop_assert!(taken <= places as usize, "{taken} of {domain} in flight, allowed {places}");
            }
            for admission in &change.admit {
                let wave = admission.fact.wave as usize;
                prop_assert!(wave <= current, "wave {wave} starts while the turn is at {current}");
                prop_assert!(self.waves[..wave].iter().all(|wave| wave.phase == WavePhase::Passed));
            }
            let over = |state, allowed: Option<u32>, counts: &WaveCounts| {
                allowed.is_some_and(|most| counts.get(state) > most)
            };
            for wave in &self.waves {
                prop_assert!(
                    !over(TargetState::Failed, wave.allowed_failed, &wave.counts),
                    "starts over budget"
                );
                prop_assert!(
                    !over(TargetState::Unreachable, wave.allowed_unreachable, &wave.counts),
                    "starts over budget"
                );
            }
        }
        let counted = |wave: usize, state| {
            self.targets.iter().filter(|one| one.fact.wave as usize == wave && one.state == state).count()
        };
        for (place, wave) in self.waves.iter().enumerate() {
            prop_assert_eq!(wave.counts.total(), wave.size);
            for state in TargetState::ALL {
                prop_assert_eq!(
                    wave.counts.get(state) as usize,
                    counted(place, state),
                    "wave {} {:?}",
                    place,
                    state
                );
            }
        }
        for one in self.targets.iter().filter(|one| one.rounds > 0 && one.answered == Answered::Nothing) {
            let taken_back = one.state == TargetState::Unreachable
                || one.state == TargetState::Sent && !self.status.admits();
            prop_assert!(!taken_back || one.withdrawn, "{:?} may start in {:?}", one, self.status);
        }
        self.ended = self.status.is_final();
        if self.ended {
            let may_start = |one: &One| one.rounds > 0 && one.answered == Answered::Nothing && !one.withdrawn;
            prop_assert!(!self.targets.iter().any(may_start), "nothing may start after the end");
            prop_assert_eq!(slots, 0, "nothing is in flight at the end");
            prop_assert!(change.due_at.is_none());
        } else {
            prop_assert!(
                change.due_at.is_some_and(|due| due >= self.now),
                "an open rollout is looked at again"
            );
        }
        self.due_at = change.due_at;
        Ok(())
    }

    fn apply(&mut self, change: &Change) -> Result<(), TestCaseError> {
        for moved in &change.moves {
            let one = self.targets.iter_mut().find(|one| one.fact == moved.fact).expect("it is there");
            prop_assert_eq!(one.state, moved.from, "a target is moved once in a pass");
            if moved.to == TargetState::Superseded {
                let named = moved.note.as_ref().is_some_and(|note| note.contains("newer"));
                prop_assert!(one.is_overtaken(self.now) && named, "only what a newer one has is left to it");
            }
            if moved.from != moved.to {
                (one.since, one.errnr) = (self.now, moved.errnr);
                self.waves[moved.fact.wave as usize].counts.shift(moved.from, moved.to);
            }
            (one.state, one.present_since, one.instance) = (moved.to, moved.present_since, moved.instance);
        }
        for Admission { fact } in &change.admit {
            let one = self.targets.iter_mut().find(|one| one.fact == *fact).expect("it is there");
            prop_assert_eq!(one.state, TargetState::Pending, "only what waits is started");
            prop_assert!(!one.is_overtaken(self.now), "what a newer one has started is started");
            let open =
                one.rounds > 0 && matches!(one.answered, Answered::Nothing | Answered::Received { .. });
            prop_assert!(!open, "{:?} is started while its last task may run", one.fact.endpoint);
            self.waves[fact.wave as usize].counts.shift(TargetState::Pending, TargetState::Sent);
            (one.state, one.since, one.answered, one.errnr) =
                (TargetState::Sent, self.now, Answered::Nothing, None);
            one.rounds += 1;
            // Some have other work to do first.
            let begins_in = match one.nature {
                Nature::CutOff(until) => until,
                _ => fact.position % self.queue,
            };
            let begins_at = self.now.after(Duration::from_secs(begins_in.into()));
            (one.sent_at, one.begins_at, one.begun, one.withdrawn, one.told_at) =
                (self.now, Some(begins_at), false, false, None);
            one.stopped_at = None;
            one.answers_at =
                Some(begins_at.after(Duration::from_secs(u64::from(1 + fact.position % self.latency))));
            self.admitted_at = Some(self.now);
        }
        for fact in &change.withdraw {
            let one = self.targets.iter_mut().find(|one| one.fact == *fact).expect("it is there");
            prop_assert!(
                !one.withdrawn && one.answered == Answered::Nothing && one.rounds > 0,
                "{:?} is taken back",
                one
            );
            one.withdrawn = true;
            let told_at = self.now.after(Duration::from_secs(u64::from(1 + fact.position % 3)));
            one.told_at = match one.nature {
                // Presence tells it, in place of its task.
                Nature::CutOff(_) => one.begins_at.map(|back| back.max(told_at)),
                _ => Some(told_at),
            };
        }
        for fact in &change.stop {
            let stops = !change.status.unwrap_or(self.status).admits();
            prop_assert!(self.settings.in_flight == InFlightOnStop::Stop && stops);
            let one = self.targets.iter_mut().find(|one| one.fact == *fact).expect("it is there");
            prop_assert_eq!(one.state, TargetState::Sent);
            one.stopped_at = one.stopped_at.or(Some(self.now));
        }
        for changed in &change.waves {
            let wave = &mut self.waves[changed.wave as usize];
            (wave.phase, wave.since) = (changed.phase, changed.since);
            wave.probe = changed.probe.clone().unwrap_or_else(|| wave.probe.clone());
            if changed.phase == WavePhase::Passed
                || changed.probe.as_ref().is_some_and(|probe| probe.task.is_none())
            {
                self.probe_ends = None;
            }
            wave.allowed_failed = changed.allowed_failed.or(wave.allowed_failed);
            wave.allowed_unreachable = changed.allowed_unreachable.or(wave.allowed_unreachable);
        }
        if let Some((wave, endpoints)) = &change.probe {
            prop_assert!(self.status.admits() && !endpoints.is_empty() && self.probe_ends.is_none());
            self.waves[*wave as usize].probe.task = Some(crate::domain::TaskId::new());
            self.probe_ends = Some(self.now.after(Duration::from_secs(3)));
        }
        self.rolls_back |= change.rolls_back;
        if change.roll_back {
            prop_assert!(self.rollback.is_none(), "it is rolled back once");
            self.executions_before_rollback = Some(self.executions());
            prop_assert!(
                self.targets.iter().any(One::has_received)
                    && self.waves.iter().all(|wave| wave.counts.in_flight() == 0)
            );
            let how =
                if self.latency.is_multiple_of(2) { RolloutStatus::Done } else { RolloutStatus::Partial };
            self.rollback = Some((self.now.after(Duration::from_secs(30)), how));
        }
        self.allowed =
            (change.allowed_failed.or(self.allowed.0), change.allowed_unreachable.or(self.allowed.1));
        if let Some(status) = change.status {
            (self.status, self.resume_to) = (status, change.resume_to);
        }
        Ok(())
    }

    /// What endpoints do until now.
    fn answer(&mut self) {
        let (now, terms) = (self.now, self.waves[0].terms.clone());
        for one in &mut self.targets {
            if !matches!(one.answered, Answered::Nothing | Answered::Received { .. }) || one.rounds == 0 {
                continue;
            }
            let over = one.sent_at.after(terms.receive_within).after(terms.finish_within) <= now;
            let told = one.told_at.is_some_and(|at| at <= now);
            // An endpoint that returns is not sent a task that was taken back.
            let begins = |one: &One| match one.nature {
                Nature::Deaf => false,
                Nature::CutOff(_) if one.withdrawn => false,
                _ => one.begins_at.is_some_and(|at| at <= now && one.told_at.is_none_or(|told| at < told)),
            };
            if !one.begun && !over && begins(one) {
                (one.begun, one.executions) = (true, one.executions + 1);
            }
            let begun = one.begun;
            if told && !begun && one.nature != Nature::Deaf {
                one.answered =
                    Answered::Canceled { received: one.fact.position.is_multiple_of(2), unbegun: true };
                continue;
            }
            if one.stopped_at.is_some_and(|at| at < now) {
                (one.answered, one.begins_at) = (Answered::Canceled { received: true, unbegun: true }, None);
                continue;
            }
            // Some receipts are lost on the way.
            let receipt = one.fact.position.is_multiple_of(3)
                && one.sent_at < now
                && !matches!(one.nature, Nature::Deaf | Nature::CutOff(_));
            if (told && begun || receipt) && one.answered == Answered::Nothing {
                one.answered = Answered::Received { at: now };
            }
            if over && !begun {
                one.answered =
                    Answered::Expired { received: matches!(one.answered, Answered::Received { .. }) };
            }
            let answers = one.answers_at.is_some_and(|at| at <= now);
            let finished = |errnr| Answered::Finished { errnr, errmsg: "told".to_owned() };
            one.answered = match one.nature {
                _ if !begun => one.answered.clone(),
                Nature::Hangs if over => Answered::Expired { received: true },
                Nature::Hangs => Answered::Received { at: one.answers_at.unwrap_or(now).min(now) },
                Nature::Succeeds | Nature::Unwell | Nature::Away(_) | Nature::CutOff(_) if answers => {
                    finished(0)
                }
                Nature::Fails if answers => finished(3),
                Nature::Restarts if answers => finished(errnr::INTERRUPTED),
                _ => one.answered.clone(),
            };
        }
    }

    fn executions(&self) -> u32 {
        self.targets.iter().map(|one| one.executions).sum()
    }

    fn people(&mut self, asked: &Command, picked: &[Returned]) -> Result<(), TestCaseError> {
        if let Ok(Some(change)) = command(&self.view(), asked, picked, None, self.now) {
            prop_assert!(change.admit.is_empty());
            self.apply(&change)?;
            self.ended = self.status.is_final();
        }
        Ok(())
    }

    /// Runs until it ends, or nothing goes on by itself.
    fn settle(&mut self, seconds: u32) -> Result<(), TestCaseError> {
        for _ in 0..seconds {
            for _ in 0..64 {
                if self.ended {
                    return Ok(());
                }
                self.answer();
                self.pass()?;
                if self.due_at.is_none_or(|due| due > self.now) {
                    break;
                }
            }
            prop_assert!(self.ended || self.due_at.is_some_and(|due| due > self.now), "it spins");
            self.now = self.now.after(Duration::from_secs(1));
        }
        Ok(())
    }
}

fn rollback() -> Rollback {
    let secs = Duration::from_secs;
    Rollback {
        task_type: "undo".parse().expect("a type"),
        payload: crate::domain::json(&()),
        on: RollbackOn::Changed,
        window: Amount::Count(10),
        receive_within: secs(10),
        finish_within: secs(10),
        healthy: None,
    }
}

fn nature() -> impl Strategy<Value = Nature> {
    prop_oneof![
        6 => Just(Nature::Succeeds),
        1 => Just(Nature::Fails),
        1 => Just(Nature::Deaf),
        1 => Just(Nature::Hangs),
        1 => Just(Nature::Restarts),
        1 => Just(Nature::Unwell),
        1 => (0..400u32).prop_map(Nature::Away),
        1 => (2..60u32).prop_map(Nature::CutOff),
    ]
}

/// When a newer rollout starts a target.
fn overtaken() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![3 => Just(None), 1 => (0..120u32).prop_map(Some)]
}

prop_compose! {
    fn fleet(budgets: bool)(
        sizes in prop::collection::vec(1..12u32, 1..5),
        natures in prop::collection::vec((nature(), overtaken()), 48),
        any_newer in any::<bool>(),
        window in 1..15u32,
        allowed in (prop::option::of(0..4u32), prop::option::of(0..4u32)),
        soak in 0..30u64,
        healthy in prop::option::of(0..5u64),
        (latency, queue) in (1..7u32, 1..4u32),
        places in prop::option::of(1..4u32),
        (probe, probe_faults) in (prop::option::of(1..3u32), 0..3u32),
        in_flight in prop::sample::select(InFlightOnStop::ALL.to_vec()),
        skip in any::<bool>(),
    ) -> Fleet {
        let allowed = if budgets { allowed } else { (None, None) };
        let probe = probe.map(|passes| Probe {
            task_type: "probe".parse().expect("a type"),
            payload: crate::domain::json(&()),
            on: ProbeOn::Wave,
            ok: Amount::Percent(10_000),
            expect: std::collections::BTreeMap::new(),
            passes,
            tries: 3,
            every: Duration::from_secs(2),
            receive_within: Duration::from_secs(5),
            finish_within: Duration::from_secs(5),
        });
        let healthy = healthy.map(|stays| Healthy {
            stays: Duration::from_secs(stays), within: Duration::from_secs(20), selectors: Vec::new(),
        });
        let terms = WaveTerms {
            window: Amount::Count(window),
            receive_within: Duration::from_secs(10),
            finish_within: Duration::from_secs(30),
            healthy,
            failed: None,
            unreachable: None,
            soak: Duration::from_secs(soak),
            probe: probe.clone(),
            approval: None,
        };
        let wave = |size: &u32| WaveState {
            name: None,
            size: *size,
            phase: WavePhase::Waiting,
            since: None,
            window: window.min(*size),
            allowed_failed: allowed.0,
            allowed_unreachable: allowed.1,
            terms: terms.clone(),
            approvals: Vec::new(),
            probe: ProbeState::default(),
            counts: WaveCounts::all_in(TargetState::Pending, *size),
        };
        let waves: Vec<WaveState> = sizes.iter().map(wave).collect();
        let mut natures = natures.into_iter();
        let targets = (0u32..).zip(&sizes).flat_map(|(wave, size)| (0..*size).map(move |position| (wave, position)));
        let target = |(wave, position): (u32, u32)| {
            let (nature, overtaken_at) = natures.next().unwrap_or((Nature::Succeeds, None));
            let endpoint: EndpointName = format!("e{wave}-{position}").parse().expect("a name");
            One {
                fact: Fact { wave, position, endpoint },
                nature,
                state: TargetState::Pending,
                since: START,
                present_since: None,
                instance: None,
                answered: Answered::Nothing,
                errnr: None,
                answers_at: None,
                rounds: 0,
                sent_at: START,
                begins_at: None,
                withdrawn: false,
                told_at: None,
                begun: false,
                stopped_at: None,
                executions: 0,
                overtaken_at: overtaken_at.filter(|_| any_newer),
            }
        };
        let targets: Vec<One> = targets.map(target).collect();
        let catch_up_for = Duration::from_secs(if skip { 0 } else { 300 });
        Fleet {
            status: RolloutStatus::Created,
            resume_to: None,
            settings: RolloutSettings { catch_up_for, in_flight, ..RolloutSettings::default() },
            allowed: (None, None),
            waves,
            targets,
            admitted_at: None,
            now: START,
            due_at: Some(START),
            latency,
            queue,
            executions_before_rollback: None,
            places,
            probe_ends: None,
            probe_faults,
            ended: false,
            rolls_back: false,
            rollback: None,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Without budgets every rollout ends by itself, and each endpoint is where what it does leads.
    #[test]
    fn a_rollout_without_budgets_ends(mut fleet in fleet(false)) {
        fleet.settle(8_000)?;
        prop_assert!(fleet.ended, "{:?}", fleet.status);
        let all_ok = fleet.targets.iter().all(|one| one.state == TargetState::Ok);
        prop_assert_eq!(fleet.status, if all_ok { RolloutStatus::Done } else { RolloutStatus::Partial });
        let verifies = fleet.waves[0].terms.healthy.is_some();
        for one in &fleet.targets {
            let may: &[TargetState] = match one.nature {
                Nature::Succeeds => &[TargetState::Ok],
                Nature::Restarts if verifies => &[TargetState::Ok],
                Nature::Unwell if !verifies => &[TargetState::Ok],
                Nature::Unwell | Nature::Fails | Nature::Hangs | Nature::Restarts => &[TargetState::Failed],
                Nature::Deaf => &[TargetState::Skipped, TargetState::Unreachable],
                Nature::Away(_) | Nature::CutOff(_) => &[TargetState::Ok, TargetState::Skipped, TargetState::Unreachable],
            };
            let left = one.state == TargetState::Superseded && one.overtaken_at.is_some();
            prop_assert!(left || may.contains(&one.state), "{:?}", one);
            prop_assert!(one.rounds <= 1 || matches!(one.nature, Nature::Deaf | Nature::CutOff(_)), "{:?}", one);
            prop_assert!(one.executions <= 1, "nothing runs twice: {:?}", one);
        }
    }

    /// A budget stops the rollout: nothing more starts until somebody decides. Then it goes on, or is given
    /// up.
    #[test]
    fn a_breach_stops_it_until_somebody_decides(mut fleet in fleet(true), resume in any::<bool>()) {
        for _ in 0..40 {
            fleet.settle(500)?;
            if fleet.ended {
                break;
            }
            if fleet.status == RolloutStatus::Halted {
                let rounds: u32 = fleet.targets.iter().map(|one| one.rounds).sum();
                // By then each is told that is there.
                fleet.settle(4)?;
                let executions = fleet.executions();
                if fleet.settings.in_flight == InFlightOnStop::Stop {
                    let runs = |one: &One| one.state == TargetState::Sent && matches!(one.answered, Answered::Received { .. });
                    fleet.settle(2)?;
                    prop_assert!(!fleet.targets.iter().any(runs), "a task that had begun still runs although it was to be stopped");
                }
                fleet.settle(200)?;
                prop_assert_eq!(executions, fleet.executions(), "nothing begins after a halt");
                prop_assert_eq!(rounds, fleet.targets.iter().map(|one| one.rounds).sum::<u32>(), "nothing starts after a halt");
                let plain = Command::Resume(Allow::default());
                fleet.people(&plain, &[])?;
                if fleet.status == RolloutStatus::Halted {
                    let raised = Command::Resume(Allow { failed: Some(50), unreachable: Some(50) });
                    fleet.people(if resume { &raised } else { &Command::Abort { roll_back: false } }, &[])?;
                    prop_assert_ne!(fleet.status, RolloutStatus::Halted);
                }
            }
        }
        prop_assert!(fleet.ended, "{:?}", fleet.status);
    }

    /// A breach that rolls back ends it, with its rollback where an endpoint has received something.
    #[test]
    fn a_breach_rolls_back(mut fleet in fleet(true)) {
        (fleet.settings.on_breach, fleet.settings.rollback) = (OnBreach::Rollback, Some(rollback()));
        fleet.settle(8_000)?;
        prop_assert!(fleet.ended, "{:?}", fleet.status);
        prop_assert!(fleet.executions_before_rollback.is_none_or(|before| before == fleet.executions()), "begun after its rollback was made");
        let undone = fleet.rollback.map(|(_, how)| how);
        let expected = match undone {
            Some(RolloutStatus::Done) => RolloutStatus::RolledBack,
            Some(_) => RolloutStatus::RollbackFailed,
            None if fleet.rolls_back => RolloutStatus::Aborted,
            None => fleet.status,
        };
        prop_assert_eq!(fleet.status, expected);
        prop_assert_eq!(undone.is_some(), fleet.rolls_back && fleet.targets.iter().any(One::has_received));
    }

    /// Whatever people ask for at whatever time, the promises hold, and an abort ends it.
    #[test]
    fn people_cannot_break_it(mut fleet in fleet(true), roll_back in any::<bool>(), asked in prop::collection::vec((0..8u8, 1..40u32, any::<prop::sample::Index>()), 1..12)) {
        for (what, seconds, which) in asked {
            fleet.settle(seconds)?;
            if fleet.ended {
                return Ok(());
            }
            // As the store does: not those whose task may still run.
            let closed = |one: &&One| one.rounds == 0 || !matches!(one.answered, Answered::Nothing | Answered::Received { .. });
            let one = &fleet.targets[which.index(fleet.targets.len())];
            let picked: Vec<Returned> =
                Some(one).filter(closed).map(|one| Returned { fact: one.fact.clone(), state: one.state }).into_iter().collect();
            match what {
                0 => fleet.people(&Command::Pause, &[])?,
                1 => fleet.people(&Command::Resume(Allow { failed: Some(9), unreachable: None }), &[])?,
                2 => fleet.people(&Command::Skip, &picked)?,
                3 => fleet.people(&Command::Retry, &picked)?,
                4 => fleet.people(&Command::SkipGate, &[])?,
                5 => fleet.people(&Command::Approve, &[])?,
                6 => fleet.people(&Command::Start, &[])?,
                _ => fleet.people(&Command::Resume(Allow::default()), &[])?,
            }
        }
        fleet.settings.rollback = Some(rollback());
        fleet.people(&Command::Abort { roll_back }, &[])?;
        fleet.settle(500)?;
        prop_assert!(fleet.ended, "{:?}", fleet.status);
        let executions = fleet.executions();
        prop_assert!(fleet.executions_before_rollback.is_none_or(|before| before == executions), "begun after its rollback was made");
        for one in &fleet.targets {
            prop_assert!(one.executions <= one.rounds, "{:?}", one);
        }
        let undone = matches!(fleet.status, RolloutStatus::RolledBack | RolloutStatus::RollbackFailed);
        prop_assert!(matches!(fleet.status, RolloutStatus::Aborted | RolloutStatus::Done | RolloutStatus::Partial) || undone && roll_back);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// A probe that fails stops the rollout at the wave; then it is tried anew, or passed over.
    #[test]
    fn a_probe_that_fails_stops_it(mut fleet in fleet(false), skip in any::<bool>()) {
        prop_assume!(fleet.waves[0].terms.probe.is_some());
        // A wave that is left to a newer rollout is not probed.
        fleet.targets.iter_mut().for_each(|one| one.overtaken_at = None);
        for wave in &mut fleet.waves {
            (wave.allowed_failed, wave.allowed_unreachable) = (None, None);
        }
        fleet.probe_faults = 3;
        fleet.settle(2_000)?;
        if fleet.ended {
            // Nothing of it has succeeded by the time its endpoints were waited for no more.
            return Ok(());
        }
        prop_assert_eq!(fleet.status, RolloutStatus::Halted);
        prop_assert!(fleet.waves[1..].iter().all(|wave| wave.phase == WavePhase::Waiting));
        prop_assert_eq!(fleet.waves[0].probe.failures, 3);
        if skip {
            let view = fleet.view();
            prop_assert_eq!(view.gate(), Some(Gate::Probe));
            fleet.people(&Command::SkipGate, &[])?;
            prop_assert_eq!(fleet.waves[0].phase, WavePhase::Passed);
        }
        fleet.people(&Command::Resume(Allow::default()), &[])?;
        prop_assert!(fleet.status.admits());
        fleet.settle(8_000)?;
        prop_assert!(fleet.ended, "{:?}", fleet.status);
    }
}

/// An approval of so many of these, of anybody without names.
fn approval(count: u32, from: &[&str]) -> Approval {
    Approval {
        count,
        from: from.iter().map(|name| name.parse().expect("a name")).collect(),
        not_creator: true,
        within: Duration::from_secs(100),
        otherwise: OnBreach::Halt,
    }
}

/// Somebody who approves; `root` administers.
fn asker(name: &str) -> Asker {
    Asker { name: name.parse().expect("a name"), approves: true, administers: name == "root" }
}

/// A rollout of `creator` that has not started, whose one wave has an approval.
fn before_approval(creator: &str, approval: Approval) -> View {
    let terms = WaveTerms {
        window: Amount::Count(1),
        receive_within: Duration::from_secs(10),
        finish_within: Duration::from_secs(30),
        healthy: None,
        failed: Some(Amount::Count(0)),
        unreachable: None,
        soak: Duration::ZERO,
        probe: None,
        approval: Some(approval),
    };
    let wave = WaveState {
        name: None,
        size: 1,
        phase: WavePhase::Waiting,
        since: None,
        window: 1,
        allowed_failed: Some(0),
        allowed_unreachable: None,
        terms,
        approvals: Vec::new(),
        probe: ProbeState::default(),
        counts: WaveCounts::all_in(TargetState::Pending, 1),
    };
    let fact = Fact { wave: 0, position: 0, endpoint: "web1".parse().expect("a name") };
    View {
        status: RolloutStatus::Created,
        resume_to: None,
        created_by: Some(creator.parse().expect("a name")),
        settings: RolloutSettings::default(),
        start_at: Some(START),
        expires_at: START.after(Duration::from_secs(1_000)),
        allowed_failed: None,
        allowed_unreachable: None,
        max_absent: None,
        absent_now: 0,
        admitted_at: None,
        newer: false,
        waves: vec![wave],
        in_flight: Vec::new(),
        returned: Vec::new(),
        waited: Vec::new(),
        next: vec![Next { fact, there: true, overtaken_by: None, slot: None }],
        probe: None,
        probed: Vec::new(),
        windows: Windows::ALWAYS,
        rolls_back: false,
        changed: false,
        rollback: None,
    }
}

/// Whoever approves enough alone, or administers, may pass over an approval; who made the rollout may not.
#[test]
fn passing_over_an_approval_needs_one_who_is_enough_alone() {
    for (creator, approval, by, may) in [
        ("ann", approval(1, &[]), "bob", true),
        ("ann", approval(1, &["bob"]), "bob", true),
        ("ann", approval(1, &["bob"]), "eve", false),
        ("ann", approval(1, &["bob"]), "root", true),
        ("ann", approval(1, &[]), "ann", false),
        ("ann", approval(2, &[]), "bob", false),
        ("ann", approval(2, &["bob", "eve"]), "bob", false),
        ("ann", approval(2, &["bob", "eve"]), "root", true),
        ("root", approval(1, &[]), "root", false),
        ("root", approval(2, &["bob", "eve"]), "root", false),
        ("root", Approval { not_creator: false, ..approval(2, &["bob", "eve"]) }, "root", true),
    ] {
        let case = format!("{by} in a rollout of {creator}: {approval:?}");
        let mut view = before_approval(creator, approval);
        (view.status, view.waves[0].since) = (RolloutStatus::Running, Some(START));
        let asked = command(&view, &Command::SkipGate, &[], Some(&asker(by)), START);
        match may {
            true => assert!(matches!(asked, Ok(Some(_))), "{case}: {asked:?}"),
            false => assert!(matches!(asked, Err(Refusal::NotYou(_))), "{case}: {asked:?}"),
        }
    }
}

/// An approval counts for the document that was approved, and the time for new ones begins anew.
#[test]
fn a_changed_document_takes_approvals_back() {
    let (mut view, later) = (before_approval("ann", approval(2, &[])), START.after(Duration::from_secs(99)));
    (view.status, view.waves[0].since) = (RolloutStatus::Paused, Some(START));
    view.waves[0].approvals = vec!["bob".parse().expect("a name"), "eve".parse().expect("a name")];
    let wave = &view.waves[0];
    let stays = EditedWave {
        window: 2,
        allowed_failed: wave.allowed_failed,
        allowed_unreachable: wave.allowed_unreachable,
        terms: wave.terms.clone(),
    };
    let edit = |changes, anew| {
        Command::Edit(Arc::new(Edit {
            told: "window: 1 -> 2".to_owned(),
            changes,
            document: json(&"edited"),
            settings: view.settings.clone(),
            expires_at: view.expires_at,
            allowed_failed: view.allowed_failed,
            allowed_unreachable: view.allowed_unreachable,
            waves: vec![stays.clone()],
            anew,
        }))
    };
    let asked = |by, changes, anew| {
        let change = command(&view, &edit(changes, anew), &[], Some(&asker(by)), later).expect("allowed");
        change.expect("a change")
    };
    let same = asked("kim", false, None);
    assert!(same.waves.is_empty(), "{same:?}");
    assert_eq!(same.events[0].text.as_deref(), Some("window: 1 -> 2"));
    let other = asked("kim", true, None);
    let taken: Vec<_> = other.waves.iter().map(|wave| (wave.since, wave.approvals.clone())).collect();
    assert_eq!(taken, [(Some(later), Some(Vec::new()))]);
    let told = Some("window: 1 -> 2; approvals taken back: bob, eve");
    assert_eq!(other.events[0].text.as_deref(), told);
    // The rows of such waves are new ones.
    let anew = asked("root", false, Some(WavesAnew { first: 0, is_open: false, waves: Vec::new() }));
    assert!(anew.waves.is_empty(), "{anew:?}");
    assert_eq!(anew.events[0].text.as_deref(), told);
}

#[test]
fn an_approval_is_waited_for_and_counts_people() {
    let (mut view, by) = (before_approval("ann", approval(2, &[])), asker);
    let started = decide(&view, START);
    assert_eq!((started.status, started.admit.len()), (Some(RolloutStatus::Running), 0));
    (view.status, view.waves[0].since) = (RolloutStatus::Running, Some(START));
    assert!(
        matches!(command(&view, &Command::Approve, &[], Some(&by("ann")), START), Err(Refusal::NotYou(_))),
        "its maker may not"
    );
    for (name, approvals) in [("bob", 1), ("bob", 1), ("eve", 2)] {
        if let Some(change) = command(&view, &Command::Approve, &[], Some(&by(name)), START).expect("allowed")
        {
            view.waves[0].approvals = change.waves[0].approvals.clone().expect("they change");
        }
        assert_eq!(view.waves[0].approvals.len(), approvals, "{name}");
        assert_eq!(decide(&view, START).admit.len(), usize::from(approvals == 2), "{name}");
    }
    view.waves[0].approvals.clear();
    let late = decide(&view, START.after(Duration::from_secs(100)));
    assert_eq!(late.status, Some(RolloutStatus::Halted));
    assert!(late.reason.is_some_and(|reason| reason.contains("not approved within")), "it says why");
    view.waves[0].terms.approval.as_mut().expect("there is one").otherwise = OnBreach::Abort;
    let ended = decide(&view, START.after(Duration::from_secs(100)));
    assert_eq!(ended.status, Some(RolloutStatus::Aborted), "nothing is in flight");
    assert!(ended.reason.is_some_and(|reason| reason.contains("not approved within")), "it still says why");
    view.waves[0].terms.approval.as_mut().expect("there is one").otherwise = OnBreach::Halt;
    let refused =
        command(&view, &Command::Refuse, &[], Some(&by("bob")), START).expect("allowed").expect("a change");
    assert_eq!(refused.status, Some(RolloutStatus::Halted));
}
