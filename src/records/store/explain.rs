//! What there is to say why a task does not run. Reads by keys alone; of queues and workers a bounded part.

use std::collections::HashMap;

use futures::FutureExt;
use uuid::Uuid;

use super::batch;
use super::columns::{self, payload_key};
use super::fault::Fault;
use super::queue::{QueueState, taken};
use super::sql::{Cells, Conn, selected};
use super::subscription::SubscriptionState;
use super::tasks::{TASK, task};
use super::{Operation, Result, Store};
use crate::domain::{
    EndpointName, Line, LinePlace, Owed, PresenceNow, Snapshot, Standing, Subscribed, Task, TaskId,
    TaskStatus, TaskType, Timestamp, TokenName, Workers,
};

/// Tasks that are named which hold a limit key, and workers which have trouble.
const NAMED: usize = 5;

/// Workers that are looked at.
const WORKERS: u32 = 1000;

impl Store {
    /// What there is to say why a task does not run, and how it stands at this endpoint, or at the worker
    /// that has it. `None` when there is no such task.
    pub fn explain(&self, id: TaskId, endpoint: Option<&EndpointName>) -> Operation<'_, Option<Snapshot>> {
        let endpoint = endpoint.cloned();
        self.run(move |conn| explain(conn, id, endpoint.clone()).boxed())
    }

    /// How a task stands at the endpoints that have to answer it, by name, after a cursor.
    pub fn standings(
        &self,
        id: TaskId,
        task_type: &TaskType,
        after: Option<EndpointName>,
        limit: u32,
    ) -> Operation<'_, Vec<Standing>> {
        let task_type = task_type.clone();
        self.run(move |conn| standings(conn, id, task_type.clone(), after.clone(), limit).boxed())
    }
}

async fn explain(
    conn: &mut Conn<'_>,
    id: TaskId,
    endpoint: Option<EndpointName>,
) -> Result<Option<Snapshot>, Fault> {
    let select =
        format!("SELECT {TASK}, t.frozen_at IS NOT NULL, t.asks, t.due_at FROM task AS t WHERE t.id = ?");
    let Some(row) = conn.sql(select).bind(id).fetch_optional().await? else { return Ok(None) };
    let mut cells = row.cells();
    let task = task(&mut cells)?;
    let (frozen, asks, due_at) = (cells.take()?, cells.take()?, cells.take()?);
    let line = if task.queued.is_some() { line(conn, &task).await? } else { None };
    let standing = match endpoint {
        Some(endpoint) => Some(standing(conn, &task, endpoint).await?),
        // A task of a work queue has one response: that of the worker that has it.
        None if task.queued.is_some() => standings(conn, id, task.task_type.clone(), None, 1).await?.pop(),
        None => None,
    };
    Ok(Some(Snapshot { task, frozen, asks, due_at, line, standing }))
}

selected! {
    /// What a [`Standing`] is read from, of tables called `r`, `s` and `e`.
    StandingColumns<'r> {
        status: Option<u8> = "r.status",
        errnr: Option<i32> = "r.errnr",
        received_at: Option<Timestamp> = "r.start_time",
        changed_at: Option<Timestamp> = "r.last_modified_time",
        home: Option<Uuid> = "r.home",
        progress: Option<u8> = "r.progress",
        state: Option<u8> = "s.state",
        subscription_seen: Option<Timestamp> = "s.last_seen",
        seen_until: Option<Timestamp> = "s.seen_until",
        subscription_home: Option<Uuid> = "s.home",
        trouble: Option<&'r str> = "s.trouble",
        standby_since: Option<Timestamp> = "s.standby_since",
        standby_home: Option<Uuid> = "s.standby_home",
        last_seen: Option<Timestamp> = "e.last_seen",
    }
}

impl StandingColumns<'_> {
    fn decode(self, endpoint: EndpointName) -> Result<Standing> {
        let response = match (self.status, self.changed_at) {
            (Some(status), Some(changed_at)) => Some(Owed {
                status: columns::response_status(status, || {
                    format!("response of {endpoint}, column status")
                })?,
                errnr: self.errnr,
                received_at: self.received_at,
                changed_at,
                home: self.home,
                progress: self.progress,
            }),
            _ => None,
        };
        let subscription = match (self.state, self.subscription_seen) {
            (Some(state), Some(last_seen)) => Some(Subscribed {
                presence: match columns::subscription_state(state)? {
                    SubscriptionState::Online => PresenceNow::There,
                    SubscriptionState::Left => PresenceNow::Stopped,
                    // It was to be seen for no time: see `Subscription::absent`.
                    SubscriptionState::Missed if self.seen_until <= Some(last_seen) => PresenceNow::Never,
                    SubscriptionState::Missed => PresenceNow::Gone,
                },
                last_seen,
                home: self.subscription_home,
                trouble: self.trouble.map(str::to_owned),
                second: self.standby_since.map(|since| (since, self.standby_home != self.subscription_home)),
            }),
            _ => None,
        };
        Ok(Standing { endpoint, response, subscription, last_seen: self.last_seen })
    }
}

async fn standings(
    conn: &mut Conn<'_>,
    id: TaskId,
    task_type: TaskType,
    after: Option<EndpointName>,
    limit: u32,
) -> Result<Vec<Standing>, Fault> {
    let by_key = conn.dialect().by_primary_key();
    let mut select = conn.sql(format!(
        "SELECT r.endpoint, {} FROM response AS r {by_key} LEFT JOIN subscription AS s ON s.endpoint = r.endpoint AND s.task_type = ? \
         LEFT JOIN endpoint AS e ON e.name = r.endpoint WHERE r.task_id = ?",
        StandingColumns::LIST
    ));
    select.bind(&task_type).bind(id);
    if let Some(after) = &after {
        select.push(" AND r.endpoint > ?").bind(after);
    }
    let rows = select.push(" ORDER BY r.endpoint LIMIT ?").bind(limit).fetch_all().await?;
    let read = |mut cells: Cells<'_>| {
        let endpoint = cells.take()?;
        Ok(StandingColumns::read(&mut cells)?.decode(endpoint)?)
    };
    rows.iter().map(|row| read(row.cells())).collect()
}

/// How a task stands at an endpoint, which need neither have to answer it nor be known.
async fn standing(conn: &mut Conn<'_>, task: &Task, endpoint: EndpointName) -> Result<Standing, Fault> {
    let mut of_response = conn.sql(format!(
        "SELECT {} FROM response AS r LEFT JOIN subscription AS s ON s.endpoint = r.endpoint AND s.task_type = ? \
         LEFT JOIN endpoint AS e ON e.name = r.endpoint WHERE r.task_id = ? AND r.endpoint = ?",
        StandingColumns::LIST
    ));
    if let Some(row) =
        of_response.bind(&task.task_type).bind(task.id).bind(&endpoint).fetch_optional().await?
    {
        return Ok(StandingColumns::read(&mut row.cells())?.decode(endpoint)?);
    }
    let mut of_endpoint = conn.sql(format!(
        "SELECT {} FROM endpoint AS e LEFT JOIN subscription AS s ON s.endpoint = e.name AND s.task_type = ? \
         LEFT JOIN response AS r ON r.task_id = ? AND r.endpoint = e.name WHERE e.name = ?",
        StandingColumns::LIST
    ));
    match of_endpoint.bind(&task.task_type).bind(task.id).bind(&endpoint).fetch_optional().await? {
        Some(row) => Ok(StandingColumns::read(&mut row.cells())?.decode(endpoint)?),
        None => Ok(Standing { endpoint, response: None, subscription: None, last_seen: None }),
    }
}

/// The place of a task in its queue. One that expired before a worker had it has left the line; what holds
/// for the queue is told all the same, since it may have held before.
async fn line(conn: &mut Conn<'_>, task: &Task) -> Result<Option<Line>, Fault> {
    let mut select = conn.sql("SELECT state, queued_at, limit_key FROM queued_task WHERE task_id = ?");
    let (place, since, key) = match select.bind(task.id).fetch_optional().await? {
        Some(row) => {
            let place = match QueueState::read(row.get(0)?, task.id)? {
                QueueState::Ready => LinePlace::Worker,
                QueueState::Held => LinePlace::Key,
                QueueState::Delayed => LinePlace::Time,
                QueueState::Given | QueueState::Succeeded => LinePlace::Nothing,
            };
            (place, row.get(1)?, payload_key(row.get(2)?, "limit_key")?)
        }
        None if task.status == TaskStatus::Expired && task.counts.expected == 0 => {
            (LinePlace::Nothing, task.start_time, None)
        }
        None => return Ok(None),
    };
    let (paused, of_type) = (paused(conn, &task.task_type).await?, &task.task_type);
    let of_key = match key {
        Some(key) => Some(holders(conn, of_type, &key).await?),
        None => None,
    };
    let ahead = if place == LinePlace::Worker { ahead(conn, task, since).await? } else { 0 };
    let turn = conn.dialect().index("queued_turn");
    let mut running =
        conn.sql(format!("SELECT COUNT(*) FROM queued_task {turn} WHERE task_type = ? AND state = ?"));
    let running = running.bind(of_type).bind(QueueState::Given).fetch_one().await?.count(0)?;
    let running = u32::try_from(running).unwrap_or(u32::MAX);
    Ok(Some(Line { place, since, paused, ahead, of_key, running, workers: workers(conn, of_type).await? }))
}

async fn paused(
    conn: &mut Conn<'_>,
    task_type: &TaskType,
) -> Result<Option<(Timestamp, Option<TokenName>)>, Fault> {
    let mut select =
        conn.sql("SELECT paused_at, paused_by FROM queue WHERE paused_at IS NOT NULL AND task_type = ?");
    let Some(row) = select.bind(task_type).fetch_optional().await? else { return Ok(None) };
    let by = columns::optional_name(row.get(1)?, || "queue, column paused_by".to_owned())?;
    Ok(Some((row.get(0)?, by)))
}

/// How many tasks with a limit key run, and some of them. Walks over those of the type that run, which are no
/// more than there are slots.
async fn holders(
    conn: &mut Conn<'_>,
    task_type: &TaskType,
    key: &[u8; 32],
) -> Result<(u32, Vec<TaskId>), Fault> {
    let turn = conn.dialect().index("queued_turn");
    let mut select = conn.sql(format!(
        "SELECT task_id FROM queued_task {turn} WHERE task_type = ? AND state = ? AND limit_key = ?"
    ));
    let rows = select.bind(task_type).bind(QueueState::Given).bind(key.as_slice()).fetch_all().await?;
    let some: Vec<TaskId> = rows.iter().take(NAMED).map(|row| row.get(0)).collect::<Result<_, _>>()?;
    Ok((u32::try_from(rows.len()).unwrap_or(u32::MAX), some))
}

/// How many tasks of its type are given before a task. Looks at so many at the front of the line, and not at
/// the line.
async fn ahead(conn: &mut Conn<'_>, task: &Task, queued_at: Timestamp) -> Result<u32, Fault> {
    let turn = conn.dialect().index("queued_turn");
    let priority = task.queued.as_ref().map_or(0, |queued| queued.priority);
    let mut select = conn.sql(format!(
        "SELECT COUNT(*) FROM (SELECT priority, queued_at, task_id FROM queued_task {turn} \
         WHERE task_type = ? AND state = ? AND held_key IS NULL ORDER BY priority, queued_at, task_id LIMIT ?) AS front \
         WHERE priority < ? OR priority = ? AND (queued_at < ? OR queued_at = ? AND task_id < ?)"
    ));
    select.bind(&task.task_type).bind(QueueState::Ready).bind(Line::MOST_AHEAD + 1);
    select.bind(priority).bind(priority).bind(queued_at).bind(queued_at).bind(task.id);
    Ok(u32::try_from(select.fetch_one().await?.count(0)?).unwrap_or(u32::MAX))
}

async fn workers(conn: &mut Conn<'_>, task_type: &TaskType) -> Result<Workers, Fault> {
    let index = conn.dialect().index("subscription_type");
    let mut select = conn.sql(format!(
        "SELECT s.endpoint, s.slots, s.trouble FROM subscription AS s {index} \
         WHERE s.task_type = ? AND s.state = ? AND s.slots IS NOT NULL ORDER BY s.endpoint LIMIT ?"
    ));
    let rows = select.bind(task_type).bind(SubscriptionState::Online).bind(WORKERS).fetch_all().await?;
    let (mut workers, mut open) = (Workers::default(), Vec::new());
    for row in &rows {
        let (name, slots, trouble): (EndpointName, u32, Option<&str>) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        workers.present += 1;
        match trouble {
            Some(trouble) => {
                workers.in_trouble += 1;
                if workers.troubled.len() < NAMED {
                    workers.troubled.push((name, trouble.to_owned()));
                }
            }
            None => open.push((name, slots)),
        }
    }
    for some in open.chunks(batch::KEYS) {
        let taken: HashMap<EndpointName, u32> =
            taken(conn, &some.iter().map(|(name, _)| name).collect::<Vec<_>>()).await?;
        for (name, slots) in some {
            workers.slots = workers.slots.saturating_add(*slots);
            let left = slots.saturating_sub(taken.get(name).copied().unwrap_or_default());
            workers.room = workers.room.saturating_add(left);
        }
    }
    if workers.present == 0 {
        let mut last =
            conn.sql(format!("SELECT MAX(s.last_seen) FROM subscription AS s {index} WHERE s.task_type = ? AND s.slots IS NOT NULL"));
        workers.last_seen = last.bind(task_type).fetch_one().await?.get(0)?;
        // Those that would perform the type and cannot have said why: a worker without its handler does not
        // subscribe.
        let mut refused = conn.sql(format!(
            "SELECT s.endpoint, s.trouble FROM subscription AS s {index} JOIN endpoint AS e ON e.name = s.endpoint \
             WHERE s.task_type = ? AND s.state <> ? AND s.trouble IS NOT NULL AND e.last_seen >= s.last_seen ORDER BY s.endpoint LIMIT ?"
        ));
        let rows =
            refused.bind(task_type).bind(SubscriptionState::Online).bind(NAMED as u32).fetch_all().await?;
        workers.troubled =
            rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect::<Result<_, Fault>>()?;
    }
    Ok(workers)
}
