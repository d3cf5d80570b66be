//! What clients read of requests.

use std::sync::Arc;

use futures::FutureExt;

use super::rows::{REQUEST, job, job_of_request, request_as_it_is};
use crate::domain::{Job, Request, RequestStatus, RequestToken, Timestamp};
use crate::store::fault::Fault;
use crate::store::read::LIST_BYTES;
use crate::store::sql::{Conn, Row};
use crate::store::{Operation, Result, Store, StoreError};

/// Which requests.
#[derive(Debug, Clone, Default)]
pub struct RequestQuery {
    /// Only these states; empty means all.
    pub status: Vec<RequestStatus>,
    /// Only this one.
    pub named: Option<RequestToken>,
    /// Only those for this action.
    pub action: Option<String>,
    /// Only those recorded at or after this.
    pub since: Option<Timestamp>,
    /// Only those recorded before this.
    pub until: Option<Timestamp>,
    /// Only those that come after this one in the list: the cursor.
    pub before: Option<(Timestamp, RequestToken)>,
    /// At most this many, 1 to 1000.
    pub limit: u32,
}

impl Store {
    /// The request of this name.
    pub fn request(&self, token: &RequestToken) -> Operation<'_, Option<Request>> {
        let token = token.clone();
        self.run(move |conn| find(conn, token.clone()).boxed())
    }

    /// The token a request was submitted with; none for one without a token, of a row that was inserted, or
    /// when there is none.
    pub fn request_submitter(&self, token: &RequestToken) -> Operation<'_, Option<String>> {
        let token = token.clone();
        self.run(move |conn| submitter(conn, token.clone()).boxed())
    }

    /// All attempts of the jobs of a request, in the order of recording.
    pub fn jobs(&self, token: &RequestToken) -> Operation<'_, Vec<Job>> {
        let token = token.clone();
        self.run(move |conn| jobs(conn, token.clone()).boxed())
    }

    /// Requests, newest first, and whether more may follow. Rows with an unknown status are left out. At most
    /// `limit`, fewer where params are large.
    pub fn requests(&self, query: &RequestQuery) -> Operation<'_, (Vec<Request>, bool)> {
        let query = Arc::new(query.clone());
        self.run(move |conn| list(conn, query.clone()).boxed())
    }

    /// How many requests are in each state that is not final.
    pub fn open_requests(&self) -> Operation<'_, Vec<(RequestStatus, u64)>> {
        self.run(|conn| open(conn).boxed())
    }
}

pub(super) async fn find(conn: &mut Conn<'_>, token: RequestToken) -> Result<Option<Request>, Fault> {
    let mut select = conn.sql(format!("SELECT {REQUEST} FROM requests AS r WHERE r.token = ?"));
    select.bind(token.as_str()).fetch_optional().await?.as_ref().map(request_as_it_is).transpose()
}

async fn submitter(conn: &mut Conn<'_>, token: RequestToken) -> Result<Option<String>, Fault> {
    let found = conn
        .sql("SELECT submitted_by FROM requests WHERE token = ?")
        .bind(token.as_str())
        .fetch_optional()
        .await?;
    Ok(found.map(|row| row.get(0)).transpose()?.flatten())
}

pub(super) async fn jobs(conn: &mut Conn<'_>, token: RequestToken) -> Result<Vec<Job>, Fault> {
    let mut select =
        conn.sql(format!("SELECT {} FROM jobs AS j WHERE j.token = ? ORDER BY j.id", job_of_request()));
    select.bind(token.as_str()).fetch_all().await?.iter().map(|row| Ok(job(row)?.1)).collect()
}

async fn list(conn: &mut Conn<'_>, query: Arc<RequestQuery>) -> Result<(Vec<Request>, bool), Fault> {
    let states: Vec<Option<RequestStatus>> = match query.status.is_empty() {
        true => vec![None],
        // One read for each status: each is a walk along a key that stops at the limit.
        false => {
            RequestStatus::ALL.into_iter().filter(|status| query.status.contains(status)).map(Some).collect()
        }
    };
    let (mut requests, mut complete_from, mut more) = (Vec::new(), None, false);
    for status in states {
        let (those, full) = list_one(conn, &query, status).await?;
        let bytes: usize = those.iter().map(|request| request.params.get().len()).sum();
        more |= full || bytes >= LIST_BYTES;
        // Where one read has ended early, older requests of the others do not follow yet.
        complete_from = complete_from.max(those.last().filter(|_| bytes >= LIST_BYTES).map(place));
        requests.extend(those);
    }
    requests.retain(|request| complete_from.as_ref().is_none_or(|from| place(request) >= *from));
    requests.sort_by_key(|request| std::cmp::Reverse(place(request)));
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    more |= requests.len() > limit;
    requests.truncate(limit);
    Ok((requests, more))
}

/// Where a request stands in the list.
fn place(request: &Request) -> (Timestamp, RequestToken) {
    (request.created, request.token.clone())
}

/// Requests of a status, and whether as many rows were read as may be.
async fn list_one(
    conn: &mut Conn<'_>,
    query: &RequestQuery,
    status: Option<RequestStatus>,
) -> Result<(Vec<Request>, bool), Fault> {
    let index = match (&query.named, &query.action, status) {
        // The primary key.
        (Some(_), ..) => None,
        (None, Some(_), _) => Some("requests_action"),
        (None, None, Some(_)) => Some("requests_state"),
        (None, None, None) => Some("requests_list"),
    };
    let index = index.map_or_else(String::new, |index| conn.dialect().index(index).to_string());
    let mut select = conn.sql(format!("SELECT {REQUEST} FROM requests AS r {index} WHERE 1 = 1"));
    if let Some(token) = &query.named {
        select.push(" AND r.token = ?").bind(token.as_str());
    }
    if let Some(action) = &query.action {
        select.push(" AND r.action = ?").bind(action.as_str());
    }
    if let Some(status) = status {
        select.push(" AND r.status = ?").bind(status.code());
    }
    if let Some(since) = query.since {
        select.push(" AND r.created >= ?").bind(since);
    }
    if let Some(until) = query.until {
        select.push(" AND r.created < ?").bind(until);
    }
    if let Some((created, token)) = &query.before {
        select
            .push(" AND r.created <= ? AND (r.created < ? OR r.token < ?)")
            .bind(*created)
            .bind(*created)
            .bind(token.as_str());
    }
    select.push(" ORDER BY r.created DESC, r.token DESC LIMIT ?").bind(query.limit);
    let read = |row: &Row| match request_as_it_is(row) {
        Ok(request) => {
            let bytes = request.params.get().len();
            Ok((Some(request), bytes))
        }
        // A producer has inserted the row with an unknown status.
        Err(Fault::Told(StoreError::Corrupt { .. })) => Ok((None, 0)),
        Err(fault) => Err(fault),
    };
    let rows = select.fetch_within(LIST_BYTES, read).await?;
    let full = rows.len() >= usize::try_from(query.limit).unwrap_or(usize::MAX);
    Ok((rows.into_iter().flatten().collect(), full))
}

async fn open(conn: &mut Conn<'_>) -> Result<Vec<(RequestStatus, u64)>, Fault> {
    let mut counts = Vec::new();
    let index = conn.dialect().index("requests_due");
    for status in RequestStatus::ALL.into_iter().filter(|status| !status.is_final()) {
        let mut count = conn.sql(format!("SELECT COUNT(*) FROM requests {index} WHERE status = ?"));
        counts.push((status, count.bind(status.code()).fetch_one().await?.count(0)?));
    }
    Ok(counts)
}
