//! Uploads logs of tasks that the Server wants, one after the other.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::site::Site;
use crate::farm::ObjectId;
use crate::service::Running;

/// Logs that may wait. More are dropped: the Server asks for them again.
const WAITING: usize = 64;

/// A log that the Server wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedLog {
    /// The job.
    pub job: ObjectId,
    /// The task.
    pub task: ObjectId,
}

/// What uploads logs.
#[derive(Debug)]
pub struct LogUploads {
    site: Arc<Site>,
    wanted: mpsc::Receiver<WantedLog>,
}

impl LogUploads {
    /// That of a site, and the way to it.
    pub fn new(site: Arc<Site>) -> (Self, mpsc::Sender<WantedLog>) {
        let (sender, wanted) = mpsc::channel(WAITING);
        (Self { site, wanted }, sender)
    }

    /// Runs until told to stop.
    pub fn run(mut self, stop: CancellationToken) -> Running {
        Box::pin(async move {
            let mut waiting = Vec::new();
            while stop
                .run_until_cancelled(self.wanted.recv_many(&mut waiting, WAITING))
                .await
                .is_some_and(|count| count > 0)
            {
                // The Server has asked again for those that still wait.
                waiting.sort_unstable_by_key(|wanted| (wanted.job, wanted.task));
                waiting.dedup();
                for wanted in waiting.drain(..) {
                    if stop.run_until_cancelled(self.upload(wanted)).await.is_none() {
                        return;
                    }
                }
            }
        })
    }

    async fn upload(&self, WantedLog { job, task }: WantedLog) {
        let log = match self.site.logs.compress(job, task).await {
            Ok(log) => log,
            Err(error) => return tracing::error!(%task, %error, "the log of a task cannot be compressed"),
        };
        match self.site.upstream.attach_log(task, &log).await {
            Ok(()) => tracing::info!(%task, bytes = log.len(), "the Server has the log of a task"),
            Err(error) => {
                tracing::warn!(%task, %error, "the log of a task could not be uploaded; the Server will ask again")
            }
        }
    }
}
