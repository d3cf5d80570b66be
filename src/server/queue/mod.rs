//! Work queues: tasks that are performed once, by one worker that has room.
//!
//! A queued task waits in the ledger. The [`Dispatcher`] of any API process gives it to a worker: from then
//! on it is a task with one expected endpoint, and everything else - delivery, journal, report, asking again,
//! cancel - is as for any other. It is a lease: when presence of the worker ends, the task goes back to its
//! place. [`Successors`] says what is queued after it, a `Bell` wakes the dispatcher; a worker
//! that fetches its tasks over HTTP waits at a [`Desk`].

mod dispatcher;
mod successors;

pub use dispatcher::Dispatcher;
pub use successors::Successors;

use crate::config::{Config, TypePolicy};
use crate::store::QueueRule;

/// What holds for the queues of a configuration.
pub fn rules(config: &Config) -> Vec<QueueRule> {
    let rule = |policy: &TypePolicy| {
        let queue = policy.queue.as_ref()?;
        Some(QueueRule {
            task_type: policy.name.clone(),
            attempts: policy.attempts,
            max_running: queue.max_running,
            max_per_key: queue.limit_key.is_some().then_some(queue.max_per_key),
        })
    };
    config.task_types.iter().filter_map(rule).collect()
}

/// Where workers that fetch their tasks over HTTP wait for some.
pub type Desk = crate::watch::Watch<crate::domain::EndpointName>;
