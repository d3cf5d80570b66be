//! How far schedules are, and what they could not submit.

use std::sync::Arc;

use futures::FutureExt;

use super::fault::Fault;
use super::sql::Conn;
use super::{Operation, Result, Store};
use crate::domain::Timestamp;

/// How far a schedule is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleRecord {
    /// Its times up to this have been seen to.
    pub done_until: Timestamp,
    /// Why the last task that could not be submitted was not, and when that was.
    pub last_error: Option<(String, Timestamp)>,
    /// Since when it submits nothing.
    pub paused_at: Option<Timestamp>,
}

impl Store {
    /// How far a schedule is; none for one that has not begun yet.
    pub fn schedule(&self, name: &str) -> Operation<'_, Option<ScheduleRecord>> {
        let name: Arc<str> = name.into();
        self.run(move |conn| read(conn, name.clone()).boxed())
    }

    /// Notes up to when the times of a schedule have been submitted; never goes back.
    pub fn set_schedule_done(&self, name: &str, until: Timestamp) -> Operation<'_, ()> {
        let name: Arc<str> = name.into();
        self.transact(move |conn| set_done(conn, name.clone(), until).boxed())
    }

    /// Notes why a schedule that has begun could not submit a task.
    pub fn set_schedule_error(&self, name: &str, error: &str, at: Timestamp) -> Operation<'_, ()> {
        let (name, error): (Arc<str>, Arc<str>) = (name.into(), error.into());
        self.transact(move |conn| set_error(conn, name.clone(), error.clone(), at).boxed())
    }

    /// Stops submitting the tasks of a schedule, or goes on with the times to come: what passed meanwhile is
    /// not submitted. Answers whether that changed anything.
    pub fn pause_schedule(&self, name: &str, paused: bool, now: Timestamp) -> Operation<'_, bool> {
        let name: Arc<str> = name.into();
        self.transact(move |conn| pause(conn, name.clone(), paused, now).boxed())
    }
}

async fn read(conn: &mut Conn<'_>, name: Arc<str>) -> Result<Option<ScheduleRecord>, Fault> {
    let mut select =
        conn.sql("SELECT done_until, last_error, last_error_at, paused_at FROM schedule WHERE name = ?");
    let Some(row) = select.bind(&*name).fetch_optional().await? else { return Ok(None) };
    let last_error = row.get::<Option<String>>(1)?.zip(row.get(2)?);
    Ok(Some(ScheduleRecord { done_until: row.get(0)?, last_error, paused_at: row.get(3)? }))
}

async fn set_done(conn: &mut Conn<'_>, name: Arc<str>, until: Timestamp) -> Result<(), Fault> {
    let dialect = conn.dialect();
    let (or_update, greatest, until_then) =
        (dialect.or_update("name"), dialect.greatest(), dialect.inserted("done_until"));
    let set = format!(
        "INSERT INTO schedule (name, done_until) VALUES (?, ?){or_update}done_until = {greatest}(done_until, {until_then})"
    );
    conn.sql(set).bind(&*name).bind(until).execute().await?;
    Ok(())
}

async fn set_error(conn: &mut Conn<'_>, name: Arc<str>, error: Arc<str>, at: Timestamp) -> Result<(), Fault> {
    let mut set = conn.sql("UPDATE schedule SET last_error = ?, last_error_at = ? WHERE name = ?");
    set.bind(&*error).bind(at).bind(&*name).execute().await?;
    Ok(())
}

async fn pause(conn: &mut Conn<'_>, name: Arc<str>, paused: bool, now: Timestamp) -> Result<bool, Fault> {
    // It may not have begun yet.
    let mut begun = conn.insert("schedule");
    begun.row().set("name", &*name).set("done_until", now);
    begun.if_new().await?;
    // What passed while it was paused is seen to.
    let greatest = conn.dialect().greatest();
    let mut change = match paused {
        true => conn.sql("UPDATE schedule SET paused_at = ? WHERE paused_at IS NULL AND name = ?"),
        false => conn.sql(format!(
            "UPDATE schedule SET paused_at = NULL, done_until = {greatest}(done_until, ?) WHERE paused_at IS NOT NULL AND name = ?"
        )),
    };
    Ok(change.bind(now).bind(&*name).execute().await? > 0)
}
