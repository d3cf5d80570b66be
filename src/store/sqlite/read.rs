//! One task.

use sqlx::SqliteConnection;

use super::rows::{Query, TASK, task};
use crate::domain::{Task, TaskId};
use crate::store::fault::Fault;

pub(in crate::store) async fn find(conn: &mut SqliteConnection, id: TaskId) -> Result<Option<Task>, Fault> {
    let mut query = Query::new("SELECT ");
    query.push(TASK).push(" FROM task AS t WHERE t.id = ").push_bind(id.0);
    query.build().fetch_optional(conn).await?.as_ref().map(task).transpose()
}
