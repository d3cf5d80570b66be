//! `tasker verify`: whether all that was accepted is accounted for, on a live system.

use std::fmt::Write;

use clap::Args;
use serde::Serialize;

use crate::client::Client;
use crate::contract::{Census, Flaw, RequestCensus, RequestFlaw, RolloutCensus, RolloutFlaw};
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
    /// Task types [default: all that the API is configured with, requests and rollouts]
    #[arg(value_name = "TYPE")]
    pub task_types: Vec<TaskType>,
    /// Only tasks, requests and rollouts accepted since then: a time such as 2024-07-12T10:00:00Z, or a span
    /// such as 2h before now
    #[arg(long, value_name = "TIME", value_parser = ago)]
    pub since: Option<Timestamp>,
    /// Only tasks, requests and rollouts accepted before then
    #[arg(long, value_name = "TIME", value_parser = ago)]
    pub until: Option<Timestamp>,
    /// Fail while any response, request or rollout is open, even if it is in time
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

/// The sums of requests. No task type can have their name.
#[derive(Debug, Default, Serialize)]
struct VerifiedRequests {
    r#type: &'static str,
    accepted: u64,
    accounted: u64,
    missing: u64,
    open: u64,
    attempts: u64,
    flaws: Vec<RequestFlaw>,
}

impl VerifiedRequests {
    /// Adds a page; answers where the next one begins.
    fn add(&mut self, page: RequestCensus) -> Option<String> {
        self.accepted += page.accepted;
        self.accounted += page.accounted;
        self.missing += page.missing;
        self.open += page.open;
        self.attempts += page.attempts;
        self.flaws.extend(page.flaws);
        self.flaws.truncate(FLAWS);
        page.next_cursor
    }
}

/// The sums of rollouts. No task type can have their name.
#[derive(Debug, Default, Serialize)]
struct VerifiedRollouts {
    r#type: &'static str,
    accepted: u64,
    accounted: u64,
    missing: u64,
    open: u64,
    flaws: Vec<RolloutFlaw>,
}

impl VerifiedRollouts {
    /// Adds a page; answers where the next one begins.
    fn add(&mut self, page: RolloutCensus) -> Option<String> {
        self.accepted += page.accepted;
        self.accounted += page.accounted;
        self.missing += page.missing;
        self.open += page.open;
        self.flaws.extend(page.flaws);
        self.flaws.truncate(FLAWS);
        page.next_cursor
    }
}

/// What is shown: a list of sums, those of requests and rollouts last.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Sums {
    Tasks(Verified),
    Requests(VerifiedRequests),
    Rollouts(VerifiedRollouts),
}

impl Sums {
    /// Whether the sums are those of a ledger in order; `ended` also asks for nothing that is open.
    const fn are_good(&self, ended: bool) -> bool {
        match self {
            Self::Tasks(sum) => {
                sum.missing == 0 && sum.double == 0 && sum.excess == 0 && (!ended || sum.open == 0)
            }
            Self::Requests(sum) => sum.missing == 0 && (!ended || sum.open == 0),
            Self::Rollouts(sum) => sum.missing == 0 && (!ended || sum.open == 0),
        }
    }
}

pub(super) async fn run(global: &Global, args: Verify) -> Result<Code, Failure> {
    let client = access::client(global)?;
    let types =
        if args.task_types.is_empty() { client.index().await?.task_types } else { args.task_types.clone() };
    let mut verified = Vec::new();
    for task_type in types {
        verified.push(Sums::Tasks(add_up(&client, task_type, &args).await?));
    }
    if args.task_types.is_empty() {
        let requests = add_up_requests(&client, &args).await?;
        verified.extend((requests.accepted > 0).then_some(Sums::Requests(requests)));
        let rollouts = add_up_rollouts(&client, &args).await?;
        verified.extend((rollouts.accepted > 0).then_some(Sums::Rollouts(rollouts)));
    }
    output::show(global.json, &verified, |screen| text(&verified, screen))?;
    Ok(if verified.iter().all(|sums| sums.are_good(args.ended)) { Code::Ok } else { Code::SomeFailed })
}

async fn add_up(client: &Client, task_type: TaskType, args: &Verify) -> Result<Verified, Failure> {
    let mut sum = Verified::none(task_type);
    each_page(async |cursor| {
        Ok(sum.add(client.census(&sum.task_type, args.since, args.until, cursor).await?))
    })
    .await?;
    Ok(sum)
}

async fn add_up_requests(client: &Client, args: &Verify) -> Result<VerifiedRequests, Failure> {
    let mut sum = VerifiedRequests { r#type: "requests", ..VerifiedRequests::default() };
    each_page(async |cursor| Ok(sum.add(client.request_census(args.since, args.until, cursor).await?)))
        .await?;
    Ok(sum)
}

async fn add_up_rollouts(client: &Client, args: &Verify) -> Result<VerifiedRollouts, Failure> {
    let mut sum = VerifiedRollouts { r#type: "rollouts", ..VerifiedRollouts::default() };
    each_page(async |cursor| Ok(sum.add(client.rollout_census(args.since, args.until, cursor).await?)))
        .await?;
    Ok(sum)
}

/// Takes page after page. `take` is given where a page begins, and answers where the next one does.
async fn each_page(
    mut take: impl AsyncFnMut(Option<String>) -> Result<Option<String>, Failure>,
) -> Result<(), Failure> {
    let mut cursor = None;
    loop {
        cursor = take(cursor).await?;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

/// Sums by type, what is wrong, and a verdict.
fn text(verified: &[Sums], screen: Screen) -> String {
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
    let number = |count: &u64| Cell::from(count.to_string());
    let wrong =
        |count: &u64| Cell::new(count.to_string(), if *count > 0 { Colour::Bad } else { Colour::Plain });
    let without_runs = |name: &str, [accepted, accounted, missing, open]: [u64; 4]| {
        let none = || Cell::from("-");
        [
            name.into(),
            number(&accepted),
            number(&accounted),
            wrong(&missing),
            none(),
            number(&open),
            none(),
            none(),
            none(),
        ]
    };
    for sums in verified {
        table.push(match sums {
            Sums::Tasks(sum) => [
                sum.task_type.as_str().into(),
                number(&sum.accepted),
                number(&sum.accounted),
                wrong(&sum.missing),
                number(&sum.expected),
                number(&sum.open),
                number(&sum.executions),
                number(&sum.interrupted),
                wrong(&sum.double),
            ],
            Sums::Requests(sum) => {
                without_runs(sum.r#type, [sum.accepted, sum.accounted, sum.missing, sum.open])
            }
            Sums::Rollouts(sum) => {
                without_runs(sum.r#type, [sum.accepted, sum.accounted, sum.missing, sum.open])
            }
        });
    }
    let mut text = table.text(screen);
    let (mut tasks, mut requests, mut rollouts, mut double, mut excess) = (0, 0, 0, 0, 0);
    for sums in verified {
        match sums {
            Sums::Tasks(sum) => {
                for flaw in &sum.flaws {
                    let identifier = visible(flaw.identifier.as_str());
                    _ = writeln!(
                        text,
                        "{} {identifier} (task {}): {}",
                        sum.task_type,
                        flaw.id,
                        visible(&flaw.reason)
                    );
                }
                (tasks, double, excess) = (tasks + sum.missing, double + sum.double, excess + sum.excess);
            }
            Sums::Requests(sum) => {
                for flaw in &sum.flaws {
                    _ = writeln!(text, "request {}: {}", visible(&flaw.token), visible(&flaw.reason));
                }
                requests += sum.missing;
            }
            Sums::Rollouts(sum) => {
                for flaw in &sum.flaws {
                    _ = writeln!(text, "rollout {}: {}", flaw.rollout, visible(&flaw.reason));
                }
                rollouts += sum.missing;
            }
        }
    }
    let (said, colour) = match (tasks, requests, rollouts, double, excess) {
        (0, 0, 0, 0, 0) => {
            ("all that was accepted is accounted for, nothing was run twice".to_owned(), Colour::Good)
        }
        _ => {
            let of_requests =
                if requests > 0 { format!(", {requests} requests do not add up") } else { String::new() };
            let of_rollouts =
                if rollouts > 0 { format!(", {rollouts} rollouts do not add up") } else { String::new() };
            let of_attempts = if excess > 0 {
                format!(", {excess} had more attempts than their policy allows")
            } else {
                String::new()
            };
            let what = format!(
                "{tasks} tasks do not add up, {double} responses were run twice{of_attempts}{of_requests}{of_rollouts}"
            );
            (what, Colour::Bad)
        }
    };
    text + &screen.paint(&said, colour) + "\n"
}
