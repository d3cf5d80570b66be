//! The body of a response as text, when what its headers say and what it consists of agree that it is one.
//! Nothing is replaced: what cannot be told for certain is no text.

use std::borrow::Cow;

use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};

/// What the bytes from 0x80 to 0x9f mean in windows-1252. The five that mean nothing are the control
/// characters of their number, so that all bytes can be told apart.
const WINDOWS_1252: [char; 32] = [
    '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}', '\u{2c6}',
    '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}', '\u{8f}', '\u{90}', '\u{2018}',
    '\u{2019}', '\u{201c}', '\u{201d}', '\u{2022}', '\u{2013}', '\u{2014}', '\u{2dc}', '\u{2122}', '\u{161}',
    '\u{203a}', '\u{153}', '\u{9d}', '\u{17e}', '\u{178}',
];

/// The text of a body; none when it is compressed, in a character set that is not known here, or not what it
/// says. `cut` says that the body ends where it was cut, which may be inside a character.
pub(super) fn of<'a>(headers: &HeaderMap, body: &'a [u8], cut: bool) -> Option<Cow<'a, str>> {
    if headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return None;
    }
    let charset = headers.get(CONTENT_TYPE).and_then(|value| charset(value.as_bytes()));
    match charset.as_deref() {
        None | Some(b"utf-8" | b"utf8" | b"us-ascii" | b"ascii") => utf8(body, cut).map(Cow::Borrowed),
        Some(b"iso-8859-1" | b"iso8859-1" | b"iso_8859-1" | b"latin1" | b"l1") => {
            Some(body.iter().copied().map(char::from).collect())
        }
        Some(b"windows-1252" | b"cp1252" | b"x-cp1252") => {
            Some(body.iter().copied().map(windows_1252).collect())
        }
        Some(_) => None,
    }
}

/// The character set that a `Content-Type` names, in small letters.
fn charset(content_type: &[u8]) -> Option<Vec<u8>> {
    content_type.split(|byte| *byte == b';').skip(1).find_map(|parameter| {
        let equals = parameter.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (parameter[..equals].trim_ascii(), parameter[equals + 1..].trim_ascii());
        let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        name.eq_ignore_ascii_case(b"charset")
            .then(|| quoted.unwrap_or(value).trim_ascii().to_ascii_lowercase())
    })
}

fn utf8(body: &[u8], cut: bool) -> Option<&str> {
    match std::str::from_utf8(body) {
        Ok(text) => Some(text),
        // All of it is good but for a character of which not all bytes are there.
        Err(error) if cut && error.error_len().is_none() => {
            std::str::from_utf8(&body[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

fn windows_1252(byte: u8) -> char {
    match byte {
        0x80..=0x9f => WINDOWS_1252[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

/// Bytes as text: base64 with padding, as of RFC 4648.
pub fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sign = SIGNS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(sign) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(headers: &[(&'static str, &'static str)], body: &'static [u8], cut: bool) -> Option<String> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect();
        of(&headers, body, cut).map(Cow::into_owned)
    }

    #[test]
    fn a_body_is_the_text_that_its_headers_say() {
        let of = |content_type: &'static str, body: &'static [u8]| {
            text(&[("content-type", content_type)], body, false)
        };
        assert_eq!(text(&[], "caf\u{e9}".as_bytes(), false).as_deref(), Some("caf\u{e9}"));
        for latin in [
            "text/plain; charset=iso-8859-1",
            "text/html;Charset=\"ISO-8859-1\"",
            "text/plain; a=b ; charset = latin1 ",
        ] {
            assert_eq!(of(latin, b"caf\xe9 \x93").as_deref(), Some("caf\u{e9} \u{93}"), "{latin}");
        }
        assert_eq!(
            of("text/plain; charset=windows-1252", b"\x93caf\xe9\x94 \x80\x81").as_deref(),
            Some("\u{201c}caf\u{e9}\u{201d} \u{20ac}\u{81}")
        );
        for utf8 in [
            "text/plain; charset=utf-8",
            "text/plain; charset=\"UTF-8\"",
            "text/plain; charset=us-ascii",
            "application/octet-stream",
        ] {
            assert_eq!(of(utf8, b"plain").as_deref(), Some("plain"), "{utf8}");
            assert_eq!(of(utf8, b"caf\xe9"), None, "{utf8}");
        }
        // It would be text by accident.
        assert_eq!(of("text/plain; charset=utf-16le", b"a\0b\0"), None);
        assert_eq!(of("text/plain; charset=iso-2022-jp", b"\x1b$B%F\x1b(B"), None);
        assert_eq!(text(&[("content-encoding", "gzip")], b"text", false), None);
        assert_eq!(text(&[("content-encoding", "Identity")], b"text", false).as_deref(), Some("text"));
    }

    #[test]
    fn a_character_that_was_cut_is_left_out() {
        assert_eq!(text(&[], b"caf\xc3", true).as_deref(), Some("caf"));
        assert_eq!(text(&[], b"caf\xc3", false), None);
        assert_eq!(text(&[], b"\xffcaf\xc3", true), None);
        assert_eq!(text(&[], b"caf\xff", true), None);
    }

    #[test]
    fn base64_of_the_standard() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("Aladdin:open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(b"\x00\xff\xfe\x80\x81A"), "AP/+gIFB");
    }
}
