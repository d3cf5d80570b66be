//! Watches the work queues. They are few, so all of them are told whenever one has changed.

use tokio::time::{Instant, sleep_until};

use super::board::{Board, event};
use super::hub::Snapshot;
use super::pace::Pace;
use super::watched::Watched;
use crate::contract::{LiveQueues, Queue};
use crate::store::QueueRecord;

/// What the API says of a queue.
pub fn queue(record: QueueRecord) -> Queue {
    let QueueRecord { task_type, paused_at, paused_by, waiting, held, delayed, running, oldest } = record;
    Queue { task_type, paused_at, paused_by, waiting, held, delayed, running, oldest }
}

/// Watches the queues until nobody listens any more.
pub(super) async fn watch(board: &Board) {
    let watched = Watched::Queues;
    let mut before: Option<Vec<QueueRecord>> = None;
    while !board.is_idle(&watched) {
        let (began, time) = (Instant::now(), board.clock.now());
        let records = board.note(&watched, board.store.queues(&board.queues).await);
        let pace = Pace::after(began);
        if let Some(records) = records.filter(|records| before.as_ref() != Some(records)) {
            let queues: Vec<Queue> = records.iter().cloned().map(queue).collect();
            let told = LiveQueues { watch: watched.to_string(), time, queues };
            board.lock().begin_anew(
                &watched,
                None,
                Snapshot::new(256 * records.len(), move || event("queues", &told)),
            );
            before = Some(records);
        }
        sleep_until(pace.unasked()).await;
    }
}
