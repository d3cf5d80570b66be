//! What operators see: metrics and logs. Names of metrics and log fields are an interface;
//! `docs/operations.md` lists them.

mod distrusted;
mod log;
mod log_pace;
mod metrics;

pub use distrusted::{Distrust, Distrusted};
pub use log::{Quieter, colors_wanted, start_logging};
pub use log_pace::{LINE_EVERY, LogPace};
pub use metrics::{Metrics, SharedMetrics};
