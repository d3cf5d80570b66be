//! `tasker verify`: whether all that was accepted is accounted for, on a live system.

use serde::Serialize;

use crate::client::Client;
use crate::contract::{Census, Flaw};
use crate::domain::TaskType;

use super::args::{Global, Verify};
use super::exit::Code;
use super::output::{self, Failure};
use super::{access, render};

/// What is wrong, told in full.
const FLAWS: usize = 20;

/// The sums of one type.
#[derive(Debug, Serialize)]
pub(super) struct Verified {
    #[serde(rename = "type")]
    pub(super) task_type: TaskType,
    pub(super) accepted: u64,
    pub(super) accounted: u64,
    pub(super) missing: u64,
    pub(super) expected: u64,
    pub(super) open: u64,
    pub(super) double: u64,
    pub(super) executions: u64,
    pub(super) interrupted: u64,
    pub(super) excess: u64,
    pub(super) flaws: Vec<Flaw>,
}

impl Verified {
    /// No task of a type yet.
    pub(super) fn none(task_type: TaskType) -> Self {
        let flaws = Vec::new();
        Self {
            task_type,
            accepted: 0,
            accounted: 0,
            missing: 0,
            expected: 0,
            open: 0,
            double: 0,
            executions: 0,
            interrupted: 0,
            excess: 0,
            flaws,
        }
    }

    /// Adds a page; answers where the next one begins.
    fn add(&mut self, page: Census) -> Option<String> {
        self.accepted += page.accepted;
        self.accounted += page.accounted;
        self.missing += page.missing;
        self.expected += page.expected;
        self.open += page.open;
        self.double += page.double;
        self.executions += page.executions;
        self.interrupted += page.interrupted;
        self.excess += page.excess;
        self.flaws.extend(page.flaws);
        self.flaws.truncate(FLAWS);
        page.next_cursor
    }
}

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
