//! Whom a submission is for when it names no endpoints: which of those that are known for the type are chosen, and why others are not.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{EndpointName, Labels, Selector};

/// What the endpoints of a task must be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Each of these holds for them.
    #[serde(rename = "match", default, skip_serializing_if = "Vec::is_empty")]
    pub selectors: Vec<Selector>,
    /// None of these holds for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Selector>,
    /// The percentage of these endpoints that the task is for, rounded up. 1 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// The largest number of these endpoints that the task is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The text that decides which endpoints `percent` and `limit` leave. The same seed chooses the same endpoints, and a larger part holds all endpoints of
    /// a smaller one. Without it the identifier of the task decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<String>,
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
    pub subscribed: bool,
    /// Why it takes none although it is there.
    pub trouble: Option<String>,
}

/// Why an endpoint that a target matches is not chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LeftOut {
    /// It is stopped, or has not been heard of for too long.
    NotSubscribed,
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
}

/// The value of a fact of an endpoint.
pub fn fact<'a>(name: &'a EndpointName, version: &'a str, labels: &'a Labels, key: &str) -> Option<&'a str> {
    match key {
        "name" => Some(name.as_str()),
        "version" => Some(version),
        key => labels.get(key),
    }
}

impl Target {
    /// Chooses among the endpoints that are known for a task type. `seed` decides where the target has none.
    #[must_use]
    pub fn choose(&self, members: &[Member], seed: &str) -> Choice {
        let mut choice = Choice::default();
        let mut fit = Vec::new();
        for Member { name, version, labels, subscribed, .. } in members {
            let holds = |selector: &Selector| selector.matches(|key| fact(name, version, labels, key));
            if !self.selectors.iter().all(holds) {
                choice.unmatched += 1;
            } else if self.exclude.iter().any(holds) {
                choice.left_out.push((name.clone(), LeftOut::Excluded));
            } else if !subscribed {
                choice.left_out.push((name.clone(), LeftOut::NotSubscribed));
            } else {
                fit.push(name.clone());
            }
        }
        let most = self.most_of(fit.len());
        if most < fit.len() {
            let seed = self.seed.as_deref().unwrap_or(seed);
            fit.sort_by_cached_key(|name| place(seed, name));
            choice.left_out.extend(fit.drain(most..).map(|name| (name, LeftOut::NotSampled)));
            fit.sort_unstable();
        }
        choice.left_out.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        choice.chosen = fit;
        choice
    }

    /// How many of so many endpoints may be chosen.
    fn most_of(&self, endpoints: usize) -> usize {
        let share = self.percent.map_or(endpoints, |percent| (endpoints * usize::from(percent)).div_ceil(100));
        share.min(self.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)))
    }
}

/// Where an endpoint stands among all others for a seed. It does not depend on which others there are.
fn place(seed: &str, name: &EndpointName) -> [u8; 32] {
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
            subscribed: n % 10 != 9,
            trouble: None,
        };
        (0..count).map(member).collect()
    }

    #[test]
    fn each_endpoint_is_chosen_or_left_out_for_a_reason() {
        let target = Target {
            selectors: vec![selector("rack=1"), selector("name=web?")],
            exclude: vec![selector("name in (web3)")],
            ..Target::default()
        };
        let choice = target.choose(&fleet(12), "x");
        let names = |names: &[EndpointName]| names.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&choice.chosen), ["web1", "web5", "web7"]);
        let left_out: Vec<_> = choice.left_out.iter().map(|(name, why)| (name.as_str(), *why)).collect();
        assert_eq!(left_out, [("web3", LeftOut::Excluded), ("web9", LeftOut::NotSubscribed)]);
        assert_eq!(choice.unmatched, 7);
        assert_eq!(Target::default().choose(&fleet(12), "x").chosen.len(), 11);
        let by_version = Target { selectors: vec![selector("version~^1")], ..Target::default() };
        assert_eq!(by_version.choose(&fleet(3), "x").chosen.len(), 3);
    }

    #[test]
    fn a_larger_part_holds_the_smaller_one() {
        let fleet = fleet(100);
        let part =
            |percent, limit, seed: &str| Target { percent, limit, seed: Some(seed.to_owned()), ..Target::default() }.choose(&fleet, "x");
        let (small, large) = (part(Some(10), None, "a"), part(Some(50), None, "a"));
        assert_eq!((small.chosen.len(), large.chosen.len()), (9, 45), "of the 90 that are there");
        assert!(small.chosen.iter().all(|name| large.chosen.contains(name)));
        assert!(small.chosen.is_sorted());
        assert_ne!(part(Some(10), None, "b").chosen, small.chosen);
        assert_eq!(part(Some(10), None, "a"), small);
        assert_eq!(part(Some(50), Some(3), "a").chosen.len(), 3);
        assert_eq!(part(Some(1), None, "a").chosen.len(), 1, "a part of some is at least one");
        let by_identifier = Target { limit: Some(5), ..Target::default() };
        assert_eq!(by_identifier.choose(&fleet, "a").chosen, part(None, Some(5), "a").chosen);
        assert_ne!(by_identifier.choose(&fleet, "b").chosen, by_identifier.choose(&fleet, "a").chosen);
    }

    #[test]
    fn a_target_is_read_as_it_is_written() {
        let target = Target { selectors: vec![selector("a = 1 , b")], percent: Some(5), ..Target::default() };
        let text = serde_json::to_string(&target).expect("JSON");
        assert_eq!(text, r#"{"match":["a=1 and b"],"percent":5}"#);
        assert_eq!(serde_json::from_str::<Target>(&text).expect("is read"), target);
    }
}
