//! Commands with servers in this process: `tasker up`, `tasker api` and `tasker endpoint` run until told to
//! stop, `tasker bench` until it has measured.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::access;
use super::args::{Api, Bench, Endpoint, Global, HttpWorker, Up, Worker};
use super::enrolment;
use super::exit::Code;
use super::listen::Listen;
use super::output::{Failure, print};
use super::signals::Signals;
use super::simulation;
use super::stopping::Stopping;
use super::tokens::command_to_create;
use crate::api::{DoorError, check_guarded};
use crate::app::{self, ApiProcess, Embedded, EndpointProcess, HttpWorkerProcess, Staff};
use crate::bench::{self, By, Calls, Farming, Load, Queueing, Requesting, Rolling, Stack};
use crate::broker::SharedBroker;
use crate::broker::amqp::{AmqpBroker, AmqpOptions, Role};
use crate::broker::fetch::ApiBroker;
use crate::config::{self, Config, ConfigFile, Delivery, Environment, Flag, Sources, TypePolicy, span};
use crate::domain::EndpointName;
use crate::endpoint::HandlersDir;
use crate::handlers;
use crate::simulated::names;
use crate::store;
use crate::telemetry::{Quieter, start_logging};

/// How long a command waits for the database before it goes on without: long enough to tell a wrong schema at
/// once.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// `tasker up`: everything in one process.
pub(super) async fn up(global: &Global, args: Up) -> Result<Code, Failure> {
    let signals = begin()?;
    let shown = |path: PathBuf| path.display().to_string();
    let certificate = flag("api.tls.certificate", "--tls-certificate", args.tls_certificate.map(shown));
    let handlers_dir = flag("endpoint.handlers_dir", "--handlers-dir", args.handlers_dir.clone().map(shown));
    let flags = [certificate, flag("api.tls.key", "--tls-key", args.tls_key.map(shown)), handlers_dir];
    let address = args.listen.map(Listen::flags).unwrap_or_default();
    let flags = flags.into_iter().flatten().chain(address).collect();
    let mut config = load_with(global.named_file().unwrap_or(ConfigFile::Embedded), flags, &GREETED)?;
    if let Some(dir) = &args.handlers_dir {
        add_handlers(&mut config, dir, args.delivery)?;
    }
    let faults = simulation::faults(args.faults.as_deref())?;
    let number = args.simulate.unwrap_or_default();
    if number > 0 {
        simulation::add_types(&mut config, &faults)?;
    }
    let database = args.use_database.then(|| config.database().cloned()).transpose()?;
    // First what fails most often, before any file is made.
    let listener = listen(SocketAddr::new(config.api.host, config.api.port))?;
    let token_command =
        command_to_create(global, Some(args.data_dir.as_path()).filter(|_| database.is_none()));
    let endpoints: Vec<EndpointName> = args.endpoints.into_iter().flatten().collect();
    if let Some((_, twice)) =
        endpoints.iter().enumerate().find(|(index, name)| endpoints[..*index].contains(name))
    {
        return Err(Failure::Usage(format!(
            "--endpoints names `{twice}` twice: each endpoint needs a name of its own"
        )));
    }
    let simulated = faults.natures(faults.labelled(names(number as usize)));
    let simulated_types = faults.task_types;
    let staff =
        Staff { endpoints, workers: args.workers, concurrency: args.concurrency, simulated, simulated_types };
    let stop_timeout = config.endpoint.stop_timeout;
    let start = Embedded::start(config, database, &args.data_dir, listener, staff, &token_command);
    let Some(embedded) = signals.unless_told(start).await else { return Ok(Code::Ok) };
    let embedded = embedded?;
    // It serves as well when nobody reads this.
    _ = print(&format!("{}\n", embedded.greeting()));
    let asked = signals.told_to_stop(embedded.died()).await;
    let stopping = Stopping::begin(embedded.agents(), stop_timeout);
    embedded.stop().await;
    stopping.end();
    ended(asked)
}

/// Makes a task type of each executable in a directory.
fn add_handlers(config: &mut Config, dir: &Path, delivery: Delivery) -> Result<(), Failure> {
    let failed = |reason: String| Failure::Setup(format!("--handlers-dir {}: {reason}", dir.display()));
    let handlers = HandlersDir::new(dir);
    if let Some(trouble) = handlers.trouble() {
        return Err(failed(trouble));
    }
    let inventory = handlers.inventory().map_err(|error| failed(error.to_string()))?;
    for (name, reason) in inventory.left_out {
        tracing::warn!(file = %name, %reason, "not a handler");
    }
    config.add_types(&inventory.task_types, delivery);
    Ok(())
}

/// `tasker api`.
pub(super) async fn api(global: &Global, args: Api) -> Result<Code, Failure> {
    let signals = begin()?;
    let config = load(global.file(), args.listen.map(Listen::flags).unwrap_or_default())?;
    let (db, queue) = config.for_api()?;
    let store = store::open(db)?;
    let address = SocketAddr::new(config.api.host, config.api.port);
    let command = command_to_create(global, None);
    let look = async {
        store.check_schema().await?;
        check_guarded(address, &store, &command).await
    };
    match tokio::time::timeout(FIRST_LOOK, look).await {
        Ok(Err(DoorError::Tokens(error))) if error.needs_setup() => return Err(error.into()),
        Ok(Err(error @ DoorError::Unguarded { .. })) => return Err(Failure::Setup(error.to_string())),
        Ok(Ok(())) => {}
        // The observer goes on looking, and /ready says so.
        Ok(Err(error)) => tracing::warn!(%error, "starting without the database"),
        Err(_) => tracing::warn!("starting without the database: no answer"),
    }
    let listener = listen(address)?;
    let types = config.task_types.iter().map(|policy| policy.name.clone()).collect();
    let broker = AmqpBroker::start(AmqpOptions::new(queue.clone(), Role::Api { types }));
    let api = ApiProcess::start(Arc::new(config), store, broker, listener)
        .map_err(|error| Failure::Setup(error.to_string()))?;
    tracing::info!(address = %api.address, "the API listens");
    let asked = signals.told_to_stop(api.died()).await;
    api.stop().await;
    ended(asked)
}

/// `tasker endpoint`.
pub(super) async fn endpoint(global: &Global, args: Endpoint) -> Result<Code, Failure> {
    let name = match (args.action, args.endpoint) {
        (Some(action), _) => return enrolment::run(global, action).await,
        (None, Some(name)) => name,
        (None, None) => return Err(Failure::Usage("which endpoint? Name it with -e".to_owned())),
    };
    let signals = begin()?;
    let shown = |path: PathBuf| path.display().to_string();
    let data_dir = flag("endpoint.data_dir", "--data-dir", args.data_dir.map(shown));
    let flags = [data_dir, flag("endpoint.handlers_dir", "--handlers-dir", args.handlers_dir.map(shown))];
    let mut flags: Vec<Flag> = flags.into_iter().flatten().collect();
    if let Some(path) = &args.identity {
        flags.extend(enrolment::flags(path, &name)?);
    }
    let config = load(global.file(), flags)?;
    let broker = AmqpBroker::start(AmqpOptions::new(config.for_endpoint()?.clone(), Role::Endpoint));
    let (builtin, stop_timeout) = (handlers::builtin(&config.endpoint), config.endpoint.stop_timeout);
    let endpoint = EndpointProcess::start(Arc::new(config), name, &args.tasktypes, None, broker, builtin)?;
    until_told(&signals, endpoint, stop_timeout).await
}

/// Lets an endpoint or a worker run until it is told to stop, which it may take so long for.
async fn until_told(
    signals: &Signals,
    process: EndpointProcess,
    stop_timeout: Duration,
) -> Result<Code, Failure> {
    let asked = signals.told_to_stop(process.died()).await;
    let stopping = Stopping::begin(vec![process.handle.clone()], stop_timeout);
    process.stop().await;
    stopping.end();
    ended(asked)
}

/// `tasker worker`.
pub(super) async fn worker(global: &Global, args: Worker) -> Result<Code, Failure> {
    let signals = begin()?;
    let shown = |path: PathBuf| path.display().to_string();
    let flags = [
        flag("endpoint.data_dir", "--data-dir", args.data_dir.map(shown)),
        flag("endpoint.handlers_dir", "--handlers-dir", args.handlers_dir.map(shown)),
        flag("endpoint.stop_timeout", "--stop-timeout", args.stop_timeout.map(span::format)),
    ];
    let mut flags: Vec<Flag> = flags.into_iter().flatten().collect();
    let (config, broker): (Config, SharedBroker) = match &global.api {
        // Whoever reaches nothing but the API may have no file either: the types that it names are treated as
        // usual.
        Some(_) => {
            let mut config = load(global.named_file().unwrap_or(ConfigFile::Embedded), flags)?;
            if global.named_file().is_none() {
                if args.tasktypes.is_empty() {
                    return Err(Failure::Usage(
                        "name the task types with -t, or a configuration that has them with --config"
                            .to_owned(),
                    ));
                }
                config.task_types =
                    args.tasktypes.iter().map(|name| TypePolicy::usual(name, Delivery::Queue)).collect();
            }
            (config, ApiBroker::start(access::client(global)?, args.endpoint.clone()))
        }
        None => {
            if let Some(path) = &args.identity {
                flags.extend(enrolment::flags(path, &args.endpoint)?);
            }
            let config = load(global.file(), flags)?;
            let broker = AmqpBroker::start(AmqpOptions::new(config.for_endpoint()?.clone(), Role::Endpoint));
            (config, broker)
        }
    };
    let (builtin, stop_timeout) = (handlers::builtin(&config.endpoint), config.endpoint.stop_timeout);
    let slots = Some(args.concurrency);
    let worker =
        EndpointProcess::start(Arc::new(config), args.endpoint, &args.tasktypes, slots, broker, builtin)?;
    until_told(&signals, worker, stop_timeout).await
}

/// `tasker http-worker`.
pub(super) async fn http_worker(global: &Global, args: HttpWorker) -> Result<Code, Failure> {
    let signals = begin()?;
    let most = args.max_in_flight.map(|tasks| tasks.to_string());
    let flags = [
        flag("http_worker.pool", "--pool", args.pool),
        flag("http_worker.max_in_flight", "--max-in-flight", most),
    ];
    let config = load(global.file(), flags.into_iter().flatten().collect())?;
    let name = args.name.map_or_else(worker_name, |name| name.to_string());
    let worker = HttpWorkerProcess::start(&config, name)?;
    let asked = signals.told_to_stop(worker.died()).await;
    worker.stop().await;
    ended(asked)
}

/// A name that says where a worker runs, and that no other has.
fn worker_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}-{:08x}", fastrand::u32(..))
}

fn bench_load(count: u64, concurrency: u32, rate: Option<f64>, payload_bytes: u32) -> Load {
    Load {
        count: count as usize,
        concurrency: concurrency as usize,
        rate,
        payload_bytes: payload_bytes as usize,
    }
}

/// `tasker bench`.
pub(super) async fn bench(global: &Global, args: Bench) -> Result<Code, Failure> {
    match args {
        Bench::Tasks(args) => {
            let load = bench_load(args.count, args.concurrency, args.rate, args.payload_bytes);
            on_a_stack(global, Delivery::Fanout, async |stack| bench::run_tasks(stack, load).await).await
        }
        Bench::Fleet(args) => {
            on_a_stack(global, Delivery::Fanout, async |stack| {
                bench::run_fleet(stack, args.endpoints as usize, args.tasks as usize).await
            })
            .await
        }
        Bench::Rollout(args) => {
            let [endpoints, waves, create, old] =
                [args.endpoints, args.waves, args.create, args.old].map(|number| number as usize);
            let rolling = Rolling { endpoints, waves, create, old };
            on_a_stack(global, Delivery::Fanout, async |stack| bench::run_rollout(stack, rolling).await).await
        }
        Bench::Queue(args) => {
            let load = bench_load(args.count, args.concurrency, None, args.payload_bytes);
            let queueing = Queueing { load, workers: args.workers, slots: args.slots, kills: args.kills };
            on_a_stack(global, Delivery::Queue, async |stack| bench::run_queue(stack, queueing).await).await
        }
        Bench::Requests(args) => {
            let load = bench_load(args.count, args.concurrency, args.rate, args.params_bytes);
            let requesting = Requesting { load, workers: args.workers, slots: args.slots };
            on_a_stack(global, Delivery::Queue, async |stack| bench::run_requests(stack, requesting).await)
                .await
        }
        Bench::Http(args) => {
            let calls = Calls {
                count: args.count as usize,
                delay: Duration::from_millis(args.delay),
                rounds: args.rounds as usize,
                hosts: args.hosts as usize,
                retries: args.retries,
            };
            let by = match args.workers {
                None => By::Here,
                Some(workers) => {
                    let config = load(global.file(), quiet())?;
                    By::Workers(workers as usize, Box::new(config.for_http_worker()?.clone()))
                }
            };
            print(&bench::run_http(calls, by).await?)?;
            Ok(Code::Ok)
        }
        Bench::Flamenco(args) => {
            let phase = Duration::from_secs(args.seconds.into());
            print(
                &bench::run_flamenco(Farming {
                    workers: args.workers as usize,
                    tasks: args.tasks as usize,
                    phase,
                })
                .await?,
            )?;
            Ok(Code::Ok)
        }
        Bench::HttpServer(args) => {
            bench::run_http_server(&args.hosts, Duration::from_millis(args.delay)).await?;
            Ok(Code::Ok)
        }
    }
}

/// Measures on the configured database and broker when a file was named, embedded otherwise.
async fn on_a_stack(
    global: &Global,
    delivery: Delivery,
    measure: impl AsyncFnOnce(&Stack) -> (Vec<EndpointName>, anyhow::Result<String>),
) -> Result<Code, Failure> {
    let stack = match global.named_file() {
        Some(file) => Stack::real(load(file, quiet())?, delivery).await?,
        None => Stack::embedded(load(ConfigFile::Embedded, quiet())?, delivery).await?,
    };
    print(&format!("bench        {}\n", stack.describe()))?;
    let (names, measured) = measure(&stack).await;
    // Whatever came of it, nothing is left behind.
    let removed = stack.stop(&names).await;
    print(&measured?)?;
    removed?;
    Ok(Code::Ok)
}

/// The greeting names what each endpoint has subscribed to. The log of a trial is kept nowhere, so the hashes
/// of the audit log are of no use in it.
const GREETED: [Quieter; 2] =
    [("tasker", "tasker::endpoint::intake=warn"), ("tasker", "tasker::api::auditor=warn")];

/// The figures are what is to be read.
fn quiet() -> Vec<Flag> {
    vec![Flag { key: "log.filter", value: bench::LOG_FILTER.to_owned(), name: "bench" }]
}

/// What every server does before anything else.
pub(super) fn begin() -> Result<Signals, Failure> {
    app::seclude();
    Ok(Signals::install()?)
}

/// A setting that was made on the command line, if it was.
fn flag(key: &'static str, name: &'static str, value: Option<String>) -> Option<Flag> {
    value.map(|value| Flag { key, name, value })
}

/// Reads the configuration and starts logging as it says.
pub(super) fn load(file: ConfigFile, flags: Vec<Flag>) -> Result<Config, Failure> {
    load_with(file, flags, &[])
}

fn load_with(file: ConfigFile, flags: Vec<Flag>, quieter: &[Quieter]) -> Result<Config, Failure> {
    let loaded = config::load(&Sources { file, environment: Environment::of_process(), flags })?;
    start_logging(&loaded.config.log, quieter).map_err(Failure::Usage)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(loaded.config)
}

fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let ip = if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() };
    TcpListener::bind(address).map_err(|error| {
        let why = match error.kind() {
            ErrorKind::AddrInUse => format!("another process listens there; stop it, or take another port with --listen {ip}:PORT"),
            ErrorKind::PermissionDenied => {
                format!("ports below 1024 need root or CAP_NET_BIND_SERVICE; take another port with --listen {ip}:PORT")
            }
            ErrorKind::AddrNotAvailable => {
                format!("this machine does not have the address; take one that `ip address` shows with --listen IP:{}", address.port())
            }
            _ => error.to_string(),
        };
        Failure::Setup(format!("cannot listen on {address}: {why}"))
    })
}

pub(super) fn ended(asked: bool) -> Result<Code, Failure> {
    if asked {
        Ok(Code::Ok)
    } else {
        Err(Failure::Setup("a component of the process ended unexpectedly; the log says which".to_owned()))
    }
}
