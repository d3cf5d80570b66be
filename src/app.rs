//! The composition root: puts the parts of a process together, starts them, stops them in order.
//!
//! Nothing here waits for database or broker: a process starts, says through `/ready` what it lacks, and goes
//! on when that is back. What cannot mend itself - a port in use, a directory that cannot be written, a
//! database of another schema - ends the process with one line that says so.

mod api_process;
mod embedded;
mod endpoint_process;
mod flamenco_process;
mod greeting;
mod http_worker_process;
mod seclusion;

pub use api_process::ApiProcess;
pub use embedded::{Embedded, Staff, database as embedded_database};
pub use endpoint_process::EndpointProcess;
pub use flamenco_process::FlamencoProcess;
pub use http_worker_process::HttpWorkerProcess;
pub use seclusion::{keep_files_from_children, seclude};
