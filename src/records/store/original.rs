//! The tables of the original Tasker Worker in a database of its own, for the import. Only reads.
//!
//! Nobody knows how a database of somebody else declares its columns, so that texts and numbers are asked for
//! as such.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime};
use futures::FutureExt;

use super::fault::Fault;
use super::sql::{Conn, Row};
use super::{Operation, Result, Store};
use crate::domain::Timestamp;

/// A row of `requests`.
#[derive(Debug, Clone)]
pub struct OriginalRequest {
    /// Its name.
    pub token: String,
    /// The name that the client gave it.
    pub request_token: Option<String>,
    /// What it is for.
    pub action: String,
    /// A JSON text.
    pub params: Option<String>,
    /// A JSON text.
    pub extras: Option<String>,
    /// A JSON text.
    pub steps: String,
    /// The place of the step that runs.
    pub step: i64,
    /// A number for where it stands.
    pub status: i64,
    /// When it was recorded.
    pub created: OriginalTime,
    /// When it ended.
    pub completed: Option<OriginalTime>,
    /// Its jobs, oldest first.
    pub jobs: Vec<OriginalJob>,
}

/// A row of `jobs`.
#[derive(Debug, Clone)]
pub struct OriginalJob {
    /// Its number.
    pub id: i64,
    /// Which job of the step.
    pub name: String,
    /// The place of the step.
    pub step: i64,
    /// Why it did not complete.
    pub error: Option<String>,
    /// A number for where it stands.
    pub status: i64,
    /// When it was recorded.
    pub created: OriginalTime,
    /// When it ended.
    pub completed: Option<OriginalTime>,
}

/// A time as its column shows it: in UTC unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginalTime(pub String);

impl OriginalTime {
    /// The time, if it is one.
    pub fn read(&self) -> Option<Timestamp> {
        let plain = |form| NaiveDateTime::parse_from_str(&self.0, form).ok().map(|time| time.and_utc());
        let zoned = || DateTime::parse_from_rfc3339(&self.0).ok().map(|time| time.to_utc());
        plain("%Y-%m-%d %H:%M:%S%.f")
            .or_else(|| plain("%Y-%m-%dT%H:%M:%S%.f"))
            .or_else(zoned)
            .map(Timestamp::from)
    }
}

/// What changes when a row of the original does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginalState {
    /// Rows of `requests`.
    pub requests: u64,
    /// Rows of `jobs`.
    pub jobs: u64,
    /// When the newest row was recorded or ended.
    pub newest: Option<OriginalTime>,
    /// Sums of what rows change.
    sums: Vec<i64>,
}

impl Store {
    /// How the tables stand as a whole.
    pub fn original_state(&self) -> Operation<'_, OriginalState> {
        self.run(|conn| state(conn).boxed())
    }

    /// Requests by token, with their jobs, after a token.
    pub fn original_requests(&self, after: &str, limit: u32) -> Operation<'_, Vec<OriginalRequest>> {
        let after: Arc<str> = after.into();
        self.run(move |conn| page(conn, after.clone(), limit).boxed())
    }

    /// How many jobs have no request, and the token of one of them.
    pub fn original_orphans(&self) -> Operation<'_, (u64, Option<String>)> {
        self.run(|conn| orphans(conn).boxed())
    }
}

async fn state(conn: &mut Conn<'_>) -> Result<OriginalState, Fault> {
    let mut state = OriginalState { requests: 0, jobs: 0, newest: None, sums: Vec::new() };
    for table in ["requests", "jobs"] {
        let text = format!(
            "SELECT COUNT(*), CAST(COALESCE(SUM(status), 0) AS SIGNED), CAST(COALESCE(SUM(step), 0) AS SIGNED), COUNT(completed), \
             CAST(MAX(created) AS CHAR), CAST(MAX(completed) AS CHAR) FROM {table}"
        );
        let row = conn.sql(text).fetch_one().await?;
        *(if table == "requests" { &mut state.requests } else { &mut state.jobs }) = row.count(0)?;
        for at in 1..=3 {
            state.sums.push(row.get::<i64>(at)?);
        }
        for at in [4, 5] {
            let time = row.get::<Option<String>>(at)?.map(OriginalTime);
            if time.as_ref().and_then(OriginalTime::read) > state.newest.as_ref().and_then(OriginalTime::read)
            {
                state.newest = time;
            }
        }
    }
    Ok(state)
}

const REQUEST: &str = "token, request_token, action, CAST(params AS CHAR), CAST(extras AS CHAR), CAST(steps AS CHAR), \
                       CAST(step AS SIGNED), CAST(status AS SIGNED), CAST(created AS CHAR), CAST(completed AS CHAR)";
const JOB: &str = "token, CAST(id AS SIGNED), name, CAST(step AS SIGNED), error, CAST(status AS SIGNED), CAST(created AS CHAR), \
                   CAST(completed AS CHAR)";

async fn page(conn: &mut Conn<'_>, after: Arc<str>, limit: u32) -> Result<Vec<OriginalRequest>, Fault> {
    let text = format!("SELECT {REQUEST} FROM requests WHERE token > ? ORDER BY token LIMIT ?");
    let rows = conn.sql(text).bind(&*after).bind(limit).fetch_all().await?;
    let mut requests: Vec<OriginalRequest> = rows.iter().map(request).collect::<Result<_, _>>()?;
    if requests.is_empty() {
        return Ok(requests);
    }
    let tokens: Vec<&str> = requests.iter().map(|request| request.token.as_str()).collect();
    let text = format!("SELECT {JOB} FROM jobs WHERE token IN ");
    let rows = conn.sql(text).keys(&tokens).push(" ORDER BY id").fetch_all().await?;
    let mut jobs: HashMap<String, Vec<OriginalJob>> = HashMap::new();
    for row in &rows {
        let (token, job) = job(row)?;
        jobs.entry(token).or_default().push(job);
    }
    for request in &mut requests {
        request.jobs = jobs.remove(&request.token).unwrap_or_default();
    }
    Ok(requests)
}

fn request(row: &Row) -> Result<OriginalRequest, Fault> {
    Ok(OriginalRequest {
        token: row.get(0)?,
        request_token: row.get(1)?,
        action: row.get(2)?,
        params: row.get(3)?,
        extras: row.get(4)?,
        steps: row.get::<Option<String>>(5)?.unwrap_or_default(),
        step: row.get(6)?,
        status: row.get(7)?,
        created: OriginalTime(row.get::<Option<String>>(8)?.unwrap_or_default()),
        completed: row.get::<Option<String>>(9)?.map(OriginalTime),
        jobs: Vec::new(),
    })
}

fn job(row: &Row) -> Result<(String, OriginalJob), Fault> {
    let job = OriginalJob {
        id: row.get(1)?,
        name: row.get(2)?,
        step: row.get(3)?,
        error: row.get(4)?,
        status: row.get(5)?,
        created: OriginalTime(row.get::<Option<String>>(6)?.unwrap_or_default()),
        completed: row.get::<Option<String>>(7)?.map(OriginalTime),
    };
    Ok((row.get(0)?, job))
}

async fn orphans(conn: &mut Conn<'_>) -> Result<(u64, Option<String>), Fault> {
    let text = "SELECT COUNT(*), MIN(j.token) FROM jobs AS j WHERE NOT EXISTS (SELECT 1 FROM requests AS r WHERE r.token = j.token)";
    let row = conn.sql(text).fetch_one().await?;
    Ok((row.count(0)?, row.get(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_unless_they_say_otherwise() {
        let read = |text: &str| OriginalTime(text.to_owned()).read().map(|time| time.to_string());
        for text in [
            "2024-07-12 10:00:00",
            "2024-07-12T10:00:00",
            "2024-07-12 10:00:00.000000",
            "2024-07-12T12:00:00+02:00",
        ] {
            assert_eq!(read(text).as_deref(), Some("2024-07-12T10:00:00.000000Z"), "{text}");
        }
        assert_eq!(read("0000-00-00 00:00:00"), None);
    }
}
