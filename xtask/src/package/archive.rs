//! The archive for other systems, or for those who install by hand.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use super::content::{SHELLS, UNITS, write};
use super::{Source, VERSION, output};

/// Answers the archive.
pub(super) fn make(source: &Source) -> anyhow::Result<PathBuf> {
    let name = format!("tasker-{VERSION}-linux-{}", source.architecture);
    let root = source.out.join(&name);
    source.programs(&root.join("bin"))?;
    let note =
        fs::read_to_string(source.checkout.join("supervisor/INSTALL.md")).context("supervisor/INSTALL.md")?;
    write(&root.join("INSTALL.md"), note.replace("{GLIBC}", source.libc()?).as_bytes(), 0o644)?;
    source.copy("config/production.config.yaml", &root.join("config/production.config.yaml"), 0o644)?;
    for unit in UNITS {
        source.copy(&format!("supervisor/{unit}"), &root.join("systemd").join(unit), 0o644)?;
    }
    source.copy("supervisor/tasker.env", &root.join("systemd/tasker.env"), 0o644)?;
    for (shell, file) in SHELLS {
        source.completions(shell, &root.join("completions").join(file))?;
    }
    source.manual(&root.join("man"))?;
    source.documents(&root)?;

    let archive = source.out.join(format!("{name}.tar.gz"));
    let mut pack = Command::new("tar");
    // Else gzip notes when it ran.
    pack.args([
        "--create",
        "--use-compress-program=gzip -n",
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
    ]);
    pack.arg(format!("--mtime=@{}", source.epoch()?))
        .arg("--file")
        .arg(&archive)
        .arg(&name)
        .current_dir(&source.out);
    output(&mut pack)?;
    fs::remove_dir_all(&root).context("removing the folder of the archive")?;
    Ok(archive)
}
