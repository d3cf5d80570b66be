//! `tasker approve`: a further person signs a task that waits for that.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;

use super::access;
use super::exit::Code;
use super::global::Global;
use super::output::{self, Failure, note, show};
use super::render::{clock, visible};
use super::table::Screen;
use crate::client::TaskName;
use crate::contract::{Approved, Responses, Task, TaskApproval};
use crate::domain::{Order, Ordered, Recipients, TaskType};
use crate::signing::{SigningKey, sign_order};

/// `tasker approve`.
#[derive(Debug, Clone, Args)]
#[command(allow_missing_positional = true)]
pub struct Approve {
    /// Task type
    #[arg(value_name = "TYPE")]
    pub task_type: Option<TaskType>,
    /// Identifier or task id
    #[arg(value_name = "ID", required = true)]
    pub id: String,
    /// File with the private key
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Sign without a question
    #[arg(short, long)]
    pub yes: bool,
}

pub(super) async fn run(global: &Global, args: Approve) -> Result<Code, Failure> {
    let Approve { task_type, id, key, yes } = args;
    let client = access::client(global)?;
    let key = SigningKey::read(&key).map_err(|error| Failure::Setup(error.to_string()))?;
    let task = client.status(&TaskName { task_type, id }, None, Responses::None).await?.task;
    let Some(approval) = &task.approval else {
        return Err(Failure::Usage(format!(
            "{} {} is {} and waits for no approval",
            task.task_type,
            visible(task.identifier.as_str()),
            task.status.as_str()
        )));
    };
    let ordered = Ordered::read(&task.payload)
        .map_err(|error| Failure::Usage(format!("the task has no order that could be signed: {error}")))?;
    if ordered.order.task_type != task.task_type {
        return Err(Failure::Usage(format!(
            "the order is for tasks of `{}`, and the API has put it into one of `{}`: it is not signed",
            ordered.order.task_type, task.task_type
        )));
    }
    // What is shown is what is signed, whatever the API says of it.
    if !yes {
        note(&what(&task, approval, &ordered));
        confirm(global)?;
    }
    let signature = sign_order(&key, &ordered.order, &ordered.payload);
    let approved = client.approve(&task.task_type, task.id, &signature).await?;
    show(global.json, &approved, |_: Screen| came_of(&approved))?;
    Ok(Code::Ok)
}

/// What is to be signed.
fn what(task: &Task, approval: &TaskApproval, Ordered { order, payload }: &Ordered) -> String {
    let rows = [
        ("type", order.task_type.to_string()),
        ("environment", order.environment.to_string()),
        ("endpoints", endpoints(task, order)),
        ("until", clock(order.not_after)),
        ("signed by", format!("{} ({} are needed)", approval.signed.join(", "), approval.needed)),
        ("payload", visible(payload.get())),
    ];
    rows.map(|(name, value)| format!("{name:<11}  {value}")).join("\n")
}

/// The endpoints that may perform it, as far as the task names those that are signed.
fn endpoints(task: &Task, order: &Order) -> String {
    let Recipients::Listed(tags) = &order.to else { return "all".to_owned() };
    let named: Vec<&str> = task
        .endpoints
        .iter()
        .filter(|name| order.to.include(order.id, name))
        .map(|name| name.as_str())
        .collect();
    match tags.len().saturating_sub(named.len()) {
        0 => named.join(", "),
        others => format!("{} and {others} more, which the task does not name", named.join(", ")),
    }
}

fn confirm(global: &Global) -> Result<(), Failure> {
    if global.json || !io::stdin().is_terminal() || !output::is_watched() {
        return Err(Failure::Usage("nobody was asked, so nothing was signed; give --yes".to_owned()));
    }
    eprint!("Sign it? [y/N] ");
    // Lost only where nobody could read it.
    _ = io::stderr().flush();
    match &*output::answer()? {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Usage("nothing was signed".to_owned())),
    }
}

fn came_of(Approved { identifier, task_type, approval, .. }: &Approved) -> String {
    let what = match approval.is_complete() {
        true => "it waits no longer",
        false => "it waits for others",
    };
    format!("{task_type} {}: {}; {what}\n", visible(identifier.as_str()), told(approval))
}

/// How far a task is approved.
pub(super) fn told(TaskApproval { signed, needed, .. }: &TaskApproval) -> String {
    format!("{} of {needed} persons have signed ({})", signed.len(), signed.join(", "))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{EndpointName, Timestamp, json};

    #[test]
    fn what_is_signed_is_shown() {
        let name = |text: &str| text.parse::<EndpointName>().expect("a name");
        let id = Uuid::from_u128(7);
        let order = Order {
            id,
            environment: "prod".parse().expect("a name"),
            task_type: "update".parse().expect("a type"),
            not_after: Timestamp::from_micros(1_720_778_400_000_000),
            to: Recipients::of(id, &[name("web1"), name("web2")]),
            signatures: vec![],
        };
        let mut task = crate::cli::examples::task();
        // The API names one endpoint that is not signed, and hides one that is.
        task.endpoints = vec![name("web1"), name("web9")];
        let approval = TaskApproval { signed: vec!["alice".into()], others: vec!["bob".into()], needed: 2 };
        let ordered = Ordered { order, payload: json(&serde_json::json!({"v": 1})) };
        assert_eq!(
            what(&task, &approval, &ordered),
            "type         update\nenvironment  prod\nendpoints    web1 and 1 more, which the task does not name\nuntil        2024-07-12 10:00:00Z\nsigned by    alice (2 are needed)\npayload      {\"v\":1}"
        );
        let all = Order { to: Recipients::All, ..ordered.order };
        assert_eq!(endpoints(&task, &all), "all");
    }
}
