//! Whether tasks, requests and rollouts add up.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{Identifier, RolloutName, TaskId};

/// The sums of some tasks.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Census {
    /// Tasks that were accepted.
    pub accepted: u64,
    /// Of these, those whose responses add up and that have ended, or are in time and looked after.
    pub accounted: u64,
    /// The others: tasks that are, or have, less than they should.
    pub missing: u64,
    /// Responses of all of them.
    pub expected: u64,
    /// Responses that are not final yet.
    pub open: u64,
    /// Responses of which a second execution is known, or whose attempts are not numbered without a gap.
    pub double: u64,
    /// Runs of handlers that began, the interrupted ones included. Of a response that has not finished, such as
    /// one that was canceled, a run counts once its handler has logged a line or told its progress.
    #[serde(default)]
    #[schema(required = true)]
    pub executions: u64,
    /// Of these, those that a stop or the end of a process interrupted.
    #[serde(default)]
    #[schema(required = true)]
    pub interrupted: u64,
    /// Responses with more attempts than the type's policy allows.
    #[serde(default)]
    #[schema(required = true)]
    pub excess: u64,
    /// What is wrong; the first 20 of a page.
    pub flaws: Vec<Flaw>,
    /// Where to go on; null at the end.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// What is wrong with a task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Flaw {
    /// The task.
    #[schema(value_type = uuid::Uuid)]
    pub id: TaskId,
    /// The customer's name for it.
    #[schema(value_type = String)]
    pub identifier: Identifier,
    /// For people.
    pub reason: String,
}

/// The sums of some requests.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RequestCensus {
    /// Requests that were recorded or inserted.
    pub accepted: u64,
    /// Of these, those that add up and have ended, or are in time and looked after.
    pub accounted: u64,
    /// The others: nobody moves them on, or their jobs and tasks do not fit together.
    pub missing: u64,
    /// Requests that have not ended.
    pub open: u64,
    /// Attempts of jobs of all of them.
    pub attempts: u64,
    /// What is wrong; the first 20 of a page.
    pub flaws: Vec<RequestFlaw>,
    /// Where to go on; null at the end.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// What is wrong with a request.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RequestFlaw {
    /// The token of the request, as its row has it.
    pub token: String,
    /// For people.
    pub reason: String,
}

/// The sums of some rollouts.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RolloutCensus {
    /// Rollouts that were recorded.
    pub accepted: u64,
    /// Of these, those that add up.
    pub accounted: u64,
    /// The others: nobody moves them on, they hold endpoints after their end, or a wave counts its endpoints
    /// wrong.
    pub missing: u64,
    /// Rollouts that have not ended.
    pub open: u64,
    /// What is wrong; the first 20 of a page.
    pub flaws: Vec<RolloutFlaw>,
    /// Where to go on; null at the end.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// What is wrong with a rollout.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RolloutFlaw {
    /// The identifier of the rollout.
    pub rollout: RolloutName,
    /// For people.
    pub reason: String,
}
