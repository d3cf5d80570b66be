//! Whom a submission is for when it names no endpoints: which of those that are known for the type are
//! chosen, and why others are not.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::selector::group;
use super::{EndpointName, GroupName, Groups, Labels, Selector, likeness};

/// What the endpoints of a task must be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Each of these holds for them, or they are in one of the groups.
    #[serde(rename = "match", default, skip_serializing_if = "Vec::is_empty")]
    pub selectors: Vec<Selector>,
    /// Groups of endpoints: stored selectors. With `match` too, an endpoint is meant by the one or the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupName>,
    /// None of these holds for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Selector>,
    /// The percentage of these endpoints that the task is for, rounded up. 1 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// The largest number of these endpoints that the task is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The text that decides which endpoints `percent` and `limit` leave. The same seed chooses the same
    /// endpoints, and a larger part holds all endpoints of a smaller one. Without it the identifier of the
    /// task decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<String>,
    /// Whether endpoints that are stopped are meant too. Without it the task type decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
}

/// Which of the endpoints that are known for a task type are expected to perform a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// Those that are subscribed: neither stopped nor silent for too long.
    #[default]
    Subscribed,
    /// All that are not forgotten: those that are away get the task when they are back, within its time.
    Known,
}

/// An endpoint as a choice among those of a task type sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: EndpointName,
    /// Its version of the program.
    pub version: String,
    /// What it says of itself.
    pub labels: Labels,
    /// Whether it takes tasks of the type now.
    pub attendance: Attendance,
    /// Why it takes none although it is there.
    pub trouble: Option<String>,
}

/// Whether an endpoint that is known for a task type takes its tasks now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attendance {
    /// It does.
    Subscribed,
    /// It is there for other types: it performs this one no more, or cannot.
    OtherTypes,
    /// It is stopped, or has not been heard of for too long.
    Away,
}

/// Why an endpoint that a target matches is not chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LeftOut {
    /// It is stopped, or has not been heard of for too long.
    NotSubscribed,
    /// It is there and does not perform the type: it has no handler for it, for example.
    NoHandler,
    /// `exclude` holds for it.
    Excluded,
    /// It is not in the part that `percent` or `limit` leaves.
    NotSampled,
}

/// Whom a target chooses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Those chosen, by name.
    pub chosen: Vec<EndpointName>,
    /// Those it matches that are not, by name.
    pub left_out: Vec<(EndpointName, LeftOut)>,
    /// How many of the type it does not match.
    pub unmatched: usize,
    /// What is odd about its exclusions: they may not exclude whom somebody means to spare.
    pub odd: Vec<String>,
    /// Where it matches nobody: what to say of a label that none of the endpoints has.
    pub unknown_label: Option<String>,
}

/// The value of a fact of an endpoint.
pub fn fact<'a>(name: &'a EndpointName, version: &'a str, labels: &'a Labels, key: &str) -> Option<&'a str> {
    match key {
        "name" => Some(name.as_str()),
        "version" => Some(version),
        key => labels.get(key),
    }
}

/// Whether a selector holds for an endpoint.
pub fn holds(selector: &Selector, name: &EndpointName, version: &str, labels: &Labels) -> bool {
    selector.matches(|key| fact(name, version, labels, key))
}

/// What to say of a label in these selectors that none of the endpoints has. Nothing where no endpoint is known.
pub(super) fn unknown_label(selectors: &[&Selector], members: &[Member]) -> Option<String> {
    if members.is_empty() {
        return None;
    }
    let known: BTreeSet<&str> = members
        .iter()
        .flat_map(|member| member.labels.iter().map(|(key, _)| key))
        .chain(["name", "version"])
        .collect();
    let stranger = selectors.iter().flat_map(|selector| selector.keys()).find(|key| !known.contains(key))?;
    Some(likeness::unknown("label", stranger, "labels of these endpoints", known.iter().copied()).text)
}

/// What is odd about an exclusion of endpoints for which all of these selectors hold; `spelt` is how somebody
/// has written it. Nothing where no endpoint is known.
pub(super) fn odd_exclusion(spelt: &str, selectors: &[&Selector], members: &[Member]) -> Option<String> {
    let fits = |Member { name, version, labels, .. }: &Member| {
        selectors.iter().all(|selector| holds(selector, name, version, labels))
    };
    let stranger = unknown_label(selectors, members);
    let fault = match (members.iter().any(fits), stranger) {
        _ if members.is_empty() => return None,
        (true, None) => return None,
        (true, Some(stranger)) => stranger,
        (false, stranger) => {
            let none = format!("excludes none of the {} endpoints known for the type", members.len());
            stranger.map_or_else(|| none.clone(), |stranger| format!("{none}: {stranger}"))
        }
    };
    Some(format!("exclude {}: {fault}", likeness::quoted(spelt)))
}

impl Target {
    /// The groups that it names, in `groups` or in a selector.
    pub fn groups_named(&self) -> impl Iterator<Item = &GroupName> {
        self.groups.iter().chain(self.selectors.iter().chain(&self.exclude).flat_map(Selector::groups))
    }

    /// Chooses among the endpoints that are known for a task type. `seed` and `expect` decide where the
    /// target says nothing of them.
    ///
    /// # Errors
    /// The first group it names that is not among `groups`.
    pub fn choose(
        &self,
        members: &[Member],
        groups: &Groups,
        expect: Expect,
        seed: &str,
    ) -> Result<Choice, GroupName> {
        let replaced = |selectors: &[Selector]| {
            selectors.iter().map(|selector| selector.with_groups(groups)).collect::<Result<Vec<_>, _>>()
        };
        let (selectors, exclude) = (replaced(&self.selectors)?, replaced(&self.exclude)?);
        let in_groups: Vec<&Selector> =
            self.groups.iter().map(|name| group(groups, name)).collect::<Result<_, _>>()?;
        let everybody = selectors.is_empty() && in_groups.is_empty();
        let expect = self.expect.unwrap_or(expect);
        let odd = self.exclude.iter().zip(&exclude);
        let odd = odd.filter_map(|(spelt, selector)| odd_exclusion(&spelt.to_string(), &[selector], members));
        let mut choice = Choice { odd: odd.collect(), ..Choice::default() };
        let mut fit = Vec::new();
        for Member { name, version, labels, attendance, .. } in members {
            let holds = |selector: &Selector| holds(selector, name, version, labels);
            let selected = !selectors.is_empty() && selectors.iter().all(holds);
            if !everybody && !selected && !in_groups.iter().any(|selector| holds(selector)) {
                choice.unmatched += 1;
            } else if exclude.iter().any(holds) {
                choice.left_out.push((name.clone(), LeftOut::Excluded));
            } else {
                match attendance {
                    Attendance::OtherTypes => choice.left_out.push((name.clone(), LeftOut::NoHandler)),
                    Attendance::Away if expect == Expect::Subscribed => {
                        choice.left_out.push((name.clone(), LeftOut::NotSubscribed))
                    }
                    Attendance::Away | Attendance::Subscribed => fit.push(name.clone()),
                }
            }
        }
        let most = self.most_of(fit.len());
        if most < fit.len() {
            let seed = self.seed.as_deref().unwrap_or(seed);
            fit.sort_by_cached_key(|name| place(seed, name));
            choice.left_out.extend(fit.drain(most..).map(|name| (name, LeftOut::NotSampled)));
            fit.sort_unstable();
        }
        if choice.unmatched == members.len() {
            let meant: Vec<&Selector> = selectors.iter().chain(in_groups.iter().copied()).collect();
            choice.unknown_label = unknown_label(&meant, members);
        }
        choice.left_out.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        choice.chosen = fit;
        Ok(choice)
    }

    /// How many of so many endpoints may be chosen.
    fn most_of(&self, endpoints: usize) -> usize {
        let share =
            self.percent.map_or(endpoints, |percent| (endpoints * usize::from(percent)).div_ceil(100));
        share.min(self.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)))
    }
}

/// Where an endpoint stands among all others for a seed. It does not depend on which others there are.
pub(super) fn place(seed: &str, name: &EndpointName) -> [u8; 32] {
    // A name holds no line break, so seed and name cannot run into each other.
    Sha256::new_with_prefix(seed).chain_update(b"\n").chain_update(name.as_str()).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> Selector {
        text.parse().expect("a selector")
    }

    fn fleet(count: usize) -> Vec<Member> {
        let member = |n: usize| Member {
            name: format!("web{n}").parse().expect("a name"),
            version: "1.2.3".to_owned(),
            labels: Labels::of([("rack".to_owned(), (n % 2).to_string())]).expect("labels"),
            attendance: if n % 10 == 9 { Attendance::Away } else { Attendance::Subscribed },
            trouble: None,
        };
        (0..count).map(member).collect()
    }

    fn choose(target: &Target, fleet: &[Member], seed: &str) -> Choice {
        target.choose(fleet, &Groups::new(), Expect::Subscribed, seed).expect("no groups")
    }

    fn names(names: &[EndpointName]) -> Vec<&str> {
        names.iter().map(EndpointName::as_str).collect()
    }

    #[test]
    fn exclusions_that_may_spare_nobody_are_odd() {
        for (text, odd) in [
            ("rack=1", None),
            ("name=web1 or version~^2", None),
            ("rack=7", Some("exclude \"rack=7\": excludes none of the 3 endpoints known for the type")),
            (
                "rcak=1",
                Some(
                    "exclude \"rcak=1\": excludes none of the 3 endpoints known for the type: unknown label \"rcak\" \
                     (labels of these endpoints: name, rack, version); did you mean rack?",
                ),
            ),
            (
                "rack=1 or sitex=a",
                Some(
                    "exclude \"rack=1 or sitex=a\": unknown label \"sitex\" (labels of these endpoints: name, rack, version)",
                ),
            ),
        ] {
            let target = Target { exclude: vec![selector(text)], ..Target::default() };
            assert_eq!(choose(&target, &fleet(3), "x").odd, Vec::from_iter(odd), "{text}");
            assert!(choose(&target, &[], "x").odd.is_empty());
        }
    }

    #[test]
    fn a_label_that_no_endpoint_has_is_told() {
        let told = |text: &str, fleet: &[Member]| {
            let target = Target { selectors: vec![selector(text)], ..Target::default() };
            choose(&target, fleet, "x").unknown_label
        };
        let text =
            r#"unknown label "rcak" (labels of these endpoints: name, rack, version); did you mean rack?"#;
        assert_eq!(told("rcak=1", &fleet(3)), Some(text.to_owned()));
        assert_eq!(
            (told("rack=7", &fleet(3)), told("rcak=1 or rack=1", &fleet(3)), told("x=1", &[])),
            (None, None, None)
        );
    }

    #[test]
    fn each_endpoint_is_chosen_or_left_out_for_a_reason() {
        let target = Target {
            selectors: vec![selector("rack=1"), selector("name=web?")],
            exclude: vec![selector("name in (web3)")],
            ..Target::default()
        };
        let choice = choose(&target, &fleet(12), "x");
        assert_eq!(names(&choice.chosen), ["web1", "web5", "web7"]);
        let left_out: Vec<_> = choice.left_out.iter().map(|(name, why)| (name.as_str(), *why)).collect();
        assert_eq!(left_out, [("web3", LeftOut::Excluded), ("web9", LeftOut::NotSubscribed)]);
        assert_eq!(choice.unmatched, 7);
        assert_eq!(choose(&Target::default(), &fleet(12), "x").chosen.len(), 11);
        let by_version = Target { selectors: vec![selector("version~^1")], ..Target::default() };
        assert_eq!(choose(&by_version, &fleet(3), "x").chosen.len(), 3);
    }

    #[test]
    fn a_larger_part_holds_the_smaller_one() {
        let fleet = fleet(100);
        let part = |percent, limit, seed: &str| {
            choose(&Target { percent, limit, seed: Some(seed.to_owned()), ..Target::default() }, &fleet, "x")
        };
        let (small, large) = (part(Some(10), None, "a"), part(Some(50), None, "a"));
        assert_eq!((small.chosen.len(), large.chosen.len()), (9, 45), "of the 90 that are there");
        assert!(small.chosen.iter().all(|name| large.chosen.contains(name)));
        assert!(small.chosen.is_sorted());
        assert_ne!(part(Some(10), None, "b").chosen, small.chosen);
        assert_eq!(part(Some(10), None, "a"), small);
        assert_eq!(part(Some(50), Some(3), "a").chosen.len(), 3);
        assert_eq!(part(Some(1), None, "a").chosen.len(), 1, "a part of some is at least one");
        let by_identifier = Target { limit: Some(5), ..Target::default() };
        assert_eq!(choose(&by_identifier, &fleet, "a").chosen, part(None, Some(5), "a").chosen);
        assert_ne!(choose(&by_identifier, &fleet, "b").chosen, choose(&by_identifier, &fleet, "a").chosen);
    }

    #[test]
    fn groups_and_selectors_add_up() {
        let name = |text: &str| text.parse::<GroupName>().expect("a name");
        let groups: Groups =
            [(name("first"), selector("name in (web0, web1)")), (name("odd"), selector("rack=1"))].into();
        let chosen = |target: Target| {
            target.choose(&fleet(6), &groups, Expect::Subscribed, "x").map(|choice| choice.chosen)
        };
        let both = Target {
            groups: vec![name("first")],
            selectors: vec![selector("name=web4")],
            ..Target::default()
        };
        assert_eq!(names(&chosen(both).expect("known")), ["web0", "web1", "web4"]);
        let in_both = Target { selectors: vec![selector("@first and @odd")], ..Target::default() };
        assert_eq!(names(&chosen(in_both).expect("known")), ["web1"]);
        let without = Target {
            groups: vec![name("odd")],
            selectors: vec![selector("name=x")],
            exclude: vec![selector("@first")],
            ..Target::default()
        };
        assert_eq!(without.groups_named().map(GroupName::as_str).collect::<Vec<_>>(), ["odd", "first"]);
        assert_eq!(names(&chosen(without).expect("known")), ["web3", "web5"]);
        let unknown = Target { exclude: vec![selector("@nobody")], ..Target::default() };
        assert_eq!(chosen(unknown).expect_err("is not there"), name("nobody"));
    }

    #[test]
    fn stopped_endpoints_are_expected_where_that_is_asked_for() {
        let (fleet, none) = (fleet(10), Groups::new());
        let chosen = |asked: Option<Expect>, of_type: Expect| {
            let target = Target { expect: asked, ..Target::default() };
            target.choose(&fleet, &none, of_type, "x").expect("no groups").chosen.len()
        };
        assert_eq!(chosen(None, Expect::Subscribed), 9);
        assert_eq!(chosen(None, Expect::Known), 10);
        assert_eq!(chosen(Some(Expect::Known), Expect::Subscribed), 10);
        assert_eq!(chosen(Some(Expect::Subscribed), Expect::Known), 9);
        let elsewhere = [Member { attendance: Attendance::OtherTypes, ..fleet[0].clone() }];
        let choice = Target::default().choose(&elsewhere, &none, Expect::Known, "x").expect("no groups");
        assert_eq!((choice.chosen.len(), choice.left_out[0].1), (0, LeftOut::NoHandler));
    }

    #[test]
    fn a_target_is_read_as_it_is_written() {
        let target = Target { selectors: vec![selector("a = 1 , b")], percent: Some(5), ..Target::default() };
        let text = serde_json::to_string(&target).expect("JSON");
        assert_eq!(text, r#"{"match":["a=1 and b"],"percent":5}"#);
        assert_eq!(serde_json::from_str::<Target>(&text).expect("is read"), target);
    }
}
