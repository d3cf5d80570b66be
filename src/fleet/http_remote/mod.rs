//! HTTP tasks that other processes perform: the remote mode of [`crate::http_tasks`], over RabbitMQ.
//!
//! ```no_run
//! # mod tasker {
//! #     pub use {tasker_fleet::http_remote, tasker_http_tasks as http_tasks, tasker_process::config};
//! # }
//! use tasker::http_remote::{Remote, RemoteConfig};
//! use tasker::http_tasks::{Method, Task, TaskList, TaskRunner};
//!
//! # async fn sample(queue: tasker::config::MessageQueue) -> Result<(), Box<dyn std::error::Error>> {
//! let runner = TaskRunner::remote("my-service", RemoteConfig::new(queue))?.build()?;
//! let list: TaskList = runner.task_list(&Task::new(Method::GET, "https://bmc1.example.org/redfish/v1")?, 1);
//! let done = runner.launch(list)?.join().await;
//! # Ok(())
//! # }
//! ```
//!
//! The `caller` sends each task as an `order` to the work queue of a pool and waits for its `answer`; a
//! `worker` (`tasker http-worker`) takes as many as it has room for, performs them with a local runner, and
//! answers to the caller that the broker took the task from. `notice` is what both say in between; `frame`
//! the bytes of all of it; `sealed` the signatures of callers, `revoked` the keys that count no more; `setup` what
//! both are told. Exchanges and queues are declared by the `broker` (its `Post`).
//!
//! Promises: a caller's task ends by its time-out and [`RemoteConfig::grace`], whatever the broker and the
//! workers do. A task that may be performed twice is performed again when its worker is lost, at most three
//! times; one that may not (POST and PATCH, see [`crate::http_tasks::RetryMethods`]) is performed at most
//! once, and ends as [`RemoteError::WorkerLost`] when it is not known whether it was. What is given up: a
//! worker that starts after a task was canceled, and takes it before its time is over, performs it all the
//! same.
//!
//! [`RemoteError::WorkerLost`]: crate::http_tasks::RemoteError::WorkerLost

pub mod answer;
mod caller;
pub mod frame;
pub mod notice;
pub mod order;
mod revoked;
pub mod sealed;
mod setup;
mod worker;

use std::sync::Arc;

use tokio::runtime::Handle;

use self::setup::check;
pub use self::setup::{POOL, RemoteConfig, RemoteSetupError};
pub use self::worker::{Worker, WorkerConfig};
use crate::http_tasks::{RunnerBuilder, TaskRunner};

/// Begins runners whose tasks are performed by workers elsewhere.
pub trait Remote {
    /// Begins such a runner. `service` is the `User-Agent` of its requests. It connects in the background,
    /// and for ever.
    ///
    /// # Errors
    /// When the settings make no sense, or this is not called on a tokio runtime.
    fn remote(service: impl Into<String>, config: RemoteConfig) -> Result<RunnerBuilder, RemoteSetupError>;
}

impl Remote for TaskRunner {
    fn remote(service: impl Into<String>, config: RemoteConfig) -> Result<RunnerBuilder, RemoteSetupError> {
        if Handle::try_current().is_err() {
            return Err(RemoteSetupError::NoRuntime);
        }
        check(&config.message_queue, &config.pool, config.allow_plaintext_broker)?;
        Ok(Self::elsewhere(service, Arc::new(caller::Caller::start(config)?)))
    }
}
