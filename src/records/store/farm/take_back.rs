//! Taking tasks from their workers: because the worker gives them back, or the Server wants them canceled.

use std::sync::Arc;

use futures::FutureExt;

use super::{Farm, Lock, LogLine, outgoing, task_rows, worker_rows};
use crate::domain::Timestamp;
use crate::farm::{ObjectId, Seen, TaskStatus, Update, Worker};
use crate::store::fault::Fault;
use crate::store::sql::Conn;
use crate::store::{Operation, Result};

impl Farm {
    /// A worker gives a task back. Answers whether there is such a task, with lines for logs; nothing for a
    /// worker that is not there.
    pub fn give_back(
        &self,
        worker: ObjectId,
        task: ObjectId,
        seen: &Seen,
    ) -> Operation<'_, Option<(bool, Vec<LogLine>)>> {
        let seen = Arc::new(seen.clone());
        self.store.transact(move |conn| give_back(conn, worker, task, seen.clone()).boxed())
    }

    /// A worker signs off, and gives back what it has. Nothing for a worker that is not there.
    pub fn sign_off(&self, worker: ObjectId, now: Timestamp) -> Operation<'_, Option<Vec<LogLine>>> {
        self.store.transact(move |conn| sign_off(conn, worker, now).boxed())
    }

    /// Removes a worker, and takes back what it has; only if it was last heard of before, when that is the
    /// reason. Nothing for a worker that is not removed.
    pub fn remove_worker(
        &self,
        worker: ObjectId,
        silent_since: Option<Timestamp>,
        now: Timestamp,
    ) -> Operation<'_, Option<Vec<LogLine>>> {
        self.store.transact(move |conn| remove(conn, worker, silent_since, now).boxed())
    }

    /// The Server wants tasks canceled.
    pub fn cancel(&self, tasks: &[ObjectId], now: Timestamp) -> Operation<'_, Vec<LogLine>> {
        let tasks = tasks.to_vec();
        async move {
            let mut lines = Vec::new();
            for task in tasks {
                lines.extend(self.store.transact(move |conn| cancel(conn, task, now).boxed()).await?);
            }
            Ok(lines)
        }
        .boxed()
    }
}

async fn give_back(
    conn: &mut Conn<'_>,
    worker: ObjectId,
    task: ObjectId,
    seen: Arc<Seen>,
) -> Result<Option<(bool, Vec<LogLine>)>, Fault> {
    let now = seen.at;
    let is_seen = Arc::new(move |worker: &mut Worker| worker.seen(&seen));
    let Some((worker, ())) = worker_rows::change_row(conn, worker, is_seen).await? else { return Ok(None) };
    if task_rows::brief(conn, task, Lock::None).await?.is_none() {
        return Ok(Some((false, Vec::new())));
    }
    let line = release(conn, &worker, task, "returned it", now).await?;
    Ok(Some((true, line.into_iter().collect())))
}

async fn sign_off(
    conn: &mut Conn<'_>,
    worker: ObjectId,
    now: Timestamp,
) -> Result<Option<Vec<LogLine>>, Fault> {
    let Some(mut worker) = worker_rows::find(conn, worker, Lock::Held).await? else { return Ok(None) };
    let lines = release_all(conn, &worker, "signed off", now).await?;
    worker.sign_off();
    worker_rows::write(conn, &worker).await?;
    Ok(Some(lines))
}

async fn remove(
    conn: &mut Conn<'_>,
    worker: ObjectId,
    silent_since: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Vec<LogLine>>, Fault> {
    let Some(worker) = worker_rows::find(conn, worker, Lock::Held).await? else { return Ok(None) };
    if silent_since.is_some_and(|since| worker.was_heard_after(since)) {
        return Ok(None);
    }
    let lines = release_all(conn, &worker, "was removed", now).await?;
    worker_rows::delete(conn, worker.id).await?;
    Ok(Some(lines))
}

/// Takes all its active tasks from a worker.
pub(super) async fn release_all(
    conn: &mut Conn<'_>,
    worker: &Worker,
    why: &str,
    now: Timestamp,
) -> Result<Vec<LogLine>, Fault> {
    let mut select = conn.sql("SELECT id FROM farm_task WHERE worker_id = ? AND status = ? ORDER BY id");
    let rows = select.bind(worker.id).bind(TaskStatus::Active.code()).fetch_all().await?;
    let mut lines = Vec::new();
    for row in &rows {
        lines.extend(release(conn, worker, row.get(0)?, why, now).await?);
    }
    Ok(lines)
}

/// Takes a task from a worker, if the worker runs it.
async fn release(
    conn: &mut Conn<'_>,
    worker: &Worker,
    task: ObjectId,
    why: &str,
    now: Timestamp,
) -> Result<Option<LogLine>, Fault> {
    let brief = task_rows::brief(conn, task, Lock::Held).await?;
    let runs = |task: &task_rows::Brief| {
        task.status == TaskStatus::Active && task.worker_id.is_none_or(|id| id == worker.id)
    };
    let Some(brief) = brief.filter(runs) else { return Ok(None) };
    let activity = format!("Re-queued, worker {} {why}", worker.identifier());
    let (update, text) = Update::of_manager(task, now, Some(TaskStatus::ClaimedByManager), &activity);
    task_rows::set_status(conn, &brief, TaskStatus::ClaimedByManager, now).await?;
    outgoing::queue(conn, brief.is_local(), &[Update { worker: "-".to_owned(), ..update }]).await?;
    Ok(Some(LogLine { job: brief.job, task, text }))
}

async fn cancel(conn: &mut Conn<'_>, task: ObjectId, now: Timestamp) -> Result<Option<LogLine>, Fault> {
    let brief = task_rows::brief(conn, task, Lock::Held).await?;
    let (mut job, mut is_local) = (None, false);
    if let Some(brief) = &brief {
        (job, is_local) = (brief.job, brief.is_local());
        let next = brief.status.canceled_by_server();
        if next != brief.status {
            task_rows::set_status(conn, brief, next, now).await?;
        }
        // The worker is told when it asks whether it may go on.
        if next == TaskStatus::CancelRequested {
            return Ok(None);
        }
    }
    let (told, text) = Update::of_manager(task, now, None, "Canceled, as the Server asked");
    let canceled = Update { status: Some(TaskStatus::Canceled), ..Update::new(task, now) };
    outgoing::queue(conn, is_local, &[told, canceled]).await?;
    Ok(Some(LogLine { job, task, text }))
}
