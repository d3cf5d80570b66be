//! The side that has tasks performed.
//!
//! Owns what is on its way: each run of a task has a name of its own, under which its answer, its return by
//! the broker and its loss with a worker arrive; whichever comes first ends it, and all else is ignored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::answer;
use super::frame::{self, LIMIT};
use super::notice::{Notice, RUNS};
use super::order::{self, Class, LONGEST_HELD};
use super::sealed;
use super::setup::{HEARTBEAT, REFUSED, RemoteConfig, RemoteSetupError, SILENCE};
use crate::broker::amqp::{AmqpOptions, Arrival, HTTP_REDELIVERIES, Inbox, Incoming, Letter, Post, Role, To};
use crate::broker::{BrokerError, Link};
use crate::http_tasks::{Carried, Carrier, CarrierHealth, Parcel, RemoteError, TaskError};
use crate::signing::Signer;

/// Answers that are out at the same time.
const PREFETCH: u16 = 1000;
/// Workers that are known at the same time.
const WORKERS: usize = 10_000;
/// For the last cancels when a caller ends.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// Takes tasks to the workers of a pool.
pub(super) struct Caller {
    post: Arc<Post>,
    name: Uuid,
    pool: String,
    grace: Duration,
    signer: Option<Arc<Signer>>,
    table: Arc<Table>,
    /// Whether answers can arrive.
    listening: watch::Receiver<Link>,
    closing: CancellationToken,
    /// Ends when the last cancels have been sent.
    farewell: TaskTracker,
    tasks: TaskTracker,
}

/// What is on its way, and who works.
struct Table {
    runs: Mutex<HashMap<Uuid, Run>>,
    workers: Mutex<HashMap<Arc<str>, Instant>>,
    cancels: mpsc::UnboundedSender<Canceled>,
    /// When it was last said that the broker does not take tasks.
    warned: Mutex<Option<Instant>>,
}

struct Run {
    created: SystemTime,
    class: Class,
    answer: oneshot::Sender<Carried>,
    started: Option<oneshot::Sender<()>>,
    worker: Option<Arc<str>>,
    sent: Sent,
    /// Told when the broker has given it back for want of a queue.
    returned: Arc<Notify>,
}

struct Canceled {
    run: Uuid,
    until: Instant,
}

/// What is known of the message with a task.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    No,
    Perhaps,
    Yes,
}

impl Caller {
    /// Connects in the background.
    pub(super) fn start(config: RemoteConfig) -> Result<Self, RemoteSetupError> {
        let RemoteConfig { message_queue, pool, grace, signer, .. } = config;
        let name = Uuid::new_v4();
        let options = AmqpOptions::new(message_queue, Role::HttpCaller { pool: pool.clone(), caller: name });
        let (post, mut returned) = Post::start(options)?;
        let post = Arc::new(post);
        let (cancels, canceled) = mpsc::unbounded_channel();
        let table = Arc::new(Table {
            runs: Mutex::default(),
            workers: Mutex::default(),
            cancels,
            warned: Mutex::default(),
        });
        let (closing, farewell, tasks) = (CancellationToken::new(), TaskTracker::new(), TaskTracker::new());

        let answers = post.consume(Inbox::Replies, PREFETCH);
        let listening = answers.link.clone();
        tasks.spawn(read_answers(table.clone(), answers));
        tasks.spawn(watch_workers(table.clone(), post.consume(Inbox::Control, PREFETCH)));
        farewell.spawn(send_cancels(post.clone(), signer.clone(), canceled, closing.clone()));
        let returns = table.clone();
        tasks.spawn(async move {
            while let Some(run) = returned.recv().await {
                returns.returned(run);
            }
        });
        Ok(Self { post, name, pool, grace, signer, table, listening, closing, farewell, tasks })
    }
}

impl Carrier for Caller {
    fn carry(&self, parcel: Parcel, started: oneshot::Sender<()>) -> BoxFuture<'static, Carried> {
        let class = Class::of(&parcel);
        if class == Class::AtLeastOnce && parcel.timeout > LONGEST_HELD {
            let most = LONGEST_HELD.as_secs();
            let why =
                format!("what may be performed twice can take {most} s at most where a worker performs it");
            return Box::pin(async move {
                Carried::failed(parcel.created, TaskError::Invalid { field: "timeout", why })
            });
        }
        let deadline = Instant::now() + parcel.timeout;
        let shipment = Shipment {
            post: self.post.clone(),
            table: self.table.clone(),
            pool: self.pool.clone(),
            caller: self.name,
            signer: self.signer.clone(),
            run: Uuid::new_v4(),
            parcel,
            class,
            deadline,
            until: deadline + self.grace,
        };
        Box::pin(shipment.carry(started))
    }

    fn health(&self) -> CarrierHealth {
        let workers = self.table.workers();
        let heard = workers.values().max().map(Instant::elapsed);
        CarrierHealth {
            connected: self.post.link().borrow().up && self.listening.borrow().up,
            workers: workers.len(),
            heard,
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.closing.cancel();
            self.farewell.close();
            if timeout(CLOSE_TIME, self.farewell.wait()).await.is_err() {
                debug!(broker = self.post.safe_url(), "ended without telling the workers what was canceled");
            }
            self.post.close().await;
            self.tasks.close();
            self.tasks.wait().await;
        })
    }
}

impl Drop for Caller {
    /// Forgotten without [`Carrier::close`]: what runs in the background ends nevertheless.
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// One task on its way.
struct Shipment {
    post: Arc<Post>,
    table: Arc<Table>,
    pool: String,
    caller: Uuid,
    signer: Option<Arc<Signer>>,
    run: Uuid,
    parcel: Parcel,
    class: Class,
    deadline: Instant,
    /// When it ends at the latest.
    until: Instant,
}

impl Shipment {
    async fn carry(self, started: oneshot::Sender<()>) -> Carried {
        let created = self.parcel.created;
        let (answer, answered) = oneshot::channel();
        let (class, started, returned) = (self.class, Some(started), Arc::new(Notify::new()));
        let run =
            Run { created, class, answer, started, worker: None, sent: Sent::No, returned: returned.clone() };
        self.table.runs().insert(self.run, run);
        // From here on, however this ends, it is forgotten, and canceled unless it was answered.
        let _entry = Entry { table: &self.table, run: self.run, until: self.until };
        let carried = timeout_at(self.until, async {
            tokio::select! {
                biased;
                // Dropped only when the caller is.
                answered = answered => answered.unwrap_or_else(|_| Carried::failed(created, TaskError::ShutDown)),
                error = self.send(&returned) => Carried::failed(created, TaskError::Remote(error)),
            }
        });
        carried.await.unwrap_or_else(|_| self.table.late(created, self.run))
    }

    /// Sends it until the broker has taken it, and again when it comes back; ends only when it can never be
    /// sent. What may be performed once only is not sent again when it may have arrived.
    async fn send(&self, returned: &Notify) -> RemoteError {
        let mut link = self.post.link();
        // How often the broker did not take it, and what that means when no time is left.
        let (mut refusals, mut refused) = (0, None);
        loop {
            // Ends with the broker; the time limit around this ends it before.
            if link.wait_for(|link| link.up).await.is_err() {
                return RemoteError::BrokerDown;
            }
            let remaining = self.deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                // It would be dead on arrival.
                return match refused {
                    Some(error) => error,
                    None => std::future::pending().await,
                };
            }
            let way = sealed::Way::Work { pool: &self.pool, caller: self.caller, run: self.run };
            let body = order::encode(&self.parcel, remaining, SystemTime::now())
                .and_then(|body| sealed::seal(self.signer.as_deref(), way, body, remaining));
            let Some(body) = body else {
                return RemoteError::TooLarge { limit: LIMIT };
            };
            let letter = Letter {
                to: To::Work { pool: self.pool.clone(), caller: self.caller },
                id: self.run,
                task: self.parcel.id.uuid(),
                expires_in: Some(remaining),
                persistent: true,
                body,
            };
            self.table.note_sent(self.run, Sent::Perhaps);
            match self.post.publish(letter).await {
                Ok(()) => {
                    self.table.note_sent(self.run, Sent::Yes);
                    returned.notified().await;
                    refused = Some(RemoteError::Unroutable);
                }
                Err(BrokerError::NotNow { reason }) => {
                    debug!(task = %self.parcel.id, why = reason, "the broker does not take a task now");
                    refused = Some(RemoteError::Expired);
                }
                Err(BrokerError::Disconnected { .. } | BrokerError::ApiUnreachable { .. }) => {
                    self.table.note_sent(self.run, Sent::No);
                    continue;
                }
                Err(BrokerError::Unconfirmed { .. }) if self.class == Class::AtLeastOnce => {
                    refused = None;
                    continue;
                }
                // An answer or the end of its time tells.
                Err(BrokerError::Unconfirmed { .. }) => return std::future::pending().await,
                Err(BrokerError::Refused { reason }) => {
                    warn!(task = %self.parcel.id, "the broker will never take a task: {reason}");
                    return RemoteError::Rejected;
                }
                Err(BrokerError::Closed) => return RemoteError::BrokerDown,
            }
            self.table.note_sent(self.run, Sent::No);
            self.table.note_refusal();
            refusals += 1;
            tokio::time::sleep_until(self.deadline.min(Instant::now() + REFUSED.jittered(refusals))).await;
        }
    }
}

/// The place of a run in the table.
struct Entry<'a> {
    table: &'a Table,
    run: Uuid,
    until: Instant,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let forgotten = self.table.runs().remove(&self.run);
        if forgotten.is_some_and(|run| run.sent != Sent::No) {
            // Nobody is left to tell when the caller ends.
            _ = self.table.cancels.send(Canceled { run: self.run, until: self.until });
        }
    }
}

impl Table {
    fn runs(&self) -> MutexGuard<'_, HashMap<Uuid, Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn workers(&self) -> MutexGuard<'_, HashMap<Arc<str>, Instant>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Once a minute: there may be thousands of tasks.
    fn note_refusal(&self) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|at| at.elapsed() > Duration::from_secs(60)) {
            *warned = Some(Instant::now());
            warn!(
                "the work queue is full, has no leader or is missing: HTTP tasks are sent again until their time is over"
            );
        }
    }

    /// The broker had no queue for a run.
    fn returned(&self, run: Uuid) {
        if let Some(run) = self.runs().get(&run) {
            run.returned.notify_one();
        }
    }

    fn note_sent(&self, run: Uuid, sent: Sent) {
        if let Some(run) = self.runs().get_mut(&run) {
            run.sent = sent;
        }
    }

    fn end(&self, run: Uuid, carried: impl FnOnce(&Run) -> Carried) {
        // Gone when it has ended already: the first word counts.
        let Some(run) = self.runs().remove(&run) else { return };
        let carried = carried(&run);
        // Canceled just now.
        _ = run.answer.send(carried);
    }

    fn fail(&self, run: Uuid, error: RemoteError) {
        self.end(run, |run| Carried {
            worker: run.worker.clone(),
            ..Carried::failed(run.created, TaskError::Remote(error))
        });
    }

    /// Whether a worker that was heard is one more.
    fn heard(&self, worker: &Arc<str>) -> bool {
        let mut workers = self.workers();
        // Whoever can send to all callers could send any number of names.
        (workers.len() < WORKERS || workers.contains_key(worker))
            && workers.insert(worker.clone(), Instant::now()).is_none()
    }

    fn started(&self, worker: &Arc<str>, runs: &[Uuid]) {
        // As good as a heartbeat, of which a worker that is lost soon may not have sent any that was heard.
        self.heard(worker);
        let mut table = self.runs();
        for run in runs {
            let Some(run) = table.get_mut(run) else { continue };
            run.worker = Some(worker.clone());
            if let Some(started) = run.started.take() {
                _ = started.send(());
            }
        }
    }

    /// What is known of a run that has no answer when its time is over.
    fn late(&self, created: SystemTime, run: Uuid) -> Carried {
        let (error, worker) = match self.runs().get(&run) {
            Some(Run { sent: Sent::No | Sent::Perhaps, .. }) => (RemoteError::BrokerDown, None),
            // It would have come back if no worker had taken it.
            Some(Run { class: Class::AtMostOnce, worker, .. }) => {
                (RemoteError::WorkerLost { deliveries: 1 }, worker.clone())
            }
            Some(Run { worker, .. }) => (RemoteError::Expired, worker.clone()),
            None => (RemoteError::Expired, None),
        };
        Carried { worker, ..Carried::failed(created, TaskError::Remote(error)) }
    }

    /// Ends what a lost worker had and nobody else will perform. All else is given out again by the broker.
    fn lose(&self, lost: &Arc<str>) {
        let is_lost = |run: &Run| run.class == Class::AtMostOnce && run.worker.as_ref() == Some(lost);
        let ended: Vec<Uuid> =
            self.runs().iter().filter(|(_, run)| is_lost(run)).map(|(name, _)| *name).collect();
        warn!(worker = %lost, tasks = ended.len(), "a worker of HTTP tasks is lost");
        for run in ended {
            self.fail(run, RemoteError::WorkerLost { deliveries: 1 });
        }
    }

    fn arrived(&self, arrival: &Arrival) -> Result<(), frame::FrameError> {
        if let (Some(reason), Some(run)) = (&arrival.death, arrival.id) {
            self.fail(
                run,
                match reason.as_str() {
                    "expired" => RemoteError::Expired,
                    "delivery_limit" => RemoteError::WorkerLost { deliveries: HTTP_REDELIVERIES + 1 },
                    _ => RemoteError::Rejected,
                },
            );
            return Ok(());
        }
        let frame = frame::decode(&arrival.body)?;
        if frame.kind == answer::KIND {
            let Some(run) = arrival.id else { return Ok(()) };
            let Some(created) = self.runs().get(&run).map(|run| run.created) else { return Ok(()) };
            match answer::decode(&frame, created) {
                Ok(carried) => self.end(run, |_| carried),
                Err(error) => {
                    self.fail(run, RemoteError::BadFrame);
                    return Err(error);
                }
            }
        } else if let Notice::Started { worker, runs } = Notice::decode(&frame)? {
            self.started(&worker.into(), &runs);
        }
        Ok(())
    }
}

async fn read_answers(table: Arc<Table>, mut answers: Incoming) {
    while let Some(arrival) = answers.arrivals.recv().await {
        if let Err(error) = table.arrived(&arrival) {
            warn!("an answer to an HTTP task cannot be read: {error}");
        }
        arrival.receipt.ack().await;
    }
}

/// Listens to heartbeats, and counts silence: but not that of a time in which none could be heard.
async fn watch_workers(table: Arc<Table>, mut control: Incoming) {
    let mut look = interval(HEARTBEAT / 5);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked = Instant::now();
    loop {
        tokio::select! {
            arrival = control.arrivals.recv() => {
                let Some(arrival) = arrival else { return };
                match frame::decode(&arrival.body).and_then(|frame| Notice::decode(&frame)) {
                    Ok(Notice::Heartbeat { worker, leaving }) => {
                        let worker: Arc<str> = worker.into();
                        if leaving {
                            table.workers().remove(&worker);
                        } else if table.heard(&worker) {
                            info!(%worker, "a worker of HTTP tasks is there");
                        }
                    }
                    Ok(_) => {}
                    Err(error) => warn!("a message of a worker cannot be read: {error}"),
                }
                arrival.receipt.ack().await;
            }
            _ = look.tick() => {
                let deaf = !control.link.borrow().up || looked.elapsed() > HEARTBEAT;
                looked = Instant::now();
                if deaf {
                    // The connection is away, or this process was: everybody gets a new chance.
                    table.workers().values_mut().for_each(|heard| *heard = looked);
                    continue;
                }
                let lost: Vec<Arc<str>> =
                    table.workers().extract_if(|_, heard| heard.elapsed() > SILENCE).map(|(worker, _)| worker).collect();
                for worker in &lost {
                    table.lose(worker);
                }
            }
        }
    }
}

/// Tells the workers what nobody waits for any more, many at once.
async fn send_cancels(
    post: Arc<Post>,
    signer: Option<Arc<Signer>>,
    mut canceled: mpsc::UnboundedReceiver<Canceled>,
    closing: CancellationToken,
) {
    let mut gathered = Vec::new();
    loop {
        let last = tokio::select! {
            biased;
            count = canceled.recv_many(&mut gathered, RUNS) => count == 0,
            () = closing.cancelled() => true,
        };
        if let Some(until) = gathered.iter().map(|canceled| canceled.until).max() {
            let remember = until.saturating_duration_since(Instant::now());
            let runs = gathered.drain(..).map(|canceled| canceled.run).collect();
            let mut letter = Notice::Cancel { runs, remember }.to(To::Workers);
            let sealed = sealed::seal(signer.as_deref(), sealed::Way::Workers, letter.body, remember);
            letter.body = sealed.expect("notices are short, see RUNS");
            if let Err(error) = post.publish(letter).await {
                // They end by their own time.
                debug!("could not tell the workers what was canceled: {error}");
            }
        }
        if last {
            return;
        }
    }
}
