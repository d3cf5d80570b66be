//! What things may be called. Every name from outside is parsed here, so that a queue, a path, a header or a
//! log line can never be made from unchecked input.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Names that can never be task types: paths of the API and parts of the broker's topology.
pub const RESERVED_TASK_TYPES: &[&str] = &[
    "api", "audit", "census", "control", "dashboard", "dead", "docs", "endpoints", "events", "flamenco",
    "groups", "health", "heartbeat", "metrics", "openapi", "presence", "queues", "ready", "requests",
    "responses", "rollouts", "schedules", "session", "stats", "tasks", "tokens", "trs", "types", "workers",
];

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// A task type has a form of its own since it becomes an exchange, a path and a file name.
    #[error("a task type is a letter followed by at most 63 letters, digits, `_` or `-`")]
    TaskType,
    /// See [`RESERVED_TASK_TYPES`].
    #[error("`{0}` is reserved and cannot be a task type")]
    Reserved(String),
    /// Names of tokens stand in logs.
    #[error("the name of a token is 1 to 64 characters out of A-Z a-z 0-9 . _ -")]
    Token,
    /// Endpoint names become queue names and routing keys.
    #[error("an endpoint name is 1 to 128 characters out of A-Z a-z 0-9 . _ -")]
    Endpoint,
    /// The name of a stored selector.
    #[error(
        "the name of a group is 1 to 64 characters out of A-Z a-z 0-9 . _ -, the first a letter or a digit"
    )]
    Group,
    /// The customer's own identifier.
    #[error("an identifier is 1 to 191 characters without control characters")]
    Identifier,
    /// The name of a request.
    #[error("a token of a request is 1 to 191 letters, digits, dots, underscores and dashes")]
    RequestToken,
    /// The name of a rollout.
    #[error("an identifier of a rollout is 1 to 128 letters, digits, dots, underscores and dashes")]
    Rollout,
    /// Task ids are UUIDs.
    #[error("a task id is a UUID")]
    TaskId,
}

macro_rules! name {
    ($(#[$attribute:meta])* $name:ident, $check:expr) => {
        $(#[$attribute])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let check: fn(&str) -> Result<(), InvalidName> = $check;
                check(text).map(|()| Self(text.into()))
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.as_str().to_owned()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
    };
}

name!(
    /// The name of a task type: `[A-Za-z][A-Za-z0-9_-]{0,63}`, not reserved.
    ///
    /// No dot: `<exchange>.<type>.to` must never be another type's exchange.
    #[derive(utoipa::ToSchema)]
    #[schema(
        as = TaskTypeName, value_type = String, description = "The name of a task type.",
        pattern = "^[A-Za-z][A-Za-z0-9_-]{0,63}$", example = "builds"
    )]
    TaskType,
    |text| {
        let mut bytes = text.bytes();
        let formed = bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
            && text.len() <= 64
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        match formed {
            false => Err(InvalidName::TaskType),
            true if RESERVED_TASK_TYPES.contains(&text) => Err(InvalidName::Reserved(text.to_owned())),
            true => Ok(()),
        }
    }
);

name!(
    /// The name of an endpoint: `[A-Za-z0-9._-]{1,128}`.
    #[derive(utoipa::ToSchema)]
    #[schema(
        value_type = String, description = "The name of an endpoint or a worker.",
        pattern = "^[A-Za-z0-9._-]{1,128}$", example = "site7"
    )]
    EndpointName,
    |text| {
        let formed = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        formed.then_some(()).ok_or(InvalidName::Endpoint)
    }
);

name!(
    /// The name of a group of endpoints: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
    #[derive(utoipa::ToSchema)]
    #[schema(
        value_type = String, description = "The name of a group of endpoints.",
        pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", example = "berlin-web"
    )]
    GroupName,
    |text| {
        let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let formed = text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        (first && formed).then_some(()).ok_or(InvalidName::Group)
    }
);

name!(
    /// What people call a token: `[A-Za-z0-9._-]{1,64}`.
    TokenName,
    |text| {
        let formed = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        formed.then_some(()).ok_or(InvalidName::Token)
    }
);

name!(
    /// The customer's name for a task: 1 to 191 characters of any script, no control characters.
    ///
    /// Compared byte for byte: `A`, `a` and `a ` are three identifiers.
    Identifier,
    |text| {
        let length = text.chars().count();
        let formed = (1..=Identifier::LONGEST).contains(&length) && !text.chars().any(char::is_control);
        formed.then_some(()).ok_or(InvalidName::Identifier)
    }
);

impl Identifier {
    /// Characters of one at most.
    pub const LONGEST: usize = 191;
}

name!(
    /// The name of a request: 1 to 191 letters, digits, dots, underscores and dashes. tasker's own are UUIDs.
    RequestToken,
    |text| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let formed = (1..=191).contains(&text.len()) && text.bytes().all(allowed);
        formed.then_some(()).ok_or(InvalidName::RequestToken)
    }
);

impl RequestToken {
    /// The name of a row as it is stored. A producer may have inserted a row under a name that is no token. Such
    /// a name is only for reading the row.
    pub fn stored(text: &str) -> Self {
        Self(text.into())
    }
}

name!(
    /// The customer's name for a rollout: 1 to 128 letters, digits, dots, underscores and dashes. It stands
    /// in paths and in the identifiers of the tasks of the rollout.
    #[derive(utoipa::ToSchema)]
    #[schema(
        value_type = String, description = "The identifier of a rollout.",
        pattern = "^[A-Za-z0-9._-]{1,128}$", example = "kernel-6.9"
    )]
    RolloutName,
    |text| {
        let formed = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        formed.then_some(()).ok_or(InvalidName::Rollout)
    }
);

/// Our own name of a task: a UUIDv7, so that ids sort by time of submission.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub Uuid);

impl TaskId {
    /// A fresh id, later than all ids this process made before.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for TaskId {
    fn default() -> Self {
        Self::new()
    }
}

impl FromStr for TaskId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidName::TaskId)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_types_have_a_closed_form() {
        for good in ["worker", "a", "Backup_2-x", &"a".repeat(64)] {
            assert!(good.parse::<TaskType>().is_ok(), "{good}");
        }
        for bad in ["", "1a", "a.b", "a b", "ä", "a/b", &"a".repeat(65)] {
            assert_eq!(bad.parse::<TaskType>(), Err(InvalidName::TaskType), "{bad}");
        }
        assert_eq!("metrics".parse::<TaskType>(), Err(InvalidName::Reserved("metrics".into())));
    }

    #[test]
    fn endpoint_names_have_a_closed_form() {
        for good in ["console1", "a.b-c_D", &"x".repeat(128)] {
            assert!(good.parse::<EndpointName>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "ep1 ", "é", "a/b", "a\0", &"x".repeat(129)] {
            assert!(bad.parse::<EndpointName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn identifiers_count_characters_and_refuse_controls() {
        for good in ["e7bd91d0-16ad-11e2-892e-0800200c9a66", " a ", &"😀".repeat(191)] {
            assert!(good.parse::<Identifier>().is_ok(), "{good}");
        }
        for bad in ["", "a\nb", "a\0", &"a".repeat(192)] {
            assert!(bad.parse::<Identifier>().is_err(), "{bad:?}");
        }
    }
}
