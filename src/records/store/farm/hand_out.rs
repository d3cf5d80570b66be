//! Handing out tasks, each to one worker.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::worker_rows::change_row;
use super::{Farm, Lock, LogLine, barred, outgoing, task_rows, worker_rows};
use crate::domain::Timestamp;
use crate::farm::{ObjectId, Request, Seen, Task, TaskStatus, Update, Worker};
use crate::store::fault::Fault;
use crate::store::sql::Conn;
use crate::store::{Operation, Result};

/// How long a task is kept for a worker while the Server is asked whether it has changed. Longer than that
/// question takes.
const RESERVED_FOR: Duration = Duration::from_secs(5);

/// What a worker that asks for a task gets.
#[derive(Debug)]
pub enum Asked {
    /// There is no such worker.
    Gone,
    /// It has to become something first.
    Told(Request),
    /// It supports no type of task.
    NoTypes,
    /// There is no task for it.
    Nothing,
    /// This task is kept for it, until it is assigned or the time of that is over.
    Offered(Box<(Worker, Task)>),
}

/// A task that has become a worker's.
#[derive(Debug)]
pub struct Assigned {
    /// Whether it had the task already.
    pub again: bool,
    /// What the log of the task says of it.
    pub line: LogLine,
}

impl Farm {
    /// Notes that a worker asks for a task, and finds the best one that it may have: the one that it has
    /// already, or one that is ready, by the priority of its job, its own, and its age.
    pub fn ask(&self, worker: ObjectId, seen: &Seen) -> Operation<'_, Asked> {
        let seen = Arc::new(seen.clone());
        self.store.transact(move |conn| ask(conn, worker, seen.clone()).boxed())
    }

    /// Makes a task that was offered to a worker the worker's, and tells the Server; nothing if that has
    /// become impossible meanwhile.
    pub fn assign(
        &self,
        worker: ObjectId,
        task: ObjectId,
        now: Timestamp,
    ) -> Operation<'_, Option<Assigned>> {
        self.store.transact(move |conn| assign(conn, worker, task, now).boxed())
    }
}

async fn ask(conn: &mut Conn<'_>, worker: ObjectId, seen: Arc<Seen>) -> Result<Asked, Fault> {
    let now = seen.at;
    let asks = Arc::new(move |worker: &mut Worker| {
        worker.works();
        worker.seen(&seen);
    });
    let Some((worker, ())) = change_row(conn, worker, asks).await? else { return Ok(Asked::Gone) };
    if let Some(request) = worker.requested {
        return Ok(Asked::Told(request));
    }
    if worker.task_types.is_empty() {
        return Ok(Asked::NoTypes);
    }
    let Some(id) = choose(conn, &worker, now).await? else { return Ok(Asked::Nothing) };
    let Some(task) = task_rows::find(conn, id).await? else { return Ok(Asked::Nothing) };
    Ok(Asked::Offered(Box::new((worker, task))))
}

async fn choose(conn: &mut Conn<'_>, worker: &Worker, now: Timestamp) -> Result<Option<ObjectId>, Fault> {
    let mut own = conn.sql("SELECT id FROM farm_task WHERE worker_id = ? AND status = ? ORDER BY id LIMIT 1");
    if let Some(row) = own.bind(worker.id).bind(TaskStatus::Active.code()).fetch_optional().await? {
        return Ok(Some(row.get(0)?));
    }
    let dialect = conn.dialect();
    // By one key for each type, so that a choice costs the same however many tasks there are.
    let (index, lock) = (dialect.index("farm_task_turn"), dialect.locked_unless_taken());
    let best_of_type = format!(
        "SELECT t.job_turn, t.turn, t.id FROM farm_task AS t {index} WHERE t.ready = 1 AND t.task_type = ? \
         AND (t.reserved_until IS NULL OR t.reserved_until <= ? OR t.reserved_by = ?) \
         AND (t.failed_by IS NULL OR INSTR(t.failed_by, ?) = 0) \
         AND NOT EXISTS (SELECT 1 FROM farm_barred AS b WHERE b.worker_id = ? AND b.job = t.job AND b.task_type = t.task_type AND b.since > ?) \
         ORDER BY t.job_turn, t.turn, t.id LIMIT 1 {lock}"
    );
    let mut best: Option<(i32, i32, ObjectId)> = None;
    for task_type in worker.task_types.iter().collect::<BTreeSet<_>>() {
        let mut select = conn.sql(best_of_type.clone());
        select
            .bind(&**task_type)
            .bind(now)
            .bind(worker.id)
            .bind(worker.id.to_string())
            .bind(worker.id)
            .bind(barred::still(now));
        if let Some(row) = select.fetch_optional().await? {
            let found = (row.get(0)?, row.get(1)?, row.get(2)?);
            best = Some(best.map_or(found, |best| best.min(found)));
        }
    }
    let Some((.., id)) = best else { return Ok(None) };
    let mut reserve = conn.sql("UPDATE farm_task SET reserved_by = ?, reserved_until = ? WHERE id = ?");
    reserve.bind(worker.id).bind(now.after(RESERVED_FOR)).bind(id).execute().await?;
    Ok(Some(id))
}

async fn assign(
    conn: &mut Conn<'_>,
    worker: ObjectId,
    task: ObjectId,
    now: Timestamp,
) -> Result<Option<Assigned>, Fault> {
    let Some(mut worker) = worker_rows::find(conn, worker, Lock::Held).await? else { return Ok(None) };
    let Some(brief) = task_rows::brief(conn, task, Lock::Held).await? else { return Ok(None) };
    let again = brief.status == TaskStatus::Active;
    let mut take = conn.sql(
        "UPDATE farm_task SET status = ?, worker_id = ?, worker = ?, last_worker_ping = ?, last_updated = ?, \
         reserved_by = NULL, reserved_until = NULL WHERE id = ? AND ((ready = 1 AND reserved_by = ?) OR (status = ? AND worker_id = ?))",
    );
    let active = TaskStatus::Active.code();
    take.bind(active).bind(worker.id).bind(&*worker.nickname).bind(now).bind(now);
    take.bind(task).bind(worker.id).bind(active).bind(worker.id);
    if take.execute().await? == 0 {
        return Ok(None);
    }
    let is_active = Update { status: Some(TaskStatus::Active), ..Update::new(task, now) };
    let (told, text) = Update::of_manager(task, now, None, &format!("Assigned to {}", worker.identifier()));
    outgoing::queue(conn, brief.is_local(), &[is_active, told]).await?;
    (worker.current_task, worker.current_job) = (Some(task), brief.job);
    worker_rows::write(conn, &worker).await?;
    Ok(Some(Assigned { again, line: LogLine { job: brief.job, task, text } }))
}
