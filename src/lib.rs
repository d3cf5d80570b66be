//! tasker hands tasks to fleets of servers and knows exactly what became of each one.

pub mod backoff;
pub mod broker;
pub mod clock;
pub mod config;
pub mod domain;
pub mod endpoint;
pub mod store;
pub mod telemetry;
