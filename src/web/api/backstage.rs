//! Where store and broker are called.
//!
//! A worker of the server has a runtime of its own; a connection of the pool that was made there would stall
//! when that worker is busy and die when it stops. So such work runs in the runtime that store and broker
//! live in.

use std::future::Future;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
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
        let (done, answer) = oneshot::channel();
        // In a box, and without an outcome: the runtime's part is then compiled once, and not for each kind of
        // work and both sorts of runtime.
        let work: BoxFuture<'static, ()> =
            async move { drop(done.send(work.await)) }.in_current_span().boxed();
        let working = self.runtime.spawn(work);
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(answer)) => answer.map_err(Into::into),
            // It has panicked, or the process stops.
            Ok(Err(unanswered)) => Err(match working.await {
                Err(died) => Problem::internal(died),
                Ok(()) => Problem::internal(unanswered),
            }),
            Err(_) => Err(Problem::database_unavailable("the store did not answer in time")),
        }
    }
}
