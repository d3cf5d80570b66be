//! The journal's files: appended to, read once at the start, dropped from the old end.
//!
//! A segment goes only when all older ones are gone. So a record is never lost before one that it overrules,
//! and reading what is left in order always leads to the state that was.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::index::{Index, Location, State, locked};
use super::record::{self, Digest, DigestEnd, Ending, Frame, HEADER, Record, Scan, StoredTask, Unreadable};
use super::sync::{SyncState, Written};

/// Bytes of records that are copied forward or answered for in one write.
pub(super) const BATCH: usize = 1 << 20;

/// Ended and parked tasks that are remembered at most, whatever room there is on disk: less than 90 MiB of
/// memory. A few more would double what the table of the index takes.
const REMEMBER_AT_MOST: usize = 1_800_000;

/// From when on a task may be forgotten before its time because there are too many: what ended so long ago,
/// with a report that the broker confirmed, and was not asked for since, the ledger knows of.
const QUIET: Duration = Duration::from_secs(15 * 60);

/// Tests look at every byte of several.
const SMALLEST_SEGMENT: u64 = if cfg!(test) { 256 } else { 16 << 10 };

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes on disk at which no more tasks are taken.
    pub limit: u64,
    /// How long tasks are remembered that have ended or were parked: counted while a process lives.
    pub remember: Duration,
    /// How many of them at most.
    pub remember_at_most: usize,
    /// From which age on they may be forgotten when there are more.
    pub quiet: Duration,
}

impl Options {
    /// With the usual bounds for memory.
    pub const fn new(limit: u64, remember: Duration) -> Self {
        Self { limit, remember, remember_at_most: REMEMBER_AT_MOST, quiet: QUIET }
    }

    /// How many tasks are remembered without looking for some that may be forgotten.
    pub(super) const fn remember_gladly(self) -> usize {
        self.remember_at_most - self.remember_at_most / 16
    }

    /// Bytes on disk from which on little room is worth much copying.
    pub(super) const fn crowded_limit(self) -> u64 {
        self.limit - self.limit / 8
    }

    /// Small enough that dropping one frees little at a time, large enough that few files are open.
    fn segment_bytes(self) -> u64 {
        (self.limit / 64).clamp(SMALLEST_SEGMENT, 4 << 20)
    }

    /// Bytes on disk up to which tasks are taken: the rest is for outcomes.
    pub(super) fn taking_limit(self) -> u64 {
        self.limit - self.limit / 16
    }
}

/// What was found wrong when the journal was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where the first place begins that could not be read.
    pub offset: u64,
    /// Bytes of all such places.
    pub lost: u64,
    /// How many there are; behind each but a torn end reading went on.
    pub places: usize,
    /// Whether it is what a crash leaves behind; otherwise records that were answered for may be gone.
    pub torn: bool,
}

#[derive(Debug)]
struct Sealed {
    number: u32,
    bytes: u64,
    /// When it was written to last, at the latest: when this process found it, if it is of an earlier one.
    /// The file's own time is of a clock that may have been moved since, and what is forgotten too early can
    /// be run twice.
    last_write: Instant,
    damaged: bool,
    /// Whether a synchronisation of it has failed, so that any of it may be missing on disk.
    unsure: bool,
}

/// The segment that is written to.
#[derive(Debug)]
struct Active {
    number: u32,
    file: Arc<File>,
    bytes: u64,
}

impl Active {
    fn written(&self) -> Written {
        Written { number: self.number, file: self.file.clone() }
    }
}

#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    /// Which directory that is: another one may take its place.
    identity: (u64, u64),
    options: Options,
    sealed: VecDeque<Sealed>,
    active: Option<Active>,
    next: u32,
    buffer: Vec<u8>,
    /// Whether a segment was damaged that has been read so far.
    damaged: bool,
    sync: Arc<SyncState>,
}

/// The file of a segment.
pub(super) fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:010}.journal"))
}

/// An error that others are told as well.
fn shared(error: Arc<io::Error>) -> io::Error {
    io::Error::new(error.kind(), error)
}

fn identity(of: &fs::Metadata) -> (u64, u64) {
    (of.dev(), of.ino())
}

fn same(path: &Path, wanted: (u64, u64)) -> io::Result<()> {
    let fault = match fs::metadata(path) {
        Ok(found) if identity(&found) == wanted => return Ok(()),
        Ok(_) => "was replaced",
        Err(error) if error.kind() == io::ErrorKind::NotFound => "is gone",
        Err(error) => return Err(error),
    };
    Err(io::Error::other(format!("{} {fault}: put it back, or restart the endpoint", path.display())))
}

fn numbers(dir: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number: Option<u32> = name
            .to_str()
            .and_then(|name| name.strip_suffix(".journal"))
            .and_then(|digits| digits.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A task with what is known of its start: the record that said so may be gone before the task itself moves
/// again.
fn with_start(record: Record, state: State) -> Record {
    match (record, state) {
        (Record::Task(task), State::Pending { started }) => Record::Task(StoredTask { started, ..task }),
        (record, _) => record,
    }
}

/// Rounded down: what is remembered a little longer does no harm.
fn seconds(age: Duration) -> u32 {
    u32::try_from(age.as_secs()).unwrap_or(u32::MAX)
}

impl Segments {
    /// Reads all that is there into the index.
    pub(super) fn open(dir: &Path, options: Options, index: &mut Index) -> io::Result<(Self, Vec<Damage>)> {
        let (sealed, buffer, identity) = (VecDeque::new(), Vec::new(), identity(&fs::metadata(dir)?));
        let mut segments = Self {
            dir: dir.to_owned(),
            identity,
            options,
            sealed,
            active: None,
            next: 1,
            buffer,
            damaged: false,
            sync: Arc::default(),
        };
        let mut damages = Vec::new();
        let numbers = numbers(dir)?;
        for (position, number) in numbers.iter().enumerate() {
            let last = position + 1 == numbers.len();
            damages.extend(segments.read(*number, last, index)?);
            segments.next = number.saturating_add(1);
        }
        File::open(dir)?.sync_all()?;
        Ok((segments, damages))
    }

    fn read(&mut self, number: u32, last: bool, index: &mut Index) -> io::Result<Option<Damage>> {
        let path = path(&self.dir, number);
        let bytes = fs::read(&path)?;
        let mut scan = Scan::new(&bytes, number);
        for Frame { place, length, record, after_damage } in scan.by_ref() {
            let at = Location { segment: number, place, length };
            match after_damage || self.damaged {
                true => index.apply_after_damage(&record, at),
                false => index.apply(&record, at),
            }
        }
        let (ending, Unreadable { first, places, bytes: lost }) = (scan.ending(), scan.unreadable());
        // What was lost here may be what a record in a later segment follows. Only the last one can be torn
        // by a crash.
        self.damaged |= ending == Ending::Damaged || ending == Ending::Torn && !last;
        let in_file = |bytes| u64::try_from(bytes).unwrap_or(u64::MAX);
        let (good, offset, lost) = (scan.good(), in_file(first), in_file(lost));
        if last {
            // It is counted on from now on, and the process that wrote it may have ended before it was on
            // disk.
            File::open(&path)?.sync_all()?;
        }
        let damage = (ending != Ending::Clean).then(|| Damage {
            path: path.clone(),
            offset,
            lost,
            places,
            torn: ending == Ending::Torn,
        });
        if ending != Ending::Damaged && good <= HEADER {
            // Nothing was ever answered for here.
            fs::remove_file(&path)?;
        } else if ending != Ending::Damaged && last && in_file(good) < self.options.segment_bytes() {
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            file.set_len(in_file(good))?;
            file.sync_all()?;
            self.active = Some(Active { number, file: Arc::new(file), bytes: in_file(good) });
        } else {
            let bytes = fs::metadata(&path)?.len();
            self.sealed.push_back(Sealed {
                number,
                bytes,
                last_write: Instant::now(),
                damaged: ending == Ending::Damaged,
                unsure: false,
            });
        }
        Ok(damage)
    }

    /// The state that the writer shares with the thread that synchronises these segments.
    pub(super) fn sync_state(&self) -> Arc<SyncState> {
        self.sync.clone()
    }

    /// Looks whether the directory and the file that is written to are still where they were: what is written
    /// to removed files is lost with this process.
    pub(super) fn intact(&self) -> io::Result<()> {
        same(&self.dir, self.identity)?;
        match &self.active {
            Some(active) => same(&path(&self.dir, active.number), identity(&active.file.metadata()?)),
            None => Ok(()),
        }
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.sealed.iter().map(|sealed| sealed.bytes).sum::<u64>()
            + self.active.as_ref().map_or(0, |active| active.bytes)
    }

    /// Writes records behind all others, in one piece. They are in the index when this answers, and on disk
    /// once the answered segment has been synchronised.
    pub(super) fn append(&mut self, records: &[Record], index: &Mutex<Index>) -> io::Result<Written> {
        let full = self.active.as_ref().is_some_and(|active| active.bytes >= self.options.segment_bytes());
        if full {
            self.seal()?;
        }
        let mut active = match self.active.take() {
            Some(active) => active,
            None => self.create()?,
        };
        let base = u32::try_from(active.bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.buffer.clear();
        let mut ends = Vec::with_capacity(records.len());
        for record in records {
            record.encode(active.number, base, &mut self.buffer);
            ends.push(self.buffer.len());
        }
        if let Err(error) = active.file.write_all_at(&self.buffer, active.bytes) {
            // What is half written must not stay in front of what comes next. If even this fails the segment
            // is left alone: reading it stops there, as after a crash.
            match active.file.set_len(active.bytes) {
                Ok(()) => self.active = Some(active),
                Err(_) => self.abandon_this(&active, true),
            }
            return Err(error);
        }
        let mut index = locked(index);
        let mut start = 0;
        for (record, end) in records.iter().zip(ends) {
            let (Ok(offset), Ok(length)) = (u32::try_from(start), u32::try_from(end - start)) else {
                continue;
            };
            index.apply(
                record,
                Location { segment: active.number, place: base.saturating_add(offset), length },
            );
            start = end;
        }
        active.bytes += u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
        self.buffer.shrink_to(BATCH);
        let written = active.written();
        self.active = Some(active);
        Ok(written)
    }

    /// Never writes to this segment again: after a failed synchronisation nobody knows what of it is on disk.
    pub(super) fn abandon(&mut self, number: u32) {
        if let Some(active) = self.active.take_if(|active| active.number == number) {
            self.abandon_this(&active, true);
        } else if let Some(sealed) = self.sealed.iter_mut().find(|sealed| sealed.number == number) {
            sealed.unsure = true;
        }
    }

    fn abandon_this(&mut self, active: &Active, unsure: bool) {
        self.sealed.push_back(Sealed {
            number: active.number,
            bytes: active.bytes,
            last_write: Instant::now(),
            damaged: false,
            unsure,
        });
    }

    /// Ends the active segment. It is synchronised first, so that only the last segment can have a torn end.
    fn seal(&mut self) -> io::Result<()> {
        let Some(active) = self.active.take() else { return Ok(()) };
        let synced = self.sync.sync(&active.written());
        self.abandon_this(&active, synced.is_err());
        synced.map_err(shared)
    }

    fn create(&mut self) -> io::Result<Active> {
        let number = self.next;
        let path = path(&self.dir, number);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let written = file.write_all_at(&record::header(number), 0).and_then(|()| file.sync_all());
        // Without this a power cut can take the whole file, however well its content was synchronised.
        let written = written.and_then(|()| File::open(&self.dir)?.sync_all());
        if let Err(error) = written {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.next = number.checked_add(1).ok_or(io::ErrorKind::StorageFull)?;
        Ok(Active { number, file: Arc::new(file), bytes: HEADER as u64 })
    }

    /// Drops old segments: those that nobody can ask about any more, and, where room is short, the oldest.
    /// What is still needed moves forward, and of what is remembered a digest.
    pub(super) fn reclaim(&mut self, index: &Mutex<Index>) -> io::Result<()> {
        // Each segment is looked at once: what moves forward must not be moved again in the same breath.
        for _ in 0..self.sealed.len() + 1 {
            let (needed, too_many) = {
                let index = locked(index);
                (
                    index.live_bytes() + index.digested_bytes(),
                    index.remembered() > self.options.remember_gladly(),
                )
            };
            let bytes = self.bytes();
            // The less room there is, the less is worth moving the rest for.
            let worth = match bytes {
                _ if bytes >= self.options.limit => bytes / 16,
                _ if bytes >= self.options.crowded_limit() => bytes / 8,
                _ => bytes / 2,
            };
            let short = bytes > self.options.limit / 4 * 3 && bytes.saturating_sub(needed) > worth;
            let Some(oldest) = self.sealed.front() else {
                if !short {
                    return Ok(());
                }
                self.seal()?;
                continue;
            };
            let age = oldest.last_write.elapsed();
            let over = age > self.options.remember || too_many && age > self.options.quiet;
            if !over && !short {
                return Ok(());
            }
            self.retire(oldest.number, index)?;
        }
        Ok(())
    }

    /// Moves all of what is there forward once, so that each task that may be forgotten by now is: digests of
    /// all ages lie in one segment.
    pub(super) fn renew(&mut self, index: &Mutex<Index>) -> io::Result<()> {
        self.seal()?;
        for _ in 0..self.sealed.len() {
            let Some(oldest) = self.sealed.front() else { break };
            self.retire(oldest.number, index)?;
        }
        Ok(())
    }

    /// Hands over every record that says where a task stands, oldest first.
    pub(super) fn each(
        &self,
        index: &Mutex<Index>,
        mut take: impl FnMut(Record, State) -> io::Result<()>,
    ) -> io::Result<()> {
        let numbers = self
            .sealed
            .iter()
            .map(|sealed| sealed.number)
            .chain(self.active.as_ref().map(|active| active.number));
        for number in numbers {
            let bytes = fs::read(path(&self.dir, number))?;
            for Frame { place, length, record, .. } in Scan::new(&bytes, number) {
                let state = locked(index).stands(record.id(), Location { segment: number, place, length });
                if let Some(state) = state {
                    take(with_start(record, state), state)?;
                }
            }
        }
        Ok(())
    }

    /// Puts all that was written on disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let Some(written) = self.active.as_ref().map(Active::written) else { return Ok(()) };
        let synced = self.sync.sync(&written);
        if synced.is_err() {
            self.abandon(written.number);
        }
        synced.map_err(shared)
    }

    /// Drops all segments, oldest first: nothing in them is needed any more.
    pub(super) fn clear(&mut self, index: &Mutex<Index>) -> io::Result<()> {
        self.seal()?;
        while let Some(oldest) = self.sealed.front() {
            self.retire(oldest.number, index)?;
        }
        Ok(())
    }

    /// Drops a segment. What is still needed of it is on disk in another one before.
    pub(super) fn retire(&mut self, number: u32, index: &Mutex<Index>) -> io::Result<()> {
        // What an earlier call has moved may lie where nobody knows what is on disk.
        let other = |sealed: &&Sealed| sealed.unsure && sealed.number != number;
        let unsure: Vec<u32> = self.sealed.iter().filter(other).map(|sealed| sealed.number).collect();
        for number in unsure.iter().chain([&number]) {
            self.move_forward(*number, index)?;
        }
        self.sync()?;
        for sealed in self.sealed.iter_mut().filter(|sealed| unsure.contains(&sealed.number)) {
            sealed.unsure = false;
        }
        let path = path(&self.dir, number);
        if self.sealed.iter().any(|sealed| sealed.number == number && sealed.damaged) {
            // For people to look at; nothing reads it again.
            fs::rename(&path, path.with_extension("damaged"))?;
        } else {
            fs::remove_file(&path)?;
        }
        // Not before it is gone: one that outlived younger ones would bring back what these have overruled.
        self.sealed.retain(|sealed| sealed.number != number);
        File::open(&self.dir)?.sync_all()
    }

    /// Writes what is still needed of a segment behind all others. It is on disk once the active segment has
    /// been synchronised.
    fn move_forward(&mut self, number: u32, index: &Mutex<Index>) -> io::Result<()> {
        let path = path(&self.dir, number);
        let bytes = fs::read(&path)?;
        let sealed = self.sealed.iter().find(|sealed| sealed.number == number);
        let since = sealed.map_or(Duration::ZERO, |sealed| sealed.last_write.elapsed());
        let mut forward = Vec::new();
        let mut size = 0;
        let mut scan = Scan::new(&bytes, number);
        for Frame { place, length, record, .. } in scan.by_ref() {
            let at = Location { segment: number, place, length };
            let Some(record) = self.still_needed(record, at, since, index) else { continue };
            size += usize::try_from(record.size()).unwrap_or(BATCH);
            forward.push(record);
            if size >= BATCH {
                self.append(&forward, index)?;
                forward.clear();
                size = 0;
            }
        }
        if !forward.is_empty() {
            self.append(&forward, index)?;
        }
        let mut damaged = scan.ending() == Ending::Damaged;
        if scan.ending() != Ending::Clean {
            // It could be read when the journal was opened and cannot be now. That these tasks were here must
            // not be forgotten with it.
            let lost = locked(index).lie_in(number);
            if !lost.is_empty() {
                damaged = true;
                tracing::error!(path = %path.display(), lost = lost.len(), "the journal is damaged: the outcome of these tasks is unknown");
                let (age, end) = (seconds(since), DigestEnd::Unknown);
                let unknown =
                    |id| Record::Digest(Digest { id, task_type: None, age, end, attempts: Vec::new() });
                self.append(&lost.into_iter().map(unknown).collect::<Vec<_>>(), index)?;
            }
        }
        if let Some(sealed) = self.sealed.iter_mut().find(|sealed| sealed.number == number) {
            sealed.damaged |= damaged;
        }
        Ok(())
    }

    /// What moves forward in place of a record that was written to last so long ago; nothing when nobody can
    /// ask for it any more.
    fn still_needed(
        &self,
        record: Record,
        at: Location,
        since: Duration,
        index: &Mutex<Index>,
    ) -> Option<Record> {
        let id = record.id();
        let mut index = locked(index);
        let state = index.stands(id, at)?;
        if state.is_live() {
            return Some(with_start(record, state));
        }
        let before = if let Record::Digest(digest) = &record { digest.age } else { 0 };
        let age = since.saturating_add(Duration::from_secs(before.into()));
        let too_many = index.remembered() > self.options.remember_gladly();
        if age > self.options.remember || too_many && age > self.options.quiet && index.is_settled(id) {
            index.forget(id, at);
            return None;
        }
        drop(index);
        Some(Record::Digest(Digest::of(&record, seconds(age))))
    }

    /// The bytes of one frame.
    pub(super) fn read_frame(dir: &Path, at: Location) -> io::Result<Option<Record>> {
        let mut bytes = vec![0; usize::try_from(at.length).unwrap_or(0)];
        File::open(path(dir, at.segment))?.read_exact_at(&mut bytes, u64::from(at.place))?;
        Ok(record::decode_frame(&bytes, at.segment, at.place))
    }
}
