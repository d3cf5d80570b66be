//! Schedules.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{EndpointName, TaskType, Timestamp};

/// What is submitted at times.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ScheduleList {
    /// In the order of the configuration.
    pub schedules: Vec<Schedule>,
}

/// A task that is submitted at times.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    /// Its tasks are called so, with the time.
    pub name: String,
    /// Of which type they are.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub task_type: TaskType,
    /// The pattern of its times.
    pub cron: String,
    /// By the clocks of where.
    pub time_zone: String,
    /// What becomes of times that passed while no API process ran: `skip`, `once` or `all`.
    pub missed: String,
    /// The endpoints that perform the tasks; empty means all subscribed ones, or for a work queue one worker
    /// with room.
    #[schema(value_type = Vec<String>)]
    pub endpoints: Vec<EndpointName>,
    /// Times up to this have been seen to; absent until an API process has seen the schedule.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub done_until: Option<Timestamp>,
    /// When the next task is submitted; null while the schedule is paused, or if the pattern has no more
    /// times.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub next: Option<Timestamp>,
    /// The same by the clocks of the time zone.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub next_local: Option<String>,
    /// Since when no tasks are submitted.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub paused_at: Option<Timestamp>,
    /// Why the last task that could not be submitted was not. It stays when others are submitted.
    #[schema(required = true)]
    pub last_error: Option<String>,
    /// When that was.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub last_error_at: Option<Timestamp>,
}
