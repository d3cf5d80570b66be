//! The envelope of version 2.
//!
//! A task has two parts. `work` is the submission. Every process makes the same bytes of it from the row of
//! the ledger, at the first publish, at each question and for each worker. So it can be signed once, and a
//! process that cannot sign can hand it on. `delivery` belongs to one message: the span that is left, and the
//! attempts so far.
//!
//! ```json
//! {"v":2,"kind":"task",
//!  "work":{"v":2,"id":"0192…","type":"backup","identifier":"nightly","audience":"*",
//!          "not_after_ms":1700086400000,"payload":{"full":true}},
//!  "delivery":{"expires_in_ms":86400000,"received":true,
//!              "attempts":[{"attempt":1,"errnr":69,"errmsg":"lost"}]}}
//! ```
//!
//! A body is one item, or a JSON text sequence (RFC 7464) of items: a record separator, the item, a line
//! feed. No JSON text has a record separator in it. So items are told apart without being read, one that is
//! rubbish takes nothing away from the others, and an item that was written to a journal goes into a list as
//! it is. Reports, presence, cancels and welcomes are items of version 1: their form has not changed, and a
//! process of either version reads them one by one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::domain::{AttemptError, Audience, Identifier, Json, TaskId, TaskType};

/// Items in one body at most. A body with more is not read as a list: nobody sends that, and each item that
/// is rubbish is put aside for itself.
pub const ITEMS: usize = 1000;
/// Bytes of a body with several items at most. A larger item travels alone. What lies unread with a consumer
/// is so many times its prefetch.
pub const LIST_BYTES: usize = 64 << 10;
/// What an item of a list takes besides its own bytes.
pub const ITEM_BYTES: usize = 2;

/// Begins an item.
const BEGIN: u8 = 0x1e;
/// Ends an item.
const END: u8 = b'\n';

/// One body for all these items.
pub fn list<'a>(items: impl IntoIterator<Item = &'a Bytes>) -> Bytes {
    let mut body = BytesMut::new();
    for item in items {
        body.put_u8(BEGIN);
        body.put_slice(item);
        body.put_u8(END);
    }
    body.freeze()
}

/// Whether it is a list.
pub fn is_list(body: &[u8]) -> bool {
    body.first() == Some(&BEGIN)
}

/// The items of a body. They share its memory.
pub fn items(body: &Bytes) -> Vec<Bytes> {
    if !is_list(body) {
        return vec![body.clone()];
    }
    let parts = body
        .split(|byte| *byte == BEGIN)
        .map(|part| part.strip_suffix(&[END]).unwrap_or(part))
        .filter(|part| !part.is_empty());
    let items: Vec<Bytes> = parts.take(ITEMS + 1).map(|part| body.slice_ref(part)).collect();
    if items.is_empty() || items.len() > ITEMS { vec![body.clone()] } else { items }
}

/// A task of version 2 on the way out.
#[derive(Serialize)]
pub(super) struct TaskOut<'a> {
    pub v: u32,
    pub kind: &'static str,
    pub work: WorkForm<&'a Identifier, &'a TaskType, &'a Json>,
    pub delivery: DeliveryForm<&'a [AttemptError]>,
}

/// A task of version 2 as it comes in.
#[derive(Deserialize)]
pub(super) struct TaskIn {
    pub work: WorkForm<Identifier, TaskType, Json>,
    pub delivery: DeliveryForm<Vec<AttemptError>>,
}

/// What never changes. Members are written in this order.
#[derive(Serialize, Deserialize)]
pub(super) struct WorkForm<I, T, P> {
    /// The version of this part: it outlives the message that it came in.
    pub v: u32,
    pub id: TaskId,
    #[serde(rename = "type")]
    pub task_type: T,
    pub identifier: I,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<AudienceText>,
    /// Milliseconds since 1970 by the clock of the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after_ms: Option<i64>,
    pub payload: P,
}

/// What one message says of a task.
#[derive(Serialize, Deserialize)]
pub(super) struct DeliveryForm<A> {
    pub expires_in_ms: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub received: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<A>,
}

/// `*`, or `sha256:` and the hash of the list of names.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct AudienceText(pub Audience);

const SHA256: &str = "sha256:";

impl From<AudienceText> for String {
    fn from(AudienceText(audience): AudienceText) -> Self {
        match audience {
            Audience::All => "*".to_owned(),
            Audience::Listed(hash) => format!("{SHA256}{}", URL_SAFE_NO_PAD.encode(hash)),
        }
    }
}

impl TryFrom<String> for AudienceText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let hash = || URL_SAFE_NO_PAD.decode(text.strip_prefix(SHA256)?).ok()?.try_into().ok();
        match text.as_str() {
            "*" => Ok(Self(Audience::All)),
            _ => hash()
                .map(|hash| Self(Audience::Listed(hash)))
                .ok_or_else(|| format!("audience `{text}`; expected `*` or `{SHA256}...`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_list_gives_back_its_items(items in proptest::collection::vec("[^\u{1e}]{1,40}", 1..50)) {
            let items: Vec<Bytes> = items.into_iter().map(Bytes::from).collect();
            let body = list(&items);
            prop_assert!(is_list(&body));
            prop_assert_eq!(body.len(), items.iter().map(|item| item.len() + ITEM_BYTES).sum::<usize>());
            prop_assert_eq!(super::items(&body), items);
        }

        #[test]
        fn rubbish_takes_nothing_away_from_its_neighbours(rubbish in proptest::collection::vec(any::<u8>(), 0..60)) {
            let (first, last) = (Bytes::from_static(b"{\"first\":1}"), Bytes::from_static(b"{\"last\":1}"));
            let read = items(&list(&[first.clone(), rubbish.into(), last.clone()]));
            prop_assert_eq!((read.first(), read.last()), (Some(&first), Some(&last)));
        }

        #[test]
        fn any_bytes_are_some_items(body in proptest::collection::vec(prop_oneof![Just(BEGIN), Just(END), any::<u8>()], 0..80)) {
            let body = Bytes::from(body);
            let read = items(&body);
            prop_assert!(!read.is_empty() && (is_list(&body) || read == [body]));
        }
    }

    #[test]
    fn what_nobody_sends_is_no_list() {
        for body in [
            Bytes::from_static(b"\x1e"),
            Bytes::from_static(b"\x1e\x1e"),
            list(&vec![Bytes::from_static(b"1"); ITEMS + 1]),
        ] {
            assert_eq!(items(&body), [body]);
        }
        assert_eq!(items(&list(&vec![Bytes::from_static(b"1"); ITEMS])).len(), ITEMS);
        // RFC 7464: an item may be followed by nothing, and separators may be repeated.
        assert_eq!(items(&Bytes::from_static(b"\x1e\x1e1\x1e2\n")), [&b"1"[..], b"2"]);
    }
}
