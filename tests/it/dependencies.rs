//! The libraries: each has a reason in `docs/dependencies.md`, is used, comes from crates.io and has a
//! licence that ours goes with.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

/// Licences that both of ours go with: what they ask for is a notice.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Other ways to do what rustls with ring does: one of them in the tree is a feature that somebody has
/// switched on.
const BANNED: &[&str] = &["aws-lc-rs", "aws-lc-sys", "native-tls", "openssl", "openssl-sys"];

/// The manifests with the folders and files whose code may use their libraries.
const CODE: &[(&str, &[&str])] = &[
    (
        "Cargo.toml",
        &[
            "src/lib.rs", "src/app.rs", "src/app", "src/bench", "src/cli", "src/simulated", "bin",
            "handlers/examples", "tests/it", "tests/soak", "build.rs",
        ],
    ),
    ("src/fleet/Cargo.toml", &["src/fleet", "handlers"]),
    ("src/http_tasks/Cargo.toml", &["src/http_tasks"]),
    ("src/model/Cargo.toml", &["src/model"]),
    ("src/process/Cargo.toml", &["src/process"]),
    ("src/records/Cargo.toml", &["src/records"]),
    ("src/server/Cargo.toml", &["src/server"]),
    ("src/transport/Cargo.toml", &["src/transport"]),
    ("src/web/Cargo.toml", &["src/web"]),
    ("xtask/Cargo.toml", &["xtask/src"]),
    ("tests/services/Cargo.toml", &["tests/services/src"]),
    ("tests/fuzz/Cargo.toml", &["tests/fuzz/targets"]),
];

#[test]
fn every_dependency_has_a_reason() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).with_context(|| name.to_owned());
    let mut used = BTreeSet::new();
    for (manifest, _) in CODE {
        used.extend(dependencies(&read(manifest)?));
    }
    let named: BTreeSet<String> = read("docs/dependencies.md")?
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .collect();
    let missing: Vec<_> = used.difference(&named).collect();
    let gone: Vec<_> = named.difference(&used).collect();
    assert!(missing.is_empty(), "docs/dependencies.md gives no reason for {missing:?}");
    assert!(gone.is_empty(), "docs/dependencies.md names {gone:?}, which no Cargo.toml has");
    Ok(())
}

#[test]
fn every_dependency_is_used() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut unused = Vec::new();
    for (manifest, places) in CODE {
        let mut code = String::new();
        for place in *places {
            for file in rust_files(&root.join(place))? {
                code += &fs::read_to_string(file)?;
            }
        }
        let words: BTreeSet<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let named = dependencies(&fs::read_to_string(root.join(manifest))?);
        unused.extend(
            named
                .into_iter()
                .filter(|name| !words.contains(name.replace('-', "_").as_str()))
                .map(|name| (*manifest, name)),
        );
    }
    ensure!(unused.is_empty(), "no code uses {unused:?}");
    Ok(())
}

#[test]
fn every_library_may_be_used() -> anyhow::Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    // Other systems' libraries need not lie on this machine.
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    command.args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &host]);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    ensure!(packages.len() > 100, "{} packages are not all of them", packages.len());
    let mut faults = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package has a name")?;
        match package["source"].as_str() {
            None | Some("registry+https://github.com/rust-lang/crates.io-index") => {}
            Some(source) => faults.push(format!("{name} comes from {source}")),
        }
        let licence = package["license"].as_str().unwrap_or_default();
        if !is_free(licence) {
            faults.push(format!("{name} has the licence {licence:?}"));
        }
        if BANNED.contains(&name) {
            faults.push(format!("{name} is in the tree: `cargo tree --invert {name}` says who wants it"));
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

#[test]
fn licences_are_read_as_they_are_written() {
    for (text, free) in [
        ("MIT", true),
        ("MIT OR Apache-2.0", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0-only OR MIT", true),
        ("GPL-3.0-only", false),
        ("MIT AND GPL-3.0-only", false),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("Apache-2.0 AND (GPL-3.0-only OR MIT)", true),
        ("(GPL-3.0-only OR MPL-2.0) AND MIT", false),
        ("GPL-3.0-only AND MIT OR ISC", true),
        ("Apache-2.0 WITH LLVM-exception OR MIT", true),
        ("", false),
    ] {
        assert_eq!(is_free(text), free, "{text}");
    }
}

/// Whether a licence leaves the choice of those that are listed.
fn is_free(licence: &str) -> bool {
    let licence = licence.replace('/', " OR ");
    parts(&licence, " OR ").into_iter().any(|choice| {
        parts(choice, " AND ").into_iter().map(str::trim).all(|part| {
            match part.strip_prefix('(').and_then(|part| part.strip_suffix(')')) {
                Some(inner) => is_free(inner),
                None => LICENCES.contains(&part),
            }
        })
    })
}

/// A text between the separators that stand in no parentheses.
fn parts<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let (mut parts, mut begin, mut depth) = (Vec::new(), 0, 0);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && at >= begin && text[at..].starts_with(separator) => {
                parts.push(&text[begin..at]);
                begin = at + separator.len();
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

/// A file, or the files with code below a directory.
fn rust_files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "rs") {
            files.extend(rust_files(&path)?);
        }
    }
    Ok(files)
}

/// The libraries of a manifest that are not part of this repository.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            // What the workspace offers is named again by whoever uses it.
            inside = line.ends_with("dependencies]") && line != "[workspace.dependencies]";
        } else if inside
            && !line.contains("path =")
            && let Some((name, _)) = line.split_once('=')
            && !name.starts_with('#')
        {
            names.push(name.trim().trim_end_matches(".workspace").to_owned());
        }
    }
    names
}
