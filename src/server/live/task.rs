//! Watches a task: its status, its counts, and the state of each of its endpoints.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::board::{Board, event};
use super::hub::Snapshot;
use super::pace::{BETWEEN, LONGEST, Pace};
use super::vector;
use super::watched::Watched;
use crate::contract::{LiveTask, LiveVector};
use crate::domain::{Counts, EndpointName, PartState, States, TaskId, Timestamp, generation};
use crate::store::{Part, Parts, StoreError, TaskStanding};
use crate::touched::{TouchedParts, TouchedTask};

/// How often a task that has ended for good is looked at: only to notice that it is forgotten.
const ENDED: Duration = Duration::from_secs(5);

/// Of more touched endpoints than one in so many, all are read: along the key that costs less.
const SOME: usize = 8;

/// So few are always read by name.
const FEW: usize = 64;

/// A task as it was seen last.
struct View {
    standing: TaskStanding,
    names: Vec<EndpointName>,
    generation: String,
    states: States,
    /// Of each endpoint, whether it has received the task.
    received: Vec<bool>,
    pace: Pace,
}

/// Watches a task until it is forgotten or nobody listens any more.
pub(super) async fn watch(board: &Board, id: TaskId) {
    let watched = Watched::Task(id);
    let touched = board.touched.task(id);
    let (mut view, mut stale): (Option<View>, bool) = (None, false);
    while !board.is_idle(&watched) {
        let began = Instant::now();
        let looked = board.note(&watched, look(board, id, &touched, &mut view, &mut stale).await);
        if looked == Some(Looked::Nothing) {
            return end(board, &watched).await;
        }
        let over = view
            .as_ref()
            .is_some_and(|view| view.standing.status.is_final() && view.standing.counts.open() == 0);
        let next = began + if over && !stale { ENDED } else { BETWEEN };
        tokio::select! {
            () = sleep_until(next) => {}
            () = touched.rung() => sleep_until(began + BETWEEN).await,
        }
    }
}

/// Says that there is no such task, until all who listen have gone.
async fn end(board: &Board, watched: &Watched) {
    board.lock().end(watched);
    while !board.is_idle(watched) {
        sleep(LONGEST).await;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Looked {
    /// It is there.
    There,
    /// There is no such task.
    Nothing,
}

/// Looks once, and tells what has changed. `stale` says that all is to be read as soon as that may be.
async fn look(
    board: &Board,
    id: TaskId,
    touched: &TouchedTask,
    view: &mut Option<View>,
    stale: &mut bool,
) -> Result<Looked, StoreError> {
    let now = board.clock.now();
    let Some(standing) = board.store.standing(id).await? else { return Ok(Looked::Nothing) };
    let Some(seen) = view else {
        let read = read(board, standing).await?;
        read.begin(board, now);
        *view = Some(read);
        return Ok(Looked::There);
    };
    // Taken before rows are read: what is touched after that is for the next look.
    let names = match touched.take() {
        TouchedParts::Some(names) if names.len() <= FEW.max(seen.names.len() / SOME) => {
            names.into_iter().collect()
        }
        TouchedParts::Some(_) | TouchedParts::All => {
            *stale = true;
            Vec::new()
        }
    };
    let before = seen.states.clone();
    if !names.is_empty() {
        // These names are told by nobody again: after a fault all is to be read.
        let was_stale = std::mem::replace(stale, true);
        *stale = was_stale | !seen.update(board.store.parts(&standing, Parts::Of(names)).await?);
    }
    let expected = standing.counts.expected as usize;
    // Against the counts of the look before: what this process has moved by then, it has touched by now.
    *stale |= expected != seen.names.len()
        || standing.published_at.is_some() != seen.standing.published_at.is_some()
        || is_behind(&seen.tally(), &seen.standing.counts);
    let over = standing.status.is_final() && standing.counts.open() == 0;
    let due = if *stale { seen.pace.asked() } else { seen.pace.unasked() };
    if Instant::now() >= due && (*stale || !over) {
        let read = match read(board, standing).await {
            Ok(read) => read,
            Err(error) => {
                // Not told yet: the next look has to find the difference.
                seen.states = before;
                *stale = true;
                return Err(error);
            }
        };
        *stale = false;
        match read.generation == seen.generation {
            true => read.tell(board, &before, &seen.standing, now),
            false => read.begin(board, now),
        }
        *seen = read;
    } else {
        let last = std::mem::replace(&mut seen.standing, standing);
        seen.tell(board, &before, &last, now);
    }
    Ok(Looked::There)
}

/// Reads all.
async fn read(board: &Board, standing: TaskStanding) -> Result<View, StoreError> {
    let began = Instant::now();
    let parts = board.store.parts(&standing, Parts::All).await?;
    let states = parts.iter().map(|part| part.state.code()).collect();
    let received = parts.iter().map(|part| part.received).collect();
    let names: Vec<EndpointName> = parts.into_iter().map(|part| part.endpoint).collect();
    let generation = generation(&names);
    Ok(View { standing, names, generation, states, received, pace: Pace::after(began) })
}

/// Whether a vector lacks something that the counts of the task have. They only grow.
const fn is_behind(tally: &Counts, counts: &Counts) -> bool {
    tally.received < counts.received
        || tally.finished < counts.finished
        || tally.canceled < counts.canceled
        || tally.expired < counts.expired
}

impl View {
    /// The counts that the vector comes to.
    fn tally(&self) -> Counts {
        let mut tally = Counts { expected: self.names.len() as u32, ..Counts::default() };
        for (code, received) in self.states.iter().zip(&self.received) {
            tally.received += u32::from(*received);
            match PartState::from_code(code) {
                Some(PartState::Ok) => tally.finished += 1,
                Some(PartState::Failed | PartState::Lost | PartState::TimeLimit) => {
                    tally.finished += 1;
                    tally.failed += 1;
                }
                Some(PartState::Canceled) => tally.canceled += 1,
                Some(PartState::Expired) => tally.expired += 1,
                _ => {}
            }
        }
        tally
    }

    fn event(standing: &TaskStanding, time: Timestamp, vector: LiveVector) -> String {
        let TaskStanding { id, task_type, status, counts, published_at, finished_at, expires_at } =
            standing.clone();
        let watch = Watched::Task(id).to_string();
        let task = LiveTask {
            watch,
            id,
            task_type,
            status,
            time,
            counts,
            published_at,
            finished_at,
            expires_at,
            vector,
        };
        event("task", &task)
    }

    fn snapshot(&self, time: Timestamp) -> Arc<Snapshot> {
        let (standing, generation, states) =
            (self.standing.clone(), self.generation.clone(), self.states.clone());
        Snapshot::new(vector::size(states.len()), move || {
            Self::event(&standing, time, vector::whole(&generation, &states))
        })
    }

    /// Tells everybody the whole.
    fn begin(&self, board: &Board, time: Timestamp) {
        let task_type = Some(self.standing.task_type.clone());
        board.lock().begin_anew(&Watched::Task(self.standing.id), task_type, self.snapshot(time));
    }

    /// Takes in how some of its endpoints stand; says whether it knows all of them.
    fn update(&mut self, parts: Vec<Part>) -> bool {
        let mut known = true;
        for Part { endpoint, state, received } in parts {
            match self.names.binary_search(&endpoint) {
                Ok(place) => {
                    self.states.set(place, state.code());
                    self.received[place] = received;
                }
                // It has been adopted since.
                Err(_) => known = false,
            }
        }
        known
    }

    /// Tells what has changed, if anything has.
    fn tell(&self, board: &Board, before: &States, last: &TaskStanding, time: Timestamp) {
        let changes = self.states.changes_since(before);
        if changes.is_empty() && self.standing == *last {
            return;
        }
        if vector::is_better_whole(changes.len(), self.states.len()) {
            return self.begin(board, time);
        }
        let changed = vector::changed(&self.generation, self.states.len(), &changes);
        let (text, snapshot) = (Self::event(&self.standing, time, changed), self.snapshot(time));
        board.lock().tell(&Watched::Task(self.standing.id), text, snapshot, Instant::now());
    }
}
