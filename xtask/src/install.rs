//! Installs the programs that the commands need and a fresh machine lacks.

use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use tasker_services::find;

/// A program and the Debian package that has it.
pub(crate) struct Needed {
    program: &'static str,
    /// Where it is besides the directories of `PATH`.
    directory: &'static str,
    package: &'static str,
}

/// A C compiler is not among them: without one, this program could not have been linked.
pub(crate) const FOR_TESTS: &[Needed] = &[
    Needed { program: "rabbitmq-server", directory: "/usr/lib/rabbitmq/bin", package: "rabbitmq-server" },
    Needed { program: "epmd", directory: "/usr/bin", package: "rabbitmq-server" },
    Needed { program: "mariadbd", directory: "/usr/sbin", package: "mariadb-server-core" },
    Needed { program: "mariadb", directory: "/usr/bin", package: "mariadb-client" },
    Needed { program: "mariadb-dump", directory: "/usr/bin", package: "mariadb-client" },
    Needed { program: "sqlite3", directory: "/usr/bin", package: "sqlite3" },
    Needed { program: "curl", directory: "/usr/bin", package: "curl" },
    Needed { program: "my_print_defaults", directory: "/usr/bin", package: "mariadb-client-core" },
    Needed { program: "supervisord", directory: "/usr/bin", package: "supervisor" },
    Needed { program: "python3", directory: "/usr/bin", package: "python3" },
    Needed { program: "jq", directory: "/usr/bin", package: "jq" },
    Needed { program: "openssl", directory: "/usr/bin", package: "openssl" },
    Needed { program: "shellcheck", directory: "/usr/bin", package: "shellcheck" },
];

/// What makes a folder with another release of the system.
pub(crate) const FOR_RELEASES: &[Needed] = &[
    Needed { program: "debootstrap", directory: "/usr/sbin", package: "debootstrap" },
    Needed { program: "unshare", directory: "/usr/bin", package: "util-linux" },
    Needed { program: "mount", directory: "/usr/bin", package: "mount" },
];

/// What checks the description of the interface, besides `python3-venv`.
pub(crate) const FOR_OPENAPI: &[Needed] =
    &[Needed { program: "python3", directory: "/usr/bin", package: "python3" }];

/// What shows pages, and paints what the pictures of the documentation show.
pub(crate) const FOR_PAGES: &[Needed] = &[
    Needed { program: "chromium", directory: "/usr/bin", package: "chromium" },
    Needed { program: "sqlite3", directory: "/usr/bin", package: "sqlite3" },
    Needed {
        program: "DejaVuSans.ttf",
        directory: "/usr/share/fonts/truetype/dejavu",
        package: "fonts-dejavu-core",
    },
];

/// What makes packages.
pub(crate) const FOR_PACKAGES: &[Needed] = &[
    Needed { program: "dpkg-deb", directory: "/usr/bin", package: "dpkg" },
    Needed { program: "dpkg-shlibdeps", directory: "/usr/bin", package: "dpkg-dev" },
    Needed { program: "strip", directory: "/usr/bin", package: "binutils" },
];

/// Installs packages and starts no service.
///
/// Debian starts the services of a package as it is installed, unless `policy-rc.d` forbids it: that is the
/// one switch which systemd and System V init both look at. A policy that is there already is the
/// administrator's and stays.
const INSTALL: &str = r#"
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends "$@"
"#;

/// Installs what is missing, or says what to install.
pub fn what_is_missing(needed: &[Needed]) -> anyhow::Result<()> {
    let missing = missing(needed);
    if missing.is_empty() {
        return Ok(());
    }
    packages(&missing)?;
    let still = self::missing(needed);
    ensure!(
        still.is_empty(),
        "apt-get installed {}, yet what it should bring is not there",
        still.join(", ")
    );
    if std::path::Path::new("/run/systemd/system").exists() {
        eprintln!(
            "Debian enables services it installs; `systemctl disable rabbitmq-server supervisor` if they shall not start with the machine"
        );
    }
    Ok(())
}

/// Installs packages, or says how.
pub fn packages(packages: &[&str]) -> anyhow::Result<()> {
    let by_hand = format!(
        "install {} and try again, on Debian:\n  sudo apt-get install --no-install-recommends {}",
        packages.join(", "),
        packages.join(" ")
    );
    ensure!(find("apt-get", &[]).is_ok(), "programs are missing and there is no apt-get: {by_hand}");
    let mut install = match administrator()? {
        Some(install) => install,
        None => {
            bail!("programs are missing, and this user is not root and sudo asks for a password: {by_hand}")
        }
    };
    eprintln!("Installing {}", packages.join(", "));
    let status =
        install.arg("-c").arg(INSTALL).arg("install").args(packages).status().context("running apt-get")?;
    ensure!(status.success(), "apt-get ended with {status}: {by_hand}");
    Ok(())
}

fn missing(needed: &[Needed]) -> Vec<&'static str> {
    let mut packages: Vec<_> = needed
        .iter()
        .filter(|needed| find(needed.program, &[needed.directory]).is_err())
        .map(|needed| needed.package)
        .collect();
    packages.dedup();
    packages
}

/// A shell with the right to install, if there is a way to it without asking anybody.
fn administrator() -> anyhow::Result<Option<Command>> {
    if tasker_services::is_root() {
        return Ok(Some(Command::new("sh")));
    }
    if find("sudo", &[]).is_err() {
        return Ok(None);
    }
    let allowed =
        Command::new("sudo").args(["-n", "true"]).stderr(Stdio::null()).status().context("running sudo")?;
    Ok(allowed.success().then(|| {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "sh"]);
        sudo
    }))
}
