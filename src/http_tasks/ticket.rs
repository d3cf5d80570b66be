//! A task on its way, and what it shares with the others of its batch.
//!
//! Promise: every ticket completes exactly once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::completion::{AttemptSummary, Timings, Trust};
use super::error::{CanceledBy, TaskError};
use super::progress::{Progress, Stage};
use super::response::Response;
use super::scheduler::Scheduler;
use super::task::{Task, TaskId};

/// What a task has become, before it gets its tag back.
pub(super) struct Finish {
    pub(super) index: u32,
    pub(super) result: Result<Response, TaskError>,
    pub(super) record: Record,
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
        Self {
            attempts: 0,
            history: Vec::new(),
            timings: Timings::new(created),
            trust: Trust::Plain,
            worker: None,
        }
    }
}

/// What the tasks of a batch share.
pub(super) struct BatchCore {
    pub(super) scheduler: Arc<Scheduler<Ticket>>,
    pub(super) tasks: Vec<Task>,
    pub(super) launched: Instant,
    pub(super) progress: watch::Sender<Progress>,
    finishes: mpsc::UnboundedSender<Finish>,
    live: Mutex<Live>,
}

struct Live {
    states: Vec<State>,
    /// Set once: the first end counts.
    ended: Option<End>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Canceled(CanceledBy),
    ShutDown,
}

enum State {
    /// Not started, or left out.
    Queued,
    Running(AbortHandle),
    /// Asked to end while it was being started.
    Canceled,
    Done,
}

/// A task on its way. Whatever happens to it, dropping it completes it: exactly one completion comes of every
/// ticket.
pub(super) struct Ticket {
    batch: Arc<BatchCore>,
    index: u32,
    stage: Stage,
    done: bool,
    pub(super) record: Record,
}

impl Ticket {
    fn new(batch: Arc<BatchCore>, index: u32) -> Self {
        let record = Record::new(batch.tasks[index as usize].created);
        batch.scheduler.count_begun();
        Self { batch, index, stage: Stage::Queued, done: false, record }
    }

    pub(super) const fn batch(&self) -> &Arc<BatchCore> {
        &self.batch
    }

    pub(super) const fn index(&self) -> u32 {
        self.index
    }

    fn is_of(&self, batch: &Arc<BatchCore>) -> bool {
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
                Err(error) if error.is_canceled() => progress.canceled += 1,
                Err(_) => progress.failed += 1,
            }
            progress.bytes += bytes as u64;
        });
        let none = Record::new(self.record.timings.created);
        let record = std::mem::replace(&mut self.record, none);
        // Counted first, since it could be taken at once.
        self.batch.scheduler.buffer(bytes);
        if self.batch.finishes.send(Finish { index: self.index, result, record }).is_err() {
            self.batch.scheduler.taken(bytes);
        }
        self.batch.scheduler.count_ended();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let error =
            if std::thread::panicking() { TaskError::Panicked } else { self.batch.reason(self.index) };
        self.deliver(Err(error));
    }
}

/// What a completion keeps in memory until it is taken.
pub(super) fn body_of(result: &Result<Response, TaskError>) -> usize {
    match result {
        Ok(response) => response.body.len(),
        Err(error) => error.last_response().map_or(0, |response| response.body.len()),
    }
}

impl BatchCore {
    /// A batch of these tasks, its tickets, and where their ends come out.
    pub(super) fn new(
        scheduler: Arc<Scheduler<Ticket>>,
        tasks: Vec<Task>,
    ) -> (Arc<Self>, Vec<Ticket>, mpsc::UnboundedReceiver<Finish>) {
        let (total, skipped) = (tasks.len(), tasks.iter().filter(|task| task.skip).count());
        let (finishes, receiver) = mpsc::unbounded_channel();
        let live = Mutex::new(Live { states: tasks.iter().map(|_| State::Queued).collect(), ended: None });
        let progress =
            watch::Sender::new(Progress { total, skipped, queued: total - skipped, ..Progress::default() });
        let core = Arc::new(Self { scheduler, tasks, launched: Instant::now(), progress, finishes, live });
        let tickets = (0_u32..)
            .zip(&core.tasks)
            .filter(|(_, task)| !task.skip)
            .map(|(index, _)| Ticket::new(core.clone(), index))
            .collect();
        (core, tickets, receiver)
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers how to end a task that was just started.
    pub(super) fn started(&self, index: u32, handle: AbortHandle) {
        let mut live = self.live();
        let ended = live.ended.is_some();
        match live.states.get_mut(index as usize) {
            Some(State::Done) | None => {}
            Some(State::Canceled) => handle.abort(),
            Some(_) if ended => handle.abort(),
            Some(state) => *state = State::Running(handle),
        }
    }

    fn reason(&self, index: u32) -> TaskError {
        let live = self.live();
        match live.ended {
            Some(End::ShutDown) => TaskError::ShutDown,
            Some(End::Canceled(by)) => TaskError::Canceled { by },
            None if self.scheduler.is_shut_down() => TaskError::ShutDown,
            None if matches!(live.states.get(index as usize), Some(State::Canceled)) => {
                TaskError::Canceled { by: CanceledBy::Caller }
            }
            // Nobody asked for it: the runtime ended under the task.
            None => TaskError::Canceled { by: CanceledBy::Runtime },
        }
    }

    /// Takes back those of its tickets that have not started and are meant.
    pub(super) fn remove_queued(self: &Arc<Self>, meant: impl Fn(u32) -> bool) -> Vec<Ticket> {
        self.scheduler.remove(|ticket| ticket.is_of(self) && meant(ticket.index()))
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
        drop(self.remove_queued(|_| true));
        for handle in handles {
            handle.abort();
        }
    }

    pub(super) fn cancel_task(self: &Arc<Self>, id: TaskId) -> bool {
        let Some(index) = self.tasks.iter().position(|task| task.id == id && !task.skip) else {
            return false;
        };
        let handle = {
            let mut live = self.live();
            let Some(state) = live.states.get_mut(index) else { return false };
            match std::mem::replace(state, State::Canceled) {
                State::Done => {
                    *state = State::Done;
                    return false;
                }
                State::Running(handle) => Some(handle),
                State::Queued | State::Canceled => None,
            }
        };
        match handle {
            Some(handle) => handle.abort(),
            // One that is being started just now is ended by `started`.
            None => drop(self.remove_queued(|queued| queued as usize == index)),
        }
        true
    }

    pub(super) fn is_running(&self) -> bool {
        self.progress.borrow().is_running()
    }
}
