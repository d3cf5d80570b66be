//! The bytes of a seal: a member `seal` of the message that it is of. Programs that know no seals read past
//! it.
//!
//! ```json
//! "seal":{"by":"9f86d081884c7d65","at_ms":1700000000000,"until_ms":1700000900000,"to":"*","sig":"…"}
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::domain::{Certificate, KeyId, Recipients, Seal, SealHead, Signature, Timestamp};

/// A seal as it travels.
#[derive(Serialize, Deserialize)]
pub struct SealForm {
    by: KeyId,
    /// Milliseconds since 1970, as the other times.
    at_ms: i64,
    until_ms: i64,
    to: Recipients,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answers_ms: Option<i64>,
    sig: SignatureText,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<Certificate>,
}

impl From<&Seal> for SealForm {
    fn from(Seal { head, signature, certificate }: &Seal) -> Self {
        Self {
            by: head.by,
            at_ms: head.issued_at.as_millis(),
            until_ms: head.not_after.as_millis(),
            to: head.to.clone(),
            answers_ms: head.answers.map(Timestamp::as_millis),
            sig: SignatureText(*signature),
            certificate: certificate.clone(),
        }
    }
}

impl From<SealForm> for Seal {
    fn from(form: SealForm) -> Self {
        let SealForm { by, at_ms, until_ms, to, answers_ms, sig, certificate } = form;
        let [issued_at, not_after] = [at_ms, until_ms].map(Timestamp::from_millis);
        let answers = answers_ms.map(Timestamp::from_millis);
        Self { head: SealHead { by, issued_at, not_after, to, answers }, signature: sig.0, certificate }
    }
}

/// A message with a seal. The message is an object that has members.
///
/// # Panics
/// Never: a seal has numbers and texts.
pub(super) fn with_seal(message: &Bytes, seal: &Seal) -> Bytes {
    let form = serde_json::to_vec(&SealForm::from(seal)).expect("a seal has numbers and texts");
    let open = message.strip_suffix(b"}").unwrap_or(message);
    let mut sealed = BytesMut::with_capacity(open.len() + form.len() + 10);
    sealed.put_slice(open);
    sealed.put_slice(b",\"seal\":");
    sealed.put_slice(&form);
    sealed.put_u8(b'}');
    sealed.freeze()
}

/// A signature as text.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct SignatureText(Signature);

impl From<SignatureText> for String {
    fn from(SignatureText(signature): SignatureText) -> Self {
        URL_SAFE_NO_PAD.encode(signature)
    }
}

impl TryFrom<String> for SignatureText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = URL_SAFE_NO_PAD.decode(&text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| "`sig` is not an Ed25519 signature in base64url".to_owned())
    }
}
