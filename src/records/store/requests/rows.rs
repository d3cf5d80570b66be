//! Rows of requests and jobs: how they are read.

use std::collections::BTreeMap;

use crate::domain::{
    Job, JobStatus, Request, RequestStatus, RequestToken, TaskId, Timestamp, json, read_extras, read_params,
    read_steps,
};
use crate::store::Result;
use crate::store::columns::{corrupt, name};
use crate::store::fault::Fault;
use crate::store::sql::{Row, selected};

selected! {
    /// What a [`Request`] is read from, of a table called `r`.
    RequestColumns<'r> {
        token: &'r str = "r.token",
        request_token: Option<String> = "r.request_token",
        action: String = "r.action",
        status: u8 = "r.status",
        error: Option<String> = "r.error",
        step: u32 = "r.step",
        steps: &'r str = "r.steps",
        params: String = "r.params",
        extras: Option<&'r str> = "r.extras",
        created: Timestamp = "r.created",
        completed: Option<Timestamp> = "r.completed",
        expires_at: Option<Timestamp> = "r.expires_at",
    }
}

/// What to select for [`request`].
pub(super) const REQUEST: &str = RequestColumns::LIST;

/// The request of a row. What a producer has inserted that cannot be carried out is its flaw.
pub(super) fn request(row: &Row) -> Result<Request, Fault> {
    let columns = RequestColumns::read(&mut row.cells())?;
    let token = name(columns.token, || columns.at("token"))?;
    Ok(columns.decode(token)?)
}

/// The request of a row for those who look at it: a producer may have inserted it under a name that is no
/// token.
pub(super) fn request_as_it_is(row: &Row) -> Result<Request, Fault> {
    let columns = RequestColumns::read(&mut row.cells())?;
    let token = RequestToken::stored(columns.token);
    Ok(columns.decode(token)?)
}

impl RequestColumns<'_> {
    fn at(&self, column: &str) -> String {
        format!("request {}, column {column}", self.token)
    }

    fn decode(self, token: RequestToken) -> Result<Request> {
        let status = RequestStatus::from_code(self.status)
            .ok_or_else(|| corrupt(self.at("status"), format!("{} is not a status", self.status)))?;
        let mut flaws = Vec::new();
        let steps = read_steps(self.steps).map_err(|told| flaws.extend(told)).unwrap_or_default();
        let params = read_params(self.params).map_err(|told| flaws.push(told)).unwrap_or_else(|()| json(&()));
        let extras = read_extras(self.extras).map_err(|told| flaws.push(told)).unwrap_or_default();
        Ok(Request {
            token,
            request_token: self.request_token,
            action: self.action,
            status,
            error: self.error,
            step: self.step,
            steps,
            params,
            extras,
            flaw: (!flaws.is_empty()).then(|| flaws.join("; ")),
            created: self.created,
            completed: self.completed,
            expires_at: self.expires_at,
        })
    }
}

selected! {
    /// What a [`Job`] is read from, of a table called `j`, after its request.
    JobColumns<'r> {
        id: i64 = "j.id",
        name: String = "j.name",
        step: u32 = "j.step",
        attempt: u32 = "j.try",
        last_attempt: Option<u32> = "j.last_try",
        status: u8 = "j.status",
        error: Option<String> = "j.error",
        extras: Option<&'r str> = "j.extras",
        created: Timestamp = "j.created",
        due_at: Option<Timestamp> = "j.due_at",
        completed: Option<Timestamp> = "j.completed",
        task_id: Option<TaskId> = "j.task_id",
    }
}

/// What to select for [`job`].
pub(super) fn job_of_request() -> String {
    format!("j.token, {}", JobColumns::LIST)
}

/// The job of a row, with the token of its request.
pub(super) fn job(row: &Row) -> Result<(RequestToken, Job), Fault> {
    let mut cells = row.cells();
    let token: &str = cells.take()?;
    let columns = JobColumns::read(&mut cells)?;
    let at = |column| format!("job {}, column {column}", columns.id);
    let status = JobStatus::from_code(columns.status);
    let extras =
        columns.extras.map(serde_json::from_str).transpose().map_err(|error| corrupt(at("extras"), error))?;
    let token = name(token, || at("token"))?;
    let status =
        status.ok_or_else(|| corrupt(at("status"), format!("{} is not a status", columns.status)))?;
    let job = Job {
        id: columns.id.unsigned_abs(),
        name: columns.name,
        step: columns.step,
        attempt: columns.attempt,
        last_attempt: columns.last_attempt,
        status,
        error: columns.error,
        extras,
        created: columns.created,
        due_at: columns.due_at,
        completed: columns.completed,
        task_id: columns.task_id,
    };
    Ok((token, job))
}

/// A job's number as its column has it.
pub(super) fn column_id(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// Extras as their column has them.
pub(super) fn extras_text(extras: &BTreeMap<String, String>) -> String {
    json(extras).get().to_owned()
}
