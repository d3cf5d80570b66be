//! `cargo xtask openapi`: whether the interface does what its description says, tried by schemathesis.
//!
//! Schemathesis makes requests from `/openapi.json`, valid ones and invalid ones, and holds every answer
//! against it. `tests/openapi` has what it is told: the configuration of the platform and its own. The
//! platform is one process of its own; nothing else is touched.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tasker_services::{Home, Process};

use super::{Failed, build_tasker, checkout, install, target_dir};

const USAGE: &str = "cargo xtask openapi [--max-examples N]";

/// The release of schemathesis. Another one finds other things, so it changes only on purpose.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// Requests for each operation and phase without `--max-examples`.
const EXAMPLES: u32 = 100;

/// How long the platform may take to start and to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// What has to be there for a run.
struct Tools {
    schemathesis: PathBuf,
    tasker: PathBuf,
    /// `tests/openapi`.
    told: PathBuf,
    examples: u32,
}

pub(super) fn check(arguments: &[String]) -> anyhow::Result<()> {
    let examples = match arguments {
        [] => EXAMPLES,
        [flag, examples] if flag == "--max-examples" => {
            examples.parse().with_context(|| format!("`{examples}` is not a number: {USAGE}"))?
        }
        _ => bail!(USAGE),
    };
    let checkout = checkout()?;
    let target = target_dir(&checkout);
    let tools = Tools {
        tasker: build_tasker()?,
        schemathesis: schemathesis(&target.join("schemathesis"))?,
        told: checkout.join("tests/openapi"),
        examples,
    };

    let home = Home::new("openapi")?;
    let mut platform = Platform::start(&tools, &home)?;
    let open = platform.tried(&tools, &home, None)?;
    platform.process.stop(PATIENCE)?;
    // A token that is made while the platform runs counts a moment later. One that is there when it starts
    // counts at once.
    let token = home.join("token");
    let mut create = Command::new(&tools.tasker);
    create.args(["token", "create", "--name", "schemathesis", "--scope", "admin", "--out"]).arg(&token);
    let created = home.run(create.arg("--data-dir").arg(home.join("data")))?;
    ensure!(created.success(), "`tasker token create` ended with {created}");
    let mut platform = Platform::start(&tools, &home)?;
    let guarded = platform.tried(&tools, &home, Some(std::fs::read_to_string(&token)?.trim()))?;
    platform.process.stop(PATIENCE)?;
    for status in [open, guarded] {
        if !status.success() {
            bail!(Failed(status));
        }
    }
    Ok(())
}

/// A platform with all kinds of types, on a free port.
struct Platform {
    process: Process,
    url: String,
}

impl Platform {
    fn start(tools: &Tools, home: &Home) -> anyhow::Result<Self> {
        // The port of the platform before stands in its log.
        _ = std::fs::remove_file(home.join("tasker.log"));
        let mut up = Command::new(&tools.tasker);
        up.args(["up", "--listen", "127.0.0.1:0", "--data-dir"]).arg(home.join("data"));
        up.arg("--config")
            .arg(tools.told.join("platform.config.yaml"))
            .env("TASKER_ENDPOINT__HANDLERS_DIR", tools.told.join("handlers"));
        let mut process = home.start("tasker", &mut up)?;
        let log = home.join("tasker.log");
        let url = process.ready(PATIENCE, || {
            let log = std::fs::read_to_string(&log)?;
            let address = log.lines().find_map(|line| line.trim_start().strip_prefix("API "));
            address.map(|address| address.trim().to_owned()).context("it has not said where it listens")
        })?;
        Ok(Self { process, url })
    }

    /// Lets schemathesis loose on it.
    fn tried(
        &mut self,
        tools: &Tools,
        home: &Home,
        token: Option<&str>,
    ) -> anyhow::Result<std::process::ExitStatus> {
        eprintln!(
            "Running schemathesis {}",
            if token.is_some() { "with a token" } else { "without a token" }
        );
        let mut tester = Command::new(&tools.schemathesis);
        tester.arg("--config-file").arg(tools.told.join("schemathesis.toml"));
        tester.args([
            "run",
            &format!("{}/openapi.json", self.url),
            "--max-examples",
            &tools.examples.to_string(),
        ]);
        // The same requests every time, and nothing of an earlier run.
        tester.args(["--seed", "1", "--generation-database", "none"]);
        if let Some(token) = token {
            tester.args(["--header", &format!("Authorization: Bearer {token}")]);
        }
        let status = home.run(tester.current_dir(home.path()))?;
        if let Some(ended) = self.process.ended()? {
            bail!("the platform ended with {ended}; the end of its log:\n{}", self.process.log());
        }
        Ok(status)
    }
}

/// The program, installed with pip into an environment of its own.
fn schemathesis(environment: &Path) -> anyhow::Result<PathBuf> {
    let program = environment.join("bin/schemathesis");
    let pip = environment.join("bin/pip");
    if !pip.is_file() {
        install::what_is_missing(install::FOR_OPENAPI)?;
        // Debian has the part that brings pip in a package of its own, which has no program to look for.
        if !Command::new("python3")
            .args(["-c", "import ensurepip"])
            .status()
            .context("running python3")?
            .success()
        {
            install::packages(&["python3-venv"])?;
        }
        let made = Command::new("python3")
            .args(["-m", "venv"])
            .arg(environment)
            .status()
            .context("running python3")?;
        ensure!(made.success(), "`python3 -m venv` ended with {made}");
    }
    // It does nothing when this release is there.
    let installed = Command::new(pip)
        .args(["install", "--quiet", "--disable-pip-version-check", SCHEMATHESIS])
        .status()
        .context("running pip")?;
    ensure!(installed.success(), "`pip install {SCHEMATHESIS}` ended with {installed}");
    Ok(program)
}
