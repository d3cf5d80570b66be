//! What all parts of a manager share.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::log_files::LogFiles;
use super::reply::Request;
use super::secrets::Secrets;
use super::settings::Settings;
use super::upstream::Upstream;
use crate::clock::Clock;
use crate::farm::Seen;
use crate::store::Result as StoreResult;
use crate::store::farm::Farm;

/// The note that holds what the Server said with the last download.
pub(super) const LAST_UPDATED: &str = "depsgraph-last-modified";

/// Deletes all tasks, and that any were ever fetched; how many there were. Workers and updates stay.
///
/// # Errors
/// Those of the database.
pub async fn forget_downloads(farm: &Farm) -> StoreResult<u64> {
    farm.forget_note(LAST_UPDATED).await?;
    farm.delete_all_tasks().await
}

/// What all parts of a manager share.
#[derive(Debug)]
pub struct Site {
    pub(super) settings: Arc<Settings>,
    pub(super) farm: Farm,
    pub(super) clock: Clock,
    pub(super) upstream: Arc<Upstream>,
    pub(super) logs: LogFiles,
    pub(super) secrets: Secrets,
    /// Somebody wants a download.
    pub(super) download: Notify,
    /// Somebody wants a push.
    pub(super) push: Notify,
    /// The task types of a worker have changed.
    pub(super) types_changed: Notify,
    /// When an idle worker last wanted a download.
    last_kick: Mutex<Option<Instant>>,
    /// What this manager is called where only one may do something. It has the same name again when it is
    /// restarted, so that it need not wait for what it held when it was killed.
    pub(super) holder: String,
}

impl Site {
    /// A site on a farm, which is reached at an address.
    pub fn new(
        settings: Arc<Settings>,
        address: SocketAddr,
        farm: Farm,
        clock: Clock,
        upstream: Arc<Upstream>,
    ) -> Arc<Self> {
        Arc::new(Self {
            logs: LogFiles::new(&settings.task_logs),
            holder: format!("{} {address}", rustix::system::uname().nodename().to_string_lossy()),
            settings,
            farm,
            clock,
            upstream,
            secrets: Secrets::default(),
            download: Notify::new(),
            push: Notify::new(),
            types_changed: Notify::new(),
            last_kick: Mutex::new(None),
        })
    }

    /// What a request shows of who sends it.
    pub(super) fn seen(&self, request: &Request) -> Seen {
        let address = request.peer.map(|peer| peer.to_string()).unwrap_or_default();
        Seen { at: self.clock.now(), address, software: request.user_agent.chars().take(1000).collect() }
    }

    /// A worker has nothing to do: perhaps the Server has something by now.
    pub(super) fn kick_for_idle(&self) {
        let Some(throttle) = self.settings.recheck_throttle else { return };
        let mut last = self.last_kick.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() > throttle) {
            *last = Some(Instant::now());
            self.download.notify_one();
        }
    }
}
