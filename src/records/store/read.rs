//! Questions that change nothing.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use uuid::Uuid;

use super::batch::{self, sorted};
use super::columns;
use super::fault::Fault;
use super::responses::{ENDED, OPEN_ROW, OpenRow, RESPONSE, open_row, response};
use super::sql::{Conn, Row, Statement, selected};
use super::subscription::SubscriptionState;
use super::tasks::{self, HELD, TASK, only_task, within_budget};
use super::window::{ids_from, ids_until, newest, prefix_end};
use super::{Operation, Result, Store};
use crate::domain::{
    AnswerDigest, EndpointName, Fared, Identifier, Response, ResponseStatus, Task, TaskId, TaskStatus,
    TaskType, Timestamp, TokenName,
};

/// A task that an endpoint has to answer.
#[derive(Debug, Clone)]
pub struct Owed {
    /// The task.
    pub task: Task,
    /// How far the endpoint's response is, as the ledger knows.
    pub row: OpenRow,
}

selected! {
    /// What an [`OwedBrief`] is read from, of tables called `t` and `r`.
    OwedColumns<'r> {
        id: TaskId = "t.id",
        identifier: &'r [u8] = "t.identifier",
        task_type: TaskType = "t.task_type",
        received: bool = "r.home IS NOT NULL",
        start_time: Timestamp = "t.start_time",
        expires_at: Timestamp = "t.expires_at",
    }
}

/// A task that an endpoint has to answer, without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwedBrief {
    /// The task.
    pub id: TaskId,
    /// The customer's name for it.
    pub identifier: Identifier,
    /// Its type.
    pub task_type: TaskType,
    /// Whether the endpoint has received it.
    pub received: bool,
    /// When it was accepted.
    pub start_time: Timestamp,
    /// When it is given up.
    pub expires_at: Timestamp,
}

/// Which responses of a task to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResponseFilter {
    /// Every one.
    #[default]
    All,
    /// Those finished with an error.
    Failed,
    /// Those of endpoints that have not received it.
    Missing,
    /// Those finished without an error.
    Succeeded,
    /// Those received and not final.
    Running,
    /// Those that a cancel ended.
    Canceled,
    /// Those that the end of the task's time ended.
    Expired,
}

/// A page of responses, by endpoint.
#[derive(Debug, Clone, Default)]
pub struct ResponseQuery {
    /// Which.
    pub filter: ResponseFilter,
    /// Only those with this answer.
    pub answer: Option<AnswerDigest>,
    /// Only of this endpoint and those after it.
    pub from: Option<EndpointName>,
    /// Only of endpoints after this one: the cursor.
    pub after: Option<EndpointName>,
    /// At most this many.
    pub limit: u32,
}

/// Which tasks to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct TaskQuery {
    /// Only these states; empty means all.
    pub status: Vec<TaskStatus>,
    /// Only tasks that an endpoint has finished with an error.
    pub failed: bool,
    /// Only identifiers that begin so.
    pub identifier_prefix: Option<String>,
    /// Only tasks accepted at or after this.
    pub since: Option<Timestamp>,
    /// Only tasks accepted before this.
    pub until: Option<Timestamp>,
    /// Only tasks older than this one: the cursor.
    pub before: Option<TaskId>,
    /// At most this many, 1 to 1000.
    pub limit: u32,
}

/// A number of tasks and the age of the oldest, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTasks {
    /// Their type.
    pub task_type: TaskType,
    /// Their status, one of the open ones.
    pub status: TaskStatus,
    /// How many.
    pub count: u64,
    /// When the oldest was accepted.
    pub oldest: Timestamp,
}

/// Bytes of payload that one list has, beyond those of its last task.
pub const LIST_BYTES: usize = 1 << 20;

/// Which open responses of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwedRows {
    All,
    /// Those that it has not received, and those of tasks that have ended meanwhile.
    Anew,
}

impl Store {
    /// Endpoints that must answer a task and have not received it, by name; of an ended task those that never
    /// did.
    pub fn missing(&self, id: TaskId) -> Operation<'_, Vec<EndpointName>> {
        self.run(move |conn| missing(conn, id).boxed())
    }

    /// Responses of these tasks that are not final, by name of the endpoint.
    pub fn open_rows(&self, ids: &[TaskId]) -> Operation<'_, HashMap<TaskId, Vec<OpenRow>>> {
        let ids = sorted(ids);
        self.run(move |conn| open_rows(conn, ids.clone()).boxed())
    }

    /// Tasks of these types that an endpoint must answer and has not finished, oldest first, after a cursor.
    /// Also those that were canceled after the endpoint had received them. At most `limit`, fewer where
    /// payloads are large, none at the end.
    pub fn owed_by(
        &self,
        endpoint: &EndpointName,
        task_types: &[TaskType],
        after: Option<TaskId>,
        limit: u32,
    ) -> Operation<'_, Vec<Owed>> {
        let (endpoint, task_types): (_, Arc<[TaskType]>) = (endpoint.clone(), task_types.into());
        self.run(move |conn| {
            owed_by(conn, endpoint.clone(), task_types.clone(), OwedRows::All, after, limit).boxed()
        })
    }

    /// The first of the tasks of [`Self::owed_by`], without their payloads: `limit`, unless there are fewer.
    pub fn owed_briefly(
        &self,
        endpoint: &EndpointName,
        task_types: &[TaskType],
        limit: u32,
    ) -> Operation<'_, Vec<OwedBrief>> {
        let (endpoint, task_types): (_, Arc<[TaskType]>) = (endpoint.clone(), task_types.into());
        self.run(move |conn| owed_briefly(conn, endpoint.clone(), task_types.clone(), limit).boxed())
    }

    /// What a worker that fetches its tasks is to be told: of these types, tasks that are its own and that it
    /// has not received, and those that were canceled meanwhile; with `all`, also those it has received.
    /// Oldest first, after a cursor. At most `limit`, fewer where payloads are large, none at the end.
    pub fn owed_anew(
        &self,
        worker: &EndpointName,
        task_types: &[TaskType],
        all: bool,
        after: Option<TaskId>,
        limit: u32,
    ) -> Operation<'_, Vec<Owed>> {
        let (worker, task_types): (_, Arc<[TaskType]>) = (worker.clone(), task_types.into());
        let of = if all { OwedRows::All } else { OwedRows::Anew };
        self.run(move |conn| owed_by(conn, worker.clone(), task_types.clone(), of, after, limit).boxed())
    }

    /// The task of this type with this identifier, by unique key.
    pub fn find_by_identifier(
        &self,
        task_type: &TaskType,
        identifier: &Identifier,
    ) -> Operation<'_, Option<Task>> {
        let (task_type, identifier) = (task_type.clone(), identifier.clone());
        self.run(move |conn| find_by_identifier(conn, task_type.clone(), identifier.clone()).boxed())
    }

    /// The name of the token that a task was submitted with, if it was one.
    pub fn submitter(&self, id: TaskId) -> Operation<'_, Option<String>> {
        self.run(move |conn| submitter(conn, id).boxed())
    }

    /// The digest of the submission of a task.
    pub fn submission_digest(&self, id: TaskId) -> Operation<'_, Option<[u8; 32]>> {
        self.run(move |conn| submission_digest(conn, id).boxed())
    }

    /// The task with this id, by primary key.
    pub fn find(&self, id: TaskId) -> Operation<'_, Option<Task>> {
        self.run(move |conn| find(conn, id).boxed())
    }

    /// Responses of a task by endpoint name, from the first one after `after` on, so many at most: they can
    /// be large, and thousands.
    pub fn responses(
        &self,
        id: TaskId,
        filter: ResponseFilter,
        after: Option<EndpointName>,
        limit: u32,
    ) -> Operation<'_, Vec<Response>> {
        self.run(move |conn| responses(conn, id, filter, after.clone(), limit).boxed())
    }

    /// A page of responses. Fewer than asked for where their answers together are [`LIST_BYTES`] or more;
    /// whether there may be more.
    pub fn response_page(&self, id: TaskId, query: &ResponseQuery) -> Operation<'_, (Vec<Response>, bool)> {
        let query = Arc::new(query.clone());
        self.run(move |conn| response_page(conn, id, query.clone()).boxed())
    }

    /// The endpoints of a task that fared in one of these ways, by name. With an answer only those that gave
    /// it; without ways, all that gave it.
    pub fn fared(
        &self,
        id: TaskId,
        ways: &[Fared],
        answer: Option<AnswerDigest>,
    ) -> Operation<'_, Vec<EndpointName>> {
        let ways: Arc<[Fared]> = ways.into();
        self.run(move |conn| fared(conn, id, ways.clone(), answer).boxed())
    }

    /// The response that an endpoint owes or has given to a task.
    pub fn response_of(&self, id: TaskId, endpoint: &EndpointName) -> Operation<'_, Option<Response>> {
        let endpoint = endpoint.clone();
        self.run(move |conn| response_of(conn, id, endpoint.clone()).boxed())
    }

    /// Tasks of a type, newest first. Fewer than asked for where their payloads together are [`LIST_BYTES`]
    /// or more.
    pub fn list(&self, task_type: &TaskType, query: &TaskQuery) -> Operation<'_, Vec<Task>> {
        let (task_type, query) = (task_type.clone(), Arc::new(query.clone()));
        self.run(move |conn| list(conn, task_type.clone(), query.clone()).boxed())
    }

    /// Open tasks that were submitted with the token of this name. Looks at each open task.
    pub fn open_tasks_of(&self, token: &TokenName) -> Operation<'_, u64> {
        let token = token.clone();
        self.run(move |conn| open_tasks_of(conn, token.clone()).boxed())
    }

    /// How many tasks of a type wait for approval.
    pub fn held_tasks(&self, task_type: &TaskType) -> Operation<'_, u64> {
        let task_type = task_type.clone();
        self.run(move |conn| held_tasks(conn, task_type.clone()).boxed())
    }

    /// Open tasks by type and status; bounded cost however much history there is.
    pub fn open_tasks(&self) -> Operation<'_, Vec<OpenTasks>> {
        self.run(|conn| open_tasks(conn).boxed())
    }
}

pub(super) async fn find(conn: &mut Conn<'_>, id: TaskId) -> Result<Option<Task>, Fault> {
    let found =
        conn.sql(format!("SELECT {TASK} FROM task AS t WHERE t.id = ?")).bind(id).fetch_optional().await?;
    found.as_ref().map(only_task).transpose()
}

async fn submitter(conn: &mut Conn<'_>, id: TaskId) -> Result<Option<String>, Fault> {
    let found = conn.sql("SELECT submitted_by FROM task WHERE id = ?").bind(id).fetch_optional().await?;
    Ok(found.map(|row| row.get::<Option<String>>(0)).transpose()?.flatten())
}

async fn submission_digest(conn: &mut Conn<'_>, id: TaskId) -> Result<Option<[u8; 32]>, Fault> {
    let found = conn.sql("SELECT digest FROM task WHERE id = ?").bind(id).fetch_optional().await?;
    let Some(row) = found else { return Ok(None) };
    Ok(Some(columns::sha256(row.get(0)?, || format!("task {id}, column digest"))?))
}

async fn find_by_identifier(
    conn: &mut Conn<'_>,
    task_type: TaskType,
    identifier: Identifier,
) -> Result<Option<Task>, Fault> {
    let mut select =
        conn.sql(format!("SELECT {TASK} FROM task AS t WHERE t.task_type = ? AND t.identifier = ?"));
    let found = select.bind(&task_type).bind(identifier.as_str().as_bytes()).fetch_optional().await?;
    found.as_ref().map(only_task).transpose()
}

async fn missing(conn: &mut Conn<'_>, id: TaskId) -> Result<Vec<EndpointName>, Fault> {
    let by_key = conn.dialect().by_primary_key();
    let select = format!(
        "SELECT endpoint FROM response {by_key} WHERE start_time IS NULL AND task_id = ? ORDER BY endpoint"
    );
    conn.sql(select).bind(id).fetch_all().await?.iter().map(|row| row.get(0)).collect()
}

async fn open_rows(conn: &mut Conn<'_>, ids: Arc<[TaskId]>) -> Result<HashMap<TaskId, Vec<OpenRow>>, Fault> {
    let by_key = conn.dialect().by_primary_key();
    let mut rows: HashMap<TaskId, Vec<OpenRow>> = HashMap::new();
    for ids in ids.chunks(batch::KEYS) {
        let mut select = conn.sql(format!(
            "SELECT r.task_id, {OPEN_ROW} FROM response AS r {by_key} WHERE +r.status < ? AND r.task_id IN "
        ));
        for row in select.bind(ENDED).keys(ids).push(" ORDER BY r.task_id, r.endpoint").fetch_all().await? {
            let mut cells = row.cells();
            rows.entry(cells.take()?).or_default().push(open_row(&mut cells)?);
        }
    }
    Ok(rows)
}

async fn owed_by(
    conn: &mut Conn<'_>,
    endpoint: EndpointName,
    task_types: Arc<[TaskType]>,
    of: OwedRows,
    after: Option<TaskId>,
    limit: u32,
) -> Result<Vec<Owed>, Fault> {
    if task_types.is_empty() {
        return Ok(Vec::new());
    }
    let mut select = owed(conn, &format!("{TASK}, {OPEN_ROW}"), &endpoint, &task_types, after);
    if of == OwedRows::Anew {
        let ended = TaskStatus::ALL.into_iter().filter(|status| status.is_final()).collect::<Vec<_>>();
        select.push(" AND (r.home IS NULL OR t.status IN ").keys(&ended).push(")");
    }
    select.push(" ORDER BY r.task_id LIMIT ?").bind(limit);
    within_budget(&mut select, batch::READ_BYTES, |task, cells| Ok(Owed { task, row: open_row(cells)? }))
        .await
}

async fn owed_briefly(
    conn: &mut Conn<'_>,
    endpoint: EndpointName,
    task_types: Arc<[TaskType]>,
    limit: u32,
) -> Result<Vec<OwedBrief>, Fault> {
    if task_types.is_empty() {
        return Ok(Vec::new());
    }
    let mut select = owed(conn, OwedColumns::LIST, &endpoint, &task_types, None);
    let brief = |row: &Row| {
        let OwedColumns { id, identifier, task_type, received, start_time, expires_at } =
            OwedColumns::read(&mut row.cells())?;
        Ok(OwedBrief {
            id,
            identifier: tasks::identifier(identifier, id)?,
            task_type,
            received,
            start_time,
            expires_at,
        })
    };
    select.push(" ORDER BY r.task_id LIMIT ?").bind(limit).fetch_all().await?.iter().map(brief).collect()
}

/// Begins to ask for what an endpoint owes, after a cursor.
fn owed<'c>(
    conn: &'c mut Conn<'_>,
    columns: &str,
    endpoint: &EndpointName,
    task_types: &[TaskType],
    after: Option<TaskId>,
) -> Statement<'c> {
    let dialect = conn.dialect();
    let (in_order, then, index, owed_by) =
        (dialect.in_order(), dialect.then(), dialect.index("response_owed"), dialect.owed_by());
    let mut select = conn.sql(format!(
        "SELECT {in_order} {columns} FROM response AS r {index} {then} task AS t ON t.id = r.task_id \
         WHERE {owed_by} = ? AND r.task_id > ? AND t.task_type IN "
    ));
    select
        .bind(endpoint)
        .bind(after.map_or(Uuid::nil(), |id| id.0))
        .keys(&task_types.iter().collect::<Vec<_>>());
    select
}

async fn responses(
    conn: &mut Conn<'_>,
    id: TaskId,
    filter: ResponseFilter,
    after: Option<EndpointName>,
    limit: u32,
) -> Result<Vec<Response>, Fault> {
    let mut select = responses_of(conn, id);
    if let Some(after) = &after {
        select.push(" AND r.endpoint > ?").bind(after);
    }
    only(&mut select, filter);
    let rows = select.push(" ORDER BY r.endpoint LIMIT ?").bind(limit).fetch_all().await?;
    rows.iter().map(|row| response(&mut row.cells(), id)).collect()
}

/// Restricts a question about responses.
fn only(select: &mut Statement<'_>, filter: ResponseFilter) {
    let with = |status| (" AND r.status = ?", Some(status));
    let (condition, status) = match filter {
        ResponseFilter::All => return,
        ResponseFilter::Failed => (" AND r.status = ? AND r.errnr <> 0", Some(ResponseStatus::Finished)),
        ResponseFilter::Succeeded => (" AND r.status = ? AND r.errnr = 0", Some(ResponseStatus::Finished)),
        ResponseFilter::Missing => (" AND r.start_time IS NULL", None),
        ResponseFilter::Running => with(ResponseStatus::Created),
        ResponseFilter::Canceled => with(ResponseStatus::Canceled),
        ResponseFilter::Expired => with(ResponseStatus::Expired),
    };
    select.push(condition);
    if let Some(status) = status {
        select.bind(status);
    }
}

async fn response_page(
    conn: &mut Conn<'_>,
    id: TaskId,
    query: Arc<ResponseQuery>,
) -> Result<(Vec<Response>, bool), Fault> {
    let dialect = conn.dialect();
    let key = if query.answer.is_some() { dialect.by_answer() } else { dialect.by_primary_key() };
    let mut select = responses_along(conn, id, key);
    if let Some(answer) = query.answer {
        select.push(" AND ").push(dialect.answered()).push(" AND r.answer = ?").bind(answer);
    }
    if let Some(from) = &query.from {
        select.push(" AND r.endpoint >= ?").bind(from);
    }
    if let Some(after) = &query.after {
        select.push(" AND r.endpoint > ?").bind(after);
    }
    only(&mut select, query.filter);
    select.push(" ORDER BY r.endpoint LIMIT ?").bind(query.limit);
    let bytes = |response: &Response| {
        response.payload.as_ref().map_or(0, |payload| payload.get().len())
            + response.log.as_ref().map_or(0, String::len)
    };
    let read = |row: &Row| {
        let response = response(&mut row.cells(), id)?;
        let bytes = bytes(&response);
        Ok((response, bytes))
    };
    let page = select.fetch_within(LIST_BYTES, read).await?;
    let more = page.len() >= query.limit as usize || page.iter().map(bytes).sum::<usize>() >= LIST_BYTES;
    Ok((page, more))
}

async fn fared(
    conn: &mut Conn<'_>,
    id: TaskId,
    ways: Arc<[Fared]>,
    answer: Option<AnswerDigest>,
) -> Result<Vec<EndpointName>, Fault> {
    let dialect = conn.dialect();
    let key = if answer.is_some() { dialect.by_answer() } else { dialect.by_primary_key() };
    let mut select =
        conn.sql(format!("SELECT r.endpoint, r.status, r.errnr, r.start_time IS NOT NULL FROM response AS r {key} WHERE r.task_id = ?"));
    select.bind(id);
    if let Some(answer) = answer {
        select.push(" AND ").push(dialect.answered()).push(" AND r.answer = ?").bind(answer);
    }
    let all = ways.is_empty() && answer.is_some();
    let mut endpoints = Vec::new();
    for row in select.push(" ORDER BY r.endpoint").fetch_all().await? {
        let status =
            columns::response_status(row.get(1)?, || format!("response of task {id}, column status"))?;
        let (errnr, received) = (row.get(2)?, row.get(3)?);
        if all || ways.iter().any(|way| way.covers(status, errnr, received)) {
            endpoints.push(row.get(0)?);
        }
    }
    Ok(endpoints)
}

async fn response_of(
    conn: &mut Conn<'_>,
    id: TaskId,
    endpoint: EndpointName,
) -> Result<Option<Response>, Fault> {
    let found = responses_of(conn, id).push(" AND r.endpoint = ?").bind(&endpoint).fetch_optional().await?;
    found.map(|row| response(&mut row.cells(), id)).transpose()
}

/// The responses of a task, for more conditions to follow.
fn responses_of<'c>(conn: &'c mut Conn<'_>, id: TaskId) -> Statement<'c> {
    let by_key = conn.dialect().by_primary_key();
    responses_along(conn, id, by_key)
}

/// The same along a key.
fn responses_along<'c>(conn: &'c mut Conn<'_>, id: TaskId, key: &str) -> Statement<'c> {
    let same = conn.dialect().same();
    let mut select = conn.sql(format!(
        "SELECT {RESPONSE}, r.status = ? AND NOT EXISTS (SELECT 1 FROM subscription AS s WHERE s.endpoint = r.endpoint AND s.state = ? \
         AND s.home {same} r.home AND s.task_type = (SELECT t.task_type FROM task AS t WHERE t.id = r.task_id)) \
         FROM response AS r {key} WHERE r.task_id = ?"
    ));
    select.bind(ResponseStatus::Created).bind(SubscriptionState::Online).bind(id);
    select
}

async fn list(conn: &mut Conn<'_>, task_type: TaskType, query: Arc<TaskQuery>) -> Result<Vec<Task>, Fault> {
    if query.status.is_empty() {
        return Ok(list_one(conn, &task_type, &query, None).await?.0);
    }
    // One read for each status: each is a walk along a key that stops at the limit.
    let (mut tasks, mut complete_from) = (Vec::new(), None);
    for status in TaskStatus::ALL.into_iter().filter(|status| query.status.contains(status)) {
        let (those, cut) = list_one(conn, &task_type, &query, Some(status)).await?;
        // Where one read has ended early, older tasks of the others do not follow yet.
        complete_from = complete_from.max(those.last().filter(|_| cut).map(|task| task.id));
        tasks.extend(those);
    }
    tasks.retain(|task| complete_from.is_none_or(|from| task.id >= from));
    Ok(newest(tasks, query.limit))
}

/// The tasks of one status, or of all, and whether they were cut off by their length.
async fn list_one(
    conn: &mut Conn<'_>,
    task_type: &TaskType,
    wanted: &TaskQuery,
    status: Option<TaskStatus>,
) -> Result<(Vec<Task>, bool), Fault> {
    let index = conn.dialect().index(match (&wanted.identifier_prefix, status) {
        (Some(_), _) => "task_identifier",
        _ if wanted.failed => "task_failed",
        (None, Some(_)) => "task_state",
        (None, None) => "task_list",
    });
    let mut select = conn.sql(format!("SELECT {TASK} FROM task AS t {index} WHERE t.task_type = ?"));
    select.bind(task_type);
    if let Some(status) = status {
        select.push(" AND t.status = ?").bind(status);
    }
    if wanted.failed {
        select.push(" AND t.has_failed = 1");
    }
    if let Some(before) = wanted.before {
        select.push(" AND t.id < ?").bind(before);
    }
    if let Some(since) = wanted.since {
        select.push(" AND t.start_time >= ? AND t.id >= ?").bind(since).bind(ids_from(since));
    }
    if let Some(until) = wanted.until {
        select.push(" AND t.start_time < ? AND t.id < ?").bind(until).bind(ids_until(until));
    }
    if let Some(prefix) = &wanted.identifier_prefix {
        select.push(" AND t.identifier >= ?").bind(prefix.as_bytes());
        if let Some(end) = prefix_end(prefix.as_bytes()) {
            select.push(" AND t.identifier < ?").bind(end);
        }
    }
    select.push(" ORDER BY t.id DESC LIMIT ?").bind(wanted.limit);
    let tasks = within_budget(&mut select, LIST_BYTES, |task, _| Ok(task)).await?;
    let bytes: usize = tasks.iter().map(|task| task.payload.get().len()).sum();
    Ok((tasks, bytes >= LIST_BYTES))
}

async fn open_tasks_of(conn: &mut Conn<'_>, token: TokenName) -> Result<u64, Fault> {
    let index = conn.dialect().index("task_state");
    let mut select =
        conn.sql(format!("SELECT COUNT(*) FROM task {index} WHERE submitted_by = ? AND status IN "));
    select.bind(token.as_str()).keys(&open_statuses()).fetch_one().await?.count(0)
}

fn open_statuses() -> Vec<TaskStatus> {
    TaskStatus::ALL.into_iter().filter(|status| !status.is_final()).collect()
}

async fn held_tasks(conn: &mut Conn<'_>, task_type: TaskType) -> Result<u64, Fault> {
    let index = conn.dialect().index("task_state");
    let mut select =
        conn.sql(format!("SELECT COUNT(*) FROM task {index} WHERE task_type = ? AND status = ? AND {HELD}"));
    select.bind(&task_type).bind(TaskStatus::Created).fetch_one().await?.count(0)
}

async fn open_tasks(conn: &mut Conn<'_>) -> Result<Vec<OpenTasks>, Fault> {
    let index = conn.dialect().index("task_state");
    // From the key alone; ids sort by time, so the least is the oldest.
    let mut select = conn.sql(format!(
        "SELECT g.task_type, g.status, g.number, t.start_time FROM (SELECT task_type, status, COUNT(*) AS number, MIN(id) AS oldest \
         FROM task {index} WHERE status IN "
    ));
    select.keys(&open_statuses()).push(
        " GROUP BY status, task_type) AS g JOIN task AS t ON t.id = g.oldest ORDER BY g.task_type, g.status",
    );
    let rows = select.fetch_all().await?;
    let read = |row: &Row| {
        Ok(OpenTasks {
            task_type: row.get(0)?,
            status: columns::task_status(row.get(1)?, || "task, column status".into())?,
            count: row.count(2)?,
            oldest: row.get(3)?,
        })
    };
    rows.iter().map(read).collect()
}
