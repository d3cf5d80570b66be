//! Tasks as the Server has them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt;

use super::{Farm, Lock, parents, task_rows};
use crate::domain::Timestamp;
use crate::farm::{ObjectId, Task, TaskStatus};
use crate::store::fault::Fault;
use crate::store::sql::Conn;
use crate::store::{Operation, Result, batch};

impl Farm {
    /// Keeps tasks as the Server has them, over those of the same ids. `last_updated` is when the Server was
    /// asked. A task that a worker runs stays if the Server is still to be told something of it, or if it has
    /// changed since the Server was asked: the Server's word is older. Answers how many were kept.
    pub fn download(&self, tasks: &[Task]) -> Operation<'_, usize> {
        let batches: Vec<Arc<[Task]>> =
            batch::runs(tasks, batch::WIDE_ROWS, bytes).into_iter().map(Into::into).collect();
        async move {
            let mut kept = 0;
            for tasks in batches {
                kept += self.store.transact(move |conn| keep(conn, tasks.clone()).boxed()).await?;
            }
            Ok(kept)
        }
        .boxed()
    }

    /// The Server has another version of a task that is about to be handed out. What only the farm knows of
    /// it stays.
    pub fn replace(&self, task: &Task) -> Operation<'_, ()> {
        let task = Arc::new(task.clone());
        self.store.transact(move |conn| replace(conn, task.clone()).boxed())
    }

    /// The Server does not have a task any more, or nothing that can be read.
    pub fn drop_task(&self, task: ObjectId, now: Timestamp) -> Operation<'_, ()> {
        self.store.transact(move |conn| drop_task(conn, task, now).boxed())
    }
}

/// Bytes of a task in a statement, about.
fn bytes(task: &Task) -> usize {
    let settings = |command: &crate::farm::Command| {
        serde_json::to_string(&command.settings).map_or(0, |text| text.len())
    };
    512 + task.log.len()
        + task.activity.len()
        + task.parents.len() * 26
        + task.commands.iter().map(settings).sum::<usize>()
}

async fn keep(conn: &mut Conn<'_>, tasks: Arc<[Task]>) -> Result<usize, Fault> {
    let asked: BTreeMap<ObjectId, Option<Timestamp>> =
        tasks.iter().map(|task| (task.id, task.last_updated)).collect();
    let mut ahead = BTreeSet::new();
    let ids: Vec<ObjectId> = asked.keys().copied().collect();
    let lock = conn.dialect().locked();
    for ids in ids.chunks(batch::KEYS) {
        let mut select = conn.sql(
            "SELECT t.id, t.last_updated, EXISTS (SELECT 1 FROM farm_update AS u WHERE u.task_id = t.id) \
             FROM farm_task AS t WHERE t.status IN (?, ?) AND t.id IN ",
        );
        select.bind(TaskStatus::Active.code()).bind(TaskStatus::CancelRequested.code());
        for row in select.keys(ids).push(lock).fetch_all().await? {
            let (id, changed): (ObjectId, Option<Timestamp>) = (row.get(0)?, row.get(1)?);
            // Since the Server was asked, a worker may have got it, and the update of that gone out.
            let since = asked.get(&id).copied().flatten().is_some_and(|asked| changed > Some(asked));
            if since || row.get(2)? {
                ahead.insert(id);
            }
        }
    }
    let tasks: Vec<Task> = tasks.iter().filter(|task| !ahead.contains(&task.id)).cloned().collect();
    task_rows::put(conn, &tasks).await?;
    parents::put(conn, &tasks).await?;
    Ok(tasks.len())
}

async fn replace(conn: &mut Conn<'_>, task: Arc<Task>) -> Result<(), Fault> {
    let mut task = Task::clone(&task);
    if let Some(before) = task_rows::find(conn, task.id).await? {
        (task.worker_id, task.last_worker_ping) = (before.worker_id, before.last_worker_ping);
        let kept = |new: String, old: String| if new.is_empty() { old } else { new };
        task.log = kept(task.log, before.log);
        task.activity = kept(task.activity, before.activity);
        task.worker = kept(task.worker, before.worker);
        task.timing = task.timing.or(before.timing);
        if task.parents.is_empty() {
            task.parents = before.parents;
        }
        if task.failed_by.is_empty() {
            task.failed_by = before.failed_by;
        }
    }
    task_rows::put(conn, std::slice::from_ref(&task)).await?;
    parents::put(conn, std::slice::from_ref(&task)).await
}

async fn drop_task(conn: &mut Conn<'_>, task: ObjectId, now: Timestamp) -> Result<(), Fault> {
    if let Some(brief) = task_rows::brief(conn, task, Lock::Held).await? {
        task_rows::set_status(conn, &brief, TaskStatus::Canceled, now).await?;
    }
    Ok(())
}
