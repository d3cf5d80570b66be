//! Connections, and how an operation runs on one.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, MySqlConnection, MySqlPool};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::trouble::{self, Lookout};
use super::verdict::verdict;
use super::{claim, schema};
use crate::config;
use crate::store::attempt::{attempt, ended};
use crate::store::claim::{Claim, Held};
use crate::store::fault::{ACQUIRE, Fault, MIGRATION_PATIENCE, PATIENCE, Site, Way, retried};
use crate::store::migrations::Change;
use crate::store::sql::{Conn, Deed};
use crate::store::{Result, StoreError, Tally, batch};

/// Said to every new connection. sqlx itself sets UTC and utf8mb4. Strict: a value that does not fit is an
/// error and not a shorter value; nothing of the server's own mode is left. Waiting for a lock of a row or a
/// table longer than a batch takes means that its holder hangs.
const HELLO: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
                     SET SESSION innodb_lock_wait_timeout = 5, lock_wait_timeout = 5, \
                     sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'";
/// What a packet has beside the rows of a statement, generously: see [`batch::padded_rows`].
const PACKET_REST: usize = 320 << 10;
/// A connection that lay longer than this is asked whether it lives before it is used.
const TRUSTED: Duration = Duration::from_secs(1);
/// Statements remembered on each connection: more than there are shapes, see `batch`.
const STATEMENTS: usize = 256;

/// How a server is reached.
#[derive(Debug)]
pub(in crate::store) struct Session {
    pool: MySqlPool,
    options: MySqlConnectOptions,
    site: Arc<Site>,
    lookout: Arc<Lookout>,
    /// The longest packet that the server takes, as the newest connection knows it; [`usize::MAX`] before
    /// there was one.
    packet: Arc<AtomicUsize>,
}

impl Session {
    /// Prepares to connect; nothing is sent before the first operation.
    ///
    /// # Errors
    /// [`StoreError::Address`] when the address cannot be used.
    pub fn new(database: &config::Database) -> Result<Self> {
        let unusable = |reason: String| StoreError::Address { reason };
        let options = MySqlConnectOptions::from_str(database.uri.reveal())
            .map_err(|error| unusable(error.to_string()))?;
        let Some(name) = options.get_database() else {
            return Err(unusable("it names no database: mysql://user:password@host:port/database".into()));
        };
        let name = name.to_owned();
        let safe_url = format!(
            "mysql://{}@{}:{}/{name}",
            options.get_username(),
            options.get_host(),
            options.get_port()
        );
        let mut options = options.statement_cache_capacity(STATEMENTS).disable_statement_logging();
        if let (true, Ok(level)) = (database.verbose, "info".parse()) {
            options = options.log_statements(level);
        }
        let packet = Arc::new(AtomicUsize::new(usize::MAX));
        let known = packet.clone();
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
            .after_connect(move |conn, _| {
                let known = known.clone();
                async move {
                    conn.execute(HELLO).await?;
                    let packet: u64 = sqlx::query_scalar("SELECT CAST(@@max_allowed_packet AS UNSIGNED)")
                        .fetch_one(conn)
                        .await?;
                    known.store(usize::try_from(packet).unwrap_or(usize::MAX), Ordering::Relaxed);
                    Ok(())
                }
                .boxed()
            })
            .connect_lazy_with(options.clone());
        let (user, host) = (options.get_username().to_owned(), options.get_host().to_owned());
        let way = Way { user, host, port: options.get_port(), database: name };
        let lookout = Arc::new(Lookout::new(options.clone(), way.clone()));
        let site =
            Arc::new(Site { safe_url, tally: Tally::default(), verdict, way, explain: trouble::explain });
        Ok(Self { pool, options, site, lookout, packet })
    }

    /// What went wrong so far.
    pub fn tally(&self) -> &Tally {
        &self.site.tally
    }

    /// Bytes that a row may have.
    pub fn largest_row(&self) -> usize {
        let packet = self.packet.load(Ordering::Relaxed);
        packet - PACKET_REST.min(packet / 4)
    }

    /// Refuses rows of these sizes when they do not fit into statements that the server takes. It would close
    /// the connection over them, at times before it has said why.
    pub fn fits(&self, sizes: impl Iterator<Item = usize>) -> Result<()> {
        let most = self.largest_row();
        // Short rows go together into statements of so many bytes.
        let bytes = if most < batch::BYTES { sizes.sum() } else { sizes.max().unwrap_or_default() };
        if bytes <= most { Ok(()) } else { Err(StoreError::TooLarge { bytes, most }) }
    }

    /// Runs statements that need no transaction around them.
    pub fn run(&self, deed: Deed) -> BoxFuture<'_, Result<()>> {
        self.run_within(PATIENCE, move |conn| alone(conn, deed.clone()).boxed())
    }

    /// Runs statements in a transaction. After any error it is rolled back and never used again: after a
    /// deadlock the server has rolled back already, and a further statement would commit on its own.
    pub fn transact(&self, deed: Deed) -> BoxFuture<'_, Result<()>> {
        self.run_within(PATIENCE, move |conn| enclosed(conn, deed.clone()).boxed())
    }

    /// Runs statements, which may take longer than any of ours, as migrations do.
    fn run_within<F>(&self, patience: Duration, work: F) -> BoxFuture<'_, Result<()>>
    where
        F: for<'c> Fn(&'c mut MySqlConnection) -> BoxFuture<'c, Result<(), Fault>> + Send + Sync + 'static,
    {
        let (pool, work) = (self.pool.clone(), Arc::new(work));
        let (site, lookout) = (self.site.clone(), self.lookout.clone());
        let again = move || {
            let (pool, site, lookout, work) = (pool.clone(), site.clone(), lookout.clone(), work.clone());
            async move {
                match pool.acquire().await {
                    Ok(conn) => attempt(conn, patience, verdict, move |conn| work(conn)).await,
                    Err(sqlx::Error::PoolTimedOut) => Err(Fault::Told(lookout.why(&site.safe_url).await)),
                    Err(error) => Err(Fault::Sql(error)),
                }
            }
        };
        retried(self.site.clone(), again).boxed()
    }

    /// Creates the database if the server has none of this name and the user may.
    async fn create_database(&self) -> Result<()> {
        let error = match self.run_within(PATIENCE, |_| async { Ok(()) }.boxed()).await {
            Err(error @ StoreError::NoDatabase { .. }) => error,
            other => return other,
        };
        let options = self.options.clone();
        let name = options.get_database().unwrap_or_default().replace('`', "``");
        let created = retried(self.site.clone(), move || {
            let (options, name) = (options.clone(), name.clone());
            async move {
                let mut conn = options.database("").connect().await?;
                let statement = format!(
                    "CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
                );
                conn.execute(AssertSqlSafe(statement)).await?;
                conn.close().await?;
                Ok(())
            }
        });
        // That the database is missing says more than that we may not make it.
        created.await.map_err(|_| error)
    }

    /// Changes the schema, however long that takes. A database that is not there yet is made.
    pub async fn change_schema(&self, change: Change) -> Result<()> {
        self.create_database().await?;
        self.run_within(MIGRATION_PATIENCE, move |conn| schema::change(conn, change).boxed()).await
    }

    /// Whether the schema is this program's.
    pub async fn check_schema(&self) -> Result<()> {
        self.run_within(PATIENCE, |conn| schema::check(conn).boxed()).await
    }

    /// Claims the database, by a lock that a connection of its own holds.
    pub async fn claim(&self) -> Result<Option<Claim>> {
        let options = self.options.clone();
        let taken = retried(self.site.clone(), move || {
            let options = options.clone();
            async move { claim::take(&options).await }
        });
        let Some(conn) = taken.await? else { return Ok(None) };
        let lost = CancellationToken::new();
        let keeper = tokio::spawn(claim::keep(conn, self.options.clone(), lost.clone()));
        Ok(Some(Claim { lost, _held: Held::Connection { _keeper: AbortOnDropHandle::new(keeper) } }))
    }

    /// Ends the connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

async fn alone(conn: &mut MySqlConnection, deed: Deed) -> Result<(), Fault> {
    deed(&mut Conn::MySql(conn)).await
}

async fn enclosed(conn: &mut MySqlConnection, deed: Deed) -> Result<(), Fault> {
    let mut transaction = conn.begin().await?;
    let done = deed(&mut Conn::MySql(&mut transaction)).await;
    ended(transaction, done).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rows_have_to_fit_into_a_packet() {
        let database = config::Database {
            verbose: false,
            uri: config::Secret::new("mysql://u:p@127.0.0.1:1/tasker"),
            max_connections: 1,
        };
        let store = Session::new(&database).expect("an address");
        assert!(store.fits([usize::MAX - (1 << 20)].into_iter()).is_ok(), "nothing is known yet");
        store.packet.store(16 << 20, Ordering::Relaxed);
        assert!(store.fits(std::iter::repeat_n(1 << 20, 64)).is_ok(), "they go into several statements");
        let error = store.fits([1, 20 << 20].into_iter()).expect_err("it is longer than a packet");
        assert!(error.is_row_fault() && error.to_string().contains("20971520"), "{error}");
        store.packet.store(1 << 20, Ordering::Relaxed);
        assert!(store.fits(std::iter::repeat_n(1 << 17, 8)).is_err_and(|error| error.is_row_fault()));
        assert!(store.fits(std::iter::repeat_n(1 << 17, 4)).is_ok(), "half as many fit");
    }
}
