//! Flamenco Manager: the protocol of Flamenco 2.x in front of the [`crate::farm`].
//!
//! Workers call the manager, and the manager calls the Server; it never connects to a worker. `answers` has
//! workers (`worker_side`) and people (`people_side`) answered; `route` says which path is which call, `http`
//! is the listener, `wire` the JSON, [`Site`] what all share. Towards the Server, `upstream` makes the calls;
//! `downloader`, `pusher`, `notifier` and `log_uploads` decide when. `housekeeping` looks at the clock:
//! timeouts, clean-up, sleep schedules. `settings` reads `flamenco-manager.yaml`.
//!
//! Promise: each request of a worker is answered within three seconds, whatever the Server does, since
//! workers wait no longer.

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
mod test_job;
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
    use std::path::Path;

    use super::settings::Settings;
    use super::{registration_token, route, secrets, wire};

    /// Reads a task as the Server sends it, and writes it as a worker gets it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn task(bytes: &[u8]) -> Result<String, String> {
        let task = wire::task_in(bytes).map_err(|error| error.to_string())?;
        Ok(wire::task_out(&task).to_string())
    }

    /// Has every other reader look at bytes from outside: what workers, people and the Server send, heads of
    /// requests, and the file of settings.
    pub fn read_all(bytes: &[u8]) {
        _ = (
            wire::report_in(bytes),
            wire::pushed_in(bytes),
            wire::download_in(bytes),
            wire::chunk_in(bytes),
            wire::sleep_in(bytes),
        );
        _ = (
            wire::object::<wire::Registration>(bytes),
            wire::object::<wire::SignOn>(bytes),
            wire::object::<wire::Output>(bytes),
        );
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        _ = (secrets::basic(Some(text)), registration_token::is_valid(Some(text), "shared", 0.0));
        for method in ["GET", "POST"] {
            _ = route::route(method, text);
        }
        _ = Settings::parse(Path::new("flamenco-manager.yaml"), text);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::fuzzing;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            _ = fuzzing::task(&bytes);
            fuzzing::read_all(&bytes);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(Basic |Bearer |/tasks/|manager_id: |\\{\"|\\[)?.{0,200}") {
            _ = fuzzing::task(text.as_bytes());
            fuzzing::read_all(text.as_bytes());
        }
    }
}
