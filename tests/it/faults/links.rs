//! The network between a process and a server is cut, refused, black-holed and slowed while tasks run.

use std::time::Duration;

use super::{BROKER, all_is_accounted_for, load_for};
use crate::support::fleet::Fleet;
use crate::support::loader::Loader;
use crate::support::platform::Platform;
use crate::support::proxy::Proxy;

/// The variable that leads a process to another database.
const DATABASE: &str = "TASKER_MANAGER__DB__URI";

/// Breaks the link in each way for a few seconds under load, with as much load on the whole link in between.
fn broken(mut fleet: Fleet, link: &Proxy) -> anyhow::Result<()> {
    fleet.ready()?;
    let loader = Loader::start(&fleet, 30);
    for _ in 0..3 {
        load_for(&mut fleet, &loader, 20)?;
        link.cut();
    }
    link.refuse();
    fleet.pass(Duration::from_secs(2))?;
    link.pass();
    load_for(&mut fleet, &loader, 40)?;
    link.black_hole();
    fleet.pass(Duration::from_secs(3))?;
    // What lies in the proxy is lost, as with a router that went away.
    link.cut();
    link.pass();
    load_for(&mut fleet, &loader, 40)?;
    // A modem of old, on another continent.
    link.slow(Duration::from_millis(100), 7_000);
    fleet.pass(Duration::from_secs(3))?;
    link.pass();
    load_for(&mut fleet, &loader, 40)?;
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken)
}

#[test]
fn api_and_broker_lose_each_other() -> anyhow::Result<()> {
    let mut fleet = Fleet::new(Platform::idle()?)?;
    let link = fleet.platform.proxy_to(&fleet.platform.amqp())?;
    fleet.start_api("api1", &[(BROKER, link.address().port().to_string())])?;
    for name in ["console1", "console2"] {
        fleet.start_endpoint(name, &[])?;
    }
    broken(fleet, &link)
}

#[test]
fn endpoint_and_broker_lose_each_other() -> anyhow::Result<()> {
    let mut fleet = Fleet::new(Platform::idle()?)?;
    let link = fleet.platform.proxy_to(&fleet.platform.amqp())?;
    fleet.start_api("api1", &[])?;
    fleet.start_endpoint("console1", &[(BROKER, link.address().port().to_string())])?;
    fleet.start_endpoint("console2", &[])?;
    broken(fleet, &link)
}

#[test]
fn api_and_database_lose_each_other() -> anyhow::Result<()> {
    let mut fleet = Fleet::new(Platform::idle()?)?;
    let mut database = reqwest::Url::parse(&fleet.platform.database())?;
    let link = fleet.platform.proxy_to(database.as_str())?;
    database.set_port(Some(link.address().port())).expect("a database is at a port");
    fleet.start_api("api1", &[(DATABASE, database.to_string())])?;
    for name in ["console1", "console2"] {
        fleet.start_endpoint(name, &[])?;
    }
    broken(fleet, &link)
}

#[test]
fn one_of_two_api_processes_loses_the_database() -> anyhow::Result<()> {
    let mut fleet = Fleet::new(Platform::idle()?)?;
    let mut database = reqwest::Url::parse(&fleet.platform.database())?;
    let link = fleet.platform.proxy_to(database.as_str())?;
    database.set_port(Some(link.address().port())).expect("a database is at a port");
    fleet.start_api("api1", &[(DATABASE, database.to_string())])?;
    fleet.start_api("api2", &[])?;
    for name in ["console1", "console2"] {
        fleet.start_endpoint(name, &[])?;
    }
    fleet.ready()?;
    let loader = Loader::start(&fleet, 30);
    load_for(&mut fleet, &loader, 20)?;
    link.refuse();
    // Longer than three presence intervals: what the broker hands this process must not count as silence of
    // endpoints.
    fleet.pass(Duration::from_secs(5))?;
    link.pass();
    load_for(&mut fleet, &loader, 60)?;
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken)
}
