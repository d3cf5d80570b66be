//! `tasker queue`: how work queues stand.

use crate::clock::Clock;

use super::args::{Global, Queue};
use super::exit::Code;
use super::output::{Failure, print, print_json};
use super::table::Screen;
use super::{access, render};

pub(super) async fn run(global: &Global, command: Queue) -> Result<Code, Failure> {
    let client = access::client(global)?;
    let (task_type, paused) = match command {
        Queue::List => {
            let list = client.queues().await?;
            if global.json {
                print_json(&list)?;
            } else {
                print(&render::queues(&list.queues, Clock::system().now(), Screen::of_output()))?;
            }
            return Ok(Code::Ok);
        }
        Queue::Pause(one) => (one.task_type, true),
        Queue::Resume(one) => (one.task_type, false),
    };
    let queue = client.pause(&task_type, paused).await?;
    if global.json {
        print_json(&queue)?;
    } else {
        print(&render::queues(&[queue], Clock::system().now(), Screen::of_output()))?;
    }
    Ok(Code::Ok)
}
