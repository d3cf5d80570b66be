//! `tasker stats`: how many tasks there were, and what became of them.

use clap::Args;

use crate::contract::Statistics;
use crate::domain::{Grain, TaskType, Throughput, Timestamp};

use super::access;
use super::exit::Code;
use super::global::Global;
use super::output::{self, Failure};
use super::render::clock;
use super::table::{Cell, Colour, Narrow, Screen, Table};
use super::when::ago;

/// `tasker stats`.
#[derive(Debug, Clone, Args)]
pub struct Stats {
    /// Task type [default: all]
    #[arg(value_name = "TYPE")]
    pub task_type: Option<TaskType>,
    /// By the minute instead of the hour: these are kept for seven days, those for 400
    #[arg(long)]
    pub minutes: bool,
    /// Since then: a time such as 2024-07-12T10:00:00Z, or a span such as 2h before now [default: 24h, with
    /// --minutes 1h]
    #[arg(long, value_name = "TIME", value_parser = ago)]
    pub since: Option<Timestamp>,
}

/// What people read when there is nothing.
const NONE: &str = "no tasks in this time: `tasker stats --since 30d` looks back further";

pub(super) async fn run(
    global: &Global,
    Stats { task_type, minutes, since }: Stats,
) -> Result<Code, Failure> {
    let (grain, back) = if minutes { (Grain::Minute, "1h") } else { (Grain::Hour, "24h") };
    let since = since.map_or_else(|| ago(back), Ok).map_err(Failure::Usage)?;
    let statistics = access::client(global)?.statistics(task_type.as_ref(), grain, since).await?;
    output::list(global.json, &statistics, statistics.spans.is_empty().then_some(NONE), |screen| {
        table(&statistics, screen)
    })?;
    Ok(Code::Ok)
}

/// Spans, one a line, and their sum.
fn table(statistics: &Statistics, screen: Screen) -> String {
    use Narrow::Keep;
    let mut table = Table::new([
        ("SINCE", Keep),
        ("ACCEPTED", Keep),
        ("DONE", Keep),
        ("FAILED", Keep),
        ("CANCELED", Keep),
        ("EXPIRED", Keep),
        ("ANSWERS", Keep),
        ("ERRORS", Keep),
    ]);
    let mut all = Throughput::default();
    let mut push = |since: String, of: &Throughput| {
        let Throughput { accepted, done, failed, canceled, expired, answers, errors } = *of;
        let [accepted, done, canceled, answers] =
            [accepted, done, canceled, answers].map(|number| Cell::from(number.to_string()));
        let [failed, expired, errors] = [failed, expired, errors].map(|number| match number {
            0 => Cell::from("0".to_owned()),
            number => Cell::new(number.to_string(), Colour::Bad),
        });
        table.push([since.into(), accepted, done, failed, canceled, expired, answers, errors]);
    };
    for span in &statistics.spans {
        push(clock(span.time), &span.throughput);
        all += span.throughput;
    }
    push("all".to_owned(), &all);
    table.text(screen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::StatisticsSpan;

    #[test]
    fn spans_are_added_up() {
        let time = Timestamp::from_micros(1_800_000_000_000_000);
        let throughput =
            Throughput { accepted: 3, done: 1, failed: 1, answers: 20, errors: 2, ..Throughput::default() };
        let spans = vec![
            StatisticsSpan { time, throughput },
            StatisticsSpan { time: time.after(Grain::Hour.length()), throughput },
        ];
        let statistics = Statistics { step: Grain::Hour, since: time, until: time, spans };
        let text = table(&statistics, Screen::PLAIN);
        let last = text.lines().last().map(|line| line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(last, Some(vec!["all", "6", "2", "2", "0", "0", "40", "4"]), "{text}");
    }
}
