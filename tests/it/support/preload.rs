//! Small libraries in C that are preloaded into processes of a test, to change what the system tells them.

use std::process::Command;

use anyhow::{Context, ensure};
use tasker_services::Home;

/// Compiles `NAME.c` of this directory. Answers what a process needs in its environment to load it.
pub fn compiled(home: &Home, name: &str) -> anyhow::Result<(&'static str, String)> {
    let library = home.join(&format!("{name}.so"));
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(format!("{}/tests/it/support/{name}.c", env!("CARGO_MANIFEST_DIR")))
        .status()
        .context("running cc")?;
    ensure!(made.success(), "cc ended with {made}");
    Ok(("LD_PRELOAD", library.display().to_string()))
}
