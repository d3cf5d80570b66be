//! What is recorded of tasks in MySQL or SQLite, and the one place where a task moves.

use tasker_model::{domain, farm};
use tasker_process::{backoff, bell, clock, config, service, telemetry, watch};

pub mod keyring;
pub mod ledger;
pub mod store;
pub mod throughput;
pub mod touched;
