//! `cargo xtask fuzz`: every target under `tests/fuzz/targets`, one after the other.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail, ensure};

use super::{cargo, checkout, run, target_dir};

/// Seconds for each target without `--seconds`.
const SECONDS: u64 = 30;

/// Seconds after which one input counts as a hang: all of them are read within a millisecond.
const HANG: u64 = 10;

pub(super) fn run_all(arguments: &[String]) -> anyhow::Result<()> {
    let seconds = match arguments {
        [] => SECONDS,
        [flag, seconds] if flag == "--seconds" => {
            seconds.parse().with_context(|| format!("`{seconds}` is no number of seconds"))?
        }
        _ => bail!("cargo xtask fuzz [--seconds N]"),
    };
    let fuzz = checkout()?.join("tests/fuzz");
    if !Command::new("cargo-fuzz").arg("--version").output().is_ok_and(|output| output.status.success()) {
        run(&mut cargo(&["install", "--locked", "cargo-fuzz"]))?;
    }
    let targets = targets(&fuzz)?;
    ensure!(!targets.is_empty(), "there are no targets in {}", fuzz.display());
    for target in targets {
        eprintln!("{target}, for {seconds} s");
        // What is found along the way stays out of the seeds, which are written by hand.
        let corpus = fuzz.join("corpus").join(&target);
        fs::create_dir_all(&corpus)?;
        // No sanitizer: there is no unsafe code here for it to watch.
        let mut command = cargo(&["fuzz", "run", "--release", "--sanitizer", "none", "--fuzz-dir"]);
        command.arg(&fuzz).arg(&target).arg(corpus).arg(fuzz.join("seeds").join(&target));
        command.arg("--").args([
            format!("-max_total_time={seconds}"),
            format!("-timeout={HANG}"),
            "-print_final_stats=1".to_owned(),
        ]);
        // The instrumentation is not a stable option of the compiler.
        run(command.env("RUSTC_BOOTSTRAP", "1"))?;
    }
    Ok(())
}

/// Is set where this program stands in for the compiler.
pub(super) const COMPILES: &str = "TASKER_XTASK_COMPILES";

/// Checks the types of all targets, with the compiler that everything else is built with.
///
/// Their doors in the crates are there with `cfg(fuzzing)` alone, which `cargo fuzz` sets. `RUSTFLAGS` are for all
/// libraries, and these would be checked once more; so this program calls the compiler, see [`compile`].
pub(super) fn check() -> anyhow::Result<()> {
    let checkout = checkout()?;
    let mut command = cargo(&["check", "--locked", "--no-default-features", "--manifest-path"]);
    command.arg(checkout.join("tests/fuzz/Cargo.toml"));
    command.arg("--target-dir").arg(target_dir(&checkout));
    let this = env::current_exe().context("where this program is")?;
    run(command.env("RUSTC_WRAPPER", this).env(COMPILES, "1"))
}

/// Calls the compiler as cargo wants it, with `cfg(fuzzing)` for the crates of this repository.
pub(super) fn compile(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(compiler) = arguments.next() else { return ExitCode::FAILURE };
    let arguments: Vec<_> = arguments.collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let mut command = Command::new(compiler);
    command.args(&arguments);
    // Cargo has the warnings of other people's crates capped.
    if has("--crate-name") && has("--edition=2024") && !has("--cap-lints") {
        command.args(["--cfg", "fuzzing", "-D", "warnings"]);
    }
    let done = command.status().ok().and_then(|status| u8::try_from(status.code()?).ok());
    done.map_or(ExitCode::FAILURE, ExitCode::from)
}

fn targets(fuzz: &Path) -> anyhow::Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(fuzz.join("targets"))? {
        let path = entry?.path();
        targets.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
    }
    targets.sort_unstable();
    Ok(targets)
}
