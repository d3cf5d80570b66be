//! What becomes of a task that has failed on a worker, and of that worker.

use super::{ObjectId, TaskStatus};

/// How much may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureLimits {
    /// Tasks of one type of one job that may fail on a worker until it gets no more of them.
    pub blacklist_threshold: u32,
    /// Workers on which a task may fail until it is given up.
    pub task_fail_after: u32,
}

/// A task that has failed.
#[derive(Debug, Clone, Copy)]
pub struct Failing<'a> {
    /// The other workers that support its type and are not barred from it, whatever they do now.
    pub others: &'a [ObjectId],
    /// Tasks of this type of this job that have failed on the worker, with this one.
    pub failures: u32,
    /// All workers on which it has failed, with this one.
    pub failed_by: &'a [ObjectId],
}

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureVerdict {
    /// What the task is now: it waits for another worker, or is given up.
    pub status: TaskStatus,
    /// Whether the worker is barred from this type of this job.
    pub bars_worker: bool,
    /// Whether the worker's other tasks of this type that wait for another worker are given up: there is
    /// none.
    pub fails_others: bool,
}

impl Failing<'_> {
    /// Decides.
    pub fn judge(&self, limits: FailureLimits) -> FailureVerdict {
        let bars_worker = self.failures >= limits.blacklist_threshold;
        let tried = u32::try_from(self.failed_by.len()).unwrap_or(u32::MAX);
        let left = self.others.iter().any(|other| !self.failed_by.contains(other));
        let status =
            if tried < limits.task_fail_after && left { TaskStatus::SoftFailed } else { TaskStatus::Failed };
        FailureVerdict { status, bars_worker, fails_others: bars_worker && self.others.is_empty() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let id = |number: u8| ObjectId::from_bytes(&[number; 12]).expect("twelve bytes");
        let (a, b, c) = (id(1), id(2), id(3));
        let limits = FailureLimits { blacklist_threshold: 3, task_fail_after: 3 };
        let soft =
            |bars_worker| FailureVerdict { status: TaskStatus::SoftFailed, bars_worker, fails_others: false };
        let hard = |bars_worker, fails_others| FailureVerdict {
            status: TaskStatus::Failed,
            bars_worker,
            fails_others,
        };
        for (others, failures, failed_by, expected) in [
            (&[b][..], 1, &[a][..], soft(false)),
            (&[b], 3, &[a], soft(true)),
            (&[], 1, &[a], hard(false, false)),
            (&[], 3, &[a], hard(true, true)),
            (&[a], 1, &[a, b], hard(false, false)),
            (&[a, c], 1, &[a, b], soft(false)),
            (&[id(4)], 1, &[a, b, c], hard(false, false)),
        ] {
            assert_eq!(
                Failing { others, failures, failed_by }.judge(limits),
                expected,
                "{others:?} {failures} {failed_by:?}"
            );
        }
    }
}
