//! Closes gaps and passes deadlines: looks at every task whose due time has come.
//!
//! One column, `due_at`, says when somebody has to look at a task next, whatever for; one pure function, `decide`, says
//! what there is to do. Any number of processes may run this loop: a task is claimed by moving its due time, and what is
//! decided is written guarded by the state found under the lock. Work a pass is bounded by `BATCH`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::domain::{EndpointName, Task, TaskEvent, TaskId, TaskType, Timestamp};
use crate::publisher::{Outgoing, Publisher};
use crate::store::{DueTask, Settlement, SharedStore, StoreError};
use crate::telemetry::SharedMetrics;
use crate::watch::Watch;

/// Tasks looked at in one pass.
const BATCH: u32 = 200;
/// How long this process has to deal with what it claimed before any other may.
const LEASE: Duration = Duration::from_secs(15);
/// The pause after a pass that found less than a full batch.
const PAUSE: Duration = Duration::from_millis(500);
/// When missing endpoints are asked again.
const ASKS: Backoff = Backoff { first: Duration::from_secs(10), max: Duration::from_secs(600) };

/// What there is to do about a due task.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// It ended and nothing is open: remove it.
    Forget,
    /// Its time is over: give up what is open.
    Expire,
    /// It was never published: freeze and publish.
    Publish,
    /// Some endpoint has not received it: ask those that are there, and pass the receive deadline if that is over.
    Ask {
        /// Whether the receive deadline has passed.
        overdue: bool,
    },
    /// All have received it: wait for them.
    Wait,
}

/// What to do about a task at a point in time.
fn decide(due: &DueTask, now: Timestamp) -> Step {
    let task = &due.task;
    let over = now >= task.expires_at;
    match task.status.is_final() {
        true if task.counts.open() == 0 => Step::Forget,
        true if over => Step::Expire,
        true => Step::Wait,
        false if over => Step::Expire,
        false if !due.frozen => Step::Publish,
        false if task.counts.all_received() => Step::Wait,
        false => Step::Ask { overdue: now >= task.receive_by },
    }
}

/// When to ask next: with growing intervals, but not before or after a deadline that has to be passed.
fn next_look(task: &Task, asks: u32, now: Timestamp) -> Timestamp {
    let next = now.after(ASKS.jittered(asks)).min(task.expires_at);
    if now < task.receive_by { next.min(task.receive_by) } else { next }
}

/// The loop.
#[derive(Debug)]
pub struct Reconciler {
    store: SharedStore,
    publisher: Arc<Publisher>,
    clock: Clock,
    metrics: SharedMetrics,
    watch: Watch,
    retention: Duration,
}

impl Reconciler {
    /// A reconciler; several may run at once, in one process or in many.
    pub fn new(
        store: SharedStore,
        publisher: Arc<Publisher>,
        clock: Clock,
        metrics: SharedMetrics,
        watch: Watch,
        retention: Duration,
    ) -> Self {
        Self { store, publisher, clock, metrics, watch, retention }
    }

    /// Looks at due tasks until told to stop; the pass in hand is finished.
    pub async fn run(self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let pause = match self.pass().await {
                Ok(full) => {
                    failures = 0;
                    if full { Duration::ZERO } else { PAUSE.mul_f64(0.5 + fastrand::f64()) }
                }
                Err(error) => {
                    failures += 1;
                    tracing::debug!(%error, "could not look at due tasks");
                    Backoff::CONNECTION.jittered(failures)
                }
            };
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// One pass; answers whether there may be more at once.
    async fn pass(&self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let due = self.store.claim_due(now, now.after(LEASE), BATCH).await?;
        let full = due.len() == BATCH as usize;
        let (mut forget, mut publish, mut ask, mut settlements) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for due in due {
            let settle = |event, due_at| Settlement { id: due.task.id, event, asks: due.asks, due_at };
            match decide(&due, now) {
                Step::Forget => forget.push(due.task.id),
                Step::Expire => settlements.push(settle(Some(TaskEvent::Expire), now.after(self.retention))),
                Step::Wait => settlements.push(settle(None, due.task.expires_at)),
                Step::Publish => publish.push(Outgoing::from(due.task)),
                Step::Ask { overdue } => ask.push((due, overdue)),
            }
        }
        if !forget.is_empty() {
            self.store.forget(&forget).await?;
        }
        if !publish.is_empty() {
            self.publisher.publish_new(&publish).await?;
        }
        if !ask.is_empty() {
            settlements.extend(self.ask(ask, now).await?);
        }
        if !settlements.is_empty() {
            let moved = self.store.settle(&settlements, now, self.retention).await?;
            self.metrics.count_moves(&moved);
            self.watch.moved(&moved);
        }
        Ok(full)
    }

    /// Asks the missing endpoints that are there now; the others are asked when they return (`presence`).
    async fn ask(&self, due: Vec<(DueTask, bool)>, now: Timestamp) -> Result<Vec<Settlement>, StoreError> {
        let ids: Vec<TaskId> = due.iter().map(|(due, _)| due.task.id).collect();
        let types: HashSet<TaskType> = due.iter().map(|(due, _)| due.task.task_type.clone()).collect();
        let mut missing = self.store.missing_of(&ids).await?;
        let subscribed = self.store.subscribed(&types.into_iter().collect::<Vec<_>>()).await?;
        let subscribed: HashMap<TaskType, HashSet<EndpointName>> =
            subscribed.into_iter().map(|(task_type, names)| (task_type, names.into_iter().collect())).collect();
        let (mut asks, mut plans) = (Vec::new(), Vec::new());
        for (due, overdue) in due {
            let there = subscribed.get(&due.task.task_type);
            let mut names = missing.remove(&due.task.id).unwrap_or_default();
            names.retain(|name| there.is_some_and(|there| there.contains(name)));
            plans.push((due.clone(), overdue, !names.is_empty()));
            if !names.is_empty() {
                self.metrics.asks.with_label_values(&["missing"]).inc();
                asks.push((Outgoing::from(due.task), names));
            }
        }
        let confirmed = self.publisher.ask(asks).await;
        self.store.mark_published(&confirmed, now).await?;
        let confirmed: HashSet<TaskId> = confirmed.into_iter().collect();
        let settle = |(due, overdue, asked): (DueTask, bool, bool)| {
            let event = overdue.then_some(TaskEvent::ReceiveDeadline);
            let failed = asked && !confirmed.contains(&due.task.id);
            let asks = due.asks + u32::from(!failed);
            let due_at = if failed { now.after(LEASE.mul_f64(0.3)) } else { next_look(&due.task, asks, now) };
            Settlement { id: due.task.id, event, asks, due_at }
        };
        Ok(plans.into_iter().map(settle).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Counts, TaskStatus, json};

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_micros(secs * 1_000_000)
    }

    fn due(status: TaskStatus, frozen: bool, counts: Counts) -> DueTask {
        let task = Task {
            id: TaskId::new(),
            identifier: "i".parse().expect("an identifier"),
            task_type: "worker".parse().expect("a type"),
            status,
            payload: json(&""),
            endpoints: vec![],
            counts,
            start_time: at(0),
            published_at: None,
            finished_at: None,
            receive_by: at(30),
            expires_at: at(100),
        };
        DueTask { task, frozen, asks: 0 }
    }

    fn counts(expected: u32, received: u32, finished: u32) -> Counts {
        Counts { expected, received, finished, ..Counts::default() }
    }

    #[test]
    fn decides_by_state_and_time() {
        use TaskStatus as S;
        let table = [
            (S::Created, false, counts(0, 0, 0), 10, Step::Publish),
            (S::Created, false, counts(0, 0, 0), 100, Step::Expire),
            (S::Created, true, counts(2, 0, 0), 10, Step::Ask { overdue: false }),
            (S::Sent, true, counts(2, 1, 1), 29, Step::Ask { overdue: false }),
            (S::Sent, true, counts(2, 1, 1), 30, Step::Ask { overdue: true }),
            (S::Sent, true, counts(0, 0, 0), 30, Step::Ask { overdue: true }),
            (S::Sent, true, counts(2, 2, 1), 50, Step::Wait),
            (S::Incomplete, true, counts(2, 1, 1), 99, Step::Ask { overdue: true }),
            (S::Incomplete, true, counts(2, 1, 1), 100, Step::Expire),
            (S::Done, true, counts(2, 2, 2), 100, Step::Forget),
            (S::Canceled, true, counts(2, 2, 1), 50, Step::Wait),
            (S::Canceled, true, counts(2, 2, 1), 100, Step::Expire),
            (S::Canceled, true, Counts { canceled: 1, ..counts(2, 1, 1) }, 50, Step::Forget),
        ];
        for (status, frozen, counts, now, step) in table {
            assert_eq!(decide(&due(status, frozen, counts), at(now)), step, "{status:?} {counts:?} at {now}");
        }
    }

    #[test]
    fn looks_again_at_every_deadline_and_ever_more_rarely() {
        let task = due(TaskStatus::Sent, true, counts(2, 1, 1)).task;
        assert!(next_look(&task, 1, at(25)) <= at(30), "the receive deadline is passed in time");
        assert!(next_look(&task, 9, at(95)) <= at(100), "the end of its life is seen in time");
        assert!(next_look(&task, 1, at(40)) >= at(45));
    }
}
