//! Simulated endpoints: the protocol of real ones, without a journal on disk and without work.
//!
//! `fleet` is the endpoints and what they say, `nature` how one of them behaves, `faults` the file that says
//! so. The bench has a fleet that answers at once; `tasker up --simulate` one that takes its time, fails,
//! hangs, reboots and stays away. What is behind them - API, broker, store - is real in both cases.

mod faults;
mod fleet;
mod nature;

pub use faults::{Faults, InvalidFaults};
pub use fleet::{Connect, Fleet, HeardTask, SELECTOR, labels_of, named, names, presence};
pub use nature::{Course, Nature, Time};
