//! Rows of responses: how they are read and written.

use uuid::Uuid;

use super::Result;
use super::batch::{self, padded_rows};
use super::columns::{self, attempts, corrupt, json, response_status};
use super::fault::Fault;
use super::ledger::RowChange;
use super::sql::{Cells, Conn, selected};
use crate::domain::{AnswerDigest, EndpointName, ReportEvent, Response, ResponseStatus, TaskId, Timestamp};

/// The statuses of open responses have lower codes, those of ended ones not: for conditions `+status < ?`.
pub(super) const ENDED: ResponseStatus = ResponseStatus::Finished;

/// A response that is not final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRow {
    /// Who must answer.
    pub endpoint: EndpointName,
    /// The endpoint's memory that has received the task; none until it has.
    pub home: Option<Uuid>,
    /// When the row last changed.
    pub last_modified_time: Timestamp,
    /// Whether the task was taken back from the endpoint: it must not be sent that again.
    pub withdrawn: bool,
}

selected! {
    /// What an [`OpenRow`] is read from, of a table called `r`.
    OpenColumns<'r> {
        endpoint: &'r str = "r.endpoint",
        home: Option<Uuid> = "r.home",
        last_modified_time: Timestamp = "r.last_modified_time",
        withdrawn: bool = "r.withdrawn_at IS NOT NULL",
    }
}

/// What to select for [`open_row`].
pub(super) const OPEN_ROW: &str = OpenColumns::LIST;

/// The open response that a row goes on with.
pub(super) fn open_row(cells: &mut Cells<'_>) -> Result<OpenRow, Fault> {
    let OpenColumns { endpoint, home, last_modified_time, withdrawn } = OpenColumns::read(cells)?;
    Ok(OpenRow { endpoint: columns::endpoint(endpoint)?, home, last_modified_time, withdrawn })
}

selected! {
    /// What a [`Response`] is read from, of a table called `r`. Whether its endpoint has vanished follows.
    ResponseColumns<'r> {
        endpoint: EndpointName = "r.endpoint",
        status: u8 = "r.status",
        errnr: Option<i32> = "r.errnr",
        errmsg: Option<String> = "r.errmsg",
        payload: Option<String> = "r.payload",
        attempt: u32 = "r.attempt",
        attempts: Option<&'r str> = "r.attempts",
        progress: Option<u8> = "r.progress",
        log: Option<String> = "r.log",
        start_time: Option<Timestamp> = "r.start_time",
        last_modified_time: Timestamp = "r.last_modified_time",
        late: Option<&'r str> = "r.late",
        answer: Option<AnswerDigest> = "r.answer",
    }
}

/// What to select for [`response`], before whether the endpoint has vanished.
pub(super) const RESPONSE: &str = ResponseColumns::LIST;

/// The response to a task out of a row.
pub(super) fn response(cells: &mut Cells<'_>, task_id: TaskId) -> Result<Response, Fault> {
    let columns = ResponseColumns::read(cells)?;
    let of = columns.endpoint.clone();
    let at = |column| format!("response of {of} to task {task_id}, column {column}");
    let late = |text| serde_json::from_str(text).map_err(|error| corrupt(at("late"), error));
    Ok(Response {
        task_id,
        endpoint: columns.endpoint,
        status: response_status(columns.status, || at("status"))?,
        errnr: columns.errnr,
        errmsg: columns.errmsg.unwrap_or_default(),
        payload: columns.payload.map(|text| json(text, || at("payload"))).transpose()?,
        attempt: columns.attempt,
        attempts: attempts(columns.attempts, || at("attempts"))?,
        progress: columns.progress,
        log: columns.log,
        start_time: columns.start_time,
        last_modified_time: columns.last_modified_time,
        vanished: cells.take()?,
        late: columns.late.map(late).transpose()?,
        answer: columns.answer,
    })
}

/// Writes the rows of those who must answer. Their tasks are locked, and have none of these rows yet.
pub(super) async fn expect(
    conn: &mut Conn<'_>,
    rows: &[(TaskId, &EndpointName)],
    now: Timestamp,
) -> Result<(), Fault> {
    for run in rows.chunks(batch::NARROW_ROWS) {
        let mut insert = conn.insert("response");
        for (id, endpoint) in padded_rows(run, |_| 0) {
            insert
                .row()
                .set("task_id", *id)
                .set("endpoint", *endpoint)
                .set("status", ResponseStatus::Expected);
            insert.set("last_modified_time", now);
        }
        // For the repeats that fill the statement up.
        insert.or_keep("status").await?;
    }
    Ok(())
}

/// A response that changes, and the digest of its answer.
pub(super) type Written<'a> = ((TaskId, &'a EndpointName), RowChange<'a>, Option<AnswerDigest>);

/// Writes responses whose tasks are locked, in the order of their keys.
pub(super) async fn write(conn: &mut Conn<'_>, rows: &[Written<'_>], now: Timestamp) -> Result<(), Fault> {
    for run in batch::runs(rows, batch::WIDE_ROWS, weight) {
        let mut insert = conn.insert("response");
        for ((task_id, endpoint), change, digest) in padded_rows(run, weight) {
            insert.row().set("task_id", *task_id).set("endpoint", *endpoint).set("status", change.row.status);
            match change.answer {
                Some(ReportEvent::Finished { errnr, errmsg, payload, attempt, attempts, log, .. }) => insert
                    .set("errnr", Some(*errnr))
                    .set("errmsg", Some(errmsg.as_str()))
                    .set("payload", payload.as_ref().map(|json| json.get()))
                    .set("attempt", *attempt)
                    .set("attempts", columns::list(attempts)?)
                    .set("log", log.as_deref()),
                _ => insert
                    .set("errnr", None::<i32>)
                    .set("errmsg", None::<&str>)
                    .set("payload", None::<&str>)
                    .set("attempt", 0u32)
                    .set("attempts", None::<String>)
                    .set("log", None::<&str>),
            };
            insert
                .set("progress", change.row.progress)
                .set("start_time", change.row.start_time)
                .set("last_modified_time", now)
                .set("home", change.row.home)
                .set("run", change.row.run)
                .set("answer", *digest);
        }
        insert.or_update(&["task_id", "endpoint"]).await?;
    }
    Ok(())
}

/// About how many bytes a response takes in a statement.
fn weight(row: &Written<'_>) -> usize {
    128 + row.0.1.as_str().len() + row.1.answer.map_or(0, batch::answer_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_ones_come_first() {
        assert!(
            ResponseStatus::ALL
                .into_iter()
                .all(|status| status.is_final() == (status.code() >= ENDED.code()))
        );
        assert_eq!(ENDED.code(), 2, "which the key of SQLite has as a literal, see `Dialect::owed_by`");
    }
}
