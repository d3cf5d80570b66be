//! Tells the Server that this manager has started, and when the task types of its workers have changed.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::site::Site;
use super::wire;
use crate::service::Running;

/// The notifier.
#[derive(Debug)]
pub struct Notifier {
    site: Arc<Site>,
}

impl Notifier {
    /// The notifier of a site.
    pub const fn new(site: Arc<Site>) -> Self {
        Self { site }
    }

    /// Runs until told to stop.
    pub fn run(self, stop: CancellationToken) -> Running {
        Box::pin(async move {
            let (after_start, after_change) = self.site.settings.times.notify;
            let run = async {
                self.until_told("startup", after_start).await;
                loop {
                    self.site.types_changed.notified().await;
                    self.until_told("update", after_change).await;
                }
            };
            stop.run_until_cancelled(run).await;
        })
    }

    /// Tries until the Server knows; with what is true at each try.
    async fn until_told(&self, call: &str, pause: Duration) {
        loop {
            match self.site.farm.workers().await {
                Ok(workers) => {
                    let settings = &self.site.settings;
                    let notice = wire::notice_out(&settings.own_url, &settings.variables, &workers);
                    match self.site.upstream.notify(call, &notice).await {
                        Ok(()) => return,
                        Err(error) => {
                            tracing::warn!(call, %error, ?pause, "cannot register with the Server")
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(call, %error, ?pause, "the workers to tell the Server of cannot be read")
                }
            }
            tokio::time::sleep(pause).await;
        }
    }
}
