//! What becomes of task and response rows, worked out from what was read under the lock. No I/O.
//!
//! Both databases read the same few columns, ask here, and write what is answered. So a count can be wrong in
//! one place only, and that place has property tests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::LazyLock;
use std::time::Duration;

use uuid::Uuid;

use crate::domain::{
    AnswerDigest, AttemptError, Counts, EndpointName, FinalAnswer, Ignored, LateAnswer, Report, ReportEvent,
    ResponseEvent, ResponseStatus, TaskEvent, TaskId, TaskStatus, TaskType, Throughput, Timestamp, errnr,
};

/// What to do with a due task, decided by the reconciler.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// Which task.
    pub id: TaskId,
    /// What happened to it, if anything did. [`TaskEvent::Expire`] also gives up its open rows.
    pub event: Option<TaskEvent>,
    /// How it stood when this was decided; none where that does not matter, as for what ends a task.
    pub found: Option<Found>,
    /// How often it has been asked for again by now.
    pub asks: u32,
    /// When to look again. Ignored if the task is final afterwards: then it is when it may be forgotten.
    pub due_at: Timestamp,
}

/// How a task stood when it was claimed. A cancel ends it and counts the asks from 0, another process adds to
/// them: by then its next look is set anew, and a decision from before must not put it off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Whether it had ended.
    pub ended: bool,
    /// How often it had been asked for.
    pub asks: u32,
}

/// What a batch of reports did.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// Tasks whose status changed, with the status they have now.
    pub moved: Vec<(TaskId, TaskStatus)>,
    /// What became of those of them that ended, by type. [`crate::ledger`] takes it.
    pub ended: Vec<(TaskType, Throughput)>,
    /// Reports that changed a row.
    pub changed: u64,
    /// Reports that were repeats or stragglers.
    pub repeated: u64,
    /// Reports of endpoints that were not expected: adopted into the set of an open task without a list.
    pub adopted: u64,
    /// Reports for tasks the ledger does not know, of another type than the task's, or of endpoints that are
    /// not expected and not adopted.
    pub unknown: u64,
    /// Reports of endpoints that were never subscribed to the type.
    pub unsubscribed: u64,
    /// Reports of another memory than the one that has the task, or the endpoint's name.
    pub foreign: u64,
    /// Answers that came after their response was given up; the first of a response is kept.
    pub late: u64,
    /// Answers that differ from the one that decided; the first of a response is kept.
    pub contradicting: u64,
    /// Rows that were found to have been run twice: a second execution reported its end.
    pub doubled: u64,
    /// Whether a worker of a work queue has room again: a response of such a task has ended.
    pub room: bool,
    /// Whether a task has ended that something waits for.
    pub followed: bool,
    /// Rollouts with responses that changed.
    pub rollouts: BTreeSet<Uuid>,
    /// Endpoints that say they have a task whose row was withdrawn: they must be told to stop.
    pub to_stop: Vec<(TaskType, TaskId, EndpointName)>,
    /// Endpoints that say they have a task that was taken back: they must be told not to start it.
    pub to_withdraw: Vec<(TaskType, TaskId, EndpointName)>,
}

/// When those who have a canceled task and do not confirm it are told for the second time.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// Why a response fails whose endpoint received the task and was not there at the end.
pub(super) const VANISHED: &str =
    "lost: the endpoint received it and was not there any more when the task expired";

/// How long after a task was published an endpoint may have been seen for the first time and still have got a
/// copy of it: the clocks of two API processes may differ by so much for a moment.
const JOINED_WITH_IT: Duration = Duration::from_secs(10);
/// How long before a task was accepted an endpoint may have been heard of last and still have got a copy of
/// it.
const HEARD_BEFORE_IT: Duration = Duration::from_secs(600);

/// What becomes of a response that its endpoint reports as canceled although nobody canceled the task: it
/// must end, or the task would stay open without an open response.
static STOPPED: LazyLock<ReportEvent> = LazyLock::new(|| ReportEvent::Finished {
    errnr: errnr::STOPPED,
    errmsg: "stopped: the endpoint was told to cancel it, and the task was not canceled".into(),
    payload: None,
    attempt: 1,
    attempts: Vec::new(),
    log: None,
    run: None,
});

/// The attempt that was lost with a worker, after so many others.
pub(super) fn worker_lost(worker: &EndpointName, received: bool, before: usize) -> AttemptError {
    let attempt = u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1);
    let had = if received { "had received it" } else { "was given it, may have begun," };
    AttemptError {
        attempt,
        errnr: errnr::LOST,
        errmsg: format!("lost: the worker {worker} {had} and is gone"),
    }
}

/// What must be known of a task to decide about it.
#[derive(Debug, Clone)]
pub(super) struct TaskState {
    pub task_type: TaskType,
    pub status: TaskStatus,
    pub counts: Counts,
    /// Whether its expected set is frozen.
    pub frozen: bool,
    /// Whether the customer named the endpoints.
    pub listed: bool,
    /// Whether it is of a work queue.
    pub queued: bool,
    pub start_time: Timestamp,
    pub published_at: Option<Timestamp>,
    pub expires_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    /// Whether something waits for its end.
    pub followed: bool,
    /// The rollout that it is a batch of.
    pub rollout: Option<Uuid>,
    /// How often it was asked for again.
    pub asks: u32,
}

/// What the ledger knows of an endpoint that was ever subscribed to a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscriber {
    /// Its memory; none when a version saw it that did not ask.
    pub home: Option<Uuid>,
    /// The memory it had before.
    pub previous_home: Option<Uuid>,
    /// Since when it is known; none when a version saw it that did not note that.
    pub first_seen: Option<Timestamp>,
    pub last_seen: Timestamp,
}

impl Subscriber {
    /// Whether a memory is its own. The one before counts, too: what it reported may have lain with the
    /// broker while another took its place.
    fn has(&self, home: Uuid) -> bool {
        self.home.is_none_or(|own| own == home) || self.previous_home == Some(home)
    }

    /// Whether a copy of a task that everybody got can have reached it: it was known by the time the task
    /// went out, and was heard of around then or later.
    fn can_have_got(&self, task: &TaskState) -> bool {
        let published = task.published_at.unwrap_or(Timestamp::from_micros(i64::MAX));
        self.first_seen.is_none_or(|first| first <= published.after(JOINED_WITH_IT))
            && self.last_seen.after(HEARD_BEFORE_IT) >= task.start_time
    }
}

/// Endpoints that were ever subscribed to a type.
pub(super) type Subscribers = HashMap<(EndpointName, TaskType), Subscriber>;

/// Why a report is not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// Its endpoint was never there.
    Unsubscribed,
    /// Another memory than the reporting one has the task, or the endpoint.
    Foreign,
}

/// What to write into a task row. `None` leaves a column as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TaskChange {
    /// The status it was read with; the guard of the statement.
    pub from: TaskStatus,
    pub to: TaskStatus,
    /// In the order of the columns, see [`count_columns`].
    pub counts: [u32; 6],
    pub frozen_at: Option<Timestamp>,
    pub published_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub due_at: Option<Timestamp>,
    pub asks: Option<u32>,
    /// Whether it is of a work queue.
    pub queued: bool,
    /// Whether something waits for its end.
    pub followed: bool,
}

impl TaskChange {
    /// Whether somebody is to be told that the task has ended.
    pub fn ends_followed(&self) -> bool {
        self.followed && self.to.is_final() && !self.from.is_final()
    }

    /// Whether the task leaves its queue, and whether it has succeeded.
    pub fn leaves_queue(&self) -> Option<bool> {
        let counts = counts_of(self.counts);
        let leaves = self.queued && self.to.is_final() && counts.open() == 0;
        leaves.then_some(self.to == TaskStatus::Done && counts.failed == 0)
    }
}

/// The counts in the order of their columns.
pub(super) const fn count_columns(counts: &Counts) -> [u32; 6] {
    [counts.expected, counts.received, counts.finished, counts.failed, counts.canceled, counts.expired]
}

/// The counts out of their columns.
pub(super) const fn counts_of([expected, received, finished, failed, canceled, expired]: [u32; 6]) -> Counts {
    Counts { expected, received, finished, failed, canceled, expired }
}

/// What happens to a task whose worker is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Back {
    /// It waits again; the response goes.
    Waits(TaskChange),
    /// That was its last attempt; the response has failed.
    Failed(TaskChange),
    /// It was canceled; so is the response.
    Closed(TaskChange),
}

/// What must be known of a response to decide about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowState {
    pub status: ResponseStatus,
    pub progress: Option<u8>,
    pub start_time: Option<Timestamp>,
    /// The endpoint's memory that has it, or had it.
    pub home: Option<Uuid>,
    /// The execution that decided.
    pub run: Option<Uuid>,
    /// Whether another execution claimed to have decided, too.
    pub doubled: bool,
    /// The error number of a finished one.
    pub errnr: Option<i32>,
    /// Whether another answer that came after its end is kept.
    pub late: bool,
    /// Whether the task was taken back from its endpoint, unless that has begun it.
    pub withdrawn: bool,
}

impl RowState {
    /// A row nobody has answered.
    pub const EXPECTED: Self = Self {
        status: ResponseStatus::Expected,
        progress: None,
        start_time: None,
        home: None,
        run: None,
        doubled: false,
        errnr: None,
        late: false,
        withdrawn: false,
    };

    /// The row after a report, or `None` if the report is a repeat or a straggler.
    fn after(&self, home: Uuid, event: &ReportEvent, now: Timestamp) -> Option<Self> {
        let status = self.status.next(event.response_event());
        let progress = match event {
            // Reports may overtake each other, so the bar only goes forward.
            ReportEvent::Progress { percent } if !self.status.is_final() => {
                self.progress.max(Some((*percent).min(100)))
            }
            // What logs runs.
            ReportEvent::Begun | ReportEvent::Log(_) if !self.status.is_final() => self.progress.max(Some(0)),
            // Who reported progress is seen to have arrived.
            ReportEvent::Finished { errnr: 0, .. } if !self.status.is_final() => self.progress.map(|_| 100),
            _ => self.progress,
        };
        // A cancel that overtook its task was never received.
        let received = (event.response_event() != ResponseEvent::Canceled).then_some(now);
        let home = self.home.or(Some(home));
        let (run, errnr) = match event {
            ReportEvent::Finished { run, errnr, .. } => (*run, Some(*errnr)),
            _ => (None, None),
        };
        let after = Self {
            status,
            progress,
            start_time: self.start_time.or(received),
            home,
            run,
            errnr,
            ..self.clone()
        };
        (!self.status.is_final() && (after.status != self.status || after.progress != self.progress))
            .then_some(after)
    }

    /// Whether a report is refused, by what the ledger knows of its endpoint.
    fn refuses(&self, report: &Report, subscriber: Option<&Subscriber>) -> Option<Refusal> {
        match (self.home, subscriber) {
            (Some(home), _) if home == report.home => None,
            // Whoever has the name now may say that it does not know what the one before had received.
            (Some(_), Some(now)) if report.event.is_lost() && now.home == Some(report.home) => None,
            (Some(_), _) => Some(Refusal::Foreign),
            (None, None) => Some(Refusal::Unsubscribed),
            (None, Some(subscriber)) => (!subscriber.has(report.home)).then_some(Refusal::Foreign),
        }
    }

    /// An answer that came after the end and tells something else than what the ledger has; at most one is
    /// kept.
    fn another_answer(&self, event: &ReportEvent, now: Timestamp) -> Option<LateAnswer> {
        let ReportEvent::Finished { errnr, errmsg, run, .. } = event else { return None };
        // Ended without a word of who had it.
        let given_up = match self.status {
            ResponseStatus::Expected | ResponseStatus::Created => return None,
            ResponseStatus::Expired | ResponseStatus::Canceled => true,
            ResponseStatus::Finished => {
                self.run.is_none() && matches!(self.errnr, Some(errnr::LOST | errnr::STOPPED))
            }
        };
        let same = self.errnr == Some(*errnr) && (given_up || !self.is_doubled_by(event));
        let told = !self.late && !same;
        told.then(|| {
            LateAnswer { contradicts: !given_up, errnr: *errnr, errmsg: errmsg.clone(), run: *run, time: now }
                .bounded()
        })
    }

    /// Whether a report proves that the handler ran twice: it tells of another execution than the one that
    /// decided.
    fn is_doubled_by(&self, event: &ReportEvent) -> bool {
        matches!(event, ReportEvent::Finished { run: Some(run), .. } if self.run.is_some_and(|decided| decided != *run))
    }
}

/// What to write into a response row: all of it, for an open row holds nothing that [`RowState`] does not.
#[derive(Debug, Clone)]
pub(super) struct RowChange<'a> {
    pub row: RowState,
    /// The report that finished it.
    pub answer: Option<&'a ReportEvent>,
}

impl RowChange<'_> {
    /// The name of the group that its answer belongs to, if it is one.
    pub fn digest(&self, endpoint: &EndpointName, ignored: &Ignored) -> Option<AnswerDigest> {
        let Some(ReportEvent::Finished { errnr, errmsg, payload, .. }) = self.answer else { return None };
        Some(
            FinalAnswer { endpoint: endpoint.as_str(), errnr: *errnr, errmsg, payload: payload.as_deref() }
                .digest(ignored),
        )
    }
}

/// What a batch of reports does.
#[derive(Debug, Default)]
pub(super) struct Folded<'a> {
    /// By key, which is the order in which rows are written.
    pub rows: BTreeMap<(TaskId, &'a EndpointName), RowChange<'a>>,
    /// Rows whose task was run twice, by key.
    pub doubled: BTreeSet<(TaskId, &'a EndpointName)>,
    /// Answers after the end, by key.
    pub late: BTreeMap<(TaskId, &'a EndpointName), LateAnswer>,
    pub tasks: Vec<(TaskId, TaskChange)>,
    pub applied: Applied,
}

impl TaskState {
    /// Whether a report is about it: of the same type. A worker that is told to cancel a task it does not
    /// know cannot know its type.
    fn is_meant(&self, report: &Report) -> bool {
        self.task_type == report.task_type || matches!(report.event, ReportEvent::Canceled)
    }

    /// Whether it takes in a report of an endpoint that was not expected. After its end only what is an end
    /// too: what was run is in the ledger, and nothing is opened again.
    fn adopts(&self, event: &ReportEvent) -> bool {
        let open = !self.listed && !self.queued && self.frozen;
        match event.response_event() {
            ResponseEvent::Finished => open,
            ResponseEvent::Received => open && !self.status.is_final(),
            // Who never began has nothing to add.
            ResponseEvent::Canceled | ResponseEvent::Expired => false,
        }
    }

    /// A change that changes nothing.
    fn kept(&self) -> TaskChange {
        TaskChange {
            from: self.status,
            to: self.status,
            counts: count_columns(&self.counts),
            frozen_at: None,
            published_at: None,
            finished_at: None,
            due_at: None,
            asks: None,
            queued: self.queued,
            followed: self.followed,
        }
    }

    /// The change after an event, with the counts as they are by now.
    fn after(&self, event: TaskEvent, counts: &Counts, now: Timestamp, retention: Duration) -> TaskChange {
        let to = self.status.next(event, counts).unwrap_or(self.status);
        let mut change = TaskChange { to, counts: count_columns(counts), ..self.kept() };
        if to.is_final() {
            let finished_at = self.finished_at.unwrap_or(now);
            change.finished_at = Some(finished_at);
            // A canceled task whose rows are not all closed is looked at again: the endpoints that have it
            // are told until they answer.
            change.due_at = (counts.open() == 0).then(|| finished_at.after(retention));
        }
        change
    }

    /// Giving it to a worker, unless it does not wait any more. To be asked for again at `due_at`.
    pub fn give(&self, now: Timestamp, due_at: Timestamp) -> Option<TaskChange> {
        let waits = self.queued && self.status == TaskStatus::Created;
        let counts = Counts { expected: 1, ..Counts::default() };
        waits.then(|| TaskChange {
            to: self.status.next(TaskEvent::Taken, &counts).unwrap_or(self.status),
            counts: count_columns(&counts),
            frozen_at: Some(now),
            published_at: Some(now),
            due_at: Some(due_at),
            asks: Some(0),
            ..self.kept()
        })
    }

    /// What happens to a task whose worker is gone, after so many attempts of so many.
    pub fn take_back(&self, attempts: usize, most: u32, now: Timestamp, retention: Duration) -> Back {
        let mut counts = self.counts;
        if self.status.is_final() {
            counts.canceled += counts.open();
            return Back::Closed(self.after(TaskEvent::Progress, &counts, now, retention));
        }
        if attempts >= usize::try_from(most).unwrap_or(usize::MAX) {
            (counts.finished, counts.failed) = (1, 1);
            return Back::Failed(self.after(TaskEvent::Progress, &counts, now, retention));
        }
        let counts = Counts::default();
        let to = self.status.next(TaskEvent::Returned, &counts).unwrap_or(self.status);
        Back::Waits(TaskChange {
            to,
            counts: count_columns(&counts),
            due_at: Some(self.expires_at),
            asks: Some(0),
            ..self.kept()
        })
    }

    /// Freezing with a number of endpoints, unless it is frozen or final.
    pub fn freeze(&self, expected: u32, now: Timestamp) -> Option<TaskChange> {
        let open = !self.frozen && !self.status.is_final();
        open.then(|| TaskChange {
            counts: count_columns(&Counts { expected, ..self.counts }),
            frozen_at: Some(now),
            ..self.kept()
        })
    }

    /// Whether what the reconciler decided gives up open rows.
    pub fn gives_up(&self, settlement: &Settlement) -> bool {
        settlement.event == Some(TaskEvent::Expire) && self.counts.open() > 0
    }

    /// What becomes of it with this change; none while it goes on, or if it had ended before.
    pub fn ended(&self, change: &TaskChange) -> Option<(TaskType, Throughput)> {
        let ended =
            Throughput::of_end(change.to, &counts_of(change.counts)).filter(|_| !self.status.is_final())?;
        Some((self.task_type.clone(), ended))
    }

    /// What the reconciler decided. Of the rows that are given up, `lost` were received by endpoints that are
    /// not there.
    pub fn settle(
        &self,
        settlement: &Settlement,
        lost: u32,
        now: Timestamp,
        retention: Duration,
    ) -> TaskChange {
        let mut counts = self.counts;
        if self.gives_up(settlement) {
            counts.finished += lost;
            counts.failed += lost;
            counts.expired += counts.open();
        }
        // Without an event nothing moves; `Progress` would re-derive a status from counts that have not
        // changed.
        let mut change = match settlement.event {
            Some(event) => self.after(event, &counts, now, retention),
            None => self.kept(),
        };
        let now_found = Found { ended: self.status.is_final(), asks: self.asks };
        if change.to.is_final() && counts.open() == 0 {
            change.due_at = Some(self.finished_at.unwrap_or(now).after(retention));
        } else if settlement.found.is_none_or(|found| found == now_found) {
            (change.due_at, change.asks) = (Some(settlement.due_at), Some(settlement.asks));
        }
        if settlement.event == Some(TaskEvent::Published) {
            change.published_at = Some(now);
        }
        change
    }

    /// A cancel that withdraws a number of rows nobody has received; `Err` when it has ended otherwise,
    /// `Ok(None)` when it is canceled already.
    pub fn cancel(
        &self,
        withdrawn: u32,
        now: Timestamp,
        retention: Duration,
    ) -> Result<Option<TaskChange>, crate::domain::IllegalMove> {
        let mut counts = self.counts;
        counts.canceled += withdrawn;
        let to = self.status.next(TaskEvent::Cancel, &counts)?;
        Ok((to != self.status).then(|| {
            let mut change = self.after(TaskEvent::Cancel, &counts, now, retention);
            if counts.open() > 0 {
                (change.due_at, change.asks) = (Some(now.after(TELL_AGAIN).min(self.expires_at)), Some(0));
            }
            change
        }))
    }
}

/// Whose subscription has to be read besides those that are `known`, to judge these reports: that of each
/// endpoint whose memory the row does not tell, or contradicts. Ordered, without repeats.
pub(super) fn in_question<'a>(
    tasks: &'a HashMap<TaskId, TaskState>,
    rows: &HashMap<(TaskId, EndpointName), RowState>,
    known: &Subscribers,
    reports: &'a [Report],
) -> BTreeSet<(&'a EndpointName, &'a TaskType)> {
    let mut asked = BTreeSet::new();
    for report in reports {
        let Some(task) = tasks.get(&report.task_id).filter(|task| task.is_meant(report)) else { continue };
        let settled = match rows.get(&(report.task_id, report.endpoint.clone())) {
            Some(row) => row.home == Some(report.home),
            None => !task.adopts(&report.event),
        };
        if !settled && !known.contains_key(&(report.endpoint.clone(), task.task_type.clone())) {
            asked.insert((&report.endpoint, &task.task_type));
        }
    }
    asked
}

/// What a batch of reports does to the tasks and rows as they were read. `subscribers` are those that are
/// [`in_question`].
pub(super) fn fold<'a>(
    tasks: &HashMap<TaskId, TaskState>,
    rows: &HashMap<(TaskId, EndpointName), RowState>,
    subscribers: &Subscribers,
    reports: &'a [Report],
    now: Timestamp,
    retention: Duration,
) -> Folded<'a> {
    let mut folded = Folded::default();
    let mut counts: BTreeMap<TaskId, Counts> = BTreeMap::new();
    for report in reports {
        let Some(task) = tasks.get(&report.task_id).filter(|task| task.is_meant(report)) else {
            folded.applied.unknown += 1;
            continue;
        };
        let key = (report.task_id, &report.endpoint);
        let known = match folded.rows.get(&key) {
            Some(change) => Some(&change.row),
            None => rows.get(&(report.task_id, report.endpoint.clone())),
        };
        let subscriber = || subscribers.get(&(report.endpoint.clone(), task.task_type.clone()));
        let (before, adopted) = match known {
            Some(row) => (row.clone(), false),
            // Judged by the status as read: an endpoint is not shut out because another report of the same
            // batch came first.
            None if task.adopts(&report.event)
                && subscriber().is_none_or(|subscriber| subscriber.can_have_got(task)) =>
            {
                (RowState::EXPECTED, true)
            }
            None => {
                folded.applied.unknown += 1;
                continue;
            }
        };
        // The row tells who has it, unless nobody has it yet.
        let subscriber = if before.home == Some(report.home) { None } else { subscriber() };
        if let Some(refusal) = before.refuses(report, subscriber) {
            match refusal {
                Refusal::Unsubscribed => folded.applied.unsubscribed += 1,
                Refusal::Foreign => folded.applied.foreign += 1,
            }
            // Not applied, but evidence: two memories of one endpoint have run it.
            let evidence = subscriber.is_some_and(|subscriber| subscriber.has(report.home))
                && before.is_doubled_by(&report.event);
            if evidence && !before.doubled && folded.doubled.insert(key) {
                folded.applied.doubled += 1;
            }
            continue;
        }
        let event = match report.event {
            ReportEvent::Canceled if !task.status.is_final() && !before.withdrawn => &STOPPED,
            _ => &report.event,
        };
        let Some(after) = before.after(report.home, event, now) else {
            match before.another_answer(&report.event, now).filter(|_| !folded.late.contains_key(&key)) {
                Some(answer) => {
                    let count = if answer.contradicts {
                        &mut folded.applied.contradicting
                    } else {
                        &mut folded.applied.late
                    };
                    *count += 1;
                    folded.late.insert(key, answer);
                }
                // Lines are counted where they are kept.
                None if matches!(report.event, ReportEvent::Log(_)) => {}
                None => folded.applied.repeated += 1,
            }
            if before.is_doubled_by(event) && !before.doubled && folded.doubled.insert(key) {
                folded.applied.doubled += 1;
            }
            // It does not know yet that the task was withdrawn: the message that said so missed it.
            if task.status == TaskStatus::Canceled && event.response_event() == ResponseEvent::Received {
                folded.applied.to_stop.push((
                    task.task_type.clone(),
                    report.task_id,
                    report.endpoint.clone(),
                ));
            }
            continue;
        };
        let counts = counts.entry(report.task_id).or_insert(task.counts);
        if adopted {
            counts.expected += 1;
            folded.applied.adopted += 1;
        } else {
            folded.applied.changed += 1;
        }
        count(counts, &before, &after, event);
        // The message that took it back has missed it. Told once: who has begun answers that it has received
        // it.
        if before.withdrawn
            && after.status == ResponseStatus::Created
            && before.status == ResponseStatus::Expected
        {
            folded.applied.to_withdraw.push((
                task.task_type.clone(),
                report.task_id,
                report.endpoint.clone(),
            ));
        }
        folded.applied.rollouts.extend(task.rollout);
        folded.applied.room |= task.queued && !before.status.is_final() && after.status.is_final();
        let answer = matches!(event, ReportEvent::Finished { .. }).then_some(event);
        folded.rows.insert(key, RowChange { row: after, answer });
    }
    for (id, counts) in counts {
        let Some(task) = tasks.get(&id).filter(|task| task.counts != counts) else { continue };
        let change = task.after(TaskEvent::Progress, &counts, now, retention);
        if change.to != task.status {
            folded.applied.moved.push((id, change.to));
            folded.applied.ended.extend(task.ended(&change));
        }
        folded.applied.followed |= change.ends_followed();
        folded.tasks.push((id, change));
    }
    folded
}

fn count(counts: &mut Counts, before: &RowState, after: &RowState, event: &ReportEvent) {
    counts.received += u32::from(before.start_time.is_none() && after.start_time.is_some());
    if before.status == after.status {
        return;
    }
    match (after.status, event) {
        (ResponseStatus::Finished, ReportEvent::Finished { errnr, .. }) => {
            counts.finished += 1;
            counts.failed += u32::from(*errnr != 0);
        }
        (ResponseStatus::Canceled, _) => counts.canceled += 1,
        _ => (),
    }
}

/// Tasks by identical change, so that each group is one statement.
pub(super) fn grouped(changes: Vec<(TaskId, TaskChange)>) -> Vec<(TaskChange, Vec<TaskId>)> {
    let mut groups: HashMap<TaskChange, Vec<TaskId>> = HashMap::new();
    for (id, change) in changes {
        groups.entry(change).or_default().push(id);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    for (_, ids) in &mut groups {
        ids.sort_unstable();
    }
    groups.sort_unstable_by(|(_, a), (_, b)| a.first().cmp(&b.first()));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::json;
    use proptest::prelude::*;
    use uuid::Uuid;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);
    const RETENTION: Duration = Duration::from_secs(60);

    fn task(status: TaskStatus, counts: Counts) -> TaskState {
        let expires_at = NOW.after(Duration::from_secs(10));
        TaskState {
            task_type: "worker".parse().expect("a type"),
            status,
            counts,
            frozen: true,
            listed: false,
            queued: false,
            start_time: NOW,
            published_at: Some(NOW),
            expires_at,
            finished_at: status.is_final().then_some(NOW),
            followed: false,
            rollout: None,
            asks: 0,
        }
    }

    fn names(count: u8) -> Vec<EndpointName> {
        (0..count).map(|number| format!("ep{number}").parse().expect("a name")).collect()
    }

    fn event() -> impl Strategy<Value = ReportEvent> {
        prop_oneof![
            Just(ReportEvent::Received),
            Just(ReportEvent::Begun),
            (0u8..200).prop_map(|percent| ReportEvent::Progress { percent }),
            (0i32..2).prop_map(|errnr| ReportEvent::Finished {
                errnr,
                errmsg: String::new(),
                payload: Some(json(&errnr)),
                attempt: 1,
                attempts: Vec::new(),
                log: None,
                run: None
            }),
            Just(ReportEvent::Canceled),
        ]
    }

    /// The memory that every honest endpoint here has.
    const HOME: Uuid = Uuid::nil();

    fn subscriber(home: Uuid) -> Subscriber {
        Subscriber { home: Some(home), previous_home: None, first_seen: Some(NOW), last_seen: NOW }
    }

    /// A ledger in memory: what the databases do with what is answered here.
    struct Model {
        id: TaskId,
        task: TaskState,
        rows: HashMap<(TaskId, EndpointName), RowState>,
        subscribers: Subscribers,
        failed: u32,
    }

    impl Model {
        fn new(expected: u8, listed: bool) -> Self {
            let id = TaskId(Uuid::nil());
            let rows = names(expected).into_iter().map(|name| ((id, name), RowState::EXPECTED)).collect();
            let task = TaskState {
                listed,
                ..task(TaskStatus::Sent, Counts { expected: expected.into(), ..Counts::default() })
            };
            let key = |name| ((name, task.task_type.clone()), subscriber(HOME));
            let subscribers = names(8).into_iter().map(key).collect();
            Self { id, task, rows, subscribers, failed: 0 }
        }

        fn write(&mut self, change: &TaskChange) {
            assert_eq!(change.from, self.task.status, "the guard");
            self.task.status = change.to;
            self.task.counts = counts_of(change.counts);
            self.task.finished_at = self.task.finished_at.or(change.finished_at);
        }

        /// As the databases do it: with no more subscribers than are in question.
        fn fold<'a>(&self, reports: &'a [Report]) -> Folded<'a> {
            let tasks = HashMap::from([(self.id, self.task.clone())]);
            let asked = in_question(&tasks, &self.rows, &Subscribers::new(), reports);
            let subscribers =
                self.subscribers.iter().filter(|((name, task_type), _)| asked.contains(&(name, task_type)));
            let subscribers =
                subscribers.map(|(key, subscriber)| (key.clone(), subscriber.clone())).collect();
            fold(&tasks, &self.rows, &subscribers, reports, NOW, RETENTION)
        }

        fn apply(&mut self, reports: &[Report]) -> [u64; 8] {
            let folded = self.fold(reports);
            for ((id, endpoint), change) in folded.rows {
                let key = (id, endpoint.clone());
                if let Some(ReportEvent::Finished { errnr, .. }) = change.answer {
                    self.failed += u32::from(*errnr != 0);
                }
                self.rows.insert(key, change.row);
            }
            for (id, endpoint) in folded.late.into_keys() {
                self.rows.get_mut(&(id, endpoint.clone())).expect("a row").late = true;
            }
            for (_, change) in &folded.tasks {
                self.write(change);
            }
            let Applied {
                changed,
                repeated,
                adopted,
                unknown,
                unsubscribed,
                foreign,
                late,
                contradicting,
                ..
            } = folded.applied;
            [changed, repeated, adopted, late, contradicting, unknown, unsubscribed, foreign]
        }

        fn settle(&mut self, event: TaskEvent) {
            let settlement =
                Settlement { id: self.id, event: Some(event), found: None, asks: 0, due_at: NOW };
            let gives_up = self.task.gives_up(&settlement);
            let mut lost = 0;
            if gives_up {
                // Whoever has it and was never heard of again, here each.
                let received: Vec<_> =
                    self.rows.values().filter(|row| row.status == ResponseStatus::Created).collect();
                lost = u32::try_from(received.len()).expect("few");
                self.failed += lost;
                self.close(|status| status == ResponseStatus::Created, ResponseStatus::Finished);
                self.close(|_| true, ResponseStatus::Expired);
            }
            let change = self.task.settle(&settlement, lost, NOW, RETENTION);
            self.write(&change);
        }

        fn cancel(&mut self) {
            let waiting = self.rows.values().filter(|row| row.status == ResponseStatus::Expected).count();
            if let Ok(Some(change)) = self.task.cancel(u32::try_from(waiting).expect("few"), NOW, RETENTION) {
                self.close(|status| status == ResponseStatus::Expected, ResponseStatus::Canceled);
                self.write(&change);
            }
        }

        fn close(&mut self, which: impl Fn(ResponseStatus) -> bool, to: ResponseStatus) {
            for row in self.rows.values_mut().filter(|row| !row.status.is_final() && which(row.status)) {
                row.status = to;
            }
        }

        /// The counts as the rows say.
        fn counted(&self) -> Counts {
            let of = |status| {
                u32::try_from(self.rows.values().filter(|row| row.status == status).count()).expect("few")
            };
            Counts {
                expected: u32::try_from(self.rows.len()).expect("few"),
                received: u32::try_from(self.rows.values().filter(|row| row.start_time.is_some()).count())
                    .expect("few"),
                finished: of(ResponseStatus::Finished),
                failed: self.failed,
                canceled: of(ResponseStatus::Canceled),
                expired: of(ResponseStatus::Expired),
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Reports(Vec<(u8, ReportEvent)>),
        Settle(TaskEvent),
        Cancel,
    }

    fn step() -> impl Strategy<Value = Step> {
        let settle = prop_oneof![
            Just(TaskEvent::Published),
            Just(TaskEvent::ReceiveDeadline),
            Just(TaskEvent::Expire)
        ];
        prop_oneof![
            8 => proptest::collection::vec((0u8..8, event()), 0..12).prop_map(Step::Reports),
            2 => settle.prop_map(Step::Settle),
            1 => Just(Step::Cancel),
        ]
    }

    fn reports(id: TaskId, events: &[(u8, ReportEvent)]) -> Vec<Report> {
        let names = names(8);
        let report = |(endpoint, event): &(u8, ReportEvent)| Report {
            task_id: id,
            task_type: "worker".parse().expect("a type"),
            endpoint: names[usize::from(*endpoint)].clone(),
            home: HOME,
            event: event.clone(),
        };
        events.iter().map(report).collect()
    }

    /// What somebody else makes of an honest report.
    fn forged(kind: u8, report: &Report) -> Report {
        let report = report.clone();
        match kind {
            0 => Report { task_type: "backup".parse().expect("a type"), ..report },
            1 => Report { home: Uuid::from_u128(7), ..report },
            _ => Report { endpoint: format!("ghost{}", report.endpoint).parse().expect("a name"), ..report },
        }
    }

    proptest! {
        #[test]
        fn counts_are_what_the_rows_say(expected in 0u8..6, listed: bool, steps in proptest::collection::vec(step(), 0..12)) {
            let mut model = Model::new(expected, listed);
            for step in steps {
                let was = model.task.status;
                match step {
                    Step::Reports(events) => {
                        let tally = model.apply(&reports(model.id, &events));
                        prop_assert_eq!(tally.iter().sum::<u64>(), events.len() as u64, "each report is one of the eight");
                    }
                    Step::Settle(event) => model.settle(event),
                    Step::Cancel => model.cancel(),
                }
                prop_assert_eq!(model.task.counts, model.counted());
                let open = model.rows.values().filter(|row| !row.status.is_final()).count();
                prop_assert_eq!(model.task.counts.open() as usize, open);
                prop_assert!(!was.is_final() || model.task.status == was, "an end is an end");
                prop_assert!(!listed || model.rows.len() == usize::from(expected), "a list never grows");
                if model.task.counts.expected > 0 && model.task.counts.open() == 0 {
                    prop_assert!(model.task.status.is_final(), "nothing is open and it is {:?}", model.task.status);
                }
            }
        }

        #[test]
        fn what_is_forged_changes_nothing(
            expected in 0u8..6, listed: bool, cancels: bool, size in 1usize..30,
            events in proptest::collection::vec((0u8..8, event(), proptest::option::of(0u8..3)), 0..40),
        ) {
            let (mut attacked, mut left_alone) = (Model::new(expected, listed), Model::new(expected, listed));
            let (mut all, mut honest) = (Vec::new(), Vec::new());
            for (endpoint, event, kind) in events {
                let report = reports(attacked.id, &[(endpoint, event)]).remove(0);
                match kind {
                    // A cancel is confirmed without knowing the type.
                    Some(0) if matches!(report.event, ReportEvent::Canceled) => {}
                    Some(kind) => all.push(forged(kind, &report)),
                    None => {
                        all.push(report.clone());
                        honest.push(report);
                    }
                }
            }
            if cancels {
                attacked.cancel();
                left_alone.cancel();
            }
            // The batches of both may differ, which does not matter unless there is somebody to adopt.
            let size = if listed { size } else { usize::MAX };
            let refused: u64 = all.chunks(size).map(|batch| attacked.apply(batch)[5..].iter().sum::<u64>()).sum();
            let unknown: u64 = honest.chunks(size).map(|batch| left_alone.apply(batch)[5..].iter().sum::<u64>()).sum();
            prop_assert_eq!(refused, unknown + (all.len() - honest.len()) as u64);
            prop_assert_eq!(&attacked.rows, &left_alone.rows);
            prop_assert_eq!((attacked.task.status, attacked.task.counts), (left_alone.task.status, left_alone.task.counts));
        }

        #[test]
        fn batches_do_not_matter(expected in 1u8..6, events in proptest::collection::vec((0u8..8, event()), 0..30), size in 1usize..30) {
            let (mut whole, mut pieces) = (Model::new(expected, true), Model::new(expected, true));
            let reports = reports(whole.id, &events);
            let at_once = whole.apply(&reports);
            let mut in_pieces = [0; 8];
            for piece in reports.chunks(size) {
                in_pieces.iter_mut().zip(pieces.apply(piece)).for_each(|(sum, number)| *sum += number);
            }
            prop_assert_eq!(at_once, in_pieces);
            prop_assert_eq!(whole.task.counts, pieces.task.counts);
            prop_assert_eq!(whole.task.status, pieces.task.status);
            prop_assert_eq!(whole.apply(&reports)[0], 0, "a repeat changes nothing");
        }
    }

    #[test]
    fn two_executions_of_one_response_are_seen_whatever_the_batch() {
        let mut model = Model::new(1, true);
        let ended = |run: u128| {
            let run = (run > 0).then(|| Uuid::from_u128(run));
            let event = ReportEvent::Finished {
                errnr: 0,
                errmsg: String::new(),
                payload: None,
                attempt: 1,
                attempts: vec![],
                log: None,
                run,
            };
            (0, event)
        };
        let both = reports(model.id, &[ended(1), ended(1), ended(2), ended(3)]);
        let folded = model.fold(&both);
        assert_eq!(
            (
                folded.doubled.len(),
                folded.applied.doubled,
                folded.applied.repeated,
                folded.applied.contradicting
            ),
            (1, 1, 2, 1)
        );
        model.apply(&reports(model.id, &[ended(1)]));
        for (run, doubled) in [(1, 0), (0, 0), (2, 1)] {
            let again = reports(model.id, &[ended(run)]);
            assert_eq!(model.fold(&again).applied.doubled, doubled, "{run}");
        }
        // Two memories of one name: evidence if the ledger has seen both, noise otherwise.
        let own = subscriber(Uuid::from_u128(1));
        model
            .subscribers
            .values_mut()
            .for_each(|subscriber| *subscriber = Subscriber { previous_home: Some(HOME), ..own.clone() });
        for (home, foreign, doubled) in [(1, 1, 1), (2, 1, 0)] {
            let other = reports(model.id, &[ended(2)])
                .into_iter()
                .map(|report| Report { home: Uuid::from_u128(home), ..report });
            let other: Vec<Report> = other.collect();
            let applied = model.fold(&other).applied;
            assert_eq!((applied.foreign, applied.doubled), (foreign, doubled), "{home}");
        }
    }

    #[test]
    fn only_the_memory_that_has_it_is_believed() {
        let [own, before, other] = [1, 2, 3].map(Uuid::from_u128);
        let finished = |errnr| ReportEvent::Finished {
            errnr,
            errmsg: String::new(),
            payload: None,
            attempt: 1,
            attempts: vec![],
            log: None,
            run: None,
        };
        let done = finished(0);
        let lost = finished(errnr::LOST);
        let received = ReportEvent::Received;
        let has = |home| RowState {
            status: ResponseStatus::Created,
            home: Some(home),
            start_time: Some(NOW),
            ..RowState::EXPECTED
        };
        let known = Subscriber { previous_home: Some(before), ..subscriber(own) };
        let unasked = Subscriber { home: None, ..subscriber(own) };
        let (foreign, never) = (Some(Refusal::Foreign), Some(Refusal::Unsubscribed));
        let table = [
            (RowState::EXPECTED, Some(&known), own, &done, None),
            (RowState::EXPECTED, Some(&known), before, &received, None),
            (RowState::EXPECTED, Some(&known), other, &received, foreign),
            (RowState::EXPECTED, Some(&known), other, &done, foreign),
            (RowState::EXPECTED, Some(&unasked), other, &done, None),
            (RowState::EXPECTED, None, own, &received, never),
            (RowState::EXPECTED, None, own, &done, never),
            (RowState::EXPECTED, None, own, &ReportEvent::Canceled, never),
            (has(own), None, own, &done, None),
            (has(own), Some(&known), other, &done, foreign),
            (has(before), Some(&known), before, &done, None),
            (has(before), Some(&known), own, &done, foreign),
            // The one that has the name now does not know how far the one before was.
            (has(before), Some(&known), own, &lost, None),
            (has(own), Some(&known), before, &lost, foreign),
            (has(own), Some(&known), other, &lost, foreign),
            (has(own), None, other, &lost, foreign),
        ];
        for (at, (row, subscriber, home, event, refusal)) in table.into_iter().enumerate() {
            let report = Report { home, ..reports(TaskId::new(), &[(0, event.clone())]).remove(0) };
            assert_eq!(row.refuses(&report, subscriber), refusal, "row {at}");
        }
    }

    #[test]
    fn keeps_one_answer_that_came_after_the_end() {
        let answer = |errnr, run: u128| ReportEvent::Finished {
            errnr,
            errmsg: "é".repeat(100_000),
            payload: None,
            attempt: 1,
            attempts: vec![],
            log: None,
            run: (run > 0).then(|| Uuid::from_u128(run)),
        };
        let ended = |status, errnr, run: u128| RowState {
            status,
            errnr,
            run: (run > 0).then(|| Uuid::from_u128(run)),
            home: Some(HOME),
            ..RowState::EXPECTED
        };
        use ResponseStatus as S;
        let (late, contradicts) = (Some(false), Some(true));
        for (row, event, kept) in [
            (RowState::EXPECTED, answer(0, 1), None),
            (ended(S::Expired, None, 0), answer(0, 1), late),
            (ended(S::Canceled, None, 0), answer(3, 1), late),
            (ended(S::Canceled, None, 0), ReportEvent::Canceled, None),
            (ended(S::Finished, Some(errnr::LOST), 0), answer(0, 1), late),
            (ended(S::Finished, Some(errnr::LOST), 0), answer(errnr::LOST, 0), None),
            (ended(S::Finished, Some(errnr::STOPPED), 0), answer(0, 1), late),
            (ended(S::Finished, Some(0), 1), answer(0, 1), None),
            (ended(S::Finished, Some(0), 1), answer(0, 0), None),
            (ended(S::Finished, Some(0), 1), answer(0, 2), contradicts),
            (ended(S::Finished, Some(0), 1), answer(3, 1), contradicts),
            (ended(S::Finished, Some(3), 0), answer(errnr::LOST, 0), contradicts),
            (RowState { late: true, ..ended(S::Expired, None, 0) }, answer(0, 1), None),
        ] {
            let found = row.another_answer(&event, NOW);
            assert_eq!(found.as_ref().map(|answer| answer.contradicts), kept, "{row:?}");
            assert!(found.is_none_or(|answer| answer.errmsg.len() <= LateAnswer::TEXT && answer.time == NOW));
        }
    }

    #[test]
    fn adopts_only_who_can_have_got_a_copy() {
        let second = |secs| Some(NOW.after(Duration::from_secs(secs)));
        let task = TaskState { published_at: second(5), ..task(TaskStatus::Done, Counts::default()) };
        let long_ago = Some(Timestamp::from_micros(NOW.as_micros() - 3600 * 1_000_000));
        for (first_seen, last_seen, can) in [
            (second(4), second(4), true),
            (second(6), second(6), true),
            (second(16), second(16), false),
            (second(3600), second(3600), false),
            (long_ago, Some(NOW), true),
            (None, Some(NOW), true),
            (long_ago, long_ago, false),
        ] {
            let subscriber =
                Subscriber { first_seen, last_seen: last_seen.expect("a time"), ..subscriber(HOME) };
            assert_eq!(subscriber.can_have_got(&task), can, "{first_seen:?}, {last_seen:?}");
            let unpublished = TaskState { published_at: None, ..task.clone() };
            assert_eq!(subscriber.can_have_got(&unpublished), last_seen != long_ago);
        }
    }

    #[test]
    fn a_cancel_that_nobody_asked_for_ends_the_task() {
        let mut model = Model::new(2, true);
        let stopped = |endpoint| reports(model.id, &[(endpoint, ReportEvent::Canceled)]);
        let (first, second) = (stopped(0), stopped(1));
        assert_eq!(model.apply(&first), [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(model.apply(&second), [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!((model.task.status, model.failed), (TaskStatus::Done, 2));
        assert_eq!(model.task.counts, model.counted());
        // After a cancel it is what it says.
        let mut model = Model::new(1, true);
        model.apply(&reports(model.id, &[(0, ReportEvent::Received)]));
        model.cancel();
        model.apply(&first);
        assert_eq!(
            (model.task.status, model.task.counts.canceled, model.failed),
            (TaskStatus::Canceled, 1, 0)
        );
    }

    #[test]
    fn who_reports_a_withdrawn_task_is_to_be_stopped() {
        let mut model = Model::new(2, true);
        model.cancel();
        let late = reports(model.id, &[(0, ReportEvent::Received), (1, ReportEvent::Canceled)]);
        let folded = model.fold(&late);
        let to_stop: Vec<_> =
            folded.applied.to_stop.iter().map(|(_, _, endpoint)| endpoint.as_str()).collect();
        assert_eq!(to_stop, ["ep0"]);
    }

    #[test]
    fn tells_when_to_look_at_what_has_ended() {
        let running = Counts { expected: 2, received: 2, finished: 1, ..Counts::default() };
        let sent = task(TaskStatus::Sent, running);
        let canceled = sent.cancel(0, NOW, RETENTION).expect("it is open").expect("it is new");
        assert_eq!(
            (canceled.due_at, canceled.finished_at),
            (Some(NOW.after(TELL_AGAIN)), Some(NOW)),
            "a row is open"
        );
        let done = sent.after(TaskEvent::Progress, &Counts { finished: 2, ..running }, NOW, RETENTION);
        assert_eq!((done.to, done.due_at), (TaskStatus::Done, Some(NOW.after(RETENTION))));
        let found = Some(Found { ended: false, asks: 0 });
        let due_at = NOW.after(Duration::from_secs(3));
        let open = Settlement { id: TaskId::new(), event: None, found, asks: 4, due_at };
        let kept = sent.settle(&open, 0, NOW, RETENTION);
        assert_eq!(
            (kept.to, kept.due_at, kept.asks, sent.gives_up(&open)),
            (TaskStatus::Sent, Some(open.due_at), Some(4), false)
        );
        let asked_by_another = TaskState { asks: 3, ..sent.clone() }.settle(&open, 0, NOW, RETENTION);
        assert_eq!((asked_by_another.due_at, asked_by_another.asks), (None, None));
        let canceled_since = task(TaskStatus::Canceled, running).settle(&open, 0, NOW, RETENTION);
        assert_eq!((canceled_since.due_at, canceled_since.asks), (None, None), "the stop is told soon");
        let late = Settlement { found: None, due_at: NOW.after(Duration::from_secs(99)), ..open };
        let kept = task(TaskStatus::Canceled, running).settle(&late, 0, NOW, RETENTION);
        assert_eq!(kept.due_at, Some(late.due_at));
        assert!(task(TaskStatus::Done, running).cancel(0, NOW, RETENTION).is_err());
    }

    #[test]
    fn groups_by_identical_change() {
        let kept = task(TaskStatus::Sent, Counts::default()).kept();
        let other = TaskChange { asks: Some(1), ..kept.clone() };
        let ids: Vec<TaskId> = (0..4).map(|_| TaskId::new()).collect();
        let changes = vec![
            (ids[3], kept.clone()),
            (ids[1], other.clone()),
            (ids[0], kept.clone()),
            (ids[2], kept.clone()),
        ];
        assert_eq!(grouped(changes), [(kept, vec![ids[0], ids[2], ids[3]]), (other, vec![ids[1]])]);
    }
}
