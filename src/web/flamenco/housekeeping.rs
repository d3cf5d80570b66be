//! What happens because time passes: timeouts, clean-up, sleep schedules, and reading the database's clock.
//!
//! Each change is guarded in the database, so that several managers may do this at the same time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;

use super::local_time;
use super::site::Site;
use crate::clock::READ_EVERY;
use crate::service::Running;
use crate::store::{Result, SharedStore};

/// The loops.
#[derive(Debug)]
pub struct Housekeeping {
    site: Arc<Site>,
    store: SharedStore,
}

impl Housekeeping {
    /// That of a site.
    pub const fn new(site: Arc<Site>, store: SharedStore) -> Self {
        Self { site, store }
    }

    /// Runs until told to stop.
    pub fn run(self, stop: CancellationToken) -> Running {
        Box::pin(async move {
            let times = self.site.settings.times.clone();
            let soon = Duration::ZERO;
            let all = async {
                tokio::join!(
                    every(soon, READ_EVERY, "the database's clock could not be read", || self.read_clock()),
                    every(times.grace, times.timeouts, "timeouts could not be looked for", || self
                        .time_out()),
                    every(times.grace, times.removals, "old workers could not be removed", || self
                        .remove_workers()),
                    every(times.cleanup.0, times.cleanup.1, "old tasks could not be deleted", || self
                        .delete_tasks()),
                    every(times.sleep.0, times.sleep.1, "sleep schedules could not be followed", || self
                        .follow_schedules()),
                )
            };
            stop.run_until_cancelled(all).await;
        })
    }

    /// Managers on one database have to agree on the time.
    async fn read_clock(&self) -> Result<()> {
        self.site.clock.set(self.store.now().await?);
        Ok(())
    }

    /// Tasks before workers: the task of a silent worker fails, where its own time is over.
    async fn time_out(&self) -> Result<()> {
        let (site, now) = (&self.site, self.site.clock.now());
        let tasks = site.farm.time_out_tasks(now.before(site.settings.task_timeout), now).await?;
        let workers = site.farm.time_out_workers(now.before(site.settings.worker_timeout), now).await?;
        if !tasks.is_empty() || !workers.is_empty() {
            tracing::warn!(lines = tasks.len() + workers.len(), "workers or tasks have timed out");
        }
        site.logs.append(tasks).await;
        site.logs.append(workers).await;
        Ok(())
    }

    async fn delete_tasks(&self) -> Result<()> {
        let (site, now) = (&self.site, self.site.clock.now());
        site.farm.forget_barred(now).await?;
        let mut deleted = 0;
        loop {
            let some = site.farm.delete_old_tasks(now.before(site.settings.cleanup_age)).await?;
            deleted += some;
            if some == 0 {
                break;
            }
        }
        if deleted > 0 {
            tracing::info!(tasks = deleted, "old tasks were deleted");
        }
        Ok(())
    }

    async fn remove_workers(&self) -> Result<()> {
        let (site, now) = (&self.site, self.site.clock.now());
        let Some((age, statuses)) = &site.settings.worker_cleanup else { return Ok(()) };
        for worker in site.farm.workers_silent_since(statuses, now.before(*age)).await? {
            let Some(lines) = site.farm.remove_worker(worker, Some(now.before(*age)), now).await? else {
                continue;
            };
            site.logs.append(lines).await;
            tracing::info!(%worker, "an old worker was removed");
        }
        Ok(())
    }

    async fn follow_schedules(&self) -> Result<()> {
        let (day, minute) = local_time::day_and_minute(self.site.clock.now(), local_time::zone());
        for worker in self.site.farm.workers().await?.into_iter().filter(|worker| worker.sleep.active) {
            self.site
                .farm
                .change_worker(worker.id, move |worker| worker.follow_schedule(day, minute))
                .await?;
        }
        Ok(())
    }
}

/// Does something again and again, and tells when it failed.
async fn every<F: Future<Output = Result<()>>>(
    first: Duration,
    period: Duration,
    failed: &'static str,
    run: impl Fn() -> F,
) {
    let mut ticks = interval_at(Instant::now() + first, period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = run().await {
            tracing::warn!(%error, "{failed}");
        }
    }
}
