//! Connections, and how an operation runs on one.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection, SqlitePool};

use super::schema;
use super::writer::Writer;
use crate::config;
use crate::store::fault::{ACQUIRE, Fault, MIGRATION_PATIENCE, PATIENCE, retried};
use crate::store::{Result, StoreError, migrations};

/// Connections that read. They never wait for the one that writes, nor it for them.
const READERS: u32 = 4;
/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(5);

/// The ledger in a file.
#[derive(Debug)]
pub struct SqliteStore {
    /// One connection: SQLite has one writer, and a queue in front of it is fairer than its lock.
    writing: SqlitePool,
    writer: Writer,
    readers: SqlitePool,
    safe_url: String,
}

impl SqliteStore {
    /// Prepares to open the file; nothing is touched before the first operation.
    ///
    /// # Errors
    /// [`StoreError::Address`] when the address cannot be used.
    pub fn new(database: &config::Database) -> Result<Self> {
        let options = SqliteConnectOptions::from_str(database.uri.reveal());
        let options = options.map_err(|error| StoreError::Address { reason: error.to_string() })?;
        let safe_url = format!("sqlite://{}", options.get_filename().display());
        keep_private(options.get_filename());
        // FULL: what was accepted or acknowledged is on the disk, also when the power goes.
        let mut options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .statement_cache_capacity(256)
            .disable_statement_logging();
        if let (true, Ok(level)) = (database.verbose, "info".parse()) {
            options = options.log_statements(level);
        }
        let pool = |connections| SqlitePoolOptions::new().max_connections(connections).test_before_acquire(false);
        // Whoever writes waits for those before, and each of them may wait for another process.
        let longest_wait = ACQUIRE + BUSY;
        let writing = pool(1).acquire_timeout(longest_wait).connect_lazy_with(options.clone());
        let readers = pool(READERS).acquire_timeout(ACQUIRE).connect_lazy_with(options);
        let writer = Writer::start(writing.clone(), longest_wait)
            .map_err(|error| StoreError::Unavailable { safe_url: safe_url.clone(), reason: error.to_string() })?;
        Ok(Self { writing, writer, readers, safe_url })
    }

    /// Runs statements that only read.
    pub(super) async fn run<T, Work>(&self, work: Work) -> Result<T>
    where
        T: Send + 'static,
        Work: for<'c> Fn(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync + 'static,
    {
        self.run_on(&self.readers, PATIENCE, work).await
    }

    async fn run_on<T, Work>(&self, pool: &SqlitePool, patience: Duration, work: Work) -> Result<T>
    where
        T: Send + 'static,
        Work: for<'c> Fn(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync + 'static,
    {
        let (pool, safe_url, work) = (pool.clone(), self.safe_url.clone(), Arc::new(work));
        let again = move || {
            let work = work.clone();
            attempt(pool.clone(), patience, move |conn| work(conn))
        };
        retried(again, move |error| judge(error, &safe_url)).await
    }

    /// Runs statements in a transaction, one operation after the other.
    pub(super) async fn transact<T, Work>(&self, work: Work) -> Result<T>
    where
        T: Send + 'static,
        Work: for<'c> Fn(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync + 'static,
    {
        let (writer, safe_url, work) = (self.writer.clone(), self.safe_url.clone(), Arc::new(work));
        let again = move || {
            let work = work.clone();
            writer.clone().write(move |conn| work(conn))
        };
        retried(again, move |error| judge(error, &safe_url)).await
    }

    /// Changes the schema, however long that takes.
    pub(super) async fn change_schema(&self, work: schema::Work) -> Result<()> {
        let patience = MIGRATION_PATIENCE;
        self.run_on(&self.writing, patience, move |conn| enclosed(conn, move |conn| schema::change(conn, work).boxed()).boxed()).await
    }

    /// Goes back to an older schema. For tests of the way back.
    ///
    /// # Errors
    /// As [`crate::store::Store::migrate`].
    pub async fn revert(&self, to: i64) -> Result<()> {
        self.change_schema(schema::Work::Revert(to)).await
    }

    /// Ends the connections.
    pub(super) async fn disconnect(&self) {
        self.readers.close().await;
        self.writing.close().await;
    }
}

/// Runs it in a transaction. `IMMEDIATE`, because one that begins by reading is refused at its first write, without any wait, when
/// another process has written meanwhile.
pub(super) async fn enclosed<T, Work>(conn: &mut SqliteConnection, work: Work) -> Result<T, Fault>
where
    Work: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync,
{
    let mut transaction = conn.begin_with("BEGIN IMMEDIATE").await?;
    match work(&mut transaction).await {
        Ok(value) => {
            transaction.commit().await?;
            Ok(value)
        }
        Err(fault) => {
            // Its own failure adds nothing: dropping the transaction rolls back once more.
            let _ = transaction.rollback().await;
            Err(fault)
        }
    }
}

/// Runs it on a connection of a pool, which is given up when it breaks, or nothing comes of it within this time.
pub(super) async fn attempt<T, Work>(pool: SqlitePool, patience: Duration, work: Work) -> Result<T, Fault>
where
    Work: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync,
{
    let mut conn = pool.acquire().await?;
    match tokio::time::timeout(patience, work(&mut conn)).await {
        Ok(done) => {
            if let Err(Fault::Sql(error)) = &done
                && !matches!(error, sqlx::Error::Database(_) | sqlx::Error::RowNotFound)
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

/// What an error of the driver means.
fn judge(error: sqlx::Error, safe_url: &str) -> Fault {
    let unavailable = |reason: String| Fault::Told(StoreError::Unavailable { safe_url: safe_url.to_owned(), reason });
    let database = match &error {
        sqlx::Error::Database(database) => database,
        sqlx::Error::PoolTimedOut => return unavailable("no connection in time".into()),
        sqlx::Error::Io(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => return unavailable(error.to_string()),
        _ => return Fault::Sql(error),
    };
    // The last byte is the primary code.
    let code = database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default();
    match code & 0xff {
        // Busy, locked.
        5 | 6 => Fault::Again(database.to_string()),
        // No permission, read-only, I/O, full, cannot open.
        3 | 8 | 10 | 13 | 14 => unavailable(database.to_string()),
        1 if database.message().starts_with("no such") => Fault::Told(migrations::missing(database.message())),
        _ => Fault::Sql(error),
    }
}

/// Makes the file for its owner alone, or takes the rights of others away: it holds all payloads and answers. SQLite gives the files
/// beside it the same mode. What cannot be done is left to the first use to tell.
fn keep_private(file: &Path) {
    // No file: a database in memory, or an address of SQLite's own kind.
    let name = file.to_string_lossy();
    if name == ":memory:" || name.starts_with("file:") {
        return;
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    if made.is_ok() {
        return;
    }
    for end in ["", "-wal", "-shm", "-journal"] {
        let mut path = file.as_os_str().to_owned();
        path.push(end);
        let mode = fs::metadata(&path).map_or(0, |meta| meta.permissions().mode());
        if mode & 0o077 != 0 && fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).is_ok() {
            let mode = format!("{:04o}", mode & 0o7777);
            tracing::warn!(path = %Path::new(&path).display(), mode, "the database was open to others: it has mode 0600 now");
        }
    }
}
