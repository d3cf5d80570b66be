//! What was done, by whom and from where: entries of a chain, each with the hash of the one before it.
//!
//! An entry that is changed or removed later does not fit the others any more. The chain alone does not show
//! that its end was cut off, or that all of it was written anew. An anchor shows that: a hash that is kept
//! elsewhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{Json, Timestamp};

/// Names the form of what is hashed.
const FORM: &[u8] = b"tasker/audit/1";

/// Characters of each text at most, as the columns have them.
const ACTOR: usize = 128;
const ACTION: usize = 64;
const SUBJECT: usize = 255;
const SOURCE: usize = 128;
const REQUEST_ID: usize = 128;

/// SHA-256 of an entry and all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditHash([u8; 32]);

impl AuditHash {
    /// As it was stored.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// To be stored.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Adds a text to what is hashed, behind its length, so that none can pass for two. An absent text is not
    /// an empty one.
    pub fn add_text(hash: &mut Sha256, text: Option<&str>) {
        hash.update(text.map_or(u64::MAX, |text| text.len() as u64).to_be_bytes());
        hash.update(text.unwrap_or_default());
    }
}

impl fmt::Display for AuditHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text is not a hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a hash: expected 64 hexadecimal digits")]
pub struct InvalidHash(String);

impl FromStr for AuditHash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        let invalid = || InvalidHash(text.chars().take(80).collect());
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(invalid());
        }
        for (byte, place) in bytes.iter_mut().zip((0..64).step_by(2)) {
            let digits = text.get(place..place + 2).filter(|digits| !digits.starts_with('+'));
            *byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or_else(invalid)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for AuditHash {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AuditHash {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What was done, before it has its place in the chain.
#[derive(Debug, Clone)]
pub struct Deed {
    actor: String,
    action: String,
    subject: String,
    detail: Option<Json>,
    source: String,
    request_id: Option<String>,
}

impl Deed {
    /// `actor` did `action` to `subject` from `source`. What is longer than a column is cut.
    pub fn new(actor: &str, action: &str, subject: &str, source: &str) -> Self {
        Self {
            actor: cut(actor, ACTOR),
            action: cut(action, ACTION),
            subject: cut(subject, SUBJECT),
            detail: None,
            source: cut(source, SOURCE),
            request_id: None,
        }
    }

    /// With what else is to be known.
    #[must_use]
    pub fn with(self, detail: Json) -> Self {
        Self { detail: Some(detail), ..self }
    }

    /// With the request that asked for it.
    #[must_use]
    pub fn asked_by(self, request_id: &str) -> Self {
        Self { request_id: Some(cut(request_id, REQUEST_ID)), ..self }
    }
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// An entry of the audit log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its place in the chain, from 1.
    pub seq: u64,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The name of the token; who ran a command of the database's (`root`), `anonymous` where no token was
    /// needed or shown, or `tasker` itself.
    pub actor: String,
    /// What was done, such as `token.create` or `queue.pause`.
    pub action: String,
    /// What it was done to: the path of the request, or a name.
    pub subject: String,
    /// What else is to be known.
    #[serde(default)]
    #[schema(value_type = Option<Object>, required = false)]
    pub detail: Option<Json>,
    /// The address that the request came from, or the machine that a command ran on.
    pub source: String,
    /// Names the request in the log.
    #[serde(default)]
    #[schema(required = false)]
    pub request_id: Option<String>,
    /// The hash of the entry before; 64 zeros for the first.
    #[schema(value_type = String)]
    pub previous: AuditHash,
    /// SHA-256 of `previous` and all members above.
    #[schema(value_type = String)]
    pub hash: AuditHash,
}

impl AuditEntry {
    /// The entry of a deed after the one with this place and hash.
    pub fn after(chain: &Chain, deed: Deed, at: Timestamp) -> Self {
        let Deed { actor, action, subject, detail, source, request_id } = deed;
        let (seq, previous, hash) = (chain.seq + 1, chain.hash, AuditHash::default());
        let entry = Self { seq, at, actor, action, subject, detail, source, request_id, previous, hash };
        Self { hash: entry.computed(), ..entry }
    }

    /// What its hash has to be.
    pub fn computed(&self) -> AuditHash {
        let mut hash = Sha256::new();
        hash.update(self.previous.0);
        hash.update(FORM);
        hash.update(self.seq.to_be_bytes());
        hash.update(self.at.as_micros().to_be_bytes());
        let (detail, request_id) = (self.detail.as_ref().map(|json| json.get()), self.request_id.as_deref());
        let texts = [
            Some(self.actor.as_str()),
            Some(&self.action),
            Some(&self.subject),
            detail,
            Some(&self.source),
            request_id,
        ];
        for text in texts {
            AuditHash::add_text(&mut hash, text);
        }
        AuditHash(hash.finalize().into())
    }
}

/// How far a chain goes: the place and the hash of its last entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Chain {
    /// How many entries there are.
    pub seq: u64,
    /// The hash of the last one.
    #[schema(value_type = String)]
    pub hash: AuditHash,
}

/// Where a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// An entry is not there.
    #[error("entry {expected} is missing: entry {found} follows")]
    Missing {
        /// The entry that should have been next.
        expected: u64,
        /// The one that was.
        found: u64,
    },
    /// An entry is not the one after the one before it.
    #[error("entry {0} does not follow the entry before it: one of both was written anew")]
    Unlinked(u64),
    /// An entry is not as it was written.
    #[error("entry {0} was changed: it does not have its hash")]
    Changed(u64),
}

impl Chain {
    /// Goes on to the next entry.
    ///
    /// # Errors
    /// Where it does not fit.
    pub fn follow(&mut self, entry: &AuditEntry) -> Result<(), Broken> {
        let expected = self.seq + 1;
        if entry.seq != expected {
            return Err(Broken::Missing { expected, found: entry.seq });
        }
        if entry.previous != self.hash {
            return Err(Broken::Unlinked(entry.seq));
        }
        if entry.computed() != entry.hash {
            return Err(Broken::Changed(entry.seq));
        }
        *self = Self { seq: entry.seq, hash: entry.hash };
        Ok(())
    }
}

/// The anchors in a text: lines of a log with `audit_seq` and `audit_hash`, in either form that tasker logs
/// in, or a place and a hash and nothing else.
pub fn anchors(text: &str) -> Vec<Chain> {
    text.lines().filter_map(anchor).collect()
}

fn anchor(line: &str) -> Option<Chain> {
    let value = |name: &str| {
        let rest = &line[line.find(name)? + name.len()..];
        let start = rest.find(|letter: char| letter.is_ascii_alphanumeric())?;
        // Between a name and its value stand `=`, `":` and perhaps what colors a terminal.
        let rest = rest.get(start..).filter(|_| start <= 4)?;
        rest.split(|letter: char| !letter.is_ascii_alphanumeric()).next()
    };
    let (seq, hash) = match (value("audit_seq"), value("audit_hash")) {
        (Some(seq), Some(hash)) => (seq, hash),
        _ => line.trim().split_once(' ')?,
    };
    Some(Chain { seq: seq.parse().ok()?, hash: hash.trim().parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::json;

    fn chain(number: u64) -> Vec<AuditEntry> {
        let (mut end, mut entries) = (Chain::default(), Vec::new());
        for place in 0..number {
            let deed = Deed::new("ci", "queue.pause", &format!("/queues/{place}"), "192.0.2.1");
            let deed = if place % 2 == 0 { deed } else { deed.with(json(&place)).asked_by("r-1") };
            let entry = AuditEntry::after(&end, deed, Timestamp::from_micros(place as i64));
            end = Chain { seq: entry.seq, hash: entry.hash };
            entries.push(entry);
        }
        entries
    }

    fn walk(entries: &[AuditEntry]) -> Result<Chain, Broken> {
        let mut at = Chain::default();
        entries.iter().try_for_each(|entry| at.follow(entry)).map(|()| at)
    }

    #[test]
    fn a_chain_holds_until_somebody_touches_it() {
        let whole = chain(4);
        assert_eq!(walk(&whole).map(|end| end.seq), Ok(4));
        let touched = |touch: fn(&mut AuditEntry)| {
            let mut entries = whole.clone();
            touch(&mut entries[1]);
            walk(&entries)
        };
        let changed = Err(Broken::Changed(2));
        assert_eq!(touched(|entry| entry.actor.push('x')), changed);
        assert_eq!(touched(|entry| entry.at = Timestamp::from_micros(7)), changed);
        assert_eq!(touched(|entry| entry.detail = None), changed);
        assert_eq!(touched(|entry| entry.request_id = None), changed);
        assert_eq!(
            touched(|entry| (entry.actor, entry.action) = ("c".into(), "iqueue.pause".into())),
            changed
        );
        // Whoever changes an entry with its hash has to write all that follow anew.
        let rewritten = touched(|entry| {
            entry.actor = "somebody else".to_owned();
            entry.hash = entry.computed();
        });
        assert_eq!(rewritten, Err(Broken::Unlinked(3)));
        assert_eq!(
            walk(&[&whole[..1], &whole[2..]].concat()),
            Err(Broken::Missing { expected: 2, found: 3 })
        );
        assert_eq!(
            walk(&whole[..3]).map(|end| end.seq),
            Ok(3),
            "a tail that was cut off shows by its anchor"
        );
    }

    #[test]
    fn an_entry_is_the_same_after_json() {
        for entry in chain(2) {
            let text = serde_json::to_string(&entry).expect("JSON");
            let read: AuditEntry = serde_json::from_str(&text).expect("an entry");
            assert_eq!((read.hash, read.computed()), (entry.hash, entry.hash), "{text}");
        }
    }

    #[test]
    fn anchors_are_found_in_logs() {
        let hash = AuditHash::from_bytes([0xa5; 32]);
        for line in [
            format!(
                "2026-11-29T23:00:00Z  INFO tasker::audit: audited audit_seq=7 audit_hash={hash} actor=ci"
            ),
            format!("\u{1b}[3maudit_seq\u{1b}[0m=7 audit_hash={hash}"),
            format!(r#"{{"level":"INFO","audit_seq":7,"audit_hash":"{hash}"}}"#),
            format!("7 {hash}"),
        ] {
            let found = anchors(&format!("nothing\n{line}\n"));
            // What colors a terminal is longer than what stands between a name and its value.
            let expected = if line.starts_with('\u{1b}') { vec![] } else { vec![Chain { seq: 7, hash }] };
            assert_eq!(found, expected, "{line}");
        }
        for text in ["", "audit_seq=x audit_hash=y", "7 abc", "audit_seq=7"] {
            assert!(anchors(text).is_empty(), "{text}");
        }
        assert!("+5".repeat(32).parse::<AuditHash>().is_err());
    }
}
