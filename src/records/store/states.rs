//! How the endpoints of a task, or of the fleet, stand, and no more of them: what is read for thousands at
//! once.

use futures::FutureExt;

use super::batch;
use super::columns;
use super::fault::Fault;
use super::sql::{Conn, Row, selected};
use super::subscription::SubscriptionState;
use super::{Operation, Result, Store};
use crate::domain::{
    Counts, EndpointName, FleetState, PartState, ResponseStatus, TaskId, TaskStatus, TaskType, Timestamp,
};

/// How a task stands, without what it is about: a payload may have megabytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStanding {
    /// Which task.
    pub id: TaskId,
    /// Its type.
    pub task_type: TaskType,
    /// Its status.
    pub status: TaskStatus,
    /// How its expected endpoints stand.
    pub counts: Counts,
    /// When the broker first confirmed it.
    pub published_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When it is given up.
    pub expires_at: Timestamp,
}

/// How an endpoint's part in a task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Whose.
    pub endpoint: EndpointName,
    /// How.
    pub state: PartState,
    /// Whether it has received the task.
    pub received: bool,
}

/// Which endpoints of a task to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parts {
    /// Every one.
    All,
    /// These, as far as they must answer it.
    Of(Vec<EndpointName>),
}

impl Store {
    /// How a task stands, by primary key; none where there is no such task.
    pub fn standing(&self, id: TaskId) -> Operation<'_, Option<TaskStanding>> {
        self.run(move |conn| standing(conn, id).boxed())
    }

    /// How the endpoints of a task stand, by name.
    pub fn parts(&self, task: &TaskStanding, which: Parts) -> Operation<'_, Vec<Part>> {
        let task = task.clone();
        self.run(move |conn| parts(conn, task.clone(), which.clone()).boxed())
    }

    /// How all known endpoints stand, by name.
    pub fn fleet(&self) -> Operation<'_, Vec<(EndpointName, FleetState)>> {
        self.run(|conn| fleet(conn).boxed())
    }
}

selected! {
    /// What a [`TaskStanding`] is read from, of a table called `t`.
    StandingColumns<'r> {
        task_type: &'r str = "t.task_type",
        status: u8 = "t.status",
        counts: Counts = "t.expected, t.received, t.finished, t.failed, t.canceled, t.expired",
        published_at: Option<Timestamp> = "t.published_at",
        finished_at: Option<Timestamp> = "t.finished_at",
        expires_at: Timestamp = "t.expires_at",
    }
}

async fn standing(conn: &mut Conn<'_>, id: TaskId) -> Result<Option<TaskStanding>, Fault> {
    let mut select = conn.sql(format!("SELECT {} FROM task AS t WHERE t.id = ?", StandingColumns::LIST));
    let Some(row) = select.bind(id).fetch_optional().await? else { return Ok(None) };
    let StandingColumns { task_type, status, counts, published_at, finished_at, expires_at } =
        StandingColumns::read(&mut row.cells())?;
    let (task_type, status) = (
        columns::task_type(task_type)?,
        columns::task_status(status, || format!("task {id}, column status"))?,
    );
    Ok(Some(TaskStanding { id, task_type, status, counts, published_at, finished_at, expires_at }))
}

async fn parts(conn: &mut Conn<'_>, task: TaskStanding, which: Parts) -> Result<Vec<Part>, Fault> {
    match which {
        Parts::All => some_parts(conn, &task, None).await,
        Parts::Of(names) => {
            let mut parts = Vec::with_capacity(names.len());
            for names in names.chunks(batch::KEYS) {
                parts.extend(some_parts(conn, &task, Some(names)).await?);
            }
            Ok(parts)
        }
    }
}

async fn some_parts(
    conn: &mut Conn<'_>,
    task: &TaskStanding,
    names: Option<&[EndpointName]>,
) -> Result<Vec<Part>, Fault> {
    let (by_key, same) = (conn.dialect().by_primary_key(), conn.dialect().same());
    let mut select = conn.sql(format!(
        "SELECT r.endpoint, r.status, r.errnr, r.progress IS NOT NULL, r.start_time IS NOT NULL, \
         r.status = ? AND NOT EXISTS (SELECT 1 FROM subscription AS s WHERE s.endpoint = r.endpoint AND s.task_type = ? \
         AND s.state = ? AND s.home {same} r.home) FROM response AS r {by_key} WHERE r.task_id = ?"
    ));
    select.bind(ResponseStatus::Created).bind(&task.task_type).bind(SubscriptionState::Online).bind(task.id);
    if let Some(names) = names {
        select.push(" AND r.endpoint IN ").keys(&names.iter().collect::<Vec<_>>());
    }
    let rows = select.push(" ORDER BY r.endpoint").fetch_all().await?;
    let published = task.published_at.is_some();
    let part = |row: &Row| {
        let mut cells = row.cells();
        let endpoint: EndpointName = cells.take()?;
        let status = columns::response_status(cells.take()?, || {
            format!("response of {endpoint} to task {}, column status", task.id)
        })?;
        let (errnr, runs, received, vanished) = (cells.take()?, cells.take()?, cells.take()?, cells.take()?);
        Ok(Part {
            endpoint,
            state: PartState::of_response(status, errnr, published, runs, vanished),
            received,
        })
    };
    rows.iter().map(part).collect()
}

async fn fleet(conn: &mut Conn<'_>) -> Result<Vec<(EndpointName, FleetState)>, Fault> {
    let mut select = conn.sql(
        "SELECT e.name, COUNT(CASE WHEN s.state = ? AND s.trouble IS NULL THEN 1 END), \
         COUNT(CASE WHEN s.state = ? AND s.trouble IS NOT NULL THEN 1 END), COUNT(CASE WHEN s.state = ? THEN 1 END), \
         COUNT(CASE WHEN s.state = ? THEN 1 END) FROM endpoint AS e LEFT JOIN subscription AS s ON s.endpoint = e.name \
         GROUP BY e.name ORDER BY e.name",
    );
    select
        .bind(SubscriptionState::Online)
        .bind(SubscriptionState::Online)
        .bind(SubscriptionState::Missed)
        .bind(SubscriptionState::Left);
    let rows = select.fetch_all().await?;
    let state = |row: &Row| {
        Ok((
            row.get(0)?,
            FleetState::of_subscriptions(row.count(1)?, row.count(2)?, row.count(3)?, row.count(4)?),
        ))
    };
    rows.iter().map(state).collect()
}
