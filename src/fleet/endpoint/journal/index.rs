//! What the journal knows by heart: for each task where it stands and where on disk the record that says so
//! lies.
//!
//! Pure: [`Index::apply`] is the only way in, the same for what is read at the start and for what is written
//! later, so that a process knows after a restart exactly what it knew before. An entry takes some 50 bytes;
//! messages and reports stay on disk.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::TaskId;

use super::record::{DigestEnd, Record};

/// Bytes of a usual digest on disk: what is left of a task that is remembered when there is no room for more.
const DIGEST: u64 = 64;

/// Where a frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) segment: u32,
    pub(super) place: u32,
    pub(super) length: u32,
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// To be performed.
    Pending {
        /// The attempt that was started last; 0 when none was.
        started: u32,
    },
    /// Not to be performed unless it is asked for again.
    Parked,
    /// The handler has ended.
    Finished {
        /// Whether the broker has confirmed the report.
        reported: bool,
    },
    /// Withdrawn.
    Canceled {
        /// Whether the broker has confirmed the report.
        reported: bool,
    },
    /// The handler has ended, the broker has confirmed the report, and a digest is all that is left of it.
    Digest,
    /// It was here, and the disk destroyed what became of it.
    Unknown,
}

impl State {
    /// Whether the record must survive the end of its segment.
    pub(super) fn is_live(self) -> bool {
        match self {
            Self::Pending { .. } => true,
            Self::Parked | Self::Digest | Self::Unknown => false,
            Self::Finished { reported } | Self::Canceled { reported } => !reported,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    state: State,
    at: Location,
    /// Whether what lies there is a digest.
    digest: bool,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    entries: HashMap<TaskId, Entry>,
    /// Bytes of what has to move forward as it is.
    live: u64,
    /// Bytes of what is remembered once it is digested.
    digested: u64,
    /// Entries kept for repeats alone, or for an ask that may never come.
    remembered: usize,
    /// Entries that the broker has still to confirm.
    unreported: usize,
    /// What was asked for again after its end: since a while, and in the while before that.
    asked: [HashSet<TaskId>; 2],
}

impl Index {
    pub(super) fn state(&self, id: TaskId) -> Option<State> {
        self.entries.get(&id).map(|entry| entry.state)
    }

    pub(super) fn location(&self, id: TaskId) -> Option<Location> {
        self.entries.get(&id).map(|entry| entry.at)
    }

    /// Entries that nobody waits for any more.
    pub(super) fn remembered(&self) -> usize {
        self.remembered
    }

    /// Entries that have ended and that the broker has still to confirm.
    pub(super) fn unreported(&self) -> usize {
        self.unreported
    }

    /// Bytes on disk that have to move forward as they are.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live
    }

    /// Bytes on disk of what is remembered, once each is digested.
    pub(super) fn digested_bytes(&self) -> u64 {
        self.digested
    }

    /// Notes that the API has asked for a task that has ended here.
    pub(super) fn ask(&mut self, id: TaskId) {
        self.asked[0].insert(id);
    }

    /// Begins a new while of asks.
    pub(super) fn turn_asks(&mut self) {
        self.asked.swap(0, 1);
        self.asked[0] = HashSet::new();
    }

    /// Whether a task may be forgotten before its time: it has ended, the broker has its report, and nobody
    /// asks.
    pub(super) fn is_settled(&self, id: TaskId) -> bool {
        let reported = match self.state(id) {
            Some(State::Finished { reported } | State::Canceled { reported }) => reported,
            Some(State::Digest | State::Unknown) => true,
            Some(State::Pending { .. } | State::Parked) | None => false,
        };
        reported && !self.asked.iter().any(|asked| asked.contains(&id))
    }

    /// Tasks in the order of their ids, which is that of their submission.
    pub(super) fn ids(&self, wanted: impl Fn(State) -> bool) -> Vec<TaskId> {
        let mut ids: Vec<_> =
            self.entries.iter().filter(|(_, entry)| wanted(entry.state)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// What a record that lies at `at` changes.
    pub(super) fn apply(&mut self, record: &Record, at: Location) {
        let id = record.id();
        let before = self.state(id);
        let at = |state| Entry { state, at, digest: false };
        match (record, before) {
            // What has ended does not begin again: the record was overtaken by a cancel, or copied forward.
            (
                Record::Task(_),
                Some(State::Finished { .. } | State::Canceled { .. } | State::Digest | State::Unknown),
            ) => {}
            (Record::Task(task), _) => self.set(id, at(State::Pending { started: task.started })),
            (Record::Started { attempt, .. }, Some(State::Pending { .. })) => {
                self.change(id, State::Pending { started: *attempt })
            }
            (Record::Outcome { .. }, _) => self.set(id, at(State::Finished { reported: false })),
            // The work was done before the cancel came.
            (Record::Canceled { .. }, Some(State::Finished { .. } | State::Digest | State::Unknown)) => {}
            (Record::Canceled { .. }, _) => self.set(id, at(State::Canceled { reported: false })),
            (Record::Reported { .. }, Some(State::Finished { .. })) => {
                self.change(id, State::Finished { reported: true })
            }
            (Record::Reported { .. }, Some(State::Canceled { .. })) => {
                self.change(id, State::Canceled { reported: true })
            }
            (Record::Parked { .. }, Some(State::Pending { .. })) => self.change(id, State::Parked),
            (Record::Moved { .. }, _) => self.remove(id),
            (Record::Digest(digest), _) => {
                let state = match digest.end {
                    DigestEnd::Finished { .. } => State::Digest,
                    DigestEnd::Unknown => State::Unknown,
                    DigestEnd::Canceled => State::Canceled { reported: true },
                    DigestEnd::Parked => State::Parked,
                };
                self.set(id, Entry { digest: true, ..at(state) });
            }
            (Record::Started { .. } | Record::Reported { .. } | Record::Parked { .. }, _) => {}
        }
    }

    /// What a record changes in front of which others have been destroyed. What it follows may be among them:
    /// that the task was here is known then, and not what became of it, so it does not run again.
    pub(super) fn apply_after_damage(&mut self, record: &Record, at: Location) {
        let id = record.id();
        let in_doubt = match (record, self.state(id)) {
            (Record::Started { .. } | Record::Parked { .. } | Record::Reported { .. }, None) => {
                !id.0.is_nil()
            }
            // Its end is gone, and the broker has the report of that.
            (Record::Reported { .. }, Some(State::Pending { .. } | State::Parked)) => true,
            _ => false,
        };
        match in_doubt {
            true => self.set(id, Entry { state: State::Unknown, at, digest: false }),
            false => self.apply(record, at),
        }
    }

    /// Forgets a task that nobody waits for any more, if its record lies here.
    pub(super) fn forget(&mut self, id: TaskId, at: Location) {
        if self.entries.get(&id).is_some_and(|entry| entry.at == at && !entry.state.is_live()) {
            self.remove(id);
        }
    }

    /// The tasks of which a record in this segment says where they stand.
    pub(super) fn lie_in(&self, segment: u32) -> Vec<TaskId> {
        self.entries.iter().filter(|(_, entry)| entry.at.segment == segment).map(|(id, _)| *id).collect()
    }

    /// Where a task stands, if it is the record at this place that says so.
    pub(super) fn stands(&self, id: TaskId, at: Location) -> Option<State> {
        self.entries.get(&id).filter(|entry| entry.at == at).map(|entry| entry.state)
    }

    fn set(&mut self, id: TaskId, entry: Entry) {
        self.remove(id);
        self.count(entry, true);
        self.entries.insert(id, entry);
    }

    fn change(&mut self, id: TaskId, state: State) {
        if let Some(entry) = self.entries.get(&id).copied() {
            self.set(id, Entry { state, ..entry });
        }
    }

    fn remove(&mut self, id: TaskId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.count(entry, false);
            // A burst must not hold its memory for ever.
            if self.entries.capacity() > 1024 && self.entries.len() < self.entries.capacity() / 8 {
                self.entries.shrink_to(self.entries.len() * 2);
            }
        }
    }

    fn count(&mut self, Entry { state, at, digest }: Entry, add: bool) {
        let count = |number: &mut usize| *number = if add { *number + 1 } else { number.saturating_sub(1) };
        let sum = |bytes: &mut u64, more: u64| {
            *bytes = if add { *bytes + more } else { bytes.saturating_sub(more) }
        };
        let length = u64::from(at.length);
        if !state.is_live() {
            count(&mut self.remembered);
            return sum(&mut self.digested, if digest { length } else { length.min(DIGEST) });
        }
        sum(&mut self.live, length);
        if !matches!(state, State::Pending { .. }) {
            count(&mut self.unreported);
        }
    }
}

/// The index that several threads share.
pub(super) fn locked(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::endpoint::journal::record::{Digest, StoredTask};
    use bytes::Bytes;

    fn at(place: u32) -> Location {
        Location { segment: 1, place, length: 10 }
    }

    fn record(kind: u8, id: TaskId) -> Record {
        let report = Bytes::new();
        match kind {
            b't' => Record::Task(StoredTask {
                id,
                expires_at: Timestamp::from_micros(0),
                not_before: Timestamp::from_micros(0),
                started: 0,
                attempts: vec![],
                deadline: None,
                restarting: None,
                message: Bytes::new(),
            }),
            b's' => Record::Started { id, attempt: 1 },
            b'o' => Record::Outcome { id, report },
            b'c' => Record::Canceled { id, report },
            b'r' => Record::Reported { id },
            b'p' => Record::Parked { id },
            b'm' => Record::Moved { id },
            digest => {
                let end = match digest {
                    b'D' => DigestEnd::Finished { errnr: 0, attempt: 1, run: None },
                    b'C' => DigestEnd::Canceled,
                    b'P' => DigestEnd::Parked,
                    _ => DigestEnd::Unknown,
                };
                Record::Digest(Digest { id, task_type: None, age: 0, end, attempts: vec![] })
            }
        }
    }

    fn after(records: &[u8]) -> (Index, TaskId) {
        let (mut index, id) = (Index::default(), TaskId::new());
        for (place, kind) in (0..).zip(records) {
            index.apply(&record(*kind, id), at(place));
        }
        (index, id)
    }

    #[test]
    fn stands_where_the_records_lead() {
        let pending = |started| Some(State::Pending { started });
        let finished = |reported| Some(State::Finished { reported });
        let canceled = |reported| Some(State::Canceled { reported });
        let parked = Some(State::Parked);
        let table: &[(&str, Option<State>, u64, usize)] = &[
            ("", None, 0, 0),
            ("t", pending(0), 10, 0),
            ("ts", pending(1), 10, 0),
            ("tst", pending(0), 10, 0),
            ("tso", finished(false), 10, 0),
            ("tsor", finished(true), 0, 1),
            ("tsorr", finished(true), 0, 1),
            ("tsort", finished(true), 0, 1),
            ("tsoc", finished(false), 10, 0),
            ("c", canceled(false), 10, 0),
            ("ct", canceled(false), 10, 0),
            ("tc", canceled(false), 10, 0),
            ("tcr", canceled(true), 0, 1),
            ("tsco", finished(false), 10, 0),
            ("tp", parked, 0, 1),
            ("tsp", parked, 0, 1),
            ("tpp", parked, 0, 1),
            ("tps", parked, 0, 1),
            ("tpr", parked, 0, 1),
            ("tpt", pending(0), 10, 0),
            ("tpto", finished(false), 10, 0),
            ("tpc", canceled(false), 10, 0),
            ("tpm", None, 0, 0),
            ("p", None, 0, 0),
            ("op", finished(false), 10, 0),
            ("s", None, 0, 0),
            ("r", None, 0, 0),
            ("o", finished(false), 10, 0),
            ("tsm", None, 0, 0),
            ("tsorm", None, 0, 0),
            ("cm", None, 0, 0),
            ("om", None, 0, 0),
            ("D", Some(State::Digest), 0, 1),
            ("U", Some(State::Unknown), 0, 1),
            ("Ut", Some(State::Unknown), 0, 1),
            ("Uc", Some(State::Unknown), 0, 1),
            ("Uo", finished(false), 10, 0),
            ("C", canceled(true), 0, 1),
            ("P", parked, 0, 1),
            ("tsorD", Some(State::Digest), 0, 1),
            ("tcrC", canceled(true), 0, 1),
            ("tpP", parked, 0, 1),
            ("Dt", Some(State::Digest), 0, 1),
            ("Dts", Some(State::Digest), 0, 1),
            ("Dp", Some(State::Digest), 0, 1),
            ("Dr", Some(State::Digest), 0, 1),
            ("Dc", Some(State::Digest), 0, 1),
            ("DD", Some(State::Digest), 0, 1),
            ("Do", finished(false), 10, 0),
            ("Ct", canceled(true), 0, 1),
            ("Pt", pending(0), 10, 0),
            ("Pc", canceled(false), 10, 0),
            ("Dm", None, 0, 0),
            ("Pm", None, 0, 0),
        ];
        for (records, state, live, remembered) in table {
            let (index, id) = after(records.as_bytes());
            assert_eq!(
                (index.state(id), index.live_bytes(), index.remembered()),
                (*state, *live, *remembered),
                "{records}"
            );
        }
    }

    #[test]
    fn what_follows_a_destroyed_record_is_in_doubt() {
        let unknown = Some(State::Unknown);
        for (before, behind, state) in [
            ("", "s", unknown),
            ("", "r", unknown),
            ("", "p", unknown),
            ("", "sr", unknown),
            ("", "st", unknown),
            ("", "so", Some(State::Finished { reported: false })),
            ("", "sor", Some(State::Finished { reported: true })),
            ("ts", "r", unknown),
            ("tp", "r", unknown),
            ("t", "s", Some(State::Pending { started: 1 })),
            ("t", "p", Some(State::Parked)),
            ("tso", "r", Some(State::Finished { reported: true })),
            ("tsor", "m", None),
            ("", "m", None),
        ] {
            let (mut index, id) = after(before.as_bytes());
            for (place, kind) in (100..).zip(behind.bytes()) {
                index.apply_after_damage(&record(kind, id), at(place));
            }
            assert_eq!(index.state(id), state, "{before}, then {behind}");
        }
        let mut index = Index::default();
        index.apply_after_damage(&record(b'r', TaskId(uuid::Uuid::nil())), at(0));
        assert_eq!(index.ids(|_| true), [], "a probe of the disk is of no task");
    }

    #[test]
    fn settled_is_what_ended_was_confirmed_and_is_not_asked_for() {
        for (records, settled) in
            [("", false), ("ts", false), ("tp", false), ("P", false), ("tso", false), ("tc", false)]
                .into_iter()
                .chain([("tsor", true), ("tcr", true), ("D", true), ("U", true), ("C", true)])
        {
            let (mut index, id) = after(records.as_bytes());
            assert_eq!(index.is_settled(id), settled, "{records}");
            index.ask(id);
            assert!(!index.is_settled(id), "{records} was asked for");
            index.turn_asks();
            assert!(!index.is_settled(id), "{records} was asked for a while ago");
            index.turn_asks();
            assert_eq!(index.is_settled(id), settled, "{records}");
        }
    }

    #[test]
    fn what_is_remembered_counts_with_the_bytes_of_a_digest() {
        let (mut index, id) = (Index::default(), TaskId::new());
        let place = |length| Location { segment: 1, place: 0, length };
        index.apply(&Record::Outcome { id, report: Bytes::new() }, place(5000));
        assert_eq!((index.live_bytes(), index.digested_bytes()), (5000, 0));
        index.apply(&Record::Reported { id }, place(25));
        assert_eq!((index.live_bytes(), index.digested_bytes()), (0, DIGEST));
        let digest = Digest { id, task_type: None, age: 0, end: DigestEnd::Canceled, attempts: vec![] };
        index.apply(&Record::Digest(digest), place(900));
        assert_eq!((index.live_bytes(), index.digested_bytes()), (0, 900));
        index.forget(id, place(900));
        assert_eq!((index.live_bytes(), index.digested_bytes(), index.remembered()), (0, 0, 0));
    }

    #[test]
    fn only_the_record_that_counts_stands() {
        let (mut index, id) = after(b"tso");
        assert_eq!(
            (index.stands(id, at(2)), index.stands(id, at(0))),
            (Some(State::Finished { reported: false }), None)
        );
        index.forget(id, at(2));
        assert_eq!(index.state(id), Some(State::Finished { reported: false }));
        index.apply(&Record::Reported { id }, at(3));
        index.forget(id, at(0));
        assert_eq!(index.state(id), Some(State::Finished { reported: true }));
        index.forget(id, at(2));
        assert_eq!(index.state(id), None);
    }
}
