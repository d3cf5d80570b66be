//! Workers that get no more tasks of a type of a job.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::Farm;
use crate::domain::Timestamp;
use crate::farm::ObjectId;
use crate::store::fault::Fault;
use crate::store::sql::Conn;
use crate::store::{Operation, Result};

/// How long a worker is barred.
const BARRED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// A worker that gets no more tasks of a type of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barred {
    /// The worker.
    pub worker: ObjectId,
    /// The job.
    pub job: Option<ObjectId>,
    /// The type.
    pub task_type: String,
    /// Since when.
    pub since: Timestamp,
}

impl Farm {
    /// Workers that are barred from something.
    pub fn barred(&self, now: Timestamp) -> Operation<'_, Vec<Barred>> {
        self.store.run(move |conn| all(conn, now).boxed())
    }

    /// Lets a worker have tasks of a type of a job again; whether it had been barred.
    pub fn admit_again(&self, worker: ObjectId, job: ObjectId, task_type: &str) -> Operation<'_, bool> {
        let task_type: Arc<str> = task_type.into();
        self.store.transact(move |conn| admit_again(conn, worker, job, task_type.clone()).boxed())
    }

    /// Forgets those whose time is over.
    pub fn forget_barred(&self, now: Timestamp) -> Operation<'_, u64> {
        let delete = "DELETE FROM farm_barred WHERE since <= ?";
        self.store
            .transact(move |conn| async move { conn.sql(delete).bind(still(now)).execute().await }.boxed())
    }
}

/// Those since then are barred now.
pub(super) fn still(now: Timestamp) -> Timestamp {
    now.before(BARRED_FOR)
}

/// Bars a worker, unless it is.
pub(super) async fn bar(
    conn: &mut Conn<'_>,
    worker: ObjectId,
    job: &[u8],
    task_type: &str,
    now: Timestamp,
) -> Result<(), Fault> {
    let mut insert = conn.insert("farm_barred");
    insert.row().set("worker_id", worker).set("job", job).set("task_type", task_type).set("since", now);
    insert.if_new().await.map(drop)
}

/// The workers that are barred from a type of a job.
pub(super) async fn from(
    conn: &mut Conn<'_>,
    job: &[u8],
    task_type: &str,
    now: Timestamp,
) -> Result<Vec<ObjectId>, Fault> {
    let mut select =
        conn.sql("SELECT worker_id FROM farm_barred WHERE job = ? AND task_type = ? AND since > ?");
    let rows = select.bind(job).bind(task_type).bind(still(now)).fetch_all().await?;
    rows.iter().map(|row| row.get(0)).collect()
}

async fn all(conn: &mut Conn<'_>, now: Timestamp) -> Result<Vec<Barred>, Fault> {
    let mut select = conn.sql(
        "SELECT worker_id, job, task_type, since FROM farm_barred WHERE since > ? ORDER BY worker_id, since",
    );
    let rows = select.bind(still(now)).fetch_all().await?;
    let read = |row: &crate::store::sql::Row| {
        Ok(Barred {
            worker: row.get(0)?,
            job: ObjectId::from_bytes(row.get(1)?),
            task_type: row.get(2)?,
            since: row.get(3)?,
        })
    };
    rows.iter().map(read).collect()
}

async fn admit_again(
    conn: &mut Conn<'_>,
    worker: ObjectId,
    job: ObjectId,
    task_type: Arc<str>,
) -> Result<bool, Fault> {
    let mut delete = conn.sql("DELETE FROM farm_barred WHERE worker_id = ? AND job = ? AND task_type = ?");
    Ok(delete.bind(worker).bind(job).bind(&*task_type).execute().await? > 0)
}
