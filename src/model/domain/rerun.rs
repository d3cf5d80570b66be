//! Which endpoints of a task perform it once more.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ResponseStatus;

/// How an endpoint must have fared with a task to perform it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fared {
    /// It finished with an error.
    Failed,
    /// It never received the task, which has ended.
    Missing,
    /// The time of the task was over before it finished.
    Expired,
    /// The task was canceled before it finished.
    Canceled,
}

impl Fared {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Failed, Self::Missing, Self::Expired, Self::Canceled];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Missing => "missing",
            Self::Expired => "expired",
            Self::Canceled => "canceled",
        }
    }

    /// Whether a response stands so. One that is still open never does: its endpoint may perform the task
    /// yet, and would then do so twice.
    pub const fn covers(self, status: ResponseStatus, errnr: Option<i32>, received: bool) -> bool {
        match (self, status) {
            (Self::Failed, ResponseStatus::Finished) => !matches!(errnr, None | Some(0)),
            (Self::Missing, ResponseStatus::Canceled | ResponseStatus::Expired) => !received,
            (Self::Expired, ResponseStatus::Expired) | (Self::Canceled, ResponseStatus::Canceled) => true,
            _ => false,
        }
    }
}

impl FromStr for Fared {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|fared| fared.as_str() == text)
            .ok_or_else(|| format!("expected one of {}", words()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_ended_without_success_is_covered() {
        use Fared::{Canceled, Expired, Failed, Missing};
        use ResponseStatus as S;
        let table: &[(S, Option<i32>, bool, &[Fared])] = &[
            (S::Expected, None, false, &[]),
            (S::Created, None, true, &[]),
            (S::Finished, Some(0), true, &[]),
            (S::Finished, Some(1), true, &[Failed]),
            (S::Finished, Some(-1), true, &[Failed]),
            (S::Canceled, None, false, &[Missing, Canceled]),
            (S::Canceled, None, true, &[Canceled]),
            (S::Expired, None, false, &[Missing, Expired]),
            (S::Expired, None, true, &[Expired]),
        ];
        for (status, errnr, received, covered) in table {
            let found: Vec<Fared> =
                Fared::ALL.into_iter().filter(|fared| fared.covers(*status, *errnr, *received)).collect();
            assert_eq!(found, *covered, "{status:?} {errnr:?} {received}");
        }
    }
}
