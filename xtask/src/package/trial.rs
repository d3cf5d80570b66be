//! The package in a fresh Debian: installed, used, upgraded, removed and purged.
//!
//! The system is a folder, entered by chroot as root. It has no systemd, so the units are looked at and not
//! started.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use tasker_services::{Home, is_root};

use super::super::{install, tree};
use super::output;

/// What happens in the fresh system.
const TRIAL: &str = include_str!("trial.sh");

/// Makes the folder the root of the trial. The mounts are seen by it alone and end with it.
const ENTER: &str = r#"
set -eu
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
exec chroot "$1" sh /trial.sh
"#;

/// Fails with what the step said that went wrong.
pub(super) fn run(out: &Path, package: &Path) -> anyhow::Result<()> {
    ensure!(is_root(), "a fresh Debian is made and entered by root: `sudo -E cargo xtask package --try`");
    install::what_is_missing(install::FOR_RELEASES)?;
    let release = release()?;
    let fresh = tree::root(&format!("{release}-minimal"), &release, &[])?;
    let root = out.join("trial");
    output(Command::new("cp").args(["--archive", "--reflink=auto"]).arg(&fresh).arg(&root))?;
    fs::copy(package, root.join("tasker.deb")).context("copying the package")?;
    fs::write(root.join("trial.sh"), TRIAL).context("writing the trial")?;
    let mut trial = Command::new("unshare");
    trial.args(["--mount", "--propagation", "private", "sh", "-c", ENTER, "enter"]).arg(&root);
    trial
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8");
    // Its processes end with it.
    let status = Home::new("trial")?.run(&mut trial).context("running the trial")?;
    fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
    ensure!(status.success(), "the trial of {} ended with {status}", package.display());
    println!("{} was installed, used, upgraded, removed and purged in a fresh {release}", package.display());
    Ok(())
}

/// The release of this machine: the program runs with its C library or a newer one.
fn release() -> anyhow::Result<String> {
    let system = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
    let name = system.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name.context("/etc/os-release names no release of Debian")?.trim_matches('"').to_owned())
}
