//! The servers themselves are killed while tasks run, and with RabbitMQ everything it had not on disk; and
//! RabbitMQ runs out of memory.

use std::time::Duration;

use anyhow::ensure;

use super::{all_is_accounted_for, load_for};
use crate::support::fleet::Fleet;
use crate::support::loader::Loader;
use crate::support::platform::Platform;

#[test]
fn rabbitmq_and_mariadb_die_under_load() -> anyhow::Result<()> {
    let mut fleet = Fleet::usual(Platform::idle_private()?)?;
    let loader = Loader::start(&fleet, 30);
    for _ in 0..2 {
        load_for(&mut fleet, &loader, 60)?;
        fleet.platform.servers().0.kill()?;
        // Long enough that tasks are accepted which cannot go out.
        fleet.pass(Duration::from_secs(1))?;
        fleet.platform.servers().0.restart()?;
        load_for(&mut fleet, &loader, 60)?;
        fleet.platform.servers().1.kill()?;
        fleet.pass(Duration::from_secs(1))?;
        fleet.platform.servers().1.restart()?;
    }
    load_for(&mut fleet, &loader, 60)?;
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken)
}

#[test]
fn a_broker_without_memory_is_waited_for_and_one_that_freezes_makes_nobody_go() -> anyhow::Result<()> {
    let mut fleet = Fleet::usual(Platform::idle_private()?)?;
    let loader = Loader::start(&fleet, 30);
    load_for(&mut fleet, &loader, 60)?;
    for _ in 0..2 {
        fleet.platform.servers().0.block(true)?;
        fleet.until("an API process says so", |fleet| {
            let (status, body) = fleet.get("/ready")?;
            ensure!(status == 503 && body["broker"] != "ok" && body["database"] == "ok", "{status}: {body}");
            Ok(())
        })?;
        // Tasks are taken all the same, and nobody is thought to have gone.
        load_for(&mut fleet, &loader, 60)?;
        fleet.platform.servers().0.block(false)?;
        load_for(&mut fleet, &loader, 60)?;
    }
    fleet.platform.servers().0.pause()?;
    // Twice as long as an endpoint of this platform may be silent, and too short for a link to be given up.
    fleet.pass(Duration::from_secs(6))?;
    fleet.platform.servers().0.resume()?;
    load_for(&mut fleet, &loader, 60)?;
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken)
}
