//! Migrating, one process at a time.

use sqlx::mysql::MySqlDatabaseError;
use sqlx::{AssertSqlSafe, Executor, MySqlConnection};

use crate::store::fault::Fault;
use crate::store::migrations::{self, Change, MYSQL};
use crate::store::sql::Conn;
use crate::store::{Result, StoreError};

/// Seconds to wait for another process that migrates.
const WAIT: u32 = 600;
/// Seconds that statements otherwise wait for the lock of a table.
const PATIENCE: u32 = 5;
/// The server's number for a trigger that is there already.
const THERE: u16 = 1359;

pub(super) async fn change(conn: &mut MySqlConnection, change: Change) -> Result<(), Fault> {
    // Whoever works on the tables is waited for: a statement that gives up leaves half a migration.
    set_patience(conn, WAIT).await?;
    let done = match lock(conn).await {
        Ok(()) => {
            let done = locked(conn, change).await;
            done.and(unlock(conn).await)
        }
        Err(fault) => Err(fault),
    };
    // Whatever came of it: the connection goes back to the pool.
    done.and(set_patience(conn, PATIENCE).await)
}

async fn locked(conn: &mut MySqlConnection, change: Change) -> Result<(), Fault> {
    if matches!(change, Change::Reset) {
        migrations::drop_all(&mut Conn::MySql(conn)).await?;
    }
    migrations::run(&MYSQL, conn, change).await?;
    if !matches!(change, Change::Revert(_)) {
        guard_audit(conn).await;
    }
    Ok(())
}

/// Has the server refuse changes of the audit log. No migration, since where there is a binary log only
/// administrators may make triggers; without them a change shows all the same, by its hash.
async fn guard_audit(conn: &mut MySqlConnection) {
    for (name, event) in [("audit_no_update", "UPDATE"), ("audit_no_delete", "DELETE")] {
        let made = conn
            .execute(AssertSqlSafe(format!(
                "CREATE TRIGGER {name} BEFORE {event} ON audit FOR EACH ROW \
                 SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the audit log is never changed'"
            )))
            .await;
        match made {
            Err(sqlx::Error::Database(error))
                if error
                    .try_downcast_ref::<MySqlDatabaseError>()
                    .is_some_and(|error| error.number() == THERE) => {}
            Err(error) => tracing::warn!(
                %error,
                "the audit log is kept without the trigger {name}: grant TRIGGER (with a binary log, set log_bin_trust_function_creators) and run `tasker initialize --database` again"
            ),
            Ok(_) => {}
        }
    }
}

pub(super) async fn check(conn: &mut MySqlConnection) -> Result<(), Fault> {
    migrations::check_schema(&MYSQL, conn).await
}

/// The name of the lock. The server's names have 64 characters, as many as the name of a database may have by
/// itself.
const LOCK: &str = "CONCAT('tasker.', LEFT(SHA2(DATABASE(), 256), 40))";

/// A lock of the server, by database; it ends with the connection, should the process die.
async fn lock(conn: &mut MySqlConnection) -> Result<(), Fault> {
    let got: Option<i64> = sqlx::query_scalar(AssertSqlSafe(format!("SELECT GET_LOCK({LOCK}, ?)")))
        .bind(WAIT)
        .fetch_one(conn)
        .await?;
    match got {
        Some(1) => Ok(()),
        _ => {
            Err(StoreError::Busy { reason: format!("another process has been migrating for {WAIT} seconds") }
                .into())
        }
    }
}

async fn set_patience(conn: &mut MySqlConnection, seconds: u32) -> Result<(), Fault> {
    conn.execute(AssertSqlSafe(format!(
        "SET SESSION lock_wait_timeout = {seconds}, innodb_lock_wait_timeout = {seconds}"
    )))
    .await?;
    Ok(())
}

async fn unlock(conn: &mut MySqlConnection) -> Result<(), Fault> {
    sqlx::query(AssertSqlSafe(format!("SELECT RELEASE_LOCK({LOCK})"))).execute(conn).await?;
    Ok(())
}
