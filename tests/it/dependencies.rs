//! `docs/dependencies.md` names every library the manifests do, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context;

#[test]
fn every_dependency_has_a_reason() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).with_context(|| name.to_owned());
    let mut used = BTreeSet::new();
    for manifest in ["Cargo.toml", "xtask/Cargo.toml", "tests/services/Cargo.toml", "tests/fuzz/Cargo.toml"] {
        used.extend(dependencies(&read(manifest)?));
    }
    let named: BTreeSet<String> =
        read("docs/dependencies.md")?.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect();
    let missing: Vec<_> = used.difference(&named).collect();
    let gone: Vec<_> = named.difference(&used).collect();
    assert!(missing.is_empty(), "docs/dependencies.md gives no reason for {missing:?}");
    assert!(gone.is_empty(), "docs/dependencies.md names {gone:?}, which no Cargo.toml has");
    Ok(())
}

/// The libraries of a manifest that are not part of this repository.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
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
