//! Which submissions of a batch are new. No I/O.

use std::collections::{HashMap, HashSet};

use crate::domain::{
    Counts, EndpointName, Identifier, NewTask, Place, TaskEvent, TaskId, TaskStatus, TaskType, Timestamp,
};

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// Recorded now.
    New,
    /// Recorded now, and given to this worker.
    Given(EndpointName),
    /// The type has a task of this identifier already.
    Existing {
        /// That task.
        id: TaskId,
        /// Whether its digest is the same, so that this was a repeat.
        same: bool,
    },
}

/// What makes a task one of its kind.
pub(super) type Key = (TaskType, Identifier);

/// The key of a submission.
pub(super) fn key(task: &NewTask) -> Key {
    (task.task_type.clone(), task.identifier.clone())
}

/// The submissions to insert: the first of each key, by key, which is the order of locks on the unique key.
pub(super) fn distinct(tasks: &[NewTask]) -> Vec<&NewTask> {
    let mut seen = HashSet::new();
    let mut distinct: Vec<_> =
        tasks.iter().filter(|task| seen.insert((&task.task_type, &task.identifier))).collect();
    distinct.sort_unstable_by_key(|task| (&task.task_type, &task.identifier));
    distinct
}

/// How a new task stands in the ledger.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub status: TaskStatus,
    /// How many must answer, as far as that is known.
    pub expected: u32,
    /// When a worker was given it.
    pub given_at: Option<Timestamp>,
    /// When somebody has to look at it.
    pub due_at: Timestamp,
}

impl Entry {
    /// Of a task that a worker has been given, or not. One that waits in a queue is looked at by whoever
    /// gives tasks to workers, one that waits for approval when it expires. All others are to be published, by
    /// another process at `due_at` if not by this one.
    pub fn of(task: &NewTask, given: bool, due_at: Timestamp) -> Self {
        let (status, expected, given_at) = (TaskStatus::Created, 0, None);
        match &task.place {
            None if task.held => Self { status, expected, given_at, due_at: task.expires_at },
            None => Self { status, expected, given_at, due_at },
            Some(place) if !given => Self {
                status,
                expected,
                given_at,
                due_at: place.run_at.unwrap_or(task.expires_at).min(task.expires_at),
            },
            Some(_) => {
                let counts = Counts { expected: 1, ..Counts::default() };
                let status = status.next(TaskEvent::Taken, &counts).unwrap_or(status);
                Self {
                    status,
                    expected: 1,
                    given_at: Some(task.start_time),
                    due_at: due_at.min(task.expires_at),
                }
            }
        }
    }
}

/// Recorded tasks that are to go into their queues, in the order in which they came, so that of two with one
/// key the later one stays: those with a unique key, and the others.
pub(super) fn entering<'a>(
    tasks: &[&'a NewTask],
    entered: &HashSet<TaskId>,
) -> (Vec<Entering<'a>>, Vec<Entering<'a>>) {
    let mut new: Vec<Entering<'a>> =
        tasks.iter().filter_map(|task| Some((*task, task.place.as_ref()?))).collect();
    new.retain(|(task, _)| !entered.contains(&task.id));
    new.sort_unstable_by_key(|(task, _)| (task.start_time, task.id));
    new.into_iter().partition(|(_, place)| place.unique.is_some())
}

/// A task and its place in a queue.
pub(super) type Entering<'a> = (&'a NewTask, &'a Place);

/// One answer for each submission by what is on record now; `None` if a record has vanished meanwhile.
///
/// A record with our own id is ours, also when an earlier attempt of ours wrote it and the news of its commit
/// was lost.
pub(super) fn answers(
    tasks: &[NewTask],
    recorded: &HashMap<Key, (TaskId, [u8; 32])>,
    given: &HashMap<TaskId, EndpointName>,
) -> Option<Vec<Accepted>> {
    let mut seen = HashSet::new();
    tasks
        .iter()
        .map(|task| {
            let key = key(task);
            let (id, digest) = *recorded.get(&key)?;
            let first = seen.insert(key);
            Some(match given.get(&id) {
                _ if !first || id != task.id => Accepted::Existing { id, same: digest == task.digest },
                Some(worker) => Accepted::Given(worker.clone()),
                None => Accepted::New,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{digest, json};

    #[test]
    fn an_entry_is_due_when_somebody_has_to_look() {
        let at = Timestamp::from_micros;
        let payload = json(&1);
        let task = |run_at: Option<i64>, queued: bool| NewTask {
            id: TaskId::new(),
            task_type: "builds".parse().expect("a type"),
            identifier: "a".parse().expect("an identifier"),
            digest: digest(payload.get(), &[]),
            payload: payload.clone(),
            endpoints: Vec::new(),
            target: None,
            rerun_of: None,
            start_time: at(1),
            receive_by: at(90),
            expires_at: at(100),
            submitted_by: None,
            source: None,
            followed: false,
            rollout: None,
            held: false,
            place: queued.then(|| Place {
                priority: 1,
                run_at: run_at.map(at),
                unique: None,
                limit_key: None,
                chains: false,
                parent: None,
                renews: false,
            }),
        };
        for (why, task, given, due_at, entry) in [
            ("to be published", task(None, false), false, 10, (TaskStatus::Created, 0, None, 10)),
            (
                "waits for approval",
                task(None, false).held_until(at(70)),
                false,
                10,
                (TaskStatus::Created, 0, None, 70),
            ),
            ("waits for its turn", task(None, true), false, 10, (TaskStatus::Created, 0, None, 100)),
            ("waits for its time", task(Some(50), true), false, 10, (TaskStatus::Created, 0, None, 50)),
            (
                "waits for longer than it lives",
                task(Some(500), true),
                false,
                10,
                (TaskStatus::Created, 0, None, 100),
            ),
            ("a worker has it", task(None, true), true, 10, (TaskStatus::Sent, 1, Some(1), 10)),
            (
                "a worker has it, not for long",
                task(None, true),
                true,
                1000,
                (TaskStatus::Sent, 1, Some(1), 100),
            ),
        ] {
            let (status, expected, given_at, due) = entry;
            let entry = Entry { status, expected, given_at: given_at.map(at), due_at: at(due) };
            assert_eq!(Entry::of(&task, given, at(due_at)), entry, "{why}");
        }
    }
}
