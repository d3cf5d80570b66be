//! What processes of tasker tell each other: messages over RabbitMQ, JSON over HTTP, signatures.

use tasker_model::{domain, farm};
use tasker_process::{backoff, config, custody, https, telemetry};

pub mod broker;
pub mod client;
pub mod contract;
pub mod enrolment;
pub mod signing;
