//! What is done to many tasks at once: a person sees how many they are first, and no others are touched.

use std::fmt::Write as _;

use clap::Args;

use crate::client::ClientError;
use crate::contract::BulkAnswer;
use crate::domain::Timestamp;

use super::exit::Code;
use super::global::Global;
use super::output::{self, Failure, note, show};
use super::render::{clock, visible};
use super::table::{Narrow, Screen, Table};
use super::when::ago;

/// How sure the person is.
#[derive(Debug, Clone, Args)]
pub struct Sureness {
    /// Do nothing; say how many tasks the filter means
    #[arg(long, conflicts_with_all = ["yes", "expect"])]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Do not ask, and act only if the filter means exactly N tasks; with --as-of, act on the N oldest at most
    #[arg(long, value_name = "N")]
    pub expect: Option<u32>,
    /// With --expect: leave out tasks that came after this time; --dry-run prints it
    #[arg(long, value_name = "TIME", value_parser = ago, requires = "expect")]
    pub as_of: Option<Timestamp>,
}

/// The verb of what is done: for the question before it, and for the report after it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deed {
    /// `Cancel`.
    pub asked: &'static str,
    /// `canceled`.
    pub done: &'static str,
}

/// How many tasks a request expects, and as of when: without that time there must be exactly as many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    pub number: Option<u32>,
    pub as_of: Option<Timestamp>,
}

/// As many as there are as of some time.
const ALL: u32 = u32::MAX;

/// Does it to all tasks that a filter means, so many in each request. `send` is given how many are expected;
/// without that it only looks.
pub(super) async fn carry_out(
    global: &Global,
    deed: Deed,
    sure: &Sureness,
    send: impl AsyncFn(Expected) -> Result<BulkAnswer, ClientError>,
) -> Result<Code, Failure> {
    let (number, as_of) = match sure.expect {
        // Another number is for the API to refuse.
        Some(number) => (number, sure.as_of),
        None => {
            let found = send(Expected { number: None, as_of: None }).await?;
            if sure.dry_run || found.matched == 0 {
                show(global.json, &found, |screen| {
                    let mut text = preview(&found, screen);
                    if found.matched > 0 && !found.more {
                        _ = writeln!(text, "to do it to these tasks only: {}", expecting(&found));
                    }
                    text
                })?;
                return Ok(Code::Ok);
            }
            if !sure.yes {
                confirm(global, deed, &found)?;
            }
            (if sure.yes { ALL } else { found.matched }, found.as_of)
        }
    };
    let told = |done, left| {
        if !global.json {
            note(&format!("{}: {done}, to go: {left}", deed.done));
        }
    };
    let sum = step_by_step(number, as_of, &send, told).await?;
    show(global.json, &sum, |_| over(deed, &sum))?;
    Ok(if sum.left > 0 { Code::Failure } else { Code::Ok })
}

/// Sends request after request until nothing is left that could be done, and sums up what came of them, with
/// the examples of the first. `told` hears after each how many are done and how many are left.
async fn step_by_step(
    number: u32,
    mut as_of: Option<Timestamp>,
    send: &impl AsyncFn(Expected) -> Result<BulkAnswer, ClientError>,
    told: impl Fn(u32, u32),
) -> Result<BulkAnswer, ClientError> {
    let (mut done, mut gone, mut expected, mut examples) = (0, 0, number, None);
    loop {
        let mut step = send(Expected { number: Some(expected), as_of }).await?;
        examples.get_or_insert_with(|| std::mem::take(&mut step.examples));
        let ended = step.matched.min(expected).saturating_sub(step.done + step.left);
        done += step.done;
        gone += ended;
        // Those that were refused and are still meant would be refused by each step.
        let refused = step.refused.saturating_sub(ended);
        let left = step.left.saturating_sub(refused);
        if left == 0 || step.done + ended == 0 {
            let matched = done + gone + step.left;
            let examples = examples.unwrap_or_default();
            return Ok(BulkAnswer { matched, done, refused: gone + refused, left, examples, ..step });
        }
        // Beyond those that an API counts there may be more.
        expected = if number == ALL { ALL } else { step.left };
        as_of = as_of.or(step.as_of);
        told(done, step.left);
    }
}

fn confirm(global: &Global, deed: Deed, found: &BulkAnswer) -> Result<(), Failure> {
    let count = found.matched;
    if !output::can_ask(global.json) {
        return Err(Failure::Usage(format!(
            "{} {}: nobody was asked, so nothing was done; give --yes, or {}",
            tasks(count),
            if count == 1 { "matches" } else { "match" },
            expecting(found)
        )));
    }
    note(&preview(found, Screen::of_errors()));
    match output::ask(format_args!("{} {}?", deed.asked, tasks(count)))? {
        true => Ok(()),
        false => Err(Failure::Usage(format!("nothing was {}", deed.done))),
    }
}

fn tasks(count: u32) -> String {
    if count == 1 { "1 task".to_owned() } else { format!("{count} tasks") }
}

/// What does it to those that were found, and to no others.
fn expecting(found: &BulkAnswer) -> String {
    let mut flags = format!("--expect {}", found.matched);
    if let Some(as_of) = found.as_of {
        _ = write!(flags, " --as-of {as_of}");
    }
    flags
}

/// How many there are, and some of them.
fn preview(found: &BulkAnswer, screen: Screen) -> String {
    let more = if found.more { "more than " } else { "" };
    let mut text =
        format!("{more}{} {}\n", tasks(found.matched), if found.matched == 1 { "matches" } else { "match" });
    if found.examples.is_empty() {
        return text;
    }
    let mut table = Table::new([
        ("TYPE", Narrow::Keep),
        ("IDENTIFIER", Narrow::Cut),
        ("STATUS", Narrow::Keep),
        ("ACCEPTED", Narrow::Drop),
    ]);
    for task in &found.examples {
        let identifier = visible(task.identifier.as_str());
        table.push([
            task.task_type.as_str().into(),
            identifier.into(),
            task.status.as_str().into(),
            clock(task.start_time).into(),
        ]);
    }
    text += &table.text(screen);
    if found.examples.len() < usize::try_from(found.matched).unwrap_or(usize::MAX) {
        text.push_str("...\n");
    }
    text
}

fn over(deed: Deed, found: &BulkAnswer) -> String {
    let mut text = format!("{}: {}", deed.done, found.done);
    for (count, what) in [(found.refused, "could not be"), (found.left, "left")] {
        if count > 0 {
            _ = write!(text, ", {what}: {count}");
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::contract::TaskBrief;
    use crate::domain::{TaskId, TaskStatus, Timestamp};

    /// A server with so many tasks that can be done after so many that cannot. The latter are meant by every
    /// request.
    async fn carried_out(refused: u32, able: u32, batch: u32) -> ([u32; 4], u32) {
        let (left, requests) = (Cell::new(able), Cell::new(0));
        let counted = Some(Timestamp::from_micros(7));
        let send = async |expected: Expected| {
            let matched = refused + left.get();
            let as_of = counted.filter(|_| requests.get() > 0);
            assert_eq!(
                expected,
                Expected { number: Some(matched), as_of },
                "what the answer before has said"
            );
            let (refused, done) = (refused.min(batch), left.get().min(batch.saturating_sub(refused)));
            left.set(left.get() - done);
            requests.set(requests.get() + 1);
            Ok(BulkAnswer { matched, done, refused, left: matched - done, as_of: counted, ..nothing() })
        };
        let sum = step_by_step(refused + able, None, &send, |_, _| {}).await.expect("no error");
        ([sum.matched, sum.done, sum.refused, sum.left], requests.get())
    }

    #[tokio::test]
    async fn tasks_that_are_refused_do_not_stop_the_others() {
        assert_eq!(carried_out(0, 25, 10).await, ([25, 25, 0, 0], 3));
        assert_eq!(carried_out(3, 25, 10).await, ([28, 25, 3, 0], 4));
        assert_eq!(carried_out(3, 0, 10).await, ([3, 0, 3, 0], 1));
        assert_eq!(carried_out(10, 5, 10).await, ([15, 0, 10, 5], 1), "no further step would do more");
    }

    fn nothing() -> BulkAnswer {
        BulkAnswer {
            matched: 0,
            more: false,
            as_of: None,
            done: 0,
            refused: 0,
            left: 0,
            examples: Vec::new(),
        }
    }

    #[tokio::test]
    async fn all_are_all_of_a_time_also_beyond_those_that_are_counted() {
        let as_of = Some(Timestamp::from_micros(7));
        let left = Cell::new(25_u32);
        let send = async |expected: Expected| {
            assert_eq!(expected, Expected { number: Some(ALL), as_of });
            let (matched, done) = (left.get().min(10), left.get().min(5));
            // One ends by itself meanwhile.
            left.set(left.get().saturating_sub(done + 1));
            Ok(BulkAnswer { matched, more: matched == 10, done, left: matched - done, ..nothing() })
        };
        let sum = step_by_step(ALL, as_of, &send, |_, _| {}).await.expect("no error");
        assert_eq!((sum.done, sum.left), (21, 0));
    }

    #[test]
    fn a_preview_counts_and_names_some() {
        let brief = TaskBrief {
            id: TaskId(uuid::Uuid::nil()),
            task_type: "worker".parse().expect("a type"),
            identifier: "nightly".parse().expect("an identifier"),
            status: TaskStatus::Sent,
            start_time: Timestamp::from_micros(0),
        };
        let found = BulkAnswer { matched: 3, left: 3, examples: vec![brief], ..nothing() };
        let expected = "\
3 tasks match
TYPE    IDENTIFIER  STATUS  ACCEPTED
worker  nightly     SENT    1970-01-01 00:00:00Z
...
";
        assert_eq!(preview(&found, Screen::PLAIN), expected);
        let timed = BulkAnswer { as_of: Some(Timestamp::from_micros(7)), ..found.clone() };
        assert_eq!(expecting(&timed), "--expect 3 --as-of 1970-01-01T00:00:00.000007Z");
        let done = BulkAnswer { done: 2, refused: 1, left: 0, ..found.clone() };
        assert_eq!(over(Deed { asked: "Cancel", done: "canceled" }, &done), "canceled: 2, could not be: 1\n");
        let many = BulkAnswer { matched: 100_000, more: true, examples: vec![], ..found };
        assert_eq!(preview(&many, Screen::PLAIN), "more than 100000 tasks match\n");
    }
}
