//! The side that performs tasks of others.
//!
//! Owns which runs it has and which were canceled before they came. Takes no more than it has room for;
//! answers to the caller's queue, and gives a delivery up only when the broker has the answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::answer;
use super::frame::LIMIT;
use super::notice::{Notice, RUNS};
use super::order::{self, Class, Order};
use super::sealed::{self, Guard, OpenError};
use super::setup::{HEARTBEAT, POOL, REFUSED, RemoteSetupError, check};
use crate::broker::BrokerError;
use crate::broker::amqp::{AmqpOptions, Arrival, Inbox, Incoming, Letter, Post, Receipt, Role, To};
use crate::config::MessageQueue;
use crate::http_tasks::{CancelToken, Completion, RemoteError, TaskError, TaskList, TaskRunner};
use crate::service;

/// Canceled runs that may still come: later cancels are not remembered.
const CANCELED: usize = 100_000;
/// At-most-once runs that may come again: while there are so many, no others begin. Takes less than 40 MiB; a
/// few more would double what the table takes.
const PERFORMED: usize = if cfg!(test) { 2 } else { 900_000 };
/// How long after a task's time an answer to it may be of use: the longest grace that makes sense.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// For telling that a task has begun, before it does.
const NOTICE_TIME: Duration = Duration::from_secs(2);
/// For what ends by itself once its tasks have been ended.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The broker, and as whom.
    pub message_queue: MessageQueue,
    /// Which tasks.
    pub pool: String,
    /// What callers call it; unique among the workers.
    pub name: String,
    /// Tasks at the same time, from 1 to 65535.
    pub max_in_flight: u16,
    /// How long tasks may go on when it is told to stop.
    pub stop_timeout: Duration,
    /// Whether requests, with all they carry, may come from a broker on another machine without TLS.
    pub allow_plaintext_broker: bool,
    /// Who judges the signatures of callers. Default: nobody.
    pub guard: Option<Arc<Guard>>,
}

impl WorkerConfig {
    /// The usual settings.
    pub fn new(message_queue: MessageQueue, name: impl Into<String>) -> Self {
        Self {
            message_queue,
            pool: POOL.to_owned(),
            name: name.into(),
            max_in_flight: 1000,
            stop_timeout: Duration::from_secs(30),
            allow_plaintext_broker: false,
            guard: None,
        }
    }
}

/// Performs tasks until it is told to stop.
#[derive(Debug)]
pub struct Worker {
    post: Arc<Post>,
    runner: TaskRunner,
    config: WorkerConfig,
}

/// What a worker's tasks share.
struct Shared {
    post: Arc<Post>,
    runner: TaskRunner,
    name: String,
    pool: String,
    guard: Option<Arc<Guard>>,
    desk: Mutex<Desk>,
    begun: mpsc::UnboundedSender<Way>,
}

#[derive(Default)]
struct Desk {
    running: HashMap<Uuid, Running>,
    /// Until when a run that was canceled could still come.
    canceled: HashMap<Uuid, Instant>,
    /// At-most-once runs that were performed, and until when a copy of their signed message would be accepted.
    performed: HashMap<Uuid, Instant>,
}

struct Running {
    cancel: CancelToken,
    /// Of a task that somebody else may perform when this worker is lost.
    receipt: Option<Receipt>,
    /// Nobody waits for it any more.
    unwanted: bool,
}

/// Whether a letter may be sent again when it may have arrived.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Always,
    Once,
}

/// Whether an at-most-once run may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Noted {
    /// It has not begun before.
    Begins,
    /// It has.
    Again,
    /// It could not be told from one that arrives again later.
    Full,
}

/// Where a task came from.
#[derive(Clone, Copy)]
struct Way {
    run: Uuid,
    caller: Uuid,
}

impl Worker {
    /// Connects in the background; tasks are performed with this runner, whose settings say what may be
    /// reached and how. To be called on a tokio runtime.
    ///
    /// # Errors
    /// When the settings make no sense.
    pub fn start(config: WorkerConfig, runner: TaskRunner) -> Result<Self, RemoteSetupError> {
        check(&config.message_queue, &config.pool, config.allow_plaintext_broker)?;
        let options =
            AmqpOptions::new(config.message_queue.clone(), Role::HttpWorker { pool: config.pool.clone() });
        // An answer that no queue takes is for a caller that is gone.
        let (post, _) = Post::start(options)?;
        Ok(Self { post: Arc::new(post), runner, config })
    }

    /// Works until told to stop. Then it takes no more, lets tasks go on for the configured time, and gives
    /// back what has not ended.
    pub fn run(self, stop: CancellationToken) -> service::Running {
        Box::pin(async move {
            let Self { post, runner, config } = self;
            let WorkerConfig { pool, name, max_in_flight, stop_timeout, guard, .. } = config;
            let (begun, beginnings) = mpsc::unbounded_channel();
            let shared = Arc::new(Shared {
                post: post.clone(),
                runner,
                name,
                pool,
                guard,
                desk: Mutex::default(),
                begun,
            });
            let control = post.consume(Inbox::Control, max_in_flight);
            let mut work = post.consume(Inbox::Work, max_in_flight.max(1));
            let (tasks, ending, notices) = (TaskTracker::new(), CancellationToken::new(), TaskTracker::new());
            notices.spawn(shared.clone().listen(control));
            notices.spawn(shared.clone().say_what_began(beginnings, ending.clone()));
            notices.spawn(shared.clone().show_life(ending.clone()));
            info!(worker = %shared.name, pool = %shared.pool, broker = post.safe_url(), "performing HTTP tasks");

            let (room, mut answering) =
                (Arc::new(Semaphore::new(usize::from(max_in_flight.max(1)))), post.link());
            loop {
                let next = async {
                    // First: what is taken without room would wait here, past workers that have some.
                    let permit = room.clone().acquire_owned().await.ok()?;
                    // A task must not begin while its answer could not be sent.
                    answering.wait_for(|link| link.up).await.ok()?;
                    Some((permit, work.arrivals.recv().await?))
                };
                tokio::select! {
                    () = stop.cancelled() => break,
                    next = next => match next {
                        Some((permit, arrival)) => drop(tasks.spawn(shared.clone().take(arrival, permit))),
                        // The post is closed.
                        None => break,
                    },
                }
            }
            info!(worker = %shared.name, "taking no more HTTP tasks");
            work.stop();
            let give_back = async {
                while let Some(arrival) = work.arrivals.recv().await {
                    shared.give_back_unread(arrival).await;
                }
            };
            _ = timeout(CLOSE_TIME, give_back).await;
            tasks.close();
            if timeout(stop_timeout, tasks.wait()).await.is_err() {
                shared.runner.shutdown(Duration::ZERO).await;
                _ = timeout(CLOSE_TIME, tasks.wait()).await;
            }
            ending.cancel();
            shared.runner.shutdown(Duration::ZERO).await;
            shared.say(To::Callers, Notice::Heartbeat { worker: shared.name.clone(), leaving: true }).await;
            post.close().await;
            notices.close();
            notices.wait().await;
        })
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a task from its arrival to its answer.
    async fn take(self: Arc<Self>, arrival: Arrival, permit: OwnedSemaphorePermit) {
        let Arrival { id, caller, deliveries, body, receipt, .. } = arrival;
        let (Some(run), Some(caller)) = (id, caller) else {
            warn!("a message in the work queue says neither what it is nor who waits for it");
            receipt.ack().await;
            return;
        };
        let way = Way { run, caller };
        let order = match self.read(way, &body) {
            Ok(order) => order,
            Err(error) => {
                let told = match error {
                    OpenError::Frame(error) => {
                        warn!(%run, "an HTTP task cannot be read: {error}");
                        RemoteError::BadFrame
                    }
                    // The guard has told.
                    OpenError::Refused(_) => RemoteError::Untrusted,
                };
                self.refuse(&way, told, deliveries).await;
                receipt.ack().await;
                return;
            }
        };
        let Some(receipt) = self.unless_it_runs(run, receipt).await else { return };
        if self.desk().canceled.contains_key(&run) {
            receipt.ack().await;
            return;
        }
        let receipt = match order.class {
            Class::AtLeastOnce => Some(receipt),
            Class::AtMostOnce if deliveries > 1 => {
                // Whoever had it may have performed it, and must have been lost before the broker knew.
                self.refuse(&way, RemoteError::WorkerLost { deliveries: deliveries - 1 }, deliveries).await;
                receipt.ack().await;
                return;
            }
            // The link is gone: it is given out again.
            Class::AtMostOnce if !receipt.ack().await => return,
            Class::AtMostOnce => None,
        };
        if let Some(guard) = self.guard.as_ref().filter(|_| order.class == Class::AtMostOnce) {
            let now = Instant::now();
            let noted = self.desk().performs(run, now, guard.counts_for(order.remaining));
            match noted {
                Noted::Begins => {}
                Noted::Again => {
                    warn!(%run, "an at-most-once HTTP task arrived again and was not performed: somebody with access to the broker repeats messages");
                    return;
                }
                Noted::Full => {
                    guard.tell(
                        "refused an at-most-once task: as many as this worker can remember may arrive again",
                        "distribute the tasks over more workers, or give them less time",
                    );
                    self.refuse(&way, RemoteError::Rejected, deliveries).await;
                    return;
                }
            }
        }
        // Nobody else will perform it: its caller knows who had it before anything is done. The others are
        // told of when there is time.
        let began = match order.class {
            Class::AtMostOnce => {
                let notice = Notice::Started { worker: self.name.clone(), runs: vec![run] };
                timeout(NOTICE_TIME, self.say(To::Replies(way.caller), notice)).await.is_ok()
            }
            Class::AtLeastOnce => self.begun.send(way).is_ok(),
        };
        if !began {
            debug!(%run, "could not tell that an HTTP task has begun");
        }
        self.perform(way, order, body, receipt).await;
        drop(permit);
    }

    /// A task may come again that runs here: a new connection, and the same worker. Then the new delivery is
    /// the one to acknowledge: at the end, or now if the acknowledgement from before did not arrive.
    async fn unless_it_runs(&self, run: Uuid, receipt: Receipt) -> Option<Receipt> {
        match self.desk().running.get_mut(&run) {
            None => return Some(receipt),
            Some(Running { receipt: held @ Some(_), .. }) => {
                *held = Some(receipt);
                return None;
            }
            Some(_) => {}
        }
        receipt.ack().await;
        None
    }

    async fn perform(&self, way: Way, order: Order, body: bytes::Bytes, receipt: Option<Receipt>) {
        let Order { task, class, remaining, body_limit } = order;
        let (run, id, deadline) = (way.run, task.id().uuid(), Instant::now() + remaining);
        let mut list = TaskList::new();
        list.push(task, ());
        // Shut down: nothing has been done.
        let Ok(mut batch) = self.runner.launch(list) else {
            return self.give_back(way, id, class, receipt, body, deadline).await;
        };
        {
            let mut desk = self.desk();
            let cancel = batch.cancel_token();
            let unwanted = desk.canceled.contains_key(&run);
            if unwanted {
                cancel.cancel();
            }
            desk.running.insert(run, Running { cancel, receipt, unwanted });
        }
        let Some(done) = batch.next().await else {
            // Nobody knows what came of it.
            let receipt = self.desk().running.remove(&run).and_then(|running| running.receipt);
            return match receipt {
                Some(receipt) => receipt.give_back().await,
                None => self.refuse(&way, RemoteError::WorkerLost { deliveries: 1 }, 1).await,
            };
        };
        let unwanted = self.desk().running.get(&run).is_none_or(|running| running.unwanted);
        let shut_down = matches!(done.result, Err(TaskError::ShutDown));
        let untouched = shut_down && (class == Class::AtLeastOnce || done.attempts == 0);
        if !unwanted && !untouched {
            let answer = match shut_down {
                true => answer::refuse(&self.name, done.attempts, RemoteError::WorkerLost { deliveries: 1 }),
                false => answer_to(&self.name, &done, body_limit),
            };
            self.deliver(&way, id, answer, deadline + ANSWER_TIME).await;
        }
        // Only now: should the broker not have got the acknowledgement and give the task out again, it is
        // known here until its caller has the answer.
        let receipt = self.desk().running.remove(&run).and_then(|running| running.receipt);
        if untouched && !unwanted {
            self.give_back(way, id, class, receipt, body, deadline).await;
        } else if let Some(receipt) = receipt {
            receipt.ack().await;
        }
    }

    /// Somebody else is to perform it.
    async fn give_back(
        &self,
        way: Way,
        task: Uuid,
        class: Class,
        receipt: Option<Receipt>,
        body: bytes::Bytes,
        deadline: Instant,
    ) {
        if let Some(receipt) = receipt {
            return receipt.give_back().await;
        }
        debug_assert_eq!(class, Class::AtMostOnce, "only those are acknowledged before they are performed");
        // Acknowledged, and not begun: a message of its own, which nobody takes for one that was given out
        // before.
        let letter = Letter {
            to: To::Work { pool: self.pool.clone(), caller: way.caller },
            id: way.run,
            task,
            expires_in: Some(deadline.saturating_duration_since(Instant::now())),
            persistent: true,
            body,
        };
        if let Err(error) = self.send(letter, deadline, Repeat::Once).await {
            debug!(run = %way.run, "could not give an HTTP task back: {error}");
            self.refuse(&way, RemoteError::WorkerLost { deliveries: 1 }, 0).await;
        }
    }

    /// Gives back what this worker has not looked at.
    async fn give_back_unread(&self, arrival: Arrival) {
        let Arrival { id, caller, deliveries, body, receipt, .. } = arrival;
        let way = id.zip(caller).map(|(run, caller)| Way { run, caller });
        match way.map(|way| (way, self.read(way, &body))) {
            Some((way, Ok(order))) if order.class == Class::AtMostOnce && deliveries == 1 => {
                let (id, until) = (order.task.id().uuid(), Instant::now() + order.remaining);
                self.give_back(way, id, order.class, None, body, until).await;
                receipt.ack().await;
            }
            _ => receipt.give_back().await,
        }
    }

    /// The task in a message that came this way.
    fn read(&self, Way { run, caller }: Way, body: &bytes::Bytes) -> Result<Order, OpenError> {
        let way = sealed::Way::Work { pool: &self.pool, caller, run };
        let frame = sealed::open(self.guard.as_deref(), way, body)?;
        match frame.kind == order::KIND {
            true => Ok(order::decode(&frame, SystemTime::now())?),
            false => Err(frame.misplaced().into()),
        }
    }

    async fn refuse(&self, way: &Way, error: RemoteError, attempts: u32) {
        self.deliver(way, way.run, answer::refuse(&self.name, attempts, error), Instant::now() + ANSWER_TIME)
            .await;
    }

    /// Sends an answer until the broker has it, or nobody can be waiting for it.
    async fn deliver(&self, way: &Way, task: Uuid, body: bytes::Bytes, until: Instant) {
        let expires_in = Some(until.saturating_duration_since(Instant::now()));
        let letter =
            Letter { to: To::Replies(way.caller), id: way.run, task, expires_in, persistent: true, body };
        if let Err(error) = self.send(letter, until, Repeat::Always).await {
            warn!(run = %way.run, "an answer to an HTTP task could not be sent: {error}");
        }
    }

    /// Publishes until the broker has it: what it refuses now it may take later.
    async fn send(&self, letter: Letter, until: Instant, repeat: Repeat) -> Result<(), BrokerError> {
        let mut link = self.post.link();
        let (mut failures, mut last) = (0, BrokerError::Closed);
        let sent = timeout_at(until, async {
            loop {
                match self.post.publish(letter.clone()).await {
                    Err(error @ (BrokerError::Closed | BrokerError::Refused { .. })) => return Err(error),
                    Err(error @ BrokerError::Unconfirmed { .. }) if repeat == Repeat::Once => {
                        return Err(error);
                    }
                    Err(error) => last = error,
                    Ok(()) => return Ok(()),
                }
                failures += 1;
                link.wait_for(|link| link.up).await.map_err(|_| BrokerError::Closed)?;
                if matches!(last, BrokerError::NotNow { .. }) {
                    tokio::time::sleep(REFUSED.jittered(failures)).await;
                }
            }
        })
        .await;
        sent.unwrap_or(Err(last))
    }

    async fn say(&self, to: To, notice: Notice) {
        if let Err(error) = self.post.publish(notice.to(to)).await {
            debug!("a notice about HTTP tasks was not sent: {error}");
        }
    }

    /// Hears what was canceled.
    async fn listen(self: Arc<Self>, mut control: Incoming) {
        while let Some(arrival) = control.arrivals.recv().await {
            let opened = sealed::open(self.guard.as_deref(), sealed::Way::Workers, &arrival.body);
            match opened.and_then(|frame| Ok(Notice::decode(&frame)?)) {
                Ok(Notice::Cancel { runs, remember }) => self.desk().cancel(&runs, Instant::now(), remember),
                // The guard has told.
                Ok(_) | Err(OpenError::Refused(_)) => {}
                Err(OpenError::Frame(error)) => warn!("a message to the workers cannot be read: {error}"),
            }
            arrival.receipt.ack().await;
        }
    }

    /// Tells callers what has begun: as many at once as came while the last one was sent.
    async fn say_what_began(
        self: Arc<Self>,
        mut beginnings: mpsc::UnboundedReceiver<Way>,
        ending: CancellationToken,
    ) {
        let mut gathered = Vec::new();
        loop {
            tokio::select! {
                count = beginnings.recv_many(&mut gathered, RUNS) => if count == 0 { return },
                () = ending.cancelled() => return,
            }
            let mut by_caller: HashMap<Uuid, Vec<Uuid>> = HashMap::new();
            for Way { run, caller } in gathered.drain(..) {
                by_caller.entry(caller).or_default().push(run);
            }
            for (caller, runs) in by_caller {
                self.say(To::Replies(caller), Notice::Started { worker: self.name.clone(), runs }).await;
            }
        }
    }

    /// Says from time to time that it lives, and at once when it is connected.
    async fn show_life(self: Arc<Self>, ending: CancellationToken) {
        let (mut beat, mut link) = (interval(HEARTBEAT), self.post.link());
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                changed = link.changed() => if changed.is_err() { return },
                () = ending.cancelled() => return,
            }
            if link.borrow_and_update().up {
                self.say(To::Callers, Notice::Heartbeat { worker: self.name.clone(), leaving: false }).await;
            }
            self.desk().forget(Instant::now());
            // Each message is judged by the list of its moment. This is for the log of a worker without work.
            if let Some(guard) = &self.guard {
                guard.revoked();
            }
        }
    }
}

impl Desk {
    fn cancel(&mut self, runs: &[Uuid], now: Instant, remember: Duration) {
        // Longer than any task takes; a caller does not choose how much is kept here.
        let until = now + remember.min(order::LONGEST_HELD);
        for run in runs {
            match self.running.get_mut(run) {
                Some(running) => {
                    running.unwanted = true;
                    running.cancel.cancel();
                }
                None if self.canceled.len() < CANCELED => drop(self.canceled.insert(*run, until)),
                None => {}
            }
        }
    }

    /// Notes that an at-most-once run begins, whose message can be accepted for so long.
    fn performs(&mut self, run: Uuid, now: Instant, counts_for: Duration) -> Noted {
        if self.performed.contains_key(&run) {
            return Noted::Again;
        }
        if self.performed.len() >= PERFORMED {
            return Noted::Full;
        }
        self.performed.insert(run, now + counts_for);
        Noted::Begins
    }

    fn forget(&mut self, now: Instant) {
        self.canceled.retain(|_, until| *until > now);
        self.performed.retain(|_, until| *until > now);
        // A burst must not hold its memory for ever.
        if self.performed.len() < self.performed.capacity() / 4 {
            self.performed.shrink_to(2 * self.performed.len());
        }
    }
}

/// The bytes of what became of a task, whose caller would take a body of so many bytes.
fn answer_to(worker: &str, done: &Completion, body_limit: usize) -> bytes::Bytes {
    match &done.result {
        // Cut by what a message can carry, not by what the caller wants.
        Err(TaskError::BodyTooLarge { limit, .. }) if *limit < body_limit => {
            answer::refuse(worker, done.attempts, RemoteError::TooLarge { limit: LIMIT })
        }
        _ => answer::encode(worker, done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_run_begins_that_could_not_be_remembered() {
        let (mut desk, now, minute) = (Desk::default(), Instant::now(), Duration::from_secs(60));
        let runs = [1, 2, 3].map(Uuid::from_u128);
        assert_eq!(desk.performs(runs[0], now, minute), Noted::Begins);
        assert_eq!(desk.performs(runs[1], now, 2 * minute), Noted::Begins);
        for _ in 0..2 {
            assert_eq!(desk.performs(runs[2], now, minute), Noted::Full);
            assert_eq!(desk.performs(runs[0], now, minute), Noted::Again);
        }
        desk.forget(now + minute);
        assert_eq!(desk.performs(runs[1], now + minute, minute), Noted::Again);
        assert_eq!(desk.performs(runs[2], now + minute, minute), Noted::Begins);
    }
}
