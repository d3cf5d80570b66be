//! A bell tells the loops of this process that something has happened: a task was queued or has ended, a
//! worker or an endpoint has come. A ring is a hint and no more: a loop that listens also looks from time to
//! time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

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

/// A bell that says for whom it was rung; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct NamedBell {
    bell: Bell,
    names: Arc<Mutex<BTreeSet<Uuid>>>,
}

impl NamedBell {
    /// Rings it for these. Without any it stays silent.
    pub fn ring(&self, names: impl IntoIterator<Item = Uuid>) {
        let mut names = names.into_iter().peekable();
        if names.peek().is_some() {
            self.names.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
            self.bell.ring();
        }
    }

    /// Waits until it rings, or has rung since this was waited for last.
    pub async fn rung(&self) {
        self.bell.rung().await;
    }

    /// For whom it was rung since this was asked last.
    pub fn take(&self) -> BTreeSet<Uuid> {
        std::mem::take(&mut *self.names.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
