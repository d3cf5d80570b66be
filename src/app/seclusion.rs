//! Keeps what this process knows from others of the same user, handlers first of all: its memory and its environment hold the passwords of
//! broker and database, and a core file would be a copy of them.
//!
//! The kernel then gives `/proc/PID/environ`, `mem` and `fd` of this process, and the right to trace it, to root alone. Files are not
//! covered: a handler of the same user can read what this user can.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Secludes this process. To be done before it knows anything.
pub fn seclude() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "other processes of this user may look into this one");
    }
    // The soft limit alone: handlers have it too, and may raise it.
    let none = Rlimit { current: Some(0), ..getrlimit(Resource::Core) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "a crash may write the memory of this process to a file");
    }
}
