//! Why an executable cannot be run, and whether that passes by itself.

use std::io;

use rustix::io::Errno;

/// Why what is there for a type is not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It passes by itself, as when somebody is just deploying.
    ForNow(String),
    /// Somebody has to mend it.
    UntilMended(String),
}

impl Unfit {
    pub(super) fn reason(&self) -> &str {
        let (Self::ForNow(reason) | Self::UntilMended(reason)) = self;
        reason
    }
}

/// Whether the error of a start may be gone a moment later. `there` says whether the program is still where
/// it was.
pub(super) fn passes(error: &io::Error, there: bool) -> bool {
    // Told by the process itself when it ends.
    if error.kind() == io::ErrorKind::Interrupted {
        return true;
    }
    match Errno::from_io_error(error) {
        // It is being written: somebody deploys it. Or it was, on a server of files.
        Some(Errno::TXTBSY | Errno::STALE | Errno::BUSY) => true,
        // The system, or our share of it, has no room for another process just now.
        Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::NOBUFS) => true,
        // Replaced this moment. A program that is there lacks its interpreter.
        Some(Errno::NOENT) => !there,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        let passing = [
            Errno::TXTBSY,
            Errno::AGAIN,
            Errno::NOMEM,
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOBUFS,
            Errno::INTR,
            Errno::STALE,
            Errno::BUSY,
        ];
        let lasting = [
            Errno::ACCESS,
            Errno::NOEXEC,
            Errno::PERM,
            Errno::NOTDIR,
            Errno::ISDIR,
            Errno::LOOP,
            Errno::TOOBIG,
            Errno::INVAL,
            Errno::NAMETOOLONG,
            Errno::LIBBAD,
            Errno::IO,
            Errno::NODEV,
        ];
        for there in [true, false] {
            for errno in passing {
                assert!(passes(&errno.into(), there), "{errno:?}");
            }
            for errno in lasting {
                assert!(!passes(&errno.into(), there), "{errno:?}");
            }
            assert_eq!(passes(&Errno::NOENT.into(), there), !there, "replaced, or without its interpreter");
        }
    }
}
