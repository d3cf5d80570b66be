//! Puts segments on disk: the thread that synchronises, and what it and the writer know of failures.
//!
//! The kernel reports a failed write-back only once for an open file. So the thread that gets the error records
//! the segment, and every later wait for that segment gets the same error.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as blocking};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::JournalError;

/// From one run of the disk to the next, under load: each serves what came within this time, or there would
/// be one for every other record.
const SYNC_PACE: Duration = Duration::from_millis(2);
/// How far ahead of that pace runs may be: those of a task that comes alone wait for nothing.
const SYNC_SLACK: Duration = Duration::from_millis(8);

/// A segment that was written to.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) number: u32,
    pub(super) file: Arc<File>,
}

/// What the synchronising thread is handed: the segment and who waits for it.
pub(super) type Wait = (Written, Vec<oneshot::Sender<Result<(), JournalError>>>);

/// What is known of synchronisations. Shared by the writer and the synchronising thread.
#[derive(Debug, Default)]
pub(super) struct SyncState {
    /// The number of a segment that must not be written to any more; 0 for none.
    failed_segment: AtomicU32,
    /// What went wrong last, if it did.
    error: Mutex<Option<String>>,
    /// The segments that failed, with the error. The lock is held while the disk works: otherwise the thread that
    /// did not get the error would take the segment for written.
    failed: Mutex<BTreeMap<u32, Arc<io::Error>>>,
    /// How many of the next synchronisations fail.
    #[cfg(test)]
    pub(super) faults: AtomicU32,
}

impl SyncState {
    /// Puts all that was written to a segment on disk.
    ///
    /// # Errors
    /// When that fails, or has failed before for this segment.
    pub(super) fn sync(&self, written: &Written) -> Result<(), Arc<io::Error>> {
        let mut failed = locked(&self.failed);
        if let Some(error) = failed.get(&written.number) {
            return Err(error.clone());
        }
        let outcome = self.run(written).map_err(Arc::new);
        if let Err(error) = &outcome {
            failed.insert(written.number, error.clone());
            self.failed_segment.store(written.number, Ordering::Release);
        }
        *locked(&self.error) = outcome.as_ref().err().map(ToString::to_string);
        outcome
    }

    fn run(&self, written: &Written) -> io::Result<()> {
        #[cfg(test)]
        if self.faults.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        {
            return Err(io::Error::other("the disk is gone"));
        }
        written.file.sync_data()
    }

    /// Forgets the failures of older segments, which nobody waits for any more.
    fn forget_before(&self, number: u32) {
        let mut failed = locked(&self.failed);
        *failed = failed.split_off(&number);
    }

    /// The segment that must not be written to any more, once.
    pub(super) fn take_failed(&self) -> Option<u32> {
        Some(self.failed_segment.swap(0, Ordering::AcqRel)).filter(|number| *number != 0)
    }

    /// What the last synchronisation failed with; `None` when it did not.
    pub(super) fn error(&self) -> Option<String> {
        locked(&self.error).clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The synchronising thread: everyone who came while the last run was under way, or soon after it began, is
/// served by the next.
pub(super) fn synchronise(waits: &blocking::Receiver<Wait>, state: &SyncState) {
    let mut due = Instant::now();
    while let Ok((mut written, mut waiting)) = waits.recv() {
        // They come in the order of their numbers.
        state.forget_before(written.number);
        let now = Instant::now();
        thread::sleep(due.saturating_duration_since(now + SYNC_SLACK));
        due = due.max(now) + SYNC_PACE;
        while let Ok((next, more)) = waits.try_recv() {
            if next.number != written.number {
                answer(&written, std::mem::take(&mut waiting), state);
                written = next;
            }
            waiting.extend(more);
        }
        answer(&written, waiting, state);
    }
}

fn answer(written: &Written, waiting: Vec<oneshot::Sender<Result<(), JournalError>>>, state: &SyncState) {
    let outcome = state.sync(written);
    for done in waiting {
        let _ = done.send(outcome.clone().map_err(JournalError::Write));
    }
}

#[cfg(test)]
mod tests {
    use super::super::index::Index;
    use super::super::segments::{Options, Segments};
    use super::super::{PROBE, Record};
    use super::*;

    /// The kernel says once that a file could not be written, so the second look finds nothing wrong.
    #[test]
    fn a_segment_that_failed_once_is_never_said_to_be_on_disk() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let options = Options::new(1 << 20, Duration::from_secs(60));
        let mut segments = Segments::open(dir.path(), options, &mut Index::default()).expect("opens").0;
        let index = Mutex::default();
        let mut append = |records: &[Record]| segments.append(records, &index).expect("written");
        let (first, second) = (append(&[PROBE]), append(&[PROBE]));
        assert_eq!(first.number, second.number);
        let state = SyncState::default();
        let told = |written: &Written| {
            let (done, mut told) = oneshot::channel();
            answer(written, vec![done], &state);
            told.try_recv().expect("an answer")
        };
        assert!(told(&first).is_ok() && state.take_failed().is_none());
        state.faults.store(1, Ordering::Relaxed);
        assert!(state.sync(&first).is_err(), "the writer hears of it");
        // The thread answers those who waited already with the same error.
        assert!(matches!(told(&second), Err(JournalError::Write(_))));
        assert_eq!((state.take_failed(), state.take_failed()), (Some(first.number), None));
        assert!(state.error().is_some());
        let mut next = second.clone();
        next.number += 1;
        assert!(told(&next).is_ok() && state.error().is_none());
        assert!(told(&second).is_err(), "one that waited longer is not told otherwise");
        state.forget_before(next.number);
        assert!(locked(&state.failed).is_empty());
    }
}
