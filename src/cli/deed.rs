//! What a command did to the database, for the audit log.

use crate::domain::Deed;

/// What was done here, where nobody but the system knows who does it.
pub(super) fn deed(action: &str, subject: &str) -> Deed {
    let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
    let user = user.unwrap_or_else(|_| rustix::process::getuid().as_raw().to_string());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Deed::new(&user, action, subject, &format!("command line on {host}"))
}
