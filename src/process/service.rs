//! Long-running parts of a process: started together, watched, stopped in order.

use std::pin::Pin;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What a part of a process does until it is told to stop. In a box, so that it is compiled with the crate
/// that defines it, and not again by each crate that starts it.
pub type Running<T = ()> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A running part of the process.
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Service {
    /// Starts a part that ends when its token is canceled. If it ends on its own before, `died` is canceled:
    /// a process that has lost a part must end and be restarted rather than look healthy.
    pub fn start<F>(
        name: &'static str,
        died: &CancellationToken,
        run: impl FnOnce(CancellationToken) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let (running, token, died) = (run(stop.clone()), stop.clone(), died.clone());
        let task = tokio::spawn(async move {
            // Also fires when the part panics: the guard is dropped while unwinding.
            let guard = died.drop_guard();
            running.await;
            if token.is_cancelled() {
                guard.disarm();
            } else {
                tracing::error!(service = name, "a component of the process ended unexpectedly");
            }
        });
        Self { name, stop, task }
    }

    /// Tells it to stop and waits, for so long at most; then its task is dropped. Harmless when it has ended
    /// already.
    pub async fn stop(mut self, within: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(within, &mut self.task).await.is_err() {
            tracing::warn!(service = self.name, "did not stop in time");
            self.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stops_when_told() {
        let died = CancellationToken::new();
        let service = Service::start("calm", &died, |stop| async move { stop.cancelled().await });
        service.stop(Duration::from_secs(5)).await;
        assert!(!died.is_cancelled());
    }

    #[tokio::test]
    async fn a_part_that_ends_or_panics_takes_the_process_along() {
        let died = CancellationToken::new();
        let ended = Service::start("short", &died, |_| async {});
        died.cancelled().await;
        ended.stop(Duration::from_secs(5)).await;
        let died = CancellationToken::new();
        let _panicked = Service::start("bad", &died, |_| async { panic!("as the test wants") });
        died.cancelled().await;
    }

    #[tokio::test]
    async fn a_part_that_does_not_stop_is_dropped() {
        let died = CancellationToken::new();
        let service = Service::start("stubborn", &died, |_| std::future::pending());
        service.stop(Duration::from_millis(10)).await;
    }
}
