//! Flamenco Manager: the protocol of Flamenco 2.x in front of the [`crate::farm`].
//!
//! Workers call the manager, and the manager calls the Server; it never connects to a worker. `answers` has workers (`worker_side`) and people
//! (`people_side`) answered; `route` says which path is which call, `http` is the listener, `wire` the JSON, [`Site`] what all share. Towards the Server,
//! `upstream` makes the calls; `downloader`, `pusher`, `notifier` and `log_uploads` decide when. `housekeeping` looks at the clock: timeouts,
//! clean-up, sleep schedules. `settings` reads `flamenco-manager.yaml`.
//!
//! Promise: each request of a worker is answered within three seconds, whatever the Server does, since workers wait no longer.

mod answers;
mod downloader;
mod housekeeping;
mod http;
mod local_time;
mod log_files;
mod log_uploads;
mod notifier;
mod overview;
mod page;
mod people_side;
mod pusher;
mod registration_token;
mod reply;
mod route;
mod secrets;
mod settings;
mod site;
mod span;
mod upstream;
mod wire;
mod worker_side;

pub use downloader::Downloader;
pub use housekeeping::Housekeeping;
pub use http::serve;
pub use log_uploads::LogUploads;
pub use notifier::Notifier;
pub use pusher::Pusher;
pub use settings::{FILE, Fetch, Settings, SettingsError, Times};
pub use site::{Site, forget_downloads};
pub use upstream::Upstream;

/// Doors of the fuzz targets and of the tests.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing {
    /// Reads a task as the Server sends it, and writes it as a worker gets it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn task(bytes: &[u8]) -> Result<String, String> {
        let task = super::wire::task_in(bytes).map_err(|error| error.to_string())?;
        Ok(super::wire::task_out(&task).to_string())
    }

    /// Reads a report of a worker.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn report(bytes: &[u8]) -> Result<crate::farm::WorkerReport, String> {
        super::wire::report_in(bytes).map_err(|error| error.to_string())
    }

    /// Reads the Server's answer to a push.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn pushed(bytes: &[u8]) -> Result<usize, String> {
        super::wire::pushed_in(bytes).map(|pushed| pushed.handled.len()).map_err(|error| error.to_string())
    }
}
