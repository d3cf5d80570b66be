//! What every process of tasker needs: settings, clock, log and metrics.

use tasker_http_tasks as http_tasks;
use tasker_model::domain;

pub mod backoff;
pub mod bell;
pub mod clock;
pub mod config;
pub mod custody;
pub mod failpoint;
pub mod https;
pub mod regular_file;
pub mod service;
pub mod shell;
pub mod telemetry;
pub mod watch;
pub mod yaml;
