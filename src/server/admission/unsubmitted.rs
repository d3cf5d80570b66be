//! A task that tasker should have submitted itself and could not: nobody waits for an answer, so it must be
//! told where people look.

use super::Fault;
use crate::domain::{Identifier, Task, TaskId, Timestamp};

/// Faults of a payload that are told at most.
const TOLD: usize = 10;

/// Why tasker could not submit a task of its own. Its text holds no value of a payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsubmitted {
    /// Another task has its identifier.
    #[error("its identifier `{identifier}` belongs to another task, {by}, submitted at {since}")]
    Taken {
        /// The identifier.
        identifier: Identifier,
        /// The other task.
        by: TaskId,
        /// When that was submitted.
        since: Timestamp,
    },
    /// Its type does not admit its payload.
    #[error("its payload is not valid for its type: {}", list(.0))]
    Payload(Vec<Fault>),
    /// The database cannot keep it.
    #[error("it cannot be recorded: {0}")]
    Row(String),
}

impl Unsubmitted {
    /// Because of the task that has its identifier.
    pub fn taken(by: Task) -> Self {
        Self::Taken { identifier: by.identifier, by: by.id, since: by.start_time }
    }

    /// The value of a metric's label.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Taken { .. } => "identifier_taken",
            Self::Payload(_) => "invalid_payload",
            Self::Row(_) => "not_recorded",
        }
    }
}

fn list(faults: &[Fault]) -> String {
    let told: Vec<String> =
        faults.iter().take(TOLD).map(|fault| format!("{:?} {}", fault.pointer, fault.masked)).collect();
    let more = faults.len().saturating_sub(TOLD);
    if more == 0 { told.join("; ") } else { format!("{}; and {more} more", told.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_without_values_and_not_without_end() {
        let fault = |number: usize| Fault {
            pointer: format!("/{number}"),
            message: "\"secret\" is wrong".into(),
            masked: "value is wrong".into(),
        };
        let text = Unsubmitted::Payload((0..12).map(fault).collect()).to_string();
        assert!(
            text.contains("\"/0\" value is wrong; \"/1\"")
                && text.ends_with("and 2 more")
                && !text.contains("secret"),
            "{text}"
        );
        assert!(!Unsubmitted::Payload(vec![fault(1)]).to_string().contains("more"));
    }
}
