//! The nouns of the product and the rules that hold between them. No I/O, no clock, no other module of ours.
//!
//! `names` what things may be called · `timestamp` points in time · `task` and `response` the two rows of the
//! ledger with their state machines · `queue` what a task of a work queue has besides · `request` steps of
//! jobs · `rerun` who performs a task once more · `rollout` how a fleet is changed in waves · `explain` why a
//! task does not run, with one of the reasons of `reason` · `states` how endpoints stand, in few bytes ·
//! `live_log` what handlers log while they run · `outcome` what a handler asks for · `message` what travels
//! through the broker · `digest` what makes two submissions the same · `answer` what makes two answers the
//! same, with `own_name` and `difference` what sets them apart · `token` who may use the API, `quota` how
//! much, and `audit` the log of what was done · `authority` names of hosts · `seal` the signer and the
//! receivers of a message, `order` what persons sign, `statement` the bytes that are signed, `batch` messages
//! that share a signature · `labels` what endpoints say of themselves and `selector` with `target` whom such
//! facts select · `likeness` what to say of a misspelt name · `json_check` which bytes are JSON that every
//! reader agrees on: what comes from outside passes it before it becomes a [`Json`].

#[macro_use]
mod numbered;
mod answer;
mod audit;
mod authority;
mod batch;
mod difference;
mod digest;
mod explain;
pub mod json_check;
pub mod json_text;
mod labels;
pub mod likeness;
mod live_log;
mod members;
mod message;
mod names;
mod order;
mod outcome;
mod own_name;
mod payload;
mod queue;
mod quota;
mod reason;
mod request;
mod rerun;
mod response;
pub mod rollout;
mod seal;
mod selector;
pub mod statement;
mod states;
mod target;
mod task;
mod throughput;
mod timestamp;
mod token;

pub use answer::{AnswerDigest, FinalAnswer, Ignored, IgnoredByType};
pub use audit::{AuditEntry, AuditHash, Broken, Chain, Deed, InvalidHash, anchors};
pub use authority::Authority;
pub use batch::{BatchPath, InvalidPath, TreeHash, tree};
pub use difference::{AnswerChange, Difference};
pub use digest::{digest, digest_of_target, payload_key, value_at};
pub use explain::{
    Group, Line, LinePlace, Owed, PresenceNow, RunLimits, Snapshot, Standing, Subscribed, Summary, Workers,
};
pub use labels::{BUILT_IN, InvalidLabel, Labels};
pub use live_log::{LiveLog, LogPiece};
pub use members::Members;
pub use message::{
    Audience, Command, Presence, PresenceState, RefusedType, Report, ReportEvent, TaskMessage, WireVersion,
    WorkPart,
};
pub use names::{
    EndpointName, GroupName, Identifier, InvalidName, RESERVED_TASK_TYPES, RequestToken, RolloutName, TaskId,
    TaskType, TokenName,
};
pub use order::{Order, OrderSignature, Ordered};
pub use outcome::{AttemptError, Outcome, errnr};
pub use payload::trimmed;
pub use queue::{MAX_PRIORITY, PayloadKey, Place, Queued, UniqueKey};
pub use quota::{Bucket, Flow, InvalidRate, Quota, Rate};
pub use reason::{Evidence, Next, Reason, ReasonCode};
pub use request::{
    Job, JobStatus, NewRequest, Request, RequestFault, RequestStatus, Step, When, answered_extras,
    faults_of_steps, read_extras, read_params, read_steps, too_many_extras,
};
pub use rerun::Fared;
pub use response::{LateAnswer, Response, ResponseEvent, ResponseStatus};
pub use seal::{
    Certificate, EnvironmentName, InvalidSealPart, KeyId, Purpose, Recipients, Revocations, SIGNATURE, Seal,
    SealFault, SealHead, Signature,
};
pub use selector::{Groups, InvalidSelector, MOST_REGEXES, Selector};
pub use states::{
    FleetState, InvalidChanges, PartState, StateChange, States, decode_changes, encode_changes, generation,
};
pub use target::{Attendance, Choice, Expect, LeftOut, Member, Target, fact, holds};
pub use task::{Counts, IllegalMove, NewTask, Task, TaskEvent, TaskStatus};
pub use throughput::{Grain, Throughput};
pub use timestamp::Timestamp;
pub use token::{InvalidScope, Scope, SecretHash, Token};

/// A JSON text that is passed on byte for byte and shared without copying.
///
/// It is kept as text on purpose: a customer's `1.0`, a number above 2^53 or the order of members reach the
/// handler as they were sent. Texts enter only through [`crate::domain::json`] or a decoder that has checked
/// them.
pub type Json = std::sync::Arc<serde_json::value::RawValue>;

/// The JSON text of a value.
///
/// # Panics
/// Never for types whose serialisation cannot fail, which is all that is passed here: maps with string keys.
pub fn json(value: &impl serde::Serialize) -> Json {
    let text = serde_json::value::to_raw_value(value).expect("a value with string keys serialises");
    Json::from(text)
}
