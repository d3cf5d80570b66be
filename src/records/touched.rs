//! What has changed by way of this process, of that which somebody watches.
//!
//! Owns one entry for each task that is watched now, so it costs the loops that move tasks nothing while
//! nobody watches. A hint and no more: another process may have made the change, so the one who watches also
//! looks from time to time.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bell::Bell;
use crate::domain::{EndpointName, Report, TaskId};

/// Names that are kept for one task; where there are more, all of its endpoints are looked at.
const MOST_NAMES: usize = 4096;

/// What is watched and what has changed of it; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Touched {
    tasks: Arc<Mutex<HashMap<TaskId, Entry>>>,
    /// Length of `tasks`, to be read without the lock.
    watched: Arc<AtomicUsize>,
    fleet: Bell,
}

#[derive(Debug, Default)]
struct Entry {
    /// Those who watch: one, or for a moment two.
    watchers: usize,
    changed: TouchedParts,
    rung: Bell,
}

/// Which endpoints of a task have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TouchedParts {
    /// These.
    Some(BTreeSet<EndpointName>),
    /// Perhaps all of them.
    All,
}

impl Default for TouchedParts {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

impl Touched {
    /// Begins to watch a task: from now on no change by way of this process is missed.
    pub fn task(&self, id: TaskId) -> TouchedTask {
        let mut tasks = self.lock();
        let entry = tasks.entry(id).or_default();
        entry.watchers += 1;
        let rung = entry.rung.clone();
        self.watched.store(tasks.len(), Ordering::Release);
        TouchedTask { id, rung, touched: self.clone() }
    }

    /// Rung when endpoints have come, gone or changed.
    pub const fn fleet(&self) -> &Bell {
        &self.fleet
    }

    /// Notes that reports were applied.
    pub fn reported(&self, reports: &[Report]) {
        if self.watched.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut tasks = self.lock();
        for report in reports {
            let Some(entry) = tasks.get_mut(&report.task_id) else { continue };
            match &mut entry.changed {
                TouchedParts::Some(names) if names.len() < MOST_NAMES => {
                    _ = names.insert(report.endpoint.clone())
                }
                changed => *changed = TouchedParts::All,
            }
            entry.rung.ring();
        }
    }

    /// Notes that tasks were changed as a whole.
    pub fn moved(&self, ids: impl IntoIterator<Item = TaskId>) {
        if self.watched.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut tasks = self.lock();
        for id in ids {
            if let Some(entry) = tasks.get_mut(&id) {
                entry.changed = TouchedParts::All;
                entry.rung.ring();
            }
        }
    }

    /// Nothing panics while the lock is held; were it to happen, the map is whole all the same.
    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Entry>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches one task.
#[derive(Debug)]
pub struct TouchedTask {
    id: TaskId,
    rung: Bell,
    touched: Touched,
}

impl TouchedTask {
    /// Waits until something has changed since [`Self::take`].
    pub async fn rung(&self) {
        self.rung.rung().await;
    }

    /// What has changed since this was asked last.
    pub fn take(&self) -> TouchedParts {
        self.touched
            .lock()
            .get_mut(&self.id)
            .map(|entry| std::mem::take(&mut entry.changed))
            .unwrap_or_default()
    }
}

impl Drop for TouchedTask {
    fn drop(&mut self) {
        let mut tasks = self.touched.lock();
        if let Some(entry) = tasks.get_mut(&self.id) {
            entry.watchers -= 1;
            if entry.watchers == 0 {
                tasks.remove(&self.id);
            }
        }
        self.touched.watched.store(tasks.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ReportEvent;
    use futures::FutureExt;
    use uuid::Uuid;

    fn report(task_id: TaskId, endpoint: &str) -> Report {
        let (task_type, endpoint) = ("worker".parse().expect("a type"), endpoint.parse().expect("a name"));
        Report { task_id, task_type, endpoint, home: Uuid::nil(), event: ReportEvent::Received }
    }

    fn names(parts: &TouchedParts) -> Vec<&str> {
        match parts {
            TouchedParts::Some(names) => names.iter().map(EndpointName::as_str).collect(),
            TouchedParts::All => vec!["*"],
        }
    }

    #[test]
    fn only_what_is_watched_is_kept() {
        let (touched, id, other) = (Touched::default(), TaskId::new(), TaskId::new());
        touched.reported(&[report(id, "a")]);
        let watched = touched.task(id);
        touched.reported(&[report(other, "b")]);
        assert!(watched.rung().now_or_never().is_none());
        touched.reported(&[report(id, "c"), report(id, "b"), report(id, "c")]);
        assert!(watched.rung().now_or_never().is_some());
        assert_eq!(names(&watched.take()), ["b", "c"]);
        assert_eq!(names(&watched.take()), [""; 0]);
        touched.moved([other, id]);
        assert_eq!(names(&watched.take()), ["*"]);
        drop(watched);
        assert!(touched.lock().is_empty() && touched.watched.load(Ordering::Acquire) == 0);
    }

    #[test]
    fn many_names_are_all() {
        let (touched, id) = (Touched::default(), TaskId::new());
        let watched = touched.task(id);
        for number in 0..=MOST_NAMES {
            touched.reported(&[report(id, &format!("e{number}"))]);
        }
        assert_eq!(watched.take(), TouchedParts::All);
    }
}
