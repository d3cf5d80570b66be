//! Another release of the system in a folder of its own, with servers of other versions than this one has.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable that names the folder. Without it the servers are those of this system.
pub const ROOT: &str = "TASKER_TEST_ROOT";

/// Makes the folder the root of a program, which becomes this process. Devices, processes and the directory
/// of temporary files, where every [`Home`](crate::Home) is, are the same inside. The mounts are seen by this
/// process alone and end with it.
const ENTER: &str = r#"
set -eu
root=$1 shared=$2
shift 2
mkdir -p "$root$shared"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount --bind "$shared" "$root$shared"
exec chroot "$root" "$@"
"#;

/// A folder with a system in it.
#[derive(Debug)]
pub(crate) struct Root(PathBuf);

impl Root {
    /// The one that the environment names.
    pub fn of_environment() -> Option<Self> {
        std::env::var_os(ROOT).map(|folder| Self(folder.into()))
    }

    /// Whether it has this file.
    pub fn has(&self, file: &Path) -> bool {
        self.0.join(file.strip_prefix("/").unwrap_or(file)).is_file()
    }

    /// A command for a program of that system. Needs root.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", ENTER, "enter"]);
        command.arg(&self.0).arg(std::env::temp_dir()).arg(program);
        command
    }
}
