//! The database refuses to write for a while, and ends its connections, while reports are under way.

use std::time::Duration;

use super::{all_is_accounted_for, load_for};
use crate::support::fleet::Fleet;
use crate::support::loader::Loader;
use crate::support::platform::Platform;

/// Refuses with this setting, twice: once the sessions of that time are ended afterwards, once they are left to themselves.
fn refuses_while(setting: &str) -> anyhow::Result<()> {
    let mut fleet = Fleet::usual(Platform::idle_private()?)?;
    let loader = Loader::start(&fleet, 30);
    for ends in [true, false] {
        load_for(&mut fleet, &loader, 60)?;
        fleet.platform.sql(&[&format!("SET GLOBAL {setting} = 1")])?;
        fleet.platform.end_connections()?;
        // Longer than any handler of this load: reports come meanwhile.
        fleet.pass(Duration::from_secs(3))?;
        fleet.platform.sql(&[&format!("SET GLOBAL {setting} = 0")])?;
        if ends {
            fleet.platform.end_connections()?;
        }
    }
    load_for(&mut fleet, &loader, 60)?;
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken)
}

#[test]
fn a_server_that_is_read_only_is_waited_for() -> anyhow::Result<()> {
    refuses_while("read_only")
}

#[test]
fn sessions_that_are_read_only_are_waited_for() -> anyhow::Result<()> {
    refuses_while("tx_read_only")
}
