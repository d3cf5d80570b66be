//! What workers say about their tasks.

use std::sync::Arc;

use futures::FutureExt;

use super::task_rows::Brief;
use super::{Farm, Lock, LogLine, barred, outgoing, task_rows, worker_rows};
use crate::domain::Timestamp;
use crate::farm::{
    FailedBy, Failing, FailureLimits, ObjectId, Request, Seen, TaskStatus, Update, Worker, WorkerReport,
    log_tail,
};
use crate::store::columns::json_text;
use crate::store::fault::Fault;
use crate::store::sql::Conn;
use crate::store::{Operation, Result};

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// There is no such worker.
    Gone,
    /// There is no such task.
    Unknown,
    /// Another worker has the task.
    Taken,
    /// It is kept, with these lines for logs.
    Accepted(Vec<LogLine>),
}

/// Whether a worker may go on with a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MayRun {
    /// Why it may not.
    pub refused: Option<String>,
    /// What it is to become.
    pub requested: Option<Request>,
}

impl Farm {
    /// Takes in what a worker says about a task.
    pub fn report(
        &self,
        worker: ObjectId,
        task: ObjectId,
        report: WorkerReport,
        limits: FailureLimits,
        seen: &Seen,
    ) -> Operation<'_, Reported> {
        let (report, seen) = (Arc::new(report), Arc::new(seen.clone()));
        self.store
            .transact(move |conn| take_in(conn, worker, task, report.clone(), limits, seen.clone()).boxed())
    }

    /// Says whether a worker may go on with a task, and notes that it does; nothing for a worker that is not
    /// there.
    pub fn may_run(&self, worker: ObjectId, task: ObjectId, seen: &Seen) -> Operation<'_, Option<MayRun>> {
        let seen = Arc::new(seen.clone());
        self.store.transact(move |conn| may_run(conn, worker, task, seen.clone()).boxed())
    }
}

async fn take_in(
    conn: &mut Conn<'_>,
    worker: ObjectId,
    task: ObjectId,
    report: Arc<WorkerReport>,
    limits: FailureLimits,
    seen: Arc<Seen>,
) -> Result<Reported, Fault> {
    let now = seen.at;
    let Some(before) = worker_rows::find(conn, worker, Lock::Held).await? else { return Ok(Reported::Gone) };
    let mut worker = before.clone();
    worker.seen(&seen);
    let brief = match task_rows::brief(conn, task, Lock::Held).await? {
        Some(task) if task.worker_id.is_none_or(|id| id == worker.id) => task,
        other => {
            worker_rows::write_changed(conn, &worker, &before).await?;
            return Ok(if other.is_some() { Reported::Taken } else { Reported::Unknown });
        }
    };
    worker.shows_task(&report.raw_status, now);
    worker_rows::write_changed(conn, &worker, &before).await?;

    let mut update = Update {
        progress: report.progress,
        log_tail: log_tail(&report.log),
        worker: worker.identifier(),
        timing: report.timing.clone(),
        ..Update::new(task, now)
    };
    let mut lines = Vec::new();
    // Of a task that it does not run any more a worker may bring the rest of the log, and decides nothing.
    if brief.status == TaskStatus::Active {
        (update.status, update.activity) = (report.status, report.activity.clone());
        if report.status == Some(TaskStatus::Failed) {
            let (status, failed_by, more) = fail(conn, &worker, &brief, limits, now).await?;
            (update.status, update.failed_by) = (Some(status), Some(failed_by));
            lines = more;
        }
    }
    apply(conn, &worker, &brief, &update, now).await?;
    outgoing::queue(conn, brief.is_local(), &[update]).await?;
    if !report.log.is_empty() {
        lines.insert(0, LogLine { job: brief.job, task, text: report.log.clone() });
    }
    Ok(Reported::Accepted(lines))
}

/// Writes what an update says to the task.
async fn apply(
    conn: &mut Conn<'_>,
    worker: &Worker,
    brief: &Brief,
    update: &Update,
    now: Timestamp,
) -> Result<(), Fault> {
    let tail = match &update.log_tail {
        Some(new) => {
            let before = task_rows::log_tail(conn, brief.id).await?.unwrap_or_default();
            log_tail(&format!("{before}{new}"))
        }
        None => None,
    };
    let mut change = conn.sql("UPDATE farm_task SET worker_id = ?, last_worker_ping = ?, last_updated = ?");
    change.bind(worker.id).bind(now).bind(now);
    if !update.activity.is_empty() {
        change.push(", activity = ?").bind(&*update.activity);
    }
    if let Some(timing) = update.timing.as_ref().filter(|timing| !timing.is_empty()) {
        change.push(", timing = ?").bind(json_text(timing)?);
    }
    if let Some(tail) = &tail {
        change.push(", log_tail = ?").bind(&**tail);
    }
    if let Some(failed_by) = &update.failed_by {
        change.push(", failed_by = ?").bind(json_text(failed_by)?);
    }
    change.push(" WHERE id = ?").bind(brief.id).execute().await?;
    if let Some(reported) = update.status {
        let next = brief.status.next(reported);
        if next != brief.status {
            task_rows::set_status(conn, brief, next, now).await?;
        }
    }
    Ok(())
}

/// What becomes of a task that has failed on a worker: its status, all workers on which it has failed, and
/// what is to be logged of other tasks.
async fn fail(
    conn: &mut Conn<'_>,
    worker: &Worker,
    brief: &Brief,
    limits: FailureLimits,
    now: Timestamp,
) -> Result<(TaskStatus, Vec<FailedBy>, Vec<LogLine>), Fault> {
    let job = brief.job_key();
    let barred = barred::from(conn, &job, &brief.task_type, now).await?;
    let others = worker_rows::all(conn)
        .await?
        .into_iter()
        .filter(|other| other.id != worker.id && other.task_types.contains(&brief.task_type));
    let others: Vec<ObjectId> = others.map(|other| other.id).filter(|id| !barred.contains(id)).collect();
    let failed_before = failed_on(conn, worker.id, brief).await?;
    let mut failed_by = brief.failed_by.clone();
    if !failed_by.iter().any(|failed| failed.id == Some(worker.id)) {
        failed_by.push(FailedBy { id: Some(worker.id), identifier: worker.identifier() });
    }
    let ids: Vec<ObjectId> = failed_by.iter().filter_map(|failed| failed.id).collect();
    let failures = u32::try_from(failed_before.len() + 1).unwrap_or(u32::MAX);
    let verdict = Failing { others: &others, failures, failed_by: &ids }.judge(limits);
    let mut lines = Vec::new();
    if verdict.bars_worker {
        barred::bar(conn, worker.id, &job, &brief.task_type, now).await?;
    }
    if verdict.fails_others {
        for (id, status) in failed_before.into_iter().filter(|(_, status)| *status == TaskStatus::SoftFailed)
        {
            let Some(other) =
                task_rows::brief(conn, id, Lock::Held).await?.filter(|other| other.status == status)
            else {
                continue;
            };
            let activity = format!("Failed, no worker is left after {} was blacklisted", worker.identifier());
            let (update, text) = Update::of_manager(id, now, Some(TaskStatus::Failed), &activity);
            task_rows::set_status(conn, &other, TaskStatus::Failed, now).await?;
            outgoing::queue(conn, other.is_local(), &[update]).await?;
            lines.push(LogLine { job: other.job, task: id, text });
        }
    }
    Ok((verdict.status, failed_by, lines))
}

/// The other tasks of the same type of the same job that have failed on a worker, and wait for another one or
/// not.
async fn failed_on(
    conn: &mut Conn<'_>,
    worker: ObjectId,
    brief: &Brief,
) -> Result<Vec<(ObjectId, TaskStatus)>, Fault> {
    let mut failed = Vec::new();
    for status in [TaskStatus::SoftFailed, TaskStatus::Failed] {
        let mut select = conn.sql("SELECT id FROM farm_task WHERE worker_id = ? AND status = ? AND job = ? AND task_type = ? AND id <> ?");
        select.bind(worker).bind(status.code()).bind(brief.job_key()).bind(&*brief.task_type).bind(brief.id);
        for row in select.fetch_all().await? {
            failed.push((row.get(0)?, status));
        }
    }
    Ok(failed)
}

async fn may_run(
    conn: &mut Conn<'_>,
    worker: ObjectId,
    task: ObjectId,
    seen: Arc<Seen>,
) -> Result<Option<MayRun>, Fault> {
    let now = seen.at;
    let Some(before) = worker_rows::find(conn, worker, Lock::Held).await? else { return Ok(None) };
    let mut worker = before.clone();
    worker.works();
    worker.seen(&seen);
    let refused = match &task_rows::brief(conn, task, Lock::Held).await? {
        None => Some("unknown task".to_owned()),
        Some(task) if task.worker_id.is_some_and(|id| id != worker.id) => {
            Some("another worker has this task".to_owned())
        }
        Some(task) if task.status != TaskStatus::Active => Some(format!("task is {}", task.status.as_str())),
        Some(_) => worker.must_become().map(|request| format!("worker must go {}", request.as_str())),
    };
    if refused.is_none() {
        worker.shows_task("", now);
        let mut ping =
            conn.sql("UPDATE farm_task SET worker_id = ?, last_worker_ping = ? WHERE id = ? AND status = ?");
        ping.bind(worker.id).bind(now).bind(task).bind(TaskStatus::Active.code()).execute().await?;
    }
    worker_rows::write_changed(conn, &worker, &before).await?;
    Ok(Some(MayRun { refused, requested: worker.requested }))
}
