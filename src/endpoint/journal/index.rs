//! What the journal knows by heart: for each task where it stands and where on disk the record that says so lies.
//!
//! Pure: [`Index::apply`] is the only way in, the same for what is read at the start and for what is written later, so
//! that a process knows after a restart exactly what it knew before. An entry takes some 50 bytes; messages and reports
//! stay on disk.

use std::collections::{BTreeMap, HashMap};

use crate::domain::TaskId;

use super::record::Record;

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
}

impl State {
    /// Whether the record must survive the end of its segment.
    pub(super) fn is_live(self) -> bool {
        match self {
            Self::Pending { .. } => true,
            Self::Parked => false,
            Self::Finished { reported } | Self::Canceled { reported } => !reported,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    state: State,
    at: Location,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    entries: HashMap<TaskId, Entry>,
    /// Bytes that are still needed, by segment.
    live: BTreeMap<u32, u64>,
    /// Entries kept for repeats alone, or for an ask that may never come.
    remembered: usize,
    /// Entries that the broker has still to confirm.
    unreported: usize,
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

    /// Bytes on disk that are still needed.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live.values().sum()
    }

    /// Tasks in the order of their ids, which is that of their submission.
    pub(super) fn ids(&self, wanted: impl Fn(State) -> bool) -> Vec<TaskId> {
        let mut ids: Vec<_> = self.entries.iter().filter(|(_, entry)| wanted(entry.state)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// What a record that lies at `at` changes.
    pub(super) fn apply(&mut self, record: &Record, at: Location) {
        let id = record.id();
        let before = self.state(id);
        match (record, before) {
            // What has ended does not begin again: the record was overtaken by a cancel, or copied forward.
            (Record::Task(_), Some(State::Finished { .. } | State::Canceled { .. })) => {}
            (Record::Task(task), _) => self.set(id, State::Pending { started: task.started }, at),
            (Record::Started { attempt, .. }, Some(State::Pending { .. })) => self.change(id, State::Pending { started: *attempt }),
            (Record::Outcome { .. }, _) => self.set(id, State::Finished { reported: false }, at),
            // The work was done before the cancel came.
            (Record::Canceled { .. }, Some(State::Finished { .. })) => {}
            (Record::Canceled { .. }, _) => self.set(id, State::Canceled { reported: false }, at),
            (Record::Reported { .. }, Some(State::Finished { .. })) => self.change(id, State::Finished { reported: true }),
            (Record::Reported { .. }, Some(State::Canceled { .. })) => self.change(id, State::Canceled { reported: true }),
            (Record::Parked { .. }, Some(State::Pending { .. })) => self.change(id, State::Parked),
            (Record::Moved { .. }, _) => self.remove(id),
            (Record::Started { .. } | Record::Reported { .. } | Record::Parked { .. }, _) => {}
        }
    }

    /// Forgets a task that nobody waits for any more, if its record lies here.
    pub(super) fn forget(&mut self, id: TaskId, at: Location) {
        if self.entries.get(&id).is_some_and(|entry| entry.at == at && !entry.state.is_live()) {
            self.remove(id);
        }
    }

    /// Forgets what lies in a segment, whatever it is; returns how much that was.
    pub(super) fn lose(&mut self, segment: u32) -> usize {
        let ids: Vec<_> = self.entries.iter().filter(|(_, entry)| entry.at.segment == segment).map(|(id, _)| *id).collect();
        ids.iter().for_each(|id| self.remove(*id));
        ids.len()
    }

    /// Where a task stands, if it is the record at this place that says so.
    pub(super) fn stands(&self, id: TaskId, at: Location) -> Option<State> {
        self.entries.get(&id).filter(|entry| entry.at == at).map(|entry| entry.state)
    }

    fn set(&mut self, id: TaskId, state: State, at: Location) {
        self.remove(id);
        self.count(state, at, true);
        self.entries.insert(id, Entry { state, at });
    }

    fn change(&mut self, id: TaskId, state: State) {
        if let Some(at) = self.location(id) {
            self.set(id, state, at);
        }
    }

    fn remove(&mut self, id: TaskId) {
        if let Some(Entry { state, at }) = self.entries.remove(&id) {
            self.count(state, at, false);
            // A burst must not hold its memory for ever.
            if self.entries.capacity() > 1024 && self.entries.len() < self.entries.capacity() / 8 {
                self.entries.shrink_to(self.entries.len() * 2);
            }
        }
    }

    fn count(&mut self, state: State, at: Location, add: bool) {
        let count = |number: &mut usize| *number = if add { *number + 1 } else { number.saturating_sub(1) };
        match state {
            State::Pending { .. } => {}
            State::Parked | State::Finished { reported: true } | State::Canceled { reported: true } => return count(&mut self.remembered),
            State::Finished { .. } | State::Canceled { .. } => count(&mut self.unreported),
        }
        let bytes = self.live.entry(at.segment).or_default();
        *bytes = if add { *bytes + u64::from(at.length) } else { bytes.saturating_sub(u64::from(at.length)) };
        if *bytes == 0 {
            self.live.remove(&at.segment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::endpoint::journal::record::StoredTask;
    use bytes::Bytes;

    fn at(place: u32) -> Location {
        Location { segment: 1, place, length: 10 }
    }

    fn after(records: &[u8]) -> (Index, TaskId) {
        let (mut index, id) = (Index::default(), TaskId::new());
        for (place, kind) in (0..).zip(records) {
            let report = Bytes::new();
            let record = match kind {
                b't' => Record::Task(StoredTask {
                    id,
                    expires_at: Timestamp::from_micros(0),
                    not_before: Timestamp::from_micros(0),
                    started: 0,
                    attempts: vec![],
                    message: Bytes::new(),
                }),
                b's' => Record::Started { id, attempt: 1 },
                b'o' => Record::Outcome { id, report },
                b'c' => Record::Canceled { id, report },
                b'r' => Record::Reported { id },
                b'p' => Record::Parked { id },
                _ => Record::Moved { id },
            };
            index.apply(&record, at(place));
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
        ];
        for (records, state, live, remembered) in table {
            let (index, id) = after(records.as_bytes());
            assert_eq!((index.state(id), index.live_bytes(), index.remembered()), (*state, *live, *remembered), "{records}");
        }
    }

    #[test]
    fn only_the_record_that_counts_stands() {
        let (mut index, id) = after(b"tso");
        assert_eq!((index.stands(id, at(2)), index.stands(id, at(0))), (Some(State::Finished { reported: false }), None));
        index.forget(id, at(2));
        assert_eq!(index.state(id), Some(State::Finished { reported: false }));
        index.apply(&Record::Reported { id }, at(3));
        index.forget(id, at(0));
        assert_eq!(index.state(id), Some(State::Finished { reported: true }));
        index.forget(id, at(2));
        assert_eq!(index.state(id), None);
    }
}
