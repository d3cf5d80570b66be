//! The integration tests: one program, one file a subject.

mod api_access;
mod api_cancel;
mod api_openapi;
mod api_operate;
mod api_read;
mod api_refuse;
mod api_rig;
mod api_side;
mod api_submit;
mod api_tls;
mod bench;
mod broker_conformance;
mod broker_dead;
mod broker_provision;
mod broker_standby;
mod cli;
mod cli_tokens;
mod config;
mod dependencies;
mod endpoint;
mod executables;
mod faults;
mod full_disk;
mod full_ledger;
mod http_tasks;
mod journeys;
mod layering;
mod loops;
mod queues;
mod scripts;
mod server_process;

mod store_conformance;
mod supervision;
mod support;
mod thunder;
