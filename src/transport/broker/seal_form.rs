//! The bytes of a seal: a member `seal` of the message that it is of. Programs that know no seals read past
//! it.
//!
//! ```json
//! "seal":{"by":"9f86d081884c7d65","at_ms":1700000000000,"until_ms":1700000900000,"to":"*","sig":"…"}
//! ```
//!
//! That of a message that was signed with others has `"batch":{"at":0,"of":3,"path":"…"}` besides: its place,
//! how many there are, and the hashes of its path. Only programs that read version 5 are sent it: others would
//! read past it, and take the signature for a forged one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::domain::{
    BatchPath, Certificate, InvalidPath, KeyId, Recipients, Seal, SealHead, Signature, Timestamp, TreeHash,
};

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
    batch: Option<PathForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<Certificate>,
}

impl From<&Seal> for SealForm {
    fn from(Seal { head, signature, batch, certificate }: &Seal) -> Self {
        Self {
            by: head.by,
            at_ms: head.issued_at.as_millis(),
            until_ms: head.not_after.as_millis(),
            to: head.to.clone(),
            answers_ms: head.answers.map(Timestamp::as_millis),
            sig: SignatureText(*signature),
            batch: batch.clone().map(PathForm),
            certificate: certificate.clone(),
        }
    }
}

impl From<SealForm> for Seal {
    fn from(form: SealForm) -> Self {
        let SealForm { by, at_ms, until_ms, to, answers_ms, sig, batch, certificate } = form;
        let [issued_at, not_after] = [at_ms, until_ms].map(Timestamp::from_millis);
        let answers = answers_ms.map(Timestamp::from_millis);
        let (head, batch) = (SealHead { by, issued_at, not_after, to, answers }, batch.map(|form| form.0));
        Self { head, signature: sig.0, batch, certificate }
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

/// A path in a batch as it travels.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "PathMembers", into = "PathMembers")]
struct PathForm(BatchPath);

#[derive(Serialize, Deserialize)]
struct PathMembers {
    at: usize,
    of: usize,
    path: String,
}

impl From<PathForm> for PathMembers {
    fn from(PathForm(path): PathForm) -> Self {
        Self { at: path.at(), of: path.of(), path: URL_SAFE_NO_PAD.encode(path.hashes().as_flattened()) }
    }
}

impl TryFrom<PathMembers> for PathForm {
    type Error = InvalidPath;

    fn try_from(PathMembers { at, of, path }: PathMembers) -> Result<Self, InvalidPath> {
        let bytes = URL_SAFE_NO_PAD.decode(&path).map_err(|_| InvalidPath)?;
        let (hashes, rest) = bytes.as_chunks::<{ size_of::<TreeHash>() }>();
        match rest {
            [] => BatchPath::new(at, of, hashes.to_vec()).map(Self),
            _ => Err(InvalidPath),
        }
    }
}
