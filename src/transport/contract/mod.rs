//! The JSON of the HTTP API, described once: each type says how it is written, how it is read, and its
//! schema.
//!
//! `task` and `response` the ledger's two rows · `answer` equal answers in groups · `submission` what a
//! customer asks for · `approval` who has signed it · `endpoint` who performs tasks · `enrolment` how a server gets its broker user · `queue` and `schedule` how these stand · `request`
//! steps of jobs · `rollout` changes of a fleet in waves · `bulk` many tasks in one request · `explain` why a
//! task does not run · `census` sums of tasks · `statistics` throughput · `problem` why a request is refused
//! · `session` who one is · `process` what an API process says of itself · `live` what goes on now · `log`
//! what handlers log · `worker` what workers send and get · `flamenco` a render farm.
//!
//! The server moves what it has read from the ledger into these types, so that an answer of thousands of rows
//! is written without copies of their texts. A reader takes the answers of older and newer servers: it
//! ignores members that it does not know. A member that is younger than the first version may be missing
//! (`serde(default)`), although this server always writes it (`schema(required = true)`).
//!
//! The texts on members are their descriptions in the OpenAPI document.

mod answer;
mod approval;
mod audit;
mod bulk;
mod census;
mod endpoint;
mod enrolment;
mod explain;
mod flamenco;
mod group;
mod live;
mod log;
mod preview;
mod problem;
mod process;
mod queue;
mod request;
mod rerun;
mod response;
mod rollout;
mod schedule;
mod session;
mod statistics;
mod submission;
mod target;
mod task;
mod task_type;
mod worker;

pub use answer::{AnswerGroup, Answers, Exemplar, MoreAnswers};
pub use approval::{Approved, SignatureOfKey, TaskApproval};
pub use audit::{AuditPage, AuditedSubmissions};
pub use bulk::{
    Batch, BatchAnswer, BatchList, BatchSubmission, BatchVerdict, BulkAnswer, BulkCancel, DeadFilter,
    Requeue, TaskBrief, TaskFilter,
};
pub use census::{Census, Flaw, RequestCensus, RequestFlaw, RolloutCensus, RolloutFlaw};
pub use endpoint::{
    Endpoint, EndpointPage, ForgottenEndpoint, ForgottenEndpoints, OwedTask, OwedTasks, Standby, Subscription,
};
pub use enrolment::{EnrolmentTicket, SealedIdentity};
pub use explain::{Explanation, ReasonGroup};
pub use flamenco::{
    FlamencoJob, FlamencoJobPage, FlamencoTask, FlamencoTaskDetail, FlamencoTaskPage, FlamencoWorker,
    FlamencoWorkerList,
};
pub use group::{Group, GroupChange, GroupList};
pub use live::{LiveEndpoints, LiveGone, LiveQueues, LiveTask, LiveVector, NameList};
pub use log::{LogPage, LogText};
pub use preview::{LeftOutEndpoint, Preview, SubmitAnswer};
pub use problem::{Problem, ProblemCode, ProblemItem};
pub use process::{Heartbeat, Index, Readiness};
pub use queue::{Queue, QueueList};
pub use request::{Job, Request, RequestPage, RequestPoll, RequestStep, RequestSubmission, RequestToken};
pub use rerun::Rerun;
pub use response::{ResponseId, ResponsePage, TaskResponse};
pub use rollout::{
    AbortRollout, EditRollout, FreedHold, NewTargets, PickTargets, RerunOnly, RerunRollout, ResumeRollout,
    Rollout, RolloutAllow, RolloutCommand, RolloutCounts, RolloutDocument, RolloutEvent, RolloutEvents,
    RolloutHold, RolloutHoldPage, RolloutPage, RolloutPlan, RolloutPlanDomain, RolloutPlanWave,
    RolloutRollback, RolloutTarget, RolloutTargetPage, RolloutWave,
};
pub use schedule::{Schedule, ScheduleList};
pub use session::{Session, SessionStart};
pub use statistics::{Statistics, StatisticsSpan};
pub use submission::{BODY_HEADER, ENVELOPE, OneOrMany, Submission};
pub use target::Target;
pub use task::{OpenTasks, Queued, Responses, Task, TaskCounts, TaskPage, TaskWithResponses};
pub use task_type::{TaskType, TaskTypeList, TypeBody, TypeDelivery};
pub use worker::{
    PresenceKind, RefusedType, TasksGiven, TasksWanted, WorkerCommand, WorkerPresence, WorkerReport,
    WorkerReportHead, WorkerReports,
};

#[cfg(test)]
pub mod examples;
