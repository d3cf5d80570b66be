//! tasker hands tasks to fleets of servers and knows exactly what became of each one.

pub mod acceptor;
pub mod api;
pub mod backoff;
pub mod bench;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod collector;
pub mod config;
pub mod domain;
pub mod endpoint;
pub mod observer;
pub mod presence;
pub mod publisher;
pub mod reconciler;
pub mod service;
#[path = "../handlers/mod.rs"]
pub mod handlers;
pub mod store;
pub mod telemetry;
pub mod watch;
