//! The lines that handlers log while they run: the end of them for each response, in a table of its own,
//! since a row of `response` is read by the thousand.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::{FutureExt, TryFutureExt};
use uuid::Uuid;

use super::batch::{self, padded_rows, sorted};
use super::fault::Fault;
use super::responses::ENDED;
use super::sql::{Conn, Row};
use super::tasks::lock;
use super::{Operation, Result, Store, without_statements};
use crate::domain::{EndpointName, LiveLog, LogPiece, TaskId, Timestamp};

/// Some lines of an endpoint's handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedLines {
    /// The task.
    pub task_id: TaskId,
    /// Whose handler.
    pub endpoint: EndpointName,
    /// The memory that reports them, see [`crate::domain::Presence::home`].
    pub home: Uuid,
    /// The lines.
    pub piece: LogPiece,
}

/// What an endpoint's handler has logged for a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseLog {
    /// Whose handler.
    pub endpoint: EndpointName,
    /// The end of it.
    pub log: LiveLog,
    /// When it last changed.
    pub time: Timestamp,
}

/// Where a list of logs goes on: behind the one that changed then, of this endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPlace {
    /// When it changed.
    pub time: Timestamp,
    /// Whose it is.
    pub endpoint: EndpointName,
}

/// Bytes of logs that are read at once, beyond the last of them.
const BYTES: usize = 2 << 20;

impl Store {
    /// Adds lines that handlers have logged, as far as their responses are there and are those of the memory
    /// that reports them; answers how many of the pieces had something new.
    pub fn append_logs(&self, lines: &[LoggedLines], now: Timestamp) -> Operation<'_, u64> {
        if lines.is_empty() {
            return without_statements(Ok(0));
        }
        let lines: Arc<[LoggedLines]> = lines.into();
        self.transact(move |conn| append(conn, lines.clone(), now).boxed())
    }

    /// What the handler of an endpoint has logged for a task; none where it has not logged, or is not
    /// expected.
    pub fn log_of(&self, id: TaskId, endpoint: &EndpointName) -> Operation<'_, Option<ResponseLog>> {
        let endpoint = endpoint.clone();
        self.run(move |conn| logs(conn, id, Some(endpoint.clone()), None, 1).boxed())
            .map_ok(|mut logs| logs.pop())
            .boxed()
    }

    /// What handlers have logged for a task, in the order of their last lines, after a place. At most
    /// `limit`, fewer where they are long.
    pub fn logs(&self, id: TaskId, after: Option<LogPlace>, limit: u32) -> Operation<'_, Vec<ResponseLog>> {
        self.run(move |conn| logs(conn, id, None, after.clone(), limit).boxed())
    }

    /// When an endpoint's part in a task has ended; none while it has not, or where it has none.
    pub fn ended_at(&self, id: TaskId, endpoint: &EndpointName) -> Operation<'_, Option<Timestamp>> {
        let endpoint = endpoint.clone();
        self.run(move |conn| ended_at(conn, id, endpoint.clone()).boxed())
    }
}

async fn ended_at(
    conn: &mut Conn<'_>,
    id: TaskId,
    endpoint: EndpointName,
) -> Result<Option<Timestamp>, Fault> {
    let mut select = conn
        .sql("SELECT last_modified_time FROM response WHERE task_id = ? AND endpoint = ? AND +status >= ?");
    let found = select.bind(id).bind(&endpoint).bind(ENDED).fetch_optional().await?;
    found.map(|row| row.get(0)).transpose()
}

async fn append(conn: &mut Conn<'_>, lines: Arc<[LoggedLines]>, now: Timestamp) -> Result<u64, Fault> {
    let ids: Vec<TaskId> = lines.iter().map(|line| line.task_id).collect();
    // The lock of the task's row covers its logs. Lines of a task that is forgotten meanwhile are not kept:
    // nothing would remove them.
    let tasks = lock(conn, &sorted(&ids)).await?;
    let mut by_key: BTreeMap<(TaskId, &EndpointName), Vec<&LoggedLines>> = BTreeMap::new();
    for line in lines.iter().filter(|line| tasks.contains_key(&line.task_id)) {
        by_key.entry((line.task_id, &line.endpoint)).or_default().push(line);
    }
    let keys: Vec<_> = by_key.keys().copied().collect();
    let mut known: HashMap<(TaskId, EndpointName), (Option<Uuid>, LiveLog)> = HashMap::new();
    for keys in keys.chunks(batch::KEYS) {
        let mut select = conn.sql(
            "SELECT r.task_id, r.endpoint, r.home, l.attempt, l.next_line, l.length, l.tail FROM response AS r \
             LEFT JOIN response_log AS l ON l.task_id = r.task_id AND l.endpoint = r.endpoint WHERE (r.task_id, r.endpoint) IN ",
        );
        for row in select.pairs(keys).fetch_all().await? {
            let (id, endpoint, home): (TaskId, EndpointName, Option<Uuid>) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            let log = live_log(&row, 3)?.unwrap_or_default();
            known.insert((id, endpoint), (home, log));
        }
    }
    let (mut appended, mut changed) = (0, Vec::new());
    for ((id, endpoint), lines) in by_key {
        let Some((home, log)) = known.get_mut(&(id, endpoint.clone())) else { continue };
        let new = lines.iter().filter(|line| *home == Some(line.home) && log.append(&line.piece)).count();
        if new > 0 {
            appended += new as u64;
            changed.push((id, endpoint, std::mem::take(log)));
        }
    }
    let weight = |(_, _, log): &(TaskId, &EndpointName, LiveLog)| log.text.len();
    for run in batch::runs(&changed, batch::WIDE_ROWS, weight) {
        let mut insert = conn.insert("response_log");
        for (id, endpoint, log) in padded_rows(run, weight) {
            insert
                .row()
                .set("task_id", *id)
                .set("endpoint", *endpoint)
                .set("attempt", log.attempt)
                .set("next_line", number(log.next));
            insert
                .set("length", number(log.length))
                .set("tail", log.text.as_str())
                .set("last_modified_time", now);
        }
        insert.or_update(&["task_id", "endpoint"]).await?;
    }
    Ok(appended)
}

/// A count as both databases keep it.
fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The log in the four columns from this one on; none where there is none.
fn live_log(row: &Row, at: usize) -> Result<Option<LiveLog>, Fault> {
    let Some(attempt) = row.get::<Option<u32>>(at)? else { return Ok(None) };
    Ok(Some(LiveLog {
        attempt,
        next: row.count(at + 1)?,
        length: row.count(at + 2)?,
        text: row.get(at + 3)?,
    }))
}

async fn logs(
    conn: &mut Conn<'_>,
    id: TaskId,
    endpoint: Option<EndpointName>,
    after: Option<LogPlace>,
    limit: u32,
) -> Result<Vec<ResponseLog>, Fault> {
    let by_key = conn.dialect().by_primary_key();
    // One that ended before its first lines were sent has told them with its answer.
    let time = "COALESCE(l.last_modified_time, r.last_modified_time)";
    let mut select = conn.sql(format!(
        "SELECT r.endpoint, {time}, l.attempt, l.next_line, l.length, l.tail, \
         CASE WHEN l.attempt IS NULL THEN r.log END, r.attempt FROM response AS r {by_key} \
         LEFT JOIN response_log AS l ON l.task_id = r.task_id AND l.endpoint = r.endpoint \
         WHERE r.task_id = ? AND (l.attempt IS NOT NULL OR r.log IS NOT NULL)"
    ));
    select.bind(id);
    if let Some(endpoint) = &endpoint {
        select.push(" AND r.endpoint = ?").bind(endpoint);
    }
    if let Some(LogPlace { time: then, endpoint }) = &after {
        select
            .push(&format!(" AND ({time} > ? OR {time} = ? AND r.endpoint > ?)"))
            .bind(*then)
            .bind(*then)
            .bind(endpoint);
    }
    select.push(&format!(" ORDER BY {time}, r.endpoint LIMIT ?")).bind(limit);
    let log = |row: &Row| {
        let endpoint: EndpointName = row.get(0)?;
        let log = match live_log(row, 2)? {
            Some(log) => log,
            None => {
                let text: String = row.get::<Option<String>>(6)?.unwrap_or_default();
                LiveLog {
                    attempt: row.get(7)?,
                    next: text.lines().count() as u64,
                    length: text.len() as u64,
                    text,
                }
            }
        };
        let bytes = log.text.len();
        Ok((ResponseLog { endpoint, log, time: row.get(1)? }, bytes))
    };
    select.fetch_within(BYTES, log).await
}
