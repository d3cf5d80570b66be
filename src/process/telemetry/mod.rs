//! What operators see: metrics and logs. Names of metrics and log fields are an interface;
//! `docs/operations.md` lists them.

mod log;
mod metrics;

pub use log::{Quieter, start_logging};
pub use metrics::{Metrics, SharedMetrics};
