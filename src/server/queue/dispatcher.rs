//! Gives waiting tasks to workers that have room, and takes them back from those that are gone.
//!
//! Any number of processes may run this loop: whose room is filled, and which task is given, is locked in the
//! ledger: room that another process fills is waited for, tasks that it gives are skipped. What is given is
//! published to the worker by name; if that message is lost, the row is due and the reconciler asks again.
//! What finds a worker with room when it is submitted never comes here: it is given as it is recorded.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Successors, rules};
use crate::admission::Admission;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::{ReasonCode, TaskEvent, TaskType};
use crate::ledger::Ledger;
use crate::publisher::{Outgoing, Publisher};
use crate::service::Running;
use crate::store::{Given, QueueRule, Settlement, SharedStore, StoreError, Turns};
use crate::telemetry::SharedMetrics;

/// How often to look without being told: tasks that another process has queued, workers that are gone.
const LOOK: Duration = Duration::from_secs(1);
/// How long to wait for more after a pass that gave tasks: under load a pass a millisecond would give one
/// task each, and hold up whoever records and collects.
const GATHER: Duration = Duration::from_millis(5);
/// When a worker is asked for a task that it has not received.
const ASK: Duration = Duration::from_secs(10);

/// What a pass did.
struct Pass {
    /// Whether there may be more to do at once.
    more: bool,
    /// Whether a task was given.
    gave: bool,
}

/// The loop.
#[derive(Debug)]
pub struct Dispatcher {
    store: SharedStore,
    ledger: Ledger,
    publisher: Arc<Publisher>,
    successors: Successors,
    clock: Clock,
    metrics: SharedMetrics,
    rules: Vec<QueueRule>,
    retention: Duration,
}

impl Dispatcher {
    /// A dispatcher for the queues of this configuration.
    pub fn new(
        config: &Arc<Config>,
        admission: Arc<Admission>,
        store: SharedStore,
        ledger: Ledger,
        publisher: Arc<Publisher>,
        clock: Clock,
        metrics: SharedMetrics,
    ) -> Self {
        let successors =
            Successors::new(config.clone(), admission, store.clone(), ledger.clone(), metrics.clone());
        Self {
            rules: rules(config),
            retention: config.tasks.retention,
            store,
            ledger,
            publisher,
            successors,
            clock,
            metrics,
        }
    }

    /// Gives and takes back until told to stop; the pass in hand is finished.
    pub fn run(self, stop: CancellationToken) -> Running {
        Box::pin(async move {
            if self.rules.is_empty() {
                return stop.cancelled().await;
            }
            let (mut failures, mut looked, mut gave) = (0u32, None, false);
            while !stop.is_cancelled() {
                let wait = match self.pass(&mut looked).await {
                    Ok(pass) => {
                        failures = 0;
                        gave = pass.gave;
                        if pass.more { Duration::ZERO } else { LOOK }
                    }
                    Err(error) => {
                        failures = failures.saturating_add(1);
                        error.log("could not give tasks to workers");
                        // Not rung out of it: a store that is away has nothing to give.
                        let pause = tokio::time::sleep(Backoff::CONNECTION.jittered(failures));
                        stop.run_until_cancelled(pause).await;
                        Duration::ZERO
                    }
                };
                if !wait.is_zero() {
                    if gave {
                        stop.run_until_cancelled(tokio::time::sleep(GATHER)).await;
                    }
                    let _ =
                        tokio::time::timeout(wait, stop.run_until_cancelled(self.ledger.bell().rung())).await;
                }
            }
        })
    }

    async fn pass(&self, looked: &mut Option<Instant>) -> Result<Pass, StoreError> {
        if looked.is_none() {
            let types: Vec<TaskType> = self.rules.iter().map(|rule| rule.task_type.clone()).collect();
            self.store.release_held(&types).await?;
        }
        if looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            *looked = Some(Instant::now());
            self.take_back().await?;
        }
        let chained = match self.successors.queue(self.clock.now()).await {
            Err(error) if !error.is_transient() => {
                // What can be given is given all the same.
                tracing::error!(%error, "cannot queue successors");
                false
            }
            result => result?,
        };
        let now = self.clock.now();
        let Turns { given, expired, more } = self.ledger.give(&self.rules, now, now.after(ASK)).await?;
        if !expired.is_empty() {
            let settlement = |id| Settlement {
                id,
                event: Some(TaskEvent::Expire),
                found: None,
                asks: 0,
                due_at: now.after(self.retention),
            };
            self.ledger.settle(&expired.into_iter().map(settlement).collect::<Vec<_>>(), now).await?;
        }
        let gave = !given.is_empty();
        if gave {
            crate::failpoint::DISPATCHER_GIVEN.reach();
            self.publisher
                .give(
                    given.into_iter().map(|Given { task, worker }| (Outgoing::from(task), worker)).collect(),
                )
                .await;
        }
        Ok(Pass { more: more || chained, gave })
    }

    async fn take_back(&self) -> Result<(), StoreError> {
        let returned = self.ledger.take_back(&self.rules).await?;
        if returned > 0 {
            self.metrics.taken_back.inc_by(returned);
            tracing::warn!(tasks = returned, reason = %ReasonCode::EndpointGone, "workers are gone: their tasks wait again");
        }
        Ok(())
    }
}
