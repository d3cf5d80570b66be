//! The process on a server that performs tasks: puts the parts together, starts them in order and stops them
//! in order.
//!
//! Promises: a task whose delivery was acknowledged is performed and reported, whatever ends this process and
//! however often; it is started once, unless the process itself ended while it ran. Gives up: tasks that
//! expire meanwhile and are not asked for again.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::at_work::{AtWork, RunningTask};
use super::executable::Executables;
use super::executor::GRACE;
use super::guard::{Guard, Manner};
use super::intake::{Intake, IntakeError};
use super::journal::{Health, Journal, JournalError, Options};
use super::labels::OwnLabels;
use super::lane::Lane;
use super::leftovers::Leftovers;
use super::orders::{self, Orders};
use super::performer::{self, Core};
use super::presence::{self, Session};
use super::revoked::Revoked;
use super::stop_file::StopFile;
use super::{Registry, directory, home, line_reporter, lookout, recovery, reporter};
use crate::broker::dead::DeadLetters;
use crate::broker::{BrokerError, SharedBroker, Source};
use crate::clock::Clock;
use crate::config::{self, Signatures, TypePolicy};
use crate::domain::EndpointName;
use crate::service::Running;
use crate::signing::{Trust, TrustError};

/// Deliveries that may be on their way to the journal.
const PREFETCH: u16 = 256;

/// How often it is said what a stop waits for.
const WAITING: Duration = Duration::from_secs(10);

/// How long the last reports may take: they are in the journal and go out at the next start otherwise.
const FLUSH: Duration = Duration::from_secs(3);

/// What an agent is told.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Its name.
    pub endpoint: EndpointName,
    /// The types it performs, with their policies.
    pub task_types: Vec<TypePolicy>,
    /// Where it keeps its journal, and the rest.
    pub settings: config::Endpoint,
    /// How long a welcome may take before the endpoint says again that it has joined.
    pub welcome_timeout: Duration,
    /// How long an attempt gets to end by itself after it was told to.
    pub grace: Duration,
    /// Makes it a worker that performs so many tasks at the same time, of all its types together.
    pub slots: Option<u32>,
}

impl AgentConfig {
    /// With the usual time-outs.
    pub fn new(endpoint: EndpointName, task_types: Vec<TypePolicy>, settings: config::Endpoint) -> Self {
        Self {
            endpoint,
            task_types,
            settings,
            welcome_timeout: Duration::from_secs(30),
            grace: GRACE,
            slots: None,
        }
    }
}

/// Why an agent does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// See [`JournalError`].
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// See [`BrokerError`].
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// Its handlers cannot run as the configured user.
    #[error("{0}")]
    RunAs(String),
    /// Its trust file cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Its own directory cannot be used.
    #[error("{path} cannot be used: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl From<IntakeError> for AgentError {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Broker(error) => error.into(),
            IntakeError::Journal(error) => error.into(),
        }
    }
}

/// How an agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentState {
    /// Whether it is connected to the broker.
    pub connected: bool,
    /// Whether the API has welcomed this connection: tasks arrive of every type whose queue can be consumed,
    /// and of one at least.
    pub welcomed: bool,
    /// Whether there is room for tasks.
    pub journal: Health,
}

impl AgentState {
    /// Whether all is well.
    pub fn is_ready(&self) -> bool {
        self.connected && self.welcomed && self.journal == Health::Room
    }
}

/// Tells how an agent is.
#[derive(Debug, Clone)]
pub struct AgentHandle {
    session: watch::Receiver<Session>,
    health: watch::Receiver<Health>,
    at_work: Arc<AtWork>,
}

impl AgentHandle {
    /// How it is now.
    pub fn state(&self) -> AgentState {
        let session = self.session.borrow();
        AgentState {
            connected: session.up,
            welcomed: session.is_welcomed(),
            journal: self.health.borrow().clone(),
        }
    }

    /// The tasks that run now.
    pub fn running(&self) -> Vec<RunningTask> {
        self.at_work.running()
    }

    /// The tasks that still ran when the time of a stop was over, and were ended.
    pub fn stopped(&self) -> Vec<RunningTask> {
        self.at_work.stopped()
    }

    /// Waits for a state. Answers `false` when the agent has ended instead.
    pub async fn wait_for(&mut self, wanted: impl Fn(&AgentState) -> bool) -> bool {
        loop {
            self.session.mark_unchanged();
            self.health.mark_unchanged();
            if wanted(&self.state()) {
                return true;
            }
            let changed = tokio::select! {
                changed = self.session.changed() => changed,
                changed = self.health.changed() => changed,
            };
            if changed.is_err() {
                return false;
            }
        }
    }
}

/// An endpoint with its journal open, ready to run.
#[derive(Debug)]
pub struct Agent {
    core: Arc<Core>,
    broker: SharedBroker,
    session: watch::Sender<Session>,
    welcome_timeout: Duration,
    stop_timeout: Duration,
    look_every: Duration,
}

impl Agent {
    /// Opens the journal and ends what an earlier process left running. Reads files: takes a moment.
    ///
    /// # Errors
    /// When the directory is in use by another agent, or not to be used at all.
    pub fn open(config: AgentConfig, broker: SharedBroker, registry: Registry) -> Result<Self, AgentError> {
        let AgentConfig { endpoint, task_types, settings, welcome_timeout, grace, slots } = config;
        let names: Vec<_> = task_types.iter().map(|policy| &policy.name).collect();
        let dir = directory::of(&settings.data_dir, &endpoint, &names);
        let options = Options::new(settings.journal_limit, settings.remember);
        let of_endpoint = dir.parent().unwrap_or(&dir);
        let home = home::of(of_endpoint)
            .map_err(|source| AgentError::Directory { path: of_endpoint.to_owned(), source })?;
        // First, since its lock says that nobody else's handlers are in the way.
        let (journal, damages) = Journal::open(&dir, options, &names)?;
        for damage in damages {
            let (path, offset, lost, places) =
                (damage.path.display(), damage.offset, damage.lost, damage.places);
            match damage.torn {
                true => {
                    tracing::info!(%path, offset, lost, "truncated an unfinished record at the end of the journal")
                }
                false => {
                    tracing::error!(%path, offset, lost, places, "the journal is damaged: what lay at these places of the file is lost, the rest was read")
                }
            }
        }
        let groups = dir.join(directory::RUNNING);
        let (leftovers, ended) = Leftovers::sweep(groups.clone())
            .map_err(|source| AgentError::Directory { path: groups, source })?;
        if ended > 0 {
            tracing::warn!(ended, "killed handlers that the last process left running");
        }
        let executables = settings
            .handlers_dir
            .clone()
            .map(|dir| Executables::new(dir, &settings, &task_types, leftovers).map(Arc::new));
        let executables = executables.transpose().map_err(AgentError::RunAs)?;
        let guard = match settings.signatures {
            Signatures::Off => None,
            wanted => {
                let (trust, tolerance) = (Trust::read(&settings.trust)?, settings.clock_tolerance);
                let required = wanted == Signatures::Require;
                let manner = Manner { required, tolerance, is_worker: slots.is_some() };
                let quarantine = dir.join(directory::QUARANTINE);
                let ordered = names.iter().copied().filter(|task_type| trust.needs_orders(task_type));
                let orders = Orders::open(of_endpoint, ordered, orders::margin(tolerance))
                    .map_err(|source| AgentError::Directory { path: of_endpoint.to_owned(), source })?;
                let revoked = Revoked::open(of_endpoint, &trust)
                    .map_err(|source| AgentError::Directory { path: of_endpoint.to_owned(), source })?;
                Some(Guard::new(trust, manner, endpoint.clone(), quarantine, orders, revoked))
            }
        };
        let shared = slots.map(|slots| Arc::new(Semaphore::new(usize::try_from(slots.max(1)).unwrap_or(1))));
        let lane = |policy: TypePolicy| (policy.name.clone(), Arc::new(Lane::new(policy, shared.clone())));
        let lanes: HashMap<_, _> = task_types.into_iter().map(lane).collect();
        let core = Core::new(
            endpoint,
            home,
            journal,
            lanes,
            registry,
            executables,
            settings.output_limit,
            grace.min(settings.stop_timeout / 2),
            slots,
            OwnLabels::new(settings.labels.clone(), settings.labels_file.clone()),
            guard,
            StopFile::at(settings.stop_file),
            Clock::system(),
        );
        Ok(Self {
            core: Arc::new(core),
            broker,
            session: watch::Sender::new(Session::none(settings.presence_interval)),
            welcome_timeout,
            stop_timeout: settings.stop_timeout,
            look_every: settings.presence_interval,
        })
    }

    /// Tells how it is, from now until it has ended.
    pub fn handle(&self) -> AgentHandle {
        AgentHandle {
            session: self.session.subscribe(),
            health: self.core.journal.health(),
            at_work: self.core.at_work.clone(),
        }
    }

    /// Runs until `stop`, then ends in order within the configured time: takes nothing more, says goodbye,
    /// lets handlers finish, sends the last reports. What did not finish is in the journal for the next
    /// start.
    ///
    /// # Errors
    /// When the broker or the journal are closed under it.
    pub fn run(self, stop: CancellationToken) -> Running<Result<(), AgentError>> {
        Box::pin(async move {
            let Self { core, broker, session, welcome_timeout, stop_timeout, look_every } = self;
            // Ends everything when this future is dropped: no part of the endpoint may outlive it.
            let all = CancellationToken::new();
            let _all = all.clone().drop_guard();
            let Some(recovered) = stop.run_until_cancelled(recovery::recover(&core)).await else {
                core.journal.close().await;
                return Ok(());
            };
            recovered?;
            lookout::look(&core).await;
            let subscriptions: Vec<_> =
                core.lanes.keys().map(|task_type| (task_type.clone(), core.endpoint.clone())).collect();
            let mut consumer = broker.consume(Source::Tasks(subscriptions), PREFETCH).await?;

            let running = TaskTracker::new();
            let taking = all.child_token();
            let parts = TaskTracker::new();
            for lane in core.lanes.values() {
                parts.spawn(performer::start_in_turn(
                    core.clone(),
                    lane.clone(),
                    taking.clone(),
                    running.clone(),
                    all.clone(),
                ));
            }
            tokio::spawn(
                taking.clone().run_until_cancelled_owned(lookout::look_again(core.clone(), look_every)),
            );
            let watched = core.clone();
            let watch = async move { watched.stop_file.watch().await };
            tokio::spawn(taking.clone().run_until_cancelled_owned(watch));
            if let Some(guard) = core.guard.clone() {
                tokio::spawn(all.clone().run_until_cancelled_owned(guard.tend()));
            }
            let say_so = presence::say_so(core.clone(), broker.clone(), session.clone(), welcome_timeout);
            // A worker goes on saying so while it finishes what it has: nobody else must be given that.
            let present = if core.leases() { all.child_token() } else { taking.clone() };
            let quiet = present.clone();
            let presence = tokio::spawn(async move { quiet.run_until_cancelled(say_so).await });
            let flushed = CancellationToken::new();
            let send_reports = reporter::send_reports(core.clone(), broker.clone(), flushed.clone());
            let mut reporter = tokio::spawn(all.clone().run_until_cancelled_owned(send_reports));
            let send_lines =
                line_reporter::send_lines(core.clone(), broker.clone(), session.subscribe(), flushed.clone());
            tokio::spawn(all.clone().run_until_cancelled_owned(send_lines));

            let sessions = session.subscribe();
            let dead = DeadLetters::new(broker.clone(), "tasks");
            let intake = Intake { core: core.clone(), session, dead };
            let ended = intake.run(&mut consumer, &stop).await;

            let deadline = Instant::now() + stop_timeout;
            core.draining.cancel();
            taking.cancel();
            parts.close();
            parts.wait().await;
            running.close();
            if core.leases() {
                // It may take long, so cancels are still heard. What else comes is let go: after the goodbye
                // others are given it.
                let finished = CancellationToken::new();
                let until_finished = async {
                    finish(&core, &running, deadline).await;
                    finished.cancel();
                };
                let ((), heard) = tokio::join!(until_finished, intake.run(&mut consumer, &finished));
                if let Err(error) = heard {
                    tracing::warn!(%error, "cancels were not received while running tasks finished");
                }
            }
            present.cancel();
            let _ = presence.await;
            let last = sessions.borrow().clone();
            if last.up {
                // Not those that another process of this name consumes.
                let own = last.types.iter().map(|task_type| (task_type.clone(), core.endpoint.clone()));
                if let Err(error) = broker.dismiss(own.collect()).await {
                    tracing::warn!(%error, "cannot end the subscriptions: tasks to everybody may wait for this endpoint");
                }
                presence::say_goodbye(&core, &broker, &last).await;
            }
            // Last: a process that stands by takes its place in the fanout as soon as it has the queues.
            drop(consumer);
            finish(&core, &running, deadline).await;
            flushed.cancel();
            if tokio::time::timeout(FLUSH, &mut reporter).await.is_err() {
                tracing::warn!("not all reports went out; they will with the next start");
                reporter.abort();
            }
            core.journal.close().await;
            Ok(ended?)
        })
    }
}

/// Waits for running handlers, and stops those that are not through in time, unless their type is to be
/// waited for.
async fn finish(core: &Core, running: &TaskTracker, deadline: Instant) {
    if tokio::time::timeout_at(deadline - core.grace, running.wait()).await.is_err() {
        tracing::warn!(endpoint = %core.endpoint, tasks = running.len(), "handlers that still run are stopped; that is a failed attempt of each");
        core.stopping.cancel();
        // Those ended within the grace, whatever they do; the others are what a type with `on_stop: wait`
        // performs, or wait for a disk.
        if tokio::time::timeout_at(deadline, running.wait()).await.is_ok() {
            return;
        }
        core.overdue.cancel();
        while tokio::time::timeout(core.grace + WAITING, running.wait()).await.is_err() {
            let (tasks, ids) = (running.len(), core.some_running());
            match core.journal.health().borrow().trouble() {
                Some(trouble) => {
                    tracing::warn!(endpoint = %core.endpoint, tasks, ?ids, "the stop waits for handlers and for the journal: {trouble}")
                }
                None => {
                    tracing::warn!(endpoint = %core.endpoint, tasks, ?ids, "the stop waits for handlers, as `on_stop: wait` says; a second signal ends them")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::journal::{Record, State};
    use crate::endpoint::testing;

    #[tokio::test(start_paused = true)]
    async fn a_stop_does_not_wait_for_a_disk_that_takes_nothing() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let (here, away) = (dir.path().join("here"), dir.path().join("away"));
        let lane = Arc::new(Lane::new(testing::policy(), None));
        let core = Arc::new(testing::core(&here, lane.clone(), None));
        let task = testing::stored();
        core.journal.take(vec![Record::Task(task.clone())]).await.expect("taken");
        std::fs::rename(&here, &away).expect("renamed");
        let (running, abandon) = (TaskTracker::new(), CancellationToken::new());
        let taking = CancellationToken::new();
        let started = tokio::spawn(performer::start_in_turn(
            core.clone(),
            lane.clone(),
            taking.clone(),
            running.clone(),
            abandon,
        ));
        lane.push(performer::assignment_of(&task).expect("a task"));
        // It begins, and that cannot be noted.
        let mut health = core.journal.health();
        health.wait_for(|health| matches!(health, Health::Failing { .. })).await.expect("the journal lives");
        taking.cancel();
        started.await.expect("ends");
        running.close();
        assert_eq!(running.len(), 1);
        finish(&core, &running, Instant::now() + Duration::from_secs(20)).await;
        assert!(running.is_empty());
        assert_eq!(
            core.journal.state(task.id),
            Some(State::Pending { started: 0 }),
            "the next start takes it"
        );
    }
}
