//! What became of tasks, by minute and by hour.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;

use super::batch;
use super::fault::Fault;
use super::sql::{Conn, Row};
use super::{Operation, Result, Store, without_statements};
use crate::domain::{Grain, TaskType, Throughput, Timestamp};

/// Rows removed in one statement.
const REMOVED: u32 = 5000;

/// Throughput of a type in a minute.
pub type OfMinute = (Timestamp, TaskType, Throughput);

impl Store {
    /// Adds what became of tasks in these minutes; the same to the hours that they are in.
    pub fn add_throughput(&self, minutes: &[OfMinute]) -> Operation<'_, ()> {
        if minutes.is_empty() {
            return without_statements(Ok(()));
        }
        let minutes: Arc<[OfMinute]> = minutes.into();
        self.transact(move |conn| add(conn, minutes.clone()).boxed())
    }

    /// What became of tasks between two times, of these types or of all: in order, without spans in which
    /// nothing was.
    pub fn throughput(
        &self,
        grain: Grain,
        types: Option<&[TaskType]>,
        since: Timestamp,
        until: Timestamp,
    ) -> Operation<'_, Vec<(Timestamp, Throughput)>> {
        let types: Option<Arc<[TaskType]>> = types.map(Into::into);
        self.run(move |conn| read(conn, grain, types.clone(), since, until).boxed())
    }

    /// Removes what is kept no longer; answers whether there may be more.
    pub fn forget_throughput(&self, now: Timestamp) -> Operation<'_, bool> {
        self.transact(move |conn| forget(conn, now).boxed())
    }
}

async fn add(conn: &mut Conn<'_>, minutes: Arc<[OfMinute]>) -> Result<(), Fault> {
    // In the order of the key, in which all processes lock.
    let mut rows: BTreeMap<(Grain, Timestamp, &TaskType), Throughput> = BTreeMap::new();
    for grain in Grain::ALL {
        for (minute, task_type, added) in minutes.iter() {
            *rows.entry((grain, grain.beginning(*minute), task_type)).or_default() += *added;
        }
    }
    let rows: Vec<_> = rows.into_iter().collect();
    for run in rows.chunks(batch::WIDE_ROWS) {
        let mut insert = conn.insert("throughput");
        for ((grain, begins_at, task_type), added) in run {
            insert.row().set("step", grain.code()).set("begins_at", *begins_at).set("task_type", *task_type);
            for (column, number) in columns(added) {
                insert.set(column, i64::try_from(number).unwrap_or(i64::MAX));
            }
        }
        insert.or_add(&["step", "begins_at", "task_type"]).await?;
    }
    Ok(())
}

/// The numbers and the columns that they are in.
fn columns(of: &Throughput) -> [(&'static str, u64); 7] {
    let Throughput { accepted, done, failed, canceled, expired, answers, errors } = *of;
    [
        ("accepted", accepted),
        ("done", done),
        ("failed", failed),
        ("canceled", canceled),
        ("expired", expired),
        ("answers", answers),
        ("errors", errors),
    ]
}

async fn read(
    conn: &mut Conn<'_>,
    grain: Grain,
    types: Option<Arc<[TaskType]>>,
    since: Timestamp,
    until: Timestamp,
) -> Result<Vec<(Timestamp, Throughput)>, Fault> {
    let sums = columns(&Throughput::default())
        .map(|(column, _)| format!("CAST(SUM({column}) AS SIGNED)"))
        .join(", ");
    let mut select = conn.sql(format!(
        "SELECT begins_at, {sums} FROM throughput WHERE step = ? AND begins_at >= ? AND begins_at < ?"
    ));
    select.bind(grain.code()).bind(since).bind(until);
    if let Some(types) = &types {
        if types.is_empty() {
            return Ok(Vec::new());
        }
        select.push(" AND task_type IN ").keys(&types.iter().collect::<Vec<_>>());
    }
    let rows = select.push(" GROUP BY begins_at ORDER BY begins_at").fetch_all().await?;
    let of = |row: &Row| {
        let [accepted, done, failed, canceled, expired, answers, errors] = [
            row.count(1)?,
            row.count(2)?,
            row.count(3)?,
            row.count(4)?,
            row.count(5)?,
            row.count(6)?,
            row.count(7)?,
        ];
        Ok((row.get(0)?, Throughput { accepted, done, failed, canceled, expired, answers, errors }))
    };
    rows.iter().map(of).collect()
}

async fn forget(conn: &mut Conn<'_>, now: Timestamp) -> Result<bool, Fault> {
    let mut more = false;
    for grain in Grain::ALL {
        let mut old = conn.sql(
            "SELECT begins_at FROM throughput WHERE step = ? AND begins_at < ? ORDER BY begins_at LIMIT ?",
        );
        let old = old.bind(grain.code()).bind(now.before(grain.kept_for())).bind(REMOVED).fetch_all().await?;
        more |= old.len() >= REMOVED as usize;
        let Some(last) = old.last() else { continue };
        let mut remove = conn.sql("DELETE FROM throughput WHERE step = ? AND begins_at <= ?");
        remove.bind(grain.code()).bind(last.get::<Timestamp>(0)?).execute().await?;
    }
    Ok(more)
}
