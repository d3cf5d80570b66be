//! The layers: which module may import which, and that no two files of a module import each other.
//!
//! Reads the paths that begin at a crate's root (`crate::x`, or enough `super::` to get there) in `src/`
//! and `handlers/`. Each crate calls the modules of those beneath it by the same names, so one table serves
//! for all. Comments, documentation and strings are no edges. Neither is anything under
//! `#[cfg(test)]`: what ships decides about layers, and a test of a module may well drive it with the parts
//! above.
//!
//! What reads the source anyway also sees that a key of the log has one meaning.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

mod circles;
mod source;

use source::{Edge, Source};

/// Each module with those it may import. Those stand above it, so that the table has no circle.
const LAYERS: &[(&str, &[&str])] = &[
    // What things are; no I/O.
    ("domain", &[]),
    ("farm", &["domain"]),
    // Leaves.
    ("http_tasks", &[]),
    ("https", &[]),
    ("failpoint", &[]),
    ("dashboard", &[]),
    ("request_body", &[]),
    ("shell", &[]),
    ("custody", &[]),
    ("regular_file", &[]),
    ("contract", &["domain", "farm"]),
    ("bell", &[]),
    ("backoff", &["domain"]),
    ("clock", &["domain"]),
    ("yaml", &["domain"]),
    ("config", &["domain", "backoff", "http_tasks", "yaml"]),
    ("signing", &["domain", "config", "custody"]),
    ("telemetry", &["domain", "config"]),
    ("service", &["domain", "telemetry"]),
    ("watch", &["domain"]),
    ("touched", &["bell", "domain"]),
    ("admission", &["domain", "config"]),
    // The outside world.
    ("store", &["domain", "farm", "backoff", "clock", "config"]),
    ("client", &["domain", "contract", "config", "https"]),
    ("broker", &["domain", "contract", "client", "backoff", "config", "https", "telemetry"]),
    (
        "http_remote",
        &[
            "domain", "http_tasks", "backoff", "clock", "config", "custody", "broker", "signing", "service",
            "telemetry",
        ],
    ),
    ("enrolment", &["domain", "config"]),
    ("sealing", &["domain", "signing", "broker", "clock"]),
    // The loops of an API process.
    ("keyring", &["domain", "store", "service"]),
    ("throughput", &["domain", "store", "clock", "service"]),
    ("ledger", &["domain", "store", "bell", "clock", "telemetry", "throughput", "touched", "watch"]),
    ("live", &["domain", "contract", "store", "clock", "telemetry", "touched"]),
    (
        "publisher",
        &[
            "domain", "failpoint", "store", "ledger", "broker", "backoff", "clock", "config", "sealing",
            "telemetry", "watch", "service",
        ],
    ),
    (
        "queue",
        &[
            "domain", "failpoint", "admission", "store", "ledger", "backoff", "clock", "config", "telemetry",
            "watch", "publisher", "service",
        ],
    ),
    (
        "collector",
        &[
            "domain", "failpoint", "store", "ledger", "broker", "backoff", "config", "telemetry",
            "publisher", "service",
        ],
    ),
    ("acceptor", &["domain", "failpoint", "store", "ledger", "clock", "telemetry", "publisher", "service"]),
    (
        "scheduler",
        &["domain", "failpoint", "admission", "store", "clock", "config", "telemetry", "acceptor", "service"],
    ),
    (
        "presence",
        &[
            "domain", "store", "ledger", "broker", "clock", "config", "sealing", "telemetry", "publisher",
            "collector", "service",
        ],
    ),
    ("reconciler", &["domain", "store", "ledger", "backoff", "clock", "publisher", "service"]),
    (
        "requests",
        &[
            "domain", "failpoint", "admission", "store", "ledger", "backoff", "clock", "config", "telemetry",
            "watch", "publisher", "queue", "service",
        ],
    ),
    (
        "rollouts",
        &[
            "domain", "config", "failpoint", "store", "ledger", "backoff", "clock", "telemetry", "watch",
            "publisher", "service",
        ],
    ),
    (
        "observer",
        &["domain", "store", "broker", "backoff", "clock", "config", "service", "telemetry", "watch"],
    ),
    // What runs on the servers: never the store.
    (
        "endpoint",
        &[
            "domain", "failpoint", "custody", "signing", "broker", "backoff", "clock", "config",
            "regular_file", "service", "telemetry",
        ],
    ),
    ("handlers", &["domain", "endpoint", "config", "http_tasks"]),
    // What the bench and trials have in the place of real endpoints.
    ("simulated", &["domain", "broker", "clock", "config"]),
    // HTTP.
    (
        "api",
        &[
            "domain", "farm", "contract", "dashboard", "admission", "store", "broker", "backoff", "clock",
            "config", "regular_file", "request_body", "telemetry", "watch", "keyring", "ledger", "live",
            "publisher", "queue", "requests", "rollouts", "acceptor", "sealing", "signing",
        ],
    ),
    // Render farms: the protocol of Flamenco 2.x in front of the farm.
    (
        "flamenco",
        &["domain", "farm", "store", "backoff", "clock", "config", "https", "request_body", "service"],
    ),
    // Puts the parts of a process together.
    (
        "app",
        &[
            "domain", "flamenco", "shell", "signing", "sealing", "client", "clock", "config", "service",
            "telemetry", "watch", "admission", "store", "broker", "http_remote", "throughput", "ledger",
            "publisher", "queue", "collector", "acceptor", "scheduler", "presence", "reconciler", "requests",
            "rollouts", "observer", "endpoint", "handlers", "simulated", "api",
        ],
    ),
    // Starts a platform and drives it through what customers and endpoints really see.
    (
        "bench",
        &[
            "domain", "farm", "flamenco", "clock", "https", "contract", "client", "http_tasks", "config",
            "store", "broker", "http_remote", "endpoint", "handlers", "simulated", "app",
        ],
    ),
    (
        "cli",
        &[
            "domain", "shell", "contract", "client", "backoff", "clock", "config", "yaml", "telemetry",
            "admission", "store", "broker", "enrolment", "signing", "endpoint", "handlers", "simulated",
            "farm", "flamenco", "api", "app", "bench",
        ],
    ),
];

/// The directories of `src/` that are crates of several modules; `src/http_tasks` is a crate and a module.
const CRATES: &[&str] = &["fleet", "model", "process", "records", "server", "transport", "web"];

/// Libraries that only some modules may use; `actix` stands for all crates of that family.
const LIBRARIES: &[(&str, &[&str])] = &[
    // Only a `lib.rs` names our own crates: all else says `crate::module`, which the table above judges. An
    // example does it as others would.
    ("tasker", &["handlers"]),
    ("sqlx", &["store"]),
    ("lapin", &["broker"]),
    ("actix", &["request_body", "api", "flamenco"]),
    ("hyper", &["http_tasks", "bench"]),
    ("flate2", &["http_tasks", "flamenco", "api", "dashboard"]),
];

#[test]
fn arrows_run_with_the_table() -> anyhow::Result<()> {
    let mut breaches = Vec::new();
    for File { shown, module, source } in files()? {
        // The root declares the modules; it is not one.
        let Some(top) = module.first() else { continue };
        breaches.extend(
            judge(top, &source, module.len()).into_iter().map(|(line, why)| format!("{shown}:{line}: {why}")),
        );
    }
    ensure!(breaches.is_empty(), "the layers of tests/it/layering.rs are breached:\n{}", breaches.join("\n"));
    Ok(())
}

/// A reader cannot understand one of two files that import each other without the other. What both need goes
/// into a file of its own.
#[test]
fn no_files_import_each_other() -> anyhow::Result<()> {
    let sources: Vec<_> = files()?.into_iter().map(|file| (file.module, file.source)).collect();
    let circles: Vec<_> = circles::find(&sources).iter().map(ToString::to_string).collect();
    ensure!(circles.is_empty(), "files import each other:\n{}", circles.join("\n"));
    Ok(())
}

/// In the log, `reason` is a code of the set that `tasker explain` has, which programs may branch on; `why` is
/// free text.
#[test]
fn reasons_in_the_log_are_codes() -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    for File { shown, source, .. } in files()? {
        wrong.extend(source.uncoded_reasons().map(|line| format!("{shown}:{line}")));
    }
    ensure!(wrong.is_empty(), "`reason` is not a ReasonCode: use `why` for texts\n{}", wrong.join("\n"));
    let source = Source::read(
        "info!(reason = %ReasonCode::Fenced, \"x\");\nwarn!(%reason, \"x\");\nwarn!(reason = %why);\nf(reason, 1);\nwarn!(why = %reason);",
    );
    assert_eq!(source.uncoded_reasons().collect::<Vec<_>>(), [2, 3]);
    Ok(())
}

#[test]
fn the_table_has_no_circle() {
    for (place, (module, imports)) in LAYERS.iter().enumerate() {
        for import in *imports {
            assert!(
                LAYERS[..place].iter().any(|(above, _)| above == import),
                "{module} may import {import}, which does not stand above it"
            );
        }
    }
}

#[test]
fn edges_are_seen_and_nothing_else() {
    let source = Source::read(
        r##"
//! [`crate::store::Store`]
use crate::{domain::{Task, json}, clock, broker::wire as w};
/* crate::api /* crate::api */ */
fn f<'a>(x: &'a str) -> crate::endpoint::Work { let c = '"'; let s = "crate::cli"; let r = r#"crate::"app"#; super::g('\'') }
mod inner { use super::super::watch::Watch; use super::Local; }
#[cfg(test)]
mod tests { use crate::api::Api; fn t() { sqlx::query("") } }
#[cfg(test)]
mod more;
#[cfg(all(test, unix))]
use crate::app;
impl From<sqlx::Error> for crate::presence::X {}
"##,
    );
    let edges = source.edges(1).into_iter().map(|edge| (edge.line, edge.to)).collect::<Vec<_>>();
    let expected = [
        (3, "domain"),
        (3, "clock"),
        (3, "broker"),
        (5, "endpoint"),
        (5, "g"),
        (6, "watch"),
        (13, "presence"),
    ];
    assert_eq!(edges, expected.map(|(line, to)| (line, to.to_owned())));
    assert_eq!(source.test_modules, ["more"]);
    assert_eq!(source.uses("sqlx").collect::<Vec<_>>(), [13]);
}

#[test]
fn a_breach_has_a_line_and_a_reason() {
    let breaches = |module, text| {
        judge(module, &Source::read(text), 1)
            .into_iter()
            .map(|(line, why)| format!("{line}: {why}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(breaches("endpoint", "\nuse crate::store::Store;"), ["2: endpoint must not import store"]);
    assert_eq!(breaches("bench", "use crate::elsewhere::X;"), ["1: elsewhere is not a module of the table"]);
    assert_eq!(breaches("elsewhere", ""), ["1: elsewhere is not a module of the table"]);
    assert_eq!(breaches("api", "sqlx::query()"), ["1: api must not use sqlx"]);
    assert_eq!(breaches("collector", "use actix_web::web;"), ["1: collector must not use actix"]);
    assert_eq!(breaches("api", "use crate::cli::X;"), ["1: api must not import cli"]);
    assert_eq!(breaches("api", "use crate::{store, broker}; use actix_web::web;"), [""; 0]);
}

/// What is wrong with a file of a module, with lines.
fn judge(module: &str, source: &Source, depth: usize) -> Vec<(usize, String)> {
    let place = |module: &str| LAYERS.iter().position(|(name, _)| *name == module);
    let Some(own) = place(module) else { return vec![(1, format!("{module} is not a module of the table"))] };
    let imports = LAYERS[own].1;
    let mut breaches = Vec::new();
    for Edge { line, to } in source.edges(depth) {
        match place(&to) {
            Some(other) if other == own || imports.contains(&to.as_str()) => {}
            Some(_) => breaches.push((line, format!("{module} must not import {to}"))),
            None => breaches.push((line, format!("{to} is not a module of the table"))),
        }
    }
    for (library, _) in LIBRARIES.iter().filter(|(_, users)| !users.contains(&module)) {
        breaches.extend(source.uses(library).map(|line| (line, format!("{module} must not use {library}"))));
    }
    breaches
}

/// A file of the program, without what is there for tests.
struct File {
    /// Its path from the root of the repository.
    shown: String,
    /// The module that it is.
    module: Vec<String>,
    source: Source,
}

/// All files that ship.
fn files() -> anyhow::Result<Vec<File>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for (directory, above) in [("src", None), ("handlers", Some("handlers"))] {
        let directory = root.join(directory);
        let mut sources = Vec::new();
        let mut tests = BTreeSet::new();
        // What builds a crate is no part of it.
        for path in rust_files(&directory)?.into_iter().filter(|path| !path.ends_with("build.rs")) {
            let source =
                Source::read(&fs::read_to_string(&path).with_context(|| path.display().to_string())?);
            let around = if path.ends_with("mod.rs") || path.ends_with("lib.rs") {
                path.with_file_name("")
            } else {
                path.with_extension("")
            };
            tests.extend(source.test_modules.iter().map(|name| around.join(name)));
            sources.push((path, source));
        }
        for (path, source) in sources {
            if tests.iter().any(|test| path.starts_with(test) || path == test.with_extension("rs")) {
                continue;
            }
            let inside = path.strip_prefix(&directory)?.with_extension("");
            let inside = CRATES.iter().find_map(|name| inside.strip_prefix(name).ok()).unwrap_or(&inside);
            let names = inside
                .iter()
                .map(|name| name.to_string_lossy().into_owned())
                .filter(|name| name != "mod" && name != "lib");
            let module = above.map(str::to_owned).into_iter().chain(names).collect();
            files.push(File { shown: path.strip_prefix(root)?.display().to_string(), module, source });
        }
    }
    ensure!(!files.is_empty(), "no source was found");
    Ok(files)
}

fn rust_files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if !directory.exists() {
        return Ok(files);
    }
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
