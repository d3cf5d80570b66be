//! The farm at a glance.

use serde_json::Value;

use super::site::Site;
use super::wire;
use crate::farm::Worker;
use crate::store::Result;

/// What is shown.
pub(super) struct Overview {
    pub name: String,
    pub server: String,
    pub workers: Vec<(Worker, Vec<Value>)>,
    pub tasks: u64,
    pub updates: u64,
}

/// Looks at the farm.
pub(super) async fn take(site: &Site) -> Result<Overview> {
    let barred = site.farm.barred(site.clock.now()).await?;
    let workers = site.farm.workers().await?.into_iter().map(|worker| {
        let lines = barred.iter().filter(|line| line.worker == worker.id).map(wire::barred_out).collect();
        (worker, lines)
    });
    Ok(Overview {
        name: site.settings.name.clone(),
        server: site.settings.server.to_string(),
        workers: workers.collect(),
        tasks: site.farm.count_tasks().await?,
        updates: site.farm.count_updates().await?,
    })
}
