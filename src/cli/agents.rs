//! Commands that perform tasks on a server: `tasker endpoint`, `tasker worker` and `tasker http-worker`.
//!
//! Nothing here reaches the store, the API or the bench, so that the executable `tasker-agent`, which has
//! these commands alone, is linked without them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::access;
use super::args::{Global, HttpWorker, RunEndpoint, Worker};
use super::enrolment;
use super::exit::Code;
use super::output::Failure;
use super::process::{begin, ended, flag, load};
use super::signals::Signals;
use super::stopping::Stopping;
use crate::app::{EndpointProcess, HttpWorkerProcess};
use crate::broker::SharedBroker;
use crate::broker::amqp::{AmqpBroker, AmqpOptions, Role};
use crate::broker::fetch::ApiBroker;
use crate::config::{Config, ConfigFile, Delivery, Flag, TypePolicy, span};
use crate::handlers;

/// `tasker endpoint -e NAME`.
pub(super) async fn endpoint(global: &Global, args: RunEndpoint) -> Result<Code, Failure> {
    let signals = begin()?;
    let shown = |path: PathBuf| path.display().to_string();
    let data_dir = flag("endpoint.data_dir", "--data-dir", args.data_dir.map(shown));
    let flags = [data_dir, flag("endpoint.handlers_dir", "--handlers-dir", args.handlers_dir.map(shown))];
    let mut flags: Vec<Flag> = flags.into_iter().flatten().collect();
    if let Some(path) = &args.identity {
        flags.extend(enrolment::flags(path, Some(&args.endpoint))?);
    }
    let config = load(global.file(), flags)?;
    let broker = AmqpBroker::start(AmqpOptions::new(config.for_endpoint()?.clone(), Role::Endpoint));
    let (builtin, stop_timeout) = (handlers::builtin(&config.endpoint), config.endpoint.stop_timeout);
    let endpoint =
        EndpointProcess::start(Arc::new(config), args.endpoint, &args.tasktypes, None, broker, builtin)?;
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
        // A worker that reaches nothing but the API may have no configuration file. The types that it names
        // have the usual policy then.
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
                flags.extend(enrolment::flags(path, Some(&args.endpoint))?);
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
