//! The waves that a document makes of a fleet. The same function answers `plan` and creates the rollout.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::terms::{Order, Part, RolloutTargets, RolloutTerms, WaveOf, WaveTerms};
use crate::domain::likeness::unknown;
use crate::domain::target::{fact, odd_exclusion, place, unknown_label};
use crate::domain::{Attendance, EndpointName, Member, Selector};

/// Targets of a rollout at most.
const MOST: usize = 50_000;
/// Faults of one kind that are told at most.
const TOLD: usize = 20;

/// The waves of a rollout, with all numbers resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The waves; together they have every target once.
    pub waves: Vec<PlannedWave>,
    /// Targets that may fail in all; none for any number.
    pub allowed_failed: Option<u32>,
    /// Targets that may be unreachable in all; none for any number.
    pub allowed_unreachable: Option<u32>,
    /// With more that are away it does not start; none for any number.
    pub max_absent: Option<u32>,
    /// The failure domains of the targets, by name; none without `spread`.
    pub domains: Vec<PlannedDomain>,
    /// The place of the domain of each target among them.
    pub domain_of: HashMap<EndpointName, usize>,
    /// What is odd about the exclusions of the document.
    pub odd: Vec<String>,
}

/// A failure domain with its numbers resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedDomain {
    /// What it is called: labels with their values.
    pub name: String,
    /// How many targets it has.
    pub size: u32,
    /// How many of them may be in flight at the same time; none for any number.
    pub places: Option<u32>,
}

/// A wave with its numbers resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedWave {
    /// What it is called.
    pub name: Option<String>,
    /// Its targets, in the order of their turns.
    pub targets: Vec<EndpointName>,
    /// Those of them that are away now.
    pub absent: u32,
    /// Targets in flight at the same time at most.
    pub window: u32,
    /// Targets that may fail; none for any number.
    pub allowed_failed: Option<u32>,
    /// Targets that may be unreachable; none for any number.
    pub allowed_unreachable: Option<u32>,
    /// How it runs.
    pub terms: WaveTerms,
}

/// Something that is wrong with a document, seen with the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanFault {
    /// Where (RFC 6901).
    pub pointer: String,
    /// What, as the rest of a sentence about it.
    pub message: String,
}

impl Plan {
    /// How many targets there are.
    pub fn size(&self) -> u32 {
        self.waves.iter().map(PlannedWave::size).sum()
    }

    /// How many of them are away now.
    pub fn absent(&self) -> u32 {
        self.waves.iter().map(|wave| wave.absent).sum()
    }
}

impl PlannedWave {
    /// How many targets it has.
    pub fn size(&self) -> u32 {
        count(self.targets.len())
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The waves of a document among the endpoints that are known for its type.
///
/// # Errors
/// All that is wrong.
pub fn plan(terms: &RolloutTerms, members: &[Member]) -> Result<Plan, Vec<PlanFault>> {
    let mut faults = Faults(Vec::new());
    let known: HashMap<&EndpointName, &Member> =
        members.iter().map(|member| (&member.name, member)).collect();
    faults.unknown_names("/targets/endpoints", &terms.targets.endpoints, &known);
    faults.unknown_names("/targets/exclude/endpoints", &terms.targets.without, &known);
    for (at, wave) in terms.waves.iter().enumerate() {
        if let Part::Endpoints(names) = &wave.part {
            faults.unknown_names(&format!("/waves/{at}/endpoints"), names, &known);
        }
    }
    if !faults.0.is_empty() {
        return Err(faults.0);
    }
    let targets = chosen(terms, members);
    let total = targets.len();
    if total == 0 {
        let none = format!("choose none of the {} endpoints known for `{}`", members.len(), terms.task_type);
        let meant: Vec<&Selector> = terms.targets.selectors.iter().chain(&terms.targets.in_groups).collect();
        let unknown =
            unknown_label(&meant, members).map(|unknown| format!(": {unknown}")).unwrap_or_default();
        faults.add("/targets", format!("{none}{unknown}"));
        // Whatever else there is to say of waves and limits follows from that.
        return Err(faults.0);
    }
    if total > MOST {
        faults
            .add("/targets", format!("choose {total} endpoints; at most {MOST} are allowed in one rollout"));
    }
    if let Some(max) = terms.targets.max.filter(|max| count(total) > *max) {
        faults.add("/targets/max", format!("is {max}, and the targets are {total} endpoints"));
    }
    let waves =
        split(terms, &targets, &Begun { total: count(total), ..Begun::default() }, &known, &mut faults);
    let (domains, domain_of) = spread(terms, &targets, &known, &mut faults);
    if !faults.0.is_empty() {
        return Err(faults.0);
    }
    let of_all = |amount: Option<super::Amount>| amount.map(|amount| amount.rounded_down(count(total)));
    Ok(Plan {
        waves,
        allowed_failed: of_all(terms.failed),
        allowed_unreachable: of_all(terms.unreachable),
        max_absent: of_all(terms.targets.max_absent),
        domains,
        domain_of,
        odd: odd(terms, members),
    })
}

/// What is odd about the exclusions of a document.
fn odd(terms: &RolloutTerms, members: &[Member]) -> Vec<String> {
    let RolloutTargets { without_selectors, without_groups, without_in_groups, .. } = &terms.targets;
    let all: Vec<&Selector> = without_selectors.iter().collect();
    let spelt: Vec<String> = all.iter().map(ToString::to_string).collect();
    let matched = (!all.is_empty()).then(|| odd_exclusion(&spelt.join(", "), &all, members)).flatten();
    let groups = without_groups.iter().zip(without_in_groups);
    let groups =
        groups.filter_map(|(name, selector)| odd_exclusion(&format!("@{name}"), &[selector], members));
    matched.into_iter().chain(groups).collect()
}

/// What of the waves of a rollout has begun, and stays as it is whatever its document says by now.
#[derive(Debug, Clone, Default)]
pub struct Begun {
    /// Waves in which no target is started any more.
    pub closed: usize,
    /// Of the wave after them those that are not PENDING; none where no wave is being started.
    pub kept: Option<Vec<EndpointName>>,
    /// All targets of the rollout.
    pub total: u32,
}

/// The waves of a changed document after those that are closed. `free` are the targets that may be put into
/// another wave, in the order of their turns; `before` is the document as it was.
///
/// # Errors
/// All that is wrong.
pub fn replan(
    before: &[WaveOf],
    terms: &RolloutTerms,
    begun: &Begun,
    free: &[EndpointName],
    members: &[Member],
) -> Result<Vec<PlannedWave>, Vec<PlanFault>> {
    let mut faults = Faults(Vec::new());
    if free.is_empty() {
        faults.add("/waves", "all targets have been started, or are in a wave that is over".to_owned());
    }
    for (at, wave) in before.iter().take(begun.closed).enumerate() {
        let stays = |after: &WaveOf| after.part == wave.part && after.name == wave.name;
        if !terms.waves.get(at).is_some_and(stays) {
            let text = "has begun; it must be there with the size or the endpoints and the name that it has";
            faults.add(format!("/waves/{at}"), text.to_owned());
        }
    }
    let known: HashMap<&EndpointName, &Member> =
        members.iter().map(|member| (&member.name, member)).collect();
    let waves = if faults.0.is_empty() { split(terms, free, begun, &known, &mut faults) } else { Vec::new() };
    if faults.0.is_empty() { Ok(waves) } else { Err(faults.0) }
}

/// The failure domains of targets, and the place of that of each.
fn spread(
    terms: &RolloutTerms,
    targets: &[EndpointName],
    known: &HashMap<&EndpointName, &Member>,
    faults: &mut Faults,
) -> (Vec<PlannedDomain>, HashMap<EndpointName, usize>) {
    let Some(spread) = &terms.spread else { return (Vec::new(), HashMap::new()) };
    let value = |target: &EndpointName, key: &str| {
        let Member { name, version, labels, .. } = known.get(target)?;
        fact(name, version, labels, key)
    };
    for (at, key) in spread.by.iter().enumerate() {
        if !targets.is_empty() && targets.iter().all(|target| value(target, key).is_none()) {
            faults.add(
                format!("/spread/by/{at}"),
                format!("is `{key}`, a label that none of the {} targets has", targets.len()),
            );
        }
    }
    let mut named: BTreeMap<String, Vec<&EndpointName>> = BTreeMap::new();
    for target in targets {
        let parts: Vec<String> =
            spread.by.iter().map(|key| format!("{key}={}", value(target, key).unwrap_or_default())).collect();
        named.entry(parts.join(" ")).or_default().push(target);
    }
    let mut domain_of = HashMap::with_capacity(targets.len());
    let mut domains = Vec::with_capacity(named.len());
    for (name, members) in named {
        let size = count(members.len());
        domain_of.extend(members.into_iter().map(|member| (member.clone(), domains.len())));
        let places = spread.max_in_flight.map(|amount| amount.places(size));
        domains.push(PlannedDomain { name, size, places });
    }
    (domains, domain_of)
}

/// The targets in the order of their turns.
pub fn chosen(terms: &RolloutTerms, members: &[Member]) -> Vec<EndpointName> {
    let targets = &terms.targets;
    let named: HashMap<&EndpointName, usize> =
        targets.endpoints.iter().enumerate().map(|(at, name)| (name, at)).collect();
    let without: HashSet<&EndpointName> = targets.without.iter().collect();
    let everybody = named.is_empty() && targets.selectors.is_empty() && targets.in_groups.is_empty();
    let in_one = |member: &Member, groups: &[Selector]| {
        groups.iter().any(|group| holds(member, std::slice::from_ref(group)))
    };
    let is_target = |member: &&Member| {
        let selected = everybody
            || !targets.selectors.is_empty() && holds(member, &targets.selectors)
            || in_one(member, &targets.in_groups);
        // One that is there and performs other types alone is meant only where it is named.
        let wanted =
            named.contains_key(&member.name) || selected && member.attendance != Attendance::OtherTypes;
        let unwanted = without.contains(&member.name)
            || !targets.without_selectors.is_empty() && holds(member, &targets.without_selectors)
            || in_one(member, &targets.without_in_groups);
        wanted && !unwanted
    };
    let mut chosen: Vec<EndpointName> =
        members.iter().filter(is_target).map(|member| member.name.clone()).collect();
    let part = (chosen.len() * usize::from(targets.percent)).div_ceil(100);
    if part < chosen.len() {
        chosen.sort_by_cached_key(|name| place(&targets.seed, name));
        chosen.truncate(part);
    }
    match targets.order {
        Order::Seeded => chosen.sort_by_cached_key(|name| place(&targets.seed, name)),
        Order::Name => chosen.sort_unstable(),
        Order::Given => chosen.sort_by_key(|name| named.get(name).copied().unwrap_or(usize::MAX)),
    }
    chosen
}

fn holds(member: &Member, selectors: &[Selector]) -> bool {
    let Member { name, version, labels, .. } = member;
    selectors.iter().all(|selector| selector.matches(|key| fact(name, version, labels, key)))
}

/// Puts the targets into the waves that are not closed.
fn split(
    terms: &RolloutTerms,
    targets: &[EndpointName],
    begun: &Begun,
    known: &HashMap<&EndpointName, &Member>,
    faults: &mut Faults,
) -> Vec<PlannedWave> {
    let Begun { closed, kept: of_open, total } = begun;
    let kept = of_open.as_deref().unwrap_or_default();
    let staying: HashSet<&EndpointName> = kept.iter().collect();
    let all: HashSet<&EndpointName> = targets.iter().chain(kept).collect();
    let mut taken: HashMap<&EndpointName, usize> = kept.iter().map(|name| (name, *closed)).collect();
    let stays = |name: &EndpointName, at: usize| at == *closed && staying.contains(name);
    let mut parts: Vec<Vec<EndpointName>> = vec![Vec::new(); terms.waves.len().max(closed + 1)];
    parts[*closed].extend_from_slice(kept);
    // Waves that say who is in them come first: sizes are of what is left.
    for (at, wave) in terms.waves.iter().enumerate().skip(*closed) {
        let names: Vec<&EndpointName> = match &wave.part {
            Part::Endpoints(names) => names.iter().collect(),
            Part::Match(selectors) => targets
                .iter()
                .filter(|name| known.get(name).is_some_and(|one| holds(one, selectors)))
                .collect(),
            Part::Size(_) | Part::Rest => continue,
        };
        let listed = matches!(wave.part, Part::Endpoints(_));
        for (place, name) in names.into_iter().enumerate() {
            let Some(name) = all.get(name) else {
                faults.add(
                    format!("/waves/{at}/endpoints/{place}"),
                    format!("is `{name}`, which is not a target of the rollout{}", begun.told()),
                );
                continue;
            };
            match taken.get(name) {
                Some(other) if listed && !stays(name, at) => {
                    let message = format!(
                        "is `{name}`, which is in wave {} already; a target is in one wave",
                        other + 1
                    );
                    faults.add(format!("/waves/{at}/endpoints/{place}"), message);
                }
                // A selector takes what the waves before it have left.
                Some(_) => {}
                None => {
                    taken.insert(name, at);
                    parts[at].push((*name).clone());
                }
            }
        }
    }
    let mut rest = targets.iter().filter(|name| !taken.contains_key(name)).cloned();
    for (at, wave) in terms.waves.iter().enumerate().skip(*closed) {
        match wave.part {
            Part::Size(size) => {
                let wanted = usize::try_from(size.rounded_up(*total)).unwrap_or(usize::MAX);
                let Some(more) = wanted.checked_sub(parts[at].len()) else {
                    let message =
                        format!("is {size} of {total} targets, and {} of it have been started", kept.len());
                    faults.add(format!("/waves/{at}"), message);
                    continue;
                };
                parts[at].extend(rest.by_ref().take(more));
            }
            Part::Rest => parts[at].extend(rest.by_ref()),
            Part::Endpoints(_) | Part::Match(_) => {}
        }
    }
    let left = rest.count();
    if left > 0 && faults.0.is_empty() {
        faults.add("/waves", format!("leave {left} targets without a wave: end them with `rest`"));
    }
    let mut waves = Vec::with_capacity(parts.len());
    for (at, (wave, targets)) in terms.waves.iter().zip(parts).enumerate().skip(*closed) {
        if targets.is_empty() {
            // `rest` may be nothing, and so may what a small fleet leaves to the waves of the default.
            let is_open = at == *closed && of_open.is_some();
            if is_open || terms.own_waves && wave.part != Part::Rest {
                let why = match &wave.part {
                    Part::Size(_) => {
                        format!("would be empty: earlier waves already take all targets ({total})")
                    }
                    _ => format!("has none of the {total} targets"),
                };
                faults.add(format!("/waves/{at}"), why);
            }
            continue;
        }
        let size = count(targets.len());
        let absent = targets
            .iter()
            .filter(|name| known.get(name).is_none_or(|member| member.attendance != Attendance::Subscribed))
            .count();
        waves.push(PlannedWave {
            name: wave.name.clone(),
            absent: count(absent),
            window: wave.terms.window.places(size),
            allowed_failed: wave.terms.failed.map(|amount| amount.rounded_down(size)),
            allowed_unreachable: wave.terms.unreachable.map(|amount| amount.rounded_down(size)),
            terms: wave.terms.clone(),
            targets,
        });
    }
    waves
}

impl Begun {
    /// The end of a sentence about a name that is not there.
    const fn told(&self) -> &'static str {
        if self.closed > 0 || self.kept.is_some() { ", or is in a wave that is over" } else { "" }
    }
}

struct Faults(Vec<PlanFault>);

impl Faults {
    fn add(&mut self, pointer: impl Into<String>, message: String) {
        self.0.push(PlanFault { pointer: pointer.into(), message });
    }

    fn unknown_names(
        &mut self,
        pointer: &str,
        names: &[EndpointName],
        known: &HashMap<&EndpointName, &Member>,
    ) {
        let unknown_ones = names.iter().enumerate().filter(|(_, name)| !known.contains_key(name));
        for (at, name) in unknown_ones.take(TOLD) {
            let text = unknown(
                "endpoint",
                name.as_str(),
                "known for the type",
                known.keys().map(|name| name.as_str()),
            )
            .text;
            self.add(format!("{pointer}/{at}"), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::rollout::{Amount, Own, RolloutSettings, RolloutTargets, Spread, Start, WaveOf};
    use crate::domain::{Labels, json};

    fn wave_terms() -> WaveTerms {
        WaveTerms {
            window: Amount::Count(100),
            receive_within: Duration::from_secs(30),
            finish_within: Duration::from_secs(60),
            healthy: None,
            failed: Some(Amount::Count(0)),
            unreachable: Some(Amount::Percent(1000)),
            soak: Duration::ZERO,
            probe: None,
            approval: None,
        }
    }

    fn terms(parts: Vec<Part>) -> RolloutTerms {
        RolloutTerms {
            subject: None,
            identifier: "r".parse().expect("a name"),
            task_type: "update".parse().expect("a type"),
            payload: json(&()),
            lane: "update".into(),
            targets: RolloutTargets { percent: 100, seed: "r".into(), ..RolloutTargets::default() },
            spread: None,
            waves: parts
                .into_iter()
                .map(|part| WaveOf { name: None, part, terms: wave_terms(), own: Own::default() })
                .collect(),
            own_waves: true,
            failed: Some(Amount::Percent(200)),
            unreachable: None,
            settings: RolloutSettings::default(),
            start: Start::Now,
            expires_after: Duration::from_secs(3600),
        }
    }

    fn fleet(size: usize) -> Vec<Member> {
        let member = |n: usize| Member {
            name: format!("web{n}").parse().expect("a name"),
            version: "1.0.0".into(),
            labels: Labels::of([("rack".to_owned(), (n % 3).to_string())]).expect("labels"),
            attendance: if n % 10 == 9 { Attendance::Away } else { Attendance::Subscribed },
            trouble: None,
        };
        (0..size).map(member).collect()
    }

    fn size(amount: Amount) -> Part {
        Part::Size(amount)
    }

    fn name(name: &str) -> EndpointName {
        name.parse().expect("a name")
    }

    #[test]
    fn waves_have_the_sizes_of_the_document() {
        let parts =
            vec![size(Amount::Count(1)), size(Amount::Percent(500)), size(Amount::Percent(2500)), Part::Rest];
        let plan = plan(&terms(parts), &fleet(1204)).expect("a plan");
        let sizes: Vec<u32> = plan.waves.iter().map(PlannedWave::size).collect();
        assert_eq!(sizes, [1, 61, 301, 841]);
        assert_eq!((plan.allowed_failed, plan.allowed_unreachable, plan.max_absent), (Some(24), None, None));
        assert_eq!(plan.waves[1].allowed_unreachable, Some(6));
        assert_eq!(plan.waves.iter().map(|wave| wave.window).collect::<Vec<_>>(), [1, 61, 100, 100]);
        assert_eq!(plan.absent(), 120);
    }

    #[test]
    fn what_cannot_be_is_told_with_its_place() {
        let told = |terms: &RolloutTerms, members: usize| {
            let faults = plan(terms, &fleet(members)).expect_err("a fault");
            faults.into_iter().map(|fault| format!("{} {}", fault.pointer, fault.message)).collect::<Vec<_>>()
        };
        let mut empty = terms(vec![Part::Rest]);
        empty.targets.selectors = vec!["rack=9".parse().expect("a selector")];
        assert_eq!(told(&empty, 5), ["/targets choose none of the 5 endpoints known for `update`"]);
        let nothing_left = terms(vec![size(Amount::Count(5)), size(Amount::Percent(500)), Part::Rest]);
        assert_eq!(
            told(&nothing_left, 5),
            ["/waves/1 would be empty: earlier waves already take all targets (5)"]
        );
        let twice = terms(vec![
            Part::Endpoints(vec![name("web1")]),
            Part::Endpoints(vec![name("web2"), name("web1")]),
        ]);
        assert_eq!(
            told(&twice, 5),
            ["/waves/1/endpoints/1 is `web1`, which is in wave 1 already; a target is in one wave"]
        );
        let mut misspelt = terms(vec![Part::Rest]);
        misspelt.targets.endpoints = vec![name("web1"), name("wbe1")];
        assert!(
            told(&misspelt, 5)[0].starts_with("/targets/endpoints/1 unknown endpoint"),
            "{:?}",
            told(&misspelt, 5)
        );
        let mut many = terms(vec![Part::Rest]);
        many.targets.max = Some(3);
        assert_eq!(told(&many, 5), ["/targets/max is 3, and the targets are 5 endpoints"]);
        let elsewhere = Part::Endpoints(vec![name("web1")]);
        let mut outside = terms(vec![elsewhere]);
        outside.targets.without = vec![name("web1")];
        assert!(told(&outside, 5)[0].contains("not a target of the rollout"));
    }

    #[test]
    fn what_has_begun_stays_when_waves_change() {
        let fixed = |count| size(Amount::Count(count));
        let before = terms(vec![fixed(1), fixed(4), Part::Rest]);
        let fleet = fleet(20);
        let planned = plan(&before, &fleet).expect("a plan");
        let turns: Vec<EndpointName> = planned.waves.iter().flat_map(|wave| wave.targets.clone()).collect();
        // The second wave has started two of its four.
        let begun = Begun { closed: 1, kept: Some(turns[1..3].to_vec()), total: 20 };
        let again = |parts: Vec<Part>| replan(&before.waves, &terms(parts), &begun, &turns[3..], &fleet);
        let sizes = |parts| again(parts).map(|waves| waves.iter().map(PlannedWave::size).collect::<Vec<_>>());
        assert_eq!(sizes(vec![fixed(1), fixed(3), fixed(5), Part::Rest]), Ok(vec![3, 5, 11]));
        assert_eq!(sizes(vec![fixed(1), size(Amount::Percent(5000)), Part::Rest]), Ok(vec![10, 9]));
        assert_eq!(sizes(vec![fixed(1), Part::Rest]), Ok(vec![19]), "one wave for all that is left");
        let named = Part::Endpoints(vec![turns[9].clone(), turns[5].clone()]);
        let waves = again(vec![fixed(1), fixed(2), named, Part::Rest]).expect("waves");
        assert_eq!(waves[0].targets, turns[1..3], "the wave that is open has no more");
        assert_eq!(waves[1].targets, [turns[9].clone(), turns[5].clone()], "in the order of the list");
        assert_eq!(waves[2].targets.len() + 5, 20);
        let faults = |parts| {
            let faults: Vec<PlanFault> = again(parts).expect_err("a fault");
            faults.into_iter().map(|fault| format!("{} {}", fault.pointer, fault.message)).collect::<Vec<_>>()
        };
        let stays = "has begun; it must be there with the size or the endpoints and the name that it has";
        assert_eq!(faults(vec![fixed(2), Part::Rest]), [format!("/waves/0 {stays}")]);
        assert_eq!(
            faults(vec![fixed(1), fixed(1), Part::Rest]),
            ["/waves/1 is 1 of 20 targets, and 2 of it have been started"]
        );
        assert_eq!(
            faults(vec![fixed(1), fixed(2), Part::Endpoints(vec![turns[0].clone()]), Part::Rest]),
            [
                format!(
                    "/waves/2/endpoints/0 is `{}`, which is not a target of the rollout, or is in a wave that is over",
                    turns[0]
                ),
                "/waves/2 has none of the 20 targets".to_owned()
            ]
        );
        assert_eq!(
            faults(vec![fixed(1), fixed(2)]),
            ["/waves leave 17 targets without a wave: end them with `rest`"]
        );
        let over = Begun { closed: 3, kept: None, total: 20 };
        let nothing = replan(&before.waves, &before, &over, &[], &fleet).expect_err("a fault");
        assert_eq!(nothing[0].message, "all targets have been started, or are in a wave that is over");
    }

    #[test]
    fn each_target_has_one_failure_domain() {
        let mut wanted = terms(vec![Part::Rest]);
        wanted.spread = Some(Spread { by: vec!["rack".into()], max_in_flight: Some(Amount::Percent(3_000)) });
        let plan_of = |wanted: &RolloutTerms| plan(wanted, &fleet(20));
        let planned = plan_of(&wanted).expect("a plan");
        let told: Vec<_> =
            planned.domains.iter().map(|domain| (domain.name.as_str(), domain.size, domain.places)).collect();
        assert_eq!(told, [("rack=0", 7, Some(2)), ("rack=1", 7, Some(2)), ("rack=2", 6, Some(1))]);
        assert_eq!((planned.domain_of.len(), planned.domain_of[&name("web4")]), (20, 1));
        wanted.spread = Some(Spread { by: vec!["rack".into(), "site".into()], max_in_flight: None });
        let faults = plan_of(&wanted).expect_err("nobody has it");
        assert_eq!(faults[0].pointer, "/spread/by/1");
        assert_eq!(faults[0].message, "is `site`, a label that none of the 20 targets has");
    }

    #[test]
    fn named_waves_come_before_sizes_and_order_is_as_asked() {
        let mut wanted = terms(vec![
            Part::Endpoints(vec![name("web4")]),
            Part::Match(vec!["rack=1".parse().expect("a selector")]),
            size(Amount::Count(1)),
            Part::Rest,
        ]);
        wanted.targets.order = Order::Name;
        let names =
            |wave: &PlannedWave| wave.targets.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>();
        let plan = plan(&wanted, &fleet(6)).expect("a plan");
        assert_eq!(
            plan.waves.iter().map(names).collect::<Vec<_>>(),
            [vec!["web4"], vec!["web1"], vec!["web0"], vec!["web2", "web3", "web5"]]
        );
    }

    proptest! {
        /// Waves are disjoint, and their union is the targets.
        #[test]
        fn every_target_is_in_one_wave(
            members in 1..200usize, sizes in prop::collection::vec((any::<bool>(), 1..60u32), 0..6), percent in 1..=100u8, own in any::<bool>(),
        ) {
            let parts = sizes.iter().map(|(percent, n)| size(if *percent { Amount::Percent(n * 100) } else { Amount::Count(*n) }));
            let mut wanted = terms(parts.chain([Part::Rest]).collect());
            wanted.targets.percent = percent;
            wanted.own_waves = own;
            match plan(&wanted, &fleet(members)) {
                Ok(plan) => {
                    let mut all: Vec<_> = plan.waves.iter().flat_map(|wave| wave.targets.clone()).collect();
                    let total = all.len();
                    prop_assert_eq!(total, (members * usize::from(percent)).div_ceil(100));
                    all.sort_unstable();
                    all.dedup();
                    prop_assert_eq!(all.len(), total);
                    for wave in &plan.waves {
                        prop_assert!(!wave.targets.is_empty() && (1..=wave.size()).contains(&wave.window));
                    }
                }
                Err(faults) => prop_assert!(own && faults.iter().all(|fault| fault.pointer.starts_with("/waves/"))),
            }
        }
    }
}
