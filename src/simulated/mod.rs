//! Simulated endpoints: the protocol of real ones, without a journal on disk and without work.
//!
//! `fleet` has the endpoints and their messages, `nature` says how one of them behaves, `faults` reads the
//! file with the faults. The fleet of the bench answers at once. That of `tasker up --simulate` takes its
//! time, fails, hangs, reboots and stays away. API, broker and store are real in both cases.

mod faults;
mod fleet;
mod nature;

pub use faults::{Faults, InvalidFaults};
pub use fleet::{Connect, Fleet, HeardTask, SELECTOR, labels_of, named, names, presence};
pub use nature::{Course, Nature, Time};
