//! Folders with a Debian release in them, made by debootstrap and entered by chroot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// The folder of this name with a release and these packages; made if it is not there.
pub(super) fn root(name: &str, release: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/matrix");
    fs::create_dir_all(&folder).context("making target/matrix")?;
    let root = folder.canonicalize()?.join(name);
    // Written last: a folder without it is half made.
    let complete = root.join("complete");
    if !complete.exists() {
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
        }
        let mirror = mirror()?;
        let what = if packages.is_empty() { "the base system".to_owned() } else { packages.join(" and ") };
        eprintln!("Installing {what} of {release} into {}", root.display());
        let mut bootstrap = Command::new("debootstrap");
        bootstrap.arg("--variant=minbase");
        if !packages.is_empty() {
            bootstrap.arg(format!("--include={}", packages.join(",")));
        }
        bootstrap.arg(release).arg(&root).arg(mirror);
        if let Some(proxy) = proxy()? {
            bootstrap.env("http_proxy", proxy);
        }
        let output = bootstrap.output().context("running debootstrap")?;
        ensure!(
            output.status.success(),
            "debootstrap ended with {}: {}{}",
            output.status,
            tail(&String::from_utf8_lossy(&output.stdout)),
            tail(&String::from_utf8_lossy(&output.stderr))
        );
        // Erlang looks up the name of its own machine.
        fs::copy("/etc/hosts", root.join("etc/hosts")).context("copying /etc/hosts")?;
        fs::write(&complete, "").context("noting that it is complete")?;
    }
    Ok(root)
}

/// Where this machine gets Debian's packages from.
fn mirror() -> anyhow::Result<String> {
    let targets = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL)", "Created-By: Packages"])
        .output()
        .context("running apt-get indextargets")?;
    let targets = String::from_utf8_lossy(&targets.stdout).into_owned();
    // Security updates have a label of their own.
    let found = targets.lines().find_map(|line| line.strip_suffix(" Debian Debian"));
    let mirror = found
        .context("apt knows no archive of Debian: run `apt-get update`, and see /etc/apt/sources.list.d")?;
    Ok(mirror.to_owned())
}

/// What this machine goes through to get them.
fn proxy() -> anyhow::Result<Option<String>> {
    let settings =
        Command::new("apt-config").args(["dump", "--format", "%v", "Acquire::http::Proxy"]).output();
    let proxy = String::from_utf8_lossy(&settings.context("running apt-config")?.stdout).trim().to_owned();
    Ok((!proxy.is_empty()).then_some(proxy))
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().rev().take(10).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
