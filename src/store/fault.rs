//! What can go wrong inside an operation, and trying again.
//!
//! An operation runs in a task of its own: a caller that goes away (a closed HTTP connection drops its handler) must not
//! leave a connection in the middle of a statement. It is tried again from the top after a deadlock, because by then the
//! server has undone all of it, and whatever is sent next would stand alone.

use std::future::Future;
use std::time::Duration;

use super::{Result, StoreError};
use crate::backoff::Backoff;

/// Tries of an operation at most.
const TRIES: u32 = 10;
/// The wait between them.
const PAUSE: Backoff = Backoff { first: Duration::from_millis(5), max: Duration::from_millis(320) };
/// How long an operation may take before its connection is given up. Far above any honest statement: it catches a network
/// that swallows packets, which no server-side limit does.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long a migration may take, the wait for another process included: a key over all history is built in one statement.
pub(super) const MIGRATION_PATIENCE: Duration = Duration::from_secs(6 * 3600);
/// How long to wait for a connection. Short: a customer gets a 503 rather than a silence.
pub(super) const ACQUIRE: Duration = Duration::from_secs(2);

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The driver said so; the dialect judges it.
    Sql(sqlx::Error),
    /// Already in the words of the contract.
    Told(StoreError),
    /// Others were in the way; from the top.
    Again(String),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Told(error)
    }
}

/// Runs an attempt in a task of its own until it succeeds, fails for good, or was tried often enough.
pub(super) async fn retried<T, Attempt, Running, Judge>(attempt: Attempt, judge: Judge) -> Result<T>
where
    T: Send + 'static,
    Attempt: Fn() -> Running + Send + 'static,
    Running: Future<Output = Result<T, Fault>> + Send,
    Judge: Fn(sqlx::Error) -> Fault + Send + 'static,
{
    let running = tokio::spawn(async move {
        let mut tries = 1;
        loop {
            let fault = match attempt().await {
                Ok(value) => return Ok(value),
                Err(Fault::Sql(error)) => judge(error),
                Err(fault) => fault,
            };
            match fault {
                Fault::Told(error) => return Err(error),
                Fault::Again(reason) if tries == TRIES => return Err(StoreError::Busy { reason }),
                Fault::Again(reason) => {
                    tracing::debug!(tries, reason, "trying a database operation again");
                    tokio::time::sleep(PAUSE.jittered(tries)).await;
                    tries += 1;
                }
                Fault::Sql(error @ (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_))) => {
                    return Err(StoreError::Corrupt { reason: error.to_string() });
                }
                Fault::Sql(error) => return Err(StoreError::Statement { reason: error.to_string() }),
            }
        }
    });
    running.await.unwrap_or_else(|ended| Err(StoreError::Statement { reason: format!("the operation ended early: {ended}") }))
}
