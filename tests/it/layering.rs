//! The layers: which module may import which.
//!
//! Reads the paths that begin at the crate's root (`crate::x`, or enough `super::` to get there) in `src/` and `handlers/`.
//! Comments, documentation and strings are no edges. Neither is anything under `#[cfg(test)]`: what ships decides about layers, and a
//! test of a module may well drive it with the parts above.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// Each module with those it may import. Those stand above it, so that the table has no circle.
const LAYERS: &[(&str, &[&str])] = &[
    // What things are; no I/O.
    ("domain", &[]),
    // Leaves.
    ("http_tasks", &[]),
    ("https", &[]),
    ("failpoint", &[]),
    ("backoff", &["domain"]),
    ("clock", &["domain"]),
    ("config", &["domain", "backoff", "http_tasks"]),
    ("telemetry", &["domain", "config"]),
    ("service", &["domain", "telemetry"]),
    ("watch", &["domain"]),
    ("admission", &["domain", "config"]),
    // The outside world.
    ("store", &["domain", "backoff", "clock", "config"]),
    ("broker", &["domain", "backoff", "config", "https", "telemetry"]),
    ("http_remote", &["http_tasks", "backoff", "config", "broker"]),
    // The loops of an API process.
    ("keyring", &["domain", "store"]),
    ("publisher", &["domain", "failpoint", "store", "broker", "backoff", "clock", "config", "service", "telemetry", "watch"]),
    ("queue", &["domain", "failpoint", "admission", "store", "backoff", "clock", "config", "telemetry", "watch", "publisher"]),
    (
        "collector",
        &["domain", "failpoint", "store", "broker", "backoff", "clock", "config", "service", "telemetry", "watch", "publisher", "queue"],
    ),
    (
        "acceptor",
        &["domain", "failpoint", "store", "broker", "backoff", "clock", "config", "service", "telemetry", "watch", "publisher", "queue"],
    ),
    ("scheduler", &["domain", "failpoint", "admission", "store", "clock", "config", "telemetry", "acceptor"]),
    (
        "presence",
        &["domain", "store", "broker", "backoff", "clock", "config", "service", "telemetry", "watch", "publisher", "collector", "queue"],
    ),
    ("reconciler", &["domain", "store", "broker", "backoff", "clock", "config", "service", "telemetry", "watch", "publisher", "queue"]),
    ("observer", &["domain", "store", "broker", "backoff", "clock", "config", "service", "telemetry", "watch"]),
    // What runs on the servers: never the store.
    ("endpoint", &["domain", "failpoint", "broker", "backoff", "clock", "config", "service", "telemetry"]),
    ("handlers", &["domain", "endpoint", "config", "http_tasks"]),
    // HTTP: everything above.
    ("api", ABOVE),
    // Puts the parts of a process together.
    ("app", ABOVE),
    // Starts a platform and drives it through what customers and endpoints really see.
    ("bench", ABOVE),
    ("cli", ABOVE),
];

/// May import every module that stands above it in the table.
const ABOVE: &[&str] = &["*"];

/// Libraries that only some modules may use; `actix` stands for all crates of that family.
const LIBRARIES: &[(&str, &[&str])] =
    &[("sqlx", &["store"]), ("lapin", &["broker"]), ("actix", &["api"]), ("hyper", &["http_tasks", "bench"]), ("flate2", &["http_tasks"])];

#[test]
fn arrows_run_with_the_table() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut breaches = Vec::new();
    let mut files = 0;
    for (directory, whole) in [("src", None), ("handlers", Some("handlers"))] {
        let directory = root.join(directory);
        let mut sources = Vec::new();
        let mut tests = BTreeSet::new();
        for path in rust_files(&directory)? {
            let source = Source::read(&fs::read_to_string(&path).with_context(|| path.display().to_string())?);
            let around =
                if path.ends_with("mod.rs") || path.ends_with("lib.rs") { path.with_file_name("") } else { path.with_extension("") };
            tests.extend(source.test_modules.iter().map(|name| around.join(name)));
            sources.push((path, source));
        }
        for (path, source) in sources {
            if tests.iter().any(|test| path.starts_with(test) || path == test.with_extension("rs")) {
                continue;
            }
            let inside = path.strip_prefix(&directory)?;
            let module = match whole {
                Some(module) => module.to_owned(),
                None => inside.iter().next().context("no name")?.to_string_lossy().trim_end_matches(".rs").to_owned(),
            };
            // The root declares the modules; it is not one.
            if module == "lib" {
                continue;
            }
            files += 1;
            let depth = depth(inside) + usize::from(whole.is_some());
            let shown = path.strip_prefix(root)?.display();
            breaches.extend(judge(&module, &source, depth).into_iter().map(|(line, why)| format!("{shown}:{line}: {why}")));
        }
    }
    ensure!(files > 0, "no source was found");
    ensure!(breaches.is_empty(), "the layers of tests/it/layering.rs are breached:\n{}", breaches.join("\n"));
    Ok(())
}

#[test]
fn the_table_has_no_circle() {
    for (place, (module, imports)) in LAYERS.iter().enumerate() {
        for import in imports.iter().filter(|import| **import != "*") {
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
    let expected = [(3, "domain"), (3, "clock"), (3, "broker"), (5, "endpoint"), (5, "g"), (6, "watch"), (13, "presence")];
    assert_eq!(edges, expected.map(|(line, to)| (line, to.to_owned())));
    assert_eq!(source.test_modules, ["more"]);
    assert_eq!(source.uses("sqlx").collect::<Vec<_>>(), [13]);
}

#[test]
fn a_breach_has_a_line_and_a_reason() {
    let breaches =
        |module, text| judge(module, &Source::read(text), 1).into_iter().map(|(line, why)| format!("{line}: {why}")).collect::<Vec<_>>();
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
            Some(other) if other == own || imports.contains(&to.as_str()) || imports == ABOVE && other < own => {}
            Some(_) => breaches.push((line, format!("{module} must not import {to}"))),
            None => breaches.push((line, format!("{to} is not a module of the table"))),
        }
    }
    for (library, _) in LIBRARIES.iter().filter(|(_, users)| !users.contains(&module)) {
        breaches.extend(source.uses(library).map(|line| (line, format!("{module} must not use {library}"))));
    }
    breaches
}

/// How many `super` lead from a file to the crate's root.
fn depth(inside: &Path) -> usize {
    inside.components().count() - usize::from(inside.ends_with("mod.rs"))
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

/// A path that leads to the crate's root.
struct Edge {
    line: usize,
    to: String,
}

/// The words and signs of a source text that ship.
struct Source {
    tokens: Vec<Token>,
    /// Modules in files of their own that are there for tests only.
    test_modules: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Token {
    line: usize,
    text: String,
}

impl Source {
    fn read(text: &str) -> Self {
        let tokens = tokens(text);
        let mut shipped = Vec::new();
        let mut test_modules = Vec::new();
        let mut rest = tokens.as_slice();
        while let Some(token) = rest.first() {
            if is(rest, &["#", "[", "cfg", "("]) && (is(&rest[4..], &["test", ")"]) || is(&rest[4..], &["all", "(", "test"])) {
                let item = &rest[end_of(rest, "[", "]")..];
                let end = item_end(item);
                if let [_, name, semicolon] = &item[..end.min(3)]
                    && is(item, &["mod"])
                    && semicolon.text == ";"
                {
                    test_modules.push(name.text.clone());
                }
                rest = &item[end..];
            } else {
                shipped.push(token.clone());
                rest = &rest[1..];
            }
        }
        Self { tokens: shipped, test_modules }
    }

    /// The modules at the root that paths lead to; `depth` is how many `super` lead there from the file's top.
    fn edges(&self, depth: usize) -> Vec<Edge> {
        let mut edges = Vec::new();
        // One entry for each open brace: whether it belongs to a module.
        let mut braces = Vec::new();
        let mut at = 0;
        while let Some(token) = self.tokens.get(at) {
            let rest = &self.tokens[at..];
            let mut step = 1;
            let mut root = None;
            match token.text.as_str() {
                "{" => braces.push(at >= 2 && self.tokens[at - 2].text == "mod"),
                "}" => _ = braces.pop(),
                "crate" if is(&rest[1..], &["::"]) => root = Some(2),
                "super" => {
                    let supers = rest.chunks(2).take_while(|pair| is(pair, &["super", "::"])).count();
                    step = (2 * supers).max(1);
                    let inline = braces.iter().filter(|module| **module).count();
                    root = (supers >= depth + inline).then_some(2 * supers);
                }
                _ => {}
            }
            if let Some(start) = root {
                edges.extend(first_segments(&rest[start..]).into_iter().map(|first| Edge { line: first.line, to: first.text.clone() }));
            }
            at += step;
        }
        edges
    }

    /// The lines that use a library or one of its family: `lapin::x`, `use lapin;`.
    fn uses(&self, library: &str) -> impl Iterator<Item = usize> {
        let named = move |text: &str| text == library || text.strip_prefix(library).is_some_and(|rest| rest.starts_with('_'));
        self.tokens.windows(2).filter_map(move |pair| {
            let path = named(&pair[0].text) && pair[1].text == "::";
            let used = pair[0].text == "use" && named(&pair[1].text);
            // `use lapin::x` is both, and would be counted twice.
            (path || used && !self.continues(&pair[1])).then_some(pair[if path { 0 } else { 1 }].line)
        })
    }

    fn continues(&self, token: &Token) -> bool {
        self.tokens.iter().position(|other| std::ptr::eq(other, token)).is_some_and(|at| is(&self.tokens[at + 1..], &["::"]))
    }
}

/// The words after `crate::`: one, or those that begin the parts of a group.
fn first_segments(tokens: &[Token]) -> Vec<&Token> {
    if !is(tokens, &["{"]) {
        return tokens.first().into_iter().collect();
    }
    let group = &tokens[1..end_of(tokens, "{", "}") - 1];
    let mut nesting = 0;
    let mut begins = true;
    let mut firsts = Vec::new();
    for token in group {
        match token.text.as_str() {
            "{" => nesting += 1,
            "}" => nesting -= 1,
            "," if nesting == 0 => {
                begins = true;
                continue;
            }
            _ if begins => firsts.push(token),
            _ => {}
        }
        begins = false;
    }
    firsts
}

/// The place after the bracket that closes the first opening one.
fn end_of(tokens: &[Token], open: &str, close: &str) -> usize {
    let mut nesting = 0;
    for (at, token) in tokens.iter().enumerate() {
        if token.text == open {
            nesting += 1;
        } else if token.text == close {
            nesting -= 1;
            if nesting == 0 {
                return at + 1;
            }
        }
    }
    tokens.len()
}

/// The end of an item: a semicolon, or the brace that closes its body (a `use` with a group has both).
fn item_end(item: &[Token]) -> usize {
    let Some(first) = item.iter().position(|token| matches!(token.text.as_str(), ";" | "{")) else { return item.len() };
    if item[first].text == "{" && !item[..first].iter().any(|token| token.text == "use") {
        return first + end_of(&item[first..], "{", "}");
    }
    item.iter().position(|token| token.text == ";").map_or(item.len(), |at| at + 1)
}

fn is(tokens: &[Token], texts: &[&str]) -> bool {
    tokens.len() >= texts.len() && tokens.iter().zip(texts).all(|(token, text)| token.text == *text)
}

/// Words, `::` and single signs, without comments, strings and characters.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let starts = |at: usize, sign: &str| chars[at..].iter().copied().take(sign.len()).eq(sign.chars());
    let mut tokens: Vec<Token> = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while at < chars.len() {
        let begin = at;
        let c = chars[at];
        if starts(at, "//") {
            at += chars[at..].iter().take_while(|c| **c != '\n').count();
        } else if starts(at, "/*") {
            let mut nesting = 0;
            while at < chars.len() {
                let (step, change) = if starts(at, "/*") {
                    (2, 1)
                } else if starts(at, "*/") {
                    (2, -1)
                } else {
                    (1, 0)
                };
                at += step;
                nesting += change;
                if nesting == 0 {
                    break;
                }
            }
        } else if c == '"' {
            // A raw string begins with a word that ends in `r`, and signs `#` that also end it.
            let hashes = tokens.iter().rev().take_while(|token| token.text == "#").count();
            let word = tokens.iter().rev().nth(hashes).is_some_and(|token| matches!(token.text.as_str(), "r" | "br" | "cr"));
            let raw = word && chars[..at].iter().rev().nth(hashes).is_some_and(|c| *c == 'r');
            let end = format!("\"{}", "#".repeat(if raw { hashes } else { 0 }));
            at += 1;
            while at < chars.len() && !starts(at, &end) {
                at += if chars[at] == '\\' && !raw { 2 } else { 1 };
            }
            at += end.len();
        } else if c == '\'' {
            // A character has its closing quote where a lifetime has none.
            at += match (chars.get(at + 1), chars.get(at + 2)) {
                (Some('\\'), _) => 3 + chars[at + 3..].iter().take_while(|c| **c != '\'').count() + 1,
                (Some(_), Some('\'')) => 3,
                _ => 1,
            };
        } else if c.is_alphanumeric() || c == '_' {
            at += chars[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
            tokens.push(Token { line, text: chars[begin..at].iter().collect() });
        } else if starts(at, "::") {
            at += 2;
            tokens.push(Token { line, text: "::".into() });
        } else {
            at += 1;
            if !c.is_whitespace() {
                tokens.push(Token { line, text: c.into() });
            }
        }
        at = at.min(chars.len());
        line += chars[begin..at].iter().filter(|c| **c == '\n').count();
    }
    tokens
}
