//! What the bench runs against: API, broker and store in this process (embedded), or an API process of its
//! own on the configured broker, with a scratch database beside the configured one and an exchange prefix of
//! its own. Nothing of a real installation is touched, and all of it is removed afterwards.
//!
//! A bench that is killed removes nothing. On real servers its API process may go on, and its scratch
//! database, its exchanges and the queues of its API stay. The broker deletes the queues of its endpoints once
//! nobody has used them for 7 days.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::figures::resident_mib;
use super::load::Customer;
use crate::app::ApiProcess;
use crate::broker::SharedBroker;
use crate::broker::amqp::{AmqpBroker, AmqpOptions, Role};
use crate::broker::memory::MemoryBroker;
use crate::config::{
    BrokerTls, Config, Database, Delivery, JobPolicy, MessageQueue, Secret, Signing, TypePolicy,
};
use crate::domain::{EndpointName, TaskType};
use crate::store::{self, SharedStore};

/// Jobs of requests, by their steps. All are tasks of the only type.
pub(super) const STEPS: [&[&str]; 3] = [&["look"], &["left", "middle", "right"], &["tell"]];
/// The endpoint that has nothing to do.
pub(super) const IDLE: &str = "idle";
/// What the log has beside the figures: no rollouts that stop, because the bench stops them on purpose.
pub const LOG_FILTER: &str = "warn,tasker::rollouts=error";
/// How long the API may take to be ready.
const START: Duration = Duration::from_secs(60);
/// How long it may take to stop.
const STOP: Duration = Duration::from_secs(20);

/// A platform under test.
#[derive(Debug)]
pub struct Stack {
    /// The customer's entrance.
    pub customer: Customer,
    /// The configuration of all its parts.
    pub config: Arc<Config>,
    /// The only task type it has.
    pub task_type: TaskType,
    backend: Backend,
    files: TempDir,
    left_behind: Mutex<LeftBehind>,
}

/// What endpoints of the bench leave at a broker.
#[derive(Debug, Default)]
struct LeftBehind {
    names: Vec<EndpointName>,
    links: Vec<SharedBroker>,
}

/// A worker process.
#[derive(Debug)]
pub struct WorkerChild(Child);

impl WorkerChild {
    /// Ends it as a crash of the machine would.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.0.kill().await?)
    }

    /// Lets it end in order.
    ///
    /// # Errors
    /// When it does not.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        terminate(&mut self.0, "a worker process").await
    }
}

/// An API process of the bench, and what was made for it.
#[derive(Debug)]
struct Real {
    api: Child,
    db: Database,
    queue: MessageQueue,
}

#[derive(Debug)]
enum Backend {
    Embedded { api: Box<ApiProcess>, broker: MemoryBroker },
    Real(Box<Real>),
}

impl Stack {
    /// Everything in this process: SQLite in a temporary directory, in-process broker.
    ///
    /// # Errors
    /// When a part cannot start.
    pub async fn embedded(config: Config, delivery: Delivery) -> anyhow::Result<Self> {
        let (mut config, task_type, files) = prepare(config, delivery)?;
        let uri = Secret::new(format!("sqlite://{}", files.path().join("bench.db").display()));
        let db = Database { verbose: false, uri, max_connections: 16 };
        let store = store::open(&db)?;
        config.manager.db = db.into();
        let config = Arc::new(config);
        store.migrate().await?;
        let broker = MemoryBroker::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let api = ApiProcess::start(config.clone(), store, broker.connect(), listener)?;
        let customer = Customer::new(&format!("http://{}", api.address))?;
        customer.ready(START).await?;
        Ok(Self {
            customer,
            config,
            task_type,
            backend: Backend::Embedded { api: Box::new(api), broker },
            files,
            left_behind: Mutex::default(),
        })
    }

    /// An API process on the configured broker and a scratch database.
    ///
    /// # Errors
    /// When database or broker cannot be reached, or the database user may not create databases.
    pub async fn real(config: Config, delivery: Delivery) -> anyhow::Result<Self> {
        let (mut config, task_type, files) = prepare(config, delivery)?;
        let (db, queue) = config.for_api()?;
        let queue = MessageQueue { exchange: format!("bench-{}", fastrand::u32(..)), ..queue.clone() };
        let db = store::scratch(db)?;
        // Bound and let go: between here and the child's bind another process could take it, and the bench
        // would say so.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let customer = Customer::new(&format!("http://127.0.0.1:{port}"))?;
        (config.api.host, config.api.port) = (Ipv4Addr::LOCALHOST.into(), port);
        let text = file_of(&config, &task_type, delivery, &db, &queue);
        let begun = begin(&db, &files.path().join("bench.config.yaml"), &text).await;
        let api = match begun {
            Ok(api) => api,
            Err(error) => {
                // Why it did not begin says more than what could not be removed.
                _ = store::drop_scratch(&db).await;
                return Err(error);
            }
        };
        (config.manager.db, config.manager.message_queue) = (db.clone().into(), queue.clone().into());
        let stack = Self {
            customer,
            config: Arc::new(config),
            task_type,
            backend: Backend::Real(Box::new(Real { api, db, queue })),
            files,
            left_behind: Mutex::default(),
        };
        let ready = stack.customer.ready(START).await;
        if let Err(error) = ready {
            // Why it is not ready says more than what could not be removed.
            _ = stack.stop().await;
            return Err(error);
        }
        Ok(stack)
    }

    /// What is measured, in a line.
    pub fn describe(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match &self.backend {
            Backend::Embedded { .. } => {
                format!("embedded: API, in-process broker and SQLite in this process, {cores} cores")
            }
            Backend::Real(_) => format!(
                "API in a process of its own, on the configured broker and database, {cores} cores here"
            ),
        }
    }

    /// A link to the broker, as an endpoint has it. It is closed when the stack stops.
    pub fn link(&self) -> SharedBroker {
        let link = match &self.backend {
            Backend::Embedded { broker, .. } => broker.connect(),
            Backend::Real(real) => AmqpBroker::start(AmqpOptions::new(real.queue.clone(), Role::Endpoint)),
        };
        self.left_behind().links.push(link.clone());
        link
    }

    /// Notes endpoints before they subscribe: their queues are removed when the stack stops.
    pub(super) fn expect(&self, names: &[EndpointName]) {
        self.left_behind().names.extend_from_slice(names);
    }

    fn left_behind(&self) -> std::sync::MutexGuard<'_, LeftBehind> {
        self.left_behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ledger of the platform, to fill it with endpoints that nobody runs.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn ledger(&self) -> anyhow::Result<SharedStore> {
        Ok(store::open(self.config.database()?)?)
    }

    /// A directory that goes with the bench.
    pub fn directory(&self) -> &std::path::Path {
        self.files.path()
    }

    /// Resident memory in MiB, with the name of what it is of.
    pub fn resident(&self) -> Option<(&'static str, f64)> {
        match &self.backend {
            Backend::Embedded { .. } => {
                resident_mib(std::process::id()).map(|mib| ("the whole process", mib))
            }
            Backend::Real(real) => real.api.id().and_then(resident_mib).map(|mib| ("API process", mib)),
        }
    }

    /// Resident memory in MiB of a real endpoint process that has nothing to do; only where there is a real
    /// broker.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn idle_endpoint(&self) -> anyhow::Result<Option<f64>> {
        if matches!(self.backend, Backend::Embedded { .. }) {
            return Ok(None);
        }
        let mut endpoint = self.child(&["endpoint", "-e", IDLE])?;
        self.customer.subscribed(IDLE, START).await?;
        let mib = endpoint.id().and_then(resident_mib);
        endpoint.kill().await?;
        Ok(mib)
    }

    /// Whether its parts are processes of their own.
    pub fn has_processes(&self) -> bool {
        matches!(self.backend, Backend::Real(_))
    }

    /// Starts a worker process, with the memory that it had before if it was started before.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn worker(&self, name: &EndpointName, slots: u32) -> anyhow::Result<WorkerChild> {
        self.child(&["worker", "-e", name.as_str(), "--concurrency", &slots.to_string()]).map(WorkerChild)
    }

    /// Another process of this program, with the configuration of the API process and a journal in the
    /// directory of the bench.
    fn child(&self, words: &[&str]) -> anyhow::Result<Child> {
        let child = Command::new(std::env::current_exe()?)
            .args(words)
            .arg("--config")
            .arg(self.files.path().join("bench.config.yaml"))
            .arg("--data-dir")
            .arg(self.files.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A worker would look for its tasks there.
            .env_remove("TASKER_API_URL")
            .kill_on_drop(true)
            .spawn()?;
        Ok(child)
    }

    /// Stops everything and removes what it made, the queues of endpoints that were expected among it.
    ///
    /// # Errors
    /// When something could not be removed; the text says what.
    pub async fn stop(self) -> anyhow::Result<()> {
        let LeftBehind { names, links } =
            self.left_behind.into_inner().unwrap_or_else(PoisonError::into_inner);
        // First the links: an endpoint that still consumes declares its queues again.
        for link in links {
            link.close().await;
        }
        match self.backend {
            Backend::Embedded { api, .. } => api.stop().await,
            Backend::Real(real) => {
                let Real { mut api, db, queue } = *real;
                // Each is tried, whatever came of the one before.
                let stopped = terminate(&mut api, "the API process").await;
                let dropped = store::drop_scratch(&db).await;
                let options = AmqpOptions::new(queue, Role::Api { types: vec![self.task_type.clone()] });
                let subscriptions: Vec<_> =
                    names.into_iter().map(|name| (self.task_type.clone(), name)).collect();
                let removed = AmqpBroker::remove_topology(&options, &subscriptions).await;
                stopped?;
                dropped?;
                removed?;
            }
        }
        Ok(())
    }
}

/// Sets up a scratch database and starts an API process on it, with a configuration file of this text.
async fn begin(db: &Database, path: &Path, text: &str) -> anyhow::Result<Child> {
    let store = store::open(db)?;
    let migrated = store.migrate().await;
    store.close().await;
    migrated.context("the scratch database of the bench")?;
    std::fs::write(path, text)?;
    Command::new(std::env::current_exe()?)
        .arg("api")
        .arg("--config")
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("the API process of the bench")
}

/// Lets a process end in order; it is killed when it takes too long, and that is an error.
async fn terminate(child: &mut Child, what: &str) -> anyhow::Result<()> {
    if let Some(pid) =
        child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw)
    {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    }
    if tokio::time::timeout(STOP, child.wait()).await.is_err() {
        child.kill().await?;
        bail!("{what} did not stop within {STOP:?}");
    }
    Ok(())
}

/// A configuration with one task type of the bench, and a directory for what it writes.
fn prepare(mut config: Config, delivery: Delivery) -> anyhow::Result<(Config, TaskType, TempDir)> {
    let task_type: TaskType = "echo".parse()?;
    let mut policy = match delivery {
        Delivery::Fanout => {
            config.task_types.first().cloned().context("a configuration has at least one task type")?
        }
        Delivery::Queue => TypePolicy::usual(&task_type, delivery),
    };
    policy.name = task_type.clone();
    if delivery == Delivery::Fanout {
        policy.queue = None;
    }
    policy.concurrency = 64;
    config.task_types = vec![policy];
    let job = JobPolicy {
        task_type: task_type.clone(),
        payload: None,
        endpoints: Vec::new(),
        retry: config.requests.retry,
        finish_within: None,
    };
    config.requests.jobs = STEPS.concat().into_iter().map(|name| (name.to_owned(), job.clone())).collect();
    Ok((config, task_type, tempfile::tempdir()?))
}

/// What the child has to know, as a configuration file. JSON is YAML.
fn file_of(
    config: &Config,
    task_type: &TaskType,
    delivery: Delivery,
    db: &Database,
    queue: &MessageQueue,
) -> String {
    // So that a killed worker loses its lease within the bench.
    let presence = if delivery == Delivery::Queue { "1s" } else { "10s" };
    json!({
        "task_types": [{"name": task_type, "delivery": delivery.as_str()}],
        "requests": {"jobs": STEPS.concat().into_iter().map(|name| (name, task_type)).collect::<BTreeMap<_, _>>()},
        "endpoint": {
            "presence_interval": presence,
            "signatures": config.endpoint.signatures.as_str(),
            "trust": config.endpoint.trust.display().to_string(),
        },
        "security": signing_of(config.security.signing.as_ref()),
        "api": {"host": config.api.host, "port": config.api.port, "wait_for_endpoints_timeout": 30},
        "manager": {
            "db": {"uri": db.uri.reveal(), "max_connections": db.max_connections},
            "message_queue": broker_of(queue),
        },
        // As this process has it, which has logged the warning.
        "insecure_transport": config.insecure_transport,
        "log": {"filter": LOG_FILTER},
    })
    .to_string()
}

/// With what messages are signed, as a child finds it in its configuration file.
fn signing_of(signing: Option<&Signing>) -> serde_json::Value {
    let Some(Signing { environment, key, certificate }) = signing else { return json!({}) };
    let mut given = json!({
        "signatures": "sign", "environment": environment.as_str(), "signing_key": key.display().to_string(),
    });
    if let Some(certificate) = certificate {
        given["certificate"] = json!(certificate.display().to_string());
    }
    given
}

/// A broker, as a child finds it in its configuration file.
pub(super) fn broker_of(queue: &MessageQueue) -> serde_json::Value {
    let tls = match &queue.tls_files {
        files if *files == BrokerTls::default() => json!(queue.tls),
        BrokerTls { ca, identity } => {
            let (certificate, key) = identity.as_ref().map(|(certificate, key)| (certificate, key)).unzip();
            let given = [("ca", ca.as_ref()), ("certificate", certificate), ("key", key)];
            given.into_iter().filter_map(|(name, path)| Some((name, path?.display().to_string()))).collect()
        }
    };
    json!({
        "host": queue.host, "port": queue.port, "username": queue.username, "password": queue.password.reveal(),
        "virtual_host": queue.virtual_host, "exchange": queue.exchange, "tls": tls,
    })
}
