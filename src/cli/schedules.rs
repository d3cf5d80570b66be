//! `tasker schedules`: what is submitted at times.

use std::fmt::Write;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use crate::client::Submitted;
use crate::contract::Schedule;

use super::exit::Code;
use super::global::Global;
use super::output::{self, Failure};
use super::render::{clock, visible};
use super::table::{Cell, Colour, Narrow, Screen, Table};
use super::{access, render};

/// `tasker schedules`.
#[derive(Debug, Clone, Args)]
pub struct Schedules {
    /// What else to do.
    #[command(subcommand)]
    pub action: Option<SchedulesAction>,
}

/// What `tasker schedules` does besides listing.
#[derive(Debug, Clone, Subcommand)]
pub enum SchedulesAction {
    /// Submit the task of a schedule now, under a name of its own
    #[command(after_help = "Example:\n  tasker schedules run nightly")]
    Run {
        /// Schedule
        #[arg(value_name = "SCHEDULE", value_parser = NonEmptyStringValueParser::new())]
        name: String,
    },
    /// Submit no more tasks of a schedule, on all API processes, until it is resumed
    #[command(after_help = "Example:\n  tasker schedules pause nightly")]
    Pause {
        /// Schedule
        #[arg(value_name = "SCHEDULE", value_parser = NonEmptyStringValueParser::new())]
        name: String,
    },
    /// Submit tasks of a schedule again; runs missed while paused are not made up
    #[command(after_help = "Example:\n  tasker schedules resume nightly")]
    Resume {
        /// Schedule
        #[arg(value_name = "SCHEDULE", value_parser = NonEmptyStringValueParser::new())]
        name: String,
    },
}

/// What people read when there are no schedules.
const NONE: &str = "no schedules: `schedules` in the configuration of the API lists them, each with a name, a task type and a cron pattern";

pub(super) async fn run(global: &Global, args: Schedules) -> Result<Code, Failure> {
    let client = access::client(global)?;
    match args.action {
        None => {
            let list = client.schedules().await?;
            output::list(global.json, &list, list.schedules.is_empty().then_some(NONE), |screen| {
                table(&list.schedules, screen)
            })?;
        }
        Some(SchedulesAction::Run { name }) => {
            let submitted = Submitted { task: client.run_schedule(&name).await?, repeated: false };
            output::show(global.json, &submitted.task, |screen| render::submitted(&submitted, screen))?;
        }
        Some(SchedulesAction::Pause { name }) => show(global, &client.pause_schedule(&name, true).await?)?,
        Some(SchedulesAction::Resume { name }) => show(global, &client.pause_schedule(&name, false).await?)?,
    }
    Ok(Code::Ok)
}

fn show(global: &Global, schedule: &Schedule) -> Result<(), Failure> {
    output::show(global.json, schedule, |screen| table(std::slice::from_ref(schedule), screen))
}

/// Schedules, one a line; below, the last error of each that has one.
fn table(schedules: &[Schedule], screen: Screen) -> String {
    use Narrow::{Drop, Keep};
    let mut table = Table::new([
        ("SCHEDULE", Keep),
        ("TYPE", Keep),
        ("TIMES", Keep),
        ("MISSED", Drop),
        ("NEXT", Keep),
        ("NEXT (UTC)", Drop),
    ]);
    for schedule in schedules {
        let times = format!("{} {}", schedule.cron, schedule.time_zone);
        let local = schedule.next_local.as_deref().map(|time| visible(&time.replacen('T', " ", 1)));
        let local = match schedule.paused_at {
            Some(_) => Cell::new("paused", Colour::Open),
            None => local.unwrap_or_else(|| "-".to_owned()).into(),
        };
        let next = schedule.next.map_or_else(|| "-".to_owned(), clock);
        let missed = visible(&schedule.missed);
        table.push([
            visible(&schedule.name).into(),
            schedule.task_type.as_str().into(),
            visible(&times).into(),
            missed.into(),
            local,
            next.into(),
        ]);
    }
    let mut text = table.text(screen);
    for schedule in schedules {
        if let Some(at) = schedule.paused_at {
            let name = visible(&schedule.name);
            _ = writeln!(
                text,
                "{name}: paused since {}; `tasker schedules resume {name}` resumes it",
                clock(at)
            );
        }
        if let (Some(error), Some(at)) = (&schedule.last_error, schedule.last_error_at) {
            let name = screen.paint(&visible(&schedule.name), Colour::Bad);
            _ = writeln!(text, "{name}: last error, at {}: {}", clock(at), visible(error));
        }
    }
    text
}
