//! From a journaled task to its journaled outcome.
//!
//! Owns what all parts of an agent share, and the way of one task: wait for a slot -> note the start ->
//! attempt -> journal what came of it -> leave a note in the outbox. Whatever ends this process on the way,
//! the journal tells the next one where to go on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::at_work::AtWork;
use super::boot::Boot;
use super::executable::Executables;
use super::executor::{self, End, Limits, LogTail, Retries, Signals, Step};
use super::fate::Verdict;
use super::guard::{Begin, Guard};
use super::journal::{Health, Journal, JournalError, Record, State, StoredTask};
use super::labels::OwnLabels;
use super::lane::{Assignment, Lane, Turn};
use super::lines::Lines;
use super::outbox::Outbox;
use super::quarantine::Refused;
use super::stop_file::StopFile;
use super::{AttemptSink, Registry, RunningTask, Work};
use crate::broker::wire;
use crate::clock::Clock;
use crate::config::OnStop;
use crate::domain::{
    AttemptError, Command, EndpointName, Json, Outcome, ReasonCode, Report, ReportEvent, SealFault, TaskId,
    TaskType, WireVersion, errnr, json,
};
use crate::signing::{Denial, Moment};

/// How often progress of one task is reported at most.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// When a task is looked at again that was being withdrawn when its turn came.
const HELD_BACK: Duration = Duration::from_millis(50);

/// When a task is looked at again whose order cannot begin yet.
const NOT_YET: Duration = Duration::from_secs(5);

/// What the parts of one agent share.
pub(super) struct Core {
    pub(super) endpoint: EndpointName,
    /// This process.
    pub(super) instance: Uuid,
    /// The memory it works with.
    pub(super) home: Uuid,
    pub(super) clock: Clock,
    pub(super) boot: Boot,
    pub(super) journal: Journal,
    pub(super) outbox: Outbox,
    pub(super) lines: Lines,
    pub(super) lanes: HashMap<TaskType, Arc<Lane>>,
    pub(super) registry: Registry,
    pub(super) executables: Option<Arc<Executables>>,
    /// The types that nothing here performs, each with the reason. Tasks of these are not asked for.
    pub(super) unperformed: watch::Sender<BTreeMap<TaskType, String>>,
    pub(super) output_limit: usize,
    pub(super) grace: Duration,
    /// Of a worker: how many tasks it performs at the same time, of all types together.
    pub(super) slots: Option<u32>,
    pub(super) labels: Arc<OwnLabels>,
    /// Judges signatures, where they are looked at.
    pub(super) guard: Option<Arc<Guard>>,
    /// Keeps tasks from beginning.
    pub(super) stop_file: StopFile,
    /// Fired when no more tasks are taken and those that run are finished.
    pub(super) draining: CancellationToken,
    /// Fired when running handlers are not waited for any longer.
    pub(super) stopping: CancellationToken,
    /// Fired when the deadline of a stop has passed. A record that the journal does not take then is left to the
    /// next start.
    pub(super) overdue: CancellationToken,
    /// Fired, and made anew, when a worker can no longer be sure that its tasks are its own.
    lease: Mutex<CancellationToken>,
    /// Until when a worker can be sure that its tasks are its own; none while nobody waits for that.
    lease_until: Mutex<Option<Instant>>,
    /// The tasks that run, with what cancels them.
    pub(super) at_work: Arc<AtWork>,
    /// Whether the API reads lists.
    lists: AtomicBool,
}

impl Core {
    #[expect(clippy::too_many_arguments, reason = "called once, with what it is made of")]
    pub(super) fn new(
        endpoint: EndpointName,
        home: Uuid,
        journal: Journal,
        lanes: HashMap<TaskType, Arc<Lane>>,
        registry: Registry,
        executables: Option<Arc<Executables>>,
        output_limit: usize,
        grace: Duration,
        slots: Option<u32>,
        labels: Arc<OwnLabels>,
        guard: Option<Guard>,
        stop_file: StopFile,
        clock: Clock,
    ) -> Self {
        Self {
            endpoint,
            instance: Uuid::new_v4(),
            home,
            clock,
            boot: Boot::current(),
            journal,
            outbox: Outbox::default(),
            lines: Lines::default(),
            lanes,
            registry,
            executables,
            unperformed: watch::Sender::default(),
            output_limit,
            grace,
            slots,
            labels,
            guard: guard.map(Arc::new),
            stop_file,
            draining: CancellationToken::new(),
            lease: Mutex::default(),
            lease_until: Mutex::default(),
            stopping: CancellationToken::new(),
            overdue: CancellationToken::new(),
            at_work: Arc::default(),
            lists: AtomicBool::default(),
        }
    }

    /// The bytes of a report about a task.
    pub(super) fn report(&self, task_id: TaskId, task_type: TaskType, event: ReportEvent) -> Bytes {
        wire::encode_report(&Report {
            task_id,
            task_type,
            endpoint: self.endpoint.clone(),
            home: self.home,
            event,
        })
    }

    /// What the API reads, as far as its last word says. Reports that an API process could not read would be
    /// lost until it asks again.
    pub(super) fn api_reads(&self) -> WireVersion {
        if self.lists.load(Ordering::Relaxed) { WireVersion::Two } else { WireVersion::One }
    }

    /// Notes what the API process reads that was heard of last: another one may have been started in its
    /// place.
    pub(super) fn note_api_reads(&self, version: WireVersion) {
        self.lists.store(version >= WireVersion::Two, Ordering::Relaxed);
    }

    /// A task as it is in the journal; none when it has ended.
    async fn stored(&self, id: TaskId) -> Result<Option<StoredTask>, JournalError> {
        let journal = self.journal.clone();
        tokio::task::spawn_blocking(move || journal.read_task(id)).await.map_err(|_| JournalError::Closed)?
    }

    /// Whether what this process has received is a lease: it may be given to another one when this one is not
    /// heard of.
    pub(super) const fn leases(&self) -> bool {
        self.slots.is_some()
    }

    /// Fires when running handlers are to be stopped since their tasks may be those of another worker.
    fn lost(&self) -> CancellationToken {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says until when what this worker has is its own.
    pub(super) fn lease_until(&self, end: Option<Instant>) {
        *self.lease_until.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }

    /// Whether another worker may have what this one is given or has. Asked where a task is taken and where
    /// it is started: a process that was stopped for a while goes on there before anything tells it of the
    /// time that has passed.
    pub(super) fn lease_is_over(&self) -> bool {
        self.leases()
            && self
                .lease_until
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_some_and(|end| end <= Instant::now())
    }

    /// Stops what runs and parks what this worker has: nobody knows whether it is still its own. It goes on
    /// when the API asks for it again. Answers whether there was anything.
    pub(super) async fn let_go(&self) -> Result<bool, JournalError> {
        std::mem::take(&mut *self.lease.lock().unwrap_or_else(PoisonError::into_inner)).cancel();
        // Those that run park themselves once they have been stopped.
        let (waiting, any): (Vec<TaskId>, bool) = {
            // In this order: one that ends in between has its outcome in the journal, and must not be parked
            // on top of it.
            let running: HashSet<TaskId> = self.at_work.ids().into_iter().collect();
            let pending = self.journal.pending();
            let any = !pending.is_empty();
            (pending.into_iter().filter(|id| !running.contains(id)).collect(), any)
        };
        if !waiting.is_empty() {
            self.journal.keep(waiting.into_iter().map(|id| Record::Parked { id }).collect()).await?;
        }
        Ok(any)
    }

    /// Why this endpoint cannot perform tasks as things are, for people.
    pub(super) async fn trouble(self: &Arc<Self>) -> Option<String> {
        let journal = self.journal.health().borrow().trouble();
        let core = self.clone();
        let look = move || {
            // What is not asked for is told as such, with its reason.
            let mut types: Vec<_> = {
                let unperformed = core.unperformed.borrow();
                core.lanes.keys().filter(|task_type| !unperformed.contains_key(*task_type)).collect()
            };
            types.sort_unstable();
            let troubles = types
                .into_iter()
                .filter_map(|task_type| core.registry.trouble(task_type, core.executables.as_deref()));
            troubles.map(|trouble| ReasonCode::HandlerMissing.told(trouble)).collect::<Vec<_>>()
        };
        // Without a directory there is nothing to look at.
        let handlers = if self.executables.is_none() {
            look()
        } else {
            tokio::task::spawn_blocking(look).await.unwrap_or_default()
        };
        let guard = self.guard.as_ref().and_then(|guard| guard.trouble());
        // What somebody has said on purpose comes first: its code is that of all.
        let stopped = self.stop_file.trouble();
        // A worker is given tasks whatever its labels are, and none while it is in trouble.
        let labels = if self.leases() { None } else { self.labels.trouble() };
        let all: Vec<String> =
            stopped.into_iter().chain(guard).chain(journal).chain(handlers).chain(labels).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// How long a task is still worth starting.
    fn time_left(&self, assignment: &Assignment) -> Duration {
        self.boot.left(assignment.deadline).unwrap_or_else(|| assignment.expires_at.since(self.clock.now()))
    }

    /// Refuses a task that waits here. Returns what the journal is to note of it: that it is parked, where
    /// the API may ask for it with a copy that counts, and else that it has failed.
    pub(super) async fn refuse_waiting(
        &self,
        id: TaskId,
        task_type: &TaskType,
        attempts: Vec<AttemptError>,
        item: Bytes,
        denial: Denial,
    ) -> Record {
        let Denial { fault, reason, cause } = &denial;
        let verdict = self.guard.as_ref().map(|guard| guard.verdict_on(Moment::Waits, *cause));
        let parked = verdict != Some(Verdict::RefusedForGood);
        tracing::warn!(task = %id, %fault, why = %reason, parked, "refused a task that waited: it does not begin");
        let record =
            if parked { Record::Parked { id } } else { self.refusal(id, task_type, attempts, &denial) };
        if let Some(guard) = &self.guard {
            let way = format!("the journal for `{task_type}`");
            guard.refuse(vec![Refused { item, way, denial, ends_task: !parked }]).await;
        }
        record
    }

    /// What the journal is to note of a task that has failed because it was refused.
    pub(super) fn refusal(
        &self,
        id: TaskId,
        task_type: &TaskType,
        attempts: Vec<AttemptError>,
        Denial { fault, reason, .. }: &Denial,
    ) -> Record {
        let event = match fault {
            // It has begun, and nobody knows what came of it.
            SealFault::Forgotten => ReportEvent::lost(reason),
            _ => ReportEvent::Finished {
                errnr: errnr::REFUSED,
                errmsg: format!("refused: {fault}: {reason}"),
                payload: None,
                attempt: u32::try_from(attempts.len()).unwrap_or(u32::MAX).saturating_add(1),
                attempts,
                log: None,
                run: None,
            },
        };
        Record::Outcome { id, report: self.report(id, task_type.clone(), event) }
    }

    /// Puts records on disk that a task must not lose. Tries until the deadline of a stop has passed.
    async fn keep(&self, records: Vec<Record>) -> Result<(), JournalError> {
        self.journal.keep_until(records, &self.overdue).await
    }

    /// Some of the tasks that run, for people.
    pub(super) fn some_running(&self) -> Vec<TaskId> {
        self.at_work.ids().into_iter().take(10).collect()
    }

    /// Stops a task that runs. One that does not has ended with its tombstone in the journal.
    pub(super) fn cancel(&self, id: TaskId) {
        if !self.at_work.cancel(id) {
            self.outbox.ended(id, None);
        }
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("endpoint", &self.endpoint)
            .field("lanes", &self.lanes.keys())
            .finish_non_exhaustive()
    }
}

pub(super) fn assignment_of(stored: &StoredTask) -> Option<Assignment> {
    match wire::decode_command(&stored.message) {
        Ok(Command::Task(task)) => Some(Assignment {
            task,
            expires_at: stored.expires_at,
            attempts: stored.attempts.clone(),
            deadline: stored.deadline,
        }),
        _ => None,
    }
}

fn retries(lane: &Lane, time_left: Duration) -> Retries {
    Retries { attempts: lane.policy.attempts, backoff: lane.policy.backoff, time_left }
}

/// Starts the tasks of a lane, each as soon as there is a slot for it, until `stop`. `abandon` drops those
/// that run.
pub(super) async fn start_in_turn(
    core: Arc<Core>,
    lane: Arc<Lane>,
    stop: CancellationToken,
    running: TaskTracker,
    abandon: CancellationToken,
) {
    let mut health = core.journal.health();
    loop {
        let next = async {
            // Not the slot before there is a task: other lanes may share it.
            lane.ready().await;
            // The slot before the task is taken out of the queue: until then it can be canceled without
            // having been started.
            let slot = lane.slots.clone().acquire_owned().await.ok()?;
            // What ends now could not be journaled for long.
            health.wait_for(|health| *health != Health::Over).await.ok()?;
            // Last, so that nothing begins after the file is there.
            core.stop_file.gone().await;
            Some(lane.next().map(|turn| (slot, turn)))
        };
        let (slot, turn) = match stop.run_until_cancelled(next).await {
            None | Some(None) => return,
            Some(Some(None)) => continue,
            Some(Some(Some(turn))) => turn,
        };
        running.spawn(abandon.clone().run_until_cancelled_owned(perform(
            core.clone(),
            lane.clone(),
            turn,
            slot,
        )));
    }
}

async fn perform(core: Arc<Core>, lane: Arc<Lane>, turn: Turn, slot: OwnedSemaphorePermit) {
    let id = turn.id;
    let waited_for = lane.policy.on_stop == OnStop::Wait;
    // Before the look at the journal: a cancel writes there first and looks here second, so one of us sees
    // the other.
    let task =
        RunningTask { id, task_type: lane.policy.name.clone(), endpoint: core.endpoint.clone(), waited_for };
    let Some(canceled) = core.at_work.begin(task) else {
        // It is being withdrawn. If it turns out that it has begun before, it goes on.
        return lane.push_at(Instant::now() + HELD_BACK, id);
    };
    let mut stopped = false;
    let done = attempt(&core, &lane, turn, slot, canceled.clone(), &mut stopped).await;
    // What ends with a lease goes on elsewhere, and no stop has to tell of it.
    core.at_work.end(id, stopped && core.stopping.is_cancelled());
    match done {
        Ok(After::Ended(report)) => core.outbox.ended(id, report),
        // A cancel that found us leaves the report to us; one that did not has seen to it.
        Ok(After::Again(_) | After::Nothing) if canceled.is_cancelled() => core.outbox.ended(id, None),
        Ok(After::Again(when)) => lane.push_at(when, id),
        Ok(After::Nothing) => {}
        Err(error) => tracing::error!(task = %id, %error, "a task cannot be performed"),
    }
}

/// What is left to do when nothing runs any more.
enum After {
    /// To report it.
    Ended(Option<Bytes>),
    /// To wait.
    Again(Instant),
    Nothing,
}

async fn attempt(
    core: &Arc<Core>,
    lane: &Arc<Lane>,
    turn: Turn,
    slot: OwnedSemaphorePermit,
    canceled: CancellationToken,
    stopped: &mut bool,
) -> Result<After, JournalError> {
    let id = turn.id;
    // Before the look at the journal: what was let go before is parked there, and what is let go from here on
    // fires this.
    let lost = core.lost();
    if !matches!(core.journal.state(id), Some(State::Pending { .. })) {
        return Ok(After::Nothing);
    }
    let changed = core.guard.as_ref().is_some_and(|guard| guard.has_changed());
    let (assignment, message) = match turn.assignment {
        Some(assignment) if !changed => (assignment, None),
        _ => {
            let Some(stored) = core.stored(id).await? else { return Ok(After::Nothing) };
            let Some(assignment) = assignment_of(&stored) else { return Ok(After::Nothing) };
            (assignment, Some(stored.message))
        }
    };
    let expired = core.time_left(&assignment).is_zero();
    if expired {
        tracing::info!(task = %id, reason = %ReasonCode::Expired, "the task expired before it was its turn");
    }
    if expired || core.lease_is_over() {
        core.keep(vec![Record::Parked { id }]).await?;
        return Ok(After::Nothing);
    }
    let (payload, is_order) = match begin(core, &assignment, message.as_ref()).await? {
        Ok(Begin::Plain(payload)) => (payload, false),
        Ok(Begin::Ordered(payload)) => (payload, true),
        Ok(Begin::Later) => return Ok(After::Again(Instant::now() + NOT_YET)),
        Err(denial) => {
            let Assignment { task, attempts, .. } = assignment;
            let task_type = task.work.task_type.clone();
            let item =
                message.unwrap_or_else(|| wire::encode_command(&Command::Task(task), WireVersion::NEWEST));
            let record = core.refuse_waiting(id, &task_type, attempts, item, denial).await;
            core.keep(vec![record.clone()]).await?;
            return Ok(match record {
                Record::Outcome { report, .. } => After::Ended(Some(report)),
                _ => After::Nothing,
            });
        }
    };
    let number = u32::try_from(assignment.attempts.len()).unwrap_or(u32::MAX).saturating_add(1);
    let started = Record::Started { id, attempt: number };
    if is_order {
        crate::failpoint::ORDER_BEGUN.reach();
        // On disk before the handler begins: what the loss of power takes back runs again, and an order must
        // not.
        core.keep(vec![started]).await?;
    } else {
        // In the file before the handler begins: one that brings the process down must not do so for ever.
        core.journal.note_until(vec![started], &core.overdue).await?;
    }
    crate::failpoint::PERFORMER_STARTED.reach();
    core.outbox.begun(id, assignment.task.work.task_type.clone());
    let run = Uuid::new_v4();
    let log = Arc::new(LogTail::default());
    // What is to be waited for has a token of its own: nothing fires it but a handler that waits for us in
    // turn.
    let stopping =
        if lane.policy.on_stop == OnStop::Wait { CancellationToken::new() } else { core.stopping.clone() };
    let sink = Arc::new(Sink {
        core: core.clone(),
        id,
        task_type: assignment.task.work.task_type.clone(),
        attempt: number,
        log: log.clone(),
        said: Mutex::default(),
        waited_for: (lane.policy.on_stop == OnStop::Wait).then(|| stopping.clone()),
        restart: Mutex::default(),
    });
    let end = match core
        .registry
        .find(&assignment.task.work.task_type, core.executables.as_ref(), lane.policy.output)
        .await
    {
        Ok(handler) => {
            let work = Work {
                id,
                task_type: assignment.task.work.task_type.clone(),
                identifier: assignment.task.work.identifier.clone(),
                endpoint: core.endpoint.clone(),
                attempt: number,
                payload,
            };
            let limits = Limits { time: lane.policy.time_limit, grace: core.grace };
            let signals = Signals { canceled, stopping, lost };
            executor::run(handler, work, limits, &signals, sink.clone()).await
        }
        Err(reason) => End::Outcome(Outcome::failed(errnr::NO_HANDLER, reason)),
    };
    drop(slot);
    core.lines.end(id);
    let end = match sink.restart().await {
        Some(answer) => executor::restarted(end, answer),
        None => end,
    };
    *stopped = matches!(end, End::Stopped);
    let (outcome, run) = match end {
        End::Outcome(outcome) => (executor::normalise(outcome, core.output_limit), Some(run)),
        End::Canceled => return Ok(After::Nothing),
        End::Stopped => (executor::interrupted(lane.policy.on_stop, STOPPED), None),
    };
    let now = core.clock.now();
    match executor::decide(
        outcome,
        number,
        run,
        assignment.attempts.clone(),
        log.take(),
        &retries(lane, core.time_left(&assignment)),
        fastrand::f64(),
    ) {
        Step::Final(event) => {
            let report = core.report(id, assignment.task.work.task_type, event);
            core.keep(vec![Record::Outcome { id, report: report.clone() }]).await?;
            crate::failpoint::PERFORMER_JOURNALED.reach();
            Ok(After::Ended(Some(report)))
        }
        Step::Again { after, attempts } => {
            let Some(stored) = core.stored(id).await? else { return Ok(After::Nothing) };
            let mut records = vec![Record::Task(StoredTask {
                not_before: now.after(after),
                started: 0,
                attempts,
                restarting: None,
                ..stored
            })];
            // Another worker may have it by the time this one is back.
            let parked = *stopped && core.leases();
            records.extend(parked.then_some(Record::Parked { id }));
            core.keep(records).await?;
            Ok(if parked { After::Nothing } else { After::Again(Instant::now() + after) })
        }
    }
}

/// Judges a task whose turn has come, by its message if it was read back, and lets it begin.
async fn begin(
    core: &Core,
    assignment: &Assignment,
    message: Option<&Bytes>,
) -> Result<Result<Begin, Denial>, JournalError> {
    let work = &assignment.task.work;
    let Some(guard) = &core.guard else { return Ok(Ok(Begin::Plain(work.payload.clone()))) };
    if let Some(message) = message
        && let Err(denial) = guard.judge_waiting(message)
    {
        return Ok(Err(denial));
    }
    if !guard.needs_orders(&work.task_type) {
        return Ok(guard.begin(work));
    }
    let (guard, work) = (guard.clone(), work.clone());
    tokio::task::spawn_blocking(move || guard.begin(&work)).await.map_err(|_| JournalError::Closed)
}

/// The error text of an attempt that a stop ended.
const STOPPED: &str = "the endpoint was stopped while the handler ran";

/// What a handler has said of a restart.
#[derive(Default)]
struct Restart {
    /// What is answered, and what puts that on disk.
    said: Option<(Json, JoinHandle<()>)>,
    /// Whether the attempt has ended: nothing is written behind its outcome.
    over: bool,
}

/// Where progress and log lines of an attempt go.
struct Sink {
    core: Arc<Core>,
    id: TaskId,
    task_type: TaskType,
    attempt: u32,
    log: Arc<LogTail>,
    said: Mutex<Option<Instant>>,
    /// What stops a handler that a stop waits for.
    waited_for: Option<CancellationToken>,
    restart: Mutex<Restart>,
}

impl Sink {
    /// Ends it: answers what the handler has said of a restart, once that is on disk.
    async fn restart(&self) -> Option<Json> {
        let said = {
            let mut restart = self.restart.lock().unwrap_or_else(PoisonError::into_inner);
            restart.over = true;
            restart.said.take()
        };
        let (answer, journaled) = said?;
        let _ = journaled.await;
        self.waited_for.as_ref().inspect(|stop| stop.cancel());
        Some(answer)
    }
}

/// Puts on disk that a handler is about to end this process.
async fn note_restart(core: &Core, id: TaskId, answer: Bytes) -> Result<(), JournalError> {
    let journal = core.journal.clone();
    let task = tokio::task::spawn_blocking(move || journal.read_task(id))
        .await
        .map_err(|_| JournalError::Closed)??;
    let Some(task) = task else { return Ok(()) };
    core.keep(vec![Record::Task(StoredTask { restarting: Some(answer), ..task })]).await
}

impl AttemptSink for Sink {
    fn progress(&self, percent: u8) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() >= PROGRESS_EVERY) {
            *said = Some(Instant::now());
            self.core.outbox.progress(self.id, self.task_type.clone(), percent);
        }
    }

    fn log(&self, line: &str) {
        self.log.push(line);
        self.core.lines.push(self.id, &self.task_type, self.attempt, line);
    }

    fn restarting(&self, answer: Json) -> BoxFuture<'static, ()> {
        let answer = match executor::normalise(Outcome::Done(answer), self.core.output_limit) {
            Outcome::Done(answer) => answer,
            Outcome::Failed { errmsg, .. } | Outcome::Retry { errmsg, .. } => {
                self.log(&format!("restarting: {errmsg}"));
                json(&())
            }
        };
        let mut restart = self.restart.lock().unwrap_or_else(PoisonError::into_inner);
        if restart.over {
            return Box::pin(std::future::ready(()));
        }
        if let Some(stop) = self.waited_for.clone() {
            // This one waits for the stop.
            let stopping = self.core.stopping.clone();
            tokio::spawn(async move {
                stop.run_until_cancelled(stopping.cancelled()).await;
                stop.cancel();
            });
        }
        let (core, id) = (self.core.clone(), self.id);
        let (bytes, earlier) = (Bytes::from(answer.get().to_owned()), restart.said.take());
        let (on_disk, done) = oneshot::channel();
        let journaled = tokio::spawn(async move {
            if let Some((_, earlier)) = earlier {
                let _ = earlier.await;
            }
            if let Err(error) = note_restart(&core, id, bytes).await {
                tracing::error!(task = %id, %error, "cannot note in the journal that a handler restarts this endpoint");
            }
            let _ = on_disk.send(());
        });
        restart.said = Some((answer, journaled));
        Box::pin(async move {
            let _ = done.await;
        })
    }
}
