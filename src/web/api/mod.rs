//! The HTTP interface: the only place with actix.
//!
//! Owns routes, the form of requests and answers, and the way errors leave (`problem`). Decides nothing about
//! tasks: a submission goes to the `acceptor`, everything else is read from the store. `docs/api.md` is the
//! contract in words, `/openapi.json` in schemas.
//!
//! A `POST` comes in by a `door` (with a `certificate`) and passes `request` (id, span, metrics) -> `access`
//! (who may, by the table in `routes`, with `guard` from where and with `quotas` how much) -> `body` (type,
//! size, time) -> `domain::json_check` (is it JSON) -> `submission` (is it a submission) -> `digest` ->
//! acceptor -> `view`.
//! Nothing a client sends, or fails to send, holds more than a bounded amount of memory for a bounded time.

mod access;
mod allowance;
mod answer;
mod approvals;
mod audit;
mod auditor;
mod backstage;
mod body;
mod cancel_task;
mod cancel_tasks;
mod certificate;
mod connections;
mod cookie;
mod count_tasks;
mod dashboard;
mod deeds;
mod door;
mod enrol;
mod events;
mod explain_task;
mod flamenco;
mod forget_endpoint;
mod groups;
mod guard;
mod guesses;
mod health;
mod heard;
mod limits;
mod list_answers;
mod list_endpoints;
mod list_owed;
mod list_responses;
mod list_tasks;
mod list_types;
mod logs;
mod matching;
mod members;
mod named;
mod openapi;
mod openapi_numbers;
mod outgoing;
mod page;
mod percent;
mod probe;
mod problem;
mod query;
mod queues;
mod quotas;
mod refusals;
mod request;
mod request_submission;
mod requests;
mod requeue;
mod rerun_task;
mod rollout_document;
mod rollout_edit;
mod rollouts;
mod route;
mod routes;
mod schedules;
mod segment;
mod serve_worker;
mod server;
mod session;
mod show_statistics;
mod show_task;
mod state;
mod states;
mod submission;
mod submit_task;
mod submit_tasks;
mod take_census;
mod target;
mod tasks;
mod unknown;
mod until_ended;
mod view;
mod waits;
mod whose;

pub use certificate::CertificateError;
pub use door::{Door, DoorError, check_guarded};
pub use limits::Limits;
pub use routes::{document, routes};
pub use server::serve;
pub use state::ApiState;

// What nearly every handler needs.
use answer::{Answer, answer};
use segment::segment;
use state::Api;

/// Doors of the fuzz targets.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    pub use super::submission::parse;
    pub use crate::domain::json_check::check;
}
