//! What endpoints report.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use uuid::Uuid;

use super::fault::Fault;
use super::ledger::{Applied, RowState, Subscriber, Subscribers, TaskState, fold, in_question};
use super::sql::{Cells, Conn, Dialect, selected};
use super::tasks::{self, lock};
use super::{Operation, Result, Store, batch, columns, responses, without_statements};
use crate::domain::{
    EndpointName, IgnoredByType, LateAnswer, Report, ResponseStatus, TaskId, TaskType, Timestamp,
};

impl Store {
    /// Applies what endpoints report: rows through [`crate::domain::ResponseStatus::next`], counts, task
    /// states through [`TaskStatus::next`](crate::domain::TaskStatus::next), all in one transaction. Repeats
    /// and stragglers change nothing; of answers that come after the end and tell something else, the first
    /// is kept beside ([`Response::late`](crate::domain::Response::late)). A report counts only if the task
    /// is of its type and if it comes of the memory that has the task, or, while none has it, of the memory
    /// that has the endpoint's name or had it before; no endpoint has answered that was never subscribed to
    /// the type. A report from an endpoint that is not expected is adopted into the set when the task has no
    /// list and is frozen, and a copy can have come through the fanout: the endpoint was known by the time it
    /// was published; of a task that has ended only one that has finished. A report about a task with a list
    /// never is. A cancel that nobody asked for ends its response as failed
    /// ([`errnr::STOPPED`](crate::domain::errnr::STOPPED)). `ignored` says what does not count when equal
    /// answers are grouped.
    pub fn apply(
        &self,
        reports: &[Report],
        ignored: &Arc<IgnoredByType>,
        now: Timestamp,
        retention: Duration,
    ) -> Operation<'_, Applied> {
        if reports.is_empty() {
            return without_statements(Ok(Applied::default()));
        }
        if let Err(error) = self.fits(reports.iter().map(|report| 256 + batch::answer_bytes(&report.event))) {
            return without_statements(Err(error));
        }
        let (reports, ignored): (Arc<[Report]>, _) = (reports.into(), Arc::clone(ignored));
        self.transact(move |conn| apply(conn, reports.clone(), ignored.clone(), now, retention).boxed())
    }
}

type Rows = HashMap<(TaskId, EndpointName), RowState>;

async fn apply(
    conn: &mut Conn<'_>,
    reports: Arc<[Report]>,
    ignored: Arc<IgnoredByType>,
    now: Timestamp,
    retention: Duration,
) -> Result<Applied, Fault> {
    let mut ids: Vec<TaskId> = reports.iter().map(|report| report.task_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let tasks = lock(conn, &ids).await?;
    let mut keys: Vec<(TaskId, &EndpointName)> = reports
        .iter()
        .filter(|report| tasks.contains_key(&report.task_id))
        .map(|report| (report.task_id, &report.endpoint))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    let (mut rows, mut known) = (HashMap::with_capacity(keys.len()), Subscribers::new());
    for keys in keys.chunks(batch::KEYS) {
        match conn.dialect() {
            Dialect::MySql => read_together(conn, &tasks, keys, &mut rows, &mut known).await?,
            Dialect::Sqlite => read_apart(conn, &tasks, keys, &mut rows, &mut known).await?,
        }
    }
    let asked = in_question(&tasks, &rows, &known, &reports).into_iter().collect();
    known.extend(subscribers(conn, asked).await?);
    let folded = fold(&tasks, &rows, &known, &reports, now, retention);
    let rows: Vec<_> = folded
        .rows
        .into_iter()
        .map(|((id, endpoint), change)| {
            let digest = tasks.get(&id).and_then(|task| change.digest(endpoint, ignored.of(&task.task_type)));
            ((id, endpoint), change, digest)
        })
        .collect();
    responses::write(conn, &rows, now).await?;
    mark_doubled(conn, folded.doubled.into_iter().collect()).await?;
    keep_late(conn, folded.late.into_iter().collect()).await?;
    tasks::write(conn, folded.tasks).await?;
    Ok(folded.applied)
}

selected! {
    /// What the key and the [`RowState`] of a response are read from, of a table called `r`.
    RowColumns<'r> {
        task_id: TaskId = "r.task_id",
        endpoint: &'r str = "r.endpoint",
        status: u8 = "r.status",
        progress: Option<u8> = "r.progress",
        start_time: Option<Timestamp> = "r.start_time",
        home: Option<Uuid> = "r.home",
        run: Option<Uuid> = "r.run",
        doubled: bool = "r.doubled",
        errnr: Option<i32> = "r.errnr",
        late: bool = "r.late IS NOT NULL",
        withdrawn: bool = "r.withdrawn_at IS NOT NULL",
    }
}

fn row_state(cells: &mut Cells<'_>) -> Result<((TaskId, EndpointName), RowState), Fault> {
    let row = RowColumns::read(cells)?;
    let RowColumns {
        task_id,
        endpoint,
        status,
        progress,
        start_time,
        home,
        run,
        doubled,
        errnr,
        late,
        withdrawn,
    } = row;
    let at = || format!("response of {endpoint} to task {task_id}, column status");
    let status = columns::response_status(status, at)?;
    let state = RowState { status, progress, start_time, home, run, doubled, errnr, late, withdrawn };
    Ok(((task_id, columns::endpoint(endpoint)?), state))
}

/// What to select for [`subscriber`], of a table called `s`.
const SUBSCRIBER: &str = "s.last_seen, s.home, s.previous_home, s.first_seen";

/// What is known of an endpoint; nothing where the row has none.
fn subscriber(cells: &mut Cells<'_>) -> Result<Option<Subscriber>, Fault> {
    let Some(last_seen) = cells.take()? else { return Ok(None) };
    Ok(Some(Subscriber {
        last_seen,
        home: cells.take()?,
        previous_home: cells.take()?,
        first_seen: cells.take()?,
    }))
}

/// Reads responses, and with each that nobody has yet what is known of its endpoint: nearly every report is
/// the first or of whom the row names, so nothing else has to be read. In one statement, for a server is
/// asked over the network. Without locks of their own: those of their tasks keep every writer away.
async fn read_together(
    conn: &mut Conn<'_>,
    tasks: &HashMap<TaskId, TaskState>,
    keys: &[(TaskId, &EndpointName)],
    rows: &mut Rows,
    known: &mut Subscribers,
) -> Result<(), Fault> {
    let (row, by_key) = (RowColumns::LIST, conn.dialect().by_primary_key());
    let mut select = conn.sql(format!(
        "SELECT {row}, {SUBSCRIBER} FROM response AS r {by_key} \
         LEFT JOIN task AS t {by_key} ON r.home IS NULL AND t.id = r.task_id \
         LEFT JOIN subscription AS s {by_key} ON s.endpoint = r.endpoint AND s.task_type = t.task_type \
         WHERE (r.task_id, r.endpoint) IN "
    ));
    for row in select.pairs(keys).fetch_all().await? {
        let mut cells = row.cells();
        let ((id, endpoint), state) = row_state(&mut cells)?;
        if let (Some(subscriber), Some(task)) = (subscriber(&mut cells)?, tasks.get(&id)) {
            known.insert((endpoint.clone(), task.task_type.clone()), subscriber);
        }
        rows.insert((id, endpoint), state);
    }
    Ok(())
}

/// The same in SQLite, where a statement costs little, but each value that is read an allocation and a way
/// from thread to thread: what all responses that nobody has answered, and that were not taken back, have in
/// common is not read, and their keys are known by their place.
async fn read_apart(
    conn: &mut Conn<'_>,
    tasks: &HashMap<TaskId, TaskState>,
    keys: &[(TaskId, &EndpointName)],
    rows: &mut Rows,
    known: &mut Subscribers,
) -> Result<(), Fault> {
    let mut select = conn.sql("WITH key(place, task_id, endpoint) AS (VALUES ");
    for place in 0..keys.len().next_power_of_two() {
        let key = keys.get(place);
        select.push(if place == 0 { "(" } else { ", (" }).push(&place.to_string()).push(", ?, ?)");
        select.bind(key.map(|(id, _)| *id)).bind(key.map(|(_, endpoint)| *endpoint));
    }
    select.push(") SELECT key.place, ").push(SUBSCRIBER).push(
        " FROM key CROSS JOIN response AS r ON r.task_id = key.task_id AND r.endpoint = key.endpoint \
         CROSS JOIN task AS t ON t.id = r.task_id \
         LEFT JOIN subscription AS s ON s.endpoint = r.endpoint AND s.task_type = t.task_type \
         WHERE r.status = ? AND r.home IS NULL AND r.withdrawn_at IS NULL",
    );
    let mut unanswered = vec![false; keys.len()];
    for row in select.bind(ResponseStatus::Expected).fetch_all().await? {
        let mut cells = row.cells();
        let place = batch::rows(cells.take()?);
        unanswered[place] = true;
        let (id, endpoint) = keys[place];
        if let (Some(subscriber), Some(task)) = (subscriber(&mut cells)?, tasks.get(&id)) {
            known.insert((endpoint.clone(), task.task_type.clone()), subscriber);
        }
    }
    let mut others = Vec::new();
    for ((id, endpoint), unanswered) in keys.iter().zip(unanswered) {
        if unanswered {
            rows.insert((*id, (*endpoint).clone()), RowState::EXPECTED);
        } else {
            others.push((*id, *endpoint));
        }
    }
    if others.is_empty() {
        return Ok(());
    }
    let mut select =
        conn.sql(format!("SELECT {} FROM response AS r WHERE (r.task_id, r.endpoint) IN ", RowColumns::LIST));
    for row in select.pairs(&others).fetch_all().await? {
        let (key, state) = row_state(&mut row.cells())?;
        rows.insert(key, state);
    }
    Ok(())
}

/// Reads what is known of endpoints, by name and type.
async fn subscribers(
    conn: &mut Conn<'_>,
    keys: Vec<(&EndpointName, &TaskType)>,
) -> Result<Subscribers, Fault> {
    let by_key = conn.dialect().by_primary_key();
    let mut subscribers = Subscribers::with_capacity(keys.len());
    for keys in keys.chunks(batch::KEYS) {
        let mut select = conn.sql(format!(
            "SELECT s.endpoint, s.task_type, {SUBSCRIBER} FROM subscription AS s {by_key} WHERE (s.endpoint, s.task_type) IN "
        ));
        for row in select.pairs(keys).fetch_all().await? {
            let mut cells = row.cells();
            let key = (cells.take()?, cells.take()?);
            subscribers.extend(subscriber(&mut cells)?.map(|subscriber| (key, subscriber)));
        }
    }
    Ok(subscribers)
}

/// Keeps answers that came after the end beside what decided.
async fn keep_late(
    conn: &mut Conn<'_>,
    answers: Vec<((TaskId, &EndpointName), LateAnswer)>,
) -> Result<(), Fault> {
    for ((id, endpoint), answer) in answers {
        let mut keep = conn.sql("UPDATE response SET late = ? WHERE task_id = ? AND endpoint = ?");
        keep.bind(columns::json_text(&answer)?).bind(id).bind(endpoint).execute().await?;
    }
    Ok(())
}

/// Notes the rows whose task was run twice.
async fn mark_doubled(conn: &mut Conn<'_>, keys: Vec<(TaskId, &EndpointName)>) -> Result<(), Fault> {
    for (id, endpoint) in keys {
        let mut mark = conn.sql("UPDATE response SET doubled = ? WHERE task_id = ? AND endpoint = ?");
        mark.bind(true).bind(id).bind(endpoint).execute().await?;
    }
    Ok(())
}
