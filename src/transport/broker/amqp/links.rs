//! The connections of one broker or post, and the tasks that use them: started together, ended in order.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::connection::{Purpose, Session, Sessions, supervise};
use super::options::AmqpOptions;

/// For everything on its way at the end.
const CLOSE_TIME: Duration = Duration::from_secs(10);

pub(super) struct Links {
    pub(super) options: Arc<AmqpOptions>,
    pub(super) safe_url: String,
    /// Ends those who publish and consume, once they have finished what is on its way.
    pub(super) closing: CancellationToken,
    pub(super) workers: TaskTracker,
    /// Ends the connections, after those.
    stop: CancellationToken,
    supervisors: TaskTracker,
}

impl Links {
    pub(super) fn new(options: AmqpOptions) -> Self {
        let (closing, stop) = (CancellationToken::new(), CancellationToken::new());
        let (workers, supervisors) = (TaskTracker::new(), TaskTracker::new());
        Self { safe_url: options.safe_url(), options: Arc::new(options), closing, workers, stop, supervisors }
    }

    /// Keeps a connection in the background.
    pub(super) fn keep(&self, purpose: Purpose) -> Sessions {
        let (sessions, present) = watch::channel(None::<Arc<Session>>);
        self.supervisors.spawn(supervise(Arc::clone(&self.options), purpose, sessions, self.stop.clone()));
        present
    }

    /// Tells those who publish and consume to end, and waits a while for what is on its way.
    pub(super) async fn finish(&self) {
        self.closing.cancel();
        self.workers.close();
        if timeout(CLOSE_TIME, self.workers.wait()).await.is_err() {
            warn!(broker = %self.safe_url, "closing with messages that the broker did not confirm");
        }
    }

    /// Ends the connections.
    pub(super) async fn disconnect(&self) {
        self.stop.cancel();
        self.supervisors.close();
        self.supervisors.wait().await;
    }
}

impl Drop for Links {
    /// Forgotten without an end: nothing is waited for, but nothing is left running.
    fn drop(&mut self) {
        self.closing.cancel();
        self.stop.cancel();
    }
}
