//! What can be watched.

use std::fmt;
use std::str::FromStr;

use crate::domain::TaskId;

/// What can be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Watched {
    /// A task and the state of each of its endpoints.
    Task(TaskId),
    /// The state of each endpoint of the fleet.
    Endpoints,
    /// How the work queues stand.
    Queues,
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(id) => write!(f, "task:{id}"),
            Self::Endpoints => f.write_str("endpoints"),
            Self::Queues => f.write_str("queues"),
        }
    }
}

impl FromStr for Watched {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.split_once(':')) {
            ("endpoints", _) => Ok(Self::Endpoints),
            ("queues", _) => Ok(Self::Queues),
            (_, Some(("task", id))) => id
                .parse()
                .map(Self::Task)
                .map_err(|_| "expected the id of a task, a UUID, after `task:`".into()),
            _ => Err("must name `task:ID`, `endpoints` or `queues`, with commas between them".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_as_it_is_written() {
        for watched in [Watched::Task(TaskId::new()), Watched::Endpoints, Watched::Queues] {
            assert_eq!(watched.to_string().parse(), Ok(watched));
        }
        for wrong in ["", "task", "task:", "task:nightly", "endpoints:", "rollout:x", "Queues"] {
            assert!(wrong.parse::<Watched>().is_err(), "{wrong}");
        }
    }
}
