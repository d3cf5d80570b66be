//! What goes on now, for those who watch: one watcher for each watched thing reads the ledger and tells all
//! who listen, so that a thousand viewers cost what one costs.
//!
//! `watched` what can be watched · `task`, `endpoints` and `queues` a watcher each · `board` what watchers
//! work with · `hub` what was told lately and how far each listener is · `listener` who listens · `pace` how
//! often the ledger is read · `vector` how states are told.
//!
//! What a watcher is told by [`crate::touched`] makes it fast and nothing more: the ledger is the truth, and
//! it is read again where its counts say that another process has moved something, and from time to time in
//! any case.

mod board;
mod endpoints;
mod hub;
mod listener;
mod pace;
mod queues;
mod task;
mod vector;
mod watched;

pub use listener::{Crowded, Found, Listener, Live};
pub use queues::queue;
pub use watched::Watched;
