//! Rows of responses: how they are read and written.

use uuid::Uuid;

use super::columns::{self, attempts, corrupt, json, response_status};
use super::fault::Fault;
use super::sql::{Cells, selected};
use super::{OpenRow, Result};
use crate::domain::{EndpointName, Response, TaskId, Timestamp};

selected! {
    /// What an [`OpenRow`] is read from, of a table called `r`.
    OpenColumns<'r> {
        endpoint: &'r str = "r.endpoint",
        home: Option<Uuid> = "r.home",
        last_modified_time: Timestamp = "r.last_modified_time",
    }
}

/// What to select for [`open_row`].
pub(super) const OPEN_ROW: &str = OpenColumns::LIST;

/// The open response that a row goes on with.
pub(super) fn open_row(cells: &mut Cells<'_>) -> Result<OpenRow, Fault> {
    let OpenColumns { endpoint, home, last_modified_time } = OpenColumns::read(cells)?;
    Ok(OpenRow { endpoint: columns::endpoint(endpoint)?, home, last_modified_time })
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
    })
}
