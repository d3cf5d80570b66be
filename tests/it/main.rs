//! The integration tests: one program, one file a subject.

mod api_cancel;
mod api_openapi;
mod api_operate;
mod api_read;
mod api_refuse;
mod api_rig;
mod api_side;
mod api_submit;
mod bench;
mod broker_conformance;
mod broker_provision;
mod cli;
mod config;
mod dependencies;
mod endpoint;
mod executables;
mod faults;
mod full_disk;
mod http_tasks;
mod journeys;
mod layering;
mod loops;
mod store_conformance;
mod supervision;
mod support;
