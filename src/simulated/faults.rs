//! The file that says how simulated endpoints behave.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::fleet::labels_of;
use super::nature::{Nature, Rule, Time, Wrong, seed_of};
use crate::domain::{EndpointName, Labels, Selector, TaskType, holds};

/// The type that simulated endpoints perform by default.
const TASK_TYPE: &str = "update";
/// How long a handler takes by default.
const TAKES: Time = Time::Between(Duration::from_millis(100), Duration::from_millis(500));
/// Rules at most.
const RULES: usize = 100;

/// A file of faults that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}{text}")]
pub struct InvalidFaults {
    /// The line or the member that is wrong, in front of the text.
    place: String,
    text: String,
}

/// How the endpoints of a fleet behave.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    seed: String,
    /// What they perform.
    pub task_types: Vec<TaskType>,
    takes: Time,
    labels: Option<BTreeMap<String, Values>>,
    sets: BTreeMap<String, String>,
    faults: Vec<Fault>,
}

impl Default for Faults {
    #[expect(clippy::expect_used, reason = "a word")]
    fn default() -> Self {
        let task_types = vec![TASK_TYPE.parse().expect("a name of a task type")];
        Self {
            seed: "1".to_owned(),
            task_types,
            takes: TAKES,
            labels: None,
            sets: BTreeMap::new(),
            faults: Vec::new(),
        }
    }
}

/// The values of a label: one for all endpoints, or several in turn.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Many(Vec<String>),
}

/// Endpoints, and what goes wrong there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Fault {
    #[serde(rename = "match")]
    selectors: Vec<String>,
    endpoints: Vec<EndpointName>,
    percent: Option<f64>,
    count: Option<usize>,
    when: BTreeMap<String, Value>,
    times: Option<u32>,
    fails: Option<Failure>,
    hangs: Option<bool>,
    deaf: Option<bool>,
    reboots: Option<Time>,
    crashes: Option<Time>,
    away: Option<Time>,
    takes: Option<Time>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    errnr: i32,
    #[serde(default)]
    errmsg: String,
}

impl Faults {
    /// Reads a file. Members that it does not know are refused.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line or its place.
    pub fn parse(text: &str) -> Result<Self, InvalidFaults> {
        let options = serde_saphyr::options! {
            with_snippet: false,
            strict_booleans: true,
            budget: serde_saphyr::budget! { max_depth: 32, max_nodes: 20_000, max_aliases: 100 },
        };
        let faults: Self =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| InvalidFaults {
                place: error.location().map_or_else(String::new, |at| format!("line {}: ", at.line())),
                text: error.without_snippet().to_string(),
            })?;
        faults.checked()
    }

    /// The same with all times so many times shorter.
    #[must_use]
    pub fn faster(mut self, by: u32) -> Self {
        let by = by.max(1);
        self.takes = self.takes.shortened(by);
        for fault in &mut self.faults {
            for time in [&mut fault.reboots, &mut fault.crashes, &mut fault.away, &mut fault.takes]
                .into_iter()
                .flatten()
            {
                *time = time.shortened(by);
            }
        }
        self
    }

    fn checked(self) -> Result<Self, InvalidFaults> {
        let wrong = |place: String, text: String| Err(InvalidFaults { place: format!("{place} "), text });
        if self.task_types.is_empty() {
            return wrong(
                "task_types".to_owned(),
                "is empty: name what the endpoints are to perform".to_owned(),
            );
        }
        if self.faults.len() > RULES {
            return wrong(
                "faults".to_owned(),
                format!("has {} entries; at most {RULES} are allowed", self.faults.len()),
            );
        }
        for (label, values) in self.labels.iter().flatten() {
            let values: &[String] = match values {
                Values::One(value) => std::slice::from_ref(value),
                Values::Many(values) if values.is_empty() => {
                    return wrong(format!("labels/{label}"), "is empty".to_owned());
                }
                Values::Many(values) => values,
            };
            for value in values {
                if let Err(error) = Labels::of([(label.clone(), value.clone())]) {
                    return wrong(format!("labels/{label}"), format!("is not valid: {error}"));
                }
            }
        }
        let pointer = |text: &str| text.starts_with('/');
        if let Some((label, at)) = self.sets.iter().find(|(_, at)| !pointer(at)) {
            return wrong(
                format!("sets/{label}"),
                format!("is \"{at}\": expected a place in the payload such as /version"),
            );
        }
        for (number, fault) in self.faults.iter().enumerate() {
            let place = format!("faults/{number}");
            if let Some(percent) = fault.percent.filter(|percent| !(0.0..=100.0).contains(percent)) {
                return wrong(format!("{place}/percent"), format!("is {percent}: expected 0 to 100"));
            }
            if fault.percent.is_some() && fault.count.is_some() {
                return wrong(place, "has both percent and count: choose one".to_owned());
            }
            if let Some(at) = fault.when.keys().find(|at| !pointer(at)) {
                return wrong(
                    format!("{place}/when"),
                    format!("has \"{at}\": expected a place in the payload such as /version"),
                );
            }
            if let Err(error) = fault.selectors() {
                return wrong(format!("{place}/match"), error);
            }
            match fault.wrongs().len() {
                1 => {}
                found => {
                    let text = format!(
                        "has {found} of fails, hangs, deaf, reboots, crashes, away and takes: expected one"
                    );
                    return wrong(place, text);
                }
            }
        }
        Ok(self)
    }

    /// The faults that fit none of these endpoints, by their places and what they are for.
    pub fn unfit(&self, fleet: &[(EndpointName, Labels)]) -> Vec<String> {
        let faults = self.faults.iter().enumerate();
        let unfit = faults.filter(|(_, fault)| fault.of(fleet).is_empty());
        let told = |(number, fault): (usize, &Fault)| {
            let selectors = fault.selectors.iter().map(String::as_str);
            let names = fault.endpoints.iter().map(EndpointName::as_str);
            format!("faults/{number} ({})", selectors.chain(names).collect::<Vec<_>>().join(", "))
        };
        unfit.map(told).collect()
    }

    /// How each of these endpoints behaves. The same file makes the same of the same fleet.
    pub fn natures(&self, fleet: Vec<(EndpointName, Labels)>) -> Vec<(EndpointName, Nature)> {
        let mut rules: Vec<Vec<Arc<Rule>>> = vec![Vec::new(); fleet.len()];
        for (number, fault) in self.faults.iter().enumerate() {
            let Some(wrong) = fault.wrongs().pop() else { continue };
            let rule = Arc::new(Rule { wrong, when: fault.when.clone(), times: fault.times });
            let mut chosen = fault.of(&fleet);
            if fault.percent.is_some() || fault.count.is_some() {
                let part =
                    fault.percent.map(|percent| (chosen.len() as f64 * percent / 100.0).ceil() as usize);
                let number = number.to_string();
                chosen.sort_by_cached_key(|place| seed_of(&[&self.seed, &number, fleet[*place].0.as_str()]));
                chosen.truncate(part.or(fault.count).unwrap_or_default());
            }
            for place in chosen {
                rules[place].push(rule.clone());
            }
        }
        let sets = Arc::new(self.sets.clone());
        let made = fleet.into_iter().zip(rules).map(|((name, labels), rules)| {
            let seed = seed_of(&[&self.seed, name.as_str()]);
            let nature = Nature::of(labels, self.takes, seed).with(sets.clone(), rules);
            (name, nature)
        });
        made.collect()
    }

    /// The labels of a fleet of its own.
    pub fn labelled(&self, names: Vec<EndpointName>) -> Vec<(EndpointName, Labels)> {
        let labels = |(number, name): (usize, EndpointName)| {
            let Some(labels) = &self.labels else {
                let labels = labels_of(&name);
                return (name, labels);
            };
            let value = |values: &Values| match values {
                Values::One(value) => value.clone(),
                Values::Many(values) => values.get(number % values.len().max(1)).cloned().unwrap_or_default(),
            };
            let labels = labels.iter().map(|(label, values)| (label.clone(), value(values))).collect();
            (name, Labels::believed(labels).with_platform())
        };
        names.into_iter().enumerate().map(labels).collect()
    }
}

impl Fault {
    /// The places of the endpoints that it may be about.
    fn of(&self, fleet: &[(EndpointName, Labels)]) -> Vec<usize> {
        let selectors = self.selectors().unwrap_or_default();
        let fits = |(name, labels): &(EndpointName, Labels)| {
            let named = self.endpoints.is_empty() || self.endpoints.contains(name);
            named && selectors.iter().all(|selector| holds(selector, name, env!("CARGO_PKG_VERSION"), labels))
        };
        (0..fleet.len()).filter(|place| fits(&fleet[*place])).collect()
    }

    fn selectors(&self) -> Result<Vec<Selector>, String> {
        let parse =
            |text: &String| text.parse::<Selector>().map_err(|error| format!("has \"{text}\": {error}"));
        self.selectors.iter().map(parse).collect()
    }

    fn wrongs(&self) -> Vec<Wrong> {
        let fails = self.fails.clone().map(|Failure { errnr, errmsg }| Wrong::Fails { errnr, errmsg });
        [
            fails,
            (self.hangs == Some(true)).then_some(Wrong::Hangs),
            (self.deaf == Some(true)).then_some(Wrong::Deaf),
            self.reboots.map(Wrong::Reboots),
            self.crashes.map(Wrong::Crashes),
            self.away.map(Wrong::Away),
            self.takes.map(Wrong::Takes),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fleet::names;
    use super::super::nature::Course;
    use super::*;
    use crate::domain::json;

    #[test]
    fn the_same_file_makes_the_same_of_the_same_fleet() {
        let faults = Faults::parse(
            "seed: lab\ntakes: 1s\nlabels: {site: [berlin, paris], release: '6.8'}\nsets: {release: /version}\nfaults:\n\
             - {match: [site=paris], percent: 10, fails: {errnr: 32, errmsg: disk full}}\n- {count: 3, away: never}\n",
        )
        .expect("valid");
        let fleet = faults.labelled(names(100));
        assert_eq!(fleet[1].1.get("site"), Some("paris"));
        let failing = |fleet: Vec<(EndpointName, Labels)>| {
            let fails = |(name, mut nature): (EndpointName, Nature)| match nature.course(&json(&"")) {
                Course::Ends { errnr: 32, .. } => Some((name, nature.labels.get("site").map(str::to_owned))),
                _ => None,
            };
            faults.natures(fleet).into_iter().filter_map(fails).collect::<Vec<_>>()
        };
        let found = failing(fleet.clone());
        assert!(
            found.len() == 5 && found.iter().all(|(_, site)| site.as_deref() == Some("paris")),
            "{found:?}"
        );
        assert_eq!(found, failing(fleet.clone()));
        let away =
            faults.natures(fleet).into_iter().filter(|(_, nature)| nature.away == Some(Time::Never)).count();
        assert_eq!(away, 3);
    }

    #[test]
    fn faults_of_nobody_are_told() {
        let faults = Faults::parse(
            "labels: {site: [berlin, paris]}\nfaults:\n- {match: [site=paris], percent: 1, hangs: true}\n\
             - {match: [site=rome, name=sim-*], hangs: true}\n- {endpoints: [sim-00002, web1], hangs: true}\n- {hangs: true}\n",
        )
        .expect("valid");
        let unfit = |number| faults.unfit(&faults.labelled(names(number)));
        assert_eq!(unfit(3), ["faults/1 (site=rome, name=sim-*)"]);
        assert_eq!(
            unfit(1),
            ["faults/0 (site=paris)", "faults/1 (site=rome, name=sim-*)", "faults/2 (sim-00002, web1)"]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, told) in [
            ("seed: x\ntakse: 1s\n", "line 2: unknown field `takse`"),
            ("faults:\n- count: 1\n  fail: {errnr: 1}\n", "line 3: unknown field `fail`"),
            ("takes: soon\n", "line 1: "),
            ("task_types: []\n", "task_types is empty"),
            ("labels: {name: x}\n", "labels/name is not valid: `name` is built in"),
            ("sets: {release: version}\n", "sets/release is \"version\": expected a place"),
            ("faults: [{percent: 120, hangs: true}]\n", "faults/0/percent is 120: expected 0 to 100"),
            ("faults: [{percent: 1, count: 1, hangs: true}]\n", "faults/0 has both percent and count"),
            ("faults: [{match: ['='], hangs: true}]\n", "faults/0/match has \"=\": "),
            ("faults: [{count: 1}]\n", "faults/0 has 0 of fails"),
            ("faults: [{hangs: true, deaf: true}]\n", "faults/0 has 2 of fails"),
        ] {
            let error = Faults::parse(text).expect_err(text).to_string();
            assert!(error.starts_with(told), "{text}: {error}");
        }
    }
}
