//! What becomes of task and response rows, worked out from what was read under the lock. No I/O.
//!
//! Both databases read the same few columns, ask here, and write what is answered. So a count can be wrong in one place
//! only, and that place has property tests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::{Applied, Settlement};
use uuid::Uuid;

use crate::domain::{
    AttemptError, Counts, EndpointName, Report, ReportEvent, ResponseEvent, ResponseStatus, TaskEvent, TaskId, TaskStatus, Timestamp, errnr,
};

/// When those who have a cancelled task and do not confirm it are told for the second time.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// Why a response fails whose endpoint received the task and was not there at the end.
pub(super) const VANISHED: &str = "lost: the endpoint received it and was not there any more when the task expired";

/// The attempt that was lost with a worker, after so many others.
pub(super) fn worker_lost(worker: &EndpointName, before: usize) -> AttemptError {
    let attempt = u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1);
    AttemptError { attempt, errnr: errnr::LOST, errmsg: format!("lost: the worker {worker} had received it and is gone") }
}

/// What must be known of a task to decide about it.
#[derive(Debug, Clone)]
pub(super) struct TaskState {
    pub status: TaskStatus,
    pub counts: Counts,
    /// Whether its expected set is frozen.
    pub frozen: bool,
    /// Whether the customer named the endpoints.
    pub listed: bool,
    /// Whether it is of a work queue.
    pub queued: bool,
    pub expires_at: Timestamp,
    pub finished_at: Option<Timestamp>,
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
}

impl TaskChange {
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
    /// It was cancelled; so is the response.
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
}

impl RowState {
    /// A row nobody has answered.
    pub const EXPECTED: Self =
        Self { status: ResponseStatus::Expected, progress: None, start_time: None, home: None, run: None, doubled: false };

    /// The row after a report, or `None` if the report is a repeat or a straggler.
    fn after(&self, home: Uuid, event: &ReportEvent, now: Timestamp) -> Option<Self> {
        let status = self.status.next(event.response_event());
        let progress = match event {
            // Reports may overtake each other, so the bar only goes forward.
            ReportEvent::Progress { percent } if !self.status.is_final() => self.progress.max(Some((*percent).min(100))),
            // Who reported progress is seen to have arrived.
            ReportEvent::Finished { errnr: 0, .. } if !self.status.is_final() => self.progress.map(|_| 100),
            _ => self.progress,
        };
        // A cancel that overtook its task was never received.
        let received = (event.response_event() != ResponseEvent::Canceled).then_some(now);
        let home = self.home.or(Some(home));
        let run = match event {
            ReportEvent::Finished { run, .. } => *run,
            _ => None,
        };
        let after = Self { status, progress, start_time: self.start_time.or(received), home, run, ..self.clone() };
        (!self.status.is_final() && (after.status != self.status || after.progress != self.progress)).then_some(after)
    }

    /// Whether a report proves that the handler ran twice: it tells of another execution than the one that decided.
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

/// What a batch of reports does.
#[derive(Debug, Default)]
pub(super) struct Folded<'a> {
    /// By key, which is the order in which rows are written.
    pub rows: BTreeMap<(TaskId, &'a EndpointName), RowChange<'a>>,
    /// Rows whose task was run twice, by key.
    pub doubled: BTreeSet<(TaskId, &'a EndpointName)>,
    pub tasks: Vec<(TaskId, TaskChange)>,
    pub applied: Applied,
}

impl TaskState {
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
        }
    }

    /// The change after an event, with the counts as they are by now.
    fn after(&self, event: TaskEvent, counts: &Counts, now: Timestamp, retention: Duration) -> TaskChange {
        let to = self.status.next(event, counts).unwrap_or(self.status);
        let mut change = TaskChange { to, counts: count_columns(counts), ..self.kept() };
        if to.is_final() {
            let finished_at = self.finished_at.unwrap_or(now);
            change.finished_at = Some(finished_at);
            // A cancelled task whose rows are not all closed is looked at again: whoever has it is told until it answers.
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
        Back::Waits(TaskChange { to, counts: count_columns(&counts), due_at: Some(self.expires_at), asks: Some(0), ..self.kept() })
    }

    /// Freezing with a number of endpoints, unless it is frozen or final.
    pub fn freeze(&self, expected: u32, now: Timestamp) -> Option<TaskChange> {
        let open = !self.frozen && !self.status.is_final();
        open.then(|| TaskChange { counts: count_columns(&Counts { expected, ..self.counts }), frozen_at: Some(now), ..self.kept() })
    }

    /// Whether what the reconciler decided gives up open rows.
    pub fn gives_up(&self, settlement: &Settlement) -> bool {
        settlement.event == Some(TaskEvent::Expire) && self.counts.open() > 0
    }

    /// What the reconciler decided. Of the rows that are given up, `lost` were received by endpoints that are not there.
    pub fn settle(&self, settlement: &Settlement, lost: u32, now: Timestamp, retention: Duration) -> TaskChange {
        let mut counts = self.counts;
        if self.gives_up(settlement) {
            counts.finished += lost;
            counts.failed += lost;
            counts.expired += counts.open();
        }
        // Without an event nothing moves; `Progress` would re-derive a status from counts that have not changed.
        let mut change = match settlement.event {
            Some(event) => self.after(event, &counts, now, retention),
            None => self.kept(),
        };
        change.due_at = Some(match change.to.is_final() && counts.open() == 0 {
            true => self.finished_at.unwrap_or(now).after(retention),
            false => settlement.due_at,
        });
        change.asks = Some(settlement.asks);
        if settlement.event == Some(TaskEvent::Published) {
            change.published_at = Some(now);
        }
        change
    }

    /// A cancel that withdraws a number of rows nobody has received; `Err` when it has ended otherwise, `Ok(None)` when it
    /// is cancelled already.
    pub fn cancel(&self, withdrawn: u32, now: Timestamp, retention: Duration) -> Result<Option<TaskChange>, crate::domain::IllegalMove> {
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

/// What a batch of reports does to the tasks and rows as they were read.
pub(super) fn fold<'a>(
    tasks: &HashMap<TaskId, TaskState>,
    rows: &HashMap<(TaskId, EndpointName), RowState>,
    reports: &'a [Report],
    now: Timestamp,
    retention: Duration,
) -> Folded<'a> {
    let mut folded = Folded::default();
    let mut counts: BTreeMap<TaskId, Counts> = BTreeMap::new();
    for report in reports {
        let Some(task) = tasks.get(&report.task_id) else {
            folded.applied.unknown += 1;
            continue;
        };
        let key = (report.task_id, &report.endpoint);
        let known = match folded.rows.get(&key) {
            Some(change) => Some(&change.row),
            None => rows.get(&(report.task_id, report.endpoint.clone())),
        };
        // Judged by the status as read: an endpoint is not shut out because another report of the same batch came first.
        // After the end only what is an end too: what was run is in the ledger, and nothing is opened again.
        let ended = report.event.response_event() == ResponseEvent::Finished;
        let adoptable = !task.listed && !task.queued && task.frozen && (ended || !task.status.is_final());
        let (before, adopted) = match known {
            Some(row) => (row.clone(), false),
            None if adoptable => (RowState::EXPECTED, true),
            None => {
                folded.applied.unknown += 1;
                continue;
            }
        };
        let Some(after) = before.after(report.home, &report.event, now) else {
            folded.applied.repeated += 1;
            if before.is_doubled_by(&report.event) && !before.doubled && folded.doubled.insert(key) {
                folded.applied.doubled += 1;
            }
            // It does not know yet that the task was withdrawn: the message that said so missed it.
            if task.status == TaskStatus::Canceled && report.event.response_event() == ResponseEvent::Received {
                folded.applied.to_stop.push((report.task_type.clone(), report.task_id, report.endpoint.clone()));
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
        count(counts, &before, &after, &report.event);
        let answer = matches!(report.event, ReportEvent::Finished { .. }).then_some(&report.event);
        folded.rows.insert(key, RowChange { row: after, answer });
    }
    for (id, counts) in counts {
        let Some(task) = tasks.get(&id).filter(|task| task.counts != counts) else { continue };
        let change = task.after(TaskEvent::Progress, &counts, now, retention);
        if change.to != task.status {
            folded.applied.moved.push((id, change.to));
        }
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
        TaskState { status, counts, frozen: true, listed: false, queued: false, expires_at, finished_at: status.is_final().then_some(NOW) }
    }

    fn names(count: u8) -> Vec<EndpointName> {
        (0..count).map(|number| format!("ep{number}").parse().expect("a name")).collect()
    }

    fn event() -> impl Strategy<Value = ReportEvent> {
        prop_oneof![
            Just(ReportEvent::Received),
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

    /// A ledger in memory: what the databases do with what is answered here.
    struct Model {
        id: TaskId,
        task: TaskState,
        rows: HashMap<(TaskId, EndpointName), RowState>,
        failed: u32,
    }

    impl Model {
        fn new(expected: u8, listed: bool) -> Self {
            let id = TaskId(Uuid::nil());
            let rows = names(expected).into_iter().map(|name| ((id, name), RowState::EXPECTED)).collect();
            let task = TaskState { listed, ..task(TaskStatus::Sent, Counts { expected: expected.into(), ..Counts::default() }) };
            Self { id, task, rows, failed: 0 }
        }

        fn write(&mut self, change: &TaskChange) {
            assert_eq!(change.from, self.task.status, "the guard");
            self.task.status = change.to;
            self.task.counts = counts_of(change.counts);
            self.task.finished_at = self.task.finished_at.or(change.finished_at);
        }

        fn apply(&mut self, reports: &[Report]) -> [u64; 4] {
            let tasks = HashMap::from([(self.id, self.task.clone())]);
            let folded = fold(&tasks, &self.rows, reports, NOW, RETENTION);
            for ((id, endpoint), change) in folded.rows {
                let key = (id, endpoint.clone());
                if let Some(ReportEvent::Finished { errnr, .. }) = change.answer {
                    self.failed += u32::from(*errnr != 0);
                }
                self.rows.insert(key, change.row);
            }
            for (_, change) in &folded.tasks {
                self.write(change);
            }
            let Applied { changed, repeated, adopted, unknown, .. } = folded.applied;
            [changed, repeated, adopted, unknown]
        }

        fn settle(&mut self, event: TaskEvent) {
            let settlement = Settlement { id: self.id, event: Some(event), asks: 0, due_at: NOW };
            let gives_up = self.task.gives_up(&settlement);
            let mut lost = 0;
            if gives_up {
                // Whoever has it and was never heard of again, here each.
                let received: Vec<_> = self.rows.values().filter(|row| row.status == ResponseStatus::Created).collect();
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
            let of = |status| u32::try_from(self.rows.values().filter(|row| row.status == status).count()).expect("few");
            Counts {
                expected: u32::try_from(self.rows.len()).expect("few"),
                received: u32::try_from(self.rows.values().filter(|row| row.start_time.is_some()).count()).expect("few"),
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
        let settle = prop_oneof![Just(TaskEvent::Published), Just(TaskEvent::ReceiveDeadline), Just(TaskEvent::Expire)];
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
            home: Uuid::nil(),
            event: event.clone(),
        };
        events.iter().map(report).collect()
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
                        prop_assert_eq!(tally.iter().sum::<u64>(), events.len() as u64, "each report is one of the four");
                    }
                    Step::Settle(event) => model.settle(event),
                    Step::Cancel => model.cancel(),
                }
                prop_assert_eq!(model.task.counts, model.counted());
                let open = model.rows.values().filter(|row| !row.status.is_final()).count();
                prop_assert_eq!(model.task.counts.open() as usize, open);
                prop_assert!(!was.is_final() || model.task.status == was, "an end is an end");
                prop_assert!(!listed || model.rows.len() == usize::from(expected), "a list never grows");
            }
        }

        #[test]
        fn batches_do_not_matter(expected in 1u8..6, events in proptest::collection::vec((0u8..8, event()), 0..30), size in 1usize..30) {
            let (mut whole, mut pieces) = (Model::new(expected, true), Model::new(expected, true));
            let reports = reports(whole.id, &events);
            let at_once = whole.apply(&reports);
            let mut in_pieces = [0; 4];
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
            let event =
                ReportEvent::Finished { errnr: 0, errmsg: String::new(), payload: None, attempt: 1, attempts: vec![], log: None, run };
            (0, event)
        };
        let tasks = HashMap::from([(model.id, model.task.clone())]);
        let both = reports(model.id, &[ended(1), ended(1), ended(2), ended(3)]);
        let folded = fold(&tasks, &model.rows, &both, NOW, RETENTION);
        assert_eq!((folded.doubled.len(), folded.applied.doubled, folded.applied.repeated), (1, 1, 3));
        model.apply(&reports(model.id, &[ended(1)]));
        let tasks = HashMap::from([(model.id, model.task.clone())]);
        for (run, doubled) in [(1, 0), (0, 0), (2, 1)] {
            let again = reports(model.id, &[ended(run)]);
            assert_eq!(fold(&tasks, &model.rows, &again, NOW, RETENTION).applied.doubled, doubled, "{run}");
        }
    }

    #[test]
    fn who_reports_a_withdrawn_task_is_to_be_stopped() {
        let mut model = Model::new(2, true);
        model.cancel();
        let tasks = HashMap::from([(model.id, model.task.clone())]);
        let late = reports(model.id, &[(0, ReportEvent::Received), (1, ReportEvent::Canceled)]);
        let folded = fold(&tasks, &model.rows, &late, NOW, RETENTION);
        let to_stop: Vec<_> = folded.applied.to_stop.iter().map(|(_, _, endpoint)| endpoint.as_str()).collect();
        assert_eq!(to_stop, ["ep0"]);
    }

    #[test]
    fn tells_when_to_look_at_what_has_ended() {
        let running = Counts { expected: 2, received: 2, finished: 1, ..Counts::default() };
        let sent = task(TaskStatus::Sent, running);
        let cancelled = sent.cancel(0, NOW, RETENTION).expect("it is open").expect("it is new");
        assert_eq!((cancelled.due_at, cancelled.finished_at), (Some(NOW.after(TELL_AGAIN)), Some(NOW)), "a row is open");
        let done = sent.after(TaskEvent::Progress, &Counts { finished: 2, ..running }, NOW, RETENTION);
        assert_eq!((done.to, done.due_at), (TaskStatus::Done, Some(NOW.after(RETENTION))));
        let open = Settlement { id: TaskId::new(), event: None, asks: 4, due_at: NOW.after(Duration::from_secs(3)) };
        let kept = sent.settle(&open, 0, NOW, RETENTION);
        assert_eq!((kept.to, kept.due_at, kept.asks, sent.gives_up(&open)), (TaskStatus::Sent, Some(open.due_at), Some(4), false));
        let late = Settlement { due_at: NOW.after(Duration::from_secs(99)), ..open };
        let kept = task(TaskStatus::Canceled, running).settle(&late, 0, NOW, RETENTION);
        assert_eq!(kept.due_at, Some(late.due_at));
        assert!(task(TaskStatus::Done, running).cancel(0, NOW, RETENTION).is_err());
    }

    #[test]
    fn groups_by_identical_change() {
        let kept = task(TaskStatus::Sent, Counts::default()).kept();
        let other = TaskChange { asks: Some(1), ..kept.clone() };
        let ids: Vec<TaskId> = (0..4).map(|_| TaskId::new()).collect();
        let changes = vec![(ids[3], kept.clone()), (ids[1], other.clone()), (ids[0], kept.clone()), (ids[2], kept.clone())];
        assert_eq!(grouped(changes), [(kept, vec![ids[0], ids[2], ids[3]]), (other, vec![ids[1]])]);
    }
}
