//! Migrating. All in one transaction, which is also what keeps other processes waiting.

use sqlx::SqliteConnection;

use crate::store::Result;
use crate::store::fault::Fault;
use crate::store::migrations::{self, Change, SQLITE};
use crate::store::sql::Conn;

/// Runs in a transaction of the caller's.
pub(super) async fn change(conn: &mut SqliteConnection, change: Change) -> Result<(), Fault> {
    if matches!(change, Change::Reset) {
        migrations::drop_all(&mut Conn::Sqlite(conn)).await?;
    }
    migrations::run(&SQLITE, conn, change).await
}

pub(super) async fn check(conn: &mut SqliteConnection) -> Result<(), Fault> {
    migrations::check_schema(&SQLITE, conn).await
}
