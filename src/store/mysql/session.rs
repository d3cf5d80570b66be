//! Connections, and how an operation runs on one.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, MySqlConnection, MySqlPool};

use super::schema;
use crate::config;
use crate::store::fault::{ACQUIRE, Fault, MIGRATION_PATIENCE, PATIENCE, retried};
use crate::store::{Result, StoreError, migrations};

/// Said to every new connection. sqlx itself sets UTC, utf8mb4 and `NO_ENGINE_SUBSTITUTION`. Strict: a value that does not
/// fit is an error and not a shorter value. Waiting for a row lock longer than a batch takes means that its holder hangs.
const HELLO: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
                     SET SESSION innodb_lock_wait_timeout = 5, sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')";
/// A connection that lay longer than this is asked whether it lives before it is used.
const TRUSTED: Duration = Duration::from_secs(1);
/// Statements remembered on each connection: more than there are shapes, see `batch`.
const STATEMENTS: usize = 256;

/// The ledger on MySQL or MariaDB.
#[derive(Debug)]
pub struct MySqlStore {
    pool: MySqlPool,
    options: MySqlConnectOptions,
    safe_url: String,
}

impl MySqlStore {
    /// Prepares to connect; nothing is sent before the first operation.
    ///
    /// # Errors
    /// [`StoreError::Address`] when the address cannot be used.
    pub fn new(database: &config::Database) -> Result<Self> {
        let unusable = |reason: String| StoreError::Address { reason };
        let options = MySqlConnectOptions::from_str(database.uri.reveal()).map_err(|error| unusable(error.to_string()))?;
        let Some(name) = options.get_database() else {
            return Err(unusable("it names no database: mysql://user:password@host:port/database".into()));
        };
        let safe_url = format!("mysql://{}@{}:{}/{name}", options.get_username(), options.get_host(), options.get_port());
        let mut options = options.statement_cache_capacity(STATEMENTS).disable_statement_logging();
        if let (true, Ok(level)) = (database.verbose, "info".parse()) {
            options = options.log_statements(level);
        }
        let pool = MySqlPoolOptions::new()
            .max_connections(database.max_connections.max(1))
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .before_acquire(|conn, lay| {
                async move {
                    if lay.idle_for > TRUSTED {
                        conn.ping().await?;
                    }
                    Ok(true)
                }
                .boxed()
            })
            .after_connect(|conn, _| async move { conn.execute(HELLO).await.map(drop) }.boxed())
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options, safe_url })
    }

    /// Runs statements that need no transaction around them.
    pub(super) async fn run<T, Work>(&self, work: Work) -> Result<T>
    where
        T: Send + 'static,
        Work: for<'c> Fn(&'c mut MySqlConnection) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync + 'static,
    {
        self.run_within(PATIENCE, work).await
    }

    /// Runs statements that may take longer than any of ours, as migrations do.
    pub(super) async fn run_within<T, Work>(&self, patience: Duration, work: Work) -> Result<T>
    where
        T: Send + 'static,
        Work: for<'c> Fn(&'c mut MySqlConnection) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync + 'static,
    {
        let (pool, safe_url, work) = (self.pool.clone(), self.safe_url.clone(), Arc::new(work));
        let attempt = move || attempt(pool.clone(), patience, work.clone());
        retried(attempt, move |error| judge(error, &safe_url)).await
    }

    /// Runs statements in a transaction. After any error it is rolled back and never used again: after a deadlock the
    /// server has rolled back already, and a further statement would commit on its own.
    pub(super) async fn transact<T, Work>(&self, work: Work) -> Result<T>
    where
        T: Send + 'static,
        Work: for<'c> Fn(&'c mut MySqlConnection) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync + 'static,
    {
        let work = Arc::new(work);
        self.run(move |conn| enclosed(conn, work.clone()).boxed()).await
    }

    /// Creates the database if the server has none of this name and the user may.
    pub(super) async fn create_database(&self) -> Result<()> {
        let error = match self.run(|_| async { Ok(()) }.boxed()).await {
            Err(error @ StoreError::Schema { .. }) => error,
            other => return other,
        };
        let (options, safe_url) = (self.options.clone(), self.safe_url.clone());
        let name = options.get_database().unwrap_or_default().replace('`', "``");
        let created = retried(
            move || {
                let (options, name) = (options.clone(), name.clone());
                async move {
                    let mut conn = options.database("").connect().await?;
                    let statement = format!("CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
                    conn.execute(AssertSqlSafe(statement)).await?;
                    conn.close().await?;
                    Ok(())
                }
            },
            move |error| judge(error, &safe_url),
        );
        // That the database is missing says more than that we may not make it.
        created.await.map_err(|_| error)
    }

    /// Changes the schema, however long that takes.
    pub(super) async fn change_schema(&self, work: schema::Work) -> Result<()> {
        self.run_within(MIGRATION_PATIENCE, move |conn| schema::change(conn, work).boxed()).await
    }

    /// Ends the connections.
    pub(super) async fn disconnect(&self) {
        self.pool.close().await;
    }

    /// Goes back to an older schema. For tests of the way back.
    ///
    /// # Errors
    /// As [`crate::store::Store::migrate`].
    pub async fn revert(&self, to: i64) -> Result<()> {
        self.change_schema(schema::Work::Revert(to)).await
    }
}

async fn enclosed<T, Work>(conn: &mut MySqlConnection, work: Arc<Work>) -> Result<T, Fault>
where
    Work: for<'c> Fn(&'c mut MySqlConnection) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync,
{
    let mut transaction = conn.begin().await?;
    match work(&mut transaction).await {
        Ok(value) => {
            transaction.commit().await?;
            Ok(value)
        }
        Err(fault) => {
            // At once, since locks are held until then. Its own failure adds nothing: the pool checks the connection.
            let _ = transaction.rollback().await;
            Err(fault)
        }
    }
}

async fn attempt<T, Work>(pool: MySqlPool, patience: Duration, work: Arc<Work>) -> Result<T, Fault>
where
    Work: for<'c> Fn(&'c mut MySqlConnection) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync,
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
        sqlx::Error::PoolTimedOut => return unavailable("no connection within two seconds".into()),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            return unavailable(error.to_string());
        }
        _ => return Fault::Sql(error),
    };
    match database.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number) {
        // Deadlock, lock time-out, snapshot too old, Galera's refusal of a commit.
        Some(1213 | 1205 | 1020 | 1180) => Fault::Again(database.to_string()),
        // Too many connections, shutting down, killed, read-only during a fail-over, access not (yet) granted.
        Some(
            1040
            | 1041
            | 1044
            | 1045
            | 1047
            | 1053
            | 1077..=1079
            | 1129
            | 1130
            | 1142
            | 1152..=1161
            | 1203
            | 1226
            | 1290
            | 1317
            | 1836
            | 1927
            | 3168,
        ) => unavailable(database.to_string()),
        // No such database, table or column.
        Some(1049 | 1054 | 1146) => Fault::Told(migrations::missing(&database.to_string())),
        _ => Fault::Sql(error),
    }
}
