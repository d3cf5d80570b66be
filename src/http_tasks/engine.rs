//! The local engine: slots, sockets, the pool and the tasks in between.
//!
//! Promise: every job that was added completes exactly once; no more sockets are open than the budget allows; a finished task's
//! connection is there for the next one before that one starts.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::batch::{BatchCore, Job};
use super::carrier::{Carrier, CarrierHealth};
use super::connection::{Connect, Connection};
use super::observer::{Event, Observer};
use super::pool::Pool;
use super::proxy::Proxy;
use super::reach::Guard;
use super::resolver::Resolver;
use super::retry::RetryPolicy;
use super::schedule::{Grant, Schedule};
use super::slot::Slot;
use super::sockets::Sockets;
use super::task::Task;
use super::tls::{InsecureFallback, TlsContext};
use super::transport::TransportPolicy;
use super::{DeadlineFrom, TlsMode, course};

pub(super) struct Settings {
    pub(super) service: Arc<str>,
    pub(super) max_unfinished: Option<usize>,
    pub(super) timeout: Duration,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) deadline_from: DeadlineFrom,
    pub(super) retry: RetryPolicy,
    pub(super) transport: TransportPolicy,
    pub(super) fallback: InsecureFallback,
    pub(super) body_limit: usize,
    pub(super) max_buffered_bytes: usize,
    pub(super) proxy: Proxy,
    pub(super) guard: Option<Arc<dyn Guard>>,
    pub(super) observer: Option<Arc<dyn Observer>>,
    pub(super) connector: Arc<dyn Connect>,
}

pub(super) struct Engine {
    pub(super) settings: Settings,
    /// Who has the tasks performed elsewhere; sockets, pool, resolver and TLS are of no use then.
    carrier: Option<Arc<dyn Carrier>>,
    pub(super) sockets: Arc<Sockets>,
    pub(super) pool: Arc<Pool>,
    pub(super) resolver: Resolver,
    tls: RwLock<Arc<TlsContext>>,
    schedule: Mutex<Schedule>,
    /// Jobs that have not completed.
    unfinished: AtomicUsize,
    idle: Notify,
    /// Bytes of bodies that nobody has taken.
    buffered: AtomicUsize,
    dialled: AtomicU64,
    fallbacks: AtomicU64,
    shut_down: AtomicBool,
    batches: Mutex<Vec<Weak<BatchCore>>>,
    handle: Handle,
    /// The runtime, when the runner had to bring its own.
    own_runtime: Option<Runtime>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.own_runtime.take() {
            // The last owner may be a task of this very runtime, which could not wait for itself.
            runtime.shutdown_background();
        }
    }
}

/// Longer than any task runs, short enough to be added to a clock.
pub(super) const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What an engine is made of besides its settings.
pub(super) struct Parts {
    pub(super) carrier: Option<Arc<dyn Carrier>>,
    pub(super) sockets: Arc<Sockets>,
    pub(super) pool: Arc<Pool>,
    pub(super) resolver: Resolver,
    pub(super) tls: TlsContext,
    pub(super) schedule: Schedule,
    pub(super) handle: Handle,
    pub(super) own_runtime: Option<Runtime>,
}

impl Engine {
    pub(super) fn new(settings: Settings, parts: Parts) -> Arc<Self> {
        let Parts { carrier, sockets, pool, resolver, tls, schedule, handle, own_runtime } = parts;
        Arc::new(Self {
            settings,
            carrier,
            sockets,
            pool,
            resolver,
            tls: RwLock::new(Arc::new(tls)),
            schedule: Mutex::new(schedule),
            unfinished: AtomicUsize::new(0),
            idle: Notify::new(),
            buffered: AtomicUsize::new(0),
            dialled: AtomicU64::new(0),
            fallbacks: AtomicU64::new(0),
            shut_down: AtomicBool::new(false),
            batches: Mutex::default(),
            handle,
            own_runtime,
        })
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) const fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) fn tls(&self) -> Arc<TlsContext> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether tasks can be taken to where they are performed, if that is elsewhere.
    pub(super) fn carrier_health(&self) -> Option<CarrierHealth> {
        self.carrier.as_ref().map(|carrier| carrier.health())
    }

    pub(super) fn set_tls(&self, config: super::TlsConfig) {
        let mut tls = self.tls.write().unwrap_or_else(PoisonError::into_inner);
        *tls = Arc::new(TlsContext::new(config, tls.generation + 1));
    }

    /// Takes in a batch and starts what can be started.
    pub(super) fn add(self: &Arc<Self>, batch: &Arc<BatchCore>, jobs: Vec<Job>) {
        {
            let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
            batches.retain(|batch| batch.strong_count() > 0);
            batches.push(Arc::downgrade(batch));
        }
        let mut invalid = Vec::new();
        {
            let mut schedule = self.schedule();
            for job in jobs {
                let task = job.task();
                match task.validate() {
                    Ok(url) => {
                        // The lane of a host: what is behind another port is another server.
                        let (host, priority) = (lane_of(url), task.priority);
                        schedule.add(&host, priority, job);
                    }
                    Err(error) => invalid.push((job, error)),
                }
            }
        }
        for (job, error) in invalid {
            job.finish(Err(super::TaskError::Invalid { field: error.field, why: error.why }));
        }
        if self.is_shut_down() {
            // It came between the launch's look and now.
            batch.end(super::batch::End::ShutDown);
        }
        if self.settings.deadline_from == DeadlineFrom::Launch {
            self.handle.spawn(give_up_queued(Arc::downgrade(batch)));
        }
        self.dispatch(None);
    }

    /// Starts what can be started. The connection is for the first of them if it fits, and goes to the pool otherwise.
    fn dispatch(self: &Arc<Self>, mut connection: Option<Box<Connection>>) {
        loop {
            let start_new = self.buffered.load(Relaxed) < self.settings.max_buffered_bytes;
            // Its own statement: the guard must be gone before anything else happens.
            let granted = self.schedule().next(start_new);
            let Some((lane, grant)) = granted else { break };
            let mut slot = Slot::new(self.clone(), lane);
            match grant {
                Grant::New(job) => {
                    if let Some(kept) = connection.take() {
                        if self.fits(&kept, &job) {
                            *slot.connection() = Some(kept);
                        } else {
                            self.rest(*kept);
                        }
                    }
                    let (batch, index) = (job.batch().clone(), job.index());
                    let running = match &self.carrier {
                        None => self.handle.spawn(course::run(self.clone(), job, slot)),
                        Some(carrier) => self.handle.spawn(course::run_elsewhere(self.clone(), carrier.clone(), job, slot)),
                    };
                    batch.started(index, running.abort_handle());
                }
                Grant::Return(waiter) => {
                    if let Some(kept) = connection.take() {
                        self.rest(*kept);
                    }
                    if let Err(slot) = waiter.send(slot) {
                        // Cancelled meanwhile. Not by dropping it, which would come back here, once more for each such waiter.
                        _ = slot.disarm();
                        self.schedule().release(lane);
                    }
                }
            }
        }
        if let Some(kept) = connection {
            self.rest(*kept);
        }
        // Its own statement: the guard must be gone before the task is spawned.
        let alarm = self.schedule().set_alarm();
        if let Some(at) = alarm {
            self.handle.spawn(come_back(Arc::downgrade(self), at));
        }
    }

    fn fits(&self, connection: &Connection, job: &Job) -> bool {
        let task = job.task();
        let generation = self.tls.read().unwrap_or_else(PoisonError::into_inner).generation;
        task.url.as_ref().is_some_and(|url| connection.key.fits(url, task.tls_mode == TlsMode::Verify, generation))
    }

    /// Puts a connection to rest, unless its socket is wanted for another host.
    pub(super) fn rest(&self, connection: Connection) {
        if !self.sockets.wanted() {
            self.pool.put(connection);
        }
    }

    pub(super) fn release(self: &Arc<Self>, lane: usize, connection: Option<Box<Connection>>) {
        self.schedule().release(lane);
        self.dispatch(connection);
    }

    /// A slot for somebody who gave his back.
    pub(super) async fn slot_again(self: &Arc<Self>, lane: usize) -> Option<Slot> {
        let (waiter, granted) = oneshot::channel();
        self.schedule().add_returning(lane, waiter);
        self.dispatch(None);
        granted.await.ok()
    }

    pub(super) fn remove_queued(&self, batch: &Arc<BatchCore>, meant: impl Fn(u32) -> bool) -> Vec<Job> {
        self.schedule().remove(batch, meant)
    }

    /// When the time of a task is over that got its slot just now.
    pub(super) fn deadline_of(&self, task: &Task, batch: &BatchCore, began: Instant) -> Instant {
        let from = match self.settings.deadline_from {
            DeadlineFrom::Start => began,
            DeadlineFrom::Launch => batch.launched,
        };
        from + self.span_of(task)
    }

    /// How long a task may take.
    pub(super) fn span_of(&self, task: &Task) -> Duration {
        task.timeout.unwrap_or(self.settings.timeout).min(FOREVER)
    }

    /// How failed attempts of a task are repeated.
    pub(super) fn policy_of(&self, task: &Task) -> RetryPolicy {
        let mut policy = task.policy.as_deref().unwrap_or(&self.settings.retry).clone();
        policy.retries = task.retries.or(policy.retries);
        policy.backoff_max = task.backoff_max.unwrap_or(policy.backoff_max);
        policy
    }

    pub(super) fn begin_job(&self) {
        self.unfinished.fetch_add(1, Relaxed);
    }

    pub(super) fn end_job(&self) {
        if self.unfinished.fetch_sub(1, Relaxed) == 1 {
            self.idle.notify_waiters();
            let mut schedule = self.schedule();
            // Read under the lock: whoever comes now has to add to the schedule first.
            schedule.prune(self.unfinished.load(Relaxed));
        }
    }

    pub(super) fn buffered(&self, bytes: usize) {
        self.buffered.fetch_add(bytes, Relaxed);
    }

    /// Bytes of a body have been taken, or nobody will.
    pub(super) fn taken(self: &Arc<Self>, bytes: usize) {
        let before = self.buffered.fetch_sub(bytes, Relaxed);
        let most = self.settings.max_buffered_bytes;
        if before >= most && before - bytes < most {
            self.dispatch(None);
        }
    }

    /// Tells the observer.
    pub(super) fn tell(&self, event: &Event<'_>) {
        if let Some(observer) = &self.settings.observer {
            observer.event(event);
        }
    }

    pub(super) fn count_dial(&self) {
        self.dialled.fetch_add(1, Relaxed);
    }

    pub(super) fn count_fallback(&self) {
        self.fallbacks.fetch_add(1, Relaxed);
    }

    pub(super) fn is_shut_down(&self) -> bool {
        self.shut_down.load(Relaxed)
    }

    /// Takes no more, waits, ends what is left, waits for its completions, closes the sockets.
    pub(super) async fn shut_down(&self, grace: Duration) {
        self.shut_down.store(true, Relaxed);
        if tokio::time::timeout(grace, self.all_done()).await.is_err() {
            let batches: Vec<_> = self.batches.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect();
            for batch in batches {
                batch.end(super::batch::End::ShutDown);
            }
            self.all_done().await;
        }
        if let Some(carrier) = &self.carrier {
            carrier.close().await;
        }
        self.pool.close();
        // The drivers are aborted; their sockets are closed when the runtime has got to each.
        while self.sockets.open() > 0 {
            tokio::task::yield_now().await;
        }
    }

    async fn all_done(&self) {
        loop {
            // Registered first, so that the last one cannot end unseen in between.
            let mut idle = std::pin::pin!(self.idle.notified());
            idle.as_mut().enable();
            if self.unfinished.load(Relaxed) == 0 {
                return;
            }
            idle.await;
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let unfinished = self.unfinished.load(Relaxed);
        let (running, queued) = {
            let schedule = self.schedule();
            (schedule.running, schedule.queued)
        };
        Stats {
            running,
            queued,
            unfinished,
            sockets: self.sockets.total(),
            sockets_open: self.sockets.open(),
            sockets_most: self.sockets.most(),
            idle: self.pool.len(),
            dialled: self.dialled.load(Relaxed),
            fallbacks: self.fallbacks.load(Relaxed),
            buffered_bytes: self.buffered.load(Relaxed),
        }
    }
}

/// Starts what the pace of its host lets start then.
async fn come_back(engine: Weak<Engine>, at: Instant) {
    tokio::time::sleep_until(at).await;
    if let Some(engine) = engine.upgrade() {
        engine.schedule().alarm_rang(at);
        engine.dispatch(None);
    }
}

/// Completes those whose time is over before they started.
async fn give_up_queued(batch: Weak<BatchCore>) {
    let Some((launched, mut spans)) = batch.upgrade().map(|batch| {
        let spans: Vec<Duration> = batch.tasks.iter().map(|task| batch.engine.span_of(task)).collect();
        (batch.launched, spans)
    }) else {
        return;
    };
    spans.sort_unstable();
    spans.dedup();
    for span in spans {
        tokio::time::sleep_until(launched + span).await;
        let Some(batch) = batch.upgrade() else { return };
        let late = |index: u32| batch.engine.span_of(&batch.tasks[index as usize]) <= span;
        for job in batch.engine.remove_queued(&batch, late) {
            job.finish(Err(super::TaskError::Timeout { phase: super::Phase::Queue, attempts: 0, last: None }));
        }
        if !batch.is_running() {
            return;
        }
    }
}

fn lane_of(url: &url::Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

/// What a runner is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Tasks that hold a slot.
    pub running: usize,
    /// Tasks that wait for their first.
    pub queued: usize,
    /// All tasks that have not completed, those in a wait included.
    pub unfinished: usize,
    /// The socket budget.
    pub sockets: usize,
    /// Sockets open now, idle ones included.
    pub sockets_open: usize,
    /// Sockets open at the same time, at most, so far.
    pub sockets_most: usize,
    /// Connections that wait for their next request.
    pub idle: usize,
    /// Connections made so far.
    pub dialled: u64,
    /// Tasks that went on without looking at a certificate that was not accepted.
    pub fallbacks: u64,
    /// Bytes of bodies that nobody has taken yet.
    pub buffered_bytes: usize,
}
