//! A launched list: its completions as a stream, its progress, and the ways to end it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{FusedStream, Stream};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::completion::{AttemptSummary, Completion, Response, Timings, Trust};
use super::engine::Engine;
use super::error::{CancelledBy, TaskError};
use super::task::{Task, TaskId};
use super::task_list::TaskList;

/// How far a batch is. `total` is the sum of all the others but `bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Tasks of the list.
    pub total: usize,
    /// Left out.
    pub skipped: usize,
    /// Waiting for a slot for the first time; also waiting for a worker, when the calls are made elsewhere.
    pub queued: usize,
    /// Holding a slot, or being performed elsewhere.
    pub running: usize,
    /// Waiting before another attempt, or for a slot for it.
    pub waiting: usize,
    /// Ended with a response.
    pub ok: usize,
    /// Ended without.
    pub failed: usize,
    /// Ended by somebody.
    pub cancelled: usize,
    /// Bytes of all bodies so far.
    pub bytes: u64,
}

impl Progress {
    /// Whether something is still to come.
    pub const fn is_running(&self) -> bool {
        self.queued + self.running + self.waiting > 0
    }
}

/// What a task has become, before it gets its tag back.
pub(super) struct Finish {
    index: u32,
    result: Result<Response, TaskError>,
    record: Record,
}

/// What is known of a task on its way.
pub(super) struct Record {
    pub(super) attempts: u32,
    pub(super) history: Vec<AttemptSummary>,
    pub(super) timings: Timings,
    pub(super) trust: Trust,
    pub(super) worker: Option<Arc<str>>,
}

impl Record {
    const fn new(created: std::time::SystemTime) -> Self {
        Self { attempts: 0, history: Vec::new(), timings: Timings::new(created), trust: Trust::Plain, worker: None }
    }
}

/// What the tasks of a batch share.
pub(super) struct BatchCore {
    pub(super) engine: Arc<Engine>,
    pub(super) tasks: Vec<Task>,
    pub(super) launched: Instant,
    progress: watch::Sender<Progress>,
    finishes: mpsc::UnboundedSender<Finish>,
    live: Mutex<Live>,
}

struct Live {
    states: Vec<State>,
    /// Set once: whoever ends it first has ended it.
    ended: Option<End>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Cancelled(CancelledBy),
    ShutDown,
}

enum State {
    /// Not started, or left out.
    Queued,
    Running(AbortHandle),
    /// Asked to end while it was being started.
    Cancelled,
    Done,
}

/// Where a task is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Queued,
    Running,
    Waiting,
}

impl Stage {
    fn of(self, progress: &mut Progress) -> &mut usize {
        match self {
            Self::Queued => &mut progress.queued,
            Self::Running => &mut progress.running,
            Self::Waiting => &mut progress.waiting,
        }
    }
}

/// A task on its way. Whatever happens to it, dropping it completes it: exactly one completion comes of every job.
pub(super) struct Job {
    batch: Arc<BatchCore>,
    index: u32,
    stage: Stage,
    done: bool,
    pub(super) record: Record,
}

impl Job {
    pub(super) fn new(batch: Arc<BatchCore>, index: u32) -> Self {
        let record = Record::new(batch.tasks[index as usize].created);
        batch.engine.begin_job();
        Self { batch, index, stage: Stage::Queued, done: false, record }
    }

    pub(super) const fn batch(&self) -> &Arc<BatchCore> {
        &self.batch
    }

    pub(super) const fn index(&self) -> u32 {
        self.index
    }

    pub(super) fn is_of(&self, batch: &Arc<BatchCore>) -> bool {
        Arc::ptr_eq(&self.batch, batch)
    }

    pub(super) fn task(&self) -> &Task {
        &self.batch.tasks[self.index as usize]
    }

    /// Counts it elsewhere.
    pub(super) fn move_to(&mut self, stage: Stage) {
        let before = std::mem::replace(&mut self.stage, stage);
        if before != stage {
            self.batch.progress.send_modify(|progress| {
                *before.of(progress) -= 1;
                *stage.of(progress) += 1;
            });
        }
    }

    /// Completes it.
    pub(super) fn finish(mut self, result: Result<Response, TaskError>) {
        self.deliver(result);
    }

    fn deliver(&mut self, result: Result<Response, TaskError>) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        if let Some(state) = self.batch.live().states.get_mut(self.index as usize) {
            *state = State::Done;
        }
        let bytes = body_of(&result);
        let stage = self.stage;
        self.batch.progress.send_modify(|progress| {
            *stage.of(progress) -= 1;
            match &result {
                Ok(_) => progress.ok += 1,
                Err(error) if error.is_cancelled() => progress.cancelled += 1,
                Err(_) => progress.failed += 1,
            }
            progress.bytes += bytes as u64;
        });
        let none = Record::new(self.record.timings.created);
        let record = std::mem::replace(&mut self.record, none);
        // Counted first, since it could be taken at once.
        self.batch.engine.buffered(bytes);
        if self.batch.finishes.send(Finish { index: self.index, result, record }).is_err() {
            self.batch.engine.taken(bytes);
        }
        self.batch.engine.end_job();
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let error = if std::thread::panicking() { TaskError::Panicked } else { self.batch.reason(self.index) };
        self.deliver(Err(error));
    }
}

/// What a completion keeps in memory until it is taken.
fn body_of(result: &Result<Response, TaskError>) -> usize {
    match result {
        Ok(response) => response.body.len(),
        Err(error) => error.last_response().map_or(0, |response| response.body.len()),
    }
}

impl BatchCore {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers how to end a task that was just started.
    pub(super) fn started(&self, index: u32, handle: AbortHandle) {
        let mut live = self.live();
        let ended = live.ended.is_some();
        match live.states.get_mut(index as usize) {
            Some(State::Done) | None => {}
            Some(State::Cancelled) => handle.abort(),
            Some(_) if ended => handle.abort(),
            Some(state) => *state = State::Running(handle),
        }
    }

    fn reason(&self, index: u32) -> TaskError {
        let live = self.live();
        match live.ended {
            Some(End::ShutDown) => TaskError::ShutDown,
            Some(End::Cancelled(by)) => TaskError::Cancelled { by },
            None if self.engine.is_shut_down() => TaskError::ShutDown,
            None if matches!(live.states.get(index as usize), Some(State::Cancelled)) => TaskError::Cancelled { by: CancelledBy::Caller },
            // Nobody asked for it: the runtime ended under the task.
            None => TaskError::Cancelled { by: CancelledBy::Runtime },
        }
    }

    /// Ends all that has not ended.
    pub(super) fn end(self: &Arc<Self>, end: End) {
        let handles: Vec<AbortHandle> = {
            let mut live = self.live();
            if live.ended.is_none() {
                live.ended = Some(end);
            }
            live.states
                .iter_mut()
                .filter_map(|state| match state {
                    State::Running(handle) => Some(handle.clone()),
                    _ => None,
                })
                .collect()
        };
        drop(self.engine.remove_queued(self, |_| true));
        for handle in handles {
            handle.abort();
        }
    }

    fn cancel_task(self: &Arc<Self>, id: TaskId) -> bool {
        let Some(index) = self.tasks.iter().position(|task| task.id == id && !task.skip) else { return false };
        let handle = {
            let mut live = self.live();
            let Some(state) = live.states.get_mut(index) else { return false };
            match std::mem::replace(state, State::Cancelled) {
                State::Done => {
                    *state = State::Done;
                    return false;
                }
                State::Running(handle) => Some(handle),
                State::Queued | State::Cancelled => None,
            }
        };
        match handle {
            Some(handle) => handle.abort(),
            // One that is being started just now is ended by `started`.
            None => drop(self.engine.remove_queued(self, |queued| queued as usize == index)),
        }
        true
    }

    pub(super) fn is_running(&self) -> bool {
        self.progress.borrow().is_running()
    }
}

/// Ends a batch from anywhere; clones end the same one.
#[derive(Clone)]
pub struct CancelToken(Arc<BatchCore>);

impl CancelToken {
    /// Ends all tasks that have not ended; each still completes. Harmless at any time, and twice.
    pub fn cancel(&self) {
        self.0.end(End::Cancelled(CancelledBy::Caller));
    }
}

impl std::fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelToken").finish_non_exhaustive()
    }
}

/// A launched list. A stream of completions, in the order in which they come, that ends after the last.
///
/// Dropping it ends what has not ended; see [`Self::detach`].
#[must_use = "dropping a batch cancels it"]
pub struct Batch<T> {
    core: Arc<BatchCore>,
    finishes: mpsc::UnboundedReceiver<Finish>,
    tags: Vec<Option<T>>,
    left: usize,
    detached: bool,
}

impl<T> Batch<T> {
    /// Makes the batch and its jobs.
    pub(super) fn new(engine: Arc<Engine>, list: TaskList<T>) -> (Self, Vec<Job>) {
        let (mut tasks, mut tags) = (Vec::with_capacity(list.len()), Vec::with_capacity(list.len()));
        for entry in list.into_entries() {
            tasks.push(entry.task);
            tags.push(Some(entry.tag));
        }
        let (total, skipped) = (tasks.len(), tasks.iter().filter(|task| task.skip).count());
        let left = total - skipped;
        let (finishes, receiver) = mpsc::unbounded_channel();
        let live = Mutex::new(Live { states: tasks.iter().map(|_| State::Queued).collect(), ended: None });
        let progress = watch::Sender::new(Progress { total, skipped, queued: left, ..Progress::default() });
        let core = Arc::new(BatchCore { engine, tasks, launched: Instant::now(), progress, finishes, live });
        let jobs = (0_u32..).zip(&core.tasks).filter(|(_, task)| !task.skip).map(|(index, _)| Job::new(core.clone(), index)).collect();
        (Self { core, finishes: receiver, tags, left, detached: false }, jobs)
    }

    pub(super) const fn core(&self) -> &Arc<BatchCore> {
        &self.core
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        *self.core.progress.borrow()
    }

    /// How far it is, to wait for changes.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.core.progress.subscribe()
    }

    /// Whether a task has not ended. Completions may still wait to be taken when it is false.
    pub fn is_running(&self) -> bool {
        self.core.is_running()
    }

    /// Ends it from elsewhere.
    pub fn cancel_token(&self) -> CancelToken {
        CancelToken(self.core.clone())
    }

    /// Ends all tasks that have not ended; each still completes.
    pub fn cancel(&self) {
        self.core.end(End::Cancelled(CancelledBy::Caller));
    }

    /// Ends one task, which still completes. False when it had ended, or was left out.
    pub fn cancel_task(&self, id: TaskId) -> bool {
        self.core.cancel_task(id)
    }

    /// The next completion.
    pub async fn next(&mut self) -> Option<Completion<T>> {
        std::future::poll_fn(|context| self.poll_completion(context)).await
    }

    /// Waits for all of it; completions in the order of the list.
    pub async fn join(mut self) -> Finished<T> {
        let mut completions = Vec::with_capacity(self.left);
        while let Some(completion) = self.next().await {
            completions.push(completion);
        }
        completions.sort_by_key(|completion: &Completion<T>| completion.index);
        let skipped = self.core.tasks.iter().zip(&mut self.tags).enumerate();
        let skipped = skipped.filter(|(_, (task, _))| task.skip).filter_map(|(index, (_, tag))| Some((index, tag.take()?))).collect();
        Finished { completions, skipped, core: self.core.clone() }
    }

    /// Ends what has not ended and waits until it has.
    pub async fn close(mut self) {
        self.cancel();
        while self.next().await.is_some() {}
    }

    /// Lets it run; nobody learns what came of it.
    pub fn detach(mut self) {
        self.detached = true;
    }

    fn poll_completion(&mut self, context: &mut Context<'_>) -> Poll<Option<Completion<T>>> {
        while self.left > 0 {
            let Poll::Ready(received) = self.finishes.poll_recv(context) else { return Poll::Pending };
            let Some(Finish { index, result, record }) = received else { break };
            self.left -= 1;
            self.core.engine.taken(body_of(&result));
            let index = index as usize;
            // Each index comes once.
            let Some(tag) = self.tags.get_mut(index).and_then(Option::take) else { continue };
            let Record { attempts, history, timings, trust, worker } = record;
            let id = self.core.tasks[index].id;
            return Poll::Ready(Some(Completion { index, id, tag, result, attempts, history, timings, trust, worker }));
        }
        Poll::Ready(None)
    }
}

impl<T: Unpin> Stream for Batch<T> {
    type Item = Completion<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Completion<T>>> {
        self.poll_completion(context)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T: Unpin> FusedStream for Batch<T> {
    fn is_terminated(&self) -> bool {
        self.left == 0
    }
}

impl<T> Drop for Batch<T> {
    fn drop(&mut self) {
        if !self.detached && self.is_running() {
            self.core.end(End::Cancelled(CancelledBy::Drop));
        }
        // What is not taken is no burden any more.
        self.finishes.close();
        while let Ok(finish) = self.finishes.try_recv() {
            self.core.engine.taken(body_of(&finish.result));
        }
    }
}

impl<T> std::fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

/// A batch that has ended.
pub struct Finished<T> {
    completions: Vec<Completion<T>>,
    skipped: Vec<(usize, T)>,
    core: Arc<BatchCore>,
}

/// Which tasks of a batch to launch again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relaunch {
    /// Those without a response that counts; the others are left out.
    FailedOnly,
    /// All that were not left out.
    All,
}

impl<T> Finished<T> {
    /// All completions, in the order of the list.
    pub fn completions(&self) -> &[Completion<T>] {
        &self.completions
    }

    /// All completions, to keep.
    pub fn into_completions(self) -> Vec<Completion<T>> {
        self.completions
    }

    /// The counts.
    pub fn progress(&self) -> Progress {
        *self.core.progress.borrow()
    }

    /// The longest time that a task took.
    pub fn longest(&self) -> Duration {
        self.completions.iter().map(|completion| completion.timings.total).max().unwrap_or_default()
    }

    /// The list once more, with the same names, bodies and tags.
    pub fn into_list(self, which: Relaunch) -> TaskList<T> {
        let ended = self.completions.into_iter().map(|one| (one.index, one.tag, which == Relaunch::FailedOnly && one.result.is_ok()));
        let mut tags: Vec<_> = ended.chain(self.skipped.into_iter().map(|(index, tag)| (index, tag, true))).collect();
        tags.sort_by_key(|(index, ..)| *index);
        let mut list = TaskList::new();
        for (index, tag, skip) in tags {
            list.push(self.core.tasks[index].clone().skip(skip), tag);
        }
        list
    }
}

impl<T> std::fmt::Debug for Finished<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Finished").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

/// The completions of a batch, for code that is not async.
pub struct Blocking<T> {
    pub(super) batch: Batch<T>,
    pub(super) runtime: tokio::runtime::Handle,
}

impl<T> Iterator for Blocking<T> {
    type Item = Completion<T>;

    fn next(&mut self) -> Option<Completion<T>> {
        self.runtime.block_on(self.batch.next())
    }
}

impl<T> std::fmt::Debug for Blocking<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.batch.fmt(f)
    }
}
