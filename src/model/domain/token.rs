//! Who may use the API, and for what.
//!
//! A token is known by a name and proved by a secret, of which nothing but its SHA-256 is kept: a secret is
//! 256 random bits, so there is nothing a slow hash would protect, and every request has to be hashed.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::{EndpointName, Quota, TaskType, Timestamp, TokenName};

/// What a token is good for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Submit and cancel tasks.
    Submit,
    /// Read what became of them.
    Read,
    /// Read what became of the tasks that were submitted with the token.
    #[serde(rename = "read:own")]
    ReadOwn,
    /// Cancel what was submitted with the token, and nothing else.
    #[serde(rename = "cancel:own")]
    CancelOwn,
    /// Fetch tasks over HTTP and report what became of them.
    Work,
    /// Let a wave of a rollout begin, or not.
    Approve,
    /// Everything.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Submit, Self::Read, Self::ReadOwn, Self::CancelOwn, Self::Work, Self::Approve, Self::Admin];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::ReadOwn => "read:own",
            Self::CancelOwn => "cancel:own",
            Self::Work => "work",
            Self::Approve => "approve",
            Self::Admin => "admin",
        }
    }

    /// What is good for the same where it concerns what was submitted with the token.
    pub const fn own(self) -> Option<Self> {
        match self {
            Self::Read => Some(Self::ReadOwn),
            Self::Submit => Some(Self::CancelOwn),
            Self::ReadOwn | Self::CancelOwn | Self::Work | Self::Approve | Self::Admin => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected one of submit, read, read:own, cancel:own, work, approve, admin")]
pub struct InvalidScope;

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(InvalidScope)
    }
}

/// What is kept of a secret.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Of a secret.
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// As it was stored.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// To be stored.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether both are of one secret, in a time that does not tell how much of them is alike.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for SecretHash {
    /// An imported secret may be one that can be guessed, and then the hash would tell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Who may use the API, and for what.
#[derive(Debug, Clone)]
pub struct Token {
    /// Names the row.
    pub id: Uuid,
    /// What people call it.
    pub name: TokenName,
    /// What is kept of its secret.
    pub hash: SecretHash,
    /// What it is good for.
    pub scopes: BTreeSet<Scope>,
    /// The task types it is good for; empty means all.
    pub task_types: Vec<TaskType>,
    /// Since when there is one.
    pub created_at: Timestamp,
    /// From when on it is good for nothing.
    pub expires_at: Option<Timestamp>,
    /// The one worker that may use it. Whose name a token has is for tokens alone that have it.
    pub worker: Option<EndpointName>,
    /// The token that this one was derived from for a session in a browser; it ends with that one.
    pub parent: Option<Uuid>,
    /// How much it may use; its sessions share it.
    pub quota: Quota,
}

impl Token {
    /// Whether it is good for this.
    pub fn permits(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    /// Whether it is good for tasks of this type, and of any other.
    pub const fn is_unlimited(&self) -> bool {
        self.task_types.is_empty()
    }

    /// Whether it is good for tasks of the type of this name.
    pub fn covers(&self, task_type: &str) -> bool {
        self.is_unlimited() || self.task_types.iter().any(|covered| covered.as_str() == task_type)
    }

    /// The token that somebody was given: itself, or the one that a session was made with.
    pub fn given(&self) -> Uuid {
        self.parent.unwrap_or(self.id)
    }

    /// Whether it is limited to what was submitted with it where it cancels.
    pub fn cancels_own(&self) -> bool {
        let everything = self.permits(Scope::Read) && !self.scopes.contains(&Scope::CancelOwn);
        !everything && !self.scopes.contains(&Scope::Admin)
    }

    /// Whether it is limited to what was submitted with it where it reads.
    pub fn reads_own(&self) -> bool {
        self.scopes.contains(&Scope::ReadOwn) && !self.permits(Scope::Read)
    }

    /// Whether it is a session in a browser.
    pub const fn is_session(&self) -> bool {
        self.parent.is_some()
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(scopes: &[Scope], task_types: &[&str]) -> Token {
        Token {
            id: Uuid::nil(),
            name: "ci".parse().expect("a name"),
            hash: SecretHash::of(b"secret"),
            scopes: scopes.iter().copied().collect(),
            task_types: task_types.iter().map(|name| name.parse().expect("a type")).collect(),
            created_at: Timestamp::from_micros(0),
            expires_at: Some(Timestamp::from_micros(10)),
            worker: None,
            parent: None,
            quota: Quota::default(),
        }
    }

    #[test]
    fn an_admin_may_do_everything_and_others_what_they_are_for() {
        assert!(Scope::ALL.into_iter().all(|scope| token(&[Scope::Admin], &[]).permits(scope)));
        let reader = token(&[Scope::Read], &["worker"]);
        assert_eq!(
            Scope::ALL.map(|scope| reader.permits(scope)),
            [false, true, false, false, false, false, false]
        );
        assert!(
            reader.covers("worker")
                && !reader.covers("backup")
                && !reader.covers("")
                && !reader.is_unlimited()
        );
        assert!(token(&[Scope::Read], &[]).covers("backup"));
        assert!(
            reader.is_expired(Timestamp::from_micros(10)) && !reader.is_expired(Timestamp::from_micros(9))
        );
    }

    #[test]
    fn what_is_its_own_is_what_it_was_given_for() {
        use Scope::{Admin, CancelOwn, Read, ReadOwn, Submit};
        let table: [(&[Scope], bool, bool); 7] = [
            (&[Submit], false, true),
            (&[Submit, Read], false, false),
            (&[Submit, ReadOwn], true, true),
            (&[Submit, Read, CancelOwn], false, true),
            (&[Read, ReadOwn], false, false),
            (&[CancelOwn], false, true),
            (&[Admin, ReadOwn, CancelOwn], false, false),
        ];
        for (scopes, reads, cancels) in table {
            let token = token(scopes, &[]);
            assert_eq!((token.reads_own(), token.cancels_own()), (reads, cancels), "{scopes:?}");
        }
    }

    #[test]
    fn a_hash_tells_secrets_apart_and_shows_nothing() {
        let hash = SecretHash::of(b"secret");
        assert!(
            hash.matches(&SecretHash::from_bytes(*hash.as_bytes()))
                && !hash.matches(&SecretHash::of(b"Secret"))
        );
        let shown = format!("{:?}", token(&[Scope::Read], &[]));
        assert!(shown.contains("hash: ***"), "{shown}");
    }

    #[test]
    fn scopes_are_words() {
        assert!(Scope::ALL.into_iter().all(|scope| scope.as_str().parse() == Ok(scope)));
        assert_eq!(
            "ADMIN".parse::<Scope>().map_err(|error| error.to_string()),
            Err("expected one of submit, read, read:own, cancel:own, work, approve, admin".to_owned())
        );
    }
}
