//! `tasker schedules`: what is submitted at times.

use super::args::{Global, Schedules, SchedulesAction};
use super::client::{Schedule, Submitted};
use super::exit::Code;
use super::output::{Failure, print, print_json};
use super::table::Screen;
use super::{access, render};

pub(super) async fn run(global: &Global, args: Schedules) -> Result<Code, Failure> {
    let client = access::client(global)?;
    match args.action {
        None => {
            let list = client.schedules().await?;
            if global.json {
                print_json(&list)?;
            } else {
                print(&render::schedules(&list.schedules, Screen::of_output()))?;
            }
        }
        Some(SchedulesAction::Run { name }) => {
            let task = client.run_schedule(&name).await?;
            if global.json {
                print_json(&task)?;
            } else {
                print(&render::submitted(&Submitted { task, repeated: false }, Screen::of_output()))?;
            }
        }
        Some(SchedulesAction::Pause { name }) => show(global, client.pause_schedule(&name, true).await?)?,
        Some(SchedulesAction::Resume { name }) => show(global, client.pause_schedule(&name, false).await?)?,
    }
    Ok(Code::Ok)
}

fn show(global: &Global, schedule: Schedule) -> Result<(), Failure> {
    if global.json { print_json(&schedule) } else { print(&render::schedules(&[schedule], Screen::of_output())) }
}
