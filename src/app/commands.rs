//! The commands that run until told to stop: `tasker api`, `tasker endpoint`, `tasker up`.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio_util::sync::CancellationToken;

use super::signals::told_to_stop;
use super::{ApiProcess, Embedded, EndpointProcess};
use crate::bench::{self, Load, Stack};
use crate::broker::amqp::{AmqpBroker, AmqpOptions, Role};
use crate::cli::Global;
use crate::cli::args::{Bench, Command};
use crate::config::{self, Config, ConfigFile, Environment, Flag, Sources};
use crate::domain::{EndpointName, TaskType};
use crate::handlers;
use crate::store::{self, StoreError};
use crate::telemetry::start_logging;

/// How long a command waits for the database before it goes on without: long enough to tell a wrong schema at once.
const FIRST_LOOK: Duration = Duration::from_secs(3);

/// Runs a command that needs servers in this process.
///
/// # Errors
/// What waiting cannot mend, in one line.
pub async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let embedded = || global.named_file().unwrap_or(ConfigFile::Embedded);
    match command {
        Command::Up(args) => {
            let config = load(embedded(), Vec::new())?;
            up(config, &args.data_dir, args.listen, &args.endpoints).await
        }
        Command::Api(args) => {
            let flag = |key, value: String| Flag { key, value, name: "--listen" };
            let listen = args.listen.map(|at| vec![flag("api.host", at.ip().to_string()), flag("api.port", at.port().to_string())]);
            api(load(global.file(), listen.unwrap_or_default())?).await
        }
        Command::Endpoint(args) => {
            let flag = |key, name, path: Option<PathBuf>| path.map(|path| Flag { key, name, value: path.display().to_string() });
            let flags = [
                flag("endpoint.data_dir", "--data-dir", args.data_dir),
                flag("endpoint.handlers_dir", "--handlers-dir", args.handlers_dir),
            ];
            endpoint(load(global.file(), flags.into_iter().flatten().collect())?, args.endpoint, &args.tasktypes).await
        }
        Command::Bench(args) => bench(load(embedded(), Vec::new())?, global.named_file().is_some(), args).await,
        Command::Client(_) => bail!("this command needs no server"),
    }
}

/// Reads the configuration and starts logging as it says.
fn load(file: ConfigFile, flags: Vec<Flag>) -> anyhow::Result<Config> {
    let loaded = config::load(&Sources { file, environment: Environment::of_process(), flags })?;
    start_logging(&loaded.config.log).map_err(|error| anyhow!(error))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(loaded.config)
}

/// Runs an API process.
async fn api(config: Config) -> anyhow::Result<()> {
    let (db, queue) = config.for_api()?;
    let store = store::open(db)?;
    match tokio::time::timeout(FIRST_LOOK, store.check_schema()).await {
        Ok(Err(error @ StoreError::Schema { .. })) => return Err(error.into()),
        Ok(Ok(())) => {}
        // The observer goes on looking, and /ready says so.
        Ok(Err(error)) => tracing::warn!(%error, "starting without the database"),
        Err(_) => tracing::warn!("starting without the database: it does not answer"),
    }
    let types = config.task_types.iter().map(|policy| policy.name.clone()).collect();
    let broker = AmqpBroker::start(AmqpOptions::new(queue.clone(), Role::Api { types }));
    let listener = listen(SocketAddr::new(config.api.host, config.api.port))?;
    let api = ApiProcess::start(Arc::new(config), store, broker, listener)?;
    tracing::info!(address = %api.address, "the API listens");
    let asked = told_to_stop(api.died()).await?;
    tracing::info!("stopping");
    api.stop().await;
    ended(asked)
}

/// Runs an endpoint process for some of the configured types, or all.
async fn endpoint(config: Config, name: EndpointName, types: &[TaskType]) -> anyhow::Result<()> {
    let broker = AmqpBroker::start(AmqpOptions::new(config.for_endpoint()?.clone(), Role::Endpoint));
    let endpoint = EndpointProcess::start(Arc::new(config), name, types, broker, handlers::builtin())?;
    let asked = told_to_stop(endpoint.died()).await?;
    tracing::info!("stopping");
    endpoint.stop().await;
    ended(asked)
}

/// Runs everything in one process.
async fn up(config: Config, data_dir: &Path, listen_on: SocketAddr, endpoints: &[EndpointName]) -> anyhow::Result<()> {
    // First what fails most often, before any file is made.
    let listener = listen(listen_on)?;
    let embedded = Embedded::start(config, data_dir, listener, endpoints).await?;
    println!("{}", embedded.greeting());
    let asked = told_to_stop(embedded.died()).await?;
    tracing::info!("stopping");
    embedded.stop().await;
    ended(asked)
}

/// Runs the bench: on the configured database and broker when a file was named, embedded otherwise.
async fn bench(config: Config, real: bool, args: Bench) -> anyhow::Result<()> {
    let stack = if real { Stack::real(config).await? } else { Stack::embedded(config).await? };
    println!("bench        {}", stack.describe());
    let (names, result) = match args {
        Bench::Tasks(args) => {
            let load = Load {
                count: args.count as usize,
                concurrency: args.concurrency as usize,
                rate: args.rate,
                payload_bytes: args.payload_bytes as usize,
            };
            bench::run_tasks(&stack, load).await
        }
        Bench::Fleet(args) => bench::run_fleet(&stack, args.endpoints as usize, args.tasks as usize).await,
    };
    // Whatever came of it, nothing is left behind.
    result.and(stack.stop(&names).await)
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))
}

fn ended(asked: bool) -> anyhow::Result<()> {
    if asked {
        return Ok(());
    }
    bail!("a part of the process ended on its own; the log says which")
}

/// Cancelled when any of these is.
pub(super) fn any_of(tokens: &[CancellationToken]) -> CancellationToken {
    let any = CancellationToken::new();
    for token in tokens.iter().cloned() {
        let any = any.clone();
        tokio::spawn(async move {
            token.cancelled().await;
            any.cancel();
        });
    }
    any
}
