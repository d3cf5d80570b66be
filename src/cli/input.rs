//! Texts that a command reads: a file, or standard input for `-`.

use std::io::{self, Read};
use std::path::Path;

use super::output::Failure;
use crate::domain::Json;

/// What to call the source of a text.
pub(super) fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// The text of a file, or of standard input, of which at most so many bytes are read.
pub(super) fn read(path: &Path, most: u64) -> Result<String, Failure> {
    let read = || {
        if path != Path::new("-") {
            return std::fs::read_to_string(path);
        }
        let mut text = String::new();
        io::stdin().take(most).read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|error| unreadable(path, &error))
}

/// That a file, or standard input, cannot be read.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::Usage(format!("cannot read {}: {error}", name(path)))
}

/// The JSON that was given with a flag, or in a file; none when neither was.
pub(super) fn json(flag: &str, given: Option<&str>, file: Option<&Path>) -> Result<Option<Json>, Failure> {
    let (text, source) = match (given, file) {
        (Some(text), _) => (text.to_owned(), flag.to_owned()),
        (None, Some(path)) => (read(path, u64::MAX)?, name(path)),
        (None, None) => return Ok(None),
    };
    // As other programs name a file, or standard input.
    let meant_a_file = given.is_some_and(|text| text == "-" || text.starts_with('@'));
    let hint = if meant_a_file {
        format!("; {flag}-file reads a file, and - standard input")
    } else {
        String::new()
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| Failure::Usage(format!("{source}: not JSON: {error}{hint}")))
}
