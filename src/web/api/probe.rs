//! How the database stood when `/ready` last asked it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long what the database has shown counts. `/ready` is open to everybody, and asking often must not be
/// work for the database.
const FRESH: Duration = Duration::from_secs(1);

/// What the database has shown last.
#[derive(Debug, Default)]
pub struct Probe {
    /// Held by the one question that is under way.
    pub turn: Arc<tokio::sync::Mutex<()>>,
    last: Mutex<Option<(Instant, &'static str)>>,
}

impl Probe {
    /// What it has shown a moment ago.
    pub fn fresh(&self) -> Option<&'static str> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|(at, _)| at.elapsed() < FRESH).map(|(_, said)| said)
    }

    /// Keeps what it shows now.
    pub fn said(&self, said: &'static str) -> &'static str {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), said));
        said
    }
}
