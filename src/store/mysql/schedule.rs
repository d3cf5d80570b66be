//! How far schedules are.

use std::sync::Arc;

use sqlx::MySqlConnection;

use super::rows::{datetime, time};
use crate::domain::Timestamp;
use crate::store::fault::Fault;

pub(super) async fn done(conn: &mut MySqlConnection, name: Arc<str>) -> Result<Option<Timestamp>, Fault> {
    let row = sqlx::query("SELECT done_until FROM schedule WHERE name = ?").bind(&*name).fetch_optional(conn).await?;
    Ok(row.map(|row| time(&row, 0)).transpose()?)
}

pub(super) async fn set_done(conn: &mut MySqlConnection, name: Arc<str>, until: Timestamp) -> Result<(), Fault> {
    let set = "INSERT INTO schedule (name, done_until) VALUES (?, ?) ON DUPLICATE KEY UPDATE done_until = GREATEST(done_until, VALUES(done_until))";
    sqlx::query(set).bind(&*name).bind(datetime(until)).execute(conn).await?;
    Ok(())
}
