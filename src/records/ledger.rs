//! The one place where tasks move: every change of a task's status goes through here to the store, and from
//! here follows what it means for this process.
//!
//! Three things follow a move: it is counted (for metrics, and for charts of throughput), the requests that
//! wait for the end of a task wake up, and the dispatcher looks whether a task that waits can be given now.
//! All of them are hints: another process may have made the move, so each loop also looks by itself from time
//! to time. What has to follow even if this process dies now is written by the store in the transaction of
//! the move (when a task is due next, and that its successor is still to be queued).
//!
//! Telling endpoints is not done here but by the caller, which learns from the answer whom to tell
//! (`publisher`).

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::bell::{Bell, NamedBell};
use crate::clock::Clock;
use crate::domain::rollout::{Asker, Command};
use crate::domain::{
    IgnoredByType, NewRequest, NewTask, Report, RequestToken, Task, TaskId, TaskStatus, TaskType, Throughput,
    Timestamp, TokenName,
};
use crate::store::{
    Accepted, Advanced, AdvancedRollout, Applied, Begun, CancelOutcome, CanceledRequest, Commanded,
    DueRequest, Freeze, LoggedLines, NewRollout, Plan, QueueRule, Recorded, RolloutBatches, RolloutDecision,
    RolloutPick, RolloutRecorded, Settlement, SharedStore, StoreError, TakenBack, Terms, Turns,
};
use crate::telemetry::SharedMetrics;
use crate::throughput::Meter;
use crate::touched::Touched;
use crate::watch::Watch;

/// Moves tasks. Clones are the same ledger.
#[derive(Debug, Clone)]
pub struct Ledger {
    store: SharedStore,
    clock: Clock,
    metrics: SharedMetrics,
    watch: Watch,
    meter: Meter,
    bell: Bell,
    requests: Bell,
    touched: Touched,
    rollouts: NamedBell,
    /// What does not count when equal answers are grouped.
    ignored: Arc<IgnoredByType>,
    /// How long an ended task is kept.
    retention: Duration,
}

/// All methods fail as the store does, and then nothing has moved.
impl Ledger {
    /// A ledger over this store; `watch` is told of the tasks that end.
    pub fn new(
        store: SharedStore,
        clock: Clock,
        metrics: SharedMetrics,
        watch: Watch,
        ignored: IgnoredByType,
        retention: Duration,
    ) -> Self {
        let (bell, requests) = (Bell::default(), Bell::default());
        let (rollouts, touched) = (NamedBell::default(), Touched::default());
        Self {
            store,
            clock,
            metrics,
            watch,
            meter: Meter::default(),
            bell,
            requests,
            rollouts,
            touched,
            ignored: Arc::new(ignored),
            retention,
        }
    }

    /// Rung when a task that waits in a queue may be given to a worker.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Rung when a request may move on: one was recorded, or the task of a job has ended.
    pub fn requests(&self) -> &Bell {
        &self.requests
    }

    /// What it has counted, to be kept.
    pub fn meter(&self) -> Meter {
        self.meter.clone()
    }

    /// What has changed by way of this process, for those who watch.
    pub fn touched(&self) -> &Touched {
        &self.touched
    }

    /// Rung for a rollout that may move on: its endpoints have answered, or somebody asks something of it.
    pub fn rollouts(&self) -> &NamedBell {
        &self.rollouts
    }

    /// Records submissions. Those of a queue that nobody waits before are given to workers with room at once,
    /// to be asked for again at `due_at`.
    pub async fn accept(
        &self,
        tasks: &[NewTask],
        rules: &[QueueRule],
        due_at: Timestamp,
    ) -> Result<Vec<Accepted>, StoreError> {
        let accepted = self.store.accept_and_give(tasks, rules, due_at, self.retention).await?;
        let given = accepted.iter().filter(|accepted| matches!(accepted, Accepted::Given(_))).count();
        self.metrics.count_move(TaskStatus::Sent, given as u64);
        self.recorded(tasks, &accepted);
        if tasks
            .iter()
            .zip(&accepted)
            .any(|(task, accepted)| *accepted == Accepted::New && task.place.is_some())
        {
            self.bell.ring();
        }
        Ok(accepted)
    }

    /// Records tasks that follow others.
    pub async fn accept_successors(
        &self,
        tasks: &[NewTask],
        now: Timestamp,
    ) -> Result<Vec<Accepted>, StoreError> {
        let accepted = self.store.accept(tasks, now, self.retention).await?;
        self.recorded(tasks, &accepted);
        Ok(accepted)
    }

    /// Freezes who must answer; answers the tasks that this call has frozen.
    pub async fn freeze(&self, sets: &[Freeze]) -> Result<Vec<TaskId>, StoreError> {
        let frozen = self.store.freeze(sets, self.clock.now()).await?;
        self.touched.moved(frozen.iter().copied());
        Ok(frozen)
    }

    /// Notes that the broker has confirmed these tasks.
    pub async fn mark_published(&self, ids: &[TaskId]) -> Result<(), StoreError> {
        let sent = self.store.mark_published(ids, self.clock.now()).await?;
        self.metrics.count_move(TaskStatus::Sent, sent);
        self.touched.moved(ids.iter().copied());
        Ok(())
    }

    /// Applies what endpoints report.
    pub async fn apply(&self, reports: &[Report]) -> Result<Applied, StoreError> {
        let mut applied = self.store.apply(reports, &self.ignored, self.clock.now(), self.retention).await?;
        self.moved(&applied.moved);
        self.count(std::mem::take(&mut applied.ended));
        self.touched.reported(reports);
        // Also after the end of a canceled task, which does not move any more.
        if applied.room {
            self.bell.ring();
        }
        if applied.followed {
            self.requests.ring();
        }
        self.rollouts.ring(applied.rollouts.iter().copied());
        Ok(applied)
    }

    /// Adds lines that handlers have logged; answers how many of the pieces were new.
    pub async fn append_logs(&self, lines: &[LoggedLines]) -> Result<u64, StoreError> {
        self.store.append_logs(lines, self.clock.now()).await
    }

    /// Records a request.
    pub async fn record_request(&self, new: &NewRequest) -> Result<Recorded, StoreError> {
        let recorded = self.store.record_request(new).await?;
        self.requests.ring();
        Ok(recorded)
    }

    /// Moves requests on, as the plan says.
    pub async fn advance(
        &self,
        due: &[DueRequest],
        plan: Arc<Plan>,
        terms: &Terms,
        now: Timestamp,
    ) -> Result<Advanced, StoreError> {
        let advanced = self.store.advance(due, plan, terms, now).await?;
        let given = advanced.tasks.iter().filter(|(_, worker)| worker.is_some()).count();
        self.metrics.count_move(TaskStatus::Sent, given as u64);
        self.came(advanced.tasks.iter().map(|(task, _)| task));
        if advanced.tasks.iter().any(|(task, worker)| task.place.is_some() && worker.is_none()) {
            self.bell.ring();
        }
        self.stopped(&advanced.stopped);
        Ok(advanced)
    }

    /// Ends a request that cannot be moved on.
    pub async fn fail_request(
        &self,
        due: &DueRequest,
        error: &str,
        now: Timestamp,
    ) -> Result<Advanced, StoreError> {
        let failed = self.store.fail_request(due, error, now, self.retention).await?;
        self.stopped(&failed.stopped);
        Ok(failed)
    }

    /// Cancels a request. `None` when there is none.
    pub async fn cancel_request(&self, token: &RequestToken) -> Result<Option<CanceledRequest>, StoreError> {
        let outcome = self.store.cancel_request(token, self.clock.now(), self.retention).await?;
        if let Some(outcome) = &outcome {
            self.stopped(&outcome.stopped);
        }
        Ok(outcome)
    }

    /// Begins the failed jobs of a request anew, each with so many attempts. `None` when there is none.
    pub async fn begin_anew(
        &self,
        token: &RequestToken,
        tries: &[(String, u32)],
        expires_at: Timestamp,
    ) -> Result<Option<Begun>, StoreError> {
        let begun = self.store.begin_anew(token, tries, self.clock.now(), expires_at).await?;
        self.requests.ring();
        Ok(begun)
    }

    /// Records a rollout.
    pub async fn record_rollout(&self, new: NewRollout) -> Result<RolloutRecorded, StoreError> {
        let id = new.id;
        let recorded = self.store.record_rollout(new).await?;
        self.rollouts.ring([id]);
        Ok(recorded)
    }

    /// Moves a rollout on, as the decision says. None when another process has it, or it has ended.
    pub async fn advance_rollout(
        &self,
        id: Uuid,
        decide: Arc<RolloutDecision>,
        batches: RolloutBatches,
        now: Timestamp,
    ) -> Result<Option<AdvancedRollout>, StoreError> {
        let advanced = self.store.advance_rollout(id, decide, batches, now).await?;
        self.came(advanced.iter().flat_map(|advanced| &advanced.tasks));
        Ok(advanced)
    }

    /// Does what somebody asks of a rollout. None when there is none.
    pub async fn command_rollout(
        &self,
        id: Uuid,
        asked: Command,
        pick: RolloutPick,
        revision: Option<u32>,
        by: Option<Asker>,
    ) -> Result<Option<Commanded>, StoreError> {
        let done = self.store.command_rollout(id, asked, pick, revision, by, self.clock.now()).await?;
        self.rollouts.ring([id]);
        Ok(done)
    }

    fn stopped(&self, outcomes: &[CancelOutcome]) {
        let moved: Vec<_> = outcomes.iter().map(|outcome| (outcome.task.id, outcome.task.status)).collect();
        self.moved(&moved);
        self.count(outcomes.iter().filter_map(|CancelOutcome { task, .. }| end_of(task)));
    }

    /// Writes what the reconciler decided.
    pub async fn settle(&self, settlements: &[Settlement], now: Timestamp) -> Result<(), StoreError> {
        let settled = self.store.settle(settlements, now, self.retention).await?;
        self.moved(&settled.moved);
        self.count(settled.ended);
        Ok(())
    }

    /// Cancels a task. `None` when there is none.
    pub async fn cancel(&self, id: TaskId, now: Timestamp) -> Result<Option<CancelOutcome>, StoreError> {
        let outcome = self.store.cancel(id, now, self.retention).await?;
        if let Some(CancelOutcome { changed: true, task, .. }) = &outcome {
            self.moved(&[(task.id, task.status)]);
            self.count(end_of(task));
        }
        Ok(outcome)
    }

    /// Gives tasks whose turn it is to workers with room, to be asked for again at `ask_at`.
    pub async fn give(
        &self,
        rules: &[QueueRule],
        now: Timestamp,
        ask_at: Timestamp,
    ) -> Result<Turns, StoreError> {
        let turns = self.store.give(rules, now, ask_at).await?;
        self.metrics.count_move(TaskStatus::Sent, turns.given.len() as u64);
        Ok(turns)
    }

    /// Takes tasks back from workers that are gone; answers how many wait again.
    pub async fn take_back(&self, rules: &[QueueRule]) -> Result<u64, StoreError> {
        let TakenBack { returned, moved, ended } =
            self.store.take_back(rules, self.clock.now(), self.retention).await?;
        self.moved(&moved);
        self.count(ended);
        Ok(returned)
    }

    /// Puts delayed tasks whose time has come into line.
    pub async fn make_ready(&self, ids: &[TaskId]) -> Result<(), StoreError> {
        self.store.make_ready(ids).await?;
        self.bell.ring();
        Ok(())
    }

    /// Stops giving tasks of a type to workers, or goes on; answers whether that changed anything.
    pub async fn pause(
        &self,
        task_type: &TaskType,
        paused: bool,
        by: Option<&TokenName>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let changed = self.store.pause(task_type, paused, by, now).await?;
        self.bell.ring();
        Ok(changed)
    }

    /// Counts those of these tasks that are new.
    fn recorded(&self, tasks: &[NewTask], accepted: &[Accepted]) {
        let new = tasks
            .iter()
            .zip(accepted)
            .filter(|(_, accepted)| matches!(accepted, Accepted::New | Accepted::Given(_)));
        self.came(new.map(|(task, _)| task));
    }

    /// Counts tasks that were recorded.
    fn came<'t>(&self, tasks: impl Iterator<Item = &'t NewTask>) {
        self.count(tasks.map(|task| (task.task_type.clone(), Throughput::ACCEPTED)));
    }

    /// Counts what became of tasks.
    fn count(&self, of: impl IntoIterator<Item = (TaskType, Throughput)>) {
        self.meter.count(self.clock.now(), of);
    }

    fn moved(&self, moved: &[(TaskId, TaskStatus)]) {
        for (_, status) in moved {
            self.metrics.count_move(*status, 1);
        }
        self.watch.moved(moved);
        self.touched.moved(moved.iter().map(|(id, _)| *id));
        if moved.iter().any(|(_, status)| status.is_final()) {
            self.bell.ring();
        }
    }
}

/// What a task that was canceled adds to the throughput of its type.
fn end_of(task: &Task) -> Option<(TaskType, Throughput)> {
    Some((task.task_type.clone(), Throughput::of_end(task.status, &task.counts)?))
}
