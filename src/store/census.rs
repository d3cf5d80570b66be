//! Whether the tasks of a span add up: each accepted, with a response for every endpoint that must answer. No I/O.
//!
//! Both databases read task and responses in one statement, so that what changes meanwhile is seen as a whole, and ask here.

use std::time::Duration;

use super::ledger::TaskState;
use super::{Census, Flaw};
use crate::domain::{Counts, Identifier, TaskId, TaskStatus, Timestamp};

/// How late a task may be looked after: processes restart, and clocks are set.
const PATIENCE: Duration = Duration::from_secs(60);

/// Flaws told in full of one page; the others are counted.
const FLAWS: usize = 20;

/// A task with what its responses say.
#[derive(Debug, Clone)]
pub(super) struct Audit {
    pub id: TaskId,
    pub identifier: Identifier,
    pub task: TaskState,
    pub receive_by: Timestamp,
    pub due_at: Timestamp,
    /// The counts of the task as its responses have them.
    pub counted: Counts,
    /// Responses run twice, or with attempts that are not numbered without a gap.
    pub doubled: u32,
    /// Runs of a handler that began and are known of.
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
            TaskStatus::Done if open > 0 || !counts.all_finished() => Some(format!("it is DONE with {}", shown(counts))),
            TaskStatus::Expired if open > 0 => Some(format!("it is EXPIRED and {open} responses are open")),
            TaskStatus::Done | TaskStatus::Expired => None,
            _ if open > 0 && late(*expires_at) => Some(format!("{open} responses are open after its time was over")),
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
    format!("{expected} expected, {received} received, {finished} finished ({failed} failed), {canceled} canceled, {expired} expired")
}

/// Adds up a page of tasks.
pub(super) fn census(audits: Vec<Audit>, more: bool, now: Timestamp) -> Census {
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
        let excess = (audit.excess > 0).then(|| format!("{} responses had more attempts than the type's policy allows", audit.excess));
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

#[cfg(test)]
mod tests {
    use super::*;

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
            let found = audit.flaw(at(now));
            match flaw {
                None => assert_eq!(found, None, "{audit:?} at {now}"),
                Some(part) => assert!(found.as_deref().is_some_and(|text| text.contains(part)), "{found:?} for {audit:?} at {now}"),
            }
        }
    }

    #[test]
    fn adds_up() {
        let mut twice = audit(TaskStatus::Done, counts(2, 2));
        twice.doubled = 1;
        (twice.executions, twice.interrupted, twice.excess) = (5, 2, 1);
        let audits = vec![audit(TaskStatus::Sent, counts(2, 1)), twice, audit(TaskStatus::Done, counts(2, 1))];
        let last = audits[2].id;
        let census = census(audits, true, at(50));
        let Census { accepted, accounted, missing, expected, open, double, executions, interrupted, excess, flaws, next } = census;
        assert_eq!((accepted, accounted, missing, expected, open, double, next), (3, 2, 1, 6, 2, 1, Some(last)));
        assert_eq!((executions, interrupted, excess), (5, 2, 1));
        assert_eq!(flaws.len(), 3);
    }
}
