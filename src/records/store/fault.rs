//! What can go wrong inside an operation, and trying again.
//!
//! An operation runs in a task of its own: a caller that goes away (a closed HTTP connection drops its
//! handler) must not leave a connection in the middle of a statement. It is tried again from the top after a
//! deadlock, because by then the server has undone all of it, and whatever is sent next would stand alone.
//!
//! Only a short list of errors says that the rows of an operation are at fault, see [`Verdict::Rows`].
//! Everything else that a database says is about its own state, whatever number it has for it: the same rows
//! can be written later.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tally::{Retry, Tally};
use super::{Refusal, Result, StoreError};
use crate::backoff::Backoff;

/// The table that remembers which migrations ran: the first that there is.
pub(super) const HISTORY: &str = "_sqlx_migrations";
/// Tries of an operation at most.
const TRIES: u32 = 10;
/// How long an operation is tried again: whoever waits for it is told that the database is busy.
const TRY_FOR: Duration = Duration::from_secs(20);
/// The wait between them.
const PAUSE: Backoff = Backoff { first: Duration::from_millis(5), max: Duration::from_millis(320) };
/// How long an operation may take before its connection is given up. Far above any honest statement: it
/// catches a network that swallows packets, which no server-side limit does.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long a migration may take, the wait for another process included: a key over all history is built in
/// one statement.
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
    Again(Retry, String),
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

/// What an error of the driver or the database is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Others were in the way, and the operation is undone.
    Again(Retry),
    /// The state of the database, or the way to it.
    Refused(Refusal),
    /// The rows that were to be written: they fail again whenever they are sent.
    Rows,
    /// Tables and columns are not those of this program.
    Schema,
    /// The server has no database of this name.
    NoDatabase,
    /// A row that was read.
    Corrupt,
    /// Our statement.
    Defect,
}

impl Verdict {
    /// What an error means that the database itself has not told.
    pub fn of_driver(error: &sqlx::Error) -> Self {
        use sqlx::Error;
        match error {
            Error::ColumnDecode { .. } | Error::Decode(_) => Self::Corrupt,
            Error::Encode(_) => Self::Rows,
            Error::RowNotFound
            | Error::ColumnNotFound(_)
            | Error::ColumnIndexOutOfBounds { .. }
            | Error::TypeNotFound { .. } => Self::Defect,
            Error::PoolTimedOut => Self::Refused(Refusal::Limit),
            Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::PoolClosed | Error::WorkerCrashed => {
                Self::Refused(Refusal::Unreachable)
            }
            // Of what is left, most says that the connection is in a state that the driver did not expect.
            _ => Self::Refused(Refusal::Other),
        }
    }

    /// Whether the connection that says so must not be used again: it may be one to a server that has become
    /// another's replica, or be in the middle of a transaction.
    pub const fn spoils(self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

/// What the operations of a store have in common.
#[derive(Debug)]
pub(super) struct Site {
    /// The address without password.
    pub safe_url: String,
    /// What went wrong so far.
    pub tally: Tally,
    /// What an error means in this dialect.
    pub verdict: fn(&sqlx::Error) -> Verdict,
    /// How the database is reached.
    pub way: Way,
    /// What to do about an error that keeps us out, in this dialect.
    pub explain: fn(&sqlx::Error, &Way) -> Option<String>,
}

/// How a database is reached, for texts.
#[derive(Debug, Clone, Default)]
pub(super) struct Way {
    /// Who comes in.
    pub user: String,
    /// Where the server is.
    pub host: String,
    /// At which port.
    pub port: u16,
    /// The database there, or the file.
    pub database: String,
}

impl Site {
    pub fn refused(&self, cause: Refusal, reason: String) -> StoreError {
        StoreError::Unavailable { safe_url: self.safe_url.clone(), reason, cause }
    }

    fn judge(&self, fault: Fault) -> Fault {
        let Fault::Sql(error) = fault else { return fault };
        let reason = (self.explain)(&error, &self.way).unwrap_or_else(|| match &error {
            sqlx::Error::Database(database) => database.to_string(),
            sqlx::Error::PoolTimedOut => "no connection in time".to_owned(),
            other => other.to_string(),
        });
        match (self.verdict)(&error) {
            Verdict::Again(retry) => Fault::Again(retry, reason),
            Verdict::Refused(cause) => Fault::Told(self.refused(cause, reason)),
            Verdict::Rows => Fault::Told(StoreError::Rows { reason }),
            Verdict::NoDatabase => {
                Fault::Told(StoreError::NoDatabase { safe_url: self.safe_url.clone(), reason })
            }
            // Each schema begins with this table, and each look at a schema with its rows.
            Verdict::Schema if reason.contains(HISTORY) => {
                Fault::Told(StoreError::NoTables { database: self.way.database.clone() })
            }
            Verdict::Schema => Fault::Told(StoreError::Missing { reason }),
            Verdict::Corrupt => Fault::Told(StoreError::Corrupt { reason }),
            Verdict::Defect => Fault::Told(StoreError::Statement { reason }),
        }
    }
}

/// Runs an attempt in a task of its own until it succeeds, fails for good, or was tried often enough.
pub(super) async fn retried<T, Attempt, Running>(site: Arc<Site>, attempt: Attempt) -> Result<T>
where
    T: Send + 'static,
    Attempt: Fn() -> Running + Send + 'static,
    Running: Future<Output = Result<T, Fault>> + Send,
{
    let at = site.clone();
    let running = tokio::spawn(async move {
        let (mut tries, began) = (1, Instant::now());
        loop {
            match attempt().await.map_err(|fault| at.judge(fault)) {
                Ok(value) => return Ok(value),
                Err(Fault::Again(retry, reason)) => {
                    at.tally.retried(retry);
                    if tries == TRIES || began.elapsed() > TRY_FOR {
                        return Err(StoreError::Busy { reason });
                    }
                    tracing::debug!(tries, why = reason, "trying a database operation again");
                    tokio::time::sleep(PAUSE.jittered(tries)).await;
                    tries += 1;
                }
                Err(Fault::Told(error)) => return Err(error),
                Err(Fault::Sql(error)) => return Err(StoreError::Statement { reason: error.to_string() }),
            }
        }
    });
    let done = running.await.unwrap_or_else(|ended| match ended.is_panic() {
        true => Err(panicked()),
        false => Err(site.refused(Refusal::Other, "the process is ending".to_owned())),
    });
    if let Err(error) = &done {
        site.tally.refused(error);
    }
    done
}

/// An operation fell over what it was to write, and would do so again.
pub(super) fn panicked() -> StoreError {
    StoreError::Rows { reason: "the operation panicked".to_owned() }
}
