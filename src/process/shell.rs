//! Words of commands that people copy into a shell.

/// Whether a text stands for itself in any shell.
pub fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@+-".contains(&byte);
    !text.is_empty() && text.bytes().all(plain)
}

/// A text as one word of a command: in quotes if need be.
pub fn word(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word() {
        for (text, shown) in [
            ("/tmp/a-b_1.yaml", "/tmp/a-b_1.yaml"),
            ("my data", "'my data'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("", "''"),
        ] {
            assert_eq!(word(text), shown);
        }
    }
}
