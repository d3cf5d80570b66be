//! What a document of a rollout asks for, with all defaults filled in.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::{
    EndpointName, GroupName, Groups, Json, RolloutName, Selector, TaskType, Timestamp, TokenName,
};

/// A number, or a percentage of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Amount {
    /// So many.
    Count(u32),
    /// So many hundredths of a percent.
    Percent(u32),
}

impl Amount {
    /// How many that is of a whole, rounded up.
    pub fn rounded_up(self, whole: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(part) => of(whole, part, 9_999),
        }
    }

    /// How many that is of a whole, rounded down.
    pub fn rounded_down(self, whole: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(part) => of(whole, part, 0),
        }
    }

    /// Places of a window for so many targets: rounded down, at least 1, no more than there are targets.
    pub fn places(self, targets: u32) -> u32 {
        self.rounded_down(targets).clamp(1, targets.max(1))
    }
}

fn of(whole: u32, part: u32, add: u64) -> u32 {
    u32::try_from((u64::from(whole) * u64::from(part) + add) / 10_000).unwrap_or(u32::MAX)
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(part) if part % 100 == 0 => write!(f, "{}%", part / 100),
            Self::Percent(part) => write!(f, "{}.{:02}%", part / 100, part % 100),
        }
    }
}

/// A document with all defaults filled in.
#[derive(Debug, Clone)]
pub struct RolloutTerms {
    /// The customer's name for it.
    pub identifier: RolloutName,
    /// The type of its tasks.
    pub task_type: TaskType,
    /// What every task carries.
    pub payload: Json,
    /// An endpoint is in one rollout of a lane at a time.
    pub lane: String,
    /// What it changes, where that is said: of one thing the newest rollout of a lane has the last word.
    pub subject: Option<String>,
    /// Whom it is for.
    pub targets: RolloutTargets,
    /// How its targets in flight are spread over failure domains.
    pub spread: Option<Spread>,
    /// Its waves, in their order. `rest` is implied.
    pub waves: Vec<WaveOf>,
    /// Whether the document has its own waves: of those, none may be empty.
    pub own_waves: bool,
    /// Targets that may fail in all.
    pub failed: Option<Amount>,
    /// Targets that may be unreachable in all.
    pub unreachable: Option<Amount>,
    /// What holds for the whole of it.
    pub settings: RolloutSettings,
    /// When it starts.
    pub start: Start,
    /// After how long it is given up.
    pub expires_after: Duration,
}

impl RolloutTerms {
    /// The groups that are named, in `groups` or in a selector, each with the place where it is.
    pub fn groups_named(&self) -> impl Iterator<Item = (String, &GroupName)> {
        let targets = &self.targets;
        let lists =
            [("/targets/groups", &targets.groups), ("/targets/exclude/groups", &targets.without_groups)];
        let listed = lists.into_iter().flat_map(|(at, names)| {
            names.iter().enumerate().map(move |(n, name)| (format!("{at}/{n}"), name))
        });
        let mut selectors: Vec<(String, &[Selector])> = vec![
            ("/targets/match".into(), &targets.selectors),
            ("/targets/exclude/match".into(), &targets.without_selectors),
        ];
        for (at, wave) in self.waves.iter().enumerate() {
            if let Part::Match(of_wave) = &wave.part {
                selectors.push((format!("/waves/{at}/match"), of_wave));
            }
        }
        selectors.extend(of_waves(&self.waves, "probe/on", |wave| match &wave.terms.probe {
            Some(Probe { on: ProbeOn::Match(selectors), .. }) => Some((wave.own.probe, selectors.as_slice())),
            _ => None,
        }));
        selectors.extend(of_waves(&self.waves, "healthy", |wave| {
            wave.terms.healthy.as_ref().map(|healthy| (wave.own.healthy, healthy.selectors.as_slice()))
        }));
        if let Some(healthy) = self.settings.rollback.as_ref().and_then(|rollback| rollback.healthy.as_ref())
        {
            selectors.push(("/rollback/healthy/match".to_owned(), &healthy.selectors));
        }
        let mut named: Vec<(String, &GroupName)> = listed.collect();
        for (at, selectors) in selectors {
            named.extend(selectors.iter().flat_map(Selector::groups).map(|name| (at.clone(), name)));
        }
        named.into_iter()
    }

    /// The same with the selectors of groups in the place of their names.
    ///
    /// # Errors
    /// The first group that is not among `groups`.
    pub fn with_groups(mut self, groups: &Groups) -> Result<Self, GroupName> {
        let all = |selectors: &mut Vec<Selector>| -> Result<(), GroupName> {
            *selectors =
                selectors.iter().map(|selector| selector.with_groups(groups)).collect::<Result<_, _>>()?;
            Ok(())
        };
        let of = |names: &[GroupName]| -> Result<Vec<Selector>, GroupName> {
            names.iter().map(|name| groups.get(name).cloned().ok_or_else(|| name.clone())).collect()
        };
        let targets = &mut self.targets;
        (targets.in_groups, targets.without_in_groups) = (of(&targets.groups)?, of(&targets.without_groups)?);
        all(&mut targets.selectors)?;
        all(&mut targets.without_selectors)?;
        for wave in &mut self.waves {
            if let Part::Match(selectors) = &mut wave.part {
                all(selectors)?;
            }
            if let Some(healthy) = &mut wave.terms.healthy {
                all(&mut healthy.selectors)?;
            }
            if let Some(Probe { on: ProbeOn::Match(selectors), .. }) = &mut wave.terms.probe {
                all(selectors)?;
            }
        }
        if let Some(healthy) = self.settings.rollback.as_mut().and_then(|rollback| rollback.healthy.as_mut())
        {
            all(&mut healthy.selectors)?;
        }
        Ok(self)
    }
}

/// The selectors that waves have under a member, each with the place where it is. Waves without a member of
/// their own all have that of the whole.
fn of_waves<'a>(
    waves: &'a [WaveOf],
    member: &str,
    selectors: impl Fn(&'a WaveOf) -> Option<(bool, &'a [Selector])>,
) -> Vec<(String, &'a [Selector])> {
    let (mut whole, mut found) = (false, Vec::new());
    for (at, wave) in waves.iter().enumerate() {
        match selectors(wave) {
            Some((true, own)) => found.push((format!("/waves/{at}/{member}/match"), own)),
            Some((false, of_all)) if !whole => {
                whole = true;
                found.push((format!("/{member}/match"), of_all));
            }
            _ => {}
        }
    }
    found
}

/// What holds for the whole of a rollout. Kept with it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RolloutSettings {
    /// What a breach of a budget or a gate does.
    pub on_breach: OnBreach,
    /// What becomes of what has started when the rollout stops.
    #[serde(default)]
    pub in_flight: InFlightOnStop,
    /// What becomes of endpoints that come back late.
    pub catch_up: CatchUp,
    /// For how long they are waited for.
    pub catch_up_for: Duration,
    /// When targets may be started; empty means always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<MaintenanceWindow>,
    /// How it is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
}

/// How a rollout is undone: by another one of a single wave, without budgets and windows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rollback {
    /// The type of its tasks.
    pub task_type: TaskType,
    /// What every task carries.
    pub payload: Json,
    /// Which endpoints it is for.
    pub on: RollbackOn,
    /// Endpoints in flight at the same time at most; rounded down, at least 1.
    pub window: Amount,
    /// The time in which an endpoint must receive its task.
    pub receive_within: Duration,
    /// The time in which it must finish then.
    pub finish_within: Duration,
    /// What it must show after it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<Healthy>,
}

/// Which endpoints of a rollout are rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RollbackOn {
    /// All that have received a task of it.
    #[default]
    Changed,
    /// Of those the failed ones.
    Failed,
}

impl RollbackOn {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Changed, Self::Failed];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Failed => "failed",
        }
    }
}

/// A time in which targets may be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceWindow {
    /// When it begins: a cron pattern.
    pub cron: String,
    /// How long it lasts.
    pub lasts: Duration,
    /// By the clocks of where: a name of the IANA database.
    pub time_zone: String,
    /// How long before its end nothing starts any more.
    pub stop_before_end: Duration,
}

/// Whom a rollout is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RolloutTargets {
    /// These, by name.
    pub endpoints: Vec<EndpointName>,
    /// Those for whom each of these holds.
    pub selectors: Vec<Selector>,
    /// Those in these groups.
    pub groups: Vec<GroupName>,
    /// The selectors of these groups, once they are looked up.
    pub in_groups: Vec<Selector>,
    /// Not these.
    pub without: Vec<EndpointName>,
    /// None of those for whom each of these holds.
    pub without_selectors: Vec<Selector>,
    /// None of those in these groups.
    pub without_groups: Vec<GroupName>,
    /// The selectors of these groups, once they are looked up.
    pub without_in_groups: Vec<Selector>,
    /// The percentage of those that the rollout is for, rounded up. 1 to 100.
    pub percent: u8,
    /// In which order their turns come.
    pub order: Order,
    /// Decides the order, and whom `percent` leaves.
    pub seed: String,
    /// More are refused.
    pub max: Option<u32>,
    /// With more that are away it does not start.
    pub max_absent: Option<Amount>,
}

/// How many targets of one failure domain may be in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// Targets with equal values of these labels are of one domain.
    pub by: Vec<String>,
    /// So many of a domain, rounded down, at least 1; none for any number.
    pub max_in_flight: Option<Amount>,
}

/// In which order the turns of targets come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Mixed, as the seed says.
    #[default]
    Seeded,
    /// By name.
    Name,
    /// As the document lists them.
    Given,
}

/// A wave as a document has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveOf {
    /// What it is called.
    pub name: Option<String>,
    /// Who is in it.
    pub part: Part,
    /// How it runs.
    pub terms: WaveTerms,
    /// What of that is its own.
    pub own: Own,
}

/// Which members a wave has itself; the others are those of the whole document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Own {
    /// Its `healthy`.
    pub healthy: bool,
    /// Its `approval`.
    pub approval: bool,
    /// Its `probe`.
    pub probe: bool,
}

/// Which targets are in a wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The next of them: of all, rounded up.
    Size(Amount),
    /// These.
    Endpoints(Vec<EndpointName>),
    /// Those for whom each of these holds.
    Match(Vec<Selector>),
    /// All that are left.
    Rest,
}

/// How a wave runs. Kept with the wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveTerms {
    /// Targets in flight at the same time at most, of the wave; rounded down, at least 1.
    pub window: Amount,
    /// The time in which a target must receive its task.
    pub receive_within: Duration,
    /// The time in which it must finish then.
    pub finish_within: Duration,
    /// What it must show after it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<Healthy>,
    /// Targets of the wave that may fail.
    pub failed: Option<Amount>,
    /// Targets of the wave that may be unreachable.
    pub unreachable: Option<Amount>,
    /// How long to wait after the wave.
    pub soak: Duration,
    /// What is tried after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// Who must agree before it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
}

/// What an endpoint must show after it succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthy {
    /// How long it must be there without a break, as one process.
    pub stays: Duration,
    /// By when.
    pub within: Duration,
    /// What must hold for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selectors: Vec<Selector>,
}

impl Healthy {
    /// By when, where a document does not say.
    pub const WITHIN: Duration = Duration::from_secs(600);
}

/// A check of what a wave has done: a task of its own that must succeed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Probe {
    /// The type of its tasks.
    pub task_type: TaskType,
    /// What each of them carries.
    pub payload: Json,
    /// Who performs them.
    pub on: ProbeOn,
    /// How many of these must succeed, rounded up.
    pub ok: Amount,
    /// What an answer must have, by place (RFC 6901).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expect: BTreeMap<String, Value>,
    /// Tries that must succeed one after the other.
    pub passes: u32,
    /// The gate fails with so many tries that did not.
    pub tries: u32,
    /// The time between two tries.
    pub every: Duration,
    /// The time in which an endpoint must receive the task of a try.
    pub receive_within: Duration,
    /// The time in which it must finish then.
    pub finish_within: Duration,
}

impl Probe {
    /// The time between two tries, where a document does not say.
    pub const EVERY: Duration = Duration::from_secs(30);
}

impl PartialEq for Probe {
    fn eq(&self, other: &Self) -> bool {
        let parts = |probe: &Self| {
            let Self {
                task_type,
                payload,
                on,
                ok,
                expect,
                passes,
                tries,
                every,
                receive_within,
                finish_within,
            } = probe.clone();
            let payload = payload.get().to_owned();
            ((task_type, payload, on, ok, expect), (passes, tries, every, receive_within, finish_within))
        };
        parts(self) == parts(other)
    }
}

impl Eq for Probe {}

/// Who performs the tasks of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeOn {
    /// The targets of the wave that have succeeded.
    Wave,
    /// The targets of this wave and those before it that have succeeded.
    Done,
    /// The endpoints that are there and for whom each of these holds.
    Match(Vec<Selector>),
}

/// Who must agree before a wave begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// How many.
    pub count: u32,
    /// Only these; empty means all whose token has the scope `approve`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<TokenName>,
    /// Not the one who made the rollout.
    pub not_creator: bool,
    /// By when.
    pub within: Duration,
    /// What happens otherwise.
    pub otherwise: OnBreach,
}

/// What a breach of a budget or a gate does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBreach {
    /// Nothing new starts until somebody decides.
    #[default]
    Halt,
    /// The rollout is given up.
    Abort,
    /// The rollout is given up, and what it has changed is undone.
    Rollback,
}

impl OnBreach {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Halt, Self::Abort, Self::Rollback];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Halt => "halt",
            Self::Abort => "abort",
            Self::Rollback => "rollback",
        }
    }
}

/// What becomes of what has started when a rollout stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InFlightOnStop {
    /// It finishes.
    #[default]
    Finish,
    /// It is canceled.
    Stop,
}

impl InFlightOnStop {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Finish, Self::Stop];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finish => "finish",
            Self::Stop => "stop",
        }
    }
}

/// What becomes of endpoints that come back late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// They are started when they return, unless a newer rollout of the lane has begun.
    #[default]
    Latest,
    /// They are started when they return.
    Run,
    /// They are left out.
    Skip,
}

impl CatchUp {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Latest, Self::Run, Self::Skip];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Run => "run",
            Self::Skip => "skip",
        }
    }
}

/// When a rollout starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At once.
    Now,
    /// At this time.
    At(Timestamp),
    /// When somebody says so.
    Manual,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_round_as_they_say() {
        for (amount, whole, up, down, text) in [
            (Amount::Count(7), 3, 7, 7, "7"),
            (Amount::Percent(500), 100, 5, 5, "5%"),
            (Amount::Percent(500), 101, 6, 5, "5%"),
            (Amount::Percent(500), 1, 1, 0, "5%"),
            (Amount::Percent(50), 1000, 5, 5, "0.50%"),
            (Amount::Percent(10_000), u32::MAX, u32::MAX, u32::MAX, "100%"),
            (Amount::Percent(1), 0, 0, 0, "0.01%"),
        ] {
            assert_eq!(
                (amount.rounded_up(whole), amount.rounded_down(whole), amount.to_string()),
                (up, down, text.to_owned())
            );
        }
    }
}
