//! The bytes of the journal.
//!
//! A segment is a header of 16 bytes followed by frames: length (u32), CRC-32 (u32), body. All numbers are little endian.
//! The checksum covers the segment's number, the frame's place and the body, so that a frame that a disk returns from
//! another place is as wrong as a flipped bit.

use bytes::Bytes;
use uuid::Uuid;

use crate::broker::wire;
use crate::domain::{AttemptError, Command, ReportEvent, TaskId, TaskType, Timestamp};

/// What every segment starts with; the last byte is the version of the format.
const MAGIC: [u8; 8] = *b"taskjnl\x01";

/// Bytes of a segment's header.
pub(super) const HEADER: usize = 16;

/// Bytes of a frame before its body.
const FRAME: usize = 8;

/// Bytes of a body before what its kind adds: the kind and the task's id.
const BODY: usize = 17;

/// One thing the endpoint must not forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A task to perform, with all that is known about it. A later one replaces an earlier one, so that each retry and
    /// each move to a younger segment leaves one record that says everything.
    Task(StoredTask),
    /// An attempt is about to start. 0 takes it back: written by earlier versions.
    Started {
        /// Which task.
        id: TaskId,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// The handler ended; the report as it goes to the API.
    Outcome {
        /// Which task.
        id: TaskId,
        /// An encoded report.
        report: Bytes,
    },
    /// Stop it, or never start it: may come before the task itself.
    Canceled {
        /// Which task.
        id: TaskId,
        /// An encoded report.
        report: Bytes,
    },
    /// The broker has the final report.
    Reported {
        /// Which task.
        id: TaskId,
    },
    /// It looks expired: not to be performed unless the API asks for it again. Kept as long as what has ended.
    Parked {
        /// Which task.
        id: TaskId,
    },
    /// Another journal has it, with all that is known about it.
    Moved {
        /// Which task.
        id: TaskId,
    },
    /// What is left of a task that has ended or was parked when there is no room for more.
    Digest(Digest),
}

/// Enough never to run a task again: who it is and how it ended, without its message, answer and texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Which task.
    pub id: TaskId,
    /// Its type; `None` when the record that said so cannot be read.
    pub task_type: Option<TaskType>,
    /// How many seconds it had been remembered when this was written: a copy is not younger than what it was copied from.
    pub age: u32,
    /// How it ended.
    pub end: DigestEnd,
    /// Number and error number of the attempts before the deciding one, or of all when it was parked.
    pub attempts: Vec<(u32, i32)>,
}

/// How a task ended of which only a digest is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestEnd {
    /// The handler ended, and the broker has the report.
    Finished {
        /// 0 for success.
        errnr: i32,
        /// The attempt that decided.
        attempt: u32,
        /// The execution that decided.
        run: Option<Uuid>,
    },
    /// It was cancelled, and the broker has the report.
    Canceled,
    /// It has not ended; it goes on when it is asked for.
    Parked,
    /// The disk destroyed the record that said so.
    Unknown,
}

/// The error text of what ended so long ago, or among so many, that its answer was dropped.
const ANSWER_DROPPED: &str = "the endpoint dropped the answer for want of room in its journal (endpoint.journal_limit)";

/// The error text of an attempt of such a task.
const TEXT_DROPPED: &str = "the error text was dropped for want of room";

impl Digest {
    /// What is to be kept of a record that says how a task ended or was parked.
    pub(super) fn of(record: &Record, age: u32) -> Self {
        let pairs = |attempts: &[AttemptError]| attempts.iter().map(|one| (one.attempt, one.errnr)).collect();
        let digest = |task_type, end, attempts| Self { id: record.id(), task_type, age, end, attempts };
        match record {
            Record::Digest(earlier) => Self { age, ..earlier.clone() },
            Record::Task(task) => {
                let task_type = match wire::decode_command(&task.message) {
                    Ok(Command::Task(task)) => Some(task.task_type),
                    _ => None,
                };
                digest(task_type, DigestEnd::Parked, pairs(&task.attempts))
            }
            Record::Outcome { report, .. } | Record::Canceled { report, .. } => match wire::decode_report(report) {
                Ok(report) => match report.event {
                    ReportEvent::Finished { errnr, attempt, attempts, run, .. } => {
                        digest(Some(report.task_type), DigestEnd::Finished { errnr, attempt, run }, pairs(&attempts))
                    }
                    _ => digest(Some(report.task_type), DigestEnd::Canceled, Vec::new()),
                },
                Err(_) => digest(None, DigestEnd::Unknown, Vec::new()),
            },
            _ => digest(None, DigestEnd::Unknown, Vec::new()),
        }
    }

    /// The attempts, with a text that says why theirs are gone.
    pub fn attempt_errors(&self) -> Vec<AttemptError> {
        let error = |&(attempt, errnr): &(u32, i32)| AttemptError { attempt, errnr, errmsg: TEXT_DROPPED.to_owned() };
        self.attempts.iter().map(error).collect()
    }

    /// What can still be reported; `None` for what has not ended, or nobody knows how.
    pub fn event(&self) -> Option<ReportEvent> {
        match self.end {
            DigestEnd::Finished { errnr, attempt, run } => Some(ReportEvent::Finished {
                errnr,
                errmsg: ANSWER_DROPPED.to_owned(),
                payload: None,
                attempt,
                attempts: self.attempt_errors(),
                log: None,
                run,
            }),
            DigestEnd::Canceled => Some(ReportEvent::Canceled),
            DigestEnd::Parked | DigestEnd::Unknown => None,
        }
    }

    fn encode(&self, to: &mut Vec<u8>) {
        let name = self.task_type.as_ref().map_or("", TaskType::as_str);
        to.push(match self.end {
            DigestEnd::Finished { .. } => 1,
            DigestEnd::Canceled => 2,
            DigestEnd::Parked => 3,
            DigestEnd::Unknown => 4,
        });
        to.extend_from_slice(&self.age.to_le_bytes());
        to.push(u8::try_from(name.len()).unwrap_or(0));
        to.extend_from_slice(name.as_bytes());
        if let DigestEnd::Finished { errnr, attempt, run } = self.end {
            to.extend_from_slice(&errnr.to_le_bytes());
            to.extend_from_slice(&attempt.to_le_bytes());
            to.extend_from_slice(run.unwrap_or_default().as_bytes());
        }
        for (attempt, errnr) in &self.attempts {
            to.extend_from_slice(&attempt.to_le_bytes());
            to.extend_from_slice(&errnr.to_le_bytes());
        }
    }

    fn decode(id: TaskId, rest: &[u8]) -> Option<Self> {
        let mut fields = Fields(rest);
        let [kind] = fields.take()?;
        let age = u32::from_le_bytes(fields.take()?);
        let [length] = fields.take()?;
        let (name, more) = fields.0.split_at_checked(length.into())?;
        let task_type = if name.is_empty() { None } else { Some(std::str::from_utf8(name).ok()?.parse().ok()?) };
        fields.0 = more;
        let end = match kind {
            1 => {
                let (errnr, attempt) = (i32::from_le_bytes(fields.take()?), u32::from_le_bytes(fields.take()?));
                let run = Uuid::from_bytes(fields.take()?);
                DigestEnd::Finished { errnr, attempt, run: (!run.is_nil()).then_some(run) }
            }
            2 => DigestEnd::Canceled,
            3 => DigestEnd::Parked,
            4 => DigestEnd::Unknown,
            _ => return None,
        };
        let mut attempts = Vec::new();
        while !fields.0.is_empty() {
            attempts.push((u32::from_le_bytes(fields.take()?), i32::from_le_bytes(fields.take()?)));
        }
        Some(Self { id, task_type, age, end, attempts })
    }
}

/// A task that waits for its next attempt, or runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTask {
    /// Which task.
    pub id: TaskId,
    /// When it is not worth starting any more, by this machine's clock.
    pub expires_at: Timestamp,
    /// When the next attempt may start.
    pub not_before: Timestamp,
    /// The attempt that was started last; 0 when none is under way.
    pub started: u32,
    /// What earlier attempts died of.
    pub attempts: Vec<AttemptError>,
    /// When it is not worth starting any more, as the machine counts while it runs; none when an earlier version has written it.
    pub deadline: Option<Deadline>,
    /// The answer of the attempt that was started last, which said that it would end this process or this machine: JSON.
    pub restarting: Option<Bytes>,
    /// The message as it came.
    pub message: Bytes,
}

/// A time that no setting of a clock moves: microseconds since a certain start of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// Which start.
    pub boot: Uuid,
    /// How long after it.
    pub micros: u64,
}

impl Record {
    /// Which task it is about.
    pub fn id(&self) -> TaskId {
        match self {
            Self::Task(task) => task.id,
            Self::Digest(digest) => digest.id,
            Self::Started { id, .. }
            | Self::Outcome { id, .. }
            | Self::Canceled { id, .. }
            | Self::Reported { id }
            | Self::Parked { id }
            | Self::Moved { id } => *id,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            // What earlier versions wrote.
            Self::Task(StoredTask { deadline: None, restarting: None, .. }) => 1,
            Self::Task(_) => 9,
            Self::Started { .. } => 2,
            Self::Outcome { .. } => 3,
            Self::Canceled { .. } => 4,
            Self::Reported { .. } => 5,
            Self::Parked { .. } => 6,
            Self::Moved { .. } => 7,
            Self::Digest(_) => 8,
        }
    }

    /// Bytes of its frame on disk, to a few.
    pub(super) fn size(&self) -> u64 {
        let more = match self {
            Self::Task(task) => {
                let restarting = task.restarting.as_ref().map_or(0, Bytes::len);
                task.message.len() + restarting + task.attempts.iter().map(|one| one.errmsg.len() + 64).sum::<usize>() + 56
            }
            Self::Outcome { report, .. } | Self::Canceled { report, .. } => report.len(),
            Self::Digest(digest) => digest.task_type.as_ref().map_or(0, |name| name.as_str().len()) + digest.attempts.len() * 8 + 30,
            Self::Started { .. } | Self::Reported { .. } | Self::Parked { .. } | Self::Moved { .. } => 4,
        };
        u64::try_from(FRAME + BODY + more).unwrap_or(u64::MAX)
    }

    /// Appends the frame of this record to a buffer whose first byte will stand at `base` of the segment.
    pub(super) fn encode(&self, segment: u32, base: u32, to: &mut Vec<u8>) {
        let start = to.len();
        let place = base.wrapping_add(u32::try_from(start).unwrap_or(u32::MAX));
        to.extend_from_slice(&[0; FRAME]);
        to.push(self.kind());
        to.extend_from_slice(self.id().0.as_bytes());
        match self {
            Self::Task(task) => {
                let attempts = serde_json::to_vec(&task.attempts).unwrap_or_default();
                to.extend_from_slice(&task.expires_at.as_micros().to_le_bytes());
                to.extend_from_slice(&task.not_before.as_micros().to_le_bytes());
                to.extend_from_slice(&task.started.to_le_bytes());
                to.extend_from_slice(&u32::try_from(attempts.len()).unwrap_or(0).to_le_bytes());
                if self.kind() == 9 {
                    let deadline = task.deadline.unwrap_or(Deadline { boot: Uuid::nil(), micros: 0 });
                    to.extend_from_slice(deadline.boot.as_bytes());
                    to.extend_from_slice(&deadline.micros.to_le_bytes());
                    let restarting = task.restarting.as_deref().unwrap_or_default();
                    to.extend_from_slice(&u32::try_from(restarting.len()).unwrap_or(0).to_le_bytes());
                    to.extend_from_slice(restarting);
                }
                to.extend_from_slice(&attempts);
                to.extend_from_slice(&task.message);
            }
            Self::Started { attempt, .. } => to.extend_from_slice(&attempt.to_le_bytes()),
            Self::Outcome { report, .. } | Self::Canceled { report, .. } => to.extend_from_slice(report),
            Self::Reported { .. } | Self::Parked { .. } | Self::Moved { .. } => {}
            Self::Digest(digest) => digest.encode(to),
        }
        let length = to.len() - start - FRAME;
        let sum = checksum(segment, place, &to[start + FRAME..]);
        to[start..start + 4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        to[start + 4..start + FRAME].copy_from_slice(&sum.to_le_bytes());
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let (head, rest) = body.split_at_checked(BODY)?;
        let id = TaskId(Uuid::from_slice(&head[1..]).ok()?);
        Some(match head[0] {
            kind @ (1 | 9) => {
                let mut fields = Fields(rest);
                let expires_at = Timestamp::from_micros(i64::from_le_bytes(fields.take()?));
                let not_before = Timestamp::from_micros(i64::from_le_bytes(fields.take()?));
                let started = u32::from_le_bytes(fields.take()?);
                let length = usize::try_from(u32::from_le_bytes(fields.take()?)).ok()?;
                let (mut deadline, mut restarting) = (None, None);
                if kind == 9 {
                    let (boot, micros) = (Uuid::from_bytes(fields.take()?), u64::from_le_bytes(fields.take()?));
                    deadline = (!boot.is_nil()).then_some(Deadline { boot, micros });
                    let length = usize::try_from(u32::from_le_bytes(fields.take()?)).ok()?;
                    let (answer, rest) = fields.0.split_at_checked(length)?;
                    restarting = (!answer.is_empty()).then(|| Bytes::copy_from_slice(answer));
                    fields.0 = rest;
                }
                let (attempts, message) = fields.0.split_at_checked(length)?;
                let attempts = if attempts.is_empty() { Vec::new() } else { serde_json::from_slice(attempts).ok()? };
                let message = Bytes::copy_from_slice(message);
                Self::Task(StoredTask { id, expires_at, not_before, started, attempts, deadline, restarting, message })
            }
            2 => Self::Started { id, attempt: u32::from_le_bytes(rest.try_into().ok()?) },
            3 => Self::Outcome { id, report: Bytes::copy_from_slice(rest) },
            4 => Self::Canceled { id, report: Bytes::copy_from_slice(rest) },
            5 if rest.is_empty() => Self::Reported { id },
            6 if rest.is_empty() => Self::Parked { id },
            7 if rest.is_empty() => Self::Moved { id },
            8 => Self::Digest(Digest::decode(id, rest)?),
            _ => return None,
        })
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }
}

fn checksum(segment: u32, place: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&segment.to_le_bytes());
    hasher.update(&place.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// The first bytes of a segment.
pub(super) fn header(segment: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&segment.to_le_bytes());
    bytes[12..].copy_from_slice(&checksum(segment, 0, &MAGIC).to_le_bytes());
    bytes
}

/// How the readable part of a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With the last byte of the file.
    Clean,
    /// In the middle of a frame, or in nothing but zeros: what a crash leaves of a write that was never answered.
    Torn,
    /// With a frame that is there in full and wrong: what was behind it is lost.
    Damaged,
}

/// Reads the frames of one segment from the first on, and stops at the first that is not as it was written.
pub(super) struct Scan<'a> {
    bytes: &'a [u8],
    segment: u32,
    at: usize,
    ending: Option<Ending>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(bytes: &'a [u8], segment: u32) -> Self {
        let expected = header(segment);
        let (at, ending) = match bytes.get(..HEADER) {
            Some(head) if head == expected => (HEADER, None),
            None if bytes.iter().zip(expected).all(|(found, written)| *found == written) => (0, Some(Ending::Torn)),
            _ if bytes.iter().all(|byte| *byte == 0) => (0, Some(Ending::Torn)),
            _ => (0, Some(Ending::Damaged)),
        };
        Self { bytes, segment, at, ending }
    }

    /// Bytes up to the end of the last good frame.
    pub(super) fn good(&self) -> usize {
        self.at
    }

    /// How it ended; meant for after the last frame.
    pub(super) fn ending(&self) -> Ending {
        self.ending.unwrap_or(Ending::Clean)
    }

    fn read(&mut self) -> Result<(usize, Record), Ending> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return Err(Ending::Clean);
        }
        if rest.iter().take(64).all(|byte| *byte == 0) && rest.iter().all(|byte| *byte == 0) {
            return Err(Ending::Torn);
        }
        let mut fields = Fields(rest);
        let (Some(length), Some(sum)) = (fields.take(), fields.take()) else { return Err(Ending::Torn) };
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        // A length that leads past the end cannot be told from a torn write; if it is a flipped bit, the file's tail is lost either way.
        let Some(body) = fields.0.get(..length) else { return Err(Ending::Torn) };
        let place = u32::try_from(self.at).unwrap_or(u32::MAX);
        let intact = checksum(self.segment, place, body) == u32::from_le_bytes(sum);
        let record = intact.then(|| Record::decode(body)).flatten().ok_or(Ending::Damaged)?;
        Ok((FRAME + length, record))
    }
}

impl Iterator for Scan<'_> {
    /// Place of the frame, its length, and what it says.
    type Item = (u32, u32, Record);

    fn next(&mut self) -> Option<Self::Item> {
        if self.ending.is_some() {
            return None;
        }
        match self.read() {
            Ok((length, record)) => {
                let found = (u32::try_from(self.at).ok()?, u32::try_from(length).ok()?, record);
                self.at += length;
                Some(found)
            }
            Err(ending) => {
                self.ending = Some(ending);
                None
            }
        }
    }
}

/// The one record in the bytes of a frame that stood at `place`.
pub(super) fn decode_frame(bytes: &[u8], segment: u32, place: u32) -> Option<Record> {
    let mut fields = Fields(bytes);
    let length = usize::try_from(u32::from_le_bytes(fields.take()?)).ok()?;
    let sum = u32::from_le_bytes(fields.take()?);
    let body = fields.0;
    (body.len() == length && checksum(segment, place, body) == sum).then(|| Record::decode(body)).flatten()
}

/// Reads bytes as a segment, as frames behind a good header, and as the body of one record behind a good checksum; what
/// that one says is written again and reads as the same.
#[cfg(any(test, fuzzing))]
pub fn read_segment(bytes: &[u8]) {
    let framed = [&header(1)[..], bytes].concat();
    let mut index = super::index::Index::default();
    let mut read = |bytes: &[u8]| -> Vec<Record> {
        let mut scan = Scan::new(bytes, 1);
        let mut records = Vec::new();
        for (place, length, record) in scan.by_ref() {
            index.apply(&record, super::index::Location { segment: 1, place, length });
            records.push(record);
        }
        assert!(scan.good() <= bytes.len());
        records
    };
    read(bytes);
    read(&framed);
    if let Some(record) = Record::decode(bytes) {
        let mut segment = header(1).to_vec();
        record.encode(1, 0, &mut segment);
        assert_eq!(read(&segment), [record]);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Records of all kinds about few tasks.
    pub(in super::super) fn records() -> impl Strategy<Value = Vec<Record>> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        let one = (0u8..9, 0u128..5, bytes(), any::<i64>(), 0u32..4).prop_map(|(kind, id, bytes, time, attempt)| {
            let id = TaskId(Uuid::from_u128(id));
            match kind {
                0 => Record::Task(StoredTask {
                    id,
                    expires_at: Timestamp::from_micros(time),
                    not_before: Timestamp::from_micros(time / 2),
                    started: attempt,
                    attempts: (0..attempt).map(|attempt| AttemptError { attempt, errnr: 1, errmsg: "é\n".into() }).collect(),
                    deadline: (attempt > 1).then(|| Deadline { boot: Uuid::from_u128(9), micros: 77 }),
                    restarting: (attempt > 2).then(|| Bytes::from_static(b"null")),
                    message: bytes,
                }),
                1 => Record::Started { id, attempt },
                2 => Record::Outcome { id, report: bytes },
                3 => Record::Canceled { id, report: bytes },
                4 => Record::Reported { id },
                5 => Record::Parked { id },
                6 => Record::Moved { id },
                _ => Record::Digest(Digest {
                    id,
                    task_type: (kind == 7).then(|| "worker".parse().expect("a type")),
                    age: attempt,
                    end: match attempt {
                        0 => DigestEnd::Finished { errnr: 3, attempt: 4, run: (kind == 7).then_some(Uuid::from_u128(7)) },
                        1 => DigestEnd::Canceled,
                        2 => DigestEnd::Parked,
                        _ => DigestEnd::Unknown,
                    },
                    attempts: (0..attempt).map(|attempt| (attempt, 71)).collect(),
                }),
            }
        });
        proptest::collection::vec(one, 0..12)
    }

    fn segment(number: u32, records: &[Record]) -> Vec<u8> {
        let mut bytes = header(number).to_vec();
        for record in records {
            record.encode(number, 0, &mut bytes);
        }
        bytes
    }

    fn read(bytes: &[u8], number: u32) -> (Vec<Record>, Ending) {
        let mut scan = Scan::new(bytes, number);
        let records = scan.by_ref().map(|(_, _, record)| record).collect();
        (records, scan.ending())
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(records in records()) {
            prop_assert_eq!(read(&segment(7, &records), 7), (records, Ending::Clean));
        }

        #[test]
        fn a_cut_leaves_a_beginning(records in records()) {
            let bytes = segment(7, &records);
            for cut in 0..bytes.len() {
                let (found, ending) = read(&bytes[..cut], 7);
                prop_assert!(records.starts_with(&found));
                prop_assert!(ending != Ending::Damaged, "cut at {} of {}", cut, bytes.len());
            }
        }

        #[test]
        fn a_flipped_bit_leaves_a_beginning(records in records(), bit in 0u8..8) {
            let bytes = segment(7, &records);
            for place in 0..bytes.len() {
                let mut bytes = bytes.clone();
                bytes[place] ^= 1 << bit;
                let (found, ending) = read(&bytes, 7);
                prop_assert!(records.starts_with(&found));
                prop_assert!(ending != Ending::Clean);
            }
        }

        #[test]
        fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, 1);
            let framed = [&header(1)[..], &bytes].concat();
            let _ = (read(&framed, 1), decode_frame(&bytes, 1, 0));
            read_segment(&bytes);
        }
    }

    #[test]
    fn frames_of_another_segment_are_strangers() {
        let records = [Record::Reported { id: TaskId::new() }];
        let mut bytes = segment(1, &records);
        bytes[..HEADER].copy_from_slice(&header(2));
        assert_eq!(read(&bytes, 2), (vec![], Ending::Damaged));
    }
}
