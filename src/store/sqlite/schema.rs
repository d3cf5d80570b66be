//! Migrating. All in one transaction, which is also what keeps other processes waiting.

use sqlx::migrate::Migrate;
use sqlx::{AssertSqlSafe, Executor, SqliteConnection};

use crate::store::Result;
use crate::store::fault::Fault;
use crate::store::migrations::{self, HISTORY, SQLITE, TABLES};

/// What to do with the schema while no other process does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    /// Bring it up to date.
    Migrate,
    /// Drop everything, then the same.
    Reset,
    /// Go back to a version.
    Revert(i64),
}

/// Runs in a transaction of the caller's.
pub(super) async fn change(conn: &mut SqliteConnection, work: Work) -> Result<(), Fault> {
    match work {
        Work::Migrate => (),
        Work::Reset => {
            for table in TABLES {
                conn.execute(AssertSqlSafe(format!("DROP TABLE IF EXISTS {table}"))).await?;
            }
        }
        Work::Revert(to) => {
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
