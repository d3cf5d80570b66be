//! Pushes updates to the Server, and learns which tasks to cancel.
//!
//! Promise: each update reaches the Server once at least, and those of one task in their order; what it has
//! not acknowledged is sent again. Of several managers on one database one pushes at a time.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::log_uploads::WantedLog;
use super::site::Site;
use super::wire::{self, Pushed};
use crate::backoff::Backoff;
use crate::service::Running;
use crate::store::Result;

/// Who pushes.
const LEASE: &str = "push";
/// After a push that failed.
const PAUSE: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(30) };

/// Updates that wait.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    any: bool,
    /// So many as go together at most.
    many: bool,
}

impl Waiting {
    /// Whether to push, so long after the last push that succeeded: updates wait for one time at most, and
    /// the Server is asked for tasks to cancel after another.
    fn is_due(self, since_last: Duration, push: Duration, cancel: Duration) -> bool {
        self.many || self.any && since_last >= push || since_last >= cancel
    }
}

/// The pusher.
#[derive(Debug)]
pub struct Pusher {
    site: Arc<Site>,
    logs: mpsc::Sender<WantedLog>,
    /// The last push that succeeded.
    last: Option<Instant>,
    failures: u32,
    not_before: Instant,
}

impl Pusher {
    /// The pusher of a site, with the way to those who upload logs.
    pub fn new(site: Arc<Site>, logs: mpsc::Sender<WantedLog>) -> Self {
        Self { site, logs, last: None, failures: 0, not_before: Instant::now() }
    }

    /// Runs until told to stop.
    pub fn run(mut self, stop: CancellationToken) -> Running {
        Box::pin(async move {
            let mut ticks = interval(self.site.settings.times.push);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let site = self.site.clone();
            loop {
                let forced = tokio::select! {
                    () = stop.cancelled() => break,
                    _ = ticks.tick() => false,
                    () = site.push.notified() => true,
                };
                // What has been sent is waited for: the Server may have taken it.
                if let Err(error) = self.look(forced, &stop).await {
                    tracing::warn!(%error, "cannot look whether there are updates to push");
                }
            }
            if let Err(error) = self.site.farm.return_lease(LEASE, &self.site.holder).await {
                tracing::warn!(%error, "another manager has to wait before it can push");
            }
        })
    }

    /// Pushes as long as that is due.
    async fn look(&mut self, mut forced: bool, stop: &CancellationToken) -> Result<()> {
        let settings = self.site.settings.clone();
        while !stop.is_cancelled() && Instant::now() >= self.not_before {
            let waits = self.site.farm.has_updates(1).await?;
            let many = waits && self.site.farm.has_updates(settings.push_count).await?;
            let since_last = self.last.map_or(Duration::MAX, |last| last.elapsed());
            let waiting = Waiting { any: waits, many };
            if !forced && !waiting.is_due(since_last, settings.push_interval, settings.cancel_interval) {
                return Ok(());
            }
            // Longer than a push takes, which is two requests where the Server does not take the compressed one: so
            // nobody else begins one meanwhile.
            let hold = settings.times.upstream * 3;
            if !self.site.farm.take_lease(LEASE, &self.site.holder, self.site.clock.now(), hold).await? {
                return Ok(());
            }
            forced = false;
            self.push().await?;
        }
        Ok(())
    }

    async fn push(&mut self) -> Result<()> {
        let updates = self.site.farm.updates(self.site.settings.push_count).await?;
        let body = Value::Array(updates.iter().map(wire::update_out).collect());
        match self.site.upstream.push(body).await {
            Ok(pushed) => {
                if self.failures > 0 {
                    tracing::info!(after = self.failures, "the Server takes updates again");
                }
                (self.last, self.failures) = (Some(Instant::now()), 0);
                if !updates.is_empty() && pushed.handled.is_empty() {
                    // It answered, and took nothing: the same would come of the next push.
                    tracing::warn!(updates = updates.len(), "the Server acknowledged none of the updates");
                    self.not_before = Instant::now() + self.site.settings.push_interval.min(PAUSE.max);
                }
                self.take(pushed).await
            }
            Err(error) => {
                self.failures += 1;
                let pause = PAUSE.jittered(self.failures);
                self.not_before = Instant::now() + pause;
                tracing::warn!(%error, updates = updates.len(), ?pause, "updates could not be pushed; they are kept");
                Ok(())
            }
        }
    }

    /// Does what the Server answered.
    async fn take(&self, pushed: Pushed) -> Result<()> {
        let forgotten = self.site.farm.delete_updates(&pushed.handled).await;
        let lines = self.site.farm.cancel(&pushed.cancel, self.site.clock.now()).await?;
        self.site.logs.append(lines).await;
        for (job, task) in pushed.logs {
            // The Server says so again until it has the log.
            _ = self.logs.try_send(WantedLog { job, task });
        }
        forgotten.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_by_count_and_by_time() {
        let (nothing, one) = (Waiting { any: false, many: false }, Waiting { any: true, many: false });
        let many = Waiting { any: true, many: true };
        for (waiting, seconds, due) in [
            (nothing, 0.0, false),
            (nothing, 9.9, false),
            (nothing, 10.0, true),
            (one, 0.0, false),
            (one, 4.9, false),
            (one, 5.0, true),
            (many, 0.0, true),
        ] {
            let since_last = Duration::from_secs_f64(seconds);
            let is_due = waiting.is_due(since_last, Duration::from_secs(5), Duration::from_secs(10));
            assert_eq!(is_due, due, "{waiting:?} after {seconds} s");
        }
        assert!(
            nothing.is_due(Duration::MAX, Duration::from_secs(5), Duration::from_secs(10)),
            "nothing was ever pushed"
        );
    }
}
