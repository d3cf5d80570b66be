//! `cargo xtask dashboard`: builds the page of `src/web/dashboard/web` into `src/web/dashboard/dist`, or
//! compares both, and runs its tests; with `--measure` also those in a browser.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use tasker_services::{Home, find};

use super::{build_tasker, checkout, install, run, run_as, timed_out};

const USAGE: &str = "cargo xtask dashboard [--check|--measure]";

/// What uses the page in a browser. Each has a platform of its own, so that two run at once.
const TESTS: &[&str] = &["e2e/looks.test.mjs", "e2e/acts.test.mjs", "e2e/bad-days.test.mjs"];
/// How long these tests may take, and the figures: a browser that hangs would keep CI without a word.
const LONGEST: &str = "12m";

pub(super) fn make(arguments: &[String]) -> anyhow::Result<()> {
    let (build, measure) = match arguments {
        [] => (true, false),
        [flag] if flag == "--check" => (false, false),
        [flag] if flag == "--measure" => (false, true),
        _ => bail!(USAGE),
    };
    ensure!(
        find("node", &[]).is_ok() && find("npm", &[]).is_ok(),
        "the dashboard is built with Node 20.19 or later and npm: install them and try again"
    );
    if measure {
        install::what_is_missing(install::FOR_PAGES)?;
    }
    let web = checkout()?.join("src/web/dashboard/web");
    run(npm(&web).arg("ci"))?;
    run(npm(&web).args(["run", "test"]))?;
    if build {
        return run(npm(&web).args(["run", "build"]));
    }
    compare(&web)?;
    if measure {
        in_browser(&web)?;
    }
    Ok(())
}

/// Uses the page of the real program in a real browser, and measures it.
fn in_browser(web: &Path) -> anyhow::Result<()> {
    let tasker = build_tasker()?;
    let suite = ["--test", "--test-reporter=spec", "--test-concurrency=2"];
    // Figures come last and alone.
    for (name, script) in
        [("the tests in a browser", [&suite[..], TESTS].concat()), ("the figures", vec!["e2e/measure.mjs"])]
    {
        let mut node = Command::new("timeout");
        node.args(["--kill-after=20s", LONGEST, "node"]).args(script).current_dir(web);
        node.env("TASKER", &tasker);
        run_as(name, &mut node).map_err(|error| timed_out(error, LONGEST))?;
    }
    Ok(())
}

/// Compares what the repository has where Node is at hand; without it, there is nothing to compare with.
pub(super) fn check_where_node_is() -> anyhow::Result<()> {
    if find("node", &[]).is_err() || find("npm", &[]).is_err() {
        eprintln!("There is no Node, so the files of the dashboard are taken as they are");
        return Ok(());
    }
    make(&["--check".to_owned()])
}

fn compare(web: &Path) -> anyhow::Result<()> {
    let home = Home::new("dashboard")?;
    let built = home.join("dist");
    run(npm(web).args(["run", "build"]).env("DASHBOARD_OUT", &built))?;
    let committed = web.join("../dist");
    let (built, committed) = (files(&built)?, files(&committed)?);
    let names = built.keys().chain(committed.keys());
    let differing: Vec<_> = names
        .filter(|name| built.get(*name) != committed.get(*name))
        .map(|name| name.display().to_string())
        .collect();
    ensure!(
        differing.is_empty(),
        "src/web/dashboard/dist is not what src/web/dashboard/web builds ({}): run `cargo xtask dashboard` and commit it",
        differing.join(", ")
    );
    Ok(())
}

/// All files below a folder with what is in them.
fn files(folder: &Path) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let (mut all, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("reading {}", next.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all.insert(path.strip_prefix(folder)?.to_owned(), fs::read(&path)?);
            }
        }
    }
    Ok(all)
}

fn npm(web: &Path) -> Command {
    let mut npm = Command::new("npm");
    npm.current_dir(web);
    npm
}
