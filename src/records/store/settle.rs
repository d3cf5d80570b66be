//! What happens to tasks apart from reports: claiming, settling, canceling, forgetting.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::batch::{self, sorted};
use super::fault::Fault;
use super::ledger::{Settlement, VANISHED};
use super::responses::ENDED;
use super::sql::{Conn, Row};
use super::subscription::SubscriptionState;
use super::tasks::{self, TASK, lock};
use super::{Operation, Result, Store, StoreError, read};
use crate::domain::{
    EndpointName, FinalAnswer, Ignored, ResponseStatus, Task, TaskId, TaskStatus, TaskType, Throughput,
    Timestamp, errnr,
};

/// A task that somebody has to look at, claimed until the lease runs out.
#[derive(Debug, Clone)]
pub struct DueTask {
    /// The task as it stands.
    pub task: Task,
    /// Whether its expected set has been frozen.
    pub frozen: bool,
    /// How often it was asked for again.
    pub asks: u32,
}

/// What became of tasks that were settled.
#[derive(Debug, Default)]
pub struct Settled {
    /// Tasks whose status changed, with the status they have now.
    pub moved: Vec<(TaskId, TaskStatus)>,
    /// What became of those of them that ended, by type.
    pub ended: Vec<(TaskType, Throughput)>,
}

/// What a cancel did.
#[derive(Debug, Clone)]
pub struct CancelOutcome {
    /// The task afterwards.
    pub task: Task,
    /// Whether this call ended it; false for a repeat.
    pub changed: bool,
    /// Whether it had ended otherwise (done, expired), so that there was nothing to cancel.
    pub refused: bool,
    /// Endpoints that have not finished, or to which it may be on its way: they must be told to stop it or
    /// never to start it.
    pub to_stop: Vec<EndpointName>,
}

/// How long a task is left alone whose row cannot be read: until somebody has looked at it, the others must
/// not wait behind it.
const UNREADABLE: Duration = Duration::from_secs(3600);

impl Store {
    /// Claims tasks that are due, oldest first, by moving their due time to `lease_until`; rows locked by
    /// others are skipped, so processes never wait for each other. Bounded and served by an index.
    pub fn claim_due(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: u32,
    ) -> Operation<'_, Vec<DueTask>> {
        self.transact(move |conn| claim_due(conn, now, lease_until, limit).boxed())
    }

    /// Writes what the reconciler decided, guarded by the states found under the lock. `retention` says how
    /// long a final task is kept. Of the rows given up at the end of a task, those whose endpoint has
    /// received it and is not there with the same memory fail as lost ([`errnr::LOST`]), the others expire.
    pub fn settle(
        &self,
        settlements: &[Settlement],
        now: Timestamp,
        retention: Duration,
    ) -> Operation<'_, Settled> {
        let mut rest = settlements.to_vec();
        rest.sort_by_key(|settlement| settlement.id);
        async move {
            let mut settled = Settled::default();
            while !rest.is_empty() {
                let batch: Arc<[Settlement]> = rest.as_slice().into();
                let (some, done) =
                    self.transact(move |conn| settle(conn, batch.clone(), now, retention).boxed()).await?;
                settled.moved.extend(some.moved);
                settled.ended.extend(some.ended);
                rest.drain(..done);
            }
            Ok(settled)
        }
        .boxed()
    }

    /// Removes final tasks with their responses.
    pub fn forget(&self, ids: &[TaskId]) -> Operation<'_, u64> {
        let mut rest = sorted(ids).to_vec();
        async move {
            let mut forgotten = 0;
            while !rest.is_empty() {
                let batch: Arc<[TaskId]> = rest.as_slice().into();
                let (some, done) = self.transact(move |conn| forget(conn, batch.clone()).boxed()).await?;
                forgotten += some;
                rest.drain(..done);
            }
            Ok(forgotten)
        }
        .boxed()
    }

    /// Cancels a task: the row first; the caller tells the endpoints that run it. Responses nobody has
    /// received are withdrawn at once; those that were received stay open until their endpoints report.
    /// `None` when there is no such task.
    pub fn cancel(
        &self,
        id: TaskId,
        now: Timestamp,
        retention: Duration,
    ) -> Operation<'_, Option<CancelOutcome>> {
        self.transact(move |conn| cancel(conn, id, now, retention).boxed())
    }
}

async fn claim_due(
    conn: &mut Conn<'_>,
    now: Timestamp,
    lease_until: Timestamp,
    limit: u32,
) -> Result<Vec<DueTask>, Fault> {
    let dialect = conn.dialect();
    let (index, by_key, lock) =
        (dialect.index("task_due"), dialect.by_primary_key(), dialect.locked_unless_taken());
    let mut select = conn.sql(format!(
        "SELECT {TASK}, t.frozen_at IS NOT NULL, t.asks FROM task AS t {index} WHERE t.due_at <= ? ORDER BY t.due_at LIMIT ? {lock}"
    ));
    select.bind(now).bind(limit);
    let read = |row: &Row| {
        let mut cells = row.cells();
        match tasks::task(&mut cells) {
            Ok(task) => {
                let bytes = task.payload.get().len();
                Ok((Ok(DueTask { task, frozen: cells.take()?, asks: cells.take()? }), bytes))
            }
            Err(Fault::Told(StoreError::Corrupt { reason })) => Ok((Err((row.get::<TaskId>(0)?, reason)), 0)),
            Err(fault) => Err(fault),
        }
    };
    let (mut due, mut unreadable): (Vec<DueTask>, _) = (Vec::new(), Vec::new());
    for claimed in select.fetch_within(batch::READ_BYTES, read).await? {
        match claimed {
            Ok(task) => due.push(task),
            Err((id, reason)) => {
                tracing::error!(task = %id, error = %reason, "a task cannot be read: it is left alone for an hour");
                unreadable.push(id);
            }
        }
    }
    let readable = due.iter().map(|due| due.task.id).collect();
    for (mut ids, until) in [(readable, lease_until), (unreadable, now.after(UNREADABLE))] {
        ids.sort_unstable();
        for ids in ids.chunks(batch::KEYS) {
            let mut lease = conn.sql(format!("UPDATE task {by_key} SET due_at = ? WHERE id IN "));
            lease.bind(until).keys(ids).execute().await?;
        }
    }
    Ok(due)
}

/// Settles as many as one transaction should; says which moved, and how many are done.
async fn settle(
    conn: &mut Conn<'_>,
    settlements: Arc<[Settlement]>,
    now: Timestamp,
    retention: Duration,
) -> Result<(Settled, usize), Fault> {
    let settlements = &settlements[..settlements.len().min(batch::KEYS)];
    let mut ids: Vec<TaskId> = settlements.iter().map(|settlement| settlement.id).collect();
    ids.dedup();
    let tasks = lock(conn, &ids).await?;
    let (mut settled, mut changes, mut given_up, mut rows, mut done) =
        (Settled::default(), Vec::new(), Vec::new(), 0, 0);
    for same in settlements.chunk_by(|a, b| a.id == b.id) {
        let Some(settlement) = same.last() else { continue };
        let Some(task) = tasks.get(&settlement.id) else {
            done += same.len();
            continue;
        };
        let gives_up = task.gives_up(settlement);
        let open = if gives_up { batch::rows(task.counts.open()) } else { 0 };
        if rows > 0 && rows + open > batch::ROWS {
            break;
        }
        rows += open;
        done += same.len();
        let lost = if gives_up { lose(conn, settlement.id, now).await? } else { 0 };
        let change = task.settle(settlement, lost, now, retention);
        if change.from != change.to {
            settled.moved.push((settlement.id, change.to));
            settled.ended.extend(task.ended(&change));
        }
        changes.push((settlement.id, change));
        if gives_up {
            given_up.push(settlement.id);
        }
    }
    let by_key = conn.dialect().by_primary_key();
    for ids in given_up.chunks(batch::KEYS) {
        let mut give_up =
            conn.sql(format!("UPDATE response {by_key} SET last_modified_time = ?, status = ? WHERE +status < ? AND task_id IN "));
        give_up.bind(now).bind(ResponseStatus::Expired).bind(ENDED).keys(ids).execute().await?;
    }
    tasks::write(conn, changes).await?;
    Ok((settled, done))
}

/// Fails the responses of endpoints that have received a task and are not there any more, or not with the
/// memory that has it. Answers how many.
async fn lose(conn: &mut Conn<'_>, id: TaskId, now: Timestamp) -> Result<u32, Fault> {
    let (by_key, same) = (conn.dialect().by_primary_key(), conn.dialect().same());
    let mut absent = conn.sql(format!(
        "SELECT r.endpoint FROM response AS r {by_key} JOIN task AS t ON t.id = r.task_id WHERE r.task_id = ? AND +r.status = ? \
         AND NOT EXISTS (SELECT 1 FROM subscription AS s WHERE s.endpoint = r.endpoint AND s.task_type = t.task_type \
         AND s.state = ? AND s.home {same} r.home) ORDER BY r.endpoint"
    ));
    let absent =
        absent.bind(id).bind(ResponseStatus::Created).bind(SubscriptionState::Online).fetch_all().await?;
    let names: Vec<&str> = absent.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
    let digest = FinalAnswer { endpoint: "", errnr: errnr::LOST, errmsg: VANISHED, payload: None }
        .digest(&Ignored::default());
    for names in names.chunks(batch::KEYS) {
        let mut lose = conn.sql(format!(
            "UPDATE response {by_key} SET status = ?, errnr = ?, errmsg = ?, answer = ?, last_modified_time = ? \
             WHERE +status = ? AND task_id = ? AND endpoint IN "
        ));
        lose.bind(ResponseStatus::Finished)
            .bind(errnr::LOST)
            .bind(VANISHED)
            .bind(digest)
            .bind(now)
            .bind(ResponseStatus::Created)
            .bind(id);
        lose.keys(names).execute().await?;
    }
    Ok(u32::try_from(names.len()).unwrap_or(u32::MAX))
}

pub(super) async fn cancel(
    conn: &mut Conn<'_>,
    id: TaskId,
    now: Timestamp,
    retention: Duration,
) -> Result<Option<CancelOutcome>, Fault> {
    let Some(state) = lock(conn, &[id]).await?.remove(&id) else { return Ok(None) };
    let mut open =
        conn.sql("SELECT endpoint, status FROM response WHERE task_id = ? AND +status < ? ORDER BY endpoint");
    let open = open.bind(id).bind(ENDED).fetch_all().await?;
    let (mut to_stop, mut withdrawn) = (Vec::with_capacity(open.len()), 0);
    for row in &open {
        withdrawn += u32::from(row.get::<u8>(1)? == ResponseStatus::Expected.code());
        to_stop.push(row.get(0)?);
    }
    let (changed, refused) = match state.cancel(withdrawn, now, retention) {
        Err(_) => (false, true),
        Ok(None) => (false, false),
        Ok(Some(change)) => {
            let mut withdraw = conn.sql(
                "UPDATE response SET last_modified_time = ?, status = ? WHERE task_id = ? AND status = ?",
            );
            withdraw
                .bind(now)
                .bind(ResponseStatus::Canceled)
                .bind(id)
                .bind(ResponseStatus::Expected)
                .execute()
                .await?;
            tasks::write(conn, vec![(id, change)]).await?;
            (true, false)
        }
    };
    let task = read::find(conn, id).await?;
    Ok(task.map(|task| CancelOutcome {
        task,
        changed,
        refused,
        to_stop: if refused { Vec::new() } else { to_stop },
    }))
}

/// Forgets as many as one transaction should; says how many went, and how many ids are done.
async fn forget(conn: &mut Conn<'_>, ids: Arc<[TaskId]>) -> Result<(u64, usize), Fault> {
    let ids = &ids[..ids.len().min(batch::KEYS)];
    let tasks = lock(conn, ids).await?;
    let (mut finals, mut rows, mut done) = (Vec::new(), 0, 0);
    for id in ids {
        if let Some(task) = tasks.get(id).filter(|task| task.status.is_final()) {
            let expected = batch::rows(task.counts.expected);
            if rows > 0 && rows + expected > batch::ROWS {
                break;
            }
            rows += expected;
            finals.push(*id);
        }
        done += 1;
    }
    if finals.is_empty() {
        return Ok((0, done));
    }
    conn.sql("DELETE FROM response_log WHERE task_id IN ").keys(&finals).execute().await?;
    conn.sql("DELETE FROM response WHERE task_id IN ").keys(&finals).execute().await?;
    let forgotten = conn.sql("DELETE FROM task WHERE id IN ").keys(&finals).execute().await?;
    Ok((forgotten, done))
}
