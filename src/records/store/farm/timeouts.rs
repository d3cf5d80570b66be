//! Tasks and workers of which nothing has been heard for too long.

use futures::FutureExt;

use super::{Farm, Lock, LogLine, outgoing, take_back, task_rows, worker_rows};
use crate::domain::Timestamp;
use crate::farm::{ObjectId, TaskStatus, Update, WorkerStatus};
use crate::store::fault::Fault;
use crate::store::sql::Conn;
use crate::store::{Operation, Result};

impl Farm {
    /// Gives up tasks of which no worker has shown since then that it runs them; their workers have timed
    /// out.
    pub fn time_out_tasks(&self, before: Timestamp, now: Timestamp) -> Operation<'_, Vec<LogLine>> {
        async move {
            let mut lines = Vec::new();
            for task in self.store.run(move |conn| silent_tasks(conn, before).boxed()).await? {
                lines.extend(
                    self.store.transact(move |conn| time_out_task(conn, task, before, now).boxed()).await?,
                );
            }
            Ok(lines)
        }
        .boxed()
    }

    /// Takes their tasks from workers that are awake and were not heard of since then.
    pub fn time_out_workers(&self, before: Timestamp, now: Timestamp) -> Operation<'_, Vec<LogLine>> {
        async move {
            let mut lines = Vec::new();
            for worker in
                self.workers_silent_since(&[WorkerStatus::Awake.as_str().to_owned()], before).await?
            {
                lines.extend(
                    self.store
                        .transact(move |conn| time_out_worker(conn, worker, Some(before), now).boxed())
                        .await?,
                );
            }
            Ok(lines)
        }
        .boxed()
    }
}

async fn silent_tasks(
    conn: &mut Conn<'_>,
    before: Timestamp,
) -> Result<Vec<(ObjectId, Option<ObjectId>)>, Fault> {
    let mut select = conn
        .sql("SELECT id, worker_id FROM farm_task WHERE status = ? AND (last_worker_ping IS NULL OR last_worker_ping <= ?) ORDER BY id");
    let rows = select.bind(TaskStatus::Active.code()).bind(before).fetch_all().await?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

async fn time_out_task(
    conn: &mut Conn<'_>,
    (task, worker): (ObjectId, Option<ObjectId>),
    before: Timestamp,
    now: Timestamp,
) -> Result<Vec<LogLine>, Fault> {
    let named = match worker {
        Some(worker) => worker_rows::find(conn, worker, Lock::Held).await?,
        None => None,
    };
    let silent = |task: &task_rows::Brief| {
        task.status == TaskStatus::Active
            && task.worker_id == worker
            && task.last_worker_ping.is_none_or(|ping| ping <= before)
    };
    // The worker may have come back, or another manager may have been here.
    if task_rows::brief(conn, task, Lock::Held).await?.filter(silent).is_none() {
        return Ok(Vec::new());
    }
    let mut lines = match &named {
        Some(worker) => time_out_worker(conn, worker.id, None, now).await?,
        None => Vec::new(),
    };
    let Some(brief) = task_rows::brief(conn, task, Lock::Held).await? else { return Ok(lines) };
    let on = named.map_or_else(|| "an unknown worker".to_owned(), |worker| worker.identifier());
    let (update, text) =
        Update::of_manager(task, now, Some(TaskStatus::Failed), &format!("Timed out on {on}"));
    task_rows::set_status(conn, &brief, TaskStatus::Failed, now).await?;
    outgoing::queue(conn, brief.is_local(), &[update]).await?;
    lines.push(LogLine { job: brief.job, task, text });
    Ok(lines)
}

/// Times a worker out; only if it is awake and still silent, when that is the reason.
async fn time_out_worker(
    conn: &mut Conn<'_>,
    worker: ObjectId,
    silent_since: Option<Timestamp>,
    now: Timestamp,
) -> Result<Vec<LogLine>, Fault> {
    let Some(mut worker) = worker_rows::find(conn, worker, Lock::Held).await? else { return Ok(Vec::new()) };
    if let Some(since) = silent_since
        && (worker.status != WorkerStatus::Awake || worker.was_heard_after(since))
    {
        return Ok(Vec::new());
    }
    worker.time_out();
    worker_rows::write(conn, &worker).await?;
    take_back::release_all(conn, &worker, "timed out", now).await
}
