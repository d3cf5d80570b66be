//! A vector of states as it is told: whole, or what has changed of it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::contract::LiveVector;
use crate::domain::{StateChange, States, encode_changes};

/// More than one change in so many states, and the whole vector is told.
const WHOLE: usize = 8;

/// Whether the whole vector is shorter than so many changes of it, or nearly.
pub(super) const fn is_better_whole(changes: usize, count: usize) -> bool {
    changes > count / WHOLE
}

/// The whole vector.
pub(super) fn whole(generation: &str, states: &States) -> LiveVector {
    let (generation, states, count) =
        (generation.to_owned(), Some(STANDARD.encode(states.as_bytes())), states.len());
    LiveVector { generation, count, states, changes: None }
}

/// What has changed.
pub(super) fn changed(generation: &str, count: usize, changes: &[StateChange]) -> LiveVector {
    let changes = Some(STANDARD.encode(encode_changes(changes)));
    LiveVector { generation: generation.to_owned(), count, states: None, changes }
}

/// About the length of an event with the whole vector.
pub(super) const fn size(count: usize) -> usize {
    1024 + count * 2 / 3
}
