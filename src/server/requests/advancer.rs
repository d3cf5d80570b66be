//! Finds requests that may move on, and has the ledger move them.
//!
//! Any number of processes may run this loop. A process locks the requests that it moves, and the others skip
//! these. A pass finds requests in three ways: by tasks of jobs that have ended (rows of `ended`, written
//! with the end), by their state (new), and by their time. The bell of the ledger only makes the next pass
//! come sooner, so nothing depends on the process that took a request or ended a task. At the times of the
//! three configured patterns, a sweep makes requests due whose rows somebody has changed with SQL.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Calls;
use super::planner;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::{RequestToken, Timestamp};
use crate::ledger::Ledger;
use crate::publisher::{Outgoing, Publisher, Stop};
use crate::queue::rules;
use crate::service::Running;
use crate::store::{Advanced, DueRequest, Plan, QueueRule, SharedStore, StoreError, Terms};
use crate::telemetry::SharedMetrics;
use crate::watch::Watch;

/// How often to look without being told.
const LOOK: Duration = Duration::from_millis(500);
/// Requests that are moved in one transaction at most.
const BATCH: u32 = 256;
/// How long the process that records the tasks of jobs has to publish them before any other may.
const PUBLISH_LEASE: Duration = Duration::from_secs(10);
/// How often ended requests are forgotten, and how many at once.
const FORGET: Duration = Duration::from_secs(60);
const FORGOTTEN: u32 = 256;

/// The loop.
#[derive(Debug)]
pub struct Advancer {
    config: Arc<Config>,
    rules: Arc<[QueueRule]>,
    calls: Arc<Calls>,
    store: SharedStore,
    ledger: Ledger,
    publisher: Arc<Publisher>,
    clock: Clock,
    metrics: SharedMetrics,
    watch: Watch<RequestToken>,
}

/// When to look for requests in progress that nothing leads to.
struct Sweeps<'a> {
    patterns: [&'a Cron; 3],
    next: Option<Timestamp>,
}

impl<'a> Sweeps<'a> {
    fn new(config: &'a Config) -> Self {
        let requests = &config.requests;
        Self { patterns: [&requests.new_cron, &requests.job_cron, &requests.in_progress_cron], next: None }
    }

    /// Whether a time of one of the patterns has passed, or none was waited for yet.
    fn are_due(&self, now: Timestamp) -> bool {
        self.next.is_none_or(|next| next <= now)
    }

    /// Waits for the next time.
    fn done(&mut self, now: Timestamp) {
        let from = DateTime::<Utc>::from(now);
        let next =
            self.patterns.iter().filter_map(|pattern| pattern.find_next_occurrence(&from, false).ok()).min();
        self.next = Some(next.map_or(Timestamp::from_micros(i64::MAX), Timestamp::from));
    }
}

impl Advancer {
    /// A loop; several may run at once, in one process or in many. `watch` is told of the requests that end.
    #[expect(clippy::too_many_arguments, reason = "each is a part of its own")]
    pub fn new(
        config: Arc<Config>,
        calls: Arc<Calls>,
        store: SharedStore,
        ledger: Ledger,
        publisher: Arc<Publisher>,
        clock: Clock,
        metrics: SharedMetrics,
        watch: Watch<RequestToken>,
    ) -> Self {
        Self { rules: rules(&config).into(), config, calls, store, ledger, publisher, clock, metrics, watch }
    }

    /// Moves requests on until told to stop; the pass in hand is finished.
    pub fn run(self, stop: CancellationToken) -> Running {
        Box::pin(async move {
            if !self.config.requests.enabled {
                return stop.cancelled().await;
            }
            let (mut sweeps, mut forgotten, mut failures) = (Sweeps::new(&self.config), Instant::now(), 0u32);
            while !stop.is_cancelled() {
                let now = self.clock.now();
                let pass = self.look(now, &mut sweeps).await;
                if forgotten.elapsed() >= FORGET {
                    forgotten = Instant::now();
                    self.forget(now).await;
                }
                match pass {
                    Ok(true) => failures = 0,
                    Ok(false) => {
                        failures = 0;
                        let _ = tokio::time::timeout(
                            LOOK,
                            stop.run_until_cancelled(self.ledger.requests().rung()),
                        )
                        .await;
                    }
                    Err(error) => {
                        failures = failures.saturating_add(1);
                        error.log("could not move requests on");
                        stop.run_until_cancelled(tokio::time::sleep(Backoff::CONNECTION.jittered(failures)))
                            .await;
                    }
                }
            }
        })
    }

    async fn look(&self, now: Timestamp, sweeps: &mut Sweeps<'_>) -> Result<bool, StoreError> {
        if sweeps.are_due(now) {
            let swept = self.store.sweep_requests(now).await?;
            sweeps.done(now);
            if swept > 0 {
                tracing::info!(requests = swept, "found requests that nothing led to");
            }
        }
        self.pass(now).await
    }

    /// Moves on what is due. Answers whether there may be more.
    async fn pass(&self, now: Timestamp) -> Result<bool, StoreError> {
        let due = self.store.due_requests(now, BATCH).await?;
        if due.is_empty() {
            return Ok(false);
        }
        let started = Instant::now();
        let calls = self.calls.clone();
        let plan: Arc<Plan> = Arc::new(move |view| planner::next(view, &*calls, now));
        let retention = self.config.tasks.retention;
        let terms = Terms { rules: self.rules.clone(), lease_until: now.after(PUBLISH_LEASE), retention };
        let looked_at = match self.ledger.advance(&due, plan.clone(), &terms, now).await {
            Ok(advanced) => self.follow(advanced).await,
            Err(error) if error.is_row_fault() => self.one_by_one(&due, &plan, &terms, now).await?,
            Err(error) => return Err(error),
        };
        self.metrics.advance_seconds.observe(started.elapsed().as_secs_f64());
        // The other requests are locked by other processes, which move them.
        Ok(looked_at > 0 && due.len() >= usize::try_from(BATCH).unwrap_or(usize::MAX))
    }

    /// When the row of one spoils the others: each alone. What cannot be read or written fails its request.
    async fn one_by_one(
        &self,
        due: &[DueRequest],
        plan: &Arc<Plan>,
        terms: &Terms,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let mut looked_at = 0;
        for request in due {
            match self.ledger.advance(std::slice::from_ref(request), plan.clone(), terms, now).await {
                Ok(advanced) => looked_at += self.follow(advanced).await,
                Err(error) if error.is_row_fault() => {
                    tracing::error!(request = request.token.as_deref(), %error, "a request cannot be moved on, and has failed");
                    let failed = self.ledger.fail_request(request, &error.to_string(), now).await?;
                    looked_at += self.follow(failed).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(looked_at)
    }

    /// Counts the moves, wakes waiting requests and publishes the tasks. If the process dies before, the
    /// tasks are due when their lease is over.
    async fn follow(&self, advanced: Advanced) -> usize {
        crate::failpoint::ADVANCER_MOVED.reach();
        let Advanced { looked_at, steps, moved, jobs, tasks, stopped, more } = advanced;
        let now = self.clock.now();
        for end in steps {
            self.metrics.request_step_seconds.observe(now.since(end).as_secs_f64());
        }
        for (token, status) in &moved {
            self.metrics.requests.with_label_values(&[status.as_str()]).inc();
            tracing::debug!(request = %token, status = status.as_str(), "a request has moved");
        }
        for (status, count) in jobs {
            self.metrics.jobs.with_label_values(&[status.as_str()]).inc_by(count);
        }
        self.watch.wake(moved.iter().filter(|(_, status)| status.is_final()).map(|(token, _)| token));
        let (mut given, mut published) = (Vec::new(), Vec::new());
        for (task, worker) in tasks {
            match worker {
                Some(worker) => given.push((Outgoing::from(task), worker)),
                // It waits in its queue.
                None if task.place.is_some() => {}
                None => published.push(Outgoing::from(task)),
            }
        }
        if !given.is_empty() {
            self.publisher.give(given).await;
        }
        if !published.is_empty()
            && let Err(error) = self.publisher.publish_new(&published).await
        {
            tracing::warn!(tasks = published.len(), %error, "could not publish the tasks of jobs; the reconciler takes over");
        }
        let stops: Vec<Stop> = stopped
            .into_iter()
            .filter(|outcome| !outcome.to_stop.is_empty())
            .map(|outcome| Stop {
                task_type: outcome.task.task_type,
                task_id: outcome.task.id,
                endpoints: outcome.to_stop,
            })
            .collect();
        if !stops.is_empty() {
            self.publisher.stop(stops).await;
        }
        if more {
            self.ledger.requests().ring();
        }
        looked_at
    }

    async fn forget(&self, now: Timestamp) {
        let before = now.before(self.config.requests.retention);
        loop {
            match self.store.forget_requests(before, FORGOTTEN).await {
                Ok(forgotten) if forgotten == u64::from(FORGOTTEN) => {}
                Ok(_) => return,
                Err(error) => return error.log("could not forget ended requests"),
            }
        }
    }
}
