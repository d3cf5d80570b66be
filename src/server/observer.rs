//! Keeps the clock and the gauges in step with database and broker.
//!
//! Also the judge of the schema: a process must not work on one that is not its own, and must wait for one
//! that cannot be reached.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::broker::SharedBroker;
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::domain::TaskType;
use crate::service::Running;
use crate::store::{ClockOffsets, SharedStore, StoreError};
use crate::telemetry::SharedMetrics;

/// How often the gauges are renewed and the clock is set. Short against the intervals at which metrics are
/// read.
const EVERY: Duration = clock::READ_EVERY;

/// The loop.
pub struct Observer {
    config: Arc<Config>,
    store: SharedStore,
    broker: SharedBroker,
    clock: Clock,
    metrics: SharedMetrics,
    /// The types whose tasks may have to wait for approval.
    approved: Vec<TaskType>,
}

impl Observer {
    /// One for each API process.
    pub fn new(
        config: Arc<Config>,
        store: SharedStore,
        broker: SharedBroker,
        clock: Clock,
        metrics: SharedMetrics,
        approved: Vec<TaskType>,
    ) -> Self {
        Self { config, store, broker, clock, metrics, approved }
    }

    /// Observes until told to stop. Ends on its own when the schema turns out not to be this program's.
    pub fn run(self, stop: CancellationToken) -> Running {
        Box::pin(async move {
            let (mut checked, mut failures) = (false, 0);
            loop {
                let looked = self.look(&mut checked).await;
                self.count_trouble();
                let pause = match looked {
                    Ok(()) => {
                        failures = 0;
                        EVERY
                    }
                    Err(error) if error.needs_setup() => {
                        tracing::error!(%error, "this program cannot use this database");
                        return;
                    }
                    Err(error) => {
                        failures += 1;
                        self.metrics.database_up.set(0);
                        match error.is_denied() {
                            true => {
                                tracing::error!(%error, "the database keeps this process out; trying again")
                            }
                            false => tracing::warn!(%error, "the database is away; waiting for it"),
                        }
                        Backoff::CONNECTION.jittered(failures).min(EVERY)
                    }
                };
                if stop.run_until_cancelled(self.follow_link(pause)).await.is_none() {
                    return;
                }
            }
        })
    }

    /// Shows the state of the broker link for a while, as it changes.
    async fn follow_link(&self, span: Duration) {
        let mut link = self.broker.link();
        let follow = async {
            loop {
                self.metrics.broker_up.set(i64::from(link.borrow_and_update().up));
                if link.changed().await.is_err() {
                    // The broker is closed for good: nothing to follow.
                    std::future::pending::<()>().await;
                }
            }
        };
        let _ = tokio::time::timeout(span, follow).await;
    }

    async fn look(&self, checked: &mut bool) -> Result<(), StoreError> {
        self.clock.set(self.store.now().await?);
        if !*checked {
            self.store.check_schema().await?;
            *checked = true;
        }
        self.metrics.database_up.set(1);
        let types: Vec<TaskType> = self.config.task_types.iter().map(|policy| policy.name.clone()).collect();
        let subscribed = self.store.subscribed(&types).await?;
        for task_type in &types {
            let count = subscribed.get(task_type).map_or(0, Vec::len);
            self.metrics
                .subscribed
                .with_label_values(&[task_type.as_str()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.metrics
            .standbys
            .set(i64::try_from(self.store.standbys(self.clock.now()).await?).unwrap_or(i64::MAX));
        let stopped = self.store.stopped_by_file().await?;
        self.metrics.stop_files.set(i64::try_from(stopped).unwrap_or(i64::MAX));
        let ClockOffsets { beyond, largest } = self.store.clock_offsets().await?;
        self.metrics.clocks_off.set(i64::try_from(beyond).unwrap_or(i64::MAX));
        self.metrics.clock_offset_seconds.set(largest.as_secs_f64());
        let open = self.store.open_tasks().await?;
        // What is not open any more must not keep its last value.
        self.metrics.open_tasks.reset();
        self.metrics.oldest_task_seconds.reset();
        let now = self.clock.now();
        for row in open {
            let labels = [row.task_type.as_str(), row.status.as_str()];
            self.metrics
                .open_tasks
                .with_label_values(&labels)
                .set(i64::try_from(row.count).unwrap_or(i64::MAX));
            self.metrics
                .oldest_task_seconds
                .with_label_values(&labels)
                .set(now.since(row.oldest).as_secs_f64());
        }
        for task_type in &self.approved {
            let held = self.store.held_tasks(task_type).await?;
            let labels = [task_type.as_str()];
            self.metrics.held_tasks.with_label_values(&labels).set(i64::try_from(held).unwrap_or(i64::MAX));
        }
        for (status, count) in self.store.open_requests().await? {
            self.metrics
                .open_requests
                .with_label_values(&[status.as_str()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for (status, count) in self.store.open_rollouts().await? {
            self.metrics
                .rollouts
                .with_label_values(&[status.as_str()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.metrics
            .rollout_holds
            .set(i64::try_from(self.store.count_rollout_holds().await?).unwrap_or(i64::MAX));
        for (what, since) in self.store.rollout_waits().await? {
            let waited =
                since.map_or(0, |since| i64::try_from(now.since(since).as_secs()).unwrap_or(i64::MAX));
            self.metrics.rollout_waiting_seconds.with_label_values(&[what]).set(waited);
        }
        self.look_at_queues().await
    }

    /// Carries the store's own counts on. Every cause is there from the start, so that the first of its kind
    /// is a step up from zero.
    fn count_trouble(&self) {
        let tally = self.store.tally();
        for (metric, counts) in [
            (&self.metrics.store_retries, tally.retries().collect::<Vec<_>>()),
            (&self.metrics.store_refusals, tally.refusals().collect()),
        ] {
            for (cause, count) in counts {
                let metric = metric.with_label_values(&[cause]);
                metric.inc_by(count.saturating_sub(metric.get()));
            }
        }
    }

    async fn look_at_queues(&self) -> Result<(), StoreError> {
        let types: Vec<TaskType> = self.config.of_delivery(true).map(|policy| policy.name.clone()).collect();
        if types.is_empty() {
            return Ok(());
        }
        for queue in self.store.queues(&types).await? {
            let name = queue.task_type.as_str();
            self.metrics.queue_paused.with_label_values(&[name]).set(i64::from(queue.paused_at.is_some()));
            for (state, count) in [
                ("waiting", queue.waiting),
                ("held", queue.held),
                ("delayed", queue.delayed),
                ("running", queue.running),
            ] {
                self.metrics
                    .queued
                    .with_label_values(&[name, state])
                    .set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        Ok(())
    }
}
