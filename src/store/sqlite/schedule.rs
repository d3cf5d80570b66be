//! How far schedules are.

use std::sync::Arc;

use sqlx::SqliteConnection;

use super::rows::{micros, time};
use crate::domain::Timestamp;
use crate::store::fault::Fault;

pub(super) async fn done(conn: &mut SqliteConnection, name: Arc<str>) -> Result<Option<Timestamp>, Fault> {
    let row = sqlx::query("SELECT done_until FROM schedule WHERE name = ?").bind(&*name).fetch_optional(conn).await?;
    Ok(row.map(|row| time(&row, 0)).transpose()?)
}

pub(super) async fn set_done(conn: &mut SqliteConnection, name: Arc<str>, until: Timestamp) -> Result<(), Fault> {
    let set = "INSERT INTO schedule (name, done_until) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET done_until = max(done_until, excluded.done_until)";
    sqlx::query(set).bind(&*name).bind(micros(until)).execute(conn).await?;
    Ok(())
}
