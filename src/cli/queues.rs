//! `tasker queue`: how work queues stand.

use crate::clock::Clock;

use super::args::{Global, Queue};
use super::exit::Code;
use super::output::{self, Failure};
use super::{access, render};

pub(super) async fn run(global: &Global, command: Queue) -> Result<Code, Failure> {
    let client = access::client(global)?;
    let (task_type, paused) = match command {
        Queue::List => {
            let list = client.queues().await?;
            output::show(global.json, &list, |screen| render::queues(&list.queues, Clock::system().now(), screen))?;
            return Ok(Code::Ok);
        }
        Queue::Pause(one) => (one.task_type, true),
        Queue::Resume(one) => (one.task_type, false),
    };
    let queue = client.pause(&task_type, paused).await?;
    output::show(global.json, &queue, |screen| render::queues(std::slice::from_ref(&queue), Clock::system().now(), screen))?;
    Ok(Code::Ok)
}
