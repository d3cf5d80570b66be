//! Which endpoints a submission is for: the choice of its target, and the answer to those who only want to know.

use std::sync::Arc;

use super::problem::Problem;
use super::{Api, heard};
use crate::config::TypePolicy;
use crate::contract::{LeftOutEndpoint, Preview, ProblemCode, ProblemItem};
use crate::domain::likeness::quoted;
use crate::domain::{Choice, EndpointName, Identifier, LeftOut, Member, NewTask, Target};

/// Names in a refusal at most.
const MOST: usize = 5;

/// Whom a target chooses now.
///
/// # Errors
/// [`ProblemCode::InvalidSubmission`] when it chooses nobody.
pub async fn choose(api: &Api, policy: &TypePolicy, target: &Target, identifier: &Identifier) -> Result<Vec<EndpointName>, Problem> {
    let members = members(api, policy).await?;
    let choice = target.choose(&members, identifier.as_str());
    if choice.chosen.is_empty() {
        let item = ProblemItem::new("/match", nobody(policy, &choice, members.len()));
        return Err(Problem::invalid(ProblemCode::InvalidSubmission, vec![item]));
    }
    Ok(choice.chosen)
}

/// Whom a submission would be for.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn preview(api: &Api, policy: &TypePolicy, task: &NewTask) -> Result<Preview, Problem> {
    let members = members(api, policy).await?;
    let mut warnings = Vec::new();
    let choice = match &task.target {
        Some(target) => target.choose(&members, task.identifier.as_str()),
        None if task.endpoints.is_empty() => Target::default().choose(&members, task.identifier.as_str()),
        None => {
            warnings = api.heard.warnings(&task.endpoints).await;
            let mut chosen = task.endpoints.clone();
            chosen.sort_unstable();
            let (named, others): (Vec<_>, Vec<_>) = members.iter().partition(|member| chosen.binary_search(&member.name).is_ok());
            let away = named.iter().filter(|member| !member.subscribed);
            let away = away.map(|member| format!("endpoint {} is not subscribed now", quoted(member.name.as_str())));
            warnings.extend(heard::few(away, "are not subscribed now"));
            Choice { chosen, unmatched: others.len(), ..Choice::default() }
        }
    };
    if task.target.is_some() && choice.chosen.is_empty() {
        warnings.push(nobody(policy, &choice, members.len()));
    }
    let chosen = |member: &&Member| choice.chosen.binary_search(&member.name).is_ok();
    let troubled = members.iter().filter(chosen).filter_map(|member| Some((&member.name, member.trouble.as_ref()?)));
    let troubled = troubled.map(|(name, trouble)| format!("endpoint {} takes no tasks now: {trouble}", quoted(name.as_str())));
    warnings.extend(heard::few(troubled, "take no tasks now"));
    Ok(Preview {
        task_type: policy.name.clone(),
        endpoints: choice.chosen,
        left_out: choice.left_out.into_iter().map(|(name, reason)| LeftOutEndpoint { name, reason }).collect(),
        unmatched: choice.unmatched,
        confirm_above: api.state.config.api.confirm_above,
        warnings,
    })
}

async fn members(api: &Api, policy: &TypePolicy) -> Result<Vec<Member>, Problem> {
    let (store, task_type) = (Arc::clone(&api.state.store), policy.name.clone());
    api.run(async move { store.members(&task_type).await }).await
}

/// Why nobody is chosen.
fn nobody(policy: &TypePolicy, choice: &Choice, known: usize) -> String {
    let text = format!("chooses none of the {known} endpoints known for `{}`", policy.name);
    let of = |reason: LeftOut, words: &str| {
        let names: Vec<_> = choice.left_out.iter().filter(|(_, why)| *why == reason).map(|(name, _)| name.as_str()).collect();
        let more = if names.len() > MOST { ", ..." } else { "" };
        (!names.is_empty()).then(|| format!("{} {words} ({}{more})", names.len(), names[..names.len().min(MOST)].join(", ")))
    };
    let reasons = [of(LeftOut::NotSubscribed, "that it matches are stopped"), of(LeftOut::Excluded, "are excluded")];
    let reasons: Vec<String> = reasons.into_iter().flatten().collect();
    if reasons.is_empty() { text } else { format!("{text}: {}", reasons.join(", ")) }
}
