//! `tasker queue`: how work queues stand.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use crate::clock::Clock;
use crate::contract::{self, DeadFilter};
use crate::domain::{Fared, TaskType, Timestamp};

use super::access;
use super::bulk::{self, Deed, Sureness};
use super::exit::Code;
use super::global::Global;
use super::output::{self, Failure};
use super::render::{age, clock};
use super::table::{Cell, Colour, Narrow, Screen, Table};
use super::when::ago;

/// `tasker queue`.
#[derive(Debug, Clone, Subcommand)]
pub enum Queue {
    /// List the work queues: how many tasks wait and run
    #[command(after_help = "Example:\n  tasker queue list")]
    List,
    /// Give no more tasks of a type to workers; running ones go on, new ones are taken in and wait
    #[command(after_help = "Example:\n  tasker queue pause warmers")]
    Pause(OneQueue),
    /// Give tasks of a type to workers again
    #[command(after_help = "Example:\n  tasker queue resume warmers")]
    Resume(OneQueue),
    /// Queue again the tasks of a type that have failed, each as a new task
    ///
    /// Those that were requeued before are left alone.
    #[command(after_help = "\
Examples:
  tasker queue requeue warmers --dry-run
  tasker queue requeue warmers --only failed,expired --since 2h --expect 12")]
    Requeue(Requeue),
}

/// `tasker queue requeue`.
#[derive(Debug, Clone, Args)]
pub struct Requeue {
    /// Task type
    #[arg(value_name = "TYPE")]
    pub task_type: TaskType,
    /// Only tasks that ended so, separated by commas: failed, expired, canceled
    #[arg(long, value_name = "HOW", value_delimiter = ',', default_value = "failed")]
    pub only: Vec<Fared>,
    /// Only tasks whose identifier begins so
    #[arg(long, value_name = "PREFIX", value_parser = NonEmptyStringValueParser::new())]
    pub identifier: Option<String>,
    /// Only tasks accepted since then: a time such as 2024-07-12T10:00:00Z, or a span such as 2h before now
    #[arg(long, value_name = "TIME", value_parser = ago)]
    pub since: Option<Timestamp>,
    /// Only tasks accepted before then
    #[arg(long, value_name = "TIME", value_parser = ago)]
    pub until: Option<Timestamp>,
    /// How sure you are.
    #[command(flatten)]
    pub sure: Sureness,
}

/// One work queue.
#[derive(Debug, Clone, Args)]
pub struct OneQueue {
    /// Task type
    #[arg(value_name = "TYPE")]
    pub task_type: TaskType,
}

/// What people read when there are no work queues.
const NONE: &str = "no work queues: a task type with `delivery: queue` has one";

pub(super) async fn run(global: &Global, command: Queue) -> Result<Code, Failure> {
    let client = access::client(global)?;
    let (task_type, paused) = match command {
        Queue::List => {
            let list = client.queues().await?;
            output::list(global.json, &list, list.queues.is_empty().then_some(NONE), |screen| {
                table(&list.queues, Clock::system().now(), screen)
            })?;
            return Ok(Code::Ok);
        }
        Queue::Requeue(Requeue { task_type, only, identifier, since, until, sure }) => {
            let filter = DeadFilter { only, identifier, since, until };
            let send = async |expected: bulk::Expected| {
                let bulk::Expected { number: expect, as_of } = expected;
                let requeue = contract::Requeue { filter: filter.clone(), expect, as_of, dry_run: false };
                client.requeue(&task_type, &requeue).await
            };
            return bulk::carry_out(global, Deed { asked: "Requeue", done: "requeued" }, &sure, send).await;
        }
        Queue::Pause(one) => (one.task_type, true),
        Queue::Resume(one) => (one.task_type, false),
    };
    let queue = client.pause(&task_type, paused).await?;
    output::show(global.json, &queue, |screen| {
        table(std::slice::from_ref(&queue), Clock::system().now(), screen)
    })?;
    Ok(Code::Ok)
}

/// Work queues, one a line.
fn table(queues: &[contract::Queue], now: Timestamp, screen: Screen) -> String {
    use Narrow::{Drop, Keep};
    let columns = [
        ("TYPE", Keep),
        ("QUEUE", Keep),
        ("WAITING", Keep),
        ("HELD", Keep),
        ("DELAYED", Keep),
        ("RUNNING", Keep),
        ("WAITING SINCE", Drop),
        ("AGE", Keep),
    ];
    let mut table = Table::new(columns);
    for queue in queues {
        let state = if queue.paused_at.is_some() {
            Cell::new("paused", Colour::Open)
        } else {
            Cell::new("open", Colour::Good)
        };
        let (oldest, waits) = queue
            .oldest
            .map_or(("-".to_owned(), "-".to_owned()), |oldest| (clock(oldest), age(now.since(oldest))));
        let [waiting, held, delayed, running] = [queue.waiting, queue.held, queue.delayed, queue.running]
            .map(|count| Cell::from(count.to_string()));
        table.push([
            queue.task_type.as_str().into(),
            state,
            waiting,
            held,
            delayed,
            running,
            oldest.into(),
            waits.into(),
        ]);
    }
    table.text(screen)
}
