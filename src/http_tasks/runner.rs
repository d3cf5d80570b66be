//! The way in: settings, and a runner that launches lists with them.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use tokio::runtime::{Builder, Handle};

use super::batch::{Batch, Blocking};
use super::carrier::{Carrier, CarrierHealth};
use super::connection::{Connect, Tcp};
use super::engine::{Engine, Stats};
use super::error::{BuildError, LaunchError};
use super::network::Network;
use super::observer::Observer;
use super::pool::{Limits, Pool};
use super::proxy::Proxy;
use super::reach::Guard;
use super::resolver::{Resolve, Resolver, SystemResolver};
use super::retry::RetryPolicy;
use super::runtime::TaskRuntime;
use super::schedule::Schedule;
use super::settings::{DeadlineFrom, FOREVER, Settings};
use super::sockets::{Sockets, budget};
use super::task::Task;
use super::task_list::TaskList;
use super::tls::{InsecureFallback, TlsConfig, TlsContext};
use super::transport::TransportPolicy;

/// How many of something there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Limit {
    /// As many as the limit on open files leaves room for.
    #[default]
    Auto,
    /// So many.
    Of(usize),
}

/// Whether work can be given to a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Whether it takes lists.
    pub accepting: bool,
    /// Tasks that have not completed.
    pub unfinished: usize,
    /// Whether tasks can be taken to where they are performed, when that is elsewhere.
    pub carrier: Option<CarrierHealth>,
}

impl Health {
    /// Whether it takes lists and can have them performed.
    pub const fn is_alive(&self) -> bool {
        self.accepting && !matches!(self.carrier, Some(CarrierHealth { connected: false, .. }))
    }
}

/// Launches lists of tasks. Clones are the same runner.
#[derive(Clone)]
pub struct TaskRunner {
    engine: Arc<Engine>,
}

/// What a runner is made with. Every setting has the default that its documentation names.
pub struct RunnerBuilder {
    service: String,
    max_in_flight: Limit,
    max_sockets: Limit,
    raise_nofile: bool,
    max_per_host: Option<usize>,
    max_rate_per_host: Option<f64>,
    max_unfinished: Option<usize>,
    timeout: Duration,
    attempt_timeout: Option<Duration>,
    deadline_from: DeadlineFrom,
    retry: RetryPolicy,
    transport: TransportPolicy,
    tls: TlsConfig,
    fallback: InsecureFallback,
    body_limit: usize,
    max_buffered_bytes: usize,
    proxy: Proxy,
    guard: Option<Arc<dyn Guard>>,
    observer: Option<Arc<dyn Observer>>,
    resolver: Arc<dyn Resolve>,
    connector: Arc<dyn Connect>,
    carrier: Option<Arc<dyn Carrier>>,
    /// A setting that was made and concerns nobody but who makes the calls.
    of_calls: Option<&'static str>,
}

/// Tasks that are elsewhere at the same time, unless said.
const CARRIED: usize = 10_000;
/// Why a setting is not taken.
const OF_WORKERS: &str = "is for those who make the calls, and that is not this process";

impl TaskRunner {
    /// Begins a runner that makes the calls in this process. `service` is the `User-Agent` of its requests.
    pub fn local(service: impl Into<String>) -> RunnerBuilder {
        RunnerBuilder {
            service: service.into(),
            max_in_flight: Limit::Auto,
            max_sockets: Limit::Auto,
            raise_nofile: false,
            max_per_host: None,
            max_rate_per_host: None,
            max_unfinished: None,
            timeout: Duration::from_secs(30),
            attempt_timeout: None,
            deadline_from: DeadlineFrom::Start,
            retry: RetryPolicy::default(),
            transport: TransportPolicy::default(),
            tls: TlsConfig::new(),
            fallback: InsecureFallback::Never,
            body_limit: 16 << 20,
            max_buffered_bytes: 256 << 20,
            proxy: Proxy::none(),
            guard: None,
            observer: None,
            resolver: Arc::new(SystemResolver),
            connector: Arc::new(Tcp),
            carrier: None,
            of_calls: None,
        }
    }

    /// Begins a runner that has the calls made elsewhere. Sockets, TLS and all else that concerns connections
    /// are set there; setting them here is an error of [`RunnerBuilder::build`].
    pub fn elsewhere(service: impl Into<String>, carrier: Arc<dyn Carrier>) -> RunnerBuilder {
        RunnerBuilder { carrier: Some(carrier), ..Self::local(service) }
    }

    /// `count` tasks of the source's content, each with its own name.
    pub fn task_list<T: Default>(&self, source: &Task, count: usize) -> TaskList<T> {
        TaskList::of(source, count)
    }

    /// Starts a list. Returns at once, whatever its length.
    ///
    /// # Errors
    /// When the list is empty, there is no room for it, or the runner was shut down. A task that cannot be
    /// sent is no error: it completes with one.
    pub fn launch<T>(&self, list: TaskList<T>) -> Result<Batch<T>, LaunchError> {
        if list.is_empty() {
            return Err(LaunchError::Empty);
        }
        if self.engine.is_shut_down() {
            return Err(LaunchError::ShutDown);
        }
        if let Some(most) = self.engine.settings().max_unfinished {
            let unfinished = self.engine.stats().unfinished;
            if unfinished.saturating_add(list.launchable()) > most {
                return Err(LaunchError::QueueFull { unfinished, most });
            }
        }
        Ok(self.engine.launch(list))
    }

    /// As [`Self::launch`], for code that is not async. In async code the iterator panics instead of blocking
    /// it.
    ///
    /// # Errors
    /// As [`Self::launch`].
    pub fn launch_blocking<T>(&self, list: TaskList<T>) -> Result<Blocking<T>, LaunchError> {
        Ok(Blocking { batch: self.launch(list)?, runtime: self.engine.handle().clone() })
    }

    /// Changes whom to believe and who we are, for connections of tasks that start from now on. No connection
    /// made before serves them.
    ///
    /// # Errors
    /// When the calls are made elsewhere.
    pub fn set_tls(&self, config: TlsConfig) -> Result<(), BuildError> {
        if self.engine.carrier_health().is_some() {
            return Err(BuildError::Setting { field: "tls", why: OF_WORKERS });
        }
        self.engine.set_tls(config);
        Ok(())
    }

    /// Whether work can be given to it.
    pub fn alive(&self) -> Health {
        let (accepting, carrier) = (!self.engine.is_shut_down(), self.engine.carrier_health());
        Health { accepting, unfinished: self.engine.stats().unfinished, carrier }
    }

    /// What it is doing.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Takes no more lists, waits for what runs at most `grace`, ends the rest (each task completes), closes
    /// all sockets. Harmless twice.
    pub async fn shutdown(&self, grace: Duration) {
        self.engine.shut_down(grace).await;
    }
}

impl std::fmt::Debug for TaskRunner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskRunner")
            .field("service", &self.engine.settings().service)
            .field("stats", &self.stats())
            .finish()
    }
}

impl std::fmt::Debug for RunnerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunnerBuilder").field("service", &self.service).finish_non_exhaustive()
    }
}

impl RunnerBuilder {
    /// Tasks that run at the same time; never more than sockets. Default [`Limit::Auto`]; 10,000 when the
    /// calls are made elsewhere, where the time of a task runs from here on: more than the workers do at the
    /// same time only wait for them.
    #[must_use]
    pub fn max_in_flight(mut self, limit: Limit) -> Self {
        self.max_in_flight = limit;
        self
    }

    /// Sockets at the same time; never more than [`Limit::Auto`], the default: the soft limit on open files,
    /// less those open when the runner is built, less 64.
    #[must_use]
    pub fn max_sockets(mut self, limit: Limit) -> Self {
        self.of_calls = Some("max_sockets");
        self.max_sockets = limit;
        self
    }

    /// Whether the soft limit on open files is raised to the hard one, for the whole process. Default false.
    #[must_use]
    pub fn raise_nofile(mut self, raise: bool) -> Self {
        self.of_calls = Some("raise_nofile");
        self.raise_nofile = raise;
        self
    }

    /// Tasks that run at the same time for one host and port. Default: all but a sixteenth of the slots,
    /// which is kept for other hosts.
    #[must_use]
    pub fn max_per_host(mut self, tasks: usize) -> Self {
        self.max_per_host = Some(tasks);
        self
    }

    /// Attempts that begin in a second for one host and port, evenly spread; more than 0, such as 0.5 or 100.
    /// Default: no limit.
    #[must_use]
    pub fn max_rate_per_host(mut self, per_second: f64) -> Self {
        self.max_rate_per_host = Some(per_second);
        self
    }

    /// Tasks that may be unfinished at the same time, waiting or running: a list that would make them more is
    /// not launched, so that a caller that is faster than the servers learns of it. Two launches at the same
    /// time may both find room. Default: no limit.
    #[must_use]
    pub fn max_unfinished(mut self, tasks: usize) -> Self {
        self.max_unfinished = Some(tasks);
        self
    }

    /// How long a task may take. Default 30 s.
    #[must_use]
    pub fn default_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long one attempt may take. Default: as long as the task.
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// When the time of a task begins. Default [`DeadlineFrom::Start`].
    #[must_use]
    pub fn deadline_from(mut self, from: DeadlineFrom) -> Self {
        self.deadline_from = from;
        self
    }

    /// How failed attempts are repeated.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// How connections are made and kept.
    #[must_use]
    pub fn transport(mut self, policy: TransportPolicy) -> Self {
        self.of_calls = Some("transport");
        self.transport = policy;
        self
    }

    /// Whom to believe and who we are. Default: the system's certificates, no identity.
    #[must_use]
    pub fn tls(mut self, config: TlsConfig) -> Self {
        self.of_calls = Some("tls");
        self.tls = config;
        self
    }

    /// What to do when a certificate is not accepted. Default: the task fails.
    #[must_use]
    pub fn insecure_fallback(mut self, fallback: InsecureFallback) -> Self {
        self.of_calls = Some("insecure_fallback");
        self.fallback = fallback;
        self
    }

    /// The longest body, inflated. Default 16 MiB.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// Bytes of bodies that nobody has taken; from there on no task starts until some are. Default 256 MiB.
    #[must_use]
    pub fn max_buffered_bytes(mut self, bytes: usize) -> Self {
        self.max_buffered_bytes = bytes;
        self
    }

    /// A way through a proxy. Default none, whatever the environment says.
    #[must_use]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.of_calls = Some("proxy");
        self.proxy = proxy;
        self
    }

    /// Who says where connections may go. Default: nobody, everywhere.
    #[must_use]
    pub fn guard(mut self, guard: Arc<dyn Guard>) -> Self {
        self.of_calls = Some("guard");
        self.guard = Some(guard);
        self
    }

    /// Who is told what happens.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Who looks up names. Default the system.
    #[must_use]
    pub fn resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.of_calls = Some("resolver");
        self.resolver = resolver;
        self
    }

    /// Where streams of bytes come from. Default TCP.
    #[must_use]
    pub fn connector(mut self, connector: Arc<dyn Connect>) -> Self {
        self.of_calls = Some("connector");
        self.connector = connector;
        self
    }

    /// The runner. It runs in the runtime it is built in, or in one of its own when there is none.
    ///
    /// # Errors
    /// When a setting makes no sense, or no socket is left.
    pub fn build(self) -> Result<TaskRunner, BuildError> {
        let wrong = |field, why| BuildError::Setting { field, why };
        if HeaderValue::from_str(&self.service).is_err() || self.service.is_empty() {
            return Err(wrong("service", "cannot be a User-Agent"));
        }
        if self.timeout.is_zero() {
            return Err(wrong("default_timeout", "leaves no time"));
        }
        if [self.max_in_flight, self.max_sockets].contains(&Limit::Of(0)) || self.max_per_host == Some(0) {
            return Err(wrong("max_in_flight, max_sockets or max_per_host", "is 0"));
        }
        if self.max_buffered_bytes == 0 {
            return Err(wrong("max_buffered_bytes", "is 0"));
        }
        if self.guard.is_some() && !self.proxy.is_none() {
            return Err(wrong("guard", "cannot see where a proxy connects to: choose one of them"));
        }
        let pace = match self.max_rate_per_host {
            None => None,
            // A division by next to nothing is more than any span.
            Some(rate) if rate > 0.0 && rate.is_finite() => {
                Some(Duration::try_from_secs_f64(1.0 / rate).unwrap_or(FOREVER).min(FOREVER))
            }
            Some(_) => return Err(wrong("max_rate_per_host", "is not a number of attempts in a second")),
        };
        let most = match (&self.carrier, self.of_calls, self.max_sockets) {
            (Some(_), Some(setting), _) => return Err(wrong(setting, OF_WORKERS)),
            (Some(_), None, _) => 0,
            (None, _, Limit::Auto) => budget(self.raise_nofile)?,
            (None, _, Limit::Of(sockets)) => sockets.min(budget(self.raise_nofile)?),
        };
        let slots = match (&self.carrier, self.max_in_flight) {
            (Some(_), Limit::Auto) => CARRIED,
            (Some(_), Limit::Of(tasks)) => tasks,
            (None, Limit::Auto) => most,
            (None, Limit::Of(tasks)) => tasks.min(most),
        };
        let runtime = match Handle::try_current() {
            Ok(handle) => TaskRuntime::of_caller(handle),
            Err(_) => {
                let runtime = Builder::new_multi_thread().enable_all().thread_name("http-tasks").build();
                TaskRuntime::own(runtime.map_err(BuildError::Runtime)?)
            }
        };
        let transport = self.transport;
        let (total, per_key) =
            if transport.keep_alive { (transport.max_idle, transport.max_idle_per_host) } else { (0, 0) };
        let schedule = Schedule::new(slots, self.max_per_host, pace);
        let pool = Pool::new(Limits { total, per_key, age: transport.idle_timeout });
        let settings = Settings {
            service: self.service.into(),
            max_unfinished: self.max_unfinished,
            timeout: self.timeout,
            attempt_timeout: self.attempt_timeout,
            deadline_from: self.deadline_from,
            retry: self.retry,
            transport,
            fallback: self.fallback,
            body_limit: self.body_limit,
            max_buffered_bytes: self.max_buffered_bytes,
            proxy: self.proxy,
            guard: self.guard,
            observer: self.observer,
            connector: self.connector,
        };
        let network = Network::new(
            settings,
            Sockets::new(most),
            pool,
            Resolver::new(self.resolver),
            TlsContext::new(self.tls, 1),
        );
        Ok(TaskRunner { engine: Arc::new(Engine::new(network, schedule, self.carrier, runtime)) })
    }
}
