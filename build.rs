//! Tells the program which commit it is built from, and gives it the files of `migrations/`.
//!
//! `TASKER_COMMIT` says so where a packager builds from sources without their history; otherwise git is
//! asked, and where there is no git or no repository the program does without. A build for development is not
//! asked: every commit would compile the library anew.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=TASKER_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    match commit() {
        Some(commit) => {
            println!("cargo::rustc-env=TASKER_BUILD_COMMIT={commit}");
            println!("cargo::rustc-env=TASKER_VERSION_TEXT={version} (commit {commit})");
        }
        None => println!("cargo::rustc-env=TASKER_VERSION_TEXT={version}"),
    }
    embed_migrations()
}

/// Writes the lists that `src/store/migrations.rs` includes.
fn embed_migrations() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=migrations");
    let mut code = String::new();
    for database in ["mysql", "sqlite"] {
        let directory = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("migrations").join(database);
        let mut names = Vec::new();
        for entry in fs::read_dir(&directory)? {
            names.push(
                entry?.file_name().into_string().map_err(|name| format!("{} is no name", name.display()))?,
            );
        }
        names.sort();
        writeln!(code, "pub(super) const {}: &[(&str, &str)] = &[", database.to_uppercase())?;
        for name in names {
            let version = name.split_once('_').filter(|(version, _)| version.parse::<i64>().is_ok());
            if version.is_none() || !name.ends_with(".up.sql") && !name.ends_with(".down.sql") {
                return Err(format!(
                    "{}/{name} must be named as 0001_noun.up.sql or .down.sql",
                    directory.display()
                )
                .into());
            }
            // Read by the compiler, which notices when the whole directory has been moved.
            let path = format!("/migrations/{database}/{name}");
            writeln!(code, "    ({name:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {path:?}))),")?;
        }
        writeln!(code, "];")?;
    }
    Ok(fs::write(Path::new(&std::env::var("OUT_DIR")?).join("migrations.rs"), code)?)
}

fn commit() -> Option<String> {
    let given = std::env::var("TASKER_COMMIT").ok().filter(|commit| !commit.is_empty());
    let asked = || {
        if std::env::var("PROFILE").as_deref() != Ok("release") {
            return None;
        }
        // A directory below somebody else's repository is not ours.
        let top = git(&["rev-parse", "--show-toplevel"])?;
        let own = std::env::var("CARGO_MANIFEST_DIR").ok()?;
        if std::fs::canonicalize(top).ok()? != std::fs::canonicalize(own).ok()? {
            return None;
        }
        for file in ["HEAD", "logs/HEAD"] {
            let path = git(&["rev-parse", "--git-path", file])?;
            println!("cargo::rerun-if-changed={path}");
        }
        git(&["rev-parse", "--short=12", "HEAD"])
    };
    given
        .or_else(asked)
        .filter(|commit| commit.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)))
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
