//! Texts that a command reads: a file, or standard input for `-`.

use std::io::{self, Read};
use std::path::Path;

/// The text of a file, or of standard input, of which at most so many bytes are read.
pub(super) fn read(path: &Path, most: u64) -> io::Result<String> {
    if path != Path::new("-") {
        return std::fs::read_to_string(path);
    }
    let mut text = String::new();
    io::stdin().take(most).read_to_string(&mut text)?;
    Ok(text)
}
