//! What runs on the servers of a fleet: the endpoint with its journal, and its handlers.

use tasker_http_tasks as http_tasks;
use tasker_model::domain;
use tasker_process::{backoff, clock, config, custody, failpoint, regular_file, service, telemetry};
use tasker_transport::{broker, signing};

pub mod endpoint;
#[path = "../../handlers/mod.rs"]
pub mod handlers;
pub mod http_remote;
