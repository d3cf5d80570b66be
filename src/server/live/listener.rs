//! Who listens to what is watched.

use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::select_all;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::board::{Board, event};
use super::hub::{Batch, Place, Standing, Text};
use super::watched::Watched;
use super::{endpoints, queues, task};
use crate::clock::Clock;
use crate::contract::LiveGone;
use crate::domain::TaskType;
use crate::store::SharedStore;
use crate::telemetry::SharedMetrics;
use crate::touched::Touched;

/// Things that are watched at the same time at most: each costs the ledger a few reads a second.
const MOST_WATCHED: usize = 500;

/// Everything that is watched in this process; clones are the same.
#[derive(Clone)]
pub struct Live {
    board: Arc<Board>,
    /// Numbers of another process mean nothing here.
    epoch: Arc<str>,
    /// Where the store lives.
    runtime: Handle,
    stop: CancellationToken,
}

/// Too many things are watched.
#[derive(Debug, thiserror::Error)]
#[error("{MOST_WATCHED} things are watched at the same time, which is all that this process takes")]
pub struct Crowded;

impl Live {
    /// Nothing is watched yet. To be called in the runtime of the store; watchers end with `stop`.
    pub fn new(
        store: SharedStore,
        touched: Touched,
        clock: Clock,
        metrics: SharedMetrics,
        queues: Vec<TaskType>,
        stop: CancellationToken,
    ) -> Self {
        let board = Arc::new(Board { store, touched, clock, metrics, queues, hub: Mutex::default() });
        Self { board, epoch: format!("{:08x}", fastrand::u32(..)).into(), runtime: Handle::current(), stop }
    }

    /// Begins to listen, after the event with this id if it can be caught up with.
    ///
    /// # Errors
    /// [`Crowded`].
    pub fn listen(&self, watched: Vec<Watched>, since: Option<&str>) -> Result<Listener, Crowded> {
        let now = Instant::now();
        let mut hub = self.board.lock();
        let new: Vec<Watched> = watched.iter().copied().filter(|watched| !hub.has(watched)).collect();
        if hub.len() + new.len() > MOST_WATCHED {
            return Err(Crowded);
        }
        let wakes = watched.iter().map(|watched| hub.enter(*watched, now)).collect();
        let number = since.and_then(|id| id.strip_prefix(&*self.epoch)?.strip_prefix('-')?.parse().ok());
        let number = number.filter(|number| *number <= hub.number());
        let place = Place { seen: number.unwrap_or(0), known: vec![number.is_some(); watched.len()] };
        drop(hub);
        for watched in new {
            self.runtime.spawn(watch_over(self.board.clone(), watched, self.stop.clone()));
        }
        Ok(Listener { live: self.clone(), watched, wakes, place })
    }
}

async fn watch_over(board: Arc<Board>, watched: Watched, stop: CancellationToken) {
    let watching = async {
        match watched {
            Watched::Task(id) => task::watch(&board, id).await,
            Watched::Endpoints => endpoints::watch(&board).await,
            Watched::Queues => queues::watch(&board).await,
        }
    };
    stop.run_until_cancelled(watching).await;
}

/// Listens to some things.
pub struct Listener {
    live: Live,
    watched: Vec<Watched>,
    wakes: Vec<watch::Receiver<()>>,
    place: Place,
}

/// Whether a thing that is listened to is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is; a task is of this type.
    There(Option<TaskType>),
    /// There is no such thing.
    Nothing,
}

impl Listener {
    /// Whether each thing is there, as soon as all have been looked at.
    pub async fn found(&mut self) -> Vec<(Watched, Found)> {
        loop {
            self.wakes.iter_mut().for_each(watch::Receiver::mark_unchanged);
            let standings: Vec<Standing> = {
                let hub = self.live.board.lock();
                self.watched.iter().map(|watched| hub.standing(watched)).collect()
            };
            let found = |standing: &Standing| match standing {
                Standing::Unread => None,
                Standing::There { task_type, .. } => Some(Found::There(task_type.clone())),
                Standing::Gone => Some(Found::Nothing),
            };
            let found: Option<Vec<Found>> = standings.iter().map(found).collect();
            match found {
                Some(found) => return self.watched.iter().copied().zip(found).collect(),
                None => self.woken().await,
            }
        }
    }

    /// The next events as they are sent, the last of them with the id that says how far they reach. May be
    /// dropped and called again.
    pub async fn next(&mut self) -> String {
        loop {
            // Before the look, so that nothing between the look and the wait is missed.
            self.wakes.iter_mut().for_each(watch::Receiver::mark_unchanged);
            let gone = |watched: &Watched| event("gone", &LiveGone { watch: watched.to_string() });
            let batch = self.live.board.lock().catch_up(&self.watched, &mut self.place, gone);
            match batch {
                Some(batch) => return self.written(&batch),
                None => self.woken().await,
            }
        }
    }

    fn written(&self, batch: &Batch) -> String {
        let mut written = String::new();
        for (at, text) in batch.texts.iter().enumerate() {
            match text {
                Text::Made(text) => written.push_str(text),
                Text::Whole(snapshot) => written.push_str(&snapshot.text()),
            }
            if at + 1 == batch.texts.len() {
                written.push_str(&format!("id: {}-{}\n", self.live.epoch, batch.number));
            }
            written.push('\n');
        }
        written
    }

    async fn woken(&mut self) {
        // The hub keeps the other end for as long as somebody listens.
        let changes = self.wakes.iter_mut().map(|wake| wake.changed().boxed());
        let _ = select_all(changes).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut hub = self.live.board.lock();
        for watched in &self.watched {
            hub.leave(watched, now);
        }
    }
}
