//! Which submissions of a batch are new. No I/O.

use std::collections::{HashMap, HashSet};

use super::Accepted;
use crate::domain::{Identifier, NewTask, Place, TaskId, TaskType, Timestamp};

/// What makes a task one of its kind.
pub(super) type Key = (TaskType, Identifier);

/// The key of a submission.
pub(super) fn key(task: &NewTask) -> Key {
    (task.task_type.clone(), task.identifier.clone())
}

/// The submissions to insert: the first of each key, by key, which is the order of locks on the unique key.
pub(super) fn distinct(tasks: &[NewTask]) -> Vec<&NewTask> {
    let mut seen = HashSet::new();
    let mut distinct: Vec<_> = tasks.iter().filter(|task| seen.insert((&task.task_type, &task.identifier))).collect();
    distinct.sort_unstable_by_key(|task| (&task.task_type, &task.identifier));
    distinct
}

/// When somebody has to look at a new task: one that waits in a queue is looked at by whoever gives tasks to workers.
pub(super) fn due(task: &NewTask, otherwise: Timestamp) -> Timestamp {
    match &task.place {
        Some(place) => place.run_at.unwrap_or(task.expires_at).min(task.expires_at),
        None => otherwise,
    }
}

/// Recorded tasks that are to go into their queues, in the order in which they came, so that of two with one key the later one stays:
/// those with a unique key, and the others.
pub(super) fn entering<'a>(tasks: &[&'a NewTask], entered: &HashSet<TaskId>) -> (Vec<Entering<'a>>, Vec<Entering<'a>>) {
    let mut new: Vec<Entering<'a>> = tasks.iter().filter_map(|task| Some((*task, task.place.as_ref()?))).collect();
    new.retain(|(task, _)| !entered.contains(&task.id));
    new.sort_unstable_by_key(|(task, _)| (task.start_time, task.id));
    new.into_iter().partition(|(_, place)| place.unique.is_some())
}

/// A task and its place in a queue.
pub(super) type Entering<'a> = (&'a NewTask, &'a Place);

/// One answer for each submission by what is on record now; `None` if a record has vanished meanwhile.
///
/// A record with our own id is ours, also when an earlier attempt of ours wrote it and the news of its commit was lost.
pub(super) fn answers(tasks: &[NewTask], recorded: &HashMap<Key, (TaskId, [u8; 32])>) -> Option<Vec<Accepted>> {
    let mut seen = HashSet::new();
    tasks
        .iter()
        .map(|task| {
            let key = key(task);
            let (id, digest) = *recorded.get(&key)?;
            let first = seen.insert(key);
            Some(if first && id == task.id { Accepted::New } else { Accepted::Existing { id, same: digest == task.digest } })
        })
        .collect()
}
