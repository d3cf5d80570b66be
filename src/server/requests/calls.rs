//! Makes the task of a job.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::Template;
use super::planner::{Jobs, Patience};
use crate::admission::{Admission, Asked, of_job};
use crate::config::{Config, RetryPolicy};
use crate::domain::{Json, NewTask, TaskType, Timestamp, json, likeness};
use crate::store::Call;

/// Makes the tasks of jobs, as the configuration says.
#[derive(Debug)]
pub struct Calls {
    config: Arc<Config>,
    admission: Arc<Admission>,
}

/// What a job is told.
#[derive(Serialize)]
struct Told<'a> {
    token: &'a str,
    action: &'a str,
    step: &'a str,
    job: &'a str,
    r#try: u32,
    params: &'a Json,
    extras: &'a BTreeMap<String, String>,
}

impl Calls {
    /// For the jobs of this configuration.
    pub const fn new(config: Arc<Config>, admission: Arc<Admission>) -> Self {
        Self { config, admission }
    }

    /// How often a job is tried.
    pub fn retry(&self, job: &str) -> RetryPolicy {
        self.config.requests.jobs.get(job).map_or(self.config.requests.retry, |policy| policy.retry)
    }

    /// The type of a job's tasks.
    ///
    /// # Errors
    /// Why nothing performs it, as a sentence.
    pub fn type_of(&self, job: &str) -> Result<TaskType, String> {
        let named = self
            .config
            .requests
            .jobs
            .get(job)
            .map(|given| given.task_type.clone())
            .or_else(|| job.parse().ok());
        named.filter(|name| self.config.policy(name).is_some()).ok_or_else(|| self.unknown(job))
    }

    fn unknown(&self, job: &str) -> String {
        let known = self
            .config
            .requests
            .jobs
            .keys()
            .map(String::as_str)
            .chain(self.config.task_types.iter().map(|policy| policy.name.as_str()));
        likeness::unknown("job", job, "configured", known).text
    }
}

impl Jobs for Calls {
    fn patience(&self, job: &str) -> Patience {
        let RetryPolicy { tries, backoff } = self.retry(job);
        let finish_within = self.config.requests.jobs.get(job).and_then(|policy| policy.finish_within);
        Patience { tries, backoff, finish_within }
    }

    fn task(&self, call: &Call<'_>, now: Timestamp) -> Result<NewTask, String> {
        let given = self.config.requests.jobs.get(call.job);
        let task_type = self.type_of(call.job)?;
        let policy = self.config.policy(&task_type).ok_or_else(|| self.unknown(call.job))?;
        let place = usize::try_from(call.step).unwrap_or(usize::MAX);
        let told = json(&Told {
            token: call.request.token.as_str(),
            action: &call.request.action,
            step: call.request.steps.get(place).map_or("", |step| &step.name),
            job: call.job,
            r#try: call.attempt,
            params: &call.request.params,
            extras: &call.request.extras,
        });
        let payload = match given.and_then(|given| given.payload.as_ref()) {
            Some(template) => Template::new(template)
                .fill(&told)
                .map_err(|fault| format!("no payload for job `{}`: {fault}", call.job))?,
            None => told,
        };
        let identifier = of_job(&call.request.token, call.step, call.job, call.attempt);
        let asked = Asked {
            endpoints: given.map(|given| given.endpoints.clone()).unwrap_or_default(),
            ..Asked::default()
        };
        let task = self.admission.task(policy, identifier, payload, asked, now).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            format!("task type `{task_type}` does not admit the payload: {}", faults.join("; "))
        })?;
        Ok(NewTask { followed: true, ..task })
    }

    fn life(&self) -> Duration {
        self.config.requests.expires_after
    }
}
