//! Keeps what this process knows from others of the same user, handlers first of all: its memory and its
//! environment hold the passwords of broker and database, and a core file would be a copy of them.
//!
//! The kernel then gives `/proc/PID/environ`, `mem` and `fd` of this process, and the right to trace it, to
//! root alone. Files are not covered: a handler of the same user can read what this user can.

use close_fds::set_fds_cloexec;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Keeps the files that this process was started with, the standard streams apart, from those that it starts:
/// a supervisor, a shell or a test that leaves a file open would hand it to every handler. What the program
/// opens itself is closed so from the start. To be done first of all, while there is one thread and nothing
/// has been opened. Nothing here takes sockets from whoever starts it (`LISTEN_FDS`).
pub fn keep_files_from_children() {
    const AFTER_STANDARD_STREAMS: i32 = 3;
    set_fds_cloexec(AFTER_STANDARD_STREAMS, &[]);
}

/// Secludes this process. To be done before it knows anything.
pub fn seclude() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "other processes of this user can read the memory of this process");
    }
    // The soft limit alone: handlers have it too, and may raise it.
    let none = Rlimit { current: Some(0), ..getrlimit(Resource::Core) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "a crash may write the memory of this process to a file");
    }
}
