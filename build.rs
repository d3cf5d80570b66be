//! Tells the program which commit it is built from.
//!
//! `TASKER_COMMIT` says so where a packager builds from sources without their history; otherwise git is
//! asked, and where there is no git or no repository the program does without. A build for development is not
//! asked: every commit would compile the library anew.

use std::process::Command;

fn main() {
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
