//! How far schedules are, and what they could not submit.

use std::sync::Arc;

use sqlx::{Row, SqliteConnection};

use super::rows::{micros, optional_time, time};
use crate::domain::Timestamp;
use crate::store::ScheduleRecord;
use crate::store::fault::Fault;

pub(super) async fn read(conn: &mut SqliteConnection, name: Arc<str>) -> Result<Option<ScheduleRecord>, Fault> {
    let select = "SELECT done_until, last_error, last_error_at FROM schedule WHERE name = ?";
    let Some(row) = sqlx::query(select).bind(&*name).fetch_optional(conn).await? else { return Ok(None) };
    let last_error: Option<String> = row.try_get(1)?;
    Ok(Some(ScheduleRecord { done_until: time(&row, 0)?, last_error: last_error.zip(optional_time(&row, 2)?) }))
}

pub(super) async fn set_done(conn: &mut SqliteConnection, name: Arc<str>, until: Timestamp) -> Result<(), Fault> {
    let set = "INSERT INTO schedule (name, done_until) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET done_until = max(done_until, excluded.done_until)";
    sqlx::query(set).bind(&*name).bind(micros(until)).execute(conn).await?;
    Ok(())
}

pub(super) async fn set_error(conn: &mut SqliteConnection, name: Arc<str>, error: Arc<str>, at: Timestamp) -> Result<(), Fault> {
    let set = sqlx::query("UPDATE schedule SET last_error = ?, last_error_at = ? WHERE name = ?");
    set.bind(&*error).bind(micros(at)).bind(&*name).execute(conn).await?;
    Ok(())
}
