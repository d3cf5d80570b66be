//! The right of a task to run. Giving it back starts the next one.

use std::sync::Arc;

use super::connection::Connection;
use super::engine::Engine;

/// A slot. Dropping it, also in a panic, hands it on together with the connection that was put in.
pub(super) struct Slot {
    engine: Option<Arc<Engine>>,
    lane: usize,
    /// A connection that the next task may use; goes to the pool before the slot is free, so that the next task finds it.
    connection: Option<Box<Connection>>,
}

impl Slot {
    pub(super) const fn new(engine: Arc<Engine>, lane: usize) -> Self {
        Self { engine: Some(engine), lane, connection: None }
    }

    pub(super) const fn lane(&self) -> usize {
        self.lane
    }

    pub(super) fn keep(&mut self, connection: Connection) {
        if let Some(before) = self.connection.replace(Box::new(connection))
            && let Some(engine) = &self.engine
        {
            engine.rest(*before);
        }
    }

    pub(super) fn connection(&mut self) -> &mut Option<Box<Connection>> {
        &mut self.connection
    }

    /// Ends it without handing it on; whoever does so has to.
    pub(super) fn disarm(mut self) -> Option<Box<Connection>> {
        self.engine = None;
        self.connection.take()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.release(self.lane, self.connection.take());
        }
    }
}
