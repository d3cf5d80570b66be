//! Takes deliveries: journal first, then the acknowledgement, then everything else.
//!
//! What is ready at the same time shares one write to the journal and one acknowledgement. Until the welcome
//! of the present connection has come, tasks are dropped: they were published when this endpoint may not have
//! been expected, and the API asks again for everything it owes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::fate::{Fate, Verdict};
use super::guard::Guard;
use super::journal::{JournalError, Record, State, StoredTask};
use super::lane::{Assignment, Lane};
use super::performer::Core;
use super::presence::Session;
use super::quarantine::Refused;
use crate::backoff::Backoff;
use crate::broker::dead::{DeadLetter, DeadLetters};
use crate::broker::wire::{self, WireError};
use crate::broker::{BrokerError, Consumer, Delivery, Link, Origin, Refusal, Refusals, envelope};
use crate::domain::{
    AttemptError, Command, ReasonCode, ReportEvent, Revocations, Seal, SealFault, TaskId, TaskMessage,
    TaskType, WireVersion, WorkPart,
};
use crate::signing::{Denial, Moment};

/// Deliveries taken together at most.
const BATCH: usize = 256;

/// From so many deliveries on, signatures are verified on a thread of their own: each takes some 50
/// microseconds.
const MANY: usize = 32;

/// Takes deliveries and keeps the session up to date.
pub(super) struct Intake {
    pub(super) core: Arc<Core>,
    pub(super) session: watch::Sender<Session>,
    pub(super) dead: DeadLetters,
}

/// The record that says all about a task, and where it waits once that is on disk.
type ToStart = (Record, Arc<Lane>, Assignment);

/// What a batch of deliveries asks for.
#[derive(Default)]
struct Wanted {
    /// To be journaled if there is room, and started once they are.
    tasks: Vec<ToStart>,
    /// Known and parked: asked for again, they are worth starting after all.
    parked: Vec<(TaskMessage, Bytes, Arc<Lane>)>,
    /// To be journaled in any case.
    tombstones: Vec<Record>,
    /// Stopped once they are: tasks that nobody here has heard of, by the type through whose queue the cancel
    /// came.
    cancels: Vec<(TaskId, TaskType)>,
    /// The same for tasks that wait or run, if they are of that type.
    known_cancels: Vec<(TaskId, TaskType)>,
    /// The same for tasks that wait or run, if they have not begun.
    withdrawals: Vec<(TaskId, TaskType)>,
    /// Asked for again while they wait or run.
    received: Vec<(TaskId, TaskType)>,
    /// Asked for again after they ended.
    ended: Vec<TaskId>,
    /// To be ended as refused.
    failed: Vec<Failed>,
    /// Not for us, or not to be understood.
    dead: Vec<DeadLetter>,
    /// Not to be trusted.
    refused: Vec<Refused>,
    dropped: usize,
}

/// A task that ends since no copy of it can count.
struct Failed {
    id: TaskId,
    task_type: TaskType,
    /// As the copy says, until the journal was asked.
    attempts: Vec<AttemptError>,
    denial: Denial,
}

/// An item of a delivery, read and judged.
struct Arrival {
    item: Bytes,
    origin: Origin,
    read: Result<Read, WireError>,
}

/// What an item says.
struct Read {
    command: Command,
    version: WireVersion,
    seal: Option<Seal>,
    judged: Result<(), Denial>,
}

impl Intake {
    /// Takes deliveries until `stop`; of an agent that drains, whatever is no task.
    ///
    /// # Errors
    /// When broker or journal are closed under it.
    pub(super) async fn run(
        &self,
        consumer: &mut Consumer,
        stop: &CancellationToken,
    ) -> Result<(), IntakeError> {
        let Consumer { deliveries, link, refused } = consumer;
        let mut batch = Vec::with_capacity(BATCH);
        let mut unperformed = self.core.unperformed.subscribe();
        loop {
            unperformed.mark_unchanged();
            self.follow(*link.borrow_and_update(), &refused.borrow_and_update());
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                changed = link.changed() => changed.map_err(|_| IntakeError::Broker(BrokerError::Closed))?,
                Ok(()) = refused.changed() => {}
                Ok(()) = unperformed.changed() => {}
                () = clock_set(self.core.guard.as_deref()) => self.join_again(),
                taken = deliveries.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        return Err(IntakeError::Broker(BrokerError::Closed));
                    }
                    // These may be the first of a new connection, or of a queue that was refused until now,
                    // and nothing counts there before its welcome.
                    self.follow(*link.borrow_and_update(), &refused.borrow_and_update());
                    // Cut short by a stop, it is not acknowledged and comes again.
                    let work = self.take(std::mem::take(&mut batch));
                    let Some(done) = stop.run_until_cancelled(work).await else { return Ok(()) };
                    done?;
                }
            }
        }
    }

    fn follow(&self, link: Link, refused: &Refusals) {
        let told = |Refusal { held, reason }: &Refusal| Refusal {
            held: *held,
            reason: ReasonCode::BrokerRefused.told(reason),
        };
        let mut refused: BTreeMap<_, _> =
            refused.iter().map(|((task_type, _), refusal)| (task_type.clone(), told(refusal))).collect();
        // Their queues may be had, but what comes through them is not asked for, and dropped.
        for (task_type, reason) in &*self.core.unperformed.borrow() {
            refused.insert(
                task_type.clone(),
                Refusal { held: false, reason: ReasonCode::HandlerMissing.told(reason) },
            );
        }
        let types: BTreeSet<_> =
            self.core.lanes.keys().filter(|task_type| !refused.contains_key(*task_type)).cloned().collect();
        self.session.send_if_modified(|session| {
            if !link.up {
                if session.up {
                    tracing::warn!("the connection that delivers tasks is lost");
                    session.up = false;
                    session.welcomed.clear();
                    return true;
                }
                return false;
            }
            let fresh = link.epoch != session.epoch;
            if fresh {
                let Link { epoch, restricted, .. } = link;
                *session =
                    Session { id: Uuid::new_v4(), epoch, restricted, ..Session::none(session.interval) };
            }
            let changed = session.consume(types, refused);
            if fresh || changed {
                let types: Vec<_> = session.types.iter().map(TaskType::as_str).collect();
                tracing::debug!(
                    endpoint = %self.core.endpoint, session = %session.id, ?types, refused = session.refused.len(), "consuming; waiting to be welcomed"
                );
            }
            !std::mem::replace(&mut session.up, true) || fresh || changed
        });
    }

    /// Begins the session anew if the clock was set: nothing counts until a welcome has told whether it is
    /// right now.
    fn join_again(&self) {
        if self.core.guard.as_ref().is_some_and(|guard| guard.must_join_again()) {
            tracing::warn!(endpoint = %self.core.endpoint, "the clock of this server was set: tasks are taken again after the next welcome");
            self.session.send_modify(|session| {
                session.id = Uuid::new_v4();
                session.welcomed.clear();
            });
        }
    }

    async fn take(&self, deliveries: Vec<Delivery>) -> Result<(), IntakeError> {
        let mut wanted = Wanted::default();
        let mut seen = HashSet::new();
        self.join_again();
        for arrival in self.read(&deliveries).await? {
            self.sort(arrival, &mut wanted, &mut seen);
        }
        if wanted.dropped > 0 {
            tracing::debug!(
                tasks = wanted.dropped,
                "dropped what came before the welcome, or after the last task was taken"
            );
        }
        if !wanted.known_cancels.is_empty() {
            let ours = self.of_their_type(std::mem::take(&mut wanted.known_cancels)).await?;
            wanted.cancels.extend(ours);
        }
        let held =
            if wanted.withdrawals.is_empty() { Vec::new() } else { self.withdraw(&mut wanted).await? };
        for (id, task_type) in &wanted.cancels {
            let report = self.core.report(*id, task_type.clone(), ReportEvent::Canceled);
            wanted.tombstones.push(Record::Canceled { id: *id, report });
        }
        if !wanted.failed.is_empty() {
            let failed = self.fail(std::mem::take(&mut wanted.failed)).await?;
            wanted.ended.extend(failed.iter().map(Record::id));
            wanted.tombstones.extend(failed);
        }
        if !wanted.tombstones.is_empty() {
            // Not held up by a journal that is full: a cancel makes room.
            let kept = self.core.journal.keep(wanted.tombstones).await;
            held.into_iter().for_each(|id| self.core.at_work.let_go(id));
            kept?;
            wanted.cancels.into_iter().for_each(|(id, _)| self.core.cancel(id));
        }
        if !wanted.parked.is_empty() {
            wanted.tasks.extend(self.renew(wanted.parked).await?);
        }
        let (refused, ended) = self.use_orders(&mut wanted.tasks).await?;
        wanted.refused.extend(refused);
        if !ended.is_empty() {
            wanted.ended.extend(ended.iter().map(Record::id));
            self.core.journal.keep(ended).await?;
        }
        if !wanted.tasks.is_empty() {
            self.journal(wanted.tasks).await?;
        }
        if let Some(guard) = &self.core.guard {
            guard.refuse(wanted.refused).await;
        }
        if !wanted.dead.is_empty() {
            self.dead.bury(wanted.dead).await;
        }
        if let Some(last) = deliveries.last() {
            last.acker.ack_through().await;
        }
        for (id, task_type) in wanted.received {
            self.core.outbox.received(id, task_type);
        }
        for id in wanted.ended {
            self.core.outbox.ended(id, None);
        }
        Ok(())
    }

    /// Reads the items of deliveries, and judges them where signatures are looked at.
    async fn read(&self, deliveries: &[Delivery]) -> Result<Vec<Arrival>, IntakeError> {
        let item = |delivery: &Delivery| {
            let origin = delivery.origin.clone();
            envelope::items(&delivery.body).into_iter().map(move |item| (item, origin.clone()))
        };
        let items: Vec<(Bytes, Origin)> = deliveries.iter().flat_map(item).collect();
        let guard = self.core.guard.clone();
        let many = guard.is_some() && items.len() >= MANY;
        let read = move || {
            let arrival = |(item, origin)| arrival(guard.as_deref(), item, origin);
            items.into_iter().map(arrival).collect()
        };
        match many {
            true => tokio::task::spawn_blocking(read)
                .await
                .map_err(|_| IntakeError::Journal(JournalError::Closed)),
            false => Ok(read()),
        }
    }

    fn sort(&self, arrival: Arrival, wanted: &mut Wanted, seen: &mut HashSet<TaskId>) {
        let Arrival { item, origin, read } = arrival;
        let Read { command, version, seal, judged } = match read {
            Ok(read) => read,
            Err(error) => return self.put_aside(item, error.to_string(), &origin, wanted),
        };
        let judged = judged.and_then(|()| match (&self.core.guard, &origin) {
            (
                Some(guard),
                Origin::All(task_type, _) | Origin::Named(task_type, _) | Origin::Control(task_type, _),
            ) => guard.judge_by_welcome(&command, seal.as_ref(), task_type),
            _ => Ok(()),
        });
        if let Err(denial) = judged {
            // Dropped in any case, like a good one.
            if matches!(command, Command::Task(_)) && !self.takes_tasks(&origin) {
                wanted.dropped += 1;
                return;
            }
            let ends_task = match &command {
                Command::Task(task) => self.sort_refused(task, &denial, &origin, wanted, seen),
                Command::Cancel { .. } | Command::Withdraw { .. } | Command::Welcome { .. } => false,
            };
            return wanted.refused.push(Refused { item, way: way(&origin), denial, ends_task });
        }
        if let Some(guard) = self.core.guard.as_ref().filter(|_| seal.is_none()) {
            guard.took_unsigned();
        }
        match command {
            Command::Task(task) => {
                self.core.note_api_reads(version);
                let sealed = seal.is_some();
                self.sort_task(task, item, &origin, wanted, seen);
                if let Some(guard) = self.core.guard.as_ref().filter(|_| sealed) {
                    guard.accepted();
                }
            }
            Command::Cancel { task_id } => self.sort_cancel(task_id, false, &origin, wanted),
            Command::Withdraw { task_id } => {
                self.core.note_api_reads(version);
                self.sort_cancel(task_id, true, &origin, wanted);
            }
            Command::Welcome { session, presence_interval, reads, task_type, revocations } => {
                // Those that name no type come from older API processes.
                let named = match (&task_type, &origin) {
                    (Some(of), Origin::Named(through, _)) => of == through,
                    (Some(_), _) => false,
                    (None, _) => reads < WireVersion::Four,
                };
                if !named {
                    let of = task_type.as_ref().map_or("no type", TaskType::as_str);
                    let reason = format!("a welcome for `{of}` came through {}", way(&origin));
                    return self.put_aside(item, reason, &origin, wanted);
                }
                self.core.note_api_reads(reads);
                self.welcome(session, presence_interval, seal.as_ref(), revocations.as_deref(), &origin);
            }
        }
    }

    /// Puts an item aside that is not for us, or not to be understood. Where signatures are looked at, nobody
    /// has vouched for it, and it is refused.
    fn put_aside(&self, item: Bytes, reason: String, origin: &Origin, wanted: &mut Wanted) {
        match self.core.guard {
            Some(_) => {
                let denial = Denial::new(SealFault::Unreadable, reason);
                wanted.refused.push(Refused { item, way: way(origin), denial, ends_task: false });
            }
            None => wanted.dead.push(DeadLetter::new(item, reason)),
        }
    }

    /// Whether tasks count now that came this way: not before the welcome, not while the agent drains, and not
    /// when its lease is over, since another worker may have been given them.
    fn takes_tasks(&self, origin: &Origin) -> bool {
        let (Origin::All(task_type, _) | Origin::Named(task_type, _)) = origin else { return true };
        let welcomed = self.session.borrow().welcomed.contains(task_type);
        welcomed && !self.core.draining.is_cancelled() && !self.core.lease_is_over()
    }

    fn sort_task(
        &self,
        task: TaskMessage,
        item: Bytes,
        origin: &Origin,
        wanted: &mut Wanted,
        seen: &mut HashSet<TaskId>,
    ) {
        let task_type = task.work.task_type.clone();
        // Who may write to the queue of one type need not be let write to that of another.
        if !matches!(origin, Origin::All(of, _) | Origin::Named(of, _) if *of == task_type) {
            let reason = format!("a task of type `{task_type}` came through {}", way(origin));
            return self.put_aside(item, reason, origin, wanted);
        }
        let Some(lane) = self.core.lanes.get(&task_type) else {
            let reason = format!("{} does not perform `{task_type}`", self.core.endpoint);
            return self.put_aside(item, reason, origin, wanted);
        };
        if !self.takes_tasks(origin) {
            wanted.dropped += 1;
            return;
        }
        match self.sort_copy(&task, Verdict::Good, wanted, seen) {
            Some(Fate::Renew) => wanted.parked.push((task, item, lane.clone())),
            Some(Fate::Take) => {
                let attempts = task.attempts.clone();
                wanted.tasks.push(self.to_start(task, item, attempts, lane.clone()));
            }
            Some(Fate::Known | Fate::OnItsWay | Fate::Ended | Fate::Lost | Fate::Fail | Fate::Refuse)
            | None => {}
        }
    }

    /// Sorts a copy of a task that is refused. Returns whether no copy of the task can count, so that the refusal
    /// is no trouble of the endpoint.
    fn sort_refused(
        &self,
        task: &TaskMessage,
        denial: &Denial,
        origin: &Origin,
        wanted: &mut Wanted,
        seen: &mut HashSet<TaskId>,
    ) -> bool {
        let (id, task_type) = (task.work.id, task.work.task_type.clone());
        let Some(guard) = &self.core.guard else { return false };
        if !matches!(origin, Origin::All(of, _) | Origin::Named(of, _) if *of == task_type) {
            return false;
        }
        let verdict = guard.verdict_on(Moment::Arrives, denial.cause);
        if self.sort_copy(task, verdict, wanted, seen) == Some(Fate::Fail) {
            let (attempts, denial) = (task.attempts.clone(), denial.clone());
            wanted.failed.push(Failed { id, task_type, attempts, denial });
        }
        verdict == Verdict::RefusedForGood
    }

    /// Sorts a copy as far as its task need not be touched. Returns what is to become of it; none where another
    /// copy in the same batch has seen to that.
    fn sort_copy(
        &self,
        task: &TaskMessage,
        verdict: Verdict,
        wanted: &mut Wanted,
        seen: &mut HashSet<TaskId>,
    ) -> Option<Fate> {
        let (id, task_type) = (task.work.id, &task.work.task_type);
        let fate = Fate::of(self.core.journal.state(id), task.received, verdict);
        match fate {
            Fate::Refuse => {}
            Fate::Known => wanted.received.push((id, task_type.clone())),
            Fate::OnItsWay => {
                self.core.journal.ask(id);
                wanted.received.push((id, task_type.clone()));
            }
            Fate::Ended => {
                self.core.journal.ask(id);
                wanted.ended.push(id);
            }
            Fate::Take | Fate::Renew | Fate::Fail | Fate::Lost if !seen.insert(id) => return None,
            Fate::Lost => self.lose(id, task_type.clone(), wanted),
            Fate::Take | Fate::Renew | Fate::Fail => {}
        }
        Some(fate)
    }

    /// What the journal is to note of tasks that end as refused.
    async fn fail(&self, mut failed: Vec<Failed>) -> Result<Vec<Record>, IntakeError> {
        let journal = self.core.journal.clone();
        let read = move || {
            for one in &mut failed {
                match journal.read_attempts(one.id) {
                    Ok(Some(known)) => one.attempts = longer(std::mem::take(&mut one.attempts), known),
                    // It was not parked here, or was canceled meanwhile.
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(task = %one.id, %error, "a task in the journal cannot be read");
                    }
                }
            }
            failed
        };
        let failed = tokio::task::spawn_blocking(read).await.map_err(|_| JournalError::Closed)?;
        let record = |Failed { id, task_type, attempts, denial }: Failed| {
            self.core.refusal(id, &task_type, attempts, &denial)
        };
        Ok(failed.into_iter().map(record).collect())
    }

    /// Refuses tasks that bring an order which another task has brought. Before the journal: an order counts
    /// as used as soon as a task with it may be started. Answers with them what the journal is to note.
    async fn use_orders(&self, tasks: &mut Vec<ToStart>) -> Result<(Vec<Refused>, Vec<Record>), IntakeError> {
        let guard = self.core.guard.clone().filter(|guard| guard.has_orders() && !tasks.is_empty());
        let Some(guard) = guard else { return Ok(Default::default()) };
        let works: Vec<(WorkPart, bool)> = tasks
            .iter()
            .map(|(.., Assignment { task, .. })| {
                (task.work.clone(), self.core.journal.state(task.work.id).is_some())
            })
            .collect();
        let judge = move || {
            let one = |(work, remembered): &(WorkPart, bool)| guard.use_order(work, *remembered);
            works.iter().map(one).collect::<Vec<_>>()
        };
        let judged = tokio::task::spawn_blocking(judge).await.map_err(|_| JournalError::Closed)?;
        let (mut refused, mut ended) = (Vec::new(), Vec::new());
        for (task, judged) in std::mem::take(tasks).into_iter().zip(judged) {
            match (judged, task) {
                (Ok(Ok(())), task) => tasks.push(task),
                // Not taken, and asked for again.
                (Err(error), (_, _, Assignment { task, .. })) => {
                    tracing::error!(endpoint = %self.core.endpoint, task = %task.work.id, %error, "cannot note the order of a task: it is not taken");
                }
                // No other copy of it brings another order.
                (Ok(Err(denial)), (_, _, Assignment { task, attempts, .. })) => {
                    ended.push(self.core.refusal(task.work.id, &task.work.task_type, attempts, &denial));
                    let way = format!("the queue for `{}`", task.work.task_type);
                    let item = wire::encode_command(&Command::Task(task), WireVersion::NEWEST);
                    refused.push(Refused { item, way, denial, ends_task: true });
                }
            }
        }
        Ok((refused, ended))
    }

    fn lose(&self, id: TaskId, task_type: TaskType, wanted: &mut Wanted) {
        tracing::warn!(task = %id, "asked for a task whose outcome is unknown: it is not run again");
        let event = ReportEvent::lost("the endpoint has received it and does not remember what came of it");
        wanted.tombstones.push(Record::Outcome { id, report: self.core.report(id, task_type, event) });
        wanted.ended.push(id);
    }

    /// From now on it is worth starting for as long as the message says.
    fn to_start(
        &self,
        task: TaskMessage,
        message: Bytes,
        attempts: Vec<AttemptError>,
        lane: Arc<Lane>,
    ) -> ToStart {
        let now = self.core.clock.now();
        let (expires_at, deadline) = (now.after(task.expires_in), self.core.boot.deadline(task.expires_in));
        let stored = StoredTask {
            id: task.work.id,
            expires_at,
            not_before: now,
            started: 0,
            attempts: attempts.clone(),
            deadline,
            restarting: None,
            message,
        };
        (Record::Task(stored), lane, Assignment { task, expires_at, attempts, deadline })
    }

    /// Parked tasks go on where they were, at once: whatever they waited for, they have been away for longer.
    async fn renew(&self, parked: Vec<(TaskMessage, Bytes, Arc<Lane>)>) -> Result<Vec<ToStart>, IntakeError> {
        let journal = self.core.journal.clone();
        let read = move || {
            parked.into_iter().map(|one| (journal.read_attempts(one.0.work.id), one)).collect::<Vec<_>>()
        };
        let read = tokio::task::spawn_blocking(read).await.map_err(|_| JournalError::Closed)?;
        let mut tasks = Vec::new();
        for (attempts, (task, message, lane)) in read {
            match attempts {
                Ok(Some(attempts)) => {
                    tracing::info!(task = %task.work.id, "a parked task was asked for and resumes");
                    let attempts = longer(task.attempts.clone(), attempts);
                    tasks.push(self.to_start(task, message, attempts, lane));
                }
                // Canceled in the same breath, or forgotten for want of room: the next ask finds it so.
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(task = %task.work.id, %error, "a task in the journal cannot be read")
                }
            }
        }
        Ok(tasks)
    }

    /// With `unless_begun` it does not stop what has begun.
    fn sort_cancel(&self, id: TaskId, unless_begun: bool, origin: &Origin, wanted: &mut Wanted) {
        let (by_name, task_type) = match origin {
            Origin::Control(task_type, _) => (true, task_type),
            Origin::All(task_type, _) | Origin::Named(task_type, _) => {
                (self.session.borrow().welcomed.contains(task_type), task_type)
            }
            Origin::Responses | Origin::Presence => return,
        };
        match self.core.journal.state(id) {
            Some(State::Finished { .. } | State::Canceled { .. } | State::Digest) => {
                self.core.journal.ask(id);
                wanted.ended.push(id);
            }
            Some(State::Unknown) => self.lose(id, task_type.clone(), wanted),
            // A tombstone for a task that may still come. Not for what lay in the queue before the welcome:
            // it will not.
            None if !by_name => wanted.dropped += 1,
            None => wanted.cancels.push((id, task_type.clone())),
            Some(State::Pending { started: 1.. }) if unless_begun => {
                wanted.received.push((id, task_type.clone()))
            }
            Some(State::Pending { .. } | State::Parked) if unless_begun => {
                wanted.withdrawals.push((id, task_type.clone()))
            }
            Some(State::Pending { .. } | State::Parked) => wanted.known_cancels.push((id, task_type.clone())),
        }
    }

    /// Sorts withdrawals: a task that has not begun is canceled, and held back until its tombstone is on
    /// disk. Answers the tasks that are held back.
    async fn withdraw(&self, wanted: &mut Wanted) -> Result<Vec<TaskId>, IntakeError> {
        let (held, begun): (Vec<_>, Vec<_>) = std::mem::take(&mut wanted.withdrawals)
            .into_iter()
            .partition(|(id, _)| self.core.at_work.hold_back(*id));
        wanted.received.extend(begun);
        let ids: Vec<TaskId> = held.iter().map(|(id, _)| *id).collect();
        // Before the look at the journal: what begins after that is seen there, and what would begin now is
        // held.
        let journal = self.core.journal.clone();
        let has_begun = move |id| match journal.state(id) {
            Some(State::Pending { started: 0 }) => {
                journal.read_task(id).map(|task| task.is_some_and(|task| !task.attempts.is_empty()))
            }
            Some(State::Parked) => journal
                .read_attempts(id)
                .map(|attempts| attempts.is_some_and(|attempts| !attempts.is_empty())),
            // It has ended in the same breath: a tombstone changes nothing of that.
            None | Some(State::Finished { .. } | State::Canceled { .. } | State::Digest | State::Unknown) => {
                Ok(false)
            }
            Some(State::Pending { .. }) => Ok(true),
        };
        let read = move || held.into_iter().map(|one| (has_begun(one.0), one)).collect::<Vec<_>>();
        let read = tokio::task::spawn_blocking(read).await.map_err(|_| JournalError::Closed)?;
        let (mut begun, mut waiting) = (Vec::new(), Vec::new());
        for (has_begun, withdrawal) in read {
            match has_begun {
                Ok(true) => begun.push(withdrawal),
                Ok(false) => waiting.push(withdrawal),
                Err(error) => {
                    tracing::error!(task = %withdrawal.0, %error, "a task in the journal cannot be read: it is withdrawn");
                    waiting.push(withdrawal);
                }
            }
        }
        begun.iter().for_each(|(id, _)| self.core.at_work.let_go(*id));
        wanted.received.extend(begun);
        let ours = self.of_their_type(waiting).await?;
        let kept: HashSet<TaskId> = ours.iter().map(|(id, _)| *id).collect();
        ids.iter().filter(|id| !kept.contains(id)).for_each(|id| self.core.at_work.let_go(*id));
        wanted.cancels.extend(ours);
        Ok(kept.into_iter().collect())
    }

    /// The cancels for tasks of the type through whose queue they came. Who may cancel tasks of one type need
    /// not be let cancel others.
    async fn of_their_type(
        &self,
        cancels: Vec<(TaskId, TaskType)>,
    ) -> Result<Vec<(TaskId, TaskType)>, IntakeError> {
        let journal = self.core.journal.clone();
        let read = move || {
            cancels.into_iter().map(|cancel| (journal.read_task(cancel.0), cancel)).collect::<Vec<_>>()
        };
        let read = tokio::task::spawn_blocking(read).await.map_err(|_| JournalError::Closed)?;
        let ours = read.into_iter().filter_map(|(stored, (id, through))| {
            let task_type = match stored.as_ref().map(|stored| stored.as_ref().map(|stored| wire::decode_command(&stored.message))) {
                Ok(Some(Ok(Command::Task(task)))) => task.work.task_type,
                // Ended in the same breath, or cannot be read: it cannot be run either.
                _ => through.clone(),
            };
            if task_type != through {
                tracing::warn!(task = %id, %task_type, %through, "ignored a cancel that came through the queue of another type");
            }
            (task_type == through).then_some((id, through))
        });
        Ok(ours.collect())
    }

    /// It counts for the type alone through whose queue it came.
    fn welcome(
        &self,
        id: Uuid,
        interval: Duration,
        seal: Option<&Seal>,
        revocations: Option<&Revocations>,
        origin: &Origin,
    ) {
        let Origin::Named(task_type, _) = origin else { return };
        let ours = {
            let session = self.session.borrow();
            session.up && session.id == id
        };
        // One of an earlier session says nothing of the clock now.
        if let Some(guard) = self.core.guard.as_ref().filter(|_| ours)
            && !guard.welcome(seal, task_type, revocations)
        {
            // A session that was welcomed is over. One that was not goes on asking, less and less often.
            self.session.send_if_modified(|session| {
                let over = !session.welcomed.is_empty();
                if over {
                    session.id = Uuid::new_v4();
                    session.welcomed.clear();
                }
                over
            });
            return;
        }
        let welcomed = self.session.send_if_modified(|session| {
            let ours = session.up && session.id == id && session.types.contains(task_type);
            if !ours {
                return false;
            }
            // A word every few milliseconds, or none at all, would be a mistake on the other side.
            let interval = interval.clamp(Duration::from_millis(100), Duration::from_secs(3600));
            let fresh = session.welcomed.insert(task_type.clone()) || session.interval != interval;
            session.interval = interval;
            fresh
        });
        if welcomed {
            tracing::info!(endpoint = %self.core.endpoint, %task_type, session = %id, ?interval, "subscribed");
        }
    }

    /// Until they are on disk. Meanwhile nothing more is read, and what was read is not acknowledged.
    async fn journal(&self, mut tasks: Vec<ToStart>) -> Result<(), IntakeError> {
        let mut failures = 0u32;
        while !tasks.is_empty() {
            // One by one where there is no room for all.
            let now = if failures == 0 { tasks.len() } else { 1 };
            let records = tasks[..now].iter().map(|(record, ..)| record.clone()).collect();
            crate::failpoint::INTAKE_TAKEN.reach();
            match self.core.journal.take(records).await {
                Ok(()) => {
                    crate::failpoint::INTAKE_JOURNALED.reach();
                    // At once, not with the last of the batch: only what ends makes room for that one.
                    for (_, lane, assignment) in tasks.drain(..now) {
                        self.core
                            .outbox
                            .received(assignment.task.work.id, assignment.task.work.task_type.clone());
                        lane.push(assignment);
                    }
                    continue;
                }
                Err(JournalError::Full) if now > 1 => {
                    failures = 1;
                    continue;
                }
                Err(JournalError::Full | JournalError::Write(_)) => failures = failures.saturating_add(1),
                Err(error) => return Err(error.into()),
            }
            let wait = Backoff { max: Duration::from_secs(5), ..Backoff::CONNECTION };
            tokio::time::sleep(wait.jittered(failures)).await;
        }
        Ok(())
    }
}

/// Waits until the clock was set, for ever where nobody looks.
async fn clock_set(guard: Option<&Guard>) {
    match guard {
        Some(guard) => guard.clock_set().await,
        None => std::future::pending().await,
    }
}

/// An item, read, and judged if there is a guard.
fn arrival(guard: Option<&Guard>, item: Bytes, origin: Origin) -> Arrival {
    let read = match guard {
        Some(guard) => wire::decode_sealed(&item).map(|(command, version, seal)| {
            let judged = guard.judge(&command, seal.as_ref());
            Read { command, version, seal, judged }
        }),
        // Nobody looks at a seal, so a broken one is nothing wrong.
        None => wire::decode_versioned(&item).map(|(command, version)| Read {
            command,
            version,
            seal: None,
            judged: Ok(()),
        }),
    };
    Arrival { item, origin, read }
}

/// Which way a delivery came, for people.
fn way(origin: &Origin) -> String {
    match origin {
        Origin::All(task_type, _) | Origin::Named(task_type, _) => format!("the queue for `{task_type}`"),
        Origin::Control(task_type, _) => format!("the control queue for `{task_type}`"),
        Origin::Responses | Origin::Presence => "a queue of the API".to_owned(),
    }
}

/// Which attempts have failed: a work queue counts some that this worker does not know to have failed.
fn longer(told: Vec<AttemptError>, known: Vec<AttemptError>) -> Vec<AttemptError> {
    if told.len() > known.len() { told } else { known }
}

/// Why no more deliveries are taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum IntakeError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seals_are_not_read_where_nobody_looks_at_them() {
        let id = TaskId::new();
        let cancel = wire::encode_command(&Command::Cancel { task_id: id }, WireVersion::One);
        let text = String::from_utf8(cancel.to_vec()).expect("JSON");
        let broken = format!("{},\"seal\":{{\"by\":1}}}}", text.trim_end_matches('}'));
        assert!(wire::decode_sealed(broken.as_bytes()).is_err(), "{broken}");
        let Arrival { read, .. } = arrival(None, Bytes::from(broken), Origin::Responses);
        assert!(matches!(read, Ok(Read { command: Command::Cancel { task_id }, .. }) if task_id == id));
    }
}
