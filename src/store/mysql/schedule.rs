//! How far schedules are, and what they could not submit.

use std::sync::Arc;

use sqlx::{MySqlConnection, Row};

use super::rows::{datetime, optional_time, time};
use crate::domain::Timestamp;
use crate::store::ScheduleRecord;
use crate::store::fault::Fault;

pub(super) async fn read(conn: &mut MySqlConnection, name: Arc<str>) -> Result<Option<ScheduleRecord>, Fault> {
    let select = "SELECT done_until, last_error, last_error_at, paused_at FROM schedule WHERE name = ?";
    let Some(row) = sqlx::query(select).bind(&*name).fetch_optional(conn).await? else { return Ok(None) };
    let last_error: Option<String> = row.try_get(1)?;
    let last_error = last_error.zip(optional_time(&row, 2)?);
    Ok(Some(ScheduleRecord { done_until: time(&row, 0)?, last_error, paused_at: optional_time(&row, 3)? }))
}

pub(super) async fn set_done(conn: &mut MySqlConnection, name: Arc<str>, until: Timestamp) -> Result<(), Fault> {
    let set = "INSERT INTO schedule (name, done_until) VALUES (?, ?) ON DUPLICATE KEY UPDATE done_until = GREATEST(done_until, VALUES(done_until))";
    sqlx::query(set).bind(&*name).bind(datetime(until)).execute(conn).await?;
    Ok(())
}

pub(super) async fn set_error(conn: &mut MySqlConnection, name: Arc<str>, error: Arc<str>, at: Timestamp) -> Result<(), Fault> {
    let set = sqlx::query("UPDATE schedule SET last_error = ?, last_error_at = ? WHERE name = ?");
    set.bind(&*error).bind(datetime(at)).bind(&*name).execute(conn).await?;
    Ok(())
}

pub(super) async fn pause(conn: &mut MySqlConnection, name: Arc<str>, paused: bool, now: Timestamp) -> Result<bool, Fault> {
    // It may not have begun yet.
    let begun = "INSERT IGNORE INTO schedule (name, done_until) VALUES (?, ?)";
    sqlx::query(begun).bind(&*name).bind(datetime(now)).execute(&mut *conn).await?;
    // What passed while it was paused is seen to.
    let change = match paused {
        true => "UPDATE schedule SET paused_at = ? WHERE paused_at IS NULL AND name = ?",
        false => "UPDATE schedule SET paused_at = NULL, done_until = GREATEST(done_until, ?) WHERE paused_at IS NOT NULL AND name = ?",
    };
    Ok(sqlx::query(change).bind(datetime(now)).bind(&*name).execute(conn).await?.rows_affected() > 0)
}
