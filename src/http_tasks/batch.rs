//! A launched list: its completions as a stream, its progress, and the ways to end it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{FusedStream, Stream};
use tokio::sync::{mpsc, watch};

use super::completion::Completion;
use super::error::CanceledBy;
use super::progress::Progress;
use super::scheduler::Scheduler;
use super::task::TaskId;
use super::task_list::TaskList;
use super::ticket::{BatchCore, End, Finish, Record, Ticket, body_of};

/// Ends a batch from anywhere; clones end the same one.
#[derive(Clone)]
pub struct CancelToken(Arc<BatchCore>);

impl CancelToken {
    /// Ends all tasks that have not ended; each still completes. Harmless at any time, and twice.
    pub fn cancel(&self) {
        self.0.end(End::Canceled(CanceledBy::Caller));
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
    /// Makes the batch and its tickets.
    pub(super) fn new(scheduler: Arc<Scheduler<Ticket>>, list: TaskList<T>) -> (Self, Vec<Ticket>) {
        let (mut tasks, mut tags) = (Vec::with_capacity(list.len()), Vec::with_capacity(list.len()));
        for entry in list.into_entries() {
            tasks.push(entry.task);
            tags.push(Some(entry.tag));
        }
        let (core, tickets, finishes) = BatchCore::new(scheduler, tasks);
        let left = tickets.len();
        (Self { core, finishes, tags, left, detached: false }, tickets)
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
        self.core.end(End::Canceled(CanceledBy::Caller));
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
        let skipped = skipped
            .filter(|(_, (task, _))| task.skip)
            .filter_map(|(index, (_, tag))| Some((index, tag.take()?)))
            .collect();
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
            self.core.scheduler.taken(body_of(&result));
            let index = index as usize;
            // Each index comes once.
            let Some(tag) = self.tags.get_mut(index).and_then(Option::take) else { continue };
            let Record { attempts, history, timings, trust, worker } = record;
            let id = self.core.tasks[index].id;
            return Poll::Ready(Some(Completion {
                index,
                id,
                tag,
                result,
                attempts,
                history,
                timings,
                trust,
                worker,
            }));
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
            self.core.end(End::Canceled(CanceledBy::Drop));
        }
        // What is not taken is no burden any more.
        self.finishes.close();
        while let Ok(finish) = self.finishes.try_recv() {
            self.core.scheduler.taken(body_of(&finish.result));
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
        let ended = self
            .completions
            .into_iter()
            .map(|one| (one.index, one.tag, which == Relaunch::FailedOnly && one.result.is_ok()));
        let mut tags: Vec<_> =
            ended.chain(self.skipped.into_iter().map(|(index, tag)| (index, tag, true))).collect();
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
