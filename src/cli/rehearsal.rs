//! `tasker rollout rehearse`: a document tried on simulated endpoints, on a platform of its own that goes
//! with the command.

use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::Context;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::exit::{Code, verdict_on_rollout};
use super::global::Global;
use super::output::{Failure, note, print, print_json, show};
use super::process::{begin, load};
use super::rollout_args::RehearseRollout;
use super::rollout_look::{bad, document};
use super::{access, rollout_view, simulation};
use crate::app::{Embedded, Staff};
use crate::client::Client;
use crate::config::{Config, ConfigFile, Delivery, Flag, span};
use crate::contract::{GroupChange, OneOrMany, Rollout, RolloutEvent};
use crate::domain::rollout::{Healthy, Probe, RolloutStatus};
use crate::domain::{EndpointName, GroupName, Json, Labels, TaskType, json as raw, value_at};
use crate::simulated::{Nature, names};

/// How long the fleet may take to be there.
const JOIN: Duration = Duration::from_secs(120);
/// How long a question for events lies at the API.
const FOLLOW: Duration = Duration::from_secs(2);
/// Endpoints of a page.
const PAGE: u32 = 1_000;
/// The shortest time that a document may give endpoints.
const SHORTEST: Duration = Duration::from_secs(1);
/// How often simulated endpoints say that they are there at most.
const PRESENCE: Duration = Duration::from_millis(200);

/// An endpoint of the fleet, and whether it is away.
type Known = (EndpointName, Labels, bool);

pub(super) async fn run(global: &Global, args: RehearseRollout) -> Result<Code, Failure> {
    let signals = begin()?;
    let whole = document(&args.file)?;
    let asked: Value =
        serde_json::from_str(whole.get()).map_err(|error| Failure::Usage(error.to_string()))?;
    let Value::Object(mut document) = asked else {
        return Err(Failure::Usage(
            "the document is not an object: expected members such as `identifier` and `type`".to_owned(),
        ));
    };
    let prepared = signals.unless_told(async {
        let faults = simulation::faults(args.faults.as_deref())?;
        let (fleet, groups) = match args.simulate {
            Some(number) => {
                let made = faults.labelled(names(number as usize));
                (made.into_iter().map(|(name, labels)| (name, labels, false)).collect(), BTreeMap::new())
            }
            None => known(global, &document).await?,
        };
        let changes = shortened(&mut document, args.faster);
        let quiet = vec![Flag { key: "log.filter", value: "error".to_owned(), name: "rehearse" }];
        let mut config = load(global.named_file().unwrap_or(ConfigFile::Embedded), quiet)?;
        let types = types_of(&document);
        config.add_types(&types, Delivery::Fanout);
        for policy in &mut config.task_types {
            policy.wait_for_endpoints_timeout =
                (policy.wait_for_endpoints_timeout / args.faster).max(SHORTEST);
            policy.time_limit = (policy.time_limit / args.faster).max(SHORTEST);
        }
        config.endpoint.presence_interval = (config.endpoint.presence_interval / args.faster).max(PRESENCE);
        let away: HashSet<EndpointName> =
            fleet.iter().filter(|(.., away)| *away).map(|(name, ..)| name.clone()).collect();
        let labelled = fleet.into_iter().map(|(name, labels, _)| (name, labels)).collect();
        let mut simulated = simulation::natures(&faults.faster(args.faster), labelled);
        for (_, nature) in simulated.iter_mut().filter(|(name, _)| away.contains(name)) {
            nature.stay_away();
        }
        let size = simulated.len();
        let platform = Platform::start(config, simulated, types).await?;
        let said = format!(
            "rehearsal on {size} simulated endpoints{}",
            changes.iter().map(|change| format!("; {change}")).collect::<String>()
        );
        note(&said);
        let document = raw(&Part { value: &Value::Object(document), at: String::new(), whole: &whole });
        Ok::<_, Failure>((platform, document, groups))
    });
    let Some(prepared) = prepared.await else { return Ok(signals.code()) };
    let (platform, document, groups) = prepared?;
    let outcome = signals.unless_told(platform.rehearse(global, &document, &groups, &args)).await;
    platform.stop().await;
    outcome.unwrap_or(Ok(signals.code()))
}

/// The types that a document names: its own first, then those of its rollback and of its probes.
fn types_of(document: &Map<String, Value>) -> Vec<TaskType> {
    let waves = document.get("waves").and_then(Value::as_array).into_iter().flatten();
    let members = [document.get("rollback"), document.get("probe")].into_iter();
    let places = members.chain(waves.map(|wave| wave.get("probe"))).map(|member| member?.get("type"));
    let mut types = Vec::<TaskType>::new();
    for name in [document.get("type")].into_iter().chain(places).flatten().filter_map(Value::as_str) {
        if let Ok(name) = name.parse::<TaskType>()
            && !types.contains(&name)
        {
            types.push(name);
        }
    }
    types
}

/// The endpoints that the platform knows for the type of the document, and its groups.
async fn known(
    global: &Global,
    document: &Map<String, Value>,
) -> Result<(Vec<Known>, BTreeMap<GroupName, String>), Failure> {
    let client = access::client(global)?;
    let task_type = document.get("type").and_then(Value::as_str).unwrap_or_default();
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page = client.endpoints(None, Some(PAGE), cursor.as_deref()).await?;
        for endpoint in page.endpoints {
            if let Some(performs) =
                endpoint.types.iter().find(|performs| performs.task_type.as_str() == task_type)
            {
                found.push((endpoint.name, Labels::believed(endpoint.labels), !performs.subscribed));
            }
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if found.is_empty() {
        return Err(Failure::Usage(format!(
            "the platform knows no endpoints for `{task_type}`: --simulate N makes some"
        )));
    }
    let groups = client.groups().await?.groups;
    Ok((found, groups.into_iter().map(|group| (group.name, group.selector)).collect()))
}

/// Takes away what would wait for people and for nights, and shortens the times of a document. Answers what
/// was changed.
fn shortened(document: &mut Map<String, Value>, faster: u32) -> Vec<String> {
    let mut changes = Vec::new();
    if document.remove("windows").is_some() {
        changes.push("maintenance windows are left out".to_owned());
    }
    let mut approval = document.remove("approval").is_some();
    let mut expects = forget_expected(document);
    for wave in document
        .get_mut("waves")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        approval |= wave.remove("approval").is_some();
        expects |= forget_expected(wave);
        shorten(wave, faster);
    }
    if approval {
        changes.push("approvals are left out".to_owned());
    }
    if expects {
        changes.push("answers of probes are not compared".to_owned());
    }
    if document.remove("start_at").is_some() {
        changes.push("it starts at once".to_owned());
    }
    shorten(document, faster);
    if let Some(rollback) = document.get_mut("rollback").and_then(Value::as_object_mut) {
        shorten(rollback, faster);
    }
    if faster > 1 {
        changes.push(format!("all times are {faster} times shorter"));
    }
    changes
}

/// Takes away what a probe expects of answers: those of simulated endpoints say nothing. Answers whether it
/// expected something.
fn forget_expected(members: &mut Map<String, Value>) -> bool {
    let probe = members.get_mut("probe").and_then(Value::as_object_mut);
    probe.is_some_and(|probe| probe.remove("expect").is_some())
}

/// Shortens the times of a document, of a wave, or of a rollback. What is not a time stays: the platform says
/// what is wrong with it.
fn shorten(members: &mut Map<String, Value>, faster: u32) {
    if let Some(healthy) = members.get_mut("healthy").and_then(Value::as_object_mut) {
        healthy.entry("within").or_insert_with(|| json!(span::format(Healthy::WITHIN)));
        shorten_these(healthy, &["stays"], faster, Duration::ZERO);
        shorten_these(healthy, &["within"], faster, SHORTEST);
    }
    if let Some(probe) = members.get_mut("probe").and_then(Value::as_object_mut) {
        probe.entry("every").or_insert_with(|| json!(span::format(Probe::EVERY)));
        shorten_these(probe, &["every"], faster, SHORTEST);
    }
    shorten_these(members, &["soak"], faster, Duration::ZERO);
    shorten_these(members, &["receive_within", "finish_within", "catch_up_for"], faster, SHORTEST);
}

fn shorten_these(members: &mut Map<String, Value>, names: &[&str], faster: u32, least: Duration) {
    for name in names {
        if let Some(value) = members.get_mut(*name)
            && let Some(time) = value.as_str().and_then(|text| span::parse(text).ok())
        {
            *value = json!(span::format((time / faster).max(least.min(time))));
        }
    }
}

/// A part of a document, to be written with its payloads as they were given: a handler may tell 6.10 from 6.1.
struct Part<'a> {
    value: &'a Value,
    at: String,
    whole: &'a RawValue,
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self { value, at, whole } = self;
        let part = |value, step: &str| Part { value, at: format!("{at}/{step}"), whole };
        match value {
            _ if at.ends_with("/payload") => value_at(whole, at).serialize(to),
            Value::Object(members) => {
                to.collect_map(members.iter().map(|(name, value)| (name, part(value, name))))
            }
            Value::Array(entries) => to.collect_seq(
                entries.iter().enumerate().map(|(place, value)| part(value, &place.to_string())),
            ),
            value => value.serialize(to),
        }
    }
}

/// The platform of a rehearsal.
struct Platform {
    embedded: Embedded,
    client: Client,
    files: tempfile::TempDir,
}

impl Platform {
    async fn start(
        config: Config,
        simulated: Vec<(EndpointName, Nature)>,
        simulated_types: Vec<TaskType>,
    ) -> Result<Self, Failure> {
        let files = tempfile::tempdir().context("a directory for the rehearsal")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a port for the rehearsal")?;
        let staff = Staff { simulated, simulated_types, ..Staff::default() };
        let mut embedded = Embedded::start(config, None, files.path(), listener, staff, "").await?;
        let client = Client::new(&format!("http://{}", embedded.address()))?;
        tokio::time::timeout(JOIN, embedded.simulated_are_there())
            .await
            .map_err(|_| Failure::Setup(format!("the simulated endpoints were not there within {JOIN:?}")))?;
        Ok(Self { embedded, client, files })
    }

    async fn rehearse(
        &self,
        global: &Global,
        document: &Json,
        groups: &BTreeMap<GroupName, String>,
        args: &RehearseRollout,
    ) -> Result<Code, Failure> {
        for (name, selector) in groups {
            self.client
                .write_group(name, &GroupChange { selectors: OneOrMany::One(selector.clone()) })
                .await?;
        }
        let (rollout, _) = self.client.submit_rollout(document).await?;
        let rehearsed = tokio::time::timeout(args.limit, self.follow(global, &rollout, args.faster)).await;
        let rollout = match rehearsed {
            Ok(rollout) => rollout?,
            Err(_) => self.client.rollout(&rollout.identifier, None, false).await?,
        };
        let bad = bad(&self.client, &rollout).await?;
        show(global.json, &rollout, |screen| rollout_view::outcome(&rollout, &bad, screen))?;
        Ok(verdict_on_rollout(&rollout).unwrap_or(Code::TimedOut))
    }

    /// Tells what happens until the rollout has ended or somebody would have to decide.
    async fn follow(&self, global: &Global, rollout: &Rollout, faster: u32) -> Result<Rollout, Failure> {
        let mut after = 0;
        loop {
            // First the state, so that no event of it is missed.
            let now = self.client.rollout(&rollout.identifier, None, false).await?;
            let halted = now.status == RolloutStatus::Halted && now.counts.in_flight() == 0;
            let over = now.status.is_final() || halted;
            let wait = (!over).then_some(FOLLOW);
            let events = self.client.rollout_events(&rollout.identifier, after, wait).await?.events;
            for event in &events {
                after = event.seq;
                match global.json {
                    true => print_json(event)?,
                    false => print(&line(event, rollout, faster))?,
                }
            }
            if over && events.is_empty() {
                return Ok(now);
            }
        }
    }

    async fn stop(self) {
        self.embedded.stop().await;
        drop(self.files);
    }
}

/// An event with the time since the submission, as it would be without shorter times.
fn line(event: &RolloutEvent, rollout: &Rollout, faster: u32) -> String {
    let since = event.time.since(rollout.created) * faster;
    let secs = since.as_secs();
    let at = format!("+{:02}:{:02}:{:02}", secs / 3_600, secs / 60 % 60, secs % 60);
    format!("{at}  {}\n", rollout_view::event(event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shortened_and_nobody_is_waited_for() {
        let Value::Object(mut document) = json!({
            "identifier": "kernel", "type": "update", "soak": "1h", "receive_within": "30s", "finish_within": "40m", "window": 10,
            "healthy": {"stays": "1m"}, "approval": {"before": "all"}, "windows": [{"cron": "0 22 * * *", "for": "4h"}],
            "waves": [1, {"size": "rest", "soak": "10m", "approval": "none"}], "start_at": "manual",
            "rollback": {"finish_within": "2m", "type": "downgrade"},
        }) else {
            panic!("an object")
        };
        let changes = shortened(&mut document, 60);
        assert_eq!(changes.len(), 4, "{changes:?}");
        let wanted = json!({
            "identifier": "kernel", "type": "update", "soak": "1m", "receive_within": "1s", "finish_within": "40s", "window": 10,
            "healthy": {"stays": "1s", "within": "10s"}, "waves": [1, {"size": "rest", "soak": "10s"}],
            "rollback": {"finish_within": "2s", "type": "downgrade"},
        });
        assert_eq!(Value::Object(document.clone()), wanted);
        assert_eq!(
            types_of(&document).iter().map(TaskType::as_str).collect::<Vec<_>>(),
            ["update", "downgrade"]
        );
        assert_eq!(shortened(&mut document, 1), [""; 0]);
    }

    #[test]
    fn payloads_are_passed_on_as_they_were_written() {
        let text = r#"{"payload":{"version":6.10},"probe":{"payload":[1e0]},"rollback":{"payload":6.0},"soak":"1m","waves":[1,{"probe":{"payload":1.50}}]}"#;
        let whole: Box<RawValue> = serde_json::from_str(text).expect("JSON");
        let value: Value = serde_json::from_str(text).expect("JSON");
        let written = raw(&Part { value: &value, at: String::new(), whole: &whole });
        assert_eq!(written.get(), text);
    }

    #[test]
    fn probes_are_performed_and_their_answers_are_not_compared() {
        let Value::Object(mut document) = json!({
            "identifier": "kernel", "type": "update", "probe": {"type": "check", "expect": {"/version": "6.9"}},
            "waves": [1, {"size": "rest", "probe": {"type": "look", "every": "2m"}}],
        }) else {
            panic!("an object")
        };
        let changes = shortened(&mut document, 10);
        assert_eq!(changes, ["answers of probes are not compared", "all times are 10 times shorter"]);
        let wanted = json!({
            "identifier": "kernel", "type": "update", "probe": {"type": "check", "every": "3s"},
            "waves": [1, {"size": "rest", "probe": {"type": "look", "every": "12s"}}],
        });
        assert_eq!(Value::Object(document.clone()), wanted);
        let types = types_of(&document);
        assert_eq!(types.iter().map(TaskType::as_str).collect::<Vec<_>>(), ["update", "check", "look"]);
    }
}
