//! Texts that a command reads: a file, or standard input for `-`.

use std::io::{self, Read};
use std::path::Path;

use super::output::Failure;
use crate::domain::{Json, Timestamp};

/// What to call the source of a text.
pub(super) fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// The text of a file, or of standard input, of which at most so many bytes are read.
pub(super) fn read(path: &Path, most: u64) -> Result<String, Failure> {
    let read = || {
        if path != Path::new("-") {
            return std::fs::read(path);
        }
        let mut bytes = Vec::new();
        io::stdin().take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| unreadable(path, &error))?;
    text(bytes).map_err(|reason| Failure::Usage(format!("cannot read {}: {reason}", name(path))))
}

/// The text in these bytes, without the byte order mark that some editors put before it.
fn text(bytes: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let sound = error.utf8_error().valid_up_to();
        let lines = error.as_bytes().iter().take(sound).filter(|byte| **byte == b'\n').count();
        format!("line {} is not UTF-8: save it in that encoding", lines + 1)
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// That a file, or standard input, cannot be read.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::Usage(format!("cannot read {}: {error}", name(path)))
}

/// Refuses a span that ends before it begins: nothing is in it.
pub(super) fn check_interval(since: Option<Timestamp>, until: Option<Timestamp>) -> Result<(), Failure> {
    match since.zip(until) {
        Some((since, until)) if until <= since => Err(Failure::Usage(format!(
            "--until {until} is not after --since {since}: nothing is in between (a span such as 2h counts back from now)"
        ))),
        _ => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_before_the_text_is_no_part_of_it() {
        assert_eq!(text(b"\xef\xbb\xbf{}".to_vec()), Ok("{}".to_owned()));
        assert_eq!(text(b"{}\xef\xbb\xbf".to_vec()), Ok("{}\u{feff}".to_owned()));
        let latin = text(b"{\n\"a\": \"\xe9\"}".to_vec());
        assert_eq!(latin, Err("line 2 is not UTF-8: save it in that encoding".to_owned()));
    }
}
