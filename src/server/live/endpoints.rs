//! Watches the fleet: the state of each endpoint that is known.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::board::{Board, event};
use super::hub::Snapshot;
use super::pace::Pace;
use super::vector;
use super::watched::Watched;
use crate::contract::{LiveEndpoints, LiveVector};
use crate::domain::{EndpointName, States, Timestamp, generation};

/// Watches the fleet until nobody listens any more.
pub(super) async fn watch(board: &Board) {
    let watched = Watched::Endpoints;
    let mut before: Option<(String, States)> = None;
    while !board.is_idle(&watched) {
        let (began, time) = (Instant::now(), board.clock.now());
        let fleet = board.note(&watched, board.store.fleet().await);
        let pace = Pace::after(began);
        if let Some(fleet) = fleet {
            let states: States = fleet.iter().map(|(_, state)| state.code()).collect();
            let names: Vec<EndpointName> = fleet.into_iter().map(|(name, _)| name).collect();
            let generation = generation(&names);
            tell(board, before.as_ref(), &generation, &states, time);
            before = Some((generation, states));
        }
        tokio::select! {
            () = sleep_until(pace.unasked()) => {}
            () = board.touched.fleet().rung() => sleep_until(pace.asked()).await,
        }
    }
}

fn tell(
    board: &Board,
    before: Option<&(String, States)>,
    generation: &str,
    states: &States,
    time: Timestamp,
) {
    let snapshot = snapshot(generation.to_owned(), states.clone(), time);
    let known = before.filter(|(before, _)| before == generation);
    let changes = known.map(|(_, before)| states.changes_since(before));
    match changes {
        Some(changes) if changes.is_empty() => {}
        Some(changes) if !vector::is_better_whole(changes.len(), states.len()) => {
            let text = text(time, vector::changed(generation, states.len(), &changes));
            board.lock().tell(&Watched::Endpoints, text, snapshot, Instant::now());
        }
        _ => board.lock().begin_anew(&Watched::Endpoints, None, snapshot),
    }
}

fn snapshot(generation: String, states: States, time: Timestamp) -> Arc<Snapshot> {
    Snapshot::new(vector::size(states.len()), move || text(time, vector::whole(&generation, &states)))
}

fn text(time: Timestamp, vector: LiveVector) -> String {
    event("endpoints", &LiveEndpoints { watch: Watched::Endpoints.to_string(), time, vector })
}
