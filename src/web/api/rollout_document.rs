//! The document of a rollout: the body of `POST /rollouts` and `POST /rollouts/plan`.
//!
//! Refuses what it does not know, and what it knows and does not do yet: a gate that was ignored would let a
//! fleet through. Every default is filled in here, so the rest of the program sees resolved terms alone.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::deeds::leave_payloads_out;
use super::members::pointer;
use super::submission::too_many_regexes;
use crate::config::{Config, TypePolicy, span};
use crate::contract::ProblemItem;
use crate::domain::likeness::unknown;
use crate::domain::likeness::{did_you_mean, nearest};
use crate::domain::rollout::{
    Amount, Approval, CatchUp, Healthy, InFlightOnStop, MaintenanceWindow, OnBreach, Order, Own, Part, Probe,
    ProbeOn, Rollback, RollbackOn, RolloutSettings, RolloutTargets, RolloutTerms, Spread, Start, WaveOf,
    WaveTerms,
};
use crate::domain::{
    EndpointName, GroupName, Json, MOST_REGEXES, Members, RolloutName, Selector, TaskType, Timestamp,
    TokenName, json, value_at,
};
use crate::rollouts;

/// Bytes of a payload at most: every task of a rollout carries one.
const MAX_PAYLOAD: usize = 64 << 10;
/// Endpoints that a list may name.
const MAX_ENDPOINTS: usize = 50_000;
/// Selectors that a list may have.
const MAX_SELECTORS: usize = 32;
/// Waves at most, `rest` included.
const MAX_WAVES: usize = 100;
/// Values of an answer that a probe may expect.
const MAX_EXPECT: usize = 32;
/// Labels of a failure domain at most.
const MAX_SPREAD: usize = 3;
/// Windows at most.
const MAX_WINDOWS: usize = 16;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Members of a document.
const MEMBERS: &[&str] = &[
    "identifier", "type", "payload", "lane", "subject", "targets", "spread", "waves", "window",
    "receive_within", "finish_within", "healthy", "budget", "soak", "probe", "approval", "windows",
    "on_breach", "in_flight", "rollback", "catch_up", "catch_up_for", "start_at", "expires_after",
];
/// The terms of a document in a text that has passed [`crate::domain::json_check::check`].
///
/// # Errors
/// Every problem there is.
pub fn parse(text: &str, config: &Config) -> Result<RolloutTerms, Vec<ProblemItem>> {
    terms(text, None, config)
}

/// The terms of a document that is recorded, or was made of one by changing members. Selectors that are there
/// as they were recorded are read as such: earlier versions have recorded some that are refused now.
///
/// # Errors
/// Every problem there is.
pub fn parse_again(
    text: &str,
    recorded: &RawValue,
    config: &Config,
) -> Result<RolloutTerms, Vec<ProblemItem>> {
    terms(text, Some(recorded), config)
}

fn terms(text: &str, recorded: Option<&RawValue>, config: &Config) -> Result<RolloutTerms, Vec<ProblemItem>> {
    if !text.trim_start().starts_with('{') {
        return Err(vec![ProblemItem::new("", "must be an object")]);
    }
    let Members(members) =
        serde_json::from_str(text).map_err(|error| vec![ProblemItem::new("", error.to_string())])?;
    let whole = serde_json::from_str(text).map_err(|error| vec![ProblemItem::new("", error.to_string())])?;
    let mut reader = Reader { problems: Vec::new(), whole, recorded, regexes: 0 };
    let mut values = Map::new();
    for (name, value) in &members {
        if values.contains_key(&**name) {
            reader.problem(pointer(name), "occurs twice");
        } else if let Ok(read) = serde_json::from_str(value.get()) {
            values.insert(name.clone().into_owned(), read);
        } else if name != "payload" {
            reader.problem(pointer(name), "has a number that is too large");
        }
    }
    let terms = reader.document(&values, config);
    match terms {
        Some(terms) if reader.problems.is_empty() => Ok(terms),
        _ => Err(reader.problems),
    }
}

/// A document while it is read, with what is wrong so far.
struct Reader<'a> {
    problems: Vec<ProblemItem>,
    /// The document as it was written: payloads are passed on to the byte.
    whole: &'a RawValue,
    /// The document that is recorded, where it is read again.
    recorded: Option<&'a RawValue>,
    /// Regular expressions of its selectors so far.
    regexes: usize,
}

impl Reader<'_> {
    /// The payload of a member, as it was written; null where there is none.
    fn payload_of(&mut self, at: &str) -> Json {
        let place = format!("{at}/payload");
        let payload =
            value_at(self.whole, &place).map_or_else(|| json(&()), |value| Json::from(value.to_owned()));
        self.check_payload(place, &payload);
        payload
    }

    fn problem(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.problems.push(ProblemItem::new(pointer, message));
    }

    fn document(&mut self, values: &Map<String, Value>, config: &Config) -> Option<RolloutTerms> {
        self.known("", values, MEMBERS, "a rollout");
        let identifier: Option<RolloutName> = self.needed(values, "", "identifier");
        let policy = self.policy(values, "", config)?;
        let payload = self.payload_of("");
        let lane = self.short(values, "lane").unwrap_or_else(|| policy.name.as_str().to_ascii_lowercase());
        let subject = self.short(values, "subject");
        let seed = identifier.as_ref().map(ToString::to_string).unwrap_or_default();
        let targets = self.targets(values.get("targets"), &seed);
        let budget = self.budget(values.get("budget"));
        let mut whole = self.wave_terms(values, "", &defaults(policy, budget.wave));
        whole.probe = values.get("probe").and_then(|value| self.probe(value, "/probe", config));
        let approval = self.approval(values.get("approval"));
        let mut waves = self.waves(values.get("waves"), &whole, config);
        if let Some((before, approval)) = approval {
            self.put_approvals(&mut waves, &before, &approval);
        }
        let catch_up =
            self.word(values, "catch_up", &CatchUp::ALL.map(|one| (one.as_str(), one))).unwrap_or_default();
        let catch_up_for = self.span(values, "", "catch_up_for", Duration::ZERO, 30 * DAY).unwrap_or(DAY);
        let given = values.get("rollback").filter(|value| value.as_str() != Some("none"));
        let rollback = given.and_then(|value| self.rollback(value, policy, config));
        let on_breach = self.on_breach(values, "", "on_breach", &OnBreach::ALL);
        if on_breach == OnBreach::Rollback && given.is_none() {
            self.problem(
                "/on_breach",
                "is `rollback`, which needs the member `rollback`: it says how endpoints are rolled back",
            );
        }
        let settings = RolloutSettings {
            on_breach,
            in_flight: self
                .word(values, "in_flight", &InFlightOnStop::ALL.map(|one| (one.as_str(), one)))
                .unwrap_or_default(),
            rollback,
            catch_up,
            catch_up_for: if catch_up == CatchUp::Skip { Duration::ZERO } else { catch_up_for },
            windows: self.windows(values.get("windows")),
        };
        let start = self.start(values);
        let expires_after = self.span(values, "", "expires_after", SECOND, 90 * DAY).unwrap_or(30 * DAY);
        Some(RolloutTerms {
            identifier: identifier?,
            task_type: policy.name.clone(),
            payload,
            lane,
            subject,
            targets,
            spread: values.get("spread").and_then(|value| self.spread(value)),
            own_waves: values.contains_key("waves"),
            waves,
            failed: budget.failed,
            unreachable: budget.unreachable,
            settings,
            start,
            expires_after,
        })
    }

    /// Finds members that nothing reads.
    fn known(&mut self, at: &str, values: &Map<String, Value>, known: &[&str], of: &str) {
        for name in values.keys().filter(|name| !known.contains(&name.as_str())) {
            let place = format!("{at}{}", pointer(name));
            let text = unknown("member", name, &format!("known of {of}"), known.iter().copied()).text;
            self.problem(place, text);
        }
    }

    fn needed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &mut self,
        values: &Map<String, Value>,
        at: &str,
        name: &str,
    ) -> Option<T> {
        if !values.contains_key(name) {
            self.problem(format!("{at}/{name}"), "is missing");
        }
        self.parsed(values.get(name), &format!("{at}/{name}"))
    }

    /// A text that is parsed.
    fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &mut self,
        value: Option<&Value>,
        at: &str,
    ) -> Option<T> {
        let Some(text) = value?.as_str() else {
            self.problem(at, format!("must be a string, not {}", shown(value?)));
            return None;
        };
        text.parse().map_err(|error| self.problem(at, format!("is {}: {error}", quoted(text)))).ok()
    }

    fn policy<'c>(
        &mut self,
        values: &Map<String, Value>,
        at: &str,
        config: &'c Config,
    ) -> Option<&'c TypePolicy> {
        if !values.contains_key("type") {
            self.problem(format!("{at}/type"), "is missing");
        }
        let name = values.get("type")?.as_str().or_else(|| {
            self.problem(format!("{at}/type"), "must be the name of a task type");
            None
        })?;
        let found = name.parse::<TaskType>().ok().and_then(|task_type| config.policy(&task_type));
        let Some(policy) = found else {
            let names = config
                .task_types
                .iter()
                .filter(|policy| policy.queue.is_none())
                .map(|policy| policy.name.as_str());
            let text = unknown("task type", name, "configured", names).text;
            self.problem(format!("{at}/type"), text);
            return None;
        };
        if policy.queue.is_some() {
            self.problem(
                format!("{at}/type"),
                format!(
                    "is `{name}`, which has a work queue: a rollout needs a type that every endpoint performs"
                ),
            );
            return None;
        }
        Some(policy)
    }

    /// A short name, such as that of a lane.
    fn short(&mut self, values: &Map<String, Value>, name: &str) -> Option<String> {
        let value = values.get(name)?;
        let formed = |text: &&str| {
            (1..=64).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        };
        let read = value.as_str().filter(formed);
        if read.is_none() {
            let text = format!("must be 1 to 64 of a-z 0-9 . _ -, not {}", shown(value));
            self.problem(format!("/{name}"), text);
        }
        read.map(str::to_owned)
    }

    fn object<'v>(&mut self, value: &'v Value, at: &str) -> Option<&'v Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() {
            self.problem(at, format!("must be an object, not {}", shown(value)));
        }
        object
    }

    fn list<'v>(&mut self, value: &'v Value, at: &str, most: usize) -> &'v [Value] {
        let Some(list) = value.as_array() else {
            self.problem(at, format!("must be an array, not {}", shown(value)));
            return &[];
        };
        if list.len() > most {
            self.problem(at, format!("has {} entries; at most {most} are allowed", list.len()));
            return &[];
        }
        list
    }

    fn endpoints(&mut self, value: Option<&Value>, at: &str) -> Vec<EndpointName> {
        let Some(value) = value else { return Vec::new() };
        let mut names: Vec<EndpointName> = Vec::new();
        let mut seen = HashSet::new();
        for (place, value) in self.list(value, at, MAX_ENDPOINTS).iter().enumerate() {
            let at = format!("{at}/{place}");
            if let Some(name) = self.parsed::<EndpointName>(Some(value), &at) {
                match seen.insert(name.clone()) {
                    true => names.push(name),
                    false => self.problem(at, format!("is `{name}` for the second time")),
                }
            }
        }
        names
    }

    /// Selectors: one text, or a list.
    fn selectors(&mut self, value: Option<&Value>, at: &str) -> Vec<Selector> {
        let Some(value) = value else { return Vec::new() };
        if value.is_string() {
            return self.selector(value, at).into_iter().collect();
        }
        let list = self.list(value, at, MAX_SELECTORS);
        list.iter()
            .enumerate()
            .filter_map(|(place, value)| self.selector(value, &format!("{at}/{place}")))
            .collect()
    }

    fn selector(&mut self, value: &Value, at: &str) -> Option<Selector> {
        let recorded = self.recorded.and_then(|recorded| value_at(recorded, at));
        let recorded = recorded.and_then(|text| serde_json::from_str::<String>(text.get()).ok());
        // Nothing more is compiled.
        if self.regexes > MOST_REGEXES {
            return None;
        }
        let selector: Selector = match recorded.filter(|text| value.as_str() == Some(text)) {
            // What is not a selector at all is told below.
            Some(text) => Selector::stored(&text).ok().or_else(|| self.parsed(Some(value), at)),
            None => self.parsed(Some(value), at),
        }?;
        self.regexes += selector.regexes();
        if self.regexes > MOST_REGEXES {
            self.problem(at, too_many_regexes());
        }
        Some(selector)
    }

    fn targets(&mut self, value: Option<&Value>, seed: &str) -> RolloutTargets {
        let mut targets = RolloutTargets { percent: 100, seed: seed.to_owned(), ..RolloutTargets::default() };
        targets.max_absent = Some(Amount::Percent(1_000));
        let Some(members) = value.and_then(|value| self.object(value, "/targets")) else { return targets };
        let known =
            ["endpoints", "groups", "match", "exclude", "percent", "order", "seed", "max", "max_absent"];
        self.known("/targets", members, &known, "targets");
        targets.groups = self.groups(members.get("groups"), "/targets/groups");
        targets.endpoints = self.endpoints(members.get("endpoints"), "/targets/endpoints");
        targets.selectors = self.selectors(members.get("match"), "/targets/match");
        if let Some(exclude) = members.get("exclude").and_then(|value| self.object(value, "/targets/exclude"))
        {
            self.known("/targets/exclude", exclude, &["endpoints", "groups", "match"], "exclude");
            targets.without_groups = self.groups(exclude.get("groups"), "/targets/exclude/groups");
            targets.without = self.endpoints(exclude.get("endpoints"), "/targets/exclude/endpoints");
            targets.without_selectors = self.selectors(exclude.get("match"), "/targets/exclude/match");
        }
        if let Some(percent) = self.number(members, "/targets", "percent", 1, 100) {
            targets.percent = u8::try_from(percent).unwrap_or(100);
        }
        let orders = [("seeded", Order::Seeded), ("name", Order::Name), ("given", Order::Given)];
        if let Some(value) = members.get("order") {
            targets.order = self.one_of(value, "/targets/order", &orders).unwrap_or_default();
        }
        if targets.order == Order::Given && targets.endpoints.is_empty() {
            self.problem("/targets/order", "is `given`, which needs `endpoints`");
        }
        if let Some(value) = members.get("seed") {
            match value.as_str().filter(|seed| seed.chars().count() <= 191) {
                Some(seed) => seed.clone_into(&mut targets.seed),
                None => self.problem("/targets/seed", "must be a text of at most 191 characters"),
            }
        }
        if members.get("max").is_some_and(|value| value.as_str() != Some("none")) {
            targets.max = self.number(members, "/targets", "max", 1, u32::MAX);
        }
        if let Some(value) = members.get("max_absent") {
            targets.max_absent = self.allowance(value, "/targets/max_absent").unwrap_or(targets.max_absent);
        }
        targets
    }

    /// How targets in flight are spread over failure domains.
    fn spread(&mut self, value: &Value) -> Option<Spread> {
        let members = self.object(value, "/spread")?;
        self.known("/spread", members, &["by", "max_in_flight"], "spread");
        let Some(by) = members.get("by") else {
            self.problem("/spread/by", "is missing: the labels whose values make a failure domain");
            return None;
        };
        let keys: Vec<String> = self
            .list(by, "/spread/by", MAX_SPREAD)
            .iter()
            .filter_map(|key| key.as_str().map(str::to_owned))
            .collect();
        let all = by.as_array().map_or(0, Vec::len);
        if keys.is_empty() || keys.len() < all || (1..keys.len()).any(|at| keys[..at].contains(&keys[at])) {
            self.problem("/spread/by", format!("must be 1 to {MAX_SPREAD} different labels, not {by}"));
        }
        let max_in_flight = members.get("max_in_flight").filter(|value| value.as_str() != Some("none"));
        let max_in_flight = max_in_flight.and_then(|value| self.amount(value, "/spread/max_in_flight", 1));
        Some(Spread { by: keys, max_in_flight })
    }

    fn groups(&mut self, value: Option<&Value>, at: &str) -> Vec<GroupName> {
        let Some(value) = value else { return Vec::new() };
        let list = self.list(value, at, MAX_SELECTORS);
        list.iter()
            .enumerate()
            .filter_map(|(place, value)| self.parsed(Some(value), &format!("{at}/{place}")))
            .collect()
    }

    fn number(
        &mut self,
        members: &Map<String, Value>,
        at: &str,
        name: &str,
        least: u32,
        most: u32,
    ) -> Option<u32> {
        let value = members.get(name)?;
        let number = value
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let bounds =
                if most == u32::MAX { format!("from {least} on") } else { format!("from {least} to {most}") };
            self.problem(
                format!("{at}/{name}"),
                format!("must be a whole number {bounds}, not {}", shown(value)),
            );
        }
        number
    }

    /// `N` or `N%`.
    fn amount(&mut self, value: &Value, at: &str, least: u32) -> Option<Amount> {
        let read = match value {
            Value::Number(_) => {
                value.as_u64().and_then(|number| u32::try_from(number).ok()).map(Amount::Count)
            }
            Value::String(text) => amount(text),
            _ => None,
        };
        let fits = |amount: &Amount| match amount {
            Amount::Count(count) => *count >= least,
            Amount::Percent(part) => *part <= 10_000 && (*part > 0 || least == 0),
        };
        let read = read.filter(fits);
        if read.is_none() {
            self.problem(
                at,
                format!(
                    "must be a number from {least} on or a percentage such as 5%, at most 100%, not {}",
                    shown(value)
                ),
            );
        }
        read
    }

    /// `N`, `N%` or `none`.
    fn allowance(&mut self, value: &Value, at: &str) -> Option<Option<Amount>> {
        if value.as_str() == Some("none") { Some(None) } else { self.amount(value, at, 0).map(Some) }
    }

    fn span(
        &mut self,
        members: &Map<String, Value>,
        at: &str,
        name: &str,
        least: Duration,
        most: Duration,
    ) -> Option<Duration> {
        let value = members.get(name)?;
        let read = value
            .as_str()
            .and_then(|text| span::parse(text).ok())
            .filter(|span| (least..=most).contains(span));
        if read.is_none() {
            let text = format!(
                "must be a span from {} to {}, not {}",
                span::format(least),
                span::format(most),
                shown(value)
            );
            self.problem(format!("{at}/{name}"), text);
        }
        read
    }

    fn word<T: Copy>(&mut self, members: &Map<String, Value>, name: &str, words: &[(&str, T)]) -> Option<T> {
        let value = members.get(name)?;
        self.one_of(value, &format!("/{name}"), words)
    }

    fn one_of<T: Copy>(&mut self, value: &Value, at: &str, words: &[(&str, T)]) -> Option<T> {
        let found = value
            .as_str()
            .and_then(|text| words.iter().find(|(word, _)| *word == text))
            .map(|(_, found)| *found);
        if found.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.problem(at, format!("must be one of {}, not {}", names.join(", "), shown(value)));
        }
        found
    }

    fn on_breach(
        &mut self,
        members: &Map<String, Value>,
        at: &str,
        name: &str,
        among: &[OnBreach],
    ) -> OnBreach {
        let Some(value) = members.get(name) else { return OnBreach::Halt };
        let words: Vec<_> = among.iter().map(|one| (one.as_str(), *one)).collect();
        self.one_of(value, &format!("{at}/{name}"), &words).unwrap_or_default()
    }

    /// How a rollout is undone; its type is that of the rollout unless said.
    fn rollback(&mut self, value: &Value, usual: &TypePolicy, config: &Config) -> Option<Rollback> {
        let at = "/rollback";
        let members = self.object(value, at)?;
        let known = ["type", "payload", "on", "window", "receive_within", "finish_within", "healthy"];
        self.known(at, members, &known, "a rollback");
        let policy = if members.contains_key("type") { self.policy(members, at, config)? } else { usual };
        let payload = self.payload_of(at);
        let on = members.get("on").and_then(|value| {
            self.one_of(value, "/rollback/on", &RollbackOn::ALL.map(|one| (one.as_str(), one)))
        });
        let terms = self.wave_terms(members, at, &defaults(policy, (None, None)));
        Some(Rollback {
            task_type: policy.name.clone(),
            payload,
            on: on.unwrap_or_default(),
            window: terms.window,
            receive_within: terms.receive_within,
            finish_within: terms.finish_within,
            healthy: terms.healthy,
        })
    }

    fn budget(&mut self, value: Option<&Value>) -> Budget {
        let mut budget = Budget {
            wave: (Some(Amount::Count(0)), Some(Amount::Percent(1_000))),
            failed: Some(Amount::Percent(200)),
            unreachable: Some(Amount::Percent(1_000)),
        };
        let Some(members) = value.and_then(|value| self.object(value, "/budget")) else { return budget };
        self.known("/budget", members, &["wave", "total"], "budget");
        if let Some(wave) = members.get("wave") {
            budget.wave = self.allowances(wave, "/budget/wave", budget.wave);
        }
        if let Some(total) = members.get("total") {
            (budget.failed, budget.unreachable) =
                self.allowances(total, "/budget/total", (budget.failed, budget.unreachable));
        }
        budget
    }

    fn allowances(&mut self, value: &Value, at: &str, usual: Allowances) -> Allowances {
        let Some(members) = self.object(value, at) else { return usual };
        self.known(at, members, &["failed", "unreachable"], "a budget");
        let mut read = |name: &str, usual| {
            members
                .get(name)
                .and_then(|value| self.allowance(value, &format!("{at}/{name}")))
                .unwrap_or(usual)
        };
        (read("failed", usual.0), read("unreachable", usual.1))
    }

    /// How a wave runs, where it differs from the whole.
    fn wave_terms(&mut self, members: &Map<String, Value>, at: &str, usual: &WaveTerms) -> WaveTerms {
        let mut terms = usual.clone();
        if let Some(value) = members.get("window") {
            let at = format!("{at}/window");
            let window = self.amount(value, &at, 1);
            if matches!(window, Some(Amount::Count(10_001..))) {
                self.problem(at, format!("must be at most 10000 endpoints, not {}", shown(value)));
            }
            terms.window = window.unwrap_or(terms.window);
        }
        terms.receive_within =
            self.span(members, at, "receive_within", SECOND, DAY).unwrap_or(terms.receive_within);
        terms.finish_within =
            self.span(members, at, "finish_within", SECOND, 7 * DAY).unwrap_or(terms.finish_within);
        terms.soak = self.span(members, at, "soak", Duration::ZERO, 30 * DAY).unwrap_or(terms.soak);
        if let Some(value) = members.get("healthy") {
            terms.healthy =
                if value.is_null() { None } else { self.healthy(value, &format!("{at}/healthy")) };
        }
        terms
    }

    fn healthy(&mut self, value: &Value, at: &str) -> Option<Healthy> {
        let members = self.object(value, at)?;
        self.known(at, members, &["stays", "within", "match"], "healthy");
        let stays = self.span(members, at, "stays", Duration::ZERO, HOUR).unwrap_or_default();
        let within = self.span(members, at, "within", SECOND, DAY).unwrap_or(Healthy::WITHIN);
        if stays > within {
            let text = format!("is {}, longer than `within` ({})", span::format(stays), span::format(within));
            self.problem(format!("{at}/stays"), text);
        }
        Some(Healthy {
            stays,
            within,
            selectors: self.selectors(members.get("match"), &format!("{at}/match")),
        })
    }

    fn check_payload(&mut self, at: impl Into<String>, payload: &Json) {
        let length = payload.get().len();
        if length > MAX_PAYLOAD {
            let text =
                format!("has {length} bytes; at most {MAX_PAYLOAD} are allowed: every task carries it");
            self.problem(at, text);
        }
    }

    /// What is tried after a wave.
    fn probe(&mut self, value: &Value, at: &str, config: &Config) -> Option<Probe> {
        if value.is_null() || value.as_str() == Some("none") {
            return None;
        }
        let members = self.object(value, at)?;
        self.known(
            at,
            members,
            &["type", "payload", "on", "ok", "expect", "passes", "tries", "every"],
            "a probe",
        );
        let policy = self.policy(members, at, config)?;
        let payload = self.payload_of(at);
        let on = match members.get("on") {
            None => ProbeOn::Wave,
            Some(Value::Object(of)) => {
                self.known(&format!("{at}/on"), of, &["match"], "`on`");
                let selectors = self.selectors(of.get("match"), &format!("{at}/on/match"));
                if selectors.is_empty() && self.problems.is_empty() {
                    self.problem(format!("{at}/on/match"), "is missing: who performs the probe");
                }
                ProbeOn::Match(selectors)
            }
            Some(value) => {
                let words = [("wave", ProbeOn::Wave), ("done", ProbeOn::Done)];
                let found =
                    words.into_iter().find(|(word, _)| value.as_str() == Some(word)).map(|(_, on)| on);
                if found.is_none() {
                    self.problem(
                        format!("{at}/on"),
                        format!("must be wave, done or {{\"match\": ...}}, not {}", shown(value)),
                    );
                }
                found.unwrap_or(ProbeOn::Wave)
            }
        };
        let ok = members.get("ok").and_then(|value| self.amount(value, &format!("{at}/ok"), 1));
        let mut expect = BTreeMap::new();
        if let Some(of) = members.get("expect").and_then(|value| self.object(value, &format!("{at}/expect")))
        {
            for (place, value) in of {
                if !place.is_empty() && !place.starts_with('/') {
                    let text = "must be a JSON pointer such as /version: it begins with a slash, or is empty for the whole answer";
                    self.problem(format!("{at}/expect{}", pointer(place)), text);
                }
                expect.insert(place.clone(), value.clone());
            }
            if expect.len() > MAX_EXPECT {
                self.problem(
                    format!("{at}/expect"),
                    format!("has {} members; at most {MAX_EXPECT} are allowed", expect.len()),
                );
            }
        }
        let usual = defaults(policy, (None, None));
        Some(Probe {
            task_type: policy.name.clone(),
            payload,
            on,
            ok: ok.unwrap_or(Amount::Percent(10_000)),
            expect,
            passes: self.number(members, at, "passes", 1, 100).unwrap_or(1),
            tries: self.number(members, at, "tries", 1, 100).unwrap_or(3),
            every: self.span(members, at, "every", SECOND, DAY).unwrap_or(Probe::EVERY),
            receive_within: usual.receive_within,
            finish_within: usual.finish_within,
        })
    }

    fn waves(&mut self, value: Option<&Value>, whole: &WaveTerms, config: &Config) -> Vec<WaveOf> {
        let of = |part| WaveOf { name: None, part, terms: whole.clone(), own: Own::default() };
        let Some(value) = value else {
            let sizes = [Amount::Count(1), Amount::Percent(500), Amount::Percent(2_500)].map(Part::Size);
            return sizes.into_iter().chain([Part::Rest]).map(of).collect();
        };
        let mut waves = Vec::new();
        for (place, value) in self.list(value, "/waves", MAX_WAVES).iter().enumerate() {
            let at = format!("/waves/{place}");
            let wave = match value {
                Value::Object(members) => self.wave(members, &at, whole, config),
                value => self.size(value, &at).map(of),
            };
            waves.extend(wave);
        }
        if waves.is_empty() && self.problems.is_empty() {
            self.problem("/waves", "must have at least one wave");
        }
        for (place, _) in waves
            .iter()
            .enumerate()
            .filter(|(place, wave)| wave.part == Part::Rest && place + 1 < waves.len())
        {
            self.problem(format!("/waves/{place}"), "is `rest`, which must be the last wave");
        }
        // Approvals, and those who read of a wave, know it by its name.
        let mut names = HashSet::new();
        for (place, name) in
            waves.iter().enumerate().filter_map(|(place, wave)| Some((place, wave.name.as_deref()?)))
        {
            if !names.insert(name) {
                self.problem(
                    format!("/waves/{place}/name"),
                    format!("is {}, as another wave is called", quoted(name)),
                );
            }
        }
        if waves.last().is_some_and(|last| last.part != Part::Rest) {
            waves.push(of(Part::Rest));
        }
        waves
    }

    fn size(&mut self, value: &Value, at: &str) -> Option<Part> {
        if value.as_str() == Some("rest") {
            Some(Part::Rest)
        } else {
            self.amount(value, at, 1).map(Part::Size)
        }
    }

    fn wave(
        &mut self,
        members: &Map<String, Value>,
        at: &str,
        whole: &WaveTerms,
        config: &Config,
    ) -> Option<WaveOf> {
        let known = [
            "name", "size", "endpoints", "match", "window", "receive_within", "finish_within", "healthy",
            "budget", "soak", "probe", "approval",
        ];
        self.known(at, members, &known, "a wave");
        let mut terms = self.wave_terms(members, at, whole);
        if let Some(budget) =
            members.get("budget").and_then(|value| self.object(value, &format!("{at}/budget")))
        {
            self.known(&format!("{at}/budget"), budget, &["wave"], "the budget of a wave");
            if let Some(wave) = budget.get("wave") {
                (terms.failed, terms.unreachable) =
                    self.allowances(wave, &format!("{at}/budget/wave"), (terms.failed, terms.unreachable));
            }
        }
        if let Some(value) = members.get("probe") {
            terms.probe = self.probe(value, &format!("{at}/probe"), config);
        }
        if let Some(approval) = members.get("approval").filter(|value| value.as_str() != Some("none")) {
            terms.approval = self
                .terms_of_approval(approval, &format!("{at}/approval"), false)
                .map(|(_, approval)| approval);
        }
        let name = match members.get("name") {
            None => None,
            Some(value) => {
                let formed = |text: &&str| {
                    (1..=191).contains(&text.chars().count()) && !text.chars().any(char::is_control)
                };
                let name = value.as_str().filter(formed);
                if name.is_none() {
                    self.problem(
                        format!("{at}/name"),
                        "must be a text of 1 to 191 characters without control characters",
                    );
                }
                if name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
                    self.problem(
                        format!("{at}/name"),
                        "must not be digits alone, which would be taken for the number of a wave",
                    );
                }
                name.map(str::to_owned)
            }
        };
        let parts: Vec<&str> =
            ["size", "endpoints", "match"].into_iter().filter(|name| members.contains_key(*name)).collect();
        let part = match parts[..] {
            [] => Some(Part::Rest),
            ["size"] => members.get("size").and_then(|value| self.size(value, &format!("{at}/size"))),
            ["endpoints"] => {
                Some(Part::Endpoints(self.endpoints(members.get("endpoints"), &format!("{at}/endpoints"))))
            }
            ["match"] => Some(Part::Match(self.selectors(members.get("match"), &format!("{at}/match")))),
            _ => {
                self.problem(at, format!("has {}; a wave has one of them", parts.join(" and ")));
                None
            }
        };
        let has = |name: &str| members.contains_key(name);
        let own = Own { healthy: has("healthy"), approval: has("approval"), probe: has("probe") };
        part.map(|part| WaveOf { name, part, terms, own })
    }

    fn approval(&mut self, value: Option<&Value>) -> Option<(Value, Approval)> {
        let value = value.filter(|value| value.as_str() != Some("none"))?;
        self.terms_of_approval(value, "/approval", true)
    }

    fn terms_of_approval(&mut self, value: &Value, at: &str, whole: bool) -> Option<(Value, Approval)> {
        let members = self.object(value, at)?;
        let known: &[&str] = &["before", "count", "from", "not_creator", "within", "else"];
        self.known(at, members, if whole { known } else { &known[1..] }, "an approval");
        let count = self.number(members, at, "count", 1, 5).unwrap_or(1);
        let mut from: Vec<TokenName> = Vec::new();
        if let Some(value) = members.get("from") {
            for (place, value) in self.list(value, &format!("{at}/from"), 100).iter().enumerate() {
                from.extend(self.parsed::<TokenName>(Some(value), &format!("{at}/from/{place}")));
            }
            if from.len() < usize::try_from(count).unwrap_or(usize::MAX) {
                self.problem(
                    format!("{at}/count"),
                    format!("is {count}, and `from` has {} names: it can never be met", from.len()),
                );
            }
        }
        let not_creator = match members.get("not_creator") {
            None => true,
            Some(Value::Bool(truth)) => *truth,
            Some(value) => {
                self.problem(
                    format!("{at}/not_creator"),
                    format!("must be true or false, not {}", shown(value)),
                );
                true
            }
        };
        let within = self.span(members, at, "within", SECOND, 30 * DAY).unwrap_or(DAY);
        let otherwise = if members.contains_key("else") {
            self.on_breach(members, at, "else", &[OnBreach::Halt, OnBreach::Abort])
        } else {
            OnBreach::Halt
        };
        let before = members.get("before").cloned().unwrap_or_else(|| Value::from("all"));
        Some((before, Approval { count, from, not_creator, within, otherwise }))
    }

    /// Gives the approval to the waves that it stands before: all, or those that are named. A wave keeps an
    /// approval of its own, `none` too.
    fn put_approvals(&mut self, waves: &mut [WaveOf], before: &Value, approval: &Approval) {
        if before.as_str() == Some("all") {
            for wave in waves.iter_mut().filter(|wave| !wave.own.approval) {
                wave.terms.approval = Some(approval.clone());
            }
            return;
        }
        for (place, value) in self.list(before, "/approval/before", MAX_WAVES).iter().enumerate() {
            let number = value
                .as_u64()
                .and_then(|number| usize::try_from(number).ok())
                .and_then(|number| number.checked_sub(1));
            let named = value
                .as_str()
                .and_then(|name| waves.iter().position(|wave| wave.name.as_deref() == Some(name)));
            match number.or(named).and_then(|at| waves.get_mut(at)) {
                Some(wave) if wave.own.approval => {}
                Some(wave) => wave.terms.approval = Some(approval.clone()),
                None => {
                    let text = format!(
                        "is {}; expected the name of a wave or its number, from 1 to {}",
                        shown(value),
                        waves.len()
                    );
                    self.problem(format!("/approval/before/{place}"), text);
                }
            }
        }
    }

    fn windows(&mut self, value: Option<&Value>) -> Vec<MaintenanceWindow> {
        let Some(value) = value else { return Vec::new() };
        let mut windows = Vec::new();
        for (place, value) in self.list(value, "/windows", MAX_WINDOWS).iter().enumerate() {
            let at = format!("/windows/{place}");
            let Some(members) = self.object(value, &at) else { continue };
            self.known(&at, members, &["cron", "for", "time_zone", "stop_before_end"], "a window");
            let cron: Option<String> = self.needed(members, &at, "cron");
            if !members.contains_key("for") {
                self.problem(format!("{at}/for"), "is missing");
            }
            let lasts = self.span(members, &at, "for", 60 * SECOND, 7 * DAY);
            let time_zone = self
                .parsed(members.get("time_zone"), &format!("{at}/time_zone"))
                .unwrap_or_else(|| "UTC".to_owned());
            let stop_before_end =
                self.span(members, &at, "stop_before_end", Duration::ZERO, 7 * DAY).unwrap_or_default();
            let (Some(cron), Some(lasts)) = (cron, lasts) else { continue };
            if stop_before_end >= lasts {
                self.problem(
                    format!("{at}/stop_before_end"),
                    format!("is as long as the window ({}): it never opens", span::format(lasts)),
                );
            }
            let window = MaintenanceWindow { cron, lasts, time_zone, stop_before_end };
            match rollouts::check_window(&window) {
                Ok(()) => windows.push(window),
                Err((member, message)) => self.problem(format!("{at}/{member}"), message),
            }
        }
        windows
    }

    fn start(&mut self, values: &Map<String, Value>) -> Start {
        let Some(value) = values.get("start_at") else { return Start::Now };
        match value.as_str() {
            Some("now") => return Start::Now,
            Some("manual") => return Start::Manual,
            _ => {}
        }
        match serde_json::from_value::<Timestamp>(value.clone()) {
            Ok(time) => Start::At(time),
            Err(_) => {
                self.problem(
                    "/start_at",
                    format!(
                        "must be `now`, `manual` or a time such as 2026-11-27T22:00:00Z, not {}",
                        shown(value)
                    ),
                );
                Start::Now
            }
        }
    }
}

/// Failed and unreachable.
type Allowances = (Option<Amount>, Option<Amount>);

struct Budget {
    wave: Allowances,
    failed: Option<Amount>,
    unreachable: Option<Amount>,
}

fn defaults(policy: &TypePolicy, (failed, unreachable): Allowances) -> WaveTerms {
    let waits: Duration = (1..policy.attempts).map(|failures| policy.backoff.ceiling(failures)).sum();
    WaveTerms {
        window: Amount::Count(100),
        receive_within: policy.wait_for_endpoints_timeout.clamp(SECOND, DAY),
        finish_within: (policy.time_limit.saturating_mul(policy.attempts).saturating_add(waits))
            .clamp(SECOND, 7 * DAY),
        healthy: None,
        failed,
        unreachable,
        soak: Duration::ZERO,
        probe: None,
        approval: None,
    }
}

/// An amount in a text: `5`, `5%`, `0.5%`.
fn amount(text: &str) -> Option<Amount> {
    let Some(percent) = text.strip_suffix('%') else { return text.parse().ok().map(Amount::Count) };
    let (whole, part) = percent.split_once('.').unwrap_or((percent, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 2 {
        return None;
    }
    let part: u32 = format!("{part:0<2}").parse().ok()?;
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(part).map(Amount::Percent)
}

/// The member with the time after which a rollout is given up.
pub const EXPIRES: &str = "expires_after";
/// The member with the waves.
pub const WAVES: &str = "waves";
/// Members of a document that may be changed while its rollout goes on.
const EDITABLE: [&str; 13] = [
    "window", "budget", "soak", "probe", "approval", "windows", "catch_up", "catch_up_for", "on_breach",
    "in_flight", "rollback", EXPIRES, WAVES,
];

/// A document with some members changed, as text. The others stay as they are, to the byte.
///
/// # Errors
/// What cannot be changed, or is not read.
pub fn edited(document: &str, changes: &BTreeMap<String, Box<RawValue>>) -> Result<String, Vec<ProblemItem>> {
    let fixed = |name: &String| {
        let what = match MEMBERS.contains(&name.as_str()) {
            true => "cannot be changed any more".to_owned(),
            false => format!("is not a member of a document{}", did_you_mean(nearest(name, EDITABLE))),
        };
        ProblemItem::new(pointer(name), format!("{what}; what can be changed: {}", EDITABLE.join(", ")))
    };
    let faults: Vec<ProblemItem> =
        changes.keys().filter(|name| !EDITABLE.contains(&name.as_str())).map(fixed).collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    let Members(members) =
        serde_json::from_str(document).map_err(|error| vec![ProblemItem::new("", error.to_string())])?;
    let kept = members
        .iter()
        .filter(|(name, _)| !changes.contains_key(&**name))
        .map(|(name, value)| (&**name, value.get()));
    let changed = changes
        .iter()
        .filter(|(_, value)| !is_taken_away(value))
        .map(|(name, value)| (name.as_str(), value.get()));
    let members: Vec<String> =
        kept.chain(changed).map(|(name, value)| format!("{}:{value}", Value::from(name))).collect();
    Ok(format!("{{{}}}", members.join(",")))
}

/// What an edit changes, for people.
#[derive(Debug)]
pub struct Told {
    /// Each member with its value before and after.
    pub text: String,
    /// Whether any value is another one than before.
    pub changes: bool,
}

/// What such changes are. A member that is absent has its default. Payloads are left out: they may have secrets,
/// and an event keeps the values that the edit has removed.
pub fn told(document: &str, changes: &BTreeMap<String, Box<RawValue>>) -> Told {
    let before = serde_json::from_str(document).map_or_else(|_| Vec::new(), |Members(members)| members);
    let mut told = Told { text: String::new(), changes: false };
    for (name, after) in changes {
        let before = before.iter().find(|(member, _)| *member == name.as_str()).map(|(_, value)| *value);
        let before = before.filter(|value| !is_taken_away(value));
        let after = Some(&**after).filter(|value| !is_taken_away(value));
        let text = match before.map(|value| compact(value.get())) == after.map(|value| compact(value.get())) {
            true => format!("{name}: {} as before", in_words(after)),
            false => {
                told.changes = true;
                format!("{name}: {} -> {}", in_words(before), in_words(after))
            }
        };
        told.text.push_str(if told.text.is_empty() { "" } else { "; " });
        told.text.push_str(&text);
    }
    told
}

fn is_taken_away(value: &RawValue) -> bool {
    matches!(value.get().trim(), "null" | "\"none\"")
}

/// A text as it is, anything else as JSON without white space and payloads, to the digit; cut where it is long.
fn in_words(value: Option<&RawValue>) -> String {
    let Some(value) = value else { return "default".to_owned() };
    let mut read: Value = serde_json::from_str(value.get()).unwrap_or_default();
    let had_payloads = leave_payloads_out(&mut read);
    match read {
        Value::String(text) => cut(&text),
        read if had_payloads => cut(&read.to_string()),
        _ => cut(&compact(value.get())),
    }
}

/// JSON without the white space between its tokens. A value that was read and written again would lose digits.
fn compact(json: &str) -> String {
    let (mut in_text, mut escaped) = (false, false);
    let keeps = |character: &char| {
        let is_quote = *character == '"' && !escaped;
        escaped = in_text && *character == '\\' && !escaped;
        in_text ^= is_quote;
        in_text || !character.is_ascii_whitespace()
    };
    json.chars().filter(keeps).collect()
}

/// Characters of a value that an event tells at most: a list of waves can be long.
const TOLD: usize = 200;

fn cut(text: &str) -> String {
    match text.char_indices().nth(TOLD) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A value as it may stand in an error.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    crate::domain::likeness::quoted(text)
}

/// The document without white space, as it is kept.
pub fn kept(text: &str) -> Option<Json> {
    serde_json::from_str::<Box<RawValue>>(text).ok().map(Json::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json as value;

    use super::*;

    fn config() -> Config {
        Config::from_yaml("task_types: [{name: update, attempts: 2, time_limit: 10m}, undo, {name: builds, delivery: queue}]")
            .expect("valid")
    }

    fn read(document: &Value) -> Result<RolloutTerms, Vec<String>> {
        let told = |problems: Vec<ProblemItem>| {
            problems.into_iter().map(|item| format!("{} {}", item.pointer, item.message)).collect()
        };
        parse(&document.to_string(), &config()).map_err(told)
    }

    #[test]
    fn a_short_document_has_all_defaults() {
        let terms = read(&value!({"identifier": "r", "type": "update"})).expect("valid");
        let parts: Vec<Part> = terms.waves.iter().map(|wave| wave.part.clone()).collect();
        let sizes = [Amount::Count(1), Amount::Percent(500), Amount::Percent(2_500)];
        assert_eq!(parts, [Part::Size(sizes[0]), Part::Size(sizes[1]), Part::Size(sizes[2]), Part::Rest]);
        let wave = &terms.waves[0].terms;
        assert_eq!(
            (wave.receive_within, wave.finish_within),
            (Duration::from_secs(30), Duration::from_secs(1_201))
        );
        assert_eq!((wave.failed, wave.unreachable), (Some(Amount::Count(0)), Some(Amount::Percent(1_000))));
        assert_eq!((terms.failed, terms.lane.as_str()), (Some(Amount::Percent(200)), "update"));
        assert_eq!((terms.targets.seed.as_str(), terms.targets.percent, terms.own_waves), ("r", 100, false));
        assert_eq!(
            (terms.settings.catch_up, terms.settings.catch_up_for, terms.expires_after),
            (CatchUp::Latest, DAY, 30 * DAY)
        );
    }

    #[test]
    fn a_wave_may_differ_from_the_whole() {
        let terms = read(&value!({
            "identifier": "r", "type": "update", "window": "50%", "soak": "5m", "budget": {"wave": {"failed": "1%"}},
            "approval": {"before": ["canary", 3], "count": 2},
            "waves": [{"name": "canary", "endpoints": ["a"], "soak": "1h", "healthy": {"stays": "30s", "match": "release=2"}}, "2.5%", {"size": "rest", "budget": {"wave": {"failed": "none"}}}],
        }))
        .expect("valid");
        let [canary, some, rest] = &terms.waves[..] else { panic!("{:?}", terms.waves) };
        assert_eq!((canary.terms.soak, some.terms.soak), (HOUR, Duration::from_secs(300)));
        assert_eq!(canary.terms.healthy.as_ref().map(|healthy| healthy.stays), Some(Duration::from_secs(30)));
        assert_eq!(
            (some.part.clone(), some.terms.failed, rest.terms.failed),
            (Part::Size(Amount::Percent(250)), Some(Amount::Percent(100)), None)
        );
        let approvals: Vec<bool> = terms.waves.iter().map(|wave| wave.terms.approval.is_some()).collect();
        assert_eq!(approvals, [true, false, true]);
        assert_eq!((rest.terms.window, rest.part.clone()), (Amount::Percent(5_000), Part::Rest));
    }

    #[test]
    fn a_rollback_has_the_defaults_of_its_type() {
        let rollback = |rollback: Value| {
            let terms = read(
                &value!({"identifier": "r", "type": "update", "on_breach": "rollback", "rollback": rollback}),
            );
            terms.expect("valid").settings.rollback.expect("there is one")
        };
        let short = rollback(value!({"payload": {"v": 1}}));
        assert_eq!(
            (short.task_type.as_str(), short.payload.get(), short.on),
            ("update", r#"{"v":1}"#, RollbackOn::Changed)
        );
        assert_eq!(
            (short.window, short.finish_within, short.healthy),
            (Amount::Count(100), Duration::from_secs(1_201), None)
        );
        let long = rollback(
            value!({"type": "undo", "on": "failed", "window": "50%", "receive_within": "1m", "healthy": {"match": "v=1"}}),
        );
        assert_eq!(
            (long.task_type.as_str(), long.on, long.window),
            ("undo", RollbackOn::Failed, Amount::Percent(5_000))
        );
        assert_eq!(
            (long.receive_within, long.healthy.map(|healthy| healthy.selectors.len())),
            (Duration::from_secs(60), Some(1))
        );
    }

    #[test]
    fn payloads_stay_as_they_were_written() {
        let payload = r#"{"z": 6.10, "a": 12345678901234567890123, "e": 1e400}"#;
        let small = r#"{"v": 6.10}"#;
        let text = format!(
            r#"{{"identifier": "r", "type": "update", "payload": {payload}, "rollback": {{"payload": {small}}},
            "probe": {{"type": "undo", "payload": {small}}}, "waves": [1, {{"size": "rest", "probe": {{"type": "undo", "payload": [1.0]}}}}]}}"#
        );
        let terms = parse(&text, &config()).expect("valid");
        let probes: Vec<_> = terms
            .waves
            .iter()
            .filter_map(|wave| wave.terms.probe.as_ref())
            .map(|probe| probe.payload.get())
            .collect();
        assert_eq!((terms.payload.get(), probes), (payload, vec![small, "[1.0]"]));
        assert_eq!(terms.settings.rollback.expect("there is one").payload.get(), small);
        let (unpaid, too_large) = (
            r#"{"identifier": "r", "type": "update"}"#,
            r#"{"identifier": "r", "type": "update", "soak": 1e400}"#,
        );
        assert_eq!(parse(unpaid, &config()).expect("valid").payload.get(), "null");
        let problems = parse(too_large, &config()).expect_err("too large");
        assert_eq!(problems[0].message, "has a number that is too large");
    }

    #[test]
    fn a_wave_keeps_its_own_approval() {
        let approvals = |before: Value| {
            let terms = read(&value!({
                "identifier": "r", "type": "update", "approval": {"before": before},
                "waves": [{"size": 1, "approval": "none"}, {"size": 2, "approval": {"count": 2}}, "rest"],
            }));
            let approval = |wave: &WaveOf| wave.terms.approval.as_ref().map(|approval| approval.count);
            terms.expect("valid").waves.iter().map(approval).collect::<Vec<_>>()
        };
        assert_eq!(approvals(value!("all")), [None, Some(2), Some(1)]);
        assert_eq!(approvals(value!([1, 2])), [None, Some(2), None]);
    }

    /// Earlier versions have recorded selectors that are refused now.
    #[test]
    fn a_selector_is_read_as_it_was_recorded() {
        let recorded = r#"{"identifier": "r", "type": "update", "waves": [{"match": ["site='x'"]}, {"match": "a='b'"}]}"#;
        let whole: Box<RawValue> = serde_json::from_str(recorded).expect("JSON");
        let parts =
            |terms: RolloutTerms| -> Vec<Part> { terms.waves.into_iter().map(|wave| wave.part).collect() };
        let stored = |text| Part::Match(vec![Selector::stored(text).expect("a selector")]);
        assert_eq!(parse(recorded, &config()).expect_err("a slip").len(), 2);
        let read = parse_again(recorded, &whole, &config()).expect("recorded");
        assert_eq!(parts(read), [stored("site='x'"), stored("a='b'"), Part::Rest]);
        let again = |waves: &str| {
            let text =
                edited(whole.get(), &BTreeMap::from([("waves".to_owned(), json_of(waves))])).expect("text");
            parse_again(&text, &whole, &config())
        };
        assert_eq!(parts(again(r#"[{"match": ["site='x'"]}, 1]"#).expect("as recorded")).len(), 3);
        for slip in [r#"[{"match": ["site='y'"]}]"#, r#"[1, {"match": ["site='x'"]}]"#] {
            assert_eq!(again(slip).expect_err("not as recorded").len(), 1, "{slip}");
        }
    }

    #[test]
    fn a_change_is_told_with_what_was_there() {
        let document = r#"{"type":"update","window":100,"soak":"10m","probe":{"type": "check"},"budget":{"wave":{"failed":6.10}},"catch_up":"none"}"#;
        let long = format!("[{}\"rest\"]", "1, ".repeat(100));
        let wanted = [
            ("window", "20", "window: 100 -> 20"),
            ("soak", "\"1h\"", "soak: 10m -> 1h"),
            ("probe", "\"none\"", r#"probe: {"type":"check"} -> default"#),
            ("approval", r#"{"before": [2]}"#, r#"approval: default -> {"before":[2]}"#),
            ("budget", r#"{"wave": {"failed": 6.10}}"#, r#"budget: {"wave":{"failed":6.10}} as before"#),
            ("catch_up", "null", "catch_up: default as before"),
            ("rollback", r#"{ "type": "a \\\" b" }"#, r#"rollback: default -> {"type":"a \\\" b"}"#),
            (
                "probe",
                r#"{"type": "check", "payload": {"key": "s3cr3t"}}"#,
                r#"probe: {"type":"check"} -> {"payload":"not recorded","type":"check"}"#,
            ),
        ];
        let told = |changes| told(document, &changes);
        for (name, value, text) in wanted {
            let told = told(BTreeMap::from([(name.to_owned(), json_of(value))]));
            assert_eq!((told.text.as_str(), told.changes), (text, !text.ends_with(" as before")));
        }
        let both = BTreeMap::from(["window", "soak"].map(|name| (name.to_owned(), json_of("5"))));
        assert_eq!(told(both).text, "soak: 10m -> 5; window: 100 -> 5");
        let waves = told(BTreeMap::from([("waves".to_owned(), json_of(&long))])).text;
        assert!(waves.starts_with("waves: default -> [1,1,1,") && waves.ends_with('…'), "{waves}");
        assert_eq!(waves.chars().count(), "waves: default -> ".len() + TOLD + 1);
    }

    fn json_of(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let with = |name: &str, what: Value| {
            let mut document = value!({"identifier": "r", "type": "update"});
            document[name] = what;
            document
        };
        for (document, told) in [
            (value!({"type": "update"}), "/identifier is missing"),
            (
                value!({"identifier": "a b", "type": "update"}),
                "/identifier is \"a b\": an identifier of a rollout is 1 to 128",
            ),
            (value!({"identifier": "r", "type": "updaet"}), "/type unknown task type \"updaet\""),
            (value!({"identifier": "r", "type": "builds"}), "/type is `builds`, which has a work queue"),
            (with("windwo", value!(3)), "/windwo unknown member \"windwo\""),
            (with("probe", value!({"type": "check"})), "/probe/type unknown task type \"check\""),
            (with("probe", value!({})), "/probe/type is missing"),
            (with("probe", value!({"type": "builds"})), "/probe/type is `builds`, which has a work queue"),
            (
                with("probe", value!({"type": "undo", "on": "all"})),
                "/probe/on must be wave, done or {\"match\": ...}, not \"all\"",
            ),
            (
                with("probe", value!({"type": "undo", "expect": {"version": 1}})),
                "/probe/expect/version must be a JSON pointer",
            ),
            (
                with("probe", value!({"type": "undo", "tries": 0})),
                "/probe/tries must be a whole number from 1 to 100, not 0",
            ),
            (with("rollback", value!({"tpye": "update"})), "/rollback/tpye unknown member \"tpye\""),
            (
                with("rollback", value!({"type": "builds"})),
                "/rollback/type is `builds`, which has a work queue",
            ),
            (
                with("rollback", value!({"on": "all"})),
                "/rollback/on must be one of changed, failed, not \"all\"",
            ),
            (with("rollback", value!({"soak": "1s"})), "/rollback/soak unknown member"),
            (with("rollback", value!("now")), "/rollback must be an object, not \"now\""),
            (
                with("on_breach", value!("rollback")),
                "/on_breach is `rollback`, which needs the member `rollback`",
            ),
            (
                value!({"identifier": "r", "type": "update", "on_breach": "rollback", "rollback": "none"}),
                "/on_breach is `rollback`, which needs the member `rollback`",
            ),
            (
                with("approval", value!({"else": "rollback"})),
                "/approval/else must be one of halt, abort, not \"rollback\"",
            ),
            (with("in_flight", value!("kill")), "/in_flight must be one of finish, stop, not \"kill\""),
            (with("spread", value!({})), "/spread/by is missing"),
            (
                with("spread", value!({"by": ["rack", "rack"]})),
                "/spread/by must be 1 to 3 different labels, not [\"rack\",\"rack\"]",
            ),
            (
                with("spread", value!({"by": ["rack"], "max_in_flight": 0})),
                "/spread/max_in_flight must be a number from 1 on",
            ),
            (with("targets", value!({"groups": ["a b"]})), "/targets/groups/0 is \"a b\""),
            (with("targets", value!({"match": ["a="]})), "/targets/match/0 is \"a=\""),
            (
                with("targets", value!({"endpoints": ["a", "a"]})),
                "/targets/endpoints/1 is `a` for the second time",
            ),
            (
                with("targets", value!({"percent": 0})),
                "/targets/percent must be a whole number from 1 to 100, not 0",
            ),
            (
                with("targets", value!({"order": "given"})),
                "/targets/order is `given`, which needs `endpoints`",
            ),
            (with("window", value!(0)), "/window must be a number from 1 on"),
            (with("window", value!(10_001)), "/window must be at most 10000"),
            (with("window", value!("101%")), "/window must be a number from 1 on or a percentage"),
            (with("soak", value!("31d")), "/soak must be a span from 0s to 30d, not \"31d\""),
            (with("soak", value!(30)), "/soak must be a span from 0s to 30d, not 30"),
            (with("waves", value!([])), "/waves must have at least one wave"),
            (with("waves", value!(["rest", 1])), "/waves/0 is `rest`, which must be the last wave"),
            (
                with("waves", value!([{"name": "a", "size": 1}, {"name": "a", "size": 1}, "rest"])),
                r#"/waves/1/name is "a", as another wave is called"#,
            ),
            (
                with("waves", value!([{"name": "2", "size": 1}, "rest"])),
                "/waves/0/name must not be digits alone",
            ),
            (
                with("waves", value!([{"size": 1, "match": "a"}])),
                "/waves/0 has size and match; a wave has one of them",
            ),
            (with("waves", value!([{"windows": []}])), "/waves/0/windows unknown member"),
            (
                with("approval", value!({"count": 6})),
                "/approval/count must be a whole number from 1 to 5, not 6",
            ),
            (
                with("approval", value!({"count": 2, "from": ["ann"]})),
                "/approval/count is 2, and `from` has 1 names",
            ),
            (
                with("approval", value!({"before": [9]})),
                "/approval/before/0 is 9; expected the name of a wave or its number, from 1 to 4",
            ),
            (with("windows", value!([{"cron": "61 * * * *", "for": "1h"}])), "/windows/0/cron"),
            (
                with("windows", value!([{"cron": "0 22 * * *", "for": "1h", "time_zone": "Berlin"}])),
                "/windows/0/time_zone",
            ),
            (
                with("windows", value!([{"cron": "0 22 * * *", "for": "1h", "stop_before_end": "1h"}])),
                "/windows/0/stop_before_end is as long as the window (1h): it never opens",
            ),
            (with("windows", value!([{"cron": "0 0 30 2 *", "for": "1h"}])), "/windows/0/cron"),
            (with("healthy", value!({"stays": "20m"})), "/healthy/stays is 20m, longer than `within` (10m)"),
            (with("start_at", value!("soon")), "/start_at must be `now`, `manual` or a time"),
            (with("lane", value!("A")), "/lane must be 1 to 64 of a-z"),
            (with("subject", value!("")), "/subject must be 1 to 64 of a-z"),
            (with("payload", value!("x".repeat(MAX_PAYLOAD))), "/payload has 65538 bytes"),
            (
                with("budget", value!({"wave": {"failed": -1}})),
                "/budget/wave/failed must be a number from 0 on",
            ),
        ] {
            let problems = read(&document).expect_err("it is wrong");
            assert!(problems.len() == 1 && problems[0].starts_with(told), "{document}: {problems:?}");
        }
        let twice = parse(r#"{"identifier": "r", "type": "update", "soak": "1s", "soak": "2s"}"#, &config())
            .expect_err("twice");
        assert_eq!(twice[0].pointer, "/soak");
    }
}
