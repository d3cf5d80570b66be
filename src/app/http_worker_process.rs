//! The role of a worker: performs HTTP tasks of others within what the configuration allows.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config};
use crate::handlers;
use crate::http_remote::sealed::Guard;
use crate::http_remote::{Worker, WorkerConfig};
use crate::service::Service;

/// Where its settings are.
const SECTION: &str = "http_worker.http";

/// A running worker.
#[derive(Debug)]
pub struct HttpWorkerProcess {
    worker: Service,
    died: CancellationToken,
    within: Duration,
}

impl HttpWorkerProcess {
    /// Starts a worker of this name.
    ///
    /// # Errors
    /// When a setting is missing, or allows nothing.
    pub fn start(config: &Config, name: String) -> anyhow::Result<Self> {
        let message_queue = config.for_http_worker()?.clone();
        let config::HttpWorker {
            pool,
            max_in_flight,
            stop_timeout,
            allow_plaintext_broker,
            signatures,
            trust,
            revocations,
            http,
        } = config.http_worker.clone();
        let tolerance = config.endpoint.clock_tolerance;
        let guard = Guard::new(signatures, &trust, revocations.as_deref(), tolerance)?.map(Arc::new);
        if http.allow.is_empty() {
            bail!("nothing is allowed: list the targets under {SECTION}.allow");
        }
        let runner = handlers::http_runner(&http, SECTION).map_err(anyhow::Error::msg)?;
        let config = WorkerConfig {
            message_queue,
            pool,
            name,
            max_in_flight,
            stop_timeout,
            allow_plaintext_broker,
            guard,
        };
        let worker = Worker::start(config, runner)?;
        let died = CancellationToken::new();
        let worker = Service::start("http-worker", &died, |stop| worker.run(stop));
        // The worker bounds its own stop; a little more, so that it is not cut off while it gives back what
        // has not ended.
        Ok(Self { worker, died, within: stop_timeout + Duration::from_secs(30) })
    }

    /// Canceled when the worker has ended on its own: the process should end too.
    pub const fn died(&self) -> &CancellationToken {
        &self.died
    }

    /// Takes no more, lets tasks finish, gives back the rest, closes the link.
    pub async fn stop(self) {
        self.worker.stop(self.within).await;
    }
}
