//! Rung when a task may be given to a worker: one was queued, one has ended, a worker came. A hint and no more: whoever listens also
//! looks from time to time.

use std::sync::Arc;

use tokio::sync::Notify;

/// A bell; clones are the same one. Rings while nobody listens count as one.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Notify>);

impl Bell {
    /// Rings it.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits until it rings, or has rung since this was waited for last.
    pub async fn rung(&self) {
        self.0.notified().await;
    }
}
