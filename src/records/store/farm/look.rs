//! What people look at: jobs by the states of their tasks, the tasks that fit, and the end of a log.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{FutureExt, TryFutureExt};

use super::Farm;
use super::task_rows::{self, SummaryColumns, status};
use crate::domain::Timestamp;
use crate::farm::{JobTally, ObjectId, Task, TaskStatus, TaskSummary};
use crate::store::fault::Fault;
use crate::store::sql::Conn;
use crate::store::{Operation, Result};

/// Above every id.
const LAST: [u8; 13] = [0xff; 13];

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarmPage<T, P> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the list goes on; nothing where it has ended.
    pub next: Option<P>,
}

impl<T, P> FarmPage<T, P> {
    /// A page of what was read, which is one more than the page takes wherever there is more.
    fn new(mut items: Vec<T>, most: u32, place: impl FnOnce(&T) -> Option<P>) -> Self {
        let more = items.len() > most as usize;
        items.truncate(most as usize);
        let next = items.last().filter(|_| more).and_then(place);
        Self { items, next }
    }
}

/// The order of a list of tasks, and after which of them it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FarmTaskOrder {
    /// By their ids, so the oldest first.
    Oldest(Option<ObjectId>),
    /// By when they changed, the latest first.
    Latest(Option<(Timestamp, ObjectId)>),
}

impl Default for FarmTaskOrder {
    fn default() -> Self {
        Self::Oldest(None)
    }
}

/// Which tasks are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FarmTaskQuery {
    /// Of this job only.
    pub job: Option<ObjectId>,
    /// Of these states only; of any, when there is none.
    pub statuses: Vec<TaskStatus>,
    /// In which order, and from where on.
    pub order: FarmTaskOrder,
    /// So many at most.
    pub most: u32,
}

impl Farm {
    /// Jobs, the newest first, from before one. Tasks without a job are of none.
    pub fn jobs(&self, before: Option<ObjectId>, most: u32) -> Operation<'_, FarmPage<JobTally, ObjectId>> {
        self.store
            .run(move |conn| jobs(conn, before, most).boxed())
            .map_ok(move |tallies| FarmPage::new(tallies, most, |last| Some(last.job)))
            .boxed()
    }

    /// The first tasks that fit.
    pub fn tasks(&self, mut query: FarmTaskQuery) -> Operation<'_, FarmPage<TaskSummary, FarmTaskOrder>> {
        query.statuses.sort_unstable();
        query.statuses.dedup();
        let (order, most, query) = (query.order, query.most, Arc::new(query));
        let page = move |tasks| {
            FarmPage::new(tasks, most, |last: &TaskSummary| match order {
                FarmTaskOrder::Oldest(_) => Some(FarmTaskOrder::Oldest(Some(last.id))),
                FarmTaskOrder::Latest(_) => {
                    last.last_updated.map(|changed| FarmTaskOrder::Latest(Some((changed, last.id))))
                }
            })
        };
        self.store.run(move |conn| tasks(conn, query.clone()).boxed()).map_ok(page).boxed()
    }

    /// A task, with the end of what it has logged.
    pub fn task_with_log(&self, id: ObjectId) -> Operation<'_, Option<(Task, Option<String>)>> {
        self.store.run(move |conn| with_log(conn, id).boxed())
    }
}

/// One more than `most`, if there are as many. One statement: jobs come and go between two.
async fn jobs(conn: &mut Conn<'_>, before: Option<ObjectId>, most: u32) -> Result<Vec<JobTally>, Fault> {
    let dialect = conn.dialect();
    let (index, in_order, then) = (dialect.index("farm_task_job"), dialect.in_order(), dialect.then());
    let before = before.map_or(LAST.to_vec(), |job| job.as_bytes().to_vec());
    let mut select = conn.sql(format!(
        "SELECT {in_order} page.job, task.status, MAX(task.job_type), MIN(task.job_turn), COUNT(*) FROM \
         (SELECT DISTINCT job FROM farm_task {index} WHERE job > ? AND job < ? ORDER BY job DESC LIMIT ?) AS page \
         {then} farm_task AS task {index} ON task.job = page.job GROUP BY page.job, task.status"
    ));
    let rows = select.bind(Vec::new()).bind(before).bind(i64::from(most) + 1).fetch_all().await?;
    let mut tallies: BTreeMap<ObjectId, JobTally> = BTreeMap::new();
    for row in rows {
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

/// One more than asked for, if there are as many.
///
/// Picks the ids along keys, since rows are long and most do not fit, and then reads the rows. No key has the
/// tasks of several states in one order, so each state is picked on its own and the first of all are kept;
/// the tasks of a single job are few enough to be sorted.
async fn tasks(conn: &mut Conn<'_>, query: Arc<FarmTaskQuery>) -> Result<Vec<TaskSummary>, Fault> {
    let dialect = conn.dialect();
    let (picked, order, page_order, key, of_status) = match query.order {
        FarmTaskOrder::Oldest(_) => {
            ("id AS page_id", "id", "page_id", dialect.by_primary_key().to_owned(), "farm_task_oldest")
        }
        FarmTaskOrder::Latest(_) => (
            "id AS page_id, last_updated AS page_time",
            "last_updated DESC, id DESC",
            "page_time DESC, page_id DESC",
            dialect.index("farm_task_old").to_string(),
            "farm_task_latest",
        ),
    };
    let (lanes, index): (Vec<&[TaskStatus]>, _) = if query.job.is_some() {
        (vec![&query.statuses], dialect.index("farm_task_job").to_string())
    } else if query.statuses.is_empty() {
        (vec![&[]], key)
    } else {
        (query.statuses.chunks(1).collect(), dialect.index(of_status).to_string())
    };
    let most = i64::from(query.most) + 1;
    let mut select = conn.sql(format!("SELECT {} {} FROM (", dialect.in_order(), SummaryColumns::LIST));
    for (number, statuses) in lanes.into_iter().enumerate() {
        if number > 0 {
            select.push(" UNION ALL ");
        }
        select.push(&format!("SELECT * FROM (SELECT {picked} FROM farm_task {index} WHERE "));
        match query.order {
            FarmTaskOrder::Oldest(after) => {
                select.push("id > ?").bind(after.map(|id| id.as_bytes().to_vec()).unwrap_or_default())
            }
            FarmTaskOrder::Latest(None) => select.push("last_updated IS NOT NULL"),
            FarmTaskOrder::Latest(Some((changed, id))) => {
                let select = select.push("last_updated <= ? AND (last_updated < ? OR id < ?)");
                select.bind(changed).bind(changed).bind(id)
            }
        };
        if let Some(job) = query.job {
            select.push(" AND job = ?").bind(job);
        }
        if !statuses.is_empty() {
            let codes: Vec<u8> = statuses.iter().map(|status| status.code()).collect();
            select.push(" AND status IN ").keys(&codes);
        }
        select.push(&format!(" ORDER BY {order} LIMIT ?) AS lane{number}")).bind(most);
    }
    let then = dialect.then();
    select.push(&format!(
        " ORDER BY {page_order} LIMIT ?) AS page {then} farm_task ON id = page_id ORDER BY {page_order}"
    ));
    let rows = select.bind(most).fetch_all().await?;
    rows.iter().map(|row| Ok(SummaryColumns::read(&mut row.cells())?.decode()?)).collect()
}

async fn with_log(conn: &mut Conn<'_>, id: ObjectId) -> Result<Option<(Task, Option<String>)>, Fault> {
    let Some(task) = task_rows::find(conn, id).await? else { return Ok(None) };
    Ok(Some((task, task_rows::log_tail(conn, id).await?)))
}
