//! `cargo xtask package`: what is given to those who run tasker - a Debian package, an archive, the list
//! of libraries, and their checksums.
//!
//! The first two hold the same files, which [`content`] lists once. dpkg-deb and tar put them together from a
//! folder, with the time of the last commit on all files, so that the same commit gives the same bytes.

mod archive;
mod bom;
mod content;
mod deb;
mod trial;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use super::{cargo, checkout, install, run, target_dir};

const USAGE: &str = "cargo xtask package [--binary FILE] [--out DIR] [--try]";

/// The program for servers that perform tasks. It is looked for beside a `--binary`.
const AGENT: &str = "tasker-agent";

/// The version of all packages of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the packages are made from.
#[derive(Debug)]
struct Source {
    /// The root of the repository.
    checkout: PathBuf,
    /// The program, without symbols.
    binary: PathBuf,
    /// The part of it for servers that perform tasks, without symbols.
    agent: PathBuf,
    /// The libraries that it needs, as Debian names them: `libc6 (>= 2.34), libgcc-s1 (>= 4.2)`.
    libraries: String,
    /// Debian's name of the processor: `amd64`.
    architecture: String,
    /// Where everything is made.
    out: PathBuf,
}

pub(super) fn make(arguments: &[String]) -> anyhow::Result<()> {
    let (mut binary, mut out, mut tried) = (None, None, false);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--binary" => binary = Some(PathBuf::from(words.next().context(USAGE)?)),
            "--out" => out = Some(PathBuf::from(words.next().context(USAGE)?)),
            "--try" => tried = true,
            _ => bail!("unknown argument `{word}`: {USAGE}"),
        }
    }
    install::what_is_missing(install::FOR_PACKAGES)?;
    let checkout = checkout()?;
    let target = target_dir(&checkout);
    let binary = match binary {
        Some(binary) => binary,
        None => {
            run(&mut cargo(&["build", "--profile", "dist", "--locked", "--package", "tasker", "--bins"]))?;
            target.join("dist/tasker")
        }
    };
    let out = out.unwrap_or_else(|| target.join("package"));
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("removing {}", out.display()))?;
    }
    fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    let source = Source::new(checkout, &binary, out.canonicalize()?)?;

    let made = [deb::make(&source)?, archive::make(&source)?, bom::make(&source)?];
    let names = made.each_ref().map(|path| path.file_name().unwrap_or_default());
    let sums = output(Command::new("sha256sum").arg("--").args(names).current_dir(&source.out))?;
    fs::write(source.out.join("SHA256SUMS"), &sums).context("writing SHA256SUMS")?;
    for copy in [&source.binary, &source.agent] {
        fs::remove_file(copy).with_context(|| format!("removing {}", copy.display()))?;
    }
    for path in &made {
        println!("{} ({} KiB)", path.display(), fs::metadata(path)?.len() / 1024);
    }
    println!("{}", source.out.join("SHA256SUMS").display());
    println!("needs {}", source.libraries);
    if tried { trial::run(&source.out, &made[0]) } else { Ok(()) }
}

impl Source {
    fn new(checkout: PathBuf, binary: &Path, out: PathBuf) -> anyhow::Result<Self> {
        let strip = |binary: &Path, name: &str| {
            let stripped = out.join(name);
            output(Command::new("strip").arg("-o").arg(&stripped).arg(binary)).map(|_| stripped)
        };
        let agent = strip(&binary.with_file_name(AGENT), AGENT)?;
        let stripped = strip(binary, "tasker")?;
        let architecture = output(Command::new("dpkg").arg("--print-architecture"))?.trim().to_owned();
        let libraries = libraries(&stripped, &out)?;
        Ok(Self { checkout, binary: stripped, agent, libraries, architecture, out })
    }

    /// The oldest C library that the program runs with.
    fn libc(&self) -> anyhow::Result<&str> {
        let version = self
            .libraries
            .split_once("libc6 (>= ")
            .and_then(|(_, rest)| rest.split_once(')'))
            .map(|(version, _)| version);
        version.with_context(|| format!("`{}` has no libc6", self.libraries))
    }

    /// When the last commit was made, in seconds since 1970; without git, when the changelog was written.
    fn epoch(&self) -> anyhow::Result<String> {
        let commit =
            Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(&self.checkout).output();
        match commit {
            Ok(commit) if commit.status.success() => {
                Ok(String::from_utf8_lossy(&commit.stdout).trim().to_owned())
            }
            _ => Ok(output(
                Command::new("stat").args(["-c", "%Y", "CHANGELOG.md"]).current_dir(&self.checkout),
            )?
            .trim()
            .to_owned()),
        }
    }
}

/// What dpkg's own tool finds in the program. It looks for the description of a package where it runs.
fn libraries(binary: &Path, out: &Path) -> anyhow::Result<String> {
    let folder = out.join("shlibdeps");
    fs::create_dir_all(folder.join("debian"))?;
    fs::write(folder.join("debian/control"), "Source: tasker\n\nPackage: tasker\nArchitecture: any\n")?;
    let found = output(Command::new("dpkg-shlibdeps").arg("-O").arg(binary).current_dir(&folder))?;
    fs::remove_dir_all(folder)?;
    let libraries = found
        .trim()
        .strip_prefix("shlibs:Depends=")
        .with_context(|| format!("dpkg-shlibdeps says `{found}`"))?;
    Ok(libraries.to_owned())
}

/// Runs a command that must be good; answers what it printed.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("running {program}"))?;
    ensure!(
        output.status.success(),
        "{program} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
