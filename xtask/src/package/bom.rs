//! The list of all libraries in the program, as CycloneDX. It answers whether tasker has a library that a
//! vulnerability was found in.
//!
//! Made from `Cargo.lock`, which has their checksums, and from cargo's tree, which knows those that the
//! program is built of, with their licences.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::{Source, VERSION, output};

/// A library: name, version and licence.
type Library = (String, String, String);

/// Writes the list; answers its path.
pub(super) fn make(source: &Source) -> anyhow::Result<PathBuf> {
    let path = source.out.join(format!("tasker-{VERSION}-linux-{}.cdx.json", source.architecture));
    fs::write(&path, text(&source.checkout)?).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

fn text(checkout: &Path) -> anyhow::Result<String> {
    let lock = fs::read_to_string(checkout.join("Cargo.lock")).context("Cargo.lock")?;
    let checksums = checksums(&lock);
    let mut text = format!(
        "{{\n  \"bomFormat\": \"CycloneDX\",\n  \"specVersion\": \"1.5\",\n  \"version\": 1,\n  \"metadata\": {{\"component\": {{\
         \"type\": \"application\", \"name\": \"tasker\", \"version\": {}, \"purl\": {}}}}},\n  \"components\": [\n",
        quoted(VERSION),
        quoted(&format!("pkg:cargo/tasker@{VERSION}"))
    );
    let libraries = libraries(checkout)?;
    ensure!(libraries.len() > 100, "{} libraries are not all of them", libraries.len());
    for (place, (name, version, licence)) in libraries.iter().enumerate() {
        let checksum = checksums
            .get(&(name.as_str(), version.as_str()))
            .with_context(|| format!("Cargo.lock has no checksum of {name} {version}"))?;
        let comma = if place + 1 < libraries.len() { "," } else { "" };
        writeln!(
            text,
            "    {{\"type\": \"library\", \"name\": {}, \"version\": {}, \"purl\": {}, \"licenses\": [{{\"expression\": {}}}], \
             \"hashes\": [{{\"alg\": \"SHA-256\", \"content\": {}}}]}}{comma}",
            quoted(name),
            quoted(version),
            quoted(&format!("pkg:cargo/{name}@{version}")),
            quoted(&licence.replace('/', " OR ")),
            quoted(checksum)
        )?;
    }
    Ok(text + "  ]\n}\n")
}

/// The libraries that the program is built of. What builds or tests it is not in it.
fn libraries(checkout: &Path) -> anyhow::Result<BTreeSet<Library>> {
    let mut tree = Command::new("cargo");
    tree.args(["tree", "--package", "tasker", "--edges", "normal", "--prefix", "none", "--no-dedupe"]);
    tree.args(["--locked", "--format", "{p}\t{l}"]).current_dir(checkout);
    let mut libraries = BTreeSet::new();
    for line in output(&mut tree)?.lines() {
        let (package, licence) =
            line.split_once('\t').with_context(|| format!("cargo tree says `{line}`"))?;
        let mut words = package.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let version = version.strip_prefix('v').with_context(|| format!("cargo tree says `{line}`"))?;
        // Those of this repository stand with their folder.
        if !package.contains(" (/") {
            libraries.insert((name.to_owned(), version.to_owned(), licence.trim().to_owned()));
        }
    }
    Ok(libraries)
}

/// The checksums in a lock file, by name and version.
fn checksums(lock: &str) -> BTreeMap<(&str, &str), &str> {
    lock.split("[[package]]")
        .filter_map(|package| {
            let get = |key: &str| {
                let (_, rest) = package.split_once(&format!("\n{key} = \""))?;
                rest.split_once('"').map(|(value, _)| value)
            };
            Some(((get("name")?, get("version")?), get("checksum")?))
        })
        .collect()
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter < ' ' => quoted.extend(format!("\\u{:04x}", u32::from(letter)).chars()),
            letter => quoted.push(letter),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_found_by_name_and_version() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0\"\nsource = \"x\"\nchecksum = \"aa\"\n\n[[package]]\nname = \"ours\"\nversion = \"0.1\"\ndependencies = [\n \"a\",\n]\n\n[[package]]\nname = \"a\"\nversion = \"2.0\"\nchecksum = \"bb\"\n";
        let found = checksums(lock);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [(("a", "1.0"), "aa"), (("a", "2.0"), "bb")]);
    }

    #[test]
    fn texts_are_quoted() {
        assert_eq!(quoted("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000a\"");
    }
}
