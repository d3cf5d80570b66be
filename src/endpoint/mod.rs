//! The agent that runs on every server: consume, journal, execute, answer. Knows the broker and never the store.

mod handler;
mod journal;

pub use handler::{AttemptSink, Context, Handler, Work};
