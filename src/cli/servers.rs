//! Commands with servers in this process: `tasker up` and `tasker api` run until they are told to stop.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::args::{Api, Global, Up};
use super::exit::Code;
use super::listen::Listen;
use super::output::{Failure, print};
use super::process::{begin, ended, flag, load, load_with};
use super::simulation;
use super::stopping::Stopping;
use super::tokens::command_to_create;
use crate::api::{DoorError, check_guarded};
use crate::app::{ApiProcess, Embedded, Staff};
use crate::broker::amqp::{AmqpBroker, AmqpOptions, Role};
use crate::config::{Config, ConfigFile, Delivery};
use crate::domain::EndpointName;
use crate::endpoint::HandlersDir;
use crate::simulated::names;
use crate::store;
use crate::telemetry::Quieter;

/// How long a command waits for the database before it goes on without: long enough to tell a wrong schema at
/// once.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// How long simulated endpoints are waited for before the greeting.
const JOIN: Duration = Duration::from_secs(30);

/// The greeting names what each endpoint has subscribed to. The log of a trial is kept nowhere, so the hashes
/// of the audit log are of no use in it. Targets are paths of the crates that log, not of this one.
const GREETED: [Quieter; 2] =
    [("tasker", "tasker_fleet::endpoint::intake=warn"), ("tasker", "tasker_web::api::auditor=warn")];

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
    let simulated = simulation::natures(&faults, faults.labelled(names(number as usize)));
    let simulated_types = faults.task_types;
    let staff =
        Staff { endpoints, workers: args.workers, concurrency: args.concurrency, simulated, simulated_types };
    let stop_timeout = config.endpoint.stop_timeout;
    let start = Embedded::start(config, database, &args.data_dir, listener, staff, &token_command);
    let Some(embedded) = signals.unless_told(start).await else { return Ok(Code::Ok) };
    let mut embedded = embedded?;
    // A task is expected of those that are there when it is submitted. Some may stay away, as a file says.
    _ = signals.unless_told(tokio::time::timeout(JOIN, embedded.simulated_are_there())).await;
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
        tracing::warn!(file = %name, why = %reason, "not a handler");
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
