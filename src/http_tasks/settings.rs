//! What a runner is made with, and what follows for one task.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connect;
use super::observer::{Event, Observer};
use super::proxy::Proxy;
use super::reach::Guard;
use super::retry::RetryPolicy;
use super::task::Task;
use super::tls::InsecureFallback;
use super::transport::TransportPolicy;

/// Longer than any task runs, short enough to be added to a clock.
pub(super) const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// When the time of a task begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeadlineFrom {
    /// When it gets its slot: a long queue does not eat it.
    #[default]
    Start,
    /// When its list is launched.
    Launch,
}

pub(super) struct Settings {
    pub(super) service: Arc<str>,
    pub(super) max_unfinished: Option<usize>,
    pub(super) timeout: Duration,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) deadline_from: DeadlineFrom,
    pub(super) retry: RetryPolicy,
    pub(super) transport: TransportPolicy,
    pub(super) fallback: InsecureFallback,
    pub(super) body_limit: usize,
    pub(super) max_buffered_bytes: usize,
    pub(super) proxy: Proxy,
    pub(super) guard: Option<Arc<dyn Guard>>,
    pub(super) observer: Option<Arc<dyn Observer>>,
    pub(super) connector: Arc<dyn Connect>,
}

impl Settings {
    /// How long a task may take.
    pub(super) fn span_of(&self, task: &Task) -> Duration {
        task.timeout.unwrap_or(self.timeout).min(FOREVER)
    }

    /// When the time of a task is over whose list was launched and which got its slot at these times.
    pub(super) fn deadline_of(&self, task: &Task, launched: Instant, began: Instant) -> Instant {
        let from = match self.deadline_from {
            DeadlineFrom::Start => began,
            DeadlineFrom::Launch => launched,
        };
        from + self.span_of(task)
    }

    /// How failed attempts of a task are repeated.
    pub(super) fn policy_of(&self, task: &Task) -> RetryPolicy {
        let mut policy = task.policy.as_deref().unwrap_or(&self.retry).clone();
        policy.retries = task.retries.or(policy.retries);
        policy.backoff_max = task.backoff_max.unwrap_or(policy.backoff_max);
        policy
    }

    /// Tells the observer.
    pub(super) fn tell(&self, event: &Event<'_>) {
        if let Some(observer) = &self.observer {
            observer.event(event);
        }
    }
}
