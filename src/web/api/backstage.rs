//! Where store and broker are called.
//!
//! A worker of the server has a runtime of its own; a connection of the pool that was made there would stall
//! when that worker is busy and die when it stops. So such work runs in the runtime that store and broker
//! live in.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Handle;
use tracing::Instrument;

use super::problem::Problem;

/// The runtime of store and broker, seen from a handler.
#[derive(Debug, Clone)]
pub struct Backstage {
    /// Work that is bounded otherwise may be spawned here.
    pub runtime: Handle,
    timeout: Duration,
}

impl Backstage {
    /// The runtime in which this is called. Work has so long.
    pub fn here(timeout: Duration) -> Self {
        Self { runtime: Handle::current(), timeout }
    }

    /// Does work to its end, whether or not the client stays to hear of it.
    pub async fn run<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, Problem>
    where
        T: Send + 'static,
        E: Into<Problem> + Send + 'static,
    {
        let work = self.runtime.spawn(work.in_current_span());
        match tokio::time::timeout(self.timeout, work).await {
            Ok(Ok(answer)) => answer.map_err(Into::into),
            Ok(Err(died)) => Err(Problem::internal(died)),
            Err(_) => Err(Problem::database_unavailable("the store did not answer in time")),
        }
    }
}
