//! How the endpoints of a task, or of the fleet, stand: four bits each, so that 50,000 of them are 25 KB, and
//! the changes from one such vector to the next.
//!
//! A vector is read like a hexadecimal dump: the first endpoint is the high half of the first byte.
//! `docs/api.md` describes both encodings for readers in other languages; `tests/fixtures/states.json` has
//! examples that each of them must agree with.

use sha2::{Digest, Sha256};

use super::{EndpointName, ResponseStatus, errnr};

/// How the part of an endpoint in a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PartState {
    /// The task is not for it.
    NotPart = 0,
    /// It must answer; the broker has not confirmed the task yet.
    Waiting = 1,
    /// The broker has the task for it.
    Sent = 2,
    /// It has received the task.
    Received = 3,
    /// Its handler runs, and has said how far it is.
    Running = 4,
    /// An attempt failed, and another one follows.
    Retry = 5,
    /// Finished without an error.
    Ok = 6,
    /// Finished with an error.
    Failed = 7,
    /// Received, and the outcome will never be known.
    Lost = 8,
    /// Stopped by its time limit.
    TimeLimit = 9,
    /// Received, and the endpoint is not there any more.
    Vanished = 10,
    /// Withdrawn, or stopped by a cancel.
    Canceled = 11,
    /// Given up when the task's time was over.
    Expired = 12,
    /// Held back: its stage has not begun.
    Held = 13,
    /// Left out: the rollout ended before.
    Skipped = 14,
}

impl PartState {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 15] = [
        Self::NotPart,
        Self::Waiting,
        Self::Sent,
        Self::Received,
        Self::Running,
        Self::Retry,
        Self::Ok,
        Self::Failed,
        Self::Lost,
        Self::TimeLimit,
        Self::Vanished,
        Self::Canceled,
        Self::Expired,
        Self::Held,
        Self::Skipped,
    ];

    /// The four bits.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The state with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotPart => "not part",
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::Received => "received",
            Self::Running => "running",
            Self::Retry => "retry",
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::TimeLimit => "time limit",
            Self::Vanished => "vanished",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
            Self::Held => "held",
            Self::Skipped => "skipped",
        }
    }

    /// Where a response stands: `published` once the broker has confirmed its task, `runs` once its handler
    /// has said how far it is, `vanished` while its endpoint has the task and is not there.
    pub const fn of_response(
        status: ResponseStatus,
        errnr: Option<i32>,
        published: bool,
        runs: bool,
        vanished: bool,
    ) -> Self {
        match (status, errnr) {
            (ResponseStatus::Expected, _) if published => Self::Sent,
            (ResponseStatus::Expected, _) => Self::Waiting,
            (ResponseStatus::Created, _) if vanished => Self::Vanished,
            (ResponseStatus::Created, _) if runs => Self::Running,
            (ResponseStatus::Created, _) => Self::Received,
            (ResponseStatus::Finished, None | Some(0)) => Self::Ok,
            (ResponseStatus::Finished, Some(errnr::LOST)) => Self::Lost,
            (ResponseStatus::Finished, Some(errnr::TIME_LIMIT)) => Self::TimeLimit,
            (ResponseStatus::Finished, Some(_)) => Self::Failed,
            (ResponseStatus::Canceled, _) => Self::Canceled,
            (ResponseStatus::Expired, _) => Self::Expired,
        }
    }
}

/// How an endpoint of the fleet stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FleetState {
    /// Known, and subscribed to nothing.
    Idle = 0,
    /// There, for all its task types.
    Present = 1,
    /// There, with trouble: it takes no tasks of a type although it is subscribed.
    Trouble = 2,
    /// Silent for three presence intervals.
    Gone = 3,
    /// Stopped properly: it has said goodbye.
    Stopped = 4,
}

impl FleetState {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 5] = [Self::Idle, Self::Present, Self::Trouble, Self::Gone, Self::Stopped];

    /// The four bits.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Present => "present",
            Self::Trouble => "trouble",
            Self::Gone => "gone",
            Self::Stopped => "stopped",
        }
    }

    /// Where an endpoint stands by the numbers of its subscriptions.
    pub const fn of_subscriptions(healthy: u64, troubled: u64, missed: u64, left: u64) -> Self {
        match (healthy, troubled, missed, left) {
            (_, 1.., ..) => Self::Trouble,
            (1.., ..) => Self::Present,
            (_, _, 1.., _) => Self::Gone,
            (.., 1..) => Self::Stopped,
            _ => Self::Idle,
        }
    }
}

/// A vector of states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct States {
    packed: Vec<u8>,
    count: usize,
}

/// A change of one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateChange {
    /// The place of the endpoint, from 0.
    pub place: usize,
    /// The code it has now.
    pub code: u8,
}

/// Why bytes are no changes of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChanges {
    /// The last number has no end.
    #[error("the changes end in the middle of a number")]
    Cut,
    /// A number is longer than any place needs.
    #[error("a number of the changes is too long")]
    TooLong,
    /// The vector is shorter.
    #[error("place {place} is changed; the vector has {count}")]
    Place {
        /// Which place.
        place: usize,
        /// How many there are.
        count: usize,
    },
}

/// Bits of a number in one byte of it.
const BITS: u32 = 7;
/// Set in each byte of a number but its last.
const MORE: u8 = 0x80;
/// Bytes of a number at most: four bits of a code, and a distance of up to 2^31.
const LONGEST: u32 = 5;

impl States {
    /// How many there are.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The vector as bytes, two states each; the last half of an odd number is 0.
    pub fn as_bytes(&self) -> &[u8] {
        &self.packed
    }

    /// The code at a place.
    pub fn get(&self, place: usize) -> Option<u8> {
        let byte = self.packed.get(place / 2).filter(|_| place < self.count)?;
        Some(if place.is_multiple_of(2) { byte >> 4 } else { byte & 0xf })
    }

    /// Changes the code at a place that there is.
    pub fn set(&mut self, place: usize, code: u8) {
        if place >= self.count {
            return;
        }
        let (byte, code) = (&mut self.packed[place / 2], code & 0xf);
        *byte = if place.is_multiple_of(2) { *byte & 0xf | code << 4 } else { *byte & 0xf0 | code };
    }

    /// The codes, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = u8> {
        (0..self.count).filter_map(|place| self.get(place))
    }

    /// The vector in these bytes; `None` when they are more or fewer than so many states take.
    pub fn from_bytes(bytes: &[u8], count: usize) -> Option<Self> {
        let fits = bytes.len() == count.div_ceil(2)
            && (count.is_multiple_of(2) || bytes.last().is_none_or(|last| last & 0xf == 0));
        fits.then(|| Self { packed: bytes.to_vec(), count })
    }

    /// What has changed since a vector of the same length.
    pub fn changes_since(&self, before: &Self) -> Vec<StateChange> {
        let mut changes = Vec::new();
        for (at, (now, then)) in self.packed.iter().zip(&before.packed).enumerate() {
            if now == then {
                continue;
            }
            for place in [2 * at, 2 * at + 1] {
                let code = self.get(place).filter(|code| before.get(place) != Some(*code));
                changes.extend(code.map(|code| StateChange { place, code }));
            }
        }
        changes
    }

    /// Changes the vector.
    pub fn apply(&mut self, changes: &[StateChange]) {
        for change in changes {
            self.set(change.place, change.code);
        }
    }
}

impl FromIterator<u8> for States {
    fn from_iter<I: IntoIterator<Item = u8>>(codes: I) -> Self {
        let mut states = Self::default();
        for code in codes {
            if states.count.is_multiple_of(2) {
                states.packed.push(0);
            }
            states.count += 1;
            states.set(states.count - 1, code);
        }
        states
    }
}

/// What a list of names is called: 16 hexadecimal digits, which are others for every other list.
pub fn generation(names: &[EndpointName]) -> String {
    let mut hash = Sha256::new();
    for name in names {
        hash.update(name.as_str());
        hash.update(b"\n");
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Changes as bytes, in the order of their places. Each is one number: how many places lie between it and the
/// change before, times 16, plus the code. A number is written in base 128, its lowest digit first; every
/// byte but the last of a number has its high bit set (unsigned LEB128).
pub fn encode_changes(changes: &[StateChange]) -> Vec<u8> {
    let (mut bytes, mut next) = (Vec::with_capacity(2 * changes.len()), 0);
    for change in changes {
        let mut rest = (change.place - next) << 4 | usize::from(change.code & 0xf);
        next = change.place + 1;
        while rest >= usize::from(MORE) {
            bytes.push((rest & 0x7f) as u8 | MORE);
            rest >>= BITS;
        }
        bytes.push(rest as u8);
    }
    bytes
}

/// The changes in these bytes, of a vector of so many states.
///
/// # Errors
/// See [`InvalidChanges`]; never panics, whatever the bytes.
pub fn decode_changes(bytes: &[u8], count: usize) -> Result<Vec<StateChange>, InvalidChanges> {
    let (mut changes, mut next) = (Vec::new(), 0);
    let mut bytes = bytes.iter();
    while let Some(first) = bytes.next() {
        let (mut number, mut byte, mut read) = (u64::from(first & !MORE), first, 1);
        while byte & MORE != 0 {
            if read == LONGEST {
                return Err(InvalidChanges::TooLong);
            }
            byte = bytes.next().ok_or(InvalidChanges::Cut)?;
            number |= u64::from(byte & !MORE) << (BITS * read);
            read += 1;
        }
        let place = usize::try_from(number >> 4)
            .ok()
            .and_then(|distance| distance.checked_add(next))
            .unwrap_or(usize::MAX);
        if place >= count {
            return Err(InvalidChanges::Place { place, count });
        }
        changes.push(StateChange { place, code: (number & 0xf) as u8 });
        next = place + 1;
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use serde_json::Value;

    /// What the codecs of other languages are tested with, too.
    const VECTORS: &str = include_str!("../../../tests/fixtures/states.json");

    fn codes(value: &Value) -> States {
        value.as_array().expect("codes").iter().map(|code| code.as_u64().expect("a code") as u8).collect()
    }

    fn bytes(value: &Value) -> Vec<u8> {
        STANDARD.decode(value.as_str().expect("a text")).expect("base64")
    }

    #[test]
    fn the_shared_examples_hold() {
        let shared: Value = serde_json::from_str(VECTORS).expect("JSON");
        let words: Vec<&str> = PartState::ALL.map(PartState::as_str).to_vec();
        assert_eq!(shared["part_states"], serde_json::json!(words));
        assert_eq!(shared["fleet_states"], serde_json::json!(FleetState::ALL.map(FleetState::as_str)));
        for example in shared["vectors"].as_array().expect("vectors") {
            let (states, packed) = (codes(&example["codes"]), bytes(&example["bytes"]));
            assert_eq!(states.as_bytes(), packed, "{example}");
            assert_eq!(States::from_bytes(&packed, states.len()), Some(states), "{example}");
        }
        for example in shared["changes"].as_array().expect("changes") {
            let (before, after) = (codes(&example["before"]), codes(&example["after"]));
            let changes = after.changes_since(&before);
            assert_eq!(encode_changes(&changes), bytes(&example["bytes"]), "{example}");
            assert_eq!(decode_changes(&bytes(&example["bytes"]), before.len()), Ok(changes), "{example}");
        }
        for example in shared["refused"].as_array().expect("refused") {
            let count = example["count"].as_u64().expect("a count") as usize;
            let refused = decode_changes(&bytes(&example["bytes"]), count).expect_err("no changes");
            assert_eq!(refused.to_string(), example["why"], "{example}");
        }
    }

    #[test]
    fn codes_are_places_in_the_list() {
        for (code, state) in PartState::ALL.into_iter().enumerate() {
            assert_eq!((usize::from(state.code()), PartState::from_code(state.code())), (code, Some(state)));
        }
        assert_eq!(PartState::from_code(15), None);
        for (code, state) in FleetState::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(state.code()), code);
        }
    }

    #[test]
    fn a_response_has_one_state() {
        use ResponseStatus as S;
        let table = [
            (S::Expected, None, false, false, false, PartState::Waiting),
            (S::Expected, None, true, false, false, PartState::Sent),
            (S::Created, None, true, false, false, PartState::Received),
            (S::Created, None, true, true, false, PartState::Running),
            (S::Created, None, true, true, true, PartState::Vanished),
            (S::Finished, Some(0), true, true, false, PartState::Ok),
            (S::Finished, Some(1), true, true, false, PartState::Failed),
            (S::Finished, Some(errnr::LOST), true, false, false, PartState::Lost),
            (S::Finished, Some(errnr::TIME_LIMIT), true, true, false, PartState::TimeLimit),
            (S::Canceled, None, true, false, false, PartState::Canceled),
            (S::Expired, None, true, false, false, PartState::Expired),
        ];
        for (status, errnr, published, runs, vanished, expected) in table {
            let state = PartState::of_response(status, errnr, published, runs, vanished);
            assert_eq!(state, expected, "{status:?} {errnr:?} {published} {runs} {vanished}");
        }
    }

    #[test]
    fn an_endpoint_has_one_state() {
        let table = [
            ((0, 0, 0, 0), FleetState::Idle),
            ((2, 0, 0, 0), FleetState::Present),
            ((2, 1, 1, 0), FleetState::Trouble),
            ((1, 0, 1, 1), FleetState::Present),
            ((0, 0, 1, 2), FleetState::Gone),
            ((0, 0, 0, 2), FleetState::Stopped),
        ];
        for ((healthy, troubled, missed, left), expected) in table {
            assert_eq!(FleetState::of_subscriptions(healthy, troubled, missed, left), expected);
        }
    }

    fn states() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0u8..15, 0..300)
    }

    proptest! {
        #[test]
        fn a_vector_reads_as_it_was_written(codes in states()) {
            let states: States = codes.iter().copied().collect();
            prop_assert_eq!(states.iter().collect::<Vec<_>>(), codes.clone());
            prop_assert_eq!(states.as_bytes().len(), codes.len().div_ceil(2));
            prop_assert_eq!(States::from_bytes(states.as_bytes(), codes.len()), Some(states));
        }

        #[test]
        fn changes_make_the_new_vector_of_the_old(pairs in proptest::collection::vec((0u8..15, 0u8..15, 0u8..8), 0..3000)) {
            let mut before: States = pairs.iter().map(|(old, ..)| *old).collect();
            let after: States = pairs.iter().map(|(old, new, dice)| if *dice == 0 { *new } else { *old }).collect();
            let bytes = encode_changes(&after.changes_since(&before));
            before.apply(&decode_changes(&bytes, before.len()).expect("changes"));
            prop_assert_eq!(before, after);
        }

        #[test]
        fn any_bytes_are_changes_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100), count in 0usize..5000) {
            if let Ok(changes) = decode_changes(&bytes, count) {
                prop_assert!(changes.iter().all(|change| change.place < count));
                prop_assert!(changes.is_sorted_by(|one, next| one.place < next.place));
                prop_assert_eq!(decode_changes(&encode_changes(&changes), count), Ok(changes));
            }
        }
    }
}
