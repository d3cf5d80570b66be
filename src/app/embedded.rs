//! Everything in one process: API and endpoints on the in-process broker, with the ledger in a SQLite file or
//! in the configured database.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use super::greeting::{Greeting, Trial};
use super::{ApiProcess, EndpointProcess};
use crate::api::check_guarded;
use crate::broker::memory::MemoryBroker;
use crate::config::{Config, Database, Secret};
use crate::domain::{EndpointName, TaskType};
use crate::endpoint::AgentHandle;
use crate::handlers;
use crate::simulated::{Connect, Fleet, Nature};
use crate::store::{self, Claim};

/// Connections to the SQLite file: one writes, the others read.
const CONNECTIONS: u32 = 8;

/// How long the last words of the endpoints may take to get into the ledger.
const TAKEN_IN: Duration = Duration::from_secs(5);

/// Who performs the tasks of a platform.
#[derive(Debug, Default)]
pub struct Staff {
    /// The endpoints.
    pub endpoints: Vec<EndpointName>,
    /// How many workers.
    pub workers: u32,
    /// Tasks that each of them performs at the same time.
    pub concurrency: u32,
    /// The simulated endpoints.
    pub simulated: Vec<(EndpointName, Nature)>,
    /// The types that those perform.
    pub simulated_types: Vec<TaskType>,
}

/// A running platform.
#[derive(Debug)]
pub struct Embedded {
    api: ApiProcess,
    endpoints: Vec<EndpointProcess>,
    simulated: Option<Fleet>,
    simulated_names: Vec<EndpointName>,
    broker: MemoryBroker,
    died: CancellationToken,
    names: Vec<EndpointName>,
    workers: Vec<EndpointName>,
    types: Vec<TaskType>,
    data_dir: String,
    /// Whether the directory had no ledger before.
    new: bool,
    config: Arc<Config>,
    /// Nobody else serves this ledger: its endpoints would be gone for the broker in that process.
    claim: Claim,
    /// Whether there is a token.
    guarded: bool,
    trial: Option<Trial>,
}

impl Embedded {
    /// Starts all parts; the endpoints subscribe to every configured type that endpoints perform, the workers
    /// to the others. The ledger is kept in the `configured` database, or in a file of the directory.
    ///
    /// # Errors
    /// When the directory cannot be written; when another process uses the directory or the database; or when
    /// others can reach the listener and there is no token, which `token_command` creates.
    pub async fn start(
        mut config: Config,
        configured: Option<Database>,
        data_dir: &Path,
        listener: TcpListener,
        staff: Staff,
        token_command: &str,
    ) -> anyhow::Result<Self> {
        let Staff { endpoints, workers, concurrency, simulated, simulated_types } = staff;
        // What a configuration has no types for has no processes.
        let endpoints = if config.of_delivery(false).next().is_some() { endpoints } else { Vec::new() };
        let number = if config.of_delivery(true).next().is_some() { workers } else { 0 };
        let named = (1..=number).map(|number| format!("worker{number}").parse::<EndpointName>());
        let named = named.collect::<Result<Vec<_>, _>>()?;
        // Before any file is made, and anything is accepted.
        if let Some(twice) = endpoints.iter().find(|name| named.contains(name)) {
            bail!(
                "`{twice}` is the name of a worker: choose another name for the endpoint, or start no workers (--workers 0)"
            );
        }
        let simulated_names: Vec<EndpointName> = simulated.iter().map(|(name, _)| name.clone()).collect();
        if let Some(twice) = endpoints.iter().find(|name| simulated_names.contains(name)) {
            bail!("`{twice}` is the name of a simulated endpoint: choose another name for the endpoint");
        }
        let (data_dir, file) = database(data_dir)?;
        let unusable = match &configured {
            Some(_) => "cannot use the database of manager.db".to_owned(),
            None => format!("cannot use the directory {}; name another with --data-dir", data_dir.display()),
        };
        // The greeting says so: it explains an empty ledger to whoever took another directory by mistake.
        let new = configured.is_none() && !data_dir.join(LEDGER).exists();
        let store = store::open(configured.as_ref().unwrap_or(&file))?;
        store.migrate().await.context(unusable)?;
        let Some(claim) = store.claim().await? else {
            let (what, do_this) = match &configured {
                Some(_) => {
                    ("the database of manager.db".to_owned(), "stop that one, or name another database")
                }
                None => (format!("the directory {}", data_dir.display()), "name another with --data-dir"),
            };
            bail!("another `tasker up` uses {what}; {do_this}");
        };
        check_guarded(listener.local_addr()?, &store, token_command).await?;
        let guarded = !store.tokens().await?.is_empty();
        config.endpoint.data_dir = data_dir.join("endpoints");
        let types: Vec<TaskType> = config.task_types.iter().map(|policy| policy.name.clone()).collect();
        let (config, broker) = (Arc::new(config), MemoryBroker::new());
        let api = ApiProcess::start(config.clone(), store, broker.connect(), listener)?;
        let trial = match simulated_types.first().filter(|_| endpoints.is_empty() && !simulated.is_empty()) {
            Some(task_type) => Some(Trial::simulated(task_type.clone())),
            None => Trial::of(&config, &api.admission),
        };
        let processes = endpoints
            .iter()
            .map(|name| (name, None))
            .chain(named.iter().map(|name| (name, Some(concurrency))));
        let started = processes
            .map(|(name, slots)| {
                let builtin = handlers::builtin(&config.endpoint);
                EndpointProcess::start(config.clone(), name.clone(), &[], slots, broker.connect(), builtin)
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let tokens: Vec<_> = [api.died(), claim.lost()]
            .into_iter()
            .chain(started.iter().map(EndpointProcess::died))
            .cloned()
            .collect();
        let died = any_of(&tokens);
        let data_dir = data_dir.display().to_string();
        let connect = broker.clone();
        let simulated = (!simulated.is_empty()).then(|| {
            let connect: Connect = Arc::new(move || connect.connect());
            Fleet::of(connect, &simulated_types, simulated, config.endpoint.presence_interval)
        });
        Ok(Self {
            api,
            simulated,
            simulated_names,
            broker,
            endpoints: started,
            died,
            names: endpoints,
            workers: named,
            types,
            data_dir,
            new,
            config,
            claim,
            guarded,
            trial,
        })
    }

    /// Completes when every simulated endpoint has been welcomed.
    pub async fn simulated_are_there(&mut self) {
        if let Some(fleet) = &mut self.simulated {
            fleet.welcomed().await;
        }
    }

    /// Where the API listens.
    pub const fn address(&self) -> SocketAddr {
        self.api.address
    }

    /// Canceled when a part has ended on its own.
    pub const fn died(&self) -> &CancellationToken {
        &self.died
    }

    /// The endpoints and workers, to be asked what they do.
    pub fn agents(&self) -> Vec<AgentHandle> {
        self.endpoints.iter().map(|process| process.handle.clone()).collect()
    }

    /// What it serves, and commands to try it with.
    pub fn greeting(&self) -> String {
        Greeting {
            api: &self.config.api,
            address: self.api.address,
            types: &self.types,
            endpoints: &self.names,
            workers: &self.workers,
            simulated: &self.simulated_names,
            data_dir: &self.data_dir,
            new: self.new,
            guarded: self.guarded,
            trial: self.trial.as_ref(),
        }
        .text()
    }

    /// Stops endpoints first; then what they have said last - what they finished, and that they are gone - is
    /// put into the ledger, so that the next start does not wait for endpoints that it does not have.
    pub async fn stop(self) {
        if let Some(fleet) = self.simulated {
            fleet.stop().await;
        }
        futures::future::join_all(self.endpoints.into_iter().map(EndpointProcess::stop)).await;
        if tokio::time::timeout(TAKEN_IN, self.broker.until_taken_in()).await.is_err() {
            tracing::warn!(
                "not all that the endpoints said last is in the ledger: some may be waited for as if they were there"
            );
        }
        self.api.stop().await;
        drop(self.claim);
    }
}

/// The name of the file that the ledger is in.
const LEDGER: &str = "tasker.db";

/// The directory, made if need be, and the database in it.
///
/// # Errors
/// When the directory cannot be made.
pub fn database(data_dir: &Path) -> anyhow::Result<(PathBuf, Database)> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
    made.with_context(|| {
        format!(
            "cannot create the directory {}; name one that you may write to with --data-dir",
            data_dir.display()
        )
    })?;
    let unusable =
        || format!("cannot use the directory {}; name another with --data-dir", data_dir.display());
    let data_dir = data_dir.canonicalize().with_context(unusable)?;
    keep_private(&data_dir);
    let uri = Secret::new(format!("sqlite://{}", data_dir.join(LEDGER).display()));
    Ok((data_dir, Database { verbose: false, uri, max_connections: CONNECTIONS }))
}

/// Takes the rights of others at a directory away, if all that is in it is ours: somebody may have named one
/// that holds more.
fn keep_private(data_dir: &Path) {
    let mode = fs::metadata(data_dir).map_or(0, |meta| meta.permissions().mode());
    if mode & 0o077 == 0 {
        return;
    }
    let ours = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            entry.file_name() == "endpoints" || entry.file_name().to_string_lossy().starts_with(LEDGER)
        })
    };
    let narrowed = match fs::read_dir(data_dir).map(|mut entries| entries.all(ours)) {
        Ok(true) if mode & 0o1000 == 0 => fs::set_permissions(data_dir, fs::Permissions::from_mode(0o700)),
        Ok(_) => Err(io::Error::other("it holds files of others")),
        Err(error) => Err(error),
    };
    let (path, mode) = (data_dir.display(), format!("{:04o}", mode & 0o7777));
    match narrowed {
        Ok(()) => {
            tracing::warn!(%path, mode, "the data directory was readable by others; its mode is now 0700")
        }
        Err(error) => tracing::warn!(%path, mode, %error, "the data directory is readable by others"),
    }
}

/// Canceled when any of these is.
fn any_of(tokens: &[CancellationToken]) -> CancellationToken {
    let any = CancellationToken::new();
    for token in tokens {
        let (token, any) = (token.clone(), any.clone());
        tokio::spawn(async move {
            token.cancelled().await;
            any.cancel();
        });
    }
    any
}
