//! The interface between the platform and the code that performs a task type.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::domain::{EndpointName, Identifier, Json, Outcome, TaskId, TaskType};

/// Performs the tasks of one type. One value serves all attempts of all tasks, several at a time.
///
/// A panic is caught and becomes a failed response. An attempt whose time limit passes, or that is canceled,
/// has its future dropped a short grace after [`Context::canceled`] fires: hold nothing across an `.await`
/// that a drop would spoil.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// One attempt.
    async fn run(&self, work: &Work, context: &Context) -> Outcome;
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Work {
    /// Our name for the task.
    pub id: TaskId,
    /// Its type.
    pub task_type: TaskType,
    /// The customer's name for it.
    pub identifier: Identifier,
    /// The endpoint that performs it.
    pub endpoint: EndpointName,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The customer's data; JSON text, `""` when none was given.
    pub payload: Json,
}

impl Work {
    /// The payload as a value of your own type.
    ///
    /// # Errors
    /// When the payload has another form; the text names the member.
    pub fn payload<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.payload.get())
    }
}

/// What an attempt may ask of the platform.
#[derive(Clone)]
pub struct Context {
    deadline: Instant,
    cancel: CancellationToken,
    sink: std::sync::Arc<dyn AttemptSink>,
}

/// Where progress and log lines of an attempt go; implemented by the performer.
pub trait AttemptSink: Send + Sync {
    /// Percent done, 0 to 100.
    fn progress(&self, percent: u8);
    /// One line for people.
    fn log(&self, line: &str);
    /// The handler is about to end this process or this machine, and this is its answer. Completes when that
    /// is on disk.
    fn restarting(&self, _answer: Json) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl Context {
    /// Made by the executor for each attempt.
    pub fn new(deadline: Instant, cancel: CancellationToken, sink: std::sync::Arc<dyn AttemptSink>) -> Self {
        Self { deadline, cancel, sink }
    }

    /// Says how far the work is, 0 to 100. Cheap: at most one message a second leaves the endpoint.
    pub fn progress(&self, percent: u8) {
        self.sink.progress(percent.min(100));
    }

    /// Keeps a line for the customer: the last 8 KiB of all lines of an attempt become the response's `log`.
    pub fn log(&self, line: impl AsRef<str>) {
        self.sink.log(line.as_ref());
    }

    /// Says that this handler is about to restart the endpoint or the machine, and what its answer is. If the
    /// process ends before the handler does, the response is finished with this answer, and the handler is
    /// not run again. A handler that ends by itself nevertheless has the outcome that it returns. Wait for
    /// the future before the restart: then the answer is on disk.
    pub fn restarting(&self, answer: Json) -> impl Future<Output = ()> + Send + 'static {
        self.sink.restarting(answer)
    }

    /// When the attempt's time limit passes.
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The time left until [`Self::deadline`].
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Completes when the attempt should stop: canceled, over its time limit, or the process is stopping.
    pub async fn canceled(&self) {
        self.cancel.cancelled().await;
    }

    /// Whether [`Self::canceled`] has fired.
    pub fn is_canceled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}
