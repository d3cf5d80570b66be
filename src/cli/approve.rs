//! `tasker approve`: a further person signs a task that waits for that.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

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
    #[arg(value_name = "ID", required = true, value_parser = NonEmptyStringValueParser::new())]
    pub id: String,
    /// File with the private key
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Sign without a question
    #[arg(short, long)]
    pub yes: bool,
}

pub(super) async fn run(global: &Global, args: Approve) -> Result<Code, Failure> {
    let Approve { task_type: named, id, key, yes } = args;
    let client = access::client(global)?;
    let key = SigningKey::read(&key).map_err(|error| Failure::Setup(error.to_string()))?;
    let task = client.status(&TaskName { task_type: named.clone(), id }, None, Responses::None).await?.task;
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
    if let Some(other) = [Some(&task.task_type), named.as_ref()]
        .into_iter()
        .flatten()
        .find(|task_type| **task_type != ordered.order.task_type)
    {
        return Err(Failure::Usage(format!(
            "not signed: the order is for tasks of `{}`, not of `{other}`",
            ordered.order.task_type
        )));
    }
    note(&what(&task, approval, &ordered));
    if !yes {
        confirm(global)?;
    }
    let signature = sign_order(&key, &ordered.order, &ordered.payload);
    let approved = client.approve(&task.task_type, task.id, &signature).await?;
    show(global.json, &approved, |_: Screen| came_of(&approved))?;
    Ok(Code::Ok)
}

/// What the person signs. Each row is read from the order, which the signature covers. Only who has signed
/// already is what the API says.
fn what(task: &Task, approval: &TaskApproval, Ordered { order, payload }: &Ordered) -> String {
    // The payload may be long: what it is for stands right before the question.
    let rows = [
        ("payload", visible(payload.get())),
        ("type", order.task_type.to_string()),
        ("environment", order.environment.to_string()),
        ("endpoints", endpoints(task, order)),
        ("until", clock(order.not_after)),
        (
            "signed by",
            format!(
                "{} of {} ({}), says the API",
                approval.signed.len(),
                approval.needed,
                approval.signed.join(", ")
            ),
        ),
    ];
    rows.map(|(name, value)| format!("{name:<11}  {value}")).join("\n")
}

/// The endpoints that may perform it, as far as the task names those that are signed.
fn endpoints(task: &Task, order: &Order) -> String {
    let Recipients::Listed(tags) = &order.to else { return "all".to_owned() };
    let named: BTreeSet<&str> = task
        .endpoints
        .iter()
        .filter(|name| order.to.include(order.id, name))
        .map(|name| name.as_str())
        .collect();
    let names = named.iter().copied().collect::<Vec<_>>().join(", ");
    match tags.len().saturating_sub(named.len()) {
        0 => names,
        others => format!("{names} and {others} more, which the task does not name"),
    }
}

fn confirm(global: &Global) -> Result<(), Failure> {
    if !output::can_ask(global.json) {
        return Err(Failure::Usage("nobody was asked, so nothing was signed; give --yes".to_owned()));
    }
    match output::ask("Sign it?")? {
        true => Ok(()),
        false => Err(Failure::Usage("nothing was signed".to_owned())),
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
        // The API names one endpoint that is not signed, and one twice to hide another.
        task.endpoints = vec![name("web1"), name("web9"), name("web1")];
        let approval = TaskApproval { signed: vec!["alice".into()], others: vec!["bob".into()], needed: 2 };
        let ordered = Ordered { order, payload: json(&serde_json::json!({"v": 1})) };
        assert_eq!(
            what(&task, &approval, &ordered),
            "payload      {\"v\":1}\ntype         update\nenvironment  prod\nendpoints    web1 and 1 more, which the task does not name\nuntil        2024-07-12 10:00:00Z\nsigned by    1 of 2 (alice), says the API"
        );
        let all = Order { to: Recipients::All, ..ordered.order };
        assert_eq!(endpoints(&task, &all), "all");
    }
}
