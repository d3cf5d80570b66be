//! The role of a Flamenco Manager: workers in front, the Server behind.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::api::Door;
use crate::clock::Clock;
use crate::flamenco::{
    self, Downloader, Housekeeping, LogUploads, Notifier, Pusher, Settings, Site, Upstream,
};
use crate::service::Service;
use crate::store::SharedStore;
use crate::store::farm::Farm;

/// How long each part may take to stop. All of them together stay below the time after which systemd kills.
const WITHIN: Duration = Duration::from_secs(7);

/// A running manager.
#[derive(Debug)]
pub struct FlamencoProcess {
    /// Where it listens.
    pub address: SocketAddr,
    died: CancellationToken,
    http: Service,
    loops: Vec<Service>,
    store: SharedStore,
}

impl FlamencoProcess {
    /// Starts all parts on a database that has its tables.
    ///
    /// # Errors
    /// When the listener, the certificate or the settings cannot be used.
    pub fn start(settings: Settings, store: SharedStore, listener: TcpListener) -> anyhow::Result<Self> {
        let settings = Arc::new(settings);
        let door = Door::new(listener, settings.tls.as_ref()).map_err(std::io::Error::other)?;
        let (address, died) = (door.address(), CancellationToken::new());
        let upstream = Arc::new(Upstream::new(settings.clone())?);
        let site = Site::new(settings, address, Farm::new(store.clone()), Clock::system(), upstream);
        let (uploads, wanted_logs) = LogUploads::new(site.clone());
        let (notifier, downloader) = (Notifier::new(site.clone()), Downloader::new(site.clone()));
        let (pusher, housekeeping) =
            (Pusher::new(site.clone(), wanted_logs), Housekeeping::new(site.clone(), store.clone()));
        let loops = vec![
            Service::start("notifier", &died, |stop| notifier.run(stop)),
            Service::start("downloader", &died, |stop| downloader.run(stop)),
            Service::start("pusher", &died, |stop| pusher.run(stop)),
            Service::start("log-uploads", &died, |stop| uploads.run(stop)),
            Service::start("housekeeping", &died, |stop| housekeeping.run(stop)),
        ];
        let (listener, tls) = door.into_parts();
        let http = Service::start("http", &died, |stop| async move {
            if let Err(error) = flamenco::serve(site, listener, tls, stop).await {
                tracing::error!(%error, "the listener ended");
            }
        });
        Ok(Self { address, died, http, loops, store })
    }

    /// Canceled when a part has ended on its own: the process should end too.
    pub const fn died(&self) -> &CancellationToken {
        &self.died
    }

    /// Stops: first no more requests, then the loops, then the connections to the database. What has not been
    /// pushed stays in the database.
    pub async fn stop(self) {
        self.http.stop(WITHIN).await;
        futures::future::join_all(self.loops.into_iter().map(|part| part.stop(WITHIN))).await;
        if tokio::time::timeout(Duration::from_secs(2), self.store.close()).await.is_err() {
            tracing::warn!("the connections to the database were not closed in time");
        }
    }
}
