//! Fetches tasks from the Server: now and then, and when a worker has nothing to do.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::settings::Fetch;
use super::site::{LAST_UPDATED, Site};
use super::upstream::Download;
use crate::service::Running;
use crate::store::Result;

/// Who fetches.
const LEASE: &str = "download";
/// Tasks that are asked for at once, at most.
const LARGEST_CHUNK: usize = 10_000;

/// The downloader.
#[derive(Debug)]
pub struct Downloader {
    site: Arc<Site>,
    /// Chunks in a row that were asked for by idle workers.
    hungry: u32,
}

impl Downloader {
    /// The downloader of a site.
    pub const fn new(site: Arc<Site>) -> Self {
        Self { site, hungry: 0 }
    }

    /// Runs until told to stop.
    pub fn run(mut self, stop: CancellationToken) -> Running {
        Box::pin(async move {
            let site = self.site.clone();
            let mut wanted = false;
            while !stop.is_cancelled() {
                self.hungry = if wanted { self.hungry.saturating_add(1) } else { 0 };
                if let Some(Err(error)) = stop.run_until_cancelled(self.fetch()).await {
                    tracing::warn!(%error, "tasks could not be fetched or kept");
                }
                // Also of a fetch that was cut off.
                if let Err(error) = site.farm.return_lease(LEASE, &site.holder).await {
                    tracing::warn!(%error, "another manager has to wait before it can fetch tasks");
                }
                wanted = tokio::select! {
                    () = stop.cancelled() => false,
                    () = tokio::time::sleep(site.settings.download_sleep) => false,
                    () = site.download.notified() => true,
                };
            }
        })
    }

    async fn fetch(&self) -> Result<()> {
        let site = &self.site;
        let hold = site.settings.times.upstream * 2;
        if site.farm.take_lease(LEASE, &site.holder, site.clock.now(), hold).await? {
            return self.fetch_alone().await;
        }
        // Another manager fetches, and keeps the same tasks.
        Ok(())
    }

    async fn fetch_alone(&self) -> Result<()> {
        let site = &self.site;
        let asked = site.clock.now();
        let fetched = match site.settings.fetch {
            Fetch::Depsgraph => {
                let since = site.farm.note(LAST_UPDATED).await?;
                site.upstream.depsgraph(since.as_deref()).await
            }
            Fetch::Chunks => site.upstream.chunk(self.chunk().await?).await,
        };
        let Download { mut tasks, wrong, last_updated } = match fetched {
            Ok(download) => download,
            Err(error) => {
                tracing::warn!(%error, "tasks could not be fetched");
                return Ok(());
            }
        };
        for reason in wrong {
            tracing::warn!(why = %reason, "a task of the Server is left out");
        }
        for task in &mut tasks {
            task.last_updated = Some(asked);
        }
        let kept = site.farm.download(&tasks).await?;
        if kept > 0 {
            tracing::info!(tasks = kept, "tasks were fetched");
        }
        // Last: what was not kept is fetched again.
        if let Some(last_updated) = last_updated {
            site.farm.set_note(LAST_UPDATED, &last_updated).await?;
        }
        Ok(())
    }

    /// How many tasks to ask for: one for each worker. Workers that stay without a task find only tasks of
    /// other types in front, and look further each time.
    async fn chunk(&self) -> Result<usize> {
        let workers = self.site.farm.workers().await?.len().max(1);
        Ok(chunk_size(workers, self.hungry))
    }
}

fn chunk_size(workers: usize, hungry: u32) -> usize {
    let further =
        1_usize.checked_shl(hungry.saturating_sub(1)).filter(|_| hungry < 32).unwrap_or(LARGEST_CHUNK);
    workers.saturating_mul(further).min(LARGEST_CHUNK.max(workers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hungry_workers_look_further() {
        let sizes: Vec<_> =
            [0, 1, 2, 3, 20, 40, u32::MAX].into_iter().map(|hungry| chunk_size(3, hungry)).collect();
        assert_eq!(sizes, [3, 3, 6, 12, 10_000, 10_000, 10_000]);
        assert_eq!(chunk_size(20_000, 5), 20_000);
    }
}
