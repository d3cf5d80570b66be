//! `tasker verify`: whether all that was accepted is accounted for, on a live system.

use std::fmt::Write;

use clap::Args;
use serde::Serialize;

use crate::client::Client;
use crate::contract::{Census, Flaw};
use crate::domain::{TaskType, Timestamp};

use super::access;
use super::exit::Code;
use super::global::Global;
use super::output::{self, Failure};
use super::render::visible;
use super::table::{Cell, Colour, Narrow, Screen, Table};
use super::when::ago;

/// `tasker verify`.
#[derive(Debug, Clone, Args)]
pub struct Verify {
    /// Task types [default: all that the API is configured with]
    #[arg(value_name = "TYPE")]
    pub task_types: Vec<TaskType>,
    /// Only tasks accepted since then: a time such as 2024-07-12T10:00:00Z, or a span such as 2h before now
    #[arg(long, value_name = "TIME", value_parser = ago)]
    pub since: Option<Timestamp>,
    /// Only tasks accepted before then
    #[arg(long, value_name = "TIME", value_parser = ago)]
    pub until: Option<Timestamp>,
    /// Fail while any response is open, even if it is in time
    #[arg(long)]
    pub ended: bool,
}

/// What is wrong, told in full.
const FLAWS: usize = 20;

/// The sums of one type.
#[derive(Debug, Serialize)]
struct Verified {
    #[serde(rename = "type")]
    task_type: TaskType,
    accepted: u64,
    accounted: u64,
    missing: u64,
    expected: u64,
    open: u64,
    double: u64,
    executions: u64,
    interrupted: u64,
    excess: u64,
    flaws: Vec<Flaw>,
}

impl Verified {
    /// No task of a type yet.
    fn none(task_type: TaskType) -> Self {
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
    output::show(global.json, &verified, |screen| text(&verified, screen))?;
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

/// Sums by type, what is wrong, and a verdict.
fn text(verified: &[Verified], screen: Screen) -> String {
    use Narrow::{Drop, Keep};
    let columns = [
        ("TYPE", Keep),
        ("ACCEPTED", Keep),
        ("ACCOUNTED", Keep),
        ("MISSING", Keep),
        ("RESPONSES", Drop),
        ("OPEN", Keep),
        ("EXECUTIONS", Drop),
        ("INTERRUPTED", Keep),
        ("DOUBLE", Keep),
    ];
    let mut table = Table::new(columns);
    for sum in verified {
        let Verified { task_type, accepted, accounted, missing, expected, open, executions, interrupted, double, .. } = sum;
        let number = |count: &u64| Cell::from(count.to_string());
        let wrong = |count: &u64| Cell::new(count.to_string(), if *count > 0 { Colour::Bad } else { Colour::Plain });
        table.push([
            task_type.as_str().into(),
            number(accepted),
            number(accounted),
            wrong(missing),
            number(expected),
            number(open),
            number(executions),
            number(interrupted),
            wrong(double),
        ]);
    }
    let mut text = table.text(screen);
    for Verified { task_type, flaws, .. } in verified {
        for flaw in flaws {
            _ = writeln!(text, "{task_type} {} (task {}): {}", visible(flaw.identifier.as_str()), flaw.id, visible(&flaw.reason));
        }
    }
    let sum = |of: fn(&Verified) -> u64| verified.iter().map(of).sum::<u64>();
    let (missing, double, excess) = (sum(|one| one.missing), sum(|one| one.double), sum(|one| one.excess));
    let (said, colour) = match (missing, double, excess) {
        (0, 0, 0) => ("all that was accepted is accounted for, nothing was run twice".to_owned(), Colour::Good),
        (missing, double, 0) => (format!("{missing} tasks do not add up, {double} responses were run twice"), Colour::Bad),
        (missing, double, excess) => {
            let what = format!(
                "{missing} tasks do not add up, {double} responses were run twice, {excess} had more attempts than their policy allows"
            );
            (what, Colour::Bad)
        }
    };
    text + &screen.paint(&said, colour) + "\n"
}
