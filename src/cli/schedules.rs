//! `tasker schedules`: what is submitted at times.

use super::args::Global;
use super::exit::Code;
use super::output::{Failure, print, print_json};
use super::{access, render};

pub(super) async fn run(global: &Global) -> Result<Code, Failure> {
    let list = access::client(global)?.schedules().await?;
    if global.json {
        print_json(&list)?;
    } else {
        print(&render::schedules(&list.schedules))?;
    }
    Ok(Code::Ok)
}
