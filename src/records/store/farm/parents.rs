//! Which tasks wait for others. `met` and `unmet` are kept up to date with every change, so that the choice
//! of a task looks at no other task.

use std::collections::BTreeSet;

use crate::farm::{ObjectId, Task, TaskStatus};
use crate::store::batch;
use crate::store::fault::Fault;
use crate::store::sql::Conn;

/// Notes the parents of tasks that have been written.
pub(super) async fn put(conn: &mut Conn<'_>, tasks: &[Task]) -> Result<(), Fault> {
    let ids: Vec<ObjectId> = tasks.iter().map(|task| task.id).collect();
    for ids in ids.chunks(batch::KEYS) {
        conn.sql("DELETE FROM farm_parent WHERE task_id IN ").keys(ids).execute().await?;
    }
    let pairs: Vec<(ObjectId, ObjectId)> =
        tasks.iter().flat_map(|task| task.parents.iter().map(|parent| (task.id, *parent))).collect();
    for pairs in pairs.chunks(batch::NARROW_ROWS) {
        let mut insert = conn.insert("farm_parent");
        for (task, parent) in pairs {
            insert.row().set("task_id", *task).set("parent_id", *parent).set("met", true);
        }
        insert.if_new().await?;
    }
    // Their own parents, and those that wait for them.
    let mut waiting: BTreeSet<ObjectId> = ids.iter().copied().collect();
    for ids in ids.chunks(batch::KEYS) {
        let mut met = conn.sql(MET);
        met.bind(TaskStatus::Completed.code()).push(" WHERE task_id IN ").keys(ids).execute().await?;
        waiting.extend(meet_children(conn, ids).await?);
    }
    count_unmet(conn, waiting).await
}

/// Notes that tasks have become completed, or are no more, or are there again.
pub(super) async fn refresh_children(conn: &mut Conn<'_>, ids: &[ObjectId]) -> Result<(), Fault> {
    let children = meet_children(conn, ids).await?;
    count_unmet(conn, children).await
}

const MET: &str = "UPDATE farm_parent SET met = NOT EXISTS (SELECT 1 FROM farm_task AS t WHERE t.id = farm_parent.parent_id AND t.status <> ?)";

/// Notes which of these parents are completed; answers their children.
async fn meet_children(conn: &mut Conn<'_>, ids: &[ObjectId]) -> Result<BTreeSet<ObjectId>, Fault> {
    let rows = conn
        .sql("SELECT DISTINCT task_id FROM farm_parent WHERE parent_id IN ")
        .keys(ids)
        .fetch_all()
        .await?;
    let children = rows.iter().map(|row| row.get(0)).collect::<Result<BTreeSet<_>, _>>()?;
    if !children.is_empty() {
        let mut met = conn.sql(MET);
        met.bind(TaskStatus::Completed.code()).push(" WHERE parent_id IN ").keys(ids).execute().await?;
    }
    Ok(children)
}

async fn count_unmet(conn: &mut Conn<'_>, tasks: BTreeSet<ObjectId>) -> Result<(), Fault> {
    let tasks: Vec<ObjectId> = tasks.into_iter().collect();
    for tasks in tasks.chunks(batch::KEYS) {
        let mut count = conn.sql(
            "UPDATE farm_task SET unmet = (SELECT COUNT(*) FROM farm_parent AS p WHERE p.task_id = farm_task.id AND p.met = 0) WHERE id IN ",
        );
        count.keys(tasks).execute().await?;
    }
    Ok(())
}
