//! Memory that the bodies of several tasks share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;

/// Bytes for the bodies of several tasks together, see [`super::Task::room`]. Clones are the same room.
#[derive(Debug, Clone)]
pub struct Room(Arc<AtomicUsize>);

impl Room {
    /// One of so many bytes.
    pub fn of(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Takes up to so many bytes, and says how many.
    fn take(&self, bytes: usize) -> usize {
        let mut granted = 0;
        let grant = |left: usize| {
            granted = bytes.min(left);
            Some(left - granted)
        };
        // It never answers None.
        _ = self.0.fetch_update(Relaxed, Relaxed, grant);
        granted
    }
}

/// A place in a room, given back when it is dropped.
pub(super) struct Place {
    room: Option<Room>,
    taken: usize,
}

impl Place {
    pub(super) const fn in_room(room: Option<Room>) -> Self {
        Self { room, taken: 0 }
    }

    /// How many of so many bytes there is room for; from then on they are taken.
    pub(super) fn grow(&mut self, bytes: usize) -> usize {
        let granted = self.room.as_ref().map_or(bytes, |room| room.take(bytes));
        self.taken += granted;
        granted
    }

    /// The same bytes; the place is given back with the last of their clones.
    pub(super) fn hold(self, bytes: Bytes) -> Bytes {
        if self.room.is_none() { bytes } else { Bytes::from_owner(Held { bytes, _place: self }) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(room) = &self.room {
            room.0.fetch_add(self.taken, Relaxed);
        }
    }
}

struct Held {
    bytes: Bytes,
    _place: Place,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_with_the_bytes() {
        let room = Room::of(10);
        let mut first = Place::in_room(Some(room.clone()));
        assert_eq!((first.grow(4), first.grow(4)), (4, 4));
        let mut second = Place::in_room(Some(room.clone()));
        assert_eq!((second.grow(5), second.grow(5)), (2, 0));
        drop(second);
        let held = first.hold(Bytes::from_static(b"12345678"));
        let (part, left) = (held.slice(2..4), || room.0.load(Relaxed));
        drop(held);
        assert_eq!((&part[..], left()), (&b"34"[..], 2));
        drop(part);
        assert_eq!(left(), 10);
        assert_eq!(Place::in_room(None).grow(usize::MAX), usize::MAX);
    }
}
