//! `tasker verify`: whether all that was accepted is accounted for, on a live system.

use serde::Serialize;

use crate::domain::TaskType;

use super::args::{Global, Verify};
use super::client::{Census, Client};
use super::exit::Code;
use super::output::{Failure, print, print_json};
use super::table::Screen;
use super::{access, render};

/// What is wrong, told in full.
const FLAWS: usize = 20;

/// The sums of one type.
#[derive(Debug, Serialize)]
pub(super) struct Verified {
    #[serde(rename = "type")]
    pub(super) task_type: TaskType,
    #[serde(flatten)]
    pub(super) census: Census,
}

pub(super) async fn run(global: &Global, args: Verify) -> Result<Code, Failure> {
    let client = access::client(global)?;
    let types = if args.task_types.is_empty() { client.task_types().await? } else { args.task_types.clone() };
    let mut verified = Vec::new();
    for task_type in types {
        let census = add_up(&client, &task_type, &args).await?;
        verified.push(Verified { task_type, census });
    }
    if global.json {
        print_json(&verified)?;
    } else {
        print(&render::verified(&verified, Screen::of_output()))?;
    }
    let good = |Verified { census, .. }: &Verified| {
        census.missing == 0 && census.double == 0 && census.excess == 0 && (!args.ended || census.open == 0)
    };
    Ok(if verified.iter().all(good) { Code::Ok } else { Code::SomeFailed })
}

/// The sums of all pages.
async fn add_up(client: &Client, task_type: &TaskType, args: &Verify) -> Result<Census, Failure> {
    let mut sum = Census::default();
    let mut cursor = None;
    loop {
        let page = client.census(task_type, args.since, args.until, cursor).await?;
        sum.accepted += page.accepted;
        sum.accounted += page.accounted;
        sum.missing += page.missing;
        sum.expected += page.expected;
        sum.open += page.open;
        sum.double += page.double;
        sum.executions += page.executions;
        sum.interrupted += page.interrupted;
        sum.excess += page.excess;
        sum.flaws.extend(page.flaws);
        sum.flaws.truncate(FLAWS);
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => return Ok(sum),
        }
    }
}
