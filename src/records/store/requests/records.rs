//! The state of a request as it is read under its lock, and the changes that are written.

use std::collections::{BTreeMap, HashMap};

use crate::domain::{
    EndpointName, Job, JobStatus, Json, NewTask, Request, RequestStatus, RequestToken, TaskId, TaskStatus,
    Timestamp,
};
use crate::store::settle::CancelOutcome;

/// A request that is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRequest {
    /// Its name as the row has it, which may be no token if a producer has inserted the row. None for the ended
    /// tasks of requests that are gone.
    pub token: Option<String>,
    /// Tasks of its jobs that have ended and were not looked at yet.
    pub ended: Vec<TaskId>,
}

/// What is known of a request while its row is locked.
#[derive(Debug, Clone)]
pub struct RequestView {
    /// The request.
    pub request: Request,
    /// The attempts of the jobs of the step that runs and of later ones, in the order of their numbers.
    pub jobs: Vec<Job>,
    /// How the tasks stand of those attempts that are in progress. A task that is not there was forgotten.
    pub standing: HashMap<TaskId, Standing>,
}

/// How the task of a job stands.
#[derive(Debug, Clone)]
pub enum Standing {
    /// It waits in its queue: nobody has it.
    Waits,
    /// It goes on.
    Runs {
        /// Some of the endpoints that have not received it though its deadline is over, and how many these
        /// are in all.
        missing: (Vec<EndpointName>, u32),
    },
    /// It has ended.
    Ended {
        /// How.
        status: TaskStatus,
        /// When.
        at: Option<Timestamp>,
        /// How many endpoints did not finish.
        unfinished: u32,
        /// How many endpoints have failed: also those whose answer was not read.
        failed: u32,
        /// What they have answered, by name; the first 16 MiB of it.
        answers: Vec<Answer>,
    },
}

impl Standing {
    /// When the task ended, if it has.
    pub const fn ended_at(&self) -> Option<Timestamp> {
        match self {
            Self::Ended { at, .. } => *at,
            Self::Waits | Self::Runs { .. } => None,
        }
    }
}

/// What an endpoint has answered, or that it has not.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Who.
    pub endpoint: EndpointName,
    /// Its error number; none when it did not finish.
    pub errnr: Option<i32>,
    /// Its error text.
    pub errmsg: String,
    /// Its answer.
    pub payload: Option<Json>,
}

/// What is done to a request. It follows from a [`RequestView`] alone.
#[derive(Debug, Clone)]
pub struct RequestChange {
    /// What it becomes.
    pub status: RequestStatus,
    /// Why it cannot complete.
    pub error: Option<String>,
    /// The step that runs.
    pub step: u32,
    /// Its extras, where they change.
    pub extras: Option<BTreeMap<String, String>>,
    /// When it ended.
    pub completed: Option<Timestamp>,
    /// When to look at it again without being told; at the latest when it is given up.
    pub due_at: Option<Timestamp>,
    /// When it is given up.
    pub expires_at: Timestamp,
    /// Attempts that change.
    pub jobs: Vec<JobChange>,
    /// Attempts to be recorded.
    pub new_jobs: Vec<NewJob>,
    /// Tasks to be canceled that nobody has yet: when somebody has, it is decided anew.
    pub withdrawn: Vec<TaskId>,
    /// Tasks to be canceled wherever they are.
    pub canceled: Vec<TaskId>,
}

/// What becomes of an attempt.
#[derive(Debug, Clone)]
pub struct JobChange {
    /// Which one.
    pub id: u64,
    /// The state it was read in.
    pub from: JobStatus,
    /// What it becomes.
    pub to: JobStatus,
    /// Why it did not complete.
    pub error: Option<String>,
    /// What it adds to the extras.
    pub extras: Option<BTreeMap<String, String>>,
    /// The task that performs it from now on.
    pub task: Option<Box<NewTask>>,
}

/// An attempt to be recorded.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// See [`Job`].
    pub name: String,
    /// See [`Job`].
    pub step: u32,
    /// See [`Job`].
    pub attempt: u32,
    /// See [`Job`].
    pub last_attempt: Option<u32>,
    /// See [`Job`].
    pub status: JobStatus,
    /// See [`Job`].
    pub error: Option<String>,
    /// See [`Job`].
    pub due_at: Option<Timestamp>,
    /// The task that performs it.
    pub task: Option<Box<NewTask>>,
}

/// What a job is told.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// The request, with the extras of all jobs before.
    pub request: &'a Request,
    /// The place of the step.
    pub step: u32,
    /// The name of the job.
    pub job: &'a str,
    /// Which attempt it is.
    pub attempt: u32,
}

/// What advancing requests has done.
#[derive(Debug, Default)]
pub struct Advanced {
    /// How many requests were looked at; others had the rest.
    pub looked_at: usize,
    /// When the last task of each step ended that is over now.
    pub steps: Vec<Timestamp>,
    /// Requests whose status changed, with the status they have now.
    pub moved: Vec<(RequestToken, RequestStatus)>,
    /// Attempts that have ended, by their status.
    pub jobs: Vec<(JobStatus, u64)>,
    /// Tasks that were recorded, each with the worker that has been given it.
    pub tasks: Vec<(NewTask, Option<EndpointName>)>,
    /// Tasks that were canceled, with the endpoints to be told.
    pub stopped: Vec<CancelOutcome>,
    /// Tasks of earlier steps and jobs whose answers were too long to be read now: look again at once.
    pub more: bool,
}
