//! Migrating. All in one transaction, which is also what keeps other processes waiting.

use sqlx::migrate::Migrate;
use sqlx::{AssertSqlSafe, Executor, SqliteConnection};

use crate::store::Result;
use crate::store::fault::Fault;
use crate::store::migrations::{self, Change, HISTORY, SQLITE, TABLES};

/// Runs in a transaction of the caller's.
pub(super) async fn change(conn: &mut SqliteConnection, change: Change) -> Result<(), Fault> {
    match change {
        Change::Migrate => (),
        Change::Reset => {
            for table in TABLES {
                conn.execute(AssertSqlSafe(format!("DROP TABLE IF EXISTS {table}"))).await?;
            }
        }
        Change::Revert(to) => {
            let applied = conn.list_applied_migrations(HISTORY).await.map_err(fault)?;
            for migration in migrations::way_back(&SQLITE, &applied, to) {
                conn.revert(HISTORY, migration).await.map_err(fault)?;
            }
            return Ok(());
        }
    }
    SQLITE.run_direct(None, conn, false).await.map_err(fault)
}

pub(super) async fn check(conn: &mut SqliteConnection) -> Result<(), Fault> {
    let interrupted = conn.dirty_version(HISTORY).await.map_err(fault)?;
    let applied = conn.list_applied_migrations(HISTORY).await.map_err(fault)?;
    Ok(migrations::check(&SQLITE, interrupted, &applied)?)
}

fn fault(error: sqlx::migrate::MigrateError) -> Fault {
    migrations::explain(error).map_or_else(Fault::Sql, Fault::Told)
}
