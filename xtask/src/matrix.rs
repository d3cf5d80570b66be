//! `cargo xtask matrix`: the tests that meet servers, on each pair of versions that is promised.
//!
//! A pair is what one Debian release has. It is installed with debootstrap into a folder of its own and entered by chroot, so that this
//! system keeps its own servers; the private servers of the tests come from there, see `tests/services`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use tasker_services::{ROOT, is_root};

use super::{install, run};

/// A pair of versions.
#[derive(Debug)]
struct Pair {
    name: &'static str,
    release: &'static str,
    packages: [&'static str; 2],
}

const PAIRS: [Pair; 3] = [
    Pair { name: "oldest", release: "bookworm", packages: ["rabbitmq-server", "mariadb-server"] },
    Pair { name: "middle", release: "trixie", packages: ["rabbitmq-server", "mariadb-server"] },
    Pair { name: "newest", release: "sid", packages: ["rabbitmq-server", "mysql-server"] },
];

/// Names of suites, and which tests they are.
const SUITES: [(&str, &[&str]); 3] =
    [("conformance", &["store_conformance::", "broker_conformance::"]), ("journeys", &["journeys::"]), ("faults", &["faults::"])];

pub(super) fn run_all(arguments: &[String]) -> anyhow::Result<()> {
    let (mut pair, mut only) = (None, None);
    for option in arguments.chunks(2) {
        match option {
            [flag, value] if flag == "--pair" => pair = Some(value.as_str()),
            [flag, value] if flag == "--only" => only = Some(value.as_str()),
            _ => bail!("cargo xtask matrix [--pair oldest|middle|newest] [--only conformance|journeys|faults]"),
        }
    }
    let pairs: Vec<_> = PAIRS.iter().filter(|known| pair.is_none_or(|pair| pair == known.name)).collect();
    let tests: Vec<_> = SUITES.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)).flat_map(|(_, tests)| *tests).collect();
    ensure!(!pairs.is_empty(), "`{}` is no pair: oldest, middle or newest", pair.unwrap_or_default());
    ensure!(!tests.is_empty(), "`{}` is no suite: conformance, journeys or faults", only.unwrap_or_default());
    ensure!(is_root(), "the servers of other releases are installed and run by root: `sudo -E cargo xtask matrix`");
    install::what_is_missing(install::FOR_RELEASES)?;

    let mut results = Vec::new();
    for pair in pairs {
        let root = pair.root().with_context(|| format!("installing {} of {}", pair.packages.join(" and "), pair.release))?;
        let versions = pair.versions(&root)?;
        eprintln!("{}: {versions}", pair.name);
        let mut suite = Command::new(env::current_exe().context("where this program is")?);
        suite.args(["test", "--test", "it", "--"]).args(&tests).env(ROOT, &root);
        results.push((pair.name, versions, run(&mut suite)));
    }
    println!();
    for (name, versions, result) in &results {
        println!("{name}: {versions}: {}", if result.is_ok() { "ok" } else { "FAILED" });
    }
    results.into_iter().find_map(|(_, _, result)| result.err()).map_or(Ok(()), Err)
}

impl Pair {
    /// The folder with the release; made if it is not there.
    fn root(&self) -> anyhow::Result<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/matrix");
        fs::create_dir_all(&folder).context("making target/matrix")?;
        let root = folder.canonicalize()?.join(self.release);
        // Written last: a folder without it is half made.
        let complete = root.join("complete");
        if !complete.exists() {
            if root.exists() {
                fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
            }
            let mirror = mirror()?;
            eprintln!("Installing {} of {} into {}", self.packages.join(" and "), self.release, root.display());
            let mut bootstrap = Command::new("debootstrap");
            bootstrap.args(["--variant=minbase", &format!("--include={}", self.packages.join(",")), self.release]);
            bootstrap.arg(&root).arg(mirror);
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

    /// What was installed.
    fn versions(&self, root: &Path) -> anyhow::Result<String> {
        let output = Command::new("chroot")
            .arg(root)
            .args(["dpkg-query", "--show", "--showformat", "${Package} ${Version}, ", "rabbitmq-server"])
            // Of a package that only names another one the version is that of the server all the same.
            .args(&self.packages[1..])
            .output()
            .context("running dpkg-query")?;
        ensure!(output.status.success(), "dpkg-query ended with {}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches(", ").to_owned())
    }
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
    let mirror = found.context("apt knows no archive of Debian: run `apt-get update`, and see /etc/apt/sources.list.d")?;
    Ok(mirror.to_owned())
}

/// What this machine goes through to get them.
fn proxy() -> anyhow::Result<Option<String>> {
    let settings = Command::new("apt-config").args(["dump", "--format", "%v", "Acquire::http::Proxy"]).output();
    let proxy = String::from_utf8_lossy(&settings.context("running apt-config")?.stdout).trim().to_owned();
    Ok((!proxy.is_empty()).then_some(proxy))
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().rev().take(10).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
