//! One attempt of an operation, on a connection of either database.

use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::{Connection, Database, Transaction};

use super::fault::{Fault, Verdict};

/// Runs it on a connection, which is given up when it breaks, or nothing comes of it within this time.
pub(super) async fn attempt<DB, F>(
    mut conn: PoolConnection<DB>,
    patience: Duration,
    verdict: fn(&sqlx::Error) -> Verdict,
    work: F,
) -> Result<(), Fault>
where
    DB: Database,
    F: for<'c> FnOnce(&'c mut DB::Connection) -> BoxFuture<'c, Result<(), Fault>> + Send + Sync,
{
    match tokio::time::timeout(patience, work(&mut conn)).await {
        Ok(done) => {
            // A transaction that could not be ended would swallow the next one, which would then be none of
            // its own; a full disk ends one behind the driver's back.
            if conn.is_in_transaction() || matches!(&done, Err(Fault::Sql(error)) if verdict(error).spoils())
            {
                conn.close_on_drop();
            }
            done
        }
        Err(_) => {
            conn.close_on_drop();
            Err(Fault::Sql(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
        }
    }
}

/// Ends a transaction: after any error it is rolled back and never used again.
pub(super) async fn ended<DB: Database>(
    transaction: Transaction<'_, DB>,
    done: Result<(), Fault>,
) -> Result<(), Fault> {
    match done {
        Ok(()) => Ok(transaction.commit().await?),
        Err(fault) => {
            // At once, since locks are held until then. Its own failure adds nothing: the connection is
            // looked at afterwards.
            let _ = transaction.rollback().await;
            Err(fault)
        }
    }
}
