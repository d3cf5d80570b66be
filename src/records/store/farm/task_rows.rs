//! Tasks.

use futures::FutureExt;
use serde::{Deserialize, Serialize};

use super::{Farm, Lock, parents};
use crate::domain::Timestamp;
use crate::farm::{Command, FailedBy, MANAGER_LOCAL, ObjectId, Task, TaskStatus, TaskSummary, optional_id};
use crate::store::columns::{corrupt, json_text, list};
use crate::store::fault::Fault;
use crate::store::sql::{Conn, selected};
use crate::store::{Operation, Result, batch};

/// Tasks that are deleted in one transaction at most.
const DELETED: i64 = 1000;

impl Farm {
    /// A task.
    pub fn task(&self, id: ObjectId) -> Operation<'_, Option<Task>> {
        self.store.run(move |conn| find(conn, id).boxed())
    }

    /// How many tasks there are.
    pub fn count_tasks(&self) -> Operation<'_, u64> {
        self.store.run(|conn| {
            async { conn.sql("SELECT COUNT(*) FROM farm_task").fetch_one().await?.count(0) }.boxed()
        })
    }

    /// Deletes all tasks; how many there were.
    pub fn delete_all_tasks(&self) -> Operation<'_, u64> {
        self.store.transact(|conn| {
            async {
                conn.sql("DELETE FROM farm_parent").execute().await?;
                conn.sql("DELETE FROM farm_task").execute().await
            }
            .boxed()
        })
    }

    /// Deletes tasks that no worker has had since then, and of those that no worker ever had those that have
    /// not changed since. Answers how many; fewer than there are at a time.
    pub fn delete_old_tasks(&self, before: Timestamp) -> Operation<'_, u64> {
        self.store.transact(move |conn| delete_old(conn, before).boxed())
    }
}

/// What the database keeps of a task without looking into it.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Document {
    #[serde(with = "optional_id")]
    manager: Option<ObjectId>,
    #[serde(with = "optional_id")]
    project: Option<ObjectId>,
    #[serde(with = "optional_id")]
    user: Option<ObjectId>,
    name: String,
    commands: Vec<Command>,
    log: String,
    parents: Vec<ObjectId>,
}

selected! {
    /// A task as its row has it.
    TaskColumns<'r> {
        id: ObjectId = "id",
        status: u8 = "status",
        job: &'r [u8] = "job",
        job_type: &'r str = "job_type",
        task_type: &'r str = "task_type",
        job_turn: i32 = "job_turn",
        turn: i32 = "turn",
        etag: &'r str = "etag",
        activity: &'r str = "activity",
        worker: &'r str = "worker",
        worker_id: Option<ObjectId> = "worker_id",
        failed_by: Option<&'r str> = "failed_by",
        timing: Option<&'r str> = "timing",
        last_worker_ping: Option<Timestamp> = "last_worker_ping",
        last_updated: Option<Timestamp> = "last_updated",
        document: &'r str = "document",
    }
}

impl TaskColumns<'_> {
    fn decode(self) -> Result<Task> {
        let at = |column: &str| format!("task {}, column {column}", self.id);
        let document = document(self.document, self.id)?;
        Ok(Task {
            id: self.id,
            etag: self.etag.to_owned(),
            status: status(self.status, self.id)?,
            job: ObjectId::from_bytes(self.job),
            manager: document.manager,
            project: document.project,
            user: document.user,
            name: document.name,
            priority: self.turn.saturating_neg(),
            job_priority: self.job_turn.saturating_neg(),
            job_type: self.job_type.to_owned(),
            task_type: self.task_type.to_owned(),
            commands: document.commands,
            log: document.log,
            activity: self.activity.to_owned(),
            worker: self.worker.to_owned(),
            parents: document.parents,
            failed_by: failed_by(self.failed_by, self.id)?,
            timing: self
                .timing
                .map(|timing| serde_json::from_str(timing).map_err(|error| corrupt(at("timing"), error)))
                .transpose()?,
            worker_id: self.worker_id,
            last_worker_ping: self.last_worker_ping,
            last_updated: self.last_updated,
        })
    }
}

selected! {
    /// A task as lists have it: the document, which is long, only where it alone has the name.
    SummaryColumns<'r> {
        id: ObjectId = "id",
        name: Option<&'r str> = "name",
        document: Option<&'r str> = "CASE WHEN name IS NULL THEN document END",
        status: u8 = "status",
        job: &'r [u8] = "job",
        job_type: &'r str = "job_type",
        job_turn: i32 = "job_turn",
        turn: i32 = "turn",
        task_type: &'r str = "task_type",
        worker: &'r str = "worker",
        worker_id: Option<ObjectId> = "worker_id",
        activity: &'r str = "activity",
        failed_by: Option<&'r str> = "failed_by",
        last_worker_ping: Option<Timestamp> = "last_worker_ping",
        last_updated: Option<Timestamp> = "last_updated",
    }
}

impl SummaryColumns<'_> {
    pub fn decode(self) -> Result<TaskSummary> {
        let name = match (self.name, self.document) {
            (Some(name), _) => name.to_owned(),
            (None, Some(text)) => document(text, self.id)?.name,
            (None, None) => String::new(),
        };
        Ok(TaskSummary {
            id: self.id,
            name,
            status: status(self.status, self.id)?,
            job: ObjectId::from_bytes(self.job),
            job_type: self.job_type.to_owned(),
            job_priority: self.job_turn.saturating_neg(),
            priority: self.turn.saturating_neg(),
            task_type: self.task_type.to_owned(),
            worker: self.worker.to_owned(),
            worker_id: self.worker_id,
            activity: self.activity.to_owned(),
            failed_by: failed_by(self.failed_by, self.id)?,
            last_worker_ping: self.last_worker_ping,
            last_updated: self.last_updated,
        })
    }
}

fn document(text: &str, id: ObjectId) -> Result<Document> {
    serde_json::from_str(text).map_err(|error| corrupt(format!("task {id}, column document"), error))
}

pub(super) fn status(code: u8, id: ObjectId) -> Result<TaskStatus> {
    TaskStatus::from_code(code)
        .ok_or_else(|| corrupt(format!("task {id}, column status"), format!("{code} is not a status")))
}

fn failed_by(list: Option<&str>, id: ObjectId) -> Result<Vec<FailedBy>> {
    let read = |list| {
        serde_json::from_str(list).map_err(|error| corrupt(format!("task {id}, column failed_by"), error))
    };
    list.map_or_else(|| Ok(Vec::new()), read)
}

/// A task.
pub(super) async fn find(conn: &mut Conn<'_>, id: ObjectId) -> Result<Option<Task>, Fault> {
    let select = format!("SELECT {} FROM farm_task WHERE id = ?", TaskColumns::LIST);
    let row = conn.sql(select).bind(id).fetch_optional().await?;
    row.map(|row| Ok(TaskColumns::read(&mut row.cells())?.decode()?)).transpose()
}

/// The end of what a task has logged; nothing of a task that is not there.
pub(super) async fn log_tail(conn: &mut Conn<'_>, id: ObjectId) -> Result<Option<String>, Fault> {
    let row = conn.sql("SELECT log_tail FROM farm_task WHERE id = ?").bind(id).fetch_optional().await?;
    Ok(row.map(|row| row.get(0)).transpose()?.flatten())
}

/// What decisions about a task need, without its commands.
pub(super) struct Brief {
    pub id: ObjectId,
    pub status: TaskStatus,
    pub job: Option<ObjectId>,
    pub job_type: String,
    pub task_type: String,
    pub worker_id: Option<ObjectId>,
    pub failed_by: Vec<FailedBy>,
    pub last_worker_ping: Option<Timestamp>,
}

impl Brief {
    pub fn is_local(&self) -> bool {
        self.job_type == MANAGER_LOCAL
    }

    /// The key of its job; empty when it has none.
    pub fn job_key(&self) -> Vec<u8> {
        job_key(self.job)
    }
}

/// The key of a job; empty for none.
pub(super) fn job_key(job: Option<ObjectId>) -> Vec<u8> {
    job.map(|job| job.as_bytes().to_vec()).unwrap_or_default()
}

/// A task in brief.
pub(super) async fn brief(conn: &mut Conn<'_>, id: ObjectId, lock: Lock) -> Result<Option<Brief>, Fault> {
    let locked = if lock == Lock::Held { conn.dialect().locked() } else { "" };
    let mut select = conn.sql(format!(
        "SELECT status, job, job_type, task_type, worker_id, failed_by, last_worker_ping FROM farm_task WHERE id = ? {locked}"
    ));
    let Some(row) = select.bind(id).fetch_optional().await? else { return Ok(None) };
    Ok(Some(Brief {
        id,
        status: status(row.get(0)?, id)?,
        job: ObjectId::from_bytes(row.get(1)?),
        job_type: row.get(2)?,
        task_type: row.get(3)?,
        worker_id: row.get(4)?,
        failed_by: failed_by(row.get(5)?, id)?,
        last_worker_ping: row.get(6)?,
    }))
}

/// Writes tasks over those of the same ids. Parents are seen to afterwards, see [`parents::refresh`].
pub(super) async fn put(conn: &mut Conn<'_>, tasks: &[Task]) -> Result<(), Fault> {
    let mut rows = Vec::with_capacity(tasks.len());
    for task in tasks {
        let document = Document {
            manager: task.manager,
            project: task.project,
            user: task.user,
            name: task.name.clone(),
            commands: task.commands.clone(),
            log: task.log.clone(),
            parents: task.parents.clone(),
        };
        let failed_by = list(&task.failed_by)?;
        rows.push((task, json_text(&document)?, failed_by, task.timing.as_ref().map(json_text).transpose()?));
    }
    if rows.is_empty() {
        return Ok(());
    }
    let mut insert = conn.insert("farm_task");
    for (task, document, failed_by, timing) in rows {
        insert
            .row()
            .set("id", task.id)
            .set("status", task.status.code())
            .set("job", job_key(task.job))
            .set("job_type", &*task.job_type)
            .set("task_type", &*task.task_type)
            .set("job_turn", task.job_priority.saturating_neg())
            .set("turn", task.priority.saturating_neg())
            .set("etag", &*task.etag)
            .set("activity", &*task.activity)
            .set("worker", &*task.worker)
            .set("worker_id", task.worker_id)
            .set("failed_by", failed_by)
            .set("timing", timing)
            .set("last_worker_ping", task.last_worker_ping)
            .set("last_updated", task.last_updated)
            .set("reserved_by", None::<ObjectId>)
            .set("reserved_until", None::<Timestamp>)
            .set("name", &*task.name)
            .set("document", document);
    }
    insert.or_update(&["id"]).await
}

/// Gives a task another status, unless it has changed since it was looked at; whether it was so.
pub(super) async fn set_status(
    conn: &mut Conn<'_>,
    task: &Brief,
    status: TaskStatus,
    now: Timestamp,
) -> Result<bool, Fault> {
    let mut update = conn
        .sql("UPDATE farm_task SET status = ?, last_updated = ?, reserved_by = NULL, reserved_until = NULL WHERE id = ? AND status = ?");
    let changed =
        update.bind(status.code()).bind(now).bind(task.id).bind(task.status.code()).execute().await? > 0;
    if changed && (task.status == TaskStatus::Completed) != (status == TaskStatus::Completed) {
        parents::refresh_children(conn, &[task.id]).await?;
    }
    Ok(changed)
}

async fn delete_old(conn: &mut Conn<'_>, before: Timestamp) -> Result<u64, Fault> {
    // Locked: one that is given to a worker meanwhile is not old any more.
    let lock = conn.dialect().locked();
    let mut select = conn.sql(format!(
        "SELECT id FROM farm_task WHERE last_worker_ping <= ? \
         OR (last_worker_ping IS NULL AND (last_updated IS NULL OR last_updated <= ?)) LIMIT ? {lock}"
    ));
    let rows = select.bind(before).bind(before).bind(DELETED).fetch_all().await?;
    let ids = rows.iter().map(|row| row.get(0)).collect::<Result<Vec<ObjectId>, Fault>>()?;
    let mut deleted = 0;
    for ids in ids.chunks(batch::KEYS) {
        let mut delete = conn.sql("DELETE FROM farm_task WHERE id IN ");
        deleted += delete.keys(ids).execute().await?;
        conn.sql("DELETE FROM farm_parent WHERE task_id IN ").keys(ids).execute().await?;
        // A parent that is not known counts as completed.
        parents::refresh_children(conn, ids).await?;
    }
    Ok(deleted)
}
