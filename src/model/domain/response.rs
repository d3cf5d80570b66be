//! What one endpoint did with one task: a row of the ledger, and the only function that may change its
//! status.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{AnswerDigest, AttemptError, EndpointName, Json, TaskId, Timestamp};

/// Where a response stands. `docs/states.md` draws the arrows; [`ResponseStatus::next`] is the table.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum ResponseStatus {
    /// The endpoint must answer and has not said anything yet.
    Expected,
    /// The endpoint has received the task.
    Created,
    /// The handler ended, with an error number of 0 or not. Final.
    Finished,
    /// Withdrawn before it ran, or stopped while it ran. Final.
    Canceled,
    /// Given up when the task's time was over. Final.
    Expired,
}

/// What can happen to a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseEvent {
    /// The endpoint has the task.
    Received,
    /// The handler ended.
    Finished,
    /// It was withdrawn.
    Canceled,
    /// The task's time is over.
    Expired,
}

impl ResponseStatus {
    /// All states, in the order of their codes.
    pub const ALL: [Self; 5] = [Self::Expected, Self::Created, Self::Finished, Self::Canceled, Self::Expired];

    /// Whether nothing can change it any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Finished | Self::Canceled | Self::Expired)
    }

    /// The word used on the wire, in logs and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expected => "EXPECTED",
            Self::Created => "CREATED",
            Self::Finished => "FINISHED",
            Self::Canceled => "CANCELED",
            Self::Expired => "EXPIRED",
        }
    }

    /// The number kept in the store.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The status with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The only place where a response's status may change. Monotonic: repeats and stragglers answer the
    /// status that is there.
    #[must_use]
    pub const fn next(self, event: ResponseEvent) -> Self {
        match (self, event) {
            (Self::Finished | Self::Canceled | Self::Expired, _) => self,
            (_, ResponseEvent::Received) => Self::Created,
            (_, ResponseEvent::Finished) => Self::Finished,
            (_, ResponseEvent::Canceled) => Self::Canceled,
            (_, ResponseEvent::Expired) => Self::Expired,
        }
    }
}

/// A response as the ledger has it.
#[derive(Debug, Clone)]
pub struct Response {
    /// The task it belongs to.
    pub task_id: TaskId,
    /// Who answers.
    pub endpoint: EndpointName,
    /// Where it stands.
    pub status: ResponseStatus,
    /// 0 for success; present once finished.
    pub errnr: Option<i32>,
    /// What went wrong, empty on success.
    pub errmsg: String,
    /// What the handler answered.
    pub payload: Option<Json>,
    /// The attempt that decided, from 1; 0 before the first.
    pub attempt: u32,
    /// What earlier attempts died of.
    pub attempts: Vec<AttemptError>,
    /// Percent done as the handler last said.
    pub progress: Option<u8>,
    /// The last lines the handler logged.
    pub log: Option<String>,
    /// When the API learnt that the endpoint has it.
    pub start_time: Option<Timestamp>,
    /// When the row last changed.
    pub last_modified_time: Timestamp,
    /// Whether the endpoint has received it, has not finished it and is not there any more.
    pub vanished: bool,
    /// Another answer, which came after the end and changed nothing.
    pub late: Option<LateAnswer>,
    /// The group of equal answers that its answer belongs to; none until there is an answer, and for one that
    /// was given to a version that made no groups.
    pub answer: Option<AnswerDigest>,
}

/// An answer that came after the end of its response and tells something else. It changes nothing; the first
/// is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LateAnswer {
    /// Whether an answer had come before. If not, the response had been given up or canceled by then.
    pub contradicts: bool,
    /// Its error number.
    pub errnr: i32,
    /// Its error text.
    pub errmsg: String,
    /// The execution it is of.
    pub run: Option<Uuid>,
    /// When it came.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
}

impl LateAnswer {
    /// Bytes of its error text that are kept.
    pub const TEXT: usize = 4 << 10;

    /// The same with no more text than is kept.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.errmsg.truncate(self.errmsg.floor_char_boundary(Self::TEXT));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ResponseEvent as E;
    use ResponseStatus as S;

    #[test]
    fn moves_forward_only() {
        let events = [
            (E::Received, S::Created),
            (E::Finished, S::Finished),
            (E::Canceled, S::Canceled),
            (E::Expired, S::Expired),
        ];
        for from in S::ALL {
            for (event, target) in events {
                let next = from.next(event);
                assert_eq!(next, if from.is_final() { from } else { target }, "{from:?} on {event:?}");
                assert!(next >= from, "{from:?} went back on {event:?}");
            }
        }
    }
}
