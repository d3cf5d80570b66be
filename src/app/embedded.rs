//! Everything in one process: API and endpoints on SQLite and the in-process broker.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::{ApiProcess, EndpointProcess};
use crate::broker::memory::MemoryBroker;
use crate::config::{Config, Database, Secret};
use crate::domain::{EndpointName, TaskType};
use crate::handlers;
use crate::store;

/// Connections to the SQLite file: one writes, the others read.
const CONNECTIONS: u32 = 8;

/// A running platform.
#[derive(Debug)]
pub struct Embedded {
    api: ApiProcess,
    endpoints: Vec<EndpointProcess>,
    died: CancellationToken,
    names: Vec<EndpointName>,
    types: Vec<TaskType>,
    data_dir: String,
}

impl Embedded {
    /// Starts all parts; the endpoints subscribe to every configured type.
    ///
    /// # Errors
    /// When the directory cannot be written, or is used by another process.
    pub async fn start(mut config: Config, data_dir: &Path, listener: TcpListener, endpoints: &[EndpointName]) -> anyhow::Result<Self> {
        std::fs::create_dir_all(data_dir).with_context(|| format!("cannot create the directory {}", data_dir.display()))?;
        let data_dir = data_dir.canonicalize().with_context(|| format!("cannot use the directory {}", data_dir.display()))?;
        let uri = Secret::new(format!("sqlite://{}", data_dir.join("tasker.db").display()));
        let db = Database { verbose: false, uri, max_connections: CONNECTIONS };
        let store = store::open(&db)?;
        store.migrate().await.with_context(|| format!("cannot use the directory {}", data_dir.display()))?;
        config.endpoint.data_dir = data_dir.join("endpoints");
        let types: Vec<TaskType> = config.task_types.iter().map(|policy| policy.name.clone()).collect();
        let (config, broker) = (Arc::new(config), MemoryBroker::new());
        let api = ApiProcess::start(config.clone(), store, broker.connect(), listener)?;
        let started = endpoints
            .iter()
            .map(|name| EndpointProcess::start(config.clone(), name.clone(), &types, broker.connect(), handlers::builtin(&config.endpoint)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let tokens: Vec<_> = std::iter::once(api.died()).chain(started.iter().map(EndpointProcess::died)).cloned().collect();
        let died = any_of(&tokens);
        let data_dir = data_dir.display().to_string();
        Ok(Self { api, endpoints: started, died, names: endpoints.to_vec(), types, data_dir })
    }

    /// Where the API listens.
    pub const fn address(&self) -> SocketAddr {
        self.api.address
    }

    /// Cancelled when a part has ended on its own.
    pub const fn died(&self) -> &CancellationToken {
        &self.died
    }

    /// What it serves and a line to try it with.
    pub fn greeting(&self) -> String {
        let list = |names: &mut dyn Iterator<Item = &str>| names.collect::<Vec<_>>().join(", ");
        let types = list(&mut self.types.iter().map(TaskType::as_str));
        let endpoints = list(&mut self.names.iter().map(EndpointName::as_str));
        let (address, data_dir) = (self.api.address, &self.data_dir);
        let first = self.types.first().map_or("worker", TaskType::as_str);
        format!(
            "tasker {version} is up\n  \
               API         http://{address}\n  \
               task types  {types}\n  \
               endpoints   {endpoints}\n  \
               data        {data_dir}\n\n\
             Try it:\n  \
               curl -s -H 'Content-Type: application/json' http://{address}/{first} \\\n       \
                    -d '{{\"identifier\": \"first\", \"payload\": {{\"seconds\": 2}}}}'\n  \
               curl -s 'http://{address}/{first}/first?wait=20s'\n\n\
             Ctrl-C stops it; the data stays.",
            version = env!("CARGO_PKG_VERSION"),
        )
    }

    /// Stops endpoints first, so that what they finish is collected.
    pub async fn stop(self) {
        futures::future::join_all(self.endpoints.into_iter().map(EndpointProcess::stop)).await;
        self.api.stop().await;
    }
}

/// Cancelled when any of these is.
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
