//! What people look at: jobs by the states of their tasks, the tasks that fit, and the end of a log.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;

use super::Farm;
use super::task_rows::{self, status};
use crate::farm::{JobTally, ObjectId, Task, TaskStatus};
use crate::store::fault::Fault;
use crate::store::sql::Conn;
use crate::store::{Result, batch};

/// Above every id.
const LAST: [u8; 13] = [0xff; 13];

/// Which tasks are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FarmTaskQuery {
    /// Of this job only.
    pub job: Option<ObjectId>,
    /// Of these states only; of any, when there is none.
    pub statuses: Vec<TaskStatus>,
    /// After the one of this id.
    pub after: Option<ObjectId>,
    /// So many at most.
    pub most: u32,
}

impl Farm {
    /// Jobs, the newest first, from before one. Tasks without a job are of none.
    pub async fn jobs(&self, before: Option<ObjectId>, most: u32) -> Result<Vec<JobTally>> {
        self.store.run(move |conn| jobs(conn, before, most).boxed()).await
    }

    /// The first tasks that fit, in the order of their ids.
    pub async fn tasks(&self, query: FarmTaskQuery) -> Result<Vec<Task>> {
        let query = Arc::new(query);
        self.store.run(move |conn| tasks(conn, query.clone()).boxed()).await
    }

    /// A task, with the end of what it has logged.
    pub async fn task_with_log(&self, id: ObjectId) -> Result<Option<(Task, Option<String>)>> {
        self.store.run(move |conn| with_log(conn, id).boxed()).await
    }
}

async fn jobs(conn: &mut Conn<'_>, before: Option<ObjectId>, most: u32) -> Result<Vec<JobTally>, Fault> {
    let index = conn.dialect().index("farm_task_job");
    let before = before.map_or(LAST.to_vec(), |job| job.as_bytes().to_vec());
    let mut select = conn.sql(format!(
        "SELECT DISTINCT job FROM farm_task {index} WHERE job > ? AND job < ? ORDER BY job DESC LIMIT ?"
    ));
    let rows = select.bind(Vec::new()).bind(before).bind(i64::from(most)).fetch_all().await?;
    let ids = rows.iter().map(|row| row.get(0)).collect::<Result<Vec<ObjectId>, Fault>>()?;
    let (Some(newest), Some(oldest)) = (ids.first(), ids.last()) else { return Ok(Vec::new()) };
    let mut count = conn.sql(format!(
        "SELECT job, status, MAX(job_type), MIN(job_turn), COUNT(*) FROM farm_task {index} \
         WHERE job >= ? AND job <= ? GROUP BY job, status"
    ));
    let mut tallies: BTreeMap<ObjectId, JobTally> = BTreeMap::new();
    for row in count.bind(*oldest).bind(*newest).fetch_all().await? {
        let (job, turn): (ObjectId, i32) = (row.get(0)?, row.get(3)?);
        let tally = tallies.entry(job).or_insert_with(|| JobTally {
            job,
            job_type: String::new(),
            priority: i32::MIN,
            tasks: BTreeMap::new(),
        });
        tally.job_type = row.get(2)?;
        tally.priority = tally.priority.max(turn.saturating_neg());
        tally.tasks.insert(status(row.get(1)?, job)?, row.count(4)?);
    }
    Ok(tallies.into_values().rev().collect())
}

async fn tasks(conn: &mut Conn<'_>, query: Arc<FarmTaskQuery>) -> Result<Vec<Task>, Fault> {
    let dialect = conn.dialect();
    // The ids first, along a key: rows are long, and most do not fit.
    let index = match (query.job, query.statuses.is_empty()) {
        (Some(_), _) => dialect.index("farm_task_job").to_string(),
        (None, false) => dialect.index("farm_task_silent").to_string(),
        (None, true) => dialect.by_primary_key().to_owned(),
    };
    let after = query.after.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    let mut select = conn.sql(format!("SELECT id FROM farm_task {index} WHERE id > ?"));
    select.bind(after);
    if let Some(job) = query.job {
        select.push(" AND job = ?").bind(job);
    }
    if !query.statuses.is_empty() {
        let codes: Vec<u8> = query.statuses.iter().map(|status| status.code()).collect();
        select.push(" AND status IN ").keys(&codes);
    }
    let rows = select.push(" ORDER BY id LIMIT ?").bind(i64::from(query.most)).fetch_all().await?;
    let ids = rows.iter().map(|row| row.get(0)).collect::<Result<Vec<ObjectId>, Fault>>()?;
    let mut tasks = Vec::with_capacity(ids.len());
    for ids in ids.chunks(batch::KEYS) {
        tasks.extend(task_rows::of_ids(conn, ids).await?);
    }
    Ok(tasks)
}

async fn with_log(conn: &mut Conn<'_>, id: ObjectId) -> Result<Option<(Task, Option<String>)>, Fault> {
    let Some(task) = task_rows::find(conn, id).await? else { return Ok(None) };
    Ok(Some((task, task_rows::log_tail(conn, id).await?)))
}
