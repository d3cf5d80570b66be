//! `tasker schedules`: what is submitted at times.

use super::args::{Global, Schedules, SchedulesAction};
use super::exit::Code;
use super::output::{self, Failure};
use super::{access, render};
use crate::client::Submitted;
use crate::contract::Schedule;

pub(super) async fn run(global: &Global, args: Schedules) -> Result<Code, Failure> {
    let client = access::client(global)?;
    match args.action {
        None => {
            let list = client.schedules().await?;
            output::show(global.json, &list, |screen| render::schedules(&list.schedules, screen))?;
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
    output::show(global.json, schedule, |screen| render::schedules(std::slice::from_ref(schedule), screen))
}
