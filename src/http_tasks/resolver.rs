//! Names to addresses: few look-ups at a time, one for each name, remembered for a short while.
//!
//! The system's resolver blocks a thread for each look-up. Sixteen thousand tasks for one name are one
//! look-up here.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Looks up names.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// The addresses of a name, the best first.
    ///
    /// # Errors
    /// Whatever keeps it from answering.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// Asks the system.
#[derive(Debug, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// How long an answer is believed: long enough for one batch, short enough for a change of address.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Names remembered at most.
const NAMES: usize = 8192;
/// Look-ups at the same time.
const AT_ONCE: usize = 32;

/// One name: whoever holds the lock asks, the others wait for the answer.
type Known = Arc<tokio::sync::Mutex<Option<(Instant, Arc<[IpAddr]>)>>>;

pub(super) struct Resolver {
    ask: Arc<dyn Resolve>,
    known: Mutex<HashMap<String, Known>>,
    gate: Semaphore,
}

impl Resolver {
    pub(super) fn new(ask: Arc<dyn Resolve>) -> Self {
        Self { ask, known: Mutex::default(), gate: Semaphore::new(AT_ONCE) }
    }

    pub(super) async fn look_up(&self, name: &str) -> io::Result<Arc<[IpAddr]>> {
        let entry = self.entry(name);
        let mut known = entry.lock().await;
        if let Some((when, addresses)) = &*known
            && when.elapsed() < REMEMBERED
        {
            return Ok(addresses.clone());
        }
        let _turn = self.gate.acquire().await;
        let addresses: Arc<[IpAddr]> = self.ask.resolve(name).await?.into();
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        *known = Some((Instant::now(), addresses.clone()));
        Ok(addresses)
    }

    fn entry(&self, name: &str) -> Known {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.get(name) {
            return entry.clone();
        }
        if known.len() >= NAMES {
            // Those that nobody is asking for right now.
            known.retain(|_, entry| Arc::strong_count(entry) > 1);
        }
        known.entry(name.to_owned()).or_default().clone()
    }
}
