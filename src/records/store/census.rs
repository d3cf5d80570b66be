//! Whether the tasks of a span add up: each accepted, with a response for every endpoint that must answer.
//!
//! Task and responses are read in one statement, so that what changes meanwhile is seen as a whole.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::fault::Fault;
use super::ledger::TaskState;
use super::sql::{Cells, Conn, Row};
use super::tasks::{STATE, identifier, task_state};
use super::window::{ids_from, ids_until};
use super::{Operation, Result, Store};
use crate::domain::{Counts, Identifier, ResponseStatus, TaskId, TaskStatus, TaskType, Timestamp, errnr};

/// Whether tasks add up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Tasks that were accepted.
    pub accepted: u64,
    /// Of these, those whose responses add up and that have ended, or are in time and looked after.
    pub accounted: u64,
    /// The others.
    pub missing: u64,
    /// Responses of all of them.
    pub expected: u64,
    /// Responses that are not final yet.
    pub open: u64,
    /// Responses of which a second execution is known, or whose attempts are not numbered without a gap.
    pub double: u64,
    /// Runs of handlers that began, of responses that have finished: the interrupted ones included.
    pub executions: u64,
    /// Of these, those that a stop or the end of a process interrupted.
    pub interrupted: u64,
    /// Responses with more attempts than the type's policy allows.
    pub excess: u64,
    /// What is wrong, some of it.
    pub flaws: Vec<Flaw>,
    /// Where to go on; none at the end.
    pub next: Option<TaskId>,
}

/// What is wrong with a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Which task.
    pub id: TaskId,
    /// The customer's name for it.
    pub identifier: Identifier,
    /// For people.
    pub reason: String,
}

/// Which tasks to add up, oldest first.
#[derive(Debug, Clone, Default)]
pub struct CensusQuery {
    /// Only tasks accepted at or after this.
    pub since: Option<Timestamp>,
    /// Only tasks accepted before this.
    pub until: Option<Timestamp>,
    /// Only tasks after this one: the cursor.
    pub after: Option<TaskId>,
    /// Tasks at most.
    pub limit: u32,
    /// Attempts that the type allows; whatever it is when absent.
    pub attempts: Option<u32>,
}

impl Store {
    /// Adds up tasks of a type, each with its responses as they are at one moment. Reads all of their rows.
    pub fn census(&self, task_type: &TaskType, query: &CensusQuery, now: Timestamp) -> Operation<'_, Census> {
        let (task_type, query) = (task_type.clone(), Arc::new(query.clone()));
        self.run(move |conn| census(conn, task_type.clone(), query.clone(), now).boxed())
    }
}

/// How late a task may be looked after: processes restart, and clocks are set.
const PATIENCE: Duration = Duration::from_secs(60);

/// Flaws told in full of one page; the others are counted.
const FLAWS: usize = 20;

/// A task with what its responses say.
#[derive(Debug, Clone)]
struct Audit {
    pub id: TaskId,
    pub identifier: Identifier,
    pub task: TaskState,
    pub receive_by: Timestamp,
    pub due_at: Timestamp,
    /// The counts of the task as its responses have them.
    pub counted: Counts,
    /// Responses run twice, or with attempts that are not numbered without a gap.
    pub doubled: u32,
    /// Runs of a handler that are known to have begun. A response that has not finished, such as a canceled one,
    /// counts as one run once its handler has logged a line or told its progress.
    pub executions: u32,
    /// Of these, those that a stop or the end of a process interrupted.
    pub interrupted: u32,
    /// Responses with more attempts than the policy allows.
    pub excess: u32,
}

impl Audit {
    /// What is wrong with it.
    fn flaw(&self, now: Timestamp) -> Option<String> {
        let late = |deadline: Timestamp| deadline.after(PATIENCE) < now;
        let TaskState { status, counts, frozen, expires_at, .. } = &self.task;
        let open = self.counted.open();
        if self.counted != *counts {
            return Some(format!("its counts say {}, its responses {}", shown(counts), shown(&self.counted)));
        }
        match status {
            TaskStatus::Done if open > 0 || !counts.all_finished() => {
                Some(format!("it is DONE with {}", shown(counts)))
            }
            TaskStatus::Expired if open > 0 => Some(format!("it is EXPIRED and {open} responses are open")),
            TaskStatus::Done | TaskStatus::Expired => None,
            _ if open > 0 && late(*expires_at) => {
                Some(format!("{open} responses are open after its time was over"))
            }
            TaskStatus::Canceled => None,
            _ if late(*expires_at) => Some("it is open after its time was over".to_owned()),
            _ if !frozen && late(self.receive_by) => Some("it has not been sent in time".to_owned()),
            _ if late(self.due_at) => Some("it is due and no process looks after it".to_owned()),
            _ => None,
        }
    }
}

fn shown(counts: &Counts) -> String {
    let Counts { expected, received, finished, failed, canceled, expired } = counts;
    format!(
        "{expected} expected, {received} received, {finished} finished ({failed} failed), {canceled} canceled, {expired} expired"
    )
}

/// Adds up a page of tasks.
fn sum_up(audits: Vec<Audit>, more: bool, now: Timestamp) -> Census {
    let mut census = Census { next: audits.last().filter(|_| more).map(|last| last.id), ..Census::default() };
    for audit in audits {
        census.accepted += 1;
        census.expected += u64::from(audit.counted.expected);
        census.open += u64::from(audit.counted.open());
        census.double += u64::from(audit.doubled);
        census.executions += u64::from(audit.executions);
        census.interrupted += u64::from(audit.interrupted);
        census.excess += u64::from(audit.excess);
        let doubled = (audit.doubled > 0).then(|| format!("{} responses were run twice", audit.doubled));
        let excess = (audit.excess > 0)
            .then(|| format!("{} responses had more attempts than the type's policy allows", audit.excess));
        let flaw = audit.flaw(now);
        if flaw.is_some() {
            census.missing += 1;
        } else {
            census.accounted += 1;
        }
        for reason in flaw.into_iter().chain(doubled).chain(excess) {
            if census.flaws.len() < FLAWS {
                census.flaws.push(Flaw { id: audit.id, identifier: audit.identifier.clone(), reason });
            }
        }
    }
    census
}

async fn census(
    conn: &mut Conn<'_>,
    task_type: TaskType,
    wanted: Arc<CensusQuery>,
    now: Timestamp,
) -> Result<Census, Fault> {
    let (index, length) = (conn.dialect().index("task_list"), conn.dialect().json_length());
    let runs = format!("1 + COALESCE({length}(r.attempts), 0)");
    let interrupted = format!("\"errnr\":{},", errnr::INTERRUPTED);
    // The attempts that are kept as text are counted by what is gone without them.
    let mut select = conn.sql(format!(
        "SELECT {STATE}, t.identifier, t.receive_by, t.due_at, COUNT(r.endpoint), \
         CAST(COALESCE(SUM(r.start_time IS NOT NULL), 0) AS SIGNED), \
         CAST(COALESCE(SUM(r.status = ?), 0) AS SIGNED), \
         CAST(COALESCE(SUM(r.status = ? AND r.errnr <> 0), 0) AS SIGNED), \
         CAST(COALESCE(SUM(r.status = ?), 0) AS SIGNED), \
         CAST(COALESCE(SUM(r.status = ?), 0) AS SIGNED), \
         CAST(COALESCE(SUM(r.doubled OR (r.status = ? AND r.attempt > 0 AND r.attempt <> {runs})), 0) AS SIGNED), \
         CAST(COALESCE(SUM(CASE WHEN r.status = ? AND r.attempt > 0 THEN {runs} WHEN r.status <> ? AND r.progress IS NOT NULL THEN 1 ELSE 0 END \
           + COALESCE(r.doubled, 0)), 0) AS SIGNED), \
         CAST(COALESCE(SUM((LENGTH(COALESCE(r.attempts, '')) - LENGTH(REPLACE(COALESCE(r.attempts, ''), ?, ''))) / ? \
           + (r.status = ? AND r.errnr = ?)), 0) AS SIGNED), \
         CAST(COALESCE(SUM(r.status = ? AND r.attempt > ?), 0) AS SIGNED) \
         FROM (SELECT * FROM task {index} WHERE task_type = ?"
    ));
    let (finished, canceled, expired) =
        (ResponseStatus::Finished, ResponseStatus::Canceled, ResponseStatus::Expired);
    select.bind(finished).bind(finished).bind(canceled).bind(expired).bind(finished);
    select.bind(finished).bind(finished);
    select.bind(interrupted.as_str()).bind(u32::try_from(interrupted.len()).unwrap_or(u32::MAX));
    select.bind(finished).bind(errnr::INTERRUPTED);
    // A task that was interrupted by each of its attempts is in order; one that ran more often than its
    // policy allows is not.
    select.bind(finished).bind(wanted.attempts.unwrap_or(u32::MAX)).bind(&task_type);
    if let Some(after) = wanted.after {
        select.push(" AND id > ?").bind(after);
    }
    if let Some(since) = wanted.since {
        select.push(" AND start_time >= ? AND id >= ?").bind(since).bind(ids_from(since));
    }
    if let Some(until) = wanted.until {
        select.push(" AND start_time < ? AND id < ?").bind(until).bind(ids_until(until));
    }
    select.push(" ORDER BY id LIMIT ?").bind(wanted.limit);
    select.push(") AS t LEFT JOIN response AS r ON r.task_id = t.id GROUP BY t.id ORDER BY t.id");
    let rows = select.fetch_all().await?;
    let more = u32::try_from(rows.len()).is_ok_and(|read| read >= wanted.limit);
    let audits = rows.iter().map(audit).collect::<Result<Vec<_>, Fault>>()?;
    Ok(sum_up(audits, more, now))
}

fn audit(row: &Row) -> Result<Audit, Fault> {
    let mut cells = row.cells();
    let (id, task) = task_state(&mut cells)?;
    let number =
        |cells: &mut Cells<'_>| Ok::<_, Fault>(u32::try_from(cells.take::<i64>()?).unwrap_or(u32::MAX));
    Ok(Audit {
        id,
        task,
        identifier: identifier(cells.take()?, id)?,
        receive_by: cells.take()?,
        due_at: cells.take()?,
        counted: Counts {
            expected: number(&mut cells)?,
            received: number(&mut cells)?,
            finished: number(&mut cells)?,
            failed: number(&mut cells)?,
            canceled: number(&mut cells)?,
            expired: number(&mut cells)?,
        },
        doubled: number(&mut cells)?,
        executions: number(&mut cells)?,
        interrupted: number(&mut cells)?,
        excess: number(&mut cells)?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// That a flaw was found of which the text has this part, or none.
    pub fn assert_flaw(found: Option<&str>, part: Option<&str>, what: &str) {
        match part {
            None => assert_eq!(found, None, "{what}"),
            Some(part) => {
                assert!(found.is_some_and(|text| text.contains(part)), "{found:?} for {what}");
            }
        }
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_micros(secs * 1_000_000)
    }

    /// Received by second 30, given up at second 1000, looked at in second 40.
    fn audit(status: TaskStatus, counts: Counts) -> Audit {
        let task = TaskState {
            task_type: "worker".parse().expect("a type"),
            status,
            counts,
            frozen: true,
            listed: false,
            queued: false,
            start_time: at(0),
            published_at: None,
            expires_at: at(1000),
            finished_at: None,
            followed: false,
            rollout: None,
            asks: 0,
        };
        let identifier = "i".parse().expect("an identifier");
        Audit {
            id: TaskId::new(),
            identifier,
            task,
            receive_by: at(30),
            due_at: at(40),
            counted: counts,
            doubled: 0,
            executions: 0,
            interrupted: 0,
            excess: 0,
        }
    }

    fn counts(expected: u32, finished: u32) -> Counts {
        Counts { expected, received: finished, finished, ..Counts::default() }
    }

    #[test]
    fn finds_each_flaw_and_no_other() {
        use TaskStatus as S;
        let unfrozen = |mut audit: Audit| {
            audit.task.frozen = false;
            audit
        };
        let due = |mut audit: Audit, at: Timestamp| {
            audit.due_at = at;
            audit
        };
        let row = |mut audit: Audit, counted: Counts| {
            audit.counted = counted;
            audit
        };
        let table = [
            (audit(S::Sent, counts(2, 1)), 50, None),
            (audit(S::Sent, counts(2, 1)), 100, None),
            (audit(S::Sent, counts(2, 1)), 101, Some("looks after it")),
            (due(audit(S::Incomplete, counts(2, 1)), at(900)), 950, None),
            (due(audit(S::Incomplete, counts(2, 1)), at(1000)), 1060, None),
            (due(audit(S::Incomplete, counts(2, 1)), at(1000)), 1061, Some("1 responses are open after")),
            (due(audit(S::Incomplete, counts(0, 0)), at(1000)), 1061, Some("it is open after")),
            (unfrozen(audit(S::Created, counts(0, 0))), 90, None),
            (unfrozen(audit(S::Created, counts(0, 0))), 91, Some("not been sent")),
            (audit(S::Done, counts(2, 2)), 5000, None),
            (audit(S::Done, counts(2, 1)), 50, Some("it is DONE with")),
            (audit(S::Expired, Counts { expired: 1, ..counts(2, 1) }), 5000, None),
            (audit(S::Expired, counts(2, 1)), 5000, Some("it is EXPIRED and")),
            (audit(S::Canceled, counts(2, 1)), 50, None),
            (audit(S::Canceled, counts(2, 1)), 1061, Some("are open after")),
            (row(audit(S::Sent, counts(2, 1)), counts(3, 1)), 50, Some("its counts say 2 expected")),
        ];
        for (audit, now, flaw) in table {
            assert_flaw(audit.flaw(at(now)).as_deref(), flaw, &format!("{audit:?} at {now}"));
        }
    }

    #[test]
    fn adds_up() {
        let mut twice = audit(TaskStatus::Done, counts(2, 2));
        twice.doubled = 1;
        (twice.executions, twice.interrupted, twice.excess) = (5, 2, 1);
        let audits =
            vec![audit(TaskStatus::Sent, counts(2, 1)), twice, audit(TaskStatus::Done, counts(2, 1))];
        let last = audits[2].id;
        let census = sum_up(audits, true, at(50));
        assert_eq!((census.accepted, census.accounted, census.missing), (3, 2, 1));
        assert_eq!((census.expected, census.open, census.double), (6, 2, 1));
        assert_eq!((census.executions, census.interrupted, census.excess), (5, 2, 1));
        assert_eq!((census.flaws.len(), census.next), (3, Some(last)));
    }
}
