//! The slots of a runner: who has one, and who gets one that is free.
//!
//! Promise: a ticket starts as soon as there is a slot for it, and a finished ticket's connection is there
//! for the next one before that one starts.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::connection::Connection;
use super::network::Network;
use super::runtime::TaskRuntime;
use super::schedule::{Grant, Schedule};
use super::task::Priority;

/// Starts tickets that got a slot.
pub(super) trait Start<T: Send + 'static>: Send + Sync {
    /// Starts a ticket. The connection is for it if it fits, and goes to the pool otherwise.
    fn start(&self, ticket: T, slot: Slot<T>, kept: Option<Box<Connection>>);
}

/// Gives slots to tickets `T`.
pub(super) struct Scheduler<T: Send + 'static> {
    schedule: Mutex<Schedule<T, Slot<T>>>,
    starter: Box<dyn Start<T>>,
    network: Arc<Network>,
    /// Tickets that have not completed.
    unfinished: AtomicUsize,
    idle: Notify,
    /// Bytes of bodies that nobody has taken.
    buffered: AtomicUsize,
    shut_down: AtomicBool,
    runtime: TaskRuntime,
}

impl<T: Send + 'static> Scheduler<T> {
    pub(super) fn new(
        schedule: Schedule<T, Slot<T>>,
        starter: Box<dyn Start<T>>,
        network: Arc<Network>,
        runtime: TaskRuntime,
    ) -> Arc<Self> {
        Arc::new(Self {
            schedule: Mutex::new(schedule),
            starter,
            network,
            unfinished: AtomicUsize::new(0),
            idle: Notify::new(),
            buffered: AtomicUsize::new(0),
            shut_down: AtomicBool::new(false),
            runtime,
        })
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule<T, Slot<T>>> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) const fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Adds tickets with their hosts, without starting them.
    pub(super) fn add(&self, tickets: impl IntoIterator<Item = (String, Priority, T)>) {
        let mut schedule = self.schedule();
        for (host, priority, ticket) in tickets {
            schedule.add(&host, priority, ticket);
        }
    }

    /// Takes those out that have not started and are meant. Dropping the tickets completes them.
    pub(super) fn remove(&self, meant: impl Fn(&T) -> bool) -> Vec<T> {
        self.schedule().remove(meant)
    }

    /// Starts what can be started. The connection is for the first of them if it fits, and goes to the pool
    /// otherwise.
    pub(super) fn dispatch(self: &Arc<Self>, mut connection: Option<Box<Connection>>) {
        loop {
            let start_new = self.buffered.load(Relaxed) < self.network.settings.max_buffered_bytes;
            // Its own statement: the guard must be gone before anything else happens.
            let granted = self.schedule().next(start_new);
            let Some((lane, grant)) = granted else { break };
            let slot = Slot { scheduler: Some(self.clone()), lane, connection: None };
            match grant {
                Grant::New(ticket) => self.starter.start(ticket, slot, connection.take()),
                Grant::Return(waiter) => {
                    if let Some(kept) = connection.take() {
                        self.network.rest(*kept);
                    }
                    if let Err(slot) = waiter.send(slot) {
                        // Canceled meanwhile. Not by dropping it, which would come back here, once more for
                        // each such waiter.
                        slot.disarm();
                        self.schedule().release(lane);
                    }
                }
            }
        }
        if let Some(kept) = connection {
            self.network.rest(*kept);
        }
        // Its own statement: the guard must be gone before the task is spawned.
        let alarm = self.schedule().set_alarm();
        if let Some(at) = alarm {
            self.handle().spawn(come_back(Arc::downgrade(self), at));
        }
    }

    /// A slot for somebody who gave his back.
    pub(super) async fn slot_again(self: &Arc<Self>, lane: usize) -> Option<Slot<T>> {
        let (waiter, granted) = oneshot::channel();
        self.schedule().add_returning(lane, waiter);
        self.dispatch(None);
        granted.await.ok()
    }

    pub(super) fn count_begun(&self) {
        self.unfinished.fetch_add(1, Relaxed);
    }

    pub(super) fn count_ended(&self) {
        if self.unfinished.fetch_sub(1, Relaxed) == 1 {
            self.idle.notify_waiters();
            let mut schedule = self.schedule();
            // Read under the lock: a task that comes now is added to the schedule first.
            schedule.prune(self.unfinished.load(Relaxed));
        }
    }

    /// Tickets that have not completed.
    pub(super) fn unfinished(&self) -> usize {
        self.unfinished.load(Relaxed)
    }

    pub(super) async fn all_done(&self) {
        loop {
            // Registered first, so that the last one cannot end unseen in between.
            let mut idle = std::pin::pin!(self.idle.notified());
            idle.as_mut().enable();
            if self.unfinished() == 0 {
                return;
            }
            idle.await;
        }
    }

    pub(super) fn buffer(&self, bytes: usize) {
        self.buffered.fetch_add(bytes, Relaxed);
    }

    /// Bytes of a body have been taken, or nobody will.
    pub(super) fn taken(self: &Arc<Self>, bytes: usize) {
        let before = self.buffered.fetch_sub(bytes, Relaxed);
        let most = self.network.settings.max_buffered_bytes;
        if before >= most && before - bytes < most {
            self.dispatch(None);
        }
    }

    /// Bytes of bodies that nobody has taken.
    pub(super) fn buffered(&self) -> usize {
        self.buffered.load(Relaxed)
    }

    /// From now on no list is launched.
    pub(super) fn shut_down(&self) {
        self.shut_down.store(true, Relaxed);
    }

    pub(super) fn is_shut_down(&self) -> bool {
        self.shut_down.load(Relaxed)
    }

    /// Tickets that have a slot, and tickets that wait for their first.
    pub(super) fn counts(&self) -> (usize, usize) {
        let schedule = self.schedule();
        (schedule.running, schedule.queued)
    }
}

/// Starts what the pace of its host lets start then.
async fn come_back<T: Send + 'static>(scheduler: Weak<Scheduler<T>>, at: Instant) {
    tokio::time::sleep_until(at).await;
    if let Some(scheduler) = scheduler.upgrade() {
        scheduler.schedule().alarm_rang(at);
        scheduler.dispatch(None);
    }
}

/// The right of a ticket to run. Dropping it, also in a panic, hands it on together with the connection that
/// was put in.
pub(super) struct Slot<T: Send + 'static> {
    scheduler: Option<Arc<Scheduler<T>>>,
    lane: usize,
    /// A connection that the next ticket may use; goes to the pool before the slot is free, so that the next
    /// ticket finds it.
    connection: Option<Box<Connection>>,
}

impl<T: Send + 'static> Slot<T> {
    pub(super) const fn lane(&self) -> usize {
        self.lane
    }

    pub(super) fn keep(&mut self, connection: Connection) {
        if let Some(before) = self.connection.replace(Box::new(connection))
            && let Some(scheduler) = &self.scheduler
        {
            scheduler.network.rest(*before);
        }
    }

    pub(super) const fn connection(&mut self) -> &mut Option<Box<Connection>> {
        &mut self.connection
    }

    /// Ends it without handing it on, which is left to the caller.
    fn disarm(mut self) {
        self.scheduler = None;
    }
}

impl<T: Send + 'static> Drop for Slot<T> {
    fn drop(&mut self) {
        if let Some(scheduler) = self.scheduler.take() {
            scheduler.schedule().release(self.lane);
            scheduler.dispatch(self.connection.take());
        }
    }
}
