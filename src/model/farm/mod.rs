//! A render farm as such: workers, tasks, which worker may have which task, and what failures lead to.
//!
//! Pure: no database, no wire, no clock. The `store` keeps what is here and decides by it inside its
//! transactions; `flamenco` speaks the protocol of Flamenco 2.x in front of both, and another protocol can be
//! put beside it.

mod failure;
mod id;
mod job;
mod log_tail;
mod sleep;
mod task;
mod update;
mod variables;
mod worker;
mod worker_status;

pub use failure::{Failing, FailureLimits, FailureVerdict};
pub use id::{InvalidObjectId, ObjectId, optional_id};
pub use job::JobTally;
pub use log_tail::log_tail;
pub use sleep::{DayTime, SleepSchedule};
pub use task::{Command, FailedBy, MANAGER_LOCAL, Task, TaskStatus, TaskSummary, UNKNOWN_TYPE};
pub use update::{Progress, Update, WorkerReport};
pub use variables::{Audience, Direction, Variable, VariableValue, Variables};
pub use worker::{Seen, Worker};
pub use worker_status::{Request, WorkerStatus};

/// Seconds that each phase of a task took, by name.
pub type Timing = std::collections::BTreeMap<String, f64>;
