//! What calls are made with: sockets, idle connections, names and TLS.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use super::connection::Connection;
use super::pool::Pool;
use super::resolver::Resolver;
use super::settings::Settings;
use super::sockets::Sockets;
use super::task::Task;
use super::tls::{TlsConfig, TlsContext, TlsMode};

pub(super) struct Network {
    pub(super) settings: Arc<Settings>,
    pub(super) sockets: Arc<Sockets>,
    pub(super) pool: Arc<Pool>,
    pub(super) resolver: Resolver,
    tls: RwLock<Arc<TlsContext>>,
    dialled: AtomicU64,
    fallbacks: AtomicU64,
}

impl Network {
    pub(super) fn new(
        settings: Settings,
        sockets: Arc<Sockets>,
        pool: Arc<Pool>,
        resolver: Resolver,
        tls: TlsContext,
    ) -> Self {
        let (dialled, fallbacks) = (AtomicU64::new(0), AtomicU64::new(0));
        Self {
            settings: Arc::new(settings),
            sockets,
            pool,
            resolver,
            tls: RwLock::new(Arc::new(tls)),
            dialled,
            fallbacks,
        }
    }

    pub(super) fn tls(&self) -> Arc<TlsContext> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_tls(&self, config: TlsConfig) {
        let mut tls = self.tls.write().unwrap_or_else(PoisonError::into_inner);
        *tls = Arc::new(TlsContext::new(config, tls.generation + 1));
    }

    /// Whether a connection serves a task.
    pub(super) fn fits(&self, connection: &Connection, task: &Task) -> bool {
        let generation = self.tls.read().unwrap_or_else(PoisonError::into_inner).generation;
        task.url
            .as_ref()
            .is_some_and(|url| connection.key.fits(url, task.tls_mode == TlsMode::Verify, generation))
    }

    /// Puts a connection to rest, unless its socket is wanted for another host.
    pub(super) fn rest(&self, connection: Connection) {
        if !self.sockets.wanted() {
            self.pool.put(connection);
        }
    }

    pub(super) fn count_dial(&self) {
        self.dialled.fetch_add(1, Relaxed);
    }

    /// Connections made so far.
    pub(super) fn dialled(&self) -> u64 {
        self.dialled.load(Relaxed)
    }

    pub(super) fn count_fallback(&self) {
        self.fallbacks.fetch_add(1, Relaxed);
    }

    /// Tasks that went on without a look at a certificate that was not accepted.
    pub(super) fn fallbacks(&self) -> u64 {
        self.fallbacks.load(Relaxed)
    }

    /// Closes the sockets, which nobody may use any more.
    pub(super) async fn close(&self) {
        self.pool.close();
        // The drivers are aborted; their sockets are closed when the runtime has got to each.
        while self.sockets.open() > 0 {
            tokio::task::yield_now().await;
        }
    }
}
