//! The bytes of a message: the length of a head in four bytes (big-endian), the head as JSON with a version
//! and a kind as all messages have ([`wire`]), and then the body of a request or response as it is.
//!
//! Not one JSON document: bodies are bytes, and would be a third longer in base64. Members that a version
//! does not know are ignored, so that a newer side may add some; another version is refused, not guessed at.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::broker::wire::{self, WireError};

/// The longest message, head and body: what RabbitMQ 4 takes unless told otherwise.
pub const LIMIT: usize = 16 << 20;
/// What the length of the head takes.
const LENGTH: usize = 4;

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Shorter than they say.
    #[error("the message is truncated")]
    Cut,
    /// The head is none that this version knows.
    #[error(transparent)]
    Head(#[from] WireError),
    /// A member has no meaning.
    #[error("{member}: {why}")]
    Member {
        /// Which one.
        member: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// A message that has been taken apart.
#[derive(Debug)]
pub struct Frame {
    /// What it is.
    pub kind: String,
    head: Bytes,
    /// What follows the head.
    pub body: Bytes,
}

/// The bytes of a message; none when they would be more than [`LIMIT`].
pub fn encode(kind: &str, members: &impl Serialize, body: &[u8]) -> Option<Bytes> {
    let head = wire::encode(kind, members);
    let length = u32::try_from(head.len()).ok()?;
    let whole = LENGTH + head.len() + body.len();
    if whole > LIMIT {
        return None;
    }
    let mut bytes = BytesMut::with_capacity(whole);
    bytes.put_u32(length);
    bytes.put_slice(&head);
    bytes.put_slice(body);
    Some(bytes.freeze())
}

/// Takes a message apart.
///
/// # Errors
/// See [`FrameError`]; never panics, whatever the bytes.
pub fn decode(bytes: &Bytes) -> Result<Frame, FrameError> {
    let length = bytes
        .first_chunk::<LENGTH>()
        .map(|length| u32::from_be_bytes(*length) as usize)
        .ok_or(FrameError::Cut)?;
    let end = LENGTH.checked_add(length).filter(|end| *end <= bytes.len()).ok_or(FrameError::Cut)?;
    let head = bytes.slice(LENGTH..end);
    Ok(Frame { kind: wire::kind(&head)?, head, body: bytes.slice(end..) })
}

impl Frame {
    /// The members of its head.
    ///
    /// # Errors
    /// When they are not those of the kind.
    pub fn members<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        Ok(serde_json::from_slice(&self.head).map_err(WireError::Form)?)
    }

    /// It is of a kind that does not belong here.
    pub fn misplaced(&self) -> FrameError {
        FrameError::Head(WireError::Kind { found: self.kind.clone() })
    }
}

/// Headers as they travel: pairs in their order. A value is bytes, of which each becomes the character of its
/// number, since JSON has no bytes and most values are plain text.
pub(super) mod headers {
    use super::FrameError;
    use crate::http_tasks::{HeaderMap, HeaderName, HeaderValue};

    pub fn to_pairs(headers: &HeaderMap) -> Vec<(String, String)> {
        let text = |value: &HeaderValue| value.as_bytes().iter().copied().map(char::from).collect();
        headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
    }

    /// The bytes of a value.
    pub fn bytes_of(value: &str) -> Result<Vec<u8>, FrameError> {
        let wrong = |_| FrameError::Member {
            member: "headers",
            why: "a value has characters that are no bytes".to_owned(),
        };
        value.chars().map(u8::try_from).collect::<Result<_, _>>().map_err(wrong)
    }

    pub fn from_pairs(pairs: Vec<(String, String)>) -> Result<HeaderMap, FrameError> {
        // The operand of neither error: either could be a credential.
        let wrong = |why: &str| FrameError::Member { member: "headers", why: why.to_owned() };
        let mut headers = HeaderMap::with_capacity(pairs.len());
        for (name, value) in pairs {
            let name = HeaderName::try_from(name).map_err(|_| wrong("a name is none"))?;
            let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(bytes_of(&value)?))
                .map_err(|_| wrong("a value is none"))?;
            headers.try_append(name, value).map_err(|_| wrong("there are too many"))?;
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Members {
        text: String,
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let members = Members { text: "\u{e9}".to_owned() };
        let bytes = encode("order", &members, &[0, 255, 10]).expect("short enough");
        let frame = decode(&bytes).expect("a message");
        assert_eq!((frame.kind.as_str(), &frame.body[..]), ("order", &[0, 255, 10][..]));
        assert_eq!(frame.members::<Members>().expect("members"), members);
    }

    #[test]
    fn what_is_no_message_is_refused_at_every_length() {
        let bytes = encode("order", &Members { text: "x".to_owned() }, b"").expect("short enough");
        for length in 0..bytes.len() {
            assert!(matches!(decode(&bytes.slice(..length)), Err(FrameError::Cut)), "{length}");
        }
        for wrong in
            [&[255, 255, 255, 255][..], &[0, 0, 0, 0], &[0, 0, 0, 2, b'{', b'}'], &[0, 0, 0, 1, b'x']]
        {
            assert!(decode(&Bytes::copy_from_slice(wrong)).is_err(), "{wrong:?}");
        }
        let head = br#"{"v":2,"kind":"order"}"#;
        let newer = [&(head.len() as u32).to_be_bytes()[..], head].concat();
        assert!(matches!(decode(&newer.into()), Err(FrameError::Head(WireError::Version { found: 2, .. }))));
    }

    #[test]
    fn the_limit_counts_head_and_body() {
        let members = Members { text: String::new() };
        let around = encode("x", &members, b"").expect("short").len();
        assert!(encode("x", &members, &vec![0; LIMIT - around]).is_some());
        assert!(encode("x", &members, &vec![0; LIMIT - around + 1]).is_none());
    }

    #[test]
    fn headers_keep_order_repeats_and_bytes() {
        let mut before = crate::http_tasks::HeaderMap::new();
        for (name, value) in [("x-b", &b"1"[..]), ("x-a", b"\xe9\xff"), ("x-b", b"2")] {
            before.append(name, crate::http_tasks::HeaderValue::from_bytes(value).expect("a value"));
        }
        let after = headers::from_pairs(headers::to_pairs(&before)).expect("headers");
        assert_eq!(after, before);
        assert!(headers::from_pairs(vec![("a".to_owned(), "\u{100}".to_owned())]).is_err());
        assert!(headers::from_pairs(vec![("a b".to_owned(), String::new())]).is_err());
        assert!(headers::from_pairs(vec![("a".to_owned(), "\n".to_owned())]).is_err());
    }
}
