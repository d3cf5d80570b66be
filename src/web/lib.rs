//! What an API process answers over HTTP: the API, the dashboard, render farms.

use tasker_model::{domain, farm};
use tasker_process::{backoff, clock, config, https, regular_file, service, telemetry, watch};
use tasker_records::{keyring, ledger, store};
use tasker_server::{acceptor, admission, live, publisher, queue, requests, rollouts, sealing};
use tasker_transport::{broker, contract, signing};

pub mod api;
pub mod dashboard;
pub mod flamenco;
pub mod request_body;
