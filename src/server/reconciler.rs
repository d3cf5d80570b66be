//! Closes gaps and passes deadlines: looks at every task whose due time has come.
//!
//! One column, `due_at`, says when somebody has to look at a task next, whatever for; one pure function,
//! `decide`, says what there is to do. Any number of processes may run this loop: a task is claimed by moving
//! its due time, and what is decided is written guarded by the state found under the lock. Work a pass is
//! bounded by `BATCH`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::domain::{EndpointName, Task, TaskEvent, TaskId, TaskStatus, TaskType, Timestamp};
use crate::ledger::Ledger;
use crate::publisher::{Ask, Outgoing, Publisher, Stop};
use crate::service::Running;
use crate::store::{DueTask, Found, OpenRow, Settlement, SharedStore, StoreError};

/// Tasks looked at in one pass.
const BATCH: u32 = 200;
/// How long this process has to deal with what it claimed before any other may.
const LEASE: Duration = Duration::from_secs(15);
/// The pause after a pass that found less than a full batch.
const PAUSE: Duration = Duration::from_millis(500);
/// When a task is looked at again that some endpoint has not received.
const ASKS: Backoff = Backoff { first: Duration::from_secs(10), max: Duration::from_secs(600) };
/// How long an endpoint that has a task may say nothing before it is asked how it stands, and how often. That
/// it lives is known from presence; this finds reports that the broker has confirmed and lost. The question
/// is answered from memory.
const QUIET: Duration = Duration::from_secs(300);
/// Open responses that are read at once, unless a single task has more.
const ROWS: usize = 20_000;

/// What there is to do about a due task.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// It ended and nothing is open: remove it.
    Forget,
    /// Its time is over: give up what is open.
    Expire,
    /// It was never published: freeze and publish.
    Publish,
    /// It waits in a work queue and the time has come before which it was not to begin.
    Ready,
    /// Some endpoint has not finished it: ask those that are there, and pass the receive deadline if that is
    /// over.
    Ask {
        /// Whether the receive deadline has passed.
        overdue: bool,
    },
    /// It was canceled and some endpoint has not confirmed it: tell those again.
    Stop,
}

/// What to do about a task at a point in time.
fn decide(due: &DueTask, now: Timestamp) -> Step {
    let task = &due.task;
    let over = now >= task.expires_at;
    match task.status.is_final() {
        true if task.counts.open() == 0 => Step::Forget,
        true if over => Step::Expire,
        true => Step::Stop,
        false if over => Step::Expire,
        false if task.queued.is_some() && task.status == TaskStatus::Created => Step::Ready,
        false if !due.frozen => Step::Publish,
        false => Step::Ask { overdue: now >= task.receive_by },
    }
}

/// When to look next: with growing intervals, but not before or after a deadline that has to be passed.
fn next_look(task: &Task, asks: u32, now: Timestamp) -> Timestamp {
    let heard = task.counts.all_received() && !task.status.is_final();
    let pause = if heard { QUIET } else { ASKS.jittered(asks) };
    let next = now.after(pause).min(task.expires_at);
    if now < task.receive_by { next.min(task.receive_by) } else { next }
}

/// How often a task was asked for, and when to look next. What did not go out was not asked, and is soon
/// tried again.
fn next_try(due: &DueTask, failed: bool, now: Timestamp) -> (u32, Timestamp) {
    match failed {
        true => (due.asks, now.after(LEASE.mul_f64(0.3))),
        false => (due.asks + 1, next_look(&due.task, due.asks + 1, now)),
    }
}

/// How a task stood when it was claimed.
fn found(due: &DueTask) -> Found {
    Found { ended: due.task.status.is_final(), asks: due.asks }
}

/// What to ask about a task: those who have not received it, and apart from them those who have and are
/// quiet. Only endpoints that are there; the others are asked when they return (`presence`). And those from
/// whom it was taken back, which are told so again.
fn questions(
    task: &Task,
    rows: Vec<OpenRow>,
    there: Option<&HashSet<EndpointName>>,
    now: Timestamp,
) -> (Vec<Ask>, Vec<EndpointName>) {
    let is_there = |row: &OpenRow| there.is_some_and(|there| there.contains(&row.endpoint));
    let quiet = |row: &OpenRow| row.last_modified_time.after(QUIET) <= now;
    let (received, missing): (Vec<_>, Vec<_>) =
        rows.into_iter().filter(is_there).partition(|row| row.home.is_some());
    let received: Vec<EndpointName> = received.into_iter().filter(quiet).map(|row| row.endpoint).collect();
    let (withdrawn, missing): (Vec<_>, Vec<_>) = missing.into_iter().partition(|row| row.withdrawn);
    let [withdrawn, missing] =
        [withdrawn, missing].map(|rows| rows.into_iter().map(|row| row.endpoint).collect::<Vec<_>>());
    let ask = |(endpoints, received): (Vec<EndpointName>, bool)| Ask {
        task: Outgoing::from(task.clone()),
        endpoints,
        received,
    };
    let asks = [(missing, false), (received, true)]
        .into_iter()
        .filter(|(endpoints, _)| !endpoints.is_empty())
        .map(ask)
        .collect();
    (asks, withdrawn)
}

/// The loop.
#[derive(Debug)]
pub struct Reconciler {
    store: SharedStore,
    ledger: Ledger,
    publisher: Arc<Publisher>,
    clock: Clock,
    retention: Duration,
}

impl Reconciler {
    /// A reconciler; several may run at once, in one process or in many.
    pub fn new(
        store: SharedStore,
        ledger: Ledger,
        publisher: Arc<Publisher>,
        clock: Clock,
        retention: Duration,
    ) -> Self {
        Self { store, ledger, publisher, clock, retention }
    }

    /// Looks at due tasks until told to stop; the pass in hand is finished.
    pub fn run(self, stop: CancellationToken) -> Running {
        Box::pin(async move {
            let mut failures = 0;
            loop {
                let pause = match self.pass().await {
                    Ok(full) => {
                        failures = 0;
                        if full { Duration::ZERO } else { PAUSE.mul_f64(0.5 + fastrand::f64()) }
                    }
                    Err(error) => {
                        failures += 1;
                        error.log("could not look at due tasks");
                        Backoff::CONNECTION.jittered(failures)
                    }
                };
                if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    return;
                }
            }
        })
    }

    /// One pass; answers whether there may be more at once.
    async fn pass(&self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let due = self.store.claim_due(now, now.after(LEASE), BATCH).await?;
        // Without a broker there is nothing to hurry for: a long outage must not keep database and processor
        // busy.
        let full = due.len() == BATCH as usize && self.publisher.is_connected();
        let (mut forget, mut publish, mut ready, mut ask, mut stop) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut settlements = Vec::new();
        for due in due {
            match decide(&due, now) {
                Step::Forget => forget.push(due.task.id),
                Step::Expire => {
                    let (id, event, asks) = (due.task.id, Some(TaskEvent::Expire), due.asks);
                    let due_at = now.after(self.retention);
                    settlements.push(Settlement { id, event, found: None, asks, due_at });
                }
                Step::Publish => publish.push(Outgoing::from(due.task)),
                Step::Ready => ready.push(due.task.id),
                Step::Ask { overdue } => ask.push((due, overdue)),
                Step::Stop => stop.push(due),
            }
        }
        // A step that fails leaves the others alone: what it did not do is due again when the lease is over.
        let mut first_fault = None;
        let mut done = |step: Result<Vec<Settlement>, StoreError>| match step {
            Ok(decided) => settlements.extend(decided),
            Err(error) => _ = first_fault.get_or_insert(error),
        };
        if !forget.is_empty() {
            done(self.store.forget(&forget).await.map(|_| Vec::new()));
        }
        if !publish.is_empty() {
            done(self.publisher.publish_new(&publish).await.map(|_| Vec::new()));
        }
        if !ready.is_empty() {
            done(self.ledger.make_ready(&ready).await.map(|_| Vec::new()));
        }
        for some in portions(ask, |(due, _)| due) {
            done(self.ask(some, now).await);
        }
        for some in portions(stop, |due| due) {
            done(self.stop(some, now).await);
        }
        if !settlements.is_empty() {
            self.ledger.settle(&settlements, now).await?;
        }
        first_fault.map_or(Ok(full), Err)
    }

    /// Asks those endpoints that have not answered and are there.
    async fn ask(&self, due: Vec<(DueTask, bool)>, now: Timestamp) -> Result<Vec<Settlement>, StoreError> {
        let ids: Vec<TaskId> = due.iter().map(|(due, _)| due.task.id).collect();
        let types: HashSet<TaskType> = due.iter().map(|(due, _)| due.task.task_type.clone()).collect();
        let mut open = self.store.open_rows(&ids).await?;
        let subscribed = self.store.subscribed(&types.into_iter().collect::<Vec<_>>()).await?;
        let subscribed: HashMap<TaskType, HashSet<EndpointName>> = subscribed
            .into_iter()
            .map(|(task_type, names)| (task_type, names.into_iter().collect()))
            .collect();
        let (mut asks, mut asked, mut withdrawals) = (Vec::new(), HashSet::new(), Vec::new());
        for (due, _) in &due {
            let rows = open.remove(&due.task.id).unwrap_or_default();
            let (of_task, withdrawn) = questions(&due.task, rows, subscribed.get(&due.task.task_type), now);
            for ask in of_task {
                asked.insert(due.task.id);
                asks.push(ask);
            }
            if !withdrawn.is_empty() {
                withdrawals.push(Stop {
                    task_type: due.task.task_type.clone(),
                    task_id: due.task.id,
                    endpoints: withdrawn,
                });
            }
        }
        let mut failed =
            self.publisher.ask(&asks, |ask| if ask.received { "quiet" } else { "missing" }).await;
        let confirmed: Vec<TaskId> = asked.into_iter().filter(|id| !failed.contains(id)).collect();
        self.ledger.mark_published(&confirmed).await?;
        if !withdrawals.is_empty() {
            failed.extend(self.publisher.withdraw(withdrawals).await);
        }
        let settle = |(due, overdue): (DueTask, bool)| {
            let event = overdue.then_some(TaskEvent::ReceiveDeadline);
            let (asks, due_at) = next_try(&due, failed.contains(&due.task.id), now);
            Settlement { id: due.task.id, event, found: Some(found(&due)), asks, due_at }
        };
        Ok(due.into_iter().map(settle).collect())
    }

    /// Tells endpoints again to stop what was canceled.
    async fn stop(&self, due: Vec<DueTask>, now: Timestamp) -> Result<Vec<Settlement>, StoreError> {
        let ids: Vec<TaskId> = due.iter().map(|due| due.task.id).collect();
        let mut open = self.store.open_rows(&ids).await?;
        let stops = due.iter().filter_map(|due| {
            let endpoints: Vec<_> = open.remove(&due.task.id)?.into_iter().map(|row| row.endpoint).collect();
            Some(Stop { task_type: due.task.task_type.clone(), task_id: due.task.id, endpoints })
        });
        let failed = self.publisher.stop(stops.collect()).await;
        let settle = |due: DueTask| {
            let (asks, due_at) = next_try(&due, failed.contains(&due.task.id), now);
            Settlement { id: due.task.id, event: None, found: Some(found(&due)), asks, due_at }
        };
        Ok(due.into_iter().map(settle).collect())
    }
}

/// Cuts tasks into portions with a bounded number of open responses each.
fn portions<T>(tasks: Vec<T>, due: impl Fn(&T) -> &DueTask) -> Vec<Vec<T>> {
    let mut portions: Vec<Vec<T>> = Vec::new();
    let mut rows = 0;
    for task in tasks {
        let open = usize::try_from(due(&task).task.counts.open()).unwrap_or(ROWS);
        match portions.last_mut() {
            Some(portion) if rows + open <= ROWS => portion.push(task),
            _ => {
                portions.push(vec![task]);
                rows = 0;
            }
        }
        rows += open;
    }
    portions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Counts, Queued, TaskStatus, json};

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
            target: None,
            rerun_of: None,
            queued: None,
            counts,
            start_time: at(0),
            published_at: None,
            finished_at: None,
            receive_by: at(30),
            expires_at: at(100),
            held: false,
        };
        DueTask { task, frozen, asks: 0 }
    }

    fn counts(expected: u32, received: u32, finished: u32) -> Counts {
        Counts { expected, received, finished, ..Counts::default() }
    }

    #[test]
    fn decides_by_state_and_time() {
        use TaskStatus as S;
        let mut waits = due(S::Created, false, counts(0, 0, 0));
        waits.task.queued = Some(Queued {
            priority: 1,
            run_at: None,
            attempts: vec![],
            parent: None,
            replaced_by: None,
            successor_error: None,
        });
        assert_eq!((decide(&waits, at(10)), decide(&waits, at(100))), (Step::Ready, Step::Expire));
        let table = [
            (S::Created, false, counts(0, 0, 0), 10, Step::Publish),
            (S::Created, false, counts(0, 0, 0), 100, Step::Expire),
            (S::Created, true, counts(2, 0, 0), 10, Step::Ask { overdue: false }),
            (S::Sent, true, counts(2, 1, 1), 29, Step::Ask { overdue: false }),
            (S::Sent, true, counts(2, 1, 1), 30, Step::Ask { overdue: true }),
            (S::Sent, true, counts(0, 0, 0), 30, Step::Ask { overdue: true }),
            (S::Sent, true, counts(2, 2, 1), 50, Step::Ask { overdue: true }),
            (S::Incomplete, true, counts(2, 1, 1), 99, Step::Ask { overdue: true }),
            (S::Incomplete, true, counts(2, 1, 1), 100, Step::Expire),
            (S::Done, true, counts(2, 2, 2), 100, Step::Forget),
            (S::Canceled, true, counts(2, 2, 1), 50, Step::Stop),
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
        let mut heard = due(TaskStatus::Sent, true, counts(2, 2, 1)).task;
        heard.expires_at = at(10_000);
        assert_eq!(next_look(&heard, 1, at(40)), at(40).after(QUIET), "those who have it are asked rarely");
        heard.status = TaskStatus::Canceled;
        assert!(next_look(&heard, 1, at(40)) <= at(50), "those who should stop are told soon");
    }

    #[test]
    fn what_did_not_go_out_is_not_counted_and_soon_tried_again() {
        for status in [TaskStatus::Sent, TaskStatus::Canceled] {
            let mut due = due(status, true, counts(2, 1, 1));
            due.task.expires_at = at(100_000);
            due.asks = 9;
            assert_eq!(next_try(&due, true, at(40)), (9, at(40).after(LEASE.mul_f64(0.3))));
            let (asks, next) = next_try(&due, false, at(40));
            assert!(asks == 10 && next > at(300), "{status:?}: {asks}, {next:?}");
        }
    }

    #[test]
    fn asks_only_who_is_there_and_knows_who_has_received_it() {
        let row = |name: &str, home: bool, changed: i64| OpenRow {
            endpoint: name.parse().expect("a name"),
            home: home.then(uuid::Uuid::new_v4),
            last_modified_time: at(changed),
            withdrawn: name == "withdrawn",
        };
        let rows = [
            ("away", false, 0),
            ("busy", true, 1000),
            ("gone", true, 0),
            ("missing", false, 1000),
            ("quiet", true, 0),
            ("withdrawn", false, 0),
        ];
        let rows = rows.map(|(name, home, changed)| row(name, home, changed)).to_vec();
        let there = ["busy", "missing", "quiet", "withdrawn"]
            .map(|name| name.parse().expect("a name"))
            .into_iter()
            .collect();
        let task = due(TaskStatus::Sent, true, counts(5, 3, 0)).task;
        let (asked, withdrawn) = questions(&task, rows.clone(), Some(&there), at(1001));
        assert_eq!(withdrawn.iter().map(EndpointName::as_str).collect::<Vec<_>>(), ["withdrawn"]);
        let asked: Vec<_> = asked
            .iter()
            .map(|ask| (ask.received, ask.endpoints.iter().map(|name| name.as_str()).collect()))
            .collect();
        assert_eq!(asked, [(false, vec!["missing"]), (true, vec!["quiet"])]);
        let nobody = questions(&task, rows, None, at(1001));
        assert!(nobody.0.is_empty() && nobody.1.is_empty());
    }

    #[test]
    fn portions_are_bounded_and_complete() {
        let tasks =
            [1, 20_000, 19_999, 1, 1, 50_000, 3].map(|open| due(TaskStatus::Sent, true, counts(open, 0, 0)));
        let sizes: Vec<usize> = portions(tasks.to_vec(), |due| due).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 1, 2, 1, 1, 1]);
    }
}
