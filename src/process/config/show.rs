//! The configuration in effect as text.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::reader::Entry;

/// The entries as YAML, nested by their paths; with `origins`, each value's source as a comment.
pub fn yaml(entries: &[Entry], origins: bool) -> String {
    let mut text = String::new();
    let mut open: Vec<String> = Vec::new();
    for entry in entries {
        let steps = steps(&entry.path);
        let shared = open.iter().zip(&steps).take_while(|(a, b)| a == b).count();
        for (depth, step) in steps.iter().enumerate().skip(shared) {
            // What follows a list's dash stands on the dash's line.
            let after_dash = depth > shared && depth > 0 && is_item(&steps[depth - 1]);
            if !after_dash {
                text.push_str(&"  ".repeat(depth));
            }
            if is_item(step) {
                text.push_str("- ");
            } else if depth + 1 < steps.len() {
                _ = writeln!(text, "{step}:");
            } else {
                let comment = if origins { format!("  # {}", entry.origin) } else { String::new() };
                _ = writeln!(text, "{step}: {}{comment}", inline(&entry.value));
            }
        }
        open = steps;
        open.pop();
    }
    text
}

/// SHA-256 of the entries as YAML, in hexadecimal.
pub(super) fn sha256(entries: &[Entry]) -> String {
    Sha256::digest(yaml(entries, false)).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `task_types[0].backoff.first` to `task_types`, `[0]`, `backoff`, `first`.
fn steps(path: &str) -> Vec<String> {
    path.replace('[', ".[").split('.').map(str::to_owned).collect()
}

fn is_item(step: &str) -> bool {
    step.starts_with('[')
}

/// A scalar or list on one line. JSON is YAML, so whatever could be taken for something else is quoted as
/// JSON does.
fn inline(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) if is_plain(text) => text.clone(),
        serde_json::Value::Array(items) => {
            format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Whether YAML reads an unquoted text as just that text.
fn is_plain(text: &str) -> bool {
    let other_meaning = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
        .contains(&text.to_ascii_lowercase().as_str());
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-'));
    // A number with a unit; `1e5` and `0x1d` would be numbers.
    let measure = text.starts_with(|c: char| c.is_ascii_digit())
        && text.ends_with(['d', 'h', 'm', 's', 'B'])
        && text.bytes().all(|b| b.is_ascii_digit() || b"dhmusKMGiB".contains(&b));
    !other_meaning && (word || measure)
}
