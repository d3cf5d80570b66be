//! Texts that a command reads: a file, or standard input for `-`.

use std::io::{self, Read};
use std::path::Path;

/// What to call the source of a text.
pub(super) fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// The text of a file, or of standard input, of which at most so many bytes are read.
pub(super) fn read(path: &Path, most: u64) -> io::Result<String> {
    if path != Path::new("-") {
        return std::fs::read_to_string(path);
    }
    let mut text = String::new();
    io::stdin().take(most).read_to_string(&mut text)?;
    Ok(text)
}
