//! Which endpoints a submission is for: the choice of its target, and the answer to those who only want to
//! know.

use std::sync::Arc;

use super::problem::Problem;
use super::{Api, heard};
use crate::config::TypePolicy;
use crate::contract::{LeftOutEndpoint, Preview, ProblemCode, ProblemItem};
use crate::domain::likeness::{self, quoted};
use crate::domain::{
    Attendance, Choice, EndpointName, GroupName, Groups, Identifier, LeftOut, Member, NewTask, ReasonCode,
    Target,
};

/// Names in a refusal at most.
const MOST: usize = 5;

/// Whom a target chooses among the endpoints of a type, and what is odd about its exclusions.
///
/// # Errors
/// [`ProblemCode::InvalidSubmission`] when it chooses nobody.
pub async fn choose(
    api: &Api,
    policy: &TypePolicy,
    members: &[Member],
    target: &Target,
    identifier: &Identifier,
) -> Result<(Vec<EndpointName>, Vec<String>), Problem> {
    let choice = chosen(api, policy, target, members, identifier).await?;
    if choice.chosen.is_empty() {
        let item = ProblemItem::new("/match", nobody(policy, &choice, members.len()));
        return Err(Problem::invalid(ProblemCode::InvalidSubmission, vec![item]));
    }
    Ok((choice.chosen, choice.odd))
}

/// Whom a submission would be for.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn preview(api: &Api, policy: &TypePolicy, task: &NewTask) -> Result<Preview, Problem> {
    let members = members(api, policy).await?;
    let mut warnings = Vec::new();
    let choice = match &task.target {
        Some(target) => chosen(api, policy, target, &members, &task.identifier).await?,
        None if task.endpoints.is_empty() => {
            chosen(api, policy, &Target::default(), &members, &task.identifier).await?
        }
        None => {
            warnings = api.heard.warnings(&task.endpoints).await;
            let mut chosen = task.endpoints.clone();
            chosen.sort_unstable();
            let (named, others): (Vec<_>, Vec<_>) =
                members.iter().partition(|member| chosen.binary_search(&member.name).is_ok());
            let away = named.iter().filter(|member| member.attendance != Attendance::Subscribed);
            let told =
                |member: &Member| format!("endpoint {} is not subscribed now", quoted(member.name.as_str()));
            warnings.extend(heard::few(away.copied(), told, "are not subscribed now"));
            Choice { chosen, unmatched: others.len(), ..Choice::default() }
        }
    };
    warnings.extend(choice.odd.iter().cloned());
    if task.target.is_some() && choice.chosen.is_empty() {
        warnings.push(nobody(policy, &choice, members.len()));
    }
    let chosen = |member: &&Member| choice.chosen.binary_search(&member.name).is_ok();
    let troubled =
        members.iter().filter(chosen).filter_map(|member| Some((&member.name, member.trouble.as_ref()?)));
    let troubled = troubled.filter(|(_, trouble)| ReasonCode::of_trouble(trouble).hinders());
    let told = |(name, trouble): (&EndpointName, &String)| {
        format!("endpoint {} takes no tasks now: {trouble}", quoted(name.as_str()))
    };
    warnings.extend(heard::few(troubled, told, "take no tasks now"));
    Ok(Preview {
        task_type: policy.name.clone(),
        endpoints: choice.chosen,
        left_out: choice
            .left_out
            .into_iter()
            .map(|(name, reason)| LeftOutEndpoint { name, reason })
            .collect(),
        unmatched: choice.unmatched,
        confirm_above: api.state.config.api.confirm_above,
        warnings,
    })
}

/// How many endpoints a task without a list is for, as it stands.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn everybody(api: &Api, policy: &TypePolicy, task: &NewTask) -> Result<usize, Problem> {
    let members = members(api, policy).await?;
    Ok(chosen(api, policy, &Target::default(), &members, &task.identifier).await?.chosen.len())
}

/// The choice of a target, with those that it leaves out.
///
/// # Errors
/// [`ProblemCode::InvalidSubmission`] when it names a group that is not stored.
async fn chosen(
    api: &Api,
    policy: &TypePolicy,
    target: &Target,
    members: &[Member],
    identifier: &Identifier,
) -> Result<Choice, Problem> {
    let groups = if target.groups_named().next().is_some() { groups(api).await? } else { Groups::new() };
    let unknown = |name: GroupName| {
        let place = match target.groups.iter().position(|group| *group == name) {
            Some(place) => format!("/groups/{place}"),
            None if target.selectors.iter().any(|selector| selector.groups().contains(&&name)) => {
                "/match".to_owned()
            }
            None => "/exclude".to_owned(),
        };
        Problem::invalid(
            ProblemCode::InvalidSubmission,
            vec![ProblemItem::new(place, unknown_group(&name, &groups))],
        )
    };
    target.choose(members, &groups, policy.expect, identifier.as_str()).map_err(unknown)
}

/// The stored groups.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn groups(api: &Api) -> Result<Groups, Problem> {
    let store = Arc::clone(&api.state.store);
    api.run(async move { store.group_selectors().await }).await
}

/// What to say of a group that is not stored.
pub fn unknown_group(name: &GroupName, groups: &Groups) -> String {
    likeness::unknown("group", name.as_str(), "stored", groups.keys().map(GroupName::as_str)).text
}

/// All endpoints known for a type.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn members(api: &Api, policy: &TypePolicy) -> Result<Vec<Member>, Problem> {
    let (store, task_type) = (Arc::clone(&api.state.store), policy.name.clone());
    api.run(async move { store.members(&task_type).await }).await
}

/// Why nobody is chosen.
fn nobody(policy: &TypePolicy, choice: &Choice, known: usize) -> String {
    let text = format!("chooses none of the {known} endpoints known for `{}`", policy.name);
    let of = |reason: LeftOut, words: &str| {
        let names: Vec<_> =
            choice.left_out.iter().filter(|(_, why)| *why == reason).map(|(name, _)| name.as_str()).collect();
        let more = if names.len() > MOST { ", ..." } else { "" };
        (!names.is_empty())
            .then(|| format!("{} {words} ({}{more})", names.len(), names[..names.len().min(MOST)].join(", ")))
    };
    let reasons = [
        of(LeftOut::NotSubscribed, "that it matches are stopped"),
        of(LeftOut::NoHandler, "have no handler for the type"),
        of(LeftOut::Excluded, "are excluded"),
    ];
    let reasons: Vec<String> = reasons.into_iter().flatten().chain(choice.unknown_label.clone()).collect();
    if reasons.is_empty() { text } else { format!("{text}: {}", reasons.join(", ")) }
}
