//! Canceling requests, and beginning their failed jobs anew.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::advance::end_jobs;
use super::read;
use super::rows::{REQUEST, request};
use crate::domain::{Job, JobStatus, Request, RequestStatus, RequestToken, Timestamp};
use crate::store::fault::Fault;
use crate::store::settle::CancelOutcome;
use crate::store::sql::Conn;
use crate::store::tasks::all_of;
use crate::store::{Operation, Result, Store};

/// What canceling a request did.
#[derive(Debug)]
pub struct CanceledRequest {
    /// The request afterwards.
    pub request: Request,
    /// Whether this call ended it; false for a repeat.
    pub changed: bool,
    /// Whether it had ended otherwise, so that there was nothing to cancel.
    pub refused: bool,
    /// The tasks of its jobs that this call has canceled, with the endpoints to be told.
    pub stopped: Vec<CancelOutcome>,
}

/// What beginning failed jobs anew did.
#[derive(Debug)]
pub enum Begun {
    /// So many jobs run again.
    Jobs(Request, u32),
    /// The request has not failed, so there is nothing to begin anew.
    NotFailed(Request),
    /// It has failed, and none of its jobs has: it cannot be carried out as it is.
    NoJob(Request),
}

impl Store {
    /// Cancels a request: jobs that have not begun never will, the tasks of the others are canceled. `None`
    /// when there is none.
    pub fn cancel_request(
        &self,
        token: &RequestToken,
        now: Timestamp,
        retention: Duration,
    ) -> Operation<'_, Option<CanceledRequest>> {
        let token = token.clone();
        self.transact(move |conn| cancel(conn, token.clone(), now, retention).boxed())
    }

    /// Begins the failed and canceled jobs of the first step that has some anew, each with `tries` attempts,
    /// and what follows them. The request gets until `expires_at`. `None` when there is none.
    pub fn begin_anew(
        &self,
        token: &RequestToken,
        tries: &[(String, u32)],
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Operation<'_, Option<Begun>> {
        let (token, tries): (_, Arc<[(String, u32)]>) = (token.clone(), tries.into());
        self.transact(move |conn| begin_anew(conn, token.clone(), tries.clone(), now, expires_at).boxed())
    }
}

/// The request, locked, and its jobs.
async fn locked(conn: &mut Conn<'_>, token: &RequestToken) -> Result<Option<(Request, Vec<Job>)>, Fault> {
    let lock = conn.dialect().locked();
    let mut select = conn.sql(format!("SELECT {REQUEST} FROM requests AS r WHERE r.token = ? {lock}"));
    let Some(row) = select.bind(token.as_str()).fetch_optional().await? else { return Ok(None) };
    let request = request(&row)?;
    Ok(Some((request, read::jobs(conn, token.clone()).await?)))
}

async fn cancel(
    conn: &mut Conn<'_>,
    token: RequestToken,
    now: Timestamp,
    retention: Duration,
) -> Result<Option<CanceledRequest>, Fault> {
    let Some((mut request, _)) = locked(conn, &token).await? else { return Ok(None) };
    if request.status.is_final() {
        let refused = request.status != RequestStatus::Canceled;
        return Ok(Some(CanceledRequest { request, changed: false, refused, stopped: Vec::new() }));
    }
    let stopped = end_jobs(conn, token.as_str(), now, retention).await?;
    let mut end = conn
        .sql("UPDATE requests SET status = ?, completed = ?, due_at = NULL WHERE status = ? AND token = ?");
    let ended = end
        .bind(RequestStatus::Canceled.code())
        .bind(now)
        .bind(request.status.code())
        .bind(token.as_str())
        .execute()
        .await?;
    all_of(ended, &[&token], "the request has moved meanwhile")?;
    (request.status, request.completed) = (RequestStatus::Canceled, Some(now));
    Ok(Some(CanceledRequest { request, changed: true, refused: false, stopped }))
}

async fn begin_anew(
    conn: &mut Conn<'_>,
    token: RequestToken,
    tries: Arc<[(String, u32)]>,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<Option<Begun>, Fault> {
    let Some((mut request, jobs)) = locked(conn, &token).await? else { return Ok(None) };
    if request.status != RequestStatus::Failed {
        return Ok(Some(Begun::NotFailed(request)));
    }
    let again = unsuccessful(&jobs);
    let Some(step) = again.first().map(|job| job.step) else { return Ok(Some(Begun::NoJob(request))) };
    let mut insert = conn.insert("jobs");
    for job in &again {
        let tries = tries.iter().find(|(name, _)| *name == job.name).map_or(1, |(_, tries)| *tries);
        insert
            .row()
            .set("name", job.name.as_str())
            .set("token", token.as_str())
            .set("step", job.step)
            .set("status", JobStatus::New.code())
            .set("created", now)
            .set("try", job.attempt + 1)
            .set("last_try", job.attempt.saturating_add(tries));
    }
    insert.all().await?;
    let mut begin = conn.sql(
        "UPDATE requests SET status = ?, step = ?, error = NULL, completed = NULL, due_at = ?, expires_at = ?, revision = revision + 1 \
         WHERE status = ? AND token = ?",
    );
    begin.bind(RequestStatus::Inprogress.code()).bind(step).bind(now).bind(expires_at);
    let begun = begin.bind(RequestStatus::Failed.code()).bind(token.as_str()).execute().await?;
    all_of(begun, &[&token], "the request has moved meanwhile")?;
    let count = u32::try_from(again.len()).unwrap_or(u32::MAX);
    (request.status, request.step, request.error, request.completed) =
        (RequestStatus::Inprogress, step, None, None);
    request.expires_at = Some(expires_at);
    Ok(Some(Begun::Jobs(request, count)))
}

/// The last attempts of the jobs that did not complete, of the first step that has some.
fn unsuccessful(jobs: &[Job]) -> Vec<&Job> {
    let mut last = std::collections::BTreeMap::new();
    for job in jobs {
        last.insert((job.step, &job.name), job);
    }
    let bad = |job: &&Job| matches!(job.status, JobStatus::Failed | JobStatus::Canceled);
    let first = last.values().copied().filter(bad).map(|job| job.step).min();
    last.into_values().filter(bad).filter(|job| Some(job.step) == first).collect()
}
