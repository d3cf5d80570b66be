//! The loops of an API process: who publishes, collects, dispatches and looks again.

use tasker_model::domain;
use tasker_process::{backoff, clock, config, failpoint, service, telemetry, watch};
use tasker_records::{ledger, store, touched};
use tasker_transport::{broker, contract, signing};

pub mod acceptor;
pub mod admission;
pub mod collector;
pub mod live;
pub mod observer;
pub mod presence;
pub mod publisher;
pub mod queue;
pub mod reconciler;
pub mod requests;
pub mod rollouts;
pub mod scheduler;
pub mod sealing;
