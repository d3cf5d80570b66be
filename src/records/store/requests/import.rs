//! Requests of another ledger, with their jobs, as they are.

use std::sync::Arc;

use futures::FutureExt;

use super::rows::extras_text;
use crate::domain::{Job, Request, RequestStatus, RequestToken, Timestamp, json};
use crate::store::batch::{self, NARROW_ROWS};
use crate::store::fault::Fault;
use crate::store::sql::Conn;
use crate::store::{Operation, Result, Store};

impl Store {
    /// Records requests with their jobs as they stand; those whose token is there are left as they are. One
    /// that is in progress is looked at from `now` on. Answers how many were recorded.
    pub fn import_requests(&self, requests: Vec<(Request, Vec<Job>)>, now: Timestamp) -> Operation<'_, u64> {
        let requests: Arc<[(Request, Vec<Job>)]> = requests.into();
        self.transact(move |conn| import(conn, requests.clone(), now).boxed())
    }

    /// How many of these requests there are, and how many jobs they have.
    pub fn count_requests(&self, tokens: &[RequestToken]) -> Operation<'_, (u64, u64)> {
        let tokens: Arc<[RequestToken]> = tokens.into();
        self.run(move |conn| count(conn, tokens.clone()).boxed())
    }
}

async fn import(
    conn: &mut Conn<'_>,
    requests: Arc<[(Request, Vec<Job>)]>,
    now: Timestamp,
) -> Result<u64, Fault> {
    let mut new = 0;
    for (request, jobs) in requests.iter() {
        let due_at = (request.status == RequestStatus::Inprogress).then_some(now);
        let mut insert = conn.insert("requests");
        insert
            .row()
            .set("token", request.token.as_str())
            .set("request_token", request.request_token.as_deref())
            .set("action", request.action.as_str())
            .set("params", request.params.get())
            .set("extras", extras_text(&request.extras))
            .set("steps", json(&request.steps).get())
            .set("step", request.step)
            .set("status", request.status.code())
            .set("created", request.created)
            .set("completed", request.completed)
            .set("error", request.error.as_deref())
            .set("due_at", due_at);
        if insert.if_new().await? == 0 {
            continue;
        }
        new += 1;
        let length = |job: &Job| job.name.len() + job.error.as_ref().map_or(0, String::len) + 200;
        for run in batch::runs(jobs, NARROW_ROWS, length) {
            let mut insert = conn.insert("jobs");
            for job in run {
                insert
                    .row()
                    .set("name", job.name.as_str())
                    .set("token", request.token.as_str())
                    .set("step", job.step)
                    .set("error", job.error.as_deref())
                    .set("status", job.status.code())
                    .set("created", job.created)
                    .set("completed", job.completed)
                    .set("try", job.attempt);
            }
            insert.if_new().await?;
        }
    }
    Ok(new)
}

async fn count(conn: &mut Conn<'_>, tokens: Arc<[RequestToken]>) -> Result<(u64, u64), Fault> {
    let mut sums = (0, 0);
    for part in tokens.chunks(batch::KEYS) {
        let keys: Vec<&str> = part.iter().map(RequestToken::as_str).collect();
        sums.0 += conn
            .sql("SELECT COUNT(*) FROM requests WHERE token IN ")
            .keys(&keys)
            .fetch_one()
            .await?
            .count(0)?;
        sums.1 +=
            conn.sql("SELECT COUNT(*) FROM jobs WHERE token IN ").keys(&keys).fetch_one().await?.count(0)?;
    }
    Ok(sums)
}
