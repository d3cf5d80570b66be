//! Finds rollouts that may move on, and has the ledger move them.
//!
//! Any number of processes may run this loop. A process locks the rollout that it moves, and the others pass
//! it over. The bell of the ledger, rung for a rollout when its endpoints answer or somebody asks something
//! of it, only makes the next look come sooner: each rollout that has not ended has a time at which some
//! process looks at it in any case.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::windows;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::domain::rollout::{View, decide};
use crate::ledger::Ledger;
use crate::publisher::{Outgoing, Publisher, Stop};
use crate::service::Running;
use crate::store::{AdvancedRollout, RolloutBatches, RolloutDecision, SharedStore, StoreError};
use crate::telemetry::SharedMetrics;
use crate::watch::Watch;

/// How often to look without being told.
const LOOK: Duration = Duration::from_secs(1);
/// Answers come in bursts: so long a burst is waited for.
const GATHER: Duration = Duration::from_millis(10);
/// Rollouts that are found in one pass at most.
const FOUND: u32 = 256;
/// Rollouts that are moved on at the same time.
const AT_ONCE: usize = 4;
/// How often to look for rollouts that ended long ago.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// How long the process that records a batch has to publish it before any other may.
const PUBLISH_LEASE: Duration = Duration::from_secs(5);

/// The loop.
#[derive(Debug)]
pub struct Controller {
    store: SharedStore,
    ledger: Ledger,
    publisher: Arc<Publisher>,
    clock: Clock,
    metrics: SharedMetrics,
    watch: Watch<Uuid>,
    retention: Duration,
}

impl Controller {
    /// A loop; several may run at once, in one process or in many. `watch` is told of the rollouts that
    /// change.
    pub fn new(
        store: SharedStore,
        ledger: Ledger,
        publisher: Arc<Publisher>,
        clock: Clock,
        metrics: SharedMetrics,
        watch: Watch<Uuid>,
        retention: Duration,
    ) -> Self {
        Self { store, ledger, publisher, clock, metrics, watch, retention }
    }

    /// Moves rollouts on until told to stop; the pass in hand is finished.
    pub fn run(self, stop: CancellationToken) -> Running {
        Box::pin(async move {
            let (mut failures, mut forget_at) = (0u32, Instant::now());
            while !stop.is_cancelled() {
                if forget_at <= Instant::now() {
                    self.forget(&stop).await;
                    forget_at = Instant::now() + FORGET_EVERY;
                }
                match self.pass().await {
                    Ok(true) => failures = 0,
                    Ok(false) => {
                        failures = 0;
                        let rung = async {
                            self.ledger.rollouts().rung().await;
                            tokio::time::sleep(GATHER).await;
                        };
                        let _ = tokio::time::timeout(LOOK, stop.run_until_cancelled(rung)).await;
                    }
                    Err(error) => {
                        failures = failures.saturating_add(1);
                        error.log("could not move rollouts on");
                        stop.run_until_cancelled(tokio::time::sleep(Backoff::CONNECTION.jittered(failures)))
                            .await;
                    }
                }
            }
        })
    }

    /// Forgets rollouts that ended long ago, one after the other: each may have many endpoints.
    async fn forget(&self, stop: &CancellationToken) {
        let before = self.clock.now().before(self.retention);
        while !stop.is_cancelled() {
            match self.store.forget_rollout(before).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return error.log("could not forget ended rollouts"),
            }
        }
    }

    /// Moves on what is due and what the bell was rung for. Answers whether there is more to do at once.
    async fn pass(&self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let mut due = self.ledger.rollouts().take();
        due.extend(self.store.due_rollouts(now, FOUND).await?);
        if due.is_empty() {
            return Ok(false);
        }
        let moved: Vec<_> =
            futures::stream::iter(due).map(|id| self.advance(id)).buffer_unordered(AT_ONCE).collect().await;
        let mut more = false;
        for again in moved {
            more |= again?;
        }
        Ok(more)
    }

    /// Moves one on. Answers whether it has more to do at once.
    async fn advance(&self, id: Uuid) -> Result<bool, StoreError> {
        let (now, started) = (self.clock.now(), Instant::now());
        let decision: Arc<RolloutDecision> = Arc::new(move |view: View| {
            let open = windows::at(&view.settings.windows, now);
            let change = decide(&View { windows: open, ..view }, now);
            crate::failpoint::ROLLOUT_DECIDED.reach();
            change
        });
        let batches = RolloutBatches { lease_until: now.after(PUBLISH_LEASE), retention: self.retention };
        let advanced = match self.ledger.advance_rollout(id, decision, batches, now).await {
            Ok(Some(advanced)) => advanced,
            // Another process has it, or it has ended.
            Ok(None) => return Ok(false),
            Err(error) if error.is_row_fault() => {
                tracing::error!(rollout = %id, %error, "a rollout cannot be moved on");
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        crate::failpoint::ROLLOUT_COMMITTED.reach();
        self.metrics.rollout_pass_seconds.observe(started.elapsed().as_secs_f64());
        self.follow(id, advanced, now).await
    }

    /// Publishes the batch, counts, and wakes those who wait.
    async fn follow(&self, id: Uuid, advanced: AdvancedRollout, now: Timestamp) -> Result<bool, StoreError> {
        let AdvancedRollout {
            identifier,
            task_type,
            moved,
            reason,
            breach,
            targets,
            tasks,
            probe,
            withdrawn,
            stopped,
            next_wave_after,
            due_at,
        } = advanced;
        if !tasks.is_empty() {
            let admitted: usize = tasks.iter().map(|task| task.endpoints.len()).sum();
            self.metrics
                .rollout_admitted
                .with_label_values(&[task_type.as_str()])
                .inc_by(u64::try_from(admitted).unwrap_or(u64::MAX));
            let outgoing: Vec<Outgoing> = tasks.into_iter().map(Outgoing::from).collect();
            if let Err(error) = self.publisher.publish_frozen(&outgoing).await {
                tracing::warn!(rollout = %identifier, tasks = outgoing.len(), %error, "could not publish a batch; the reconciler takes over");
            }
            crate::failpoint::ROLLOUT_PUBLISHED.reach();
            if let Some(answered) = next_wave_after {
                self.metrics.rollout_advance_seconds.observe(self.clock.now().since(answered).as_secs_f64());
            }
        }
        if let Some(probe) = probe {
            let outgoing = [Outgoing::from(probe)];
            if let Err(error) = self.publisher.publish_frozen(&outgoing).await {
                tracing::warn!(rollout = %identifier, %error, "could not publish a probe; the reconciler takes over");
            }
        }
        let stop = |(task_id, endpoints)| Stop { task_type: task_type.clone(), task_id, endpoints };
        if !withdrawn.is_empty() {
            crate::failpoint::ROLLOUT_WITHDRAWN.reach();
            // If the broker does not confirm a message, the reconciler sends it again. Endpoints that return
            // are told by presence.
            self.publisher.withdraw(withdrawn.into_iter().map(stop).collect()).await;
        }
        if !stopped.is_empty() {
            // If the broker does not confirm a message, the next pass sends it again.
            self.publisher.stop(stopped.into_iter().map(stop).collect()).await;
        }
        for (state, count) in &targets {
            self.metrics
                .rollout_targets
                .with_label_values(&[task_type.as_str(), state.as_str()])
                .inc_by(*count);
        }
        if let Some(status) = moved {
            if let Some(breach) = breach {
                self.metrics.rollout_breaches.with_label_values(&[task_type.as_str(), breach.as_str()]).inc();
                tracing::warn!(rollout = %identifier, status = status.as_str(), breach = breach.as_str(), why = reason, "a budget or a gate stopped a rollout");
            } else {
                tracing::info!(rollout = %identifier, status = status.as_str(), "a rollout has moved");
            }
        }
        if moved.is_some() || !targets.is_empty() {
            self.watch.wake([&id]);
        }
        Ok(due_at.is_some_and(|due| due <= now))
    }
}
