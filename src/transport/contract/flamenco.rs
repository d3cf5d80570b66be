//! A render farm, for those who look at it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

use crate::domain::Timestamp;
use crate::farm::{self, Command, FailedBy, JobTally, ObjectId, TaskStatus, TaskSummary, Timing};

/// A page of jobs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FlamencoJobPage {
    /// The newest first.
    pub jobs: Vec<FlamencoJob>,
    /// What to pass as `cursor` for the next page; null when this is the last one.
    #[schema(value_type = Option<String>, required = true)]
    pub next_cursor: Option<ObjectId>,
}

/// A job, by the states of its tasks.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FlamencoJob {
    /// Its id.
    #[schema(value_type = String)]
    pub id: ObjectId,
    /// What kind of job it is.
    pub job_type: String,
    /// Higher first.
    pub priority: i32,
    /// When the Server made it, to the second: its id says so.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// How many of its tasks the manager has.
    pub total: u64,
    /// The same by state; states that no task has are left out.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub tasks: BTreeMap<TaskStatus, u64>,
}

impl From<JobTally> for FlamencoJob {
    fn from(JobTally { job: id, job_type, priority, tasks }: JobTally) -> Self {
        let total = tasks.values().sum();
        Self { id, job_type, priority, created_at: id.made_at(), total, tasks }
    }
}

/// A page of tasks.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FlamencoTaskPage {
    /// In the order that was asked for.
    pub tasks: Vec<FlamencoTask>,
    /// What to pass as `cursor` for the next page; null when this is the last one.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// A task of a job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FlamencoTask {
    /// Its id.
    #[schema(value_type = String)]
    pub id: ObjectId,
    /// What people call it.
    pub name: String,
    /// What it is; `soft-failed` waits for another worker.
    #[schema(schema_with = task_status)]
    pub status: TaskStatus,
    /// The job that it is part of.
    #[schema(value_type = Option<String>, required = true)]
    pub job: Option<ObjectId>,
    /// What kind of job that is.
    pub job_type: String,
    /// The priority of the job; higher first.
    pub job_priority: i32,
    /// Its own, within the job's; higher first.
    pub priority: i32,
    /// What kind of task it is.
    pub task_type: String,
    /// The nickname of the worker that has it, or had it last.
    pub worker: String,
    /// The id of that worker.
    #[schema(value_type = Option<String>, required = true)]
    pub worker_id: Option<ObjectId>,
    /// The last that was said of it.
    pub activity: String,
    /// Address and nickname of each worker on which it failed.
    pub failed_by: Vec<String>,
    /// When its worker last showed that it has it.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub last_worker_ping: Option<Timestamp>,
    /// When it last changed.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub last_updated: Option<Timestamp>,
}

/// A task with what it does and has said.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FlamencoTaskDetail {
    /// The task.
    #[serde(flatten)]
    pub task: FlamencoTask,
    /// Tasks that must be completed before.
    #[schema(value_type = Vec<String>)]
    pub parents: Vec<ObjectId>,
    /// What it does, step by step.
    #[schema(value_type = Vec<Object>)]
    pub commands: Vec<Command>,
    /// Seconds that each of its phases took, by name; null as long as its worker has not said.
    #[schema(value_type = Option<BTreeMap<String, f64>>, required = true)]
    pub timing: Option<Timing>,
    /// The last ten lines of its log. All of it is at the manager: `/logfile/JOB/TASK`.
    #[schema(required = true)]
    pub log_tail: Option<String>,
}

impl FlamencoTaskDetail {
    /// A task with the end of its log.
    pub fn new(mut task: farm::Task, log_tail: Option<String>) -> Self {
        let (parents, commands, timing) =
            (std::mem::take(&mut task.parents), std::mem::take(&mut task.commands), task.timing.take());
        Self { task: TaskSummary::from(task).into(), parents, commands, timing, log_tail }
    }
}

/// The states of tasks in the description of the interface.
fn task_status() -> Object {
    let names = TaskStatus::ALL.map(TaskStatus::as_str);
    ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).enum_values(Some(names)).build()
}

impl From<TaskSummary> for FlamencoTask {
    fn from(task: TaskSummary) -> Self {
        Self {
            id: task.id,
            name: task.name,
            status: task.status,
            job: task.job,
            job_type: task.job_type,
            job_priority: task.job_priority,
            priority: task.priority,
            task_type: task.task_type,
            worker: task.worker,
            worker_id: task.worker_id,
            activity: task.activity,
            failed_by: task.failed_by.into_iter().map(|FailedBy { identifier, .. }| identifier).collect(),
            last_worker_ping: task.last_worker_ping,
            last_updated: task.last_updated,
        }
    }
}

/// The workers of a farm.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FlamencoWorkerList {
    /// All of them, by nickname.
    pub workers: Vec<FlamencoWorker>,
}

/// A worker.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FlamencoWorker {
    /// Its id.
    #[schema(value_type = String)]
    pub id: ObjectId,
    /// What people call it.
    pub nickname: String,
    /// Its operating system.
    pub platform: String,
    /// Where it was last seen.
    pub address: String,
    /// Which program it is.
    pub software: String,
    /// `starting`, `awake`, `testing`, `asleep`, `error`, `timeout` or `offline`; empty until it has signed on.
    pub status: String,
    /// What it is to become: `awake`, `asleep` or `shutdown`.
    #[schema(required = true)]
    pub status_requested: Option<String>,
    /// Whether it may finish its task first.
    pub lazy: bool,
    /// The types of tasks that it performs.
    pub task_types: Vec<String>,
    /// The task that it has, or had last.
    #[schema(value_type = Option<String>, required = true)]
    pub current_task: Option<ObjectId>,
    /// The job of that task.
    #[schema(value_type = Option<String>, required = true)]
    pub current_job: Option<ObjectId>,
    /// What it last said that this task is.
    pub current_task_status: String,
    /// When it was last heard of.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub last_activity: Option<Timestamp>,
}

impl From<farm::Worker> for FlamencoWorker {
    fn from(worker: farm::Worker) -> Self {
        Self {
            id: worker.id,
            nickname: worker.nickname,
            platform: worker.platform,
            address: worker.address,
            software: worker.software,
            status: worker.status.as_str().to_owned(),
            status_requested: worker.requested.map(|request| request.as_str().to_owned()),
            lazy: worker.lazy,
            task_types: worker.task_types,
            current_task: worker.current_task,
            current_job: worker.current_job,
            current_task_status: worker.current_task_status,
            last_activity: worker.last_activity,
        }
    }
}
