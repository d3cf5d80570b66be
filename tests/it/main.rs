//! The integration tests: one program, one file a subject.

mod api_openapi;
mod broker_conformance;
mod broker_provision;
mod cli;
mod config;
mod dependencies;
mod journeys;
mod layering;
mod store_conformance;
mod supervision;
mod support;
