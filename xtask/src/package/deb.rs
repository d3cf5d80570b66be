//! The Debian package. The scripts that it runs are `supervisor/debian/*`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::content::{SHELLS, UNITS, directory, write};
use super::{Source, VERSION, output};

/// Files that dpkg keeps as the administrator has changed them.
const CONFIGURATION: [&str; 2] = ["/etc/tasker/production.config.yaml", "/etc/tasker/tasker.env"];

/// Answers the package.
pub(super) fn make(source: &Source) -> anyhow::Result<PathBuf> {
    let root = source.out.join("deb");
    source.programs(&root.join("usr/bin"))?;
    for unit in UNITS {
        let text = fs::read_to_string(source.checkout.join("supervisor").join(unit))
            .with_context(|| unit.to_owned())?;
        ensure!(text.contains("=/usr/local/bin/tasker"), "{unit} runs no /usr/local/bin/tasker");
        // That is where an administrator installs what no package manager knows.
        let text = text.replace("=/usr/local/bin/tasker", "=/usr/bin/tasker");
        write(&root.join("usr/lib/systemd/system").join(unit), text.as_bytes(), 0o644)?;
    }
    // Its group is tasker's once the user is there, see `postinst`.
    source.copy("config/production.config.yaml", &root.join("etc/tasker/production.config.yaml"), 0o640)?;
    source.copy("supervisor/tasker.env", &root.join("etc/tasker/tasker.env"), 0o600)?;
    directory(&root.join("etc/tasker/handlers"))?;
    for (shell, file) in SHELLS {
        let folder = match shell {
            "bash" => "usr/share/bash-completion/completions",
            "zsh" => "usr/share/zsh/vendor-completions",
            _ => "usr/share/fish/vendor_completions.d",
        };
        source.completions(shell, &root.join(folder).join(file))?;
    }
    source.manual(&root.join("usr/share/man/man1"))?;
    let documents = root.join("usr/share/doc/tasker");
    source.documents(&documents)?;
    write(&documents.join("copyright"), copyright(source)?.as_bytes(), 0o644)?;

    let kibibytes = size(&root)?.div_ceil(1024);
    let control = root.join("DEBIAN");
    write(&control.join("control"), description(source, kibibytes).as_bytes(), 0o644)?;
    write(&control.join("conffiles"), format!("{}\n", CONFIGURATION.join("\n")).as_bytes(), 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        source.copy(&format!("supervisor/debian/{script}"), &control.join(script), 0o755)?;
    }
    let package = source.out.join(format!("tasker_{VERSION}_{}.deb", source.architecture));
    let mut build = Command::new("dpkg-deb");
    build
        .args(["--root-owner-group", "--build"])
        .arg(&root)
        .arg(&package)
        .env("SOURCE_DATE_EPOCH", source.epoch()?);
    output(&mut build)?;
    fs::remove_dir_all(&root).context("removing the folder of the package")?;
    Ok(package)
}

fn description(source: &Source, kibibytes: u64) -> String {
    let (libraries, architecture) = (&source.libraries, &source.architecture);
    format!(
        "\
Package: tasker
Version: {VERSION}
Architecture: {architecture}
Maintainer: the tasker developers <tasker@localhost>
Installed-Size: {kibibytes}
Depends: {libraries}, passwd
Recommends: ca-certificates
Suggests: rabbitmq-server, default-mysql-server
Section: admin
Priority: optional
Description: hands tasks to fleets of servers and knows what became of each one
 tasker hands tasks to fleets of servers over RabbitMQ. Every subscribed server
 runs the handler of the task's type; the API aggregates the answers and names
 the servers that are missing.
 .
 This package has the program with all its roles (API, endpoint, worker) and
 their systemd units. It starts none of them.
"
    )
}

fn copyright(source: &Source) -> anyhow::Result<String> {
    let mit = fs::read_to_string(source.checkout.join("LICENSE-MIT"))?;
    let (_, permission) = mit.split_once("Permission is").context("LICENSE-MIT has no permission")?;
    let holder = mit
        .lines()
        .find_map(|line| line.strip_prefix("Copyright (c) "))
        .context("LICENSE-MIT names nobody")?;
    let lines = permission
        .trim_end()
        .lines()
        .map(|line| if line.is_empty() { " .\n".to_owned() } else { format!(" {line}\n") });
    let permission: String = lines.collect();
    Ok(format!(
        "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: tasker

Files: *
Copyright: {holder}
License: Expat or Apache-2.0

License: Expat
 Permission is{permission}
License: Apache-2.0
 On Debian systems, the text of the Apache License, version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.
"
    ))
}

/// The bytes of all files below a directory.
fn size(directory: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(sum)
}
