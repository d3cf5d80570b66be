//! `cargo xtask matrix`: the tests that meet servers, on each pair of versions that is promised.
//!
//! A pair is what one Debian release has. It is installed with debootstrap into a folder of its own and
//! entered by chroot, so that this system keeps its own servers; the private servers of the tests come from
//! there, see `tests/services`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use tasker_services::{ROOT, is_root};

use super::{install, run, tree};

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

/// Names of suites, and which tests they are: of those of store and broker, the ones that meet a server.
const SUITES: [(&str, &[&str]); 4] = [
    (
        "conformance",
        &[
            "store_conformance::on_mysql::",
            "store_conformance::refusals::",
            "store_conformance::schema::",
            "broker_conformance::amqp::",
            "broker_conformance::broken_links::",
        ],
    ),
    ("journeys", &["journeys::"]),
    ("faults", &["faults::"]),
    ("security", &["security::"]),
];

pub(super) fn run_all(arguments: &[String]) -> anyhow::Result<()> {
    let (mut pair, mut only) = (None, None);
    for option in arguments.chunks(2) {
        match option {
            [flag, value] if flag == "--pair" => pair = Some(value.as_str()),
            [flag, value] if flag == "--only" => only = Some(value.as_str()),
            _ => {
                bail!(
                    "cargo xtask matrix [--pair oldest|middle|newest] [--only conformance|journeys|faults|security]"
                )
            }
        }
    }
    let pairs: Vec<_> = PAIRS.iter().filter(|known| pair.is_none_or(|pair| pair == known.name)).collect();
    let tests: Vec<_> = SUITES
        .iter()
        .filter(|(name, _)| only.is_none_or(|only| only == *name))
        .flat_map(|(_, tests)| *tests)
        .collect();
    ensure!(!pairs.is_empty(), "`{}` is no pair: oldest, middle or newest", pair.unwrap_or_default());
    ensure!(
        !tests.is_empty(),
        "`{}` is no suite: conformance, journeys, faults or security",
        only.unwrap_or_default()
    );
    ensure!(
        is_root(),
        "the servers of other releases are installed and run by root: `sudo -E cargo xtask matrix`"
    );
    install::what_is_missing(install::FOR_RELEASES)?;

    let mut results = Vec::new();
    for pair in pairs {
        let root = pair
            .root()
            .with_context(|| format!("installing {} of {}", pair.packages.join(" and "), pair.release))?;
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
        tree::root(self.release, self.release, &self.packages)
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
