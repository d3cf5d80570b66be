//! What changes of a rollout with its document: how it runs, and the waves of what has not begun.

use std::collections::HashSet;

use super::rollout_document::{self, Told};
use crate::domain::rollout::{
    Amount, Begun, Edit, EditedWave, Part, PlanFault, RolloutTerms, TargetState, WaveAnew, WaveOf, WavePhase,
    WaveState, WaveTerms, WavesAnew, replan,
};
use crate::domain::{EndpointName, Json, Member};
use crate::store::{RolloutRecord, RolloutTargetRecord};

/// What changes of a rollout with its document: `members` of it, as `told` says.
///
/// # Errors
/// All that is wrong.
pub fn edit_of(
    found: &RolloutRecord,
    terms: RolloutTerms,
    document: Json,
    members: &[String],
    told: Told,
    anew: Option<WavesAnew>,
) -> Result<Edit, Vec<PlanFault>> {
    let changes = |name: &str| members.iter().any(|member| member == name);
    let total: u32 = found.waves.iter().map(|wave| wave.size).sum();
    let budget = changes("budget");
    // Waves that were left with nothing, and were not recorded, are the last.
    let waves = if found.parent.is_some() { waves_of_rerun(terms.waves)? } else { terms.waves };
    // Those that are put together anew come with their terms.
    let stay = anew.as_ref().map_or(found.waves.len(), |anew| place(anew.first));
    let stay = found.waves.iter().take(stay);
    let waves = stay.zip(waves).map(|(before, wave)| edited_wave(before, wave.terms, budget));
    // Without a new budget it stays as it was raised.
    let (allowed_failed, allowed_unreachable) = match budget {
        true => (allowed(terms.failed, total), allowed(terms.unreachable, total)),
        false => (found.allowed_failed, found.allowed_unreachable),
    };
    Ok(Edit {
        waves: waves.collect(),
        allowed_failed,
        allowed_unreachable,
        expires_at: if changes(rollout_document::EXPIRES) {
            found.created.after(terms.expires_after)
        } else {
            found.expires_at
        },
        settings: terms.settings,
        document,
        told: told.text,
        changes: told.changes,
        anew,
    })
}

fn place(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The targets of a rollout whose waves change, in the order of their turns.
pub struct Turns<'a> {
    rollout: &'a RolloutRecord,
    /// The first wave that can change.
    first: u32,
    /// Targets of that which stay in it; none where no wave is being started.
    kept: Option<Vec<EndpointName>>,
    /// Whether that wave has targets that have not been started.
    is_left: bool,
    /// Targets that may be put into any wave.
    free: Vec<EndpointName>,
    /// Targets of waiting waves that are not PENDING, such as those that somebody has skipped. They go into the
    /// last wave: a wave of only such targets would prove nothing.
    others: Vec<EndpointName>,
}

impl<'a> Turns<'a> {
    /// Before any target is taken.
    pub fn of(rollout: &'a RolloutRecord) -> Self {
        // Nothing of a wave that soaks or has passed is started any more, but by `retry`.
        let is_closed = |wave: &&WaveState| !matches!(wave.phase, WavePhase::Waiting | WavePhase::Admitting);
        let closed = rollout.waves.iter().take_while(is_closed).count();
        let is_open = rollout.waves.get(closed).is_some_and(|wave| wave.phase == WavePhase::Admitting);
        Self {
            rollout,
            first: u32::try_from(closed).unwrap_or(u32::MAX),
            kept: is_open.then(Vec::new),
            is_left: false,
            free: Vec::new(),
            others: Vec::new(),
        }
    }

    /// The place after which the targets come that can change.
    pub fn after(&self) -> Option<(u32, u32)> {
        self.first.checked_sub(1).map(|last| (last, u32::MAX))
    }

    /// Takes the next target.
    pub fn take(&mut self, RolloutTargetRecord { endpoint, wave, state, .. }: RolloutTargetRecord) {
        match (state, &mut self.kept) {
            (TargetState::Pending, _) => {
                self.is_left |= wave == self.first;
                self.free.push(endpoint);
            }
            (_, Some(kept)) if wave == self.first => kept.push(endpoint),
            _ => self.others.push(endpoint),
        }
    }

    /// Puts the targets into the waves of a changed document; `before` are those that it had.
    ///
    /// # Errors
    /// All that is wrong with the new ones.
    pub fn put(
        self,
        before: Vec<WaveOf>,
        terms: &RolloutTerms,
        members: &[Member],
        budget: bool,
    ) -> Result<WavesAnew, Vec<PlanFault>> {
        let Self { rollout, mut first, mut kept, is_left, free, others } = self;
        // All of the wave have been started: it stays, as those before it do.
        if kept.is_some() && !is_left {
            (first, kept) = (first + 1, None);
        }
        let rerun = rollout.parent.is_some();
        if let Some(at) = terms.waves.iter().position(|wave| rerun && !is_of_rerun(wave)) {
            let message =
                "names its endpoints; those of a rerun are given, so its waves have sizes".to_owned();
            return Err(vec![PlanFault { pointer: format!("/waves/{at}"), message }]);
        }
        let before: Vec<WaveOf> = before.into_iter().filter(|wave| !rerun || is_of_rerun(wave)).collect();
        let total = rollout.waves.iter().map(|wave| wave.size).sum();
        let begun = Begun { closed: place(first), kept, total };
        let planned = replan(&before, terms, &begun, &free, members)?;
        let kept: HashSet<&EndpointName> = begun.kept.iter().flatten().collect();
        let open = rollout.waves.get(place(first)).filter(|_| begun.kept.is_some());
        let waves = planned.into_iter().enumerate().map(|(at, planned)| {
            let runs = match open.filter(|_| at == 0) {
                // What somebody has raised for it stays.
                Some(open) => {
                    let budget = budget || !is_raised(open);
                    edited_wave(&WaveState { size: planned.size(), ..open.clone() }, planned.terms, budget)
                }
                None => EditedWave {
                    window: planned.window,
                    allowed_failed: planned.allowed_failed,
                    allowed_unreachable: planned.allowed_unreachable,
                    terms: planned.terms,
                },
            };
            let targets = planned.targets.into_iter().filter(|name| !kept.contains(name)).collect();
            WaveAnew { name: planned.name, runs, targets }
        });
        let mut waves: Vec<WaveAnew> = waves.collect();
        if let Some(last) = waves.last_mut() {
            last.targets.extend(others);
        }
        Ok(WavesAnew { first, is_open: open.is_some(), waves })
    }
}

/// Whether somebody has allowed a wave more than its document does.
fn is_raised(wave: &WaveState) -> bool {
    let WaveState { allowed_failed, allowed_unreachable, size, .. } = wave;
    (*allowed_failed, *allowed_unreachable)
        != (allowed(wave.terms.failed, *size), allowed(wave.terms.unreachable, *size))
}

/// How a wave runs once the document was changed.
fn edited_wave(wave: &WaveState, after: WaveTerms, budget: bool) -> EditedWave {
    let before = &wave.terms;
    // What cannot be changed stays, whatever the configuration of the type says by now.
    let terms = WaveTerms {
        receive_within: before.receive_within,
        finish_within: before.finish_within,
        healthy: before.healthy.clone(),
        ..after
    };
    let window = terms.window.places(wave.size);
    if budget {
        let (allowed_failed, allowed_unreachable) =
            (allowed(terms.failed, wave.size), allowed(terms.unreachable, wave.size));
        return EditedWave { window, allowed_failed, allowed_unreachable, terms };
    }
    EditedWave {
        window,
        allowed_failed: wave.allowed_failed,
        allowed_unreachable: wave.allowed_unreachable,
        terms: WaveTerms { failed: before.failed, unreachable: before.unreachable, ..terms },
    }
}

fn allowed(budget: Option<Amount>, of: u32) -> Option<u32> {
    budget.map(|amount| amount.rounded_down(of))
}

/// The waves of a document that a rerun has too. Its endpoints are given, so it has none of the waves that
/// name theirs. Approvals of those stand before the first that is left: nothing begins without them.
///
/// # Errors
/// Approvals that would stand before one wave and are not the same.
pub fn waves_of_rerun(waves: Vec<WaveOf>) -> Result<Vec<WaveOf>, Vec<PlanFault>> {
    let (mut left, named): (Vec<_>, Vec<_>) =
        waves.into_iter().enumerate().partition(|(_, wave)| is_of_rerun(wave));
    let mut faults = Vec::new();
    for (at, wave) in named {
        let (Some((first, before)), Some(approval)) = (left.first_mut(), wave.terms.approval) else {
            continue;
        };
        let is_same = before.terms.approval.as_ref().is_none_or(|other| *other == approval);
        if !is_same {
            let message = format!(
                "names its endpoints, so a rerun does not have it, and its approval would stand before wave {}, which has another one; \
                 submit a document of its own for these endpoints",
                *first + 1
            );
            faults.push(PlanFault { pointer: format!("/waves/{at}"), message });
        }
        before.terms.approval = Some(approval);
    }
    if faults.is_empty() { Ok(left.into_iter().map(|(_, wave)| wave).collect()) } else { Err(faults) }
}

/// Whether a rerun has this wave of the document too.
const fn is_of_rerun(wave: &WaveOf) -> bool {
    matches!(wave.part, Part::Size(_) | Part::Rest)
}
