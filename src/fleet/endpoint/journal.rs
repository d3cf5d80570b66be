//! The endpoint's memory on disk: what it was asked to do and what came of it.
//!
//! Owns a directory of append-only segments, two threads (one writes, one synchronises) and an index in
//! memory. Promises: what [`Journal::take`] and [`Journal::keep`] have answered survives `kill -9` and the
//! loss of power; opening it never fails because of what a crash left behind; memory does not grow with
//! messages or reports. Gives up: what a disk destroys behind our back (it is noticed, said and left out;
//! what lies behind it in the same file is read).
//!
//! Writing and synchronising overlap: while one `fdatasync` runs the next records are written, and all who
//! wait are answered together by the next one.

mod adopt;
mod error;
mod index;
mod lock;
mod record;
mod segments;
mod sync;
#[cfg(test)]
mod tests;

pub use error::JournalError;
pub use index::State;
#[cfg(fuzzing)]
pub use record::read_segment;
pub use record::{Deadline, Digest, Record, StoredTask};
pub use segments::{Damage, Options};

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, mpsc as blocking};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::domain::{AttemptError, ReasonCode, TaskId, TaskType};
use index::{Index, locked};
use lock::{lock, sign};
use segments::Segments;
use sync::{SyncState, Wait, synchronise};

/// Orders that wait for the writer; more wait with whoever sends them.
const ORDERS: usize = 1024;

/// Records that are written in one piece at most.
const GROUP: usize = 1024;

/// How often old segments are looked for while there is room.
const LOOK_FOR_OLD: Duration = Duration::from_secs(60);

/// How often everything is moved forward while tasks that have ended leave no room: it copies all that is
/// there.
const RENEW: Duration = Duration::from_secs(300);

/// The wait after a write error.
const RETRY: Backoff = Backoff { first: Duration::from_millis(200), max: Duration::from_secs(5) };

/// Tries to write what must not be lost, once there is no time left for it.
const LAST_TRIES: u32 = 3;

/// Whether there is room.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Health {
    /// Tasks are taken.
    #[default]
    Room,
    /// No more tasks are taken; those that were taken go on.
    Full,
    /// No more tasks are taken, since those that have ended leave no room: each must be remembered for its
    /// time, or it could run twice.
    Crowded {
        /// For how long.
        remember: Duration,
        /// Whether it is their number that is too large, and not their size on disk.
        number: bool,
    },
    /// Nothing more is started either, until reports have gone out.
    Over,
    /// The disk does not take what is written.
    Failing {
        /// What the system said.
        reason: String,
    },
}

impl Health {
    /// Why no tasks are taken, for people; `None` when they are.
    pub fn trouble(&self) -> Option<String> {
        let full = |text: String| Some(ReasonCode::JournalFull.told(text));
        match self {
            Self::Room => None,
            Self::Full | Self::Over => {
                full("the journal is full: no tasks are taken until reports have gone out".to_owned())
            }
            Self::Crowded { remember, number: false } => full(format!(
                "the journal is full of ended tasks, which are remembered for {remember:?} so that none runs twice: no tasks are taken; raise \
                 endpoint.journal_limit"
            )),
            Self::Crowded { remember, number: true } => full(format!(
                "more tasks have ended than can be remembered for {remember:?}, which none may run twice in: no tasks are taken for some \
                 minutes; perform fewer tasks with this endpoint, or let them expire sooner and lower endpoint.remember"
            )),
            Self::Failing { reason } => {
                Some(ReasonCode::JournalFailing.told(format!("the journal cannot be written: {reason}")))
            }
        }
    }
}

/// What a journal has of a task that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The encoded report.
    Report(Bytes),
    /// What is left of it.
    Digest(Digest),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// On disk, or refused when there is no room for tasks.
    Take,
    /// On disk.
    Keep,
    /// On disk; nobody waits for it.
    Probe,
    /// Nothing is written: whether the files are still there.
    Look,
    /// In the file, safe from the end of this process; on disk soon.
    Note,
    /// The end.
    Close,
}

/// What is written to see whether the disk takes anything again: says nothing about nobody.
const PROBE: Record = Record::Reported { id: TaskId(Uuid::nil()) };

struct Order {
    records: Vec<Record>,
    wish: Wish,
    done: oneshot::Sender<Result<(), JournalError>>,
}

/// A shared journal; clones are the same one. Closed when the last is dropped.
#[derive(Debug, Clone)]
pub struct Journal {
    dir: Arc<Path>,
    index: Arc<Mutex<Index>>,
    orders: mpsc::Sender<Order>,
    health: watch::Receiver<Health>,
}

impl Journal {
    /// Opens or creates the journal in a directory, for this process alone, and takes over what is left of
    /// these types in the directories beside it. With no types it minds its own.
    ///
    /// # Errors
    /// [`JournalError::InUse`] and [`JournalError::Open`].
    pub fn open(
        dir: &Path,
        options: Options,
        types: &[&TaskType],
    ) -> Result<(Self, Vec<Damage>), JournalError> {
        let failed = JournalError::open(dir);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(&failed)?;
        let _alone = (!types.is_empty()).then(|| adopt::alone(dir)).transpose()?;
        let lock = lock(dir)?;
        sign(&lock, types);
        let mut index = Index::default();
        let (mut segments, mut damages) = Segments::open(dir, options, &mut index).map_err(&failed)?;
        let index = Arc::new(Mutex::new(index));
        if !types.is_empty() {
            let mut heir = adopt::Heir { dir, types, options, segments: &mut segments, index: &index };
            damages.extend(heir.take_over()?);
        }
        let (orders, queue) = mpsc::channel(ORDERS);
        let (say, health) = watch::channel(Health::Room);
        let writer = Writer {
            sync: segments.sync_state(),
            segments,
            options,
            index: index.clone(),
            health: say,
            looked: None,
            renewed: Instant::now(),
            asks_turned: Instant::now(),
            full: false,
            orders: orders.downgrade(),
            probing: false,
        };
        thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run(queue, lock))
            .map_err(&failed)?;
        Ok((Self { dir: dir.into(), index, orders, health }, damages))
    }

    /// Puts tasks on disk. Answers when they are there.
    ///
    /// # Errors
    /// [`JournalError::Full`] and [`JournalError::Write`]: nothing was promised, ask again later.
    pub async fn take(&self, records: Vec<Record>) -> Result<(), JournalError> {
        self.order(records, Wish::Take).await
    }

    /// Puts on disk what must not be lost, however long it takes, and whether or not there is room for more
    /// tasks.
    ///
    /// # Errors
    /// [`JournalError::Closed`] alone.
    pub async fn keep(&self, records: Vec<Record>) -> Result<(), JournalError> {
        self.keep_until(records, &CancellationToken::new()).await
    }

    /// As [`Self::keep`], but only a few more tries once this has fired.
    ///
    /// # Errors
    /// [`JournalError::Closed`], and then [`JournalError::Write`].
    pub async fn keep_until(
        &self,
        records: Vec<Record>,
        over: &CancellationToken,
    ) -> Result<(), JournalError> {
        self.insist(records, Wish::Keep, over).await
    }

    /// Writes what the end of this process must not undo, without waiting for the disk.
    ///
    /// # Errors
    /// [`JournalError::Write`] and [`JournalError::Closed`].
    pub async fn note(&self, records: Vec<Record>) -> Result<(), JournalError> {
        self.order(records, Wish::Note).await
    }

    /// As [`Self::note`], however long it takes, but only a few more tries once this has fired.
    ///
    /// # Errors
    /// [`JournalError::Closed`], and then [`JournalError::Write`].
    pub async fn note_until(
        &self,
        records: Vec<Record>,
        over: &CancellationToken,
    ) -> Result<(), JournalError> {
        self.insist(records, Wish::Note, over).await
    }

    async fn insist(
        &self,
        records: Vec<Record>,
        wish: Wish,
        over: &CancellationToken,
    ) -> Result<(), JournalError> {
        let (mut failures, mut left) = (0u32, LAST_TRIES);
        loop {
            match self.order(records.clone(), wish).await {
                Err(error @ JournalError::Write(_)) => {
                    failures = failures.saturating_add(1);
                    if over.is_cancelled() {
                        left -= 1;
                        if left == 0 {
                            return Err(error);
                        }
                    }
                    tokio::time::sleep(RETRY.jittered(failures)).await;
                }
                other => return other,
            }
        }
    }

    /// Has the writer look whether the files are still there, which it does before each write too. What it
    /// finds is in [`Self::health`] then.
    pub fn look(&self) {
        let done = oneshot::channel().0;
        // One that has much to write looks anyway.
        _ = self.orders.try_send(Order { records: Vec::new(), wish: Wish::Look, done });
    }

    async fn order(&self, records: Vec<Record>, wish: Wish) -> Result<(), JournalError> {
        let (done, answer) = oneshot::channel();
        self.orders.send(Order { records, wish, done }).await.map_err(|_| JournalError::Closed)?;
        answer.await.unwrap_or(Err(JournalError::Closed))
    }

    /// Where a task stands; `None` for one that was never heard of, or long ago.
    pub fn state(&self, id: TaskId) -> Option<State> {
        self.index().state(id)
    }

    /// Tasks that are to be performed, oldest first.
    pub fn pending(&self) -> Vec<TaskId> {
        self.index().ids(|state| matches!(state, State::Pending { .. }))
    }

    /// Tasks that have ended without the broker knowing, oldest first.
    pub fn unreported(&self) -> Vec<TaskId> {
        self.index().ids(|state| {
            matches!(state, State::Finished { reported: false } | State::Canceled { reported: false })
        })
    }

    /// A task that is to be performed. Reads from disk: not for an async worker.
    ///
    /// # Errors
    /// [`JournalError::Read`].
    pub fn read_task(&self, id: TaskId) -> Result<Option<StoredTask>, JournalError> {
        let record = self.read(id)?;
        Ok(record.and_then(|(record, state)| match (record, state) {
            (Record::Task(task), State::Pending { started }) => Some(StoredTask { started, ..task }),
            _ => None,
        }))
    }

    /// What earlier attempts of a parked task died of; `None` for a task that is not parked. Reads from disk:
    /// not for an async worker.
    ///
    /// # Errors
    /// [`JournalError::Read`].
    pub fn read_attempts(&self, id: TaskId) -> Result<Option<Vec<AttemptError>>, JournalError> {
        let record = self.read(id)?;
        Ok(record.and_then(|(record, state)| match (record, state) {
            (Record::Task(task), State::Parked) => Some(task.attempts),
            (Record::Digest(digest), State::Parked) => Some(digest.attempt_errors()),
            _ => None,
        }))
    }

    /// What there is to report of a task that has ended. Reads from disk: not for an async worker.
    ///
    /// # Errors
    /// [`JournalError::Read`].
    pub fn read_end(&self, id: TaskId) -> Result<Option<Ended>, JournalError> {
        let record = self.read(id)?;
        Ok(record.and_then(|(record, state)| match record {
            Record::Outcome { report, .. } | Record::Canceled { report, .. } => Some(Ended::Report(report)),
            Record::Digest(digest) if !matches!(state, State::Parked | State::Unknown) => {
                Some(Ended::Digest(digest))
            }
            _ => None,
        }))
    }

    /// Notes that the API has asked for a task that has ended: it is not forgotten before its time.
    pub fn ask(&self, id: TaskId) {
        self.index().ask(id);
    }

    fn read(&self, id: TaskId) -> Result<Option<(Record, State)>, JournalError> {
        // Its segment may be dropped between the look at the index and the look at the file: it has moved
        // then.
        let mut tries = 0;
        loop {
            let Some((at, state)) = ({
                let index = self.index();
                index.location(id).zip(index.state(id))
            }) else {
                return Ok(None);
            };
            match Segments::read_frame(&self.dir, at) {
                Ok(Some(record)) => return Ok(Some((record, state))),
                Ok(None) => return Err(JournalError::Read(io::ErrorKind::InvalidData.into())),
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < 10 => tries += 1,
                Err(error) => return Err(JournalError::Read(error)),
            }
        }
    }

    /// Whether there is room, now and later.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Finishes what was ordered before and frees the directory. All clones find it closed from then on.
    pub async fn close(&self) {
        let _ = self.order(Vec::new(), Wish::Close).await;
        let mut health = self.health.clone();
        while health.changed().await.is_ok() {}
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        locked(&self.index)
    }
}

/// The writing thread.
struct Writer {
    segments: Segments,
    options: Options,
    index: Arc<Mutex<Index>>,
    health: watch::Sender<Health>,
    sync: Arc<SyncState>,
    looked: Option<Instant>,
    /// When everything was moved forward last.
    renewed: Instant,
    /// When asks were last begun to be noted anew.
    asks_turned: Instant,
    /// Whether a task was refused.
    full: bool,
    /// Our own door, for probes.
    orders: mpsc::WeakSender<Order>,
    /// Whether a probe is on its way.
    probing: bool,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Order>, lock: File) {
        let (waits, to_sync) = blocking::sync_channel::<Wait>(ORDERS);
        let state = self.sync.clone();
        let syncer =
            thread::Builder::new().name("journal-sync".into()).spawn(move || synchronise(&to_sync, &state));
        let Ok(syncer) = syncer else { return };
        self.maintain();
        while let Some(first) = queue.blocking_recv() {
            let mut orders = vec![first];
            let mut records = orders[0].records.len();
            while records < GROUP
                && let Ok(order) = queue.try_recv()
            {
                records += order.records.len();
                orders.push(order);
            }
            let closing = orders.iter().any(|order| order.wish == Wish::Close);
            if self.write(orders, &waits) {
                self.maintain();
            }
            if closing {
                break;
            }
        }
        drop(queue);
        drop(waits);
        let _ = syncer.join();
        // Freed before the last handle on `health` goes: that is what `close` waits for.
        drop(lock);
    }

    /// Whether the file took it.
    fn write(&mut self, mut orders: Vec<Order>, waits: &blocking::SyncSender<Wait>) -> bool {
        if let Some(number) = self.sync.take_failed() {
            self.segments.abandon(number);
        }
        if orders.iter().any(|order| order.wish == Wish::Probe) {
            self.probing = false;
        }
        // Who asks nothing of the disk is not refused for its sake.
        let asks = |order: &Order| order.wish == Wish::Look || !order.records.is_empty();
        if orders.iter().any(asks)
            && let Err(error) = self.segments.intact()
        {
            return self.refuse(orders, error);
        }
        let mut bytes = self.segments.bytes();
        let limit = self.options.taking_limit();
        let too_many = locked(&self.index).remembered() > self.options.remember_at_most;
        let refused = orders.extract_if(.., |order| {
            let more: u64 = order.records.iter().map(Record::size).sum();
            let refuse = order.wish == Wish::Take && (bytes + more > limit || too_many);
            bytes += if refuse { 0 } else { more };
            self.full |= refuse;
            refuse
        });
        for order in refused {
            let _ = order.done.send(Err(JournalError::Full));
        }
        let records: Vec<Record> = orders.iter_mut().flat_map(|order| order.records.drain(..)).collect();
        if records.is_empty() {
            for order in orders {
                let _ = order.done.send(Ok(()));
            }
            // Nothing was asked of the disk: if it takes nothing, that is still so.
            return !matches!(*self.health.borrow(), Health::Failing { .. });
        }
        // That an attempt has begun is not waited for, but it is not left lying either: a handler may bring
        // the machine down.
        let sync_anyway = records.iter().any(|record| matches!(record, Record::Started { .. }));
        match self.segments.append(&records, &self.index) {
            Ok(written) => {
                let (noted, waiting): (Vec<_>, Vec<_>) =
                    orders.into_iter().partition(|order| order.wish == Wish::Note);
                for order in noted {
                    let _ = order.done.send(Ok(()));
                }
                if sync_anyway || !waiting.is_empty() {
                    let _ = waits.send((written, waiting.into_iter().map(|order| order.done).collect()));
                }
                true
            }
            Err(error) => self.refuse(orders, error),
        }
    }

    /// Nothing of this is written.
    fn refuse(&mut self, orders: Vec<Order>, error: io::Error) -> bool {
        self.fail(&error);
        let error = Arc::new(error);
        for order in orders {
            let _ = order.done.send(Err(JournalError::Write(error.clone())));
        }
        false
    }

    /// Frees what can be freed and says how things are.
    fn maintain(&mut self) {
        if self.asks_turned.elapsed() > self.options.quiet {
            self.asks_turned = Instant::now();
            locked(&self.index).turn_asks();
        }
        let too_many = locked(&self.index).remembered() > self.options.remember_gladly();
        let crowded = self.segments.bytes() > self.options.limit / 4 * 3;
        let due = self.looked.is_none_or(|looked| looked.elapsed() > LOOK_FOR_OLD);
        if crowded || too_many || due {
            self.looked = Some(Instant::now());
            if let Err(error) = self.segments.reclaim(&self.index) {
                return self.fail(&error);
            }
        }
        let mut health = self.health_now();
        if matches!(health, Health::Crowded { .. })
            && self.renewed.elapsed() > RENEW.min(self.options.remember / 4)
        {
            self.renewed = Instant::now();
            if let Err(error) = self.segments.renew(&self.index) {
                return self.fail(&error);
            }
            health = self.health_now();
        }
        self.full &= !matches!(health, Health::Room);
        self.say(health);
    }

    fn health_now(&self) -> Health {
        if let Some(reason) = self.sync.error() {
            return Health::Failing { reason };
        }
        let Options { limit, remember, remember_at_most, .. } = self.options;
        let bytes = self.segments.bytes();
        let (live, digested, remembered, unreported) = {
            let index = locked(&self.index);
            (index.live_bytes(), index.digested_bytes(), index.remembered(), index.unreported())
        };
        match self.full {
            // With nothing to report, only starting what waits can make room.
            _ if bytes >= limit && unreported > 0 => Health::Over,
            true if remembered > remember_at_most => Health::Crowded { remember, number: true },
            true if digested > live && bytes > self.options.crowded_limit() => {
                Health::Crowded { remember, number: false }
            }
            true if digested <= live && bytes > limit / 4 * 3 => Health::Full,
            _ => Health::Room,
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.say(Health::Failing { reason: error.to_string() });
    }

    /// An endpoint with nothing to do must not say for ever that there is no room: nobody else would look
    /// again.
    fn probe_later(&mut self) {
        let orders = self.orders.clone();
        let probe = move || {
            thread::sleep(RETRY.max);
            if let Some(orders) = orders.upgrade() {
                let _ = orders.blocking_send(Order {
                    records: vec![PROBE],
                    wish: Wish::Probe,
                    done: oneshot::channel().0,
                });
            }
        };
        self.probing = thread::Builder::new().name("journal-probe".into()).spawn(probe).is_ok();
    }

    fn say(&mut self, health: Health) {
        if matches!(health, Health::Failing { .. } | Health::Crowded { .. }) && !self.probing {
            self.probe_later();
        }
        self.health.send_if_modified(|current| {
            let changed = *current != health;
            if changed {
                match &health {
                    Health::Room => tracing::info!("the journal has room again"),
                    Health::Failing { reason: why } => {
                        let code = ReasonCode::JournalFailing;
                        tracing::error!(reason = %code, why, "the journal cannot be written: no tasks are accepted")
                    }
                    other => {
                        let trouble = other.trouble().unwrap_or_default();
                        tracing::warn!(reason = %ReasonCode::of_trouble(&trouble), "{trouble}");
                    }
                }
                *current = health;
            }
            changed
        });
    }
}
