//! Records submissions: the step between a validated POST and its 201.
//!
//! Submissions that arrive while a statement runs are recorded together by the next one, so the database sees
//! a few statements a second however fast they come, and a lone submission waits for nobody. What is recorded
//! is handed to the publisher in memory; if that hand-over fails or the process dies, the row is due in
//! `PUBLISH_LEASE` and the reconciler of any API process takes over. What goes into a work queue is given to
//! a worker as it is recorded, if one has room; otherwise the dispatcher is told that it waits. Memory is
//! bounded by `QUEUE` and `BUDGET_KIB`: beyond, callers are told to come back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::clock::Clock;
use crate::domain::{EndpointName, NewTask, TaskId};
use crate::ledger::Ledger;
use crate::publisher::{self, Outgoing};
use crate::service::Running;
use crate::store::{Accepted, QueueRule, StoreError};
use crate::telemetry::SharedMetrics;

/// Submissions that may wait to be recorded.
const QUEUE: usize = 4096;
/// KiB of payload that may wait to be recorded, and as many to be published: 64 bodies of the default limit.
const BUDGET_KIB: usize = 64 * 1024;
/// Submissions recorded in one statement at most.
const BATCH: usize = 256;
/// How long the accepting process has to publish before any other may.
const PUBLISH_LEASE: Duration = Duration::from_secs(10);

/// Why a submission was not recorded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AcceptError {
    /// Too many submissions are waiting.
    #[error("too many submissions are waiting to be recorded")]
    Busy,
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopping,
    /// The store said no; shared by all submissions of the statement.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
}

/// Accepts submissions. Clones feed the same loop, which ends when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Acceptor {
    queue: mpsc::Sender<Submission>,
    budget: Arc<Semaphore>,
    metrics: SharedMetrics,
}

#[derive(Debug)]
struct Submission {
    task: NewTask,
    answer: oneshot::Sender<Result<Accepted, AcceptError>>,
    _budget: OwnedSemaphorePermit,
}

impl Acceptor {
    /// The entrance, and the loop to be spawned behind it. The loop ends once every clone is dropped and all
    /// that was waiting is recorded; it then closes `publish`.
    pub fn new(
        ledger: Ledger,
        clock: Clock,
        metrics: SharedMetrics,
        publish: mpsc::Sender<publisher::Handover>,
        rules: Vec<QueueRule>,
    ) -> (Self, Running) {
        let (queue, submissions) = mpsc::channel(QUEUE);
        let acceptor = Self { queue, budget: Arc::new(Semaphore::new(BUDGET_KIB)), metrics: metrics.clone() };
        let room = Arc::new(Semaphore::new(BUDGET_KIB));
        let recorder = Recorder { ledger, clock, metrics, publish, room, rules };
        (acceptor, Box::pin(recorder.run(submissions)))
    }

    /// Records a submission, together with others that come at the same time.
    ///
    /// # Errors
    /// See [`AcceptError`]. After an error the submission is not recorded, except when the connection to the
    /// database broke during the commit; a repeat of the same submission finds out.
    pub async fn submit(&self, task: NewTask) -> Result<Accepted, AcceptError> {
        let (task_type, held) = (task.task_type.clone(), task.held);
        let result = self.queue(task).await;
        let label = match &result {
            Ok(Accepted::New) if held => "held",
            Ok(Accepted::New | Accepted::Given(_)) => "new",
            Ok(Accepted::Existing { same: true, .. }) => "repeated",
            Ok(Accepted::Existing { same: false, .. }) => "conflict",
            Err(AcceptError::Busy) => "busy",
            Err(AcceptError::Stopping | AcceptError::Store(_)) => "unavailable",
        };
        self.metrics.submissions.with_label_values(&[task_type.as_str(), label]).inc();
        result
    }

    async fn queue(&self, task: NewTask) -> Result<Accepted, AcceptError> {
        let _budget =
            self.budget.clone().try_acquire_many_owned(weight(&task)).map_err(|_| AcceptError::Busy)?;
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Submission { task, answer, _budget }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => AcceptError::Busy,
            mpsc::error::TrySendError::Closed(_) => AcceptError::Stopping,
        })?;
        answered.await.unwrap_or(Err(AcceptError::Stopping))
    }
}

/// The loop behind the entrance.
struct Recorder {
    ledger: Ledger,
    clock: Clock,
    metrics: SharedMetrics,
    publish: mpsc::Sender<publisher::Handover>,
    /// Memory for what is to be published.
    room: Arc<Semaphore>,
    rules: Vec<QueueRule>,
}

impl Recorder {
    async fn run(self, mut submissions: mpsc::Receiver<Submission>) {
        let mut batch = Vec::with_capacity(BATCH);
        while submissions.recv_many(&mut batch, BATCH).await > 0 {
            let (tasks, answers): (Vec<_>, Vec<_>) =
                batch.drain(..).map(|s| (s.task, (s.answer, s._budget))).unzip();
            let started = Instant::now();
            let results = self.record(&tasks).await;
            crate::failpoint::ACCEPTOR_RECORDED.reach();
            self.metrics.accept_batch.observe(tasks.len() as f64);
            self.metrics.accept_seconds.observe(started.elapsed().as_secs_f64());
            for ((task, (answer, _budget)), result) in tasks.into_iter().zip(answers).zip(results) {
                match &result {
                    // It waits in its queue, or for approval.
                    Ok(Accepted::New) if task.place.is_some() || task.held => {}
                    Ok(Accepted::New) => self.hand_over(task, None),
                    Ok(Accepted::Given(worker)) => self.hand_over(task, Some(worker.clone())),
                    Ok(Accepted::Existing { .. }) | Err(_) => {}
                }
                // A caller who has gone away finds the task by its identifier.
                let _ = answer.send(result);
            }
        }
    }

    /// One statement for all; when that fails for a reason that lies in a row, each alone, so that one does
    /// not spoil the others.
    async fn record(&self, tasks: &[NewTask]) -> Vec<Result<Accepted, AcceptError>> {
        let due_at = self.clock.now().after(PUBLISH_LEASE);
        let accept = |tasks| self.ledger.accept(tasks, &self.rules, due_at);
        match accept(tasks).await {
            Ok(accepted) => accepted.into_iter().map(Ok).collect(),
            Err(error) if !error.is_row_fault() || tasks.len() == 1 => {
                tracing::warn!(submissions = tasks.len(), %error, "cannot record submissions");
                let error = Arc::new(error);
                tasks.iter().map(|_| Err(AcceptError::Store(error.clone()))).collect()
            }
            Err(_) => {
                let mut results = Vec::with_capacity(tasks.len());
                for task in tasks {
                    results.push(match accept(std::slice::from_ref(task)).await {
                        Ok(mut accepted) => accepted.pop().ok_or(AcceptError::Stopping),
                        Err(error) => Err(AcceptError::Store(Arc::new(error))),
                    });
                }
                results
            }
        }
    }

    /// Never waits: a broker that is slow must not hold up submissions, and what finds no room is in the
    /// ledger.
    fn hand_over(&self, task: NewTask, worker: Option<EndpointName>) {
        let id: TaskId = task.id;
        let handed = self.room.clone().try_acquire_many_owned(weight(&task)).is_ok_and(|room| {
            let accepted = publisher::Handover { task: Outgoing::from(task), worker, room };
            self.publish.try_send(accepted).is_ok()
        });
        if !handed {
            tracing::debug!(task = %id, "the publisher is behind; the task goes out when its lease is over");
        }
    }
}

/// KiB of memory that a submission takes, about.
fn weight(task: &NewTask) -> u32 {
    let names: usize =
        task.endpoints.iter().map(|name| size_of::<EndpointName>() + name.as_str().len()).sum();
    u32::try_from((task.payload.get().len() + names) / 1024 + 1).unwrap_or(u32::MAX)
}
