//! The bytes of the journal.
//!
//! A segment is a header of 16 bytes followed by frames: length (u32), CRC-32 (u32), body. All numbers are
//! little endian. The checksum covers the segment's number, the frame's place and the body, so that a frame
//! that a disk returns from another place is as wrong as a flipped bit.

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

/// The kinds of records.
const KINDS: std::ops::RangeInclusive<u8> = 1..=9;

/// One thing the endpoint must not forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A task to perform, with all that is known about it. A later one replaces an earlier one, so that each
    /// retry and each move to a younger segment leaves one record that says everything.
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
    /// It looks expired: not to be performed unless the API asks for it again. Kept as long as what has
    /// ended.
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
    /// How many seconds it had been remembered when this was written: a copy is not younger than what it was
    /// copied from.
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
    /// It was canceled, and the broker has the report.
    Canceled,
    /// It has not ended; it goes on when it is asked for.
    Parked,
    /// The disk destroyed the record that said so.
    Unknown,
}

/// The error text of what ended so long ago, or among so many, that its answer was dropped.
const ANSWER_DROPPED: &str =
    "the endpoint dropped the answer for want of room in its journal (endpoint.journal_limit)";

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
                    Ok(Command::Task(task)) => Some(task.work.task_type),
                    _ => None,
                };
                digest(task_type, DigestEnd::Parked, pairs(&task.attempts))
            }
            Record::Outcome { report, .. } | Record::Canceled { report, .. } => {
                match wire::decode_report(report) {
                    Ok(report) => match report.event {
                        ReportEvent::Finished { errnr, attempt, attempts, run, .. } => digest(
                            Some(report.task_type),
                            DigestEnd::Finished { errnr, attempt, run },
                            pairs(&attempts),
                        ),
                        _ => digest(Some(report.task_type), DigestEnd::Canceled, Vec::new()),
                    },
                    Err(_) => digest(None, DigestEnd::Unknown, Vec::new()),
                }
            }
            _ => digest(None, DigestEnd::Unknown, Vec::new()),
        }
    }

    /// The attempts, with a text that says why theirs are gone.
    pub fn attempt_errors(&self) -> Vec<AttemptError> {
        let error =
            |&(attempt, errnr): &(u32, i32)| AttemptError { attempt, errnr, errmsg: TEXT_DROPPED.to_owned() };
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
        let task_type =
            if name.is_empty() { None } else { Some(std::str::from_utf8(name).ok()?.parse().ok()?) };
        fields.0 = more;
        let end = match kind {
            1 => {
                let (errnr, attempt) =
                    (i32::from_le_bytes(fields.take()?), u32::from_le_bytes(fields.take()?));
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
    /// When it is not worth starting any more, as the machine counts while it runs; none when an earlier
    /// version has written it.
    pub deadline: Option<Deadline>,
    /// The answer of the attempt that was started last, which said that it would end this process or this
    /// machine: JSON.
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
                task.message.len()
                    + restarting
                    + task.attempts.iter().map(|one| one.errmsg.len() + 64).sum::<usize>()
                    + 56
            }
            Self::Outcome { report, .. } | Self::Canceled { report, .. } => report.len(),
            Self::Digest(digest) => {
                digest.task_type.as_ref().map_or(0, |name| name.as_str().len())
                    + digest.attempts.len() * 8
                    + 30
            }
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
                    let (boot, micros) =
                        (Uuid::from_bytes(fields.take()?), u64::from_le_bytes(fields.take()?));
                    deadline = (!boot.is_nil()).then_some(Deadline { boot, micros });
                    let length = usize::try_from(u32::from_le_bytes(fields.take()?)).ok()?;
                    let (answer, rest) = fields.0.split_at_checked(length)?;
                    restarting = (!answer.is_empty()).then(|| Bytes::copy_from_slice(answer));
                    fields.0 = rest;
                }
                let (attempts, message) = fields.0.split_at_checked(length)?;
                let attempts =
                    if attempts.is_empty() { Vec::new() } else { serde_json::from_slice(attempts).ok()? };
                let message = Bytes::copy_from_slice(message);
                Self::Task(StoredTask {
                    id,
                    expires_at,
                    not_before,
                    started,
                    attempts,
                    deadline,
                    restarting,
                    message,
                })
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

/// How a segment could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// From the first byte of the file to the last.
    Clean,
    /// Up to the middle of a frame, or to nothing but zeros: what a crash leaves of a write that was never
    /// answered.
    Torn,
    /// With frames that are there in full and wrong, or that others follow: what was answered for is lost.
    Damaged,
}

/// What could not be read of a segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// Where the first place begins.
    pub(super) first: usize,
    /// How many places there are.
    pub(super) places: usize,
    /// How many bytes they have.
    pub(super) bytes: usize,
}

/// A frame as it was written.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) place: u32,
    pub(super) length: u32,
    pub(super) record: Record,
    /// Whether something before it in its segment could not be read.
    pub(super) after_damage: bool,
}

/// Reads the frames of one segment. Where one is not as it was written, reading goes on with the next one
/// that is.
pub(super) struct Scan<'a> {
    bytes: &'a [u8],
    segment: u32,
    at: usize,
    good: usize,
    unreadable: Unreadable,
    /// Whether there is a header, and it is wrong.
    beheaded: bool,
    ending: Option<Ending>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(bytes: &'a [u8], segment: u32) -> Self {
        let expected = header(segment);
        let scan = |at, beheaded, ending| Self {
            bytes,
            segment,
            at,
            good: at,
            unreadable: Unreadable::default(),
            beheaded,
            ending,
        };
        match bytes.get(..HEADER) {
            Some(head) if head == expected => scan(HEADER, false, None),
            None if bytes.iter().zip(expected).all(|(found, written)| *found == written) => {
                scan(0, false, Some(Ending::Torn))
            }
            _ if bytes.iter().all(|byte| *byte == 0) => scan(0, false, Some(Ending::Torn)),
            // Its frames may say something else in that version.
            Some(head) if is_of_another_version(head, segment) => {
                let unreadable = Unreadable { first: 0, places: 1, bytes: bytes.len() };
                Self { unreadable, ..scan(0, true, Some(Ending::Damaged)) }
            }
            _ => scan(0, true, None),
        }
    }

    /// Bytes up to the end of the last good frame.
    pub(super) fn good(&self) -> usize {
        self.good
    }

    /// How it ended; meant for after the last frame.
    pub(super) fn ending(&self) -> Ending {
        self.ending.unwrap_or(Ending::Clean)
    }

    /// What could not be read; meant for after the last frame.
    pub(super) fn unreadable(&self) -> Unreadable {
        self.unreadable
    }

    /// The frame that begins at a place.
    fn read(&self, at: usize) -> Result<(usize, Record), Ending> {
        let rest = self.bytes.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return Err(Ending::Clean);
        }
        if rest.iter().take(64).all(|byte| *byte == 0) && rest.iter().all(|byte| *byte == 0) {
            return Err(Ending::Torn);
        }
        let mut fields = Fields(rest);
        let (Some(length), Some(sum)) = (fields.take(), fields.take()) else { return Err(Ending::Torn) };
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        // A length that leads past the end cannot be told from a torn write, unless there are whole frames
        // behind it.
        let Some(body) = fields.0.get(..length) else { return Err(Ending::Torn) };
        let place = u32::try_from(at).unwrap_or(u32::MAX);
        let intact = checksum(self.segment, place, body) == u32::from_le_bytes(sum);
        let record = intact.then(|| Record::decode(body)).flatten().ok_or(Ending::Damaged)?;
        Ok((FRAME + length, record))
    }

    /// Where the next whole frame begins behind a place where none does. Every place is looked at, since the
    /// length there may be what is wrong. What a message or an answer contains is not taken for a frame: both
    /// are JSON, which has no zero bytes, and every length has one.
    fn next_whole(&self, at: usize) -> Option<usize> {
        (at + 1..self.bytes.len()).find(|at| self.may_begin(*at) && self.read(*at).is_ok())
    }

    /// Whether a frame may begin at a place, without a look at all of it: most places are ruled out so.
    fn may_begin(&self, at: usize) -> bool {
        let mut fields = Fields(&self.bytes[at..]);
        let (Some(length), Some(_sum)) = (fields.take().map(u32::from_le_bytes), fields.take::<4>()) else {
            return false;
        };
        let fits = usize::try_from(length).is_ok_and(|length| (BODY..=fields.0.len()).contains(&length));
        fits && fields.0.first().is_some_and(|kind| KINDS.contains(kind))
    }

    fn skip_to(&mut self, next: usize) {
        if self.unreadable.places == 0 {
            self.unreadable.first = self.at;
        }
        self.unreadable.places += 1;
        self.unreadable.bytes += next - self.at;
        self.at = next;
    }
}

impl Iterator for Scan<'_> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        if self.ending.is_some() {
            return None;
        }
        let mut read = self.read(self.at);
        if let Err(ending @ (Ending::Torn | Ending::Damaged)) = read {
            let next = self.next_whole(self.at);
            self.skip_to(next.unwrap_or(self.bytes.len()));
            let damaged = self.beheaded || self.unreadable.places > 1;
            read = next.map_or(Err(if damaged { Ending::Damaged } else { ending }), |next| self.read(next));
        }
        match read {
            Ok((length, record)) => {
                let (place, framed) = (u32::try_from(self.at).ok()?, u32::try_from(length).ok()?);
                self.at += length;
                self.good = self.at;
                Some(Frame { place, length: framed, record, after_damage: self.unreadable.places > 0 })
            }
            Err(Ending::Clean) if self.unreadable.places > 0 => {
                self.ending = Some(Ending::Damaged);
                None
            }
            Err(ending) => {
                self.ending = Some(ending);
                None
            }
        }
    }
}

/// Whether this is the header of a segment that another version of the program has written.
fn is_of_another_version(head: &[u8], segment: u32) -> bool {
    let (magic, rest) = head.split_at(MAGIC.len());
    let (number, sum) = rest.split_at(4);
    magic != MAGIC
        && magic[..7] == MAGIC[..7]
        && number == segment.to_le_bytes()
        && sum == checksum(segment, 0, magic).to_le_bytes()
}

/// The one record in the bytes of a frame that stood at `place`.
pub(super) fn decode_frame(bytes: &[u8], segment: u32, place: u32) -> Option<Record> {
    let mut fields = Fields(bytes);
    let length = usize::try_from(u32::from_le_bytes(fields.take()?)).ok()?;
    let sum = u32::from_le_bytes(fields.take()?);
    let body = fields.0;
    (body.len() == length && checksum(segment, place, body) == sum).then(|| Record::decode(body)).flatten()
}

/// Reads bytes as a segment, as frames behind a good header, and as the body of one record behind a good
/// checksum; what that one says is written again and reads as the same.
#[cfg(any(test, fuzzing))]
pub fn read_segment(bytes: &[u8]) {
    let framed = [&header(1)[..], bytes].concat();
    let mut index = super::index::Index::default();
    let mut read = |bytes: &[u8]| -> Vec<Record> {
        let mut scan = Scan::new(bytes, 1);
        let mut records = Vec::new();
        for Frame { place, length, record, .. } in scan.by_ref() {
            index.apply(&record, super::index::Location { segment: 1, place, length });
            records.push(record);
        }
        assert!(scan.good() <= bytes.len() && scan.unreadable().bytes <= bytes.len());
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
        let one = (0u8..9, 0u128..5, bytes(), any::<i64>(), 0u32..4).prop_map(
            |(kind, id, bytes, time, attempt)| {
                let id = TaskId(Uuid::from_u128(id));
                match kind {
                    0 => Record::Task(StoredTask {
                        id,
                        expires_at: Timestamp::from_micros(time),
                        not_before: Timestamp::from_micros(time / 2),
                        started: attempt,
                        attempts: (0..attempt)
                            .map(|attempt| AttemptError { attempt, errnr: 1, errmsg: "é\n".into() })
                            .collect(),
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
                            0 => DigestEnd::Finished {
                                errnr: 3,
                                attempt: 4,
                                run: (kind == 7).then_some(Uuid::from_u128(7)),
                            },
                            1 => DigestEnd::Canceled,
                            2 => DigestEnd::Parked,
                            _ => DigestEnd::Unknown,
                        },
                        attempts: (0..attempt).map(|attempt| (attempt, 71)).collect(),
                    }),
                }
            },
        );
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
        let records = scan.by_ref().map(|frame| frame.record).collect();
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
        fn flipped_bits_cost_the_record_that_they_are_in(records in records(), mask in 1u8..) {
            let bytes = segment(7, &records);
            for place in 0..bytes.len() {
                let mut bytes = bytes.clone();
                bytes[place] ^= mask;
                let hit = (0..records.len()).find(|hit| segment(7, &records[..=*hit]).len() > place).filter(|_| place >= HEADER);
                let others = records.iter().enumerate().filter(|(at, _)| Some(*at) != hit).map(|(_, record)| record.clone());
                let (found, ending) = read(&bytes, 7);
                prop_assert_eq!(found, others.collect::<Vec<_>>());
                prop_assert!(ending == Ending::Damaged || hit == records.len().checked_sub(1) && ending == Ending::Torn);
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
    fn a_frame_at_another_place_is_none() {
        let (id, other) = (TaskId::new(), TaskId::new());
        let mut inner = vec![0; 40];
        Record::Canceled { id: other, report: Bytes::from_static(b"{}") }.encode(7, 0, &mut inner);
        let records = [Record::Outcome { id, report: Bytes::from(inner) }, Record::Reported { id }];
        let mut bytes = segment(7, &records);
        bytes[HEADER + FRAME + 3] ^= 1;
        assert_eq!(read(&bytes, 7), (vec![records[1].clone()], Ending::Damaged));
    }

    #[test]
    fn another_version_s_frames_are_not_guessed_at() {
        let mut bytes = segment(7, &[Record::Reported { id: TaskId::new() }]);
        bytes[7] = 2;
        assert_eq!(read(&bytes, 7).0.len(), 1, "a flipped bit");
        let sum = checksum(7, 0, &bytes[..8]);
        bytes[12..HEADER].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(read(&bytes, 7), (vec![], Ending::Damaged));
    }

    #[test]
    fn frames_of_another_segment_are_strangers() {
        let records = [Record::Reported { id: TaskId::new() }];
        let mut bytes = segment(1, &records);
        bytes[..HEADER].copy_from_slice(&header(2));
        assert_eq!(read(&bytes, 2), (vec![], Ending::Damaged));
    }
}
