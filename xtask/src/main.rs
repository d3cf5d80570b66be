//! Set-up and test commands of the repository: `cargo xtask --help`.
//!
//! No signal is handled here on purpose. Servers and test runs live in [`tasker_services::Home`]s, and those
//! end with this process however it ends.

mod dashboard;
mod fuzz;
mod install;
mod matrix;
mod openapi;
mod package;
mod tree;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::thread;
use std::time::Instant;

use anyhow::{Context, anyhow, bail};
use tasker_services::{Home, MariaDb, RabbitMq, start_pair};

const HELP: &str = "\
Set-up and test commands of the repository

cargo xtask test [ARGS]   all tests on a private RabbitMQ and MariaDB; what is missing is installed with apt-get
                          ARGS go to `cargo test`: a filter, `--test it broker`, `-- --nocapture`
cargo xtask soak [--minutes N] [--seed S] [--faults NAME,NAME...]
                          breaks a platform at random for N minutes (10) and judges the ledger after each fault;
                          --faults chooses among them, a wrong name lists them
cargo xtask matrix [--pair oldest|middle|newest] [--only conformance|journeys|faults|security]
                          the suites of store and broker, the journeys, the faults and security on each pair of server versions; needs root,
                          since the servers are installed into folders of their own (target/matrix) with debootstrap
cargo xtask package [--binary FILE] [--out DIR] [--try]
                          a Debian package, an archive and their checksums in target/package (or DIR), of a fresh build with the profile
                          `dist` (or FILE); --try installs, upgrades and purges the package in a fresh Debian, and needs root
cargo xtask openapi [--max-examples N]
                          schemathesis (installed with pip into target/schemathesis) against the interface and its description, without
                          a token and with one, with N examples (100) for each operation
cargo xtask dashboard [--check|--measure]
                          builds the page in src/web/dashboard/web into src/web/dashboard/dist and runs its tests; --check compares instead of building;
                          --measure does that and uses the page in Chromium (installed with apt-get) and prints its figures; needs Node
cargo xtask services      starts the two servers and prints their URLs; they run until Ctrl-C
cargo xtask fuzz [--seconds N]
                          every fuzz target for N seconds (30); installs cargo-fuzz with cargo if it is missing
cargo xtask check         formatting, clippy (also without the feature `bench`), the types of the fuzz targets, and documentation, with
                          warnings as errors
cargo xtask ci            check, then test";

fn main() -> ExitCode {
    if env::var_os(fuzz::COMPILES).is_some() {
        return fuzz::compile(env::args_os().skip(1));
    }
    let mut arguments = env::args().skip(1);
    let command = arguments.next();
    let rest: Vec<String> = arguments.collect();
    let done = match command.as_deref() {
        Some("test") => test(&rest),
        Some("soak") => soak(&rest),
        Some("matrix") => matrix::run_all(&rest),
        Some("openapi") => openapi::check(&rest),
        Some("package") => package::make(&rest),
        Some("dashboard") => dashboard::make(&rest),
        Some("services") if rest.is_empty() => services(),
        Some("fuzz") => fuzz::run_all(&rest),
        Some("check") if rest.is_empty() => check(),
        Some("ci") if rest.is_empty() => check().and_then(|()| test(&[])),
        Some("help" | "--help" | "-h") => {
            println!("{HELP}");
            Ok(())
        }
        _ => {
            eprintln!("{HELP}");
            return ExitCode::FAILURE;
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Failed>() {
            // The command has said what is wrong.
            Some(failed) => failed.code(),
            None => {
                eprintln!("xtask: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

/// The repository.
fn checkout() -> anyhow::Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?)
}

/// Where cargo builds what is in the repository.
fn target_dir(checkout: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout.join("target"), PathBuf::from)
}

/// How long all tests may take, their compilation included: a test that waits for ever would keep CI until it
/// is stopped without a word.
const LONGEST_TESTS: &str = "50m";
/// What `timeout` ends with then.
const TIMED_OUT: i32 = 124;

/// A command that ended without success.
#[derive(Debug)]
struct Failed(ExitStatus);

impl Failed {
    fn code(&self) -> ExitCode {
        self.0.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Failed {}

fn test(arguments: &[String]) -> anyhow::Result<()> {
    install::what_is_missing(install::FOR_TESTS)?;
    if arguments.is_empty() {
        dashboard::check_where_node_is()?;
    }
    let (rabbitmq, mariadb) = start()?;
    let cargo = cargo(&["test", "--workspace", "--locked", "--no-fail-fast"]);
    let mut tests = Command::new("timeout");
    tests.args(["--kill-after=60s", LONGEST_TESTS]).arg(cargo.get_program()).args(cargo.get_args());
    tests.args(arguments).envs(variables(&rabbitmq, &mariadb));
    if env::var_os("RUST_TEST_THREADS").is_none() {
        // Most of them wait for servers and processes most of the time: with as many as there are cores, half
        // of these idle.
        let cores = thread::available_parallelism().map_or(2, usize::from);
        tests.env("RUST_TEST_THREADS", (cores + cores.div_ceil(2)).to_string());
    }
    run_as("cargo test", &mut tests).map_err(|error| timed_out(error, LONGEST_TESTS))
}

/// Says so where `timeout` has ended the tests.
fn timed_out(error: anyhow::Error, longest: &str) -> anyhow::Error {
    match error.downcast_ref::<Failed>() {
        Some(Failed(status)) if status.code() == Some(TIMED_OUT) => {
            anyhow!("the tests did not end within {longest}: look for those that have no result above")
        }
        _ => error,
    }
}

fn soak(arguments: &[String]) -> anyhow::Result<()> {
    install::what_is_missing(install::FOR_TESTS)?;
    // It starts servers of its own: it kills them.
    run(cargo(&["test", "--workspace", "--locked", "--test", "soak", "--"]).args(arguments))
}

fn services() -> anyhow::Result<()> {
    install::what_is_missing(install::FOR_TESTS)?;
    let (rabbitmq, mariadb) = start()?;
    println!(
        "# RabbitMQ: guest / guest, management at {}",
        rabbitmq.management_url().trim_end_matches("api")
    );
    println!("# MariaDB: root without a password");
    for (name, value) in variables(&rabbitmq, &mariadb) {
        println!("export {name}={value}");
    }
    println!("# Both end with this command: Ctrl-C");
    loop {
        thread::park();
    }
}

fn check() -> anyhow::Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    let without_bench = ["clippy", "--workspace", "--no-default-features", "--lib", "--bins", "--examples"];
    run(cargo(&without_bench).args(["--locked", "--", "-D", "warnings"]))?;
    fuzz::check()?;
    // The program has the name of its library, and its documentation would have the place of the library's.
    let documented = ["--lib", "--bin", "tasker-agent", "--bin", "xtask", "--examples"];
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
    run(doc.args(documented).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Builds the program; answers where it is.
///
/// With an example among what is built, cargo takes the features of `[dev-dependencies]`, as for the tests:
/// otherwise the libraries that have more then, and all that use these, would be built once more. The same is
/// true of what [`check`] checks.
fn build_tasker() -> anyhow::Result<PathBuf> {
    run(&mut cargo(&["build", "--locked", "--bin", "tasker", "--example", "http_tasks"]))?;
    Ok(target_dir(&checkout()?).join("debug/tasker"))
}

fn start() -> anyhow::Result<(RabbitMq, MariaDb)> {
    eprintln!("Starting a private RabbitMQ and a private MariaDB");
    let begin = Instant::now();
    let pair = start_pair()?;
    eprintln!("Both are ready after {:.1?}", begin.elapsed());
    Ok(pair)
}

/// What tells the tests where the servers are.
fn variables(rabbitmq: &RabbitMq, mariadb: &MariaDb) -> [(&'static str, String); 3] {
    [
        ("TASKER_TEST_AMQP", rabbitmq.url()),
        ("TASKER_TEST_RABBITMQ_API", rabbitmq.management_url()),
        ("TASKER_TEST_MYSQL", mariadb.url()),
    ]
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments);
    cargo
}

/// Runs a command that ends with this process, and shows it.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy();
    let verb = command.get_args().next().unwrap_or_default().to_string_lossy();
    run_as(&format!("{program} {verb}"), command)
}

fn run_as(name: &str, command: &mut Command) -> anyhow::Result<()> {
    eprintln!("Running {name}");
    let status = Home::new("run")?.run(command).with_context(|| format!("running {name}"))?;
    if !status.success() {
        bail!(Failed(status));
    }
    Ok(())
}
