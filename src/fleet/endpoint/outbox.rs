//! What has still to be told to the API: one note for each task.
//!
//! A later note about a task replaces an earlier one, so that a broker that is away for hours finds one
//! report for each task and not all that ever happened, and that repeats asked for in a burst are answered
//! once. Large reports stay in the journal until they are sent. So memory is bounded by the number of tasks
//! in the journal, at a few dozen bytes each.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::domain::{TaskId, TaskType};

/// How long a receipt is held back: a handler that ends within this time sends one report instead of two.
const RECEIPT_DELAY: Duration = Duration::from_millis(5);

/// How long the report is held back that a task has begun, if its receipt was sent while the task waited.
/// Without this delay, each task in a queue of short tasks would send one report more.
const BEGIN_DELAY: Duration = Duration::from_secs(1);

/// Reports kept in memory at most, and up to which size; others are read back from the journal.
const KEPT: usize = 256;
const KEPT_BYTES: usize = 16 << 10;

/// What is to be told about a task.
#[derive(Debug, Clone)]
pub(super) enum Note {
    /// It is here.
    Received(TaskType),
    /// It is here and has begun.
    Begun(TaskType),
    /// It is so far.
    Progress(TaskType, u8),
    /// It has ended; the encoded report, or `None` when it lies in the journal.
    Ended(Option<Bytes>),
}

#[derive(Debug)]
struct Entry {
    note: Note,
    place: Place,
}

/// Where an entry waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In `ready`.
    Ready,
    /// In `early` or `late`.
    Held,
    /// In `refused`.
    Refused,
}

impl Entry {
    /// Whether it says only that a task has begun, and is held back.
    const fn is_late(&self) -> bool {
        matches!(self, Self { place: Place::Held, note: Note::Progress(..) })
    }
}

#[derive(Debug, Default)]
struct Notes {
    entries: HashMap<TaskId, Entry>,
    ready: VecDeque<TaskId>,
    /// Receipts that are held back; the delay is the same for all, so they are in order.
    early: VecDeque<(Instant, TaskId)>,
    /// The same for tasks that have begun after their receipt was sent.
    late: VecDeque<(Instant, TaskId)>,
    /// What the API has refused, with the time of the next try.
    refused: BTreeSet<(Instant, TaskId)>,
    kept: usize,
}

/// What is held back for a moment.
#[derive(Clone, Copy)]
enum Held {
    /// A receipt.
    Early,
    /// That a task has begun.
    Late,
}

impl Held {
    const fn delay(self) -> Duration {
        match self {
            Self::Early => RECEIPT_DELAY,
            Self::Late => BEGIN_DELAY,
        }
    }
}

/// The notes that wait.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    notes: Mutex<Notes>,
    wake: Notify,
}

impl Outbox {
    /// To be said in a moment, unless it ends before.
    pub(super) fn received(&self, id: TaskId, task_type: TaskType) {
        let notes = self.lock();
        if !notes.entries.contains_key(&id) {
            self.hold(notes, Held::Early, id, Note::Received(task_type));
        }
    }

    /// To be said with the receipt or, where that was sent before, after [`BEGIN_DELAY`].
    pub(super) fn begun(&self, id: TaskId, task_type: TaskType) {
        let mut notes = self.lock();
        match notes.entries.get_mut(&id) {
            Some(Entry { note, .. }) if matches!(note, Note::Received(_)) => *note = Note::Begun(task_type),
            Some(_) => {}
            // As progress, it tells older API processes the same.
            None => self.hold(notes, Held::Late, id, Note::Progress(task_type, 0)),
        }
    }

    fn hold(&self, mut notes: MutexGuard<'_, Notes>, held: Held, id: TaskId, note: Note) {
        notes.entries.insert(id, Entry { note, place: Place::Held });
        let line = notes.held(held);
        line.push_back((Instant::now() + held.delay(), id));
        let first = line.len() == 1;
        drop(notes);
        // The reporter sleeps until the first note is due.
        if first {
            self.wake.notify_one();
        }
    }

    /// To be said now, unless it has ended.
    pub(super) fn progress(&self, id: TaskId, task_type: TaskType, percent: u8) {
        self.say(id, Note::Progress(task_type, percent));
    }

    /// To be said now.
    pub(super) fn ended(&self, id: TaskId, report: Option<Bytes>) {
        self.say(id, Note::Ended(report));
    }

    fn say(&self, id: TaskId, note: Note) {
        self.lock().say(id, note);
        self.wake.notify_one();
    }

    /// Back to where they came from, unless there is something newer to say.
    pub(super) fn put_back(&self, taken: Vec<(TaskId, Note)>) {
        let mut notes = self.lock();
        for (id, note) in taken.into_iter().rev() {
            let note = match (notes.entries.get(&id), note) {
                (None, note) => note,
                // The receipt was not sent after all: that the task has begun goes with it.
                (Some(newer), Note::Received(task_type) | Note::Begun(task_type)) if newer.is_late() => {
                    Note::Begun(task_type)
                }
                (Some(_), _) => continue,
            };
            notes.insert_ready(id, note, true);
        }
        drop(notes);
        self.wake.notify_one();
    }

    /// Back until then, since the API has refused it: it is worth less than all others. Unless there is
    /// something newer to say.
    pub(super) fn put_off(&self, id: TaskId, note: Note, until: Instant) {
        let mut notes = self.lock();
        if notes.entries.contains_key(&id) {
            return;
        }
        let note = match note {
            Note::Ended(_) => Note::Ended(None),
            other => other,
        };
        notes.entries.insert(id, Entry { note, place: Place::Refused });
        notes.refused.insert((until, id));
    }

    /// Waits for notes that are due and takes some.
    pub(super) async fn take(&self, at_most: usize) -> Vec<(TaskId, Note)> {
        loop {
            let (taken, next) = self.lock().take(at_most, Instant::now());
            if !taken.is_empty() {
                return taken;
            }
            match next {
                Some(next) => tokio::select! {
                    () = self.wake.notified() => {}
                    () = sleep_until(next) => {}
                },
                None => self.wake.notified().await,
            }
        }
    }

    /// Whether nothing is left that matters once the endpoint stops.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().entries.values().all(|entry| entry.place == Place::Refused || entry.is_late())
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    fn say(&mut self, id: TaskId, note: Note) {
        match self.entries.get(&id).map(|entry| (&entry.note, entry.place)) {
            Some((Note::Ended(_), _)) => {}
            Some((_, Place::Ready)) => {
                let note = self.within_bounds(note);
                self.entries.insert(id, Entry { note, place: Place::Ready });
            }
            _ => self.insert_ready(id, note, false),
        }
    }

    fn insert_ready(&mut self, id: TaskId, note: Note, front: bool) {
        let note = self.within_bounds(note);
        self.entries.insert(id, Entry { note, place: Place::Ready });
        if front { self.ready.push_front(id) } else { self.ready.push_back(id) }
    }

    fn within_bounds(&mut self, note: Note) -> Note {
        match note {
            Note::Ended(Some(report)) if self.kept < KEPT && report.len() <= KEPT_BYTES => {
                self.kept += 1;
                Note::Ended(Some(report))
            }
            Note::Ended(_) => Note::Ended(None),
            other => other,
        }
    }

    fn take(&mut self, at_most: usize, now: Instant) -> (Vec<(TaskId, Note)>, Option<Instant>) {
        let mut taken = Vec::new();
        while taken.len() < at_most
            && let Some(id) = self.ready.pop_front()
        {
            taken.extend(self.remove(id));
        }
        let mut next = None;
        for held in [Held::Early, Held::Late] {
            while taken.len() < at_most
                && let Some((due, id)) = self.held(held).front().copied()
            {
                // What was said meanwhile went the other way, and this is all that is left of it.
                let waits = self.entries.get(&id).is_some_and(|entry| entry.place == Place::Held);
                if waits && due > now {
                    next = next.into_iter().chain([due]).min();
                    break;
                }
                self.held(held).pop_front();
                if waits {
                    taken.extend(self.remove(id));
                }
            }
        }
        while taken.len() < at_most
            && let Some((due, id)) = self.refused.first().copied()
        {
            let waits = self.entries.get(&id).is_some_and(|entry| entry.place == Place::Refused);
            if waits && due > now {
                next = next.into_iter().chain([due]).min();
                break;
            }
            self.refused.pop_first();
            if waits {
                taken.extend(self.remove(id));
            }
        }
        if self.entries.is_empty() {
            // A burst must not hold its memory for ever.
            self.entries.shrink_to(64);
            self.ready.shrink_to(64);
            self.early.shrink_to(64);
            self.late.shrink_to(64);
        }
        (taken, next)
    }

    const fn held(&mut self, held: Held) -> &mut VecDeque<(Instant, TaskId)> {
        match held {
            Held::Early => &mut self.early,
            Held::Late => &mut self.late,
        }
    }

    fn remove(&mut self, id: TaskId) -> Option<(TaskId, Note)> {
        let entry = self.entries.remove(&id)?;
        if let Note::Ended(Some(_)) = entry.note {
            self.kept -= 1;
        }
        Some((id, entry.note))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> TaskType {
        "worker".parse().expect("a type")
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_end_takes_the_place_of_the_receipt() {
        let (outbox, id) = (Outbox::default(), TaskId::new());
        outbox.received(id, worker());
        outbox.ended(id, Some(Bytes::from_static(b"report")));
        let taken = outbox.take(10).await;
        assert!(matches!(taken[..], [(_, Note::Ended(Some(_)))]), "{taken:?}");
        assert!(outbox.is_empty());
        let nothing = tokio::time::timeout(Duration::from_secs(1), outbox.take(10)).await;
        assert!(nothing.is_err(), "{nothing:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_receipt_waits_its_time_and_progress_overtakes_it() {
        let (outbox, slow, busy) = (Outbox::default(), TaskId::new(), TaskId::new());
        outbox.received(slow, worker());
        outbox.received(busy, worker());
        outbox.progress(busy, worker(), 10);
        outbox.progress(busy, worker(), 20);
        let taken = outbox.take(10).await;
        assert!(matches!(taken[..], [(id, Note::Progress(_, 20))] if id == busy), "{taken:?}");
        let before = Instant::now();
        let taken = outbox.take(10).await;
        assert!(matches!(taken[..], [(id, Note::Received(_))] if id == slow), "{taken:?}");
        assert!(before.elapsed() >= RECEIPT_DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn the_begin_comes_with_the_receipt_or_a_while_later() {
        let (outbox, at_once, waits, short) =
            (Outbox::default(), TaskId::new(), TaskId::new(), TaskId::new());
        [at_once, waits, short].into_iter().for_each(|id| outbox.received(id, worker()));
        outbox.begun(at_once, worker());
        let taken = outbox.take(10).await;
        let told: Vec<_> = taken.iter().map(|(id, note)| (*id, matches!(note, Note::Begun(_)))).collect();
        assert_eq!(told, [(at_once, true), (waits, false), (short, false)], "{taken:?}");
        let before = Instant::now();
        outbox.begun(waits, worker());
        outbox.begun(short, worker());
        assert!(outbox.is_empty(), "a stop does not wait for that");
        outbox.ended(short, None);
        let taken = outbox.take(10).await;
        assert!(matches!(taken[..], [(id, Note::Ended(None))] if id == short), "{taken:?}");
        let taken = outbox.take(10).await;
        assert!(matches!(taken[..], [(id, Note::Progress(_, 0))] if id == waits), "{taken:?}");
        assert!(before.elapsed() >= BEGIN_DELAY);
        // A receipt that could not be sent is not lost when its task begins meanwhile.
        outbox.received(waits, worker());
        let unsent = outbox.take(10).await;
        outbox.begun(waits, worker());
        outbox.put_back(unsent);
        assert!(!outbox.is_empty());
        assert!(matches!(outbox.take(10).await[..], [(id, Note::Begun(_))] if id == waits));
        outbox.begun(waits, worker());
        outbox.received(waits, worker());
        outbox.ended(waits, None);
        assert!(matches!(outbox.take(10).await[..], [(_, Note::Ended(None))]));
        let nothing = tokio::time::timeout(Duration::from_secs(5), outbox.take(10)).await;
        assert!(nothing.is_err(), "{nothing:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_put_back_gives_way_to_what_is_newer() {
        let (outbox, id) = (Outbox::default(), TaskId::new());
        outbox.progress(id, worker(), 10);
        let taken = outbox.take(10).await;
        outbox.ended(id, None);
        outbox.put_back(taken);
        assert!(matches!(outbox.take(10).await[..], [(_, Note::Ended(None))]));
        assert!(outbox.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn few_reports_are_kept_in_memory() {
        let outbox = Outbox::default();
        for _ in 0..KEPT + 10 {
            outbox.ended(TaskId::new(), Some(Bytes::from_static(b"report")));
        }
        outbox.ended(TaskId::new(), Some(vec![0; KEPT_BYTES + 1].into()));
        let taken = outbox.take(usize::MAX).await;
        let kept = taken.iter().filter(|(_, note)| matches!(note, Note::Ended(Some(_)))).count();
        assert_eq!((kept, taken.len()), (KEPT, KEPT + 11));
        outbox.ended(TaskId::new(), Some(Bytes::from_static(b"report")));
        assert!(matches!(outbox.take(1).await[..], [(_, Note::Ended(Some(_)))]));
    }
}
