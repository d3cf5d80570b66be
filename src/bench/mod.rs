//! The bench: drives the public interfaces with simulated load, verifies that nothing is lost or done twice,
//! and prints what it measured. Figures are of this machine at this moment: compare ratios, not single
//! numbers.

mod broadcast;
mod figures;
mod flamenco;
mod http;
mod http_server;
mod line;
mod load;
mod queue;
mod requests;
mod rollouts;
mod stack;
mod tasks;
mod workers;

pub use broadcast::run as run_fleet;
pub use flamenco::{Farming, run as run_flamenco};
pub use http::{By, Calls, run as run_http};
pub use http_server::run as run_http_server;
pub use load::Load;
pub use queue::{Queueing, run as run_queue};
pub use requests::{Requesting, run as run_requests};
pub use rollouts::{Rolling, run as run_rollout};
pub use stack::{LOG_FILTER, Stack};
pub use tasks::run as run_tasks;
