//! `tasker rollout`: changing a fleet in waves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::exit::{Code, verdict_on_rollout};
use super::global::Global;
use super::output::{self, Failure, note, note_json, print, print_json, show};
use super::rollout_args::{
    ApproveRollout, EditRollout, ListRollouts, Picked, PlanRollout, RerunRollout, RolloutCommand,
    RolloutEvents, RolloutHolds, RolloutTargets, RunRollout,
};
use super::rollout_look::{bad, document, parsed};
use super::tasks::more;
use super::wait::{self, Audience, Interrupts};
use super::{access, rehearsal, rollout_view};
use crate::client::{self, Client, RolloutAction};
use crate::contract::{self, AbortRollout, PickTargets, ResumeRollout, Rollout, RolloutAllow};
use crate::domain::rollout::{RolloutStatus, TargetState};
use crate::domain::{Json, RolloutName, json};
use crate::shell;

/// How long a question for events lies at the API.
const FOLLOW: Duration = Duration::from_secs(20);

pub(super) async fn run(global: &Global, command: RolloutCommand) -> Result<Code, Failure> {
    let plain = contract::RolloutCommand::default;
    match command {
        RolloutCommand::Plan(args) => plan(global, args).await,
        RolloutCommand::Rehearse(args) => rehearsal::run(global, args).await,
        RolloutCommand::Run(args) => submit(global, args).await,
        RolloutCommand::List(args) => list(global, args).await,
        RolloutCommand::Show(args) => match args.wait {
            Some(limit) => {
                settle(global, &access::client(global)?, &args.name, limit, Interrupts::install()?).await
            }
            None => draw(global, &access::client(global)?, &args.name).await,
        },
        RolloutCommand::Watch(args) => {
            settle(global, &access::client(global)?, &args.name, None, Interrupts::install()?).await
        }
        RolloutCommand::Events(args) => events(global, args).await,
        RolloutCommand::Targets(args) => targets(global, args).await,
        RolloutCommand::Holds(args) => holds(global, args).await,
        RolloutCommand::Start(args) => ask(global, &args.name, RolloutAction::Start(plain())).await,
        RolloutCommand::Pause(args) => ask(global, &args.name, RolloutAction::Pause(plain())).await,
        RolloutCommand::Resume(args) => {
            let allow = RolloutAllow { failed: args.allow_failed, unreachable: args.allow_unreachable };
            ask(global, &args.name, RolloutAction::Resume(ResumeRollout { allow, revision: None })).await
        }
        RolloutCommand::Abort(args) => {
            ask(
                global,
                &args.name,
                RolloutAction::Abort(AbortRollout { rollback: args.rollback, revision: None }),
            )
            .await
        }
        RolloutCommand::Approve(ApproveRollout { rollout, revision }) => {
            ask(global, &rollout.name, RolloutAction::Approve(contract::RolloutCommand { revision })).await
        }
        RolloutCommand::Refuse(args) => ask(global, &args.name, RolloutAction::Refuse(plain())).await,
        RolloutCommand::Skip(args) => {
            let name = args.picked.name.clone();
            if !args.gate && args.picked.is_nobody() {
                let which = "say what to skip: --endpoints NAMES, --state STATE, --wave N, or --gate for the gate that it waits at";
                return Err(Failure::Usage(which.to_owned()));
            }
            ask(
                global,
                &name,
                RolloutAction::Skip(PickTargets { gate: args.gate, ..picked(args.picked, &[]) }),
            )
            .await
        }
        RolloutCommand::Retry(args) => {
            let name = args.picked.name.clone();
            let usual = [TargetState::Failed, TargetState::Unreachable];
            ask(global, &name, RolloutAction::Retry(picked(args.picked, &usual))).await
        }
        RolloutCommand::Edit(args) => edit(global, args).await,
        RolloutCommand::Rerun(args) => rerun(global, args).await,
    }
}

fn picked(picked: Picked, usual: &[TargetState]) -> PickTargets {
    let states = if picked.is_nobody() { usual.to_vec() } else { picked.state };
    PickTargets { endpoints: picked.endpoints, states, wave: picked.wave, gate: false, revision: None }
}

async fn plan(global: &Global, args: PlanRollout) -> Result<Code, Failure> {
    let planned = access::client(global)?.plan_rollout(&document(&args.file)?).await?;
    show(global.json, &planned, |screen| rollout_view::plan(&planned, args.endpoints, screen))?;
    Ok(Code::Ok)
}

/// Tells what to look at of a rollout that was submitted.
fn warn(rollout: &Rollout) {
    rollout.warnings.iter().for_each(output::warn);
}

/// A rollout that is waited for, as programs are told of it.
#[derive(Serialize)]
struct Begun<'a> {
    submitted: &'a RolloutName,
}

async fn submit(global: &Global, args: RunRollout) -> Result<Code, Failure> {
    let document = document(&args.file)?;
    let client = access::client(global)?;
    let interrupts = args.wait.is_some().then(Interrupts::install).transpose()?;
    let (rollout, repeated) = client.submit_rollout(&document).await?;
    warn(&rollout);
    let what = if repeated { "was there already:" } else { "submitted" };
    let begun = format!(
        "{what} {} ({} endpoints in {} waves)",
        rollout.identifier,
        rollout.size,
        rollout.waves.len()
    );
    let Some(interrupts) = interrupts else {
        show(global.json, &rollout, |_| format!("{begun}\n"))?;
        return Ok(Code::Ok);
    };
    // Before the wait: a person who interrupts it must know the name of the rollout.
    match global.json {
        true => note_json(&Begun { submitted: &rollout.identifier }),
        false => note(&begun),
    }
    settle(global, &client, &rollout.identifier, args.wait.flatten(), interrupts).await
}

/// Waits and shows what there is then.
async fn settle(
    global: &Global,
    client: &Client,
    name: &RolloutName,
    limit: Option<Duration>,
    mut interrupts: Interrupts,
) -> Result<Code, Failure> {
    let outcome = async {
        let ask = async |wait: Duration| client.rollout(name, Some(wait), true).await;
        Ok(wait::until_settled(ask, limit, Audience::of(global.json)).await?)
    };
    let code = match interrupts.unless_one(outcome).await? {
        Ok(code) => {
            draw(global, client, name).await?;
            code
        }
        Err(code) => code,
    };
    let (name, api) = (shell::word(name.as_str()), access::flags(global));
    let commands = [format!("tasker rollout watch {name}{api}"), format!("tasker rollout abort {name}{api}")];
    wait::say_it_goes_on(global.json, "rollout", code, &commands);
    Ok(code)
}

async fn draw(global: &Global, client: &Client, name: &RolloutName) -> Result<Code, Failure> {
    let rollout = client.rollout(name, None, false).await?;
    let bad = bad(client, &rollout).await?;
    show(global.json, &rollout, |screen| rollout_view::rollout(&rollout, &bad, screen))?;
    Ok(verdict_on_rollout(&rollout).unwrap_or(Code::Ok))
}

/// What people read when there are no rollouts, and when none fits the filters.
const NONE: &str = "no rollouts: `tasker rollout run FILE` makes one";
const NONE_SUCH: &str = "no such rollouts: `tasker rollout list` without filters shows all";

async fn list(global: &Global, args: ListRollouts) -> Result<Code, Failure> {
    let filtered = !args.status.is_empty() || args.page.cursor.is_some();
    let page =
        access::client(global)?.rollouts(&args.status, Some(args.page.limit), args.page.cursor).await?;
    let none = page.rollouts.is_empty().then_some(if filtered { NONE_SUCH } else { NONE });
    output::list(global.json, &page, none, |screen| rollout_view::rollouts(&page.rollouts, screen))?;
    more(global, page.next_cursor.as_deref());
    Ok(Code::Ok)
}

async fn targets(global: &Global, args: RolloutTargets) -> Result<Code, Failure> {
    let RolloutTargets { name, state, wave, page } = args;
    let query = client::RolloutTargets { states: state, wave, limit: Some(page.limit), cursor: page.cursor };
    let page = access::client(global)?.rollout_targets(&name, &query).await?;
    let none = page.targets.is_empty().then_some("no such endpoints");
    output::list(global.json, &page, none, |screen| rollout_view::targets(&page.targets, screen))?;
    more(global, page.next_cursor.as_deref());
    Ok(Code::Ok)
}

async fn events(global: &Global, args: RolloutEvents) -> Result<Code, Failure> {
    let client = access::client(global)?;
    let mut after = args.after;
    let mut wait = None;
    loop {
        let events = client.rollout_events(&args.name, after, wait).await?.events;
        for event in &events {
            after = event.seq;
            match global.json {
                true => print_json(event)?,
                false => print(&rollout_view::events(std::slice::from_ref(event)))?,
            }
        }
        if !events.is_empty() {
            continue;
        }
        if !args.follow || client.rollout(&args.name, None, false).await?.status.is_final() {
            return Ok(Code::Ok);
        }
        wait = Some(FOLLOW);
    }
}

async fn holds(global: &Global, args: RolloutHolds) -> Result<Code, Failure> {
    let client = access::client(global)?;
    if let Some((lane, endpoint)) = args.free {
        let freed = client.free_rollout_hold(&lane, &endpoint).await?;
        let text = if freed.freed { "is free now" } else { "was not held" };
        show(global.json, &freed, |_| format!("{endpoint} {text} in lane {lane}\n"))?;
        return Ok(Code::Ok);
    }
    let page = client.rollout_holds(1_000).await?;
    let none = page.holds.is_empty().then_some("no rollout has an endpoint in flight");
    output::list(global.json, &page, none, |screen| rollout_view::holds(&page.holds, screen))?;
    Ok(Code::Ok)
}

/// Asks something of a rollout and shows it as it stands then.
async fn ask(global: &Global, name: &RolloutName, action: RolloutAction) -> Result<Code, Failure> {
    let rollout = access::client(global)?.ask_rollout(name, &action).await?;
    warn(&rollout);
    show(global.json, &rollout, |screen| {
        rollout_view::heading(&rollout, screen) + "\n" + &rollout_view::summary(&rollout) + "\n"
    })?;
    let what = match action {
        RolloutAction::Retry(_) => "the endpoints are to be retried",
        RolloutAction::Skip(_) => "skipped",
        _ => return Ok(Code::Ok),
    };
    if matches!(rollout.status, RolloutStatus::Halted | RolloutStatus::Paused) && !global.json {
        let (name, api) = (shell::word(name.as_str()), access::flags(global));
        note(&format!("{what}; next: tasker rollout resume {name}{api}"));
    }
    Ok(Code::Ok)
}

async fn edit(global: &Global, args: EditRollout) -> Result<Code, Failure> {
    let EditRollout { name, file, set, revision } = args;
    let no_object = || {
        Failure::Usage(
            "the changes must be an object: members of the document with their new values".to_owned(),
        )
    };
    let mut changes: BTreeMap<String, Json> = match &file {
        Some(file) => serde_json::from_str(document(file)?.get()).map_err(|_| no_object())?,
        None => BTreeMap::new(),
    };
    let mut given = BTreeSet::new();
    for (member, value) in set {
        let value = parsed(&value, &format!("--set {member}"))?;
        if !given.insert(member.clone()) {
            return Err(Failure::Usage(format!("`--set {member}` is given twice")));
        }
        changes.insert(member, value);
    }
    let client = access::client(global)?;
    let revision = match revision {
        Some(revision) => revision,
        None => client.rollout(&name, None, false).await?.revision,
    };
    changes.insert("revision".to_owned(), json(&revision));
    let rollout = client.edit_rollout(&name, &changes).await?;
    show(global.json, &rollout, |screen| rollout_view::rollout(&rollout, &[], screen))?;
    Ok(Code::Ok)
}

async fn rerun(global: &Global, args: RerunRollout) -> Result<Code, Failure> {
    let RerunRollout { name, identifier, only } = args;
    let action = RolloutAction::Rerun(contract::RerunRollout { identifier, only });
    let rollout = access::client(global)?.ask_rollout(&name, &action).await?;
    warn(&rollout);
    let begun = format!(
        "submitted {} ({} endpoints in {} waves)\n",
        rollout.identifier,
        rollout.size,
        rollout.waves.len()
    );
    show(global.json, &rollout, |_| begun)?;
    Ok(Code::Ok)
}
