//! What happens to tasks while it happens, for counters and logs of the caller.

use std::time::Duration;

use super::TaskId;
use super::completion::AttemptOutcome;

/// Something that happened. No event has a body, a header or a credential.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A task got its slot.
    Started {
        /// Which task.
        id: TaskId,
    },
    /// An attempt ended.
    Attempt {
        /// Which task.
        id: TaskId,
        /// Which attempt, from 1.
        attempt: u32,
        /// Host and port.
        host: &'a str,
        /// How.
        outcome: AttemptOutcome,
    },
    /// Another attempt follows after a wait.
    Waiting {
        /// Which task.
        id: TaskId,
        /// How long.
        wait: Duration,
    },
    /// A certificate was not accepted, and the task goes on without looking at it.
    Fallback {
        /// Which task.
        id: TaskId,
        /// The host.
        host: &'a str,
    },
}

/// Is told what happens. Called by the task itself: be quick. A panic ends the task as
/// [`super::TaskError::Panicked`].
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: &Event<'_>);
}

impl<F: Fn(&Event<'_>) + Send + Sync> Observer for F {
    fn event(&self, event: &Event<'_>) {
        self(event);
    }
}
