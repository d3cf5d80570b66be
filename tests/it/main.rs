//! The integration tests: one program, one file a subject.

mod api_openapi;
mod api_side;
mod broker_conformance;
mod broker_provision;
mod cli;
mod config;
mod dependencies;
mod endpoint;
mod executables;
mod journeys;
mod layering;
mod store_conformance;
mod supervision;
mod support;
