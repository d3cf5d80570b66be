//! The local engine: what a runner does, put together from the scheduler, the network and the tasks in
//! between.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use super::batch::Batch;
use super::carrier::{Carrier, CarrierHealth};
use super::connection::Connection;
use super::course;
use super::error::{Phase, TaskError};
use super::network::Network;
use super::runtime::TaskRuntime;
use super::schedule::Schedule;
use super::scheduler::{Scheduler, Slot, Start};
use super::settings::{DeadlineFrom, Settings};
use super::task_list::TaskList;
use super::ticket::{BatchCore, End, Ticket};
use super::tls::TlsConfig;

pub(super) struct Engine {
    network: Arc<Network>,
    scheduler: Arc<Scheduler<Ticket>>,
    /// Who has the tasks performed elsewhere; the network is of no use then.
    carrier: Option<Arc<dyn Carrier>>,
    batches: Mutex<Vec<Weak<BatchCore>>>,
}

/// Starts tasks here, or elsewhere when there is a carrier.
struct Starter {
    network: Arc<Network>,
    carrier: Option<Arc<dyn Carrier>>,
    handle: Handle,
}

impl Start<Ticket> for Starter {
    fn start(&self, ticket: Ticket, mut slot: Slot<Ticket>, kept: Option<Box<Connection>>) {
        if let Some(kept) = kept {
            if self.network.fits(&kept, ticket.task()) {
                *slot.connection() = Some(kept);
            } else {
                self.network.rest(*kept);
            }
        }
        let (batch, index) = (ticket.batch().clone(), ticket.index());
        let running = match &self.carrier {
            None => self.handle.spawn(course::run(self.network.clone(), ticket, slot)),
            Some(carrier) => {
                self.handle.spawn(course::run_elsewhere(self.network.clone(), carrier.clone(), ticket, slot))
            }
        };
        batch.started(index, running.abort_handle());
    }
}

impl Engine {
    pub(super) fn new(
        network: Network,
        schedule: Schedule<Ticket, Slot<Ticket>>,
        carrier: Option<Arc<dyn Carrier>>,
        runtime: TaskRuntime,
    ) -> Self {
        let network = Arc::new(network);
        let starter =
            Starter { network: network.clone(), carrier: carrier.clone(), handle: runtime.handle().clone() };
        let scheduler = Scheduler::new(schedule, Box::new(starter), network.clone(), runtime);
        Self { network, scheduler, carrier, batches: Mutex::default() }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.network.settings
    }

    pub(super) fn handle(&self) -> &Handle {
        self.scheduler.handle()
    }

    fn batches(&self) -> MutexGuard<'_, Vec<Weak<BatchCore>>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether tasks can be taken to where they are performed, if that is elsewhere.
    pub(super) fn carrier_health(&self) -> Option<CarrierHealth> {
        self.carrier.as_ref().map(|carrier| carrier.health())
    }

    pub(super) fn set_tls(&self, config: TlsConfig) {
        self.network.set_tls(config);
    }

    /// Takes in a list and starts what can be started.
    pub(super) fn launch<T>(&self, list: TaskList<T>) -> Batch<T> {
        let (launched, tickets) = Batch::new(self.scheduler.clone(), list);
        let batch = launched.core();
        {
            let mut batches = self.batches();
            batches.retain(|batch| batch.strong_count() > 0);
            batches.push(Arc::downgrade(batch));
        }
        let mut invalid = Vec::new();
        self.scheduler.add(tickets.into_iter().filter_map(|ticket| {
            // The lane of a host: what is behind another port is another server.
            let (host, priority) = match ticket.task().validate() {
                Ok(url) => (lane_of(url), ticket.task().priority),
                Err(error) => {
                    invalid.push((ticket, error));
                    return None;
                }
            };
            Some((host, priority, ticket))
        }));
        for (ticket, error) in invalid {
            ticket.finish(Err(TaskError::Invalid { field: error.field, why: error.why }));
        }
        if self.is_shut_down() {
            // It came between the runner's look and now.
            batch.end(End::ShutDown);
        }
        if self.settings().deadline_from == DeadlineFrom::Launch {
            self.handle().spawn(give_up_queued(self.network.settings.clone(), Arc::downgrade(batch)));
        }
        self.scheduler.dispatch(None);
        launched
    }

    pub(super) fn is_shut_down(&self) -> bool {
        self.scheduler.is_shut_down()
    }

    /// Takes no more, waits, ends what is left, waits for its completions, closes the sockets.
    pub(super) async fn shut_down(&self, grace: Duration) {
        self.scheduler.shut_down();
        if tokio::time::timeout(grace, self.scheduler.all_done()).await.is_err() {
            let batches: Vec<_> = self.batches().iter().filter_map(Weak::upgrade).collect();
            for batch in batches {
                batch.end(End::ShutDown);
            }
            self.scheduler.all_done().await;
        }
        if let Some(carrier) = &self.carrier {
            carrier.close().await;
        }
        self.network.close().await;
    }

    pub(super) fn stats(&self) -> Stats {
        let unfinished = self.scheduler.unfinished();
        let (running, queued) = self.scheduler.counts();
        let sockets = &self.network.sockets;
        Stats {
            running,
            queued,
            unfinished,
            sockets: sockets.total(),
            sockets_open: sockets.open(),
            sockets_most: sockets.most(),
            idle: self.network.pool.len(),
            dialled: self.network.dialled(),
            fallbacks: self.network.fallbacks(),
            buffered_bytes: self.scheduler.buffered(),
        }
    }
}

/// Completes those whose time is over before they started.
async fn give_up_queued(settings: Arc<Settings>, batch: Weak<BatchCore>) {
    let Some((launched, mut spans)) = batch.upgrade().map(|batch| {
        let spans: Vec<Duration> = batch.tasks.iter().map(|task| settings.span_of(task)).collect();
        (batch.launched, spans)
    }) else {
        return;
    };
    spans.sort_unstable();
    spans.dedup();
    for span in spans {
        tokio::time::sleep_until(launched + span).await;
        let Some(batch) = batch.upgrade() else { return };
        let late = |index: u32| settings.span_of(&batch.tasks[index as usize]) <= span;
        for ticket in batch.remove_queued(late) {
            ticket.finish(Err(TaskError::Timeout { phase: Phase::Queue, attempts: 0, last: None }));
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
