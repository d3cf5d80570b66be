//! Percent-encoding of path segments and query values, strict on the way in: what is not UTF-8 is refused,
//! not replaced.

/// The text behind a percent-encoded one; `None` when an escape is malformed or the bytes are not UTF-8.
pub fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// A text as one path segment: everything but unreserved characters (RFC 3986) escaped.
pub fn encode(text: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_no_text() {
        for bad in ["%", "%4", "%zz", "%ff", "%c3", "a%C3%28", "%ED%A0%80"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
        assert_eq!(decode("a%2Fb%00+%25").as_deref(), Some("a/b\0+%"));
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(text in any::<String>()) {
            let encoded = encode(&text);
            prop_assert!(encoded.is_ascii() && !encoded.contains('/'));
            prop_assert_eq!(decode(&encoded), Some(text));
        }
    }
}
