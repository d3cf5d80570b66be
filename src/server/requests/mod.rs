//! Requests: steps that run one after the other, each of jobs that run at the same time. Each job is a task
//! of the ledger.
//!
//! `planner` decides the changes of a request, without I/O. `calls` makes the task of a job, `template` its
//! payload. `advancer` is the loop: it finds requests that may move on, and has the ledger move each with its
//! tasks in one transaction.

mod advancer;
mod calls;
mod planner;
mod template;

pub use advancer::Advancer;
pub use calls::Calls;
pub use planner::{Jobs, Patience, next};
pub use template::Template;
