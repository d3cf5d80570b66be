//! `tasker group`: selectors under a name.

use clap::Subcommand;

use crate::contract::{Group, GroupChange, OneOrMany};
use crate::domain::{GroupName, Selector};

use super::access;
use super::exit::Code;
use super::global::Global;
use super::output::{self, Failure};
use super::render::{clock, visible};
use super::table::{Narrow, Screen, Table};

/// `tasker group`.
#[derive(Debug, Clone, Subcommand)]
pub enum GroupCommand {
    /// List the groups
    #[command(after_help = "Example:\n  tasker group list")]
    List,
    /// Show a group; `tasker endpoints --match @NAME` lists its endpoints
    #[command(after_help = "Example:\n  tasker group show web")]
    Show {
        /// Group
        #[arg(value_name = "GROUP")]
        name: GroupName,
    },
    /// Store a group, in the place of the one of its name; tasks that were submitted before stay as they are
    #[command(after_help = "Example:\n  tasker group set web 'role=web and not site=lab'")]
    Set {
        /// Group
        #[arg(value_name = "GROUP")]
        name: GroupName,
        /// What holds for its endpoints; of several all hold
        #[arg(value_name = "SELECTOR", required = true)]
        selectors: Vec<Selector>,
    },
    /// Delete a group
    #[command(after_help = "Example:\n  tasker group delete web")]
    Delete {
        /// Group
        #[arg(value_name = "GROUP")]
        name: GroupName,
    },
}

/// What people read when there are no groups.
const NONE: &str = "no groups: `tasker group set web 'role=web'` stores one";

pub(super) async fn run(global: &Global, command: GroupCommand) -> Result<Code, Failure> {
    let client = access::client(global)?;
    match command {
        GroupCommand::List => {
            let list = client.groups().await?;
            output::list(global.json, &list, list.groups.is_empty().then_some(NONE), |screen| {
                table(&list.groups, screen)
            })?;
        }
        GroupCommand::Show { name } => show(global, &client.group(&name).await?)?,
        GroupCommand::Set { name, selectors } => {
            let selectors = OneOrMany::Many(selectors.into_iter().map(String::from).collect());
            show(global, &client.write_group(&name, &GroupChange { selectors }).await?)?;
        }
        GroupCommand::Delete { name } => {
            let group = client.delete_group(&name).await?;
            output::show(global.json, &group, |_| {
                format!("{} is deleted (it was: {})\n", group.name, visible(&group.selector))
            })?;
        }
    }
    Ok(Code::Ok)
}

fn show(global: &Global, group: &Group) -> Result<(), Failure> {
    output::show(global.json, group, |screen| table(std::slice::from_ref(group), screen))
}

/// Groups, one a line.
fn table(groups: &[Group], screen: Screen) -> String {
    use Narrow::{Cut, Drop, Keep};
    let mut table = Table::new([("GROUP", Keep), ("MATCH", Cut), ("CHANGED", Drop), ("BY", Drop)]);
    for group in groups {
        table.push([
            group.name.as_str().into(),
            visible(&group.selector).into(),
            clock(group.changed_at).into(),
            visible(group.changed_by.as_deref().unwrap_or("-")).into(),
        ]);
    }
    table.text(screen)
}
