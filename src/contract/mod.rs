//! The JSON of the HTTP API, described once: what the server writes and the client reads, and the other way round, with the schema of
//! each for the OpenAPI document.
//!
//! `task` and `response` the ledger's two rows · `submission` what a customer asks for · `endpoint` who performs tasks · `queue` and
//! `schedule` how these stand · `census` sums of tasks · `problem` why a request is refused · `process` what the API says of itself ·
//! `worker` what workers ask for and get over HTTP.
//!
//! The server moves what it has read from the ledger into these types, so that an answer of thousands of rows is written without copies
//! of their texts. A reader takes answers of older and of newer servers: it ignores members that it does not know, and what came later
//! than the first version may be missing (`serde(default)`), although this server always writes it (`schema(required)`).

mod census;
mod endpoint;
mod problem;
mod process;
mod queue;
mod response;
mod schedule;
mod submission;
mod task;
mod worker;

pub use census::{Census, Flaw};
pub use endpoint::{Endpoint, EndpointPage, ForgottenEndpoint, Standby, Subscription};
pub use problem::{Problem, ProblemCode, ProblemItem};
pub use process::{Heartbeat, Index, Readiness};
pub use queue::{Queue, QueueList};
pub use response::{ResponseId, TaskResponse};
pub use schedule::{Schedule, ScheduleList};
pub use submission::Submission;
pub use task::{Queued, Responses, Task, TaskPage, TaskWithResponses};
pub use worker::{TasksGiven, TasksWanted, WorkerPresence, WorkerReports};

#[cfg(test)]
pub(crate) mod examples;
