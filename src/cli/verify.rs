//! `tasker verify`: whether all that was accepted is accounted for, on a live system.

use crate::client::Client;
use crate::domain::TaskType;

use super::args::{Global, Verify};
use super::exit::Code;
use super::output::{self, Failure};
use super::verified::Verified;
use super::{access, render};

pub(super) async fn run(global: &Global, args: Verify) -> Result<Code, Failure> {
    let client = access::client(global)?;
    let types = if args.task_types.is_empty() { client.index().await?.task_types } else { args.task_types.clone() };
    let mut verified = Vec::new();
    for task_type in types {
        verified.push(add_up(&client, task_type, &args).await?);
    }
    output::show(global.json, &verified, |screen| render::verified(&verified, screen))?;
    let good = |sum: &Verified| sum.missing == 0 && sum.double == 0 && sum.excess == 0 && (!args.ended || sum.open == 0);
    Ok(if verified.iter().all(good) { Code::Ok } else { Code::SomeFailed })
}

/// The sums of all pages.
async fn add_up(client: &Client, task_type: TaskType, args: &Verify) -> Result<Verified, Failure> {
    let mut sum = Verified::none(task_type);
    let mut cursor = None;
    loop {
        cursor = sum.add(client.census(&sum.task_type, args.since, args.until, cursor).await?);
        if cursor.is_none() {
            return Ok(sum);
        }
    }
}
