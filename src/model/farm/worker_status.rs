//! What a worker is, and what it may be told to become.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerStatus {
    /// It has registered and not signed on yet.
    #[serde(rename = "")]
    Registered,
    /// It has signed on.
    Starting,
    /// It takes tasks.
    Awake,
    /// It takes test tasks.
    Testing,
    /// It takes none until it is woken.
    Asleep,
    /// It cannot work, and tries again later.
    Error,
    /// It was silent for too long.
    Timeout,
    /// It has signed off.
    Offline,
}

use WorkerStatus as S;

/// The text is not a status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown worker status {0:?}")]
pub struct UnknownWorkerStatus(String);

impl WorkerStatus {
    /// All of them.
    pub const ALL: [Self; 8] =
        [S::Registered, S::Starting, S::Awake, S::Testing, S::Asleep, S::Error, S::Timeout, S::Offline];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            S::Registered => "",
            S::Starting => "starting",
            S::Awake => "awake",
            S::Testing => "testing",
            S::Asleep => "asleep",
            S::Error => "error",
            S::Timeout => "timeout",
            S::Offline => "offline",
        }
    }
}

impl FromStr for WorkerStatus {
    type Err = UnknownWorkerStatus;

    fn from_str(text: &str) -> Result<Self, UnknownWorkerStatus> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownWorkerStatus(text.to_owned()))
    }
}

/// What a worker is told to become. Workers do strange things when they are told anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Take tasks.
    Awake,
    /// Take none.
    Asleep,
    /// End.
    Shutdown,
    /// Try again later, as after a failed check.
    Error,
}

impl Request {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Awake, Self::Asleep, Self::Shutdown, Self::Error];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Awake => "awake",
            Self::Asleep => "asleep",
            Self::Shutdown => "shutdown",
            Self::Error => "error",
        }
    }

    /// What people may ask for.
    ///
    /// # Errors
    /// For any other word.
    pub fn by_people(text: &str) -> Result<Self, String> {
        let known = [Self::Awake, Self::Asleep, Self::Shutdown];
        let refused =
            || format!("workers cannot be told to become {text:?} (expected: awake, asleep, shutdown)");
        known.into_iter().find(|request| request.as_str() == text).ok_or_else(refused)
    }

    /// The status that a worker has once it has done so.
    pub const fn status(self) -> WorkerStatus {
        match self {
            Self::Awake => S::Awake,
            Self::Asleep => S::Asleep,
            Self::Shutdown => S::Offline,
            Self::Error => S::Error,
        }
    }
}

impl FromStr for Request {
    type Err = UnknownWorkerStatus;

    fn from_str(text: &str) -> Result<Self, UnknownWorkerStatus> {
        Self::ALL
            .into_iter()
            .find(|request| request.as_str() == text)
            .ok_or_else(|| UnknownWorkerStatus(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for status in WorkerStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
            assert_eq!(serde_json::to_value(status).expect("a word"), status.as_str());
        }
        for request in Request::ALL {
            assert_eq!(request.as_str().parse(), Ok(request));
        }
        for refused in ["offline", "error", "starting", ""] {
            assert!(Request::by_people(refused).is_err());
        }
    }
}
