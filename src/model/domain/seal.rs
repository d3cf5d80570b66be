//! The seal of a message: which key signs it, when, and for whom.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{BatchPath, EndpointName, TaskType, Timestamp};

/// Bytes of an Ed25519 signature.
pub const SIGNATURE: usize = 64;

/// An Ed25519 signature.
pub type Signature = [u8; SIGNATURE];

/// Why a text is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSealPart {
    /// See [`KeyId`].
    #[error("the id of a key is 16 hexadecimal digits, such as `tasker key list` shows")]
    KeyId,
    /// See [`EnvironmentName`].
    #[error("the name of an environment is 1 to 64 characters out of A-Z a-z 0-9 . _ -")]
    Environment,
    /// See [`Recipients`].
    #[error("receivers are `*`, or at most {} tags of 8 bytes in base64url", Recipients::MOST)]
    Recipients,
}

/// Names a key: the first 8 bytes of the SHA-256 of its public half.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// Of this public key.
    pub fn of(public: &[u8]) -> Self {
        Self(head(Sha256::digest(public).into()))
    }

    /// As it is signed.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = InvalidSealPart;

    fn from_str(text: &str) -> Result<Self, InvalidSealPart> {
        let formed =
            text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let number = formed.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        number.map(|number| Self(number.to_be_bytes())).ok_or(InvalidSealPart::KeyId)
    }
}

impl TryFrom<String> for KeyId {
    type Error = InvalidSealPart;

    fn try_from(text: String) -> Result<Self, InvalidSealPart> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

/// The name of an installation in signatures: what is signed for one counts nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvironmentName(String);

impl EnvironmentName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EnvironmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EnvironmentName {
    type Err = InvalidSealPart;

    fn from_str(text: &str) -> Result<Self, InvalidSealPart> {
        let formed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let valid = (1..=64).contains(&text.len()) && text.bytes().all(formed);
        valid.then(|| Self(text.to_owned())).ok_or(InvalidSealPart::Environment)
    }
}

impl TryFrom<String> for EnvironmentName {
    type Error = InvalidSealPart;

    fn try_from(text: String) -> Result<Self, InvalidSealPart> {
        text.parse()
    }
}

impl From<EnvironmentName> for String {
    fn from(name: EnvironmentName) -> Self {
        name.0
    }
}

/// Whom a copy of a message is for, without telling one receiver the names of the others. As text `*`, or
/// the tags one after the other in base64url.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Recipients {
    /// Whoever gets it.
    All,
    /// Receivers whose tag is listed: see [`Recipients::of`].
    Listed(Vec<[u8; 8]>),
}

impl Recipients {
    /// Tags at most: a longer list of names goes out in several copies.
    pub const MOST: usize = 64;

    /// These receivers. A tag is the beginning of the SHA-256 of what the message is about and of the name,
    /// so that the tags of two messages cannot be compared.
    pub fn of<'a>(subject: Uuid, names: impl IntoIterator<Item = &'a EndpointName>) -> Self {
        Self::Listed(names.into_iter().map(|name| tag(subject, name)).collect())
    }

    /// Whether a receiver is among them.
    pub fn include(&self, subject: Uuid, name: &EndpointName) -> bool {
        match self {
            Self::All => true,
            Self::Listed(tags) => tags.contains(&tag(subject, name)),
        }
    }
}

impl From<Recipients> for String {
    fn from(to: Recipients) -> Self {
        match to {
            Recipients::All => "*".to_owned(),
            Recipients::Listed(tags) => URL_SAFE_NO_PAD.encode(tags.concat()),
        }
    }
}

impl TryFrom<String> for Recipients {
    type Error = InvalidSealPart;

    fn try_from(text: String) -> Result<Self, InvalidSealPart> {
        if text == "*" {
            return Ok(Self::All);
        }
        let bytes = URL_SAFE_NO_PAD.decode(&text).map_err(|_| InvalidSealPart::Recipients)?;
        let (tags, rest) = bytes.as_chunks::<8>();
        let formed = rest.is_empty() && tags.len() <= Self::MOST;
        formed.then(|| Self::Listed(tags.to_vec())).ok_or(InvalidSealPart::Recipients)
    }
}

fn tag(subject: Uuid, name: &EndpointName) -> [u8; 8] {
    head(Sha256::new().chain_update(subject.as_bytes()).chain_update(name.as_str()).finalize().into())
}

fn head(hash: [u8; 32]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = hash;
    [a, b, c, d, e, f, g, h]
}

/// What a seal says. Times have whole milliseconds, as on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealHead {
    /// The key.
    pub by: KeyId,
    /// When it was signed, by the clock of the ledger.
    pub issued_at: Timestamp,
    /// Until when the copy counts.
    pub not_after: Timestamp,
    /// For whom.
    pub to: Recipients,
    /// When the message was sent that this one answers, by the clock of its receiver.
    pub answers: Option<Timestamp>,
}

/// A seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// What it says.
    pub head: SealHead,
    /// The signature of what it says and of the message; of a batch, the one signature of all its messages.
    pub signature: Signature,
    /// Where the message stands in the batch that was signed; none of one that was signed by itself.
    pub batch: Option<BatchPath>,
    /// What makes the key count where it is not known. It has a signature of its own.
    pub certificate: Option<Certificate>,
}

/// What a certified key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// What API processes send to endpoints and workers: tasks, cancels, withdrawals and welcomes.
    #[default]
    Tasks,
    /// HTTP tasks of callers, for HTTP workers.
    Http,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Tasks, Self::Http];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Http => "http",
        }
    }

    /// Whether it is that of certificates that name none.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Says that a key may sign for an API process, or for a caller of HTTP tasks: signed with the root key of an
/// installation, which neither of them has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The public half of the key that it is for.
    #[serde(with = "base64_bytes")]
    pub public: [u8; 32],
    /// What it may sign.
    #[serde(rename = "for", default, skip_serializing_if = "Purpose::is_usual")]
    pub purpose: Purpose,
    /// The types whose tasks may be signed with it; none: all types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<TaskType>,
    /// From when on it counts.
    #[serde(rename = "from_ms", with = "in_millis")]
    pub not_before: Timestamp,
    /// Until when it counts.
    #[serde(rename = "until_ms", with = "in_millis")]
    pub not_after: Timestamp,
    /// The signature of the root key.
    #[serde(rename = "sig", with = "base64_bytes")]
    pub signature: Signature,
}

/// Keys that count no more, whoever trusts them: signed with the root key of an installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocations {
    /// The number of the list. One with a higher number takes the place of the others, and has their keys
    /// too.
    pub serial: u64,
    /// The keys.
    #[serde(deserialize_with = "a_list")]
    pub keys: BTreeSet<KeyId>,
    /// The signature of the root key.
    #[serde(rename = "sig", with = "base64_bytes")]
    pub signature: Signature,
}

impl Revocations {
    /// Keys of a list at most: it goes with each welcome.
    pub const MOST: usize = 1000;

    /// How it stands to the list that is known: greater if it is newer, equal if it is the same. One with the
    /// number of the known list and other keys is less, as an older one: neither is to take its place.
    pub fn against(&self, serial: u64, keys: &BTreeSet<KeyId>) -> Ordering {
        match self.serial.cmp(&serial) {
            Ordering::Equal if self.keys != *keys => Ordering::Less,
            order => order,
        }
    }
}

fn a_list<'de, D: serde::Deserializer<'de>>(from: D) -> Result<BTreeSet<KeyId>, D::Error> {
    let keys = BTreeSet::deserialize(from)?;
    let most = Revocations::MOST;
    if keys.len() > most {
        let text = format!("the list has {} keys; expected at most {most}", keys.len());
        return Err(serde::de::Error::custom(text));
    }
    Ok(keys)
}

/// So many bytes as base64url.
pub(super) mod base64_bytes {
    use base64::Engine as _;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::URL_SAFE_NO_PAD;

    pub fn serialize<const N: usize, S: Serializer>(bytes: &[u8; N], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&URL_SAFE_NO_PAD.encode(bytes))
    }

    pub fn deserialize<'de, const N: usize, D: Deserializer<'de>>(from: D) -> Result<[u8; N], D::Error> {
        let bytes = URL_SAFE_NO_PAD.decode(String::deserialize(from)?).ok();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| D::Error::custom(format!("expected {N} bytes in base64url")))
    }
}

/// A time as it travels.
pub(super) mod in_millis {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Timestamp;

    pub fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        time.as_millis().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(from).map(Timestamp::from_millis)
    }
}

/// Declares the faults with their words.
macro_rules! faults {
    ($($(#[$meta:meta])* $fault:ident = $word:literal,)+) => {
        /// Why a message is refused before anything else looks at it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum SealFault {
            $($(#[$meta])* $fault,)+
        }

        impl SealFault {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$fault,)+];

            /// The word for it: a label of metrics, and what files of the quarantine say.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$fault => $word,)+
                }
            }
        }
    };
}

faults! {
    /// It has no seal.
    Unsigned = "unsigned",
    /// The signature is not that of the message, the environment and the key.
    Forged = "forged",
    /// The key is not trusted.
    UnknownKey = "unknown_key",
    /// The root key has revoked the key.
    Revoked = "revoked",
    /// The copy is too old.
    Expired = "expired",
    /// The copy is from the future, so a clock is wrong.
    Early = "early",
    /// The copy is older than the subscription of the endpoint.
    Stale = "stale",
    /// The copy is for others.
    Misdirected = "misdirected",
    /// The policy of the endpoint does not allow the task.
    NotAllowed = "not_allowed",
    /// The type needs more signatures of persons.
    Unapproved = "unapproved",
    /// Another task has brought the same order.
    Replayed = "replayed",
    /// The order in it has begun under this task, which the journal has forgotten.
    Forgotten = "forgotten",
    /// The payload is larger than the policy allows.
    TooLarge = "too_large",
    /// It cannot be read, or came through the wrong queue.
    Unreadable = "unreadable",
}

impl fmt::Display for SealFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SealFault {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|fault| fault.as_str() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_come_back() {
        for fault in SealFault::ALL {
            assert_eq!(fault.as_str().parse(), Ok(*fault));
        }
        for text in ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "+123456789abcdef"] {
            assert_eq!(text.parse::<KeyId>(), Err(InvalidSealPart::KeyId), "{text}");
        }
        let long = "e".repeat(65);
        for text in ["", " ", "a b", "ä", long.as_str()] {
            assert_eq!(text.parse::<EnvironmentName>(), Err(InvalidSealPart::Environment), "{text}");
        }
        assert_eq!("prod-1.eu".parse::<EnvironmentName>().map(String::from), Ok("prod-1.eu".to_owned()));
    }

    #[test]
    fn only_named_receivers_are_included() {
        let name = |text: &str| text.parse::<EndpointName>().expect("a name");
        let names = ["ep1", "ep2"].map(name);
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let to = Recipients::of(one, &names);
        assert!(names.iter().all(|name| to.include(one, name)));
        assert!(!to.include(one, &name("ep3")) && !to.include(other, &names[0]));
        assert!(Recipients::All.include(one, &names[0]) && !Recipients::of(one, []).include(one, &names[0]));
    }

    proptest! {
        #[test]
        fn ids_of_keys_come_back(public in any::<[u8; 32]>()) {
            let id = KeyId::of(&public);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(id.to_string().len(), 16);
        }
    }
}
