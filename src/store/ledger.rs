//! What becomes of task and response rows, worked out from what was read under the lock. No I/O.
//!
//! Both databases read the same few columns, ask here, and write what is answered. So a count can be wrong in one place
//! only, and that place has property tests.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::{Applied, Settlement};
use crate::domain::{Counts, EndpointName, Report, ReportEvent, ResponseEvent, ResponseStatus, TaskEvent, TaskId, TaskStatus, Timestamp};

/// What must be known of a task to decide about it.
#[derive(Debug, Clone)]
pub(super) struct TaskState {
    pub status: TaskStatus,
    pub counts: Counts,
    /// Whether its expected set is frozen.
    pub frozen: bool,
    /// Whether the customer named the endpoints.
    pub listed: bool,
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
}

/// The counts in the order of their columns.
pub(super) const fn count_columns(counts: &Counts) -> [u32; 6] {
    [counts.expected, counts.received, counts.finished, counts.failed, counts.canceled, counts.expired]
}

/// The counts out of their columns.
pub(super) const fn counts_of([expected, received, finished, failed, canceled, expired]: [u32; 6]) -> Counts {
    Counts { expected, received, finished, failed, canceled, expired }
}

/// What must be known of a response to decide about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowState {
    pub status: ResponseStatus,
    pub progress: Option<u8>,
    pub start_time: Option<Timestamp>,
}

impl RowState {
    /// A row nobody has answered.
    pub const EXPECTED: Self = Self { status: ResponseStatus::Expected, progress: None, start_time: None };

    /// The row after a report, or `None` if the report is a repeat or a straggler.
    fn after(&self, event: &ReportEvent, now: Timestamp) -> Option<Self> {
        let status = self.status.next(event.response_event());
        let progress = match event {
            // Reports may overtake each other, so the bar only goes forward.
            ReportEvent::Progress { percent } if !self.status.is_final() => self.progress.max(Some((*percent).min(100))),
            _ => self.progress,
        };
        // A cancel that overtook its task was never received.
        let received = (event.response_event() != ResponseEvent::Canceled).then_some(now);
        let after = Self { status, progress, start_time: self.start_time.or(received) };
        (!self.status.is_final() && (after.status != self.status || after.progress != self.progress)).then_some(after)
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
        }
    }

    /// The change after an event, with the counts as they are by now.
    fn after(&self, event: TaskEvent, counts: &Counts, now: Timestamp, retention: Duration) -> TaskChange {
        let to = self.status.next(event, counts).unwrap_or(self.status);
        let mut change = TaskChange { to, counts: count_columns(counts), ..self.kept() };
        if to.is_final() {
            let finished_at = self.finished_at.unwrap_or(now);
            change.finished_at = Some(finished_at);
            // A cancelled task whose rows are not all closed is looked at once more, when they are given up.
            change.due_at = Some(if counts.open() > 0 { self.expires_at } else { finished_at.after(retention) });
        }
        change
    }

    /// Freezing with a number of endpoints, unless it is frozen or final.
    pub fn freeze(&self, expected: u32, now: Timestamp) -> Option<TaskChange> {
        let open = !self.frozen && !self.status.is_final();
        open.then(|| TaskChange { counts: count_columns(&Counts { expected, ..self.counts }), frozen_at: Some(now), ..self.kept() })
    }

    /// What the reconciler decided. The second part says whether open rows are given up.
    pub fn settle(&self, settlement: &Settlement, now: Timestamp, retention: Duration) -> (TaskChange, bool) {
        let give_up = settlement.event == Some(TaskEvent::Expire) && self.counts.open() > 0;
        let mut counts = self.counts;
        if give_up {
            counts.expired += counts.open();
        }
        // Without an event nothing moves; `Progress` would re-derive a status from counts that have not changed.
        let mut change = match settlement.event {
            Some(event) => self.after(event, &counts, now, retention),
            None => self.kept(),
        };
        if !change.to.is_final() {
            change.due_at = Some(settlement.due_at);
        } else if counts.open() > 0 {
            // Not in the past, or it would be claimed for ever.
            change.due_at = Some(self.expires_at.max(settlement.due_at));
        } else {
            change.due_at = Some(self.finished_at.unwrap_or(now).after(retention));
        }
        change.asks = Some(settlement.asks);
        if settlement.event == Some(TaskEvent::Published) {
            change.published_at = Some(now);
        }
        (change, give_up)
    }

    /// A cancel that withdraws a number of rows nobody has received; `Err` when it has ended otherwise, `Ok(None)` when it
    /// is cancelled already.
    pub fn cancel(&self, withdrawn: u32, now: Timestamp, retention: Duration) -> Result<Option<TaskChange>, crate::domain::IllegalMove> {
        let mut counts = self.counts;
        counts.canceled += withdrawn;
        let to = self.status.next(TaskEvent::Cancel, &counts)?;
        Ok((to != self.status).then(|| self.after(TaskEvent::Cancel, &counts, now, retention)))
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
        let adoptable = !task.listed && task.frozen && !task.status.is_final();
        let (before, adopted) = match known {
            Some(row) => (row.clone(), false),
            None if adoptable => (RowState::EXPECTED, true),
            None => {
                folded.applied.unknown += 1;
                continue;
            }
        };
        let Some(after) = before.after(&report.event, now) else {
            folded.applied.repeated += 1;
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
