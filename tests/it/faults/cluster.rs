//! A RabbitMQ of three nodes loses one of them under load.
//!
//! The queues are classic ones: each lives on the node where it was declared, and nowhere else while that
//! node is away. So losing the node of one endpoint's queue stops that endpoint, and losing the node of the
//! responses stops every answer; tasks are taken all the time, and what could not be done goes on when the
//! node is back.

use std::net::SocketAddr;

use anyhow::ensure;

use super::{BROKER, all_is_accounted_for, load_for};
use crate::support::fleet::{Fleet, TYPE};
use crate::support::loader::Loader;
use crate::support::platform::Platform;

#[test]
fn a_cluster_loses_a_node() -> anyhow::Result<()> {
    let mut fleet = Fleet::new(Platform::idle_clustered(3)?)?;
    let nodes: Vec<SocketAddr> =
        fleet.platform.nodes().iter().map(|node| ([127, 0, 0, 1], node.port()).into()).collect();
    let links = nodes
        .iter()
        .map(|node| fleet.platform.proxy_to(&format!("amqp://{node}")))
        .collect::<Result<Vec<_>, _>>()?;
    let through = |node: usize| [(BROKER, links[node].address().port().to_string())];
    // First, so that the queues all share are on the first node.
    fleet.start_api("api1", &through(0))?;
    fleet.until("the API is ready", |fleet| {
        ensure!(fleet.get("/ready")?.0 == 200);
        Ok(())
    })?;
    fleet.start_endpoint("console1", &through(1))?;
    fleet.start_endpoint("console2", &through(2))?;
    fleet.ready()?;
    let loader = Loader::start(&fleet, 20);
    load_for(&mut fleet, &loader, 30)?;

    // The node of console2's queue: the others go on, and console2 comes in through another node in vain.
    fleet.platform.nodes()[2].kill()?;
    links[2].lead_to(nodes[0]);
    done_without(&mut fleet, "console2")?;
    load_for(&mut fleet, &loader, 30)?;
    fleet.platform.nodes()[2].restart()?;
    fleet.ready()?;
    load_for(&mut fleet, &loader, 30)?;

    // The node of the responses: tasks are taken, and answered when it is back. console1 keeps its link to a
    // living node, which would confirm reports that no queue takes.
    fleet.platform.nodes()[0].kill()?;
    links[0].lead_to(nodes[1]);
    links[2].lead_to(nodes[1]);
    load_for(&mut fleet, &loader, 30)?;
    fleet.platform.nodes()[0].restart()?;
    load_for(&mut fleet, &loader, 30)?;
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken)
}

/// Waits until a task is done that was taken after an endpoint went away.
fn done_without(fleet: &mut Fleet, away: &str) -> anyhow::Result<()> {
    let (_, newest) = fleet.get(&format!("/{TYPE}?limit=1"))?;
    let newest = newest["tasks"][0]["start_time"].as_str().unwrap_or_default().to_owned();
    fleet.until("a task is done meanwhile", |fleet| {
        let (_, page) = fleet.get(&format!("/{TYPE}?status=DONE&limit=20"))?;
        let done = |task: &serde_json::Value| {
            task["start_time"].as_str().is_some_and(|start| start > newest.as_str())
        };
        ensure!(
            page["tasks"].as_array().is_some_and(|tasks| tasks.iter().any(done)),
            "{away} is away: {page}"
        );
        Ok(())
    })
}
