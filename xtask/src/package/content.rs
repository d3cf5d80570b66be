//! Which files are given out, and how they are written.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::{AGENT, Source, output};

/// systemd's units of this repository; those of the Thunder example have an installation of their own.
pub(super) const UNITS: [&str; 5] = [
    "tasker-api.service",
    "tasker-endpoint@.service",
    "tasker-worker@.service",
    "tasker-http-worker.service",
    "tasker-flamenco-manager.service",
];

/// The shells, and how each calls the file with the completions of a program.
pub(super) const SHELLS: [(&str, &str); 3] =
    [("bash", "tasker"), ("zsh", "_tasker"), ("fish", "tasker.fish")];

impl Source {
    /// Copies a file of the repository, with a mode of its own.
    pub(super) fn copy(&self, from: &str, to: &Path, mode: u32) -> anyhow::Result<()> {
        let content = fs::read(self.checkout.join(from)).with_context(|| from.to_owned())?;
        write(to, &content, mode)
    }

    /// Copies the files of a directory, not those below it.
    pub(super) fn copy_all(&self, from: &str, to: &Path, mode: u32) -> anyhow::Result<()> {
        for entry in fs::read_dir(self.checkout.join(from)).with_context(|| from.to_owned())? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                write(&to.join(entry.file_name()), &fs::read(entry.path())?, mode)?;
            }
        }
        Ok(())
    }

    /// The programs, into a directory.
    pub(super) fn programs(&self, to: &Path) -> anyhow::Result<()> {
        for (program, name) in [(&self.binary, "tasker"), (&self.agent, AGENT)] {
            write(&to.join(name), &fs::read(program).with_context(|| format!("reading {name}"))?, 0o755)?;
        }
        Ok(())
    }

    /// What the program prints for a shell.
    pub(super) fn completions(&self, shell: &str, to: &Path) -> anyhow::Result<()> {
        let script = output(Command::new(&self.binary).args(["completions", shell]))?;
        write(to, script.as_bytes(), 0o644)
    }

    /// The manual pages, one a command, packed as `man` reads them.
    pub(super) fn manual(&self, to: &Path) -> anyhow::Result<()> {
        let pages = self.out.join("man");
        directory(&pages)?;
        output(Command::new(&self.binary).arg("man").arg(&pages))?;
        for entry in fs::read_dir(&pages)? {
            let page = entry?.path();
            // Without the time at which it was packed.
            output(Command::new("gzip").args(["--best", "--no-name"]).arg(&page))?;
        }
        self.copy_all(pages.to_str().context("a directory that is a text")?, to, 0o644)?;
        fs::remove_dir_all(&pages).context("removing the manual pages")
    }

    /// What is read and not run: licences, pages, examples.
    pub(super) fn documents(&self, to: &Path) -> anyhow::Result<()> {
        for name in ["README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE-MIT", "LICENSE-APACHE"] {
            self.copy(name, &to.join(name), 0o644)?;
        }
        self.copy_all("docs", &to.join("docs"), 0o644)?;
        self.copy_all("handlers/examples", &to.join("examples/handlers"), 0o644)?;
        self.copy_all("supervisor/monitoring", &to.join("examples/monitoring"), 0o644)?;
        self.copy("config/default.config.yaml", &to.join("examples/default.config.yaml"), 0o644)
    }
}

/// Writes a file and the directories above it.
pub(super) fn write(to: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let parent = to.parent().context("a file is in a directory")?;
    directory(parent)?;
    fs::write(to, content).with_context(|| format!("writing {}", to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", to.display()))
}

/// Makes a directory and those above it, with the usual mode whatever the umask is.
pub(super) fn directory(path: &Path) -> anyhow::Result<()> {
    if !path.exists() {
        directory(path.parent().context("a root")?)?;
        fs::create_dir(path).with_context(|| format!("making {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
